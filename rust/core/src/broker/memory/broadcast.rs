//! Saying something to all within one process.
//!
//! Whoever speaks puts a copy into the inbox of each subscriber that wants it, under the one lock
//! of the list of subscribers, so that all hear in the same order.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::{
    broker::{
        broadcast::{Binding, BroadcastMessage, Exchange, REVOKED_MAX, Subscriber},
        inbox::Inbox,
    },
    clock::Millis,
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

    /// Whether anybody wants what is said there under this key.
    pub(super) fn are_there(&self, exchange: &Exchange, routing_key: &str) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter_map(Weak::upgrade)
            .any(|inbox| inbox.bindings.iter().any(|binding| binding.is_for(exchange, routing_key)))
    }
}

/// What is revoked, and until when.
#[derive(Default)]
pub(super) struct Remembered(HashMap<Arc<str>, Millis>);

impl Remembered {
    pub(super) fn add(&mut self, ids: &[Arc<str>], until: Millis, now: Millis) {
        for id in ids {
            self.0.insert(Arc::clone(id), until);
        }
        let ids = self.ids(now);
        let kept: HashSet<_> = ids.iter().skip(ids.len().saturating_sub(REVOKED_MAX)).collect();
        self.0.retain(|id, _| kept.contains(id));
    }

    pub(super) fn ids(&self, now: Millis) -> Vec<Arc<str>> {
        let mut current: Vec<_> = self.0.iter().filter(|(_, until)| **until > now).collect();
        current.sort_unstable_by_key(|(id, until)| (**until, Arc::clone(id)));
        current.into_iter().map(|(id, _)| Arc::clone(id)).collect()
    }
}
