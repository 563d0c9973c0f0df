//! The road to a Redis server, shared by the broker and the result store: opening connections, a
//! pool of blocking ones, and what an error of the server means.
//!
//! Owns sockets and nothing that is said over them. Client code publishes and reads results from
//! any thread, so it borrows a blocking [`Lease`] from a [`Pool`]; no runtime is involved. The
//! worker opens multiplexed connections in its own runtime.

mod blocking;
mod glob;
mod multiplexed;
mod pool;
mod progress;
mod socket;
mod tls;

use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{
    ConnectionAddr, IntoConnectionInfo, PushInfo, RedisConnectionInfo, RedisError, ServerErrorKind,
    io::tcp::TcpSettings,
};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    url::{Endpoint, RedisUrl, TlsFiles},
};
use blocking::Connection;
pub(crate) use glob::glob;
pub(crate) use multiplexed::Multiplexed;
pub(crate) use pool::{Lease, Pool};
use socket::within;
use tls::Tls;

/// How long connecting may take where the caller has no deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server: how to connect to it, and its name in errors.
pub(crate) struct Server {
    /// For connections on which the server pushes.
    push_client: redis::Client,
    /// Who we are to the server, for connections of a runtime.
    settings: RedisConnectionInfo,
    tls: Option<Tls>,
    target: RedisUrl,
    url: Arc<str>,
}

impl Server {
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
        let tls = match &url.endpoint {
            Endpoint::Tcp { host, tls: true, .. } => Some(Tls::new(host, &url.tls)?),
            _ => None,
        };
        let addr = match &url.endpoint {
            Endpoint::Tcp { host, port, tls: false } => ConnectionAddr::Tcp(host.clone(), *port),
            Endpoint::Tcp { host, port, tls: true } => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
            Endpoint::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let info = addr
            .into_connection_info()
            .map_err(invalid)?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let info =
            info.set_redis_settings(settings.clone().set_protocol(redis::ProtocolVersion::RESP3));
        let push_client = if url.tls == TlsFiles::default() {
            redis::Client::open(info).map_err(invalid)?
        } else {
            redis::Client::build_with_tls(info, certificates(&url.tls)?).map_err(invalid)?
        };
        Ok(Self { push_client, settings, tls, target: url.clone(), url: redacted.into() })
    }

    /// The URL with its password hidden.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A blocking connection, opened before `deadline`.
    fn connect(&self, deadline: Instant) -> Result<Connection> {
        self.time_left(deadline)?;
        Connection::open(&self.target, self.tls.as_ref(), deadline)
            .map_err(|e| self.error("connect", e))
    }

    /// A blocking connection, opened before `deadline`, on which the server may push.
    pub(crate) fn connect_push(&self, deadline: Instant) -> Result<redis::Connection> {
        let left = self.time_left(deadline)?;
        let client = self.push_client.clone();
        let connect = move || client.get_connection_with_timeout(left);
        // The library's timeout does not count the resolution of the server's name.
        let connected = match &self.target.endpoint {
            Endpoint::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                within(deadline, connect).and_then(|c| c.ok_or(late)).map_err(RedisError::from)
            }
            _ => Ok(connect()),
        };
        connected.and_then(|c| c).map_err(|e| self.error("connect", e))
    }

    /// A connection for many concurrent users inside the current runtime. The connection is dead
    /// when no byte moves for `patience` while a reply is awaited.
    pub(crate) async fn multiplexed(&self, patience: Duration) -> Result<Multiplexed> {
        self.open(&self.settings, None, patience).await
    }

    /// The same, on which the server may push; `pushes` gets what it does.
    pub(crate) async fn pushing(
        &self,
        pushes: UnboundedSender<PushInfo>,
        patience: Duration,
    ) -> Result<Multiplexed> {
        let settings = self.settings.clone().set_protocol(redis::ProtocolVersion::RESP3);
        self.open(&settings, Some(pushes), patience).await
    }

    async fn open(
        &self,
        settings: &RedisConnectionInfo,
        pushes: Option<UnboundedSender<PushInfo>>,
        patience: Duration,
    ) -> Result<Multiplexed> {
        let endpoint = &self.target.endpoint;
        let opening = Multiplexed::open(endpoint, self.tls.as_ref(), settings, pushes, patience);
        tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
            .map_err(|e| self.error("connect", e))
    }

    /// What `error`, met while trying to `what`, means to callers.
    #[cold]
    pub(crate) fn error(&self, what: &str, error: RedisError) -> Error {
        let url = &self.url;
        let (kind, mut hint) = meaning(&error);
        if kind == ErrorKind::Timeout && what == "connect" && self.tls.is_some() {
            hint = "does that port speak TLS?";
        }
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

/// Whether a server that works refused one command, so that others may go through.
pub(crate) fn is_refusal(error: &RedisError) -> bool {
    matches!(meaning(error).0, ErrorKind::Storage)
}

/// Whether an error is about one key, which another program has made of another type: what is done
/// with other keys may go through, and with this one nothing does until somebody deletes it. All else
/// that a server refuses it refuses for now.
pub(crate) fn is_about_key(error: &RedisError) -> bool {
    code(error) == WRONG_TYPE
}

/// Whether the server has no memory for what was to be written.
pub(crate) fn is_full(error: &RedisError) -> bool {
    code(error) == "OOM"
}

/// The code of an error about a key of another type.
pub(crate) const WRONG_TYPE: &str = "WRONGTYPE";
/// Codes that servers before 7.0 tell in the middle of a sentence when they end a script: `ERR Error
/// running script (call to f_..): @user_script:1: WRONGTYPE ..`.
const WITHIN_SCRIPTS: [&str; 5] = [WRONG_TYPE, "OOM", "MISCONF", "NOREPLICAS", "READONLY"];

/// The code of an error that a server answered.
fn code(error: &RedisError) -> &str {
    let code = error.code().unwrap_or_default();
    let detail = error.detail().filter(|_| code == "ERR").unwrap_or_default();
    if detail.starts_with("Error running script") {
        WITHIN_SCRIPTS.into_iter().find(|code| detail.contains(code)).unwrap_or(code)
    } else {
        code
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
        Redis::Parse => {
            (ErrorKind::Connection, "what answers there does not speak Redis's protocol")
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
        Redis::Server(ServerErrorKind::NoPerm) => {
            (ErrorKind::Connection, "the user of the URL lacks a permission")
        }
        _ => match code(error) {
            "READONLY" => (ErrorKind::Connection, "this server is a replica; name its primary"),
            "NOAUTH" | "WRONGPASS" => {
                (ErrorKind::Connection, "check the user name and password in the URL")
            }
            "FENCED" => (ErrorKind::Fenced, ""),
            WRONG_TYPE => (
                ErrorKind::Storage,
                "another program uses a key of this name; choose another queue or database",
            ),
            "OOM" => (
                ErrorKind::Storage,
                "its memory is full; raise its `maxmemory`, or let workers empty the queues",
            ),
            "MISCONF" => (ErrorKind::Connection, "it cannot write to its disk; its log says why"),
            "NOREPLICAS" => (
                ErrorKind::Connection,
                "fewer replicas are connected than its `min-replicas-to-write` asks for",
            ),
            "ERR" if error.detail().is_some_and(|d| d.contains("invalid bulk length")) => (
                ErrorKind::TooLarge,
                "more than its `proto-max-bulk-len`; send less, or raise that",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::{BrokerUrl, Target};

    fn server(url: &str) -> Server {
        let parsed = BrokerUrl::parse(url).unwrap();
        let Target::Redis(target) = parsed.target else { panic!("{url}") };
        Server::new(&target, &parsed.redacted).unwrap()
    }

    #[test]
    fn a_refused_connection_names_the_redacted_url() {
        // Bound and closed again: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = server(&format!("redis://me:hidden@127.0.0.1:{port}/1"));
        let error = server.connect(clock::instant() + Duration::from_secs(5)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Connection);
        let text = error.to_string();
        assert!(
            text.contains(&format!("redis://me:**@127.0.0.1:{port}/1")) && !text.contains("hidden"),
            "{text}"
        );
    }

    #[test]
    fn what_does_not_speak_redis_ends_the_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 64]);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let pool = Pool::new(Arc::new(server(&format!("redis://127.0.0.1:{port}"))));
        let deadline = clock::instant() + Duration::from_secs(30);
        let ping = |lease: &mut Lease| redis::cmd("PING").exec(&mut lease.con);
        let error = pool.run("ask", deadline, ping).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        assert!(error.to_string().contains("does not speak"), "{error}");
    }

    #[test]
    fn a_server_that_says_nothing_to_tls_may_not_speak_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = server(&format!("rediss://{}", listener.local_addr().unwrap()));
        let error = server.connect(clock::instant() + Duration::from_millis(50)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let text = format!("{error:#}");
        assert!(text.contains("does that port speak TLS?") && text.contains("timed out"), "{text}");
    }

    #[test]
    fn errors_that_end_a_script_mean_the_same_on_every_version() {
        let told = |text: &str| {
            let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            let error = reply.extract_error().unwrap_err();
            (meaning(&error).0, is_about_key(&error))
        };
        let within = "ERR Error running script (call to f_12): @user_script:1: ";
        for (text, kind, about_key) in [
            ("WRONGTYPE Operation against a key", ErrorKind::Storage, true),
            ("OOM command not allowed", ErrorKind::Storage, false),
            ("MISCONF Redis is configured to save", ErrorKind::Connection, false),
            ("NOREPLICAS Not enough good replicas", ErrorKind::Connection, false),
            ("READONLY You can't write", ErrorKind::Connection, false),
        ] {
            assert_eq!(told(text), (kind, about_key), "{text}");
            let within = format!("{within}@user_script: 1: -{text}");
            assert_eq!(told(&within), (kind, about_key), "{within}");
        }
        assert_eq!(told("ERR unknown command `X`"), (ErrorKind::Storage, false));
    }

    #[test]
    fn a_passed_deadline_is_a_timeout() {
        let server = server("redis://127.0.0.1:1");
        let error = server.connect(clock::instant()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn a_missing_certificate_is_named() {
        let parsed = BrokerUrl::parse("rediss://h?ssl_ca_certs=/no/such.pem").unwrap();
        let Target::Redis(target) = parsed.target else { panic!() };
        let error = Server::new(&target, &parsed.redacted).err().unwrap();
        assert!(error.to_string().contains("`/no/such.pem`"), "{error}");
    }
}
