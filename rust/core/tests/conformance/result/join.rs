//! The promises of `result/join.rs`.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use taskcore::{
    clock,
    result::{Join, JoinClaim, Member, Record, ResultStore, State},
};

use super::{Stores, record};
use crate::{PATIENCE, unique};

/// A join of `size` members, or so many more.
fn of(id: &str, size: u64) -> Join {
    Join { id: id.to_owned(), size, expires_ms: Some(3_600_000) }
}

fn declare(store: &dyn ResultStore, id: &str, size: u64) {
    store.declare(&of(id, size)).unwrap();
}

/// Member `index` of a join, as one execution of its task leaves it.
fn member(join: &str, index: i64) -> Record {
    let member = Some(Box::new(Member::new(join, Some(index))));
    Record { member, ..record(&format!("{join}-{index}"), State::Success, &index.to_string()) }
}

fn count(store: &dyn ResultStore, batch: &[Record]) -> Vec<JoinClaim> {
    let stored = crate::run(store.store(batch)).unwrap();
    assert!(stored.refused.is_empty());
    stored.joined
}

/// Ids of what a batch completed.
fn completed(store: &dyn ResultStore, batch: &[Record]) -> Vec<String> {
    count(store, batch).into_iter().map(|joined| joined.id).collect()
}

pub(crate) fn a_join_completes_once(s: &impl Stores) {
    let (a, b, id) = (s.store(), s.store(), unique("g"));
    declare(&*a, &id, 3);
    assert_eq!(count(&*a, &[member(&id, 2)]), []);
    assert_eq!(count(&*b, &[member(&id, 0)]), []);
    let joined = count(&*a, &[member(&id, 1)]).remove(0);
    assert_eq!(*joined.id, *id);
    // Claimed, and then closed.
    assert_eq!(count(&*b, &[member(&id, 1), member(&id, 0)]), []);
    crate::run(b.close(&joined)).unwrap();
    assert_eq!(count(&*a, &[member(&id, 1)]), []);
    assert_eq!(count(&*b, &[member(&id, 7)]), []);
    assert_eq!(a.members(&id, usize::MAX).unwrap(), []);
}

pub(crate) fn the_same_record_again_has_the_same_answer(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 2);
    let batch = [member(&id, 0), member(&id, 1)];
    let first = count(&*handle, &batch);
    assert_eq!(first.len(), 1);
    // The answer was lost, and the batch has grown since.
    let again = [batch[0].clone(), batch[1].clone(), record(&unique("t"), State::Success, "")];
    assert_eq!(count(&*handle, &again), first);
    crate::run(handle.close(&first[0])).unwrap();
    assert_eq!(count(&*handle, &again), []);
}

pub(crate) fn a_member_counts_once(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 2);
    assert_eq!(count(&*handle, &[member(&id, 0), member(&id, 0)]), []);
    // It ran twice, and ended otherwise.
    let failed = Record { document: record("x", State::Failure, "no").document, ..member(&id, 0) };
    let failed = Record { state: State::Failure, ..failed };
    assert_eq!(count(&*s.store(), &[failed]), []);
    assert_eq!(completed(&*handle, &[member(&id, 1)]), [&*id]);
    assert_eq!(
        handle.members(&id, usize::MAX).unwrap()[0].state,
        State::Success,
        "the first result stands"
    );
}

pub(crate) fn members_are_read_in_order(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 13);
    let mut batch: Vec<Record> =
        [11, 3, 10, 7, 0, 2, 9, 1, 5, 8, 4, 6].map(|index| member(&id, index)).into();
    batch[2].state = State::Failure;
    batch[2].document = record("x", State::Failure, "why").document;
    batch[3].state = State::Revoked;
    batch[3].document = record("x", State::Revoked, "late").document;
    let last = Some(Box::new(Member::new(&id, None)));
    batch.insert(4, Record { member: last, ..record(&format!("{id}-last"), State::Success, "é") });
    assert_eq!(completed(&*handle, &batch), [&*id], "a failure counts like any other end");
    let members = s.store().members(&id, usize::MAX).unwrap();
    let ids: Vec<String> = (0..12).map(|index| format!("{id}-{index}")).collect();
    assert!(members.iter().map(|m| &m.id).eq(ids.iter().chain([&format!("{id}-last")])));
    let state = |index: usize| members[index].state.as_str();
    assert_eq!((state(6), state(7), state(10)), ("SUCCESS", "REVOKED", "FAILURE"));
    let results: Vec<&[u8]> = [0, 10, 12].map(|index: usize| &members[index].result[..]).into();
    assert_eq!(results, [&b"\"0\""[..], b"\"why\"", "\"é\"".as_bytes()]);
    assert_eq!(handle.members(&unique("g"), usize::MAX).unwrap(), []);
}

pub(crate) fn members_may_come_before_the_size(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    assert_eq!(count(&*handle, &[member(&id, 0), member(&id, 1)]), []);
    declare(&*s.store(), &id, 3);
    assert_eq!(completed(&*handle, &[member(&id, 2)]), [&*id]);
    // Whoever comes too late with it is told by any member that comes again.
    let late = unique("g");
    assert_eq!(count(&*handle, &[member(&late, 0)]), []);
    declare(&*handle, &late, 1);
    assert_eq!(completed(&*handle, &[member(&late, 0)]), [&*late]);
}

pub(crate) fn members_are_added_while_others_run(s: &impl Stores) {
    let (a, b, id) = (s.store(), s.store(), unique("g"));
    // Before the size is known, and after.
    a.extend(&of(&id, 1)).unwrap();
    declare(&*b, &id, 1);
    assert_eq!(count(&*a, &[member(&id, 0)]), []);
    b.extend(&of(&id, 2)).unwrap();
    assert_eq!(count(&*a, &[member(&id, 1), member(&id, 2)]), []);
    let joined = count(&*b, &[member(&id, 3)]).remove(0);
    crate::run(a.close(&joined)).unwrap();
    // It is complete, and neither what is added now nor what was added before is of its next run.
    a.extend(&of(&id, 5)).unwrap();
    declare(&*a, &id, 1);
    assert_eq!(completed(&*a, &[member(&id, 0)]), [&*id]);
}

pub(crate) fn a_batch_completes_several(s: &impl Stores) {
    let (handle, ids) = (s.store(), [unique("g"), unique("g"), unique("g"), unique("g")]);
    let mut batch = Vec::new();
    for id in &ids {
        declare(&*handle, id, 2);
        batch.extend([member(id, 0), record(&unique("t"), State::Success, "")]);
    }
    for id in &ids[..3] {
        batch.push(member(id, 1));
    }
    let mut found = completed(&*handle, &batch);
    found.sort_unstable();
    let mut expected: Vec<&str> = ids[..3].iter().map(|id| &**id).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

pub(crate) fn stores_race(s: &impl Stores) {
    const EACH: i64 = 25;
    for _ in 0..5 {
        let id = unique("g");
        declare(&*s.store(), &id, 4 * EACH as u64);
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (handle, id, barrier) = (s.store(), id.clone(), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    let mut found = 0;
                    for index in n * EACH..(n + 1) * EACH {
                        // Each stores a neighbour's as well.
                        let other = (index + EACH) % (4 * EACH);
                        found += count(&*handle, &[member(&id, index), member(&id, other)]).len();
                    }
                    found
                })
            })
            .collect();
        let found: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(found, 1);
        assert_eq!(s.store().members(&id, usize::MAX).unwrap().len(), 4 * EACH as usize);
    }
}

pub(crate) fn what_has_not_ended_does_not_count(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 1);
    for state in [State::Started, State::Retry, State::Custom("PROGRESS".into())] {
        assert_eq!(count(&*handle, &[Record { state, ..member(&id, 0) }]), []);
    }
    assert_eq!(handle.members(&id, usize::MAX).unwrap(), []);
    assert_eq!(completed(&*handle, &[member(&id, 0)]), [&*id]);
}

pub(crate) fn a_client_counts_nothing(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 1);
    handle.put(&member(&id, 0)).unwrap();
    assert_eq!(handle.members(&id, usize::MAX).unwrap(), []);
    assert_eq!(completed(&*handle, &[member(&id, 0)]), [&*id]);
}

/// Waits for what no event tells: that a time has passed for the store.
#[allow(clippy::disallowed_methods)]
fn until(condition: impl Fn() -> bool) {
    let end = clock::instant() + PATIENCE;
    while !condition() {
        assert!(clock::instant() < end, "it did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn a_join_expires(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    let short = |index| Record { expires_ms: Some(50), ..member(&id, index) };
    declare(&*handle, &id, 2);
    assert_eq!(count(&*handle, &[short(0)]), []);
    until(|| handle.members(&id, usize::MAX).unwrap().is_empty());
    handle.cleanup().unwrap();
    // Neither its size nor its members are known any more.
    assert_eq!(count(&*handle, &[member(&id, 1)]), []);
    assert_eq!(handle.members(&id, usize::MAX).unwrap().len(), 1);
    declare(&*handle, &id, 1);
    assert_eq!(completed(&*handle, &[member(&id, 1)]), [&*id]);
}

pub(crate) fn a_claim_is_given_back(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 1);
    let joined = count(&*handle, &[member(&id, 0)]).remove(0);
    crate::run(handle.reopen(&joined)).unwrap();
    let next = count(&*s.store(), &[member(&id, 0)]).remove(0);
    assert_eq!(next.id, joined.id);
    // Too late: it is another's.
    crate::run(handle.close(&joined)).unwrap();
    crate::run(handle.reopen(&joined)).unwrap();
    assert_eq!(handle.members(&id, usize::MAX).unwrap().len(), 1);
    assert_eq!(count(&*handle, &[member(&id, 0)]), []);
    crate::run(handle.close(&next)).unwrap();
    assert_eq!(handle.members(&id, usize::MAX).unwrap(), []);
}

pub(crate) fn a_member_of_a_join_that_another_has_claimed_is_named(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 2);
    let joined = count(&*handle, &[member(&id, 0), member(&id, 1)]).remove(0);
    let batch = [record(&unique("t"), State::Success, ""), member(&id, 1)];
    let stored = crate::run(s.store().store(&batch)).unwrap();
    assert_eq!((stored.joined, stored.claimed), (Vec::new(), vec![1]));
    crate::run(handle.close(&joined)).unwrap();
    let stored = crate::run(handle.store(&batch)).unwrap();
    assert_eq!((stored.joined, stored.claimed), (Vec::new(), Vec::new()));
}

pub(crate) fn a_claim_is_renewed(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 1);
    let joined = count(&*handle, &[member(&id, 0)]).remove(0);
    assert!(handle.renew(&joined).unwrap());
    // Given back it is nobody else's, and then another's.
    crate::run(handle.reopen(&joined)).unwrap();
    assert!(handle.renew(&joined).unwrap());
    assert_eq!(count(&*handle, &[member(&id, 0)]), []);
    crate::run(handle.reopen(&joined)).unwrap();
    let next = count(&*handle, &[member(&id, 0)]).remove(0);
    assert!(!handle.renew(&joined).unwrap());
    assert!(handle.renew(&next).unwrap());
    crate::run(handle.close(&next)).unwrap();
    assert!(!handle.renew(&next).unwrap());
}

pub(crate) fn a_claim_lapses(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    declare(&*handle, &id, 1);
    assert_eq!(completed(&*handle, &[member(&id, 0)]), [&*id]);
    // Whoever was told is gone, and the member runs again.
    until(|| !completed(&*handle, &[member(&id, 0)]).is_empty());
}

pub(crate) fn a_join_that_was_closed_begins_anew(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("g"));
    for _ in 0..3 {
        declare(&*handle, &id, 2);
        assert_eq!(count(&*handle, &[member(&id, 0)]), []);
        let joined = count(&*handle, &[member(&id, 1)]).remove(0);
        crate::run(handle.close(&joined)).unwrap();
    }
}
