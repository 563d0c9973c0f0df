//! Due times, rate limits and the window, on a clock that only moves when everybody waits.

use std::time::Duration;

use tokio::time::Instant;

use super::fake::{Lab, config, message, wall_us};
use crate::{
    config::{Prefetch, TaskSpec, WorkerConfig},
    worker::Stop,
};

#[tokio::test(start_paused = true)]
async fn tasks_start_at_their_time_in_its_order() {
    let lab = Lab::new(config());
    let zero = Instant::now();
    let due = |id: &str, ms: i64| {
        let mut m = message(id, "early", "0 ok");
        m.headers.eta = Some(wall_us() + ms * 1_000);
        m
    };
    lab.broker.put(&[
        due("c", 1_500),
        due("a", 20),
        due("b", 700),
        message("now", "early", "0 ok"),
    ]);
    lab.oracle.until(|o| o.begun().len() == 4).await;
    assert_eq!(lab.oracle.begun(), ["now", "a", "b", "c"]);
    let late: Vec<u128> =
        lab.oracle.times().iter().map(|t| t.duration_since(zero).as_millis()).collect();
    for (at, wanted) in late.into_iter().zip([0, 20, 700, 1_500]) {
        assert!((wanted..=wanted + 3).contains(&at), "{at} instead of {wanted}");
    }
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_later_waits_in_the_broker() {
    let lab = Lab::new(config());
    let mut later = message("later", "early", "0 ok");
    later.headers.eta = Some(wall_us() + 3_600_000_000);
    lab.broker.put(&[later]);
    lab.until_figures(|f| f.scheduled == 1).await;
    assert_eq!((lab.settlements(), lab.handle.stats().scheduled), (vec!["defer"], 0));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spaces_its_own_tasks_and_no_others() {
    let mut config = config();
    config
        .tasks
        .insert("limited".into(), TaskSpec { rate_limit: Some(10.0), ..TaskSpec::default() });
    let lab = Lab::new(config);
    let limited: Vec<_> = (0..6).map(|n| message(&format!("l{n}"), "limited", "0 ok")).collect();
    lab.broker.put(&limited);
    lab.broker.put(&[message("free", "early", "0 ok")]);
    lab.oracle.until(|o| o.begun().len() == 7).await;
    assert_eq!(lab.oracle.begun(), ["l0", "free", "l1", "l2", "l3", "l4", "l5"]);
    let times = lab.oracle.times();
    for pair in times[1..].windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= Duration::from_millis(98) && gap <= Duration::from_millis(103), "{gap:?}");
    }
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn rate_limits_can_be_disabled() {
    let mut config = WorkerConfig { disable_rate_limits: true, ..config() };
    config
        .tasks
        .insert("limited".into(), TaskSpec { rate_limit: Some(0.001), ..TaskSpec::default() });
    let lab = Lab::new(config);
    lab.broker
        .put(&(0..6).map(|n| message(&format!("l{n}"), "limited", "0 ok")).collect::<Vec<_>>());
    lab.oracle.until(|o| o.ended().len() == 6).await;
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_claimed_than_the_window_allows() {
    for (prefetch, most) in [
        (Prefetch::Disabled, 2),
        (Prefetch::PerSlot(1), 2),
        (Prefetch::PerSlot(5), 10),
        (Prefetch::Auto, 8),
    ] {
        let lab = Lab::new(WorkerConfig { prefetch, ..config() });
        lab.broker
            .put(&(0..50).map(|n| message(&n.to_string(), "late", "100 ok")).collect::<Vec<_>>());
        lab.oracle.until(|o| o.begun().len() == 2).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(7)).await;
            assert!(
                lab.broker.figures().in_flight <= most,
                "{prefetch:?}: {}",
                lab.broker.figures().in_flight
            );
        }
        lab.stop(Stop::Cold).await.expect("a clean end");
    }
}

/// Two workers; 200 tasks of 50 ms that are all due at one instant, of which one worker may have
/// claimed all.
#[tokio::test(start_paused = true)]
async fn what_comes_due_beyond_the_window_is_shared() {
    for prefetch in [Prefetch::Disabled, Prefetch::PerSlot(1), Prefetch::Auto] {
        let one = Lab::new(WorkerConfig { prefetch, ..config() });
        let due = wall_us() + 1_000_000;
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let mut task = message(&n.to_string(), "late", "50 ok");
                task.headers.eta = Some(due);
                task
            })
            .collect();
        one.broker.put(&tasks);
        one.until_figures(|f| f.depth == 0).await;
        let other = Lab::beside(&one, WorkerConfig { prefetch, ..config() });
        one.until_empty().await;
        let (ran, shared) = (one.oracle.begun(), other.oracle.begun());
        assert_eq!(ran.len() + shared.len(), 200, "{prefetch:?}");
        assert!(ran.len() < 140 && shared.len() < 140, "{} and {}", ran.len(), shared.len());
        for begun in [ran, shared] {
            assert!(begun.iter().map(|id| id.parse::<u32>().expect("a number")).is_sorted());
        }
        other.stop(Stop::Warm).await.expect("a clean end");
        one.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn the_statistics_say_where_tasks_are() {
    let mut config = config();
    config
        .tasks
        .insert("limited".into(), TaskSpec { rate_limit: Some(0.5), ..TaskSpec::default() });
    let lab = Lab::new(config);
    let mut soon = message("soon", "early", "0 ok");
    soon.headers.eta = Some(wall_us() + 1_000_000);
    lab.broker.put(&[soon]);
    lab.broker
        .put(&(0..3).map(|n| message(&format!("r{n}"), "early", "forever ok")).collect::<Vec<_>>());
    lab.broker
        .put(&[message("l0", "limited", "forever ok"), message("l1", "limited", "forever ok")]);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let stats = lab.handle.stats();
    assert_eq!((stats.active, stats.reserved, stats.scheduled, stats.connected), (2, 3, 1, true));
    assert_eq!(stats.children, [7]);
    lab.stop(Stop::Cold).await.expect("a clean end");
}
