//! Results on Redis, as Celery lays them out: `celery-task-meta-<id>`, announced on the channel of the same name.
//!
//! A stock client or worker on the same database sees no difference. For taskcore's own clients a worker also announces on the
//! client's one reply channel, so that a client with a thousand tasks in flight has one subscription (`wait`).
//!
//! A batch is one script, because of the rule that SUCCESS is final: checked and written apart, a late FAILURE of a redelivered
//! task could slip in between. The worker stores over a multiplexed connection of its runtime; client code
//! reads, writes and waits from any thread over blocking connections.

mod room;
mod wait;
mod watch;

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{Cmd, Script, cmd};
use tokio::runtime;

use super::{
    Origin, REPLY_PREFIX, Record, ResultStore, State, Watch, fresh_reply_id,
    watch::{Observer, Watchers},
};
use crate::{
    broker::{BoxFuture, url::RedisUrl},
    clock,
    error::{ErrorKind, Result},
    redis_link::{Link, Multiplexed, Pool, generation},
};
use room::Waiting;
use watch::Subscriptions;

/// How long a read or write from client code may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Records per script: the server does nothing else while one runs.
const CHUNK: usize = 200;
/// Bytes per script, for the same reason.
const CHUNK_BYTES: usize = 1 << 20;
/// Documents per read.
const GET_CHUNK: usize = 500;

static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));
const SOURCE: &str = include_str!("store.lua");

/// What `result_backend_transport_options` may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisResultOptions {
    /// Put before every key, with Celery's underscore behind it unless it ends in one of `: _ - .`.
    pub global_keyprefix: String,
}

/// The adapter.
pub struct RedisResults {
    link: Arc<Link>,
    pool: Pool,
    prefix: String,
    waiting: Waiting,
    watchers: Watchers,
    /// The worker's connection and the runtime that drives it. Behind a std mutex because a section clones or replaces it.
    worker: Mutex<Option<(runtime::Id, Multiplexed)>>,
    /// The reply id and the process that it stands for: a forked process takes its own.
    reply_id: Mutex<(u32, &'static str)>,
}

impl RedisResults {
    /// Prepares the adapter; connects on first use.
    ///
    /// # Errors
    /// `Config` when a certificate cannot be read.
    pub fn new(url: &RedisUrl, redacted: &str, options: &RedisResultOptions) -> Result<Self> {
        let link = Arc::new(Link::new(url, redacted)?);
        let prefix = &options.global_keyprefix;
        let joint =
            if prefix.is_empty() || prefix.ends_with([':', '_', '-', '.']) { "" } else { "_" };
        Ok(Self {
            pool: Pool::new(Arc::clone(&link)),
            prefix: format!("{prefix}{joint}"),
            waiting: Waiting::default(),
            watchers: Watchers::default(),
            worker: Mutex::default(),
            reply_id: Mutex::new((generation(), fresh_reply_id().leak())),
            link,
        })
    }

    fn key(&self, id: &str) -> String {
        format!("{}celery-task-meta-{id}", self.prefix)
    }

    fn reply_channel(&self, reply_to: &str) -> String {
        format!("{}taskcore:reply:{reply_to}", self.prefix)
    }

    /// The call that stores a batch of one time to live.
    fn store_call(&self, batch: &[Record]) -> Cmd {
        let bytes: usize = batch.iter().map(|record| record.document.len() + 128).sum();
        let mut call = Cmd::with_capacity(batch.len() * 3 + 5, bytes + 64);
        call.arg("EVALSHA").arg(STORE.get_hash()).arg(batch.len());
        for record in batch {
            call.arg(self.key(&record.id));
        }
        match batch.first().and_then(|record| record.expires_ms) {
            Some(ms) => call.arg(ms.max(1)),
            None => call.arg(""),
        };
        for record in batch {
            call.arg(&*record.document);
            // Who waits on the reply channel waits for the end.
            let reply = record.reply_to.as_deref();
            match reply.filter(|to| record.state.is_ready() && to.starts_with(REPLY_PREFIX)) {
                Some(to) => call.arg(self.reply_channel(to)),
                None => call.arg(""),
            };
        }
        call
    }

    async fn store_all(&self, batch: &[Record]) -> Result<()> {
        let mut con = self.connection().await?;
        for chunk in chunks(batch) {
            let call = self.store_call(chunk);
            let mut stored = call.exec_async(&mut con).await;
            if stored.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
                stored = match load().exec_async(&mut con).await {
                    Ok(()) => call.exec_async(&mut con).await,
                    failed => failed,
                };
            }
            stored.map_err(|e| {
                let error = self.link.error("store results", e);
                if error.kind() != ErrorKind::Storage {
                    *self.worker() = None;
                }
                error
            })?;
        }
        Ok(())
    }

    /// The worker's connection, opened when there is none in this runtime.
    async fn connection(&self) -> Result<Multiplexed> {
        let here = runtime::Handle::current().id();
        if let Some((runtime, con)) = &*self.worker()
            && *runtime == here
        {
            return Ok(con.clone());
        }
        let con = self.link.multiplexed(TIMEOUT).await?;
        *self.worker() = Some((here, con.clone()));
        Ok(con)
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
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Ok(());
            }
            let reused = self.worker().is_some();
            match self.store_all(batch).await {
                // The connection may have died of old age; storing twice does no harm.
                Err(error) if reused && error.is_retryable() => self.store_all(batch).await,
                done => done,
            }
        })
    }

    fn put(&self, record: &Record) -> Result<()> {
        let call = self.store_call(std::slice::from_ref(record));
        self.pool.repeat("store a result", Self::soon(), |lease| match call.exec(&mut lease.con) {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                load().exec(&mut lease.con)?;
                call.exec(&mut lease.con)
            }
            done => done,
        })
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
            Subscriptions::new(Arc::clone(&self.link), self.key(""), channel)
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
        let mut current = self.reply_id.lock().unwrap_or_else(PoisonError::into_inner);
        let of = generation();
        if current.0 != of {
            // Leaked, once per fork: the port lends it out for as long as the store lives.
            *current = (of, fresh_reply_id().leak());
        }
        current.1
    }

    fn url(&self) -> &str {
        self.link.url()
    }
}

/// Whether a stored document is in a state after which none is expected.
fn is_ready(document: &[u8]) -> bool {
    // Every writer puts the status first, in Celery's spacing; a peer's document in another shape is read in full.
    const HEAD: &[u8] = b"{\"status\": \"";
    let status = document.strip_prefix(HEAD).and_then(|rest| rest.split(|b| *b == b'"').next());
    let ready = |status: &[u8]| {
        [State::Success, State::Failure, State::Revoked]
            .iter()
            .any(|state| state.as_str().as_bytes() == status)
    };
    status.map_or_else(
        || {
            let parsed: Option<serde_json::Value> = serde_json::from_slice(document).ok();
            parsed
                .as_ref()
                .and_then(|d| d.get("status")?.as_str())
                .is_some_and(|status| ready(status.as_bytes()))
        },
        ready,
    )
}

fn load() -> Cmd {
    let mut load = cmd("SCRIPT");
    load.arg("LOAD").arg(SOURCE);
    load
}

/// Cuts a batch into what one script takes: of one time to live, and not too much.
fn chunks(mut batch: &[Record]) -> impl Iterator<Item = &[Record]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let ttl = batch.first().and_then(|record| record.expires_ms);
        let fits = batch.iter().take(CHUNK).take_while(|record| {
            let before = bytes;
            bytes += record.document.len();
            // The first always fits, however large.
            record.expires_ms == ttl && (before == 0 || bytes <= CHUNK_BYTES)
        });
        let n = fits.count();
        let (chunk, rest) = batch.split_at(n);
        batch = rest;
        (n > 0).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_seen_in_any_spacing() {
        assert!(is_ready(br#"{"status": "SUCCESS", "result": 1}"#));
        assert!(is_ready(br#"{"status": "FAILURE""#));
        assert!(is_ready(br#"{"result":1,"status":"REVOKED"}"#));
        assert!(!is_ready(br#"{"status": "STARTED", "result": "{\"status\": \"SUCCESS\"}"}"#));
        assert!(!is_ready(br#"{"status": "SUCCESSFUL"}"#));
        assert!(!is_ready(b"") && !is_ready(b"[]") && !is_ready(b"\x80"));
    }

    #[test]
    fn prefixes_are_joined_as_celery_does() {
        let url = RedisUrl {
            endpoint: crate::broker::url::Endpoint::Unix("/none".into()),
            username: None,
            password: None,
            db: 0,
            tls: crate::broker::url::TlsFiles::default(),
        };
        for (prefix, key) in [
            ("", "celery-task-meta-1"),
            ("a", "a_celery-task-meta-1"),
            ("a:", "a:celery-task-meta-1"),
        ] {
            let options = RedisResultOptions { global_keyprefix: prefix.into() };
            assert_eq!(RedisResults::new(&url, "unix:///none", &options).unwrap().key("1"), key);
        }
    }

    #[test]
    fn batches_are_cut_by_count_bytes_and_expiry() {
        let record = |bytes: usize| Record {
            id: "i".into(),
            state: State::Success,
            document: vec![b'x'; bytes].into(),
            reply_to: None,
            expires_ms: None,
        };
        let sizes = |batch: &[Record]| chunks(batch).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![record(10); 450]), [200, 200, 50]);
        assert_eq!(
            sizes(&[record(CHUNK_BYTES * 2), record(1), record(CHUNK_BYTES), record(1)]),
            [1, 1, 1, 1]
        );
    }
}
