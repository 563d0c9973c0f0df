//! `Request`: one execution as the child sees it, behind `self.request`.
//!
//! It holds the message as it was read and makes Python objects only for what is asked for: most
//! tasks never look. The children that the execution publishes are collected here, because the
//! result document lists them; so are the messages that follow it, which leave with its outcome.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyDict, PyList, PyTuple},
};
use serde_json::{Map, Value};
use taskcore::{
    clock,
    message::{Message, TimeLimit, format_iso},
    pool::{EndedTask, FollowUp},
    result::{State, record::Document},
};

use crate::{
    codec::{self, CallArgs, Format},
    errors,
};

/// One execution as the child sees it.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Request {
    message: Message,
    queue: Arc<str>,
    redeliveries: u32,
    args: Py<PyTuple>,
    kwargs: Py<PyDict>,
    embed: Option<Py<PyDict>>,
    /// Whether it is the member of a chord.
    member: bool,
    /// What was published during the execution. A mutex for an append; never held across Python.
    children: Mutex<Vec<Child>>,
    /// What becomes of others with the outcome; made with the first of them, since most have none.
    /// `None` inside: it has ended, and nothing can follow it any more. A mutex for an append.
    aftermath: OnceLock<Mutex<Option<Aftermath>>>,
}

/// What an execution leaves to the worker beside its own result.
#[derive(Default)]
pub(crate) struct Aftermath {
    /// What is published.
    pub(crate) follow: Vec<FollowUp>,
    /// What ends with it.
    pub(crate) ended: Vec<EndedTask>,
}

/// The result tuple of what was published during an execution.
struct Child {
    /// Of the task, or of the group.
    id: String,
    /// The result tuple of what came before it.
    parent: Option<Py<PyAny>>,
    /// The result tuples of a group.
    members: Option<Py<PyAny>>,
}

impl Child {
    /// The first member of a group.
    fn first(&self, py: Python<'_>) -> Option<String> {
        let member = self.members.as_ref()?.bind(py).get_item(0).ok()?;
        member.get_item(0).and_then(|id| id.get_item(0)?.extract()).ok()
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let copy = |tuple: &Option<Py<PyAny>>| tuple.as_ref().map(|t| t.clone_ref(py));
        Self { id: self.id.clone(), parent: copy(&self.parent), members: copy(&self.members) }
    }
}

impl Request {
    pub(crate) fn new(
        message: Message,
        queue: Arc<str>,
        redeliveries: u32,
        call: &CallArgs<'_>,
    ) -> Self {
        Self {
            message,
            queue,
            redeliveries,
            args: call.args.clone().unbind(),
            kwargs: call.kwargs.clone().unbind(),
            member: call.embed.as_ref().is_some_and(|embed| carries(embed, "chord")),
            embed: call.embed.clone().map(Bound::unbind),
            children: Mutex::default(),
            aftermath: OnceLock::new(),
        }
    }

    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    pub(crate) fn args<'py>(&self, py: Python<'py>) -> &Bound<'py, PyTuple> {
        self.args.bind(py)
    }

    pub(crate) fn kwargs<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        self.kwargs.bind(py)
    }

    /// Whether the message carries callbacks, errbacks, a chain or a chord.
    pub(crate) fn has_links(&self) -> bool {
        self.embed.is_some()
    }

    /// Adds a message that follows this execution.
    ///
    /// # Errors
    /// `RuntimeError`: it has ended. A thread or a copied context outlives the execution that it
    /// began in.
    pub(crate) fn follow(&self, message: FollowUp) -> PyResult<()> {
        self.leave(|aftermath| aftermath.follow.push(message))
    }

    fn leave(&self, add: impl FnOnce(&mut Aftermath)) -> PyResult<()> {
        let aftermath = self.aftermath.get_or_init(|| Mutex::new(Some(Aftermath::default())));
        match &mut *aftermath.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(aftermath) => {
                add(aftermath);
                Ok(())
            }
            None => Err(PyRuntimeError::new_err(format!(
                "task `{}` [{}] has ended: it can be retried only while it runs; publish a new call",
                self.task(),
                self.id()
            ))),
        }
    }

    /// Takes what this execution, which has ended, leaves to the worker.
    pub(crate) fn take_aftermath(&self) -> Aftermath {
        let aftermath = self.aftermath.get_or_init(|| Mutex::new(None));
        aftermath.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Whether it is the member of a chord.
    pub(crate) fn is_member(&self) -> bool {
        self.member
    }

    /// The queue that the message was delivered from.
    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The children as result tuples, as JSON; `[]` for most.
    pub(crate) fn children_json(&self, py: Python<'_>) -> PyResult<Cow<'static, [u8]>> {
        if self.lock().is_empty() {
            return Ok(Cow::Borrowed(b"[]"));
        }
        codec::dumps_json(self.children(py)?.as_any(), "children").map(Cow::Owned)
    }
}

#[pymethods]
impl Request {
    /// Task id.
    #[getter]
    fn id(&self) -> &str {
        &self.message.headers.id
    }

    /// Registered name of the task.
    #[getter]
    fn task(&self) -> &str {
        &self.message.headers.task
    }

    /// How often it has been retried.
    #[getter]
    fn retries(&self) -> u32 {
        self.message.headers.retries
    }

    /// The first task of the workflow.
    #[getter]
    fn root_id(&self) -> &str {
        self.message.headers.root()
    }

    /// The task that published this one.
    #[getter]
    fn parent_id(&self) -> Option<&str> {
        self.message.headers.parent_id.as_deref()
    }

    /// What the caller said about the result.
    #[getter]
    fn ignore_result(&self) -> Option<bool> {
        self.message.headers.ignore_result
    }

    /// Whether the message carries callbacks, errbacks, a chain or a chord.
    #[getter]
    fn has_embed(&self) -> bool {
        self.embed.is_some()
    }

    /// The rest of a chain, where nothing else follows and no stock client has sent the message.
    #[getter]
    fn only_chain<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let embed = self.embed.as_ref().filter(|_| self.message.headers.rare().origin.is_none());
        let Some(embed) = embed.map(|embed| embed.bind(py)) else { return Ok(None) };
        let more = ["callbacks", "errbacks", "chord"].iter().any(|name| carries(embed, name));
        if more { Ok(None) } else { embed.get_item("chain") }
    }

    /// Result tuples of the tasks published during this execution.
    #[getter]
    fn children<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let children: Vec<_> = self.lock().iter().map(|child| child.clone_ref(py)).collect();
        let tuples = children.into_iter().map(|child| ((child.id, child.parent), child.members));
        PyList::new(py, tuples.collect::<Vec<_>>())
    }

    /// Records what was published during this execution, for the `children` of the result.
    #[pyo3(signature = (task_id, parent=None, members=None))]
    fn add_child(&self, task_id: String, parent: Option<Py<PyAny>>, members: Option<Py<PyAny>>) {
        self.lock().push(Child { id: task_id, parent, members });
    }

    /// Ends another task, which will not run because of this execution; the worker stores it.
    #[pyo3(signature = (task_id, state, result, *, traceback=None, fields=None, group=None, group_index=None))]
    #[allow(clippy::too_many_arguments)] // each is a keyword in Python
    fn end(
        &self,
        task_id: String,
        state: &str,
        result: &Bound<'_, PyAny>,
        traceback: Option<&str>,
        fields: Option<&Bound<'_, PyDict>>,
        group: Option<String>,
        group_index: Option<i64>,
    ) -> PyResult<()> {
        let state = State::from_name(state);
        if !matches!(state, State::Failure | State::Revoked) {
            let text = format!(
                "task `{task_id}` ends as `{}`, expected FAILURE or REVOKED",
                state.as_str()
            );
            return Err(errors::value(text));
        }
        let extra = codec::dumps_fields(fields)?;
        let document = Document {
            state: &state,
            result: &codec::dumps_json(result, "result")?,
            traceback,
            children: Some(b"[]"),
            now_us: clock::wall_us(),
            group_id: group.as_deref(),
            parent_id: None,
            extra: &codec::borrowed(&extra),
            task_id: &task_id,
        }
        .write();
        let revoked = state == State::Revoked;
        let member = group.map(|group| (group, group_index));
        self.leave(|aftermath| {
            aftermath.ended.push(EndedTask { id: task_id, revoked, document, member });
        })
    }

    /// Drops the messages that were to follow this execution, and what `children` says of them;
    /// gives their task ids.
    fn drop_following(&self, py: Python<'_>) -> Vec<String> {
        let Some(aftermath) = self.aftermath.get() else { return Vec::new() };
        let dropped = match &mut *aftermath.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(aftermath) => std::mem::take(&mut aftermath.follow),
            None => Vec::new(),
        };
        if !dropped.is_empty() {
            let is_dropped = |id: &str| dropped.iter().any(|message| *message.id == *id);
            self.lock().retain(|child| {
                !is_dropped(&child.id) && !child.first(py).is_some_and(|id| is_dropped(&id))
            });
        }
        dropped.iter().map(|message| message.id.to_string()).collect()
    }

    /// Everything that `self.request` shows.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = describe(py, &self.message)?;
        dict.set_item("args", self.args(py).to_list())?;
        dict.set_item("kwargs", self.kwargs(py))?;
        for name in codec::EMBED_KEYS {
            let value =
                self.embed.as_ref().map(|e| e.bind(py).get_item(name)).transpose()?.flatten();
            dict.set_item(name, value)?;
        }
        dict.set_item("queue", &*self.queue)?;
        dict.set_item("redeliveries", self.redeliveries)?;
        if let Some(info) = dict.get_item("delivery_info")? {
            info.set_item("redelivered", self.redeliveries > 0 || marked(&self.message))?;
        }
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        format!("<Request: {}[{}] retries={}>", self.task(), self.id(), self.retries())
    }
}

fn carries(embed: &Bound<'_, PyDict>, name: &str) -> bool {
    let link = embed.get_item(name).ok().flatten();
    link.is_some_and(|link| link.is_truthy().unwrap_or(true))
}

/// Whether the message says that it was refused and put back, as Celery's library for brokers does.
fn marked(message: &Message) -> bool {
    message.headers.rare().extra.get("redelivered").is_some_and(|mark| mark == true)
}

/// What headers and properties say, with Celery's names. The body is not opened: `args` and what
/// belongs to it are the caller's.
pub(crate) fn describe<'py>(py: Python<'py>, message: &Message) -> PyResult<Bound<'py, PyDict>> {
    let (h, p, rare) = (&message.headers, &message.properties, message.headers.rare());
    let dict = PyDict::new(py);
    let TimeLimit { hard, soft } = h.timelimit;
    dict.set_item("id", &h.id)?;
    dict.set_item("task", &h.task)?;
    dict.set_item("retries", h.retries)?;
    dict.set_item("eta", h.eta.map(format_iso))?;
    dict.set_item("expires", h.expires.map(format_iso))?;
    dict.set_item("group", rare.group.as_deref())?;
    dict.set_item("group_index", rare.group_index)?;
    dict.set_item("root_id", h.root())?;
    dict.set_item("parent_id", h.parent_id.as_deref())?;
    dict.set_item("reply_to", p.reply_to.as_deref())?;
    let correlation_id = p.correlation_id.as_deref().unwrap_or(&h.id);
    dict.set_item("correlation_id", correlation_id)?;
    dict.set_item("timelimit", [as_given(py, hard)?, as_given(py, soft)?])?;
    dict.set_item("headers", from_map(py, &rare.extra)?)?;
    dict.set_item("stamps", from_map(py, &rare.stamps)?)?;
    dict.set_item("stamped_headers", rare.stamped_headers.as_deref())?;
    dict.set_item("shadow", rare.shadow.as_deref())?;
    dict.set_item("origin", rare.origin.as_deref())?;
    dict.set_item("lang", rare.lang.as_deref().unwrap_or("py"))?;
    dict.set_item("ignore_result", h.ignore_result)?;
    dict.set_item("replaced_task_nesting", rare.replaced_task_nesting)?;
    dict.set_item("argsrepr", rare.argsrepr.as_deref())?;
    dict.set_item("kwargsrepr", rare.kwargsrepr.as_deref())?;
    dict.set_item("compression", h.compression.as_deref())?;
    let serializer = Format::from_content_type(&message.content_type).map(Format::name);
    let serializer = serializer.or(match &*message.content_type {
        "application/x-python-serialize" => Some("pickle"),
        "application/x-yaml" => Some("yaml"),
        _ => None,
    });
    dict.set_item("serializer", serializer.unwrap_or(&message.content_type))?;

    let info = PyDict::new(py);
    info.set_item("exchange", &p.exchange)?;
    info.set_item("routing_key", &p.routing_key)?;
    info.set_item("priority", p.priority)?;
    info.set_item("redelivered", false)?;
    dict.set_item("delivery_info", info)?;
    let properties = PyDict::new(py);
    properties.set_item("content_type", &message.content_type)?;
    properties.set_item("content_encoding", &message.content_encoding)?;
    properties.set_item("correlation_id", correlation_id)?;
    properties.set_item("reply_to", p.reply_to.as_deref())?;
    properties.set_item("priority", p.priority)?;
    properties.set_item("delivery_mode", p.delivery_mode.unwrap_or(2))?;
    properties.set_item("expiration", p.expiration.as_deref())?;
    dict.set_item("properties", properties)?;
    Ok(dict)
}

/// A limit as most callers give it: whole seconds are an int.
fn as_given(py: Python<'_>, limit: Option<f64>) -> PyResult<Bound<'_, PyAny>> {
    match limit {
        Some(seconds) if seconds.fract() == 0.0 && seconds < 1e15 => {
            Ok((seconds as i64).into_pyobject(py)?.into_any())
        }
        other => Ok(other.into_pyobject(py)?.into_any()),
    }
}

fn from_map<'py>(py: Python<'py>, map: &Map<String, Value>) -> PyResult<Bound<'py, PyAny>> {
    if map.is_empty() {
        return Ok(PyDict::new(py).into_any());
    }
    let text = serde_json::to_vec(map).expect("text keys and JSON values are always written");
    codec::loads_json(py, &text)
}
