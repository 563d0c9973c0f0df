//! Reading a compact message: one loop over its fields, each straight into its place. The body is a
//! slice of what was read.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    super::{
        Message,
        body::natural_encoding,
        headers::TimeLimit,
        msgpack::{Head, Reader, text, unexpected},
    },
    COMPRESSIONS, CONTENT_TYPES,
};
use crate::error::{Error, ErrorKind, Result};

/// Containers around a value of `x` or `V`: the message, the map itself being the next.
const OUTER_DEPTH: usize = 1;

pub(in super::super) fn decode(raw: &Bytes) -> Result<Message> {
    let mut reader = Reader::new(raw);
    let Ok(Head::Map(fields)) = reader.head() else { return Err(no_message(raw)) };
    let mut message = Message::default();
    let mut partial = Partial { raw, message: &mut message, typed: false, encoded: false };
    for _ in 0..fields {
        let key = match reader.letter() {
            Some(key) => key,
            None => match reader.head()? {
                Head::Str([key]) => *key,
                head => {
                    reader.skip_rest(head)?;
                    reader.skip()?;
                    continue;
                }
            },
        };
        partial
            .field(key, &mut reader)
            .map_err(|e| e.context(format!("field `{}` of a compact message", char::from(key))))?;
    }
    if reader.left() > 0 {
        let sentence = format!("`{}` bytes follow the end of a compact message", reader.left());
        return Err(Error::new(ErrorKind::Decode, sentence));
    }
    partial.finish()?;
    Ok(message)
}

#[cold]
fn no_message(raw: &[u8]) -> Error {
    let found = raw.first().map_or_else(|| "nothing".to_owned(), |b| format!("`{b:#04x}`"));
    Error::new(
        ErrorKind::Decode,
        format!("not a task message: it begins with {found}, expected `{{` or a MessagePack map"),
    )
}

/// A message being read.
struct Partial<'a> {
    raw: &'a Bytes,
    message: &'a mut Message,
    /// Whether the content type, and its encoding, were among the fields.
    typed: bool,
    encoded: bool,
}

impl Partial<'_> {
    /// The fields of most messages; the rest is for [`Self::rare_field`].
    #[inline]
    fn field(&mut self, key: u8, r: &mut Reader<'_>) -> Result<()> {
        let Message { headers, properties, .. } = &mut *self.message;
        match key {
            b't' => headers.task = string(r)?.unwrap_or_default(),
            b'i' => headers.id = id(r)?.unwrap_or_default(),
            b'b' => self.message.body = body(r, self.raw)?,
            b'c' => {
                self.message.content_type = coded(r, &CONTENT_TYPES)?.unwrap_or_default();
                self.typed = true;
            }
            b'q' => properties.routing_key = string(r)?.unwrap_or_default(),
            b'R' => properties.reply_to = id(r)?,
            b'o' => headers.root_id = id(r)?,
            b'p' => headers.parent_id = id(r)?,
            b'n' => headers.eta = int(r)?,
            b'E' => headers.expires = int(r)?,
            b'r' => headers.retries = small(r)?.unwrap_or(0),
            b'P' => properties.priority = small(r)?.unwrap_or(0),
            b'I' => headers.ignore_result = boolean(r)?,
            b'l' => headers.timelimit = timelimit(r)?,
            b'z' => headers.compression = coded(r, &COMPRESSIONS)?.map(Cow::into_owned),
            b'e' => {
                self.message.content_encoding = string(r)?.unwrap_or_default().into();
                self.encoded = true;
            }
            b'C' => properties.correlation_id = id(r)?,
            b'm' => properties.delivery_mode = small(r)?,
            b'X' => properties.expiration = string(r)?,
            b'h' => properties.exchange = string(r)?.unwrap_or_default(),
            b'd' => properties.delivery_tag = id(r)?,
            _ => self.rare_field(key, r)?,
        }
        Ok(())
    }

    fn rare_field(&mut self, key: u8, r: &mut Reader<'_>) -> Result<()> {
        if !b"gGsLOakNSVx".contains(&key) {
            return r.skip();
        }
        let rare = self.message.headers.rare_mut();
        match key {
            b'g' => rare.group = id(r)?,
            b'G' => rare.group_index = int(r)?,
            b's' => rare.shadow = string(r)?,
            b'L' => rare.lang = string(r)?,
            b'O' => rare.origin = string(r)?,
            b'a' => rare.argsrepr = string(r)?,
            b'k' => rare.kwargsrepr = string(r)?,
            b'N' => rare.replaced_task_nesting = small(r)?.unwrap_or(0),
            b'S' => rare.stamped_headers = strings(r)?,
            b'V' => rare.stamps = entries(r)?,
            _ => rare.extra = entries(r)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let message = self.message;
        if !self.typed {
            message.content_type = CONTENT_TYPES[0].into();
        }
        if !self.encoded {
            message.content_encoding = natural_encoding(&message.content_type).into();
        }
        message.check()
    }
}

// Each reader takes nil as absent.

fn string(r: &mut Reader<'_>) -> Result<Option<String>> {
    match r.head()? {
        Head::Str(s) => Ok(Some(text(s)?.to_owned())),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "a string")),
    }
}

fn id(r: &mut Reader<'_>) -> Result<Option<String>> {
    match r.head()? {
        Head::Bin(b) if b.len() == 16 => Ok(Some(uuid_text(b))),
        Head::Str(s) => Ok(Some(text(s)?.to_owned())),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "an id, text or 16 bytes,")),
    }
}

fn body(r: &mut Reader<'_>, raw: &Bytes) -> Result<Bytes> {
    match r.head()? {
        Head::Bin(b) => {
            let end = r.pos();
            Ok(raw.slice(end - b.len()..end))
        }
        Head::Nil => Ok(Bytes::new()),
        head => Err(unexpected(head, "binary")),
    }
}

fn coded(r: &mut Reader<'_>, codes: &[&'static str]) -> Result<Option<Cow<'static, str>>> {
    match r.head()? {
        Head::Str(s) => Ok(Some(text(s)?.to_owned().into())),
        Head::Nil => Ok(None),
        Head::Int(n) => match usize::try_from(n).ok().and_then(|n| codes.get(n)) {
            Some(name) => Ok(Some(Cow::Borrowed(name))),
            None => Err(Error::new(
                ErrorKind::Decode,
                format!(
                    "code `{n}` is unknown, expected 0 to {}; is the sender newer?",
                    codes.len() - 1
                ),
            )),
        },
        head => Err(unexpected(head, "a code or a string")),
    }
}

fn int(r: &mut Reader<'_>) -> Result<Option<i64>> {
    match r.head()? {
        Head::Int(n) => Ok(Some(n)),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "an integer")),
    }
}

fn small<T: TryFrom<i64>>(r: &mut Reader<'_>) -> Result<Option<T>> {
    let Some(n) = int(r)? else { return Ok(None) };
    T::try_from(n)
        .map(Some)
        .map_err(|_| Error::new(ErrorKind::Decode, format!("integer `{n}` is out of range")))
}

fn boolean(r: &mut Reader<'_>) -> Result<Option<bool>> {
    match r.head()? {
        Head::Bool(b) => Ok(Some(b)),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "a boolean")),
    }
}

fn timelimit(r: &mut Reader<'_>) -> Result<TimeLimit> {
    match r.head()? {
        Head::Array(2) => Ok(TimeLimit { hard: seconds(r)?, soft: seconds(r)? }),
        Head::Nil => Ok(TimeLimit::default()),
        head => Err(unexpected(head, "`[hard, soft]`")),
    }
}

fn seconds(r: &mut Reader<'_>) -> Result<Option<f64>> {
    match r.head()? {
        Head::Int(n) => Ok(Some(n as f64)),
        Head::Float(f) => Ok(Some(f)),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "a number of seconds")),
    }
}

fn strings(r: &mut Reader<'_>) -> Result<Option<Vec<String>>> {
    let count = match r.head()? {
        Head::Array(n) => n,
        Head::Nil => return Ok(None),
        head => return Err(unexpected(head, "an array of strings")),
    };
    let mut out = Vec::with_capacity((count as usize).min(r.left()).min(64));
    for _ in 0..count {
        match r.head()? {
            Head::Str(s) => out.push(text(s)?.to_owned()),
            head => return Err(unexpected(head, "a string")),
        }
    }
    Ok(Some(out))
}

fn entries(r: &mut Reader<'_>) -> Result<Map<String, Value>> {
    match r.head()? {
        Head::Map(n) => r.entries(n, OUTER_DEPTH),
        Head::Nil => Ok(Map::new()),
        head => Err(unexpected(head, "a map")),
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    let mut buf = [0; 36];
    let bytes = bytes.try_into().unwrap_or_default();
    Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut buf).to_owned()
}
