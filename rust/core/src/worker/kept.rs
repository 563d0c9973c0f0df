//! Records that wait for the store, and beside each what is settled after it; and what becomes of
//! them when they wait no more.

use crate::{
    broker::Settlement,
    pool::FollowUp,
    result::{Joined, Record},
};

/// What a kept record costs beside its document.
const OVERHEAD: usize = 256;

/// What is settled after a record.
#[derive(Debug, Default)]
pub(super) struct After {
    /// What is sent to the broker.
    pub(super) settlement: Option<Settlement>,
    /// The task ran and must not run again: when its record cannot be stored, the message is
    /// settled all the same.
    pub(super) once: bool,
}

impl From<Option<Settlement>> for After {
    fn from(settlement: Option<Settlement>) -> Self {
        Self { settlement, once: false }
    }
}

/// A join that is complete.
#[derive(Debug)]
pub(super) struct Completed {
    /// The claim to publish what follows it.
    pub(super) joined: Joined,
    /// What is settled after that: the messages of the members that completed it.
    pub(super) after: Vec<Settlement>,
}

/// A record that was given up, or messages that follow a task, with its record.
#[derive(Debug)]
pub(super) struct GivenUp {
    /// The record.
    pub(super) record: Option<Record>,
    /// The messages that are not known to be published.
    pub(super) follow: Vec<FollowUp>,
    /// Whether its message is still held, and so goes back to its queue.
    pub(super) held: bool,
}

/// Records, and beside each what is settled after it.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) records: Vec<Record>,
    pub(super) after: Vec<After>,
}

impl Kept {
    pub(super) fn push(&mut self, record: Record, after: After) {
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
