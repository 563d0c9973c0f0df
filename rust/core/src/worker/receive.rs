//! Receipt: deliveries become requests, each by one verdict of triage.
//!
//! The first half of the loop's work, split from the second by the pool. Whatever is not accepted
//! is settled here; a delivery is never just dropped.

use std::sync::Arc;

use crate::{
    broker::{Delivery, Settle, Settlement},
    clock::Millis,
    message::Message,
    worker::{
        Now, Worker, deadline, document,
        inflight::{Place, Request},
        metrics::End,
        rate::Admission,
        settle, task_log,
        triage::{self, UNKNOWN, Verdict},
        window,
    },
};

impl Worker {
    /// Takes what a fetch claimed.
    pub(super) fn receive(&mut self, deliveries: Vec<Delivery>, now: Now) {
        if !self.phase.works() {
            // Claimed while the request to stop was on its way.
            for delivery in deliveries {
                self.give(delivery.tag, Settle::HandBack);
            }
            return;
        }
        self.window.received(deliveries.len(), deliveries.iter().map(|d| d.raw.len()).sum());
        for delivery in deliveries {
            match &mut delivery.message() {
                Ok(message) => self.judge(delivery, message, now),
                Err(error) => {
                    let reason = triage::undecodable(error);
                    task_log::parked("", "", &delivery.queue, &reason);
                    self.count_end(UNKNOWN, End::Parked);
                    self.give(delivery.tag, Settle::Park { id: Arc::from(""), reason });
                }
            }
        }
    }

    /// Lets a request of task number `task` through its rate limit, or not.
    pub(super) fn admit(&mut self, key: u64, now: Now) {
        let Some(request) = self.inflight.get(key) else { return };
        match self.rates.admit(request.task, key, now.mono) {
            Admission::Now => {
                self.make_ready(key);
            }
            Admission::Waiting => {
                self.inflight.move_to(key, Place::Limited);
            }
            Admission::Defer(wait) => self.defer(key, now.wall_ms() + (wait / 1_000) as Millis),
        }
    }

    /// Stores REVOKED for a request whose time passed while it waited.
    pub(super) fn expire(&mut self, key: u64, now: Now) {
        let Some(request) = self.inflight.remove(key) else { return };
        task_log::expired(self.shown(&request), &request.id);
        self.tell_revoked(&request.id, None, true, now);
        self.count_end(request.task, End::Expired);
        let mut message = Message::decode(&request.message).unwrap_or_default();
        message.headers.id.clone_from(&request.id);
        let decision = settle::expired(&message, request.ignore_result, self.context(now));
        self.conclude(decision, request);
    }

    fn judge(&mut self, delivery: Delivery, message: &mut Message, now: Now) {
        if let Some(end) = message.take_end() {
            return self.left_by_another(delivery, message, end);
        }
        let left = self.config.max_deliveries.saturating_sub(delivery.redeliveries);
        let revoked = self.is_unwanted(message, now);
        match triage::triage(message, (left, revoked), now.wall, &self.registry) {
            Verdict::Run { .. } if message.headers.eta.is_some() && !self.has_room() => {
                // It was claimed as a scheduled one, beyond what the window asked for.
                let due = message.headers.eta.map_or(0, |eta| eta.div_euclid(1_000));
                self.give(delivery.tag, defer(message, due));
            }
            Verdict::Run { task } => {
                let suspect = delivery.suspect;
                let key = self.accept(task, Place::Ready, delivery, message, now);
                if self.rates.limits(task) {
                    self.admit(key, now);
                } else if suspect {
                    self.make_ready(key);
                } else {
                    self.ready.push_back(key);
                }
            }
            Verdict::Wait { task, due } if self.eta.len() < window::HELD => {
                let key = self.accept(task, Place::Held, delivery, message, now);
                self.eta.push(due, key);
            }
            Verdict::Wait { due, .. } | Verdict::Defer { due } => {
                self.give(delivery.tag, defer(message, due));
            }
            Verdict::Expire { task } => {
                task_log::expired(message.headers.display_name(), &message.headers.id);
                self.count_received(task);
                self.count_end(task, End::Expired);
                let ignored =
                    message.headers.ignore_result.unwrap_or(self.registry.spec(task).ignore_result);
                let decision = settle::expired(message, ignored, self.context(now));
                let request = self.request(task, delivery, message);
                self.tell_received(&request.message, now);
                self.tell_revoked(&request.id, None, true, now);
                self.conclude(decision, request);
            }
            Verdict::Revoke { task } => {
                self.count_received(task);
                let request = self.request(task, delivery, message);
                self.tell_received(&request.message, now);
                self.revoke_request(request, now);
            }
            Verdict::Exhausted { task } => {
                self.count_received(task);
                let request = self.request(task, delivery, message);
                self.tell_received(&request.message, now);
                self.exhaust(request, now);
            }
            Verdict::Unknown { reason } => self.park(delivery, message, (UNKNOWN, reason), now),
            Verdict::Park { task, reason } => self.park(delivery, message, (task, reason), now),
        }
    }

    /// Parks a message that can never run here, of a known task or not.
    fn park(
        &mut self,
        delivery: Delivery,
        message: &mut Message,
        (task, reason): (u32, String),
        now: Now,
    ) {
        let headers = &message.headers;
        task_log::parked(&headers.task, &headers.id, &delivery.queue, &reason);
        self.tell_parked(message, task != UNKNOWN, now);
        self.count_received(task);
        self.count_end(task, End::Parked);
        let context = self.context(now);
        let mut decision = match task {
            UNKNOWN => settle::unknown(message, reason, context),
            _ => settle::refused(message, reason, self.registry.spec(task), context),
        };
        decision.end = decision.end.filter(|_| self.registry.opens(&message.content_type));
        let request = self.request(task, delivery, message);
        self.conclude(decision, request);
    }

    /// Parks a request that cost as many workers their life as it may.
    fn exhaust(&mut self, request: Request, now: Now) {
        let decision =
            settle::exhausted(&request, self.registry.spec(request.task), self.context(now));
        if let Some(Settle::Park { reason, .. }) = &decision.settle {
            task_log::parked(self.shown(&request), &request.id, &request.queue, reason);
        }
        self.count_end(request.task, End::Parked);
        if let Some(end) = &decision.end {
            self.tell_failed(&request.id, end, now);
        }
        self.conclude(decision, request);
    }

    fn accept(
        &mut self,
        task: u32,
        place: Place,
        delivery: Delivery,
        message: &mut Message,
        now: Now,
    ) -> u64 {
        self.count_received(task);
        // It waits from when it may run.
        let ahead = message.headers.eta.map_or(0, |eta| (eta - now.wall).max(0) as u64);
        let mut request = self.request(task, delivery, message);
        request.since = now.mono + ahead;
        self.tell_received(&request.message, now);
        let name = self.shown(&request);
        if self.config.log_tasks {
            task_log::received(name, &request);
        }
        if request.hard_us.is_some() && !self.pool.kills() {
            task_log::unlimited(name, &request, self.pool.name());
            request.hard_us = None;
        }
        self.inflight.insert(place, request)
    }

    /// The name of a request's task for the log.
    pub(super) fn shown<'a>(&'a self, request: &'a Request) -> &'a str {
        request.shadow.as_deref().unwrap_or_else(|| self.registry.name(request.task))
    }

    /// The request that a delivery becomes; what it needs of the message is taken out of it.
    pub(super) fn request(&self, task: u32, delivery: Delivery, message: &mut Message) -> Request {
        let spec = self.registry.spec(task);
        let (soft_us, hard_us) = deadline::limits(message.headers.timelimit, spec);
        let compact = message.compact(delivery.raw);
        let mut member = document::member_of(message);
        if let Some(member) = &mut member {
            member.message = compact.clone();
        }
        let ignored = message.headers.ignore_result.unwrap_or(spec.ignore_result);
        let shadow = message.headers.rare.as_ref().and_then(|rare| rare.shadow.as_deref());
        let shadow = shadow.or((task == UNKNOWN).then_some(message.headers.task.as_str()));
        Request {
            tag: delivery.tag,
            lease: self.lease,
            task,
            shadow: shadow.map(Box::from),
            queue: delivery.queue,
            redeliveries: delivery.redeliveries,
            suspect: delivery.suspect,
            dispatched: 0,
            begun: false,
            revoked: false,
            message: compact,
            soft_us,
            hard_us,
            expires: message.headers.expires,
            ignore_result: ignored && (member.is_none() || message.is_member() != Some(true)),
            member,
            id: std::mem::take(&mut message.headers.id),
            reply_to: message.properties.reply_to.take(),
            since: 0,
            acked: false,
            started: None,
            pid: 0,
            seen: None,
            ended: None,
        }
    }

    pub(super) fn defer(&mut self, key: u64, due: Millis) {
        if let Some(request) = self.inflight.remove(key) {
            self.give(request.tag, Settle::Defer { id: Arc::from(request.id), due });
        }
    }

    /// Settles a message under the present lease that leaves no record.
    pub(super) fn give(&mut self, tag: crate::broker::Tag, how: Settle) {
        self.flush.push(None, Some(Settlement { tag, how }).into());
    }
}

/// Back into the due set until then.
fn defer(message: &Message, due: Millis) -> Settle {
    Settle::Defer { id: Arc::from(message.headers.id.as_str()), due }
}
