//! What a run has left: listed, and downloaded into a directory that nothing of it can leave.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kube::ResourceExt;

use super::error::PluginError;
use super::store::{Content, Entry, Listing, StoreError};
use super::text::{shown, size, table};
use super::{Context, Ending};
use crate::api::run::{JobStatus, PipelineRun};

/// Arguments of `artifacts`.
#[derive(Debug, Clone, clap::Args)]
pub struct ArtifactsArguments {
    /// The run.
    run: String,
    /// Only artifacts of this name.
    name: Option<String>,
    /// Only artifacts of this job.
    #[arg(long)]
    job: Option<String>,
    /// Download them into this directory, each below a folder of its job.
    #[arg(long, short, value_name = "DIR")]
    download: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long, requires = "download")]
    force: bool,
}

/// An artifact, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Artifact {
    /// The job's name in the pipeline; of an earlier attempt that of its Kubernetes Job.
    job: String,
    /// The folder that it is downloaded into.
    folder: String,
    entry: Entry,
}

/// Lists or downloads.
pub(super) async fn artifacts(context: &Context, arguments: &ArtifactsArguments) -> Result<Ending, PluginError> {
    let run = context.run(&arguments.run).await?;
    let store = context.store(&run).await?;
    let listing = match store.list(&context.namespace, &arguments.run).await {
        Err(StoreError::NotFound) => Listing::default(),
        other => other?,
    };
    let truncated = listing.truncated;
    let mut found = assigned(listing, jobs_of(&run));
    found.retain(|artifact| {
        arguments.name.as_ref().is_none_or(|name| artifact.entry.name == *name)
            && arguments.job.as_ref().is_none_or(|job| artifact.job == *job)
    });
    if found.is_empty() {
        let what = arguments.name.as_deref().map_or_else(|| "no artifacts".to_owned(), |name| format!("no {name}"));
        return Err(PluginError::Usage(format!(
            "run {} has {what}: only jobs with a checkout, services, reports, artifacts or outputs leave any, for as long as the store's retention says",
            run.name_any()
        )));
    }
    match &arguments.download {
        None => io::stdout().lock().write_all(listed(&found).as_bytes())?,
        Some(directory) => {
            for artifact in &found {
                let names =
                    [&context.namespace, &arguments.run, &artifact.entry.job, &artifact.entry.name].map(String::as_str);
                let place = Place::prepare(directory, artifact, arguments.force)?;
                let content = store.get(names).await?;
                let path = place.fill(content, artifact.entry.size).await?;
                let told = format!("{}  {}", shown(&path.display().to_string()), size(artifact.entry.size));
                writeln!(io::stdout().lock(), "{told}")?;
            }
        }
    }
    if truncated {
        writeln!(io::stderr().lock(), "the store has more artifacts of this run than it lists")?;
    }
    Ok(Ending::Success)
}

fn jobs_of(run: &PipelineRun) -> &[JobStatus] {
    run.status.as_ref().map(|status| status.jobs.as_slice()).unwrap_or_default()
}

/// Each artifact with its job, and with a folder that no other job has.
fn assigned(listing: Listing, jobs: &[JobStatus]) -> Vec<Artifact> {
    let mut folders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        folders.entry(folder_of(&job.name)).or_default().push(&job.name);
    }
    let artifact = |entry: Entry| {
        let owner = jobs.iter().find(|job| job.job.as_deref() == Some(entry.job.as_str()));
        let folder = owner
            .map(|job| folder_of(&job.name))
            .filter(|folder| !folder.is_empty() && folders.get(folder).is_some_and(|jobs| jobs.len() == 1))
            .unwrap_or_else(|| entry.job.clone());
        Artifact { job: owner.map_or_else(|| entry.job.clone(), |job| job.name.clone()), folder, entry }
    };
    listing.artifacts.into_iter().map(artifact).collect()
}

/// A job's name as a folder's: letters, digits and single dashes.
fn folder_of(job: &str) -> String {
    let mut folder = String::new();
    for character in job.chars().take(80) {
        if character.is_ascii_alphanumeric() || character == '_' {
            folder.push(character);
        } else if !folder.is_empty() && !folder.ends_with('-') {
            folder.push('-');
        }
    }
    folder.trim_end_matches('-').to_owned()
}

fn listed(artifacts: &[Artifact]) -> String {
    let mut rows = vec![["JOB", "ARTIFACT", "SIZE", "KEPT AT"].map(str::to_owned).to_vec()];
    rows.extend(artifacts.iter().map(|artifact| {
        let Entry { name, size: bytes, modified, .. } = &artifact.entry;
        vec![shown(&artifact.job), shown(name), size(*bytes), shown(modified)]
    }));
    table(&rows)
}

/// A file under way. It is removed again unless it is finished.
#[derive(Debug)]
struct Place {
    target: PathBuf,
    partial: PathBuf,
    file: Option<File>,
}

impl Place {
    /// Makes room for an artifact. Its names have been checked: none has a slash or begins with a dot.
    fn prepare(directory: &Path, artifact: &Artifact, force: bool) -> Result<Self, PluginError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PluginError::File { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let folder = directory.join(&artifact.folder);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&folder)(error)),
            Ok(()) | Err(_) => {}
        }
        // A link that lies there would lead elsewhere.
        if !fs::symlink_metadata(&folder).map_err(failed(&folder))?.is_dir() {
            return Err(PluginError::Usage(format!("{} is in the way: it is no folder", folder.display())));
        }
        let target = folder.join(&artifact.entry.name);
        // No artifact's name begins with a dot.
        let partial = folder.join(format!(".{}.partial", artifact.entry.name));
        let taken = match fs::symlink_metadata(&target) {
            Ok(metadata) if force => metadata.is_dir(),
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(&target)(error)),
        };
        if taken {
            let remedy = if force { "it is a folder" } else { "--force replaces it" };
            return Err(PluginError::Usage(format!("{} is there already: {remedy}", target.display())));
        }
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&partial)(error)),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&partial).map_err(failed(&partial))?;
        Ok(Self { target, partial, file: Some(file) })
    }

    /// Writes the content, and gives the file its name once it is whole.
    async fn fill(mut self, mut content: Content, announced: u64) -> Result<PathBuf, PluginError> {
        let failed = |path: &Path, source| PluginError::File { path: path.to_owned(), source };
        let mut written = 0_u64;
        while let Some(part) = content.next().await? {
            written = written.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
            if written > announced {
                return Err(changed(&self.target));
            }
            if let Some(file) = &mut self.file {
                file.write_all(&part).map_err(|error| failed(&self.partial, error))?;
            }
        }
        if written != announced {
            return Err(changed(&self.target));
        }
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(|error| failed(&self.partial, error))?;
        }
        fs::rename(&self.partial, &self.target).map_err(|error| failed(&self.target, error))?;
        Ok(self.target.clone())
    }
}

fn changed(target: &Path) -> PluginError {
    let why = format!("{} is not as long as it was listed: it has changed, ask again", target.display());
    PluginError::Store(StoreError::Content(why))
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a rename there is nothing of that name.
        let _ = fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
#[path = "artifacts_tests.rs"]
mod tests;
