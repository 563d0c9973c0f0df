//! Bytes from one writer to one reader through memory that both have, without a lock.
//!
//! Each side counts the bytes it has moved and reads the other's counter. What lies between the two
//! belongs to the reader, the rest to the writer. `tests/loom.rs` has it in every order of steps
//! and memory accesses.

#![allow(unsafe_code)]

use bytes::BytesMut;

use super::atomic::{AtomicU32, Ordering};

/// The bytes of a ring.
pub(super) trait Memory {
    /// How many: a power of two, so that counters may wrap.
    const SIZE: u32;

    /// Writes `data` from `at` on.
    ///
    /// # Safety
    /// It ends inside the ring, and nobody else touches that part meanwhile.
    unsafe fn write(&self, at: usize, data: &[u8]);

    /// Appends the `len` bytes from `at` on to `into`.
    ///
    /// # Safety
    /// As for [`Self::write`].
    unsafe fn read(&self, at: usize, len: usize, into: &mut BytesMut);
}

/// One side's view of a ring.
pub(super) struct Ring<'a, M> {
    /// Bytes written, wrapping. Written by the writer.
    pub(super) written: &'a AtomicU32,
    /// Bytes read, wrapping. Written by the reader.
    pub(super) read: &'a AtomicU32,
    pub(super) memory: M,
}

impl<M: Memory> Ring<'_, M> {
    /// Writer: puts bytes into the ring, all or nothing; false when they do not fit.
    pub(super) fn push(&self, data: &[u8]) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        let used = written.wrapping_sub(self.read.load(Ordering::Acquire));
        if data.len() > M::SIZE.saturating_sub(used) as usize {
            return false;
        }
        let at = (written % M::SIZE) as usize;
        let (first, rest) = data.split_at(data.len().min(M::SIZE as usize - at));
        // SAFETY: `at + first.len() <= SIZE` and both are at most what is free, so they stay in the
        // ring, in the part that the reader does not touch before `written` says so.
        unsafe {
            self.memory.write(at, first);
            self.memory.write(0, rest);
        }
        self.written.store(written.wrapping_add(data.len() as u32), Ordering::Release);
        true
    }

    /// Reader: moves what the ring holds to the end of `into`; how many bytes, or `None` when the
    /// counters make no sense: somebody else overwrote them.
    pub(super) fn drain(&self, into: &mut BytesMut) -> Option<usize> {
        let read = self.read.load(Ordering::Relaxed);
        let written = self.written.load(Ordering::Acquire);
        let len = written.wrapping_sub(read);
        if len > M::SIZE {
            return None;
        }
        if len > 0 {
            let at = (read % M::SIZE) as usize;
            let first = (len as usize).min(M::SIZE as usize - at);
            // SAFETY: both parts lie inside the ring, and the writer does not touch them before
            // `read` says so. (One that does is broken; whoever parses the bytes checks every
            // length.)
            unsafe {
                self.memory.read(at, first, into);
                self.memory.read(0, len as usize - first, into);
            }
            self.read.store(written, Ordering::Release);
        }
        Some(len as usize)
    }
}
