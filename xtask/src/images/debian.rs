//! File systems of Debian packages, by mmdebstrap, as `dev/images/debian.toml` describes them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::layer::{Layer, Owner};
use super::python;
use super::store::{Key, Store};
use crate::host::apt::{self, Need};
use crate::host::progress::Progress;
use crate::host::run;

const NEEDS: [Need; 2] = [
    Need { file: "mmdebstrap", package: "mmdebstrap" },
    Need { file: "/usr/share/keyrings/debian-archive-keyring.gpg", package: "debian-archive-keyring" },
];

/// All recipes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipes {
    suite: String,
    exclude: Vec<String>,
    remove: Vec<String>,
    images: BTreeMap<String, Recipe>,
}

/// What one image has beside the essential packages.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    packages: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    links: BTreeMap<String, String>,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    compile: Vec<String>,
}

/// A user and a group of the same name and number.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    id: u32,
    home: String,
}

impl Recipes {
    /// Reads the checkout's file.
    ///
    /// # Errors
    /// When it is missing or has an unknown or missing field.
    pub fn load(repository: &Path) -> Result<Self> {
        let file = repository.join("dev/images/debian.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Makes the layers of several recipes at the same time: each spends most of its time waiting for packages and the disk.
    ///
    /// # Errors
    /// The first of those of [`Recipes::layer`].
    pub fn prepare(&self, names: &[&str], store: &Store, progress: &Progress) -> Result<()> {
        thread::scope(|scope| {
            let making: Vec<_> = names.iter().map(|name| scope.spawn(|| self.layer(name, store, progress))).collect();
            making.into_iter().try_for_each(|layer| match layer.join() {
                Ok(made) => made.map(drop),
                Err(_) => bail!("making a layer of Debian packages ended in a panic"),
            })
        })
    }

    /// The layer of one recipe. Packages are as new as on the day it is first made; `--rebuild` takes newer ones.
    ///
    /// # Errors
    /// When there is no such recipe, mmdebstrap can't be had, or it fails.
    pub fn layer(&self, name: &str, store: &Store, progress: &Progress) -> Result<Layer> {
        let recipe = self.images.get(name).ok_or_else(|| anyhow!("dev/images/debian.toml has no images.{name}"))?;
        let key = Key::new(format!("debian-{name}")).part(serde_json::to_vec(&(
            &self.suite,
            &self.exclude,
            &self.remove,
            recipe,
        ))?);
        store.layer(&key, |scratch| {
            progress.step(format!("installing Debian {} packages for {name}", self.suite), || {
                ensure_tools(progress)?;
                if !rustix::process::geteuid().is_root() {
                    bail!("a file system with files of several users can only be made by root; remedy: sudo -E");
                }
                let root = scratch.join("root");
                self.install(recipe, &root)?;
                self.tidy(recipe, &root)?;
                for folder in &recipe.compile {
                    python::compile(&root, folder, progress)?;
                }
                Ok(Layer::Directory { path: root, owner: Owner::Preserved })
            })
        })
    }

    fn install(&self, recipe: &Recipe, root: &Path) -> Result<()> {
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--quiet", "--mode=root", "--variant=essential"])
            .arg(format!("--include={}", recipe.packages.join(",")))
            // A half-written file system is thrown away, so nothing has to be flushed to the disk package by package.
            .arg("--dpkgopt=force-unsafe-io")
            .args(self.exclude.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}")))
            .args(transport()?)
            .arg(&self.suite)
            .arg(root)
            .arg("-");
        run::with_input(command.env("SOURCE_DATE_EPOCH", "0"), sources(&self.suite)?.as_bytes())?;
        Ok(())
    }

    /// Done after mmdebstrap has ended, never in a hook: without the files that it keeps in the new root its last apt-get works on this machine.
    fn tidy(&self, recipe: &Recipe, root: &Path) -> Result<()> {
        for pattern in self.remove.iter().chain(&recipe.remove) {
            // The shell expands the pattern and nothing else of it.
            run::output(Command::new("sh").args(["-c", "cd \"$1\" && rm -rf -- $2", "sh"]).arg(root).arg(pattern))
                .with_context(|| format!("removing {pattern}"))?;
        }
        for (link, target) in &recipe.links {
            symlink(target, root.join(link)).with_context(|| format!("linking {link}"))?;
        }
        for user in &recipe.users {
            user.add(root).with_context(|| format!("adding the user {}", user.name))?;
        }
        Ok(())
    }
}

/// One at a time, because apt-get refuses to run beside itself.
fn ensure_tools(progress: &Progress) -> Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _guard = ONE.lock().map_err(|_| anyhow!("installing mmdebstrap ended in a panic"))?;
    apt::ensure(&NEEDS, progress)
}

impl User {
    fn add(&self, root: &Path) -> Result<()> {
        let Self { name, id, home } = self;
        append(&root.join("etc/passwd"), &format!("{name}:x:{id}:{id}::{home}:/bin/sh\n"))?;
        append(&root.join("etc/group"), &format!("{name}:x:{id}:\n"))?;
        let home = root.join(home.trim_start_matches('/'));
        fs::create_dir_all(&home)?;
        chown(&home, Some(*id), Some(*id))?;
        Ok(())
    }
}

fn append(file: &Path, line: &str) -> Result<()> {
    OpenOptions::new().append(true).open(file)?.write_all(line.as_bytes())?;
    Ok(())
}

/// The machine's own sources of Debian packages, in the one-line notation.
fn sources(suite: &str) -> Result<String> {
    let mut lines = known_sources(suite)?;
    if lines.is_empty() {
        // A fresh machine knows its sources only after the first update.
        run::output(Command::new("apt-get").args(["update", "-qq"])).context("refreshing the package lists")?;
        lines = known_sources(suite)?;
    }
    if lines.is_empty() {
        bail!(
            "apt-get on this machine has no package lists of Debian {suite}; remedy: add its sources, then apt-get update"
        );
    }
    Ok(lines.join("\n") + "\n")
}

fn known_sources(suite: &str) -> Result<Vec<String>> {
    let format = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)\t$(CODENAME)\t$(ORIGIN)";
    let targets =
        run::output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let mut lines: Vec<String> = targets.lines().filter_map(|line| source_of(line, suite)).map(str::to_owned).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines)
}

fn source_of<'a>(target: &'a str, suite: &str) -> Option<&'a str> {
    let mut fields = target.split('\t');
    let (source, codename, origin) = (fields.next()?, fields.next()?, fields.next()?);
    let of_suite = codename == suite || codename.strip_prefix(suite).is_some_and(|rest| rest.starts_with('-'));
    (of_suite && origin.starts_with("Debian")).then_some(source)
}

/// How this machine's apt reaches its sources: proxies, certificates, date checks.
fn transport() -> Result<Vec<String>> {
    let settings = run::output(Command::new("apt-config").arg("dump"))?;
    Ok(settings.lines().filter(|line| is_transport(line)).map(|line| format!("--aptopt={line}")).collect())
}

fn is_transport(setting: &str) -> bool {
    let kept = ["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv4"];
    kept.iter().any(|prefix| setting.starts_with(prefix)) && !setting.ends_with(" \"\";")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn the_recipes_name_every_debian_image() {
        let recipes = Recipes::load(&paths::repository()).unwrap();
        assert_eq!(recipes.images.keys().collect::<Vec<_>>(), ["agent", "postgres", "python"]);
    }

    #[test]
    fn only_debians_own_sources_of_the_suite_are_used() {
        let line = |codename: &str, origin: &str| format!("deb http://mirror.invalid/ x main\t{codename}\t{origin}");
        assert_eq!(source_of(&line("bookworm", "Debian"), "bookworm"), Some("deb http://mirror.invalid/ x main"));
        assert!(source_of(&line("bookworm-security", "Debian"), "bookworm").is_some());
        assert!(source_of(&line("bookworm", "Node Source"), "bookworm").is_none());
        assert!(source_of(&line("trixie", "Debian"), "bookworm").is_none());
    }

    #[test]
    fn empty_settings_of_the_machine_are_not_passed_on() {
        assert!(is_transport("Acquire::http::Proxy \"http://proxy.invalid:3128\";"));
        assert!(!is_transport("Acquire::http \"\";"));
        assert!(!is_transport("Acquire::Languages:: \"none\";"));
    }
}
