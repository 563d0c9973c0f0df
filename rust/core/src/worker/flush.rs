//! Flush: records to the result store, settlements to the broker, in batches, records first.
//!
//! One store and one settle are under way at a time; what comes meanwhile gathers for the next, which makes batches grow with
//! load by themselves. A new batch leaves at once when none left lately, else after [`GATHER_US`] or [`GATHER`] entries; records,
//! for which somebody may be waiting, also leave when the worker has nothing else to do. Nobody waits for an acknowledgement, and in
//! front of the next message's result it would only be in the way. A settlement that belongs to a record waits until the record is stored. Nothing is
//! dropped while a server is away: it is kept and sent after, and the loop claims no more work when too much is kept. The
//! exceptions are settlements under a lapsed lease, which are void, and a record that the store refuses for what it is.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    backoff,
    broker::{BoxFuture, Consumer, Settle, Settlement, Tag},
    clock::Micros,
    error::{Error, ErrorKind, Result},
    result::{Record, ResultStore},
};

/// A batch waits for company at most this long after the last one left.
const GATHER_US: u64 = 2_000;
/// It waits no longer when it has so many entries.
const GATHER: usize = 256;
/// Most records in one batch.
const STORE_MOST: usize = 2_000;
/// When so many are kept, no more work is claimed.
const BACKLOG: usize = 20_000;
/// First ceiling of the wait before a failed batch is tried again, and the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What came of a batch.
#[derive(Debug)]
pub(super) enum FlushNews {
    /// Records are stored.
    Stored,
    /// Settlements are confirmed.
    Settled,
    /// The store failed; it will be tried again.
    StoreFailed(Error),
    /// The store refuses this record whatever happens; it was dropped.
    Refused(String, Error),
    /// The broker failed; the batch is sent again over the next connection.
    SettleFailed(Error),
}

type Stored = (Vec<Record>, Result<()>);

/// What waits to be stored and settled.
pub(super) struct Flush {
    results: Option<Arc<dyn ResultStore>>,
    /// Records, and beside each what is settled after it.
    records: Vec<Record>,
    after: Vec<Option<Settlement>>,
    storing: Option<BoxFuture<'static, Stored>>,
    storing_after: Vec<Option<Settlement>>,
    store_most: usize,
    stored_at: Micros,
    store_retry: Retry,
    /// Settlements that wait for no record any more.
    ready: Vec<Settlement>,
    settling: Option<BoxFuture<'static, Result<()>>>,
    /// What `settling` sends, to be sent again if it fails.
    sent: Vec<Settlement>,
    settled_at: Micros,
    settle_retry: Retry,
    random: Box<dyn FnMut() -> f64 + Send>,
}

impl Flush {
    /// Empty. Without a store, records are dropped as they come.
    pub(super) fn new(
        results: Option<Arc<dyn ResultStore>>,
        random: Box<dyn FnMut() -> f64 + Send>,
    ) -> Self {
        Self {
            results,
            records: Vec::new(),
            after: Vec::new(),
            storing: None,
            storing_after: Vec::new(),
            store_most: STORE_MOST,
            stored_at: 0,
            store_retry: Retry::default(),
            ready: Vec::new(),
            settling: None,
            sent: Vec::new(),
            settled_at: 0,
            settle_retry: Retry::default(),
            random,
        }
    }

    /// Takes a record, and what is settled after it.
    pub(super) fn push(&mut self, record: Option<Record>, settlement: Option<Settlement>) {
        match record.filter(|_| self.results.is_some()) {
            Some(record) => {
                self.records.push(record);
                self.after.push(settlement);
            }
            None => self.ready.extend(settlement),
        }
    }

    /// Whether the settlement of this message is not confirmed. A walk over all that is kept.
    pub(super) fn holds(&self, tag: Tag) -> bool {
        let after = self.after.iter().chain(&self.storing_after).flatten();
        after.chain(&self.ready).chain(&self.sent).any(|settlement| settlement.tag == tag)
    }

    /// How many are not confirmed.
    pub(super) fn len(&self) -> usize {
        self.records.len() + self.storing_after.len() + self.ready.len() + self.sent.len()
    }

    /// Whether so much is kept that no more work should be claimed.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= BACKLOG
    }

    /// Sends what should leave now. `idle`: the worker has nothing else to do.
    pub(super) fn kick(&mut self, consumer: Option<&Arc<dyn Consumer>>, idle: bool, now: Micros) {
        if self.storing.is_none()
            && !self.records.is_empty()
            && now >= self.store_retry.at
            && leaves(idle, self.records.len(), self.stored_at, now)
        {
            self.stored_at = now;
            self.store();
        }
        let Some(consumer) = consumer else { return };
        if self.settling.is_none()
            && !self.ready.is_empty()
            && now >= self.settle_retry.at
            && leaves(false, self.ready.len(), self.settled_at, now)
        {
            self.settled_at = now;
            self.settle(consumer);
        }
    }

    /// When [`Flush::kick`] should be called again, if nothing happens before.
    pub(super) fn next_wake(&self, connected: bool) -> Option<Micros> {
        let store = (self.storing.is_none() && !self.records.is_empty())
            .then(|| (self.stored_at + GATHER_US).max(self.store_retry.at));
        let settle = (connected && self.settling.is_none() && !self.ready.is_empty())
            .then(|| (self.settled_at + GATHER_US).max(self.settle_retry.at));
        store.into_iter().chain(settle).min()
    }

    /// Waits for news of what was sent; cancel-safe. `now` may be a little old: it only delays retries.
    pub(super) async fn news(&mut self, now: Micros) -> FlushNews {
        std::future::poll_fn(|cx| self.poll(cx, now)).await
    }

    /// The connection went away: what was sent is sent again over the next one.
    pub(super) fn disconnected(&mut self) {
        self.settling = None;
        if !self.sent.is_empty() {
            self.sent.append(&mut self.ready);
            self.ready = std::mem::take(&mut self.sent);
        }
    }

    /// The lease lapsed: its messages belong to others, so every settlement is void. Records stay: the work was done.
    pub(super) fn fenced(&mut self) {
        self.settling = None;
        self.sent.clear();
        self.ready.clear();
        self.after.iter_mut().for_each(|s| *s = None);
        self.storing_after.iter_mut().for_each(|s| *s = None);
    }

    fn store(&mut self) {
        let n = self.records.len().min(self.store_most);
        let (records, after) = if n == self.records.len() {
            (std::mem::take(&mut self.records), std::mem::take(&mut self.after))
        } else {
            (self.records.drain(..n).collect(), self.after.drain(..n).collect())
        };
        self.storing_after = after;
        let store = Arc::clone(self.results.as_ref().expect("records are only kept for a store"));
        self.storing = Some(Box::pin(async move {
            let result = store.store(&records).await;
            (records, result)
        }));
    }

    fn settle(&mut self, consumer: &Arc<dyn Consumer>) {
        let mut batch = std::mem::take(&mut self.ready);
        in_order(&mut batch);
        self.sent.clone_from(&batch);
        let consumer = Arc::clone(consumer);
        self.settling = Some(Box::pin(async move { consumer.settle(batch).await }));
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Micros) -> Poll<FlushNews> {
        if let Some(storing) = &mut self.storing
            && let Poll::Ready((records, result)) = storing.as_mut().poll(cx)
        {
            self.storing = None;
            return Poll::Ready(match result {
                Ok(()) => self.stored(),
                Err(error) => self.store_failed(records, error, now),
            });
        }
        if let Some(settling) = &mut self.settling
            && let Poll::Ready(result) = settling.as_mut().poll(cx)
        {
            let Err(error) = result else {
                self.settling = None;
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

    fn stored(&mut self) -> FlushNews {
        self.store_retry = Retry::default();
        self.store_most = STORE_MOST;
        self.ready.extend(self.storing_after.drain(..).flatten());
        FlushNews::Stored
    }

    fn store_failed(&mut self, mut records: Vec<Record>, error: Error, now: Micros) -> FlushNews {
        // Trying again helps when the store was away or full. Otherwise one of the records is to blame: halve the batch until
        // it stands alone.
        let passing =
            error.is_retryable() || matches!(error.kind(), ErrorKind::Storage | ErrorKind::Fenced);
        if !passing && records.len() == 1 {
            self.stored();
            return FlushNews::Refused(records.remove(0).id, error);
        }
        if passing {
            self.store_retry.later(now, (self.random)());
        } else {
            self.store_most = (records.len() / 2).max(1);
        }
        records.append(&mut self.records);
        self.records = records;
        self.storing_after.append(&mut self.after);
        self.after = std::mem::take(&mut self.storing_after);
        FlushNews::StoreFailed(error)
    }
}

/// When a failed batch may be tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    failures: u32,
    at: Micros,
}

impl Retry {
    fn later(&mut self, now: Micros, random: f64) {
        let wait = backoff::exponential(self.failures, BACKOFF.0, BACKOFF.1, random);
        self.failures = self.failures.saturating_add(1);
        self.at = now + wait.as_micros() as u64;
    }
}

/// Whether a batch leaves now.
fn leaves(idle: bool, count: usize, last: Micros, now: Micros) -> bool {
    idle || count >= GATHER || now >= last + GATHER_US
}

/// What goes back to the head of a queue must go in the order of its claims, whatever order it was given up in.
fn in_order(batch: &mut [Settlement]) {
    if batch.iter().any(|s| matches!(s.how, Settle::HandBack)) {
        batch.sort_by_key(|s| (!matches!(s.how, Settle::HandBack), s.tag));
    }
}

#[cfg(test)]
#[path = "flush_tests.rs"]
mod tests;
