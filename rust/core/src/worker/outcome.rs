//! What the pool reports, and what becomes of it: the decisions of settle carried out.
//!
//! The second half of the loop's work. News of a call that is not in the table any more (its lease
//! lapsed and it was dropped) fall through silently.
//!
//! An outcome brings what follows its task, encoded; it is published before the record is stored
//! (see `settle`). What follows a task that the worker has ended is had otherwise (see `telling`).

use crate::{
    broker::{Settlement, Tag},
    clock::Micros,
    pool::{Lost, Outcome, PoolNews, Status},
    worker::{
        Now, Worker,
        inflight::{Place, Request},
        kept::SettleAfter,
        settle::{self, Context, Decision},
        task_log,
    },
};

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
            return self.lost_telling(request, why);
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
        if request.lease != self.lease && !request.is_unheld() {
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
