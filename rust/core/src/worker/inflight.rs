//! The in-flight table: every request that this worker holds, from acceptance until its outcome is
//! settled.
//!
//! A slab: keys are a slot and how often the slot was used, so a late word about a call that is
//! gone finds nothing instead of somebody else's request. A ring keyed by sequence would be denser,
//! but one task that runs for an hour would pin everything that came after it. The table counts how
//! many requests are in each place as they move, because the window and the statistics ask for that
//! on every turn of the loop.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    broker::{Settle, Tag},
    clock::Micros,
    result::Member,
    worker::joining::FailedChord,
};

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the ETA heap.
    Held,
    /// In line behind its rate limit.
    Limited,
    /// May run as soon as the pool has room.
    Ready,
    /// Submitted; not known to have begun.
    Pool,
    /// Known to have begun.
    Running,
    /// Among the suspects; see `suspect`.
    Suspect,
}

/// A delivery accepted for a known task.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts, each learned by another station
pub struct Request {
    /// How to settle it. Written at receipt, read by settle.
    pub tag: Tag,
    /// The lease under which `tag` is valid. Written at receipt, compared when settling.
    pub lease: u32,
    /// Number of the task in the registry. Written by triage.
    pub task: u32,
    /// Task id.
    pub id: String,
    /// The name that its caller wants to see in logs instead of the task's. Written at receipt.
    pub shadow: Option<Box<str>>,
    /// Queue it came from.
    pub queue: Arc<str>,
    /// How many earlier deliveries ended with a lost worker.
    pub redeliveries: u32,
    /// Whether a worker was lost that held it. Written at receipt.
    pub suspect: bool,
    /// Its place among all that was given to the pool; 0 before. Written here, read when the pool
    /// gives it back.
    pub dispatched: u64,
    /// Whether the broker knows that it has begun. Written by recovery.
    pub begun: bool,
    /// Whether its task was revoked, though the set of revoked ids may have forgotten it by now: it
    /// is dropped when the pool gives it back, and not handed to others. Written by control and
    /// outcome, read by outcome.
    pub revoked: bool,
    /// The message, compact. Kept until the outcome: the pool may return the call.
    pub message: Bytes,
    /// Effective soft limit in microseconds. Written at receipt by deadline, read by dispatch.
    pub soft_us: Option<u64>,
    /// Effective hard limit, likewise.
    pub hard_us: Option<u64>,
    /// Not to be begun after this time, microseconds since the Unix epoch.
    pub expires: Option<i64>,
    /// Reply id of a taskcore client. Read by settle.
    pub reply_to: Option<String>,
    /// Whether no result is wanted: the header, else the task's setting; never of the member of a
    /// join. Read by settle.
    pub ignore_result: bool,
    /// Which member of which join it is; `None` for most. Written at receipt, read by settle.
    pub member: Option<Box<Member>>,
    /// Whether it was acknowledged already. Written when an early-acked task begins.
    pub acked: bool,
    /// When it began, for calls that run longer than an instant. Written from the pool's news.
    pub started: Option<Micros>,
    /// When it came, or was due: from then on it waits for a slot. Written at receipt, read when it is
    /// measured.
    pub since: Micros,
    /// Process id that runs it, likewise.
    pub pid: u32,
    /// When the loop heard of that, by its own clock. Read by recovery.
    pub seen: Option<Micros>,
    /// Set when the task has ended without a word from whoever ran it and the call under way only
    /// tells what follows (see `telling`).
    pub ended: Option<Box<Ended>>,
}

/// A task that has ended while its message is still held.
#[derive(Debug)]
pub struct Ended {
    /// How the message is settled once all are told; `None` when it was before.
    pub settle: Option<Settle>,
    /// What the pool is told of the end; see [`crate::pool::Call::ended`].
    pub end: Box<[u8]>,
    /// The failure of a chord of which this call tells.
    pub(super) chord: Option<Box<FailedChord>>,
}

impl Request {
    /// Whether the call only tells of an end, and has no message that another worker could get.
    pub(super) fn is_unheld(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.settle.is_none())
    }
}

struct Slot {
    used: u32,
    /// Of what is held.
    place: Place,
    held: Option<Request>,
}

/// All requests of the worker, by key.
#[derive(Default)]
pub struct Inflight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    counts: [usize; 6],
    unstarted_bytes: usize,
    /// How many were given to the pool.
    dispatched: u64,
}

fn waits(place: Place) -> bool {
    !matches!(place, Place::Running)
}

impl Inflight {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a request in; its key.
    pub fn insert(&mut self, place: Place, request: Request) -> u64 {
        self.count_in(place, request.message.len());
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.used = slot.used.wrapping_add(1);
            slot.place = place;
            slot.held = Some(request);
            return key_of(slot.used, index);
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { used: 0, place, held: Some(request) });
        key_of(0, index)
    }

    /// The request under `key`.
    pub fn get(&self, key: u64) -> Option<&Request> {
        self.slot(key).and_then(|s| s.held.as_ref())
    }

    /// The request under `key`, to be changed.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut Request> {
        let slot = self.slots.get_mut(key as u32 as usize);
        slot.filter(|s| s.used == (key >> 32) as u32)?.held.as_mut()
    }

    /// Where the request is.
    pub fn place(&self, key: u64) -> Option<Place> {
        self.slot(key).filter(|s| s.held.is_some()).map(|s| s.place)
    }

    /// Notes that it is elsewhere now; the request.
    pub fn move_to(&mut self, key: u64, place: Place) -> Option<&mut Request> {
        let slot =
            self.slots.get_mut(key as u32 as usize).filter(|s| s.used == (key >> 32) as u32)?;
        let request = slot.held.as_mut()?;
        let from = std::mem::replace(&mut slot.place, place);
        if place == Place::Pool {
            self.dispatched += 1;
            request.dispatched = self.dispatched;
        }
        self.counts[from as usize] -= 1;
        self.counts[place as usize] += 1;
        match (waits(from), waits(place)) {
            (true, false) => self.unstarted_bytes -= request.message.len(),
            (false, true) => self.unstarted_bytes += request.message.len(),
            _ => {}
        }
        Some(request)
    }

    /// Takes the request out for good.
    pub fn remove(&mut self, key: u64) -> Option<Request> {
        let index = key as u32;
        let slot = self.slots.get_mut(index as usize).filter(|s| s.used == (key >> 32) as u32)?;
        let (place, bytes) = (slot.place, slot.held.as_ref()?.message.len());
        self.free.push(index);
        self.counts[place as usize] -= 1;
        if waits(place) {
            self.unstarted_bytes -= bytes;
        }
        slot.held.take()
    }

    /// The lease lapsed: what is to be settled after the joins of failed chords is void.
    pub(super) fn fenced(&mut self) {
        let held = self.slots.iter_mut().filter_map(|slot| slot.held.as_mut()?.ended.as_mut());
        for chord in held.filter_map(|ended| ended.chord.as_mut()) {
            chord.completed.fenced();
        }
    }

    /// Keys of the requests for whose place `wanted` holds.
    pub fn keys(&self, wanted: impl Fn(Place) -> bool) -> Vec<u64> {
        let held = |(index, slot): (usize, &Slot)| {
            let wanted = slot.held.is_some() && wanted(slot.place);
            wanted.then(|| key_of(slot.used, index as u32))
        };
        self.slots.iter().enumerate().filter_map(held).collect()
    }

    /// Keys, places and ids of the requests that `wanted` names.
    pub fn select(&self, wanted: impl Fn(&Request) -> bool) -> Vec<(u64, Place, String)> {
        let held = |(index, slot): (usize, &Slot)| {
            let request = slot.held.as_ref().filter(|request| wanted(request))?;
            Some((key_of(slot.used, index as u32), slot.place, request.id.clone()))
        };
        self.slots.iter().enumerate().filter_map(held).collect()
    }

    /// How many are in `place`.
    pub fn count(&self, place: Place) -> usize {
        self.counts[place as usize]
    }

    /// How many want a slot or have one.
    pub fn claimed(&self) -> usize {
        self.count(Place::Ready) + self.at_pool()
    }

    /// How many the pool has.
    pub fn at_pool(&self) -> usize {
        self.count(Place::Pool) + self.count(Place::Running)
    }

    /// How many there are in all.
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the messages that have not begun.
    pub fn unstarted_bytes(&self) -> usize {
        self.unstarted_bytes
    }

    fn slot(&self, key: u64) -> Option<&Slot> {
        self.slots.get(key as u32 as usize).filter(|s| s.used == (key >> 32) as u32)
    }

    fn count_in(&mut self, place: Place, bytes: usize) {
        self.counts[place as usize] += 1;
        if waits(place) {
            self.unstarted_bytes += bytes;
        }
    }
}

fn key_of(used: u32, index: u32) -> u64 {
    u64::from(used) << 32 | u64::from(index)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request with nothing special about it.
    pub(crate) fn request(id: &str) -> Request {
        Request {
            tag: Tag { lane: 0, seq: 1 },
            lease: 1,
            task: 0,
            id: id.into(),
            shadow: None,
            queue: "q".into(),
            redeliveries: 0,
            suspect: false,
            dispatched: 0,
            begun: false,
            revoked: false,
            message: Bytes::from_static(b"0123456789"),
            soft_us: None,
            hard_us: None,
            expires: None,
            reply_to: None,
            ignore_result: false,
            member: None,
            since: 0,
            acked: false,
            started: None,
            pid: 0,
            seen: None,
            ended: None,
        }
    }

    #[test]
    fn a_key_of_the_past_finds_nothing() {
        let mut table = Inflight::new();
        let first = table.insert(Place::Ready, request("a"));
        assert_eq!(table.remove(first).expect("held").id, "a");
        let second = table.insert(Place::Ready, request("b"));
        assert_ne!(first, second);
        assert!(table.get(first).is_none());
        assert!(table.remove(first).is_none());
        assert!(table.move_to(first, Place::Pool).is_none());
        assert_eq!(table.get(second).expect("held").id, "b");
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_model(steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>(), 0usize..6), 0..300)) {
            const PLACES: [Place; 6] =
                [Place::Held, Place::Limited, Place::Ready, Place::Pool, Place::Running, Place::Suspect];
            let mut table = Inflight::new();
            let mut model: Vec<(u64, Place)> = Vec::new();
            for (step, which, place) in steps {
                let place = PLACES[place];
                match step {
                    0 => model.push((table.insert(place, request("x")), place)),
                    _ if model.is_empty() => {}
                    1 => {
                        let i = which.index(model.len());
                        prop_assert!(table.move_to(model[i].0, place).is_some());
                        model[i].1 = place;
                    }
                    _ => {
                        let (key, _) = model.swap_remove(which.index(model.len()));
                        prop_assert!(table.remove(key).is_some());
                    }
                }
                for place in PLACES {
                    prop_assert_eq!(table.count(place), model.iter().filter(|(_, p)| *p == place).count());
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.unstarted_bytes(), 10 * model.iter().filter(|(_, p)| waits(*p)).count());
                let mut keys = table.keys(|_| true);
                let mut expected: Vec<u64> = model.iter().map(|(k, _)| *k).collect();
                keys.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(keys, expected);
            }
        }
    }
}
