//! Forks: what belongs to one process, and closing connections before another one is made.
//!
//! SQLite's connections, locks and tables of open files must not be used on both sides of a fork,
//! not even to close them, and a mutex may be inherited locked by a thread that does not exist any
//! more. So nothing is shared: before a fork every connection is closed (`pthread_atfork`), and
//! what a child inherits is never looked at, only left where it is.

use std::{
    marker::PhantomData,
    ptr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicPtr, Ordering},
    },
};

use super::connections::Connections;

struct Node<T> {
    pid: u32,
    value: T,
}

/// A value that each process makes for itself. What a parent made is leaked in the child: its
/// destructor would act on the parent's files and wait for the parent's threads.
pub(crate) struct PerProcess<T> {
    node: AtomicPtr<Node<T>>,
    /// Shared between threads on the same terms: any of them may make the value, and any may drop
    /// it.
    owns: PhantomData<OnceLock<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { node: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// This process's value. Two threads that race may both call `make`; one value wins.
    #[allow(unsafe_code)]
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let pid = std::process::id();
        let seen = self.node.load(Ordering::Acquire);
        // SAFETY: a pointer in `node` came from `Box::into_raw` below and is freed only in `drop`,
        // which has `&mut self`.
        if let Some(node) = unsafe { seen.as_ref() }.filter(|n| n.pid == pid) {
            return &node.value;
        }
        let fresh = Box::into_raw(Box::new(Node { pid, value: make() }));
        match self.node.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: just made, and freed only in `drop`. What `seen` points to, if anything, is
            // the parent's and stays.
            Ok(_) => unsafe { &(*fresh).value },
            Err(winner) => {
                // SAFETY: `fresh` was never published.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: another thread of this process published `winner`; as above.
                unsafe { &(*winner).value }
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let node = *self.node.get_mut();
        // SAFETY: as in `get_or_init`.
        if unsafe { node.as_ref() }.is_some_and(|n| n.pid == std::process::id()) {
            // SAFETY: made by `Box::into_raw`, and nobody else can reach it any more.
            drop(unsafe { Box::from_raw(node) });
        }
    }
}

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
    static INSTALLED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::AcqRel) {
        // SAFETY: both are plain functions that live as long as the process image. The child needs
        // none: it looks at nothing that it inherited.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), None) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_per_process() {
        let cell = PerProcess::new();
        assert_eq!(*cell.get_or_init(|| 1), 1);
        assert_eq!(*cell.get_or_init(|| 2), 1);
    }

    #[test]
    fn racing_threads_agree() {
        let cell = PerProcess::new();
        let seen: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let cell = &cell;
                    scope.spawn(move || *cell.get_or_init(|| n))
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|n| *n == seen[0]));
    }
}
