//! JSON as Python's `json.loads` reads it, straight into Python objects.
//!
//! The grammar is Python's: `NaN`, `Infinity` and `-Infinity` are numbers, integers have any size,
//! an escaped half of a surrogate pair is a character, the last of two equal keys wins. Control
//! characters inside strings, trailing bytes, invalid UTF-8 and more than `DEPTH` levels are errors
//! that say at which byte. UTF-8 is checked once for the whole input, so that positions inside it
//! can be found by looking at single bytes.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict, PyFloat},
};
use taskcore::message::List;

use super::{
    DEPTH, Format, Steps,
    body::Call,
    build::{self, Builder},
    fault::{Read, Unreadable},
    raw,
};

/// Reads one JSON text.
pub(super) struct Reader<'a, 'py> {
    pub(super) data: &'a [u8],
    pub(super) at: usize,
    pub(super) build: Builder<'py>,
    /// Strings with escapes are put together here.
    scratch: Vec<u8>,
}

/// Bytes that end a run of plain characters inside a string.
static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 0x20 {
        table[b] = true;
        b += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// How the embed of a message without any callbacks looks when Celery wrote it, and the end of the
/// body.
const NO_EMBED: &[u8] = br#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;

impl<'a, 'py> Reader<'a, 'py> {
    pub(super) fn new(py: Python<'py>, data: &'a [u8]) -> Read<Self> {
        if let Err(error) = std::str::from_utf8(data) {
            return Err(Unreadable::new(error.valid_up_to(), "invalid UTF-8"));
        }
        Ok(Self { data, at: 0, build: Builder::new(py), scratch: Vec::new() })
    }

    /// The whole input as one value.
    pub(super) fn document(&mut self) -> Read<Bound<'py, PyAny>> {
        self.blank();
        let value = self.value(0)?;
        self.end()?;
        Ok(value)
    }

    /// The whole input as a body, when it has the shape of protocol 2; otherwise the caller reads
    /// it as a document. `body` is the input.
    pub(super) fn call(&mut self, body: &Bytes) -> Read<Option<Call<'py>>> {
        self.blank();
        if !self.take(b'[') || !self.after_blank(b'[') {
            return Ok(None);
        }
        let mark = self.items(2)?;
        let args = self.build.tuple(self.at, mark)?;
        if !self.after_blank(b',') || !self.after_blank(b'{') {
            return Ok(None);
        }
        let Ok(kwargs) = self.object(2)?.cast_into::<PyDict>() else { return Ok(None) };
        let mut embed = None;
        if self.after_blank(b',') {
            self.blank();
            if &self.data[self.at..] == NO_EMBED {
                return Ok(Some(Call { args, kwargs, embed }));
            }
            embed = Some(self.embed(body)?);
        }
        if !self.after_blank(b']') {
            return Ok(None);
        }
        self.end()?;
        Ok(Some(Call { args, kwargs, embed }))
    }

    /// The embed, in which of the rest of a chain only the next step is decoded.
    fn embed(&mut self, body: &Bytes) -> Read<Bound<'py, PyAny>> {
        if self.peek() != Some(b'{') {
            return self.value(1);
        }
        self.at += 1;
        let dict = PyDict::new(self.build.py);
        if self.after_blank(b'}') {
            return Ok(dict.into_any());
        }
        loop {
            if !self.take(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key_at = self.at;
            let key = self.key()?;
            if !self.after_blank(b':') {
                return Err(self.expected("`:`"));
            }
            self.blank();
            let list = if self.data[key_at..].starts_with(b"chain\"") {
                List::json(self.data, self.at)
            } else {
                None
            };
            let value = match list {
                Some(list) => self.steps(body, &list)?,
                None => self.value(2)?,
            };
            build::set(key_at, &dict, &key, &value)?;
            self.blank();
            if self.take(b'}') {
                return Ok(dict.into_any());
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `}`"));
            }
            self.blank();
        }
    }

    fn steps(&mut self, body: &Bytes, list: &List) -> Read<Bound<'py, PyAny>> {
        self.at = list.last;
        let next = self.value(3)?;
        if self.at != list.items.end {
            return Err(self.expected("`,` or `]`"));
        }
        self.at = list.end;
        self.build.steps(list.last, Steps::new(Format::Json, body, list, next))
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    #[inline]
    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn after_blank(&mut self, byte: u8) -> bool {
        self.blank();
        self.take(byte)
    }

    fn end(&mut self) -> Read<()> {
        self.blank();
        if self.at < self.data.len() {
            return Err(self.expected("the end of the input"));
        }
        Ok(())
    }

    #[cold]
    pub(super) fn expected(&self, what: &str) -> Unreadable {
        let rest = String::from_utf8_lossy(&self.data[self.at..]);
        match rest.chars().next() {
            Some(c) => {
                Unreadable::new(self.at, format!("found `{}`, expected {what}", c.escape_debug()))
            }
            None => Unreadable::new(self.at, format!("the input ends, expected {what}")),
        }
    }

    /// A value whose first byte is next; `depth` containers are around it.
    fn value(&mut self, depth: usize) -> Read<Bound<'py, PyAny>> {
        let py = self.build.py;
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string()
            }
            Some(b'0'..=b'9') => self.number(false),
            Some(b'-') => self.number(true),
            Some(b'[') => {
                self.at += 1;
                let mark = self.items(depth + 1)?;
                self.build.list(self.at, mark)
            }
            Some(b'{') => {
                self.at += 1;
                self.object(depth + 1)
            }
            Some(b'n') => self.word(b"null", |_| py.None().into_bound(py)),
            Some(b't') => self.word(b"true", |_| PyBool::new(py, true).to_owned().into_any()),
            Some(b'f') => self.word(b"false", |_| PyBool::new(py, false).to_owned().into_any()),
            Some(b'N') => self.word(b"NaN", |_| PyFloat::new(py, f64::NAN).into_any()),
            Some(b'I') => self.word(b"Infinity", |_| PyFloat::new(py, f64::INFINITY).into_any()),
            _ => Err(self.expected("a value")),
        }
    }

    #[inline]
    fn word(
        &mut self,
        word: &[u8],
        make: impl FnOnce(Python<'py>) -> Bound<'py, PyAny>,
    ) -> Read<Bound<'py, PyAny>> {
        if !self.data[self.at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(make(self.build.py))
    }

    /// The items of a list up to its end, on the stack; returns where they begin.
    fn items(&mut self, depth: usize) -> Read<usize> {
        self.level(depth)?;
        let mark = self.build.stack.len();
        if self.after_blank(b']') {
            return Ok(mark);
        }
        loop {
            let item = self.value(depth)?;
            self.build.stack.push(item);
            self.blank();
            if self.take(b']') {
                return Ok(mark);
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `]`"));
            }
            self.blank();
        }
    }

    fn object(&mut self, depth: usize) -> Read<Bound<'py, PyAny>> {
        self.level(depth)?;
        let start = self.at;
        let dict = PyDict::new(self.build.py);
        let mut marked = false;
        if self.after_blank(b'}') {
            return Ok(dict.into_any());
        }
        loop {
            if !self.take(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key_at = self.at;
            let key = self.key()?;
            // An escape can spell the same key; `finish` looks again.
            marked |= self.data[key_at..].starts_with(b"__type__\"") || self.data[key_at] == b'\\';
            if !self.after_blank(b':') {
                return Err(self.expected("`:`"));
            }
            self.blank();
            let value = self.value(depth)?;
            build::set(key_at, &dict, &key, &value)?;
            self.blank();
            if self.take(b'}') {
                return build::finish(start, dict, marked);
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `}`"));
            }
            self.blank();
        }
    }

    fn level(&self, depth: usize) -> Read<()> {
        if depth > DEPTH {
            return Err(Unreadable::new(self.at, format!("nested deeper than {DEPTH} levels")));
        }
        Ok(())
    }

    /// A string after its opening quote.
    #[inline]
    fn string(&mut self) -> Read<Bound<'py, PyAny>> {
        let start = self.at;
        match self.plain() {
            Some(utf8) => self.build.text(start, utf8),
            None => self.escaped(),
        }
    }

    #[inline]
    fn key(&mut self) -> Read<Bound<'py, PyAny>> {
        let start = self.at;
        match self.plain() {
            Some(utf8) => self.build.key(start, utf8),
            None => self.escaped(),
        }
    }

    /// A string without escapes, its closing quote consumed; or `None`, with nothing consumed.
    #[inline]
    fn plain(&mut self) -> Option<&'a [u8]> {
        let rest = &self.data[self.at..];
        let len = rest.iter().position(|b| SPECIAL[*b as usize])?;
        if rest[len] != b'"' {
            return None;
        }
        self.at += len + 1;
        Some(&rest[..len])
    }

    fn escaped(&mut self) -> Read<Bound<'py, PyAny>> {
        let start = self.at;
        self.scratch.clear();
        let mut halves = false;
        loop {
            let rest = &self.data[self.at..];
            let Some(len) = rest.iter().position(|b| SPECIAL[*b as usize]) else {
                return Err(Unreadable::new(start, "a string without an end"));
            };
            self.scratch.extend_from_slice(&rest[..len]);
            self.at += len + 1;
            match rest[len] {
                b'"' => break,
                b'\\' => halves |= self.escape()?,
                _ => {
                    self.at -= 1;
                    return Err(Unreadable::new(
                        self.at,
                        "a control character inside a string, expected its escape",
                    ));
                }
            }
        }
        if halves {
            raw::text_with_surrogates(self.build.py, &self.scratch)
                .map_err(|e| Unreadable::raised(start, "not a string", e))
        } else {
            self.build.text(start, &self.scratch)
        }
    }

    /// An escape after its backslash; whether it was half of a surrogate pair, alone.
    fn escape(&mut self) -> Read<bool> {
        let byte = self.peek();
        self.at += 1;
        let plain = match byte {
            Some(c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.expected(r#"one of `"\/bfnrtu` after a backslash"#));
            }
        };
        self.scratch.push(plain);
        Ok(false)
    }

    fn unicode(&mut self) -> Read<bool> {
        let first = self.hex()?;
        let mut code = u32::from(first);
        if (0xd800..0xdc00).contains(&first) && self.data[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                code = 0x1_0000 + ((u32::from(first) & 0x3ff) << 10 | u32::from(second) & 0x3ff);
            } else {
                self.at = back;
            }
        }
        if let Some(c) = char::from_u32(code) {
            self.scratch.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(false);
        }
        let six = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
        self.scratch.extend_from_slice(&[0xe0 | (code >> 12) as u8, six(6), six(0)]);
        Ok(true)
    }

    fn hex(&mut self) -> Read<u16> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.expected("four hexadecimal digits after `\\u`"));
            };
            code = code << 4 | digit as u16;
            self.at += 1;
        }
        Ok(code)
    }
}
