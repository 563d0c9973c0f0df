//! Closing connections before a process is forked.
//!
//! SQLite's connections, locks and tables of open files must not be used on both sides of a fork,
//! not even to close them, and a mutex may be inherited locked by a thread that does not exist any
//! more. So nothing is shared: before a fork every connection is closed (`pthread_atfork`), and
//! what a child inherits is never looked at, only left where it is.

#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::connections::Connections;
use crate::fork::PerProcess;

/// The connections of this process, to be found by the handlers.
static OPEN: PerProcess<Mutex<Vec<Weak<Connections>>>> = PerProcess::new();

#[cfg(unix)]
fn open() -> Vec<Arc<Connections>> {
    let open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    open.iter().filter_map(Weak::upgrade).collect()
}

/// From now on these are closed before every fork of this process.
pub(crate) fn close_before_fork(connections: &Arc<Connections>) {
    let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|c| c.strong_count() > 0);
    open.push(Arc::downgrade(connections));
    drop(open);
    #[cfg(unix)]
    install();
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn install() {
    extern "C" fn prepare() {
        for connections in open() {
            connections.pause();
        }
    }
    extern "C" fn parent() {
        for connections in open() {
            connections.resume();
        }
    }
    // Handlers are inherited by forked children, and so is the fact that they were installed.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::AcqRel) {
        // SAFETY: both are plain functions that live as long as the process image. The child needs
        // none: it looks at nothing that it inherited.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), None) };
    }
}
