//! What runs the calls of a pool inside the worker's process: one thread's life, and what it shares
//! with the loop.
//!
//! A thread attaches once, takes calls from the common queue and leaves outcomes on a list; it
//! detaches only to wait. On Python's main thread (`solo`) the waits are short, so that signal
//! handlers run between calls. While user code runs, the thread's [`Turn`] says which call it is,
//! so that a limit is raised in no other: raising and ending a turn both hold the interpreter and
//! the turn's lock.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pyo3::{prelude::*, types::PyType};
use taskcore::{
    clock::Micros,
    pool::{Call, PoolNews},
};
use tokio::sync::Notify;

use crate::{
    bridge,
    execute::{Executor, Host},
};

/// How long Python's main thread waits before it lets signal handlers run.
const SIGNALS: Duration = Duration::from_millis(100);

/// What loop and threads share.
pub(crate) struct Shared {
    /// Calls that no thread has taken. Locked for a push or a pop, never while waiting for the
    /// interpreter.
    pub(crate) queue: Mutex<Queue>,
    pub(crate) filled: Condvar,
    /// What the loop has not read yet. Locked as briefly.
    pub(crate) done: Mutex<Vec<PoolNews>>,
    pub(crate) wakeup: Notify,
    pub(crate) alive: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) calls: VecDeque<Call>,
    /// How many threads are to end, whoever comes first.
    pub(crate) leaving: usize,
    stopping: bool,
}

/// One thread.
#[derive(Default)]
pub(crate) struct Slot {
    /// It has ended.
    pub(crate) gone: AtomicBool,
    pub(crate) turn: Mutex<Turn>,
}

/// What is raised in a running call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Raise {
    /// `SoftTimeLimitExceeded`.
    SoftLimit,
    /// `SystemExit`: a cold shutdown.
    Exit,
}

impl Raise {
    /// The class to raise now in the thread `ident`; `None` when a coroutine waits there, which has
    /// been told.
    pub(crate) fn due_in(self, py: Python<'_>, ident: u64) -> PyResult<Option<Bound<'_, PyType>>> {
        let (module, name) = match self {
            Self::SoftLimit => ("taskcore.exceptions", "SoftTimeLimitExceeded"),
            Self::Exit => ("builtins", "SystemExit"),
        };
        let class = py.import(module)?.getattr(name)?;
        let due =
            py.import("taskcore.execution.interrupt")?.call_method1("interrupt", (ident, class))?;
        Ok(due.extract()?)
    }
}

/// What a thread does. Written by the thread, `reported` and `raised` by the others.
#[derive(Default)]
pub(crate) struct Turn {
    /// Python's number of the thread, which on Unix is the system's; 0 before it runs.
    pub(crate) ident: u64,
    /// Whether it is Python's main thread, which a signal reaches.
    pub(crate) main: bool,
    /// The call whose user code runs, and since when.
    pub(crate) running: Option<(u64, Micros)>,
    pub(crate) soft_us: Option<u64>,
    pub(crate) reported: bool,
    /// What was raised in it.
    pub(crate) raised: Option<Raise>,
    /// Whether the pool has sent SIGUSR1 to the main thread, which has not been handled.
    pub(crate) signalled: bool,
}

impl Turn {
    /// Whether the user code of this call runs.
    pub(crate) fn runs(&self, key: u64) -> bool {
        self.running.is_some_and(|(running, _)| running == key)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each section leaves valid state at every instant.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            done: Mutex::default(),
            wakeup: Notify::new(),
            alive: AtomicUsize::new(0),
        })
    }

    pub(crate) fn tell(&self, news: PoolNews) {
        let mut done = lock(&self.done);
        let first = done.is_empty();
        done.push(news);
        drop(done);
        if first {
            self.wakeup.notify_one();
        }
    }

    /// A call, if one waits and this thread is not the one to end.
    fn take(&self) -> Option<Call> {
        let mut queue = lock(&self.queue);
        if queue.leaving > 0 { None } else { queue.calls.pop_front() }
    }

    /// Waits for a call, at most `limit`. `None` when there is none, `Err` when none will come.
    fn wait(&self, limit: Option<Duration>) -> Result<Option<Call>, Stopped> {
        let queue = lock(&self.queue);
        let idle = |q: &mut Queue| q.calls.is_empty() && !q.stopping && q.leaving == 0;
        let mut queue = match limit {
            Some(limit) => {
                let waited = self.filled.wait_timeout_while(queue, limit, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.filled.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner),
        };
        if queue.leaving > 0 {
            queue.leaving -= 1;
            return Err(Stopped);
        }
        match queue.calls.pop_front() {
            Some(call) => Ok(Some(call)),
            None if queue.stopping => Err(Stopped),
            None => Ok(None),
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.filled.notify_all();
    }

    /// Whether a thread is left: before the end, somebody who runs calls; after it, one abandoned
    /// inside a call.
    pub(crate) fn has_threads(&self) -> bool {
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
        turn.raised = None;
    }

    fn end(&mut self) {
        let mut turn = lock(&self.slot.turn);
        turn.running = None;
        if turn.raised.is_some() && !turn.main {
            // It may not have arrived yet, and would hit whatever runs next.
            raise_in(turn.ident, None);
        }
    }
}

/// Raises an exception in a thread at its next instruction, or takes back one that has not arrived.
/// Attached.
#[allow(unsafe_code)]
pub(crate) fn raise_in(ident: u64, exception: Option<&Bound<'_, PyType>>) {
    let object = exception.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: the caller is attached; `object` is null or a class that lives during the call, which
    // takes its own reference.
    unsafe { pyo3::ffi::PyThreadState_SetAsyncExc(ident as _, object) };
}

/// The life of a thread, on that thread, attached.
pub(crate) struct Server<'py> {
    py: Python<'py>,
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    executor: Executor,
}

impl<'py> Server<'py> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (slot, main): (Arc<Slot>, bool),
        execution: &Bound<'py, PyAny>,
        log_tasks: bool,
    ) -> PyResult<Self> {
        let py = execution.py();
        let ident = py.import("threading")?.call_method0("get_ident")?.extract()?;
        let mut turn = lock(&slot.turn);
        turn.ident = ident;
        turn.main = main;
        drop(turn);
        Ok(Self { py, shared, slot, executor: Executor::new(execution, log_tasks)? })
    }

    fn run(&mut self, call: &Call) {
        let slot = &*self.slot;
        let outcome = self.executor.execute(self.py, call, &mut Running { slot, call });
        self.shared.tell(PoolNews::Done(outcome));
    }

    /// Until the pool ends.
    pub(crate) fn serve(&mut self) {
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

    /// The same on Python's main thread.
    fn serve_with_signals(&mut self) -> PyResult<()> {
        loop {
            self.py.check_signals()?;
            let waited = match self.shared.take() {
                Some(call) => Ok(Some(call)),
                None => bridge::detach(self.py, || self.shared.wait(Some(SIGNALS))),
            };
            match waited {
                Ok(Some(call)) => self.run(&call),
                Ok(None) => {}
                Err(Stopped) => return Ok(()),
            }
        }
    }
}

/// Runs the calls of a `solo` pool on the calling thread, Python's main thread, until the pool
/// ends. Signal handlers run between calls, and what they raise ends it.
pub(crate) fn serve_solo(
    execution: &Bound<'_, PyAny>,
    (shared, slot): (&Arc<Shared>, &Arc<Slot>),
    log_tasks: bool,
) -> PyResult<()> {
    let py = execution.py();
    let mut server = Server::new(shared.clone(), (slot.clone(), cfg!(unix)), execution, log_tasks)?;
    #[cfg(unix)]
    let signals = py.import("signal")?;
    #[cfg(unix)]
    let before = signals.call_method1("getsignal", (libc::SIGUSR1,))?;
    #[cfg(unix)]
    signals.call_method1("signal", (libc::SIGUSR1, due_handler(slot, &before)?))?;
    let ended = server.serve_with_signals();
    #[cfg(unix)]
    signals.call_method1("signal", (libc::SIGUSR1, before))?;
    shared.alive.store(0, Ordering::Release);
    shared.wakeup.notify_one();
    ended
}

/// The handler of SIGUSR1 in the main thread: raises what is due in the call that runs. A signal
/// that the pool did not send is for the handler that was there before.
#[cfg(unix)]
fn due_handler<'py>(
    slot: &Arc<Slot>,
    before: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, pyo3::types::PyCFunction>> {
    let slot = slot.clone();
    let others = before.clone().unbind();
    pyo3::types::PyCFunction::new_closure(before.py(), None, None, move |args, _| -> PyResult<()> {
        // Unlocked before anything of Python's runs: that may run this handler again.
        let (ident, raised, ours) = {
            let mut turn = lock(&slot.turn);
            let ours = std::mem::take(&mut turn.signalled);
            (turn.ident, turn.raised.filter(|_| turn.running.is_some()), ours)
        };
        let others = others.bind(args.py());
        if !ours {
            return if others.is_callable() { others.call1(args).map(drop) } else { Ok(()) };
        }
        let Some(raise) = raised else { return Ok(()) };
        match raise.due_in(args.py(), ident)? {
            Some(class) => Err(PyErr::from_type(class, ())),
            None => Ok(()),
        }
    })
}
