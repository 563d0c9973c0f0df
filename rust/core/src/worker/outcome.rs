//! What the pool reports, and what becomes of it: the decisions of settle carried out.
//!
//! The second half of the loop's work. News of a call that is not in the table any more (its lease
//! lapsed and it was dropped) fall through silently.
//!
//! An outcome brings what follows its task, encoded; it is published before the record is stored
//! (see `settle`). A task whose end the worker decides, because it was killed for its hard limit,
//! died with its process or expired, has error callbacks, the rest of a chain, hooks and signals
//! like any other. They are Python, and this loop runs none: the message goes to the pool once more
//! in a call that says what happened ([`Call::ended`](crate::pool::Call::ended)). Whoever gets it
//! does not run the task but calls everybody concerned, and its outcome brings the error callbacks
//! to publish. Where the process is lost that tells, another does it without user code, once. The
//! record is stored at once, because that call may wait long behind others; the message is settled
//! after it, so a worker that dies meanwhile leaves it to the next. A warm shutdown waits for these
//! calls. Where the pool was killed only the record remains.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    broker::{Delivery, Settle, Settlement, Tag},
    clock::Micros,
    error::Error,
    message::{Encoding, Message},
    pool::{EndedTask, FollowUp, Lost, Outcome, PoolNews, Status},
    result::{Record, State},
    worker::{
        Now, Worker,
        compose::Composed,
        inflight::{Ended, Place, Request},
        joining::{Completed, FailedChord},
        kept::SettleAfter,
        settle::{self, Context, Decision},
        task_log,
        triage::UNKNOWN,
    },
};

/// In the end that a call is to tell: whoever told of it before was lost with it.
const AGAIN: &str = "again";

impl Worker {
    /// Takes what the pool reports.
    pub(super) fn pool_news(&mut self, news: Vec<PoolNews>, now: Now) {
        let (mut ran, mut ran_us) = (0, 0);
        let mut returned = Vec::new();
        for item in news {
            match item {
                PoolNews::Done(outcome) => {
                    ran += 1;
                    ran_us += u64::from(outcome.runtime_us);
                    self.done(outcome, now);
                }
                PoolNews::Started { key, pid, at } => self.started(key, pid, at, now),
                PoolNews::Lost { key, pid, why } => self.lost(key, (pid, &why), now),
                PoolNews::Returned { key } => returned.push(key),
                PoolNews::Notice(text) => {
                    tracing::warn!(note = text.as_str(), "pool");
                    self.children_changed = true;
                }
            }
        }
        self.window.ran(ran, ran_us);
        if !returned.is_empty() {
            self.all_returned(returned, now);
        }
    }

    /// Returned calls go back to the front of the line, in the order in which they were given to
    /// the pool, whichever of its children had them. What was returned before and still waits there
    /// is put in order with them.
    fn all_returned(&mut self, mut keys: Vec<u64>, now: Now) {
        let order = |key: &u64| self.inflight.get(*key).map_or(0, |request| request.dispatched);
        while self.ready.front().is_some_and(|key| order(key) > 0) {
            keys.extend(self.ready.pop_front());
        }
        keys.sort_by_key(order);
        for key in keys.into_iter().rev() {
            self.returned(key, now);
        }
    }

    /// Settles what ran when the pool was killed.
    pub(super) fn lost(&mut self, key: u64, (child, why): (u32, &Lost), now: Now) {
        let Some(mut request) = self.inflight.remove(key) else { return };
        if request.ended.is_some() {
            return match why {
                Lost::Shutdown | Lost::Beside => self.not_told(request),
                _ => self.tell_again(request),
            };
        }
        request.revoked |= matches!(why, Lost::Terminated(_));
        let decision =
            settle::lost(why, &request, self.registry.spec(request.task), self.context(now));
        let (task, max) = (self.shown(&request), self.config.max_deliveries);
        task_log::lost(task, &request, (child, why), decision.settle.as_ref(), max);
        let about = (why, decision.end.as_ref());
        self.tell_lost(&request, about, decision.settle.as_ref(), now);
        self.counts.processed += 1;
        self.total[request.task as usize] += 1;
        self.count_lost(&request, why, now);
        match why {
            Lost::Terminated(_) => self.counts.revoked += 1,
            _ => self.counts.failed += 1,
        }
        self.conclude(decision, request);
    }

    /// Sends the decision about `request` on its way, unless its lease has lapsed: then only the
    /// record.
    pub(super) fn carry_out(&mut self, decision: Decision, request: &Request) {
        self.pass_on(decision, request.tag, request.lease);
    }

    /// What every decision needs to know.
    pub(super) fn context(&self, now: Now) -> Context<'_> {
        Context {
            now: now.wall,
            ttl: self.config.result_expires_ms,
            hostname: &self.config.hostname,
            max_deliveries: self.config.max_deliveries,
        }
    }

    fn pass_on(&mut self, mut decision: Decision, tag: Tag, lease: u32) {
        let settlement =
            decision.settle.filter(|_| lease == self.lease).map(|how| Settlement { tag, how });
        let after = SettleAfter { settlement, once: decision.once, join: None };
        if decision.store.is_none() {
            // The message waits for the last of them.
            decision.store = decision.ended.pop();
        }
        for record in decision.ended {
            self.flush.push(Some(record), SettleAfter::default());
        }
        if !decision.follow.is_empty() {
            self.flush.follow(decision.follow, decision.store, after);
        } else if decision.store.is_some() || after.settlement.is_some() {
            self.flush.push(decision.store, after);
        }
    }

    /// Carries out the decision about a request that ended without a word of the pool's, and has
    /// what follows told.
    pub(super) fn conclude(&mut self, mut decision: Decision, request: Request) {
        let end = decision.end.take().filter(|_| self.phase.tells());
        let Some(end) = end else { return self.carry_out(decision, &request) };
        let Ok(message) = Message::decode(&request.message) else {
            return self.carry_out(decision, &request);
        };
        let heard =
            end.state == State::Failure && self.registry.spec(request.task).has_failure_handlers;
        if heard || message.has_embed() {
            let settle = decision.settle.take();
            self.carry_out(decision, &request);
            let mut described = end.describe();
            described["state"] = Value::from(end.state.as_str());
            let end = described.to_string().into_bytes().into();
            self.tell(request, Ended { settle, end, chord: None });
        } else {
            self.carry_out(decision, &request);
        }
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

    /// Lets go of a request that has ended and whose callbacks nobody will be told of here. Of a
    /// late-acked task the message goes back, and the next worker comes to the same end and tells
    /// them. That worker may not know what was revoked: such a message is replaced by one that is marked.
    pub(super) fn not_told(&mut self, mut request: Request) {
        if let Some(chord) = request.ended.as_mut().and_then(|ended| ended.chord.take()) {
            return self.flush.give_back(chord.completed);
        }
        let late = self.registry.spec(request.task).acks_late && !request.acked;
        let settle = request.ended.as_ref().and_then(|ended| ended.settle.as_ref());
        if late && matches!(settle, Some(Settle::Ack | Settle::Park { .. })) {
            return match marked(&request).filter(|_| request.lease == self.lease) {
                Some(follow) => {
                    let settle = Some(Settle::Ack);
                    let decision = Decision { follow: vec![follow], settle, ..<_>::default() };
                    self.carry_out(decision, &request);
                }
                None if request.lease == self.lease => self.give(request.tag, Settle::HandBack),
                None => {}
            };
        }
        task_log::not_told(self.shown(&request), &request.id);
        self.told(&mut request, <_>::default());
    }

    /// What follows a join is composed: it is published, what ends because of it is stored, and then
    /// the join is closed.
    pub(super) fn composed(&mut self, completed: Box<Completed>, composed: Composed) {
        let Composed { follow, ended, calls } = composed;
        let ended = settle::ended(ended, &completed.message, self.config.result_expires_ms);
        if !calls.is_empty() {
            // Whoever waits for the body learns it at once; the calls may wait long behind others.
            for record in &ended {
                self.flush.push(Some(record.clone()), SettleAfter::default());
            }
        }
        self.fail_chord(Box::new(FailedChord { completed, calls, follow, ended }));
    }

    /// Has the error callbacks of a chord called, one call after the other, and then the rest
    /// published. Only after that its join is closed, so that a worker that is lost meanwhile leaves
    /// all of it to another. Of a chord that has not failed there is only the rest.
    fn fail_chord(&mut self, mut chord: Box<FailedChord>) {
        while let Some(call) = chord.calls.pop() {
            if !self.phase.tells() {
                return self.flush.give_back(chord.completed);
            }
            let end = call.end;
            if let Some(request) = self.unqueued(call.message) {
                let ended = Ended { settle: None, end, chord: Some(chord) };
                return self.tell(request, ended);
            }
        }
        let FailedChord { completed, follow, mut ended, .. } = *chord;
        let last = ended.pop();
        for record in ended {
            self.flush.push(Some(record), SettleAfter::default());
        }
        self.flush.follow(follow, last, completed.into());
    }

    /// What follows a join can never be published. What it would have done ends as a failure; that of
    /// a failure is lost.
    pub(super) fn unpublishable_join(
        &mut self,
        completed: Box<Completed>,
        record: Option<Record>,
        error: &Error,
    ) {
        let join = completed.joined.id.as_str();
        tracing::error!(join, %error, "the broker refuses what follows a join");
        if record.is_some() {
            self.flush.push(record, SettleAfter::default());
        }
        self.flush.lost_join(completed, error);
    }

    /// A request for a message that is in no queue, to tell what follows it.
    fn unqueued(&self, raw: Bytes) -> Option<Request> {
        let mut message = Message::decode(&raw).ok()?;
        let task = self.registry.number(&message.headers.task).unwrap_or(UNKNOWN);
        let (tag, queue) = (Tag { lane: 0, seq: 0 }, Arc::from(""));
        let delivery = Delivery { tag, queue, redeliveries: 0, suspect: false, raw };
        Some(self.request(task, delivery, &mut message))
    }

    /// Ends a message that follows the task `id` and that the broker will never take.
    pub(super) fn unpublished(&mut self, message: FollowUp, id: &str, error: &Error, now: Now) {
        let Ok(read) = Message::decode(&message.data) else { return };
        let mut decision = settle::unpublished(&read, error, self.context(now));
        // Of a retry the task has ended already.
        decision.store = decision.store.filter(|record| record.id != id);
        if let Some(request) = self.unqueued(read.compact(message.data)) {
            self.conclude(decision, request);
        }
    }

    /// Has a child tell of an end.
    fn tell(&mut self, mut request: Request, ended: Ended) {
        request.ended = Some(Box::new(ended));
        // It has expired or begun, and does not again.
        (request.expires, request.started, request.seen) = (None, None, None);
        let key = self.inflight.insert(Place::Ready, request);
        self.ready.push_front(key);
    }

    /// The process that told of an end is lost, perhaps because of user code that it called. Another
    /// tells once more, and calls none: whoever waits for what was to follow learns of the end.
    fn tell_again(&mut self, mut request: Request) {
        let ended = request.ended.as_mut().filter(|_| self.phase.tells());
        let again = ended.is_some_and(|ended| {
            let again = told_again(&ended.end);
            again.map(|end| ended.end = end).is_some()
        });
        if !again {
            task_log::not_told(self.shown(&request), &request.id);
            self.told(&mut request, <_>::default());
        } else if let Some(ended) = request.ended.take() {
            task_log::half_told(self.shown(&request), &request.id);
            self.tell(request, *ended);
        }
    }

    fn done(&mut self, mut outcome: Outcome, now: Now) {
        let Some(mut request) = self.inflight.remove(outcome.key) else { return };
        if request.ended.is_some() {
            self.told(&mut request, (outcome.follow, outcome.ended));
            return;
        }
        let task = request.task;
        task_log::finished(self.shown(&request), &request, &outcome, self.config.log_tasks);
        self.count_done(&request, &outcome, now);
        self.tell_outcome(&request, &mut outcome, now);
        let counts = &mut self.counts;
        counts.processed += 1;
        self.total[task as usize] += 1;
        match outcome.status {
            Status::Success => counts.succeeded += 1,
            Status::Failure | Status::Undecodable => counts.failed += 1,
            Status::Retry => counts.retried += 1,
            Status::Ignore | Status::Reject | Status::Requeue => {}
        }
        let (tag, lease) = (request.tag, request.lease);
        let decision =
            settle::outcome(outcome, request, self.registry.spec(task), self.context(now));
        self.pass_on(decision, tag, lease);
    }

    fn started(&mut self, key: u64, pid: u32, at: Micros, now: Now) {
        let Some(request) = self.inflight.move_to(key, Place::Running) else { return };
        (request.started, request.seen, request.pid) = (Some(at), Some(now.mono), pid);
        let Some(request) = self.inflight.get(key).filter(|r| r.ended.is_none()) else { return };
        let decision =
            settle::started(request, self.registry.spec(request.task), pid, self.context(now));
        let (tag, lease, acks) = (request.tag, request.lease, decision.settle.is_some());
        self.tell_started(key, now);
        if let Some(request) = self.inflight.get_mut(key) {
            request.acked |= acks;
        }
        self.pass_on(decision, tag, lease);
    }

    fn returned(&mut self, key: u64, now: Now) {
        let Some(request) = self.inflight.get(key) else { return };
        if request.lease != self.lease && !request.tells_chord() {
            self.forget(key);
        } else if request.ended.is_none() && (request.revoked || self.is_revoked(&request.id, now))
        {
            self.drop_revoked(key, now);
        } else if self.phase.works() && request.suspect {
            let alone = self.is_last_chance(request);
            self.inflight.move_to(key, Place::Suspect);
            self.suspects.line.push_front((key, alone));
        } else if self.phase.works() || (self.phase.tells() && request.ended.is_some()) {
            self.inflight.move_to(key, Place::Ready);
            self.ready.push_front(key);
        } else {
            self.hand_back(key);
        }
    }
}

/// The end that is told without user code; `None` of one that is so already.
fn told_again(end: &[u8]) -> Option<Box<[u8]>> {
    let mut end: Map<String, Value> = serde_json::from_slice(end).ok()?;
    let first = end.insert(AGAIN.to_owned(), Value::Bool(true)).is_none();
    first.then(|| Value::Object(end).to_string().into_bytes().into())
}

/// The message of a request that was revoked, with the mark that it was.
fn marked(request: &Request) -> Option<FollowUp> {
    let mut message = Message::decode(&request.message).ok().filter(|_| request.revoked)?;
    message.revoke();
    let (queue, id) = (Arc::clone(&request.queue), Arc::from(request.id.as_str()));
    Some(FollowUp { queue, id, data: message.encode(Encoding::Compact) })
}
