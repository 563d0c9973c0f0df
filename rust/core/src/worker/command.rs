//! What may be asked of a running worker: one enum, whoever asks.
//!
//! A command carries its parameters and a [`Reply`], which is called once, from the worker's task,
//! with what changed or with an error that says the value, what was expected and what to do. A reply
//! that is dropped without a call means that the worker has ended. A command is carried out between
//! two turns of the loop (`control`); what takes longer than that, like the end of a killed task,
//! is not waited for.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    clock::Millis,
    config::TaskSpec,
    error::Result,
    worker::{Condition, Stats, Stop, autoscale::Bounds, metrics::Snapshot},
};

/// Where an answer goes. It is called in the worker's task and must not block.
pub struct Reply<T>(Box<dyn FnOnce(Result<T>) + Send>);

impl<T: 'static> Reply<T> {
    /// Calls `take` with the answer.
    pub fn new(take: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self(Box::new(take))
    }

    /// Nobody wants to know.
    pub fn nobody() -> Self {
        Self::new(drop)
    }

    /// Gives the answer.
    pub(super) fn send(self, answer: Result<T>) {
        (self.0)(answer);
    }
}

/// Something that a running worker is asked to do.
pub enum Command {
    /// Stop; the second request is cold whatever it asks. [`crate::worker::Handle::stop`] awaits no
    /// answer, because the end of the worker is one.
    Stop(Stop),
    /// Drop these tasks wherever they wait, now and for the next hours, and kill those that run if
    /// `terminate` names a signal.
    Revoke {
        /// Task ids; others than those held here are remembered.
        ids: Vec<Arc<str>>,
        /// The signal for a task that runs; `None` lets it finish.
        terminate: Option<i32>,
        /// What became of them.
        reply: Reply<RevokeAnswer>,
    },
    /// The same for tasks that carry one of these stamps.
    RevokeByStamps {
        /// Names of stamps, and which values of each.
        stamps: Vec<(String, Vec<Value>)>,
        /// The signal for a task that runs; `None` lets it finish.
        terminate: Option<i32>,
        /// What became of them.
        reply: Reply<StampsAnswer>,
    },
    /// Remember these as revoked, from before; nothing that is held is looked for. A worker that
    /// awaits the first of these claims nothing before.
    Remember {
        /// Task ids, and stamps as [`stamp`] writes them.
        ids: Vec<Arc<str>>,
    },
    /// Say which ids are dropped when they come.
    Revoked {
        /// The ids, the oldest first.
        reply: Reply<Vec<Arc<str>>>,
    },
    /// Let so many executions of a task begin in a second.
    RateLimit {
        /// Name of the task.
        task: String,
        /// Executions per second; `None` is without limit.
        per_second: Option<f64>,
        /// The limit before.
        reply: Reply<Option<f64>>,
    },
    /// Change the limits of a task for executions that have not begun. A limit that came with a
    /// message stays.
    TimeLimit {
        /// Name of the task.
        task: String,
        /// The new limits.
        limits: Limits,
        /// The limits before.
        reply: Reply<Limits>,
    },
    /// Consume from another queue. The connection is made anew under its lease, so nothing that is
    /// held is lost; the answer does not wait for it.
    Consume {
        /// Its name.
        queue: Arc<str>,
        /// The queues from now on.
        reply: Reply<Vec<Arc<str>>>,
    },
    /// Consume from a queue no longer. What was claimed from it still runs here. Without the last one
    /// the worker claims nothing.
    Cancel {
        /// Its name.
        queue: Arc<str>,
        /// The queues from now on.
        reply: Reply<Vec<Arc<str>>>,
    },
    /// Add so many processes or threads.
    Grow {
        /// How many.
        by: usize,
        /// How many run at a time from now on.
        reply: Reply<usize>,
    },
    /// Take away so many processes or threads. What runs is not touched.
    Shrink {
        /// How many.
        by: usize,
        /// How many run at a time from now on.
        reply: Reply<usize>,
    },
    /// Change between what bounds the pool grows and shrinks by itself.
    Autoscale {
        /// At most; `None` leaves it.
        most: Option<usize>,
        /// At least, likewise.
        least: Option<usize>,
        /// The bounds from now on.
        reply: Reply<Bounds>,
    },
    /// Replace the processes of the pool, each when what it runs has ended.
    Restart {
        /// What they import first, in the program's own form.
        modules: String,
        /// The tasks that there are from now on, beside those before.
        tasks: Vec<(Arc<str>, TaskSpec)>,
        /// When it has begun.
        reply: Reply<()>,
    },
    /// Tell monitors what happens to tasks, or do so no longer.
    Events {
        /// Which of both.
        on: bool,
        /// Whether that is a change.
        reply: Reply<bool>,
    },
    /// Tell monitors out of turn that the worker is there.
    Heartbeat {
        /// When it is on its way.
        reply: Reply<()>,
    },
    /// Say by which facts it is judged whether the worker is ready.
    Condition {
        /// They.
        reply: Reply<Condition>,
    },
    /// Say what is measured.
    Metrics {
        /// All of it.
        reply: Reply<Box<Snapshot>>,
    },
    /// Say what is held and done.
    Report {
        /// All of it.
        reply: Reply<Report>,
    },
}

/// What no task id begins with.
const STAMP: char = '\u{1f}';

/// A stamp, written like an id: how it is remembered as revoked.
pub fn stamp(name: &str, value: &Value) -> String {
    format!("{STAMP}{name}={value}")
}

/// Whether that is a stamp.
pub fn is_stamp(id: &str) -> bool {
    id.starts_with(STAMP)
}

/// Time limits of a task in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Raises in the task.
    pub soft_us: Option<u64>,
    /// Kills its process.
    pub hard_us: Option<u64>,
}

/// What became of ids that were revoked. Those in no list are not here, and are dropped when they
/// come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokeAnswer {
    /// They waited here and will not run.
    pub dropped: Vec<String>,
    /// They run and were sent the signal.
    pub terminated: Vec<String>,
    /// They run and go on.
    pub running: Vec<String>,
}

/// What became of tasks that were revoked by their stamps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StampsAnswer {
    /// By task.
    pub tasks: RevokeAnswer,
    /// The stamps of those that were sent the signal: names, and values of each.
    pub terminated: Vec<(String, Vec<Value>)>,
}

/// What a worker holds and has done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The figures.
    pub stats: Stats,
    /// How many tasks may run at a time.
    pub slots: usize,
    /// What runs, as far as it has run for longer than an instant.
    pub active: Vec<Held>,
    /// What waits for a slot or for a rate limit.
    pub reserved: Vec<Held>,
    /// What waits here for its due time.
    pub scheduled: Vec<Held>,
    /// How many executions of each task have ended, of those that have.
    pub total: Vec<(Arc<str>, u64)>,
    /// Executions per second of the tasks that have a limit, by name.
    pub rate_limits: Vec<(Arc<str>, f64)>,
    /// The queues it consumes from.
    pub queues: Vec<Arc<str>>,
    /// Between what the pool grows and shrinks by itself.
    pub autoscale: Option<Bounds>,
}

/// A request, for a report.
#[derive(Clone, Debug)]
pub struct Held {
    /// Task id.
    pub id: String,
    /// Name of the task.
    pub task: Arc<str>,
    /// The queue it came from.
    pub queue: Arc<str>,
    /// How many workers were lost with it.
    pub redeliveries: u32,
    /// Whether it was acknowledged already.
    pub acked: bool,
    /// When it began, milliseconds since the Unix epoch.
    pub started: Option<Millis>,
    /// Process id that runs it.
    pub pid: Option<u32>,
    /// The message, compact.
    pub message: Bytes,
}
