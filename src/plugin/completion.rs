//! Completion: scripts for shells, and candidates for kubectl's own completion of plugins.

use std::io::{self, Write};
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use tokio::time::timeout;

use super::error::PluginError;
use super::text::is_hazard;
use super::{Context, Ending, PluginArguments, Selection};

/// How long a person who pressed tab waits for names.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_NAMES: u32 = 200;
/// cobra's directive: no names of files.
const NO_FILES: &str = ":4";
/// cobra's directive: the shell's own completion, of files.
const FILES: &str = ":0";

/// Arguments of `completion`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CompletionArguments {
    /// The shell.
    shell: Shell,
}

/// Arguments of what kubectl calls for candidates.
#[derive(Debug, Clone, clap::Args)]
pub struct CandidateArguments {
    /// The words after `kubectl timetracker`; the last one is being typed.
    #[arg(last = true)]
    words: Vec<String>,
}

/// Prints the script.
pub(super) fn completion(arguments: CompletionArguments) -> Result<Ending, PluginError> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut PluginArguments::command(), "kubectl-timetracker", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Ending::Success)
}

/// What can stand at the place of the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of these words; they are in the other field.
    Words,
    /// A file or directory.
    File,
    Pipeline,
    Run,
    Release,
    ReleaseOrRun,
    Nothing,
}

/// The candidates for the last word.
#[derive(Debug, PartialEq, Eq)]
struct Candidates {
    place: Place,
    /// Each with what it is.
    words: Vec<(String, String)>,
}

/// Prints candidates as kubectl reads them: one a line with a description after a tab, a directive at the end.
pub(super) async fn candidates(arguments: &CandidateArguments) -> Result<Ending, PluginError> {
    let (typed, before) = arguments.words.split_last().map_or(("", [].as_slice()), |(last, rest)| (last, rest));
    let command = PluginArguments::command();
    let Candidates { place, mut words } = at(&command, before, typed);
    let names = timeout(PATIENCE, names(place, before)).await.unwrap_or_default();
    words.extend(names.into_iter().map(|name| (name, String::new())));
    let mut out = String::new();
    for (word, what) in words.iter().filter(|(word, _)| word.starts_with(typed) && !word.chars().any(is_hazard)) {
        out.push_str(word);
        if !what.is_empty() {
            out.push('\t');
            out.push_str(what);
        }
        out.push('\n');
    }
    out.push_str(if place == Place::File { FILES } else { NO_FILES });
    out.push('\n');
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(Ending::Success)
}

/// What can stand after these words.
fn at(root: &Command, before: &[String], typed: &str) -> Candidates {
    let mut command = root;
    let mut position = 0_usize;
    let mut open: Option<&Arg> = None;
    for word in before {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            open = option(root, command, word).filter(|option| takes_value(option) && !word.contains('='));
        } else if let Some(inner) = command.find_subcommand(word) {
            command = inner;
        } else {
            position += 1;
        }
    }
    if let Some(option) = open {
        let words = words_of(&option.get_possible_values());
        let place = match (option.get_id().as_str(), words.is_empty()) {
            ("download", _) => Place::File,
            (_, false) => Place::Words,
            (_, true) => Place::Nothing,
        };
        return Candidates { place, words };
    }
    if typed.starts_with('-') {
        let own = command.get_arguments().chain(root.get_arguments().filter(|option| option.is_global_set()));
        let longs = own.filter(|option| !option.is_hide_set());
        let words =
            longs.filter_map(|option| Some((format!("--{}", option.get_long()?), first_line(option.get_help()))));
        return Candidates { place: Place::Words, words: words.collect() };
    }
    let inner: Vec<_> = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
        .map(|inner| (inner.get_name().to_owned(), first_line(inner.get_about())))
        .collect();
    if !inner.is_empty() {
        return Candidates { place: Place::Words, words: inner };
    }
    let positional = command.get_positionals().nth(position);
    let values = positional.map(Arg::get_possible_values).unwrap_or_default();
    let place = match (command.get_name(), position) {
        _ if !values.is_empty() => Place::Words,
        ("run", 0) => Place::Pipeline,
        ("history", 0) => Place::Release,
        ("status", 0) => Place::ReleaseOrRun,
        ("logs" | "cancel" | "rerun" | "watch" | "artifacts", 0) => Place::Run,
        _ => Place::Nothing,
    };
    Candidates { place, words: words_of(&values) }
}

fn words_of(values: &[PossibleValue]) -> Vec<(String, String)> {
    values.iter().map(|value| (value.get_name().to_owned(), String::new())).collect()
}

fn first_line(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn option<'a>(root: &'a Command, command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    let fits = |option: &&Arg| {
        option.get_long() == Some(name) || option.get_short().is_some_and(|short| name.strip_prefix(short) == Some(""))
    };
    command.get_arguments().find(fits).or_else(|| root.get_arguments().find(fits))
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

/// The names in the cluster that fit there; none when it can't be asked.
async fn names(place: Place, before: &[String]) -> Vec<String> {
    if matches!(place, Place::Words | Place::File | Place::Nothing) {
        return Vec::new();
    }
    let after = |name: &str, short: &str| {
        let at = before.iter().position(|word| word == name || word == short)?;
        before.get(at + 1).cloned()
    };
    let selection =
        Selection { namespace: after("--namespace", "-n"), context: after("--context", ""), ..Selection::default() };
    let Ok(context) = Context::connect(selection).await else { return Vec::new() };
    match place {
        Place::Pipeline => listed(context.pipelines()).await,
        Place::Run => listed(context.runs()).await,
        Place::Release => listed(context.releases()).await,
        Place::ReleaseOrRun => [listed(context.releases()).await, listed(context.runs()).await].concat(),
        Place::Words | Place::File | Place::Nothing => Vec::new(),
    }
}

async fn listed<K>(api: Api<K>) -> Vec<String>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let some = ListParams::default().limit(MAX_NAMES);
    api.list_metadata(&some).await.map(|list| list.iter().map(ResourceExt::name_any).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], "", Place::Words, &["run", "status", "logs"])]
    #[case(&["run"], "", Place::Pipeline, &[])]
    #[case(&["-n", "ci", "run"], "", Place::Pipeline, &[])]
    #[case(&["run", "tests"], "", Place::Nothing, &[])]
    #[case(&["run"], "--b", Place::Words, &["--branch", "--namespace"])]
    #[case(&["run", "--progress"], "", Place::Words, &["auto", "tree", "plain"])]
    #[case(&["run", "--branch"], "", Place::Nothing, &[])]
    #[case(&["run", "--no-wait"], "", Place::Pipeline, &[])]
    #[case(&["artifacts", "run-1", "--download"], "", Place::File, &[])]
    #[case(&["logs", "-f"], "", Place::Run, &[])]
    #[case(&["status"], "", Place::ReleaseOrRun, &[])]
    #[case(&["completion"], "", Place::Words, &["bash", "fish", "zsh"])]
    fn the_words_before_say_what_can_come_next(
        #[case] before: &[&str],
        #[case] typed: &str,
        #[case] place: Place,
        #[case] some: &[&str],
    ) {
        let before: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        let found = at(&PluginArguments::command(), &before, typed);
        assert_eq!(found.place, place);
        for word in some {
            assert!(found.words.iter().any(|(own, _)| own == word), "{word}: {found:?}");
        }
        assert!(!found.words.iter().any(|(own, _)| own.starts_with("__")), "{found:?}");
    }

    #[test]
    fn the_command_line_has_no_contradictions() {
        PluginArguments::command().debug_assert();
    }
}
