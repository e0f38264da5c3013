//! The sample app's versions, and the environment in which pipelines test it. Both stand on the same layers of Python and dependencies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::archive;
use super::layer::{Content, Layer};
use super::oci::Image;
use super::python;
use super::store::{Key, Store};
use crate::host::progress::Progress;
use crate::host::run;

/// User of the app in its image, as in its Dockerfile.
const USER: u32 = 1000;
const HOME: &str = "home/timetracker";

/// One version of the sample app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Folder under `dev/timetracker/versions`.
    pub name: String,
    /// Tag of its image.
    pub tag: String,
    /// What it does.
    pub summary: String,
}

/// The app's sources and what its images are made with.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// `dev/timetracker` of the checkout.
    pub folder: &'a Path,
    /// Where finished layers are.
    pub store: &'a Store,
    /// Whom to tell.
    pub progress: &'a Progress,
}

/// All versions in the order of their tags.
///
/// # Errors
/// When the script that makes them fails.
pub fn versions(folder: &Path) -> Result<Vec<Version>> {
    let listed = run::output(script(folder).arg("list"))?;
    listed
        .lines()
        .map(|line| parse(line).with_context(|| format!("unexpected output of versions.py: {line}")))
        .collect()
}

fn parse(line: &str) -> Option<Version> {
    let mut fields = line.split('\t').map(str::to_owned);
    let (tag, name, _parent, summary) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(Version { name, tag, summary })
}

impl Sample<'_> {
    /// The image of one version on top of Python's layer.
    ///
    /// # Errors
    /// When the version can't be made or its dependencies can't be had.
    pub fn image(&self, version: &Version, python: Layer) -> Result<Image> {
        let requirements = self.folder.join("requirements.txt");
        let dependencies = python::dependencies("sample", &[&requirements], self.store, self.progress)?;
        let users = Layer::Files(users(&python)?);
        Ok(python::image(python)
            .layer(dependencies)
            .layer(users)
            .layer(self.app(version)?)
            .user(USER.to_string())
            .working_directory("/app")
            .port(8080)
            .command(["python", "/app/start.py"])
            .environment("HOME", format!("/{HOME}"))
            .environment("PYTHONUNBUFFERED", "1")
            .environment("FLASK_APP", "app")
            .environment("FLASK_ENV", "production")
            .environment("TZ", "UTC")
            .environment("INSTALLATION_CONFIG_DIR", "/data")
            .environment("UPLOAD_FOLDER", "/data/uploads")
            .environment("APP_VERSION", format!("v{}", version.tag))
            .label("org.opencontainers.image.title", "TimeTracker (sample app)")
            .label("org.opencontainers.image.version", &version.tag)
            .label("org.opencontainers.image.description", &version.summary)
            .indexed())
    }

    /// What the app's pipelines need, without the app.
    ///
    /// # Errors
    /// When the dependencies can't be had.
    pub fn test_environment(&self, python: Layer) -> Result<Image> {
        // Each includes the one before, whose content must count too.
        let files = ["requirements.txt", "requirements-test.txt", "requirements-ci.txt"];
        let files = files.map(|name| self.folder.join(name));
        let files = files.each_ref().map(|path| path.as_path());
        let dependencies = python::dependencies("tests", &files, self.store, self.progress)?;
        let users = Layer::Files(users(&python)?);
        Ok(python::image(python)
            .layer(dependencies)
            .layer(users)
            .user(USER.to_string())
            .working_directory(format!("/{HOME}"))
            .environment("HOME", format!("/{HOME}"))
            .environment("PYTHONUNBUFFERED", "1")
            .label("org.opencontainers.image.title", "Test environment of the TimeTracker sample app")
            .indexed())
    }

    fn app(&self, version: &Version) -> Result<Layer> {
        let mut key = Key::new(format!("sample-{}", version.name));
        for path in sources(self.folder)? {
            let name = path.strip_prefix(self.folder)?.to_string_lossy().into_owned();
            key = key.part(name).file(&path)?;
        }
        self.store.layer(&key, |scratch| {
            let root = scratch.join("root");
            let app = root.join("app");
            fs::create_dir(&root)?;
            run::output(script(self.folder).arg("export").arg(&version.name).arg(&app))?;
            python::compile(&root, "app", self.progress)?;
            Ok(Layer::directory(root))
        })
    }
}

/// The app's user with what it may write to.
fn users(python: &Layer) -> Result<BTreeMap<String, Content>> {
    let extended = |path: &str, line: String| -> Result<Content> {
        let mut data = archive::file(python, path)?;
        data.extend_from_slice(line.as_bytes());
        Ok(Content::Bytes { data, mode: 0o644 })
    };
    let own = || Content::Directory { owner: USER, mode: 0o755 };
    Ok(BTreeMap::from([
        ("etc/passwd".to_owned(), extended("etc/passwd", format!("timetracker:x:{USER}:{USER}::/{HOME}:/bin/sh\n"))?),
        ("etc/group".to_owned(), extended("etc/group", format!("timetracker:x:{USER}:\n"))?),
        (HOME.to_owned(), own()),
        ("data".to_owned(), own()),
        ("data/uploads".to_owned(), own()),
        ("app/logs".to_owned(), own()),
    ]))
}

/// Every file that a version may be made of, in a fixed order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let left_over =
            ["__pycache__", ".pyc", "_cache", ".egg-info", ".coverage"].iter().any(|ending| name.ends_with(ending));
        if left_over {
            continue;
        }
        if path.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))? {
                pending.push(entry?.path());
            }
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn script(folder: &Path) -> Command {
    let mut command = Command::new(python::INTERPRETER);
    command.arg(folder.join("versions.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_is_a_version() {
        let version = parse("2.1.0\tadditive\tbase\tAdds a column").unwrap();
        assert_eq!(
            (version.tag.as_str(), version.name.as_str(), version.summary.as_str()),
            ("2.1.0", "additive", "Adds a column")
        );
        assert_eq!(parse("2.1.0"), None);
    }

    #[test]
    fn left_over_caches_do_not_change_an_image() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["app/__pycache__", ".pytest_cache"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("x"), "x").unwrap();
        }
        fs::write(folder.path().join("app/module.py"), "").unwrap();
        assert_eq!(sources(folder.path()).unwrap(), [folder.path().join("app/module.py")]);
    }
}
