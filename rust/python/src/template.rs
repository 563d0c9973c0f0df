//! What all messages of one task share, checked once: a message with everything in it but id,
//! arguments and options.
//!
//! A publish copies it and fills in the rest. The copy costs four small strings, which is what buys
//! that nothing about a task is looked up, parsed or checked again per message.

use std::sync::Arc;

use pyo3::prelude::*;
use taskcore::{
    broker::Route,
    message::{Compression, Encoding, Headers, Message, Properties, TimeLimit},
};

use crate::{
    codec::{self, Format},
    errors,
};

/// Who writes the body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Serializer {
    /// The codec.
    Native(Format),
    /// `taskcore.serialize`, by name.
    Foreign(String),
}

impl Serializer {
    /// The serializer of that name.
    ///
    /// # Errors
    /// `ValueError` when nobody knows it.
    pub(crate) fn from_name(py: Python<'_>, name: &str) -> PyResult<Self> {
        if let Some(format) = Format::from_name(name) {
            return Ok(Self::Native(format));
        }
        match codec::content_type_of(py, name) {
            Ok(_) => Ok(Self::Foreign(name.to_owned())),
            Err(error) => Err(errors::value(error.value(py).to_string())),
        }
    }

    /// Puts the content type into a message.
    pub(crate) fn mark(&self, message: &mut Message) {
        if let Self::Native(format) = self {
            message.content_type = format.content_type().into();
            message.content_encoding = format.content_encoding().into();
        }
    }
}

/// What all messages of one task share; made once per task, frozen.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Template {
    /// The message as far as it is known.
    pub(crate) prototype: Message,
    /// Where it goes.
    pub(crate) queue: Arc<str>,
    /// How it gets there, where that is not by the queue's name.
    pub(crate) route: Option<Arc<Route>>,
    /// How the body is written.
    pub(crate) serializer: Serializer,
    /// How the message is written.
    pub(crate) encoding: Encoding,
    /// How the body is compressed.
    pub(crate) compression: Option<Compression>,
}

#[pymethods]
impl Template {
    #[new]
    #[pyo3(signature = (task, *, queue, serializer = "msgpack", protocol = "compact", priority = 0, compression = None,
        ignore_result = None, time_limit = None, soft_time_limit = None, exchange = "", routing_key = None, route = None))]
    #[allow(clippy::too_many_arguments)] // each is a keyword in Python
    fn new(
        py: Python<'_>,
        task: String,
        queue: &str,
        serializer: &str,
        protocol: &str,
        priority: i64,
        compression: Option<&str>,
        ignore_result: Option<bool>,
        time_limit: Option<f64>,
        soft_time_limit: Option<f64>,
        exchange: &str,
        routing_key: Option<&str>,
        route: Option<&str>,
    ) -> PyResult<Self> {
        if task.is_empty() || queue.is_empty() {
            return Err(errors::value(
                "a task and its queue have names: expected text that is not empty",
            ));
        }
        let encoding = match protocol {
            "compact" => Encoding::Compact,
            "celery" => Encoding::Celery,
            other => {
                return Err(errors::value(format!(
                    "unknown protocol `{other}`, expected `compact` or `celery`"
                )));
            }
        };
        check_queue(encoding, queue)?;
        let serializer = Serializer::from_name(py, serializer)?;
        let mut prototype = Message {
            headers: Headers {
                task,
                ignore_result,
                timelimit: TimeLimit {
                    hard: seconds("time_limit", time_limit)?,
                    soft: seconds("soft_time_limit", soft_time_limit)?,
                },
                ..Headers::default()
            },
            properties: Properties {
                priority: level(priority)?,
                exchange: exchange.to_owned(),
                routing_key: routing_key.unwrap_or(queue).to_owned(),
                ..Properties::default()
            },
            ..Message::default()
        };
        serializer.mark(&mut prototype);
        Ok(Self {
            prototype,
            queue: Arc::from(queue),
            route: route.map(|route| route_of(py, route)).transpose()?,
            serializer,
            encoding,
            compression: compression.map(compression_of).transpose()?,
        })
    }
}

/// The queue that every Celery worker consumes unless it is told otherwise.
const CELERYS_DEFAULT: &str = "celery";

/// Refuses a compact message in the queue that stock workers consume by default: they cannot read
/// it, and end on it.
///
/// # Errors
/// `ValueError` with the two remedies.
pub(crate) fn check_queue(encoding: Encoding, queue: &str) -> PyResult<()> {
    if encoding == Encoding::Compact && queue == CELERYS_DEFAULT {
        return Err(errors::value(format!(
            "queue `{queue}` is what Celery's workers consume by default, and they cannot read a compact message: \
             set task_protocol=2 for messages that both read, or name another queue"
        )));
    }
    Ok(())
}

/// A route, which comes as JSON.
///
/// # Errors
/// `ValueError` when it is none.
pub(crate) fn route_of(py: Python<'_>, text: &str) -> PyResult<Arc<Route>> {
    Route::from_json(text).map(Arc::new).map_err(|e| errors::argument(py, &e))
}

/// A priority.
///
/// # Errors
/// `ValueError` out of range.
pub(crate) fn level(priority: i64) -> PyResult<u8> {
    match u8::try_from(priority) {
        Ok(level @ 0..=9) => Ok(level),
        _ => Err(errors::value(format!(
            "`priority` is `{priority}`, expected 0 (served first) to 9"
        ))),
    }
}

/// The compression of that name.
///
/// # Errors
/// `ValueError` when there is none.
pub(crate) fn compression_of(name: &str) -> PyResult<Compression> {
    Compression::from_name(name).map_err(|e| errors::value(e.to_string()))
}

/// A time limit.
///
/// # Errors
/// `ValueError` when it is no time.
pub(crate) fn seconds(name: &str, value: Option<f64>) -> PyResult<Option<f64>> {
    match value {
        Some(s) if !(s.is_finite() && s > 0.0) => Err(errors::value(format!(
            "`{name}` is `{s}`, expected seconds greater than 0, or None"
        ))),
        other => Ok(other),
    }
}
