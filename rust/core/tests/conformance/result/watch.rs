//! The promises of `ResultStore::watch`: told once, whoever stores, and not after the watch was
//! dropped.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use taskcore::result::{Observer, Origin, Record, ResultStore, State, Watch, watch::Outcome};

use super::{Stores, record, store};
use crate::{PATIENCE, unique};

/// Keeps what it is told.
pub(crate) struct Told(mpsc::Sender<Outcome>);

impl Observer for Told {
    fn ready(&self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            let _ = self.0.send(outcome);
        }
    }
}

/// An observer, and what it is told.
pub(crate) fn observer() -> (Arc<dyn Observer>, mpsc::Receiver<Outcome>) {
    let (sender, told) = mpsc::channel();
    (Arc::new(Told(sender)), told)
}

pub(crate) fn next(told: &mpsc::Receiver<Outcome>) -> (u64, Bytes) {
    let (key, outcome) = told.recv_timeout(PATIENCE).expect("told");
    (key, outcome.expect("a document"))
}

fn done(client: &dyn ResultStore, id: &str, state: State) -> Record {
    Record { reply_to: Some(client.reply_to().to_owned()), ..record(id, state, id) }
}

pub(crate) fn a_watch_tells_what_is_there(s: &impl Stores) {
    let (client, (observer, told)) = (s.store(), observer());
    for (key, (origin, state)) in [
        (Origin::Own, State::Success),
        (Origin::Foreign, State::Failure),
        (Origin::Own, State::Revoked),
    ]
    .into_iter()
    .enumerate()
    {
        let done = record(&unique("t"), state, "x");
        store(&*s.store(), std::slice::from_ref(&done));
        let _watch = client.watch(&done.id, origin, key as u64, &observer).unwrap();
        assert_eq!(next(&told), (key as u64, done.document));
    }
}

pub(crate) fn a_watch_tells_what_is_stored_later(s: &impl Stores) {
    let (client, (observer, told)) = (s.store(), observer());
    // Once the first is told, the second is known to be listened to.
    for origin in [Origin::Own, Origin::Foreign, Origin::Own] {
        let (now, later) = (unique("t"), unique("t"));
        let _later = client.watch(&later, origin, 2, &observer).unwrap();
        store(&*s.store(), &[record(&now, State::Success, "x")]);
        let _now = client.watch(&now, Origin::Foreign, 1, &observer).unwrap();
        assert_eq!(next(&told).0, 1);
        for state in [State::Started, State::Custom("PROGRESS".into()), State::Retry] {
            store(&*s.store(), &[done(&*client, &later, state)]);
        }
        let end = done(&*client, &later, State::Failure);
        store(&*s.store(), std::slice::from_ref(&end));
        assert_eq!(next(&told), (2, end.document));
    }
    let (id, other) = (unique("t"), unique("t"));
    let _watch = client.watch(&id, Origin::Foreign, 3, &observer).unwrap();
    s.store().put(&record(&other, State::Success, "x")).unwrap();
    s.store().put(&record(&id, State::Revoked, "x")).unwrap();
    assert_eq!(next(&told).0, 3);
}

pub(crate) fn many_watches(s: &impl Stores) {
    let (client, (observer, told)) = (s.store(), observer());
    let ids: Vec<Arc<str>> = (0..2_000).map(|_| unique("t")).collect();
    let worker = s.store();
    let (early, late) = ids.split_at(500);
    let batch = |ids: &[Arc<str>]| -> Vec<Record> {
        ids.iter().map(|id| done(&*client, id, State::Success)).collect()
    };
    store(&*worker, &batch(early));
    let watches: Vec<Watch> = ids
        .iter()
        .enumerate()
        .map(|(key, id)| client.watch(id, Origin::Own, key as u64, &observer).unwrap())
        .collect();
    for chunk in late.chunks(100) {
        store(&*worker, &batch(chunk));
    }
    let got: HashMap<u64, Bytes> = (0..ids.len()).map(|_| next(&told)).collect();
    assert_eq!(got.len(), ids.len(), "each is told once");
    for (key, id) in ids.iter().enumerate() {
        assert_eq!(got[&(key as u64)], done(&*client, id, State::Success).document);
    }
    drop(watches);
    assert!(told.try_recv().is_err());
}

pub(crate) fn many_watches_of_one(s: &impl Stores) {
    let (client, (one, told_one), (two, told_two)) = (s.store(), observer(), observer());
    let id = unique("t");
    let _watches = [
        client.watch(&id, Origin::Own, 1, &one).unwrap(),
        client.watch(&id, Origin::Foreign, 2, &one).unwrap(),
        client.watch(&id, Origin::Own, 1, &two).unwrap(),
    ];
    // As a stock worker does: announced for nobody in particular.
    let end = record(&id, State::Success, "x");
    store(&*s.store(), std::slice::from_ref(&end));
    let mut keys = [next(&told_one).0, next(&told_one).0];
    keys.sort_unstable();
    assert_eq!(keys, [1, 2]);
    assert_eq!(next(&told_two), (1, end.document));
}

pub(crate) fn a_watch_that_is_dropped_is_not_told(s: &impl Stores) {
    let (client, (observer, told)) = (s.store(), observer());
    for origin in [Origin::Own, Origin::Foreign] {
        let (dropped, kept) = (unique("t"), unique("t"));
        let watch = client.watch(&dropped, origin, 1, &observer).unwrap();
        let twice = client.watch(&kept, origin, 2, &observer).unwrap();
        let _kept = client.watch(&kept, origin, 3, &observer).unwrap();
        drop((watch, twice));
        let batch = [&dropped, &kept].map(|id| done(&*client, id, State::Success));
        store(&*s.store(), &batch);
        assert_eq!(next(&told).0, 3);
        // And is told when it is watched again.
        let _again = client.watch(&dropped, origin, 4, &observer).unwrap();
        assert_eq!(next(&told).0, 4);
    }
}
