//! Whole workers die; only what had begun is blamed, and only what kills is parked.

use std::time::Duration;

use super::fake::{Lab, config, message};
use crate::{
    broker::QueueStats,
    config::{Prefetch, WorkerConfig},
    worker::Stop,
};

/// Replaces workers that die until all is settled; how many died.
async fn outlive(mut lab: Lab, config: impl Fn() -> WorkerConfig) -> (Lab, u64) {
    let mut deaths = 0;
    loop {
        tokio::select! {
            () = lab.oracle.until(|o| o.killed() > deaths) => {}
            () = lab.until_idle() => return (lab, deaths),
        }
        deaths += 1;
        assert!(deaths < 20, "they die for ever");
        lab = lab.crash(config()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_thousand_only_the_killer_is_parked() {
    for at in [0, 700, 1_999] {
        let lab = Lab::new(config());
        let tasks: Vec<_> = (0..2_000)
            .map(|n| message(&n.to_string(), "late", if n == at { "0 kill" } else { "0 ok" }))
            .collect();
        lab.broker.put(&tasks);
        let (lab, deaths) = outlive(lab, config).await;
        assert_eq!(deaths, 4, "one that nobody can be blamed for, and three");
        let dead = lab.broker.dead();
        let parked: Vec<_> = dead.iter().map(|d| (d.id.clone(), d.redeliveries)).collect();
        assert_eq!(parked, [(at.to_string(), 3)]);
        assert!(lab.document(&at.to_string()).expect("stored").contains("WorkerLostError"));
        for n in (0..2_000).filter(|n| *n != at) {
            assert_eq!(lab.document(&n.to_string()).as_deref(), Some("ok"), "{n}");
        }
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn two_killers_among_long_and_short_ones_are_parked_and_no_other() {
    let lab = Lab::new(config());
    let script = |n| match n {
        30 | 31 => "0 kill",
        n if n % 20 == 0 => "3000 ok",
        _ => "1 ok",
    };
    let tasks: Vec<_> = (0..100).map(|n| message(&n.to_string(), "late", script(n))).collect();
    lab.broker.put(&tasks);
    let (lab, _) = outlive(lab, config).await;
    let mut parked: Vec<_> = lab.broker.dead().iter().map(|d| d.id.clone()).collect();
    parked.sort();
    assert_eq!(parked, ["30", "31"]);
    for n in (0..100).filter(|n| ![30, 31].contains(n)) {
        assert_eq!(lab.document(&n.to_string()).as_deref(), Some("ok"), "{n}");
    }
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_never_began_is_never_counted() {
    let mut lab = Lab::new(config());
    let tasks: Vec<_> = (0..12).map(|n| message(&n.to_string(), "late", "forever ok")).collect();
    lab.broker.put(&tasks);
    for _ in 0..6 {
        // Long enough that what runs is marked, and what waits is prefetched.
        tokio::time::sleep(Duration::from_secs(6)).await;
        lab = lab.crash(config()).await;
    }
    let (broker, oracle) = (lab.broker.clone(), lab.oracle.clone());
    let dead: Vec<_> = broker.dead().iter().map(|d| d.id.clone()).collect();
    lab.stop(Stop::Cold).await.expect("a clean end");
    let begun = oracle.counts();
    assert!(dead.iter().all(|id| begun[id] == 3), "{dead:?} of {begun:?}");
    let left = broker.take_counted().await;
    assert_eq!(left.len() + dead.len(), 12);
    for (id, count) in left {
        assert!(
            count as usize <= begun.get(&id).copied().unwrap_or(0),
            "{id} counts {count}: {begun:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn suspects_do_not_hold_up_the_rest() {
    let lab = Lab::new(config());
    // The last attempt of each, so they are tried one by one.
    let config = || WorkerConfig { max_deliveries: 1, ..config() };
    let long: Vec<_> = (0..4).map(|n| message(&format!("long{n}"), "late", "60000 ok")).collect();
    lab.broker.put(&long);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.until_figures(|f| f.depth == 0).await;
    let lab = lab.crash(config()).await;
    lab.oracle.until(|o| o.begun().len() == 3).await;
    let rest: Vec<_> = (0..100).map(|n| message(&n.to_string(), "late", "10 ok")).collect();
    lab.broker.put(&rest);
    lab.oracle.until(|o| o.ended().len() == 100).await;
    assert_eq!(lab.oracle.begun().len(), 103, "of the suspects one runs");
    lab.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn suspects_fill_the_window_like_any_other_message() {
    let narrow = || WorkerConfig { prefetch: Prefetch::PerSlot(1), ..config() };
    let dead = Lab::new(WorkerConfig { prefetch: Prefetch::PerSlot(500), ..config() });
    let tasks: Vec<_> = (0..1_000).map(|n| message(&n.to_string(), "late", "10 ok")).collect();
    dead.broker.put(&tasks);
    dead.until_figures(|f| f.depth == 0).await;
    let one = dead.crash(narrow()).await;
    let two = Lab::beside(&one, narrow());
    let mut most = 0;
    while one.broker.figures() != QueueStats::default() {
        most = most.max(one.handle.stats().reserved + two.handle.stats().reserved);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(most <= 20, "{most} were reserved at once");
    let (first, second) = (one.oracle.ended().len(), two.oracle.ended().len());
    assert_eq!(first + second, 1_000);
    assert!(first.abs_diff(second) <= 100, "one ran {first}, the other {second}");
    one.stop(Stop::Warm).await.expect("a clean end");
    two.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_runs_for_long_is_marked_again_when_its_mark_was_lost() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("x", "late", "forever ok")]);
    lab.oracle.until(|o| o.begun().len() == 1).await;
    lab.broker.lose_marks(true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    lab.broker.lose_marks(false);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let broker = lab.broker.clone();
    let lab = lab.crash(config()).await;
    lab.stop(Stop::Cold).await.expect("a clean end");
    assert_eq!(broker.take_counted().await, [("x".to_owned(), 1)]);
}
