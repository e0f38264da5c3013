//! Requirement files with all that they include: what an environment's hash is made of.
//!
//! Read as pip reads them, but for what would make the hash a lie: nothing outside the repository, no links, no other
//! encoding, nothing whose content is not in the files themselves (local packages). Such files are refused.

use std::io;
use std::path::Path;

use crate::agent::collect::files::Folder;

/// The longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The most files.
const MAX_FILES: usize = 32;
/// What ends the name of a package's archive.
const ARCHIVES: [&str; 8] = [".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.lzma"];

/// A file and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequirementFile {
    /// Relative to the repository.
    pub(super) path: String,
    pub(super) text: String,
}

/// Why the files name no environment.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequirementsError {
    #[error("requirement file {0}: the repository has none")]
    Missing(String),
    #[error("requirement file {path} can't be read: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("requirement file {0} is longer than {MAX_FILE} bytes")]
    TooLong(String),
    #[error("requirement file {0} is not plain UTF-8 text")]
    Encoding(String),
    #[error("{file} includes {include}, which is not below the repository")]
    Outside { file: String, include: String },
    #[error("{file} includes {include}: what stands there may change without the repository; copy it in")]
    Remote { file: String, include: String },
    #[error("requirement files include each other in a circle: {0}")]
    Circle(String),
    #[error("there are more than {MAX_FILES} requirement files")]
    TooMany,
    #[error("{file}, line {line}: {what} is a package of the repository itself: install it in the job's script")]
    Local { file: String, line: usize, what: String },
}

/// The files, each behind none that includes it and once.
///
/// # Errors
/// The first thing that can't be part of an environment, with its file.
pub(super) fn read(workspace: &Path, files: &[String]) -> Result<Vec<RequirementFile>, RequirementsError> {
    let unreadable = |source| RequirementsError::Unreadable { path: ".".to_owned(), source };
    let folder = Folder::open(workspace).map_err(unreadable)?;
    let mut reader = Reader { folder, files: Vec::new(), open: Vec::new() };
    for file in files {
        let path = below("", file)
            .ok_or_else(|| RequirementsError::Outside { file: "the pipeline".to_owned(), include: shown(file) })?;
        reader.visit(path)?;
    }
    Ok(reader.files)
}

struct Reader {
    folder: Folder,
    files: Vec<RequirementFile>,
    /// The files that are being read, each included by the one before it.
    open: Vec<String>,
}

impl Reader {
    fn visit(&mut self, path: String) -> Result<(), RequirementsError> {
        if self.open.contains(&path) {
            let chain: Vec<String> = self.open.iter().chain([&path]).map(|path| shown(path)).collect();
            return Err(RequirementsError::Circle(chain.join(" → ")));
        }
        if self.files.iter().any(|file| file.path == path) {
            return Ok(());
        }
        if self.files.len() >= MAX_FILES {
            return Err(RequirementsError::TooMany);
        }
        let text = self.text(&path)?;
        self.files.push(RequirementFile { path: path.clone(), text: text.clone() });
        self.open.push(path.clone());
        for include in includes(&path, &text)? {
            if include.contains("://") {
                return Err(RequirementsError::Remote { file: shown(&path), include: shown(&include) });
            }
            let outside = || RequirementsError::Outside { file: shown(&path), include: shown(&include) };
            self.visit(below(&path, &include).ok_or_else(outside)?)?;
        }
        self.open.pop();
        Ok(())
    }

    fn text(&self, path: &str) -> Result<String, RequirementsError> {
        let content = self.folder.read(Path::new(path), MAX_FILE).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                RequirementsError::Missing(shown(path))
            } else if source.kind() == io::ErrorKind::FileTooLarge {
                RequirementsError::TooLong(shown(path))
            } else {
                RequirementsError::Unreadable { path: shown(path), source }
            }
        })?;
        let text = String::from_utf8(content).ok().filter(|text| is_plain(text));
        text.ok_or_else(|| RequirementsError::Encoding(shown(path)))
    }
}

/// Whether Python sees the same lines in it as we do: no marks of other encodings, no line ends but the usual ones.
fn is_plain(text: &str) -> bool {
    let odd = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}')
    };
    let declares_other = |line: &str| {
        let declared = line.split_once("coding:").or_else(|| line.split_once("coding="));
        declared.is_some_and(|(_, name)| !name.trim_start().to_ascii_lowercase().starts_with("utf-8"))
    };
    let declared = text.split(['\n', '\r']).take(3).any(|line| line.starts_with('#') && declares_other(line));
    !text.contains(odd) && !declared
}

/// The path of `include` as `file` means it: beside itself. `None` when that is not below the repository.
fn below(file: &str, include: &str) -> Option<String> {
    if include.starts_with('/') || include.is_empty() {
        return None;
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in include.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The files that a file includes, in its order.
fn includes(file: &str, text: &str) -> Result<Vec<String>, RequirementsError> {
    let mut found = Vec::new();
    for (line, words) in lines(text) {
        let local =
            |what: &str| RequirementsError::Local { file: shown(file), line, what: format!("`{}`", shown(what)) };
        let mut words = words.into_iter();
        let mut is_first = true;
        while let Some(word) = words.next() {
            match option(&word) {
                Some((Kind::Include, value)) => found.extend(value.or_else(|| words.next())),
                Some((Kind::Place, value)) => {
                    let place = value.or_else(|| words.next()).unwrap_or_default();
                    if !place.contains("://") || is_file_url(&place) {
                        return Err(local(&place));
                    }
                }
                None if is_file_url(&word) || (is_first && is_path(&word)) => return Err(local(&word)),
                None => {}
            }
            is_first = false;
        }
    }
    Ok(found)
}

/// Options of a requirement file that matter here, by what their value is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Another file.
    Include,
    /// A place to take packages from.
    Place,
}

/// The option that the word is, and its value when that is part of the word. Long ones may be shortened.
fn option(word: &str) -> Option<(Kind, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let is = |whole: &str, least: usize| name.len() >= least && whole.starts_with(name);
        let kind = (is("requirement", 8) || is("constraint", 4)).then_some(Kind::Include);
        let kind = kind.or_else(|| (is("editable", 1) || is("find-links", 1)).then_some(Kind::Place));
        return kind.map(|kind| (kind, value));
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let kind = match letters.next()? {
        'r' | 'c' => Kind::Include,
        'e' | 'f' => Kind::Place,
        _ => return None,
    };
    let value = letters.as_str();
    Some((kind, (!value.is_empty()).then(|| value.to_owned())))
}

fn is_file_url(word: &str) -> bool {
    word.to_ascii_lowercase().contains("file:")
}

/// Whether pip would take the word for a file or folder.
fn is_path(word: &str) -> bool {
    let is_url = word.contains("://");
    let is_archive = ARCHIVES.iter().any(|end| word.to_ascii_lowercase().ends_with(end));
    word.starts_with(['.', '/', '~']) || (!is_url && (word.contains('/') || is_archive))
}

/// The lines that are not empty, with their numbers, as words: continued ones joined, comments gone.
fn lines(text: &str) -> Vec<(usize, Vec<String>)> {
    let text = text.replace("\r\n", "\n");
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (number, line) in text.split(['\n', '\r']).enumerate() {
        let is_comment = line.trim_start().starts_with('#');
        let (start, mut whole) = pending.take().unwrap_or((number + 1, String::new()));
        match line.strip_suffix('\\').filter(|_| !is_comment) {
            Some(_) => pending = Some((start, whole + line.trim_matches('\\'))),
            None => {
                // Else the comment would be part of the word before it.
                if is_comment {
                    whole.push(' ');
                }
                joined.push((start, whole + line));
            }
        }
    }
    joined.extend(pending);
    joined.into_iter().map(|(number, line)| (number, words(without_comment(&line)))).collect()
}

fn without_comment(line: &str) -> &str {
    let starts = |(at, _): &(usize, &str)| {
        line.get(..*at).is_none_or(|before| before.is_empty() || before.ends_with(char::is_whitespace))
    };
    let start = line.match_indices('#').find(starts).map_or(line.len(), |(at, _)| at);
    line.get(..start).unwrap_or_default()
}

/// Words as a shell splits them, quotes taken away.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None | Some(_), letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn read_of(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let directory = repository(files);
        let read = read(directory.path(), &["requirements.txt".to_owned()]);
        read.map(|files| files.into_iter().map(|file| file.path).collect()).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case("-r sub/a.txt")]
    #[case("-rsub/a.txt")]
    #[case("--requirement sub/a.txt")]
    #[case("--requirement=sub/a.txt")]
    #[case("--requirem 'sub/a.txt'")]
    #[case("--constraint=\"sub/a.txt\"")]
    #[case("flask\\\n  \\\n# not joined\n-c sub/a.txt # why")]
    #[case("-r \\\n  sub/a.txt")]
    #[case("-r ./x/../sub//a.txt")]
    fn what_a_file_includes_is_read(#[case] text: &str) {
        let files = [("requirements.txt", text), ("sub/a.txt", "-r b.txt\r\nflask==3"), ("sub/b.txt", "")];
        assert_eq!(read_of(&files).unwrap(), ["requirements.txt", "sub/a.txt", "sub/b.txt"]);
    }

    #[rstest]
    #[case("-r ../../etc/passwd", "not below the repository")]
    #[case("-r /etc/passwd", "not below the repository")]
    #[case("-r https://example.org/x.txt", "may change without the repository")]
    #[case("-r requirements.txt", "in a circle: requirements.txt → requirements.txt")]
    #[case("-r missing.txt", "missing.txt: the repository has none")]
    #[case("# x\n-e .", "line 2: `.`")]
    #[case("--editable=./app", "`./app`")]
    #[case("./vendor/x", "`./vendor/x`")]
    #[case("x.whl", "`x.whl`")]
    #[case("app @ file:///workspace", "`file:///workspace`")]
    #[case("--find-links wheels", "`wheels`")]
    #[case("flask\u{2028}-r ../x", "not plain UTF-8")]
    #[case("\u{feff}flask", "not plain UTF-8")]
    #[case("# coding: utf-7\nflask", "not plain UTF-8")]
    fn what_would_make_the_hash_a_lie_is_refused(#[case] text: &str, #[case] why: &str) {
        let error = read_of(&[("requirements.txt", text)]).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[rstest]
    #[case("Flask[async]==3.1 ; python_version < \"4\" and sys_platform == 'linux' --hash=sha256:aa#b")]
    #[case("app @ git+https://example.org/a/b.git@0123#egg=x")]
    #[case("--index-url https://example.org/simple\n--require-hashes\n-i https://example.org")]
    #[case("it's # an apostrophe")]
    fn other_lines_include_nothing(#[case] text: &str) {
        assert_eq!(read_of(&[("requirements.txt", text)]).unwrap(), ["requirements.txt"]);
    }

    #[test]
    fn a_circle_of_several_files_names_them() {
        let error = read_of(&[("requirements.txt", "-r a.txt"), ("a.txt", "-r requirements.txt")]).unwrap_err();
        assert!(error.contains("requirements.txt → a.txt → requirements.txt"), "{error}");
    }

    #[test]
    fn a_file_that_two_others_include_counts_once() {
        let files =
            [("requirements.txt", "-r a.txt\n-r b.txt"), ("a.txt", "-c c.txt"), ("b.txt", "-c c.txt"), ("c.txt", "")];
        assert_eq!(read_of(&files).unwrap(), ["requirements.txt", "a.txt", "c.txt", "b.txt"]);
    }

    #[test]
    fn links_and_long_files_are_refused() {
        let directory = repository(&[("a.txt", "flask")]);
        std::os::unix::fs::symlink("a.txt", directory.path().join("requirements.txt")).unwrap();
        let long = std::fs::File::create(directory.path().join("long.txt")).unwrap();
        long.set_len(1 << 30).unwrap();
        let error = |file: &str| read(directory.path(), &[file.to_owned()]).unwrap_err().to_string();
        assert!(error("requirements.txt").contains("can't be read"));
        assert!(error("long.txt").contains("is longer than"));
        assert!(error("../a.txt").contains("not below the repository"));
    }
}
