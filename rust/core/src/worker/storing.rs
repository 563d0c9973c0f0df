//! Storing: records to the result store, in batches.
//!
//! One store is under way at a time; what comes meanwhile gathers for the next. A record of [`LARGE`]
//! bytes travels alone, in turn with batches of the others, so that what its size does to a connection
//! or a server never holds them up. Nothing is dropped while the store is away. The member of a join
//! that somebody else has claimed is stored once more when that claim has lapsed; by then the join is
//! closed, or it is claimed for this record.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    broker::Tag,
    clock::Micros,
    error::{Error, Result},
    future::BoxFuture,
    result::{JoinClaim, Record, ResultStore, Stored, join::CLAIM_MS},
    worker::{
        flush,
        joining::Completed,
        kept::{Kept, Refused, SettleAfter, weight},
        retry::Retry,
    },
};

/// Most records in one batch.
const MOST: usize = 2_000;
/// A document of more bytes is stored alone.
pub(super) const LARGE: usize = 1 << 20;

/// What the store said to a batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What was waiting for its records.
    pub(super) released: Vec<SettleAfter>,
    /// Joins that it completed.
    pub(super) completed: Vec<Completed>,
    /// What the store will never take.
    pub(super) refused: Vec<Refused>,
    /// Why it will take some later, if it said so.
    pub(super) full: Option<Error>,
}

/// A batch on its way.
struct UnderWay {
    /// Shared with `reply`.
    records: Arc<Vec<Record>>,
    after: Vec<SettleAfter>,
    reply: BoxFuture<'static, Result<Stored>>,
}

/// What waits to be stored.
pub(super) struct Storing {
    results: Option<Arc<dyn ResultStore>>,
    small: Kept,
    large: Kept,
    /// Whether it is the turn of a large record.
    large_next: bool,
    under_way: Option<UnderWay>,
    /// Members of joins that others have claimed, and when they are stored once more.
    claimed: Vec<(Micros, Record, SettleAfter)>,
    /// Bytes of all records that are kept or on their way.
    bytes: usize,
    stored_at: Micros,
    retry: Retry,
    /// Records stored since the start, and those refused for good.
    totals: (u64, u64),
}

impl Storing {
    pub(super) fn new(results: Option<Arc<dyn ResultStore>>) -> Self {
        Self {
            results,
            small: Kept::default(),
            large: Kept::default(),
            large_next: false,
            under_way: None,
            claimed: Vec::new(),
            bytes: 0,
            stored_at: 0,
            retry: Retry::default(),
            totals: (0, 0),
        }
    }

    /// How many records are stored, and how many were refused for good.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.totals
    }

    /// Whether there is a store.
    pub(super) fn stores(&self) -> bool {
        self.results.is_some()
    }

    /// Takes a record, and what waits for it.
    pub(super) fn push(&mut self, record: Record, after: SettleAfter) {
        self.bytes += weight(&record);
        self.kept(&record).push(record, after);
    }

    fn kept(&mut self, record: &Record) -> &mut Kept {
        if record.document.len() > LARGE { &mut self.large } else { &mut self.small }
    }

    /// Adds the messages whose settlements wait here.
    pub(super) fn held(&self, tags: &mut Vec<Tag>) {
        let under_way = self.under_way.iter().flat_map(|batch| &batch.after);
        let claimed = self.claimed.iter().map(|(.., after)| after);
        let kept = self.small.after.iter().chain(&self.large.after);
        kept.chain(under_way).chain(claimed).for_each(|after| after.held(tags));
    }

    /// How many are not known to be stored.
    pub(super) fn len(&self) -> usize {
        let under_way = self.under_way.as_ref().map_or(0, |batch| batch.after.len());
        self.waiting() + under_way + self.claimed.len()
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait to be sent.
    fn waiting(&self) -> usize {
        self.small.records.len() + self.large.records.len()
    }

    /// The lease lapsed: settlements are void. Records stay: the work was done.
    pub(super) fn fenced(&mut self) {
        let under_way = self.under_way.iter_mut().flat_map(|batch| &mut batch.after);
        let claimed = self.claimed.iter_mut().map(|(.., after)| after);
        let kept = self.small.after.iter_mut().chain(&mut self.large.after);
        kept.chain(under_way).chain(claimed).for_each(SettleAfter::fenced);
    }

    /// Takes out all that is not known to be stored.
    pub(super) fn give_up(&mut self) -> Kept {
        let mut kept = self.under_way.take().map_or_else(Kept::default, |batch| Kept {
            records: Arc::unwrap_or_clone(batch.records),
            after: batch.after,
        });
        kept.append(std::mem::take(&mut self.small));
        kept.append(std::mem::take(&mut self.large));
        for (_, record, after) in std::mem::take(&mut self.claimed) {
            kept.push(record, after);
        }
        self.bytes = 0;
        kept
    }

    /// Sends what should leave now; whether something did. `idle`: the worker has nothing else to do.
    pub(super) fn kick(&mut self, idle: bool, now: Micros) -> bool {
        if self.claimed.iter().any(|(at, ..)| *at <= now) {
            let (due, later) = self.claimed.drain(..).partition(|(at, ..)| *at <= now);
            self.claimed = later;
            let due: Vec<(Micros, Record, SettleAfter)> = due;
            for (_, record, after) in due {
                self.kept(&record).push(record, after);
            }
        }
        let leaves = self.under_way.is_none()
            && self.waiting() > 0
            && now >= self.retry.at
            && flush::leaves(idle, self.waiting(), self.stored_at, now);
        if leaves {
            self.stored_at = now;
            self.store();
        }
        leaves
    }

    /// When [`Storing::kick`] should be called again, if nothing happens before.
    pub(super) fn next_wake(&self) -> Option<Micros> {
        let batch = (self.under_way.is_none() && self.waiting() > 0)
            .then(|| (self.stored_at + flush::GATHER_US).max(self.retry.at));
        self.claimed.iter().map(|(at, ..)| *at).chain(batch).min()
    }

    fn store(&mut self) {
        let large =
            !self.large.records.is_empty() && (self.large_next || self.small.records.is_empty());
        self.large_next = !large;
        let batch = if large { self.large.take(1) } else { self.small.take(MOST) };
        let store = Arc::clone(self.results.as_ref().expect("records are only kept for a store"));
        let records = Arc::new(batch.records);
        let sent = Arc::clone(&records);
        let reply = Box::pin(async move { store.store(&sent).await });
        self.under_way = Some(UnderWay { records, after: batch.after, reply });
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> Poll<Result<Batch>> {
        let Some(batch) = &mut self.under_way else { return Poll::Pending };
        let Poll::Ready(result) = batch.reply.as_mut().poll(cx) else { return Poll::Pending };
        let Some(UnderWay { records, after, reply }) = self.under_way.take() else {
            return Poll::Pending;
        };
        drop(reply);
        let records = Arc::unwrap_or_clone(records);
        Poll::Ready(match result {
            Ok(stored) => Ok(self.stored((records, after), stored, now, random)),
            Err(error) => {
                self.retry.later(now, random());
                let large = records.first().is_some_and(|record| record.document.len() > LARGE);
                let kept = if large { &mut self.large } else { &mut self.small };
                let later = std::mem::replace(kept, Kept { records, after });
                kept.append(later);
                Err(error)
            }
        })
    }

    /// Takes the store's answer to a batch.
    fn stored(
        &mut self,
        (records, mut after): (Vec<Record>, Vec<SettleAfter>),
        stored: Stored,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> Batch {
        self.bytes -= records.iter().map(weight).sum::<usize>();
        let taken = records.len() - stored.later.len() - stored.claimed.len();
        self.totals.0 += (taken - stored.refused.len()) as u64;
        self.totals.1 += stored.refused.len() as u64;
        let mut batch = Batch::default();
        let mut take = |index: usize| (records[index].clone(), std::mem::take(&mut after[index]));
        let later: Vec<_> =
            stored.later.into_iter().map(|(index, error)| (take(index), error)).collect();
        for index in stored.claimed {
            let (record, after) = take(index);
            self.bytes += weight(&record);
            self.claimed.push((now + CLAIM_MS * 1_000, record, after));
        }
        for (index, error) in stored.refused {
            let (record, after) = take(index);
            batch.refused.push(Refused { record, after, error });
        }
        if later.len() < records.len() {
            self.retry = Retry::default();
        }
        for joined in stored.joined {
            batch.completed.push(completed(joined, &records, &mut after, self.stored_at));
        }
        batch.released = after;
        for ((record, after), error) in later {
            batch.full = Some(error);
            self.push(record, after);
        }
        if batch.full.is_some() {
            self.retry.later(now, random());
        }
        batch
    }
}

/// A join that a batch, sent at `at`, has completed, with what is settled after its members.
fn completed(
    joined: JoinClaim,
    records: &[Record],
    after: &mut [SettleAfter],
    at: Micros,
) -> Completed {
    let mut completed = Completed::new(joined, at);
    for (record, after) in records.iter().zip(after) {
        let Some(member) = record.member.as_deref() else { continue };
        if member.group != completed.joined.id {
            continue;
        }
        if member.token == completed.joined.token {
            completed.message = member.message.clone();
        }
        completed.after.push(std::mem::take(after));
    }
    completed
}
