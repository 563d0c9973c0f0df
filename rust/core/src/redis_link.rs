//! The road to a Redis server, shared by the broker and the result store: opening connections, a pool of blocking ones,
//! and what an error of the server means.
//!
//! Owns sockets and nothing that is said over them. Client code publishes and reads results from any thread, so it borrows
//! a blocking [`Lease`] from a [`Pool`]; no runtime is involved. The worker opens multiplexed connections
//! in its own runtime.
//!
//! A pooled connection that has rested for [`RESTED`] is asked for a sign of life before it is trusted, which costs one round trip
//! after a pause and saves the caller from the server's or a firewall's idle timeout. A forked process drops what it
//! inherited: two processes on one socket would read each other's replies.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, ServerErrorKind,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use crate::{
    broker::url::{Endpoint, RedisUrl, TlsFiles},
    clock,
    error::{Error, ErrorKind, Result},
};

/// How long a connection may rest before its next user checks it.
const RESTED: Duration = Duration::from_secs(5);
/// How many connections wait for their next user; more are closed after use.
const IDLE_MAX: usize = 16;
/// How long connecting may take where the caller has no deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How far a socket's timeout may be from the time that is left before it is set again: setting it is a system call.
const TIMEOUT_SLACK: Duration = Duration::from_millis(50);

/// A server: how to connect to it, and its name in errors.
pub(crate) struct Link {
    client: redis::Client,
    /// The same in the protocol that can push.
    push_client: redis::Client,
    url: Arc<str>,
}

impl Link {
    /// Prepares to connect; reads certificates, opens no socket.
    pub(crate) fn new(url: &RedisUrl, redacted: &str) -> Result<Self> {
        let settings = RedisConnectionInfo::default().set_db(url.db).set_skip_set_lib_name();
        let settings = match &url.username {
            Some(name) => settings.set_username(name),
            None => settings,
        };
        let settings = match &url.password {
            Some(password) => settings.set_password(password),
            None => settings,
        };
        let invalid = |e: RedisError| {
            Error::caused(ErrorKind::Config, format!("cannot use the URL `{redacted}`"), e)
        };
        let addr = match &url.endpoint {
            Endpoint::Tcp { host, port, tls: false } => ConnectionAddr::Tcp(host.clone(), *port),
            Endpoint::Tcp { host, port, tls: true } => {
                // Fails when the process has a provider already, which then serves as well.
                let _ = rustls::crypto::ring::default_provider().install_default();
                ConnectionAddr::TcpTls {
                    host: host.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                }
            }
            Endpoint::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let info = addr
            .into_connection_info()
            .map_err(invalid)?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = |settings: RedisConnectionInfo| {
            let info = info.clone().set_redis_settings(settings);
            if url.tls == TlsFiles::default() {
                redis::Client::open(info).map_err(invalid)
            } else {
                redis::Client::build_with_tls(info, certificates(&url.tls)?).map_err(invalid)
            }
        };
        let push_client = client(settings.clone().set_protocol(redis::ProtocolVersion::RESP3))?;
        Ok(Self { client: client(settings)?, push_client, url: redacted.into() })
    }

    /// The URL with its password hidden.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A blocking connection, opened before `deadline`.
    pub(crate) fn connect(&self, deadline: Instant) -> Result<redis::Connection> {
        self.open(&self.client, deadline)
    }

    /// A blocking connection, opened before `deadline`, on which the server may push.
    pub(crate) fn connect_push(&self, deadline: Instant) -> Result<redis::Connection> {
        self.open(&self.push_client, deadline)
    }

    fn open(&self, client: &redis::Client, deadline: Instant) -> Result<redis::Connection> {
        let left = self.time_left(deadline)?;
        client.get_connection_with_timeout(left).map_err(|e| self.error("connect", e))
    }

    /// A connection for many concurrent users inside the current runtime. A reply that takes longer than
    /// `patience` means that the link is dead.
    pub(crate) async fn multiplexed(&self, patience: Duration) -> Result<MultiplexedConnection> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(patience));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|e| self.error("connect", e))
    }

    /// What `error`, met while trying to `what`, means to callers.
    #[cold]
    pub(crate) fn error(&self, what: &str, error: RedisError) -> Error {
        let url = &self.url;
        let (kind, hint) = meaning(&error);
        let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
        Error::caused(kind, format!("cannot {what} at redis `{url}`{hint}"), error)
    }

    /// The time until `deadline`, or `Timeout`.
    pub(crate) fn time_left(&self, deadline: Instant) -> Result<Duration> {
        let left = deadline.saturating_duration_since(clock::instant());
        if left.is_zero() {
            let text = format!("redis at `{}` did not confirm before the deadline", self.url);
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        Ok(left)
    }
}

/// The kind of a server's or socket's error, and what to do about it.
fn meaning(error: &RedisError) -> (ErrorKind, &'static str) {
    use redis::ErrorKind as Redis;
    if error.is_timeout() {
        return (ErrorKind::Timeout, "");
    }
    match error.kind() {
        Redis::AuthenticationFailed => {
            (ErrorKind::Connection, "check the user name and password in the URL")
        }
        Redis::Io
        | Redis::ClusterConnectionNotFound
        | Redis::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::NoScript,
        ) => (ErrorKind::Connection, ""),
        Redis::Server(ServerErrorKind::ReadOnly) => {
            (ErrorKind::Connection, "this server is a replica; name its primary")
        }
        Redis::Server(ServerErrorKind::NoPerm) => {
            (ErrorKind::Connection, "the user of the URL lacks a permission")
        }
        _ => match error.code().unwrap_or_default() {
            "NOAUTH" | "WRONGPASS" => {
                (ErrorKind::Connection, "check the user name and password in the URL")
            }
            "FENCED" => (ErrorKind::Fenced, ""),
            "WRONGTYPE" => (
                ErrorKind::Storage,
                "another program uses a key of this name; choose another queue or database",
            ),
            "BUSY" => (ErrorKind::Connection, "a script of another program is blocking the server"),
            "ERR" if error.detail().is_some_and(|d| d.contains("max number of clients")) => {
                (ErrorKind::Connection, "raise `maxclients` of the server")
            }
            _ => (ErrorKind::Storage, ""),
        },
    }
}

fn certificates(files: &TlsFiles) -> Result<redis::TlsCertificates> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| {
            Error::caused(
                ErrorKind::Config,
                format!("cannot read the certificate `{}`", path.display()),
                e,
            )
        })
    };
    let client_tls = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            Some(redis::ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
        }
        _ => None,
    };
    let root_cert = files.ca.as_deref().map(read).transpose()?;
    Ok(redis::TlsCertificates { client_tls, root_cert })
}

/// A number that differs between a process and those forked from it. Not the process id, which costs a system call in the
/// middle of every publish.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(crate) fn generation() -> u32 {
    use std::sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    };
    static FORKS: AtomicU32 = AtomicU32::new(1);
    static REGISTER: Once = Once::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    REGISTER.call_once(|| {
        // SAFETY: the handler does nothing but add to an atomic, which is safe in a freshly forked process.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// Where no process is forked there is one generation.
#[cfg(not(unix))]
pub(crate) fn generation() -> u32 {
    1
}

/// Blocking connections between two uses.
pub(crate) struct Pool {
    link: Arc<Link>,
    /// Behind a std mutex because a section is one push or pop, from threads that have no runtime.
    idle: Mutex<Idle>,
}

struct Idle {
    /// The process whose connections these are, see [`generation`].
    of: u32,
    connections: Vec<Rested>,
}

struct Rested {
    lease: Lease,
    since: Instant,
}

/// A blocking connection in use by one thread.
pub(crate) struct Lease {
    /// The connection; a failed operation on it ends it.
    pub(crate) con: redis::Connection,
    /// What has been said over it once and need not be repeated. Written and read by the pool's user.
    pub(crate) said: HashSet<Arc<str>>,
    /// A buffer to pack a command in, kept for its memory.
    pub(crate) packed: Vec<u8>,
    timeout: Duration,
}

impl Pool {
    /// A pool that opens connections when they are asked for.
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link, idle: Mutex::new(Idle { of: generation(), connections: Vec::new() }) }
    }

    /// Runs `operation` on a connection, which goes back to the pool unless it failed. `what` completes "cannot ..." in errors.
    pub(crate) fn run<T>(
        &self,
        what: &str,
        deadline: Instant,
        operation: impl FnOnce(&mut Lease) -> redis::RedisResult<T>,
    ) -> Result<T> {
        let mut lease = self.take(deadline)?;
        let outcome = operation(&mut lease);
        match outcome {
            Ok(value) => {
                self.put_back(lease);
                Ok(value)
            }
            Err(error) => {
                if meaning(&error).0 == ErrorKind::Storage {
                    // The server answered; the link is sound.
                    self.put_back(lease);
                } else {
                    // Whatever broke this connection broke its siblings too.
                    self.idle().connections.clear();
                }
                Err(self.link.error(what, error))
            }
        }
    }

    /// As [`Pool::run`] for what may be done twice: a connection that broke while it rested is no reason to fail.
    pub(crate) fn repeat<T>(
        &self,
        what: &str,
        deadline: Instant,
        mut operation: impl FnMut(&mut Lease) -> redis::RedisResult<T>,
    ) -> Result<T> {
        let rested = !self.idle().connections.is_empty();
        match self.run(what, deadline, &mut operation) {
            Err(error) if rested && error.kind() == ErrorKind::Connection => {
                self.run(what, deadline, operation)
            }
            done => done,
        }
    }

    fn take(&self, deadline: Instant) -> Result<Lease> {
        loop {
            let rested = self.idle().connections.pop();
            let Some(Rested { mut lease, since }) = rested else { break };
            lease
                .limit(self.link.time_left(deadline)?)
                .map_err(|e| self.link.error("use a connection", e))?;
            if clock::instant().saturating_duration_since(since) < RESTED
                || redis::cmd("PING").exec(&mut lease.con).is_ok()
            {
                return Ok(lease);
            }
        }
        let con = self.link.connect(deadline)?;
        let mut lease =
            Lease { con, said: HashSet::new(), packed: Vec::new(), timeout: Duration::ZERO };
        lease
            .limit(self.link.time_left(deadline)?)
            .map_err(|e| self.link.error("use a connection", e))?;
        Ok(lease)
    }

    fn put_back(&self, lease: Lease) {
        let mut idle = self.idle();
        if idle.connections.len() < IDLE_MAX {
            idle.connections.push(Rested { lease, since: clock::instant() });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let of = generation();
        if idle.of != of {
            idle.of = of;
            idle.connections.clear();
        }
        idle
    }
}

impl Lease {
    /// Sends packed commands and reads their `count` replies, errors of the server among them.
    ///
    /// Not the library's own pipeline: when a reply does not come it still waits the whole timeout for each of the others, and
    /// many commands would outlast their deadline many times over.
    pub(crate) fn exchange(
        &mut self,
        packed: &[u8],
        count: usize,
    ) -> redis::RedisResult<Vec<redis::Value>> {
        self.con.send_packed_command(packed)?;
        (0..count).map(|_| self.con.recv_response()).collect()
    }

    /// Sends a pipeline; the replies, or the first error among them.
    pub(crate) fn pipeline(
        &mut self,
        commands: &redis::Pipeline,
    ) -> redis::RedisResult<Vec<redis::Value>> {
        let replies = self.exchange(&commands.get_packed_pipeline(), commands.len())?;
        replies.into_iter().map(redis::Value::extract_error).collect()
    }

    /// Lets no single read or write last longer than `left`.
    fn limit(&mut self, left: Duration) -> redis::RedisResult<()> {
        if self.timeout.abs_diff(left) > TIMEOUT_SLACK {
            self.con.set_read_timeout(Some(left))?;
            self.con.set_write_timeout(Some(left))?;
            self.timeout = left;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::url::{BrokerUrl, Target};

    fn link(url: &str) -> Link {
        let parsed = BrokerUrl::parse(url).unwrap();
        let Target::Redis(target) = parsed.target else { panic!("{url}") };
        Link::new(&target, &parsed.redacted).unwrap()
    }

    #[test]
    fn a_refused_connection_names_the_redacted_url() {
        // Bound and closed again: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let link = link(&format!("redis://me:hidden@127.0.0.1:{port}/1"));
        let error = link.connect(clock::instant() + Duration::from_secs(5)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Connection);
        let text = error.to_string();
        assert!(
            text.contains(&format!("redis://me:**@127.0.0.1:{port}/1")) && !text.contains("hidden"),
            "{text}"
        );
    }

    #[test]
    fn a_passed_deadline_is_a_timeout() {
        let link = link("redis://127.0.0.1:1");
        let error = link.connect(clock::instant()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let parsed = BrokerUrl::parse("rediss://h?ssl_ca_certs=/no/such.pem").unwrap();
        let Target::Redis(target) = parsed.target else { panic!() };
        let error = Link::new(&target, &parsed.redacted).err().unwrap();
        assert!(error.to_string().contains("`/no/such.pem`"), "{error}");
    }
}
