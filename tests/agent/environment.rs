//! `agent environment`: named by its files, installed by the real pip, brought and used elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use timetracker_operator::agent::report::{EnvironmentFailure, EnvironmentReport};

use crate::fetch::store;
use crate::{Agent, Finished};

/// A small package with a program, and no dependencies.
const PACKAGE: &str = "pycodestyle==2.14.0";
const SCRIPT: &str = include_str!("../../src/pipelines/environments/install.sh");

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn repository(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

fn identify(workspace: &Path, options: &[&str]) -> Finished {
    Agent::new(["environment", "identify", "--workspace", text(workspace)]).arguments(options.iter().copied()).run()
}

fn hash(files: &[(&str, &str)], options: &[&str]) -> String {
    let directory = repository(files);
    let finished = identify(directory.path(), options);
    let EnvironmentReport::Identified { hash, .. } = finished.report() else { panic!("{}", finished.report) };
    hash.to_string()
}

#[test]
fn the_hash_follows_everything_that_pip_is_told_and_nothing_else() {
    let files = [("a.txt", "-r sub/b.txt\n"), ("sub/b.txt", "flask==3.1\n"), ("app.py", "1")];
    let options = ["--python", "3.11", "--requirement", "a.txt", "--variable", "PIP_PRE=0"];
    let same = hash(&files, &options);
    assert_eq!(hash(&[files[0], files[1], ("app.py", "2")], &options), same, "code is no dependency");
    let others = [
        hash(&[files[0], ("sub/b.txt", "flask==3.2\n")], &options),
        hash(&files, &["--python", "3.12", "--requirement", "a.txt", "--variable", "PIP_PRE=0"]),
        hash(&files, &["--python", "3.11", "--requirement", "a.txt", "--variable", "PIP_PRE=1"]),
        hash(&files, &["--python", "3.11", "--requirement", "sub/b.txt", "--variable", "PIP_PRE=0"]),
    ];
    assert!(others.iter().all(|other| *other != same), "{others:?}");
}

#[rstest]
#[case("-r ../../etc/passwd\n", "not below the repository")]
#[case("-r a.txt\n", "in a circle")]
#[case("-r link.txt\n", "can't be read")]
#[case("-r huge.txt\n", "is longer than")]
#[case("-r gone.txt\n", "gone.txt: the repository has none (commit aaaaaaa")]
fn hostile_requirement_files_are_refused_with_file_and_commit(#[case] content: &str, #[case] why: &str) {
    let directory = repository(&[("a.txt", content)]);
    symlink("/etc/passwd", directory.path().join("link.txt")).unwrap();
    fs::File::create(directory.path().join("huge.txt")).unwrap().set_len(1 << 30).unwrap();
    let commit = "a".repeat(40);
    let finished = identify(directory.path(), &["--commit", &commit, "--python", "3.11", "--requirement", "a.txt"]);
    assert_eq!(finished.code, Some(1));
    let EnvironmentReport::Failed { failure, message } = finished.report() else { panic!("it was named") };
    assert_eq!(failure, EnvironmentFailure::Requirements);
    assert!(message.contains(why), "{message}");
}

/// Runs the job's own script in a repository with these files: what it printed, and what `$OUTPUTS` says.
struct Installed {
    directory: TempDir,
    output: Output,
}

impl Installed {
    fn of(files: &[(&str, &str)], requirements: &str) -> Self {
        let directory = repository(files);
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("home/bin")).unwrap();
        // The image has `python`; a Debian machine only `python3`.
        symlink("/usr/bin/python3", path("home/bin/python")).unwrap();
        let script = SCRIPT.replace("/timetracker/bin/timetracker-agent", env!("CARGO_BIN_EXE_timetracker-agent"));
        fs::write(path("run.sh"), script).unwrap();
        let output = Command::new("/bin/sh")
            .args(["-e", text(&path("run.sh"))])
            .current_dir(directory.path())
            .env("PATH", format!("{}:/usr/bin:/bin", text(&path("home/bin"))))
            .env("HOME", path("home"))
            .env("OUTPUTS", path("outputs"))
            .env("ENVIRONMENT", path("environment"))
            .env("KNOWN", path("environment/.known"))
            .env("ARCHIVE", path(".timetracker/environment.tar.gz"))
            .env("REQUIREMENTS", requirements)
            .output()
            .unwrap();
        Self { directory, output }
    }

    fn outputs(&self) -> String {
        fs::read_to_string(self.directory.path().join("outputs")).unwrap_or_default()
    }
}

#[test]
fn what_pip_installed_once_runs_where_it_is_brought() {
    let files = [("requirements.txt", "-r sub/tools.txt\n"), ("sub/tools.txt", PACKAGE)];
    let installed = Installed::of(&files, "requirements.txt");
    assert!(installed.output.status.success(), "{:?}", installed.output);
    let archive = fs::read(installed.directory.path().join(".timetracker/environment.tar.gz")).unwrap();
    let (brought, finished) = unpack("200 OK", archive);
    let EnvironmentReport::Unpacked { files, bytes } = finished.report() else { panic!("{}", finished.report) };
    assert!(files > 5 && bytes > 50_000, "{files} files, {bytes} bytes");
    let environment = brought.path().join("environment");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env("PATH", format!("{}:/usr/bin:/bin", text(&environment.join("bin"))))
            .env("PYTHONPATH", &environment)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(run("pycodestyle", &["--version"]), "2.14.0");
    fs::create_dir(environment.join("beside")).unwrap();
    fs::write(environment.join("beside.pth"), "beside\n").unwrap();
    fs::write(environment.join("beside/by_pth.py"), "print('found')").unwrap();
    assert_eq!(run("python3", &["-c", "import by_pth"]), "found", ".pth files are read");
    let compiled = fs::read_dir(environment.join("__pycache__")).unwrap().flatten();
    assert!(compiled.map(|entry| entry.file_name()).any(|name| text(name.as_ref()).starts_with("pycodestyle")));
}

#[test]
fn modules_of_the_repository_do_not_take_the_place_of_pythons_own() {
    let spoils = "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('x')\nraise SystemExit(0)\n";
    let names = ["pip.py", "pip/__main__.py", "compileall.py", "site.py", "sitecustomize.py", "zipfile.py"];
    let mut files: Vec<(&str, &str)> = names.map(|name| (name, spoils)).to_vec();
    files.push(("requirements.txt", "# nothing\n"));
    let installed = Installed::of(&files, "requirements.txt");
    assert!(installed.output.status.success(), "{:?}", installed.output);
    let ran = |folder: &str| installed.directory.path().join(folder).join("ran").exists();
    assert!(!ran("") && !ran("pip"), "the commit's code would be part of an environment that its files name");
    assert!(installed.directory.path().join(".timetracker/environment.tar.gz").exists());
}

#[test]
fn what_pip_can_not_find_is_told_in_one_line() {
    let installed = Installed::of(&[("requirements.txt", "timetracker-no-such-package==0.0.1\n")], "requirements.txt");
    assert_eq!(installed.output.status.code(), Some(1));
    let told = installed.outputs();
    assert!(told.starts_with("error=ERROR: ") && told.contains("timetracker-no-such-package"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

fn unpack(status: &'static str, archive: Vec<u8>) -> (TempDir, Finished) {
    let (url, asked) = store(status, BTreeMap::from([("run-1-e/environment".to_owned(), archive)]));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&directory.path().join(name)).to_owned();
    fs::write(path("token"), "t0ken\n").unwrap();
    let finished = Agent::new(["environment", "unpack", "--store", &url, "--namespace", "ci", "--run", "run-1"])
        .arguments(["--job", "run-1-e", "--artifact", "environment"])
        .arguments(["--token-file", &path("token"), "--dest", &path("environment")])
        .run();
    assert!(asked.lock().unwrap().iter().all(|(_, token)| token == "Bearer t0ken"));
    (directory, finished)
}

fn compressed(build: impl FnOnce(&mut Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    build(&mut archive);
    archive.into_inner().unwrap().finish().unwrap()
}

/// An entry with exactly this name, which the library itself would refuse to write.
fn entry(kind: EntryType, name: &str, content: &[u8], link: &str) -> Vec<u8> {
    compressed(|archive| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        header.set_size(content.len() as u64);
        let raw = header.as_gnu_mut().unwrap();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, content).unwrap();
    })
}

#[rstest]
#[case::climbing(entry(EntryType::Regular, "../../climbed", b"x", ""), "leads out of the environment")]
#[case::absolute(entry(EntryType::Regular, "/tmp/absolute", b"x", ""), "leads out of the environment")]
#[case::symlink(entry(EntryType::Symlink, "link", b"", "/etc/passwd"), "neither a file nor a folder")]
#[case::hard_link(entry(EntryType::Link, "link", b"", "../token"), "neither a file nor a folder")]
#[case::device(entry(EntryType::Char, "device", b"", ""), "neither a file nor a folder")]
#[case::nameless(entry(EntryType::Regular, ".", b"x", ""), "an entry has no name")]
#[case::long_name(entry(EntryType::GNULongName, "x", &[b'a'; 5000], ""), "a path is too long")]
#[case::deep(entry(EntryType::Directory, &"a/".repeat(49), b"", ""), "nested more than 48 deep")]
#[case::garbage(b"no archive".to_vec(), "can't be unpacked")]
#[case::nothing(Vec::new(), "can't be unpacked")]
fn a_hostile_archive_writes_nothing_outside_and_is_refused(#[case] archive: Vec<u8>, #[case] why: &str) {
    let (directory, finished) = unpack("200 OK", archive);
    let EnvironmentReport::Failed { failure, message } = finished.report() else { panic!("it was unpacked") };
    assert_eq!(failure, EnvironmentFailure::Archive);
    assert!(message.contains(why), "{message}");
    let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["environment", "token"]);
    assert_eq!(fs::read_dir(directory.path().join("environment")).unwrap().count(), 0);
}

#[test]
fn an_archive_that_never_ends_is_refused_by_what_it_claims() {
    let bomb = compressed(|archive| {
        let mut header = Header::new_gnu();
        header.set_size(3 << 30);
        header.set_path("bomb").unwrap();
        header.set_cksum();
        archive.get_mut().write_all(header.as_bytes()).unwrap();
        archive.get_mut().write_all(&[0; 1 << 20]).unwrap();
    });
    let (directory, finished) = unpack("200 OK", bomb);
    let EnvironmentReport::Failed { message, .. } = finished.report() else { panic!("it was unpacked") };
    assert!(message.contains("more than 2048 MiB"), "{message}");
    assert_eq!(fs::read_dir(directory.path().join("environment")).unwrap().count(), 0);
}

#[test]
fn a_store_that_refuses_is_a_failure_of_the_infrastructure() {
    let (_directory, finished) = unpack("403 Forbidden", Vec::new());
    let EnvironmentReport::Failed { failure, .. } = finished.report() else { panic!("it was unpacked") };
    assert_eq!(failure, EnvironmentFailure::Unreachable);
}
