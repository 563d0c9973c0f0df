//! Python objects to bytes and back, without anything in between.
//!
//! Two encodings are native: JSON as kombu writes it, and MessagePack. Both write the same typed maps
//! `{"__type__": T, "__value__": V}` for what they have no type of their own for (datetime, Decimal, UUID, in JSON also bytes), so a
//! value survives either. Other serializers are Python's business (`taskcore.serialize`) and never come here.
//!
//! Both directions stop at [`DEPTH`] levels of nesting: below the interpreter's own recursion limit, far above what people
//! write by hand, and small enough for the stack of any thread. A cycle ends there too, with the same error.

mod build;
mod fault;
mod json_read;
mod json_write;
mod msgpack_read;
mod msgpack_write;
mod raw;
mod types;
mod walk;

use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyTuple},
};

use crate::errors;
use json_write::Json;
use msgpack_write::Msgpack;

/// The parts of an embed, in Celery's order.
pub(crate) const EMBED: [&str; 4] = ["callbacks", "errbacks", "chain", "chord"];

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

/// A body as a reader found it: the embed is not looked at yet.
struct Call<'py> {
    args: Bound<'py, PyTuple>,
    kwargs: Bound<'py, PyDict>,
    embed: Option<Bound<'py, PyAny>>,
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

/// Reads one value.
///
/// # Errors
/// `DecodeError`, with the position.
pub(crate) fn read<'py>(py: Python<'py>, format: Format, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
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

/// Reads a (decompressed) body written natively: `[args, kwargs]` or `[args, kwargs, embed]`, or the map of protocol 1.
///
/// # Errors
/// `DecodeError` when the bytes are not a body.
pub(crate) fn loads_args<'py>(py: Python<'py>, format: Format, body: &[u8]) -> PyResult<CallArgs<'py>> {
    let call = match format {
        Format::Json => json_read::Reader::new(py, body).and_then(|mut r| r.call()),
        Format::Msgpack => msgpack_read::Reader::new(py, body).call(),
    }
    .map_err(|unreadable| unreadable.into_python(py, format.name()))?;
    match call {
        Some(Call { args, kwargs, embed }) => {
            let embed = embed.as_ref().map(embedded).transpose()?.flatten();
            Ok(CallArgs { args, kwargs, embed })
        }
        None => split_args(&read(py, format, body)?),
    }
}

/// The same for a body that a Python serializer has decoded into `value`.
pub(crate) fn split_args<'py>(value: &Bound<'py, PyAny>) -> PyResult<CallArgs<'py>> {
    let py = value.py();
    let (args, kwargs, embed) = if let Ok(map) = value.cast::<PyDict>() {
        let Some(args) = map.get_item("args")? else { return Err(not_a_body(value, "no `args`")) };
        (Some(args), map.get_item("kwargs")?, Some(value.clone()))
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let parts = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        if !(2..=3).contains(&parts.len()) {
            return Err(not_a_body(value, "another number of items"));
        }
        let mut parts = parts.into_iter();
        (parts.next(), parts.next(), parts.next())
    } else {
        return Err(not_a_body(value, "neither list nor map"));
    };
    let args = match args.filter(|a| !a.is_none()) {
        None => PyTuple::empty(py),
        Some(args) => match args.cast::<PyList>() {
            Ok(list) => list.to_tuple(),
            Err(_) => args.cast_into().map_err(|e| not_a_body(&e.into_inner(), "args that are no list"))?,
        },
    };
    let kwargs = match kwargs.filter(|k| !k.is_none()) {
        None => PyDict::new(py),
        Some(kwargs) => {
            kwargs.cast_into().map_err(|e| not_a_body(&e.into_inner(), "kwargs that are no map"))?
        }
    };
    Ok(CallArgs { args, kwargs, embed: embed.as_ref().map(embedded).transpose()?.flatten() })
}

#[cold]
fn not_a_body(found: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let class = found.get_type();
    let name = class.name().map_or_else(|_| "?".to_owned(), |n| n.to_string_lossy().into_owned());
    errors::decode(found.py(), format!("a body with {what} (`{name}`), expected [args, kwargs, embed]"))
}

/// The embed of a body as far as it says anything.
fn embedded<'py>(embed: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    if embed.is_none() {
        return Ok(None);
    }
    let Ok(embed) = embed.cast::<PyDict>() else {
        return Err(not_a_body(embed, "an embed that is no map"));
    };
    for name in EMBED {
        if let Some(value) = embed.get_item(name)? && value.is_truthy()? {
            return Ok(Some(embed.clone()));
        }
    }
    Ok(None)
}

/// Encodes with the native `json` or `msgpack`.
#[pyfunction]
pub(crate) fn dumps<'py>(value: &Bound<'py, PyAny>, serializer: &str) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(64);
    write(native(serializer)?, &mut out, value, "value")?;
    Ok(PyBytes::new(value.py(), &out))
}

/// Decodes native `json` or `msgpack`.
#[pyfunction]
pub(crate) fn loads<'py>(py: Python<'py>, data: &[u8], serializer: &str) -> PyResult<Bound<'py, PyAny>> {
    read(py, native(serializer)?, data)
}

fn native(serializer: &str) -> PyResult<Format> {
    Format::from_name(serializer)
        .ok_or_else(|| errors::value(format!("serializer `{serializer}` is not native, expected json or msgpack")))
}
