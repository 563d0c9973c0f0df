//! The body of a task message: `[args, kwargs, embed]`, the embed holding the signatures that run
//! after the task.
//!
//! Written in full for Celery, and without the embed in the compact encoding when it would say
//! nothing. Read in either length; a map is the body of protocol 1, whose fields are the same.
//! Arguments come out as a tuple, ready for the call.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyDict, PyList, PyTuple},
};

use super::{
    Format, Steps,
    fault::{Fault, Written},
    json_read,
    json_write::Json,
    msgpack_read,
    msgpack_write::Msgpack,
    read,
    walk::{self, Sink},
};
use crate::errors;

/// The parts of an embed, in Celery's order.
pub(crate) const EMBED_KEYS: [&str; 4] = ["callbacks", "errbacks", "chain", "chord"];

/// What a body holds: the arguments of the call, and the signatures to run after it when there are
/// any.
pub(crate) struct CallArgs<'py> {
    /// Positional arguments.
    pub(crate) args: Bound<'py, PyTuple>,
    /// Keyword arguments.
    pub(crate) kwargs: Bound<'py, PyDict>,
    /// `callbacks`, `errbacks`, `chain`, `chord`; `None` when the message carries none of them.
    pub(crate) embed: Option<Bound<'py, PyDict>>,
}

/// A body as a reader found it: the embed is not looked at yet.
pub(super) struct Call<'py> {
    pub(super) args: Bound<'py, PyTuple>,
    pub(super) kwargs: Bound<'py, PyDict>,
    pub(super) embed: Option<Bound<'py, PyAny>>,
}

/// The embed of a message on its way out, in the order of [`EMBED_KEYS`].
#[derive(Default)]
pub(crate) struct Embed<'py>(pub(crate) [Option<Bound<'py, PyAny>>; 4]);

impl<'py> Embed<'py> {
    /// Whether nothing runs after the task.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// As a dict, for serializers of Python's.
    pub(crate) fn to_dict(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, link) in EMBED_KEYS.iter().zip(&self.0) {
            let steps = link.as_ref().and_then(|link| link.cast::<Steps>().ok());
            match steps {
                Some(steps) => dict.set_item(name, steps.call_method0("decoded")?)?,
                None => dict.set_item(name, link)?,
            }
        }
        Ok(dict)
    }
}

/// Writes a body to the end of `out`. `full` writes the embed even when it is empty, as Celery
/// does.
///
/// # Errors
/// `EncodeError`, with the place (`args[0].x`, `kwargs.y`). `out` then holds a part of it.
pub(crate) fn write_body(
    format: Format,
    out: &mut Vec<u8>,
    args: &Bound<'_, PyAny>,
    kwargs: &Bound<'_, PyAny>,
    embed: &Embed<'_>,
    full: bool,
) -> PyResult<()> {
    let embed = (full || !embed.is_empty()).then_some(embed);
    let written = match format {
        Format::Json => parts(&mut Json(out), args, kwargs, embed),
        Format::Msgpack => parts(&mut Msgpack(out), args, kwargs, embed),
    };
    written.map_err(|(fault, root)| fault.into_python(args.py(), root, format.name()))
}

type Part = Result<(), (Fault, &'static str)>;

fn parts<S: Sink>(
    out: &mut S,
    args: &Bound<'_, PyAny>,
    kwargs: &Bound<'_, PyAny>,
    embed: Option<&Embed<'_>>,
) -> Part {
    let within = |root| move |fault| (fault, root);
    out.list(if embed.is_some() { 3 } else { 2 }).map_err(within("body"))?;
    out.before_item(0);
    walk::value(out, args.as_borrowed(), 1).map_err(within("args"))?;
    out.before_item(1);
    walk::value(out, kwargs.as_borrowed(), 1).map_err(within("kwargs"))?;
    if let Some(embed) = embed {
        out.before_item(2);
        out.map(EMBED_KEYS.len()).map_err(within("body"))?;
        for (index, (name, link)) in EMBED_KEYS.iter().zip(&embed.0).enumerate() {
            out.before_item(index);
            key_and_link(out, name, link.as_ref()).map_err(within(name))?;
        }
        out.map_end();
    }
    out.list_end();
    Ok(())
}

fn key_and_link<S: Sink>(out: &mut S, name: &str, link: Option<&Bound<'_, PyAny>>) -> Written {
    out.text(name.as_bytes())?;
    out.after_key();
    if let Some(link) = link {
        if let Ok(steps) = link.cast::<Steps>() {
            return steps.get().write(out, link.py(), 2);
        }
        return walk::value(out, link.as_borrowed(), 2);
    }
    out.null();
    Ok(())
}

/// Reads a (decompressed) body written natively.
///
/// # Errors
/// `DecodeError` when the bytes are not a body.
pub(crate) fn loads_args<'py>(
    py: Python<'py>,
    format: Format,
    body: &Bytes,
) -> PyResult<CallArgs<'py>> {
    let call = match format {
        Format::Json => json_read::Reader::new(py, body).and_then(|mut r| r.call(body)),
        Format::Msgpack => msgpack_read::Reader::new(py, body).call(body),
    }
    .map_err(|unreadable| unreadable.into_python(py, format.name()))?;
    match call {
        Some(Call { args, kwargs, embed }) => {
            let embed = embed.as_ref().map(says_anything).transpose()?.flatten();
            Ok(CallArgs { args, kwargs, embed })
        }
        None => split_args(&read(py, format, body)?),
    }
}

/// The same for a body that a serializer of Python's has decoded into `value`.
pub(crate) fn split_args<'py>(value: &Bound<'py, PyAny>) -> PyResult<CallArgs<'py>> {
    let py = value.py();
    let (args, kwargs, embed) = if let Ok(map) = value.cast::<PyDict>() {
        let Some(args) = map.get_item("args")? else {
            return Err(not_a_body(value, "no `args`"));
        };
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
            Err(_) => args
                .cast_into()
                .map_err(|e| not_a_body(&e.into_inner(), "args that are no list"))?,
        },
    };
    let kwargs = match kwargs.filter(|k| !k.is_none()) {
        None => PyDict::new(py),
        Some(kwargs) => {
            kwargs.cast_into().map_err(|e| not_a_body(&e.into_inner(), "kwargs that are no map"))?
        }
    };
    let embed = embed.as_ref().map(says_anything).transpose()?.flatten();
    Ok(CallArgs { args, kwargs, embed })
}

#[cold]
fn not_a_body(found: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let name = errors::type_name(found);
    let message = format!("a body with {what} (`{name}`), expected [args, kwargs, embed]");
    errors::decode(found.py(), message)
}

/// An embed, when it says anything.
fn says_anything<'py>(embed: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    if embed.is_none() {
        return Ok(None);
    }
    let Ok(embed) = embed.cast::<PyDict>() else {
        return Err(not_a_body(embed, "an embed that is no map"));
    };
    for name in EMBED_KEYS {
        if let Some(value) = embed.get_item(name)?
            && value.is_truthy()?
        {
            return Ok(Some(embed.clone()));
        }
    }
    Ok(None)
}
