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
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use pyo3::prelude::*;
use taskcore::{
    Error, ErrorKind,
    clock::{self, Micros},
    future::BoxFuture,
    pool::{Call, Outcome, Pool, PoolNews},
};

use crate::{
    bridge,
    pool_thread::{Raise, Server, Shared, Slot, lock, raise_in},
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
    helper: Option<mpsc::Sender<(usize, u64, Raise)>>,
}

impl ThreadPool {
    /// A pool of `slots` threads.
    pub(crate) fn threads(
        execution: &Bound<'_, PyAny>,
        slots: usize,
        log_tasks: bool,
    ) -> PyResult<Self> {
        let pool = Self::new("threads", slots);
        // 0 is the default of the interpreter.
        let asked: usize =
            execution.py().import("threading")?.call_method0("stack_size")?.extract()?;
        let stack = if asked == 0 { STACK } else { asked };
        for index in 0..slots {
            let (shared, execution) = (pool.shared.clone(), execution.clone().unbind());
            let body = move || {
                bridge::attach(|py| {
                    match Server::new(shared.clone(), (index, false), execution.bind(py), log_tasks)
                    {
                        Ok(mut server) => server.serve(),
                        Err(e) => shared.tell(PoolNews::Notice(format!(
                            "a thread of the pool cannot start: {e}"
                        ))),
                    }
                    // Released while attached.
                    drop(execution);
                });
                shared.alive.fetch_sub(1, Ordering::AcqRel);
                shared.wakeup.notify_one();
            };
            let thread = std::thread::Builder::new().name(format!("taskcore-{index}"));
            let thread = thread.stack_size(stack);
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
            helper: None,
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
                    self.raise(index, key, Raise::SoftLimit);
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

    fn raise(&mut self, index: usize, key: u64, what: Raise) {
        let sender = self.helper.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel();
            let shared = self.shared.clone();
            let body = move || help(&shared, &receiver);
            // Without the thread a limit passes unnoticed; there is nobody better placed to say so.
            if let Err(error) =
                std::thread::Builder::new().name("taskcore-limits".into()).spawn(body)
            {
                tracing::error!(%error, "no thread for soft time limits");
            }
            sender
        });
        let _ = sender.send((index, key, what));
    }
}

/// The helper thread: raises what is due in calls that still run.
fn help(shared: &Shared, due: &mpsc::Receiver<(usize, u64, Raise)>) {
    while let Ok((index, key, what)) = due.recv() {
        let slot = &shared.slots[index];
        bridge::attach(|py| {
            let Some(ident) = mark(slot, key, what) else { return };
            // Unlocked, because Python runs here.
            match what.due_in(py, ident) {
                Ok(Some(class)) if lock(&slot.turn).runs(key) => raise_in(ident, Some(&class)),
                Ok(_) => {}
                Err(error) => error.write_unraisable(py, None),
            }
        });
    }
}

/// Notes what is raised in a call that still runs, and signals Python's main thread, whose handler
/// raises it. The number of any other thread.
fn mark(slot: &Slot, key: u64, what: Raise) -> Option<u64> {
    let mut turn = lock(&slot.turn);
    if !turn.runs(key) {
        return None;
    }
    turn.raised = Some(what);
    #[cfg(unix)]
    if turn.main {
        turn.signalled = true;
        #[allow(unsafe_code)]
        // SAFETY: Python's main thread outlives every call that it runs, and `running` says that it
        // runs one.
        unsafe {
            libc::pthread_kill(turn.ident as libc::pthread_t, libc::SIGUSR1);
        }
        return None;
    }
    Some(turn.ident)
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

    fn kills(&self) -> bool {
        false
    }

    fn shutdown(&mut self, force: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if force {
                lock(&self.shared.queue).calls.clear();
                for index in 0..self.shared.slots.len() {
                    let running = lock(&self.shared.slots[index].turn).running;
                    if let Some((key, _)) = running {
                        self.raise(index, key, Raise::Exit);
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
