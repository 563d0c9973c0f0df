//! Which calls have begun: what parent and child agree on without a lock or a message.
//!
//! Calls to one child are numbered 0, 1, 2.. in sending order; the floor is the first number that
//! may still begin. The child begins call `s` by moving the floor from at most `s` to `s + 1`; the
//! parent takes back everything that has not begun by moving it to the number it would send next.
//! Each move is one compare-and-swap, so every call is begun by the child or taken back by the
//! parent, never both. `tests/loom.rs` has it in every order of steps.

use super::atomic::{AtomicU32, Ordering};

/// The first number that may still begin. Moved by both sides.
#[repr(transparent)]
pub(super) struct Floor(pub(super) AtomicU32);

impl Floor {
    /// Child: begins call `seq`; false when the parent took it back.
    pub(super) fn begin(&self, seq: u32) -> bool {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            if before(seq, seen) {
                return false;
            }
            match self.advance(seen, seq.wrapping_add(1)) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Parent: takes back every call that has not begun; `next` is the number it would send next.
    /// Calls from the returned number on are the parent's again.
    pub(super) fn take_back(&self, next: u32) -> u32 {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            match self.advance(seen, next) {
                Ok(_) => return seen,
                Err(now) => seen = now,
            }
        }
    }

    /// Parent: whether call `seq`, not taken back, has begun.
    pub(super) fn has_begun(&self, seq: u32) -> bool {
        before(seq, self.0.load(Ordering::Acquire))
    }

    fn advance(&self, from: u32, to: u32) -> Result<u32, u32> {
        self.0.compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

/// Whether `a` comes before `b` in a numbering that wraps; at most 2^31 apart.
pub(super) fn before(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) > 0
}
