//! `Worker`: the core's loop on a thread of its own, and the two Python objects that say what it
//! does.
//!
//! Configuration crosses as named attributes and is read once, here. The loop's thread never
//! attaches to the interpreter; bodies of chords are composed on another thread, which does.
//! Python's main thread waits in [`Worker::wait`], where signal handlers run, and where the `solo`
//! pool runs its calls. What the loop returns or fails with is kept for whoever waits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use pyo3::{prelude::*, types::PyDict};
use taskcore::{
    Error, ErrorKind, assemble,
    broker::{Broadcast, Broker},
    config::WorkerConfig,
    fork,
    health::Health,
    pool::Pool,
    result::ResultStore,
    worker::{
        self, Command, EventOptions, Handle, Standing, Stop, autoscale::Bounds, command::Reply,
    },
};

use crate::{
    bridge,
    config::{INFO, Settings, attr, events},
    control,
    encoding::{EncodedResults, ResultEncoding},
    errors,
    http::HttpParts,
    join_composer::JoinComposer,
    log::{self, Log},
    mailbox::{self, MailboxParts},
    pool_thread::{self, Shared, Slot},
    publisher::text_options,
    threads::ThreadPool,
};

/// How long the main thread waits before it lets signal handlers run.
pub(crate) const SIGNALS: Duration = Duration::from_millis(100);
/// How long a worker that ends waits for its last log lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long a loop that has ended waits for a body that is being composed: code of the user's may take
/// part, and may never return.
const LAST_BODY: Duration = Duration::from_secs(5);

/// Everything that the loop's thread takes along.
struct Parts {
    config: WorkerConfig,
    broker: Arc<dyn Broker>,
    results: Option<Arc<dyn ResultStore>>,
    composer: JoinComposer,
    pool: PoolParts,
    /// Between what the pool scales by itself, and after how many microseconds it shrinks.
    scale: Option<(Bounds, u64)>,
    /// `None` when remote control is off.
    mailbox: Option<MailboxParts>,
    /// `None` when nothing is served over HTTP.
    http: Option<HttpParts>,
    /// The result store as it is, for probes.
    store: Option<Arc<dyn ResultStore>>,
    events: (Arc<dyn Broadcast>, EventOptions),
}

/// A pool, or what it is made of inside the runtime.
pub(crate) enum PoolParts {
    Ready(ThreadPool),
    #[cfg(unix)]
    Process(taskcore::pool::process::ProcessConfig),
}

/// How the loop ended, for whoever waits for it.
#[derive(Default)]
struct End {
    result: Mutex<Option<taskcore::Result<()>>>,
    reached: Condvar,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<taskcore::Result<()>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, result: taskcore::Result<()>) {
        *self.lock() = Some(result);
        self.reached.notify_all();
    }

    /// Waits a moment; whether the loop has ended.
    fn wait(&self, limit: Duration) -> bool {
        let waited = self.reached.wait_timeout_while(self.lock(), limit, |r| r.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }
}

/// Where a worker is in its life.
enum Phase {
    Made(Box<(Parts, Log)>),
    /// Asked to stop before it began.
    Refused,
    Running(Handle),
}

/// Parent of the pool: consumes, triages, dispatches, settles.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Worker {
    phase: Mutex<Phase>,
    end: Arc<End>,
    /// For the `solo` pool, whose calls the main thread runs.
    solo: Option<(Arc<Shared>, Arc<Slot>)>,
    /// For pools inside this process: what may be left running.
    inside: Option<Arc<Shared>>,
    /// How many threads compose a body.
    composing: Arc<AtomicUsize>,
    executor: Py<PyAny>,
    settings: Settings,
    log_tasks: bool,
    /// Where it listens for HTTP.
    http_address: Option<String>,
    /// Number of the process that made it.
    process: u32,
}

#[pymethods]
impl Worker {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // a sequence is extracted as a value
    #[pyo3(signature = (config, tasks, executor, *, zygote=None, program=None))]
    fn new(
        config: &Bound<'_, PyAny>,
        tasks: Vec<Bound<'_, PyAny>>,
        executor: &Bound<'_, PyAny>,
        zygote: Option<(i32, u32)>,
        program: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = config.py();
        let settings = Settings::read(config)?;
        let specs = tasks.iter().map(|t| settings.task(t)).collect::<PyResult<HashMap<_, _>>>()?;
        let events = events(config)?;
        // What is shown of a result is shown to monitors, too.
        let log_tasks = settings.log_level <= INFO || events.tasks;
        let pool = pool(&settings, executor, log_tasks, zygote)?;
        let inside = match &pool {
            PoolParts::Ready(pool) => Some(pool.shared()),
            #[cfg(unix)]
            PoolParts::Process(_) => None,
        };
        let solo = match &pool {
            PoolParts::Ready(pool) if settings.pool == "solo" => inside.clone().zip(pool.slot()),
            _ => None,
        };
        let argument = |e: Error| errors::argument(py, &e);
        let broker_options = text_options(Some(&attr(config, "broker_options")?))?;
        let url: String = attr(config, "broker_url")?;
        let log = log::open(settings.log_level, attr(config, "log_file")?)?;
        let encoding = ResultEncoding::of(executor)?;
        let composer = JoinComposer::new(executor)?;
        let composing = composer.inside();
        let encoded = |store| EncodedResults::around(store, encoding, composer.inside());
        let broker = assemble::broker(&url, &broker_options).map_err(argument)?;
        let mailbox = MailboxParts::of(config, program.as_ref(), &broker)?;
        let http = HttpParts::of(config, &broker)?;
        let http_address = http.as_ref().map(HttpParts::address);
        let store = result_store(config)?;
        let parts = Parts {
            events: (broker.clone(), events),
            broker,
            results: store.clone().map(encoded),
            store,
            http,
            composer,
            config: WorkerConfig {
                awaits_revoked: mailbox.is_some(),
                ..settings.finish(config, specs)?
            },
            pool,
            scale: settings.autoscale(),
            mailbox,
        };
        Ok(Self {
            solo,
            inside,
            composing,
            phase: Mutex::new(Phase::Made(Box::new((parts, log)))),
            end: Arc::default(),
            executor: executor.clone().unbind(),
            settings,
            log_tasks,
            http_address,
            process: fork::generation(),
        })
    }

    /// Connects and starts the loop on its own thread. Returns true when the first connection
    /// stands, false when the worker was stopped before; raises when the configuration can never
    /// work.
    fn start(&self, py: Python<'_>) -> PyResult<bool> {
        let (parts, log) = {
            let mut phase = self.lock();
            match std::mem::replace(&mut *phase, Phase::Refused) {
                Phase::Made(made) => *made,
                Phase::Refused => {
                    self.end.reach(Ok(()));
                    return Ok(false);
                }
                running @ Phase::Running(_) => {
                    *phase = running;
                    return Err(errors::value("the worker has been started already"));
                }
            }
        };
        let (sender, receiver) = mpsc::channel();
        let end = self.end.clone();
        let Log { dispatch, writer, drain } = log;
        drain.start()?;
        let body = move || {
            // A panic is a bug, and must not leave the main thread waiting.
            let run = || tracing::dispatcher::with_default(&dispatch, || run_loop(parts, &sender));
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let panicked = |_| Err(Error::new(ErrorKind::Internal, "the worker's loop panicked"));
            writer.finish(LAST_LINES);
            end.reach(caught.unwrap_or_else(panicked));
        };
        std::thread::Builder::new().name("taskcore-loop".into()).spawn(body)?;
        let Ok((handle, mailbox)) = bridge::detach(py, move || receiver.recv()) else {
            bridge::detach(py, || while !self.end.wait(SIGNALS) {});
            return self.outcome(py).map(|()| false);
        };
        *self.lock() = Phase::Running(handle.clone());
        loop {
            match bridge::detach(py, || handle.wait_started(SIGNALS)) {
                Standing::Starting => py.check_signals()?,
                Standing::Started => {
                    bridge::detach(py, move || mailbox.inspect(mailbox::Stands::wait));
                    return Ok(true);
                }
                Standing::Ended => {
                    bridge::detach(py, || while !self.end.wait(SIGNALS) {});
                    return self.outcome(py).map(|()| false);
                }
            }
        }
    }

    /// Blocks until the worker has stopped; the `solo` pool runs its tasks in here. Returns the
    /// number of tasks processed.
    fn wait(&self, py: Python<'_>) -> PyResult<u64> {
        if let Some((shared, slot)) = &self.solo
            && !bridge::detach(py, || self.end.wait(Duration::ZERO))
            && let Err(raised) =
                pool_thread::serve_solo(self.executor.bind(py), (shared, slot), self.log_tasks)
        {
            self.stop(false);
            return Err(raised);
        }
        while !bridge::detach(py, || self.end.wait(SIGNALS)) {
            py.check_signals()?;
        }
        self.outcome(py)?;
        let composing = self.composing.load(Ordering::SeqCst) > 0;
        if composing || self.inside.as_ref().is_some_and(|s| s.has_threads()) {
            leave_without_threads(py)?;
        }
        let phase = self.lock();
        Ok(if let Phase::Running(handle) = &*phase { handle.stats().processed } else { 0 })
    }

    /// Asks the worker to stop: warm lets running tasks finish, cold kills them. Returns at once.
    #[pyo3(signature = (warm=true))]
    fn stop(&self, warm: bool) {
        let mut phase = self.lock();
        match &*phase {
            Phase::Running(handle) => handle.stop(if warm { Stop::Warm } else { Stop::Cold }),
            Phase::Made(_) => *phase = Phase::Refused,
            Phase::Refused => {}
        }
    }

    /// Where it listens for HTTP; None when it does not.
    #[getter]
    fn http_address(&self) -> Option<&str> {
        self.http_address.as_deref()
    }

    /// What the worker has done and holds.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = match &*self.lock() {
            Phase::Running(handle) => handle.stats(),
            _ => worker::Stats::default(),
        };
        control::stats(py, stats)
    }

    /// Drops tasks wherever they wait, and kills those that run if a signal is given.
    #[pyo3(signature = (ids, signal=None))]
    fn revoke<'py>(
        &self,
        py: Python<'py>,
        ids: Vec<String>,
        signal: Option<i32>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let ids = ids.into_iter().map(Arc::from).collect();
        let terminate = signal;
        let answer = self.ask(py, |reply| Command::Revoke { ids, terminate, reply })?;
        control::revoked(py, answer)
    }

    /// Changes how many executions of a task may begin in a second; the limit before.
    fn rate_limit(
        &self,
        py: Python<'_>,
        task: String,
        per_second: Option<f64>,
    ) -> PyResult<Option<f64>> {
        self.ask(py, |reply| Command::RateLimit { task, per_second, reply })
    }

    /// Changes the time limits of a task in seconds; soft and hard limit before.
    #[pyo3(signature = (task, soft=None, hard=None))]
    fn time_limit(
        &self,
        py: Python<'_>,
        task: String,
        soft: Option<f64>,
        hard: Option<f64>,
    ) -> PyResult<(Option<f64>, Option<f64>)> {
        let limits = control::limits(soft, hard)?;
        let before = self.ask(py, |reply| Command::TimeLimit { task, limits, reply })?;
        Ok(control::in_seconds(before))
    }

    /// Consumes from another queue; the queues from now on.
    fn consume(&self, py: Python<'_>, queue: String) -> PyResult<Vec<String>> {
        let queue = queue.into();
        self.ask(py, |reply| Command::Consume { queue, reply })
            .map(|queues| control::texts(&queues))
    }

    /// Consumes from a queue no longer; the queues from now on.
    fn cancel(&self, py: Python<'_>, queue: String) -> PyResult<Vec<String>> {
        let queue = queue.into();
        self.ask(py, |reply| Command::Cancel { queue, reply }).map(|queues| control::texts(&queues))
    }

    /// Runs so many more tasks at a time; how many from now on.
    #[pyo3(signature = (n=1))]
    fn grow(&self, py: Python<'_>, n: usize) -> PyResult<usize> {
        self.ask(py, |reply| Command::Grow { by: n, reply })
    }

    /// Runs so many fewer tasks at a time; how many from now on.
    #[pyo3(signature = (n=1))]
    fn shrink(&self, py: Python<'_>, n: usize) -> PyResult<usize> {
        self.ask(py, |reply| Command::Shrink { by: n, reply })
    }

    /// Changes between what the pool scales by itself; the most and the least from now on.
    #[pyo3(signature = (most=None, least=None))]
    fn autoscale(
        &self,
        py: Python<'_>,
        most: Option<usize>,
        least: Option<usize>,
    ) -> PyResult<(usize, usize)> {
        let bounds = self.ask(py, |reply| Command::Autoscale { most, least, reply })?;
        Ok((bounds.most, bounds.least))
    }

    /// Replaces the processes of the pool, which import `modules` first.
    #[allow(clippy::needless_pass_by_value)] // a sequence is extracted as a value
    fn restart(
        &self,
        py: Python<'_>,
        tasks: Vec<Bound<'_, PyAny>>,
        modules: String,
    ) -> PyResult<()> {
        let tasks = tasks.iter().map(|t| self.settings.task(t)).collect::<PyResult<Vec<_>>>()?;
        self.ask(py, |reply| Command::Restart { modules, tasks, reply })
    }

    /// Ids that are dropped when they come, the oldest first.
    fn revoked(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.ask(py, |reply| Command::Revoked { reply }).map(|ids| control::texts(&ids))
    }

    /// Everything that the worker holds and has done.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.ask(py, |reply| Command::Report { reply })?;
        control::report(py, report)
    }
}

impl Worker {
    /// Has the loop carry out a command; its answer.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> PyResult<T> {
        let handle = match &*self.lock() {
            Phase::Running(handle) => handle.clone(),
            Phase::Made(_) | Phase::Refused => return Err(control::not_here(py)),
        };
        control::ask(py, (&handle, self.process), command)
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        // Locked for a look or a swap, never across a wait.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the loop ended with.
    fn outcome(&self, py: Python<'_>) -> PyResult<()> {
        match &*self.end.lock() {
            Some(Err(error)) => Err(errors::to_python(py, error)),
            _ => Ok(()),
        }
    }
}

/// The pool that the settings name.
fn pool(
    settings: &Settings,
    executor: &Bound<'_, PyAny>,
    log_tasks: bool,
    zygote: Option<(i32, u32)>,
) -> PyResult<PoolParts> {
    Ok(match settings.pool.as_str() {
        "threads" => {
            PoolParts::Ready(ThreadPool::threads(executor, settings.concurrency, log_tasks)?)
        }
        "solo" => PoolParts::Ready(ThreadPool::solo()),
        "prefork" | "asyncio" => settings.prefork(zygote)?,
        other => {
            let text =
                format!("unknown pool `{other}`, expected prefork, asyncio, threads or solo");
            return Err(errors::value(text));
        }
    })
}

/// Where results are kept, if anywhere.
fn result_store(config: &Bound<'_, PyAny>) -> PyResult<Option<Arc<dyn ResultStore>>> {
    let url: Option<String> = attr(config, "result_url")?;
    let options = text_options(Some(&attr(config, "result_options")?))?;
    let store = url.map(|url| assemble::results(&url, &options)).transpose();
    store.map_err(|e| errors::argument(config.py(), &e))
}

/// A loop that has begun, and the mailbox that it has.
type Started = (Handle, Option<mailbox::Stands>);

/// The loop's thread.
fn run_loop(parts: Parts, started: &mpsc::Sender<Started>) -> taskcore::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|e| Error::caused(ErrorKind::Internal, "cannot start the runtime", e))?;
    let ended = runtime.block_on(async move {
        let pool: Box<dyn Pool> = match parts.pool {
            PoolParts::Ready(pool) => Box::new(pool),
            #[cfg(unix)]
            PoolParts::Process(config) => {
                Box::new(taskcore::pool::process::ProcessPool::new(config)?)
            }
        };
        let hostname = parts.config.hostname.clone();
        let (worker, handle) = worker::Worker::new(parts.config, parts.broker, parts.results, pool);
        let health = Health::new(&hostname, handle.clone(), parts.store);
        let worker = worker.composing(Arc::new(parts.composer));
        let mut worker = worker.telling(parts.events.0, parts.events.1);
        if let Some((bounds, keepalive)) = parts.scale {
            worker = worker.scaling(bounds, keepalive);
        }
        if parts.http.is_some() {
            worker = worker.counting();
        }
        let open = |parts: MailboxParts| parts.open(handle.clone(), health.clone());
        let mailbox = parts.mailbox.map(open).transpose()?;
        let (_open, stands) = mailbox.unzip();
        let _serving = parts.http.map(|parts| parts.serve(health)).transpose()?;
        let _ = started.send((handle, stands)); // whoever started it waits for this
        worker.run().await.map(drop)
    });
    runtime.shutdown_timeout(LAST_BODY);
    ended
}

/// Threads that are still inside a task or a composition cannot be ended, and an interpreter that ends under them
/// would abort. So the process leaves by itself at its end, before the interpreter does.
fn leave_without_threads(py: Python<'_>) -> PyResult<()> {
    let globals = PyDict::new(py);
    py.run(
        c"import atexit, os, sys\ndef leave():\n    sys.stdout.flush()\n    sys.stderr.flush()\n    os._exit(1)\natexit.register(leave)",
        Some(&globals),
        None,
    )
}
