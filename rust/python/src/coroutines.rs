//! A pool child whose calls overlap in one event loop: the core's half of it.
//!
//! Everything happens in the loop's thread. The loop says when the socket has calls, which come many
//! at a time; each gets a lane and is handed to Python, which runs it as a task of the loop and says
//! here how it ended. Outcomes gather in the ring, and the parent is told of them once in a turn of
//! the loop. No thread, no lock and no wake-up stands between the socket and a coroutine.
//!
//! `python/taskcore/execution/event_loop.py` is the other half.

use std::{
    cell::RefCell,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    rc::Rc,
};

use pyo3::{exceptions::PyKeyError, prelude::*, types::PyType};
use taskcore::{
    clock::{self, Micros},
    pool::{
        Outcome, Status,
        process::{
            channel::Channel,
            page::{Ask, Cell},
        },
    },
};

use crate::{
    bridge,
    entries::Entry,
    errors,
    execute::{Executor, take_aftermath},
    pool_thread,
    request::Request,
};

/// A child with an event loop. Belongs to the loop's thread.
#[pyclass(frozen, unsendable, module = "taskcore._core")]
pub(crate) struct LoopChild(RefCell<State>);

struct State {
    channel: Channel,
    cell: Cell,
    executor: Executor,
    /// What each lane runs.
    lanes: Vec<Option<Running>>,
    /// The lanes that run nothing.
    free: Vec<usize>,
}

/// A call that has begun.
struct Running {
    seq: u32,
    entry: Rc<Entry>,
    request: Py<Request>,
    outcome: Outcome,
    start: Micros,
}

#[pymethods]
impl LoopChild {
    /// Takes over the descriptors and tells the parent that this child is ready.
    #[new]
    fn new(
        py: Python<'_>,
        fd: i32,
        memory: i32,
        executor: &Bound<'_, PyAny>,
        log_tasks: bool,
        lanes: usize,
    ) -> PyResult<Self> {
        #[cfg(target_os = "linux")]
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        #[allow(unsafe_code)]
        // SAFETY: the zygote gives every child descriptors of its own and does not use them after
        // the fork.
        let (socket, memory) = unsafe { (OwnedFd::from_raw_fd(fd), OwnedFd::from_raw_fd(memory)) };
        let failed = |e| errors::to_python(py, &e);
        let cell = Cell::open(&memory).map_err(failed)?;
        let executor = Executor::new(executor, log_tasks)?;
        let channel = Channel::new(socket, cell.clone()).map_err(failed)?;
        let free = (0..lanes).rev().collect();
        let lanes = (0..lanes).map(|_| None).collect();
        Ok(Self(RefCell::new(State { channel, cell, executor, lanes, free })))
    }

    /// What the loop watches.
    fn fileno(&self) -> i32 {
        self.0.borrow().channel.socket().as_raw_fd()
    }

    /// Reads what has come, without blocking. False when the parent has closed the socket.
    fn receive(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.borrow_mut().channel.fill_at_once().map_err(|e| errors::to_python(py, &e))
    }

    /// Begins calls that have come, as far as there are lanes: `start` is called for each with lane,
    /// plan, request, arguments, and whether the task has neither hooks, receivers nor links. Whether
    /// some wait for a lane.
    fn start(&self, py: Python<'_>, start: &Bound<'_, PyAny>) -> PyResult<bool> {
        loop {
            let mut state = self.0.borrow_mut();
            let Some(lane) = state.free.pop() else { return Ok(state.channel.has_call()) };
            let begun = state.begin(py, lane).map_err(|e| errors::to_python(py, &e))?;
            drop(state);
            match begun {
                None => {
                    self.0.borrow_mut().free.push(lane);
                    return Ok(false);
                }
                Some(Begun::Over) => self.0.borrow_mut().free.push(lane),
                Some(Begun::Runs(plan, request, short)) => {
                    let this = request.get();
                    let bound = request.bind(py);
                    start.call1((lane, plan, bound, this.args(py), this.kwargs(py), short))?;
                }
            }
        }
    }

    /// The call in this lane returned `value`.
    fn returned(&self, py: Python<'_>, lane: usize, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, lane, |executor, running| {
            let request = running.request.bind(py).clone();
            let told = executor.success(&running.entry, &request, value, &mut running.outcome);
            if let Err(error) = told {
                executor.failed(&running.entry, &request, error, &mut running.outcome);
            }
        })
    }

    /// The call in this lane ended as `ended` says, a `taskcore.execution.outcome.Outcome`.
    fn told(&self, py: Python<'_>, lane: usize, ended: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, lane, |executor, running| {
            let request = running.request.bind(py).clone();
            let told = executor.told(&running.entry, &request, ended, &mut running.outcome);
            if let Err(error) = told {
                executor.failed(&running.entry, &request, error, &mut running.outcome);
            }
        })
    }

    /// The call in this lane raised `raised`.
    fn raised(&self, py: Python<'_>, lane: usize, raised: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, lane, |executor, running| {
            let request = running.request.bind(py).clone();
            let error = PyErr::from_value(raised);
            executor.failed(&running.entry, &request, error, &mut running.outcome);
        })
    }

    /// The call in this lane was cancelled because the parent asked for it, and has ended.
    fn cancelled(&self, py: Python<'_>, lane: usize) -> PyResult<()> {
        self.finish(py, lane, |_, running| running.outcome.status = Status::Ignore)
    }

    /// What the parent asks, each once: lanes whose soft time limit is due, and lanes that are to be
    /// cancelled. Nothing while another method is on the stack, as in a signal handler: ask again.
    fn asked(&self) -> (Vec<usize>, Vec<usize>) {
        let Ok(state) = self.0.try_borrow() else { return Default::default() };
        let of = |what: Ask| {
            let running = state.lanes.iter().enumerate();
            let running = running.filter_map(|(lane, one)| Some((lane, one.as_ref()?.seq)));
            running
                .filter(|(lane, seq)| state.cell.is_asked(*lane, *seq, what))
                .map(|(lane, _)| lane)
                .collect()
        };
        (of(Ask::Soft), of(Ask::End))
    }

    /// Has an exception of this class raised in a thread, at its next instruction.
    #[staticmethod]
    fn raise_in(ident: u64, class_: &Bound<'_, PyType>) {
        pool_thread::raise_in(ident, Some(class_));
    }

    /// Tells the parent of outcomes that it was not told of.
    fn ring(&self, py: Python<'_>) -> PyResult<()> {
        self.0.borrow_mut().channel.ring().map_err(|e| errors::to_python(py, &e))
    }
}

/// What became of a call that was begun.
enum Begun {
    /// It never runs: its outcome is in the ring.
    Over,
    /// Its plan, its request, and whether it takes the short way.
    Runs(Py<PyAny>, Py<Request>, bool),
}

impl State {
    /// Begins the next call in this lane; `None` when none has come.
    fn begin(&mut self, py: Python<'_>, lane: usize) -> taskcore::Result<Option<Begun>> {
        let Some((seq, call)) = self.channel.next_call()? else { return Ok(None) };
        let start = clock::mono_us();
        let mut outcome = Outcome::of(call.key);
        match self.executor.prepare(py, &call) {
            Ok((Some(entry), request)) if call.ended.is_none() => {
                self.channel.start(lane, seq, start);
                let short = entry.plain && !request.get().has_links();
                let plan = entry.object.clone_ref(py);
                let handed = request.clone_ref(py);
                self.lanes[lane] = Some(Running { seq, entry, request, outcome, start });
                return Ok(Some(Begun::Runs(plan, handed, short)));
            }
            Ok((entry, request)) => {
                if let Some(end) = &call.ended {
                    self.channel.start(lane, seq, start);
                    self.executor.tell(entry.as_deref(), request.bind(py), end, &mut outcome);
                }
                take_aftermath(request.get(), &mut outcome);
            }
            Err(reason) => outcome.note = reason,
        }
        self.reply(py, seq, &outcome)?;
        Ok(Some(Begun::Over))
    }

    fn reply(&mut self, py: Python<'_>, seq: u32, outcome: &Outcome) -> taskcore::Result<()> {
        if self.channel.reply(seq, outcome, clock::mono_us())? {
            return Ok(());
        }
        bridge::detach(py, || self.channel.send())
    }
}

impl LoopChild {
    /// Frees a lane and leaves the outcome of its call; `end` fills it in and may run Python.
    fn finish(
        &self,
        py: Python<'_>,
        lane: usize,
        end: impl FnOnce(&Executor, &mut Running),
    ) -> PyResult<()> {
        let taken = self.0.borrow_mut().lanes.get_mut(lane).and_then(Option::take);
        let mut running =
            taken.ok_or_else(|| PyKeyError::new_err(format!("lane `{lane}` runs no call")))?;
        let took = clock::mono_us().saturating_sub(running.start);
        running.outcome.runtime_us = took.min(u64::from(u32::MAX)) as u32;
        end(&self.0.borrow().executor, &mut running);
        take_aftermath(running.request.get(), &mut running.outcome);
        let mut state = self.0.borrow_mut();
        state.free.push(lane);
        state.reply(py, running.seq, &running.outcome).map_err(|e| errors::to_python(py, &e))
    }
}
