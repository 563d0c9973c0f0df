//! What this process knows about what it holds under an epoch; it outlives the connection.
//!
//! Sequence numbers never repeat within the process, also not under the fresh epoch that follows a lapsed lease: the worker may
//! settle tags from before the break, and a number that was given twice would settle another message.
//!
//! Everything whose reply is outstanding is noted here, so that a consumer that connects anew can ask what became of it: claims
//! by their range of numbers, messages that a blocked wait landed by their bytes. What arrived and no fetch took waits here too.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::keys::STEPS;
use crate::broker::{Delivery, Tag};

/// Notes of one epoch and its successors. Behind a std mutex because a section is a few pushes and never awaits.
pub(super) struct Ledger(Mutex<Inner>);

struct Inner {
    /// The name that the worker chose.
    base: String,
    /// How many leases under that name were lost.
    generation: u32,
    /// Whether the epoch, by its name now, has had a lease.
    registered: bool,
    next_seq: u64,
    /// Queues in the order in which they were first consumed: the lane number of a tag counts through them.
    queues: Vec<Arc<str>>,
    /// Claims without a reply.
    claims: Vec<(u64, u64)>,
    /// Messages in the inbox that are not yet confirmed to be recorded as held.
    landed: Vec<Landed>,
    /// Claimed and landed messages that no fetch took yet.
    ready: VecDeque<Delivery>,
    /// The same for scheduled ones.
    ready_due: VecDeque<Delivery>,
    /// On their way back, because no fetch took them.
    returning: Vec<Tag>,
    /// The server's number of the connection that commands went over last.
    link: Option<i64>,
}

impl Inner {
    fn numbers(&mut self, count: u64) -> u64 {
        let first = self.next_seq;
        self.next_seq += count;
        first
    }
}

/// A message that a blocked wait moved into the inbox.
#[derive(Clone)]
pub(super) struct Landed {
    pub(super) tag: Tag,
    pub(super) raw: Bytes,
    /// Whether the command that records it is on its way.
    sent: bool,
}

impl Ledger {
    pub(super) fn new(base: &str) -> Self {
        Self(Mutex::new(Inner {
            base: base.to_owned(),
            generation: 0,
            registered: false,
            next_seq: 1,
            queues: Vec::new(),
            claims: Vec::new(),
            landed: Vec::new(),
            ready: VecDeque::new(),
            ready_due: VecDeque::new(),
            returning: Vec::new(),
            link: None,
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the epoch now.
    pub(super) fn epoch(&self) -> String {
        let inner = self.inner();
        match inner.generation {
            0 => inner.base.clone(),
            n => format!("{}~{n}", inner.base),
        }
    }

    /// The epoch has a lease.
    pub(super) fn registered(&self) {
        self.inner().registered = true;
    }

    /// Whether the epoch had one before.
    pub(super) fn is_registered(&self) -> bool {
        self.inner().registered
    }

    /// The lease was lost: what was held is somebody else's, the next epoch has a new name.
    pub(super) fn fenced(&self) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner.registered = false;
        inner.claims.clear();
        inner.landed.clear();
        inner.ready.clear();
        inner.ready_due.clear();
        inner.returning.clear();
    }

    /// The connection that commands went over before this one, and whose end a successor must make sure of.
    pub(super) fn link(&self) -> Option<i64> {
        self.inner().link
    }

    /// From now on they go over this one.
    pub(super) fn linked(&self, link: Option<i64>) {
        self.inner().link = link;
    }

    /// The number of a lane in tags.
    pub(super) fn lane(&self, queue: &Arc<str>, step: usize) -> u32 {
        let mut inner = self.inner();
        let at = inner.queues.iter().position(|q| q == queue).unwrap_or_else(|| {
            inner.queues.push(Arc::clone(queue));
            inner.queues.len() - 1
        });
        (at * STEPS.len() + step) as u32
    }

    /// Numbers for a claim of up to `count` messages, the first of which is returned.
    pub(super) fn claim(&self, count: u64) -> u64 {
        let mut inner = self.inner();
        let first = inner.numbers(count);
        inner.claims.push((first, count));
        first
    }

    /// The claim that began with `first` was answered. What it got is left for the next fetch, unless a successor of the
    /// connection has found it already, or the lease was lost.
    pub(super) fn claimed(&self, first: u64, ready: Vec<Delivery>, due: Vec<Delivery>) {
        let mut inner = self.inner();
        let Some(at) = inner.claims.iter().position(|claim| claim.0 == first) else { return };
        inner.claims.swap_remove(at);
        inner.ready.extend(ready);
        inner.ready_due.extend(due);
    }

    /// Claims without an answer, as ranges of numbers.
    pub(super) fn claims_in_doubt(&self) -> Vec<std::ops::Range<u64>> {
        self.inner().claims.iter().map(|(first, count)| *first..first + count).collect()
    }

    /// What the server knows of those claims, in their order. One that was answered meanwhile is no longer in doubt.
    pub(super) fn resolved(&self, doubts: &[std::ops::Range<u64>], found: Vec<Delivery>) {
        let mut inner = self.inner();
        let doubts: Vec<_> =
            doubts.iter().filter(|d| inner.claims.iter().any(|c| c.0 == d.start)).collect();
        inner.claims.retain(|claim| doubts.iter().all(|d| d.start != claim.0));
        inner.ready.extend(
            found.into_iter().filter(|found| doubts.iter().any(|d| d.contains(&found.tag.seq))),
        );
    }

    /// The number of what a wait that is about to be sent may land. What lands left its list before anything that a later
    /// claim gets, also when its reply comes after the claim was sent.
    pub(super) fn wait(&self) -> u64 {
        self.inner().numbers(1)
    }

    /// Notes a message that landed in the inbox of a lane.
    pub(super) fn land(&self, tag: Tag, raw: Bytes) {
        self.inner().landed.push(Landed { tag, raw, sent: false });
    }

    /// Leaves a message that landed for the next fetch, before what a claim behind it got.
    pub(super) fn offer(&self, landed: Delivery) {
        let mut inner = self.inner();
        let later =
            |one: &Delivery| one.tag.lane == landed.tag.lane && one.tag.seq > landed.tag.seq;
        let at = inner.ready.iter().position(later).unwrap_or(inner.ready.len());
        inner.ready.insert(at, landed);
    }

    /// Takes up to `want` ready messages and `want_due` scheduled ones.
    pub(super) fn take(&self, want: usize, want_due: usize) -> Vec<Delivery> {
        let inner = &mut *self.inner();
        let (ready, due) = (want.min(inner.ready.len()), want_due.min(inner.ready_due.len()));
        inner.ready.drain(..ready).chain(inner.ready_due.drain(..due)).collect()
    }

    /// Takes what no fetch took, scheduled ones only `if due`, to be handed back.
    pub(super) fn return_rest(&self, due: bool) -> Vec<Tag> {
        let left = self.take(usize::MAX, if due { usize::MAX } else { 0 });
        let tags: Vec<Tag> = left.iter().map(|delivery| delivery.tag).collect();
        self.inner().returning.extend(&tags);
        tags
    }

    /// What is on its way back and may not have arrived.
    pub(super) fn returning(&self) -> Vec<Tag> {
        self.inner().returning.clone()
    }

    /// Those have arrived.
    pub(super) fn returned(&self, tags: &[Tag]) {
        self.inner().returning.retain(|tag| !tags.contains(tag));
    }

    /// Whether messages wait for a fetch.
    pub(super) fn has_ready(&self) -> bool {
        let inner = self.inner();
        !inner.ready.is_empty() || !inner.ready_due.is_empty()
    }

    /// Messages to be recorded as held by the next command, which the caller sends.
    pub(super) fn to_adopt(&self) -> Vec<Landed> {
        let mut inner = self.inner();
        let unsent = inner.landed.iter_mut().filter(|landed| !landed.sent);
        unsent
            .map(|landed| {
                landed.sent = true;
                landed.clone()
            })
            .collect()
    }

    /// Those were recorded.
    pub(super) fn adopted(&self, tags: &[Tag]) {
        self.inner().landed.retain(|landed| !tags.contains(&landed.tag));
    }

    /// Messages that an earlier connection may have recorded or not; recording is idempotent, so they are sent again.
    pub(super) fn adopt_again(&self) {
        for landed in &mut self.inner().landed {
            landed.sent = false;
        }
    }

    /// Whether a message lies in the inbox of a lane with this process's knowledge.
    pub(super) fn expects(&self, lane: u32, raw: &[u8]) -> bool {
        self.inner().landed.iter().any(|landed| landed.tag.lane == lane && *landed.raw == *raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_repeat() {
        let ledger = Ledger::new("e");
        assert_eq!(ledger.claim(10), 1);
        assert_eq!(ledger.wait(), 11);
        ledger.fenced();
        assert_eq!(ledger.claim(5), 12);
        assert_eq!(ledger.epoch(), "e~1");
    }

    #[test]
    fn what_is_in_doubt_is_what_was_not_answered() {
        let ledger = Ledger::new("e");
        let (first, second) = (ledger.claim(3), ledger.claim(2));
        ledger.claimed(first, vec![], vec![]);
        let doubts = ledger.claims_in_doubt();
        assert_eq!((doubts.len(), doubts[0].clone()), (1, second..second + 2));
        ledger.fenced();
        assert!(ledger.claims_in_doubt().is_empty());
    }

    fn delivery(seq: u64) -> Delivery {
        Delivery {
            tag: Tag { lane: 0, seq },
            queue: Arc::from("q"),
            redeliveries: 0,
            suspect: false,
            raw: Bytes::new(),
        }
    }

    #[test]
    fn a_claim_is_answered_once_by_its_reply_or_by_the_next_connection() {
        let ledger = Ledger::new("e");
        let (first, second) = (ledger.claim(2), ledger.claim(2));
        let doubts = ledger.claims_in_doubt();
        // The reply to one of them comes while the next connection asks.
        ledger.claimed(first, vec![delivery(first)], vec![]);
        ledger.resolved(&doubts, vec![delivery(first), delivery(second)]);
        ledger.claimed(second, vec![delivery(second)], vec![]);
        let taken: Vec<u64> = ledger.take(10, 10).iter().map(|d| d.tag.seq).collect();
        assert_eq!(taken, [first, second]);
        // And what a lost lease claimed is nobody's.
        let third = ledger.claim(1);
        ledger.fenced();
        ledger.claimed(third, vec![delivery(third)], vec![]);
        assert!(!ledger.has_ready());
    }

    #[test]
    fn what_landed_comes_before_a_later_claim_whichever_is_heard_of_first() {
        let ledger = Ledger::new("e");
        let (waited, first) = (ledger.wait(), ledger.claim(2));
        ledger.claimed(first, vec![delivery(first), delivery(first + 1)], vec![]);
        ledger.offer(delivery(waited));
        let taken: Vec<u64> = ledger.take(2, 0).iter().map(|d| d.tag.seq).collect();
        assert_eq!(taken, [waited, first]);
    }

    #[test]
    fn what_goes_back_is_known_until_it_has_arrived() {
        let ledger = Ledger::new("e");
        ledger.offer(delivery(7));
        let tags = ledger.return_rest(true);
        assert_eq!((ledger.has_ready(), ledger.returning()), (false, tags.clone()));
        ledger.returned(&tags);
        assert!(ledger.returning().is_empty());
    }

    #[test]
    fn landed_messages_are_sent_once_unless_the_link_broke() {
        let ledger = Ledger::new("e");
        let tag = Tag { lane: 2, seq: ledger.wait() };
        ledger.land(tag, Bytes::from_static(b"m"));
        assert_eq!(ledger.to_adopt().len(), 1);
        assert!(ledger.to_adopt().is_empty());
        assert!(ledger.expects(2, b"m") && !ledger.expects(1, b"m"));
        ledger.adopt_again();
        assert_eq!(ledger.to_adopt()[0].tag, tag);
        ledger.adopted(&[tag]);
        ledger.adopt_again();
        assert!(ledger.to_adopt().is_empty());
    }

    #[test]
    fn lanes_keep_their_number() {
        let ledger = Ledger::new("e");
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        assert_eq!((ledger.lane(&a, 0), ledger.lane(&b, 3), ledger.lane(&a, 1)), (0, 7, 1));
    }
}
