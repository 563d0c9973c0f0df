//! Python objects to bytes and back, without anything in between.
//!
//! Two encodings are native: JSON as kombu writes it, and MessagePack. Both write the same typed maps
//! `{"__type__": T, "__value__": V}` for what they have no type of their own for (datetime, Decimal, UUID, in JSON also bytes), so a
//! value survives either. Other serializers are Python's business (`taskcore.serialize`) and never come here.
//!
//! Both directions stop at [`DEPTH`] levels of nesting: below the interpreter's own recursion limit, far above what people
//! write by hand, and small enough for the stack of any thread. A cycle ends there too, with the same error.

use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyTuple},
};

use crate::errors;

/// How deeply lists and dicts may be nested.
pub(crate) const DEPTH: usize = 512;

/// The native encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Python's JSON with kombu's typed values.
    Json,
    /// MessagePack with the same typed values.
    Msgpack,
}

impl Format {
    /// The format behind a serializer's name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "json" | "application/json" => Some(Self::Json),
            "msgpack" | "application/x-msgpack" => Some(Self::Msgpack),
            _ => None,
        }
    }

    /// The format behind a MIME type.
    pub(crate) fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json" => Some(Self::Json),
            "application/x-msgpack" => Some(Self::Msgpack),
            _ => None,
        }
    }

    /// Celery's name of the serializer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
        }
    }

    /// Its MIME type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Msgpack => "application/x-msgpack",
        }
    }

    /// Its content encoding.
    pub(crate) fn content_encoding(self) -> &'static str {
        match self {
            Self::Json => "utf-8",
            Self::Msgpack => "binary",
        }
    }
}

/// What a body holds: the arguments of the call, and the signatures to run after it when there are any.
pub(crate) struct CallArgs<'py> {
    /// Positional arguments.
    pub(crate) args: Bound<'py, PyTuple>,
    /// Keyword arguments.
    pub(crate) kwargs: Bound<'py, PyDict>,
    /// `callbacks`, `errbacks`, `chain`, `chord`; `None` when the message carries none of them.
    pub(crate) embed: Option<Bound<'py, PyDict>>,
}

/// Writes a value as JSON.
///
/// # Errors
/// `EncodeError`, naming the place inside `root` (`result`, `args`).
pub(crate) fn dumps_json(value: &Bound<'_, PyAny>, root: &str) -> PyResult<Vec<u8>> {
    let _ = (value, root);
    Err(errors::value("not yet"))
}

/// Reads JSON.
pub(crate) fn loads_json<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let _ = data;
    Err(errors::decode(py, "not yet".to_owned()))
}

/// Reads a (decompressed) body written natively: `[args, kwargs]` or `[args, kwargs, embed]`, or the map of protocol 1.
///
/// # Errors
/// `DecodeError` when the bytes are not a body.
pub(crate) fn loads_args<'py>(py: Python<'py>, format: Format, body: &[u8]) -> PyResult<CallArgs<'py>> {
    let _ = (format, body);
    Err(errors::decode(py, "not yet".to_owned()))
}

/// The same for a body that a Python serializer has decoded into `value`.
pub(crate) fn split_args<'py>(value: &Bound<'py, PyAny>) -> PyResult<CallArgs<'py>> {
    Err(errors::decode(value.py(), "not yet".to_owned()))
}

/// Encodes with the native `json` or `msgpack`.
#[pyfunction]
pub(crate) fn dumps<'py>(value: &Bound<'py, PyAny>, serializer: &str) -> PyResult<Bound<'py, PyBytes>> {
    let _ = serializer;
    Ok(PyBytes::new(value.py(), &dumps_json(value, "value")?))
}

/// Decodes native `json` or `msgpack`.
#[pyfunction]
pub(crate) fn loads<'py>(py: Python<'py>, data: &[u8], serializer: &str) -> PyResult<Bound<'py, PyAny>> {
    let _ = serializer;
    loads_json(py, data)
}
