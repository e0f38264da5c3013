//! The chain: every part is tried where the ones before it allow it, and its end is evidence.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::DatabaseError;
use super::super::connection::Session;
use super::super::url::DatabaseUrl;
use super::arguments::Check;
use super::changes::Compared;
use super::commands::{CommandError, Commands};
use super::files;
use super::interrupted;
use super::lint::lint;
use super::proxy::{Proxy, Witness};
use super::recorder::{Record, milliseconds};
use super::rewrites;
use super::rows;
use super::structure::{self, Identities, Renamed};
use crate::agent::contract;
use crate::agent::message::Secrets;
use crate::agent::process::{Shared, Terminate};
use crate::api::names::{Revision, Revisions};
use crate::schema::SchemaContract;
use crate::schema::check::{Attempt, Changes, Evidence, MigrationFiles, Rows, Schema, Start, Statements, start_of};

/// How long the code of a tree may take to tell about itself.
const TELLING: Duration = Duration::from_secs(120);

/// A part that did not go through: as evidence, or as the end of everything.
type Part<T> = Result<T, CommandError>;

/// One check.
pub(super) struct Chain<'a> {
    arguments: &'a Check,
    commands: Commands<'a>,
    secrets: &'a Secrets,
    url: DatabaseUrl,
    session: Arc<Session>,
    server_version: String,
}

/// What the upgrade gave.
struct Upgraded {
    schema: Attempt<Schema>,
    identities: Identities,
    statements: Statements,
}

impl<'a> Chain<'a> {
    pub(super) fn new(
        arguments: &'a Check,
        url: DatabaseUrl,
        session: Session,
        server_version: String,
        secrets: &'a Secrets,
    ) -> Result<Self, DatabaseError> {
        let commands = Commands::new(arguments, secrets)
            .map_err(|error| DatabaseError::configuration(format!("the log can't be kept: {error}")))?;
        Ok(Self { arguments, commands, secrets, url, session: Arc::new(session), server_version })
    }

    pub(super) async fn run(&self, terminate: &mut Terminate) -> Result<Evidence, DatabaseError> {
        match self.evidence(terminate).await {
            Ok(evidence) => Ok(evidence),
            Err(()) => Err(interrupted()),
        }
    }

    /// `Err`: told to stop.
    async fn evidence(&self, terminate: &mut Terminate) -> Result<Evidence, ()> {
        let base = self.arguments.base();
        let head = self.arguments.workspace.as_path();
        let changes = timed(async { self.changes(base) }).await?;
        let files = timed(self.files(head, terminate)).await?;
        let base_files = match base {
            Some(base) => timed(self.files(base, terminate)).await?,
            None => no_base(),
        };
        let new_code = timed(self.code(head, terminate)).await?;
        let old_code = match base {
            Some(base) => timed(self.code(base, terminate)).await?,
            None => no_base(),
        };
        let mut evidence = Evidence {
            server_version: self.server_version.clone(),
            lock_limit_milliseconds: milliseconds(self.arguments.lock_limit),
            own_packages: self.arguments.own_packages,
            changes,
            files,
            start: Attempt::not_run(""),
            rows: Attempt::not_run(""),
            upgrade: Attempt::not_run(""),
            downgrade: Attempt::not_run(""),
            upgrade_again: Attempt::not_run(""),
            renamed: BTreeMap::new(),
            renamed_tables: BTreeMap::new(),
            statements: Statements::default(),
            lint: Attempt::not_run(""),
            old_code,
            new_code,
        };
        let why = match evidence.files.value() {
            None => "the migration files can't be read",
            Some(files) if files.revisions.is_empty() => "there are no migrations",
            Some(files) if files.heads.len() > 1 => "there are several heads",
            Some(files) => {
                let start = start_of(base_files.value(), files);
                self.database_part(&mut evidence, &start, terminate).await?;
                return Ok(evidence);
            }
        };
        for attempt in
            [&mut evidence.start, &mut evidence.upgrade, &mut evidence.downgrade, &mut evidence.upgrade_again]
        {
            *attempt = Attempt::not_run(why);
        }
        evidence.rows = Attempt::not_run(why);
        evidence.lint = Attempt::not_run(why);
        Ok(evidence)
    }

    async fn database_part(&self, evidence: &mut Evidence, start: &Start, terminate: &mut Terminate) -> Result<(), ()> {
        let (before, identities) = self.base_schema(start, terminate).await?;
        evidence.start = before;
        evidence.rows = match evidence.start.value() {
            None => Attempt::not_run("there is no schema to fill"),
            Some(schema) if schema.snapshot.tables.is_empty() => Attempt::not_run("the schema before has no tables"),
            Some(_) => timed(self.fill()).await?,
        };
        let upgraded = self.upgrade(&identities, evidence.rows.value(), terminate).await?;
        evidence.upgrade = upgraded.schema;
        evidence.statements = upgraded.statements;
        let Renamed { tables, columns } = identities.renamed(&upgraded.identities);
        (evidence.renamed_tables, evidence.renamed) = (tables, columns);
        evidence.downgrade = match (evidence.start.value(), evidence.upgrade.value()) {
            (Some(_), Some(_)) => timed(self.downgrade(&start.revisions, terminate)).await?,
            (None, Some(_)) => Attempt::not_run("there is no schema to go back to"),
            (_, None) => Attempt::not_run("the upgrade did not go through"),
        };
        evidence.upgrade_again = match evidence.downgrade.value() {
            Some(_) => timed(self.upgrade_again(terminate)).await?,
            None => Attempt::not_run("there was no downgrade"),
        };
        evidence.lint = lint(&self.arguments.squawk, &evidence.statements, terminate).await;
        Ok(())
    }

    fn changes(&self, base: Option<&Path>) -> Part<Changes> {
        let Some(base) = base else {
            return failed("the base commit is not known");
        };
        let compared = Compared {
            base,
            head: &self.arguments.workspace,
            models: &self.arguments.models,
            migrations: &self.arguments.migrations,
        };
        compared.changes().or_else(|error| failed(format!("the trees can't be compared: {error}")))
    }

    async fn files(&self, tree: &Path, terminate: &mut Terminate) -> Part<MigrationFiles> {
        let environment = self.commands.environment(&self.url);
        let timeout = self.commands.left().min(TELLING);
        let (python, folder) = (&self.arguments.python, &self.arguments.migrations);
        match files::read(python, tree, folder, environment, timeout, terminate).await {
            Ok(files) => Ok(files),
            Err(files::FilesError::Terminated) => Err(CommandError::Interrupted),
            Err(error) => failed(self.secrets.message(&error.to_string())),
        }
    }

    async fn code(&self, tree: &Path, terminate: &mut Terminate) -> Part<SchemaContract> {
        let interpreter = vec![self.arguments.python.clone(), "-".into()];
        let timeout = self.commands.left().min(TELLING);
        let mut output = String::new();
        match contract::dump(interpreter, Some(tree.to_owned()), timeout, terminate, &mut output).await {
            Ok(contract) => Ok(contract),
            Err(contract::ContractError::Terminated) => Err(CommandError::Interrupted),
            Err(error) => failed(self.secrets.message_with_output(&error.to_string(), &output)),
        }
    }

    async fn base_schema(&self, start: &Start, terminate: &mut Terminate) -> Result<(Attempt<Schema>, Identities), ()> {
        let mut identities = Identities::default();
        let made = timed(async {
            let tree = match self.arguments.base() {
                Some(base) if start.by_base => base,
                Some(_) | None => self.arguments.workspace.as_path(),
            };
            for revision in start.revisions.iter() {
                self.commands.flask(tree, &self.url, "upgrade", revision.as_str(), &self.session, terminate).await?;
            }
            let (schema, found) = self.look().await?;
            if schema.snapshot.revisions != start.revisions {
                let reached = &schema.snapshot.revisions;
                return failed(format!(
                    "the base commit's migrations lead to {reached} instead of {}",
                    start.revisions
                ));
            }
            identities = found;
            Ok(schema)
        })
        .await?;
        if made.value().is_some() {
            return Ok((made, identities));
        }
        // The upgrade is tried from nothing: whether this commit's migrations work does not depend on the base's.
        let statement = "drop schema if exists public cascade; create schema public";
        let _ = self.session.client.batch_execute(statement).await;
        Ok((made, Identities::default()))
    }

    async fn fill(&self) -> Part<Rows> {
        rows::fill(&self.session).await.or_else(|error| failed(format!("no rows could be made: {}", error.message)))
    }

    async fn upgrade(
        &self,
        before: &Identities,
        rows: Option<&Rows>,
        terminate: &mut Terminate,
    ) -> Result<Upgraded, ()> {
        let unknown = rewrites::watch(&self.session).await.err();
        let record: Shared<Record> = Shared::default();
        let mut identities = Identities::default();
        let schema = timed(async {
            let proxy = Proxy::start(Witness {
                host: self.url.host.clone(),
                port: self.url.port,
                session: Arc::clone(&self.session),
                tables: before.with_rows(rows),
                record: record.clone(),
            });
            let proxy = proxy.await.or_else(|error| failed(format!("nobody can listen on 127.0.0.1: {error}")))?;
            let url = match self.url.at("127.0.0.1", proxy.port) {
                Ok(url) => url,
                Err(error) => return failed(error.to_string()),
            };
            let head = &self.arguments.workspace;
            let ended = self.commands.flask(head, &url, "upgrade", "heads", &self.session, terminate).await;
            proxy.stop().await;
            ended?;
            rewrites::end_watch(&self.session).await;
            let (schema, found) = self.look().await?;
            identities = found;
            Ok(schema)
        })
        .await?;
        rewrites::end_watch(&self.session).await;
        let statements = record.lock().statements(unknown);
        Ok(Upgraded { schema, identities, statements })
    }

    /// Down to these revisions. A merge may need several steps, of which each takes one branch down.
    async fn downgrade(&self, to: &Revisions, terminate: &mut Terminate) -> Part<Schema> {
        let head = &self.arguments.workspace;
        let mut targets: Vec<&str> = to.iter().map(Revision::as_str).collect();
        if targets.is_empty() {
            targets.push("base");
        }
        for target in targets {
            self.commands.flask(head, &self.url, "downgrade", target, &self.session, terminate).await?;
            let (schema, _) = self.look().await?;
            if schema.snapshot.revisions == *to {
                return Ok(schema);
            }
        }
        Ok(self.look().await?.0)
    }

    async fn upgrade_again(&self, terminate: &mut Terminate) -> Part<Schema> {
        let head = &self.arguments.workspace;
        self.commands.flask(head, &self.url, "upgrade", "heads", &self.session, terminate).await?;
        Ok(self.look().await?.0)
    }

    async fn look(&self) -> Part<(Schema, Identities)> {
        let read = structure::read(&self.session).await;
        read.or_else(|error| {
            failed(self.secrets.message(&format!("the schema can't be read afterwards: {}", error.message)))
        })
    }
}

fn failed<T>(cause: impl Into<String>) -> Part<T> {
    Err(CommandError::Failed(cause.into()))
}

fn no_base<T>() -> Attempt<T> {
    Attempt::not_run("the base commit is not known")
}

/// A part with its time. `Err`: told to stop.
async fn timed<T>(part: impl Future<Output = Part<T>>) -> Result<Attempt<T>, ()> {
    let started = Instant::now();
    let ended = part.await;
    let milliseconds = milliseconds(started.elapsed());
    match ended {
        Ok(value) => Ok(Attempt::Done { milliseconds, value }),
        Err(CommandError::Failed(cause)) => Ok(Attempt::Failed { milliseconds, cause }),
        Err(CommandError::Interrupted) => Err(()),
    }
}
