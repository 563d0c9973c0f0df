//! `read_message`: a task message as the dict that `self.request` shows, for the command line and
//! for tests.
//!
//! A body is opened only when the codec can: opening a pickle runs whatever the pickle says, and
//! whoever looks at a dead letter has not agreed to that. `args` and `kwargs` are None then.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};
use taskcore::{
    message::{Compression, Message},
    publish::MAX_BODY,
};

use crate::{
    codec::{self, CallArgs, EMBED_KEYS, Format, Steps},
    errors, request,
};

/// A task message in either encoding as a dict.
#[pyfunction]
pub(crate) fn read_message<'py>(py: Python<'py>, raw: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let message =
        Message::decode(&Bytes::copy_from_slice(raw)).map_err(|e| errors::to_python(py, &e))?;
    let dict = request::describe(py, &message)?;
    let body = open(py, &message)?;
    dict.set_item("args", body.as_ref().map(|b| PyList::new(py, &b.args)).transpose()?)?;
    dict.set_item("kwargs", body.as_ref().map(|b| &b.kwargs))?;
    let embed = body.as_ref().and_then(|b| b.embed.as_ref());
    for name in EMBED_KEYS {
        dict.set_item(name, embed.map(|e| e.get_item(name)).transpose()?.flatten())?;
    }
    if let Some(Ok(chain)) = dict.get_item("chain")?.map(Bound::cast_into::<Steps>) {
        dict.set_item("chain", chain.call_method0("decoded")?)?;
    }
    dict.set_item("queue", &message.properties.routing_key)?;
    dict.set_item("redeliveries", 0)?;
    dict.set_item("protocol", if raw.first() == Some(&b'{') { "celery" } else { "compact" })?;
    Ok(dict)
}

/// Decompresses and decodes a body; `None` when its serializer is Python's.
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
