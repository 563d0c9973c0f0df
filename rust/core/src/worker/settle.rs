//! Settle: what to store, what to tell the broker, decided in one place.
//!
//! * What follows the task is published first, then the record stored, then the message settled.
//!   So a result that can be read has its callbacks and the next step of its chain in their queues:
//!   the other way round, a crash in between would leave a SUCCESS after which nothing comes, and
//!   nobody would know. A crash before the last step repeats the ones before: at least once.
//! * **Late ack:** the message is settled after all that, so a crash at any point runs the task again.
//! * **Early ack:** the message is acknowledged when the task is known to have begun, and a crash
//!   loses what was not sent yet. A short task's outcome is the first that is heard of it: what follows
//!   is published, then the acknowledgement leaves beside the record. It waits for no store: else
//!   all that ran while the store was away would run again when the worker is lost.
//! * A message that was acknowledged already cannot be rejected, requeued or redelivered: those
//!   become nothing.
//!
//! Everything here is pure: outcome, request, task and time in, a [`Decision`] out. What the worker
//! itself has to say (the process died, the limit passed) is written as Celery writes it; what the
//! task said was written where it ran.
//!
//! DIFFERENCE: a late-acked task whose process dies is redelivered, counted, unless
//! `reject_on_worker_lost` is false. A message that is parked here ends as FAILURE, so that nobody
//! waits for ever for it; when it is replayed, its new result takes that one's place.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::{
    broker::Settle,
    config::TaskSpec,
    error::Error,
    message::Message,
    pool::{EndedTask, FollowUp, Lost, Outcome, Status},
    result::{Record, State},
    worker::{
        document::{self, Raised, Told},
        inflight::Request,
        kept::SettleAfter,
    },
};

/// Module of the exceptions that a stock worker's process pool raises.
const BILLIARD: &str = "billiard.exceptions";
/// Module of the exceptions about bodies that cannot be opened.
const KOMBU: &str = "kombu.exceptions";
/// Module of Celery's own exceptions.
const CELERY: &str = "celery.exceptions";
/// Reason of a dead letter.
pub const REJECTED: &str = "rejected by the task";
/// Reason of a dead letter.
const FAILED: &str = "the task failed, and `acks_on_failure_or_timeout` is off";

/// What all decisions need to know beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Microseconds since the Unix epoch.
    pub now: i64,
    /// Time to live of result documents in milliseconds.
    pub ttl: Option<u64>,
    /// Node name of this worker.
    pub hostname: &'a str,
    /// After so many lost processes the broker parks a message.
    pub max_deliveries: u32,
}

/// What to do about one request, in this order.
#[derive(Debug, Default)]
pub struct Decision {
    /// To be published.
    pub follow: Vec<FollowUp>,
    /// To the result store, of tasks that end with this one.
    pub ended: Vec<Record>,
    /// To the result store.
    pub store: Option<Record>,
    /// To the broker.
    pub settle: Option<Settle>,
    /// What the task ended with when the worker ended it: whoever follows the task is still to be
    /// told.
    pub end: Option<Raised>,
    /// The task ran and is acknowledged early: it does not run again, whatever becomes of its record.
    pub once: bool,
}

/// The task has begun (and is still running).
pub fn started(request: &Request, spec: &TaskSpec, pid: u32, ctx: Context<'_>) -> Decision {
    let told = Told::Started { pid, hostname: ctx.hostname };
    let wanted = spec.track_started && !request.ignore_result;
    Decision {
        store: wanted.then(|| document::of_request(request, &told, ctx.now, ctx.ttl)),
        settle: (!spec.acks_late && !request.acked).then_some(Settle::Ack),
        ..Decision::default()
    }
}

/// The task's execution ended and the pool says how.
pub fn outcome(outcome: Outcome, request: Request, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let open = |how: Settle| (!request.acked).then_some(how);
    let late = spec.acks_late;
    let (state, settle) = match outcome.status {
        Status::Success => (Some(State::Success), open(Settle::Ack)),
        Status::Retry => (Some(State::Retry), open(Settle::Ack)),
        Status::Ignore => (None, open(Settle::Ack)),
        Status::Failure => {
            (Some(State::Failure), open(if late { failed(&request, spec) } else { Settle::Ack }))
        }
        Status::Reject if late => (Some(State::Failure), open(park(&request, REJECTED.to_owned()))),
        Status::Reject => (Some(State::Failure), open(Settle::Ack)),
        Status::Requeue => (None, open(if late { Settle::Requeue } else { Settle::Ack })),
        Status::Undecodable => return undecodable(outcome.note, &request, spec, ctx),
    };
    let ended = ended(outcome.ended, &request.message, ctx.ttl);
    // A retry that cannot be published is had by running this attempt again.
    let once = !late && outcome.status != Status::Retry;
    let store = state.zip(outcome.document).map(|(state, document)| Record {
        id: request.id,
        state,
        document,
        reply_to: request.reply_to,
        expires_ms: ctx.ttl,
        member: request.member,
    });
    Decision { store, settle, once, follow: outcome.follow, ended, ..Decision::default() }
}

/// The records of tasks that end with that of `message`.
pub(super) fn ended(ended: Vec<EndedTask>, message: &Bytes, ttl: Option<u64>) -> Vec<Record> {
    document::of_ended(ended, message, ttl)
}

/// The task had begun and what ran it is gone.
pub fn lost(why: &Lost, request: &Request, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let open = |how: Settle| (!request.acked).then_some(how);
    let again = spec.acks_late && spec.reject_on_worker_lost && !request.acked;
    let redeliver = Settle::Redeliver { id: Arc::from(request.id.as_str()) };
    let (exc_type, args) = match why {
        Lost::Shutdown | Lost::Beside if spec.acks_late && !request.acked => {
            return Decision { settle: Some(Settle::HandBack), ..Decision::default() };
        }
        Lost::Died(_) if again && request.redeliveries + 1 < ctx.max_deliveries => {
            return Decision { settle: Some(redeliver), ..Decision::default() };
        }
        Lost::Shutdown => ("WorkerLostError", json!(["Worker was shut down while the task ran."])),
        Lost::Beside => {
            let told = "Worker was killed because of another task in the same process.";
            ("WorkerLostError", json!([told]))
        }
        Lost::Died(how) => {
            ("WorkerLostError", json!([format!("Worker exited prematurely: {how}.")]))
        }
        Lost::TimeLimit(us) => ("TimeLimitExceeded", json!([seconds(*us)])),
        Lost::Terminated(_) => return terminated(request, spec, ctx),
    };
    let settle = match why {
        Lost::TimeLimit(_) if spec.acks_late => failed(request, spec),
        // Once too often: the broker parks it, and whoever waits for it learns that.
        Lost::Died(_) if again => redeliver,
        _ => Settle::Ack,
    };
    let raised = Raised { state: State::Failure, exc_type, args, module: BILLIARD };
    let store = wants_failure(request.ignore_result, spec)
        .then(|| document::of_request(request, &Told::Raised(&raised), ctx.now, ctx.ttl));
    Decision {
        store,
        settle: open(settle),
        end: Some(raised),
        once: !spec.acks_late,
        ..Decision::default()
    }
}

/// It was killed because its task was revoked; it does not run again.
fn terminated(request: &Request, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let raised = revoked_error("terminated");
    let store = wants_failure(request.ignore_result, spec)
        .then(|| document::of_request(request, &Told::Raised(&raised), ctx.now, ctx.ttl));
    let settle = (!request.acked).then_some(Settle::Ack);
    Decision { store, settle, end: Some(raised), once: true, ..Decision::default() }
}

/// It was revoked before it began.
pub fn revoked(request: &Request, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let raised = revoked_error("revoked");
    let store = wants_failure(request.ignore_result, spec)
        .then(|| document::of_request(request, &Told::Raised(&raised), ctx.now, ctx.ttl));
    Decision { store, settle: Some(Settle::Ack), end: Some(raised), ..Decision::default() }
}

fn revoked_error(reason: &str) -> Raised {
    let args = json!([reason]);
    Raised { state: State::Revoked, exc_type: "TaskRevokedError", args, module: CELERY }
}

/// It cost too many workers their life; it is not run once more.
pub fn exhausted(request: &Request, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let lost = request.redeliveries;
    let reason =
        format!("workers lost with it: `{lost}`, as many as `worker_max_deliveries` allows");
    let args = json!([format!("Workers exited prematurely: {lost}, as many as may.")]);
    let raised =
        Raised { state: State::Failure, exc_type: "WorkerLostError", args, module: BILLIARD };
    let store = wants_failure(request.ignore_result, spec)
        .then(|| document::of_request(request, &Told::Raised(&raised), ctx.now, ctx.ttl));
    Decision {
        store,
        settle: Some(park(request, reason)),
        end: Some(raised),
        ..Decision::default()
    }
}

/// Its body could not be decoded where it was to run; user code has not begun.
fn undecodable(reason: String, request: &Request, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let args = json!([reason]);
    let raised = Raised { state: State::Failure, exc_type: "DecodeError", args, module: KOMBU };
    let store = wants_failure(request.ignore_result, spec)
        .then(|| document::of_request(request, &Told::Raised(&raised), ctx.now, ctx.ttl));
    Decision {
        store,
        settle: (!request.acked).then(|| park(request, reason)),
        ..Decision::default()
    }
}

/// Its content type is not accepted here.
pub fn refused(message: &Message, reason: String, spec: &TaskSpec, ctx: Context<'_>) -> Decision {
    let args = json!([reason]);
    let raised =
        Raised { state: State::Failure, exc_type: "ContentDisallowed", args, module: KOMBU };
    let ignored =
        message.headers.ignore_result.unwrap_or(spec.ignore_result) && !is_counted(message);
    let store = wants_failure(ignored, spec)
        .then(|| document::of_message(message, &Told::Raised(&raised), ctx.now, ctx.ttl));
    let id = Arc::from(message.headers.id.as_str());
    let settle = Some(Settle::Park { id, reason });
    Decision { store, settle, end: Some(raised), ..Decision::default() }
}

/// Its time had passed before it began, at receipt or later.
pub fn expired(message: &Message, ignore_result: bool, ctx: Context<'_>) -> Decision {
    let raised = revoked_error("expired");
    let told = Told::Raised(&raised);
    let wanted = !ignore_result || is_counted(message);
    let store = wanted.then(|| document::of_message(message, &told, ctx.now, ctx.ttl));
    Decision { store, settle: Some(Settle::Ack), end: Some(raised), ..Decision::default() }
}

/// No task of that name is registered here.
pub fn unknown(message: &Message, reason: String, ctx: Context<'_>) -> Decision {
    let args = json!([message.headers.task]);
    let raised = Raised { state: State::Failure, exc_type: "NotRegistered", args, module: CELERY };
    let told = Told::Raised(&raised);
    let store = (!message.headers.id.is_empty())
        .then(|| document::of_message(message, &told, ctx.now, ctx.ttl));
    let id = Arc::from(message.headers.id.as_str());
    let settle = Some(Settle::Park { id, reason });
    Decision { store, settle, end: Some(raised), ..Decision::default() }
}

/// What follows the task of `record` can never be published, so it has not succeeded; who waits for
/// it learns why.
pub fn unpublishable(record: &Record, error: &Error, now: i64) -> Record {
    let args = json!([format!("cannot publish what follows the task: {error}")]);
    let raised =
        Raised { state: State::Failure, exc_type: "OperationalError", args, module: KOMBU };
    document::instead_of(record, &raised, now)
}

/// A message that follows a task can never be published: its task fails without having run.
pub fn unpublished(message: &Message, error: &Error, ctx: Context<'_>) -> Decision {
    let args = json!([format!("cannot publish it: {error}")]);
    let raised =
        Raised { state: State::Failure, exc_type: "OperationalError", args, module: KOMBU };
    let store = Some(document::of_message(message, &Told::Raised(&raised), ctx.now, ctx.ttl));
    Decision { store, end: Some(raised), ..Decision::default() }
}

/// The retry of `record`'s task could not be published, and the worker must end: it does not come,
/// so the task has failed.
pub fn retry_lost(record: &Record, now: i64) -> Record {
    let told = "the retry is lost: the worker ended before it could publish it";
    let raised = Raised {
        state: State::Failure,
        exc_type: "OperationalError",
        args: json!([told]),
        module: KOMBU,
    };
    document::instead_of(record, &raised, now)
}

/// The message of a task that may run again, where what follows it can never be published: it is
/// parked in place of being acknowledged. What must not run twice is acknowledged all the same.
pub(super) fn park_unpublishable(after: &mut SettleAfter, id: Arc<str>, error: &Error) -> bool {
    let Some(settlement) = after.settlement.as_mut().filter(|_| !after.once) else { return false };
    if !matches!(settlement.how, Settle::Ack) {
        return false;
    }
    let reason = format!("cannot publish what follows the task: {error}");
    settlement.how = Settle::Park { id, reason };
    true
}

/// The store refuses the record of `refused` for its size; who waits for the task learns that.
pub fn oversized(refused: &Record, error: &Error, now: i64) -> Record {
    let args = json!([error.to_string()]);
    let raised = Raised { state: State::Failure, exc_type: "EncodeError", args, module: KOMBU };
    document::instead_of(refused, &raised, now)
}

/// Whether the body of a chord wants the result, whatever the task says.
fn is_counted(message: &Message) -> bool {
    message.is_member() == Some(true)
}

fn wants_failure(ignore_result: bool, spec: &TaskSpec) -> bool {
    !ignore_result || spec.store_errors_even_if_ignored
}

/// What becomes of the message of a late-acked task that failed or ran out of time.
fn failed(request: &Request, spec: &TaskSpec) -> Settle {
    if spec.acks_on_failure_or_timeout { Settle::Ack } else { park(request, FAILED.to_owned()) }
}

fn park(request: &Request, reason: String) -> Settle {
    Settle::Park { id: Arc::from(request.id.as_str()), reason }
}

/// As Celery writes a limit: `30` for whole seconds, `1.5` otherwise.
fn seconds(us: u64) -> serde_json::Value {
    if us.is_multiple_of(1_000_000) { json!(us / 1_000_000) } else { json!(us as f64 / 1e6) }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
