//! The wire form of a task: typed headers, properties, an opaque body of bytes.
//!
//! One type, two encodings, told apart by the first byte: Celery's task message protocol 2 in
//! kombu's JSON envelope (`{`), and the compact one (a MessagePack map). [`Message::decode`] reads
//! either, and protocol 1 on the way in. The body is not opened here: a worker must be able to
//! route, delay, expire and park a message whose body it could not read.

mod headers;
mod time;
mod envelope;
mod protocol1;
mod compact;
mod native;
mod msgpack;
pub mod pyjson;
pub(crate) mod repr;
mod body;
mod list;
mod revoked;
mod ended;
mod compression;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;

pub use body::{Embed, JSON, MSGPACK, PICKLE, YAML, decode_value, natural_encoding};
pub use compression::Compression;
pub use headers::{Headers, Properties, Rare, TimeLimit};
pub use list::List;
pub use msgpack::MAX_DEPTH;
pub use native::Native;
pub use time::{format_iso, parse_iso};

use crate::error::{Error, ErrorKind, Result};

/// A task message, whichever way it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// What to run, when, for whom. Written by the publisher, read by every station.
    pub headers: Headers,
    /// What the transport needs. Written by the publisher, read by the broker adapter.
    pub properties: Properties,
    /// MIME type of the (decompressed) body, for example `application/json`. Nearly always one of a
    /// few, so it is borrowed: every message is decoded twice on its way.
    pub content_type: Cow<'static, str>,
    /// `utf-8` or `binary`.
    pub content_encoding: Cow<'static, str>,
    /// The serialized `[args, kwargs, embed]`, possibly compressed (see `headers.compression`).
    pub body: Bytes,
}

/// Which bytes to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// MessagePack with short keys, defaults left out.
    Compact,
    /// Celery's protocol 2 in kombu's JSON envelope.
    Celery,
}

impl Encoding {
    /// What a message was written in, by its first byte.
    pub fn of(raw: &[u8]) -> Self {
        if raw.first() == Some(&b'{') { Self::Celery } else { Self::Compact }
    }
}

impl Message {
    /// Reads a message in either encoding, or in protocol 1.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Decode`] when the bytes are no task message; the text says why.
    pub fn decode(raw: &Bytes) -> Result<Self> {
        match raw.first() {
            Some(b'{') => envelope::decode(raw),
            _ => compact::decode(raw),
        }
    }

    /// Writes the message.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        let mut out = Vec::new();
        self.encode_into(encoding, &mut out);
        Bytes::from(out)
    }

    /// Writes the message into a buffer, in place of what that holds.
    pub fn encode_into(&self, encoding: Encoding, out: &mut Vec<u8>) {
        out.clear();
        let buffer = std::mem::take(out);
        *out = match encoding {
            Encoding::Compact => compact::encode(self, buffer),
            Encoding::Celery => envelope::encode(self, buffer),
        };
    }

    /// The compact encoding of this message, which was read from `raw`: those bytes themselves when
    /// they are it already.
    pub fn compact(&self, raw: Bytes) -> Bytes {
        if raw.first() == Some(&b'{') { self.encode(Encoding::Compact) } else { raw }
    }

    /// What every decoder ends with: a message without a name or an id is none.
    fn check(&mut self) -> Result<()> {
        for (header, value) in [("task", &self.headers.task), ("id", &self.headers.id)] {
            if value.is_empty() {
                return Err(Error::new(
                    ErrorKind::Decode,
                    format!("header `{header}` is missing or empty, expected a text"),
                ));
            }
        }
        if self.headers.rare.as_deref().is_some_and(|rare| rare == headers::no_rare()) {
            self.headers.rare = None;
        }
        Ok(())
    }
}
