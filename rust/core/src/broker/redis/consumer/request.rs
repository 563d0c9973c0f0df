//! A fetch on its way to the task that fetches, and what that task gives it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::session::Session;
use crate::{broker::Delivery, error::Result};

/// A fetch, and where its messages go.
pub(super) struct Request {
    pub(super) want: usize,
    pub(super) want_due: usize,
    pub(super) reply: oneshot::Sender<Result<Given>>,
}

/// What a fetch is given. A fetch may be dropped after it was answered and before it is looked at:
/// what nobody takes is noted as going back, and the next session puts it back.
pub(super) struct Given {
    deliveries: Vec<Delivery>,
    session: Arc<Session>,
}

impl Given {
    pub(super) fn new(deliveries: Vec<Delivery>, session: &Arc<Session>) -> Self {
        Self { deliveries, session: Arc::clone(session) }
    }

    /// The messages, which are the caller's from here on.
    pub(super) fn take(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.deliveries.is_empty() {
            self.session.ledger.give_back(self.deliveries.iter().map(|one| one.tag));
        }
    }
}
