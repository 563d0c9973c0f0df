//! What goes wrong in the codec, and where.
//!
//! A place inside a value (`args[0].x`) is only put together when something is wrong: the error
//! collects one step per level on its way out, so the way in costs nothing.

use pyo3::{exceptions::PyException, prelude::*};

use super::DEPTH;
use crate::errors;

/// The way from a container to one of its items.
pub(super) enum Step {
    /// Position in a list.
    Index(usize),
    /// Key of a dict, printed.
    Key(String),
}

/// Why a value cannot be written.
pub(super) enum Why {
    /// Its type has no form in the encoding.
    Type(String),
    /// A key whose type has none.
    Key(String),
    /// Nested too deeply, or a cycle.
    Depth,
    /// Python code that was asked for the value's form raised.
    Raised(PyErr),
    /// A string with half of a surrogate pair, in an encoding of UTF-8.
    Surrogate,
    /// A container that changed its length while it was written.
    Changed,
    /// More items or bytes than the encoding can count.
    Size,
}

/// A value that cannot be written, and the way to it, innermost step first.
pub(super) struct Fault(Box<(Why, Vec<Step>)>);

/// The result of writing a value.
pub(super) type Written = Result<(), Fault>;

impl Fault {
    #[cold]
    pub(super) fn new(why: Why) -> Self {
        Self(Box::new((why, Vec::new())))
    }

    /// Python code raised.
    #[cold]
    pub(super) fn raised(error: PyErr) -> Self {
        Self::new(Why::Raised(error))
    }

    /// Adds the step that led to the failed item.
    #[cold]
    pub(super) fn below(mut self, step: Step) -> Self {
        self.0.1.push(step);
        self
    }

    /// The same for a key of a dict.
    #[cold]
    pub(super) fn below_key(self, key: &Bound<'_, PyAny>) -> Self {
        let name = key.str().map_or_else(|_| "?".to_owned(), |s| s.to_string_lossy().into_owned());
        self.below(Step::Key(name))
    }

    /// The exception for the caller: `EncodeError`, or what a signal handler raised meanwhile.
    #[cold]
    pub(super) fn into_python(self, py: Python<'_>, root: &str, format: &str) -> PyErr {
        let (why, path) = *self.0;
        let place = place(root, &path);
        let message = match why {
            Why::Type(name) => format!(
                "cannot encode `{name}` at {place} with {format}: expected None, bool, int, float, str, bytes, list, \
                 tuple, dict, datetime, date, time, Decimal, UUID or an object with `__json__`; convert it, or use \
                 the serializer `pickle`"
            ),
            Why::Key(name) => format!(
                "cannot encode a dict key of type `{name}` at {place} with {format}: expected str, int, float, bool \
                 or None; convert the keys to str, or use the serializer `pickle`"
            ),
            Why::Depth => format!(
                "cannot encode {} with {format}: nested deeper than {DEPTH} levels, or containing itself; flatten \
                 it, or pass a reference to where it is stored",
                shortened(&place)
            ),
            Why::Surrogate => format!(
                "cannot encode `str` at {place} with {format}: it holds half of a surrogate pair, which UTF-8 \
                 cannot express; use the serializer `json`, or encode the text to bytes"
            ),
            Why::Changed => {
                format!(
                    "cannot encode {place} with {format}: it changed its length while it was encoded"
                )
            }
            Why::Size => format!(
                "cannot encode {place} with {format}: longer than 4294967295 items or bytes"
            ),
            Why::Raised(cause) => {
                if !cause.is_instance_of::<PyException>(py) {
                    return cause;
                }
                let error =
                    errors::encode(py, format!("cannot encode {place} with {format}: {cause}"));
                error.set_cause(py, Some(cause));
                return error;
            }
        };
        errors::encode(py, message)
    }
}

/// `args[0].x['two words']`.
fn place(root: &str, path: &[Step]) -> String {
    use std::fmt::Write as _;
    let mut out = root.to_owned();
    for step in path.iter().rev() {
        // Writing to a String cannot fail.
        let _ = match step {
            Step::Index(i) => write!(out, "[{i}]"),
            Step::Key(k) if is_identifier(k) => write!(out, ".{k}"),
            Step::Key(k) => write!(out, "[{k:?}]"),
        };
    }
    out
}

fn is_identifier(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// A cycle makes a path of hundreds of steps; its head tells enough.
fn shortened(place: &str) -> String {
    match place.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &place[..end]),
        None => place.to_owned(),
    }
}

/// Bytes that cannot be read.
pub(super) struct Unreadable(Box<Found>);

struct Found {
    /// Byte position.
    at: usize,
    /// What was found and expected.
    what: String,
    /// What Python said, when it was asked.
    cause: Option<PyErr>,
}

/// The result of reading.
pub(super) type Read<T> = Result<T, Unreadable>;

impl Unreadable {
    #[cold]
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self(Box::new(Found { at, what: what.into(), cause: None }))
    }

    /// Python code that was asked to build the value raised.
    #[cold]
    pub(super) fn raised(at: usize, what: impl Into<String>, cause: PyErr) -> Self {
        Self(Box::new(Found { at, what: what.into(), cause: Some(cause) }))
    }

    /// The exception for the caller.
    #[cold]
    pub(super) fn into_python(self, py: Python<'_>, format: &str) -> PyErr {
        let Found { at, what, cause } = *self.0;
        match cause {
            None => errors::decode(py, format!("cannot decode {format} at byte {at}: {what}")),
            Some(cause) if !cause.is_instance_of::<PyException>(py) => cause,
            Some(cause) => {
                let error = errors::decode(
                    py,
                    format!("cannot decode {format} at byte {at}: {what}: {cause}"),
                );
                error.set_cause(py, Some(cause));
                error
            }
        }
    }
}
