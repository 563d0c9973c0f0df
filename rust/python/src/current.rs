//! The request that is the current one of a thread that runs calls, behind `current_task` and what a
//! task publishes: Python's context variable, set before user code runs.
//!
//! Setting it costs a tenth of a short call, so it is not emptied between two plain calls that follow
//! each other at once, as nothing of the user's runs there: the next one takes its place. Whoever
//! goes on to anything else calls [`Current::clear`] first.

use std::cell::Cell;

use pyo3::prelude::*;

/// The door to the context variable.
pub(crate) struct Current {
    /// `taskcore.context.set_request`.
    set: Py<PyAny>,
    is_set: Cell<bool>,
}

impl Current {
    pub(crate) fn new(execution: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { set: execution.getattr("set_request")?.unbind(), is_set: Cell::new(false) })
    }

    /// Makes this request the current one.
    pub(crate) fn set(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        self.is_set.set(true);
        self.set.bind(request.py()).call1((request,)).map(drop)
    }

    /// There is none any more.
    pub(crate) fn clear(&self, py: Python<'_>) {
        if self.is_set.replace(false)
            && let Err(error) = self.set.bind(py).call1((py.None(),))
        {
            error.write_unraisable(py, None);
        }
    }
}
