//! Stops in the middle of everything.

use std::time::Duration;

use super::fake::{Lab, config, message, wall_us};
use crate::{
    config::{TaskSpec, WorkerConfig},
    result::ResultStore,
    worker::{Standing, Stop},
};

/// Two tasks run (one early, one late), two are queued at the pool, two are ready, one is held, one
/// is limited.
async fn busy(config: WorkerConfig) -> Lab {
    let mut config = config;
    config.tasks.insert(
        "limited".into(),
        TaskSpec { rate_limit: Some(0.6), acks_late: true, ..TaskSpec::default() },
    );
    let lab = Lab::new(config);
    let mut held = message("3", "late", "0 ok");
    held.headers.eta = Some(wall_us() + 1_900_000);
    lab.broker.put(&[
        message("0", "limited", "0 ok"),
        message("1", "early", "300 ok"),
        message("2", "late", "300 ok"),
        held,
        message("4", "early", "0 ok"),
        message("5", "limited", "0 ok"),
        message("6", "late", "0 ok"),
        message("7", "early", "0 ok"),
        message("8", "late", "0 ok"),
    ]);
    lab.oracle.until(|o| o.begun().len() == 3).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(lab.broker.figures().depth, 0, "all is claimed");
    lab
}

#[tokio::test(start_paused = true)]
async fn warm_lets_running_tasks_finish_and_gives_the_rest_back_in_order() {
    let lab = busy(config()).await;
    let (broker, oracle, results) = (lab.broker.clone(), lab.oracle.clone(), lab.results.clone());
    lab.handle.stop(Stop::Warm);
    tokio::time::sleep(Duration::from_millis(20)).await;
    // At once, not only when the running ones are through.
    assert_eq!(broker.figures().depth, 6);
    let stats = lab.end().await.expect("a clean end");
    assert_eq!(stats.processed, 3);
    assert_eq!(oracle.begun(), ["0", "1", "2"]);
    assert_eq!(oracle.ended(), ["0", "1", "2"]);
    assert_eq!(broker.take_all().await, ["3", "4", "5", "6", "7", "8"]);
    assert!(results.get(&["0", "1", "2"]).expect("memory").iter().all(Option::is_some));
}

#[tokio::test(start_paused = true)]
async fn cold_gives_back_late_ones_and_records_early_ones_as_lost() {
    let lab = busy(config()).await;
    let (broker, results) = (lab.broker.clone(), lab.results.clone());
    let oracle = lab.oracle.clone();
    let stats = lab.stop(Stop::Cold).await.expect("a clean end");
    assert_eq!(stats.failed, 2);
    assert_eq!(oracle.ended(), ["0"]);
    assert_eq!(broker.take_all().await, ["2", "3", "4", "5", "6", "7", "8"]);
    let documents = results.get(&["1", "2"]).expect("memory");
    let early = String::from_utf8(documents[0].as_ref().expect("stored").to_vec()).expect("text");
    assert!(early.contains("WorkerLostError"), "{early}");
    assert_eq!(documents[1], None);
}

#[tokio::test(start_paused = true)]
async fn what_finished_before_it_could_be_killed_is_not_lost() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("e", "early", "forever last"), message("l", "late", "forever last")]);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    let (broker, results) = (lab.broker.clone(), lab.results.clone());
    let stats = lab.stop(Stop::Cold).await.expect("a clean end");
    assert_eq!((stats.succeeded, stats.failed), (2, 0));
    let stored = results.get(&["e", "l"]).expect("memory");
    assert!(stored.iter().all(|document| document.as_deref() == Some(b"last")));
    assert!(broker.take_all().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_second_request_is_cold() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("x", "late", "forever ok")]);
    lab.oracle.until(|o| !o.begun().is_empty()).await;
    lab.handle.stop(Stop::Warm);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(lab.broker.figures().in_flight, 1, "a warm shutdown waits");
    let broker = lab.broker.clone();
    lab.stop(Stop::Warm).await.expect("a clean end");
    assert_eq!(broker.take_all().await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let lab = Lab::new(WorkerConfig { shutdown_timeout_ms: Some(10_000), ..config() });
    lab.broker.put(&[message("x", "late", "forever ok")]);
    lab.oracle.until(|o| !o.begun().is_empty()).await;
    let (broker, asked) = (lab.broker.clone(), tokio::time::Instant::now());
    lab.stop(Stop::Warm).await.expect("a clean end");
    assert!(
        asked.elapsed() >= Duration::from_secs(10) && asked.elapsed() < Duration::from_secs(12),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(broker.take_all().await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_during_a_warm_shutdown_stays_in_the_queue() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("x", "late", "500 ok")]);
    lab.oracle.until(|o| !o.begun().is_empty()).await;
    lab.handle.stop(Stop::Warm);
    tokio::time::sleep(Duration::from_millis(10)).await;
    lab.broker.put(&[message("y", "late", "0 ok"), message("z", "late", "0 ok")]);
    let (broker, oracle) = (lab.broker.clone(), lab.oracle.clone());
    lab.end().await.expect("a clean end");
    assert_eq!(oracle.begun(), ["x"]);
    assert_eq!(broker.take_all().await, ["y", "z"]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_does_not_keep_a_worker_alive() {
    for how in [Stop::Warm, Stop::Cold] {
        let lab = Lab::new(config());
        lab.broker.put(&[message("x", "late", "50 ok")]);
        lab.oracle.until(|o| !o.begun().is_empty()).await;
        lab.broker.set_down(true);
        let asked = tokio::time::Instant::now();
        lab.stop(how).await.expect("a clean end");
        assert!(asked.elapsed() < Duration::from_secs(15), "{how:?} {:?}", asked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_stops_at_once_and_its_handle_knows() {
    let lab = Lab::new(config());
    let handle = lab.handle.clone();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(handle.wait_started(Duration::ZERO), Standing::Started);
    let asked = tokio::time::Instant::now();
    lab.stop(Stop::Warm).await.expect("a clean end");
    assert!(asked.elapsed() < Duration::from_millis(10));
    assert_eq!(handle.wait_started(Duration::ZERO), Standing::Ended);
    assert!(!handle.stats().connected);
    handle.stop(Stop::Cold); // nobody listens, and nothing happens
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_breaks_ends_the_worker_without_losing_what_is_finished() {
    let lab = Lab::new(config());
    lab.broker.put(&[
        message("0", "late", "30 ok"),
        message("1", "late", "30 break"),
        message("2", "late", "0 ok"),
        message("3", "early", "0 ok"),
        message("4", "late", "0 ok"),
    ]);
    let (broker, results) = (lab.broker.clone(), lab.results.clone());
    let handle = lab.handle.clone();
    let error = lab.end().await.expect_err("the pool broke");
    assert!(error.to_string().contains("the pool broke"), "{error}");
    assert_eq!(handle.wait_started(Duration::ZERO), Standing::Ended);
    let back = broker.take_all().await;
    let stored = results.get(&["0", "1", "2", "3", "4"]).expect("memory");
    for (n, document) in stored.iter().enumerate() {
        let (is_back, id) = (back.contains(&n.to_string()), n);
        assert!(document.is_some() != is_back, "task {id}: back {back:?}");
    }
    assert!(back.is_sorted() && back.contains(&"1".to_owned()), "{back:?}");
}
