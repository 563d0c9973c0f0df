//! The life of a pool child: receive, execute, reply.
//!
//! The child holds the interpreter from call to call and leaves it only while it has nothing to do,
//! so that threads of the user's run then. The parent decides about its life: it exits when the
//! parent closes the socket, and the kernel kills it when the zygote is gone. A soft time limit
//! arrives as SIGUSR1, the end of a task that was terminated as the signal that was chosen;
//! [`soft_limit_due`] and [`end_due`] tell the Python handlers whether the call that it was meant
//! for is still running, because a signal may arrive late.

use std::{
    os::fd::{FromRawFd, OwnedFd},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use pyo3::prelude::*;
use taskcore::{
    ErrorKind,
    clock::{self, Micros},
    pool::process::{
        channel::Channel,
        page::{Ask, Cell},
        resident,
    },
};

use crate::{
    bridge, errors,
    execute::{Executor, Host},
};

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
        self.channel.start(0, self.seq, now);
    }

    fn end(&mut self) {
        CURRENT.store(0, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        self.channel.has_call()
    }
}

/// The life of a pool child: receive, execute, reply, until the parent closes the socket. Returns
/// the exit code.
#[pyfunction]
pub(crate) fn run_child(
    py: Python<'_>,
    fd: i32,
    memory: i32,
    executor: &Bound<'_, PyAny>,
    log_tasks: bool,
    max_memory: Option<u32>,
) -> PyResult<i32> {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    #[allow(unsafe_code)]
    // SAFETY: the zygote gives every child descriptors of its own and does not use them after the
    // fork.
    let (socket, memory) = unsafe { (OwnedFd::from_raw_fd(fd), OwnedFd::from_raw_fd(memory)) };
    let cell = Cell::open(&memory).map_err(|e| errors::to_python(py, &e))?;
    drop(memory);
    let _ = CELL.set(cell.clone()); // a process is a child once
    let mut executor = Executor::new(executor, log_tasks)?;
    let mut channel = Channel::new(socket, cell).map_err(|e| errors::to_python(py, &e))?;
    match work(py, &mut channel, &mut executor, max_memory) {
        // Nobody is left to tell.
        Err(e) if e.kind() == ErrorKind::Connection => Ok(0),
        ended => ended.map(|()| 0).map_err(|e| errors::to_python(py, &e)),
    }
}

fn work(
    py: Python<'_>,
    channel: &mut Channel,
    executor: &mut Executor,
    max_memory: Option<u32>,
) -> taskcore::Result<()> {
    loop {
        while let Some((seq, call)) = channel.next_call()? {
            let outcome = executor.execute(py, &call, &mut Turn { channel, seq });
            if !channel.reply(seq, &outcome, clock::mono_us())? {
                bridge::detach(py, || channel.send())?;
            }
            if let Some(most) = max_memory
                && let Some(peak) = resident::peak_kib().filter(|peak| *peak > most)
            {
                executor.rest(py);
                return bridge::detach(py, || channel.retire(peak));
            }
        }
        executor.rest(py);
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

/// In a child's handler of SIGUSR1: whether the signal is meant for the call that runs now.
#[pyfunction]
pub(crate) fn soft_limit_due() -> bool {
    is_asked(Ask::Soft)
}

/// In a child's handler of a signal that ends a process: whether the call that runs now is to end.
#[pyfunction]
pub(crate) fn end_due() -> bool {
    is_asked(Ask::End)
}

fn is_asked(what: Ask) -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    current != 0 && CELL.get().is_some_and(|cell| cell.is_asked(0, current as u32, what))
}
