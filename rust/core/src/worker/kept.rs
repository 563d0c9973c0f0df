//! Records that wait for the store, and beside each what is settled after it; and what becomes of
//! them when they wait no more.

use crate::{
    broker::{Settle, Settlement, Tag},
    error::Error,
    pool::FollowUp,
    result::Record,
    worker::joining::Completed,
};

/// Most settlements in one call: other clients of the broker wait while it carries them out, and a
/// command of Redis takes about a million arguments.
const SETTLE_MOST: usize = 1_000;
/// What a kept record costs beside its document.
const OVERHEAD: usize = 256;

/// What is settled after a record.
#[derive(Debug, Default)]
pub(super) struct SettleAfter {
    /// What is sent to the broker.
    pub(super) settlement: Option<Settlement>,
    /// The task ran and must not run again: its settlement waits for no record, unless it is the
    /// member of a join.
    pub(super) once: bool,
    /// The join that is closed, which settles the messages of its members.
    pub(super) join: Option<Box<Completed>>,
}

impl From<Option<Settlement>> for SettleAfter {
    fn from(settlement: Option<Settlement>) -> Self {
        Self { settlement, ..Self::default() }
    }
}

impl From<Box<Completed>> for SettleAfter {
    fn from(join: Box<Completed>) -> Self {
        Self { join: Some(join), ..Self::default() }
    }
}

impl SettleAfter {
    /// Adds the messages whose settlements are here.
    pub(super) fn held(&self, tags: &mut Vec<Tag>) {
        tags.extend(self.settlement.as_ref().map(|settlement| settlement.tag));
        if let Some(join) = &self.join {
            join.held(tags);
        }
    }

    /// The lease lapsed: settlements are void.
    pub(super) fn fenced(&mut self) {
        self.settlement = None;
        if let Some(join) = &mut self.join {
            join.fenced();
        }
    }
}

/// A record that the store will never take; it is not kept.
#[derive(Debug)]
pub(super) struct Refused {
    /// The record.
    pub(super) record: Record,
    /// What was to be settled after it.
    pub(super) after: SettleAfter,
    /// Why.
    pub(super) error: Error,
}

/// A record that was given up, or messages that follow a task, with its record.
#[derive(Debug)]
pub(super) struct GivenUp {
    /// The record.
    pub(super) record: Option<Record>,
    /// The messages that are not known to be published.
    pub(super) follow: Vec<FollowUp>,
    /// Whether its message is still held, or that of a member of the join that it follows, and so goes
    /// back to its queue.
    pub(super) held: bool,
}

/// Records, and beside each what is settled after it.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) records: Vec<Record>,
    pub(super) after: Vec<SettleAfter>,
}

impl Kept {
    pub(super) fn push(&mut self, record: Record, after: SettleAfter) {
        self.records.push(record);
        self.after.push(after);
    }

    pub(super) fn append(&mut self, mut later: Self) {
        self.records.append(&mut later.records);
        self.after.append(&mut later.after);
    }

    /// Takes the first `count`.
    pub(super) fn take(&mut self, count: usize) -> Self {
        if count >= self.records.len() {
            return std::mem::take(self);
        }
        Self {
            records: self.records.drain(..count).collect(),
            after: self.after.drain(..count).collect(),
        }
    }
}

/// What a record costs while it is kept.
pub(super) fn weight(record: &Record) -> usize {
    record.document.len() + OVERHEAD
}

/// What the next call settles. Of more than one call takes, what goes back to the head of a queue
/// leaves last, and its last part first: each call puts its part in front of the one before.
pub(super) fn next_batch(ready: &mut Vec<Settlement>) -> Vec<Settlement> {
    if ready.len() <= SETTLE_MOST {
        let mut batch = std::mem::take(ready);
        in_order(&mut batch);
        return batch;
    }
    let goes_back = |s: &Settlement| matches!(s.how, Settle::HandBack);
    ready.sort_by_key(|s| goes_back(s).then_some(s.tag));
    match ready.iter().take(SETTLE_MOST).take_while(|s| !goes_back(s)).count() {
        0 => ready.split_off(ready.len() - SETTLE_MOST),
        others => ready.drain(..others).collect(),
    }
}

/// What goes back to the head of a queue must go in the order of its claims, whatever order it was
/// given up in.
fn in_order(batch: &mut [Settlement]) {
    if batch.iter().any(|s| matches!(s.how, Settle::HandBack)) {
        batch.sort_by_key(|s| (!matches!(s.how, Settle::HandBack), s.tag));
    }
}
