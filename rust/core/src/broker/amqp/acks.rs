//! Which acknowledgements of a channel may be said in one: pure.
//!
//! A channel numbers its deliveries from 1. "All up to this one" is exact when nobody holds any of
//! them, which is known of numbers that were settled, and of no other: a delivery may be on its way
//! here.

use std::collections::BTreeSet;

/// What was settled of one channel's deliveries.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// All up to this one.
    floor: u64,
    /// And these, beyond it.
    beyond: BTreeSet<u64>,
}

/// How to acknowledge a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acks {
    /// All up to this one, in one.
    pub(super) through: Option<u64>,
    /// Each of these.
    pub(super) single: Vec<u64>,
}

impl Settled {
    /// Notes deliveries that are settled in another way than by an acknowledgement.
    pub(super) fn note(&mut self, tags: impl IntoIterator<Item = u64>) {
        self.beyond.extend(tags);
        self.raise();
    }

    /// Notes deliveries that are to be acknowledged; how.
    pub(super) fn acknowledge(&mut self, tags: &[u64]) -> Acks {
        let before = self.floor;
        self.note(tags.iter().copied());
        let (mut through, mut single) = (Vec::new(), Vec::new());
        for tag in tags.iter().copied().filter(|tag| *tag > before) {
            if tag <= self.floor { through.push(tag) } else { single.push(tag) }
        }
        if through.len() == 1 {
            single.append(&mut through);
        }
        Acks { through: through.into_iter().max(), single }
    }

    fn raise(&mut self) {
        while self.beyond.first() == Some(&(self.floor + 1)) {
            self.beyond.pop_first();
            self.floor += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_is_said_in_one() {
        let mut settled = Settled::default();
        let acks = |through, single: &[u64]| Acks { through, single: single.to_vec() };
        assert_eq!(settled.acknowledge(&[2, 1, 3]), acks(Some(3), &[]));
        assert_eq!(settled.acknowledge(&[5, 6]), acks(None, &[5, 6]), "4 is held");
        settled.note([4]);
        assert_eq!(settled.acknowledge(&[7, 9]), acks(None, &[9, 7]));
        assert_eq!(settled.acknowledge(&[8]), acks(None, &[8]));
        assert_eq!(settled.acknowledge(&[8]), acks(None, &[]), "it was said");
    }

    proptest! {
        /// A server that follows what it is told has acknowledged what was to be, and no more.
        #[test]
        fn a_server_acknowledges_what_was_meant(
            order in Just((1..60_u64).collect::<Vec<_>>()).prop_shuffle(),
            cuts in prop::collection::vec((1..9_usize, any::<bool>()), 1..30),
        ) {
            let (mut settled, mut rest) = (Settled::default(), order.as_slice());
            let mut unacked: BTreeSet<u64> = (1..60).collect();
            let mut meant = unacked.clone();
            for (cut, acked) in cuts {
                let (batch, behind) = rest.split_at(cut.min(rest.len()));
                rest = behind;
                meant.retain(|tag| !batch.contains(tag));
                if acked {
                    let Acks { through, single } = settled.acknowledge(batch);
                    for tag in single {
                        prop_assert!(unacked.remove(&tag), "unknown delivery tag");
                    }
                    if let Some(through) = through {
                        prop_assert!(unacked.contains(&through), "unknown delivery tag");
                        unacked.retain(|tag| *tag > through);
                    }
                } else {
                    settled.note(batch.iter().copied());
                    unacked.retain(|tag| !batch.contains(tag));
                }
                prop_assert_eq!(&unacked, &meant);
            }
        }
    }
}
