//! The port to where user code runs. A pool gets [`Call`]s and gives [`PoolNews`]; it knows no
//! brokers.

#[cfg(unix)] // it stands on fork and on passing open files
pub mod process;

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    clock::Micros,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// What crosses to the pool: the message in its compact encoding and what the worker knows beyond
/// it.
///
/// The whole message crosses, not only name and body: `self.request` shows it and `retry()`
/// publishes it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The worker's number for the request; comes back in the outcome.
    pub key: u64,
    /// The queue it was delivered from.
    pub queue: Arc<str>,
    /// How many earlier deliveries ended with a lost worker.
    pub redeliveries: u32,
    /// Effective time limits in microseconds, of the call, else of the task, else of the worker.
    pub soft_us: Option<u64>,
    /// See `soft_us`.
    pub hard_us: Option<u64>,
    /// The message, compact.
    pub message: Bytes,
    /// Set when the worker has ended the task (it expired, or its process is gone): the task is not
    /// run, and its hooks, signals, error callbacks and chain are told of this end; what is to be
    /// published for it comes back in the outcome. JSON: the exception as in a result document, and
    /// the `state`. Only the worker writes it; nothing in a message does.
    pub ended: Option<Box<[u8]>>,
}

/// How the execution of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It returned.
    Success = 0,
    /// It raised, or its result could not be encoded.
    Failure = 1,
    /// It was published again.
    Retry = 2,
    /// It raised `Ignore`: no result.
    Ignore = 3,
    /// It raised `Reject(requeue=False)`.
    Reject = 4,
    /// It raised `Reject(requeue=True)`.
    Requeue = 5,
    /// Its body could not be opened or decoded; `note` says why. User code never ran.
    Undecodable = 6,
}

/// A message that follows a task: a callback, the next step of a chain, an error callback, a retry.
/// It is encoded where the task ran and published by the worker, with the outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowUp {
    /// Name of its queue.
    pub queue: Arc<str>,
    /// Its task id, for the log.
    pub id: Arc<str>,
    /// The encoded message.
    pub data: Bytes,
}

/// A task that will never run because another has ended: an element of its chain, or what was to run
/// with it.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedTask {
    /// Its id.
    pub id: String,
    /// Whether it ends as revoked; else as failed.
    pub revoked: bool,
    /// The result document.
    pub document: Bytes,
    /// The group in which it counts as a member of a chord, and its place there.
    pub member: Option<(String, Option<i64>)>,
}

/// What came back from the pool for one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The call's number.
    pub key: u64,
    /// Process id of the child that ran it, for the log; 0 inside the worker's process. The pool
    /// fills it in.
    pub pid: u32,
    /// How it ended.
    pub status: Status,
    /// How long user code ran.
    pub runtime_us: u32,
    /// The result document to store; `None` when no result is wanted.
    pub document: Option<Bytes>,
    /// For the log and for events: the printable result or exception; empty when neither is wanted.
    pub note: String,
    /// The formatted traceback of a failure or retry, for the log; empty otherwise. A failure
    /// without one is one that the task declared (`throws`).
    pub traceback: String,
    /// What is published because of it; empty for most.
    pub follow: Vec<FollowUp>,
    /// What ends with it; empty for most.
    pub ended: Vec<EndedTask>,
}

impl Outcome {
    /// Of the call with this key, whose body was not opened yet.
    pub fn of(key: u64) -> Self {
        Self {
            key,
            pid: 0,
            status: Status::Undecodable,
            runtime_us: 0,
            document: None,
            note: String::new(),
            traceback: String::new(),
            follow: Vec::new(),
            ended: Vec::new(),
        }
    }
}

/// Why the process or thread that ran a call is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It ran past its hard limit and was killed; the limit in microseconds.
    TimeLimit(u64),
    /// The process ended by itself or was killed; how, in words: `signal 9 (SIGKILL)`, `exit code
    /// 1`.
    Died(String),
    /// It was killed by this signal because its task was revoked.
    Terminated(i32),
    /// It was killed because of another call that ran in the same process.
    Beside,
    /// It was killed by a cold shutdown.
    Shutdown,
}

/// What a pool reports.
#[derive(Clone, Debug)]
pub enum PoolNews {
    /// The call has begun (reported for calls that run longer than an instant; an outcome implies
    /// it).
    Started {
        /// The call's number.
        key: u64,
        /// Process id that runs it.
        pid: u32,
        /// Monotonic time of the start.
        at: Micros,
    },
    /// It ended.
    Done(Outcome),
    /// It had begun and its process is gone.
    Lost {
        /// The call's number.
        key: u64,
        /// Process id that ran it.
        pid: u32,
        /// Why.
        why: Lost,
    },
    /// It never began and the pool gives it back to be submitted again.
    Returned {
        /// The call's number.
        key: u64,
    },
    /// Something for the log: a child was replaced.
    Notice(String),
}

/// What became of the processes of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Whether calls run, now or as soon as a child that ended is replaced.
    pub up: bool,
    /// Children that were started.
    pub started: u64,
    /// Children that ended by themselves or were killed from outside.
    pub died: u64,
    /// Children that were killed for a time limit.
    pub timed_out: u64,
    /// Children that were killed because a task was revoked.
    pub terminated: u64,
    /// Children that were told to exit: after `max_tasks_per_child`, or when the pool shrank.
    pub retired: u64,
}

/// Where user code runs.
pub trait Pool: Send {
    /// How many calls may run at the same time.
    fn slots(&self) -> usize;

    /// How many more calls the pool takes right now: free slots, plus what may wait at a slot that
    /// turns over quickly.
    fn room(&self) -> usize;

    /// Takes calls to run, in order. At most `room()` of them.
    fn submit(&mut self, calls: Vec<Call>) -> Result<()>;

    /// Waits for the next news; cancel-safe. Enforces the time limits of what runs. May be empty:
    /// then only `room()` grew.
    fn news(&mut self) -> BoxFuture<'_, Result<Vec<PoolNews>>>;

    /// Takes back every call that has not begun; [`PoolNews::Returned`] follows for each (at once,
    /// or with the next news). Called before a shutdown, so that those go back to their queues
    /// instead of running. A pool that starts what it takes has none.
    fn recall(&mut self) {}

    /// Process ids of the children that run now; empty for pools inside the worker's process.
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Its processes, counted. A pool inside the worker's process has none and is up.
    fn census(&self) -> Census {
        Census { up: true, ..Census::default() }
    }

    /// Whether it can kill what runs, and so keep hard time limits.
    fn kills(&self) -> bool {
        true
    }

    /// Takes a call back that has not begun; whether it was. [`PoolNews::Returned`] follows, also for
    /// others that had to be taken back with it.
    fn cancel(&mut self, _key: u64) -> bool {
        false
    }

    /// Whether [`Pool::terminate`] can be asked for with this signal.
    ///
    /// # Errors
    /// It cannot, with the signals that the pool knows.
    fn can_terminate(&self, _signal: i32) -> Result<()> {
        Err(cannot(self.name(), "end a task that runs"))
    }

    /// Ends the call `key`, which has begun, as the signal says: [`Lost::Terminated`] follows,
    /// unless it ends by itself first. Nothing happens when it is not here.
    fn terminate(&mut self, _key: u64, _signal: i32) {}

    /// Adds so many processes or threads; how many calls run at a time from now on.
    fn grow(&mut self, _by: usize) -> Result<usize> {
        Err(cannot(self.name(), "grow"))
    }

    /// Takes away so many processes or threads, those that idle first and the others when their task
    /// ends; at least one stays. How many calls run at a time from now on.
    fn shrink(&mut self, _by: usize) -> Result<usize> {
        Err(cannot(self.name(), "shrink"))
    }

    /// Replaces all processes, each when what it runs has ended; the new ones import `modules` first,
    /// in the form that the program gave them.
    fn restart(&mut self, _modules: &str) -> Result<()> {
        let (pool, what) = (self.name(), "replace its processes: it has none");
        let text = format!("pool `{pool}` cannot {what}, expected `prefork`; restart the worker");
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// Ends the pool: `force` kills what runs (news `Lost`/`Returned` for it are dropped),
    /// otherwise it must be idle. What finished before its process was killed is still told by
    /// [`Pool::news`].
    fn shutdown(&mut self, force: bool) -> BoxFuture<'_, ()>;

    /// For the banner and logs: `prefork`, `threads`, `solo`.
    fn name(&self) -> &'static str;
}

/// What a pool of this kind does not do.
#[cold]
fn cannot(pool: &str, what: &str) -> Error {
    let text = format!(
        "pool `{pool}` cannot {what}, expected `prefork` or `threads`; start the worker with one of these"
    );
    Error::new(ErrorKind::Unsupported, text)
}

/// How many processes or threads a pool may grow to: what a large machine can have, and few enough
/// that a number with a digit too many is refused before the memory is gone.
const MOST: usize = 1_000;

/// How many processes or threads there are after growing.
///
/// # Errors
/// More than 1,000.
pub fn grown(slots: usize, by: usize) -> Result<usize> {
    slots.checked_add(by).filter(|sum| *sum <= MOST).ok_or_else(|| {
        let text = format!(
            "cannot grow a pool of `{slots}` by `{by}`, expected at most `{MOST}` in all; for more, start another worker"
        );
        Error::new(ErrorKind::Config, text)
    })
}

/// How many processes or threads are left after shrinking.
///
/// # Errors
/// None would be left.
pub fn shrunk(slots: usize, by: usize) -> Result<usize> {
    slots.checked_sub(by).filter(|left| *left > 0).ok_or_else(|| {
        let text = format!(
            "cannot shrink a pool of `{slots}` by `{by}`, expected at least one to be left; to run nothing, stop the worker"
        );
        Error::new(ErrorKind::Config, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_grows_to_what_a_machine_can_have() {
        for (slots, by) in [(1, 1), (1, 999), (999, 1)] {
            assert_eq!(grown(slots, by).ok(), Some(slots + by));
        }
        for (slots, by) in [(1, 1_000), (1_000, 1), (4, 1_000_000), (1, usize::MAX)] {
            let error = grown(slots, by).expect_err("too many").to_string();
            assert!(error.contains("at most `1000` in all; for more, start another"), "{error}");
        }
    }
}
