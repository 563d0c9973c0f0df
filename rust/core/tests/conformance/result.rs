//! The promises of `result/mod.rs`.

pub(crate) mod join;
pub(crate) mod watch;

use std::{sync::Arc, thread, time::Duration};

use bytes::Bytes;
use taskcore::{
    ErrorKind, clock,
    message::Compression,
    result::{GROUP_PREFIX, Origin, REPLY_PREFIX, Record, ResultStore, State, record::compressed},
};

pub(crate) use self::join::*;
pub(crate) use self::watch::{
    a_watch_tells_what_is_stored_later, a_watch_tells_what_is_there,
    a_watch_that_is_dropped_is_not_told, many_watches, many_watches_of_one,
};
use crate::{PATIENCE, unique};

/// One fresh result store.
pub(crate) trait Stores: Send + Sync {
    /// Another handle on the same store, as another process would have.
    fn store(&self) -> Arc<dyn ResultStore>;
}

/// Makes a test of every promise for one adapter.
#[macro_export]
macro_rules! result_suite {
    ($adapter:ident, $start:path) => {
        $crate::result_suite!(@ $adapter, $start,
            what_is_stored_is_read, many_in_order, unknown_is_none, later_states_replace, success_is_final, a_late_retry_undoes_no_end,
            what_is_compressed_is_as_final,
            failure_may_be_replaced,
            success_is_final_within_a_batch, put_writes, forget_drops, expired_is_gone, cleanup_deletes_expired, no_expiry_is_kept,
            wait_returns_what_is_there, wait_is_woken_by_a_worker, wait_is_woken_for_a_fresh_task,
            wait_is_woken_for_a_foreign_task, wait_is_woken_by_put,
            wait_passes_over_states_that_are_not_ready, wait_times_out, wait_is_interrupted, many_waiters, many_waiters_for_one, reply_ids_differ,
            a_watch_tells_what_is_there, a_watch_tells_what_is_stored_later, many_watches, many_watches_of_one,
            a_watch_that_is_dropped_is_not_told,
            a_join_completes_once, the_same_record_again_has_the_same_answer, a_member_counts_once, members_are_read_in_order,
            members_may_come_before_the_size, members_are_added_while_others_run, a_batch_completes_several, stores_race,
            what_has_not_ended_does_not_count, a_client_counts_nothing, a_join_expires, a_claim_is_given_back, a_member_of_a_join_that_another_has_claimed_is_named, a_claim_is_renewed, a_claim_lapses,
            a_join_that_was_closed_begins_anew, a_group_is_kept_under_its_id,
        );
    };
    (@ $adapter:ident, $start:path, $($test:ident),* $(,)?) => {
        mod $adapter {
            $(
                #[test]
                fn $test() {
                    match $start() {
                        Some(stores) => $crate::result::$test(&stores),
                        None => $crate::skipped(stringify!($adapter)),
                    }
                }
            )*
        }
    };
}

fn record(id: &str, state: State, note: &str) -> Record {
    let document = format!(
        "{{\"status\": \"{}\", \"result\": \"{note}\", \"traceback\": null, \"children\": [], \"date_done\": null, \"task_id\": \"{id}\"}}",
        state.as_str()
    );
    Record {
        id: id.into(),
        state,
        document: Bytes::from(document),
        reply_to: None,
        expires_ms: Some(3_600_000),
        member: None,
    }
}

fn store(store: &dyn ResultStore, batch: &[Record]) {
    crate::run(store.store(batch)).unwrap();
}

fn get(store: &dyn ResultStore, id: &str) -> Option<Bytes> {
    store.get(&[id]).unwrap().remove(0)
}

fn wait(store: &dyn ResultStore, id: &str, origin: Origin) -> Bytes {
    let deadline = clock::instant() + PATIENCE;
    store.wait(id, origin, Some(deadline), &mut || false).unwrap().expect("a document")
}

pub(crate) fn what_is_stored_is_read(s: &impl Stores) {
    let id = unique("t");
    let written = record(&id, State::Success, "done");
    store(&*s.store(), std::slice::from_ref(&written));
    assert_eq!(get(&*s.store(), &id), Some(written.document));
}

pub(crate) fn many_in_order(s: &impl Stores) {
    let ids: Vec<_> = (0..1_000).map(|_| unique("t")).collect();
    let batch: Vec<_> = ids.iter().map(|id| record(id, State::Success, id)).collect();
    store(&*s.store(), &batch);
    let mut wanted: Vec<&str> = ids.iter().map(|id| &**id).collect();
    wanted.insert(500, "missing");
    let got = s.store().get(&wanted).unwrap();
    let mut expected: Vec<_> = batch.into_iter().map(|r| Some(r.document)).collect();
    expected.insert(500, None);
    assert!(got == expected, "documents differ");
}

pub(crate) fn unknown_is_none(s: &impl Stores) {
    assert_eq!(get(&*s.store(), &unique("t")), None);
    assert_eq!(s.store().get(&[]).unwrap(), Vec::<Option<Bytes>>::new());
    s.store().forget(&unique("t")).unwrap();
}

pub(crate) fn later_states_replace(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("t"));
    for state in [
        State::Started,
        State::Custom("PROGRESS".into()),
        State::Retry,
        State::Started,
        State::Success,
    ] {
        let next = record(&id, state, "x");
        store(&*handle, std::slice::from_ref(&next));
        assert_eq!(get(&*handle, &id), Some(next.document));
    }
}

pub(crate) fn success_is_final(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("t"));
    let done = record(&id, State::Success, "first");
    store(&*handle, std::slice::from_ref(&done));
    for state in [State::Started, State::Retry, State::Failure, State::Revoked, State::Success] {
        store(&*handle, &[record(&id, state.clone(), "second")]);
        s.store().put(&record(&id, state, "third")).unwrap();
        assert_eq!(get(&*handle, &id), Some(done.document.clone()));
    }
}

pub(crate) fn success_is_final_within_a_batch(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("t"));
    let done = record(&id, State::Success, "first");
    store(
        &*handle,
        &[record(&id, State::Started, ""), done.clone(), record(&id, State::Failure, "late")],
    );
    assert_eq!(get(&*handle, &id), Some(done.document));
}

pub(crate) fn a_late_retry_undoes_no_end(s: &impl Stores) {
    for end in [State::Failure, State::Revoked] {
        let (handle, id) = (s.store(), unique("t"));
        let done = record(&id, end, "the end");
        store(&*handle, std::slice::from_ref(&done));
        for late in [State::Started, State::Retry, State::Custom("PROGRESS".into())] {
            store(&*handle, &[record(&id, late.clone(), "late")]);
            s.store().put(&record(&id, late, "late")).unwrap();
            assert_eq!(get(&*handle, &id), Some(done.document.clone()));
        }
    }
}

pub(crate) fn what_is_compressed_is_as_final(h: &impl Stores) {
    let s = h.store();
    let record = |id: &str, state, note| {
        let made = record(id, state, note);
        let document = compressed(Compression::Zlib, &made.document);
        Record { document, ..made }
    };
    // A batch of few and one of many are stored in two ways, and a client has a third.
    for count in [1, 50] {
        for (first, second, stays) in [
            (State::Success, State::Failure, true),
            (State::Success, State::Retry, true),
            (State::Success, State::Success, true),
            (State::Failure, State::Retry, true),
            (State::Revoked, State::Started, true),
            (State::Failure, State::Success, false),
            (State::Retry, State::Success, false),
            (State::Started, State::Failure, false),
        ] {
            let ids: Vec<_> = (0..count).map(|_| unique("t")).collect();
            let all = |state: &State, note| {
                ids.iter().map(|id| record(id, state.clone(), note)).collect::<Vec<_>>()
            };
            store(&*s, &all(&first, "first"));
            store(&*s, &all(&second, "second"));
            let what = format!("{first:?} {second:?} {count}");
            let expected = if stays { all(&first, "first") } else { all(&second, "second") };
            for one in &expected {
                assert_eq!(get(&*s, &one.id).as_ref(), Some(&one.document), "{what}");
            }
            let client = all(&State::Failure, "third");
            s.put(&client[0]).unwrap();
            let now = get(&*s, &ids[0]).unwrap();
            assert_eq!(now == expected[0].document, expected[0].state == State::Success, "{what}");
        }
    }
}

pub(crate) fn failure_may_be_replaced(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("t"));
    store(&*handle, &[record(&id, State::Failure, "lost")]);
    let done = record(&id, State::Success, "redelivered");
    store(&*handle, std::slice::from_ref(&done));
    assert_eq!(get(&*handle, &id), Some(done.document));
}

pub(crate) fn put_writes(s: &impl Stores) {
    let id = unique("t");
    let progress = record(&id, State::Custom("PROGRESS".into()), "50 %");
    s.store().put(&progress).unwrap();
    assert_eq!(get(&*s.store(), &id), Some(progress.document));
}

pub(crate) fn forget_drops(s: &impl Stores) {
    let (id, other) = (unique("t"), unique("t"));
    store(&*s.store(), &[record(&id, State::Success, "x"), record(&other, State::Success, "y")]);
    s.store().forget(&id).unwrap();
    assert_eq!(get(&*s.store(), &id), None);
    assert!(get(&*s.store(), &other).is_some());
    // What was forgotten may be stored again.
    store(&*s.store(), &[record(&id, State::Failure, "z")]);
    assert!(get(&*s.store(), &id).is_some());
}

/// Waits until the wall clock, by which stores expire, has passed the time to live of 1 ms.
fn pass_a_moment() {
    let start = taskcore::clock::wall_ms();
    while taskcore::clock::wall_ms() < start + 20 {
        thread::yield_now();
    }
}

pub(crate) fn expired_is_gone(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("t"));
    store(&*handle, &[Record { expires_ms: Some(1), ..record(&id, State::Success, "short") }]);
    pass_a_moment();
    assert_eq!(get(&*handle, &id), None);
    // An expired SUCCESS is no longer final.
    let next = record(&id, State::Failure, "next");
    store(&*handle, std::slice::from_ref(&next));
    assert_eq!(get(&*handle, &id), Some(next.document));
}

pub(crate) fn cleanup_deletes_expired(s: &impl Stores) {
    let (handle, kept) = (s.store(), unique("t"));
    let short: Vec<_> = (0..3)
        .map(|n| Record {
            expires_ms: Some(1),
            ..record(&unique("t"), State::Success, &n.to_string())
        })
        .collect();
    store(&*handle, &short);
    store(&*handle, &[record(&kept, State::Success, "kept")]);
    pass_a_moment();
    let deleted = handle.cleanup().unwrap();
    assert!(
        deleted == 3 || deleted == 0,
        "deleted {deleted}: three expired, or none where the store does it itself"
    );
    assert_eq!(handle.cleanup().unwrap(), 0);
    assert!(get(&*handle, &kept).is_some());
}

pub(crate) fn no_expiry_is_kept(s: &impl Stores) {
    let id = unique("t");
    store(&*s.store(), &[Record { expires_ms: None, ..record(&id, State::Success, "x") }]);
    s.store().cleanup().unwrap();
    assert!(get(&*s.store(), &id).is_some());
}

pub(crate) fn a_group_is_kept_under_its_id(s: &impl Stores) {
    let (handle, group) = (s.store(), unique("g"));
    let key = format!("{GROUP_PREFIX}{group}");
    let saved = |members: &str| Record {
        document: Bytes::from(format!("{{\"result\": {members}}}")),
        ..record(&key, State::Custom("GROUP".into()), "")
    };
    handle.put(&saved("[]")).unwrap();
    handle.put(&saved("[1]")).unwrap();
    assert_eq!(get(&*s.store(), &key), Some(Bytes::from("{\"result\": [1]}")));
    // A task of the same id is something else.
    assert_eq!(get(&*handle, &group), None);
    handle.forget(&key).unwrap();
    assert_eq!(get(&*s.store(), &key), None);
}

pub(crate) fn wait_returns_what_is_there(s: &impl Stores) {
    for (origin, state) in [
        (Origin::Own, State::Success),
        (Origin::Foreign, State::Failure),
        (Origin::JustPublished, State::Revoked),
    ] {
        let done = record(&unique("t"), state, "x");
        store(&*s.store(), std::slice::from_ref(&done));
        assert_eq!(wait(&*s.store(), &done.id, origin), done.document);
    }
}

/// Starts a waiter, writes when it is blocked, and returns what it got.
fn woken(s: &impl Stores, origin: Origin, write: impl FnOnce(&str, &str) -> Vec<Bytes>) {
    let (client, id) = (s.store(), unique("t"));
    let reply_to = client.reply_to().to_owned();
    let (blocked_send, blocked) = std::sync::mpsc::channel();
    let waiter = {
        let id = id.clone();
        thread::spawn(move || {
            // `interrupt` is called while the wait is blocked: that is the moment to write.
            let deadline = clock::instant() + PATIENCE;
            client.wait(&id, origin, Some(deadline), &mut || {
                let _ = blocked_send.send(());
                false
            })
        })
    };
    blocked.recv_timeout(PATIENCE).expect("the wait blocks");
    let expected = write(&id, &reply_to);
    let got = waiter.join().unwrap().unwrap();
    assert_eq!(got.as_ref(), expected.last());
}

pub(crate) fn wait_is_woken_by_a_worker(s: &impl Stores) {
    woken(s, Origin::Own, |id, reply_to| {
        let done = Record { reply_to: Some(reply_to.into()), ..record(id, State::Success, "x") };
        store(&*s.store(), std::slice::from_ref(&done));
        vec![done.document]
    });
}

pub(crate) fn wait_is_woken_for_a_fresh_task(s: &impl Stores) {
    // The first wait subscribes, the second relies on that subscription.
    wait_is_woken_by_a_worker(s);
    woken(s, Origin::JustPublished, |id, reply_to| {
        let done = Record { reply_to: Some(reply_to.into()), ..record(id, State::Success, "x") };
        store(&*s.store(), std::slice::from_ref(&done));
        vec![done.document]
    });
}

pub(crate) fn wait_is_woken_for_a_foreign_task(s: &impl Stores) {
    woken(s, Origin::Foreign, |id, _| {
        let done = record(id, State::Failure, "x");
        store(&*s.store(), std::slice::from_ref(&done));
        vec![done.document]
    });
}

pub(crate) fn wait_is_woken_by_put(s: &impl Stores) {
    woken(s, Origin::Foreign, |id, _| {
        let done = record(id, State::Revoked, "x");
        s.store().put(&done).unwrap();
        vec![done.document]
    });
}

pub(crate) fn wait_passes_over_states_that_are_not_ready(s: &impl Stores) {
    woken(s, Origin::Own, |id, reply_to| {
        let mut documents = Vec::new();
        for state in
            [State::Started, State::Retry, State::Custom("PROGRESS".into()), State::Success]
        {
            let next = Record { reply_to: Some(reply_to.into()), ..record(id, state, "x") };
            store(&*s.store(), std::slice::from_ref(&next));
            documents.push(next.document);
        }
        documents
    });
}

pub(crate) fn wait_times_out(s: &impl Stores) {
    let (handle, id) = (s.store(), unique("t"));
    store(&*handle, &[record(&id, State::Started, "x")]);
    for origin in [Origin::JustPublished, Origin::Own, Origin::Foreign] {
        let deadline = clock::instant() + Duration::from_millis(150);
        let error = handle.wait(&id, origin, Some(deadline), &mut || false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(clock::instant() >= deadline);
    }
    let past = handle.wait(&id, Origin::Own, Some(clock::instant()), &mut || false).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::Timeout);
}

pub(crate) fn wait_is_interrupted(s: &impl Stores) {
    let mut calls = 0;
    let got = s.store().wait(&unique("t"), Origin::Own, None, &mut || {
        calls += 1;
        calls == 3
    });
    assert_eq!(got.unwrap(), None);
    assert_eq!(calls, 3);
}

pub(crate) fn many_waiters(s: &impl Stores) {
    let client = s.store();
    let ids: Vec<_> = (0..50).map(|_| unique("t")).collect();
    let waiters: Vec<_> = ids
        .iter()
        .map(|id| {
            let (client, id) = (client.clone(), id.clone());
            thread::spawn(move || (wait(&*client, &id, Origin::Own), id))
        })
        .collect();
    let worker = s.store();
    for id in ids.iter().rev() {
        store(
            &*worker,
            &[Record {
                reply_to: Some(client.reply_to().into()),
                ..record(id, State::Success, id)
            }],
        );
    }
    for waiter in waiters {
        let (got, id) = waiter.join().unwrap();
        assert_eq!(got, record(&id, State::Success, &id).document);
    }
}

pub(crate) fn many_waiters_for_one(s: &impl Stores) {
    let id = unique("t");
    let (one, two) = (s.store(), s.store());
    let waiters: Vec<_> = [&one, &one, &two]
        .map(|client| {
            let (client, id) = (client.clone(), id.clone());
            thread::spawn(move || wait(&*client, &id, Origin::Foreign))
        })
        .into();
    let done = record(&id, State::Success, "x");
    store(&*s.store(), std::slice::from_ref(&done));
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), done.document);
    }
}

pub(crate) fn reply_ids_differ(s: &impl Stores) {
    let (one, two) = (s.store(), s.store());
    assert!(one.reply_to().starts_with(REPLY_PREFIX) && two.reply_to().starts_with(REPLY_PREFIX));
    assert_eq!(one.reply_to(), one.reply_to());
}
