//! The pools inside the worker's process: `threads`, and `solo`, whose one thread is Python's main
//! thread.
//!
//! The threads pull from one queue, so none waits while another has work, and a long call delays
//! nothing but its own thread. Each attaches to the interpreter once and detaches only to wait; the
//! worker's loop never attaches at all, it leaves calls in the queue and finds outcomes on a list.
//! A soft limit, or a cold shutdown, is raised in the thread from outside, by a helper thread,
//! since raising needs the interpreter: at the next instruction of a thread, so not out of a
//! blocking call; in Python's main thread by a signal, which interrupts that too. What these pools
//! cannot do is kill: a hard limit is refused at start, one that a message brings is warned of, and
//! a call that goes on after a cold shutdown is abandoned with its thread.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use pyo3::prelude::*;
use taskcore::{
    Error, ErrorKind,
    clock::{self, Micros},
    future::BoxFuture,
    pool::{Call, Lost, Outcome, Pool, PoolNews, Status, grown, shrunk},
};

use crate::{
    bridge,
    pool_thread::{Raise, Server, Shared, Slot, lock},
    raising,
};

/// Stack of a thread, as Python's own have by default on most systems; Rust's would have 2 MiB.
const STACK: usize = 8 << 20;
/// A call that has run for so long is reported as started.
const LONG_US: Micros = 1_000;
/// How often that is looked at while a call runs that was not reported.
const SCAN_US: Micros = 5_000;
/// How much work, by the mean run time, is queued per thread.
const QUEUED_US: f64 = 2_000.0;

/// The pool of threads, or of none when Python's main thread runs the calls.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    name: &'static str,
    /// Calls that were submitted and not answered.
    open: usize,
    mean_us: f64,
    scan_at: Option<Micros>,
    pending: Vec<PoolNews>,
    /// Raises in threads; started when first needed.
    helper: Option<mpsc::Sender<(Arc<Slot>, u64, Raise)>>,
    /// What each thread does. Written by growing, and when a thread has ended.
    slots: Vec<Arc<Slot>>,
    /// How many threads there are to be.
    size: usize,
    /// What a new thread needs; `None` when Python's main thread is the only one.
    starter: Option<Arc<Starter>>,
    /// Calls that were terminated: by which signal, and whether they were told.
    ending: HashMap<u64, (i32, bool)>,
}

/// What a thread begins with.
struct Starter {
    execution: Py<PyAny>,
    stack: usize,
    log_tasks: bool,
}

impl ThreadPool {
    /// A pool of `slots` threads.
    pub(crate) fn threads(
        execution: &Bound<'_, PyAny>,
        slots: usize,
        log_tasks: bool,
    ) -> PyResult<Self> {
        let mut pool = Self::new("threads");
        // 0 is the default of the interpreter.
        let asked: usize =
            execution.py().import("threading")?.call_method0("stack_size")?.extract()?;
        let stack = if asked == 0 { STACK } else { asked };
        let execution = execution.clone().unbind();
        pool.starter = Some(Arc::new(Starter { execution, stack, log_tasks }));
        for _ in 0..slots {
            pool.start_thread()?;
        }
        pool.size = slots;
        Ok(pool)
    }

    /// Starts a thread, which attaches to the interpreter by itself.
    fn start_thread(&mut self) -> std::io::Result<()> {
        let Some(starter) = self.starter.clone() else { return Ok(()) };
        let (shared, slot) = (self.shared.clone(), Arc::new(Slot::default()));
        let name = format!("taskcore-{}", self.slots.len());
        let thread = std::thread::Builder::new().name(name).stack_size(starter.stack);
        self.slots.push(slot.clone());
        shared.alive.fetch_add(1, Ordering::AcqRel);
        let body = move || {
            bridge::attach(|py| {
                let execution = starter.execution.bind(py);
                let log_tasks = starter.log_tasks;
                match Server::new(shared.clone(), (slot.clone(), false), execution, log_tasks) {
                    Ok(mut server) => server.serve(),
                    Err(e) => shared
                        .tell(PoolNews::Notice(format!("a thread of the pool cannot start: {e}"))),
                }
                // Released while attached.
                drop(starter);
            });
            slot.gone.store(true, Ordering::Release);
            shared.alive.fetch_sub(1, Ordering::AcqRel);
            shared.wakeup.notify_one();
        };
        thread.spawn(body).map(drop).inspect_err(|_| {
            self.slots.pop();
            self.shared.alive.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// A pool whose calls [`serve_solo`] runs.
    pub(crate) fn solo() -> Self {
        let mut pool = Self::new("solo");
        pool.slots.push(Arc::default());
        pool.size = 1;
        pool.shared.alive.store(1, Ordering::Release);
        pool
    }

    /// The main thread's, for [`serve_solo`].
    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.slots.first().cloned()
    }

    /// For [`serve_solo`].
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn new(name: &'static str) -> Self {
        Self {
            shared: Shared::new(),
            name,
            open: 0,
            mean_us: QUEUED_US / 2.0,
            scan_at: None,
            pending: Vec::new(),
            helper: None,
            slots: Vec::new(),
            size: 0,
            starter: None,
            ending: HashMap::new(),
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
        if !self.ending.is_empty() {
            for one in &mut news {
                self.terminated(one);
            }
        }
        self.slots.retain(|slot| !slot.gone.load(Ordering::Acquire));
        let scan = self.scan_at.is_none_or(|at| at <= now);
        let mut wake: Option<Micros> = None;
        let mut unreported = 0;
        for slot in &self.slots.clone() {
            let mut turn = lock(&slot.turn);
            let Some((key, at)) = turn.running else { continue };
            if let Some((signal, told)) = self.ending.get_mut(&key).filter(|(_, told)| !told) {
                *told = true;
                let what = raising::of(*signal);
                self.raise(slot, key, what);
            }
            if scan && !turn.reported && at + LONG_US <= now {
                turn.reported = true;
                news.push(PoolNews::Started { key, pid: std::process::id(), at });
            }
            unreported += usize::from(!turn.reported);
            if let Some(due) = turn.soft_us.map(|s| at.saturating_add(s)) {
                if due <= now {
                    turn.soft_us = None;
                    self.raise(slot, key, Raise::SoftLimit);
                } else {
                    wake = Some(wake.map_or(due, |w| w.min(due)));
                }
            }
        }
        // While a call waits for a thread, or runs unreported, its start is still to be seen.
        let reported = self.slots.iter().filter(|s| lock(&s.turn).reported).count();
        let starting = self.open > reported && reported < self.slots.len();
        if unreported == 0 && !starting {
            self.scan_at = None;
        } else if scan {
            self.scan_at = Some(now + SCAN_US);
        }
        (news, [wake, self.scan_at].into_iter().flatten().min())
    }

    /// What a terminated call ended with: the exception that was raised in it is not its own.
    fn terminated(&mut self, one: &mut PoolNews) {
        let PoolNews::Done(outcome) = one else { return };
        let Some((signal, told)) = self.ending.remove(&outcome.key) else { return };
        let by_itself = !told || raising::of(signal) != Raise::Exit;
        if outcome.status == Status::Failure && !by_itself {
            let (key, pid) = (outcome.key, outcome.pid);
            *one = PoolNews::Lost { key, pid, why: Lost::Terminated(signal) };
        }
    }

    fn raise(&mut self, slot: &Arc<Slot>, key: u64, what: Raise) {
        let sender = self.helper.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel();
            let body = move || raising::help(&receiver);
            // Without the thread a limit passes unnoticed; there is nobody better placed to say so.
            if let Err(error) =
                std::thread::Builder::new().name("taskcore-limits".into()).spawn(body)
            {
                tracing::error!(%error, "no thread for soft time limits");
            }
            sender
        });
        let _ = sender.send((slot.clone(), key, what));
    }
}

impl Pool for ThreadPool {
    fn slots(&self) -> usize {
        self.size
    }

    fn room(&self) -> usize {
        let each = (QUEUED_US / self.mean_us.max(1.0)).clamp(1.0, 64.0) as usize;
        (self.size * each).saturating_sub(self.open)
    }

    fn submit(&mut self, calls: Vec<Call>) -> taskcore::Result<()> {
        if !self.shared.has_threads() {
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
                    shared.wakeup.notified().await;
                    continue;
                };
                tokio::select! {
                    () = shared.wakeup.notified() => {}
                    () = tokio::time::sleep(Duration::from_micros(wake.saturating_sub(now))) => {}
                }
            }
        })
    }

    fn recall(&mut self) {
        let calls = std::mem::take(&mut lock(&self.shared.queue).calls);
        self.pending.extend(calls.into_iter().map(|c| PoolNews::Returned { key: c.key }));
        if !self.pending.is_empty() {
            self.shared.wakeup.notify_one();
        }
    }

    fn cancel(&mut self, key: u64) -> bool {
        let mut queue = lock(&self.shared.queue);
        let before = queue.calls.len();
        queue.calls.retain(|call| call.key != key);
        let back = queue.calls.len() < before;
        drop(queue);
        if back {
            self.pending.push(PoolNews::Returned { key });
            self.shared.wakeup.notify_one();
        }
        back
    }

    fn can_terminate(&self, signal: i32) -> taskcore::Result<()> {
        raising::check(self.name, signal)
    }

    fn terminate(&mut self, key: u64, signal: i32) {
        // One that a thread has taken and not begun is told once it is seen to run.
        self.ending.insert(key, (signal, false));
        self.shared.wakeup.notify_one();
    }

    fn grow(&mut self, by: usize) -> taskcore::Result<usize> {
        self.starter.as_ref().ok_or_else(one_thread)?;
        let size = grown(self.size, by)?;
        for _ in 0..by {
            let mut queue = lock(&self.shared.queue);
            if queue.leaving > 0 {
                queue.leaving -= 1; // it need not go
            } else {
                drop(queue);
                self.start_thread().map_err(|e| {
                    Error::caused(ErrorKind::Internal, "a thread of the pool cannot start", e)
                })?;
            }
            self.size += 1;
        }
        Ok(size)
    }

    fn shrink(&mut self, by: usize) -> taskcore::Result<usize> {
        self.starter.as_ref().ok_or_else(one_thread)?;
        self.size = shrunk(self.size, by)?;
        lock(&self.shared.queue).leaving += by;
        self.shared.filled.notify_all();
        Ok(self.size)
    }

    fn kills(&self) -> bool {
        false
    }

    fn shutdown(&mut self, force: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if force {
                lock(&self.shared.queue).calls.clear();
                for slot in &self.slots.clone() {
                    let running = lock(&slot.turn).running;
                    if let Some((key, _)) = running {
                        self.raise(slot, key, Raise::Exit);
                    }
                }
            }
            self.shared.stop();
            let shared = self.shared.clone();
            while !force && shared.has_threads() {
                shared.wakeup.notified().await;
            }
        })
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// Python has one main thread.
#[cold]
fn one_thread() -> Error {
    let text = "pool `solo` runs its tasks in Python's main thread, of which there is one, expected `prefork` or `threads`; start \
                the worker with one of these";
    Error::new(ErrorKind::Unsupported, text)
}
