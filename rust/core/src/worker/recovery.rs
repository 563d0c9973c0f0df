//! Recovery: suspects are marked and tried, and what runs for long is marked, so that blame falls
//! on what had begun.
//!
//! A worker that dies leaves nothing but what its broker knows. Requests that are acknowledged late
//! and have run for [`LONG_US`] when the lease is renewed are marked as begun, in one batch: short
//! ones cost nothing. Suspects are marked before they begin.

use crate::{
    broker::Tag,
    clock::Micros,
    error::Result,
    worker::{
        Now, Worker, dispatch,
        inflight::{Place, Request},
        suspect,
    },
};

/// What has run for so long is marked at the next renewal.
const LONG_US: Micros = 1_000_000;

impl Worker {
    /// A request that may run takes its place among those.
    pub(super) fn make_ready(&mut self, key: u64) {
        let Some(request) = self.inflight.get(key) else { return };
        if request.suspect {
            let alone = self.is_last_chance(request);
            self.inflight.move_to(key, Place::Suspect);
            self.suspects.line.push_back((key, alone));
        } else {
            self.inflight.move_to(key, Place::Ready);
            self.ready.push_back(key);
        }
    }

    /// Whether the next loss would be one too many.
    pub(super) fn is_last_chance(&self, request: &Request) -> bool {
        request.redeliveries + 1 >= self.config.max_deliveries
    }

    /// Begins what is marked and marks what may begin next; how many other calls the pool may get
    /// now.
    pub(super) fn try_suspects(&mut self, room: usize, now: Now) -> Result<usize> {
        let at_pool = |place| matches!(place, Some(Place::Pool | Place::Running));
        let Self { suspects, inflight, flush, .. } = self;
        suspects.begun.retain(|(key, tag)| at_pool(inflight.place(*key)) || flush.holds(*tag));
        suspects.alone &= suspects.len() + suspects.begun.len() > suspects.line.len();
        if !self.suspects.marked.is_empty() {
            let out =
                dispatch::dispatch(&mut self.inflight, &mut self.suspects.marked, room, now.wall);
            for call in &out.calls {
                let tag = self.inflight.get(call.key).map(|request| request.tag);
                self.suspects.begun.extend(tag.map(|tag| (call.key, tag)));
            }
            self.suspects.served = true;
            for key in out.expired {
                self.expire(key, now);
            }
            if !out.calls.is_empty() {
                self.pool.submit(out.calls)?;
            }
        }
        let slots = self.pool.slots();
        let idle = slots.saturating_sub(self.inflight.at_pool()).min(self.pool.room());
        let most = if self.ready.is_empty() || slots == 1 { slots } else { slots - 1 };
        let idle = idle.min(most.saturating_sub(self.suspects.begun.len()));
        let turn = slots > 1 || !self.suspects.served || self.ready.is_empty();
        if turn && self.connection.can_mark() {
            let taken = self.suspects.take(idle);
            let tags: Vec<Tag> =
                taken.iter().filter_map(|key| Some(self.inflight.get(*key)?.tag)).collect();
            if !tags.is_empty() {
                self.connection.mark(tags);
                self.suspects.marking = taken;
            }
        }
        if self.suspects.is_empty() {
            return Ok(self.pool.room());
        }
        let running = self.running_suspects();
        let others = self.inflight.at_pool() - running;
        let tried = running + self.suspects.marking.len();
        let others = suspect::beside(slots, tried, others, self.suspects.served);
        if others > 0 && !self.ready.is_empty() {
            self.suspects.served = false;
        }
        Ok(others.min(self.pool.room()))
    }

    /// How many of the suspects the pool has.
    fn running_suspects(&self) -> usize {
        let place = |key| self.inflight.place(key);
        let begun = self.suspects.begun.iter();
        begun.filter(|(key, _)| matches!(place(*key), Some(Place::Pool | Place::Running))).count()
    }

    /// How many suspects wait here to be tried or are.
    pub(super) fn held_suspects(&self) -> usize {
        self.inflight.count(Place::Suspect) + self.running_suspects()
    }

    /// The marks have arrived.
    pub(super) fn marked(&mut self) {
        let Self { suspects, inflight, .. } = self;
        suspects.marked.extend(suspects.marking.drain(..));
        for key in suspects.marked.iter().copied().chain(suspects.long.drain(..)) {
            if let Some(request) = inflight.get_mut(key) {
                request.begun = true;
            }
        }
    }

    /// Marks what has run for long, if that is still to be said.
    pub(super) fn mark_long(&mut self, now: Now) {
        if !self.connection.can_mark() {
            return;
        }
        let mut tags = Vec::new();
        for key in self.inflight.keys(|place| place == Place::Running) {
            let Some(request) = self.inflight.get(key) else { continue };
            let long = request.seen.is_some_and(|at| at + LONG_US <= now.mono);
            if long && !request.acked && !request.begun && request.lease == self.lease {
                tags.push(request.tag);
                self.suspects.long.push(key);
            }
        }
        if !tags.is_empty() {
            self.connection.mark(tags);
        }
    }
}
