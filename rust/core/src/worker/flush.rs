//! Flush: what follows tasks to the broker, records to the result store, settlements to the broker,
//! in batches and in that order.
//!
//! One store and one settle are under way at a time; what comes meanwhile gathers for the next,
//! which makes batches grow with load by themselves. A new batch leaves at once when none left
//! lately, else after [`GATHER_US`] or [`GATHER`] entries; records, for which somebody may be
//! waiting, also leave when the worker has nothing else to do. Nobody waits for an acknowledgement,
//! and in front of the next message's result it would only be in the way. A settlement that belongs
//! to a record waits until the record is stored, unless its task must not run again, whatever becomes
//! of the record, or goes on elsewhere; that of the member of a join always waits. A record whose
//! task is followed by messages waits in the `outbox` until they are published. The settlements of
//! records that complete a join wait in `joining` until what follows it is published.
//!
//! Nothing is dropped while a server is away: it is kept and sent after, and the loop takes and
//! begins no more work when too much is kept. The exceptions are settlements under a lapsed lease,
//! which are void, a record that the store refuses for what it is, and what is left when a worker
//! must end.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    broker::{Broker, Consumer, Settlement, Tag},
    clock::Micros,
    error::{Error, Result},
    future::BoxFuture,
    pool::FollowUp,
    result::{Record, ResultStore},
    worker::{
        compose::{Composed, Composer},
        joining::{Completed, JoinNews, Joining},
        kept::{GivenUp, Refused, SettleAfter, next_batch},
        metrics::Settled,
        outbox::{Entry, Outbox, Sent},
        retry::Retry,
        storing::{Batch, Storing},
    },
};

/// A batch waits for company at most this long after the last one left.
pub(super) const GATHER_US: u64 = 2_000;
/// It waits no longer when it has so many entries.
const GATHER: usize = 256;
/// When so many entries or bytes are kept, no more work is begun, until half of them have left.
const KEPT: usize = 20_000;
const KEPT_BYTES: usize = 64 << 20;

/// What came of a batch.
#[derive(Debug)]
pub(super) enum FlushNews {
    /// What follows some tasks is published.
    Published,
    /// What follows one task can never be published.
    Unpublishable(Box<Entry>, Error),
    /// Publishing failed; it will be tried again.
    PublishFailed(Error),
    /// Records are stored, except those that the store will never take and those that it has no
    /// memory for, which will be tried again.
    Stored(Vec<Refused>, Option<Error>),
    /// What follows a join that is complete is to be published.
    Composed(Box<Completed>, Composed),
    /// A join is closed.
    Closed,
    /// What follows a join cannot be composed now, or a join not be closed; it will be tried again.
    JoinFailed(Error),
    /// Settlements are confirmed.
    Settled,
    /// The store failed; it will be tried again.
    StoreFailed(Error),
    /// The broker failed; the batch is sent again over the next connection.
    SettleFailed(Error),
}

/// What waits to be stored and settled.
pub(super) struct Flush {
    outbox: Outbox,
    joining: Joining,
    storing: Storing,
    full: bool,
    /// Settlements that wait for no record any more.
    ready: Vec<Settlement>,
    settling: Option<BoxFuture<'static, Result<()>>>,
    /// What `settling` sends, to be sent again if it fails.
    sent: Vec<Settlement>,
    settled_at: Micros,
    settle_retry: Retry,
    /// What the broker has confirmed; `None` when nobody asks.
    settled: Option<Box<Settled>>,
    random: Box<dyn FnMut() -> f64 + Send>,
}

impl Flush {
    /// Empty. Without a store, records are dropped as they come.
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        results: Option<Arc<dyn ResultStore>>,
        random: Box<dyn FnMut() -> f64 + Send>,
    ) -> Self {
        Self {
            outbox: Outbox::new(broker, results.clone()),
            joining: Joining::new(results.clone()),
            storing: Storing::new(results),
            full: false,
            ready: Vec::new(),
            settling: None,
            sent: Vec::new(),
            settled_at: 0,
            settle_retry: Retry::default(),
            settled: None,
            random,
        }
    }

    /// Takes a record, and what is settled after it.
    pub(super) fn push(&mut self, record: Option<Record>, mut after: SettleAfter) {
        match record.filter(|_| self.storing.stores()) {
            Some(record) => {
                let early = after.once && record.member.is_none();
                if early || !record.state.is_ready() {
                    self.ready.extend(after.settlement.take());
                }
                self.storing.push(record, after);
            }
            None => self.release(after),
        }
    }

    /// Lets go what waited for a record.
    fn release(&mut self, after: SettleAfter) {
        self.ready.extend(after.settlement);
        if let Some(completed) = after.join {
            self.joining.close(completed);
        }
    }

    /// Who composes what follows joins.
    pub(super) fn set_composer(&mut self, composer: Arc<dyn Composer>) {
        self.joining.set_composer(composer);
    }

    /// What follows a join can never be published.
    pub(super) fn lost_join(&mut self, completed: Box<Completed>, error: &Error) {
        self.joining.lost(completed, error);
    }

    /// Takes what is published before a record is stored, and what is settled after it.
    pub(super) fn follow(
        &mut self,
        follow: Vec<FollowUp>,
        record: Option<Record>,
        after: SettleAfter,
    ) {
        self.outbox.push(follow, record, after);
    }

    /// Whether the settlement of this message is not confirmed. A walk over all that is kept.
    pub(super) fn holds(&self, tag: Tag) -> bool {
        let mut held = Vec::new();
        self.held(&mut held);
        held.contains(&tag)
    }

    /// Adds the messages whose settlements are not confirmed.
    pub(super) fn held(&self, tags: &mut Vec<Tag>) {
        self.storing.held(tags);
        tags.extend(self.ready.iter().chain(&self.sent).map(|settlement| settlement.tag));
        self.outbox.held(tags);
        self.joining.held(tags);
    }

    /// How many are not confirmed.
    pub(super) fn len(&self) -> usize {
        let kept = self.storing.len() + self.joining.len();
        self.outbox.len() + kept + self.ready.len() + self.sent.len()
    }

    /// Whether something is not stored yet: records, or what becomes of joins.
    pub(super) fn has_unstored(&self) -> bool {
        self.storing.len() > 0 || self.joining.len() > 0
    }

    /// Bytes of the records and messages that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.storing.bytes() + self.outbox.bytes()
    }

    /// Whether so much is kept that no more work should be begun.
    pub(super) fn is_full(&mut self) -> bool {
        let part = if self.full { 2 } else { 1 };
        self.full = self.len() >= KEPT / part || self.bytes() >= KEPT_BYTES / part;
        self.full
    }

    /// Sends what should leave now. `idle`: the worker has nothing else to do.
    pub(super) fn kick(&mut self, consumer: Option<&Arc<dyn Consumer>>, idle: bool, now: Micros) {
        self.outbox.kick(consumer, now);
        self.joining.kick(now);
        let stores = self.storing.kick(idle, now);
        let Some(consumer) = consumer else { return };
        if self.settling.is_none()
            && !self.ready.is_empty()
            && now >= self.settle_retry.at
            && (stores && !idle || leaves(false, self.ready.len(), self.settled_at, now))
        {
            self.settled_at = now;
            self.settle(consumer);
        }
    }

    /// When [`Flush::kick`] should be called again, if nothing happens before.
    pub(super) fn next_wake(&self, connected: bool) -> Option<Micros> {
        let settle = (connected && self.settling.is_none() && !self.ready.is_empty())
            .then(|| (self.settled_at + GATHER_US).max(self.settle_retry.at));
        let wakes =
            [self.outbox.next_wake(), self.joining.next_wake(), self.storing.next_wake(), settle];
        wakes.into_iter().flatten().min()
    }

    /// Waits for news of what was sent; cancel-safe. `now` may be a little old: it only delays
    /// retries.
    pub(super) async fn news(&mut self, now: Micros) -> FlushNews {
        std::future::poll_fn(|cx| self.poll(cx, now)).await
    }

    /// Whether a batch is on its way to the broker.
    pub(super) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// The connection went away: what was sent is sent again over the next one.
    pub(super) fn disconnected(&mut self) {
        self.settling = None;
        if !self.sent.is_empty() {
            self.sent.append(&mut self.ready);
            self.ready = std::mem::take(&mut self.sent);
        }
    }

    /// The lease lapsed: its messages belong to others, so every settlement is void. Records stay:
    /// the work was done.
    pub(super) fn fenced(&mut self) {
        self.outbox.fenced();
        self.joining.fenced();
        self.settling = None;
        self.sent.clear();
        self.ready.clear();
        self.storing.fenced();
    }

    /// Gives up what is not published or not stored. What must not run again is still settled; the other
    /// messages stay held, so that they go back to their queues.
    pub(super) fn give_up(&mut self) -> Vec<GivenUp> {
        let kept = self.storing.give_up();
        let mut joins = Vec::new();
        let mut given_up = Vec::with_capacity(self.outbox.len() + kept.records.len());
        for Entry { follow, record, mut after, .. } in self.outbox.give_up() {
            if after.once {
                self.ready.extend(after.settlement.take());
            }
            let join = after.join.take();
            let held =
                after.settlement.is_some() || join.as_ref().is_some_and(|join| join.runs_again());
            joins.extend(join);
            given_up.push(GivenUp { record, follow, held });
        }
        for (record, after) in kept.records.into_iter().zip(kept.after) {
            let mut settlement = after.settlement;
            joins.extend(after.join);
            if after.once {
                self.ready.extend(settlement.take());
            }
            let held = settlement.is_some();
            given_up.push(GivenUp { record: Some(record), follow: Vec::new(), held });
        }
        let settled = self.joining.give_up(joins);
        self.ready.extend(settled.into_iter().filter_map(|after| after.settlement));
        given_up
    }

    fn settle(&mut self, consumer: &Arc<dyn Consumer>) {
        let batch = next_batch(&mut self.ready);
        self.sent.clone_from(&batch);
        let consumer = Arc::clone(consumer);
        self.settling = Some(Box::pin(async move { consumer.settle(batch).await }));
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Micros) -> Poll<FlushNews> {
        if let Poll::Ready(sent) = self.outbox.poll(cx, now, &mut self.random) {
            return Poll::Ready(self.published(sent));
        }
        if let Poll::Ready(news) = self.joining.poll(cx, now, &mut self.random) {
            return Poll::Ready(self.joined(news));
        }
        if let Poll::Ready(batch) = self.storing.poll(cx, now, &mut self.random) {
            return Poll::Ready(batch.map_or_else(FlushNews::StoreFailed, |one| self.stored(one)));
        }
        if let Some(settling) = &mut self.settling
            && let Poll::Ready(result) = settling.as_mut().poll(cx)
        {
            let Err(error) = result else {
                self.settling = None;
                if let Some(settled) = &mut self.settled {
                    self.sent.iter().for_each(|settlement| settled.add(&settlement.how));
                }
                self.sent.clear();
                self.settle_retry = Retry::default();
                return Poll::Ready(FlushNews::Settled);
            };
            self.disconnected();
            self.settle_retry.later(now, (self.random)());
            return Poll::Ready(FlushNews::SettleFailed(error));
        }
        Poll::Pending
    }

    /// Counts how messages are settled from now on.
    pub(super) fn count(&mut self) {
        self.settled = Some(Box::default());
    }

    /// How messages were settled.
    pub(super) fn settled(&self) -> Settled {
        self.settled.as_deref().copied().unwrap_or_default()
    }

    /// How many records are stored, and how many the store refused for good.
    pub(super) fn results(&self) -> (u64, u64) {
        self.storing.totals()
    }

    /// Lets go what waited for a publish.
    fn published(&mut self, sent: Sent) -> FlushNews {
        match sent {
            Sent::All(entries) => {
                for Entry { record, after, .. } in entries {
                    self.push(record, after);
                }
                FlushNews::Published
            }
            Sent::Superseded(entry) => {
                for one in entry.after.join.map_or_else(Vec::new, |completed| completed.after) {
                    self.release(one);
                }
                FlushNews::Published
            }
            Sent::Refused(entry, error) => FlushNews::Unpublishable(entry, error),
            Sent::Failed(error) => {
                if !error.is_retryable() {
                    // It refuses messages, because it is full, and takes acknowledgements.
                    self.ready.extend(self.outbox.once());
                }
                FlushNews::PublishFailed(error)
            }
        }
    }

    /// Takes what came of a step of a join.
    fn joined(&mut self, news: JoinNews) -> FlushNews {
        match news {
            JoinNews::Composed(completed, composed) => FlushNews::Composed(completed, composed),
            JoinNews::Failed(error) => FlushNews::JoinFailed(error),
            JoinNews::Closed(after) => {
                for one in after {
                    self.release(one);
                }
                FlushNews::Closed
            }
        }
    }

    /// Takes the store's answer to a batch.
    fn stored(&mut self, batch: Batch) -> FlushNews {
        for completed in batch.completed {
            self.joining.push(Box::new(completed));
        }
        for one in batch.released {
            self.release(one);
        }
        FlushNews::Stored(batch.refused, batch.full)
    }
}

/// Whether a batch leaves now.
pub(super) fn leaves(idle: bool, count: usize, last: Micros, now: Micros) -> bool {
    idle || count >= GATHER || now >= last + GATHER_US
}

#[cfg(test)]
#[path = "flush_tests.rs"]
mod tests;
