//! What a release asks of its registry: one shared scan, and the digests of the few tags that matter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::super::gates::effective_policy;
use super::super::observed::{
    DEFAULT_INTERVAL, Observed, REQUESTED_AT_ANNOTATION, RegistryProblem, RegistrySeen, RegistryView, Settings,
};
use super::super::policy::{self, Policy, Rank, any_rank, is_older};
use crate::api::names::{Digest, Repository, Tag};
use crate::api::release::TimeTrackerRelease;
use crate::cluster::{Cluster, ReadError};
use crate::config::Configuration;
use crate::registry::{Access, CredentialKey, Credentials, Platform, RegistryError, ResolvedImage, Scanner};

/// The key of a Secret of type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";
/// How long a failure to resolve one image is remembered.
const FAILURE_LIFETIME: Duration = Duration::from_secs(15);
/// Resolved images that are remembered.
const MAX_REMEMBERED: usize = 2_048;

/// What all releases share: the scanner, the configuration, and what tags stood for when they were last asked about.
#[derive(Debug)]
pub struct Releases {
    scanner: Scanner,
    settings: Settings,
    platform: Platform,
    remembered: Mutex<BTreeMap<Question, Answer>>,
}

/// One image asked about. The key keeps what one Secret may read from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    repository: Repository,
    access: CredentialKey,
    name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Tag(Tag),
    Digest(Digest),
}

#[derive(Debug, Clone)]
struct Answer {
    /// When the scan was taken that led to the question; without a scan, when it was asked.
    at: Timestamp,
    found: Result<Digest, RegistryProblem>,
}

impl Releases {
    /// Releases whose images are looked up by `scanner`; `trusted_ca` is the content of the `trustedCaFile`.
    #[must_use]
    pub fn new(scanner: Scanner, configuration: &Configuration, trusted_ca: Option<&str>) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            scanner,
            settings: Settings {
                agent_image: configuration.images.agent.clone(),
                postgres_image: configuration
                    .postgres_image("16")
                    .unwrap_or("docker.io/library/postgres:16")
                    .to_owned(),
                trusted_ca: trusted_ca.map(Into::into),
                proxy: configuration.proxy.clone(),
            },
            platform: Platform::linux(architecture),
            remembered: Mutex::default(),
        }
    }

    /// What the configuration says.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the registry says about what `observed` asks for.
    ///
    /// # Errors
    /// When the pull Secret can't be read from the API server.
    pub(super) async fn look(
        &self,
        cluster: &Cluster,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<RegistryView, ReadError> {
        let release = &observed.release;
        let keeps = release.spec.hold.as_ref().is_some_and(|hold| hold.digest.is_none());
        if release.spec.suspend || keeps || release.metadata.deletion_timestamp.is_some() {
            return Ok(RegistryView::Unasked);
        }
        let (Ok(policy), Ok(repository)) = (effective_policy(observed), policy::repository(&release.spec.image)) else {
            return Ok(RegistryView::Unasked);
        };
        let access = match access(cluster, release, &repository).await? {
            Ok(access) => access,
            Err(problem) => return Ok(RegistryView::Failed(problem)),
        };
        let ask = Ask { releases: self, observed, repository, access, max_age: max_age(release), now };
        Ok(ask.view(&policy).await)
    }

    fn remembered(&self, question: &Question) -> Option<Answer> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(question).cloned()
    }

    fn remember(&self, question: Question, answer: Answer) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(question, answer);
    }
}

/// How old an answer may be: none at all, when a reconcile was asked for and not answered yet.
fn max_age(release: &TimeTrackerRelease) -> Duration {
    let asked = release.annotations().get(REQUESTED_AT_ANNOTATION);
    let answered = release.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_ref());
    if asked.is_some() && asked != answered {
        return Duration::ZERO;
    }
    release.spec.image.interval.as_ref().map_or(DEFAULT_INTERVAL, |interval| interval.length())
}

async fn access(
    cluster: &Cluster,
    release: &TimeTrackerRelease,
    repository: &Repository,
) -> Result<Result<Access, RegistryProblem>, ReadError> {
    let Some(reference) = &release.spec.image.pull_secret_ref else {
        return Ok(Ok(Access::anonymous()));
    };
    let namespace = release.namespace().unwrap_or_default();
    let secret: Option<Secret> = cluster.get(&namespace, &reference.name).await?;
    let problem = |reason, message: String| RegistryProblem { reason, message, transient: false };
    let Some(secret) = secret else {
        return Ok(Err(problem("PullSecretMissing", format!("Secret {} does not exist: create it", reference.name))));
    };
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(DOCKER_CONFIG_KEY)) else {
        let message = format!("Secret {} lacks the key {DOCKER_CONFIG_KEY}", reference.name);
        return Ok(Err(problem("PullSecretInvalid", message)));
    };
    let key =
        CredentialKey::of_secret(&secret.uid().unwrap_or_default(), &secret.resource_version().unwrap_or_default());
    Ok(match Credentials::from_docker_config(&bytes.0, repository) {
        Ok(credentials) => Ok(Access::with(credentials, key)),
        Err(error) => Err(problem(error.reason(), format!("Secret {}: {error}", reference.name))),
    })
}

/// The failure in words for the release, with the Secret that it concerns.
fn told(error: &RegistryError, release: &TimeTrackerRelease, repository: &Repository) -> RegistryProblem {
    let concerns_secret = match error {
        RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. } | RegistryError::NotFound { .. } => true,
        RegistryError::Unreachable { .. }
        | RegistryError::RateLimited { .. }
        | RegistryError::InvalidResponse { .. }
        | RegistryError::TooLarge { .. }
        | RegistryError::Incomplete { .. }
        | RegistryError::DigestMismatch { .. }
        | RegistryError::NoSuchPlatform { .. }
        | RegistryError::RefusedAddress { .. }
        | RegistryError::WriteDenied { .. }
        | RegistryError::Unsupported { .. } => false,
    };
    let host = repository.host();
    let secret = match &release.spec.image.pull_secret_ref {
        Some(reference) => format!(": Secret {}, its entry for {host}", reference.name),
        None => format!(
            ": spec.image.pullSecretRef names none; should {host} ask for one, make a Secret of type kubernetes.io/dockerconfigjson and name it there"
        ),
    };
    let message = if concerns_secret { format!("{error}{secret}") } else { error.to_string() };
    RegistryProblem { reason: error.reason(), message, transient: error.is_transient() }
}

struct Ask<'a> {
    releases: &'a Releases,
    observed: &'a Observed,
    repository: Repository,
    access: Access,
    max_age: Duration,
    now: Timestamp,
}

impl Ask<'_> {
    async fn view(&self, policy: &Policy) -> RegistryView {
        let mut seen = RegistrySeen::default();
        match policy {
            Policy::Digest(digest) => {
                seen.digest = Some(self.resolve(Name::Digest(digest.clone()), self.now, false).await);
            }
            Policy::Tag(tag) => {
                let found = self.resolve(Name::Tag(tag.clone()), self.now, false).await;
                seen.images.insert(tag.clone(), found);
            }
            Policy::Version(_) | Policy::Range(_) | Policy::Development => {
                let scan = match self.releases.scanner.scan(&self.repository, &self.access, self.max_age).await {
                    Ok(scan) => scan,
                    Err(error) => return RegistryView::Failed(told(&error, &self.observed.release, &self.repository)),
                };
                seen.gap = scan.list.require_complete(&self.repository).err().map(|error| error.to_string());
                seen.tags.clone_from(&scan.list.tags);
                if seen.gap.is_none() {
                    self.walk(policy, &mut seen, scan.taken).await;
                }
            }
        }
        // A failure of the one image asked for is a failure of the registry, unless it is the image's own.
        match seen.digest.iter().chain(seen.images.values()).find_map(|found| found.as_ref().err()) {
            Some(problem) if problem.transient => RegistryView::Failed(problem.clone()),
            Some(_) | None => RegistryView::Seen(seen),
        }
    }

    /// Resolves tags from the newest on, until one may be taken or what runs is reached.
    async fn walk(&self, policy: &Policy, seen: &mut RegistrySeen, taken: Timestamp) {
        let running = self.observed.current().and_then(|current| any_rank(current.data.target.tag.as_ref()?));
        for (rank, tag) in policy.walk(&seen.tags) {
            if self.is_behind(&rank, running.as_ref()) {
                return;
            }
            let found = self.resolve(Name::Tag(tag.clone()), taken, true).await;
            let goes_on = match &found {
                Ok(digest) => self.observed.is_quarantined(digest),
                Err(problem) => !problem.transient,
            };
            seen.images.insert(tag, found);
            if !goes_on || running.as_ref() == Some(&rank) {
                return;
            }
        }
    }

    fn is_behind(&self, rank: &Rank, running: Option<&Rank>) -> bool {
        let may_go_down = self.observed.release.spec.image.allow_downgrade;
        !may_go_down && running.is_some_and(|running| is_older(rank, running) == Some(true))
    }

    async fn resolve(&self, name: Name, at: Timestamp, by_scan: bool) -> Result<Digest, RegistryProblem> {
        let question =
            Question { repository: self.repository.clone(), access: self.access.key.clone(), name: name.clone() };
        if let Some(known) = self.releases.remembered(&question).filter(|known| self.is_fresh(known, at, by_scan)) {
            return known.found;
        }
        let registry = self.releases.scanner.registry();
        let found: Result<ResolvedImage, RegistryError> = match &name {
            Name::Tag(tag) => registry.resolve(&self.repository, tag, &self.access, &self.releases.platform).await,
            Name::Digest(digest) => {
                registry.resolve_digest(&self.repository, digest, &self.access, &self.releases.platform).await
            }
        };
        let found =
            found.map(|image| image.digest).map_err(|error| told(&error, &self.observed.release, &self.repository));
        let at = if found.is_ok() { at } else { self.now };
        self.releases.remember(question, Answer { at, found: found.clone() });
        found
    }

    fn is_fresh(&self, known: &Answer, at: Timestamp, by_scan: bool) -> bool {
        let age = Duration::try_from(self.now.duration_since(known.at)).unwrap_or(Duration::MAX);
        match &known.found {
            Err(_) => age < FAILURE_LIFETIME,
            Ok(_) if by_scan => known.at >= at,
            Ok(_) => age < self.max_age,
        }
    }
}
