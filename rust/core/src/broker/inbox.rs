//! What waits for one subscriber: the bounded buffer that adapters share who are handed messages
//! before the subscriber asks for them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::broadcast::{Binding, BroadcastMessage, Heard, Subscriber, WAITING_BYTES, WAITING_MAX};
use crate::{
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// One subscriber and what waits for it.
pub(super) struct Inbox {
    pub(super) bindings: Vec<Binding>,
    /// Behind a std mutex because a section is a push or a swap.
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<BroadcastMessage>,
    bytes: usize,
    lost: u64,
    /// Why nothing will come any more.
    ended: Option<(ErrorKind, String)>,
}

impl Inbox {
    pub(super) fn new(bindings: Vec<Binding>) -> Self {
        Self { bindings, waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Adds what its subscriber wants of these; the oldest make room.
    pub(super) fn put(&self, batch: &[BroadcastMessage]) {
        let mut waiting = self.lock();
        for message in batch {
            if self.bindings.iter().any(|binding| binding.wants(message)) {
                waiting.push(message.clone());
            }
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Nothing will come any more; what is there is heard first.
    pub(super) fn end(&self, why: &Error) {
        self.lock().ended = Some((why.kind(), why.to_string()));
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Result<Heard>> {
        let mut waiting = self.lock();
        if waiting.messages.is_empty() {
            let (kind, why) = waiting.ended.clone()?;
            return Some(Err(Error::new(kind, why)));
        }
        let messages = std::mem::take(&mut waiting.messages).into();
        waiting.bytes = 0;
        Some(Ok(Heard { messages, lost: std::mem::take(&mut waiting.lost) }))
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
                if let Some(heard) = self.take() {
                    return heard;
                }
                // What came since the look has left a permit.
                self.filled.notified().await;
            }
        })
    }
}
