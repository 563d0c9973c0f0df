//! Records that wait for the store, and beside each what is settled after it.

use crate::{broker::Settlement, result::Record};

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
