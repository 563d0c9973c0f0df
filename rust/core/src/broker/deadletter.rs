//! Parked messages: what could not be run, with the reason and the untouched bytes.

use bytes::Bytes;

use crate::{clock::Millis, message::Message};

/// A message that was taken out of its queue because running it is impossible or keeps killing
/// workers.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Names it among the dead letters of its queue.
    pub key: String,
    /// Task id, or empty when it could not be read.
    pub id: String,
    /// Why it was parked, in one sentence.
    pub reason: String,
    /// When it was parked.
    pub at: Millis,
    /// How many deliveries ended with a lost worker.
    pub redeliveries: u32,
    /// The message, if its bytes are one.
    pub message: Option<Message>,
    /// The encoded message, untouched.
    pub raw: Bytes,
}
