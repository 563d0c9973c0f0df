//! Saying something to all within one process.
//!
//! Whoever speaks puts a copy into the inbox of each subscriber that wants it, under the one lock
//! of the list of subscribers, so that all hear in the same order.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::broker::{
    broadcast::{Binding, BroadcastMessage, Subscriber},
    inbox::Inbox,
};

/// Those who hear.
#[derive(Default)]
pub(super) struct Subscribers {
    /// Behind a std mutex because a section puts messages into inboxes, and awaits nothing.
    all: Mutex<Vec<Weak<Inbox>>>,
}

impl Subscribers {
    pub(super) fn add(&self, bindings: Vec<Binding>) -> Arc<dyn Subscriber> {
        let inbox = Arc::new(Inbox::new(bindings));
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&inbox));
        inbox
    }

    pub(super) fn tell(&self, batch: &[BroadcastMessage]) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|inbox| inbox.upgrade().map(|inbox| inbox.put(batch)).is_some());
    }
}
