//! The writing connection and its transactions.
//!
//! A group is a transaction that many jobs share, so that they share its fsync. It is bounded in
//! work and in time, so that nobody waits long for others. When one job of a group fails, nothing
//! of the group is kept and each job is tried alone, so that the failure is answered to the one who
//! caused it.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    connect,
    failure::{self, is_busy},
    identity::Identity,
    job::{Cost, Job},
    notifier::Notifier,
    space::Space,
    tx::{Names, Tx},
};
use crate::{clock, error::Result};

/// Rows that fill a group.
const GROUP_ROWS: usize = 20_000;
/// Bytes that fill a group.
const GROUP_BYTES: usize = 16 << 20;
/// No further job is begun after this.
const GROUP_TIME: Duration = Duration::from_millis(20);

/// The first wait for another process's transaction; doubled up to the last.
const FIRST_WAIT: Duration = Duration::from_micros(50);
const LAST_WAIT: Duration = Duration::from_millis(1);

pub(super) type Jobs = VecDeque<Box<dyn Job>>;

/// The connection that writes, and what is known about the database.
pub(super) struct Writer {
    path: PathBuf,
    connection: Connection,
    notifier: Arc<Notifier>,
    /// The file that it writes.
    pub(super) file: Option<Identity>,
    /// Whether something failed that was no lock of another process: a new connection is better
    /// than this one.
    pub(super) failed: bool,
    space: Space,
    names: Names,
    /// Whether commits are synced now.
    durable: Option<bool>,
}

impl Writer {
    pub(super) fn open(path: &Path, notifier: &Arc<Notifier>, deadline: Instant) -> Result<Self> {
        Ok(Self {
            connection: connect::writer(path, deadline)?,
            file: Identity::of(path),
            path: path.to_owned(),
            notifier: notifier.clone(),
            failed: false,
            space: Space::default(),
            names: Names::default(),
            durable: None,
        })
    }

    /// Runs one job in a transaction of its own.
    pub(super) fn run_alone<T>(
        &mut self,
        cost: Cost,
        deadline: Instant,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        if !self.space.admits(&self.path, &self.connection, cost) {
            return Err(failure::no_room(&self.path));
        }
        self.transaction(cost.durable, deadline, run).map_err(|error| {
            if is_busy(&error) { failure::locked(&self.path) } else { self.fail(&error) }
        })
    }

    /// Runs the jobs in one transaction and answers them. What it had no time for, or what found
    /// the file locked and may still wait, is left in `group`, in order.
    pub(super) fn run_group(&mut self, group: &mut Jobs) {
        for job in std::mem::take(group) {
            if self.space.admits(&self.path, &self.connection, job.cost()) {
                group.push_back(job);
            } else {
                job.done(Err(failure::no_room(&self.path)));
            }
        }
        let durable = group.iter().any(|job| job.cost().durable);
        let Some(deadline) = group.iter().map(|job| job.deadline()).min() else { return };
        let ran = self.transaction(durable, deadline, |tx| {
            let started = clock::instant();
            for (ran, job) in group.iter_mut().enumerate() {
                if ran > 0 && started.elapsed() > GROUP_TIME {
                    return Ok(ran);
                }
                job.run(tx)?;
            }
            Ok(group.len())
        });
        match ran {
            Ok(ran) => group.drain(..ran).for_each(|job| job.done(Ok(()))),
            Err(error) if is_busy(&error) => {
                let now = clock::instant();
                let (late, early): (Jobs, Jobs) =
                    group.drain(..).partition(|job| job.deadline() <= now);
                *group = early;
                for job in late {
                    job.done(Err(failure::locked(&self.path)));
                }
            }
            Err(error) if group.len() == 1 => {
                group.drain(..).for_each(|job| job.done(Err(self.fail(&error))));
            }
            Err(_) => {
                for job in std::mem::take(group) {
                    let mut alone = Jobs::from([job]);
                    self.run_group(&mut alone);
                    group.append(&mut alone);
                }
            }
        }
    }

    fn fail(&mut self, error: &rusqlite::Error) -> crate::error::Error {
        self.failed = true;
        failure::describe(&self.path, error)
    }

    /// Runs `run` between BEGIN and COMMIT, and notifies afterwards if it asked for it. Nothing is
    /// kept when it fails.
    fn transaction<T>(
        &mut self,
        durable: bool,
        deadline: Instant,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let result = self.begin(durable, deadline).and_then(|()| self.fill(run));
        match result {
            Ok((value, notify)) => {
                if notify {
                    self.notifier.notify();
                }
                Ok(value)
            }
            Err(error) => {
                // Nothing that was read in it is believed.
                self.names = Names::default();
                if !self.connection.is_autocommit() {
                    // When this fails too, the next BEGIN fails and says why.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                Err(error)
            }
        }
    }

    /// Runs `run` in the transaction that was begun, and commits; the value, and whether to notify.
    fn fill<T>(
        &mut self,
        mut run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(T, bool)> {
        let mut tx = Tx::new(&self.connection, &mut self.names, clock::wall_ms());
        let value = run(&mut tx)?;
        let notify = tx.finish()?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok((value, notify))
    }

    /// Begins a transaction, waiting for other processes until the deadline.
    fn begin(&mut self, durable: bool, deadline: Instant) -> rusqlite::Result<()> {
        if self.durable != Some(durable) {
            // A log synced by a later commit is synced with everything before it: what is not
            // durable by itself can be lost, but never a part of it while something later is kept.
            let level = if durable { "full" } else { "normal" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.durable = Some(durable);
        }
        let mut wait = FIRST_WAIT;
        loop {
            match self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
                Err(error) if is_busy(&error) && clock::instant() < deadline => {
                    // The lock of another process can only be tried for. A thread that is not
                    // unparked sleeps.
                    std::thread::park_timeout(wait);
                    wait = (wait * 2).min(LAST_WAIT);
                }
                other => return other.map(drop),
            }
        }
    }
}

/// A group from the front of `pending`, at least one.
pub(super) fn cut(pending: &mut Jobs) -> Jobs {
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
