//! Sessions with the database server.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::SslMode as ClientSslMode;
use tokio_postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow};

use super::DatabaseError;
use super::tls::MakeTls;
use super::url::{DatabaseUrl, RootCertificate, SslMode};
use crate::agent::report::DatabaseFailure;

/// The oldest server that has `client_connection_check_interval` and `idle_session_timeout`.
pub(super) const OLDEST_SERVER: u32 = 140_000;

/// One attempt to connect may take this long.
const ONE_ATTEMPT: Duration = Duration::from_secs(10);
/// The lock session says something this often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// An answer that takes longer means that the connection is dead.
const HEARTBEAT_ANSWER: Duration = Duration::from_secs(10);

/// A connected session.
pub(super) struct Session {
    pub(super) client: Client,
    gone: watch::Receiver<bool>,
}

/// The URL in the environment variable `DATABASE_URL`.
pub(super) fn url_from_environment() -> Result<DatabaseUrl, DatabaseError> {
    let text = std::env::var("DATABASE_URL")
        .ok()
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| DatabaseError::configuration("DATABASE_URL is not set: check the Secret it comes from"))?;
    let mut url: DatabaseUrl = text.parse().map_err(|error| DatabaseError::configuration(format!("{error}")))?;
    if url.root_certificate.is_none()
        && let Some(file) = std::env::var("PGSSLROOTCERT").ok().filter(|file| !file.is_empty())
    {
        url.root_certificate = Some(RootCertificate::from(file));
    }
    Ok(url)
}

impl Session {
    /// Connects; tries again for `wait` in all while the server can't be reached or is starting up.
    pub(super) async fn open(url: &DatabaseUrl, name: &str, wait: Duration) -> Result<Self, DatabaseError> {
        let deadline = Instant::now() + wait;
        let mut pause = Duration::from_millis(200);
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            let bound = ONE_ATTEMPT.min(remaining);
            let error = match timeout(bound, Self::open_once(url, name)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => error,
                Err(_) => DatabaseError::new(
                    DatabaseFailure::Unreachable,
                    format!("no answer from the database within {} s", bound.as_secs()),
                ),
            };
            if error.failure != DatabaseFailure::Unreachable || Instant::now() + pause >= deadline {
                return Err(DatabaseError { message: format!("{url}: {}", error.message), ..error });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn open_once(url: &DatabaseUrl, name: &str) -> Result<Self, DatabaseError> {
        let tls = MakeTls::new(url.ssl_mode, url.root_certificate.as_ref())
            .map_err(|error| DatabaseError::new(error.failure(), error.to_string()))?;
        let mut config = Config::new();
        config
            .host(&url.host)
            .port(url.port)
            .user(&url.user)
            .dbname(&url.database)
            .application_name(name)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20))
            .ssl_mode(match url.ssl_mode {
                SslMode::Disable => ClientSslMode::Disable,
                SslMode::Prefer => ClientSslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => ClientSslMode::Require,
            });
        if let Some(password) = &url.password {
            config.password(password.expose_secret());
        }
        let (client, connection) = config.connect(tls).await?;
        let (tell, gone) = watch::channel(false);
        tokio::spawn(async move {
            let _ = connection.await;
            let _ = tell.send(true);
        });
        Ok(Self { client, gone })
    }

    /// Resolves when the session is gone, or when the server stops answering it.
    pub(super) async fn lost(&self) {
        let mut gone = self.gone.clone();
        let heartbeats = async {
            loop {
                sleep(HEARTBEAT).await;
                if !matches!(timeout(HEARTBEAT_ANSWER, self.client.simple_query("")).await, Ok(Ok(_))) {
                    return;
                }
            }
        };
        tokio::select! {
            _ = gone.wait_for(|gone| *gone) => {}
            () = heartbeats => {}
        }
    }

    /// Whether the session is known to be gone.
    pub(super) fn is_lost(&self) -> bool {
        *self.gone.borrow() || self.client.is_closed()
    }

    /// The only row of a statement, by the simple protocol: it works through every pooler.
    pub(super) async fn one_row(&self, statement: &str) -> Result<SimpleQueryRow, DatabaseError> {
        for message in self.client.simple_query(statement).await? {
            if let SimpleQueryMessage::Row(row) = message {
                return Ok(row);
            }
        }
        Err(DatabaseError::new(DatabaseFailure::Unreachable, "the server gave no row to a statement that has one"))
    }

    /// The server's version as it prints it, for example `16.14`.
    ///
    /// # Errors
    /// When it is older than the oldest supported one.
    pub(super) async fn server_version(&self) -> Result<String, DatabaseError> {
        let row =
            self.one_row("select current_setting('server_version'), current_setting('server_version_num')").await?;
        let version = row.get(0).and_then(|text| text.split_whitespace().next()).unwrap_or_default().to_owned();
        let number: u32 = row.get(1).and_then(|text| text.parse().ok()).unwrap_or_default();
        if number < OLDEST_SERVER {
            return Err(DatabaseError::new(
                DatabaseFailure::UnsupportedServer,
                format!("the server is Postgres {version}; the oldest supported version is 14: upgrade the server"),
            ));
        }
        Ok(version)
    }
}
