//! MessagePack, straight into Python objects.
//!
//! Arrays become lists, binaries bytes, timestamps aware datetimes; other extension types are an
//! error, as are trailing bytes, invalid UTF-8 and more than `DEPTH` levels. Any key that a dict
//! can hold is accepted. A length is believed only as far as bytes follow: nothing is allocated
//! ahead of the input.
//!
//! The heads are matched here, and not by the core's reader of messages, because a head between it
//! and the object costs 5 to 7 % of the instructions (`benches/README.md`).

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat},
};
use taskcore::message::List;

use super::{
    DEPTH, Format, Steps,
    body::Call,
    build::{self, Builder},
    fault::{Read, Unreadable},
    raw, types,
};

/// Reads one MessagePack value.
pub(super) struct Reader<'a, 'py> {
    data: &'a [u8],
    at: usize,
    build: Builder<'py>,
}

/// The embed of a message without any callbacks, as a stock client writes it.
const NO_EMBED: &[u8] = b"\x84\xa9callbacks\xc0\xa8errbacks\xc0\xa5chain\xc0\xa5chord\xc0";

impl<'a, 'py> Reader<'a, 'py> {
    pub(super) fn new(py: Python<'py>, data: &'a [u8]) -> Self {
        Self { data, at: 0, build: Builder::new(py) }
    }

    /// The whole input as one value.
    pub(super) fn document(&mut self) -> Read<Bound<'py, PyAny>> {
        let value = self.value(0)?;
        self.end()?;
        Ok(value)
    }

    /// The whole input as a body, when it has the shape of protocol 2; otherwise the caller reads
    /// it as a document. `body` is the input.
    pub(super) fn call(&mut self, body: &Bytes) -> Read<Option<Call<'py>>> {
        let parts = match self.data.first() {
            Some(0x92) => 2,
            Some(0x93) => 3,
            _ => return Ok(None),
        };
        self.at = 1;
        let Some(args) = self.array_len()? else { return Ok(None) };
        let mark = self.items(args, 2)?;
        let args = self.build.tuple(self.at, mark)?;
        let Some(pairs) = self.map_len()? else { return Ok(None) };
        let Ok(kwargs) = self.map(pairs, 2)?.cast_into::<PyDict>() else { return Ok(None) };
        let mut embed = None;
        if parts == 3 && &self.data[self.at..] != NO_EMBED {
            embed = Some(self.embed(body)?);
            self.end()?;
        } else if parts == 2 {
            self.end()?;
        }
        Ok(Some(Call { args, kwargs, embed }))
    }

    /// The embed, in which of the rest of a chain only the next step is decoded.
    fn embed(&mut self, body: &Bytes) -> Read<Bound<'py, PyAny>> {
        const CHAIN: &[u8] = b"\xa5chain";
        let start = self.at;
        let Some(pairs) = self.map_len()? else {
            self.at = start;
            return self.value(1);
        };
        let dict = PyDict::new(self.build.py);
        for _ in 0..pairs {
            let key_at = self.at;
            let is_chain = self.data[self.at..].starts_with(CHAIN);
            let key = self.value(2)?;
            let list = if is_chain { List::msgpack(self.data, self.at) } else { None };
            let value = match list {
                Some(list) => self.steps(body, &list)?,
                None => self.value(2)?,
            };
            build::set(key_at, &dict, &key, &value)?;
        }
        Ok(dict.into_any())
    }

    fn steps(&mut self, body: &Bytes, list: &List) -> Read<Bound<'py, PyAny>> {
        self.at = list.last;
        let next = self.value(3)?;
        self.build.steps(list.last, Steps::new(Format::Msgpack, body, list, next))
    }

    fn end(&self) -> Read<()> {
        if self.at < self.data.len() {
            return Err(Unreadable::new(
                self.at,
                "more bytes than the value has, expected the end",
            ));
        }
        Ok(())
    }

    #[inline]
    fn bytes(&mut self, len: usize) -> Read<&'a [u8]> {
        match self.data.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.short(len)),
        }
    }

    #[cold]
    fn short(&self, len: usize) -> Unreadable {
        let left = self.data.len() - self.at;
        Unreadable::new(self.at, format!("the input ends after {left} bytes, expected {len}"))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes as asked for"))
    }

    #[inline]
    fn len8(&mut self) -> Read<usize> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    #[inline]
    fn len16(&mut self) -> Read<usize> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    #[inline]
    fn len32(&mut self) -> Read<usize> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    /// The length of an array that is next, consumed; `None` when something else is next.
    fn array_len(&mut self) -> Read<Option<usize>> {
        let mark = self.array::<1>()?[0];
        Ok(Some(match mark {
            0x90..=0x9f => usize::from(mark & 0x0f),
            0xdc => self.len16()?,
            0xdd => self.len32()?,
            _ => return Ok(None),
        }))
    }

    /// The same for a map.
    fn map_len(&mut self) -> Read<Option<usize>> {
        let mark = self.array::<1>()?[0];
        Ok(Some(match mark {
            0x80..=0x8f => usize::from(mark & 0x0f),
            0xde => self.len16()?,
            0xdf => self.len32()?,
            _ => return Ok(None),
        }))
    }

    fn value(&mut self, depth: usize) -> Read<Bound<'py, PyAny>> {
        let py = self.build.py;
        let mark = self.array::<1>()?[0];
        Ok(match mark {
            0x00..=0x7f => raw::new_int(py, i64::from(mark)),
            0xe0..=0xff => raw::new_int(py, i64::from(mark as i8)),
            0xa0..=0xbf => self.text(usize::from(mark & 0x1f))?,
            0x90..=0x9f => self.list(usize::from(mark & 0x0f), depth + 1)?,
            0x80..=0x8f => self.map(usize::from(mark & 0x0f), depth + 1)?,
            0xc0 => py.None().into_bound(py),
            0xc2 => PyBool::new(py, false).to_owned().into_any(),
            0xc3 => PyBool::new(py, true).to_owned().into_any(),
            0xcb => PyFloat::new(py, f64::from_be_bytes(self.array()?)).into_any(),
            0xca => PyFloat::new(py, f64::from(f32::from_be_bytes(self.array()?))).into_any(),
            0xcc..=0xd3 => self.int(mark)?,
            0xd9 => self.len8().and_then(|len| self.text(len))?,
            0xda => self.len16().and_then(|len| self.text(len))?,
            0xdb => self.len32().and_then(|len| self.text(len))?,
            0xc4 => self.len8().and_then(|len| self.binary(len))?,
            0xc5 => self.len16().and_then(|len| self.binary(len))?,
            0xc6 => self.len32().and_then(|len| self.binary(len))?,
            0xdc => self.len16().and_then(|len| self.list(len, depth + 1))?,
            0xdd => self.len32().and_then(|len| self.list(len, depth + 1))?,
            0xde => self.len16().and_then(|len| self.map(len, depth + 1))?,
            0xdf => self.len32().and_then(|len| self.map(len, depth + 1))?,
            0xc7..=0xc9 | 0xd4..=0xd8 => self.extension(mark)?,
            0xc1 => {
                return Err(Unreadable::new(
                    self.at - 1,
                    "the byte `c1`, which MessagePack never uses",
                ));
            }
        })
    }

    fn int(&mut self, mark: u8) -> Read<Bound<'py, PyAny>> {
        let py = self.build.py;
        let value = match mark {
            0xcc => i64::from(u8::from_be_bytes(self.array()?)),
            0xcd => i64::from(u16::from_be_bytes(self.array()?)),
            0xce => i64::from(u32::from_be_bytes(self.array()?)),
            0xcf => {
                let value = u64::from_be_bytes(self.array()?);
                match i64::try_from(value) {
                    Ok(value) => value,
                    Err(_) => {
                        return value
                            .into_pyobject(py)
                            .map(Bound::into_any)
                            .map_err(|never| match never {});
                    }
                }
            }
            0xd0 => i64::from(i8::from_be_bytes(self.array()?)),
            0xd1 => i64::from(i16::from_be_bytes(self.array()?)),
            0xd2 => i64::from(i32::from_be_bytes(self.array()?)),
            _ => i64::from_be_bytes(self.array()?),
        };
        Ok(raw::new_int(py, value))
    }

    #[inline]
    fn text(&mut self, len: usize) -> Read<Bound<'py, PyAny>> {
        let at = self.at;
        let utf8 = self.bytes(len)?;
        self.build.text(at, utf8)
    }

    fn binary(&mut self, len: usize) -> Read<Bound<'py, PyAny>> {
        Ok(PyBytes::new(self.build.py, self.bytes(len)?).into_any())
    }

    fn list(&mut self, len: usize, depth: usize) -> Read<Bound<'py, PyAny>> {
        let mark = self.items(len, depth)?;
        self.build.list(self.at, mark)
    }

    /// The items of an array, on the stack; returns where they begin.
    fn items(&mut self, len: usize, depth: usize) -> Read<usize> {
        self.level(depth)?;
        let mark = self.build.stack.len();
        for _ in 0..len {
            let item = self.value(depth)?;
            self.build.stack.push(item);
        }
        Ok(mark)
    }

    fn map(&mut self, len: usize, depth: usize) -> Read<Bound<'py, PyAny>> {
        self.level(depth)?;
        let start = self.at;
        let dict = PyDict::new(self.build.py);
        let mut marked = false;
        for _ in 0..len {
            let key_at = self.at;
            let key = if let Some(mark @ 0xa0..=0xbf) = self.data.get(self.at) {
                self.at += 1;
                let utf8 = self.bytes(usize::from(mark & 0x1f))?;
                marked |= utf8 == b"__type__";
                self.build.key(key_at, utf8)?
            } else {
                // A longer header can spell the same key; `finish` looks again.
                marked = true;
                self.value(depth)?
            };
            let value = self.value(depth)?;
            build::set(key_at, &dict, &key, &value)?;
        }
        build::finish(start, dict, marked)
    }

    fn level(&self, depth: usize) -> Read<()> {
        if depth > DEPTH {
            return Err(Unreadable::new(self.at, format!("nested deeper than {DEPTH} levels")));
        }
        Ok(())
    }

    /// An extension: a timestamp, in its three sizes, or an error.
    #[cold]
    fn extension(&mut self, mark: u8) -> Read<Bound<'py, PyAny>> {
        let at = self.at - 1;
        let len = match mark {
            0xc7 => self.len8()?,
            0xc8 => self.len16()?,
            0xc9 => self.len32()?,
            _ => 1 << (mark - 0xd4),
        };
        let kind = self.array::<1>()?[0] as i8;
        let data = self.bytes(len)?;
        let stamp = match (kind, data.len()) {
            (-1, 4) => data.try_into().ok().map(|b| (i64::from(u32::from_be_bytes(b)), 0)),
            (-1, 8) => data.try_into().ok().map(|b| {
                let word = u64::from_be_bytes(b);
                ((word & 0x3_ffff_ffff) as i64, (word >> 34) as u32)
            }),
            (-1, 12) => data.split_first_chunk::<4>().and_then(|(nanos, secs)| {
                Some((i64::from_be_bytes(secs.try_into().ok()?), u32::from_be_bytes(*nanos)))
            }),
            _ => None,
        };
        let Some((seconds, nanos)) = stamp else {
            return Err(Unreadable::new(
                at,
                format!("extension type `{kind}` of {len} bytes, expected none but timestamps"),
            ));
        };
        types::timestamp(self.build.py, seconds, nanos / 1000)
            .map_err(|e| Unreadable::raised(at, "not a timestamp", e))
    }
}
