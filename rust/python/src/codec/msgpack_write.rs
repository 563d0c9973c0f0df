//! MessagePack, the compact body: the smallest form of every length and number, bytes as they are,
//! floats in 64 bits.
//!
//! Tuples become arrays. Keys keep their type where MessagePack has it (a stock kombu reader takes
//! only str and bytes keys; taskcore's takes any). Integers beyond 64 bits, which MessagePack does
//! not have, become a typed map of taskcore's own.

use pyo3::prelude::*;

use super::{
    Format,
    fault::{Fault, Why, Written},
    raw::{self, Kind},
    types, walk,
    walk::Sink,
};

/// Writes MessagePack to the end of a buffer.
pub(super) struct Msgpack<'b>(pub(super) &'b mut Vec<u8>);

impl Msgpack<'_> {
    fn header(&mut self, len: usize, short: (u8, usize), marks: [Option<u8>; 3]) -> Written {
        let (fix, below) = short;
        if len < below {
            self.0.push(fix | len as u8);
            return Ok(());
        }
        match marks {
            [Some(mark), _, _] if len <= 0xff => self.0.extend_from_slice(&[mark, len as u8]),
            [_, Some(mark), _] if len <= 0xffff => {
                self.0.push(mark);
                self.0.extend_from_slice(&(len as u16).to_be_bytes());
            }
            [_, _, Some(mark)] => {
                let len = u32::try_from(len).map_err(|_| Fault::new(Why::Size))?;
                self.0.push(mark);
                self.0.extend_from_slice(&len.to_be_bytes());
            }
            _ => unreachable!("every header has a 32 bit form"),
        }
        Ok(())
    }

    fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.0.push(value as u8),
            0x80..=0xff => self.0.extend_from_slice(&[0xcc, value as u8]),
            0x100..=0xffff => self.marked(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.marked(0xce, &(value as u32).to_be_bytes()),
            _ => self.marked(0xcf, &value.to_be_bytes()),
        }
    }

    #[inline]
    fn marked(&mut self, mark: u8, bytes: &[u8]) {
        self.0.push(mark);
        self.0.extend_from_slice(bytes);
    }
}

impl Sink for Msgpack<'_> {
    const FORMAT: Format = Format::Msgpack;

    #[inline]
    fn null(&mut self) {
        self.0.push(0xc0);
    }

    #[inline]
    fn bool(&mut self, value: bool) {
        self.0.push(if value { 0xc3 } else { 0xc2 });
    }

    #[inline]
    fn int(&mut self, value: i64) {
        match value {
            0.. => self.uint(value as u64),
            -0x20..=-1 => self.0.push(value as u8),
            -0x80..=-0x21 => self.0.extend_from_slice(&[0xd0, value as u8]),
            -0x8000..=-0x81 => self.marked(0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.marked(0xd2, &(value as i32).to_be_bytes()),
            _ => self.marked(0xd3, &value.to_be_bytes()),
        }
    }

    fn big_int(&mut self, value: &Bound<'_, PyAny>) -> Written {
        if let Some(number) = raw::uint(value.as_borrowed()) {
            self.uint(number);
            return Ok(());
        }
        let digits = types::digits(value).map_err(Fault::raised)?;
        walk::typed(self, "int", digits.as_borrowed())
    }

    #[inline]
    fn float(&mut self, value: f64) {
        self.marked(0xcb, &value.to_be_bytes());
    }

    #[inline]
    fn text(&mut self, utf8: &[u8]) -> Written {
        self.header(utf8.len(), (0xa0, 32), [Some(0xd9), Some(0xda), Some(0xdb)])?;
        self.0.extend_from_slice(utf8);
        Ok(())
    }

    fn surrogates(&mut self, _text: &Bound<'_, PyAny>) -> Written {
        Err(Fault::new(Why::Surrogate))
    }

    fn bytes(&mut self, value: &[u8]) -> Written {
        self.header(value.len(), (0, 0), [Some(0xc4), Some(0xc5), Some(0xc6)])?;
        self.0.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn list(&mut self, len: usize) -> Written {
        self.header(len, (0x90, 16), [None, Some(0xdc), Some(0xdd)])
    }

    #[inline]
    fn before_item(&mut self, _index: usize) {}

    fn items(&mut self, encoded: &[u8]) {
        self.0.extend_from_slice(encoded);
    }

    #[inline]
    fn list_end(&mut self) {}

    #[inline]
    fn map(&mut self, len: usize) -> Written {
        self.header(len, (0x80, 16), [None, Some(0xde), Some(0xdf)])
    }

    fn plain_key(&mut self, key: Borrowed<'_, '_, PyAny>, kind: Kind) -> Written {
        match kind {
            Kind::Float => self.float(raw::float(key)),
            Kind::True => self.bool(true),
            Kind::False => self.bool(false),
            Kind::Int => match (raw::int(key), raw::uint(key)) {
                (Some(number), _) => self.int(number),
                (None, Some(number)) => self.uint(number),
                // Its typed map could not be a key.
                (None, None) => return Err(Fault::new(Why::Key("int beyond 64 bits".to_owned()))),
            },
            _ => self.null(),
        }
        Ok(())
    }

    #[inline]
    fn after_key(&mut self) {}

    #[inline]
    fn map_end(&mut self) {}
}
