//! Every key that the broker uses, and what it holds.
//!
//! A queue is four lists, Celery's own, one per priority step; each list is a *lane*. Beside the
//! list `L` of a lane lie its records, whose names begin with a hash tag so that all of a lane lies
//! in one slot of a cluster: `{L}:`, see [`base`]. Scripts are given every key; none builds one.
//! One that takes several lanes treats them one after the other and may be called for some of them
//! alone, which is how it is called where they lie in several slots.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `L` | list | ready messages; producers push left, workers pop right |
//! | `{L}:redelivered` | list | ready messages that were lost with a worker, each with its count; served before all else |
//! | `{L}:overdue` | list | ready messages that came due and found no room; served before `L` |
//! | `{L}:unacked:<epoch>` | hash | sequence number to message: what this worker claimed; and under the empty name the session that may claim |
//! | `{L}:moved:<epoch>:<session>` | list | where a wait moves a message, until the worker records it as unacked; a string when the session has ended |
//! | `{L}:due` | zset | the buckets that hold scheduled messages: where each begins (ms), as name and score |
//! | `{L}:due:<begin>` | hash | task id to what is due in these [`BUCKET_MS`], see [`bucket_offset`] |
//! | `{L}:dead` | hash | key to dead letter |
//! | `{taskcore}:leases` | zset | epoch to when it was last renewed (ms, by the server's clock); 0: lapsed, being recovered |
//! | `{taskcore}:queues:<epoch>` | set | names of the queues that an epoch consumes |
//! | `{taskcore}:beat:<schedule>:leader` | string | name of the beat that leads; ends with its lease |
//! | `{taskcore}:beat:<schedule>:revision` | string | how often entries were changed |
//! | `{taskcore}:beat:<schedule>:definitions`, `done`, `runs`, `sent` | hashes | name of an entry to what it says, the due time it is done with, how often and when it was sent |
//! | `{taskcore}:beat:<schedule>:paused` | set | names of entries |
//! | `{taskcore}:revoked` | zset | ids that are dropped when they come, by when that is forgotten |
//! | `{L}:heard:<hash>` | string | a message that was heard on a channel lies in this queue; expires |
//! | `_kombu.binding.<exchange>` | set | who is bound to an exchange, as kombu writes it, see [`bindings`](super::bindings) |
//! | `_kombu.binding_permanent.<exchange>` | set | the same, so that kombu's sweep keeps the table |
//! | `{taskcore}:headers:<exchange>` | set | who is bound to a headers exchange: queue and arguments, as JSON |
//! | `{taskcore}:queues` | set | names of the queues that were ever published to or consumed |
//!
//! The count of lost deliveries travels with the message, in front of its bytes (`\0tc<count>\n`),
//! wherever it lies except in `L`, which holds only what Celery may read. So an ack is one field
//! less in `unacked` and leaves nothing else to forget.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Millis;

/// Celery's priority steps, served in this order.
pub(super) const STEPS: [u8; 4] = [0, 3, 6, 9];

/// How long a bucket of the due set is. A bucket is claimed from when all of it lies within the
/// horizon, and found at most half a horizon later, so that a quarter of a horizon is left before
/// its first message is due.
pub(super) const BUCKET_MS: Millis = 500;

/// Builds the names; holds `global_keyprefix`.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
    /// What the names begin with that belong to no lane.
    common: Arc<str>,
}

/// The keys of one schedule.
#[derive(Clone, Debug)]
pub(super) struct ScheduleKeys {
    pub(super) leader: String,
    pub(super) revision: String,
    pub(super) definitions: String,
    pub(super) done: String,
    pub(super) runs: String,
    pub(super) sent: String,
    pub(super) paused: String,
}

/// One list and the names of its records.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// `L`.
    pub(super) list: String,
    /// What the names of its records begin with.
    base: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), common: base(&format!("{prefix}taskcore")).into() }
    }

    pub(super) fn queues(&self) -> String {
        format!("{}queues", self.common)
    }

    pub(super) fn revoked(&self) -> String {
        format!("{}revoked", self.common)
    }

    /// Who is bound to an exchange, as kombu writes it.
    pub(super) fn binding(&self, exchange: &str) -> String {
        format!("{}_kombu.binding.{exchange}", self.prefix)
    }

    /// The members of that which kombu's sweep must not take for expired.
    pub(super) fn binding_permanent(&self, exchange: &str) -> String {
        format!("{}_kombu.binding_permanent.{exchange}", self.prefix)
    }

    /// Who is bound to a headers exchange.
    pub(super) fn headers(&self, exchange: &str) -> String {
        format!("{}headers:{exchange}", self.common)
    }

    /// What the notes begin with that say which messages a queue has heard on a channel.
    pub(super) fn heard(&self, queue: &str) -> String {
        format!("{}heard:", base(&self.list(queue, 0)))
    }

    pub(super) fn leases(&self) -> String {
        format!("{}leases", self.common)
    }

    pub(super) fn queues_of(&self, epoch: &str) -> String {
        format!("{}queues:{epoch}", self.common)
    }

    pub(super) fn schedule(&self, schedule: &str) -> ScheduleKeys {
        let key = |what: &str| format!("{}beat:{schedule}:{what}", self.common);
        ScheduleKeys {
            leader: key("leader"),
            revision: key("revision"),
            definitions: key("definitions"),
            done: key("done"),
            runs: key("runs"),
            sent: key("sent"),
            paused: key("paused"),
        }
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
        Lane { base: base(&list), list }
    }

    /// The lanes of a queue, in the order of service.
    pub(super) fn lanes(&self, queue: &str) -> [Lane; STEPS.len()] {
        std::array::from_fn(|step| self.lane(queue, step))
    }
}

impl Lane {
    pub(super) fn unacked(&self, epoch: &str) -> String {
        format!("{}unacked:{epoch}", self.base)
    }

    pub(super) fn moved(&self, epoch: &str, session: impl std::fmt::Display) -> String {
        format!("{}moved:{epoch}:{session}", self.base)
    }

    pub(super) fn due(&self) -> String {
        format!("{}due", self.base)
    }

    /// The bucket that begins then.
    pub(super) fn bucket(&self, begin: Millis) -> String {
        format!("{}due:{begin}", self.base)
    }

    pub(super) fn redelivered(&self) -> String {
        format!("{}redelivered", self.base)
    }

    pub(super) fn overdue(&self) -> String {
        format!("{}overdue", self.base)
    }

    pub(super) fn dead(&self) -> String {
        format!("{}dead", self.base)
    }
}

/// Where the bucket of a due time begins.
pub(super) fn bucket_begin(due: Millis) -> Millis {
    due.div_euclid(BUCKET_MS) * BUCKET_MS
}

/// The three digits that stand before a message in its bucket: how far into the bucket it is due,
/// so that the scripts can tell the order.
pub(super) fn bucket_offset(due: Millis) -> [u8; 3] {
    let offset = due.rem_euclid(BUCKET_MS);
    [100, 10, 1].map(|unit| b'0' + (offset / unit % 10) as u8)
}

/// The digits that a count of lost deliveries has at most. What has more is no count but a message
/// that somebody else wrote. The scripts say the same.
const COUNT_DIGITS: usize = 9;

/// Splits the count of lost deliveries off a message that carries one, which makes it suspect.
pub(super) fn split_count(value: Bytes) -> (Option<u32>, Bytes) {
    let marked = value.strip_prefix(b"\0tc").or_else(|| value.strip_prefix(b"\0tb"));
    let Some(rest) = marked else { return (None, value) };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = rest.get(..digits).filter(|_| digits <= COUNT_DIGITS);
    match text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()) {
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

/// What names begin with that share the slot of `name` in a cluster.
///
/// A cluster hashes what stands between the first `{` and the next `}`, or the whole name where
/// that is nothing. So a name with a tag is the beginning itself, and one without becomes the tag.
/// A name that has a `}` but no tag cannot: the tag would end there. For such a name a number is
/// found that hashes to the same slot.
fn base(name: &str) -> String {
    if hashed(name).len() < name.len() {
        format!("{name}:")
    } else if name.contains('}') {
        let slot = slot(name);
        // Some sixteen thousand are tried on average; there are as many slots.
        let tag = (0..u32::MAX).find(|tag| self::slot(&tag.to_string()) == slot);
        let tag = tag.expect("numbers of six digits reach every slot");
        format!("{{{tag}}}{name}:")
    } else {
        format!("{{{name}}}:")
    }
}

/// The part of a name that a cluster hashes.
fn hashed(name: &str) -> &str {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(name)
}

/// The slot of a name: the CRC16 that Redis uses (XMODEM), modulo the number of slots.
fn slot(name: &str) -> u16 {
    let crc = hashed(name).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    });
    crc % 16_384
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
        assert_eq!(split(b"\0tb999999999\n"), (Some(999_999_999), Vec::new()));
        for raw in [
            &b"{}"[..],
            b"",
            b"\0tc",
            b"\0tc1",
            b"\0tc\n",
            b"\0tcx\n",
            b"\0tc1000000000\nx",
            b"\0tc99999999999\nx",
        ] {
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
    fn names_of_records_begin_with_the_tag_of_their_list() {
        let keys = Keys::new("");
        assert_eq!(keys.lane("q", 0).unacked("e"), "{q}:unacked:e");
        assert_eq!(keys.lane("q", 1).due(), "{q\x06\x163}:due");
        assert_eq!(keys.lane("q", 0).bucket(1_500), "{q}:due:1500");
        assert_eq!(keys.lane("{tenant}.q", 0).dead(), "{tenant}.q:dead");
        assert_eq!(keys.leases(), "{taskcore}:leases");
        assert_eq!(Keys::new("{x}").queues_of("e"), "{x}taskcore:queues:e");
    }

    #[test]
    fn slots_are_those_that_redis_documents() {
        // From the cluster specification, and asked of a server: `CLUSTER KEYSLOT`.
        assert_eq!([slot("123456789"), slot("foo"), slot("{}q")], [12_739, 12_182, 14_410]);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
    }
}
