//! Where a message stands, as one integer: queue, priority, number, from the highest bit to the
//! lowest.
//!
//! Ordered integers are the order of delivery: all of a queue is a range, within it the priorities
//! are ranges, within those the numbers. The widths allow 16,383 queue names and 35 million million
//! messages in the life of a file, at 100,000 a second eleven years without a pause.

use rusqlite::Error;

use crate::broker::Tag;

const NUMBER_BITS: u32 = 45;
const PRIORITY_BITS: u32 = 4;
const QUEUE_BITS: u32 = 14;

/// The number in a key.
pub(super) const NUMBERS: i64 = (1 << NUMBER_BITS) - 1;

/// The key of message `number` in a queue; an error when there are too many queues or messages.
pub(super) fn key(queue: i64, priority: u8, number: i64) -> rusqlite::Result<i64> {
    if queue >> QUEUE_BITS != 0 || number > NUMBERS {
        let what = format!(
            "queue {queue}, message {number}: this file has had more queues or messages than it can number"
        );
        return Err(Error::ToSqlConversionFailure(what.into()));
    }
    Ok(of_lane(lane(queue, priority), number))
}

/// Queue and priority together.
pub(super) fn lane(queue: i64, priority: u8) -> i64 {
    queue << PRIORITY_BITS | i64::from(priority)
}

/// A message as its holder has it, and what a tag says: where it stands, and by which of the
/// holder's claims it was taken. The same message taken again is another hold, so a settlement that
/// is sent again cannot mean the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hold {
    pub(super) key: i64,
    /// Of the claims of one holder, counted modulo [`CLAIMS`].
    pub(super) claim: i64,
}

/// What a number leaves free in a tag. A settlement is sent again for the seconds of a lease at
/// most, and nobody makes half a million claims in that time.
const CLAIM_BITS: u32 = u64::BITS - NUMBER_BITS;

/// The number of claims that are told apart.
pub(super) const CLAIMS: i64 = 1 << CLAIM_BITS;

impl Hold {
    pub(super) fn tag(self) -> Tag {
        let seq = ((self.key & NUMBERS) as u64) << CLAIM_BITS | self.claim as u64;
        Tag { lane: lane_of(self.key) as u32, seq }
    }

    pub(super) fn of(tag: Tag) -> Self {
        let key = of_lane(i64::from(tag.lane), (tag.seq >> CLAIM_BITS) as i64);
        Self { key, claim: tag.seq as i64 & (CLAIMS - 1) }
    }
}

/// The key of message `number` in a lane.
pub(super) fn of_lane(lane: i64, number: i64) -> i64 {
    lane << NUMBER_BITS | number
}

/// The lane of a key.
pub(super) fn lane_of(key: i64) -> i64 {
    key >> NUMBER_BITS
}

/// The queue of a key.
pub(super) fn queue_of(key: i64) -> i64 {
    lane_of(key) >> PRIORITY_BITS
}

/// The priority of a key.
pub(super) fn priority_of(key: i64) -> u8 {
    (lane_of(key) & ((1 << PRIORITY_BITS) - 1)) as u8
}

/// First and last key of a queue.
pub(super) fn queue_range(queue: i64) -> (i64, i64) {
    (of_lane(lane(queue, 0), 0), of_lane(lane(queue, (1 << PRIORITY_BITS) - 1), NUMBERS))
}

/// Last key of the lane that `key` is in.
pub(super) fn lane_end(key: i64) -> i64 {
    key | NUMBERS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_read_back(queue in 0..1_i64 << QUEUE_BITS, priority in 0..10_u8, number in 0..=NUMBERS) {
            let key = key(queue, priority, number).unwrap();
            prop_assert!(key >= 0);
            prop_assert_eq!((queue_of(key), priority_of(key), key & NUMBERS), (queue, priority, number));
            let (first, last) = queue_range(queue);
            prop_assert!(first <= key && key <= last && key <= lane_end(key));
        }

        #[test]
        fn a_tag_is_read_back(queue in 0..1_i64 << QUEUE_BITS, priority in 0..10_u8, number in 0..=NUMBERS, claim in 0..CLAIMS) {
            let hold = Hold { key: key(queue, priority, number).unwrap(), claim };
            prop_assert_eq!(Hold::of(hold.tag()), hold);
        }

        #[test]
        fn keys_order_as_messages_are_served(a in (0..100_i64, 0..10_u8, 0..1000_i64), b in (0..100_i64, 0..10_u8, 0..1000_i64)) {
            let (ka, kb) = (key(a.0, a.1, a.2).unwrap(), key(b.0, b.1, b.2).unwrap());
            prop_assert_eq!(a.cmp(&b), ka.cmp(&kb));
        }
    }

    #[test]
    fn too_many_is_an_error() {
        assert!(key(1 << QUEUE_BITS, 0, 1).is_err());
        assert!(key(1, 0, NUMBERS + 1).is_err());
    }
}
