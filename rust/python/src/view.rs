//! A message as the dict that `self.request` shows, with Celery's names.
//!
//! Used where every field is wanted at once: the command line, `Request.to_dict`, retries. Header values that Rust does not look
//! into (`stamps`, unknown headers) go through JSON, so that typed values inside them come out as Python's.

use bytes::Bytes;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyDict, PyList},
};
use serde_json::{Map, Value};
use taskcore::{
    message::{Compression, Message, format_iso},
    publish::MAX_BODY,
};

use crate::{
    codec::{self, CallArgs, Format, LINKS},
    errors,
};

/// A task message in either encoding as a dict.
#[pyfunction]
pub(crate) fn read_message<'py>(py: Python<'py>, raw: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let message =
        Message::decode(&Bytes::copy_from_slice(raw)).map_err(|e| errors::to_python(py, &e))?;
    let dict = headers(py, &message)?;
    put_body(&dict, open(py, &message)?.as_ref())?;
    put_delivery(&dict, &message, &message.properties.routing_key, 0)?;
    dict.set_item("protocol", if raw.first() == Some(&b'{') { "celery" } else { "compact" })?;
    Ok(dict)
}

/// What the headers say.
pub(crate) fn headers<'py>(py: Python<'py>, message: &Message) -> PyResult<Bound<'py, PyDict>> {
    let (h, rare) = (&message.headers, message.headers.rare());
    let dict = PyDict::new(py);
    dict.set_item("id", &h.id)?;
    dict.set_item("task", &h.task)?;
    dict.set_item("retries", h.retries)?;
    dict.set_item("eta", h.eta.map(format_iso))?;
    dict.set_item("expires", h.expires.map(format_iso))?;
    dict.set_item("timelimit", [limit(py, h.timelimit.hard)?, limit(py, h.timelimit.soft)?])?;
    dict.set_item("root_id", h.root())?;
    dict.set_item("parent_id", &h.parent_id)?;
    dict.set_item("group", &rare.group)?;
    dict.set_item("group_index", rare.group_index)?;
    dict.set_item("shadow", &rare.shadow)?;
    dict.set_item("origin", &rare.origin)?;
    dict.set_item("argsrepr", &rare.argsrepr)?;
    dict.set_item("kwargsrepr", &rare.kwargsrepr)?;
    dict.set_item("ignore_result", h.ignore_result)?;
    dict.set_item("replaced_task_nesting", rare.replaced_task_nesting)?;
    dict.set_item("stamped_headers", &rare.stamped_headers)?;
    dict.set_item("stamps", values(py, &rare.stamps)?)?;
    dict.set_item("headers", values(py, &rare.extra)?)?;
    dict.set_item("serializer", serializer(&message.content_type))?;
    dict.set_item("compression", h.compression.as_deref().map(compression))?;
    Ok(dict)
}

/// What the body says; None everywhere when it was not opened.
pub(crate) fn put_body(dict: &Bound<'_, PyDict>, body: Option<&CallArgs<'_>>) -> PyResult<()> {
    dict.set_item("args", body.map(|b| PyList::new(dict.py(), &b.args)).transpose()?)?;
    dict.set_item("kwargs", body.map(|b| &b.kwargs))?;
    let embed = body.and_then(|b| b.embed.as_ref());
    for name in LINKS {
        dict.set_item(name, embed.map(|e| e.get_item(name)).transpose()?.flatten())?;
    }
    Ok(())
}

/// How it came here.
pub(crate) fn put_delivery(
    dict: &Bound<'_, PyDict>,
    message: &Message,
    queue: &str,
    redeliveries: u32,
) -> PyResult<()> {
    let p = &message.properties;
    let info = PyDict::new(dict.py());
    info.set_item("exchange", &p.exchange)?;
    info.set_item("routing_key", if p.routing_key.is_empty() { queue } else { &p.routing_key })?;
    info.set_item("priority", p.priority)?;
    info.set_item("redelivered", redeliveries > 0)?;
    let properties = PyDict::new(dict.py());
    let correlation_id = p.correlation_id.as_ref().unwrap_or(&message.headers.id);
    properties.set_item("correlation_id", correlation_id)?;
    properties.set_item("reply_to", &p.reply_to)?;
    properties.set_item("delivery_mode", p.delivery_mode.unwrap_or(2))?;
    properties.set_item("priority", p.priority)?;
    properties.set_item("expiration", &p.expiration)?;
    properties.set_item("delivery_tag", &p.delivery_tag)?;
    dict.set_item("reply_to", &p.reply_to)?;
    dict.set_item("correlation_id", correlation_id)?;
    dict.set_item("delivery_info", info)?;
    dict.set_item("properties", properties)?;
    dict.set_item("redeliveries", redeliveries)?;
    dict.set_item("queue", queue)
}

/// Decompresses and decodes a body; `None` when its serializer is Python's, because opening a pickle runs whatever it says.
fn open<'py>(py: Python<'py>, message: &Message) -> PyResult<Option<CallArgs<'py>>> {
    let Some(format) = Format::from_content_type(&message.content_type) else { return Ok(None) };
    let opened = match &message.headers.compression {
        None => message.body.clone(),
        Some(name) => Compression::from_content_type(name)
            .and_then(|c| c.decompress(&message.body, MAX_BODY))
            .map_err(|e| errors::decode(py, e.to_string()))?
            .into(),
    };
    codec::loads_args(py, format, &opened).map(Some)
}

/// A time limit as the user gave it: whole seconds are an int.
fn limit(py: Python<'_>, seconds: Option<f64>) -> PyResult<Option<Bound<'_, PyAny>>> {
    seconds
        .map(|s| {
            if s.fract() == 0.0 && s.abs() < 1e15 {
                (s as i64).into_bound_py_any(py)
            } else {
                s.into_bound_py_any(py)
            }
        })
        .transpose()
}

fn values<'py>(py: Python<'py>, map: &Map<String, Value>) -> PyResult<Bound<'py, PyAny>> {
    if map.is_empty() {
        return Ok(PyDict::new(py).into_any());
    }
    let json = serde_json::to_vec(map).map_err(|e| errors::decode(py, e.to_string()))?;
    codec::read(py, Format::Json, &json)
}

/// Celery's name of a serializer by its content type, or the content type itself.
pub(crate) fn serializer(content_type: &str) -> &str {
    match content_type {
        "application/json" => "json",
        "application/x-msgpack" => "msgpack",
        "application/x-python-serialize" => "pickle",
        "application/x-yaml" => "yaml",
        other => other,
    }
}

fn compression(content_type: &str) -> &str {
    match Compression::from_content_type(content_type) {
        Ok(known) => known.name(),
        Err(_) => content_type,
    }
}
