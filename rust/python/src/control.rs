//! Commands to a running worker, from Python's side: asked, waited for, and the answers as dicts.
//!
//! The loop answers between two of its turns, so a wait is short, except while it ends a pool.
//! Signal handlers run meanwhile. A process that was forked from the worker's has a handle without
//! a loop behind it, which would never answer: there it is refused.

use std::sync::{
    Arc,
    mpsc::{self, RecvTimeoutError},
};

use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};
use taskcore::{
    Error, ErrorKind, fork,
    worker::{
        Command, Handle, Stats,
        command::{Held, Limits, Reply, Report, RevokeAnswer},
        handle_ended,
    },
};

use crate::{bridge, errors, worker::SIGNALS};

/// Asks the worker behind `handle`, which was started in process number `process`.
pub(crate) fn ask<T: Send + 'static>(
    py: Python<'_>,
    (handle, process): (&Handle, u32),
    command: impl FnOnce(Reply<T>) -> Command,
) -> PyResult<T> {
    if process != fork::generation() {
        return Err(not_here(py));
    }
    let (sender, answer) = mpsc::channel();
    handle.send(command(Reply::new(move |given| drop(sender.send(given)))));
    let mut answer = answer;
    loop {
        let received;
        (received, answer) = bridge::detach(py, move || (answer.recv_timeout(SIGNALS), answer));
        match received {
            Ok(given) => return given.map_err(|e| errors::argument(py, &e)),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(errors::to_python(py, &handle_ended()));
            }
        }
    }
}

/// There is no running worker in this process.
#[cold]
pub(crate) fn not_here(py: Python<'_>) -> PyErr {
    let text = "no worker runs in this process, expected the process of the worker after its start; tasks of the pool `prefork` \
                run in others";
    errors::to_python(py, &Error::new(ErrorKind::Unsupported, text))
}

/// What became of revoked ids.
pub(crate) fn revoked(py: Python<'_>, answer: RevokeAnswer) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("dropped", answer.dropped)?;
    dict.set_item("terminated", answer.terminated)?;
    dict.set_item("running", answer.running)?;
    Ok(dict)
}

/// Names for Python.
pub(crate) fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Limits in seconds.
pub(crate) fn limits(soft: Option<f64>, hard: Option<f64>) -> PyResult<Limits> {
    let micros = |name: &str, seconds: Option<f64>| match seconds {
        None => Ok(None),
        Some(s) if s > 0.0 && s.is_finite() => Ok(Some((s * 1e6) as u64)),
        Some(s) => Err(errors::value(format!("{name} `{s}`, expected seconds above 0, or None"))),
    };
    Ok(Limits { soft_us: micros("soft time limit", soft)?, hard_us: micros("time limit", hard)? })
}

/// Soft and hard limit in seconds.
pub(crate) fn in_seconds(limits: Limits) -> (Option<f64>, Option<f64>) {
    let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
    (seconds(limits.soft_us), seconds(limits.hard_us))
}

/// The figures of a worker.
pub(crate) fn stats(py: Python<'_>, stats: Stats) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("processed", stats.processed)?;
    dict.set_item("active", stats.active)?;
    dict.set_item("reserved", stats.reserved)?;
    dict.set_item("scheduled", stats.scheduled)?;
    dict.set_item("prefetch", stats.prefetch)?;
    dict.set_item("connected", stats.connected)?;
    dict.set_item("children", stats.children)?;
    dict.set_item("succeeded", stats.succeeded)?;
    dict.set_item("failed", stats.failed)?;
    dict.set_item("retried", stats.retried)?;
    dict.set_item("revoked", stats.revoked)?;
    Ok(dict)
}

/// All that a worker says of itself.
pub(crate) fn report(py: Python<'_>, report: Report) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("stats", stats(py, report.stats)?)?;
    dict.set_item("slots", report.slots)?;
    for (name, list) in
        [("active", report.active), ("reserved", report.reserved), ("scheduled", report.scheduled)]
    {
        let list = list.iter().map(|one| held(py, one)).collect::<PyResult<Vec<_>>>()?;
        dict.set_item(name, PyList::new(py, list)?)?;
    }
    dict.set_item("queues", texts(&report.queues))?;
    dict.set_item("autoscale", report.autoscale.map(|bounds| (bounds.most, bounds.least)))?;
    let total = PyDict::new(py);
    for (task, count) in report.total {
        total.set_item(&*task, count)?;
    }
    dict.set_item("total", total)?;
    let limits = PyDict::new(py);
    for (task, limit) in report.rate_limits {
        limits.set_item(&*task, limit)?;
    }
    dict.set_item("rate_limits", limits)?;
    Ok(dict)
}

fn held<'py>(py: Python<'py>, held: &Held) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", &held.id)?;
    dict.set_item("name", &*held.task)?;
    dict.set_item("queue", &*held.queue)?;
    dict.set_item("redeliveries", held.redeliveries)?;
    dict.set_item("acknowledged", held.acked)?;
    dict.set_item("time_start", held.started.map(|ms| ms as f64 / 1e3))?;
    dict.set_item("worker_pid", held.pid)?;
    dict.set_item("message", PyBytes::new(py, &held.message))?;
    Ok(dict)
}
