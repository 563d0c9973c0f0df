//! Waiting for results by push: one subscription per process, read by one of the threads that wait.
//!
//! There is no subscriber thread: one of the threads that wait reads for all (`waiters`). So the
//! usual case, one thread that calls `get()`, is woken by the socket itself.
//!
//! A waiter enters its name first, makes sure of the subscription, then reads the store once:
//! whatever is announced after that read is pushed. (For a task published an instant ago under a
//! standing subscription the order is reversed: `Origin::JustPublished`.) A subscription that
//! begins anew, after the connection broke, makes every waiter read again. A read every [`RECHECK`]
//! covers what no push can report: a server that dropped the announcement because the process did
//! not read for long.
//!
//! Tasks that a stock worker may run announce only on their own channel: such a wait borrows a
//! subscribed connection of its own, because a reader that is blocked cannot subscribe for others.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Origin, RedisResults, is_ready,
    waiters::{Entry, Reader, pushed, subscribe},
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

/// How long a fresh task is given to announce its result before the store is read.
const HEADSTART: Duration = Duration::from_millis(2);
/// How long a thread blocks between two calls of `interrupt`.
const PULSE: Duration = Duration::from_millis(100);
/// How often a waiter reads the store although nothing was pushed.
const RECHECK: Duration = Duration::from_secs(5);
/// How long a store may be away while somebody waits without a deadline.
const ABSENCE: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// What a thread waits for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) id: &'a str,
    pub(super) origin: Origin,
    pub(super) deadline: Option<Instant>,
}

pub(super) fn wait(
    store: &RedisResults,
    wanted: Wanted<'_>,
    interrupt: &mut dyn FnMut() -> bool,
) -> Result<Option<Bytes>> {
    let now = clock::instant();
    let mut clock =
        Clock { wanted, next_read: now + RECHECK, next_pulse: now + PULSE, away_since: None };
    loop {
        let outcome = if wanted.origin == Origin::Foreign {
            wait_foreign(store, &mut clock, interrupt)
        } else {
            wait_own(store, &mut clock, interrupt)
        };
        match outcome {
            Err(error)
                if error.kind() == ErrorKind::Connection
                    || (error.is_retryable() && !clock.is_over()) =>
            {
                if interrupt() {
                    return Ok(None);
                }
                clock.away(error)?;
            }
            done => return done,
        }
    }
}

/// The time a wait has, and what is due in it.
struct Clock<'a> {
    wanted: Wanted<'a>,
    /// When to read the store without being told to.
    next_read: Instant,
    /// When to call `interrupt`.
    next_pulse: Instant,
    /// Since when the store cannot be reached.
    away_since: Option<Instant>,
}

impl Clock<'_> {
    /// The time to block, or `Timeout`.
    fn pulse(&self) -> Result<Duration> {
        let Some(deadline) = self.wanted.deadline else { return Ok(PULSE) };
        let left = deadline.saturating_duration_since(clock::instant());
        if left.is_zero() {
            let text = format!(
                "task `{}` was not ready before the timeout; wait longer or look at its state",
                self.wanted.id
            );
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        Ok(left.min(PULSE))
    }

    /// Whether to read the store again, because it was not for long.
    fn wants_read(&self) -> bool {
        clock::instant() >= self.next_read
    }

    /// Whether it is time to call `interrupt`.
    fn wants_pulse(&mut self) -> bool {
        let now = clock::instant();
        let due = now >= self.next_pulse;
        if due {
            self.next_pulse = now + PULSE;
        }
        due
    }

    fn is_over(&self) -> bool {
        self.wanted.deadline.is_some_and(|deadline| clock::instant() >= deadline)
    }

    /// The end of one read or connect.
    fn step(&self) -> Instant {
        let soon = clock::instant() + CONNECT;
        // Never in the past: what is stored is worth one look even when the time is up.
        self.wanted
            .deadline
            .map_or(soon, |deadline| deadline.max(clock::instant() + PULSE).min(soon))
    }

    /// The store could not be reached: waits a pulse, or gives up with `error`.
    fn away(&mut self, error: Error) -> Result<()> {
        let now = clock::instant();
        let since = *self.away_since.get_or_insert(now);
        if self.is_over() || (self.wanted.deadline.is_none() && now - since > ABSENCE) {
            return Err(error);
        }
        std::thread::park_timeout(PULSE);
        Ok(())
    }

    /// The store answered.
    fn back(&mut self) {
        self.away_since = None;
        self.next_read = clock::instant() + RECHECK;
    }
}

/// Reads the document once; `None` when it is not there or not ready.
fn read(store: &RedisResults, clock: &mut Clock<'_>) -> Result<Option<Bytes>> {
    let found = store.read(&[clock.wanted.id], clock.step())?.pop().flatten();
    clock.back();
    Ok(found.filter(|document| is_ready(document)))
}

fn wait_own(
    store: &RedisResults,
    clock: &mut Clock<'_>,
    interrupt: &mut dyn FnMut() -> bool,
) -> Result<Option<Bytes>> {
    let entry = Entry::new(&store.waiting, clock.wanted.id);
    let mut reader = None;
    if store.waiting.state().subscribed.is_none() {
        // Subscribed before the first read, or the read would be for nothing.
        reader = Reader::take(&entry);
        if let Some(reader) = &mut reader {
            reader.connect(store, clock.step())?;
        }
    }
    if clock.wanted.origin == Origin::JustPublished && reader.is_none() {
        // Subscribed since before the task was published: the push says all that a read could,
        // without standing in front of the result in the server.
        reader = Reader::take(&entry);
        if let Some(reader) = &mut reader {
            reader.read(store, clock.step(), HEADSTART)?;
        }
        if let Some(document) = entry.waiter.news().document.take() {
            return Ok(Some(document));
        }
    }
    if let Some(document) = read(store, clock)? {
        return Ok(Some(document));
    }
    entry.waiter.news().reread = false;
    loop {
        let pulse = clock.pulse()?;
        if reader.is_none() {
            reader = Reader::take(&entry);
        }
        match &mut reader {
            Some(reader) => reader.read(store, clock.step(), pulse)?,
            None => entry.waiter.block(pulse),
        }
        let mut news = entry.waiter.news();
        if let Some(document) = news.document.take() {
            return Ok(Some(document));
        }
        let reread = std::mem::take(&mut news.reread);
        drop(news);
        if (clock.wants_read() || reread)
            && let Some(document) = read(store, clock)?
        {
            return Ok(Some(document));
        }
        if clock.wants_pulse() && interrupt() {
            return Ok(None);
        }
    }
}

fn wait_foreign(
    store: &RedisResults,
    clock: &mut Clock<'_>,
    interrupt: &mut dyn FnMut() -> bool,
) -> Result<Option<Bytes>> {
    let channel = store.key(clock.wanted.id);
    let spare = store.waiting.state().spare.pop();
    let mut con = match spare {
        Some(con) => con,
        None => store.server.connect_push(clock.step())?,
    };
    let failed = |e| store.server.error("subscribe", e);
    subscribe(&mut con, &channel, clock.pulse().unwrap_or(PULSE).max(PULSE)).map_err(failed)?;
    if let Some(document) = read(store, clock)? {
        store.waiting.put_spare(con, &channel);
        return Ok(Some(document));
    }
    loop {
        let pulse = match clock.pulse() {
            Ok(pulse) => pulse,
            Err(timeout) => {
                store.waiting.put_spare(con, &channel);
                return Err(timeout);
            }
        };
        con.set_read_timeout(Some(pulse)).map_err(failed)?;
        if let Some((from, document)) = pushed(&mut con).map_err(failed)?
            && from == channel.as_bytes()
            && is_ready(&document)
        {
            store.waiting.put_spare(con, &channel);
            return Ok(Some(document));
        }
        if clock.wants_read()
            && let Some(document) = read(store, clock)?
        {
            store.waiting.put_spare(con, &channel);
            return Ok(Some(document));
        }
        if clock.wants_pulse() && interrupt() {
            store.waiting.put_spare(con, &channel);
            return Ok(None);
        }
    }
}
