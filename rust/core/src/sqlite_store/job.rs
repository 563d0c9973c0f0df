//! What is to be done in a group commit, and who gets its value.

use std::time::Instant;

use super::tx::Tx;
use crate::error::Result;

/// What a job asks of its group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Whether the commit must be on the disk before the answer.
    pub(crate) durable: bool,
    /// Whether it puts in what was not there before, which is refused while the disk has no room to
    /// spare.
    pub(crate) publishes: bool,
    /// Rows it writes, about.
    pub(crate) rows: usize,
    /// Bytes it writes, about.
    pub(crate) bytes: usize,
}

/// A job whatever its value. One that is dropped without `done` was lost by a panic.
pub(super) trait Job: Send {
    fn cost(&self) -> Cost;
    fn deadline(&self) -> Instant;
    /// Runs again when its group fails, so it hands over its value only in [`Job::done`].
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// After the commit, or when it failed.
    fn done(self: Box<Self>, outcome: Result<()>);
}

/// The job that every caller makes of its closures.
pub(super) struct Work<T, R, D> {
    pub(super) cost: Cost,
    pub(super) deadline: Instant,
    pub(super) run: R,
    pub(super) done: D,
    /// Of the last run.
    pub(super) value: Option<T>,
}

impl<T, R, D> Job for Work<T, R, D>
where
    T: Send,
    R: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send,
    D: FnOnce(Result<T>) + Send,
{
    fn cost(&self) -> Cost {
        self.cost
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.run)(tx)?);
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<()>) {
        let Self { done, value, .. } = *self;
        done(outcome.map(|()| value.expect("a job that was committed has run")));
    }
}
