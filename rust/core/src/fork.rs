//! Which side of a fork this is: a process copied from another finds connections, random numbers and
//! threads of its parent's, which it must not use.
//!
//! Whoever owns such state keeps the [`generation`] in which it was made, or leaves both to
//! [`PerProcess`].

use std::{
    convert::Infallible,
    marker::PhantomData,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicPtr, Ordering},
    },
};

/// A number that differs between a process and those forked from it. Not the process id, which
/// costs a system call, and is asked for in the middle of every publish and around every task.
#[cfg(unix)]
#[allow(unsafe_code)]
#[inline]
pub fn generation() -> u32 {
    use std::sync::{Once, atomic::AtomicU32};
    static FORKS: AtomicU32 = AtomicU32::new(1);
    static REGISTER: Once = Once::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    REGISTER.call_once(|| {
        // SAFETY: the handler does nothing but add to an atomic, which is safe in a freshly forked
        // process. Handlers are inherited by forked processes, and so is that this one is there.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// Where no process is forked there is one generation.
#[cfg(not(unix))]
pub fn generation() -> u32 {
    1
}

/// A value that each process makes for itself. What a parent made is leaked in the child: its
/// destructor would act on the parent's files and wait for the parent's threads.
pub struct PerProcess<T> {
    node: AtomicPtr<Node<T>>,
    /// Shared between threads on the same terms: any of them may make the value, and any may drop
    /// it.
    owns: PhantomData<OnceLock<T>>,
}

struct Node<T> {
    generation: u32,
    value: T,
}

impl<T> PerProcess<T> {
    /// No value yet.
    pub const fn new() -> Self {
        Self { node: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// This process's value. Two threads that race may both call `make`; one value wins.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let value: Result<&T, Infallible> = self.get_or_try_init(|| Ok(make()));
        match value {
            Ok(value) => value,
        }
    }

    /// As [`Self::get_or_init`]; there is still none after an error.
    #[allow(unsafe_code)]
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let generation = generation();
        let seen = self.node.load(Ordering::Acquire);
        // SAFETY: a pointer in `node` came from `Box::into_raw` below and is freed only in `drop`,
        // which has `&mut self`.
        if let Some(node) = unsafe { seen.as_ref() }.filter(|n| n.generation == generation) {
            return Ok(&node.value);
        }
        let fresh = Box::into_raw(Box::new(Node { generation, value: make()? }));
        match self.node.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: just made, and freed only in `drop`. What `seen` points to, if anything, is
            // the parent's and stays.
            Ok(_) => Ok(unsafe { &(*fresh).value }),
            Err(winner) => {
                // SAFETY: `fresh` was never published.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: another thread of this process published `winner`; as above.
                Ok(unsafe { &(*winner).value })
            }
        }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for PerProcess<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let node = *self.node.get_mut();
        // SAFETY: as in `get_or_try_init`.
        if unsafe { node.as_ref() }.is_some_and(|n| n.generation == generation()) {
            // SAFETY: made by `Box::into_raw`, and nobody else can reach it any more.
            drop(unsafe { Box::from_raw(node) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_per_process() {
        let cell = PerProcess::new();
        assert_eq!(cell.get_or_try_init(|| Err("not yet")), Err("not yet"));
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
