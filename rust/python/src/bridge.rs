//! The door between the languages: the only place that attaches to and detaches from the
//! interpreter.
//!
//! Class files call [`blocking`] for anything that may wait: it releases the interpreter lock, maps
//! the core's error and runs Python's signal handlers before it returns, so that Ctrl-C works
//! during a slow publish. [`interruptible`] does the same for waits without an end, which poll the
//! signals themselves. Threads that Rust owns enter through [`attach`].

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use pyo3::prelude::*;
use taskcore::fork::PerProcess;

use crate::errors;

/// User code forked, and the new process has come back from it. It is no worker: it must not
/// answer, nor take calls.
pub(crate) fn leave_fork(execution: &Bound<'_, PyAny>, raised: Option<PyErr>) -> ! {
    let raised = raised.map(|e| e.into_value(execution.py()));
    // It does not return; if it fails, this process still has no business here.
    drop(execution.call_method1("exit_forked_process", (raised,)));
    std::process::abort()
}

/// Enters the interpreter from a thread that Rust owns, or again from within `detach`.
pub(crate) fn attach<R>(f: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
    Python::attach(f)
}

/// Whether threads that Rust owns may call this process's Python. Locked for reading while one does:
/// a thread that is inside when the interpreter ends is ended by it, and the process with the thread.
static OPEN: PerProcess<RwLock<bool>> = PerProcess::new();

fn open() -> &'static RwLock<bool> {
    OPEN.get_or_init(|| RwLock::new(true))
}

/// Calls Python from a thread that Rust owns; not when the program has come to its end, see
/// [`end_calls_at_exit`].
pub(crate) fn call_in(f: impl for<'py> FnOnce(Python<'py>)) {
    let open = open().read().unwrap_or_else(PoisonError::into_inner);
    if *open {
        Python::try_attach(f);
    }
}

/// Has the end of the program wait for whoever is in [`call_in`], and let nobody in after that.
pub(crate) fn end_calls_at_exit(py: Python<'_>) -> PyResult<()> {
    // A forked process has the registrations of its parent.
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        py.import("atexit")?.call_method1("register", (wrap_pyfunction!(end_calls, py)?,))?;
    }
    Ok(())
}

#[pyfunction]
fn end_calls(py: Python<'_>) {
    py.detach(|| *open().write().unwrap_or_else(PoisonError::into_inner) = false);
}

/// Leaves the interpreter for the duration of `f`.
pub(crate) fn detach<T: Send>(py: Python<'_>, f: impl FnOnce() -> T + Send) -> T {
    py.detach(f)
}

/// Runs a call of the core that may block: detached, then signals checked, then the error mapped.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    f: impl FnOnce() -> taskcore::Result<T> + Send,
) -> PyResult<T> {
    // What was done stays done: a signal handler that raises wins over an error, not over a value.
    match py.detach(f) {
        Ok(value) => Ok(value),
        Err(error) => {
            py.check_signals()?;
            Err(errors::to_python(py, &error))
        }
    }
}

/// Runs a wait of the core that calls `interrupt` now and then; it must end soon after that returns
/// true. A signal handler that raised is what the caller gets, otherwise the core's error through
/// `map`.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    map: fn(Python<'_>, &taskcore::Error) -> PyErr,
    f: impl FnOnce(&mut dyn FnMut() -> bool) -> taskcore::Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        f(&mut || {
            if raised.is_none() {
                raised = attach(|py| py.check_signals().err());
            }
            raised.is_some()
        })
    });
    match (result, raised) {
        (_, Some(raised)) => Err(raised),
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(map(py, &error)),
    }
}
