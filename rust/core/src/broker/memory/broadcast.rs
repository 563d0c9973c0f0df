//! Saying something to all within one process.
//!
//! Whoever speaks puts a copy into the inbox of each subscriber that wants it, under the one lock
//! of the list of subscribers, so that all hear in the same order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::{
    broker::broadcast::{Binding, BroadcastMessage, Heard, Subscriber, WAITING_BYTES, WAITING_MAX},
    error::Result,
    future::BoxFuture,
};

/// Those who hear.
#[derive(Default)]
pub(super) struct Subscribers {
    /// Behind a std mutex because a section puts messages into inboxes, and awaits nothing.
    all: Mutex<Vec<Weak<Inbox>>>,
}

impl Subscribers {
    pub(super) fn add(&self, bindings: Vec<Binding>) -> Arc<dyn Subscriber> {
        let inbox = Arc::new(Inbox { bindings, waiting: Mutex::default(), filled: Notify::new() });
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&inbox));
        inbox
    }

    pub(super) fn tell(&self, batch: &[BroadcastMessage]) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|inbox| inbox.upgrade().map(|inbox| inbox.put(batch)).is_some());
    }
}

/// One subscriber and what waits for it.
struct Inbox {
    bindings: Vec<Binding>,
    /// Behind a std mutex because a section is a push or a swap.
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<BroadcastMessage>,
    bytes: usize,
    lost: u64,
}

impl Inbox {
    fn put(&self, batch: &[BroadcastMessage]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for message in batch {
            if self.bindings.iter().any(|binding| binding.wants(message)) {
                waiting.push(message.clone());
            }
        }
        drop(waiting);
        self.filled.notify_one();
    }

    fn take(&self) -> Heard {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { messages, lost, .. } = std::mem::take(&mut *waiting);
        Heard { messages: messages.into(), lost }
    }
}

impl Waiting {
    /// Adds the newest; the oldest make room for it.
    fn push(&mut self, message: BroadcastMessage) {
        self.bytes += message.body.len();
        self.messages.push_back(message);
        while self.messages.len() > WAITING_MAX
            || (self.bytes > WAITING_BYTES && self.messages.len() > 1)
        {
            self.bytes -= self.messages.pop_front().map_or(0, |oldest| oldest.body.len());
            self.lost += 1;
        }
    }
}

impl Subscriber for Inbox {
    fn receive(&self) -> BoxFuture<'_, Result<Heard>> {
        Box::pin(async move {
            loop {
                let heard = self.take();
                if !heard.messages.is_empty() {
                    return Ok(heard);
                }
                // What came since the look has left a permit.
                self.filled.notified().await;
            }
        })
    }
}
