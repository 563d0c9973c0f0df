//! JSON as Python's `json` module writes it, and a slicer for JSON text that somebody else will
//! parse.
//!
//! Writing: `", "` and `": "` between things, everything but printable ASCII escaped, so that what
//! taskcore stores and sends is byte for byte what a stock Celery would. Slicing: finding where the
//! values of a body begin and end without building them. The slicer follows strings and brackets
//! only; it leaves judging the text to the real parser, which in return lets it take Python's `NaN`
//! and any depth.

use std::{borrow::Cow, ops::Range};

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// Appends a string literal.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if PLAIN[usize::from(byte)] || at < done {
            continue;
        }
        out.extend_from_slice(&bytes[done..at]);
        let c = text[at..].chars().next().unwrap_or_default();
        write_escape(out, c);
        done = at + c.len_utf8();
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

/// Which bytes stand for themselves: printable ASCII except the quote and the backslash.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

fn write_escape(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    out.push(b"0123456789abcdef"[usize::from(*unit >> shift & 0xf)]);
                }
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a whole number.
pub fn write_int(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends any value.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => match n.as_i64() {
            Some(n) => write_int(out, n),
            None => out.extend_from_slice(n.to_string().as_bytes()),
        },
        Value::String(text) => write_str(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.extend_from_slice(b", ");
                }
                write_value(out, item);
            }
            out.push(b']');
        }
        Value::Object(entries) => write_map(out, entries),
    }
}

/// Appends a map.
pub fn write_map(out: &mut Vec<u8>, entries: &Map<String, Value>) {
    out.push(b'{');
    for (n, (key, value)) in entries.iter().enumerate() {
        if n > 0 {
            out.extend_from_slice(b", ");
        }
        write_str(out, key);
        out.extend_from_slice(b": ");
        write_value(out, value);
    }
    out.push(b'}');
}

/// A text with null for the numbers that JSON does not have and Python writes all the same (`NaN`,
/// `Infinity`, `-Infinity`); `None` when there are none of them.
pub(super) fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
    let mut slicer = Slicer { text, pos: 0, close: b'}' };
    let mut out = Vec::new();
    let mut done = 0;
    while let Some(&byte) = text.get(slicer.pos) {
        let start = slicer.pos;
        match byte {
            b'"' => slicer.string().ok()?,
            b'N' | b'I' | b'-' => slicer.scalar(),
            _ => slicer.pos += 1,
        }
        if matches!(&text[start..slicer.pos], b"NaN" | b"Infinity" | b"-Infinity") {
            out.extend_from_slice(&text[done..start]);
            out.extend_from_slice(b"null");
            done = slicer.pos;
        }
    }
    out.extend_from_slice(&text[done..]);
    (done > 0).then_some(out)
}

/// The texts of the items of a JSON array.
pub(super) fn items(text: &[u8]) -> Result<Vec<&[u8]>> {
    let mut slicer = Slicer::open(text, b'[', b']')?;
    let mut out = Vec::new();
    while slicer.more(out.is_empty())? {
        out.push(slicer.value()?);
    }
    slicer.end()?;
    Ok(out)
}

/// Where each item of the JSON array at the beginning of `text` stands; behind the array.
pub(super) fn walk(text: &[u8], mut item: impl FnMut(Range<usize>)) -> Result<usize> {
    let mut slicer = Slicer::open(text, b'[', b']')?;
    let mut first = true;
    while slicer.more(first)? {
        let length = slicer.value()?.len();
        item(slicer.pos - length..slicer.pos);
        first = false;
    }
    Ok(slicer.pos)
}

/// The keys of a JSON object and the texts of its values, in order.
///
/// # Errors
/// `Decode` when the text is no object.
pub fn entries(text: &[u8]) -> Result<Vec<(Cow<'_, str>, &[u8])>> {
    let mut slicer = Slicer::open(text, b'{', b'}')?;
    let mut out = Vec::new();
    while slicer.more(out.is_empty())? {
        let key: Key<'_> = serde_json::from_slice(slicer.value()?).map_err(|e| {
            Error::caused(ErrorKind::Decode, "a key of a JSON object is not a string", e)
        })?;
        if slicer.peek() != Some(b':') {
            return Err(slicer.bad("`:`"));
        }
        slicer.pos += 1;
        out.push((key.0, slicer.value()?));
    }
    slicer.end()?;
    Ok(out)
}

/// How long the JSON value at the beginning of `text` is, NaN and Infinity included.
pub(crate) fn value_length(text: &[u8]) -> Option<usize> {
    let mut slicer = Slicer { text, pos: 0, close: b']' };
    slicer.value().ok()?;
    Some(slicer.pos)
}

#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Walks the outermost array or object of a text.
struct Slicer<'a> {
    text: &'a [u8],
    pos: usize,
    close: u8,
}

impl<'a> Slicer<'a> {
    fn open(text: &'a [u8], open: u8, close: u8) -> Result<Self> {
        let mut slicer = Self { text, pos: 0, close };
        if slicer.peek() != Some(open) {
            return Err(slicer.bad(if open == b'[' { "`[`" } else { "`{`" }));
        }
        slicer.pos += 1;
        Ok(slicer)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.pos) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.pos += 1;
        }
        None
    }

    /// Whether another entry follows; steps over the comma or the closing bracket.
    fn more(&mut self, first: bool) -> Result<bool> {
        match self.peek() {
            Some(byte) if byte == self.close => {
                self.pos += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.pos += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => Err(self.bad("`,` or the closing bracket")),
        }
    }

    fn value(&mut self) -> Result<&'a [u8]> {
        let first = self.peek();
        let start = self.pos;
        match first {
            Some(b'"') => self.string()?,
            Some(b'[' | b'{') => self.container()?,
            _ => self.scalar(),
        }
        if self.pos == start {
            return Err(self.bad("a value"));
        }
        Ok(&self.text[start..self.pos])
    }

    fn string(&mut self) -> Result<()> {
        self.pos += 1;
        while let Some(&byte) = self.text.get(self.pos) {
            match byte {
                b'"' => {
                    self.pos += 1;
                    return Ok(());
                }
                b'\\' => self.pos += 2,
                _ => self.pos += 1,
            }
        }
        Err(self.bad("the end of a string"))
    }

    fn container(&mut self) -> Result<()> {
        let mut depth = 0_usize;
        while let Some(&byte) = self.text.get(self.pos) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.pos += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.bad("a closing bracket"))
    }

    fn scalar(&mut self) {
        while let Some(&byte) = self.text.get(self.pos) {
            if !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.') {
                break;
            }
            self.pos += 1;
        }
    }

    fn end(&mut self) -> Result<()> {
        if self.peek().is_some() {
            return Err(self.bad("the end of the text"));
        }
        Ok(())
    }

    #[cold]
    fn bad(&self, wanted: &str) -> Error {
        let at = self.pos.min(self.text.len());
        Error::new(
            ErrorKind::Decode,
            format!("not valid JSON: {wanted} was expected at offset `{at}`"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: &Value) -> String {
        let mut out = Vec::new();
        write_value(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_what_python_writes() {
        let value = serde_json::json!({"a": [1, -2, 1.5, true, null], "é\u{1F600}\u{7f}\n\"\\/": {}, "": []});
        assert_eq!(
            written(&value),
            r#"{"a": [1, -2, 1.5, true, null], "\u00e9\ud83d\ude00\u007f\n\"\\/": {}, "": []}"#
        );
        assert_eq!(written(&u64::MAX.into()), "18446744073709551615");
    }

    #[test]
    fn slices_what_it_does_not_understand() {
        let text = br#" [NaN, [-Infinity, "]\"["], {"a": {"b": []}}, "x", 1e-5 ] "#;
        let found: Vec<_> =
            items(text).unwrap().into_iter().map(|i| str::from_utf8(i).unwrap()).collect();
        assert_eq!(
            found,
            ["NaN", r#"[-Infinity, "]\"["]"#, r#"{"a": {"b": []}}"#, r#""x""#, "1e-5"]
        );
        assert!(items(b"[]").unwrap().is_empty());
        assert!(entries(b" { } ").unwrap().is_empty());
        let found = entries(br#"{"a\u0062": 1, "c":[2]}"#).unwrap();
        assert_eq!(found, [("ab".into(), b"1".as_slice()), ("c".into(), b"[2]")]);
    }

    #[test]
    fn numbers_that_json_does_not_have_become_null() {
        for (text, expected) in [
            (
                r#"{"a": NaN, "NaN": [-Infinity,Infinity]}"#,
                Some(r#"{"a": null, "NaN": [null,null]}"#),
            ),
            (r#"{"a": "NaN \" Infinity", "b": -1}"#, None),
            (r#"{"a": NaNa, "b": "cut"#, None),
        ] {
            let found = without_nan(text.as_bytes()).map(|t| String::from_utf8(t).unwrap());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_cut_off_or_out_of_place() {
        for text in [
            "", "[", "[1", "[1,", "[1,]", "[,]", "[1 2]", "[\"", "[\"\\", "[[]", "[]]", "[] x",
            "{}", "7",
        ] {
            assert_eq!(items(text.as_bytes()).unwrap_err().kind(), ErrorKind::Decode, "{text}");
        }
        for text in ["{", "{1: 2}", "{\"a\"}", "{\"a\" 1}", "{\"a\":}", "{\"a\":1,}", "[]"] {
            assert_eq!(entries(text.as_bytes()).unwrap_err().kind(), ErrorKind::Decode, "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let text = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
        assert_eq!(items(&text).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn a_parser_reads_what_was_written(text: String) {
            let line = written(&Value::String(text.clone()));
            prop_assert!(line.is_ascii());
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }

        #[test]
        fn slicing_never_panics(text in r#"[\[\]{}",:\\a1 ]{0,24}"#) {
            let _ = (items(text.as_bytes()), entries(text.as_bytes()));
        }
    }
}
