//! `Schedule`: periodic tasks in the broker's store, for Python's scheduler and for those who look
//! after them.

use std::time::Duration;

use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyTuple},
};
use taskcore::{
    broker::{
        Adapter,
        schedule::{Definition, Firing, Guard},
    },
    clock,
};

use crate::{
    bridge,
    compose::{Writer, positional},
    errors, fields,
    publisher::Publisher,
    template::Template,
};

/// The entries of one schedule. Thread-safe; reconnects in a forked process.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Schedule {
    publisher: Py<Publisher>,
    name: String,
}

impl Schedule {
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&dyn Adapter, &str) -> taskcore::Result<T> + Send,
    ) -> PyResult<T> {
        let publisher = self.publisher.get();
        bridge::blocking(py, || f(&*publisher.adapter()?, &self.name))
    }

    /// A firing as Python writes it: name, from, to, and None or a message.
    fn firing(&self, firing: &Bound<'_, PyAny>) -> PyResult<Firing> {
        let (name, from, to, message): (String, i64, i64, Option<Bound<'_, PyTuple>>) =
            firing.extract()?;
        let Some(message) = message else {
            return Ok(Firing { name, from, to, message: None });
        };
        let (template, args, kwargs, options): Call<'_> = message
            .extract()
            .map_err(|_| PyTypeError::new_err("a message is template, args, kwargs and fields"))?;
        let publisher = self.publisher.get();
        let mut draft = fields::draft(template.get(), options.as_ref(), publisher.effort())?;
        let mut writer = Writer::new(publisher.max_body());
        writer.write(&draft.style, &mut draft.outgoing, &positional(&args)?, &kwargs)?;
        Ok(Firing { name, from, to, message: Some(draft.outgoing) })
    }
}

/// A message: template, positional arguments, keyword arguments, fields.
type Call<'py> =
    (Bound<'py, Template>, Bound<'py, PyAny>, Bound<'py, PyDict>, Option<Bound<'py, PyDict>>);

/// One entry: name, definition, done, runs, when it was sent last (seconds), paused.
type Entry = (String, String, i64, u64, Option<f64>, bool);

fn guard(leader: Option<String>, revision: Option<u64>) -> PyResult<Guard> {
    match (leader, revision) {
        (None, None) => Ok(Guard::Always),
        (Some(beat), None) => Ok(Guard::Leads(beat)),
        (None, Some(revision)) => Ok(Guard::Revision(revision)),
        (Some(_), Some(_)) => Err(errors::value("one of `leader` and `revision` is expected")),
    }
}

#[pymethods]
#[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it has made
impl Schedule {
    #[new]
    fn new(publisher: Py<Publisher>, name: String) -> Self {
        Self { publisher, name }
    }

    fn lead(&self, py: Python<'_>, beat: &str, lease: f64) -> PyResult<(String, u64)> {
        let lease = Duration::try_from_secs_f64(lease)
            .map_err(|_| errors::value(format!("`lease` is `{lease}`, expected seconds")))?;
        let leader =
            self.ask(py, |store, name| store.lead(name, beat, lease.as_millis() as i64))?;
        Ok((leader.beat, leader.revision))
    }

    fn resign(&self, py: Python<'_>, beat: &str) -> PyResult<()> {
        self.ask(py, |store, name| store.resign(name, beat))
    }

    fn entries(&self, py: Python<'_>) -> PyResult<(u64, Vec<Entry>)> {
        let found = self.ask(py, |store, name| store.entries(name))?;
        let entries = found.entries.into_iter().map(|one| {
            let sent_at = one.sent_at.map(|at| at as f64 / 1000.0);
            (one.name, one.definition, one.done, one.runs, sent_at, one.paused)
        });
        Ok((found.revision, entries.collect()))
    }

    #[pyo3(signature = (definitions, *, leader=None, revision=None))]
    fn put(
        &self,
        py: Python<'_>,
        definitions: Vec<(String, String, i64, bool)>,
        leader: Option<String>,
        revision: Option<u64>,
    ) -> PyResult<bool> {
        let guard = guard(leader, revision)?;
        let definition =
            |(name, definition, done, restart)| Definition { name, definition, done, restart };
        let definitions: Vec<_> = definitions.into_iter().map(definition).collect();
        self.ask(py, |store, name| store.put(name, &definitions, &guard))
    }

    #[pyo3(signature = (names, *, leader=None, revision=None))]
    fn remove(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        leader: Option<String>,
        revision: Option<u64>,
    ) -> PyResult<Option<u64>> {
        let guard = guard(leader, revision)?;
        self.ask(py, |store, name| store.remove(name, &names, &guard))
    }

    fn pause(&self, py: Python<'_>, entry: &str, paused: bool) -> PyResult<bool> {
        self.ask(py, |store, name| store.pause(name, entry, paused))
    }

    fn fire<'py>(
        &self,
        py: Python<'py>,
        firings: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Option<String>>> {
        let firings: Vec<Firing> =
            firings.try_iter()?.map(|one| self.firing(&one?)).collect::<PyResult<_>>()?;
        let deadline = clock::instant() + self.publisher.get().effort().timeout;
        let done = self.ask(py, |store, name| store.fire(name, &firings, deadline))?;
        let id = |firing: Firing| {
            firing.message.map_or_else(String::new, |outgoing| outgoing.message.headers.id)
        };
        Ok(firings.into_iter().zip(done).map(|(one, done)| done.then(|| id(one))).collect())
    }
}
