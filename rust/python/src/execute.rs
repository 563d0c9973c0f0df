//! One call under the interpreter: a message in, an outcome out.
//!
//! The short way is for tasks without hooks, signals and links (`plain`): decode, run, encode, all
//! from here. Everything else, and every exception, is `taskcore.execution.executor`'s business;
//! this file only turns its answer into an outcome. What can fail before user code runs is no
//! failure of the task: a body that cannot be opened or decoded is `Undecodable`. A call whose task
//! has ended already (the worker says so) is not run: Python tells whoever follows it. What is to be
//! published because of a call was encoded while it ran, and leaves with its outcome.
//!
//! The caller learns through [`Host`] when user code begins and ends, because only then is a soft
//! limit meant for it.

use std::rc::Rc;

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBool, PyBytes, PyFloat, PyInt, PyString},
};
use serde_json::json;
use taskcore::{
    clock::{self, Micros},
    fork,
    message::{Compression, Message},
    pool::{Call, Outcome, Status},
    result::State,
};

use crate::{
    bridge,
    codec::{self, CallArgs, Format},
    current::Current,
    document::{self, Documents},
    entries::{Entries, Entry},
    errors,
    request::{Aftermath, Request},
};

/// A body may not become larger than this when it is opened: a bomb must not take the process.
pub(crate) const MAX_BODY: usize = 1 << 30;
/// Arguments that took more bytes are let go before the next ones are read.
const LARGE: usize = 64 * 1024;
/// Characters of an exception whose description could not be stored.
const WORDS: usize = 2_000;
/// `taskcore.execution.outcome.EXPECTED`: a failure that the task declared.
const EXPECTED: u8 = 7;
/// A task whose mean run time is below this is known to be short.
const SHORT_US: f64 = 1_000.0;

/// Who runs the calls.
pub(crate) trait Host {
    /// User code begins now. `short` is whether it is known to take less than a millisecond.
    fn begin(&mut self, now: Micros, short: bool);
    /// User code has ended.
    fn end(&mut self);
    /// Whether the next call follows at once.
    fn goes_on(&self) -> bool {
        false
    }
}

/// What is known of a call before it runs: its task, if there is one, and what the task will see.
type Prepared = (Option<Rc<Entry>>, Py<Request>);

/// Runs calls for one `taskcore.execution.executor.Executor`.
pub(crate) struct Executor {
    execution: Py<PyAny>,
    current: Current,
    run: Py<PyAny>,
    /// `taskcore.utils.shorten`, when outcomes are logged.
    shorten: Option<Py<PyAny>>,
    log_tasks: bool,
    documents: Documents,
    entries: Entries,
}

impl Executor {
    pub(crate) fn new(execution: &Bound<'_, PyAny>, log_tasks: bool) -> PyResult<Self> {
        let py = execution.py();
        let shorten =
            log_tasks.then(|| py.import("taskcore.utils")?.getattr("shorten")).transpose()?;
        Ok(Self {
            execution: execution.clone().unbind(),
            current: Current::new(execution)?,
            run: execution.getattr("run")?.unbind(),
            shorten: shorten.map(Bound::unbind),
            log_tasks,
            documents: Documents::new(execution)?,
            entries: Entries::new(execution),
        })
    }

    /// Runs a call. Never fails: whatever goes wrong is an outcome.
    pub(crate) fn execute(&mut self, py: Python<'_>, call: &Call, host: &mut dyn Host) -> Outcome {
        let mut outcome = Outcome::of(call.key);
        match self.prepare(py, call) {
            Ok((entry, request)) => {
                match (&call.ended, &entry) {
                    (None, Some(entry)) => self.run(entry, request.bind(py), host, &mut outcome),
                    (None, None) => {}
                    (Some(end), entry) => {
                        self.rest(py);
                        host.begin(clock::mono_us(), false);
                        self.tell(entry.as_deref(), request.bind(py), end, &mut outcome);
                        host.end();
                    }
                }
                take_aftermath(request.get(), &mut outcome);
            }
            Err(reason) => outcome.note = reason,
        }
        outcome
    }

    /// Lets go of what the last call left for the next one, because none follows at once.
    pub(crate) fn rest(&self, py: Python<'_>) {
        self.current.clear(py);
    }

    /// Reads the message and its body; the reason when that cannot be done. What follows a task that
    /// has ended is told also where that is not known.
    pub(crate) fn prepare(&mut self, py: Python<'_>, call: &Call) -> Result<Prepared, String> {
        let message = Message::decode(&call.message).map_err(|e| e.to_string())?;
        let entry = match self.entries.find(py, &message.headers.task) {
            Err(_) if call.ended.is_some() => None,
            found => Some(found?),
        };
        let execution = self.execution.bind(py);
        let args = open(execution, &message, || self.rest(py)).map_err(|e| in_words(py, &e))?;
        let request = Request::new(message, call.queue.clone(), call.redeliveries, &args);
        Ok((entry, Py::new(py, request).map_err(|e| in_words(py, &e))?))
    }

    fn run(
        &self,
        entry: &Entry,
        request: &Bound<'_, Request>,
        host: &mut dyn Host,
        outcome: &mut Outcome,
    ) {
        let py = request.py();
        let this = request.get();
        let (args, kwargs) = (this.args(py), this.kwargs(py));
        let short = entry.mean_us.get().is_some_and(|mean| mean < SHORT_US);
        let plain = entry.plain && !this.has_links();
        let current = if plain {
            self.current.set(request.as_any())
        } else {
            self.rest(py);
            Ok(())
        };
        let start = clock::mono_us();
        let process = fork::generation();
        host.begin(start, short);
        let returned = current.and_then(|()| {
            if plain {
                let kwargs = (!kwargs.is_empty()).then_some(kwargs);
                entry.fun.bind(py).call(args, kwargs)
            } else {
                self.run.bind(py).call1((&entry.object, request, args, kwargs))
            }
        });
        if fork::generation() != process {
            bridge::leave_fork(self.execution.bind(py), returned.err());
        }
        host.end();
        let took = clock::mono_us().saturating_sub(start);
        outcome.runtime_us = took.min(u64::from(u32::MAX)) as u32;
        let mean = entry.mean_us.get().unwrap_or(took as f64);
        entry.mean_us.set(Some(mean + (took as f64 - mean) / 8.0));

        let told = returned.and_then(|value| {
            if plain {
                self.success(entry, request, &value, outcome)
            } else {
                self.told(entry, request, &value, outcome)
            }
        });
        if let Err(error) = told {
            self.failed(entry, request, error, outcome);
        }
        if this.message().body.len() > LARGE || !host.goes_on() {
            self.rest(py);
        }
    }

    /// Has Python tell what follows a task that has ended; what goes wrong there is in the log.
    pub(crate) fn tell(
        &self,
        entry: Option<&Entry>,
        request: &Bound<'_, Request>,
        end: &[u8],
        outcome: &mut Outcome,
    ) {
        let (py, this) = (request.py(), request.get());
        outcome.status = Status::Ignore;
        let told = codec::loads_json(py, end).and_then(|end| {
            let plan = entry.map(|entry| entry.object.bind(py));
            let call = (plan, request, this.args(py), this.kwargs(py), end);
            self.execution.bind(py).call_method1("handle_ended", call)
        });
        if let Err(error) = told {
            outcome.note = in_words(py, &error);
            error.write_unraisable(py, Some(request));
        }
    }

    /// The end of the plain way.
    pub(crate) fn success(
        &self,
        entry: &Entry,
        request: &Bound<'_, Request>,
        value: &Bound<'_, PyAny>,
        outcome: &mut Outcome,
    ) -> PyResult<()> {
        if !entry.ignores(request.get()) {
            outcome.document =
                Some(self.documents.write(entry, request, &State::Success, value, None)?);
        }
        if self.log_tasks {
            outcome.note = self.printable(entry, value);
        }
        outcome.status = Status::Success;
        Ok(())
    }

    /// Takes over what Python says about the end of a call.
    pub(crate) fn told(
        &self,
        entry: &Entry,
        request: &Bound<'_, Request>,
        ended: &Bound<'_, PyAny>,
        outcome: &mut Outcome,
    ) -> PyResult<()> {
        let (status, state, result, traceback, note): Told<'_> = ended.extract()?;
        // Text of the user's own may hold lone surrogates.
        let traceback = traceback.map(|text| text.to_string_lossy().into_owned());
        outcome.status = match status {
            0 => Status::Success,
            2 => Status::Retry,
            3 => Status::Ignore,
            4 => Status::Reject,
            5 => Status::Requeue,
            _ => Status::Failure,
        };
        let ignored = entry.ignores(request.get());
        let wanted = match outcome.status {
            Status::Success | Status::Retry => !ignored,
            Status::Failure | Status::Reject => !ignored || entry.store_errors,
            _ => false,
        };
        outcome.document = None;
        if wanted {
            outcome.document = Some(self.documents.write(
                entry,
                request,
                &State::from_name(&state),
                &result,
                traceback.as_deref(),
            )?);
        }
        if self.log_tasks || outcome.status != Status::Success {
            outcome.note = note.to_string_lossy().into_owned();
        }
        // What the task declares by `throws` is stored with its traceback and logged without.
        outcome.traceback = traceback.filter(|_| status != EXPECTED).unwrap_or_default();
        Ok(())
    }

    /// The outcome of an exception, from user code or from the encoding of its result.
    pub(crate) fn failed(
        &self,
        entry: &Entry,
        request: &Bound<'_, Request>,
        error: PyErr,
        outcome: &mut Outcome,
    ) {
        let py = request.py();
        let this = request.get();
        let words = cut(in_words(py, &error));
        let call = (&entry.object, request, this.args(py), this.kwargs(py), error.into_value(py));
        let ended = self.execution.bind(py).call_method1("handle_exception", call);
        let Err(second) = ended.and_then(|ended| self.told(entry, request, &ended, outcome)) else {
            return;
        };
        // Not even the failure could be described or encoded: its text is all that is left.
        outcome.status = Status::Failure;
        let second = cut(in_words(py, &second));
        outcome.note = format!("{words} (and describing it failed: {second})");
        outcome.traceback = second;
        if !entry.ignores(this) || entry.store_errors {
            let result = json!({
                "exc_type": "Exception", "exc_message": &outcome.note, "exc_module": "builtins",
            });
            let result = result.to_string();
            outcome.document =
                Some(document::written(this, &State::Failure, result.as_bytes(), None, b"[]", &[]));
        }
    }

    /// The value for a log line: at once for what is short by nature, else by Python's own rules.
    fn printable(&self, entry: &Entry, value: &Bound<'_, PyAny>) -> String {
        let simple = value.is_none()
            || value.is_exact_instance_of::<PyBool>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyFloat>();
        let py = value.py();
        let shortened = match (&self.shorten, simple) {
            (Some(shorten), false) => {
                let max = entry
                    .object
                    .bind(py)
                    .getattr("task")
                    .and_then(|t| t.getattr("resultrepr_maxsize"));
                match max {
                    Ok(max) => shorten.bind(py).call1((value, max)),
                    Err(_) => shorten.bind(py).call1((value,)),
                }
            }
            _ => value.repr().map(Bound::into_any),
        };
        shortened.map_or_else(|_| "<unprintable>".to_owned(), |s| s.to_string())
    }
}

/// Puts what an execution leaves to the worker into its outcome.
pub(crate) fn take_aftermath(request: &Request, outcome: &mut Outcome) {
    let Aftermath { follow, ended } = request.take_aftermath();
    (outcome.follow, outcome.ended) = (follow, ended);
}

/// The arguments inside the body of a message.
///
/// `execution` is `taskcore.execution.executor.Executor`; `foreign` is called before it decodes.
pub(crate) fn open<'py>(
    execution: &Bound<'py, PyAny>,
    message: &Message,
    foreign: impl FnOnce(),
) -> PyResult<CallArgs<'py>> {
    let py = execution.py();
    let opened: Bytes;
    let body = match &message.headers.compression {
        Some(name) => {
            let compression = Compression::from_content_type(name);
            opened = compression
                .and_then(|c| c.decompress(&message.body, MAX_BODY))
                .map_err(|e| errors::to_python(py, &e))?
                .into();
            &opened
        }
        None => &message.body,
    };
    if let Some(format) = Format::from_content_type(&message.content_type) {
        return codec::loads_args(py, format, body);
    }
    foreign();
    let call = (PyBytes::new(py, body), &message.content_type, &message.content_encoding);
    codec::split_args(&execution.call_method1("loads", call)?)
}

/// `taskcore.execution.outcome.Outcome`: status, state, result, traceback, note.
type Told<'py> =
    (u8, String, Bound<'py, PyAny>, Option<Bound<'py, PyString>>, Bound<'py, PyString>);

/// The beginning of a text of any length.
fn cut(text: String) -> String {
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// An exception in words, for the dead-letter queue.
pub(crate) fn in_words(py: Python<'_>, error: &PyErr) -> String {
    let class = error.get_type(py);
    let class = class.name().map_or_else(|_| "Exception".to_owned(), |n| n.to_string());
    let text =
        error.value(py).str().map_or_else(|_| String::new(), |s| s.to_string_lossy().into_owned());
    if text.is_empty() { class } else { format!("{class}: {text}") }
}
