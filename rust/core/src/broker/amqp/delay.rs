//! Delays that the server keeps: Celery's 28 levels of queues, by which a message waits the seconds
//! that its routing key names in binary.
//!
//! Level `n` is a topic exchange and a queue `celery_delayed_<n>` whose messages expire after `2^n`
//! seconds into the exchange of the level below. An exchange sends a message whose digit of this
//! level is 1 into its queue, and one whose digit is 0 straight to the next level. Behind the last
//! stands the exchange `celery_delayed_delivery`, where queues are bound with any 28 digits in front
//! of their own name. Names and arguments are Celery's, so that both kinds of workers share them.

use crate::clock::Millis;

/// How many levels there are; the longest delay is one second less than `2^28`.
pub(super) const LEVELS: usize = 28;
/// Where a message comes out when it has waited.
pub(super) const DELIVERY: &str = "celery_delayed_delivery";

/// The name of a level's exchange and of its queue.
pub(super) fn level(n: usize) -> String {
    format!("celery_delayed_{n}")
}

/// With what key a level's queue is bound to its exchange (its digit is 1), and the next exchange to
/// it (its digit is 0).
pub(super) fn binding(n: usize, digit: u8) -> String {
    format!("{}{digit}.#", "*.".repeat(LEVELS - 1 - n))
}

/// With what key a queue is bound to [`DELIVERY`].
pub(super) fn delivery_binding(queue: &str) -> String {
    format!("{}{queue}", "*.".repeat(LEVELS))
}

/// For how many seconds a message waits here that is due then: never for longer, the worker waits
/// for the rest. `None` where it does not have to.
pub(super) fn seconds(due: Millis, now: Millis) -> Option<u32> {
    const MOST: Millis = (1 << LEVELS) - 1;
    let seconds = (due - now).div_euclid(1_000).min(MOST);
    u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// The key under which a message for `queue` is published to the exchange of the highest level.
pub(super) fn routing_key(seconds: u32, queue: &str) -> String {
    let mut key = String::with_capacity(2 * LEVELS + queue.len());
    for n in (0..LEVELS).rev() {
        key.push(if seconds >> n & 1 == 1 { '1' } else { '0' });
        key.push('.');
    }
    key + queue
}

/// What stands behind the digits of such a key; the key itself where there are none.
pub(super) fn undelayed(key: &str) -> &str {
    let Some((digits, rest)) = key.split_at_checked(2 * LEVELS) else { return key };
    let mut pairs = digits.as_bytes().chunks_exact(2);
    if pairs.all(|pair| matches!(pair, [b'0' | b'1', b'.'])) { rest } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_celerys() {
        let five = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.celery";
        assert_eq!(routing_key(5, "celery"), five);
        assert_eq!(undelayed(five), "celery");
        assert_eq!(undelayed(&routing_key(u32::MAX >> 4, "a.b")), "a.b");
        for key in ["celery", "", "0.1.x", &five[2..], &five.replace("1.0", "2.0")] {
            assert_eq!(undelayed(key), key);
        }
        assert_eq!(binding(27, 1), "1.#");
        assert_eq!(binding(0, 0), "*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.0.#");
    }

    #[test]
    fn nothing_waits_for_longer_than_it_should() {
        for (due, expected) in [
            (999, None),
            (1_000, Some(1)),
            (2_999, Some(2)),
            (-5_000, None),
            (Millis::MAX / 2, Some((1 << 28) - 1)),
        ] {
            assert_eq!(seconds(due, 0), expected, "{due}");
        }
    }
}
