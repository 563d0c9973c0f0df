//! The metrics by name, in the order in which they are written.
//!
//! Names follow the conventions of Prometheus: a unit at the end, `_total` for what only grows, and
//! its own names for what every process has.

use super::text::{
    Family,
    Kind::{self, Counter, Gauge, Histogram, Info},
};

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

pub(super) const WORKER: Family =
    family("taskcore_worker_info", Info, "Name, version and pool of the worker");
pub(super) const START: Family = family(
    "taskcore_worker_start_time_seconds",
    Gauge,
    "When the worker started, in seconds since the Unix epoch",
);
pub(super) const LIVE: Family =
    family("taskcore_worker_live", Gauge, "Whether the loop of the worker answers, as /live says");
pub(super) const READY: Family =
    family("taskcore_worker_ready", Gauge, "Whether the worker takes tasks, as /ready says");
pub(super) const STORE: Family =
    family("taskcore_result_store_up", Gauge, "Whether the result store answers");
pub(super) const QUEUES: Family =
    family("taskcore_queues_up", Gauge, "Whether the broker said in time what the queues hold");
pub(super) const QUEUE: Family = family(
    "taskcore_queue_messages",
    Gauge,
    "Messages in each queue of the worker, by state, for all workers together",
);
pub(super) const BROKER: Family =
    family("taskcore_broker_up", Gauge, "Whether the connection to the broker stands");
pub(super) const RECONNECTS: Family = family(
    "taskcore_broker_reconnects_total",
    Counter,
    "How often the connection to the broker stood again after an outage",
);
pub(super) const LEASE: Family =
    family("taskcore_lease_age_seconds", Gauge, "Since when the lease on the broker was renewed");
pub(super) const RECEIVED: Family =
    family("taskcore_tasks_received_total", Counter, "Messages that the worker took, by task");
pub(super) const ENDED: Family = family(
    "taskcore_tasks_total",
    Counter,
    "Executions and tasks that ended in the worker, by task and how they ended",
);
pub(super) const RUNTIME: Family =
    family("taskcore_task_runtime_seconds", Histogram, "How long executions ran, by task");
pub(super) const WAITING: Family = family(
    "taskcore_task_waiting_seconds",
    Histogram,
    "How long executions waited in the worker, from receipt or due time to their start, by task",
);
pub(super) const ACTIVE: Family = family("taskcore_tasks_active", Gauge, "Tasks that run");
pub(super) const RESERVED: Family = family(
    "taskcore_tasks_reserved",
    Gauge,
    "Tasks that wait in the worker for a slot or a rate limit",
);
pub(super) const LIMITED: Family = family(
    "taskcore_tasks_rate_limited",
    Gauge,
    "Of the reserved tasks, those that wait for a rate limit",
);
pub(super) const SCHEDULED: Family =
    family("taskcore_tasks_scheduled", Gauge, "Tasks that wait in the worker for their due time");
pub(super) const REVOKED: Family =
    family("taskcore_revoked_ids", Gauge, "Revoked ids that the worker remembers");
pub(super) const PREFETCH: Family = family(
    "taskcore_prefetch_messages",
    Gauge,
    "How many messages the worker may hold that have not ended",
);
pub(super) const SETTLED: Family = family(
    "taskcore_messages_settled_total",
    Counter,
    "Messages whose settlement the broker confirmed, by what became of them",
);
pub(super) const STORED: Family =
    family("taskcore_results_stored_total", Counter, "Results that were stored");
pub(super) const REFUSED: Family =
    family("taskcore_results_dropped_total", Counter, "Results that the store refused for good");
pub(super) const KEPT: Family = family(
    "taskcore_unsent_entries",
    Gauge,
    "Results, settlements and messages that wait to be sent or confirmed",
);
pub(super) const KEPT_BYTES: Family = family(
    "taskcore_unsent_bytes",
    Gauge,
    "Bytes of the results and messages that wait to be sent",
);
pub(super) const EVENTS: Family =
    family("taskcore_events_sent_total", Counter, "Events that were sent to monitors");
pub(super) const EVENTS_DROPPED: Family = family(
    "taskcore_events_dropped_total",
    Counter,
    "Events that were dropped because the broker was slow or refused them",
);
pub(super) const SLOTS: Family =
    family("taskcore_pool_slots", Gauge, "How many tasks may run at a time");
pub(super) const CHILDREN: Family =
    family("taskcore_pool_children", Gauge, "Processes of the pool");
pub(super) const STARTS: Family =
    family("taskcore_pool_child_starts_total", Counter, "Processes of the pool that were started");
pub(super) const EXITS: Family =
    family("taskcore_pool_child_exits_total", Counter, "Processes of the pool that ended, by why");
pub(super) const POOL_MEMORY: Family = family(
    "taskcore_pool_resident_memory_bytes",
    Gauge,
    "Memory of all processes of the pool, what they share counted for each",
);
pub(super) const MEMORY: Family =
    family("process_resident_memory_bytes", Gauge, "Memory of the worker's own process");
pub(super) const CPU: Family =
    family("process_cpu_seconds_total", Counter, "Processor time of the worker's own process");
pub(super) const FILES: Family =
    family("process_open_fds", Gauge, "Open files of the worker's own process");
