//! A fetch on its way to the task that fetches, and what that task gives it.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use super::session::Session;
use crate::{
    broker::{Delivery, Want},
    error::Result,
};

/// A fetch, and where its messages go.
pub(super) struct Request {
    pub(super) want: Want,
    pub(super) reply: oneshot::Sender<Result<Given>>,
}

/// Messages on their way to a fetch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) ready: Vec<Delivery>,
    pub(super) scheduled: Vec<Delivery>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.scheduled.is_empty()
    }
}

/// Claimed and not yet delivered.
#[derive(Default)]
pub(super) struct Claimed {
    pub(super) ready: VecDeque<Delivery>,
    pub(super) scheduled: VecDeque<Delivery>,
}

impl Claimed {
    /// Takes as much of it as is wanted.
    pub(super) fn take(&mut self, want: Want) -> Batch {
        let (ready, due) = (want.ready.min(self.ready.len()), want.due.min(self.scheduled.len()));
        let ready = if ready == self.ready.len() {
            std::mem::take(&mut self.ready).into()
        } else {
            self.ready.drain(..ready).collect()
        };
        Batch { ready, scheduled: self.scheduled.drain(..due).collect() }
    }

    /// Takes in what was claimed. All of a claim mostly goes to the fetch that waits for it, without
    /// being moved here or there.
    pub(super) fn add(&mut self, ready: Vec<Delivery>, scheduled: Vec<Delivery>) {
        if self.ready.is_empty() {
            self.ready = ready.into();
        } else {
            self.ready.extend(ready);
        }
        self.scheduled.extend(scheduled);
    }

    /// Keeps what was given to a fetch that was dropped for the next one.
    pub(super) fn put_back(&mut self, batch: Batch) {
        batch.ready.into_iter().rev().for_each(|one| self.ready.push_front(one));
        batch.scheduled.into_iter().rev().for_each(|one| self.scheduled.push_front(one));
    }
}

/// What a fetch is given. A fetch may be dropped after it was answered and before it is looked at:
/// what nobody takes goes back to the task that fetches, for the next one. Where that has ended it
/// is noted as going back, and the next session puts it back.
pub(super) struct Given {
    batch: Batch,
    untaken: mpsc::UnboundedSender<Batch>,
    session: Arc<Session>,
}

impl Given {
    pub(super) fn new(
        batch: Batch,
        untaken: mpsc::UnboundedSender<Batch>,
        session: &Arc<Session>,
    ) -> Self {
        Self { batch, untaken, session: Arc::clone(session) }
    }

    /// The messages, which are the caller's from here on.
    pub(super) fn take(mut self) -> Vec<Delivery> {
        let Batch { mut ready, scheduled } = std::mem::take(&mut self.batch);
        ready.extend(scheduled);
        ready
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        if let Err(mpsc::error::SendError(batch)) = self.untaken.send(batch) {
            let left = batch.ready.iter().chain(&batch.scheduled);
            self.session.ledger.give_back(left.map(|one| one.tag));
        }
    }
}
