//! `Publisher`: the producer's side of a broker, for client code and for tasks that publish.
//!
//! A publish runs in the caller's thread: encode under the interpreter's lock, release it, send,
//! confirm. There is no runtime and no thread between `delay()` and the socket. The broker is made
//! from its URL once per process: after a fork the copy that the child inherited is forgotten,
//! never closed, because its sockets and files are still the parent's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pyo3::{
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use taskcore::{
    assemble::{self, Options},
    backoff::RetryPolicy,
    broker::{Adapter, Outgoing},
    clock,
    fork::PerProcess,
    message::{Encoding, JSON, Message},
    pool::FollowUp,
    publish::{self, Effort, MAX_BODY},
};

use crate::{
    bridge,
    broadcast::{self, Subscriber},
    bulk::Bulk,
    compose::{Writer, positional},
    errors,
    fields::{self, Draft},
    last_published,
    request::Request,
    template::Template,
};

/// The producer's side of a broker. Thread-safe; reconnects in a forked process.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Publisher {
    address: String,
    options: Options,
    effort: Effort,
    max_body: usize,
    connected: PerProcess<Connected>,
}

struct Connected {
    sender: Arc<publish::Publisher>,
    adapter: Arc<dyn Adapter>,
}

impl Publisher {
    /// What publishes in this process.
    pub(crate) fn sender(&self, py: Python<'_>) -> PyResult<Arc<publish::Publisher>> {
        Ok(self.connected().map_err(|e| errors::to_python(py, &e))?.sender.clone())
    }

    /// All ports of its broker, in this process.
    pub(crate) fn adapter(&self) -> taskcore::Result<Arc<dyn Adapter>> {
        Ok(self.connected()?.adapter.clone())
    }

    /// How hard it tries.
    pub(crate) fn effort(&self) -> &Effort {
        &self.effort
    }

    /// The longest body that it publishes.
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    fn connected(&self) -> taskcore::Result<&Connected> {
        self.connected.get_or_try_init(|| {
            let adapter = assemble::broker(&self.address, &self.options)?;
            let sender = Arc::new(publish::Publisher::new(adapter.clone()));
            Ok(Connected { sender, adapter })
        })
    }

    /// Asks the broker as an operator; that may block.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&dyn Adapter) -> taskcore::Result<T> + Send,
    ) -> PyResult<T> {
        bridge::blocking(py, || f(&*self.connected()?.adapter))
    }
}

#[pymethods]
#[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it has made
impl Publisher {
    #[new]
    #[pyo3(
        signature = (url, *, timeout = 5.0, max_retries = Some(3), interval_start = 0.0, interval_step = 0.2,
            interval_max = 1.0, max_body = MAX_BODY, options = None),
        text_signature = "(url, *, timeout=5.0, max_retries=3, interval_start=0.0, interval_step=0.2, interval_max=1.0, \
            max_body=16777216, options=None)"
    )]
    #[allow(clippy::too_many_arguments)] // each is a keyword in Python
    fn new(
        py: Python<'_>,
        url: String,
        timeout: f64,
        max_retries: Option<u32>,
        interval_start: f64,
        interval_step: f64,
        interval_max: f64,
        max_body: usize,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = text_options(options)?;
        let effort = Effort {
            timeout: duration("timeout", timeout)?,
            retry: Some(RetryPolicy {
                max_retries,
                interval_start: duration("interval_start", interval_start)?,
                interval_step: duration("interval_step", interval_step)?,
                interval_max: duration("interval_max", interval_max)?,
            }),
        };
        let connected = PerProcess::new();
        let publisher = Self { address: url, options, effort, max_body, connected };
        publisher.connected().map_err(|e| errors::argument(py, &e))?;
        Ok(publisher)
    }

    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.sender(py)?.broker().url().to_owned())
    }

    #[pyo3(signature = (template, args, kwargs, fields = None))]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        template: &Bound<'py, Template>,
        args: &Bound<'py, PyAny>,
        kwargs: &Bound<'py, PyDict>,
        fields: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<String> {
        let template = template.get();
        let mut draft = fields::draft(template, fields, &self.effort)?;
        let mut writer = Writer::new(self.max_body);
        writer.write(&draft.style, &mut draft.outgoing, &positional(args)?, kwargs)?;
        let (outgoing, effort) = (&mut draft.outgoing, draft.effort.unwrap_or(self.effort));
        let sender = self.sender(py)?;
        bridge::interruptible(py, errors::publishing, |interrupt| {
            let one = std::slice::from_mut(outgoing);
            let answers = sender.send(one, &effort, interrupt)?;
            sender.kept(one, &answers)
        })?;
        let id = draft.outgoing.message.headers.id;
        last_published::published(&id);
        Ok(id)
    }

    #[pyo3(signature = (request, template, args, kwargs, fields = None))]
    fn follow<'py>(
        &self,
        request: &Bound<'py, Request>,
        template: &Bound<'py, Template>,
        args: &Bound<'py, PyAny>,
        kwargs: &Bound<'py, PyDict>,
        fields: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<String> {
        let mut draft = fields::draft(template.get(), fields, &self.effort)?;
        let mut writer = Writer::new(self.max_body);
        writer.write(&draft.style, &mut draft.outgoing, &positional(args)?, kwargs)?;
        let Outgoing { message, queue, encoding, .. } = draft.outgoing;
        let (id, data) = (Arc::from(&*message.headers.id), message.encode(encoding));
        request.get().follow(FollowUp { queue, id, data })?;
        Ok(message.headers.id)
    }

    #[pyo3(signature = (template, calls, fields = None, check = None))]
    fn publish_many<'py>(
        &self,
        py: Python<'py>,
        template: &Bound<'py, Template>,
        calls: &Bound<'py, PyAny>,
        fields: Option<&Bound<'py, PyDict>>,
        check: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Py<PyString>>> {
        let Draft { outgoing, style, effort } =
            fields::draft(template.get(), fields, &self.effort)?;
        if !outgoing.message.headers.id.is_empty() {
            return Err(errors::value(
                "`task_id` would name all messages alike, expected none in a bulk publish",
            ));
        }
        let effort = effort.unwrap_or(self.effort);
        let mut writer = Writer::new(self.max_body);
        let kwargs = PyDict::new(py);
        let calls = calls.try_iter()?;
        Bulk::new(py, self.sender(py)?, outgoing).publish(calls, |args, place| {
            let args = positional(args)?;
            if let Some(check) = check {
                check.call1(spread(&args)?)?;
            }
            place.message.headers.id.clear();
            writer.write(&style, place, &args, &kwargs)?;
            Ok(effort)
        })
    }

    fn publish_each<'py>(
        &self,
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Py<PyString>>> {
        let mut writer = Writer::new(self.max_body);
        let messages = messages.try_iter()?;
        let empty = Outgoing::new(Message::default(), Arc::from(""), Encoding::Compact);
        Bulk::new(py, self.sender(py)?, empty).publish(messages, |message, place| {
            let (template, args, kwargs, fields) = four(message)?;
            let draft = fields::draft(template.get(), fields.as_ref(), &self.effort)?;
            *place = draft.outgoing;
            writer.write(&draft.style, place, &positional(&args)?, &kwargs)?;
            Ok(draft.effort.unwrap_or(self.effort))
        })
    }

    #[pyo3(
        signature = (exchange, kind, routing_key, body, headers = "{}", content_type = JSON, timeout = 5.0),
        text_signature = "($self, exchange, kind, routing_key, body, headers='{}', content_type='application/json', timeout=5.0)"
    )]
    #[allow(clippy::too_many_arguments)] // each is a keyword in Python
    fn broadcast(
        &self,
        py: Python<'_>,
        exchange: String,
        kind: &str,
        routing_key: &str,
        body: &[u8],
        headers: &str,
        content_type: &str,
        timeout: f64,
    ) -> PyResult<()> {
        let broker = &self.adapter().map_err(|e| errors::to_python(py, &e))?;
        let to = (exchange, kind, routing_key);
        broadcast::say(py, broker, to, (headers, content_type, body), timeout)
    }

    fn subscribe(
        &self,
        py: Python<'_>,
        bindings: Vec<(String, String, String)>,
    ) -> PyResult<Subscriber> {
        let broker = &self.adapter().map_err(|e| errors::to_python(py, &e))?;
        Subscriber::new(py, broker, bindings)
    }

    #[pyo3(signature = (ids, expires, timeout = 5.0))]
    fn revoke(&self, py: Python<'_>, ids: Vec<String>, expires: f64, timeout: f64) -> PyResult<()> {
        let ids: Vec<Arc<str>> = ids.into_iter().map(Arc::from).collect();
        let until = clock::wall_ms() + duration("expires", expires)?.as_millis() as i64;
        let deadline = clock::instant() + duration("timeout", timeout)?;
        self.ask(py, |broker| broker.revoke(&ids, until, deadline))
    }

    #[pyo3(signature = (timeout = 5.0))]
    fn revoked(&self, py: Python<'_>, timeout: f64) -> PyResult<Vec<String>> {
        let deadline = clock::instant() + duration("timeout", timeout)?;
        let ids = self.ask(py, |broker| broker.revoked(deadline))?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    fn stats<'py>(&self, py: Python<'py>, queue: &str) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.ask(py, |broker| broker.stats(queue))?;
        let dict = PyDict::new(py);
        dict.set_item("depth", stats.depth)?;
        dict.set_item("in_flight", stats.in_flight)?;
        dict.set_item("scheduled", stats.scheduled)?;
        dict.set_item("dead", stats.dead)?;
        Ok(dict)
    }

    fn queues(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.ask(py, |broker| broker.queues())
    }

    fn purge(&self, py: Python<'_>, queue: &str) -> PyResult<u64> {
        self.ask(py, |broker| broker.purge(queue))
    }

    fn cancel(&self, py: Python<'_>, queue: &str, task_id: &str) -> PyResult<bool> {
        self.ask(py, |broker| broker.cancel(queue, task_id))
    }

    #[pyo3(signature = (queue, limit = 100))]
    fn dead<'py>(
        &self,
        py: Python<'py>,
        queue: &str,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let letters = self.ask(py, |broker| broker.dead(queue, limit))?;
        letters
            .iter()
            .map(|letter| {
                let dict = PyDict::new(py);
                dict.set_item("key", &letter.key)?;
                dict.set_item("id", &letter.id)?;
                let task = letter.message.as_ref().map(|message| &message.headers.task);
                dict.set_item("task", task)?;
                dict.set_item("reason", &letter.reason)?;
                dict.set_item("at", letter.at as f64 / 1000.0)?;
                dict.set_item("redeliveries", letter.redeliveries)?;
                dict.set_item("raw", PyBytes::new(py, &letter.raw))?;
                Ok(dict)
            })
            .collect()
    }

    #[pyo3(signature = (queue, keys = None))]
    fn replay(&self, py: Python<'_>, queue: &str, keys: Option<Vec<String>>) -> PyResult<u64> {
        self.ask(py, |broker| broker.replay(queue, keys.as_deref()))
    }

    #[pyo3(signature = (queue, keys = None))]
    fn discard(&self, py: Python<'_>, queue: &str, keys: Option<Vec<String>>) -> PyResult<u64> {
        self.ask(py, |broker| broker.discard(queue, keys.as_deref()))
    }
}

type Four<'py> =
    (Bound<'py, Template>, Bound<'py, PyAny>, Bound<'py, PyDict>, Option<Bound<'py, PyDict>>);

/// One item of `publish_each`.
fn four<'py>(message: &Bound<'py, PyAny>) -> PyResult<Four<'py>> {
    message.extract().map_err(|_| {
        let found = errors::type_name(message);
        errors::kind(format!(
            "a message is a `{found}`, expected (Template, args, kwargs dict, fields dict or None)"
        ))
    })
}

/// A list or tuple of arguments as those of a call.
fn spread<'py>(args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    Ok(match args.cast::<PyTuple>() {
        Ok(tuple) => tuple.clone(),
        Err(_) => args.cast::<PyList>()?.to_tuple(),
    })
}

/// Options as the core takes them: text, whatever the user wrote them as. None is absent.
///
/// # Errors
/// `TypeError` for a value that is no option.
pub(crate) fn text_options(options: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
    let mut texts = BTreeMap::new();
    for (name, value) in options.into_iter().flatten() {
        if value.is_none() {
            continue;
        }
        let text = if let Ok(flag) = value.cast::<PyBool>() {
            flag.is_true().to_string()
        } else if value.is_instance_of::<PyString>()
            || value.is_instance_of::<PyInt>()
            || value.is_instance_of::<PyFloat>()
        {
            value.str()?.extract()?
        } else {
            let found = errors::type_name(&value);
            return Err(errors::kind(format!(
                "option `{name}` is a `{found}`, expected str, int, float or bool"
            )));
        };
        texts.insert(name.extract()?, text);
    }
    Ok(texts)
}

/// A time span argument.
///
/// # Errors
/// `ValueError` when it is none.
pub(crate) fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        errors::value(format!(
            "`{name}` is `{seconds}`, expected a number of seconds that is not negative"
        ))
    })
}
