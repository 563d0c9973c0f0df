//! What follows a join: Python composes it, with one text in the place of the results, and then the
//! results are put there as bytes. So however many there are, no list of them is made in Python.
//!
//! A body that another serializer than the native ones has encoded cannot be cut open; it is composed
//! again with the results themselves.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyList, PyString},
};
use taskcore::{
    message::{Compression, Encoding, Message},
    publish,
    result::encoded,
    worker::compose::{Composed, Composer, Ending, ErrorCall, Fate},
};

use crate::{
    bridge,
    codec::{self, Format},
    encoding::ResultEncoding,
    errors,
    execute::{MAX_BODY, open},
    request::{Aftermath, Request},
};

/// Characters of the results in a message's printable arguments.
const SHOWN: usize = 100;

/// Composes what follows joins, in the worker's process.
pub(crate) struct JoinComposer {
    /// `taskcore.execution.executor.Executor`.
    execution: Py<PyAny>,
    /// `task_max_body`.
    limit: usize,
    /// None for JSON.
    encoding: Option<Arc<ResultEncoding>>,
    /// How many threads are inside Python for it. Written by those, read by whoever ends the process.
    inside: Arc<AtomicUsize>,
}

impl JoinComposer {
    pub(crate) fn new(execution: &Bound<'_, PyAny>) -> PyResult<Self> {
        let limit = execution.getattr("max_body")?.extract()?;
        let encoding = ResultEncoding::of(execution)?;
        Ok(Self { execution: execution.clone().unbind(), limit, encoding, inside: Arc::default() })
    }

    /// How many threads are inside Python for it; to be kept when it is given away.
    pub(crate) fn inside(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.inside)
    }

    fn follow(&self, py: Python<'_>, ending: &Ending) -> PyResult<Composed> {
        match &ending.fate {
            Fate::Succeeded(results) => {
                let Aftermath { follow, ended } = self.body(py, ending, results)?;
                Ok(Composed { follow, ended, calls: Vec::new() })
            }
            Fate::Failed { id, exception } => {
                let exception = codec::loads_json(py, exception)?;
                self.failure(py, ending, &(id, exception).into_bound_py_any(py)?)
            }
            Fate::Lost(why) => self.failure(py, ending, &(py.None(), why).into_bound_py_any(py)?),
        }
    }

    /// The messages of the body, with the results.
    fn body(&self, py: Python<'_>, ending: &Ending, results: &[Bytes]) -> PyResult<Aftermath> {
        if results.iter().any(|result| encoded::member(result).is_some()) {
            return self.body_of_values(py, ending, results);
        }
        let token = format!("taskcore-results-{}", publish::task_id());
        let token = PyString::new(py, &token);
        let Some(mut composed) = self.publish(py, ending, token.as_any())? else {
            return self.body_of_values(py, ending, results);
        };
        let mut splice = Splice { token, results, limit: self.limit, lists: Vec::new() };
        for message in &mut composed.follow {
            let Some(data) = splice.splice(&message.data)? else {
                return self.body_of_values(py, ending, results);
            };
            message.data = data;
        }
        Ok(composed)
    }

    /// The messages of a body that needs the results themselves.
    fn body_of_values(
        &self,
        py: Python<'_>,
        ending: &Ending,
        results: &[Bytes],
    ) -> PyResult<Aftermath> {
        let values = results.iter().map(|result| self.value(py, result));
        let values = PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)?;
        Ok(self.publish(py, ending, values.as_any())?.unwrap_or_default())
    }

    fn value<'py>(&self, py: Python<'py>, result: &Bytes) -> PyResult<Bound<'py, PyAny>> {
        match (encoded::member(result), &self.encoding) {
            (Some(member), Some(encoding)) => encoding.value(py, member),
            _ => codec::loads_json(py, result),
        }
    }

    /// What Python publishes; `None` when it wants the results themselves.
    fn publish(
        &self,
        py: Python<'_>,
        ending: &Ending,
        results: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Aftermath>> {
        let request = self.request(py, ending)?;
        let call = (&request, &ending.group, results);
        let published = self.execution.bind(py).call_method1("publish_body", call)?;
        Ok(published.is_truthy()?.then(|| request.get().take_aftermath()))
    }

    /// What becomes of a body that is not called.
    fn failure(
        &self,
        py: Python<'_>,
        ending: &Ending,
        reason: &Bound<'_, PyAny>,
    ) -> PyResult<Composed> {
        let request = self.request(py, ending)?;
        let call = (&request, &ending.group, reason);
        let told = self.execution.bind(py).call_method1("fail_body", call)?;
        let (called, end): (Vec<String>, Bound<'_, PyAny>) = told.extract()?;
        let end: Arc<[u8]> = codec::dumps_json(&end, "end")?.into();
        let Aftermath { follow, ended } = request.get().take_aftermath();
        let mut composed = Composed { ended, ..Composed::default() };
        for message in follow {
            if called.iter().any(|id| **id == *message.id) {
                let read = Message::decode(&message.data).map_err(|e| errors::to_python(py, &e))?;
                let end = Box::from(&*end);
                let (queue, message) = (message.queue, read.compact(message.data));
                composed.calls.push(ErrorCall { message, queue, end });
            } else {
                composed.follow.push(message);
            }
        }
        Ok(composed)
    }

    /// The execution that completed the join.
    fn request(&self, py: Python<'_>, ending: &Ending) -> PyResult<Py<Request>> {
        let message = Message::decode(&ending.message).map_err(|e| errors::to_python(py, &e))?;
        let call = open(self.execution.bind(py), &message, || {})?;
        Py::new(py, Request::new(message, Arc::from(""), 0, &call))
    }
}

impl Composer for JoinComposer {
    fn limit(&self) -> usize {
        self.limit
    }

    fn compose(&self, ending: &Ending) -> taskcore::Result<Composed> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let composed =
            bridge::attach(|py| self.follow(py, ending).map_err(|e| errors::from_python(py, &e)));
        self.inside.fetch_sub(1, Ordering::SeqCst);
        composed
    }
}

/// Puts results in the place of a text.
struct Splice<'a, 'py> {
    token: Bound<'py, PyString>,
    /// As JSON.
    results: &'a [Bytes],
    /// Bytes of the longest body.
    limit: usize,
    /// The text and the list of the results, in each format that was asked for.
    lists: Vec<(Format, Vec<u8>, Vec<u8>)>,
}

impl Splice<'_, '_> {
    /// The message with the results; `None` when its body is in no native format.
    fn splice(&mut self, data: &Bytes) -> PyResult<Option<Bytes>> {
        let py = self.token.py();
        let core = |e| errors::to_python(py, &e);
        let mut message = Message::decode(data).map_err(core)?;
        let Some(format) = Format::from_content_type(&message.content_type) else {
            return Ok(None);
        };
        let compression = message.headers.compression.as_deref();
        let compression =
            compression.map(Compression::from_content_type).transpose().map_err(core)?;
        let limit = self.limit;
        let (text, list) = self.in_format(format)?;
        let mut body = match compression {
            Some(compression) => {
                replace(&compression.decompress(&message.body, MAX_BODY).map_err(core)?, text, list)
            }
            None => replace(&message.body, text, list),
        };
        publish::check_body(&message.headers.task, body.len(), limit).map_err(core)?;
        if let Some(compression) = compression {
            body = compression.compress(&body);
        }
        message.body = body.into();
        self.show(&mut message)?;
        Ok(Some(message.encode(Encoding::of(data))))
    }

    /// The text and the list as they stand in a body.
    fn in_format(&mut self, format: Format) -> PyResult<(&[u8], &[u8])> {
        let known = self.lists.iter().position(|(known, ..)| *known == format);
        let at = known.unwrap_or(self.lists.len());
        if known.is_none() {
            let mut text = Vec::new();
            codec::write(format, &mut text, self.token.as_any(), "args")?;
            self.lists.push((format, text, self.list(format)?));
        }
        let (_, text, list) = &self.lists[at];
        Ok((text, list))
    }

    fn list(&self, format: Format) -> PyResult<Vec<u8>> {
        let mut list =
            Vec::with_capacity(self.results.iter().map(|r| r.len() + 2).sum::<usize>() + 5);
        match format {
            Format::Json => {
                list.push(b'[');
                for (n, result) in self.results.iter().enumerate() {
                    list.extend_from_slice(if n == 0 { b"" } else { b", " });
                    list.extend_from_slice(result);
                }
                list.push(b']');
            }
            Format::Msgpack => {
                list.push(0xdd); // an array of 32 bits
                list.extend_from_slice(&(self.results.len() as u32).to_be_bytes());
                for result in self.results {
                    // One at a time, so that what Python makes of it is gone before the next.
                    let value = codec::loads_json(self.token.py(), result)?;
                    codec::write(format, &mut list, &value, "args")?;
                }
            }
        }
        Ok(list)
    }

    /// Shows the beginning of the results where the text is shown.
    fn show(&self, message: &mut Message) -> PyResult<()> {
        let Some(shown) = message.headers.rare.as_mut().and_then(|rare| rare.argsrepr.as_mut())
        else {
            return Ok(());
        };
        let mut beginning = String::from("[");
        for result in self.results {
            if beginning.len() > SHOWN {
                beginning.push_str("...");
                break;
            }
            let separator = if beginning.len() > 1 { ", " } else { "" };
            let text: String = String::from_utf8_lossy(result).chars().take(SHOWN).collect();
            beginning.push_str(separator);
            beginning.push_str(&text);
        }
        beginning.push(']');
        *shown = shown.replace(&format!("'{}'", self.token.to_str()?), &beginning);
        Ok(())
    }
}

/// `text` with `list` in each place of `token`.
fn replace(text: &[u8], token: &[u8], list: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + list.len());
    let mut rest = text;
    while let Some(at) = rest.windows(token.len()).position(|window| window == token) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(list);
        rest = &rest[at + token.len()..];
    }
    out.extend_from_slice(rest);
    out
}
