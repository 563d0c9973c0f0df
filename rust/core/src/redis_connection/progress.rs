//! How long a silent connection is believed to be alive.
//!
//! A deadline for a whole reply cannot tell a dead link from a slow one: 10 MB over 10 Mbit/s take
//! eight seconds, and giving up after five means to send it again for ever. So what is bounded is
//! the silence: the time since a byte last moved in either direction. What was written lies in
//! buffers of the system before it travels, where nobody sees it move; for that a silence is
//! allowed the time that [`SLOWEST`] takes to carry it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::{self, Micros};

/// Bytes per second of the slowest link that is worth waiting for: 1 Mbit/s.
const SLOWEST: u64 = 128 << 10;
/// The most that buffers on the way are thought to hold: what Linux gives one socket at most by
/// default.
const BUFFERED: u64 = 4 << 20;

/// When bytes last moved over a connection. Written by its stream, read by whoever waits for a
/// reply.
#[derive(Debug)]
pub(super) struct Progress {
    /// When a byte last moved, [`clock::mono_us`].
    moved: AtomicU64,
    /// Bytes written since one was last read.
    unanswered: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { moved: AtomicU64::new(clock::mono_us()), unanswered: AtomicU64::new(0) }
    }

    pub(super) fn written(&self, bytes: usize) {
        self.unanswered.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved.store(clock::mono_us(), Ordering::Relaxed);
    }

    pub(super) fn read(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.moved.store(clock::mono_us(), Ordering::Relaxed);
    }

    /// How much longer to wait for a reply that is awaited since `since`; `None` when the
    /// connection is dead.
    pub(super) fn left(&self, since: Micros, patience: Duration) -> Option<Duration> {
        let end = ends(
            since.max(self.moved.load(Ordering::Relaxed)),
            self.unanswered.load(Ordering::Relaxed),
            patience,
        );
        let left = end.saturating_sub(clock::mono_us());
        (left > 0).then(|| Duration::from_micros(left))
    }
}

/// When a silence that began at `moved` has lasted too long.
fn ends(moved: Micros, unanswered: u64, patience: Duration) -> Micros {
    moved + patience.as_micros() as u64 + unanswered.min(BUFFERED) * 1_000_000 / SLOWEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_allowed_what_the_buffers_may_hold() {
        let patience = Duration::from_secs(5);
        assert_eq!(ends(7, 0, patience), 5_000_007);
        assert_eq!(ends(0, SLOWEST, patience), 6_000_000);
        assert_eq!(ends(0, u64::MAX, patience), 5_000_000 + 32_000_000, "it is bounded");
    }

    #[test]
    fn reading_shows_that_what_was_written_arrived() {
        let progress = Progress::new();
        progress.written(1 << 20);
        let long = progress.left(0, Duration::from_secs(5)).unwrap();
        progress.read();
        let short = progress.left(0, Duration::from_secs(5)).unwrap();
        assert!(short <= Duration::from_secs(5) && long > short, "{long:?} {short:?}");
        assert_eq!(progress.left(0, Duration::ZERO), None);
    }
}
