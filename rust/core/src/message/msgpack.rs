//! MessagePack over a slice: the reader and the few writers that the compact encoding needs.
//!
//! The reader hands out borrowed strings and bytes and never trusts a length: nothing is allocated
//! for a count that the remaining bytes could not hold, skipping is a loop, and nested values stop
//! at [`MAX_DEPTH`]. It does not turn bodies into Python objects; that reader lives next to the
//! interpreter. Reading is written by hand because `rmp::decode` copies every string through
//! `io::Read`; writing is `rmp`'s.

use rmp::encode::{self, ByteBuf};
use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind, Result};

/// How deep the containers of a message may nest, the message itself being the first. The same in
/// both encodings, so that what was read in one can be written in the other.
pub const MAX_DEPTH: usize = 127;

/// One value's head: scalars whole, containers by their number of entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Big(u64),
    Float(f64),
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Array(u32),
    Map(u32),
    Ext,
}

impl Head<'_> {
    /// For errors: what was found, in MessagePack's words.
    fn name(self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Big(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Str(_) => "a string",
            Self::Bin(_) => "binary",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Ext => "an extension",
        }
    }
}

/// Reads values off a slice, front to back.
pub(super) struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(buf: &'a [u8]) -> Self {
        Self { buf, pos: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.buf.len() - self.pos
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.left() {
            return Err(truncated(self.pos, len, self.left()));
        }
        let out = &self.buf[self.pos..self.pos + len];
        self.pos += len;
        Ok(out)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.buf[self.pos..].first_chunk::<N>() {
            Some(chunk) => {
                self.pos += N;
                Ok(*chunk)
            }
            None => Err(truncated(self.pos, N, self.left())),
        }
    }

    #[inline]
    fn len8(&mut self) -> Result<usize> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    #[inline]
    fn len16(&mut self) -> Result<usize> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    #[inline]
    fn len32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    fn str(&mut self, len: usize) -> Result<Head<'a>> {
        Ok(Head::Str(self.take(len)?))
    }

    #[inline]
    fn bin(&mut self, len: usize) -> Result<Head<'a>> {
        Ok(Head::Bin(self.take(len)?))
    }

    fn ext(&mut self, len: usize) -> Result<Head<'a>> {
        self.take(len.saturating_add(1))?; // its type byte
        Ok(Head::Ext)
    }

    /// A string of one letter, as the keys of messages are, if that is next.
    #[inline]
    pub(super) fn letter(&mut self) -> Option<u8> {
        let [0xa1, letter, ..] = self.buf[self.pos..] else { return None };
        self.pos += 2;
        Some(letter)
    }

    /// The next head; of a container, its entries follow.
    #[inline]
    pub(super) fn head(&mut self) -> Result<Head<'a>> {
        let marker = self.array::<1>()?[0];
        match marker {
            0x00..=0x7f => Ok(Head::Int(i64::from(marker))),
            0x80..=0x8f => Ok(Head::Map(u32::from(marker & 0x0f))),
            0x90..=0x9f => Ok(Head::Array(u32::from(marker & 0x0f))),
            0xa0..=0xbf => self.str(usize::from(marker & 0x1f)),
            0xe0..=0xff => Ok(Head::Int(i64::from(marker as i8))),
            _ => self.wide_head(marker),
        }
    }

    fn wide_head(&mut self, marker: u8) -> Result<Head<'a>> {
        Ok(match marker {
            0xc0 => Head::Nil,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xc4 => return self.len8().and_then(|n| self.bin(n)),
            0xc5 => return self.len16().and_then(|n| self.bin(n)),
            0xc6 => return self.len32().and_then(|n| self.bin(n as usize)),
            0xc7 => return self.len8().and_then(|n| self.ext(n)),
            0xc8 => return self.len16().and_then(|n| self.ext(n)),
            0xc9 => return self.len32().and_then(|n| self.ext(n as usize)),
            0xca => Head::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Head::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Head::Int(i64::from(self.array::<1>()?[0])),
            0xcd => Head::Int(i64::from(u16::from_be_bytes(self.array()?))),
            0xce => Head::Int(i64::from(u32::from_be_bytes(self.array()?))),
            0xcf => {
                let n = u64::from_be_bytes(self.array()?);
                i64::try_from(n).map_or(Head::Big(n), Head::Int)
            }
            0xd0 => Head::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Head::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Head::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Head::Int(i64::from_be_bytes(self.array()?)),
            0xd4 => return self.ext(1),
            0xd5 => return self.ext(2),
            0xd6 => return self.ext(4),
            0xd7 => return self.ext(8),
            0xd8 => return self.ext(16),
            0xd9 => return self.len8().and_then(|n| self.str(n)),
            0xda => return self.len16().and_then(|n| self.str(n)),
            0xdb => return self.len32().and_then(|n| self.str(n as usize)),
            0xdc => Head::Array(self.len16()? as u32),
            0xdd => Head::Array(self.len32()?),
            0xde => Head::Map(self.len16()? as u32),
            0xdf => Head::Map(self.len32()?),
            _ => {
                return Err(Error::new(
                    ErrorKind::Decode,
                    format!(
                        "byte `{marker:#04x}` at offset {} is no MessagePack value",
                        self.pos - 1
                    ),
                ));
            }
        })
    }

    /// Steps over `head`'s entries, if it has any.
    #[inline]
    pub(super) fn skip_rest(&mut self, head: Head<'_>) -> Result<()> {
        match head {
            Head::Array(n) => self.skip_many(u64::from(n)),
            Head::Map(n) => self.skip_many(u64::from(n) * 2),
            _ => Ok(()),
        }
    }

    /// Steps over the next value, whatever it holds.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<()> {
        let head = self.head()?;
        self.skip_rest(head)
    }

    /// Every entry takes a byte at least, so hostile counts end at the end of the slice; the sum
    /// cannot overflow because each of at most `usize::MAX` heads adds less than 2^33.
    fn skip_many(&mut self, mut pending: u64) -> Result<()> {
        while pending > 0 {
            pending -= 1;
            match self.head()? {
                Head::Array(n) => pending += u64::from(n),
                Head::Map(n) => pending += u64::from(n) * 2,
                _ => {}
            }
        }
        Ok(())
    }

    /// The next value as plain data, as unknown headers are kept. `depth` is how many containers it
    /// is in already.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value> {
        Ok(match self.head()? {
            Head::Nil => Value::Null,
            Head::Bool(b) => Value::Bool(b),
            Head::Int(n) => n.into(),
            Head::Big(n) => n.into(),
            Head::Float(f) => Number::from_f64(f).map_or(Value::Null, Value::Number),
            Head::Str(s) => Value::String(text(s)?.to_owned()),
            Head::Array(n) => {
                let depth = deeper(depth)?;
                let mut out = Vec::with_capacity((n as usize).min(self.left()).min(64));
                for _ in 0..n {
                    out.push(self.value(depth)?);
                }
                Value::Array(out)
            }
            Head::Map(n) => Value::Object(self.entries(n, depth)?),
            head @ (Head::Bin(_) | Head::Ext) => return Err(unexpected(head, "plain data")),
        })
    }

    /// The `n` entries of a map whose head was just read.
    pub(super) fn entries(&mut self, n: u32, depth: usize) -> Result<Map<String, Value>> {
        let depth = deeper(depth)?;
        let mut out = Map::new();
        for _ in 0..n {
            let key = match self.head()? {
                Head::Str(s) => text(s)?.to_owned(),
                head => return Err(unexpected(head, "a string as key")),
            };
            out.insert(key, self.value(depth)?);
        }
        Ok(out)
    }
}

/// UTF-8 or a Decode error.
#[inline]
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|e| Error::caused(ErrorKind::Decode, "a string is not valid UTF-8", e))
}

/// A Decode error: found `head` where `wanted` was expected.
#[cold]
pub(super) fn unexpected(head: Head<'_>, wanted: &str) -> Error {
    Error::new(ErrorKind::Decode, format!("found {} where {wanted} was expected", head.name()))
}

fn deeper(depth: usize) -> Result<usize> {
    if depth >= MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::Decode,
            format!("values nest deeper than the limit of `{MAX_DEPTH}`"),
        ));
    }
    Ok(depth + 1)
}

#[cold]
fn truncated(at: usize, wanted: usize, left: usize) -> Error {
    Error::new(
        ErrorKind::Decode,
        format!("the message is cut off: `{wanted}` bytes expected at offset {at}, `{left}` left"),
    )
}

/// Writes values to memory, which takes every byte; lengths are below 4 GiB because bodies are
/// limited at publish.
#[derive(Default)]
pub(super) struct Writer(ByteBuf);

const FITS: &str = "a write to memory does not fail";

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self::onto(Vec::with_capacity(bytes))
    }

    /// A writer that goes on behind what a buffer holds.
    pub(super) fn onto(buffer: Vec<u8>) -> Self {
        Self(ByteBuf::from_vec(buffer))
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.0.into_vec()
    }

    pub(super) fn nil(&mut self) {
        encode::write_nil(&mut self.0).expect(FITS);
    }

    pub(super) fn bool(&mut self, b: bool) {
        encode::write_bool(&mut self.0, b).expect(FITS);
    }

    pub(super) fn int(&mut self, n: i64) {
        encode::write_sint(&mut self.0, n).expect(FITS);
    }

    pub(super) fn str(&mut self, s: &str) {
        encode::write_str(&mut self.0, s).expect(FITS);
    }

    pub(super) fn bin(&mut self, b: &[u8]) {
        encode::write_bin(&mut self.0, b).expect(FITS);
    }

    pub(super) fn array(&mut self, len: usize) {
        encode::write_array_len(&mut self.0, len as u32).expect(FITS);
    }

    pub(super) fn map(&mut self, len: usize) {
        encode::write_map_len(&mut self.0, len as u32).expect(FITS);
    }

    /// A float, as an integer where that says the same in fewer bytes.
    pub(super) fn number(&mut self, f: f64) {
        match super::headers::whole(f) {
            Some(n) => self.int(n),
            None => self.float(f),
        }
    }

    fn float(&mut self, f: f64) {
        encode::write_f64(&mut self.0, f).expect(FITS);
    }

    /// Values whose encoding is at hand already.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.as_mut_vec().extend_from_slice(bytes);
    }

    /// Plain data, as unknown headers are kept.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.nil(),
            Value::Bool(b) => self.bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => self.int(n),
                (None, Some(n)) => {
                    encode::write_uint(&mut self.0, n).expect(FITS);
                }
                (None, None) => self.float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => self.str(s),
            Value::Array(items) => {
                self.array(items.len());
                for item in items {
                    self.value(item);
                }
            }
            Value::Object(entries) => self.entries(entries),
        }
    }

    /// A map with text keys.
    pub(super) fn entries(&mut self, entries: &Map<String, Value>) {
        self.map(entries.len());
        for (key, value) in entries {
            self.str(key);
            self.value(value);
        }
    }
}
