//! What this process knows about what it was given under an epoch; it outlives the connection.
//!
//! Sequence numbers never repeat within the process, also not under the fresh epoch that follows a
//! lapsed lease: the worker may settle tags from before the break, and a number that was given
//! twice would settle another message.
//!
//! Everything whose reply is outstanding is noted here, so that the session after a broken
//! connection can put it right: claims by their range of numbers, messages that a wait moved by
//! their bytes, and what was on its way back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::session::Served;
use crate::broker::{Tag, epoch, redis::keys::STEPS};

/// Notes of one epoch and its successors. Behind a std mutex because a section is a few pushes and
/// never awaits.
pub(in crate::broker::redis) struct Ledger(Mutex<Inner>);

struct Inner {
    /// The name that the worker chose.
    base: String,
    /// How many leases under that name were lost.
    lost: u32,
    /// The last session under the epoch that was begun.
    session: u32,
    /// The last one that was opened on all lanes.
    opened: Option<u32>,
    next_seq: u64,
    /// Queues in the order in which they were first consumed: the lane number of a tag counts
    /// through them.
    queues: Vec<Arc<str>>,
    /// Those whose lanes are open under the epoch, and the numbers of the lanes that have been waited
    /// on.
    open: Vec<Arc<str>>,
    waited: Vec<u32>,
    /// Claims without a reply: first number, how many.
    claims: Vec<(u64, u64)>,
    /// Messages that waits moved and that are not yet confirmed to be recorded as unacked.
    moved: Vec<Moved>,
    /// On their way back, because no fetch took them.
    returning: Vec<Tag>,
}

/// A message that a wait moved.
#[derive(Clone)]
pub(super) struct Moved {
    pub(super) tag: Tag,
    pub(super) raw: Bytes,
    /// The key that it was moved to.
    pub(super) to: Arc<str>,
    /// Whether the command that records it is on its way.
    sent: bool,
}

impl Ledger {
    pub(in crate::broker::redis) fn new(base: &str) -> Self {
        Self(Mutex::new(Inner {
            base: base.to_owned(),
            lost: 0,
            session: 0,
            opened: None,
            next_seq: 1,
            queues: Vec::new(),
            open: Vec::new(),
            waited: Vec::new(),
            claims: Vec::new(),
            moved: Vec::new(),
            returning: Vec::new(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the epoch now.
    pub(super) fn epoch(&self) -> String {
        let inner = self.inner();
        epoch::after(&inner.base, inner.lost)
    }

    /// The number of a new session, and of the one that it follows.
    pub(super) fn begin(&self) -> (u32, Option<u32>) {
        let mut inner = self.inner();
        inner.session += 1;
        (inner.session, inner.opened)
    }

    /// The session was opened: what was in doubt by then has gone back.
    pub(super) fn opened(&self, session: u32, doubts: &[(u64, u64)], lanes: &[Served]) {
        let mut inner = self.inner();
        inner.opened = Some(session);
        for served in lanes {
            if !inner.open.contains(&served.queue) {
                inner.open.push(Arc::clone(&served.queue));
            }
            if served.moved.is_some() && !inner.waited.contains(&served.number) {
                inner.waited.push(served.number);
            }
        }
        inner.claims.retain(|claim| !doubts.contains(claim));
        inner.returning.retain(|tag| !doubts.contains(&(tag.seq, 1)));
    }

    /// The lease was lost: what was unacked is somebody else's, the next epoch has a new name.
    pub(super) fn fenced(&self) {
        let mut inner = self.inner();
        inner.lost += 1;
        inner.opened = None;
        inner.open.clear();
        inner.waited.clear();
        inner.claims.clear();
        inner.moved.clear();
        inner.returning.clear();
    }

    /// Whether a lane is open since an earlier session, and may have been waited on there.
    pub(super) fn was_open(&self, served: &Served) -> (bool, bool) {
        let inner = self.inner();
        (inner.open.contains(&served.queue), inner.waited.contains(&served.number))
    }

    /// The queues with open lanes that are not among these.
    pub(super) fn left_out(&self, queues: &[Arc<str>]) -> Vec<Arc<str>> {
        let inner = self.inner();
        inner.open.iter().filter(|queue| !queues.contains(queue)).cloned().collect()
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

    /// Numbers for `count` messages, the first of which is returned.
    pub(super) fn numbers(&self, count: u64) -> u64 {
        let mut inner = self.inner();
        let first = inner.next_seq;
        inner.next_seq += count;
        first
    }

    /// Numbers for a claim of up to `count` messages, which is in doubt until it is answered.
    pub(super) fn claim(&self, count: u64) -> u64 {
        let first = self.numbers(count);
        self.inner().claims.push((first, count));
        first
    }

    /// The claim that began with `first` was answered.
    pub(super) fn claimed(&self, first: u64) {
        self.inner().claims.retain(|claim| claim.0 != first);
    }

    /// What the server may have given without the worker learning of it, and what may not have gone
    /// back: as first number and how many.
    pub(super) fn doubts(&self) -> Vec<(u64, u64)> {
        let inner = self.inner();
        let returning = inner.returning.iter().map(|tag| (tag.seq, 1));
        inner.claims.iter().copied().chain(returning).collect()
    }

    /// These are on their way back.
    pub(super) fn give_back(&self, tags: impl IntoIterator<Item = Tag>) {
        self.inner().returning.extend(tags);
    }

    /// Those have arrived.
    pub(super) fn returned(&self, tags: &[Tag]) {
        self.inner().returning.retain(|tag| !tags.contains(tag));
    }

    /// Notes a message that a wait moved to a key.
    pub(super) fn moved(&self, tag: Tag, raw: Bytes, to: Arc<str>) {
        self.inner().moved.push(Moved { tag, raw, to, sent: false });
    }

    /// Messages to be recorded as unacked by the next command, which the caller sends.
    pub(super) fn to_record(&self) -> Vec<Moved> {
        let mut inner = self.inner();
        let unsent = inner.moved.iter_mut().filter(|moved| !moved.sent);
        unsent
            .map(|moved| {
                moved.sent = true;
                moved.clone()
            })
            .collect()
    }

    /// How many messages of a lane need not be recorded, because they are acknowledged already: the
    /// oldest that a wait has moved to this key. They are taken for recorded.
    ///
    /// A session's wait moves one message after the other to a key of its own, and sends no other once
    /// it has lost a reply. So the oldest in that list are the oldest here.
    pub(super) fn forget(&self, lane: u32, to: &str, is_acked: impl Fn(Tag) -> bool) -> Vec<Tag> {
        let mut inner = self.inner();
        let of_lane = inner.moved.iter_mut();
        let unsent = of_lane.filter(|m| m.tag.lane == lane && &*m.to == to && !m.sent);
        unsent
            .take_while(|moved| is_acked(moved.tag))
            .map(|moved| {
                moved.sent = true;
                moved.tag
            })
            .collect()
    }

    /// Whether one of these is still to be recorded.
    pub(super) fn is_to_record(&self, is_asked: impl Fn(Tag) -> bool) -> bool {
        self.inner().moved.iter().any(|moved| !moved.sent && is_asked(moved.tag))
    }

    /// Those were recorded.
    pub(super) fn recorded(&self, tags: &[Tag]) {
        self.inner().moved.retain(|moved| !tags.contains(&moved.tag));
    }

    /// Messages that an earlier connection may have recorded or not; recording is idempotent, so
    /// they are sent again.
    pub(super) fn record_again(&self) {
        for moved in &mut self.inner().moved {
            moved.sent = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_repeat() {
        let ledger = Ledger::new("e");
        assert_eq!(ledger.claim(10), 1);
        assert_eq!(ledger.numbers(1), 11);
        ledger.fenced();
        assert_eq!(ledger.claim(5), 12);
        assert_eq!(ledger.epoch(), "e~1");
    }

    #[test]
    fn what_is_in_doubt_is_what_was_not_answered() {
        let ledger = Ledger::new("e");
        let (first, second) = (ledger.claim(3), ledger.claim(2));
        ledger.claimed(first);
        assert_eq!(ledger.doubts(), [(second, 2)]);
        ledger.fenced();
        assert!(ledger.doubts().is_empty());
    }

    #[test]
    fn what_goes_back_is_in_doubt_until_it_has_arrived() {
        let ledger = Ledger::new("e");
        let tags = [7, 9].map(|seq| Tag { lane: 0, seq });
        ledger.give_back(tags);
        assert_eq!(ledger.doubts(), [(7, 1), (9, 1)]);
        ledger.returned(&tags[..1]);
        assert_eq!(ledger.doubts(), [(9, 1)]);
    }

    #[test]
    fn a_session_follows_the_last_one_that_was_opened() {
        let ledger = Ledger::new("e");
        assert_eq!(ledger.begin(), (1, None));
        ledger.opened(1, &[], &[]);
        let claim = (ledger.claim(3), 3);
        assert_eq!(ledger.begin(), (2, Some(1)));
        // Its connection broke before it was opened on all lanes.
        assert_eq!(ledger.begin(), (3, Some(1)));
        let later = (ledger.claim(1), 1);
        ledger.opened(3, &[claim], &[]);
        assert_eq!(ledger.doubts(), [later]);
        ledger.fenced();
        assert_eq!(ledger.begin(), (4, None));
    }

    #[test]
    fn moved_messages_are_recorded_once_unless_the_connection_broke() {
        let ledger = Ledger::new("e");
        let tag = Tag { lane: 2, seq: ledger.numbers(1) };
        ledger.moved(tag, Bytes::from_static(b"m"), "to".into());
        assert_eq!(ledger.to_record().len(), 1);
        assert!(ledger.to_record().is_empty());
        ledger.record_again();
        assert_eq!(ledger.to_record()[0].tag, tag);
        ledger.recorded(&[tag]);
        ledger.record_again();
        assert!(ledger.to_record().is_empty());
    }

    #[test]
    fn what_is_acknowledged_needs_no_record_while_nothing_older_does() {
        let ledger = Ledger::new("e");
        let tag = |seq| Tag { lane: 2, seq };
        for seq in 1..=4 {
            ledger.moved(tag(seq), Bytes::from_static(b"m"), "to".into());
        }
        assert_eq!(ledger.forget(2, "to", |tag| [1, 2, 4].contains(&tag.seq)), [tag(1), tag(2)]);
        assert!(ledger.forget(2, "other", |_| true).is_empty());
        assert!(ledger.forget(3, "to", |_| true).is_empty());
        let recorded: Vec<Tag> = ledger.to_record().iter().map(|moved| moved.tag).collect();
        assert_eq!(recorded, [tag(3), tag(4)]);
        // The connection broke before the server answered: it may have dropped them or not.
        ledger.record_again();
        assert_eq!(ledger.to_record().len(), 4);
    }

    #[test]
    fn lanes_keep_their_number() {
        let ledger = Ledger::new("e");
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        assert_eq!((ledger.lane(&a, 0), ledger.lane(&b, 3), ledger.lane(&a, 1)), (0, 7, 1));
    }
}
