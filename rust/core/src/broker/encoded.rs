//! Messages as bytes: what the adapters share whose servers carry nothing else.
//!
//! The only place of the brokers that encodes and decodes. A message is encoded when it is
//! published, in the thread of the publisher, and decoded when a worker asks what was delivered;
//! both outside of every lock and transaction.

use std::sync::Arc;

use bytes::Bytes;

use super::{DeadLetter, Delivery, Outgoing, PRIORITIES};
use crate::{clock::Millis, error::Result, message::Message};

/// A message on its way as an adapter keeps it that cannot borrow it.
pub(super) struct Encoded {
    pub(super) queue: Arc<str>,
    pub(super) priority: u8,
    pub(super) due: Option<Millis>,
    pub(super) id: Arc<str>,
    pub(super) data: Bytes,
}

impl Outgoing {
    /// Whether it goes to the queue of its name, and not to an exchange that knows where.
    pub(super) fn is_to_queue(&self) -> bool {
        self.message.properties.exchange.is_empty()
    }

    /// Its priority; what a foreign sender calls more than the last is the last.
    pub(super) fn priority(&self) -> u8 {
        self.message.properties.priority.min(PRIORITIES - 1)
    }

    /// Its bytes, into a buffer in place of what that holds.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        self.message.encode_into(self.encoding, out);
    }

    /// Its bytes, with what an adapter needs to know beside them.
    pub(super) fn encoded(&self) -> Encoded {
        Encoded {
            queue: self.queue.clone(),
            priority: self.priority(),
            due: self.due(),
            id: Arc::from(self.message.headers.id.as_str()),
            data: self.message.encode(self.encoding),
        }
    }
}

/// A batch whose messages have their queues, encoded.
pub(super) fn encode(batch: &[Outgoing]) -> Vec<Encoded> {
    batch.iter().map(Outgoing::encoded).collect()
}

impl Delivery {
    /// The message, or why what came is none. It is decoded here, so whoever takes many deliveries
    /// asks each as its turn comes: many messages that are held at once, decoded, cost more than
    /// those that follow each other in the same memory.
    ///
    /// # Errors
    /// `Decode`, with the reason.
    pub fn message(&self) -> Result<Message> {
        Message::decode(&self.raw)
    }
}

impl DeadLetter {
    /// The same with the message that its bytes encode, and its id where whoever parked it did not
    /// open it.
    pub(super) fn decoded(self) -> Self {
        let message = Message::decode(&self.raw).ok();
        let id = match &message {
            Some(message) if self.id.is_empty() => message.headers.id.clone(),
            _ => self.id,
        };
        Self { id, message, ..self }
    }
}
