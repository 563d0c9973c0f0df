//! Waiting times between attempts; pure.

use std::time::Duration;

/// Exponential backoff with full jitter: attempt 0 waits up to `base`, doubling to at most `cap`.
/// `random` is in `0..1`.
pub fn exponential(attempt: u32, base: Duration, cap: Duration, random: f64) -> Duration {
    let ceiling = base.saturating_mul(2u32.saturating_pow(attempt.min(20))).min(cap);
    ceiling.mul_f64(random.clamp(0.0, 1.0))
}

/// Celery's publish retry policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts after the first; `None` for ever (the deadline still ends it). Default 3.
    pub max_retries: Option<u32>,
    /// Wait before the first retry. Default 0.
    pub interval_start: Duration,
    /// Added for each further retry. Default 200 ms.
    pub interval_step: Duration,
    /// Upper bound. Default 1 s.
    pub interval_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: Some(3),
            interval_start: Duration::ZERO,
            interval_step: Duration::from_millis(200),
            interval_max: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// The wait before retry number `retry` (0 is the first), or `None` when there are no more.
    pub fn wait(&self, retry: u32) -> Option<Duration> {
        if self.max_retries.is_some_and(|m| retry >= m) {
            return None;
        }
        Some((self.interval_start + self.interval_step * retry).min(self.interval_max))
    }
}
