//! Results on Redis, as Celery lays them out: `celery-task-meta-<id>`, announced on the channel of
//! the same name.
//!
//! A stock client or worker on the same database sees no difference. For taskcore's own clients a
//! worker also announces on the client's one reply channel, so that a client with a thousand tasks
//! in flight has one subscription (`wait`).
//!
//! A client's channel carries documents as they are, which name their tasks, one per line; or
//! [`NOTICE`] and the id of a task whose document is to be read. A stored SUCCESS is final, so
//! checking and writing are one step of the server, a command or a script. The worker stores over a
//! multiplexed connection of its runtime; client code reads, writes and waits from any thread over
//! blocking connections.

mod waiters;
mod join;
mod store;
mod listeners;
mod wait;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::cmd;
use tokio::runtime;

use super::{
    GROUP_PREFIX, Origin, Record, ResultStore, State, Stored, Watch, encoded, fresh_reply_id,
    record,
    watch::{Observer, Watchers},
};
use crate::{
    clock,
    error::Result,
    future::BoxFuture,
    redis_connection::{Multiplexed, Pool, Server},
    url::RedisUrl,
};
use listeners::Channels;
use waiters::Waiting;
use watch::Subscriptions;

/// How long a read or write from client code may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Documents per read.
const GET_CHUNK: usize = 500;

/// Begins a message on a client's channel that names a task instead of carrying its document.
const NOTICE: char = '@';

/// What `result_backend_transport_options` may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisResultOptions {
    /// Put before every key, with Celery's underscore behind it unless it ends in one of `: _ - .`.
    pub global_keyprefix: String,
}

/// The adapter.
pub struct RedisResults {
    server: Arc<Server>,
    pool: Pool,
    prefix: String,
    waiting: Waiting,
    watchers: Watchers,
    /// Written and read when a batch is stored.
    channels: Channels,
    /// The worker's connection and the runtime that drives it. Behind a std mutex because a section
    /// clones or replaces it.
    worker: Mutex<Option<(runtime::Id, Multiplexed)>>,
    reply_to: String,
}

impl RedisResults {
    /// Prepares the adapter; connects on first use.
    ///
    /// # Errors
    /// `Config` when a certificate cannot be read.
    pub fn new(url: &RedisUrl, redacted: &str, options: &RedisResultOptions) -> Result<Self> {
        let server = Arc::new(Server::new(url, redacted)?);
        let prefix = &options.global_keyprefix;
        let joint =
            if prefix.is_empty() || prefix.ends_with([':', '_', '-', '.']) { "" } else { "_" };
        Ok(Self {
            pool: Pool::patient(Arc::clone(&server)),
            prefix: format!("{prefix}{joint}"),
            waiting: Waiting::default(),
            watchers: Watchers::default(),
            channels: Channels::default(),
            worker: Mutex::default(),
            reply_to: fresh_reply_id(),
            server,
        })
    }

    fn key(&self, id: &str) -> String {
        let kind = if id.starts_with(GROUP_PREFIX) { "" } else { "celery-task-meta-" };
        format!("{}{kind}{id}", self.prefix)
    }

    fn reply_channel(&self, reply_to: &str) -> String {
        format!("{}taskcore:reply:{reply_to}", self.prefix)
    }

    /// The worker's connection, opened when there is none in this runtime.
    async fn connection(&self) -> Result<Multiplexed> {
        let here = runtime::Handle::current().id();
        if let Some((runtime, con)) = &*self.worker()
            && *runtime == here
        {
            return Ok(con.clone());
        }
        let con = self.server.multiplexed(TIMEOUT).await?;
        *self.worker() = Some((here, con.clone()));
        Ok(con)
    }

    /// The worker's connection is broken.
    fn disconnect(&self) {
        *self.worker() = None;
    }

    fn worker(&self) -> std::sync::MutexGuard<'_, Option<(runtime::Id, Multiplexed)>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, ids: &[&str], deadline: Instant) -> Result<Vec<Option<Bytes>>> {
        let mut documents = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(GET_CHUNK) {
            let mut get = cmd("MGET");
            for id in chunk {
                get.arg(self.key(id));
            }
            let found: Vec<Option<Vec<u8>>> =
                self.pool.repeat("read results", deadline, |lease| get.query(&mut lease.con))?;
            documents.extend(found.into_iter().map(|document| document.map(Bytes::from)));
        }
        Ok(documents)
    }

    fn soon() -> Instant {
        clock::instant() + TIMEOUT
    }
}

impl ResultStore for RedisResults {
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let reused = self.worker().is_some();
            let mut stored = match self.store_all(batch).await {
                // The connection may have died of old age; storing twice does no harm.
                Err(error) if reused && error.is_retryable() => self.store_all(batch).await,
                done => done,
            }?;
            self.count_members(batch, &mut stored).await?;
            Ok(stored)
        })
    }

    fn put(&self, record: &Record) -> Result<()> {
        if self.store_one(record)? { Err(self.foreign(&record.id)) } else { Ok(()) }
    }

    fn get(&self, ids: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.read(ids, Self::soon())
    }

    fn wait(
        &self,
        id: &str,
        origin: Origin,
        deadline: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>> {
        wait::wait(self, wait::Wanted { id, origin, deadline }, interrupt)
    }

    fn watch(
        &self,
        id: &str,
        origin: Origin,
        key: u64,
        observer: &Arc<dyn Observer>,
    ) -> Result<Watch> {
        self.watchers.watch(id, origin, (key, observer), || {
            let channel = self.reply_channel(self.reply_to());
            Subscriptions::new(Arc::clone(&self.server), self.key(""), channel)
        })
    }

    fn forget(&self, id: &str) -> Result<()> {
        let key = self.key(id);
        self.pool.repeat("forget a result", Self::soon(), |lease| {
            cmd("DEL").arg(&key).exec(&mut lease.con)
        })
    }

    fn cleanup(&self) -> Result<u64> {
        // Redis expires them itself.
        Ok(0)
    }

    fn reply_to(&self) -> &str {
        &self.reply_to
    }

    fn url(&self) -> &str {
        self.server.url()
    }
}

/// Whether a stored document is in a state after which none is expected.
fn is_ready(document: &[u8]) -> bool {
    // Every writer puts the status first, in Celery's spacing; a peer's document in another shape
    // is read in full.
    const HEAD: &[u8] = b"{\"status\": \"";
    let Ok(document) = &record::open(document) else { return false };
    let status = document.strip_prefix(HEAD).and_then(|rest| rest.split(|b| *b == b'"').next());
    let ready = |status: &[u8]| {
        [State::Success, State::Failure, State::Revoked]
            .iter()
            .any(|state| state.as_str().as_bytes() == status)
    };
    status.map_or_else(
        || {
            let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(document) else {
                return encoded::state_of(document).is_some_and(|state| state.is_ready());
            };
            let status = parsed.get("status").and_then(serde_json::Value::as_str);
            status.is_some_and(|status| ready(status.as_bytes()))
        },
        ready,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Compression;

    #[test]
    fn readiness_is_seen_in_any_spacing() {
        assert!(is_ready(br#"{"status": "SUCCESS", "result": 1}"#));
        assert!(is_ready(br#"{"status": "FAILURE""#));
        assert!(is_ready(br#"{"result":1,"status":"REVOKED"}"#));
        assert!(!is_ready(br#"{"status": "STARTED", "result": "{\"status\": \"SUCCESS\"}"}"#));
        assert!(!is_ready(br#"{"status": "SUCCESSFUL"}"#));
        assert!(is_ready(b"\x86\xa6status\xa7SUCCESS") && !is_ready(b"\x86\xa6status\xa7STARTED"));
        assert!(!is_ready(b"") && !is_ready(b"[]") && !is_ready(b"\x80"));
        assert!(!is_ready(b"\0celery-compressed\0") && !is_ready(b"\0celery-compressed\0x\0"));
    }

    #[test]
    fn readiness_is_seen_in_what_a_peer_has_compressed() {
        for (state, ready) in [("SUCCESS", true), ("STARTED", false)] {
            let document = format!("{{\"status\": \"{state}\"}}");
            let zipped = Compression::Zlib.compress(document.as_bytes());
            let marked = [&b"\0celery-compressed\0application/x-gzip\0"[..], &zipped].concat();
            assert_eq!(is_ready(&marked), ready);
        }
    }

    #[test]
    fn prefixes_are_joined_as_celery_does() {
        let url = RedisUrl {
            endpoint: crate::url::Endpoint::Unix("/none".into()),
            username: None,
            password: None,
            db: 0,
            tls: crate::url::TlsFiles::default(),
        };
        for (prefix, key) in [
            ("", "celery-task-meta-1"),
            ("a", "a_celery-task-meta-1"),
            ("a:", "a:celery-task-meta-1"),
        ] {
            let options = RedisResultOptions { global_keyprefix: prefix.into() };
            let results = RedisResults::new(&url, "unix:///none", &options).unwrap();
            assert_eq!(results.key("1"), key);
            let group = key.replace("task-meta", "taskset-meta");
            assert_eq!(results.key(&format!("{GROUP_PREFIX}1")), group);
        }
    }
}
