//! When a batch that failed may be tried again: after a wait that doubles, with jitter.

use std::time::Duration;

use crate::{backoff, clock::Micros};

/// First ceiling of the wait, and the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Failures in a row, and when the next attempt may be made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    /// Not before.
    pub(super) at: Micros,
}

impl Retry {
    /// Whether nothing has failed.
    pub(super) fn is_first(&self) -> bool {
        self.failures == 0
    }

    /// Notes a failure. `random` is in `0..1`.
    pub(super) fn later(&mut self, now: Micros, random: f64) {
        let wait = backoff::exponential(self.failures, BACKOFF.0, BACKOFF.1, random);
        self.failures = self.failures.saturating_add(1);
        self.at = now + wait.as_micros() as u64;
    }
}
