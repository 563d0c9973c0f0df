//! Stub.
use super::Message;
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
pub(super) fn decode(_raw: &Bytes) -> Result<Message> {
    Err(Error::new(ErrorKind::Unsupported, "stub"))
}
pub(super) fn encode(_m: &Message) -> Bytes {
    Bytes::new()
}
