//! What the in-process broker knows, and every change to it. No clock, no waiting: time comes in as
//! an argument.
//!
//! A message keeps the number it was published under. Lanes are ordered by that number, so putting
//! a message back at the head of its lane in its old place is an insertion, and going to the tail
//! is taking a new number.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::super::{
    DeadLetter, Delivery, HORIZON_MS, PRIORITIES, QueueStats, Recovered, Settle, Settlement, Tag,
    Want, cancelled,
    encoded::Encoded,
    epoch,
    lease::{self, LEASE_MS},
    order::Turns,
};
use super::{bindings::Bindings, schedule::Schedules};
use crate::clock::Millis;

/// One message, wherever it is.
struct Message {
    /// Its place in its lane.
    number: u64,
    queue: Arc<str>,
    priority: u8,
    redeliveries: u32,
    /// Whether a worker was lost that held it.
    suspect: bool,
    /// Whether its holder says that it has begun.
    begun: bool,
    id: Arc<str>,
    data: Bytes,
}

#[derive(Default)]
struct Queue {
    /// One lane per priority, by whether it is no suspect, then number.
    ready: [BTreeMap<(bool, u64), Message>; PRIORITIES as usize],
    /// By due time, then number.
    due: BTreeMap<(Millis, u64), Message>,
    /// In the order of parking, with reason and time.
    dead: BTreeMap<u64, (Message, String, Millis)>,
}

/// One worker process start.
struct Holder {
    /// Its worker's name for it.
    base: String,
    /// Its name here.
    epoch: String,
    /// End of the lease.
    until: Millis,
    /// Since when its consumer has held it without a gap.
    mine: Millis,
    /// What it holds, by the number of the claim.
    held: BTreeMap<u64, Message>,
}

/// Everything.
#[derive(Default)]
pub(super) struct State {
    queues: BTreeMap<Arc<str>, Queue>,
    holders: HashMap<u64, Holder>,
    /// How many leases were taken under a worker's name.
    leases: HashMap<String, u32>,
    /// The source of every number.
    last: u64,
    pub(super) schedules: Schedules,
    pub(super) bindings: Bindings,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn queue(&mut self, name: &Arc<str>) -> &mut Queue {
        self.queues.entry(name.clone()).or_default()
    }

    fn make_ready(&mut self, message: Message) {
        let (queue, place) = (message.queue.clone(), (!message.suspect, message.number));
        self.queue(&queue).ready[usize::from(message.priority)].insert(place, message);
    }

    fn schedule(&mut self, message: Message, due: Millis) {
        let queue = message.queue.clone();
        self.queue(&queue).due.insert((due, message.number), message);
    }

    fn park(&mut self, message: Message, reason: String, now: Millis) {
        let (queue, key) = (message.queue.clone(), self.number());
        self.queue(&queue).dead.insert(key, (message, reason, now));
    }

    /// Counts a delivery that ended with a lost process, and parks the message once there were too
    /// many.
    fn redeliver(&mut self, mut message: Message, max_deliveries: u32, now: Millis) {
        message.redeliveries += 1;
        if message.redeliveries >= max_deliveries {
            let reason = format!("{} deliveries ended with a lost worker", message.redeliveries);
            self.park(message, reason, now);
        } else {
            self.make_ready(message);
        }
    }

    pub(super) fn publish(&mut self, encoded: Encoded, now: Millis) {
        let Encoded { queue, priority, due, id, data } = encoded;
        let message = Message {
            number: self.number(),
            queue,
            priority,
            redeliveries: 0,
            suspect: false,
            begun: false,
            id,
            data,
        };
        match due {
            Some(due) if due > now + HORIZON_MS => self.schedule(message, due),
            _ => self.make_ready(message),
        }
    }

    /// The number of the epoch and its name, which is a fresh one when the lease under `base` was
    /// lost.
    pub(super) fn register(
        &mut self,
        base: &str,
        queues: &[Arc<str>],
        now: Millis,
    ) -> (u64, String) {
        for queue in queues {
            self.queue(queue);
        }
        let (until, mine) = (now + LEASE_MS, now);
        let known = self.holders.iter_mut().find(|(_, holder)| holder.base == base);
        if let Some((number, holder)) = known {
            (holder.until, holder.mine) = (until, mine);
            return (*number, holder.epoch.clone());
        }
        let lost = self.leases.entry(base.to_owned()).or_default();
        let epoch = epoch::after(base, *lost);
        *lost += 1;
        let (number, held) = (self.number(), BTreeMap::new());
        let holder = Holder { base: base.to_owned(), epoch: epoch.clone(), until, mine, held };
        self.holders.insert(number, holder);
        (number, epoch)
    }

    /// Claims what is wanted; `None` when the holder is not known any more.
    pub(super) fn claim(
        &mut self,
        holder: u64,
        (queues, turns): (&[Arc<str>], &mut Turns),
        want: Want,
        now: Millis,
    ) -> Option<Vec<Delivery>> {
        let (mut claimed, mut suspects) = (Vec::new(), want.suspects);
        let holder = self.holders.get_mut(&holder)?;
        take_due(&mut self.queues, queues, now, want.ready, &mut claimed);
        for priority in 0..usize::from(PRIORITIES) {
            while claimed.len() < want.ready {
                let next = turns.queues().find_map(|at| {
                    let ready = &mut self.queues.get_mut(&queues[at])?.ready[priority];
                    let first = *ready.range((suspects == 0, 0)..).next()?.0;
                    Some((at, ready.remove(&first)?))
                });
                let Some((at, message)) = next else { break };
                suspects -= usize::from(message.suspect);
                turns.served(at);
                claimed.push(message);
            }
        }
        let all = claimed.len() + want.due;
        take_due(&mut self.queues, queues, now + HORIZON_MS, all, &mut claimed);
        let last = &mut self.last;
        let deliver = |message: Message| {
            *last += 1;
            let delivery = Delivery {
                tag: Tag { lane: u32::from(message.priority), seq: *last },
                queue: message.queue.clone(),
                redeliveries: message.redeliveries,
                suspect: message.suspect,
                raw: message.data.clone(),
            };
            holder.held.insert(*last, message);
            delivery
        };
        Some(claimed.into_iter().map(deliver).collect())
    }

    /// When the first scheduled message of these queues is due.
    pub(super) fn next_due(&self, queues: &[Arc<str>]) -> Option<Millis> {
        queues.iter().filter_map(|q| self.queues.get(q)?.due.keys().next().map(|k| k.0)).min()
    }

    pub(super) fn settle(
        &mut self,
        holder: u64,
        settlement: Settlement,
        max_deliveries: u32,
        now: Millis,
    ) {
        let held = self.holders.get_mut(&holder).and_then(|h| h.held.remove(&settlement.tag.seq));
        let Some(mut message) = held else { return };
        message.begun = false;
        match settlement.how {
            Settle::Ack => {}
            Settle::HandBack => self.make_ready(message),
            Settle::Requeue => {
                (message.number, message.suspect) = (self.number(), false);
                self.make_ready(message);
            }
            Settle::Redeliver { .. } => self.redeliver(message, max_deliveries, now),
            Settle::Defer { id, due } => {
                message.id = id;
                self.schedule(message, due);
            }
            Settle::Park { id, reason } => {
                message.id = id;
                self.park(message, reason, now);
            }
        }
    }

    /// Marks what the holder has of these as begun.
    pub(super) fn begin(&mut self, holder: u64, tags: &[Tag]) {
        let Some(holder) = self.holders.get_mut(&holder) else { return };
        for tag in tags {
            if let Some(message) = holder.held.get_mut(&tag.seq) {
                message.begun = true;
            }
        }
    }

    /// Whether the lease could be renewed.
    pub(super) fn renew(&mut self, holder: u64, now: Millis) -> bool {
        let Some(holder) = self.holders.get_mut(&holder) else { return false };
        if holder.until < now {
            holder.mine = now;
        }
        holder.until = now + LEASE_MS;
        true
    }

    /// Puts back, as suspects, what lapsed holders held, as `judge` sees it; what had begun is
    /// counted. One that is late itself judges nobody before it has renewed.
    pub(super) fn recover(&mut self, judge: u64, now: Millis) -> Recovered {
        let judge = self.holders.get(&judge).filter(|judge| judge.until >= now);
        let Some(mine) = judge.map(|judge| judge.mine) else { return Recovered::default() };
        let lapsed: Vec<u64> = self
            .holders
            .iter()
            .filter(|(_, h)| lease::lapsed(h.until, mine, now))
            .map(|(n, _)| *n)
            .collect();
        let mut recovered = Recovered::default();
        for holder in lapsed {
            recovered.requeued += self.lost(holder);
        }
        recovered
    }

    /// The epochs whose lease stands.
    pub(super) fn standing(&self, now: Millis) -> Vec<String> {
        let standing = self.holders.values().filter(|holder| holder.until >= now);
        standing.map(|holder| holder.epoch.clone()).collect()
    }

    /// Puts back, as suspects, what a holder that is lost held; how many.
    fn lost(&mut self, holder: u64) -> u64 {
        let held = self.holders.remove(&holder).map(|holder| holder.held).unwrap_or_default();
        let count = held.len() as u64;
        for mut message in held.into_values() {
            message.redeliveries += u32::from(std::mem::take(&mut message.begun));
            message.suspect = true;
            self.make_ready(message);
        }
        self.forget(holder);
        count
    }

    /// Ends every lease, as time does when all workers are lost at once.
    #[cfg(test)]
    pub(super) fn lapse(&mut self) {
        let holders: Vec<u64> = self.holders.keys().copied().collect();
        for holder in holders {
            self.lost(holder);
        }
    }

    pub(super) fn release(&mut self, holder: u64) {
        for mut message in
            self.holders.remove(&holder).into_iter().flat_map(|h| h.held.into_values())
        {
            message.begun = false;
            self.make_ready(message);
        }
        self.forget(holder);
    }

    /// Drops the queues that go with a holder.
    fn forget(&mut self, holder: u64) {
        for queue in self.bindings.forget(holder) {
            self.queues.remove(&queue);
        }
    }

    pub(super) fn stats(&self, queue: &str) -> QueueStats {
        let held = self.holders.values().flat_map(|h| h.held.values());
        let mut stats = QueueStats {
            in_flight: held.filter(|m| &*m.queue == queue).count() as u64,
            ..QueueStats::default()
        };
        if let Some(queue) = self.queues.get(queue) {
            stats.depth = queue.ready.iter().map(BTreeMap::len).sum::<usize>() as u64;
            stats.scheduled = queue.due.len() as u64;
            stats.dead = queue.dead.len() as u64;
        }
        stats
    }

    pub(super) fn queues(&self) -> Vec<String> {
        self.queues.keys().map(ToString::to_string).collect()
    }

    pub(super) fn purge(&mut self, queue: &str) -> u64 {
        let stats = self.stats(queue);
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.ready.iter_mut().for_each(BTreeMap::clear);
            queue.due.clear();
        }
        stats.depth + stats.scheduled
    }

    pub(super) fn cancel(&mut self, queue: &str, id: &str) -> bool {
        let Some(queue) = self.queues.get_mut(queue) else { return false };
        let key = queue.due.iter().find(|(_, m)| &*m.id == id).map(|(key, _)| *key);
        let Some(mut message) = key.and_then(|key| queue.due.remove(&key)) else { return false };
        if let Some(data) = cancelled::instead(&message.data) {
            (message.number, message.data) = (self.number(), data);
            self.make_ready(message);
        }
        true
    }

    /// The newest dead letters, not opened.
    pub(super) fn dead(&self, queue: &str, limit: usize) -> Vec<DeadLetter> {
        let Some(queue) = self.queues.get(queue) else { return Vec::new() };
        let letter =
            |(key, (message, reason, at)): (&u64, &(Message, String, Millis))| DeadLetter {
                key: key.to_string(),
                id: message.id.to_string(),
                reason: reason.clone(),
                at: *at,
                redeliveries: message.redeliveries,
                message: None,
                raw: message.data.clone(),
            };
        queue.dead.iter().rev().take(limit).map(letter).collect()
    }

    /// Takes the named dead letters, or all, in the order of parking.
    fn take_dead(&mut self, queue: &str, keys: Option<&[String]>) -> Vec<Message> {
        let Some(queue) = self.queues.get_mut(queue) else { return Vec::new() };
        let dead = std::mem::take(&mut queue.dead);
        let (taken, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = dead
            .into_iter()
            .partition(|(key, _)| keys.is_none_or(|keys| keys.contains(&key.to_string())));
        queue.dead = kept;
        taken.into_values().map(|(message, ..)| message).collect()
    }

    pub(super) fn replay(&mut self, queue: &str, keys: Option<&[String]>) -> u64 {
        let messages = self.take_dead(queue, keys);
        let count = messages.len() as u64;
        for mut message in messages {
            (message.number, message.redeliveries) = (self.number(), 0);
            message.suspect = false;
            self.make_ready(message);
        }
        count
    }

    pub(super) fn discard(&mut self, queue: &str, keys: Option<&[String]>) -> u64 {
        self.take_dead(queue, keys).len() as u64
    }
}

/// Moves what is due by `until`, the earliest of each queue first, to `claimed`, until that has
/// `most`.
fn take_due(
    all: &mut BTreeMap<Arc<str>, Queue>,
    queues: &[Arc<str>],
    until: Millis,
    most: usize,
    claimed: &mut Vec<Message>,
) {
    for name in queues {
        let Some(queue) = all.get_mut(name) else { continue };
        while claimed.len() < most {
            let first = queue.due.first_entry().filter(|first| first.key().0 <= until);
            let Some(first) = first else { break };
            claimed.push(first.remove());
        }
    }
}
