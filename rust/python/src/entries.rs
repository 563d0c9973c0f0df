//! What a process knows about the tasks that it runs: Python's `Plan` of each, read once.
//!
//! Hooks, receivers of signals and settings decide how a task is run, and may change while it is
//! run. Then Python calls [`invalidate_tasks`], and every thread asks again; until then a call
//! costs one look at a counter.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use pyo3::prelude::*;

use crate::{execute::in_words, request::Request};

/// How often what is known went stale in this process.
static STALE: AtomicU64 = AtomicU64::new(0);

/// Says that hooks, receivers of signals or settings have changed: every task is looked up again
/// before its next call.
#[pyfunction]
pub(crate) fn invalidate_tasks() {
    STALE.fetch_add(1, Ordering::Relaxed);
}

/// What this process knows about a task.
#[allow(clippy::struct_excessive_bools)] // the attributes of Python's Plan, one by one
pub(crate) struct Entry {
    /// `taskcore.execution.executor.Plan`.
    pub(crate) object: Py<PyAny>,
    pub(crate) fun: Py<PyAny>,
    pub(crate) plain: bool,
    ignore_result: bool,
    pub(crate) store_errors: bool,
    pub(crate) extended: bool,
    /// Mean run time in microseconds; `None` before the first.
    pub(crate) mean_us: Cell<Option<f64>>,
}

impl Entry {
    /// Whether nobody wants the result: the caller decides, else the task. The body of a chord wants
    /// those of its members.
    pub(crate) fn ignores(&self, request: &Request) -> bool {
        let ignored = request.message().headers.ignore_result.unwrap_or(self.ignore_result);
        ignored && !request.is_member()
    }
}

/// The tasks that one thread has run.
pub(crate) struct Entries {
    /// `taskcore.execution.executor.Executor`.
    execution: Py<PyAny>,
    known: BTreeMap<String, Rc<Entry>>,
    /// What [`STALE`] was when `known` was begun.
    at: u64,
}

impl Entries {
    pub(crate) fn new(execution: &Bound<'_, PyAny>) -> Self {
        let at = STALE.load(Ordering::Relaxed);
        Self { execution: execution.clone().unbind(), known: BTreeMap::new(), at }
    }

    /// The task called `name`; in words why there is none.
    pub(crate) fn find(&mut self, py: Python<'_>, name: &str) -> Result<Rc<Entry>, String> {
        let stale = STALE.load(Ordering::Relaxed);
        if stale != self.at {
            self.at = stale;
            self.known.clear();
        }
        if let Some(entry) = self.known.get(name) {
            return Ok(entry.clone());
        }
        let entry = self.look_up(py, name).map_err(|e| in_words(py, &e))?;
        let entry =
            entry.ok_or_else(|| format!("no task `{name}` is registered in this process"))?;
        Ok(self.known.entry(name.to_owned()).or_insert(Rc::new(entry)).clone())
    }

    fn look_up(&self, py: Python<'_>, name: &str) -> PyResult<Option<Entry>> {
        let object = self.execution.bind(py).call_method1("plan", (name,))?;
        if object.is_none() {
            return Ok(None);
        }
        let flag = |name: &str| object.getattr(name)?.is_truthy();
        Ok(Some(Entry {
            fun: object.getattr("fun")?.unbind(),
            plain: flag("plain")?,
            ignore_result: flag("ignore_result")?,
            store_errors: flag("store_errors")?,
            extended: flag("extended")?,
            mean_us: Cell::new(None),
            object: object.unbind(),
        }))
    }
}
