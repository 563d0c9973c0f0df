//! The result store inside one process: the whole contract, nothing on disk. Shipped for tests, the
//! user's and ours.
//!
//! Handles with the same URL share one store for the life of the process. Waiting is a condition
//! variable that every write rings; each waiter then looks at its own id, which is cheap because
//! nothing is copied until the document is ready.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use tokio::sync::watch;

use super::{
    Join, JoinClaim, Joins, Origin, Record, ResultStore, State, Stored,
    join::{Counter, MemberEnd},
    watch::{Channel, Heard, Observer, Watch, Watchers},
};
use crate::{
    clock::{self, Millis},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// How often a blocked wait asks whether it was interrupted.
const INTERRUPT: Duration = Duration::from_millis(100);

struct Entry {
    state: State,
    document: Bytes,
    expires: Option<Millis>,
}

impl Entry {
    fn is_alive(&self, now: Millis) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

/// What a store holds.
#[derive(Default)]
struct Held {
    /// By task id.
    entries: HashMap<String, Entry>,
    /// By the id of the group.
    joins: HashMap<String, Counter>,
}

impl Held {
    fn join(&mut self, id: &str, now: Millis) -> &mut Counter {
        self.joins.retain(|_, join| join.is_alive(now));
        self.joins.entry(id.to_owned()).or_default()
    }
}

#[derive(Default)]
struct Store {
    /// Every section is short.
    held: Mutex<Held>,
    /// Rung after every write, for threads.
    written: Condvar,
    /// The same, for those who watch.
    changed: Changed,
}

/// Tells those who watch that something was written.
struct Changed(watch::Sender<()>);

impl Default for Changed {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: &[Record], counts: bool) -> Stored {
        let now = clock::wall_ms();
        let mut stored = Stored::default();
        let mut held = self.lock();
        for (index, record) in batch.iter().enumerate() {
            let expires = record.expires_ms.map(|ms| now.saturating_add_unsigned(ms));
            if let Some((member, ended)) = record.ended().filter(|_| counts) {
                let join = held.join(&member.group, now);
                if let Some(joined) = join.count(member, ended, expires, now) {
                    stored.counted(index, member, joined);
                }
            }
            if held
                .entries
                .get(&record.id)
                .is_some_and(|e| !e.state.yields_to(&record.state) && e.is_alive(now))
            {
                continue;
            }
            let entry =
                Entry { state: record.state.clone(), document: record.document.clone(), expires };
            held.entries.insert(record.id.clone(), entry);
        }
        drop(held);
        self.written.notify_all();
        self.changed.0.send_replace(());
        stored
    }

    fn ready(&self, id: &str, now: Millis) -> Option<Bytes> {
        let held = self.lock();
        let entry = held.entries.get(id).filter(|e| e.state.is_ready() && e.is_alive(now));
        entry.map(|e| e.document.clone())
    }
}

/// The store called `name`, made on first use.
fn store(name: &str) -> Arc<Store> {
    static STORES: OnceLock<Mutex<HashMap<String, Arc<Store>>>> = OnceLock::new();
    let mut stores =
        STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    stores.entry(name.to_owned()).or_default().clone()
}

/// The in-process result store.
pub struct MemoryResults {
    url: String,
    reply_to: String,
    store: Arc<Store>,
    watchers: Watchers,
}

/// Listens to a store.
struct Listener {
    store: Arc<Store>,
    written: watch::Receiver<()>,
}

impl Channel for Listener {
    async fn follow(&mut self, _: &[(String, Origin)]) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn read(&mut self, ids: &[String]) -> Result<Vec<(String, Bytes)>> {
        let now = clock::wall_ms();
        Ok(ids.iter().filter_map(|id| Some((id.clone(), self.store.ready(id, now)?))).collect())
    }

    async fn next(&mut self) -> Result<Heard> {
        // The sender lives in the store, which this keeps.
        let _ = self.written.changed().await;
        Ok(Heard::Something)
    }
}

impl MemoryResults {
    /// A handle on the store called `name`; `url` is what is shown.
    pub fn new(url: &str, name: &str) -> Self {
        Self {
            url: url.to_owned(),
            reply_to: super::fresh_reply_id(),
            store: store(name),
            watchers: Watchers::default(),
        }
    }
}

impl Joins for MemoryResults {
    fn declare(&self, join: &Join) -> Result<()> {
        let (now, mut held) = (clock::wall_ms(), self.store.lock());
        held.join(&join.id, now).declare(join, now);
        Ok(())
    }

    fn extend(&self, more: &Join) -> Result<()> {
        let (now, mut held) = (clock::wall_ms(), self.store.lock());
        held.join(&more.id, now).extend(more, now);
        Ok(())
    }

    fn members(&self, id: &str, most: usize) -> Result<Vec<MemberEnd>> {
        let (now, held) = (clock::wall_ms(), self.store.lock());
        let join = held.joins.get(id).filter(|join| join.is_alive(now));
        join.map_or_else(|| Ok(Vec::new()), |join| join.members(most))
    }

    fn renew(&self, joined: &JoinClaim) -> Result<bool> {
        let (now, mut held) = (clock::wall_ms(), self.store.lock());
        Ok(held.join(&joined.id, now).renew(&joined.token, now))
    }

    fn close<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            if let Some(join) = self.store.lock().joins.get_mut(&joined.id) {
                join.close(&joined.token);
            }
            Ok(())
        })
    }

    fn reopen<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            if let Some(join) = self.store.lock().joins.get_mut(&joined.id) {
                join.reopen(&joined.token);
            }
            Ok(())
        })
    }
}

impl ResultStore for MemoryResults {
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move { Ok(self.store.write(batch, true)) })
    }

    fn put(&self, record: &Record) -> Result<()> {
        // A client counts nothing: it could not publish what follows.
        self.store.write(std::slice::from_ref(record), false);
        Ok(())
    }

    fn get(&self, ids: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let (now, held) = (clock::wall_ms(), self.store.lock());
        Ok(ids
            .iter()
            .map(|id| held.entries.get(*id).filter(|e| e.is_alive(now)).map(|e| e.document.clone()))
            .collect())
    }

    fn wait(
        &self,
        id: &str,
        _origin: Origin,
        deadline: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>> {
        let mut held = self.store.lock();
        let mut next_check = clock::instant() + INTERRUPT;
        loop {
            let wall = clock::wall_ms();
            if let Some(entry) =
                held.entries.get(id).filter(|e| e.state.is_ready() && e.is_alive(wall))
            {
                return Ok(Some(entry.document.clone()));
            }
            let now = clock::instant();
            if deadline.is_some_and(|d| now >= d) {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("task `{id}` was not ready before the deadline"),
                ));
            }
            if now >= next_check {
                // Not under the lock: it may run foreign code.
                drop(held);
                if interrupt() {
                    return Ok(None);
                }
                next_check = now + INTERRUPT;
                held = self.store.lock();
                continue;
            }
            let until = deadline.map_or(next_check, |d| d.min(next_check));
            let waited =
                self.store.written.wait_timeout(held, until.saturating_duration_since(now));
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn watch(
        &self,
        id: &str,
        origin: Origin,
        key: u64,
        observer: &Arc<dyn Observer>,
    ) -> Result<Watch> {
        self.watchers.watch(id, origin, (key, observer), || Listener {
            store: Arc::clone(&self.store),
            written: self.store.changed.0.subscribe(),
        })
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.store.lock().entries.remove(id);
        Ok(())
    }

    fn cleanup(&self) -> Result<u64> {
        let (now, mut held) = (clock::wall_ms(), self.store.lock());
        held.joins.retain(|_, join| join.is_alive(now));
        let before = held.entries.len();
        held.entries.retain(|_, e| e.is_alive(now));
        Ok((before - held.entries.len()) as u64)
    }

    fn reply_to(&self) -> &str {
        &self.reply_to
    }

    fn url(&self) -> &str {
        &self.url
    }
}
