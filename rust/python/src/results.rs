//! `Results`: the client's side of a result store.
//!
//! Documents come out as dicts, decoded by the codec. A wait leaves the interpreter and comes back
//! ten times a second to run signal handlers, so that Ctrl-C ends a `get()`. As with `Publisher`, a
//! forked process makes its own connection and forgets the copy.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use pyo3::{prelude::*, types::PyDict};
use taskcore::{
    assemble::{self, Options},
    clock,
    fork::PerProcess,
    result::{
        GROUP_PREFIX, Join, Observer, Origin, Record, ResultStore, State, Watch, record::Document,
    },
};

use crate::{
    bridge, codec,
    encoding::{self, ResultEncoding},
    errors, last_published,
    publisher::{duration, text_options},
};

/// The client's side of a result store. Thread-safe; reconnects in a forked process.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Results {
    address: String,
    options: Options,
    expires_ms: Option<u64>,
    /// None for JSON.
    encoding: Option<Arc<ResultEncoding>>,
    connected: PerProcess<Connected>,
}

struct Connected {
    store: Arc<dyn ResultStore>,
    callbacks: Arc<Callbacks>,
}

/// Python functions to be called with results. Locked for a moment with the interpreter attached.
struct Callbacks {
    watched: Mutex<Watched>,
    encoding: Option<Arc<ResultEncoding>>,
}

#[derive(Default)]
struct Watched {
    /// By the keys that `watch` returns.
    calls: HashMap<u64, Watcher>,
    last: u64,
}

struct Watcher {
    call: Py<PyAny>,
    /// Dropped with this; none while the store is being asked for it.
    watch: Option<Watch>,
}

impl Callbacks {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, call: Py<PyAny>) -> u64 {
        let mut watched = self.lock();
        watched.last += 1;
        let key = watched.last;
        watched.calls.insert(key, Watcher { call, watch: None });
        key
    }

    fn remove(&self, key: u64) -> Option<Watcher> {
        self.lock().calls.remove(&key)
    }
}

impl Observer for Callbacks {
    fn ready(&self, outcomes: Vec<(u64, taskcore::Result<Bytes>)>) {
        // Attached once for all: each time may mean to wait for another thread.
        bridge::call_in(|py| {
            for (key, outcome) in outcomes {
                let Some(watcher) = self.remove(key) else { continue };
                let outcome = outcome
                    .map_err(|error| errors::to_python(py, &error))
                    .and_then(|bytes| encoding::read(py, self.encoding.as_deref(), &bytes));
                let called = match outcome {
                    Ok(document) => watcher.call.call1(py, (document, py.None())),
                    Err(error) => watcher.call.call1(py, (py.None(), error.into_value(py))),
                };
                if let Err(error) = called {
                    error.write_unraisable(py, None);
                }
            }
        });
    }
}

impl Results {
    fn store(&self, py: Python<'_>) -> PyResult<Arc<dyn ResultStore>> {
        Ok(self.connected(py)?.store.clone())
    }

    fn connected(&self, py: Python<'_>) -> PyResult<&Connected> {
        self.connect().map_err(|e| errors::to_python(py, &e))
    }

    /// A document as a dict.
    fn read<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        encoding::read(py, self.encoding.as_deref(), data)
    }

    fn connect(&self) -> taskcore::Result<&Connected> {
        self.connected.get_or_try_init(|| {
            let store = assemble::results(&self.address, &self.options)?;
            let encoding = self.encoding.clone();
            let callbacks = Arc::new(Callbacks { watched: Mutex::default(), encoding });
            Ok(Connected { store, callbacks })
        })
    }
}

#[pymethods]
#[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it has made
impl Results {
    #[new]
    #[pyo3(
        signature = (url, *, expires = Some(86400.0), options = None, encoding = None),
        text_signature = "(url, *, expires=86400.0, options=None, encoding=None)"
    )]
    fn new(
        py: Python<'_>,
        url: String,
        expires: Option<f64>,
        options: Option<&Bound<'_, PyDict>>,
        encoding: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let options = text_options(options)?;
        let expires = expires.map(|seconds| duration("expires", seconds)).transpose()?;
        let expires_ms = expires.map(|d| d.as_millis() as u64);
        let encoding = encoding.map_or(Ok(None), ResultEncoding::new)?;
        let connected = PerProcess::new();
        let results = Self { address: url, options, expires_ms, encoding, connected };
        results.connect().map_err(|e| errors::argument(py, &e))?;
        Ok(results)
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
        documents.iter().map(|d| d.as_ref().map(|d| self.read(py, d)).transpose()).collect()
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
        let origin = if foreign { Origin::Foreign } else { last_published::origin(task_id) };
        let found = bridge::interruptible(py, errors::to_python, |interrupt| {
            store.wait(task_id, origin, deadline, interrupt)
        })?;
        found.map(|d| self.read(py, &d)).transpose()
    }

    #[pyo3(signature = (task_id, done, foreign = false))]
    fn watch(
        &self,
        py: Python<'_>,
        task_id: &str,
        done: Py<PyAny>,
        foreign: bool,
    ) -> PyResult<u64> {
        bridge::end_calls_at_exit(py)?;
        let Connected { store, callbacks } = self.connected(py)?;
        let origin = if foreign { Origin::Foreign } else { Origin::Own };
        let key = callbacks.add(done);
        let observer: Arc<dyn Observer> = callbacks.clone();
        let watch = store.watch(task_id, origin, key, &observer).map_err(|e| {
            callbacks.remove(key);
            errors::to_python(py, &e)
        })?;
        if let Some(watcher) = callbacks.lock().calls.get_mut(&key) {
            watcher.watch = Some(watch);
        }
        Ok(key)
    }

    fn unwatch(&self, py: Python<'_>, key: u64) -> PyResult<()> {
        drop(self.connected(py)?.callbacks.remove(key));
        Ok(())
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
        let json = match &self.encoding {
            Some(_) => b"null".to_vec(),
            None => codec::dumps_json(result, "result")?,
        };
        let extra = codec::dumps_fields(fields)?;
        let mut document = Document {
            state: &state,
            result: &json,
            traceback,
            children: None,
            now_us: clock::wall_us(),
            group_id: None,
            parent_id: None,
            extra: &codec::borrowed(&extra),
            task_id: &task_id,
        }
        .write();
        if let Some(encoding) = &self.encoding {
            document = encoding.document(py, &document, result)?;
        }
        let record = Record {
            id: task_id,
            state,
            document,
            reply_to: None,
            expires_ms: self.expires_ms,
            member: None,
        };
        let store = self.store(py)?;
        bridge::blocking(py, || store.put(&record))
    }

    fn declare_join(&self, py: Python<'_>, group_id: String, size: u64) -> PyResult<()> {
        if size == 0 {
            return Err(errors::value(format!(
                "the join `{group_id}` has no members, expected at least `1`: what follows none is published at once"
            )));
        }
        let join = Join { id: group_id, size, expires_ms: self.expires_ms };
        let store = self.store(py)?;
        bridge::blocking(py, || store.declare(&join))
    }

    fn extend_join(&self, py: Python<'_>, group_id: String, more: u64) -> PyResult<()> {
        let more = Join { id: group_id, size: more, expires_ms: self.expires_ms };
        let store = self.store(py)?;
        bridge::blocking(py, || store.extend(&more))
    }

    fn save_group(
        &self,
        py: Python<'_>,
        group_id: &str,
        structure: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let document = if let Some(encoding) = &self.encoding {
            encoding.document(py, b"{}", structure)?
        } else {
            let structure = codec::dumps_json(structure, "result")?;
            [&b"{\"result\": "[..], &structure, b"}"].concat().into()
        };
        let record = Record {
            id: format!("{GROUP_PREFIX}{group_id}"),
            // One that yields to the next.
            state: State::Custom("GROUP".to_owned()),
            document,
            reply_to: None,
            expires_ms: self.expires_ms,
            member: None,
        };
        let store = self.store(py)?;
        bridge::blocking(py, || store.put(&record))
    }

    fn saved_group<'py>(
        &self,
        py: Python<'py>,
        group_id: &str,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.get(py, vec![format!("{GROUP_PREFIX}{group_id}")])?.pop().flatten())
    }

    fn forget_group(&self, py: Python<'_>, group_id: &str) -> PyResult<()> {
        self.forget(py, &format!("{GROUP_PREFIX}{group_id}"))
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
