//! Pick: which image is wanted, and whether it may be taken.

use crate::api::names::{Digest, Tag};
use crate::api::release::ReleaseStep;
use crate::release::gates::effective_policy;
use crate::release::manifests::{self, SiteParts};
use crate::release::observed::{Observed, RegistryProblem, RegistrySeen, RegistryView};
use crate::release::policy::{self, Policy, Rank, any_rank, display_version, is_older};
use crate::release::revision::{Revision, RevisionData, Target};
use crate::release::status::{Pending, Situation};

/// What the policy says to what the registry shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// What was delivered last stays, and why a newer one is not taken, if there is one.
    Keep(Option<Pending>),
    /// This image.
    Take(Target),
    /// It can't be said, or must not be done.
    Blocked(Situation),
}

/// Whether what was delivered last satisfies the specification as it is now.
#[must_use]
pub fn is_satisfied(observed: &Observed) -> bool {
    let Some(current) = observed.current() else {
        return false;
    };
    let stands = observed.active().is_some_and(|active| active.number == current.number) && !observed.is_stopped();
    stands && is_allowed(observed, &current.data.target) && is_rendered(observed, current)
}

/// Whether the specification still wants exactly this revision, though perhaps something newer as well.
#[must_use]
pub fn is_still_wanted(observed: &Observed, revision: &Revision) -> bool {
    is_allowed(observed, &revision.data.target) && is_rendered(observed, revision)
}

fn is_allowed(observed: &Observed, target: &Target) -> bool {
    let spec = &observed.release.spec;
    if spec.hold.as_ref().is_some_and(|hold| hold.digest.is_none()) {
        return observed.current().is_some_and(|current| current.data.target.digest == target.digest);
    }
    let Ok(policy) = effective_policy(observed) else {
        return false;
    };
    spec.image.repository_or_default() == target.repository.as_str()
        && policy.allows(target.tag.as_ref(), &target.digest)
}

fn is_rendered(observed: &Observed, revision: &Revision) -> bool {
    render(observed, &revision.data.target).is_ok_and(|data| data.content == revision.data.content)
}

/// What a revision of `target` would hold.
///
/// # Errors
/// A sentence, when the values or the manifests can't be used.
pub fn render(observed: &Observed, target: &Target) -> Result<RevisionData, String> {
    let values = observed.values.as_ref().map_err(ToString::to_string)?;
    let parts = SiteParts::of(observed);
    let manifests = manifests::application(&parts.site(&observed.release.spec), values, target)
        .map_err(|error| error.to_string())?;
    // Each manifest carries the hash of itself.
    let hashes = manifests.iter().filter_map(manifests::hash_of).collect::<Vec<_>>().join("\n");
    let content = Digest::of(format!("{}\n{hashes}", target.repository.at(&target.digest)).as_bytes());
    Ok(RevisionData { target: target.clone(), content, manifests })
}

/// Which image is wanted.
#[must_use]
pub fn choose(observed: &Observed) -> Choice {
    let hold = observed.release.spec.hold.as_ref();
    if let Some(hold) = hold.filter(|hold| hold.digest.is_none()) {
        return match observed.current() {
            Some(_) => Choice::Keep(None),
            None => Choice::Blocked(Situation::Held { message: hold.reason.clone() }),
        };
    }
    match effective_policy(observed) {
        Ok(policy) => match &observed.registry {
            RegistryView::Unasked => Choice::Keep(None),
            RegistryView::Failed(problem) => unreadable(observed, problem, None),
            RegistryView::Seen(seen) => choose_from(observed, &policy, seen),
        },
        Err(error) => {
            Choice::Blocked(Situation::Stalled { reason: "InvalidSpecification", message: error.to_string() })
        }
    }
}

fn choose_from(observed: &Observed, policy: &Policy, seen: &RegistrySeen) -> Choice {
    match policy {
        Policy::Digest(digest) => single(observed, seen.digest.as_ref(), digest.as_str(), None),
        Policy::Tag(tag) => single(observed, seen.images.get(tag), tag.as_str(), Some(tag)),
        Policy::Version(_) | Policy::Range(_) | Policy::Development => from_list(observed, policy, seen),
    }
}

/// The revision delivered last, when the policy wants what it holds.
fn kept(observed: &Observed) -> Option<&Revision> {
    observed.current().filter(|current| is_allowed(observed, &current.data.target))
}

/// What runs stays whatever the registry says; without it one must wait.
fn unreadable(observed: &Observed, problem: &RegistryProblem, pending: Option<Pending>) -> Choice {
    if kept(observed).is_some() {
        return Choice::Keep(pending);
    }
    let (reason, message) = (problem.reason, problem.message.clone());
    Choice::Blocked(if problem.transient {
        Situation::Waiting { step: ReleaseStep::Pick, reason, message }
    } else {
        Situation::NeedsPerson { reason, message }
    })
}

/// A policy that names one image.
fn single(
    observed: &Observed,
    found: Option<&Result<Digest, RegistryProblem>>,
    name: &str,
    tag: Option<&Tag>,
) -> Choice {
    let digest = match found {
        Some(Ok(digest)) => digest,
        Some(Err(problem)) => {
            let pending = Pending { reason: problem.reason, message: problem.message.clone() };
            return unreadable(observed, problem, Some(pending));
        }
        None => return Choice::Keep(None),
    };
    if kept(observed).is_some_and(|current| &current.data.target.digest == digest) {
        return Choice::Keep(None);
    }
    if let Some(situation) = quarantined(observed, digest, name) {
        return match kept(observed) {
            Some(_) => Choice::Keep(Some(situation)),
            None => Choice::Blocked(Situation::Stalled { reason: situation.reason, message: situation.message }),
        };
    }
    target(observed, tag, digest)
}

fn quarantined(observed: &Observed, digest: &Digest, name: &str) -> Option<Pending> {
    if !observed.is_quarantined(digest) {
        return None;
    }
    let failure = observed.newest_of(digest)?.progress.failure()?;
    let message = format!(
        "{name} failed and is not picked again: {}. Annotate with timetracker.dev/retry={digest} to try it again",
        failure.message
    );
    Some(Pending { reason: failure.reason.as_str(), message })
}

fn target(observed: &Observed, tag: Option<&Tag>, digest: &Digest) -> Choice {
    let repository = match policy::repository(&observed.release.spec.image) {
        Ok(repository) => repository,
        Err(error) => {
            return Choice::Blocked(Situation::Stalled { reason: "InvalidSpecification", message: error.to_string() });
        }
    };
    // A digest that was here before keeps its name.
    let known = observed.newest_of(digest).map(|revision| &revision.data.target).filter(|_| tag.is_none());
    Choice::Take(match known {
        Some(known) => Target { repository, ..known.clone() },
        None => Target { repository, digest: digest.clone(), tag: tag.cloned(), version: display_version(tag, digest) },
    })
}

/// A policy that picks the newest of a list.
fn from_list(observed: &Observed, policy: &Policy, seen: &RegistrySeen) -> Choice {
    let hold_because = |reason, message: String| match kept(observed) {
        Some(_) => Choice::Keep(Some(Pending { reason, message })),
        None => Choice::Blocked(Situation::Waiting { step: ReleaseStep::Pick, reason, message }),
    };
    if let Some(gap) = &seen.gap {
        return hold_because("TagListIncomplete", gap.clone());
    }
    if let Some(gone) = vanished(observed, policy, seen) {
        return hold_because(
            "TagListShrank",
            format!(
                "tag {gone} that runs is no longer in the registry's list: nothing is picked from such a list. Push it again, or set spec.image.digest"
            ),
        );
    }
    let repository = observed.release.spec.image.repository_or_default();
    let mut skipped: Option<Pending> = None;
    for (rank, tag) in policy.walk(&seen.tags) {
        match weigh(observed, &rank, &tag, seen.images.get(&tag)) {
            Weighed::Choice(choice) => return with_skipped(choice, skipped),
            Weighed::Skip(why) => {
                skipped.get_or_insert(why);
            }
        }
    }
    if kept(observed).is_some() {
        return Choice::Keep(skipped);
    }
    match skipped {
        Some(why) => Choice::Blocked(Situation::Stalled { reason: why.reason, message: why.message }),
        None => Choice::Blocked(Situation::NeedsPerson {
            reason: "NoMatchingTag",
            message: format!(
                "none of the {} tags of {repository} fits spec.image: check the policy, or push such a tag",
                seen.tags.len()
            ),
        }),
    }
}

/// Why the newest was not taken is told with what is taken instead.
fn with_skipped(choice: Choice, skipped: Option<Pending>) -> Choice {
    match choice {
        Choice::Keep(own) => Choice::Keep(own.or(skipped)),
        Choice::Take(_) | Choice::Blocked(_) => choice,
    }
}

/// The tag that runs, when a complete list no longer has it.
fn vanished<'a>(observed: &'a Observed, policy: &Policy, seen: &RegistrySeen) -> Option<&'a Tag> {
    // Development builds are cleaned away as a matter of course.
    if matches!(policy, Policy::Development) {
        return None;
    }
    let tag = kept(observed)?.data.target.tag.as_ref()?;
    (!seen.tags.contains(tag)).then_some(tag)
}

enum Weighed {
    Choice(Choice),
    Skip(Pending),
}

/// One tag of the walk against what runs.
fn weigh(observed: &Observed, rank: &Rank, tag: &Tag, image: Option<&Result<Digest, RegistryProblem>>) -> Weighed {
    let current = observed.current().map(|revision| &revision.data.target);
    let running = current.and_then(|target| Some((target, any_rank(target.tag.as_ref()?)?)));
    if let Some((target, running)) = &running
        && is_older(rank, running) == Some(true)
        && !observed.release.spec.image.allow_downgrade
    {
        return Weighed::Choice(match kept(observed) {
            Some(_) => Choice::Keep(None),
            None => Choice::Blocked(Situation::NeedsPerson {
                reason: "DowngradeNotAllowed",
                message: format!(
                    "{tag} is older than {}, which runs: set spec.image.allowDowngrade to go back to it",
                    target.version
                ),
            }),
        });
    }
    let digest = match image {
        // What runs is the newest there is to know about: nothing was resolved behind it.
        None => return Weighed::Choice(Choice::Keep(None)),
        Some(Err(problem)) if problem.transient => {
            let pending = Pending { reason: problem.reason, message: problem.message.clone() };
            return Weighed::Choice(unreadable(observed, problem, Some(pending)));
        }
        Some(Err(problem)) => {
            return Weighed::Skip(Pending { reason: problem.reason, message: problem.message.clone() });
        }
        Some(Ok(digest)) => digest,
    };
    if let Some(runs) = current.filter(|_| kept(observed).is_some()) {
        if &runs.digest == digest {
            return Weighed::Choice(Choice::Keep(None));
        }
        if runs.tag.as_ref() == Some(tag) {
            return Weighed::Choice(Choice::Keep(Some(Pending {
                reason: "TagMoved",
                message: format!(
                    "tag {tag} now stands for {digest}, and {} was delivered by it: a version never changes. Publish a new version, or set spec.image.digest",
                    runs.digest
                ),
            })));
        }
        if running.as_ref().is_some_and(|(_, running)| running == rank) {
            // The same version under its other spelling.
            return Weighed::Choice(Choice::Keep(None));
        }
    }
    match quarantined(observed, digest, tag.as_str()) {
        Some(why) => Weighed::Skip(why),
        None => Weighed::Choice(target(observed, Some(tag), digest)),
    }
}
