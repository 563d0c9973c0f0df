//! Every call is answered once, whatever its size and its neighbours.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::{
    super::{ProcessConfig, ProcessPool},
    fake::{Bench, call, done},
};
use crate::{
    ErrorKind,
    pool::{Pool, PoolNews},
};

#[tokio::test]
async fn every_call_is_answered_once() {
    let mut bench = Bench::new(3, None);
    let news = bench.run((0..5_000).map(|k| call(k, "x")).collect()).await;
    let mut keys: Vec<u64> = news
        .iter()
        .filter_map(|n| if let PoolNews::Done(o) = n { Some(o.key) } else { None })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..5_000).collect::<Vec<_>>());
    bench.pool.shutdown(false).await;
}

#[tokio::test]
async fn a_body_of_megabytes_passes_both_ways() {
    let mut bench = Bench::new(2, None);
    let big = "b".repeat(10 << 20);
    let news = bench.run((0..6).map(|k| call(k, &big)).collect()).await;
    let sizes: Vec<_> = news
        .iter()
        .filter_map(|n| {
            if let PoolNews::Done(o) = n { o.document.as_ref().map(Bytes::len) } else { None }
        })
        .collect();
    assert_eq!(sizes, [10 << 20; 6]);
}

#[tokio::test]
async fn an_outcome_that_overtakes_a_big_one_is_no_fault() {
    let mut bench = Bench::new(1, None);
    bench.run((0..500).map(|k| call(k, "x")).collect()).await;
    let big = "b".repeat(80 << 10); // beyond the ring, within the socket
    let calls =
        vec![call(1_001, "x"), call(1_002, &big), call(1_003, "x"), call(1_004, "open:end")];
    bench.pool.submit(calls).unwrap();
    // Nobody listens to the child before it is at its last call.
    assert!(bench.stage.pass("end", &AtomicBool::new(false)));
    for key in 1_001..=1_004 {
        bench.until(done(key)).await;
    }
    assert_eq!(bench.notices, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_queued_at_a_child_before_it_is_known_how_long_calls_take() {
    let mut bench = Bench::new(2, None);
    bench.pool.report.mean_us = None;
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "open:a"), call(2, "open:b")]).unwrap();
    assert_eq!(bench.pool.room(), 0, "the third starts at whichever child ends first");
    assert!(bench.stage.pass("b", &AtomicBool::new(false)));
    bench.until(done(2)).await;
    assert!(bench.pool.room() > 1, "a short call was seen");
    assert!(bench.stage.pass("a", &AtomicBool::new(false)));
    bench.until(done(1)).await;
}

#[tokio::test]
async fn calls_of_more_than_ten_milliseconds_start_in_their_order() {
    let mut bench = Bench::new(2, None);
    bench.pool.report.mean_us = None; // so that there is room for two when both are ready
    bench.until_room(2).await;
    bench.pool.report.mean_us = Some(11_000.0);
    bench.pool.submit(vec![call(1, "open:a"), call(2, "open:b")]).unwrap();
    assert_eq!(bench.pool.room(), 0, "the third starts at whichever child ends first");
    for (gate, key) in [("b", 2), ("a", 1)] {
        assert!(bench.stage.pass(gate, &AtomicBool::new(false)));
        bench.until(done(key)).await;
    }
}

#[tokio::test]
async fn a_long_call_delays_no_other() {
    let mut bench = Bench::new(2, None);
    bench.run((0..2_000).map(|k| call(k, "x")).collect()).await; // both children take many at once now
    assert!(bench.pool.quota() > 10);
    let mut calls = vec![call(5_000, "wait:long")];
    calls.extend((6_000..6_020).map(|k| call(k, "x")));
    bench.pool.submit(calls).unwrap();
    let (mut answered, mut again) = (0, Vec::new());
    while answered < 20 {
        bench.more().await;
        for n in std::mem::take(&mut bench.seen) {
            match n {
                PoolNews::Done(o) => {
                    assert_ne!(o.key, 5_000);
                    answered += 1;
                }
                PoolNews::Returned { key } => again.push(call(key, "x")),
                _ => {}
            }
        }
        again.truncate(again.len().min(bench.pool.room()));
        bench.pool.submit(std::mem::take(&mut again)).unwrap();
    }
    bench.stage.open("long");
    bench.until(done(5_000)).await;
}

#[tokio::test]
async fn outcomes_are_seen_although_the_child_went_on_to_a_long_call() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "x"), call(2, "wait:gate")]).unwrap();
    bench.until(done(1)).await;
    let started = bench.until(|n| matches!(n, PoolNews::Started { key: 2, .. })).await;
    assert!(matches!(started, PoolNews::Started { pid: 101, .. }));
    assert_eq!(bench.pool.room(), 0, "nothing is queued behind a long call");
    bench.stage.open("gate");
    bench.until(done(2)).await;
}

#[tokio::test]
async fn recall_gives_back_what_has_not_begun() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:gate"), call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    bench.pool.recall();
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    bench.stage.open("gate");
    bench.until(done(1)).await;
    assert!(bench.seen.is_empty(), "{:?}", bench.seen);
}

#[tokio::test]
async fn a_pool_of_nothing_and_a_child_of_too_much_are_refused() {
    for (children, calls_per_child) in [(0, 1), (1, 0), (1, 1 << 20)] {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let zygote = ours.into();
        let config = ProcessConfig {
            children,
            calls_per_child,
            zygote,
            zygote_pid: 0,
            max_tasks_per_child: None,
        };
        assert_eq!(ProcessPool::new(config).err().unwrap().kind(), ErrorKind::Config);
    }
}
