//! A witness between the upgrade and the server: it sees every statement as it goes over the wire, and reads the locks
//! that it took before the client goes on. What is measured so is exact where a statement runs in a transaction;
//! outside of one, locks are gone with the statement, and are only sampled while it runs.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::super::connection::Session;
use super::recorder::{Connection, Record, TablesBefore};
use super::wire::{self, drop_rest, next, opening, pass_on};
use crate::agent::process::Shared;

/// How often the locks of a running statement are looked at.
const SAMPLE: Duration = Duration::from_millis(50);
/// The most connections at once.
const MAX_CONNECTIONS: usize = 32;

/// What all connections share.
pub(super) struct Witness {
    /// Where the server is.
    pub(super) host: String,
    pub(super) port: u16,
    /// Our own session, which reads the locks of the others.
    pub(super) session: Arc<Session>,
    pub(super) tables: TablesBefore,
    pub(super) record: Shared<Record>,
}

/// Listens on the loopback device. Dropped, it closes every connection.
pub(super) struct Proxy {
    /// The port that it listens on.
    pub(super) port: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts listening.
    pub(super) async fn start(witness: Witness) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::new(witness), stopped));
        Ok(Self { port, stop, task })
    }

    /// Closes every connection and waits until what they did is recorded.
    pub(super) async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, witness: Arc<Witness>, mut stopped: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let accept = async || {
        let permit = Arc::clone(&room).acquire_owned().await.ok()?;
        let (client, _) = listener.accept().await.ok()?;
        Some((permit, client))
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            _ = &mut stopped => None,
        };
        let Some((permit, client)) = accepted else { break };
        let witness = Arc::clone(&witness);
        connections.spawn(async move {
            let _ = watch(client, &witness).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    connections.shutdown().await;
}

/// Records a connection's end also when its task is aborted.
struct Watched<'a> {
    connection: Shared<Connection>,
    witness: &'a Witness,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let (mut connection, mut record) = (self.connection.lock(), self.witness.record.lock());
        connection.closed(&self.witness.tables, &mut record, Instant::now());
    }
}

async fn watch(mut client: TcpStream, witness: &Witness) -> io::Result<()> {
    client.set_nodelay(true)?;
    let first = opening(&mut client).await?;
    let mut server = TcpStream::connect((witness.host.as_str(), witness.port)).await?;
    server.set_nodelay(true)?;
    server.write_all(&first).await?;
    let watched = Watched { connection: Shared::default(), witness };
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    tokio::select! {
        ended = watched.questions(BufReader::new(client_reads), server_writes) => ended,
        ended = watched.answers(BufReader::new(server_reads), client_writes) => ended,
        () = watched.samples() => Ok(()),
    }
}

impl Watched<'_> {
    async fn questions(
        &self,
        mut reader: BufReader<tokio::net::tcp::ReadHalf<'_>>,
        mut writer: tokio::net::tcp::WriteHalf<'_>,
    ) -> io::Result<()> {
        while let Some(message) = next(&mut reader).await? {
            self.connection.lock().sent(&message, Instant::now());
            pass_on(&message, &mut reader, &mut writer).await?;
        }
        Ok(())
    }

    async fn answers(
        &self,
        mut reader: BufReader<tokio::net::tcp::ReadHalf<'_>>,
        mut writer: tokio::net::tcp::WriteHalf<'_>,
    ) -> io::Result<()> {
        while let Some(message) = next(&mut reader).await? {
            let is_ours = self.connection.lock().received(&message, &self.witness.tables, Instant::now());
            if is_ours {
                drop_rest(&message, &mut reader).await?;
                continue;
            }
            if message.kind == b'Z' {
                self.ready(&message).await;
            }
            pass_on(&message, &mut reader, &mut writer).await?;
        }
        Ok(())
    }

    /// Before the client learns that it may go on: what the statement left locked.
    async fn ready(&self, message: &wire::Message) {
        let now = Instant::now();
        let in_transaction = message.kept.first().is_some_and(|status| *status != b'I');
        self.connection.lock().ready(now);
        if in_transaction {
            self.look().await;
        }
        let (mut connection, mut record) = (self.connection.lock(), self.witness.record.lock());
        connection.settle(in_transaction, &self.witness.tables, &mut record, now);
    }

    async fn samples(&self) {
        loop {
            sleep(SAMPLE).await;
            let since = self.connection.lock().under_way_since();
            if since.is_some() {
                self.look().await;
            }
        }
    }

    async fn look(&self) {
        let Some(pid) = self.connection.lock().pid else { return };
        let Ok(locks) = locks(&self.witness.session, pid).await else { return };
        self.connection.lock().holds(&locks, &self.witness.tables, Instant::now());
    }
}

const LOCKS: &str = "
    select relation, mode from pg_locks
    where pid = $1 and locktype = 'relation' and granted
      and database = (select oid from pg_database where datname = current_database())
    limit 5000";

async fn locks(session: &Session, pid: i32) -> Result<Vec<(u32, String)>, tokio_postgres::Error> {
    let rows = session.client.query(LOCKS, &[&pid]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
