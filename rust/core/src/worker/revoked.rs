//! Revoked ids: what is dropped when it comes.
//!
//! Bounded in number and in time, as in Celery, because nobody says which of them will ever come:
//! the oldest are forgotten first. Time is an argument; what has expired goes when the next one is
//! added, so a set that nobody adds to keeps its memory and is asked in vain at most.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{clock::Micros, config::Revokes};

/// The ids, each with when it was revoked last.
#[derive(Debug, Default)]
pub struct Revoked {
    memory: Revokes,
    since: HashMap<Arc<str>, Micros>,
    /// In the order of revoking. An id that was revoked again has an older entry here that counts
    /// for nothing.
    order: VecDeque<(Micros, Arc<str>)>,
}

impl Revoked {
    /// None yet.
    pub fn new(memory: Revokes) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Remembers an id from now on.
    pub fn insert(&mut self, id: Arc<str>, now: Micros) {
        if self.since.insert(Arc::clone(&id), now) == Some(now) {
            return;
        }
        self.order.push_back((now, id));
        while let Some((at, id)) = self.order.front() {
            let current = self.since.get(id) == Some(at);
            if current && !self.expired(*at, now) && self.since.len() <= self.memory.most {
                break;
            }
            if current {
                self.since.remove(id);
            }
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.memory.most {
            let since = &self.since;
            self.order.retain(|(at, id)| since.get(id) == Some(at));
        }
    }

    /// Whether a task of this id is to be dropped.
    pub fn contains(&self, id: &str, now: Micros) -> bool {
        !self.since.is_empty() && self.since.get(id).is_some_and(|at| !self.expired(*at, now))
    }

    /// The ids, the oldest first.
    pub fn ids(&self, now: Micros) -> Vec<Arc<str>> {
        let current = |(at, id): &&(Micros, Arc<str>)| {
            self.since.get(id) == Some(at) && !self.expired(*at, now)
        };
        self.order.iter().filter(current).map(|(_, id)| Arc::clone(id)).collect()
    }

    /// How many there are, expired ones among them.
    pub fn len(&self) -> usize {
        self.since.len()
    }

    /// Whether there are none, expired ones among them.
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    fn expired(&self, at: Micros, now: Micros) -> bool {
        now.saturating_sub(at) >= self.memory.expires_us
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPIRES_US: u64 = 10_800 * 1_000_000;

    #[test]
    fn an_id_is_remembered_for_its_time_from_when_it_was_revoked_last() {
        let mut revoked = Revoked::default();
        revoked.insert("a".into(), 0);
        revoked.insert("b".into(), 1);
        revoked.insert("a".into(), 5);
        assert!(revoked.contains("a", 5) && revoked.contains("b", 5) && !revoked.contains("c", 5));
        let ids = |revoked: &Revoked, now| revoked.ids(now).concat();
        assert_eq!(ids(&revoked, 5), "ba");
        assert!(!revoked.contains("b", 1 + EXPIRES_US));
        assert!(revoked.contains("a", 1 + EXPIRES_US));
        assert_eq!(ids(&revoked, 1 + EXPIRES_US), "a");
        revoked.insert("c".into(), 5 + EXPIRES_US);
        assert_eq!(revoked.since.len(), 1, "what has expired takes no memory");
    }

    #[test]
    fn the_oldest_are_forgotten_and_repetition_takes_no_memory() {
        const MOST: usize = 1_000;
        let mut revoked = Revoked::new(Revokes { most: MOST, ..Revokes::default() });
        for n in 0..MOST + 10 {
            revoked.insert(n.to_string().into(), n as u64);
        }
        assert_eq!(revoked.ids(0).len(), MOST);
        assert!(!revoked.contains("9", 0) && revoked.contains("10", 0));
        for n in 0..3 * MOST {
            revoked.insert("10".into(), n as u64);
        }
        assert!(revoked.order.len() <= 2 * MOST + 1 && revoked.since.len() == MOST);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_model(steps in prop::collection::vec((0u8..6, 1u64..EXPIRES_US / 3), 0..60)) {
            let mut revoked = Revoked::default();
            let mut model: Vec<(u8, u64)> = Vec::new();
            let mut now = 0;
            for (id, passed) in steps {
                now += passed;
                model.retain(|(known, _)| *known != id);
                model.push((id, now));
                revoked.insert(id.to_string().into(), now);
                let expected: Vec<Arc<str>> =
                    model.iter().filter(|(_, at)| now - at < EXPIRES_US).map(|(id, _)| id.to_string().into()).collect();
                prop_assert_eq!(revoked.ids(now), expected.clone());
                for id in 0..6u8 {
                    let id = id.to_string();
                    prop_assert_eq!(revoked.contains(&id, now), expected.iter().any(|e| **e == *id));
                }
            }
        }
    }
}
