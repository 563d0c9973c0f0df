//! Task ids: random UUIDs (version 4), from a buffer of the operating system's randomness.
//!
//! One system call fills the buffer for 256 ids. A forked process has a copy of it and would hand
//! out the same ids as its parent, so a buffer of
//! another process is thrown away unread.

use std::cell::RefCell;

use uuid::Builder;

use crate::fork::generation;

/// Bytes fetched from the system at a time.
const BUFFER: usize = 4096;
/// Bytes of one id.
const ID: usize = 16;

struct Pool {
    bytes: [u8; BUFFER],
    at: usize,
    generation: u32,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; BUFFER], at: BUFFER, generation: 0 }) };
}

/// A fresh task id.
pub fn task_id() -> String {
    let generation = generation();
    let bytes = POOL.with_borrow_mut(|pool| {
        if pool.at == BUFFER || pool.generation != generation {
            getrandom::fill(&mut pool.bytes).expect("the system has randomness");
            pool.at = 0;
            pool.generation = generation;
        }
        let bytes = pool.bytes[pool.at..pool.at + ID].try_into().expect("an id's length");
        // What was handed out must not be found here later.
        pool.bytes[pool.at..pool.at + ID].fill(0);
        pool.at += ID;
        bytes
    });
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Builder::from_random_bytes(bytes).into_uuid().hyphenated().encode_lower(&mut text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use uuid::{Uuid, Variant, Version};

    #[test]
    fn ids_are_random_uuids_and_never_repeat() {
        let ids: HashSet<String> = (0..10_000).map(|_| task_id()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            let uuid = Uuid::parse_str(&id).unwrap();
            assert_eq!(
                (uuid.get_version(), uuid.get_variant()),
                (Some(Version::Random), Variant::RFC4122)
            );
            assert_eq!(uuid.to_string(), id);
        }
    }

    #[test]
    fn a_forked_process_does_not_repeat_its_parents_ids() {
        task_id();
        let copy = POOL.with_borrow(|pool| (pool.bytes, pool.at));
        let parent: HashSet<String> = (0..100).map(|_| task_id()).collect();
        // What the child of a fork would find.
        POOL.with_borrow_mut(|pool| {
            (pool.bytes, pool.at) = copy;
            pool.generation -= 1;
        });
        assert!((0..100).all(|_| !parent.contains(&task_id())));
    }
}
