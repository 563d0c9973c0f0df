//! The life of a pool child: receive, execute, reply.
//!
//! The child holds the interpreter from call to call and leaves it only while it has nothing to do,
//! so that threads of the user's run then. The parent decides about its life: it exits when the
//! parent closes the socket, and the kernel kills it when the zygote is gone. A soft time limit
//! arrives as SIGUSR1; [`soft_limit_due`] tells the Python handler whether the call that it was
//! meant for is still running, because a signal may arrive late.

use std::{
    os::fd::{FromRawFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use pyo3::prelude::*;
use taskcore::{
    ErrorKind,
    clock::{self, Micros},
    pool::process::{
        channel::Channel,
        page::{self, Cell},
    },
};

use crate::{
    bridge, errors,
    execute::{Executor, Host},
};

/// Shared memory of the process pool, one cell per child slot; made before the zygote is forked.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Pages(Arc<page::Pages>);

impl Pages {
    pub(crate) fn shared(&self) -> Arc<page::Pages> {
        self.0.clone()
    }
}

#[pymethods]
impl Pages {
    #[new]
    fn new(py: Python<'_>, slots: usize) -> PyResult<Self> {
        let pages = page::Pages::new(slots).map_err(|e| errors::to_python(py, &e))?;
        Ok(Self(Arc::new(pages)))
    }
}

/// The number of the call whose user code runs, plus `1 << 32`; 0 between calls.
static CURRENT: AtomicU64 = AtomicU64::new(0);
/// This child's cell.
static CELL: OnceLock<Cell> = OnceLock::new();

/// One call of this child, for the executor.
struct Turn<'a> {
    channel: &'a mut Channel,
    seq: u32,
}

impl Host for Turn<'_> {
    fn begin(&mut self, now: Micros, short: bool) {
        if !short {
            // What is done must not wait for it. The parent being gone shows at the next reply.
            let _ = self.channel.ring();
        }
        CURRENT.store(1 << 32 | u64::from(self.seq), Ordering::Relaxed);
        self.channel.start(self.seq, now);
    }

    fn end(&mut self) {
        CURRENT.store(0, Ordering::Relaxed);
    }
}

/// The life of a pool child: receive, execute, reply, until the parent closes the socket. Returns
/// the exit code.
#[pyfunction]
pub(crate) fn run_child(
    py: Python<'_>,
    fd: i32,
    pages: &Bound<'_, Pages>,
    slot: usize,
    executor: &Bound<'_, PyAny>,
    log_tasks: bool,
) -> PyResult<i32> {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let cell = Cell::new(pages.get().shared(), slot);
    let cell = cell.ok_or_else(|| errors::value(format!("cell `{slot}` does not exist")))?;
    let _ = CELL.set(cell.clone()); // a process is a child once
    #[allow(unsafe_code)]
    // SAFETY: the zygote gives every child a descriptor of its own and does not use it after the
    // fork.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut executor = Executor::new(executor, log_tasks)?;
    let mut channel = Channel::new(socket, cell).map_err(|e| errors::to_python(py, &e))?;
    match work(py, &mut channel, &mut executor) {
        // Nobody is left to tell.
        Err(e) if e.kind() == ErrorKind::Connection => Ok(0),
        ended => ended.map(|()| 0).map_err(|e| errors::to_python(py, &e)),
    }
}

fn work(py: Python<'_>, channel: &mut Channel, executor: &mut Executor) -> taskcore::Result<()> {
    loop {
        while let Some((seq, call)) = channel.next_call()? {
            let outcome = executor.execute(py, &call, &mut Turn { channel, seq });
            if !channel.reply(seq, &outcome, clock::mono_us())? {
                bridge::detach(py, || channel.send())?;
            }
        }
        channel.ring()?;
        match bridge::detach(py, || channel.fill()) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Timeout => {
                // What a handler raises while no task runs concerns no task.
                if let Err(error) = py.check_signals() {
                    error.write_unraisable(py, None);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// In a child's SIGUSR1 handler: whether the signal is meant for the call that runs now.
#[pyfunction]
pub(crate) fn soft_limit_due() -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    current != 0 && CELL.get().is_some_and(|cell| cell.soft_due(current as u32))
}
