//! How calls and children end other than by finishing: limits, deaths, kills, the pool's end.

use std::{
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::fake::{Bench, Stage, call, done};
use crate::pool::{Call, Lost, Pool, PoolNews};

#[tokio::test]
async fn a_hard_limit_kills_and_what_waited_comes_back() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    let slow = Call { hard_us: Some(20_000), ..call(1, "wait:never") };
    bench.pool.submit(vec![slow, call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    let lost = bench.until(|n| matches!(n, PoolNews::Lost { .. })).await;
    assert!(matches!(lost, PoolNews::Lost { key: 1, why: Lost::TimeLimit(20_000), .. }));
    let news = bench.run(vec![call(2, "x")]).await;
    assert!(news.iter().any(done(2)));
    assert!(bench.notices[0].contains("time limit of 0.02 s"), "{:?}", bench.notices);
}

#[tokio::test]
async fn a_soft_limit_is_a_signal_for_the_call_that_runs() {
    let mut bench = Bench::new(1, None);
    bench.until_room(1).await;
    bench.pool.submit(vec![Call { soft_us: Some(10_000), ..call(1, "wait:gate") }]).unwrap();
    let stage = bench.stage.clone();
    bench.until(|n| matches!(n, PoolNews::Started { .. })).await;
    let signalled = async {
        while stage.soft.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = signalled => {}
        _ = bench.pool.news() => panic!("a soft limit is no news"),
    }
    bench.stage.open("gate");
    let PoolNews::Done(outcome) = bench.until(done(1)).await else { unreachable!() };
    assert_eq!(outcome.note, "soft");
}

#[tokio::test]
async fn a_dead_child_loses_only_what_it_ran() {
    let mut bench = Bench::new(1, None);
    bench.run((0..500).map(|k| call(k, "x")).collect()).await;
    let room = bench.pool.room() as u64;
    assert!(room > 10);
    let mut calls: Vec<Call> = (1_000..1_000 + room).map(|k| call(k, "x")).collect();
    calls[5] = call(1_005, "segfault");
    let news = bench.run(calls).await;
    let lost: Vec<_> = news.iter().filter(|n| matches!(n, PoolNews::Lost { .. })).collect();
    assert_eq!(lost.len(), 1);
    assert!(
        matches!(lost[0], PoolNews::Lost { key: 1_005, why: Lost::Died(how), .. } if how == "signal 11 (SIGSEGV)")
    );
    assert_eq!(news.iter().filter(|n| matches!(n, PoolNews::Done(_))).count() as u64, room - 1);
    assert!(bench.notices[0].contains("SIGSEGV"));
}

#[tokio::test]
async fn children_are_replaced_after_their_number_of_calls() {
    let mut bench = Bench::new(2, Some(10));
    let news = bench.run((0..200).map(|k| call(k, "x")).collect()).await;
    assert_eq!(news.iter().filter(|n| matches!(n, PoolNews::Done(_))).count(), 200);
    assert!(bench.stage.forks.load(Ordering::Acquire) >= 20);
    assert_eq!(bench.notices, Vec::<String>::new());
}

#[tokio::test]
async fn children_that_die_at_once_are_reported_and_retried_slowly() {
    let stage = Arc::new(Stage::default());
    stage.stillborn.store(true, Ordering::Release);
    let mut bench = Bench::with(1, None, stage);
    while bench.notices.is_empty() {
        bench.more().await;
    }
    assert!(bench.notices[0].starts_with("`5` children in a row ended"), "{:?}", bench.notices);
    assert_eq!(bench.stage.forks.load(Ordering::Acquire), 5);
    bench.stage.stillborn.store(false, Ordering::Release);
    bench.until_room(1).await;
}

#[tokio::test]
async fn terminate_ends_the_call_that_runs() {
    let mut bench = Bench::new(1, None);
    bench.until_room(1).await;
    bench.pool.submit(vec![call(1, "wait:never")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { .. })).await;
    bench.pool.terminate(1, libc::SIGKILL);
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, why: Lost::Terminated(9), .. })).await;
    bench.until_room(1).await;
}

#[tokio::test]
async fn a_signal_ends_the_call_that_it_is_meant_for_and_no_other() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "mortal:gate"), call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    bench.pool.terminate(1, libc::SIGTERM);
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, why: Lost::Terminated(15), .. })).await;
    let news = bench.run(vec![call(2, "x")]).await;
    assert!(news.iter().any(done(2)));
    bench.pool.terminate(1, libc::SIGTERM); // it is not here
    assert!(bench.run(vec![call(3, "x")]).await.iter().any(done(3)));
}

#[tokio::test]
async fn a_call_that_ends_before_the_signal_has_ended() {
    let mut bench = Bench::new(1, None);
    bench.until_room(1).await;
    bench.pool.submit(vec![call(1, "wait:gate")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    // This child is one whose task has a handler of its own.
    bench.pool.terminate(1, libc::SIGTERM);
    bench.stage.open("gate");
    bench.until(done(1)).await;
    assert!(bench.run(vec![call(2, "x")]).await.iter().any(done(2)), "its successor goes on");
    assert_eq!(bench.stage.forks.load(Ordering::Acquire), 2);
}

#[tokio::test]
async fn sigusr1_is_the_soft_limit() {
    let mut bench = Bench::new(1, None);
    bench.until_room(1).await;
    bench.pool.submit(vec![call(1, "wait:gate")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    bench.pool.terminate(1, libc::SIGUSR1);
    while bench.stage.soft.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    bench.stage.open("gate");
    let PoolNews::Done(outcome) = bench.until(done(1)).await else { unreachable!() };
    assert_eq!(outcome.note, "soft");
}

#[tokio::test]
async fn cancel_takes_back_what_has_not_begun() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:gate"), call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    assert!(!bench.pool.cancel(1) && bench.pool.cancel(2) && !bench.pool.cancel(2));
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    bench.stage.open("gate");
    bench.until(done(1)).await;
}

#[test]
fn signals_that_end_nothing_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let bench = Bench::new(1, None);
    for signal in [0, -1, 64, libc::SIGSTOP, libc::SIGCHLD] {
        let error = bench.pool.can_terminate(signal).unwrap_err().to_string();
        assert!(error.contains("expected one that ends a task: SIGTERM, SIGKILL"), "{error}");
    }
    bench.pool.can_terminate(libc::SIGTERM).unwrap();
}

#[tokio::test]
async fn it_grows_far_beyond_what_it_began_with() {
    let mut bench = Bench::new(1, None);
    assert_eq!((bench.pool.grow(49).unwrap(), bench.pool.slots()), (50, 50));
    let calls = (0..50).map(|k| call(k, &format!("wait:{k}"))).collect();
    bench.until_room(100).await;
    assert_eq!(bench.pool.pids().len(), 50);
    bench.pool.submit(calls).unwrap();
    for key in 0..50 {
        bench.until(|n| matches!(n, PoolNews::Started { key: k, .. } if *k == key)).await;
    }
    for key in 0..50 {
        bench.stage.open(&key.to_string());
        bench.until(done(key)).await;
    }
    assert_eq!(bench.pool.grow(usize::MAX).unwrap_err().kind(), crate::ErrorKind::Config);
}

#[tokio::test]
async fn it_shrinks_without_touching_what_runs() {
    let mut bench = Bench::new(4, None);
    bench.until_room(8).await;
    bench.pool.submit(vec![call(1, "wait:1"), call(2, "wait:2")]).unwrap();
    for key in [1, 2] {
        bench.until(|n| matches!(n, PoolNews::Started { key: k, .. } if *k == key)).await;
    }
    let busy = bench.pids_of_started();
    assert_eq!(bench.pool.shrink(2).unwrap(), 2);
    while bench.pool.pids().len() > 2 {
        bench.more().await;
    }
    let mut left = bench.pool.pids();
    left.sort_unstable();
    assert_eq!(left, busy, "the idle ones have gone");
    assert_eq!(bench.pool.shrink(1).unwrap(), 1);
    assert_eq!(bench.pool.room(), 0, "as many run as may");
    assert!(bench.pool.shrink(1).is_err());
    bench.stage.open("1");
    bench.stage.open("2");
    bench.until(done(1)).await;
    bench.until(done(2)).await;
    while bench.pool.pids().len() > 1 {
        bench.more().await;
    }
    assert!(bench.run(vec![call(3, "x")]).await.iter().any(done(3)));
    assert_eq!(bench.stage.forks.load(Ordering::Acquire), 4, "none was replaced");
    assert_eq!(bench.notices, Vec::<String>::new());
}

#[tokio::test]
async fn shutdown_by_force_ends_what_runs() {
    let mut bench = Bench::new(2, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:never"), call(2, "wait:never")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { .. })).await;
    bench.pool.shutdown(true).await;
    assert_eq!(bench.pool.pids(), Vec::<u32>::new());
}

#[tokio::test]
async fn without_its_zygote_the_pool_reports_what_was_lost_and_then_fails() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:never"), call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    bench.stage.no_zygote.store(true, Ordering::Release);
    bench.pool.terminate(1, libc::SIGKILL); // makes it look
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, .. })).await;
    assert_eq!(bench.pool.room(), 0);
    let error = bench.pool.news().await.unwrap_err();
    assert!(error.to_string().starts_with("the zygote"), "{error}");
}

#[tokio::test]
async fn what_finished_before_its_child_was_killed_is_told() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.run((0..500).map(|k| call(k, "x")).collect()).await;
    let calls = vec![call(1_001, "x"), call(1_002, "open:end"), call(1_003, "wait:never")];
    bench.pool.submit(calls).unwrap();
    assert!(bench.stage.pass("end", &AtomicBool::new(false)));
    bench.pool.shutdown(true).await;
    bench.until(done(1_001)).await;
}

#[tokio::test]
async fn without_a_socket_for_a_child_the_others_go_on() {
    let mut bench = Bench::new(2, None);
    bench.until_room(4).await;
    bench.pool.pair = || Err(std::io::ErrorKind::Other.into());
    bench.pool.submit(vec![call(1, "segfault"), call(2, "wait:gate")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, .. })).await;
    while bench.notices.len() < 2 {
        bench.more().await;
    }
    assert!(bench.notices[1].contains("no socket can be made"), "{:?}", bench.notices);
    bench.stage.open("gate");
    bench.until(done(2)).await;
    bench.pool.pair = UnixStream::pair;
    while bench.stage.forks.load(Ordering::Acquire) < 3 {
        bench.more().await;
    }
}
