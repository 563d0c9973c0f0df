//! Suspects: messages that were held by a worker that died, one of which may have killed it.
//!
//! Nobody knows which, so they wait in a line of their own. Each is marked as begun in the broker
//! before it is dispatched, and only as many at a time as there are idle slots, so that what is
//! marked begins at once: if this worker dies too, what is counted had begun. One that the next
//! death would convict is tried alone among suspects, so innocents are never parked: they end, and
//! are acknowledged, when they run apart from the killer. Other messages go on meanwhile, in the
//! slots that are left.
//!
//! The decisions are the two functions at the end; the loop writes the marks (`recovery`).

use std::collections::VecDeque;

use crate::broker::Tag;

/// The suspects of this worker, by their keys.
#[derive(Debug, Default)]
pub struct Suspects {
    /// What was not tried, in the order of the claims, and whether the next death would convict it.
    pub line: VecDeque<(u64, bool)>,
    /// Whose marks are on their way to the broker.
    pub marking: Vec<u64>,
    /// Marked, and about to begin.
    pub marked: VecDeque<u64>,
    /// Begun, and not known to the broker as settled: until then its mark stands.
    pub begun: Vec<(u64, Tag)>,
    /// What runs for long, no suspect, whose mark is on its way.
    pub long: Vec<u64>,
    /// Whether one of those begun is tried alone.
    pub alone: bool,
    /// Whether the only slot was given to a suspect last.
    pub served: bool,
}

impl Suspects {
    /// Whether there are none, so that nothing here has to be asked.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty() && self.marking.is_empty() && self.marked.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.line.len() + self.marking.len() + self.marked.len()
    }

    /// Takes those that may begin now out of the line, given the idle slots.
    pub fn take(&mut self, idle: usize) -> Vec<u64> {
        if !self.marking.is_empty() || !self.marked.is_empty() {
            return Vec::new();
        }
        let alone = self.line.iter().map(|(_, alone)| *alone);
        let count = may_begin(alone, self.begun.len(), self.alone, idle);
        let taken: Vec<_> = self.line.drain(..count).collect();
        self.alone |= taken.iter().any(|(_, alone)| *alone);
        taken.into_iter().map(|(key, _)| key).collect()
    }

    /// Takes one out of the line. One whose mark is on its way is not found when it would begin.
    pub fn forget(&mut self, key: u64) {
        self.line.retain(|(k, _)| *k != key);
        self.marked.retain(|k| *k != key);
    }

    /// The connection went away: what was being marked is marked again. `alone` says so of a key.
    pub fn disconnected(&mut self, alone: impl Fn(u64) -> bool) {
        self.long.clear();
        for key in self.marking.drain(..).rev() {
            self.line.push_front((key, alone(key)));
        }
        self.alone &= !self.begun.is_empty();
    }
}

/// How many of the line, which says of each whether it is tried alone, may begin beside the `begun`
/// ones.
pub fn may_begin(
    mut line: impl Iterator<Item = bool>,
    begun: usize,
    alone: bool,
    idle: usize,
) -> usize {
    if alone || idle == 0 {
        return 0;
    }
    match line.next() {
        None => 0,
        Some(true) => usize::from(begun == 0),
        Some(false) => 1 + line.take(idle - 1).take_while(|alone| !alone).count(),
    }
}

/// How many requests that are not suspect may be given to the pool while suspects wait, when it has
/// so many of both. One slot is left for suspects, and of one slot every other turn.
pub fn beside(slots: usize, suspects: usize, others: usize, served: bool) -> usize {
    let share = match suspects {
        0 if slots > 1 => slots - 1,
        0 => usize::from(served),
        _ => slots.saturating_sub(suspects),
    };
    share.saturating_sub(others)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_would_be_convicted_is_tried_alone() {
        for (line, begun, alone, idle, expected) in [
            (&[][..], 0, false, 2, 0),
            (&[false, false, false], 0, false, 2, 2),
            (&[false, false], 0, false, 8, 2),
            (&[false, true, false], 0, false, 8, 1),
            (&[true, false], 0, false, 8, 1),
            (&[true], 1, false, 8, 0),
            (&[false], 1, false, 1, 1),
            (&[false], 1, true, 8, 0),
            (&[false], 0, false, 0, 0),
        ] {
            let got = may_begin(line.iter().copied(), begun, alone, idle);
            assert_eq!(got, expected, "{line:?} beside {begun}, alone {alone}, idle {idle}");
        }
    }

    #[test]
    fn others_go_on_in_the_slots_that_are_left() {
        for (slots, suspects, others, served, expected) in [
            (4, 0, 0, false, 3),
            (4, 0, 2, true, 1),
            (4, 1, 2, true, 1),
            (4, 1, 3, false, 0),
            (4, 4, 0, false, 0),
            (1, 0, 0, false, 0),
            (1, 0, 0, true, 1),
            (1, 1, 0, true, 0),
        ] {
            let got = beside(slots, suspects, others, served);
            assert_eq!(got, expected, "{slots} {suspects} {others} {served}");
        }
    }

    proptest! {
        #[test]
        fn one_that_is_tried_alone_is_alone(
            line in prop::collection::vec(any::<bool>(), 0..40), idle in 1usize..6,
        ) {
            let keys = line.iter().enumerate().map(|(key, alone)| (key as u64, *alone));
            let mut suspects = Suspects { line: keys.collect(), ..Suspects::default() };
            let mut tried = Vec::new();
            while !suspects.line.is_empty() {
                let taken = suspects.take(idle);
                prop_assert!(!taken.is_empty() && taken.len() <= idle);
                prop_assert!(taken.len() == 1 || taken.iter().all(|key| !line[*key as usize]));
                tried.extend(taken);
                suspects.alone = false; // they have ended
            }
            prop_assert!(tried.iter().copied().eq(0..line.len() as u64), "all of them, in order");
        }
    }
}
