//! What a commit changes: the two trees compared as they lie there. No Git, so no file name is ever parsed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::schema::check::Changes;

/// The most files that are compared.
const MAX_FILES: usize = 20_000;
/// The most changed paths of a kind that are told.
const MAX_TOLD: usize = 200;

/// What is compared.
pub(super) struct Compared<'a> {
    /// The base commit's tree.
    pub(super) base: &'a Path,
    /// The commit's tree.
    pub(super) head: &'a Path,
    /// Paths of models: folders or files, relative to the trees.
    pub(super) models: &'a Path,
    /// The folder of migrations.
    pub(super) migrations: &'a Path,
}

impl Compared<'_> {
    /// The paths that differ.
    pub(super) fn changes(&self) -> io::Result<Changes> {
        Ok(Changes {
            models: self.below(self.models)?.into_iter().collect(),
            migrations: self.below(self.migrations)?.into_iter().collect(),
            requirements: self.requirements()?.into_iter().collect(),
        })
    }

    fn below(&self, path: &Path) -> io::Result<Vec<String>> {
        self.unlike(&files(self.base, path)?, &files(self.head, path)?)
    }

    fn requirements(&self) -> io::Result<Vec<String>> {
        self.unlike(&requirement_files(self.base)?, &requirement_files(self.head)?)
    }

    fn unlike(&self, base: &BTreeMap<PathBuf, Kind>, head: &BTreeMap<PathBuf, Kind>) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let all: std::collections::BTreeSet<&PathBuf> = base.keys().chain(head.keys()).collect();
        for path in all {
            let same = match (base.get(path), head.get(path)) {
                (Some(Kind::File(one)), Some(Kind::File(other))) => {
                    one == other && same_content(&self.base.join(path), &self.head.join(path))?
                }
                (one, other) => one == other,
            };
            if !same {
                found.push(path.to_string_lossy().into_owned());
            }
        }
        found.truncate(MAX_TOLD);
        Ok(found)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// With its length.
    File(u64),
    /// With its target.
    Link(PathBuf),
}

/// Everything below `path` of a tree. Links are compared, never followed; what Python compiled is left out.
fn files(tree: &Path, path: &Path) -> io::Result<BTreeMap<PathBuf, Kind>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let absolute = tree.join(&path);
        let metadata = match fs::symlink_metadata(&absolute) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_symlink() {
            found.insert(path, Kind::Link(fs::read_link(&absolute)?));
        } else if metadata.is_file() {
            found.insert(path, Kind::File(metadata.len()));
        } else if metadata.is_dir() {
            for entry in fs::read_dir(&absolute)? {
                let name = entry?.file_name();
                if name != "__pycache__" && Path::new(&name).extension().is_none_or(|extension| extension != "pyc") {
                    open.push(path.join(name));
                }
            }
        }
        if found.len() + open.len() > MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(found)
}

/// The requirement files at the top of a tree.
fn requirement_files(tree: &Path) -> io::Result<BTreeMap<PathBuf, Kind>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(tree)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("requirements") && text.ends_with(".txt") {
            found.extend(files(tree, Path::new(&name))?);
        }
    }
    Ok(found)
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (io::BufReader::new(File::open(one)?), io::BufReader::new(File::open(other)?));
    let (mut left, mut right) = (vec![0_u8; 64 * 1024], vec![0_u8; 64 * 1024]);
    loop {
        let count = one.read(&mut left)?;
        let Some(part) = right.get_mut(..count) else {
            return Ok(false);
        };
        if count == 0 {
            return Ok(true);
        }
        // The lengths were equal: a shorter file is one that somebody is writing to.
        other.read_exact(part)?;
        if left.get(..count) != right.get(..count) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use tempfile::TempDir;

    fn tree(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn changes(base: &TempDir, head: &TempDir) -> Changes {
        let (models, migrations) = (Path::new("app/models"), Path::new("migrations"));
        Compared { base: base.path(), head: head.path(), models, migrations }.changes().unwrap()
    }

    #[test]
    fn changed_added_and_removed_files_are_told() {
        let base = tree(&[
            ("app/models/a.py", "1"),
            ("app/models/b.py", "1"),
            ("app/routes.py", "1"),
            ("requirements.txt", "a"),
        ]);
        let head = tree(&[
            ("app/models/a.py", "2"),
            ("app/routes.py", "2"),
            ("migrations/versions/1.py", ""),
            ("requirements.txt", "b"),
        ]);
        let found = changes(&base, &head);
        assert_eq!(found.models.into_iter().collect::<Vec<_>>(), ["app/models/a.py", "app/models/b.py"]);
        assert_eq!(found.migrations.into_iter().collect::<Vec<_>>(), ["migrations/versions/1.py"]);
        assert_eq!(found.requirements.into_iter().collect::<Vec<_>>(), ["requirements.txt"]);
    }

    #[test]
    fn equal_trees_have_no_changes_and_compiled_files_count_for_nothing() {
        let base = tree(&[("app/models/a.py", "1"), ("requirements.txt", "a")]);
        let head = tree(&[("app/models/a.py", "1"), ("app/models/__pycache__/a.pyc", "x"), ("requirements.txt", "a")]);
        assert_eq!(changes(&base, &head), Changes::default());
    }

    #[test]
    fn models_may_be_one_file() {
        let (base, head) = (tree(&[("app/models.py", "1")]), tree(&[("app/models.py", "2")]));
        let compared = Compared {
            base: base.path(),
            head: head.path(),
            models: Path::new("app/models.py"),
            migrations: Path::new("migrations"),
        };
        assert_eq!(compared.changes().unwrap().models.len(), 1);
    }

    #[test]
    fn links_are_not_followed_and_odd_names_are_no_trouble() {
        let (base, head) = (tree(&[("app/models/a.py", "1")]), tree(&[("app/models/a.py", "1")]));
        std::os::unix::fs::symlink("/", head.path().join("app/models/root")).unwrap();
        let odd = OsStr::from_bytes(b"\xff\n@everyone `rm`.py");
        fs::write(head.path().join("app/models").join(odd), "").unwrap();
        assert_eq!(changes(&base, &head).models.len(), 2);
    }
}
