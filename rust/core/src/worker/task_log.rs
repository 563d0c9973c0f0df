//! The worker's log lines about tasks, under one target.
//!
//! The message is constant and the data are fields; `event` names what happened, and the formatter
//! of the process makes the lines of it that Celery's users know. Failures are errors and always
//! written; what happens to every task is written only when the level asks for it, because
//! formatting costs more than running a short task.

use crate::{
    broker::Settle,
    pool::{Lost, Outcome, Status},
    worker::inflight::Request,
};

/// Target of all events about tasks.
pub const TARGET: &str = "taskcore::task";

/// A request was accepted.
pub(super) fn received(task: &str, request: &Request) {
    tracing::info!(target: TARGET, event = "received", task, id = request.id.as_str(), "task received");
}

/// An execution ended. `all` is whether good news are logged too.
pub(super) fn finished(task: &str, request: &Request, outcome: &Outcome, all: bool) {
    let id = request.id.as_str();
    let (child, runtime) = (outcome.pid, f64::from(outcome.runtime_us) / 1e6);
    let (note, traceback) = (outcome.note.as_str(), outcome.traceback.as_str());
    match outcome.status {
        Status::Failure if !traceback.is_empty() => {
            tracing::error!(target: TARGET, event = "failed", task, id, child, runtime, note, traceback, "task failed");
        }
        Status::Undecodable => {
            tracing::error!(target: TARGET, event = "parked", task, id, child, note, "task parked");
        }
        _ if !all => {}
        Status::Failure => {
            tracing::info!(target: TARGET, event = "expected", task, id, child, runtime, note, "task failed as declared");
        }
        Status::Success => {
            tracing::info!(target: TARGET, event = "succeeded", task, id, child, runtime, note, "task succeeded");
        }
        Status::Retry => {
            tracing::info!(target: TARGET, event = "retried", task, id, child, runtime, note, traceback, "task retried");
        }
        Status::Ignore => {
            tracing::info!(target: TARGET, event = "ignored", task, id, child, runtime, note, "task ignored");
        }
        Status::Reject => {
            tracing::info!(target: TARGET, event = "rejected", task, id, child, runtime, note, "task rejected");
        }
        Status::Requeue => {
            tracing::info!(target: TARGET, event = "requeued", task, id, child, runtime, note, "task requeued");
        }
    }
}

/// Its hard time limit is one that the pool cannot keep.
pub(super) fn unlimited(task: &str, request: &Request, pool: &str) {
    let id = request.id.as_str();
    let limit = request.hard_us.unwrap_or_default() as f64 / 1e6;
    tracing::warn!(target: TARGET, event = "unlimited", task, id, note = pool, limit, "hard time limit not kept");
}

/// What ran it, process `child`, is gone, and what was decided about it. `max` is how many losses a
/// message may cost.
pub(super) fn lost(
    task: &str,
    request: &Request,
    (child, why): (u32, &Lost),
    settle: Option<&Settle>,
    max: u32,
) {
    let id = request.id.as_str();
    match why {
        Lost::TimeLimit(us) => {
            let limit = *us as f64 / 1e6;
            tracing::error!(target: TARGET, event = "timed_out", task, id, child, limit, "task exceeded its hard time limit");
        }
        Lost::Died(how) => {
            let note = format!("{how}{}", fate(request, settle, max));
            tracing::error!(target: TARGET, event = "lost", task, id, child, note, "task lost its process");
        }
        Lost::Terminated(signal) => {
            let note = format!("terminated by signal {signal}");
            tracing::warn!(target: TARGET, event = "revoked", task, id, child, note, "task was terminated");
        }
        Lost::Beside => {
            let note = format!("another task's end took its process{}", fate(request, settle, max));
            tracing::warn!(target: TARGET, event = "interrupted", task, id, child, note, "task was killed");
        }
        Lost::Shutdown => {
            let note = format!("cold shutdown{}", fate(request, settle, max));
            tracing::warn!(target: TARGET, event = "interrupted", task, id, child, note, "task was killed");
        }
    }
}

/// What becomes of the message of a task that was interrupted.
fn fate(request: &Request, settle: Option<&Settle>, max: u32) -> String {
    let losses = request.redeliveries + 1;
    match settle {
        Some(Settle::HandBack) => "; it goes back to its queue".to_owned(),
        Some(Settle::Redeliver { .. }) if losses < max => {
            format!("; it is delivered again (loss {losses} of {max})")
        }
        Some(Settle::Redeliver { .. }) => {
            let queue = &request.queue;
            format!("; it is parked among the dead letters of `{queue}` (loss {losses} of {max})")
        }
        _ => String::new(),
    }
}

/// It will not run, because it was revoked.
pub(super) fn revoked(task: &str, id: &str) {
    tracing::info!(target: TARGET, event = "revoked", task, id, "task revoked");
}

/// It will not run, because its time has passed.
pub(super) fn expired(task: &str, id: &str) {
    tracing::info!(target: TARGET, event = "expired", task, id, "task expired");
}

/// It cannot run here and was parked.
pub(super) fn parked(task: &str, id: &str, queue: &str, reason: &str) {
    tracing::error!(target: TARGET, event = "parked", task, id, queue, note = reason, "task parked");
}

/// It has ended, and what was to hear of that is not called.
pub(super) fn not_told(task: &str, id: &str) {
    let note = "its error callbacks, the rest of its chain and its hooks are not called";
    tracing::error!(target: TARGET, event = "ended", task, id, note, "task ended unheard");
}

/// It has ended, and what ran the code that was to hear of that is gone.
pub(super) fn half_told(task: &str, id: &str) {
    let note =
        "the process that called its error callbacks and hooks is lost; they are not called again";
    tracing::error!(target: TARGET, event = "ended", task, id, note, "task ended unheard");
}
