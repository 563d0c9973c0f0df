//! Results in a database file: the broker's own when the URLs name the same one.
//!
//! Then a batch of results and the acknowledgements that follow it are often one group commit.
//! Waiting is one look by id after each notification of the database: a wait costs nothing while
//! nothing is stored, whichever process the result comes from.
//!
//! What has expired is not shown, and is deleted in small slices by whoever stores, so no process
//! needs to be the cleaner.

mod join;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::{
    Join, JoinClaim, Joins, Member, Origin, Record, ResultStore, State, Stored,
    join::MemberEnd,
    watch::{Channel, Heard, Observer, Watch, Watchers},
};
use crate::{
    clock::{self, Millis},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    sqlite_store::{Cost, Database, Handle, Location, POLL_INTERVAL, TIMEOUT, Tx, Waiter},
};

/// How often a blocked wait asks whether it was interrupted.
const INTERRUPT: Duration = Duration::from_millis(100);

/// How often a storing process looks for expired ones, and how many it deletes then.
const CLEAN_MS: Millis = 5_000;
const CLEAN_SLICE: i64 = 2_000;

/// The longest document: a row has at most 10^9 bytes (`SQLITE_MAX_LENGTH`).
const LARGEST: usize = 999_000_000;

/// The result store in a database file.
pub struct SqliteResults {
    url: String,
    reply_to: String,
    handle: Handle,
    /// When expired ones were last looked for.
    cleaned: AtomicI64,
    watchers: Watchers,
}

/// Listens to a database file. What it hears is that something was stored, so all that is watched
/// is read.
struct Listener {
    database: Arc<Database>,
    /// Made when something is watched.
    waiter: Option<Waiter>,
    /// How many notifications there were before the last read.
    seen: u64,
}

impl Channel for Listener {
    async fn follow(&mut self, _: &[(String, Origin)]) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn read(&mut self, ids: &[String]) -> Result<Vec<(String, Bytes)>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let notifier = self.database.notifier();
        if self.waiter.is_none() {
            // What is listened to exists as long as a connection does.
            self.database.read(|_| Ok(()))?;
            self.waiter = Some(notifier.waiter());
        }
        notifier.watch();
        self.seen = notifier.count();
        let now = clock::wall_ms();
        let found = self.database.read(|connection| {
            ids.iter().map(|id| find(connection, id, now)).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let pairs = ids.iter().zip(found);
        Ok(pairs
            .filter_map(|(id, found)| {
                let (state, document) = found?;
                state.is_ready().then(|| (id.clone(), document))
            })
            .collect())
    }

    async fn next(&mut self) -> Result<Heard> {
        let notifier = self.database.notifier();
        loop {
            let changed = notifier.notified();
            if notifier.count() != self.seen {
                return Ok(Heard::Something);
            }
            // A notification is a hint: where files cannot be watched, only this look finds what
            // was stored.
            if tokio::time::timeout(POLL_INTERVAL, changed).await.is_err() {
                return Ok(Heard::Something);
            }
        }
    }
}

impl SqliteResults {
    /// A handle on the file at `path`; `durability` is `full` (default) or `normal`. Opens nothing
    /// yet.
    pub fn new(url: &str, path: &Path, durability: Option<&str>) -> Result<Self> {
        let handle = Handle::new(&Location::new(path, durability)?);
        Ok(Self {
            url: url.to_owned(),
            reply_to: super::fresh_reply_id(),
            handle,
            cleaned: AtomicI64::new(clock::wall_ms()),
            watchers: Watchers::default(),
        })
    }

    fn cost(&self, batch: &[Record]) -> Cost {
        let bytes = batch.iter().map(|r| r.document.len()).sum();
        Cost { durable: self.handle.durable(), rows: batch.len(), bytes, ..Cost::default() }
    }

    /// What writes a batch, to be run in a transaction.
    fn writing(
        &self,
        batch: &[Record],
    ) -> impl FnMut(&mut Tx<'_>) -> rusqlite::Result<Stored> + Send + 'static {
        let now = clock::wall_ms();
        let clean = now - self.cleaned.load(Ordering::Relaxed) > CLEAN_MS;
        if clean {
            self.cleaned.store(now, Ordering::Relaxed);
        }
        let members: Vec<(usize, Member, MemberEnd, Option<u64>)> = batch
            .iter()
            .enumerate()
            .filter(|(_, record)| fits(record))
            .filter_map(|(index, record)| {
                let (member, ended) = record.ended()?;
                Some((index, member.clone(), ended, record.expires_ms))
            })
            .collect();
        let batch: Vec<Record> = batch.iter().filter(|record| fits(record)).cloned().collect();
        move |tx| {
            for record in &batch {
                write(tx, record)?;
            }
            let mut stored = Stored::default();
            for (index, member, ended, expires_ms) in &members {
                let expires = expires_ms.map(|ms| tx.now.saturating_add_unsigned(ms));
                if let Some(joined) = join::count(tx, member, ended, expires)? {
                    stored.counted(*index, member, joined);
                }
            }
            if clean {
                sweep(tx)?;
            }
            tx.notify();
            Ok(stored)
        }
    }

    #[cold]
    fn too_large(&self, record: &Record) -> Error {
        let (size, url) = (record.document.len(), &self.url);
        let text = format!(
            "the result takes `{size}` bytes, more than the `{LARGEST}` that a row of `{url}` can hold; store it elsewhere and \
             return where it is"
        );
        Error::new(ErrorKind::TooLarge, text)
    }

    fn change<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.handle.database().write(self.cost(&[]), clock::instant() + TIMEOUT, work)
    }

    /// The document of `id` when it is in a ready state.
    fn ready(&self, id: &str) -> Result<Option<Bytes>> {
        let now = clock::wall_ms();
        let found = self.handle.database().read(|connection| find(connection, id, now))?;
        Ok(found.and_then(|(state, document)| state.is_ready().then_some(document)))
    }
}

impl Joins for SqliteResults {
    fn declare(&self, join: &Join) -> Result<()> {
        let join = join.clone();
        self.change(move |tx| join::declare(tx, &join))
    }

    fn extend(&self, more: &Join) -> Result<()> {
        let more = more.clone();
        self.change(move |tx| join::extend(tx, &more))
    }

    fn members(&self, id: &str, most: usize) -> Result<Vec<MemberEnd>> {
        let now = clock::wall_ms();
        self.handle.database().read(|connection| join::members(connection, (id, most), now))?
    }

    fn renew(&self, joined: &JoinClaim) -> Result<bool> {
        let joined = joined.clone();
        self.change(move |tx| join::renew(tx, &joined))
    }

    fn close<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        let (cost, joined) = (self.cost(&[]), joined.clone());
        let close = move |tx: &mut Tx<'_>| join::close(tx, &joined);
        Box::pin(self.handle.database().write_async(cost, close))
    }

    fn reopen<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        let (cost, joined) = (self.cost(&[]), joined.clone());
        let reopen = move |tx: &mut Tx<'_>| join::reopen(tx, &joined);
        Box::pin(self.handle.database().write_async(cost, reopen))
    }
}

impl ResultStore for SqliteResults {
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let refused = batch.iter().enumerate().filter(|(_, record)| !fits(record));
            let refused: Vec<_> = refused.map(|(n, r)| (n, self.too_large(r))).collect();
            let mut stored = Stored::default();
            if refused.len() < batch.len() {
                let (cost, writing) = (self.cost(batch), self.writing(batch));
                stored = self.handle.database().write_async(cost, writing).await?;
            }
            stored.refused = refused;
            Ok(stored)
        })
    }

    fn put(&self, record: &Record) -> Result<()> {
        if !fits(record) {
            return Err(self.too_large(record));
        }
        // A client counts nothing: it could not publish what follows.
        let batch = [Record { member: None, ..record.clone() }];
        let (cost, deadline) = (self.cost(&batch), clock::instant() + TIMEOUT);
        self.handle.database().write(cost, deadline, self.writing(&batch)).map(drop)
    }

    fn get(&self, ids: &[&str]) -> Result<Vec<Option<Bytes>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let now = clock::wall_ms();
        self.handle.database().read(|connection| {
            ids.iter()
                .map(|id| Ok(find(connection, id, now)?.map(|(_, document)| document)))
                .collect()
        })
    }

    fn wait(
        &self,
        id: &str,
        _origin: Origin,
        deadline: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>> {
        if let Some(document) = self.ready(id)? {
            return Ok(Some(document));
        }
        let notifier = self.handle.database().notifier().clone();
        let _waiter = notifier.waiter();
        let mut next_interrupt = clock::instant() + INTERRUPT;
        let mut next_look = clock::instant();
        let mut seen = None;
        loop {
            let (count, now) = (notifier.count(), clock::instant());
            if seen != Some(count) || now >= next_look {
                if let Some(document) = self.ready(id)? {
                    return Ok(Some(document));
                }
                notifier.watch();
                (seen, next_look) = (Some(count), now + POLL_INTERVAL);
            }
            if deadline.is_some_and(|d| now >= d) {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("task `{id}` was not ready before the deadline"),
                ));
            }
            if now >= next_interrupt {
                if interrupt() {
                    return Ok(None);
                }
                next_interrupt = clock::instant() + INTERRUPT;
            }
            let until = deadline.map_or(next_interrupt, |d| d.min(next_interrupt));
            notifier.wait(count, until.min(next_look));
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
            database: Arc::clone(self.handle.database()),
            waiter: None,
            seen: 0,
        })
    }

    fn forget(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.change(move |tx| {
            tx.prepare("DELETE FROM result WHERE hash = ?1 AND id = ?2")?
                .execute((hash(&id), &id))
                .map(drop)
        })
    }

    fn cleanup(&self) -> Result<u64> {
        let mut all = 0;
        loop {
            // Slices, so that nobody waits long for the lock.
            let count = self.change(sweep)?;
            all += count;
            if count < CLEAN_SLICE as u64 {
                return Ok(all);
            }
        }
    }

    fn reply_to(&self) -> &str {
        &self.reply_to
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// Writes one record unless one is there that does not yield to it and has not expired.
fn write(tx: &Tx<'_>, record: &Record) -> rusqlite::Result<()> {
    let hash = hash(&record.id);
    let found: Option<(i64, bool)> = tx
        .prepare("SELECT number, state, expires IS NULL OR expires > ?3 FROM result WHERE hash = ?1 AND id = ?2")?
        .query_row((hash, &record.id, tx.now), |row| {
            let stays = !State::from_name(row.get_ref(1)?.as_str()?).yields_to(&record.state);
            Ok((row.get(0)?, stays && row.get(2)?))
        })
        .optional()?;
    let expires = record.expires_ms.map(|ms| tx.now.saturating_add_unsigned(ms));
    let (state, document) = (record.state.as_str(), &record.document[..]);
    match found {
        Some((_, true)) => Ok(0),
        Some((number, false)) => tx
            .prepare("UPDATE result SET state = ?2, expires = ?3, document = ?4 WHERE number = ?1")?
            .execute((number, state, expires, document)),
        None => tx
            .prepare("INSERT INTO result (hash, id, state, expires, document) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((hash, &record.id, state, expires, document)),
    }
    .map(drop)
}

fn fits(record: &Record) -> bool {
    record.document.len() <= LARGEST
}

/// Deletes a slice of what has expired; how many.
fn sweep(tx: &mut Tx<'_>) -> rusqlite::Result<u64> {
    join::sweep(tx)?;
    let sql = "DELETE FROM result WHERE number IN (SELECT number FROM result WHERE expires <= ?1 LIMIT ?2)";
    Ok(tx.prepare(sql)?.execute((tx.now, CLEAN_SLICE))? as u64)
}

fn find(
    connection: &Connection,
    id: &str,
    now: Millis,
) -> rusqlite::Result<Option<(State, Bytes)>> {
    connection
        .prepare_cached("SELECT state, document FROM result WHERE hash = ?1 AND id = ?2 AND (expires IS NULL OR expires > ?3)")?
        .query_row((hash(id), id, now), |row| {
            Ok((State::from_name(row.get_ref(0)?.as_str()?), Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)))
        })
        .optional()
}

/// Under what a task id is found: FNV-1a. Written to disk, so never changed; ids that collide are
/// told apart by the id itself.
fn hash(id: &str) -> i64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    id.bytes().fold(0xcbf2_9ce4_8422_2325, fold) as i64
}
