//! The mailbox of a worker's remote control, on a thread of its own, and the program's part in it:
//! commands that only Python can answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::Duration,
};

use pyo3::{prelude::*, types::PyBytes};
use serde_json::{Map, Value, json};
use taskcore::{
    broker::{Adapter, Broadcast, Capability},
    control::{Mailbox, Node, Program},
    health::Health,
    worker::Handle,
};
use tokio::sync::oneshot;

use crate::{bridge, config::attr, errors};

/// How long the start of a worker waits for its mailbox to stand. What is asked before is lost.
const OPEN: Duration = Duration::from_secs(5);
/// Threads of its runtime: one for the program's commands, the others for replies.
const THREADS: usize = 3;

/// What a worker's mailbox is made of.
pub(crate) struct MailboxParts {
    node: Node,
    program: PythonProgram,
    broker: Arc<dyn Broadcast>,
}

/// A mailbox is open as long as this is kept.
pub(crate) struct Open(#[allow(dead_code)] oneshot::Sender<()>); // it is dropped

/// Comes when a mailbox hears, or cannot at present.
pub(crate) struct Stands(mpsc::Receiver<()>);

impl MailboxParts {
    /// Of a worker that is to be asked, if its broker carries requests.
    pub(crate) fn of(
        config: &Bound<'_, PyAny>,
        program: Option<&Bound<'_, PyAny>>,
        broker: &Arc<dyn Adapter>,
    ) -> PyResult<Option<Self>> {
        let description: Option<String> = attr(config, "control")?;
        let able = broker.capabilities().contains(&Capability::Broadcast);
        match (description, program) {
            (Some(said), Some(program)) if able => {
                Self::new(&said, program, broker.clone()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// From the description of the worker (see `taskcore.worker.description`) and who answers for
    /// Python.
    fn new(
        description: &str,
        program: &Bound<'_, PyAny>,
        broker: Arc<dyn Broadcast>,
    ) -> PyResult<Self> {
        let node = node(description)
            .ok_or_else(|| errors::value(format!("`{description}` describes no worker")))?;
        Ok(Self { node, program: PythonProgram(program.clone().unbind()), broker })
    }

    /// Opens the mailbox. Called in the loop's thread, whose subscriber of the log it takes along.
    pub(crate) fn open(self, worker: Handle, health: Health) -> taskcore::Result<(Open, Stands)> {
        let (until, ended) = oneshot::channel();
        let (opened, stands) = mpsc::channel();
        let log = tracing::dispatcher::get_default(Clone::clone);
        let body = move || {
            let opened = move || opened.send(()).unwrap_or_default(); // nobody may wait for it
            let serve = || serve(self, (worker, health), ended, opened);
            tracing::dispatcher::with_default(&log, serve);
        };
        let thread = std::thread::Builder::new().name("taskcore-control".into());
        thread.spawn(body).map_err(|e| {
            let text = "the thread of remote control cannot start";
            taskcore::Error::caused(taskcore::ErrorKind::Internal, text, e)
        })?;
        Ok((Open(until), Stands(stands)))
    }
}

impl Stands {
    /// Waits for it, for a while.
    pub(crate) fn wait(&self) {
        let _ = self.0.recv_timeout(OPEN);
    }
}

fn serve(
    parts: MailboxParts,
    (worker, health): (Handle, Health),
    ended: oneshot::Receiver<()>,
    opened: impl FnOnce(),
) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = builder.enable_all().max_blocking_threads(THREADS).build() else { return };
    let program = Arc::new(parts.program);
    let mailbox = Mailbox::new(parts.broker, parts.node, worker, health, program);
    runtime.block_on(async {
        tokio::select! {
            () = mailbox.serve(opened) => {}
            _ = ended => {}
        }
    });
    // A command of the program's may never return.
    runtime.shutdown_background();
}

/// Commands in Python: an object with `answer(method, arguments) -> reply`, in JSON.
struct PythonProgram(Py<PyAny>);

impl Program for PythonProgram {
    fn answer(&self, method: &str, arguments: &Map<String, Value>) -> Value {
        let arguments = Value::Object(arguments.clone()).to_string();
        let mut answer = json!({ "error": "RuntimeError('the worker is ending')" });
        bridge::call_in(|py| {
            answer = self.ask(py, method, &arguments).unwrap_or_else(|raised| {
                let shown = raised.value(py).repr().map(|text| text.to_string());
                json!({ "error": shown.unwrap_or_else(|_| "an exception".to_owned()) })
            });
        });
        answer
    }
}

impl PythonProgram {
    fn ask(&self, py: Python<'_>, method: &str, arguments: &str) -> PyResult<Value> {
        let reply = self.0.bind(py).call_method1("answer", (method, arguments))?;
        let reply = reply.cast_into::<PyBytes>()?;
        serde_json::from_slice(reply.as_bytes())
            .map_err(|e| errors::value(format!("the reply to `{method}` is no JSON: {e}")))
    }
}

fn node(description: &str) -> Option<Node> {
    let Value::Object(mut said) = serde_json::from_str(description).ok()? else { return None };
    let mut take = |name: &str| said.remove(name);
    let tasks: BTreeMap<_, _> = match take("tasks")? {
        Value::Object(tasks) => tasks
            .into_iter()
            .filter_map(|(name, attributes)| Some((name, attributes.as_object()?.clone())))
            .collect(),
        _ => return None,
    };
    let overridden = take("overridden")?;
    let overridden =
        overridden.as_array()?.iter().filter_map(|name| name.as_str().map(str::to_owned));
    Some(Node {
        hostname: take("hostname")?.as_str()?.to_owned(),
        mailbox: take("mailbox")?.as_str()?.to_owned(),
        tasks,
        broker: take("broker")?,
        pool: take("pool")?,
        revoke_expires: take("revoke_expires")?.as_f64().map(|seconds| (seconds * 1e3) as i64)?,
        overridden: overridden.collect(),
    })
}
