use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{message::Encoding, worker::inflight::tests::request};

const NOW: i64 = 1_795_000_000_000_000;

fn context() -> Context<'static> {
    Context { now: NOW, ttl: Some(7), hostname: "w@h", max_deliveries: 3 }
}

fn spec(late: bool) -> TaskSpec {
    TaskSpec {
        acks_late: late,
        acks_on_failure_or_timeout: true,
        reject_on_worker_lost: true,
        ..TaskSpec::default()
    }
}

fn held(acked: bool) -> Request {
    let mut message = Message { content_type: "application/json".into(), ..Message::default() };
    message.headers.task = "proj.add".into();
    message.headers.id = "the-id".into();
    message.headers.parent_id = Some("the-parent".into());
    message.headers.rare_mut().group = Some("the-group".into());
    Request {
        message: message.encode(Encoding::Compact),
        acked,
        reply_to: Some("tc-1".into()),
        ..request("the-id")
    }
}

fn ended(status: Status) -> Outcome {
    Outcome {
        pid: 0,
        key: 0,
        status,
        runtime_us: 1,
        document: Some(Bytes::from_static(b"{}")),
        note: "why".into(),
        traceback: String::new(),
        follow: Vec::new(),
        ended: Vec::new(),
    }
}

/// A settlement as a word.
fn word(settle: Option<&Settle>) -> &'static str {
    match settle {
        None => "-",
        Some(Settle::Ack) => "ack",
        Some(Settle::HandBack) => "hand back",
        Some(Settle::Requeue) => "requeue",
        Some(Settle::Redeliver { .. }) => "redeliver",
        Some(Settle::Defer { .. }) => "defer",
        Some(Settle::Park { .. }) => "park",
    }
}

fn document(decision: &Decision) -> Value {
    serde_json::from_slice(&decision.store.as_ref().expect("a record").document).expect("JSON")
}

#[test]
fn what_cost_too_many_workers_is_parked_and_ends_as_failure() {
    let request = Request { redeliveries: 3, ..held(false) };
    let decision = exhausted(&request, &spec(true), context());
    assert_eq!(word(decision.settle.as_ref()), "park");
    assert_eq!(document(&decision)["result"]["exc_type"], "WorkerLostError");
    assert!(decision.end.is_some());
    let unwanted = Request { ignore_result: true, ..held(false) };
    assert!(exhausted(&unwanted, &spec(true), context()).store.is_none());
}

#[test]
fn outcomes() {
    use Status::{Failure, Ignore, Reject, Requeue, Retry, Success, Undecodable};
    let strict = |late| TaskSpec { acks_on_failure_or_timeout: false, ..spec(late) };
    // status, spec, acked already -> state stored, settlement
    for (status, spec, acked, state, settle) in [
        (Success, spec(true), false, "SUCCESS", "ack"),
        (Success, spec(false), false, "SUCCESS", "ack"),
        (Success, spec(false), true, "SUCCESS", "-"),
        (Failure, spec(true), false, "FAILURE", "ack"),
        (Failure, strict(true), false, "FAILURE", "park"),
        (Failure, strict(false), false, "FAILURE", "ack"),
        (Failure, strict(false), true, "FAILURE", "-"),
        (Retry, spec(true), false, "RETRY", "ack"),
        (Retry, spec(false), true, "RETRY", "-"),
        (Ignore, spec(true), false, "-", "ack"),
        (Ignore, spec(false), true, "-", "-"),
        (Reject, spec(true), false, "FAILURE", "park"),
        (Reject, spec(false), false, "FAILURE", "ack"),
        (Reject, spec(false), true, "FAILURE", "-"),
        (Requeue, spec(true), false, "-", "requeue"),
        (Requeue, spec(false), false, "-", "ack"),
        (Requeue, spec(false), true, "-", "-"),
        (Undecodable, spec(true), false, "FAILURE", "park"),
        (Undecodable, spec(false), false, "FAILURE", "park"),
        (Undecodable, spec(false), true, "FAILURE", "-"),
    ] {
        let what = format!("{status:?} late={} acked={acked}", spec.acks_late);
        let decision = outcome(ended(status), held(acked), &spec, context());
        assert_eq!(decision.store.as_ref().map_or("-", |r| r.state.as_str()), state, "{what}");
        assert_eq!(word(decision.settle.as_ref()), settle, "{what}");
    }
}

#[test]
fn a_record_carries_what_the_store_needs() {
    let decision = outcome(ended(Status::Success), held(false), &spec(false), context());
    let expected = Record {
        id: "the-id".into(),
        state: State::Success,
        document: Bytes::from_static(b"{}"),
        reply_to: Some("tc-1".into()),
        expires_ms: Some(7),
        member: None,
    };
    assert_eq!(decision.store, Some(expected));
    let unwanted = Outcome { document: None, ..ended(Status::Success) };
    assert_eq!(outcome(unwanted, held(false), &spec(false), context()).store, None);
}

#[test]
fn reasons_of_dead_letters() {
    let reason = |status| match outcome(ended(status), held(false), &spec(true), context()).settle {
        Some(Settle::Park { id, reason }) => (id.to_string(), reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(Status::Reject), ("the-id".into(), REJECTED.into()));
    assert_eq!(reason(Status::Undecodable), ("the-id".into(), "why".into()));
}

#[test]
fn lost_processes() {
    let strict = TaskSpec { acks_on_failure_or_timeout: false, ..spec(true) };
    let trusting = TaskSpec { reject_on_worker_lost: false, ..spec(true) };
    let died = || Lost::Died("signal 9 (SIGKILL)".into());
    for (why, spec, acked, exc_type, settle) in [
        (died(), spec(true), false, "-", "redeliver"),
        (died(), trusting, false, "WorkerLostError", "ack"),
        (died(), spec(false), false, "WorkerLostError", "ack"),
        (died(), spec(false), true, "WorkerLostError", "-"),
        (Lost::TimeLimit(1_000_000), spec(true), false, "TimeLimitExceeded", "ack"),
        (Lost::TimeLimit(1_000_000), strict, false, "TimeLimitExceeded", "park"),
        (Lost::TimeLimit(1_000_000), spec(false), true, "TimeLimitExceeded", "-"),
        (Lost::Terminated(15), spec(true), false, "TaskRevokedError", "ack"),
        (Lost::Terminated(15), spec(false), true, "TaskRevokedError", "-"),
        (Lost::Beside, spec(true), false, "-", "hand back"),
        (Lost::Beside, spec(false), true, "WorkerLostError", "-"),
        (Lost::Shutdown, spec(true), false, "-", "hand back"),
        (Lost::Shutdown, spec(false), false, "WorkerLostError", "ack"),
        (Lost::Shutdown, spec(false), true, "WorkerLostError", "-"),
    ] {
        let what = format!("{why:?} late={} acked={acked}", spec.acks_late);
        let decision = lost(&why, &held(acked), &spec, context());
        assert_eq!(word(decision.settle.as_ref()), settle, "{what}");
        let stored =
            decision.store.is_some().then(|| document(&decision)["result"]["exc_type"].clone());
        assert_eq!(stored, (exc_type != "-").then(|| exc_type.into()), "{what}");
    }
}

#[test]
fn a_task_that_lost_its_process_once_too_often_has_failed() {
    for (redeliveries, failed) in [(0, false), (1, false), (2, true), (7, true)] {
        let request = Request { redeliveries, ..held(false) };
        let died = Lost::Died("signal 9 (SIGKILL)".into());
        let decision = lost(&died, &request, &spec(true), context());
        assert_eq!(word(decision.settle.as_ref()), "redeliver", "{redeliveries}");
        assert_eq!(decision.store.is_some(), failed, "{redeliveries}");
        assert_eq!(decision.end.is_some(), failed, "{redeliveries}");
    }
}

#[test]
fn a_refused_body_is_a_failure_for_who_waits() {
    let message = Message::decode(&held(false).message).expect("just encoded");
    let decision = refused(&message, "no pickle here".into(), &spec(false), context());
    assert_eq!(word(decision.settle.as_ref()), "park");
    assert_eq!(
        document(&decision)["result"],
        json!({"exc_type": "ContentDisallowed", "exc_message": ["no pickle here"], "exc_module": "kombu.exceptions"})
    );
    let unwanted = TaskSpec { ignore_result: true, ..spec(false) };
    assert!(refused(&message, String::new(), &unwanted, context()).store.is_none());
}

#[test]
fn documents_as_celery_writes_them() {
    let decision =
        lost(&Lost::Died("signal 9 (SIGKILL)".into()), &held(true), &spec(false), context());
    let doc = document(&decision);
    assert_eq!(doc["status"], "FAILURE");
    assert_eq!(
        doc["result"]["exc_message"],
        json!(["Worker exited prematurely: signal 9 (SIGKILL)."])
    );
    assert_eq!(doc["result"]["exc_module"], "billiard.exceptions");
    assert_eq!(
        (&doc["group_id"], &doc["parent_id"], &doc["task_id"]),
        (&json!("the-group"), &json!("the-parent"), &json!("the-id"))
    );
    assert_eq!(doc["date_done"], crate::message::format_iso(NOW));

    for (us, limit) in [(2_000_000, json!([2])), (1_500_000, json!([1.5]))] {
        let decision = lost(&Lost::TimeLimit(us), &held(true), &spec(false), context());
        assert_eq!(document(&decision)["result"]["exc_message"], limit);
    }

    let message = Message::decode(&held(false).message).expect("just encoded");
    let revoked = expired(&message, false, context());
    assert_eq!(document(&revoked)["status"], "REVOKED");
    assert_eq!(
        document(&revoked)["result"],
        json!({"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"})
    );
    assert_eq!(word(revoked.settle.as_ref()), "ack");
    assert!(expired(&message, true, context()).store.is_none());

    let stranger = unknown(&message, "reason".into(), context());
    assert_eq!(document(&stranger)["result"]["exc_type"], "NotRegistered");
    assert_eq!(document(&stranger)["result"]["exc_message"], json!(["proj.add"]));
    assert_eq!(word(stranger.settle.as_ref()), "park");
}

#[test]
fn a_start_is_stored_when_tracked_and_acked_when_early() {
    let tracked = |late| TaskSpec { track_started: true, ..spec(late) };
    for (spec, acked, ignored, stored, settle) in [
        (spec(false), false, false, false, "ack"),
        (spec(false), true, false, false, "-"),
        (spec(true), false, false, false, "-"),
        (tracked(false), false, false, true, "ack"),
        (tracked(true), false, false, true, "-"),
        (tracked(true), false, true, false, "-"),
    ] {
        let decision =
            started(&Request { ignore_result: ignored, ..held(acked) }, &spec, 42, context());
        assert_eq!(decision.store.is_some(), stored);
        assert_eq!(word(decision.settle.as_ref()), settle);
        if stored {
            let doc = document(&decision);
            assert_eq!((&doc["status"], &doc["date_done"]), (&json!("STARTED"), &Value::Null));
            assert_eq!(doc["result"], json!({"pid": 42, "hostname": "w@h"}));
        }
    }
}

#[test]
fn an_unwanted_failure_is_stored_only_when_asked_for() {
    let unwanted = || Request { ignore_result: true, ..held(true) };
    let why = Lost::TimeLimit(1);
    assert!(lost(&why, &unwanted(), &spec(false), context()).store.is_none());
    let keen = TaskSpec { store_errors_even_if_ignored: true, ..spec(false) };
    assert!(lost(&why, &unwanted(), &keen, context()).store.is_some());
}

proptest! {
    /// What was acknowledged is never settled again, and what was not is settled exactly once, at
    /// its end.
    #[test]
    fn every_end_settles_once(
        status in prop::sample::select(vec![
            Some(Status::Success), Some(Status::Failure), Some(Status::Retry), Some(Status::Ignore),
            Some(Status::Reject), Some(Status::Requeue), Some(Status::Undecodable), None,
        ]),
        late in any::<bool>(),
        begun in any::<bool>(),
        on_failure in any::<bool>(),
        on_lost in any::<bool>(),
        why in prop::sample::select(vec![Lost::Shutdown, Lost::Died("exit code 1".into()), Lost::TimeLimit(5), Lost::Terminated(9), Lost::Beside]),
    ) {
        let spec = TaskSpec { acks_on_failure_or_timeout: on_failure, reject_on_worker_lost: on_lost, ..spec(late) };
        let mut request = held(false);
        let mut settlements = 0;
        if begun {
            let decision = started(&request, &spec, 1, context());
            request.acked = decision.settle.is_some();
            settlements += usize::from(decision.settle.is_some());
        }
        let decision = match status {
            Some(status) => outcome(ended(status), request, &spec, context()),
            None => lost(&why, &request, &spec, context()),
        };
        settlements += usize::from(decision.settle.is_some());
        prop_assert_eq!(settlements, 1);
    }
}
