//! Telling: whoever waits for what was to follow a task learns of its end, when the worker has ended
//! it: killed for its hard limit, lost with its process, revoked, expired, or not runnable here.
//!
//! Its error callbacks, hooks and the rest of its chain are Python, and this loop runs none. The rule
//! for every such end:
//!
//! 1. Its record is stored at once. The message goes to the pool once more in a call that says what
//!    happened ([`Call::ended`](crate::pool::Call::ended)); whoever gets it does not run the task but
//!    tells, and its outcome brings what is to be published. The message is settled after that, so a
//!    worker that is lost meanwhile leaves it to the next.
//! 2. Where the process is lost that tells, another tells without user code, once: that may be the
//!    reason. Where it was killed because of another call, it is told once more as it was.
//! 3. Where the pool cannot be had, in a cold stop, another worker tells: a message that says how the
//!    task ended ([`Message::end`]) goes to the tail of its queue, and then the task's own is settled as
//!    it was to be. Whoever gets it stores nothing of the task, does not run it, and tells. The error
//!    callbacks of a chord go the same way.
//! 4. Where others have the message, because the lease lapsed, they come to the same end. The end of a
//!    task whose message nobody has is told here, whatever became of the lease.
//!
//! What is left: a worker that is lost with a task that it had acknowledged, and a broker that is away
//! until a worker that stops gives up. The log says what is lost then.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    broker::{Delivery, Settle, Tag},
    error::Error,
    message::{Encoding, Message},
    pool::{EndedTask, FollowUp, Lost},
    result::State,
    worker::{
        Now, Worker,
        inflight::{Ended, Place, Request},
        settle::{self, Decision},
        task_log,
        triage::UNKNOWN,
    },
};

/// In the end that a call is to tell: whoever told of it before was lost with it.
const AGAIN: &str = "again";

impl Worker {
    /// Carries out the decision about a request that ended without a word of the pool's, and has
    /// what follows told.
    pub(super) fn conclude(&mut self, mut decision: Decision, request: Request) {
        let Some(end) = decision.end.take() else { return self.carry_out(decision, &request) };
        let heard =
            end.state == State::Failure && self.registry.spec(request.task).has_failure_handlers;
        let waited_for = Message::decode(&request.message).is_ok_and(|one| one.has_embed());
        if !heard && !waited_for {
            return self.carry_out(decision, &request);
        }
        let mut described = end.describe();
        described["state"] = Value::from(end.state.as_str());
        let end = described.to_string().into_bytes().into();
        let settle = decision.settle.take();
        let mut ended = Ended { settle, end, chord: None };
        if self.phase.tells() {
            self.carry_out(decision, &request);
            self.tell(request, ended);
        } else {
            decision.settle = ended.settle.take();
            if decision.settle.is_none() || request.lease == self.lease {
                decision.follow.extend(left(&request, &ended.end));
            }
            self.carry_out(decision, &request);
        }
    }

    /// Takes a message that another worker has left: its task has ended, and others wait to be told.
    /// `end` is what it says.
    pub(super) fn left_by_another(
        &mut self,
        delivery: Delivery,
        message: &mut Message,
        mut end: Map<String, Value>,
    ) {
        let id: Arc<str> = Arc::from(message.headers.id.as_str());
        let opens = self.registry.opens(&message.content_type);
        if !opens || delivery.redeliveries >= self.config.max_deliveries {
            let reason = if opens {
                "workers were lost that told of the end of its task".to_owned()
            } else {
                format!("what follows it cannot be told: `{}` is refused", message.content_type)
            };
            task_log::parked(&message.headers.task, &id, &delivery.queue, &reason);
            return self.give(delivery.tag, Settle::Park { id, reason });
        }
        if delivery.redeliveries > 0 {
            end.insert(AGAIN.to_owned(), Value::Bool(true));
        }
        let task = self.registry.number(&message.headers.task).unwrap_or(UNKNOWN);
        let raw = message.encode(Encoding::Compact);
        let request = self.request(task, Delivery { raw, ..delivery }, message);
        let end = Value::Object(end).to_string().into_bytes().into();
        self.tell(request, Ended { settle: Some(Settle::Ack), end, chord: None });
    }

    /// Whether a call that is over had only to tell what followed; if so that is published, what ended
    /// with it stored, and its message settled.
    pub(super) fn told(
        &mut self,
        request: &mut Request,
        (follow, others): (Vec<FollowUp>, Vec<EndedTask>),
    ) -> bool {
        let Some(ended) = request.ended.take() else { return false };
        let ended_too = settle::ended(others, &request.message, self.config.result_expires_ms);
        let Ended { settle, chord, .. } = *ended;
        if let Some(mut chord) = chord {
            chord.follow.extend(follow);
            chord.ended.extend(ended_too);
            self.fail_chord(chord);
            return true;
        }
        let decision = Decision { settle, follow, ended: ended_too, ..Decision::default() };
        self.carry_out(decision, request);
        true
    }

    /// Leaves what is still to be told of a request to another worker.
    pub(super) fn leave_to_another(&mut self, mut request: Request) {
        let Some(ended) = request.ended.take() else { return };
        let Ended { settle, end, chord } = *ended;
        if settle.is_some() && request.lease != self.lease {
            return; // another has its message
        }
        let follow: Vec<FollowUp> = left(&request, &end).into_iter().collect();
        if let Some(mut chord) = chord {
            chord.follow.extend(follow);
            return self.leave_chord(*chord);
        }
        self.carry_out(Decision { follow, settle, ..Decision::default() }, &request);
    }

    /// What told of an end is gone. It is told once more.
    pub(super) fn lost_telling(&mut self, mut request: Request, why: &Lost) {
        if !self.phase.tells() {
            return self.leave_to_another(request);
        }
        let Some(mut ended) = request.ended.take() else { return };
        if matches!(why, Lost::Shutdown | Lost::Beside) {
            return self.tell(request, *ended);
        }
        if let Some(again) = told_again(&ended.end) {
            task_log::half_told(self.shown(&request), &request.id);
            ended.end = again;
            return self.tell(request, *ended);
        }
        task_log::not_told(self.shown(&request), &request.id);
        request.ended = Some(ended);
        self.told(&mut request, <_>::default());
    }

    /// Has a child tell of an end.
    pub(super) fn tell(&mut self, mut request: Request, ended: Ended) {
        request.ended = Some(Box::new(ended));
        // It has expired or begun, and does not again.
        (request.expires, request.started, request.seen) = (None, None, None);
        let key = self.inflight.insert(Place::Ready, request);
        self.ready.push_front(key);
    }

    /// A request for a message that is in no queue, to tell what follows it.
    pub(super) fn unqueued(&self, raw: Bytes, queue: Arc<str>) -> Option<Request> {
        let mut message = Message::decode(&raw).ok()?;
        let task = self.registry.number(&message.headers.task).unwrap_or(UNKNOWN);
        let tag = Tag { lane: 0, seq: 0 };
        let delivery = Delivery { tag, queue, redeliveries: 0, suspect: false, raw };
        Some(self.request(task, delivery, &mut message))
    }

    /// Ends a message that follows the task `id` and that the broker will never take.
    pub(super) fn unpublished(&mut self, message: FollowUp, id: &str, error: &Error, now: Now) {
        let Ok(read) = Message::decode(&message.data) else { return };
        if read.has_end() {
            return task_log::not_told(&read.headers.task, &read.headers.id);
        }
        let mut decision = settle::unpublished(&read, error, self.context(now));
        // Of a retry the task has ended already.
        decision.store = decision.store.filter(|record| record.id != id);
        if let Some(request) = self.unqueued(read.compact(message.data), message.queue) {
            self.conclude(decision, request);
        }
    }
}

/// The message for another worker that says how the task of `request` ended.
pub(super) fn left(request: &Request, end: &[u8]) -> Option<FollowUp> {
    let mut message = Message::decode(&request.message).ok()?;
    message.end(end);
    // To this one queue: through the exchange that it came by, others may get it too.
    message.properties.exchange.clear();
    message.properties.routing_key = request.queue.to_string();
    let (queue, id) = (Arc::clone(&request.queue), Arc::from(request.id.as_str()));
    Some(FollowUp { queue, id, data: message.encode(Encoding::Compact) })
}

/// The end that is told without user code; `None` of one that is so already.
fn told_again(end: &[u8]) -> Option<Box<[u8]>> {
    let mut end: Map<String, Value> = serde_json::from_slice(end).ok()?;
    let first = end.insert(AGAIN.to_owned(), Value::Bool(true)).is_none();
    first.then(|| Value::Object(end).to_string().into_bytes().into())
}
