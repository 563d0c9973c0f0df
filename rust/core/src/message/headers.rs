//! The typed headers and properties of a task message.
//!
//! Names are Celery's. Absent headers have their protocol defaults; headers that the protocol does
//! not know are kept in `extra`, in order, and passed on. The rare ones are boxed together so that
//! the common message stays small.

use serde_json::{Map, Value};

/// The whole number that `f` is, if it is one that a float holds exactly: `30.0` travels as `30`.
pub(super) fn whole(f: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    (f.fract() == 0.0 && f.abs() <= EXACT).then_some(f as i64)
}

/// `[hard, soft]` time limits in seconds, in Celery's order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeLimit {
    /// Seconds after which the task's process is killed.
    pub hard: Option<f64>,
    /// Seconds after which `SoftTimeLimitExceeded` is raised inside the task.
    pub soft: Option<f64>,
}

/// What to run, when, and where it belongs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    /// Registered name of the task.
    pub task: String,
    /// Task id: any non-empty text, usually a UUID.
    pub id: String,
    /// Earliest time of execution, microseconds since the Unix epoch.
    pub eta: Option<i64>,
    /// Not executed after this time, microseconds since the Unix epoch.
    pub expires: Option<i64>,
    /// How many times the task has been retried.
    pub retries: u32,
    /// Limits of this call; they override the task's own.
    pub timelimit: TimeLimit,
    /// Whether the caller wants no result; `None` leaves it to the task.
    pub ignore_result: Option<bool>,
    /// First task of the workflow; `None` means the task itself.
    pub root_id: Option<String>,
    /// The task that published this one.
    pub parent_id: Option<String>,
    /// Content type of the compression of the body, for example `application/x-gzip`.
    pub compression: Option<String>,
    /// What few messages carry.
    pub rare: Option<Box<Rare>>,
}

/// Headers that few messages carry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rare {
    /// Language of the producer when it is not `py`.
    pub lang: Option<String>,
    /// Name shown in logs and events instead of the task's.
    pub shadow: Option<String>,
    /// Group the task belongs to, and its position in it.
    pub group: Option<String>,
    /// Position inside the group; orders the results of a chord.
    pub group_index: Option<i64>,
    /// Printable arguments, at most 1024 characters.
    pub argsrepr: Option<String>,
    /// Printable keyword arguments, at most 1024 characters.
    pub kwargsrepr: Option<String>,
    /// Name of the publishing process.
    pub origin: Option<String>,
    /// How often the task was replaced.
    pub replaced_task_nesting: u32,
    /// Names of the stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// Stamp name to value.
    pub stamps: Map<String, Value>,
    /// Headers that the protocol does not know, kept and passed on.
    pub extra: Map<String, Value>,
}

/// What the transport needs to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// Where replies go: the client's reply id. Empty is read as `None`.
    pub reply_to: Option<String>,
    /// Usually the task id; `None` means equal to it.
    pub correlation_id: Option<String>,
    /// 0 to 9; on Redis, as in Celery, 0 is served first. A foreign sender's higher number is kept.
    pub priority: u8,
    /// 1 transient, 2 persistent; `None` means 2, and is what a reader makes of it.
    pub delivery_mode: Option<u8>,
    /// Time to live in milliseconds, as text.
    pub expiration: Option<String>,
    /// Exchange the message was published to; empty for the default one.
    pub exchange: String,
    /// Routing key; the queue's name on the default exchange.
    pub routing_key: String,
    /// Unique per delivery; made up when absent.
    pub delivery_tag: Option<String>,
}

impl Headers {
    /// The rare headers, or their defaults.
    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or_else(|| no_rare())
    }

    /// The rare headers, made when absent.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    /// Name for logs and events: the shadow if there is one.
    pub fn display_name(&self) -> &str {
        self.rare().shadow.as_deref().unwrap_or(&self.task)
    }

    /// A root that is the task itself is none.
    pub(super) fn settle_root(&mut self) {
        if self.root_id.as_deref().is_some_and(|root| root == self.id) {
            self.root_id = None;
        }
    }

    /// First task of the workflow.
    pub fn root(&self) -> &str {
        self.root_id.as_deref().unwrap_or(&self.id)
    }
}

/// What a message without rare headers has.
pub(super) fn no_rare() -> &'static Rare {
    static NONE: std::sync::OnceLock<Rare> = std::sync::OnceLock::new();
    NONE.get_or_init(Rare::default)
}
