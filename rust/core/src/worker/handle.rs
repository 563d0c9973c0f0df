//! The worker's handle: what the rest of the process may ask of a running worker.
//!
//! A command is a message to the loop; an answer is the snapshot that the loop leaves after each
//! turn. The mutex is held for copying a few numbers and never across an await. Everything here may
//! be called from any thread, also from Python's signal handlers, which run as ordinary code.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{Error, ErrorKind, Result},
    worker::{
        command::{Command, Reply},
        shutdown::Stop,
    },
};

/// Figures of a worker, as of the last turn of its loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Executions that ended, however they ended.
    pub processed: u64,
    /// Of those, returned.
    pub succeeded: u64,
    /// Of those, raised, ran out of time or lost their process.
    pub failed: u64,
    /// Of those, were published again.
    pub retried: u64,
    /// Tasks that were dropped or killed because they were revoked.
    pub revoked: u64,
    /// Tasks that run now.
    pub active: usize,
    /// Tasks that wait for a slot or a rate limit.
    pub reserved: usize,
    /// Tasks that wait here for their due time (those beyond the horizon wait in the broker).
    pub scheduled: usize,
    /// How many messages may be claimed now.
    pub prefetch: usize,
    /// Whether the connection to the broker stands.
    pub connected: bool,
    /// Process ids of the pool's children.
    pub children: Vec<u32>,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has not been connected yet.
    #[default]
    Starting,
    /// It has been connected at least once.
    Started,
    /// `run` has returned, or was dropped.
    Ended,
}

#[derive(Debug, Default)]
struct Board {
    stats: Stats,
    standing: Standing,
}

/// What the loop writes and handles read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
}

impl Shared {
    /// Changes the figures.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.lock().stats);
    }

    /// Notes how far the worker has come; it never goes back.
    pub(super) fn reach(&self, standing: Standing) {
        self.lock().standing = standing;
        self.changed.notify_all();
    }

    /// The figures.
    pub(super) fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // The numbers are valid at every instant, so a panic elsewhere while they were locked
        // spoils nothing.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks things of a running worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(commands: mpsc::UnboundedSender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// Asks the worker to stop; returns at once. The second request is cold whatever it asks.
    /// Nothing happens when the worker has ended already.
    pub fn stop(&self, how: Stop) {
        self.send(Command::Stop(how));
    }

    /// Asks for anything; returns at once. When the worker has ended the command is dropped, and
    /// its [`Reply`] with it.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Asks with what `command` makes of a [`Reply`], and waits for the answer. Must not be called
    /// in the worker's task.
    ///
    /// # Errors
    /// What the worker says; `Connection` when it has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T> {
        let (sender, answer) = oneshot::channel();
        // Who does not wait any more needs no answer.
        self.send(command(Reply::new(move |answer| drop(sender.send(answer)))));
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The figures as of the last turn of the loop.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Blocks until the worker has been connected or has ended, or for `limit`; how far it has
    /// come.
    pub fn wait_started(&self, limit: Duration) -> Standing {
        let waiting = |board: &mut Board| board.standing == Standing::Starting;
        let board = self.shared.lock();
        let (board, _) = self
            .shared
            .changed
            .wait_timeout_while(board, limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        board.standing
    }
}

/// There is no worker that could answer.
#[cold]
pub fn ended() -> Error {
    Error::new(ErrorKind::Connection, "the worker has ended, expected one that runs")
}
