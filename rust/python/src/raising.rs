//! Raising in a thread that runs a task: what a signal means there, and the helper thread that does
//! it, because raising needs the interpreter and the worker's loop never attaches.

use std::sync::{Arc, mpsc};

use taskcore::{Error, ErrorKind};

use crate::{
    bridge,
    pool_thread::{Raise, Slot, lock, raise_in},
};

/// The signals that a task can be ended with here: the exception of the soft limit is raised for
/// SIGUSR1, `SystemExit` for the others.
#[cfg(unix)]
const RAISED: [(&str, i32); 5] = [
    ("SIGTERM", libc::SIGTERM),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGHUP", libc::SIGHUP),
    ("SIGUSR1", USR1),
];
#[cfg(unix)]
const USR1: i32 = libc::SIGUSR1;
#[cfg(not(unix))]
const RAISED: [(&str, i32); 2] = [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT)];
#[cfg(not(unix))]
const USR1: i32 = -1;

/// What this signal raises.
pub(crate) fn of(signal: i32) -> Raise {
    if signal == USR1 { Raise::SoftLimit } else { Raise::Exit }
}

/// Whether a task of this pool can be ended with this signal.
pub(crate) fn check(pool: &str, signal: i32) -> taskcore::Result<()> {
    if RAISED.iter().any(|(_, number)| *number == signal) {
        return Ok(());
    }
    let names: Vec<&str> = RAISED.iter().map(|(name, _)| *name).collect();
    let text = format!(
        "signal `{signal}` cannot end a task of the pool `{}`, which runs inside the worker's process, expected one that is \
             raised in it as an exception: {}; or use the pool prefork",
        pool,
        names.join(", ")
    );
    Err(Error::new(ErrorKind::Unsupported, text))
}

/// The helper thread: raises what is due in calls that still run.
pub(crate) fn help(due: &mpsc::Receiver<(Arc<Slot>, u64, Raise)>) {
    while let Ok((slot, key, what)) = due.recv() {
        bridge::attach(|py| {
            let Some(ident) = mark(&slot, key, what) else { return };
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
