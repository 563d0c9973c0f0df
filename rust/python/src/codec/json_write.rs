//! JSON as Python's `json.dumps` writes it, byte for byte: `", "` and `": "`, everything beyond
//! printable ASCII escaped, the shortest digits of a float, `NaN` and the infinities by name.
//!
//! Bytes become kombu's typed map. Keys that are numbers, bools or None become text, as in `json`.
//! Lone surrogates survive as their escapes, which is why the writer decodes WTF-8 rather than
//! UTF-8.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pyo3::prelude::*;

use super::{
    Format,
    fault::{Fault, Written},
    raw::{self, Kind},
    types, walk,
    walk::Sink,
};

/// Writes JSON to the end of a buffer.
pub(super) struct Json<'b>(pub(super) &'b mut Vec<u8>);

/// For each byte: 0 when it stands for itself, 1 when it begins an escape of its own, otherwise the
/// letter of its short escape.
static ESCAPE: [u8; 256] = {
    let mut table = [1u8; 256];
    let mut b = 0x20;
    while b < 0x7f {
        table[b] = 0;
        b += 1;
    }
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table
};

impl Sink for Json<'_> {
    const FORMAT: Format = Format::Json;

    #[inline]
    fn null(&mut self) {
        self.0.extend_from_slice(b"null");
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    #[inline]
    fn int(&mut self, value: i64) {
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn big_int(&mut self, value: &Bound<'_, PyAny>) -> Written {
        let digits = types::digits(value).map_err(Fault::raised)?;
        self.0.extend_from_slice(raw::utf8(digits.as_borrowed()).unwrap_or_default());
        Ok(())
    }

    fn float(&mut self, value: f64) {
        float(self.0, value);
    }

    #[inline]
    fn text(&mut self, utf8: &[u8]) -> Written {
        text(self.0, utf8);
        Ok(())
    }

    fn surrogates(&mut self, string: &Bound<'_, PyAny>) -> Written {
        let wtf8 = raw::surrogates_of(string).map_err(Fault::raised)?;
        text(self.0, raw::bytes(wtf8.as_borrowed()));
        Ok(())
    }

    fn bytes(&mut self, value: &[u8]) -> Written {
        if std::str::from_utf8(value).is_ok() {
            walk::open_typed(self, "bytes")?;
            text(self.0, value);
        } else {
            walk::open_typed(self, "base64")?;
            text(self.0, STANDARD.encode(value).as_bytes());
        }
        self.map_end();
        Ok(())
    }

    #[inline]
    fn list(&mut self, _len: usize) -> Written {
        self.0.push(b'[');
        Ok(())
    }

    #[inline]
    fn before_item(&mut self, index: usize) {
        if index > 0 {
            self.0.extend_from_slice(b", ");
        }
    }

    fn items(&mut self, encoded: &[u8]) {
        self.0.extend_from_slice(encoded);
    }

    #[inline]
    fn list_end(&mut self) {
        self.0.push(b']');
    }

    #[inline]
    fn map(&mut self, _len: usize) -> Written {
        self.0.push(b'{');
        Ok(())
    }

    fn plain_key(&mut self, key: Borrowed<'_, '_, PyAny>, kind: Kind) -> Written {
        self.0.push(b'"');
        match kind {
            Kind::Float => self.float(raw::float(key)),
            Kind::True => self.bool(true),
            Kind::False => self.bool(false),
            Kind::Int => match raw::int(key) {
                Some(number) => self.int(number),
                None => self.big_int(&key.to_owned())?,
            },
            _ => self.null(),
        }
        self.0.push(b'"');
        Ok(())
    }

    #[inline]
    fn after_key(&mut self) {
        self.0.extend_from_slice(b": ");
    }

    #[inline]
    fn map_end(&mut self) {
        self.0.push(b'}');
    }
}

/// Writes a string with its quotes. `wtf8` is UTF-8 in which lone surrogates may stand as three
/// bytes.
fn text(out: &mut Vec<u8>, wtf8: &[u8]) {
    out.reserve(wtf8.len() + 2);
    out.push(b'"');
    let mut rest = wtf8;
    while let Some(plain) = rest.iter().position(|b| ESCAPE[*b as usize] != 0) {
        out.extend_from_slice(&rest[..plain]);
        let byte = rest[plain];
        let mut used = 1;
        match ESCAPE[byte as usize] {
            1 if byte < 0x80 => escape(out, u16::from(byte)),
            1 => used = beyond_ascii(out, &rest[plain..]),
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        rest = &rest[plain + used..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Escapes the character at the head of `wtf8`, whose form the interpreter vouches for; returns its
/// length.
fn beyond_ascii(out: &mut Vec<u8>, wtf8: &[u8]) -> usize {
    let bits = |i: usize| u32::from(wtf8[i] & 0x3f);
    let (len, code) = match wtf8[0] {
        0xc0..=0xdf => (2, u32::from(wtf8[0] & 0x1f) << 6 | bits(1)),
        0xe0..=0xef => (3, u32::from(wtf8[0] & 0x0f) << 12 | bits(1) << 6 | bits(2)),
        _ => (4, u32::from(wtf8[0] & 0x07) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3)),
    };
    if let Some(above) = code.checked_sub(0x1_0000) {
        escape(out, 0xd800 | (above >> 10) as u16);
        escape(out, 0xdc00 | (above & 0x3ff) as u16);
    } else {
        escape(out, code as u16);
    }
    len
}

fn escape(out: &mut Vec<u8>, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u16| HEX[(unit >> shift & 0xf) as usize];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// Writes a float as `float.__repr__` does. The digits are ryu's, which are the shortest too; the
/// two differ in where they begin to use an exponent on the small side, and in how they write it.
fn float(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        let name: &[u8] = if value.is_nan() {
            b"NaN"
        } else if value > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        };
        out.extend_from_slice(name);
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value);
    let unsigned = shortest.strip_prefix('-').unwrap_or(shortest);
    if let Some((digits, exponent)) = shortest.split_once('e') {
        out.extend_from_slice(digits.as_bytes());
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => (b'-', exponent),
            None => (b'+', exponent),
        };
        out.extend_from_slice(&[b'e', sign]);
        if exponent.len() < 2 {
            out.push(b'0');
        }
        out.extend_from_slice(exponent.as_bytes());
    } else if let Some(digits) = unsigned.strip_prefix("0.0000") {
        if value < 0.0 {
            out.push(b'-');
        }
        let (first, more) = digits.split_at(1);
        out.extend_from_slice(first.as_bytes());
        if !more.is_empty() {
            out.push(b'.');
            out.extend_from_slice(more.as_bytes());
        }
        out.extend_from_slice(b"e-05");
    } else {
        out.extend_from_slice(shortest.as_bytes());
    }
}
