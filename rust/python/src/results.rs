//! `Results`: the client's side of a result store.
//!
//! Documents come out as dicts, decoded by the codec. A wait leaves the interpreter and comes back ten times a
//! second to run signal handlers, so that Ctrl-C ends a `get()`. As with `Publisher`, a forked process makes its
//! own connection and forgets the copy.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{prelude::*, types::PyDict};
use taskcore::{
    assemble::{self, Options},
    clock,
    message::Compression,
    result::{Origin, Record, ResultStore, State, record::Document},
};

use crate::{
    bridge,
    codec::{self, Format},
    errors, fresh,
    publisher::{duration, text_options},
};

/// How Celery marks a compressed document; its content type and a zero byte follow.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// Largest document that is decompressed.
const MAX_DOCUMENT: usize = 256 * 1024 * 1024;

/// The client's side of a result store. Thread-safe; reconnects in a forked process.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Results {
    address: String,
    options: Options,
    expires_ms: Option<u64>,
    link: Mutex<Link>,
}

/// A store and the process that made it; locked for a moment with the interpreter attached.
struct Link {
    process: u32,
    store: Arc<dyn ResultStore>,
}

impl Drop for Results {
    fn drop(&mut self) {
        let link = self.link.get_mut().unwrap_or_else(PoisonError::into_inner);
        if link.process != bridge::process() {
            std::mem::forget(link.store.clone());
        }
    }
}

impl Results {
    fn connect(url: &str, options: &Options) -> taskcore::Result<Link> {
        Ok(Link { process: bridge::process(), store: assemble::results(url, options)? })
    }

    fn store(&self, py: Python<'_>) -> PyResult<Arc<dyn ResultStore>> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.process != bridge::process() {
            let fresh = Self::connect(&self.address, &self.options)
                .map_err(|e| errors::to_python(py, &e))?;
            std::mem::forget(std::mem::replace(&mut *link, fresh));
        }
        Ok(link.store.clone())
    }
}

#[pymethods]
#[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it has made
impl Results {
    #[new]
    #[pyo3(
        signature = (url, *, expires = Some(86400.0), options = None),
        text_signature = "(url, *, expires=86400.0, options=None)"
    )]
    fn new(
        py: Python<'_>,
        url: String,
        expires: Option<f64>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = text_options(options)?;
        let link = Self::connect(&url, &options).map_err(|e| errors::argument(py, &e))?;
        let expires = expires.map(|seconds| duration("expires", seconds)).transpose()?;
        let expires_ms = expires.map(|d| d.as_millis() as u64);
        Ok(Self { address: url, options, expires_ms, link: Mutex::new(link) })
    }

    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.store(py)?.url().to_owned())
    }

    #[getter]
    fn reply_to(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.store(py)?.reply_to().to_owned())
    }

    fn get<'py>(
        &self,
        py: Python<'py>,
        task_ids: Vec<String>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let store = self.store(py)?;
        let ids: Vec<&str> = task_ids.iter().map(String::as_str).collect();
        let documents = bridge::blocking(py, || store.get(&ids))?;
        documents.iter().map(|d| d.as_ref().map(|d| document(py, d)).transpose()).collect()
    }

    #[pyo3(signature = (task_id, timeout = None, foreign = false))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        task_id: &str,
        timeout: Option<f64>,
        foreign: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let store = self.store(py)?;
        // A timeout that is too long for the clock is none.
        let deadline = match timeout {
            Some(seconds) if seconds.is_infinite() && seconds > 0.0 => None,
            Some(seconds) => clock::instant().checked_add(duration("timeout", seconds)?),
            None => None,
        };
        let origin = if foreign { Origin::Foreign } else { fresh::origin(task_id) };
        let found = bridge::interruptible(py, errors::to_python, |interrupt| {
            store.wait(task_id, origin, deadline, interrupt)
        })?;
        found.map(|d| document(py, &d)).transpose()
    }

    #[pyo3(signature = (task_id, state, result, *, traceback = None, fields = None))]
    #[allow(clippy::too_many_arguments)] // each is a keyword in Python
    fn put(
        &self,
        py: Python<'_>,
        task_id: String,
        state: &str,
        result: &Bound<'_, PyAny>,
        traceback: Option<&str>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let state = State::from_name(state);
        let result = codec::dumps_json(result, "result")?;
        let mut extra = Vec::new();
        for (name, value) in fields.into_iter().flatten() {
            let name: String = name.extract()?;
            let json = codec::dumps_json(&value, &name)?;
            extra.push((name, json));
        }
        let extra: Vec<(&str, &[u8])> =
            extra.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        let document = Document {
            state: &state,
            result: &result,
            traceback,
            children: None,
            now_us: clock::wall_us(),
            group_id: None,
            parent_id: None,
            extra: &extra,
            task_id: &task_id,
        }
        .write();
        let record =
            Record { id: task_id, state, document, reply_to: None, expires_ms: self.expires_ms };
        let store = self.store(py)?;
        bridge::blocking(py, || store.put(&record))
    }

    fn forget(&self, py: Python<'_>, task_id: &str) -> PyResult<()> {
        let store = self.store(py)?;
        bridge::blocking(py, || store.forget(task_id))
    }

    fn cleanup(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.store(py)?;
        bridge::blocking(py, || store.cleanup())
    }
}

/// A document as a dict.
fn document<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let Some(rest) = data.strip_prefix(COMPRESSED) else {
        return codec::read(py, Format::Json, data);
    };
    let opened = rest
        .iter()
        .position(|b| *b == 0)
        .ok_or_else(|| {
            errors::decode(py, "a compressed result document without a content type".to_owned())
        })
        .and_then(|end| {
            let name = String::from_utf8_lossy(&rest[..end]);
            Compression::from_content_type(&name)
                .and_then(|c| c.decompress(&rest[end + 1..], MAX_DOCUMENT))
                .map_err(|e| errors::to_python(py, &e))
        })?;
    codec::read(py, Format::Json, &opened)
}
