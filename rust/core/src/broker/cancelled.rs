//! What becomes of a scheduled message that is cancelled.

use bytes::Bytes;

use crate::message::{Encoding, Message};

/// What goes to the tail of its queue in its place: where callbacks, a chain or a chord wait for the
/// task, a worker must end it as revoked and them with it. `None` when nobody waits, and it is just
/// dropped.
pub(super) fn instead(raw: &[u8]) -> Option<Bytes> {
    let raw = Bytes::copy_from_slice(raw);
    let mut message = Message::decode(&raw).ok().filter(Message::has_embed)?;
    message.revoke();
    Some(message.encode(Encoding::of(&raw)))
}
