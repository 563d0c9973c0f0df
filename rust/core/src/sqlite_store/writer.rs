//! Group commit: many works in one transaction, one fsync for all of them.
//!
//! A group is bounded in work and in time, so that nobody waits long for others. When one work fails, nothing of the group
//! is kept and each is tried alone, so that a failure is answered to the one who caused it. Works are therefore run more than once at
//! times, and hand over their value only after the commit.

use std::{
    collections::VecDeque,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    bell::Bell,
    connect,
    failure::{self, is_busy},
    identity::Identity,
    tx::{Names, Tx},
};
use crate::{
    clock,
    error::{Error, Result},
};

/// Rows that fill a group.
const GROUP_ROWS: usize = 20_000;
/// Bytes that fill a group.
const GROUP_BYTES: usize = 16 << 20;
/// No further work is begun after this.
const GROUP_TIME: Duration = Duration::from_millis(20);

/// The first wait for another process's transaction; doubled up to the last.
const FIRST_WAIT: Duration = Duration::from_micros(50);
const LAST_WAIT: Duration = Duration::from_millis(1);

/// What a work asks of its group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Whether the commit must be on the disk before the answer.
    pub(crate) durable: bool,
    /// Rows it writes, about.
    pub(crate) rows: usize,
    /// Bytes it writes, about.
    pub(crate) bytes: usize,
}

type Run<T> = Box<dyn FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send>;
type Peek<T> = Box<dyn FnMut(&Connection) -> rusqlite::Result<Option<T>> + Send>;
type Map<T> = Box<dyn FnOnce(T) -> T + Send>;
type Then<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// Something to be done in a transaction, and what to do with its value after the commit.
pub(crate) struct Work<T> {
    cost: Cost,
    deadline: Instant,
    run: Run<T>,
    peek: Option<Peek<T>>,
    value: Option<T>,
    map: Option<Map<T>>,
    then: Option<Then<T>>,
}

impl<T> Work<T> {
    /// `run` may be called again when its group fails.
    pub(crate) fn new(
        cost: Cost,
        deadline: Instant,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Self {
        Self { cost, deadline, run: Box::new(run), peek: None, value: None, map: None, then: None }
    }

    /// Looks first whether a transaction is needed at all: `peek` answers with the value when it is not.
    pub(crate) fn unless(
        mut self,
        peek: impl FnMut(&Connection) -> rusqlite::Result<Option<T>> + Send + 'static,
    ) -> Self {
        self.peek = Some(Box::new(peek));
        self
    }

    /// Takes the value in hand right after the commit, whether or not anybody still waits for it.
    pub(crate) fn map(mut self, map: impl FnOnce(T) -> T + Send + 'static) -> Self {
        self.map = Some(Box::new(map));
        self
    }

    /// What to do with the value.
    pub(super) fn then(mut self, then: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        self.then = Some(Box::new(then));
        self
    }
}

/// A work whatever its value.
pub(super) trait Job: Send {
    fn cost(&self) -> Cost;
    fn deadline(&self) -> Instant;
    /// Whether it is done without a transaction.
    fn peek(&mut self, connection: &Connection) -> rusqlite::Result<bool>;
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// After the commit, or when it failed.
    fn finish(&mut self, outcome: Result<()>);
}

impl<T: Send> Job for Work<T> {
    fn cost(&self) -> Cost {
        self.cost
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn peek(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        // A value of an attempt that was rolled back is none.
        self.value = match &mut self.peek {
            Some(peek) => peek(connection)?,
            None => None,
        };
        Ok(self.value.is_some())
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.run)(tx)?);
        Ok(())
    }

    fn finish(&mut self, outcome: Result<()>) {
        let Some(then) = self.then.take() else { return };
        let (value, map) = (self.value.take(), self.map.take());
        then(outcome.map(|()| {
            let value = value.expect("a work that was committed has run");
            match map {
                Some(map) => map(value),
                None => value,
            }
        }));
    }
}

/// The connection that writes, and what is known about the database.
pub(super) struct Writer {
    connection: Connection,
    /// The file that it writes.
    pub(super) file: Option<Identity>,
    names: Names,
    /// Whether commits are synced now.
    durable: Option<bool>,
}

type Jobs = VecDeque<Box<dyn Job>>;

impl Writer {
    pub(super) fn open(path: &Path, deadline: Instant) -> Result<Self> {
        let connection = connect::writer(path, deadline)?;
        Ok(Self { connection, file: Identity::of(path), names: Names::default(), durable: None })
    }

    /// Takes a group from the front of `pending`, runs it and answers. Whether the connection is still good.
    pub(super) fn run_group(&mut self, path: &Path, bell: &Bell, pending: &mut Jobs) -> bool {
        let mut jobs = cut(pending);
        match self.attempt(&mut jobs, pending) {
            Ok(rings) => {
                if rings {
                    bell.ring();
                }
                finish(jobs, || Ok(()));
                true
            }
            Err(error) => {
                self.abandon();
                if is_busy(&error) {
                    // What has time left goes back to where it was, in order.
                    let now = clock::instant();
                    let (late, early): (Jobs, Jobs) =
                        jobs.into_iter().partition(|j| j.deadline() <= now);
                    finish(late, || Err(failure::locked(path)));
                    early.into_iter().rev().for_each(|j| pending.push_front(j));
                    return true;
                }
                if jobs.len() == 1 {
                    finish(jobs, || Err(failure::describe(path, &error)));
                    return false;
                }
                // Each alone, so that only the one that cannot be done fails.
                let (mut good, mut waiting) = (true, Jobs::new());
                for job in jobs {
                    let mut alone = Jobs::from([job]);
                    good &= self.run_group(path, bell, &mut alone);
                    waiting.append(&mut alone);
                }
                waiting.into_iter().rev().for_each(|j| pending.push_front(j));
                good
            }
        }
    }

    /// One transaction; whether the bell must ring. Jobs that it has no time for go back to `pending`.
    fn attempt(&mut self, jobs: &mut Jobs, pending: &mut Jobs) -> rusqlite::Result<bool> {
        let mut done = Jobs::new();
        let mut open = Jobs::new();
        while let Some(mut job) = jobs.pop_front() {
            match job.peek(&self.connection) {
                Ok(true) => done.push_back(job),
                Ok(false) => open.push_back(job),
                Err(error) => {
                    jobs.push_front(job);
                    jobs.extend(open);
                    jobs.extend(done);
                    return Err(error);
                }
            }
        }
        finish(done, || Ok(()));
        *jobs = open;
        if jobs.is_empty() {
            return Ok(false);
        }
        self.begin(jobs)?;
        let started = clock::instant();
        let mut tx = Tx::new(&self.connection, &mut self.names, clock::wall_ms());
        let mut ran = 0;
        for job in jobs.iter_mut() {
            if ran > 0 && started.elapsed() > GROUP_TIME {
                break;
            }
            job.run(&mut tx)?;
            ran += 1;
        }
        let rings = tx.finish()?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        for job in jobs.split_off(ran).into_iter().rev() {
            pending.push_front(job);
        }
        Ok(rings)
    }

    /// Begins a transaction, waiting for other processes until the first deadline.
    fn begin(&mut self, jobs: &Jobs) -> rusqlite::Result<()> {
        let durable = jobs.iter().any(|j| j.cost().durable);
        if self.durable != Some(durable) {
            // A log synced by a later commit is synced with everything before it: what is not durable by itself can be lost, but
            // never a part of it while something later is kept.
            self.connection.pragma_update(
                None,
                "synchronous",
                if durable { "full" } else { "normal" },
            )?;
            self.durable = Some(durable);
        }
        let deadline = jobs.iter().map(|j| j.deadline()).min().unwrap_or_else(clock::instant);
        let mut wait = FIRST_WAIT;
        loop {
            match self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
                Err(error) if is_busy(&error) && clock::instant() < deadline => {
                    // The lock of another process can only be tried for. A thread that is not unparked sleeps.
                    std::thread::park_timeout(wait);
                    wait = (wait * 2).min(LAST_WAIT);
                }
                other => return other.map(drop),
            }
        }
    }

    /// After a failure: no transaction is open, and nothing read in it is believed.
    fn abandon(&mut self) {
        self.names = Names::default();
        if !self.connection.is_autocommit() {
            // When this fails too, the next BEGIN fails and says why.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

/// A group from the front of `pending`, at least one.
fn cut(pending: &mut Jobs) -> Jobs {
    let (mut rows, mut bytes, mut count) = (0, 0, 0);
    for job in pending.iter() {
        let cost = job.cost();
        (rows, bytes) = (rows + cost.rows, bytes + cost.bytes);
        if count > 0 && (rows > GROUP_ROWS || bytes > GROUP_BYTES) {
            break;
        }
        count += 1;
    }
    let rest = pending.split_off(count);
    std::mem::replace(pending, rest)
}

fn finish(jobs: Jobs, outcome: impl Fn() -> Result<(), Error>) {
    for mut job in jobs {
        job.finish(outcome());
    }
}
