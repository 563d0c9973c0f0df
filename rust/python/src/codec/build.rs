//! Python objects under construction, common to both readers: a stack of items on their way into a
//! list, a cache of keys, and the step from a typed map to its value.
//!
//! Keys repeat from message to message, so each thread keeps a small table of interned strings: a
//! hit saves the allocation and brings the hash along, and interned keyword arguments are matched
//! by identity. The table is taken out of the thread's slot while a reader uses it; a reader inside
//! a reader (a class that decodes in its constructor) starts with an empty one.

use std::cell::Cell;

use pyo3::{
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};

use super::{
    Steps,
    fault::{Read, Unreadable},
    raw, types,
};

/// Longest key that is worth keeping.
const KEY: usize = 24;
/// Slots of the table, a power of two.
const SLOTS: usize = 256;

struct Entry {
    len: u8,
    bytes: [u8; KEY],
    text: Py<PyAny>,
}

type Table = Vec<Option<Entry>>;

thread_local! {
    static KEYS: Cell<Option<Table>> = const { Cell::new(None) };
}

/// What a reader builds with.
pub(super) struct Builder<'py> {
    pub(super) py: Python<'py>,
    /// Items of the lists that are open, innermost last.
    pub(super) stack: Vec<Bound<'py, PyAny>>,
    keys: Option<Table>,
}

impl Drop for Builder<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.keys.take() {
            // A thread that is ending has no slot any more, and nobody to keep the table for.
            let _ = KEYS.try_with(|slot| slot.set(Some(table)));
        }
    }
}

impl<'py> Builder<'py> {
    pub(super) fn new(py: Python<'py>) -> Self {
        Self { py, stack: Vec::with_capacity(16), keys: None }
    }

    /// A string from UTF-8.
    #[inline]
    pub(super) fn text(&self, at: usize, utf8: &[u8]) -> Read<Bound<'py, PyAny>> {
        raw::text(self.py, utf8).map_err(|e| Unreadable::raised(at, "expected UTF-8", e))
    }

    /// A key from UTF-8, one object for all dicts where that is worth it.
    #[inline]
    pub(super) fn key(&mut self, at: usize, utf8: &[u8]) -> Read<Bound<'py, PyAny>> {
        if utf8.len() > KEY {
            return self.text(at, utf8);
        }
        let mut bytes = [0u8; KEY];
        bytes[..utf8.len()].copy_from_slice(utf8);
        let table = self.keys.get_or_insert_with(|| {
            KEYS.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
                let mut table = Vec::with_capacity(SLOTS);
                table.resize_with(SLOTS, || None);
                table
            })
        });
        let slot = slot_of(&bytes, utf8.len());
        if let Some(entry) = &table[slot]
            && usize::from(entry.len) == utf8.len()
            && entry.bytes == bytes
        {
            return Ok(entry.text.bind(self.py).clone());
        }
        let Ok(utf8) = std::str::from_utf8(utf8) else {
            return Err(Unreadable::new(at, "invalid UTF-8 in a key"));
        };
        let text = PyString::intern(self.py, utf8).into_any();
        self.keys.as_mut().expect("taken above")[slot] =
            Some(Entry { len: utf8.len() as u8, bytes, text: text.clone().unbind() });
        Ok(text)
    }

    /// The items above `mark` as a list.
    #[inline]
    pub(super) fn list(&mut self, at: usize, mark: usize) -> Read<Bound<'py, PyAny>> {
        PyList::new(self.py, self.stack.drain(mark..))
            .map(Bound::into_any)
            .map_err(|e| Unreadable::raised(at, "cannot make a list", e))
    }

    /// The rest of a chain.
    pub(super) fn steps(&self, at: usize, steps: Steps) -> Read<Bound<'py, PyAny>> {
        Bound::new(self.py, steps)
            .map(Bound::into_any)
            .map_err(|e| Unreadable::raised(at, "cannot make a list", e))
    }

    /// The items above `mark` as a tuple.
    #[inline]
    pub(super) fn tuple(&mut self, at: usize, mark: usize) -> Read<Bound<'py, PyTuple>> {
        PyTuple::new(self.py, self.stack.drain(mark..))
            .map_err(|e| Unreadable::raised(at, "cannot make a tuple", e))
    }
}

/// Stores a pair.
#[inline]
pub(super) fn set(
    at: usize,
    dict: &Bound<'_, PyDict>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> Read<()> {
    raw::set(dict, key, value).map_err(|e| Unreadable::raised(at, "a key that no dict can hold", e))
}

/// A finished dict, or what it stands for when it has exactly the two keys of a typed map. `marked`
/// says that one of its keys was `__type__`.
#[inline]
pub(super) fn finish(at: usize, dict: Bound<'_, PyDict>, marked: bool) -> Read<Bound<'_, PyAny>> {
    if marked && dict.len() == 2 { revive(at, dict) } else { Ok(dict.into_any()) }
}

#[cold]
fn revive(at: usize, dict: Bound<'_, PyDict>) -> Read<Bound<'_, PyAny>> {
    let broken = |e| Unreadable::raised(at, "not a typed value", e);
    let kind = dict.get_item("__type__").map_err(broken)?;
    let value = dict.get_item("__value__").map_err(broken)?;
    let (Some(kind), Some(value)) = (kind, value) else { return Ok(dict.into_any()) };
    match types::revive(&kind, &value) {
        Ok(Some(revived)) => Ok(revived),
        Ok(None) => {
            let name =
                kind.str().map_or_else(|_| "?".to_owned(), |s| s.to_string_lossy().into_owned());
            Err(Unreadable::new(
                at,
                format!(
                    "unknown `__type__` `{name}`, expected datetime, date, time, decimal, uuid, bytes, base64 or int"
                ),
            ))
        }
        Err(error) => {
            let name =
                kind.str().map_or_else(|_| "?".to_owned(), |s| s.to_string_lossy().into_owned());
            Err(Unreadable::raised(at, format!("not a valid `{name}`"), error))
        }
    }
}

/// Mixes the bytes of a key into the number of its slot.
#[inline]
fn slot_of(bytes: &[u8; KEY], len: usize) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = len as u64;
    for chunk in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        hash = (hash.rotate_left(5) ^ word).wrapping_mul(MIX);
    }
    (hash >> 56) as usize % SLOTS
}
