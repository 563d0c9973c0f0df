//! Every key that the broker uses, and what it holds.
//!
//! A queue is four lists, Celery's own, one per priority step; each list is a *lane*. Beside the list `L` of a lane live
//! its records, under `{L}:...`: a list named without braces hashes as its whole name, which equals the tag, so a lane lies in one
//! slot of a cluster and one script may touch all of it. Scripts are given every key; none builds one.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `L` | list | ready messages; producers push left, workers pop right |
//! | `{L}:again` | list | ready messages whose worker was lost, each with its count; served before `L` |
//! | `{L}:held:<epoch>` | hash | sequence number to message: what this worker claimed |
//! | `{L}:inbox:<epoch>` | list | where a blocked wait lands a message, until the worker records it as held |
//! | `{L}:leases` | zset | epoch to the end of its lease (ms); negative: declared dead then |
//! | `{L}:due` | zset | the buckets that hold scheduled messages: where each begins (ms), as name and score |
//! | `{L}:due:<begin>` | hash | task id to what is due in these [`BUCKET_MS`], see [`bucket_offset`] |
//! | `{L}:dead` | hash | key to dead letter |
//! | `taskcore:queues` | set | names of the queues that were ever published to or consumed |
//!
//! The count of lost deliveries travels with the message, in front of its bytes (`\0tc<count>\n`), wherever it lies except in
//! `L`, which holds only what Celery may read. So an ack is one field less in `held` and leaves nothing else to forget.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Millis;

/// Celery's priority steps, served in this order.
pub(super) const STEPS: [u8; 4] = [0, 3, 6, 9];

/// How long a bucket of the due set is. A bucket is claimed from when all of it lies within the horizon, and found at
/// most half a horizon later, so that a quarter of a horizon is left before its first message is due.
pub(super) const BUCKET_MS: Millis = 500;

/// Builds the names; holds `global_keyprefix`.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

/// One list and the names of its records.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// `L`.
    pub(super) list: String,
    /// `{L}:`, or `L:` where the name of the list has a tag of its own.
    base: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// `taskcore:queues`.
    pub(super) fn queues(&self) -> String {
        format!("{}taskcore:queues", self.prefix)
    }

    /// The list of `queue` for a priority, which is all that a producer needs.
    pub(super) fn list(&self, queue: &str, step: usize) -> String {
        if step == 0 {
            format!("{}{queue}", self.prefix)
        } else {
            format!("{}{queue}\x06\x16{}", self.prefix, STEPS[step])
        }
    }

    pub(super) fn lane(&self, queue: &str, step: usize) -> Lane {
        let list = self.list(queue, step);
        let base = if has_tag(&list) { format!("{list}:") } else { format!("{{{list}}}:") };
        Lane { list, base }
    }

    /// The lanes of a queue, in the order of service.
    pub(super) fn lanes(&self, queue: &str) -> [Lane; STEPS.len()] {
        std::array::from_fn(|step| self.lane(queue, step))
    }
}

impl Lane {
    pub(super) fn held(&self, epoch: &str) -> String {
        format!("{}held:{epoch}", self.base)
    }

    pub(super) fn inbox(&self, epoch: &str) -> String {
        format!("{}inbox:{epoch}", self.base)
    }

    pub(super) fn leases(&self) -> String {
        format!("{}leases", self.base)
    }

    pub(super) fn due(&self) -> String {
        format!("{}due", self.base)
    }

    /// The bucket that begins then.
    pub(super) fn bucket(&self, begin: Millis) -> String {
        format!("{}due:{begin}", self.base)
    }

    pub(super) fn again(&self) -> String {
        format!("{}again", self.base)
    }

    pub(super) fn dead(&self) -> String {
        format!("{}dead", self.base)
    }
}

/// Where the bucket of a due time begins.
pub(super) fn bucket_begin(due: Millis) -> Millis {
    due.div_euclid(BUCKET_MS) * BUCKET_MS
}

/// The three digits that stand before a message in its bucket: how far into the bucket it is due, so that the
/// scripts can tell the order.
pub(super) fn bucket_offset(due: Millis) -> [u8; 3] {
    let offset = due.rem_euclid(BUCKET_MS);
    [100, 10, 1].map(|unit| b'0' + (offset / unit % 10) as u8)
}

/// Splits the count of lost deliveries off a message that carries one, which makes it suspect.
pub(super) fn split_count(value: Bytes) -> (Option<u32>, Bytes) {
    let Some(rest) = value.strip_prefix(b"\0tc") else { return (None, value) };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    match std::str::from_utf8(&rest[..digits]).ok().and_then(|d| d.parse().ok()) {
        Some(count) if rest.get(digits) == Some(&b'\n') => {
            (Some(count), value.slice(3 + digits + 1..))
        }
        _ => (None, value),
    }
}

/// Index of the step of a priority: the largest one not above it.
pub(super) fn step(priority: u8) -> usize {
    STEPS.iter().rposition(|s| *s <= priority).unwrap_or(0)
}

/// Whether Redis Cluster would hash only a part of the name.
fn has_tag(list: &str) -> bool {
    list.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .is_some_and(|(tag, _)| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_celerys() {
        let keys = Keys::new("pre:");
        let lists: Vec<String> = keys.lanes("celery").into_iter().map(|l| l.list).collect();
        assert_eq!(
            lists,
            ["pre:celery", "pre:celery\x06\x163", "pre:celery\x06\x166", "pre:celery\x06\x169"]
        );
        let of: Vec<u8> = (0..=12).map(|p| STEPS[step(p)]).collect();
        assert_eq!(of, [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9, 9]);
    }

    #[test]
    fn counts_are_split_off() {
        let split = |b: &'static [u8]| {
            let (count, raw) = split_count(Bytes::from_static(b));
            (count, raw.to_vec())
        };
        assert_eq!(split(b"\0tc12\n{}"), (Some(12), b"{}".to_vec()));
        for raw in [&b"{}"[..], b"", b"\0tc", b"\0tc1", b"\0tcx\n", b"\0tc99999999999\nx"] {
            assert_eq!(split(raw), (None, raw.to_vec()));
        }
    }

    #[test]
    fn buckets_partition_time() {
        for (due, begin, offset) in [
            (0, 0, b"000"),
            (499, 0, b"499"),
            (500, 500, b"000"),
            (1_507, 1_500, b"007"),
            (-1, -500, b"499"),
        ] {
            assert_eq!((bucket_begin(due), &bucket_offset(due)), (begin, offset));
        }
    }

    #[test]
    fn records_share_the_slot_of_their_list() {
        let keys = Keys::new("");
        assert_eq!(keys.lane("q", 0).held("e"), "{q}:held:e");
        assert_eq!(keys.lane("q", 1).due(), "{q\x06\x163}:due");
        assert_eq!(keys.lane("q", 0).bucket(1_500), "{q}:due:1500");
        assert_eq!(keys.lane("{tenant}.q", 0).dead(), "{tenant}.q:dead");
        assert_eq!(keys.lane("{}q", 0).dead(), "{{}q}:dead");
    }
}
