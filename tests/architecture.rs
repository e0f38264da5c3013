//! The shape of the library: which module may use which, and what deciding code must not touch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library and the modules that it may use. A new module gets its line here first.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("plan", &[]),
    ("config", &["api"]),
    ("schema", &["api"]),
    ("workload", &["api", "config"]),
    // Images of environments are looked up and pushed by pods, which hold the credentials for it.
    ("agent", &["api", "schema", "registry"]),
    ("registry", &["api"]),
    ("github", &["api"]),
    ("artifacts", &["api", "agent"]),
    ("telemetry", &[]),
    ("http", &["cluster", "telemetry"]),
    ("cluster", &["api", "plan", "config", "telemetry"]),
    // Logs of pods without the agent are kept as the agent keeps those of all others.
    ("logs", &["api", "agent", "cluster"]),
    ("release", &["api", "plan", "schema", "workload", "config", "agent", "registry", "cluster", "telemetry"]),
    (
        "pipelines",
        &[
            "api",
            "plan",
            "schema",
            "workload",
            "config",
            "agent",
            "artifacts",
            "github",
            "cluster",
            "telemetry",
            "logs",
        ],
    ),
    // Not there yet; the line keeps its place.
    ("sources", &["api", "plan", "config", "github", "cluster", "telemetry"]),
    ("generate", &["api", "config"]),
    ("plugin", &["api"]),
    // Puts the parts together; nothing uses it.
    (
        "controller",
        &[
            "api",
            "plan",
            "config",
            "registry",
            "github",
            "artifacts",
            "telemetry",
            "http",
            "cluster",
            "logs",
            "release",
            "pipelines",
            "sources",
            "workload",
        ],
    ),
];

/// Modules that know outside systems or run in foreign pods, and nothing of custom resources.
const WITHOUT_RESOURCES: &[&str] = &["agent", "registry", "github", "artifacts", "schema"];

/// The parts of `api` that are custom resources.
const RESOURCES: &[&str] = &["release", "pipeline", "job", "run", "source", "values", "pod", "steps", "conditions"];

/// What a decision never touches: it is given the time, the configuration and the world as arguments.
const FORBIDDEN: &[&str] = &[
    "async ",
    ".await",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "env::",
    "sleep(",
    "tokio::",
    "std::fs",
    "std::process",
    "std::net",
    "kube::Client",
    "thread::",
    "rand::",
];

struct Source {
    /// Below `src`.
    path: PathBuf,
    /// Without comments, strings' insides left, tests cut off.
    code: String,
}

impl Source {
    fn module(&self) -> String {
        let first = self.path.iter().next().unwrap().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Whether the file decides: pure, total, without a clock of its own. In a vertical that is all but what reads the
    /// world and what drives the reconcile.
    fn decides(&self) -> bool {
        let module = self.module();
        if ["release", "pipelines", "sources"].contains(&module.as_str()) {
            let second = self.path.iter().nth(1).and_then(|part| part.to_str()).unwrap_or_default();
            return !["mod.rs", "observe.rs", "observe", "reconcile.rs", "controller.rs"].contains(&second);
        }
        ["schema", "workload", "plan"].contains(&module.as_str())
    }

    /// Paths behind `crate::`, two names deep.
    fn uses(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for rest in self.code.split("crate::").skip(1) {
            let module = word(rest);
            let behind = rest[module.len()..].strip_prefix("::").unwrap_or_default();
            if let Some(list) = behind.strip_prefix('{') {
                let list = &list[..list.find(';').unwrap_or(list.len())];
                found.extend(list.split(',').map(|item| (module.clone(), word(item.trim()))));
            } else {
                found.insert((module, word(behind)));
            }
        }
        found
    }
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !["bin", "tests"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "lib.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("\n#[cfg(test)]\n#[allow").next().unwrap();
                let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
                let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), code: code.join("\n") });
            }
        }
    }
    assert!(found.len() > 10);
    found
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table", source.path.display()));
            continue;
        };
        for (used, _) in source.uses() {
            // Macros and items of the crate's root have no line of their own.
            let is_module = ALLOWED.iter().any(|(name, _)| *name == used);
            if is_module && used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {module} may not use {used}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    fn reaches(from: &str, to: &str) -> bool {
        let (_, uses) = ALLOWED.iter().find(|(name, _)| *name == from).unwrap();
        uses.iter().any(|used| *used == to || reaches(used, to))
    }
    for (module, _) in ALLOWED {
        assert!(!reaches(module, module), "{module} reaches itself");
    }
}

#[test]
fn outside_systems_and_the_agent_know_nothing_of_custom_resources() {
    for source in sources().iter().filter(|source| WITHOUT_RESOURCES.contains(&source.module().as_str())) {
        for (module, part) in source.uses() {
            let resource = module == "api" && RESOURCES.contains(&part.as_str());
            assert!(!resource, "{}: uses api::{part}", source.path.display());
        }
    }
}

#[test]
fn deciding_code_has_no_clock_no_environment_and_does_not_wait() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.decides()) {
        // A thread for its stack alone: what is parsed there depends on the text and on nothing else.
        let parses = source.path.ends_with("pipelines/expressions/parse.rs");
        for line in source.code.lines() {
            let forbidden = FORBIDDEN.iter().filter(|word| !(parses && **word == "thread::"));
            for word in forbidden.filter(|word| line.contains(**word)) {
                wrong.push(format!("{}: {word:?} in `{}`", source.path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
