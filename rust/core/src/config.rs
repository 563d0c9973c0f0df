//! What the worker is told at start: validated once, never read from the environment.

use std::{collections::HashMap, sync::Arc};

use crate::{
    broker::{QueueDeclaration, QueueOrder},
    clock::Micros,
};

/// Everything the worker loop needs to know. Built by the Python layer from the app's frozen
/// configuration.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Node name, `celery@host` style; in logs and STARTED documents.
    pub hostname: String,
    /// Queues to consume.
    pub queues: Vec<Arc<str>>,
    /// How they are declared, as far as that is not [`QueueDeclaration::named`].
    pub declarations: Vec<Arc<QueueDeclaration>>,
    /// In which order they are served within a priority.
    pub queue_order: QueueOrder,
    /// How many messages to claim ahead.
    pub prefetch: Prefetch,
    /// Upper bound of the bytes of claimed, unstarted messages. Default 64 MiB.
    pub prefetch_bytes: usize,
    /// Registered tasks by name.
    pub tasks: HashMap<Arc<str>, TaskSpec>,
    /// Content types a body may have.
    pub accept_content: Vec<String>,
    /// After this many deliveries that ended with a lost worker the message is parked. Default 3.
    pub max_deliveries: u32,
    /// Time to live of result documents in milliseconds; `None` keeps them.
    pub result_expires_ms: Option<u64>,
    /// Whether received and finished tasks are logged (log level INFO or lower).
    pub log_tasks: bool,
    /// Seconds a warm shutdown waits for running tasks before it becomes cold; `None` waits for
    /// ever.
    pub shutdown_timeout_ms: Option<u64>,
    /// Whether rate limits are ignored (`worker_disable_rate_limits`).
    pub disable_rate_limits: bool,
    /// How many revoked ids are remembered, and for how long.
    pub revokes: Revokes,
    /// Whether nothing is claimed before [`Command::Remember`](crate::worker::Command::Remember) says
    /// what was revoked while no worker was there to hear it.
    pub awaits_revoked: bool,
}

/// How many revoked ids a worker remembers, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revokes {
    /// At most so many. Default 100,000, which take 15 MiB at their usual length.
    pub most: usize,
    /// Microseconds. Default three hours, as in Celery.
    pub expires_us: Micros,
}

impl Default for Revokes {
    fn default() -> Self {
        Self { most: 100_000, expires_us: 10_800 * 1_000_000 }
    }
}

/// How many messages a worker claims beyond what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// Celery's four per slot, and more while tasks are so short that the window holds little time
    /// of work.
    Auto,
    /// Exactly this many per slot, as set by `worker_prefetch_multiplier`; 0 means no limit.
    PerSlot(u32),
    /// Only what can start at once (`--disable-prefetch`).
    Disabled,
}

/// What the worker knows about a registered task.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // Celery's options of a task, independent of each other
pub struct TaskSpec {
    /// Acknowledge after the execution instead of at its start.
    pub acks_late: bool,
    /// With `acks_late`: acknowledge although the task failed or timed out. Default true.
    pub acks_on_failure_or_timeout: bool,
    /// With `acks_late`: redeliver when the process that ran it died (taskcore's default: true,
    /// counted).
    pub reject_on_worker_lost: bool,
    /// Store no result.
    pub ignore_result: bool,
    /// Store failures even then.
    pub store_errors_even_if_ignored: bool,
    /// Store STARTED when execution begins.
    pub track_started: bool,
    /// Executions per second, per worker; `None` is unlimited.
    pub rate_limit: Option<f64>,
    /// Soft limit in microseconds.
    pub soft_us: Option<u64>,
    /// Hard limit in microseconds.
    pub hard_us: Option<u64>,
    /// Whether hooks of the task, or receivers of signals, want to know of a failure that the
    /// worker decides.
    pub has_failure_handlers: bool,
}
