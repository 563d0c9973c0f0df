//! The ETA heap: what waits for its due time in this worker's memory.
//!
//! It holds only what is due within the broker's horizon, so it stays small however many tasks are
//! scheduled; the rest waits in the broker. Entries that are due in the same millisecond leave in
//! the order in which they came, because a binary heap alone would shuffle them. Removal by
//! key is rare (a revoked task) and filters the whole heap, instead of paying for an index on every
//! push.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::clock::Millis;

/// Requests by due time, first come first served within a millisecond.
#[derive(Debug, Default)]
pub struct EtaHeap {
    heap: BinaryHeap<Reverse<(Millis, u64, u64)>>,
    pushed: u64,
}

impl EtaHeap {
    /// An empty heap.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps `key` until `due`.
    pub fn push(&mut self, due: Millis, key: u64) {
        self.heap.push(Reverse((due, self.pushed, key)));
        self.pushed += 1;
    }

    /// The next request that is due at `now`, and when it was due; call until `None`.
    pub fn pop_due(&mut self, now: Millis) -> Option<(Millis, u64)> {
        if self.next_wake()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((due, _, key))| (due, key))
    }

    /// Takes `key` out, wherever it is.
    pub fn forget(&mut self, key: u64) {
        self.heap.retain(|Reverse((_, _, k))| *k != key);
    }

    /// When the first entry comes due.
    pub fn next_wake(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((due, _, _))| *due)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Empties the heap; what it held, in no particular order.
    pub fn drain(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.heap).into_iter().map(|Reverse((_, _, key))| key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_leaves_before_its_time_and_ties_leave_in_order() {
        let mut heap = EtaHeap::new();
        heap.push(20, 1);
        heap.push(5, 9);
        heap.push(10, 2);
        heap.push(10, 3);
        heap.forget(9);
        assert_eq!(heap.next_wake(), Some(10));
        assert_eq!(heap.pop_due(9), None);
        assert_eq!(heap.pop_due(10), Some((10, 2)));
        assert_eq!(heap.pop_due(10), Some((10, 3)));
        assert_eq!(heap.pop_due(19), None);
        assert_eq!(heap.pop_due(25), Some((20, 1)));
        assert!(heap.is_empty());
        assert_eq!(heap.next_wake(), None);
    }

    #[test]
    fn draining_gives_everything_once() {
        let mut heap = EtaHeap::new();
        for key in 0..5 {
            heap.push(100 - key as i64, key);
        }
        let mut all: Vec<_> = heap.drain().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert_eq!(heap.len(), 0);
    }

    proptest! {
        #[test]
        fn it_is_a_stable_sort_by_due_time(dues in prop::collection::vec(0i64..50, 0..200), now in 0i64..50) {
            let mut heap = EtaHeap::new();
            for (key, due) in dues.iter().enumerate() {
                heap.push(*due, key as u64);
            }
            let mut expected: Vec<(i64, u64)> =
                dues.iter().enumerate().filter(|(_, d)| **d <= now).map(|(k, d)| (*d, k as u64)).collect();
            expected.sort_by_key(|(due, _)| *due);
            let popped: Vec<(i64, u64)> = std::iter::from_fn(|| heap.pop_due(now)).collect();
            prop_assert_eq!(&popped, &expected);
            prop_assert_eq!(heap.len(), dues.len() - popped.len());
            prop_assert!(heap.next_wake().is_none_or(|due| due > now));
        }
    }
}
