//! Messages as bytes: what the adapters share whose servers carry nothing else.
//!
//! The only place of the brokers that decodes; what an adapter hands out is a [`Delivery`], which
//! holds the message or the reason why there is none. Decoding happens when a message is handed
//! out, once, outside of every lock and transaction.

use super::{Claimed, DeadLetter, Delivery};
use crate::message::Message;

impl Claimed {
    /// The delivery, with the message that its bytes encode.
    pub(super) fn decoded(self) -> Delivery {
        let message = Message::decode(&self.raw);
        let Self { tag, queue, redeliveries, suspect, raw } = self;
        Delivery { tag, queue, redeliveries, suspect, message, raw }
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
