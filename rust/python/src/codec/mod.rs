//! Python objects to bytes and back, without anything in between.
//!
//! Two encodings are native: JSON as kombu writes it, and MessagePack. Both write the same typed
//! maps `{"__type__": T, "__value__": V}` for what they have no type of their own for (datetime,
//! Decimal, UUID, in JSON also bytes), so a value survives either. Other serializers are Python's
//! business (`taskcore.serialize`) and never come here.
//!
//! Both directions stop at [`DEPTH`] levels of nesting: below the interpreter's own recursion
//! limit, far above what people write by hand, and met within 384 KiB of stack, which every
//! platform gives a thread. A cycle ends there too, with the same error.

mod body;
mod build;
mod fault;
mod foreign;
mod json_number;
mod json_read;
mod json_write;
mod msgpack_read;
mod msgpack_write;
mod raw;
mod steps;
mod types;
mod walk;

use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};

pub(crate) use body::{CallArgs, EMBED_KEYS, Embed, loads_args, split_args, write_body};
pub(crate) use foreign::{content_type_of, dumps_foreign};
pub(crate) use steps::Steps;

use crate::errors;
use json_write::Json;
use msgpack_write::Msgpack;

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

/// Writes a value to the end of `out`; `root` names it in errors (`args`, `result`).
///
/// # Errors
/// `EncodeError`, with the place inside `root`. `out` then holds a part of it.
pub(crate) fn write(
    format: Format,
    out: &mut Vec<u8>,
    value: &Bound<'_, PyAny>,
    root: &str,
) -> PyResult<()> {
    let value_ = value.as_borrowed();
    let written = match format {
        Format::Json => walk::value(&mut Json(out), value_, 0),
        Format::Msgpack => walk::value(&mut Msgpack(out), value_, 0),
    };
    written.map_err(|fault| fault.into_python(value.py(), root, format.name()))
}

/// Writes a value as JSON.
///
/// # Errors
/// As [`write`].
pub(crate) fn dumps_json(value: &Bound<'_, PyAny>, root: &str) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    write(Format::Json, &mut out, value, root)?;
    Ok(out)
}

/// The same, for what is only read by people: a value that has no form in JSON is its `repr`.
pub(crate) fn dumps_json_or_repr(value: &Bound<'_, PyAny>) -> Vec<u8> {
    dumps_json(value, "value").unwrap_or_else(|_| {
        let repr = value.repr();
        let text = repr.as_ref().map_or("<unprintable>".into(), |text| text.to_string_lossy());
        serde_json::Value::from(text).to_string().into_bytes()
    })
}

/// Further fields of a result document, as JSON.
///
/// # Errors
/// `TypeError` for a name that is no text.
pub(crate) fn dumps_fields(fields: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<(String, Vec<u8>)>> {
    let fields = fields.into_iter().flatten();
    fields.map(|(name, value)| Ok((name.extract()?, dumps_json_or_repr(&value)))).collect()
}

/// The same, as a document takes them.
pub(crate) fn borrowed(fields: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    fields.iter().map(|(name, json)| (name.as_str(), json.as_slice())).collect()
}

/// Reads one value.
///
/// # Errors
/// `DecodeError`, with the position.
pub(crate) fn read<'py>(
    py: Python<'py>,
    format: Format,
    data: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    match format {
        Format::Json => json_read::Reader::new(py, data).and_then(|mut r| r.document()),
        Format::Msgpack => msgpack_read::Reader::new(py, data).document(),
    }
    .map_err(|unreadable| unreadable.into_python(py, format.name()))
}

/// Reads JSON.
///
/// # Errors
/// As [`read`].
pub(crate) fn loads_json<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    read(py, Format::Json, data)
}

/// Encodes with the native `json` or `msgpack`.
#[pyfunction]
pub(crate) fn dumps<'py>(
    value: &Bound<'py, PyAny>,
    serializer: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(64);
    write(native(serializer)?, &mut out, value, "value")?;
    Ok(PyBytes::new(value.py(), &out))
}

/// Decodes native `json` or `msgpack`.
#[pyfunction]
pub(crate) fn loads<'py>(
    py: Python<'py>,
    data: &[u8],
    serializer: &str,
) -> PyResult<Bound<'py, PyAny>> {
    read(py, native(serializer)?, data)
}

fn native(serializer: &str) -> PyResult<Format> {
    Format::from_name(serializer).ok_or_else(|| {
        errors::value(format!("serializer `{serializer}` is not native, expected json or msgpack"))
    })
}
