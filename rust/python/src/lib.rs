//! `taskcore._core`: the export list of the PyO3 layer, nothing else.
//!
//! The layer is thin on purpose: `bridge` enters and leaves the interpreter, `errors` maps errors,
//! `codec` turns Python objects into bytes and back, and each class file wraps one noun of the
//! core. `_core.pyi` documents what is exported here and stubtest compares the two.

mod bridge;
mod errors;

mod codec;
mod request;
mod current;
mod entries;
mod encoding;
mod document;
mod execute;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod coroutines;
mod pool_thread;
mod raising;
mod threads;
mod log;
mod log_writer;
mod config;
mod control;
mod mailbox;
mod http;
mod join_composer;
mod worker;

mod template;
mod field;
mod fields;
mod compose;
mod bulk;
mod last_published;
mod broadcast;
mod publisher;
mod schedule;
mod crontab;
mod results;
mod read_message;

/// The Rust core behind taskcore. It relies on the interpreter lock: the codec borrows the items of
/// lists and dicts.
#[pyo3::pymodule(gil_used = true)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        broadcast::Subscriber,
        codec::{Steps, dumps, loads},
        crontab::Crontab,
        entries::invalidate_tasks,
        publisher::Publisher,
        read_message::read_message,
        results::Results,
        schedule::Schedule,
        template::Template,
    };

    #[pymodule_export]
    use super::request::Request;

    #[cfg(unix)]
    #[pymodule_export]
    use super::{
        child::{end_due, run_child, soft_limit_due},
        coroutines::LoopChild,
    };

    #[pymodule_export]
    use super::worker::Worker;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
