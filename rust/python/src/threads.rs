//! The pools inside the worker's process: `threads`, and `solo`, whose one thread is Python's main thread.
//!
//! The threads pull from one queue, so none waits while another has work, and a long call delays nothing but its own
//! thread. Each attaches to the interpreter once and detaches only to wait; the worker's loop never attaches at all, it leaves
//! calls in the queue and finds outcomes on a list. A soft limit is raised in the thread from outside, by a helper thread,
//! since raising needs the interpreter. What these pools cannot do is kill: a hard limit is refused at start, and a
//! call that is still running at a cold shutdown is abandoned with its thread.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use pyo3::{prelude::*, types::PyType};
use taskcore::{
    Error, ErrorKind,
    broker::BoxFuture,
    clock::{self, Micros},
    pool::{Call, Outcome, Pool, PoolNews},
};
use tokio::sync::Notify;

use crate::{
    bridge,
    execute::{Executor, Host},
};

/// A call that has run for so long is reported as started.
const LONG_US: Micros = 1_000;
/// How often that is looked at while a call runs that was not reported.
const SCAN_US: Micros = 5_000;
/// How much work, by the mean run time, is queued per thread.
const QUEUED_US: f64 = 2_000.0;
/// How long Python's main thread waits before it lets signal handlers run.
const SIGNALS: Duration = Duration::from_millis(50);

/// What loop and threads share.
pub(crate) struct Shared {
    /// Calls that no thread has taken. Locked for a push or a pop, never while waiting for the interpreter.
    queue: Mutex<Queue>,
    filled: Condvar,
    /// What the loop has not read yet. Locked as briefly.
    done: Mutex<Vec<PoolNews>>,
    bell: Notify,
    slots: Vec<Slot>,
    alive: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    stopping: bool,
}

/// One thread.
#[derive(Default)]
struct Slot {
    turn: Mutex<Turn>,
}

/// What a thread does. Written by the thread, `reported` and `raised` by the others.
#[derive(Default)]
struct Turn {
    /// Python's number of the thread; 0 before it runs.
    ident: u64,
    /// The call whose user code runs, and since when.
    running: Option<(u64, Micros)>,
    soft_us: Option<u64>,
    reported: bool,
    /// Whether the soft limit was raised in it.
    raised: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each section leaves valid state at every instant.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            done: Mutex::default(),
            bell: Notify::new(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            alive: AtomicUsize::new(slots),
        })
    }

    fn tell(&self, news: PoolNews) {
        let mut done = lock(&self.done);
        let first = done.is_empty();
        done.push(news);
        drop(done);
        if first {
            self.bell.notify_one();
        }
    }

    fn take(&self) -> Option<Call> {
        lock(&self.queue).calls.pop_front()
    }

    /// Waits for a call, at most `limit`. `None` when there is none, `Err` when none will come.
    fn wait(&self, limit: Option<Duration>) -> Result<Option<Call>, Stopped> {
        let queue = lock(&self.queue);
        let idle = |q: &mut Queue| q.calls.is_empty() && !q.stopping;
        let mut queue = match limit {
            Some(limit) => {
                let waited = self.filled.wait_timeout_while(queue, limit, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.filled.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner),
        };
        match queue.calls.pop_front() {
            Some(call) => Ok(Some(call)),
            None if queue.stopping => Err(Stopped),
            None => Ok(None),
        }
    }

    fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.filled.notify_all();
    }

    /// Whether a thread is still inside a call that will never be waited for.
    pub(crate) fn has_abandoned(&self) -> bool {
        self.alive.load(Ordering::Acquire) > 0
    }
}

/// No call will come any more.
struct Stopped;

/// One call of one thread, for the executor.
struct Running<'a> {
    slot: &'a Slot,
    call: &'a Call,
}

impl Host for Running<'_> {
    fn begin(&mut self, now: Micros, _short: bool) {
        let mut turn = lock(&self.slot.turn);
        turn.running = Some((self.call.key, now));
        turn.soft_us = self.call.soft_us;
        turn.reported = false;
        turn.raised = false;
    }

    fn end(&mut self) {
        let mut turn = lock(&self.slot.turn);
        turn.running = None;
        if turn.raised {
            // It may not have arrived yet, and would hit whatever runs next.
            raise_in(turn.ident, None);
        }
    }
}

/// Raises an exception in a thread at its next instruction, or takes back one that has not arrived. Attached.
#[allow(unsafe_code)]
fn raise_in(ident: u64, exception: Option<&Bound<'_, PyType>>) {
    let object = exception.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: the caller is attached; `object` is null or a class that lives during the call, which takes its own reference.
    unsafe { pyo3::ffi::PyThreadState_SetAsyncExc(ident as _, object) };
}

/// The life of a thread, on that thread, attached.
struct Server<'py> {
    py: Python<'py>,
    shared: Arc<Shared>,
    index: usize,
    executor: Executor,
}

impl<'py> Server<'py> {
    fn new(
        shared: Arc<Shared>,
        index: usize,
        execution: &Bound<'py, PyAny>,
        log_tasks: bool,
    ) -> PyResult<Self> {
        let py = execution.py();
        let ident = py.import("threading")?.call_method0("get_ident")?.extract()?;
        lock(&shared.slots[index].turn).ident = ident;
        Ok(Self { py, shared, index, executor: Executor::new(execution, log_tasks)? })
    }

    fn run(&mut self, call: &Call) {
        let slot = &self.shared.slots[self.index];
        let outcome = self.executor.execute(self.py, call, &mut Running { slot, call });
        self.shared.tell(PoolNews::Done(outcome));
    }

    fn serve(&mut self) {
        loop {
            let call = self.shared.take();
            let waited = match call {
                Some(call) => Ok(Some(call)),
                None => bridge::detach(self.py, || self.shared.wait(None)),
            };
            match waited {
                Ok(Some(call)) => self.run(&call),
                Ok(None) => {}
                Err(Stopped) => return,
            }
        }
    }
}

/// Runs the calls of a `solo` pool on the calling thread, Python's main thread, until the pool ends. Signal handlers run between
/// calls, and what they raise ends it.
pub(crate) fn serve_solo(
    execution: &Bound<'_, PyAny>,
    shared: &Arc<Shared>,
    log_tasks: bool,
) -> PyResult<()> {
    let py = execution.py();
    let mut server = Server::new(shared.clone(), 0, execution, log_tasks)?;
    loop {
        py.check_signals()?;
        let waited = match shared.take() {
            Some(call) => Ok(Some(call)),
            None => bridge::detach(py, || shared.wait(Some(SIGNALS))),
        };
        match waited {
            Ok(Some(call)) => server.run(&call),
            Ok(None) => {}
            Err(Stopped) => {
                shared.alive.store(0, Ordering::Release);
                shared.bell.notify_one();
                return Ok(());
            }
        }
    }
}

/// The pool of threads, or of none when Python's main thread runs the calls.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    name: &'static str,
    /// Calls that were submitted and not answered.
    open: usize,
    mean_us: f64,
    scan_at: Option<Micros>,
    pending: Vec<PoolNews>,
    /// Raises soft limits; started with the first.
    limits: Option<mpsc::Sender<(usize, u64)>>,
}

impl ThreadPool {
    /// A pool of `slots` threads.
    pub(crate) fn threads(
        execution: &Bound<'_, PyAny>,
        slots: usize,
        log_tasks: bool,
    ) -> PyResult<Self> {
        let pool = Self::new("threads", slots);
        for index in 0..slots {
            let (shared, execution) = (pool.shared.clone(), execution.clone().unbind());
            let body = move || {
                bridge::attach(|py| {
                    match Server::new(shared.clone(), index, execution.bind(py), log_tasks) {
                        Ok(mut server) => server.serve(),
                        Err(e) => shared.tell(PoolNews::Notice(format!(
                            "a thread of the pool cannot start: {e}"
                        ))),
                    }
                    // Released while attached.
                    drop(execution);
                });
                shared.alive.fetch_sub(1, Ordering::AcqRel);
                shared.bell.notify_one();
            };
            let thread = std::thread::Builder::new().name(format!("taskcore-{index}"));
            thread.spawn(body)?;
        }
        Ok(pool)
    }

    /// A pool whose calls [`serve_solo`] runs.
    pub(crate) fn solo() -> Self {
        Self::new("solo", 1)
    }

    /// For [`serve_solo`].
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn new(name: &'static str, slots: usize) -> Self {
        Self {
            shared: Shared::new(slots),
            name,
            open: 0,
            mean_us: QUEUED_US / 2.0,
            scan_at: None,
            pending: Vec::new(),
            limits: None,
        }
    }

    /// What there is to report now, and when to look again without being woken.
    fn look(&mut self, now: Micros) -> (Vec<PoolNews>, Option<Micros>) {
        let mut news = std::mem::take(&mut self.pending);
        news.append(&mut lock(&self.shared.done));
        for one in &news {
            if let PoolNews::Done(Outcome { runtime_us, .. }) = one {
                self.mean_us += (f64::from(*runtime_us) - self.mean_us) / 16.0;
            }
            if matches!(one, PoolNews::Done(_) | PoolNews::Returned { .. }) {
                self.open -= 1;
            }
        }
        let scan = self.scan_at.is_none_or(|at| at <= now);
        let mut wake: Option<Micros> = None;
        let mut unreported = 0;
        let shared = self.shared.clone();
        for (index, slot) in shared.slots.iter().enumerate() {
            let mut turn = lock(&slot.turn);
            let Some((key, at)) = turn.running else { continue };
            if scan && !turn.reported && at + LONG_US <= now {
                turn.reported = true;
                news.push(PoolNews::Started { key, pid: std::process::id(), at });
            }
            unreported += usize::from(!turn.reported);
            if let Some(due) = turn.soft_us.map(|s| at.saturating_add(s)) {
                if due <= now {
                    turn.soft_us = None;
                    self.raise_soft_limit(index, key);
                } else {
                    wake = Some(wake.map_or(due, |w| w.min(due)));
                }
            }
        }
        // While a call waits for a thread, or runs unreported, its start is still to be seen.
        let reported = shared.slots.iter().filter(|s| lock(&s.turn).reported).count();
        let starting = self.open > reported && reported < shared.slots.len();
        if unreported == 0 && !starting {
            self.scan_at = None;
        } else if scan {
            self.scan_at = Some(now + SCAN_US);
        }
        (news, [wake, self.scan_at].into_iter().flatten().min())
    }

    fn raise_soft_limit(&mut self, index: usize, key: u64) {
        let sender = self.limits.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel();
            let shared = self.shared.clone();
            let body = move || raise_soft_limits(&shared, &receiver);
            // Without the thread the limit passes unnoticed; there is nobody better placed to say so.
            if let Err(error) =
                std::thread::Builder::new().name("taskcore-limits".into()).spawn(body)
            {
                tracing::error!(%error, "no thread for soft time limits");
            }
            sender
        });
        let _ = sender.send((index, key));
    }
}

fn raise_soft_limits(shared: &Shared, due: &mpsc::Receiver<(usize, u64)>) {
    while let Ok((index, key)) = due.recv() {
        bridge::attach(|py| {
            let class =
                py.import("taskcore.exceptions").and_then(|m| m.getattr("SoftTimeLimitExceeded"));
            let Ok(class) = class.and_then(|c| Ok(c.cast_into::<PyType>()?)) else { return };
            let mut turn = lock(&shared.slots[index].turn);
            if turn.running.is_some_and(|(running, _)| running == key) {
                turn.raised = true;
                raise_in(turn.ident, Some(&class));
            }
        });
    }
}

impl Pool for ThreadPool {
    fn slots(&self) -> usize {
        self.shared.slots.len()
    }

    fn room(&self) -> usize {
        let slots = self.shared.slots.len();
        let each = (QUEUED_US / self.mean_us.max(1.0)).clamp(1.0, 64.0) as usize;
        (slots * each).saturating_sub(self.open)
    }

    fn submit(&mut self, calls: Vec<Call>) -> taskcore::Result<()> {
        if !self.shared.has_abandoned() {
            return Err(Error::new(ErrorKind::Internal, "no thread of the pool is left"));
        }
        self.open += calls.len();
        let one = calls.len() == 1;
        lock(&self.shared.queue).calls.extend(calls);
        if one {
            self.shared.filled.notify_one();
        } else {
            self.shared.filled.notify_all();
        }
        Ok(())
    }

    fn news(&mut self) -> BoxFuture<'_, taskcore::Result<Vec<PoolNews>>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            loop {
                let now = clock::mono_us();
                let (news, wake) = self.look(now);
                if !news.is_empty() {
                    return Ok(news);
                }
                let Some(wake) = wake else {
                    shared.bell.notified().await;
                    continue;
                };
                tokio::select! {
                    () = shared.bell.notified() => {}
                    () = tokio::time::sleep(Duration::from_micros(wake.saturating_sub(now))) => {}
                }
            }
        })
    }

    fn recall(&mut self) {
        let calls = std::mem::take(&mut lock(&self.shared.queue).calls);
        self.pending.extend(calls.into_iter().map(|c| PoolNews::Returned { key: c.key }));
        if !self.pending.is_empty() {
            self.shared.bell.notify_one();
        }
    }

    fn kill(&mut self, _key: u64) {
        // A thread cannot be killed.
    }

    fn shutdown(&mut self, force: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if force {
                lock(&self.shared.queue).calls.clear();
            }
            self.shared.stop();
            let shared = self.shared.clone();
            while !force && shared.has_abandoned() {
                shared.bell.notified().await;
            }
        })
    }

    fn name(&self) -> &'static str {
        self.name
    }
}
