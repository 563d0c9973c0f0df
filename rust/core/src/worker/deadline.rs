//! Deadlines: when a request has expired, and which time limits a call has.
//!
//! The pool enforces the limits of what runs; here is only decided which they are. Expiry is
//! checked twice, at receipt and right before dispatch, because a request may have waited for its
//! due time, for a rate limit or for a slot in between.

use crate::{config::TaskSpec, message::TimeLimit};

/// Whether a task must not begin any more. `now` and `expires` are microseconds since the Unix
/// epoch.
pub fn expired(expires: Option<i64>, now: i64) -> bool {
    expires.is_some_and(|at| now > at)
}

/// Soft and hard limit in microseconds: the call's own, else the task's (which holds the worker's
/// default already).
pub fn limits(call: TimeLimit, spec: &TaskSpec) -> (Option<u64>, Option<u64>) {
    (call.soft.and_then(micros).or(spec.soft_us), call.hard.and_then(micros).or(spec.hard_us))
}

/// Seconds as microseconds. Zero, negative and not-a-number mean no limit, as falsy values do in
/// Celery.
fn micros(seconds: f64) -> Option<u64> {
    (seconds > 0.0).then_some((seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_strictly_later() {
        for (expires, now, expected) in
            [(None, i64::MAX, false), (Some(5), 4, false), (Some(5), 5, false), (Some(5), 6, true)]
        {
            assert_eq!(expired(expires, now), expected, "{expires:?} at {now}");
        }
    }

    #[test]
    fn the_call_overrides_the_task_each_limit_alone() {
        let spec = TaskSpec { soft_us: Some(1_000), hard_us: Some(2_000), ..TaskSpec::default() };
        for (hard, soft, expected) in [
            (None, None, (Some(1_000), Some(2_000))),
            (Some(1.5), None, (Some(1_000), Some(1_500_000))),
            (None, Some(0.25), (Some(250_000), Some(2_000))),
            (Some(0.0), Some(-1.0), (Some(1_000), Some(2_000))),
            (Some(f64::NAN), None, (Some(1_000), Some(2_000))),
        ] {
            assert_eq!(limits(TimeLimit { hard, soft }, &spec), expected, "{hard:?} {soft:?}");
        }
        assert_eq!(limits(TimeLimit::default(), &TaskSpec::default()), (None, None));
    }
}
