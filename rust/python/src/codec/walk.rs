//! The walk over a Python value, common to both encodings: what comes in which order, how deep, and
//! what an unusual object is written as. The encodings supply the bytes through [`Sink`].
//!
//! Order and meaning follow Python's `json`: subclasses of str, int and float count as their base,
//! a dict subclass is asked for its `items()`, a tuple is a list. The length of a container is
//! written before its items; one that changes its length under way (only an object's `__json__` can
//! do that) is an error, never a broken message.

use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyTuple},
};

use super::{
    DEPTH, Format,
    fault::{Fault, Step, Why, Written},
    raw::{self, Kind, Pairs},
    types::{self, Form},
};
use crate::errors;

/// Where the bytes of a value go.
pub(super) trait Sink {
    /// Which bytes it writes.
    const FORMAT: Format;
    fn null(&mut self);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i64);
    /// An int that does not fit into `i64`.
    fn big_int(&mut self, value: &Bound<'_, PyAny>) -> Written;
    fn float(&mut self, value: f64);
    fn text(&mut self, utf8: &[u8]) -> Written;
    /// A string that has no UTF-8.
    fn surrogates(&mut self, text: &Bound<'_, PyAny>) -> Written;
    fn bytes(&mut self, value: &[u8]) -> Written;
    fn list(&mut self, len: usize) -> Written;
    /// Before an item of a list or a key of a map.
    fn before_item(&mut self, index: usize);
    /// Items of a list that are encoded already, with what stands between them.
    fn items(&mut self, encoded: &[u8]);
    fn list_end(&mut self);
    fn map(&mut self, len: usize) -> Written;
    /// A key that is an int, a float, a bool or None.
    fn plain_key(&mut self, key: Borrowed<'_, '_, PyAny>, kind: Kind) -> Written;
    /// Between a key and its value.
    fn after_key(&mut self);
    fn map_end(&mut self);
}

/// Writes any value; `depth` is how many containers are around it.
#[inline]
pub(super) fn value<S: Sink>(out: &mut S, obj: Borrowed<'_, '_, PyAny>, depth: usize) -> Written {
    match raw::kind(obj) {
        Kind::Text => text(out, obj)?,
        Kind::Int => match raw::int(obj) {
            Some(number) => out.int(number),
            None => out.big_int(&obj.to_owned())?,
        },
        Kind::Float => out.float(raw::float(obj)),
        Kind::None => out.null(),
        Kind::True => out.bool(true),
        Kind::False => out.bool(false),
        Kind::Bytes => out.bytes(raw::bytes(obj))?,
        kind @ (Kind::List | Kind::Tuple) => sequence(out, &obj.to_owned(), kind, depth + 1)?,
        Kind::Dict => {
            let dict = obj.to_owned().cast_into::<PyDict>().expect("a dict is a dict");
            dictionary(out, &dict, depth + 1)?;
        }
        Kind::Mapping => mapping(out, &obj.to_owned(), depth + 1)?,
        Kind::Other => other(out, &obj.to_owned(), depth + 1)?,
    }
    Ok(())
}

#[inline]
fn text<S: Sink>(out: &mut S, obj: Borrowed<'_, '_, PyAny>) -> Written {
    match raw::utf8(obj) {
        Some(utf8) => out.text(utf8),
        None => out.surrogates(&obj.to_owned()),
    }
}

/// Writes a list or tuple.
pub(super) fn sequence<S: Sink>(
    out: &mut S,
    seq: &Bound<'_, PyAny>,
    kind: Kind,
    depth: usize,
) -> Written {
    if depth > DEPTH {
        return Err(Fault::new(Why::Depth));
    }
    let len = raw::len(seq, kind);
    out.list(len)?;
    for index in 0..len {
        let Some(item) = raw::item(seq, kind, index) else {
            return Err(Fault::new(Why::Changed));
        };
        out.before_item(index);
        if let Err(fault) = value(out, item, depth) {
            return Err(fault.below(Step::Index(index)));
        }
    }
    if raw::len(seq, kind) != len {
        return Err(Fault::new(Why::Changed));
    }
    out.list_end();
    Ok(())
}

/// Writes a dict.
pub(super) fn dictionary<S: Sink>(out: &mut S, dict: &Bound<'_, PyDict>, depth: usize) -> Written {
    if depth > DEPTH {
        return Err(Fault::new(Why::Depth));
    }
    let len = dict.len();
    out.map(len)?;
    let mut index = 0;
    for (key, item) in Pairs::new(dict) {
        if index == len {
            return Err(Fault::new(Why::Changed));
        }
        pair(out, index, key, item, depth)?;
        index += 1;
    }
    if index != len || dict.len() != len {
        return Err(Fault::new(Why::Changed));
    }
    out.map_end();
    Ok(())
}

/// Writes a dict subclass by its `items()`.
fn mapping<S: Sink>(out: &mut S, obj: &Bound<'_, PyAny>, depth: usize) -> Written {
    if depth > DEPTH {
        return Err(Fault::new(Why::Depth));
    }
    let items = obj.call_method0(intern!(obj.py(), "items")).map_err(Fault::raised)?;
    let pairs = items
        .try_iter()
        .and_then(|it| it.map(|p| Ok(p?.cast_into::<PyTuple>()?)).collect::<PyResult<Vec<_>>>())
        .map_err(Fault::raised)?;
    out.map(pairs.len())?;
    for (index, both) in pairs.iter().enumerate() {
        let key = both.get_borrowed_item(0).map_err(Fault::raised)?;
        let item = both.get_borrowed_item(1).map_err(Fault::raised)?;
        pair(out, index, key, item, depth)?;
    }
    out.map_end();
    Ok(())
}

#[inline]
fn pair<S: Sink>(
    out: &mut S,
    index: usize,
    key: Borrowed<'_, '_, PyAny>,
    item: Borrowed<'_, '_, PyAny>,
    depth: usize,
) -> Written {
    out.before_item(index);
    match raw::kind(key) {
        Kind::Text => text(out, key)?,
        kind @ (Kind::Int | Kind::Float | Kind::True | Kind::False | Kind::None) => {
            out.plain_key(key, kind)?;
        }
        _ => return Err(Fault::new(Why::Key(errors::type_name(&key.to_owned())))),
    }
    out.after_key();
    match raw::kind(item) {
        // The common leaves need no reference to the key for an error's sake.
        Kind::Text | Kind::Int | Kind::Float | Kind::None | Kind::True | Kind::False => {
            value(out, item, depth).map_err(|fault| fault.below_key(&key.to_owned()))
        }
        _ => {
            let key = key.to_owned();
            value(out, item, depth).map_err(|fault| fault.below_key(&key))
        }
    }
}

/// Writes what is none of the plain types.
#[cold]
fn other<S: Sink>(out: &mut S, obj: &Bound<'_, PyAny>, depth: usize) -> Written {
    if depth > DEPTH {
        return Err(Fault::new(Why::Depth));
    }
    match types::form(obj).map_err(Fault::raised)? {
        Form::Typed(kind, text) => typed(out, kind, text.as_borrowed()),
        Form::Uuid(hex) => {
            open_typed(out, "uuid")?;
            out.map(1)?;
            out.before_item(0);
            out.text(b"hex")?;
            out.after_key();
            text(out, hex.as_borrowed())?;
            out.map_end();
            out.map_end();
            Ok(())
        }
        Form::Bytes(bytes) => out.bytes(raw::bytes(bytes.as_borrowed())),
        Form::Instead(replacement) => value(out, replacement.as_borrowed(), depth),
        Form::Unknown => Err(Fault::new(Why::Type(errors::type_name(obj)))),
    }
}

/// Writes a typed map whose value is text.
pub(super) fn typed<S: Sink>(out: &mut S, kind: &str, content: Borrowed<'_, '_, PyAny>) -> Written {
    open_typed(out, kind)?;
    text(out, content)?;
    out.map_end();
    Ok(())
}

/// Writes a typed map up to its value.
pub(super) fn open_typed<S: Sink>(out: &mut S, kind: &str) -> Written {
    out.map(2)?;
    out.before_item(0);
    out.text(b"__type__")?;
    out.after_key();
    out.text(kind.as_bytes())?;
    out.before_item(1);
    out.text(b"__value__")?;
    out.after_key();
    Ok(())
}
