//! The numbers of JSON as Python reads them: integers of any size, floats by their nearest double,
//! `-Infinity`.
//!
//! An integer of up to eighteen digits, which is nearly every one, is summed up while it is
//! scanned. Longer ones are parsed again, beyond 64 bits by Python itself, whose limit of digits is
//! then the limit here.

use pyo3::{prelude::*, types::PyFloat};

use super::{
    fault::{Read, Unreadable},
    json_read::Reader,
    raw, types,
};

impl<'py> Reader<'_, 'py> {
    /// A number, at its first byte.
    pub(super) fn number(&mut self, negative: bool) -> Read<Bound<'py, PyAny>> {
        let py = self.build.py;
        let start = self.at;
        self.at += usize::from(negative);
        let first = self.at;
        let mut small: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            small = small.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - first;
        if digits == 0 {
            if negative && self.data[self.at..].starts_with(b"Infinity") {
                self.at += b"Infinity".len();
                return Ok(PyFloat::new(py, f64::NEG_INFINITY).into_any());
            }
            return Err(self.expected("a digit"));
        }
        if digits > 1 && self.data[first] == b'0' {
            self.at = first + 1;
            return Err(self.expected("no digit after a leading `0`"));
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return self.float(start);
        }
        // Eighteen digits always fit.
        if digits <= 18 {
            return Ok(raw::new_int(py, if negative { -small } else { small }));
        }
        let text = std::str::from_utf8(&self.data[start..self.at]).expect("digits are ASCII");
        match text.parse::<i64>() {
            Ok(number) => Ok(raw::new_int(py, number)),
            Err(_) => {
                types::int_of(py, text).map_err(|e| Unreadable::raised(start, "not an int", e))
            }
        }
    }

    /// A float, at its `.` or exponent.
    fn float(&mut self, start: usize) -> Read<Bound<'py, PyAny>> {
        if self.take(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.data[start..self.at]).expect("digits are ASCII");
        let value = text.parse().map_err(|_| Unreadable::new(start, "not a float"))?;
        Ok(PyFloat::new(self.build.py, value).into_any())
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }
}
