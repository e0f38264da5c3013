//! Every image that is made here, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::debian::Recipes;
use super::dockerfile::{self, Build, Part};
use super::layer::{Content, Layer};
use super::oci::{Image, Pushed};
use super::registry::Registry;
use super::sample::{self, Sample, Version};
use super::store::Store;
use super::{archive, postgres, programs, python};
use crate::host::progress::Progress;
use crate::paths;

/// The embedded cluster's registry as this machine sees it.
pub const REGISTRY: &str = "127.0.0.1:5000";

/// Tag of the images of this repository's own programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the operator's image may weigh, compressed, so that a node without it is not kept waiting.
const OPERATOR_LIMIT: i64 = 40 << 20;

const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// An image that can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `python:3.11-slim`
    Python,
    /// `postgres:16`
    Postgres,
    /// The operator
    Operator,
    /// The agent
    Agent,
    /// What the sample app's pipelines run in
    TestEnvironment,
    /// An index that has nothing for this machine's processor
    OtherPlatform,
    /// A version of the sample app
    Sample(Version),
}

/// The images of this checkout and where they go.
#[derive(Debug)]
pub struct Catalogue {
    repository: PathBuf,
    registry: String,
    recipes: Recipes,
    store: Store,
}

impl Catalogue {
    /// The images of this checkout, pushed to this registry. With `rebuild` nothing made earlier counts.
    ///
    /// # Errors
    /// When a recipe can't be read or the cache can't be made.
    pub fn open(registry: impl Into<String>, rebuild: bool) -> Result<Self> {
        let repository = paths::repository();
        Ok(Self {
            recipes: Recipes::load(&repository)?,
            store: Store::open(paths::cache().join("images"), rebuild)?,
            registry: registry.into(),
            repository,
        })
    }

    /// Every image; the versions of the sample app last, in the order of their tags.
    ///
    /// # Errors
    /// When the sample app's versions can't be listed.
    pub fn all(&self) -> Result<Vec<Name>> {
        let mut all = self.standing();
        all.extend(sample::versions(&self.sample_folder())?.into_iter().map(Name::Sample));
        Ok(all)
    }

    /// The images with these names; `samples` stands for all versions of the sample app. Without names, those that have no versions: a version that
    /// appears in a registry is an event there, to which an operator reacts.
    ///
    /// # Errors
    /// When one is unknown.
    pub fn select(&self, names: &[String]) -> Result<Vec<Name>> {
        if names.is_empty() {
            return Ok(self.standing());
        }
        let all = self.all()?;
        let mut selected = Vec::new();
        for wanted in names {
            let before = selected.len();
            selected.extend(all.iter().filter(|name| name.answers_to(wanted)).cloned());
            if selected.len() == before {
                bail!("no image {wanted:?}; see cargo xtask images --list");
            }
        }
        Ok(selected)
    }

    /// The reference that an image is pushed to unless another is asked for.
    pub fn reference(&self, name: &Name) -> String {
        self.in_registry(&name.repository_and_tag())
    }

    /// A repository and tag (`drytrix/timetracker:2.1.0`) in the registry that this catalogue pushes to.
    pub fn in_registry(&self, repository_and_tag: &str) -> String {
        format!("{}/{repository_and_tag}", self.registry)
    }

    /// Makes what several images stand on, at the same time.
    ///
    /// # Errors
    /// When packages can't be had.
    pub fn prepare(&self, names: &[Name], progress: &Progress) -> Result<()> {
        let recipes: BTreeSet<&str> = names.iter().filter_map(Name::recipe).collect();
        self.recipes.prepare(&recipes.into_iter().collect::<Vec<_>>(), &self.store, progress)
    }

    /// Makes one image and pushes it to a full reference, such as [`Catalogue::reference`] gives.
    ///
    /// # Errors
    /// When it can't be made, or the registry refuses.
    pub fn push(&self, name: &Name, target: &str, registry: &Registry, progress: &Progress) -> Result<Pushed> {
        match name {
            Name::Python => python::image(self.debian("python", progress)?).push(registry, target),
            Name::Postgres => {
                let debian = self.debian("postgres", progress)?;
                postgres::image(&self.repository, debian, &self.store, progress)?.push(registry, target)
            }
            Name::Operator => {
                let layout = self.operator(progress)?.layout(&self.repository, &self.store, progress)?;
                dockerfile::push(&layout, registry, target, Some(OPERATOR_LIMIT))
            }
            Name::Agent => {
                let layout = self.agent(registry, progress)?.layout(&self.repository, &self.store, progress)?;
                dockerfile::push(&layout, registry, target, None)
            }
            Name::TestEnvironment => {
                let python = self.debian("python", progress)?;
                self.sample(&self.sample_folder(), progress).test_environment(python)?.push(registry, target)
            }
            Name::OtherPlatform => other_platform().push(registry, target),
            Name::Sample(version) => {
                let python = self.debian("python", progress)?;
                self.sample(&self.sample_folder(), progress).image(version, python)?.push(registry, target)
            }
        }
    }

    fn standing(&self) -> Vec<Name> {
        vec![Name::Python, Name::Postgres, Name::TestEnvironment, Name::OtherPlatform, Name::Agent, Name::Operator]
    }

    fn debian(&self, recipe: &str, progress: &Progress) -> Result<Layer> {
        self.recipes.layer(recipe, &self.store, progress)
    }

    fn sample_folder(&self) -> PathBuf {
        self.repository.join("dev/timetracker")
    }

    fn sample<'a>(&'a self, folder: &'a Path, progress: &'a Progress) -> Sample<'a> {
        Sample { folder, store: &self.store, progress }
    }

    fn operator(&self, progress: &Progress) -> Result<Build> {
        let program = programs::build(&self.repository, "timetracker-operator", progress)?;
        let authorities = archive::file(&self.debian("agent", progress)?, AUTHORITIES)?;
        Ok(Build {
            name: "operator",
            dockerfile: "Dockerfile",
            context: vec![
                "dev/images/operator/etc/group",
                "dev/images/operator/etc/nsswitch.conf",
                "dev/images/operator/etc/passwd",
            ],
            built: BTreeMap::from([
                ("usr/bin/timetracker-operator", Part::Program(program)),
                (AUTHORITIES, Part::Bytes(authorities)),
                ("tmp", Part::Shared),
            ]),
            stages: BTreeMap::new(),
        })
    }

    fn agent(&self, registry: &Registry, progress: &Progress) -> Result<Build> {
        let program = programs::build(&self.repository, "timetracker-agent", progress)?;
        let base = self.in_registry("timetracker/agent-base:dev");
        let pushed = Image::scratch().layer(self.debian("agent", progress)?).push(registry, &base)?;
        let (repository, _tag) = base.rsplit_once(':').unwrap_or((&base, ""));
        Ok(Build {
            name: "agent",
            dockerfile: "dev/images/agent.Dockerfile",
            context: Vec::new(),
            built: BTreeMap::from([("usr/bin/timetracker-agent", Part::Program(program))]),
            stages: BTreeMap::from([("base", format!("{repository}@{}", pushed.digest))]),
        })
    }
}

/// An image that no node here can run, for the tests that show what is said then.
fn other_platform() -> Image {
    let file = Content::Bytes { data: b"an image for another processor\n".to_vec(), mode: 0o644 };
    Image::scratch()
        .layer(Layer::Files(BTreeMap::from([("README".to_owned(), file)])))
        .architecture(if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" })
        .entrypoint(["/none"])
        .indexed()
}

impl Name {
    /// The name on the command line.
    pub fn text(&self) -> String {
        match self {
            Self::Python => "python".to_owned(),
            Self::Postgres => "postgres".to_owned(),
            Self::Operator => "operator".to_owned(),
            Self::Agent => "agent".to_owned(),
            Self::TestEnvironment => "test-environment".to_owned(),
            Self::OtherPlatform => "other-platform".to_owned(),
            Self::Sample(version) => format!("sample-{}", version.name),
        }
    }

    /// What it has of Debian.
    fn recipe(&self) -> Option<&'static str> {
        match self {
            Self::Python | Self::TestEnvironment | Self::Sample(_) => Some("python"),
            Self::Postgres => Some("postgres"),
            // The operator's certificates come from there.
            Self::Agent | Self::Operator => Some("agent"),
            Self::OtherPlatform => None,
        }
    }

    fn answers_to(&self, wanted: &str) -> bool {
        self.text() == wanted || (wanted == "samples" && matches!(self, Self::Sample(_)))
    }

    /// Without the registry, whose place the local one takes for all of them.
    pub fn repository_and_tag(&self) -> String {
        match self {
            Self::Python => "library/python:3.11-slim".to_owned(),
            Self::Postgres => "library/postgres:16".to_owned(),
            Self::Operator => format!("drytrix/timetracker-operator:{VERSION}"),
            Self::Agent => format!("drytrix/timetracker-agent:{VERSION}"),
            Self::TestEnvironment => "drytrix/timetracker-ci:dev".to_owned(),
            Self::OtherPlatform => "drytrix/timetracker-other-platform:1.0.0".to_owned(),
            Self::Sample(version) => format!("drytrix/timetracker:{}", version.tag),
        }
    }

    /// What it is, for people.
    pub fn about(&self) -> String {
        match self {
            Self::Python => "Debian 12 with Python 3.11 and pip".to_owned(),
            Self::Postgres => "Postgres 16 with its client tools".to_owned(),
            Self::Operator => "the operator, from Dockerfile".to_owned(),
            Self::Agent => "the agent with git, from dev/images/agent.Dockerfile".to_owned(),
            Self::TestEnvironment => "Python with all that the sample app's tests and pipelines need".to_owned(),
            Self::OtherPlatform => "an index without an image for this processor".to_owned(),
            Self::Sample(version) => version.summary.clone(),
        }
    }
}
