//! The broker goes away and comes back; nothing is lost, and nothing runs twice that need not.

use std::{sync::atomic::Ordering, time::Duration};

use proptest::prelude::*;

use super::fake::{Flaky, Lab, config, message};
use crate::{
    error::ErrorKind,
    result::ResultStore,
    worker::{Standing, Stop},
};

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_kept_through_an_outage() {
    let lab = Lab::new(config());
    lab.broker.put(&[
        message("a", "late", "100 ok"),
        message("b", "late", "100 ok"),
        message("c", "late", "100 ok"),
    ]);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.broker.set_down(true);
    lab.oracle.until(|o| o.ended().len() == 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!lab.handle.stats().connected);
    assert_eq!(lab.document("c").as_deref(), Some("ok"), "results do not wait for the broker");
    assert_eq!(lab.broker.figures().in_flight, 3);
    lab.broker.set_down(false);
    lab.until_empty().await;
    assert_eq!(lab.settlements(), ["ack", "ack", "ack"]);
    assert!(lab.oracle.counts().values().all(|n| *n == 1));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_comes_back_is_told_what_is_held() {
    let lab = Lab::new(config());
    let scripts = [("early", "5000 ok"), ("late", "100 ok"), ("late", "5000 ok"), ("late", "0 ok")];
    let tasks = scripts.iter().enumerate();
    let tasks: Vec<_> =
        tasks.map(|(n, (task, script))| message(&n.to_string(), task, script)).collect();
    lab.broker.put(&tasks);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.until_figures(|f| f.depth == 0 && f.in_flight == 3).await;
    assert_eq!(lab.settlements(), ["ack"], "the early one has begun");
    lab.broker.set_down(true);
    lab.oracle.until(|o| o.ended().len() == 1).await;
    lab.broker.set_down(false);
    lab.until_figures(|f| f.in_flight == 2).await;
    let retained = std::mem::take(&mut *lab.broker.retained.lock().expect("whole"));
    let [held] = &retained[..] else { panic!("{retained:?}") };
    assert_eq!(held.len(), 4, "{held:?}");
    assert_eq!(lab.settlements(), ["ack"; 3], "the early one once more");
    lab.oracle.until(|o| o.ended().len() == 4).await;
    lab.until_empty().await;
    assert!(lab.oracle.counts().values().all(|n| *n == 1));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_after_the_lease_must_have_lapsed() {
    let lab = Lab::new(config());
    let long: Vec<_> = (0..8).map(|n| message(&n.to_string(), "late", "10000 ok")).collect();
    lab.broker.put(&long);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.until_figures(|f| f.depth == 0).await;
    lab.broker.set_down(true);
    // Two run, two wait at the pool; the other four were claimed but would begin 10 s after the
    // connection was lost.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(lab.oracle.begun().len(), 4);
    lab.broker.set_down(false);
    lab.oracle.until(|o| o.ended().len() == 8).await;
    lab.until_empty().await;
    assert!(lab.oracle.counts().values().all(|n| *n == 1));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_begins_nothing_before_it_has_renewed() {
    let lab = Lab::new(config());
    let long: Vec<_> = (0..8).map(|n| message(&n.to_string(), "late", "900 ok")).collect();
    lab.broker.put(&long);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.until_figures(|f| f.depth == 0).await;
    lab.stop_for(Duration::from_secs(60));
    // The connection stands. What was at the pool goes on; the rest may be another's by now.
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    assert_eq!(lab.oracle.begun().len(), 4);
    lab.oracle.until(|o| o.ended().len() == 8).await;
    assert!(lab.oracle.counts().values().all(|n| *n == 1));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_voids_what_was_held() {
    let lab = Lab::new(config());
    // Few enough that a fetch is open, which hears of it at once.
    let tasks: Vec<_> = (0..6).map(|n| message(&n.to_string(), "late", "100 ok")).collect();
    lab.broker.put(&tasks);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.until_figures(|f| f.depth == 0).await;
    lab.broker.fence().await;
    lab.oracle.until(|o| o.ended().len() == 8).await;
    lab.until_empty().await;
    // The two that ran were given to "others" (here: to ourselves, later); the four that had not
    // begun ran once.
    let counts = lab.oracle.counts();
    for (id, expected) in [("0", 2), ("1", 2), ("2", 1), ("3", 1), ("4", 1), ("5", 1)] {
        assert_eq!(counts[id], expected, "{id}: {counts:?}");
    }
    assert_eq!(lab.settlements().len(), 6, "nothing was settled under the old lease");
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_once_the_lease_is_known_to_be_lost() {
    let lab = Lab::new(config());
    let tasks: Vec<_> = (0..6).map(|n| message(&n.to_string(), "late", "100 ok")).collect();
    lab.broker.put(&tasks);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.until_figures(|f| f.depth == 0).await;
    // It hears that its lease is over, and cannot take another for some seconds.
    lab.broker.fence().await;
    lab.broker.refuse(Some(ErrorKind::Connection));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(lab.oracle.begun().len(), 2, "others may have the rest");
    lab.broker.refuse(None);
    lab.oracle.until(|o| o.ended().len() == 8).await;
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn an_outage_after_a_lapse_does_not_void_the_new_lease() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("x", "late", "100 ok")]);
    lab.oracle.until(|o| !o.begun().is_empty()).await;
    lab.broker.fence().await;
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.broker.set_down(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.broker.set_down(false);
    lab.until_idle().await;
    assert_eq!(lab.settlements(), ["ack"]);
    assert_eq!(lab.oracle.begun(), ["x", "x"]);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    let broker = Flaky::new();
    broker.set_down(true);
    let lab = Lab::on(broker, config());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(lab.handle.wait_started(Duration::ZERO), Standing::Starting);
    let attempts = lab.broker.attempts.load(Ordering::Relaxed);
    assert!((8..60).contains(&attempts), "it backs off: {attempts}");
    lab.broker.set_down(false);
    lab.broker.put(&[message("x", "late", "0 ok")]);
    lab.oracle.until(|o| !o.ended().is_empty()).await;
    assert_eq!(lab.handle.wait_started(Duration::ZERO), Standing::Started);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_can_never_work_ends_the_worker_at_once_but_not_later() {
    for kind in [ErrorKind::Config, ErrorKind::Storage] {
        let broker = Flaky::new();
        broker.refuse(Some(kind));
        let lab = Lab::on(broker, config());
        let handle = lab.handle.clone();
        let error = lab.end().await.expect_err("it was refused");
        assert_eq!(error.kind(), kind);
        assert_eq!(handle.wait_started(Duration::ZERO), Standing::Ended);

        let lab = Lab::new(config());
        lab.broker.put(&[message("x", "late", "0 ok")]);
        lab.oracle.until(|o| !o.ended().is_empty()).await;
        lab.broker.refuse(Some(kind));
        lab.broker.set_down(true);
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.broker.set_down(false);
        tokio::time::sleep(Duration::from_secs(60)).await;
        lab.broker.refuse(None);
        lab.broker.put(&[message("y", "late", "0 ok")]);
        lab.oracle.until(|o| o.ended().len() == 2).await;
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// At least once, whatever happens; exactly once while the lease stands and no process dies.
    #[test]
    fn nothing_is_lost(
        scripts in prop::collection::vec((any::<bool>(), 0u32..30, prop::bool::weighted(0.1)), 1..60),
        faults in prop::collection::vec((0u64..40, 0u8..3), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let lab = Lab::new(config());
            let deaths = scripts.iter().any(|(_, _, dies)| *dies);
            let fences = faults.iter().any(|(_, f)| *f == 2);
            let messages: Vec<_> = scripts.iter().enumerate().map(|(n, (late, ms, dies))| {
                let script = format!("{ms} {}", if *dies { "die" } else { "ok" });
                message(&n.to_string(), if *late { "late" } else { "early" }, &script)
            }).collect();
            lab.broker.put(&messages);
            for (wait, fault) in &faults {
                tokio::time::sleep(Duration::from_millis(*wait)).await;
                match fault {
                    0 => lab.broker.set_down(true),
                    1 => lab.broker.set_down(false),
                    _ => lab.broker.fence().await,
                }
            }
            lab.broker.set_down(false);
            tokio::time::timeout(Duration::from_secs(30), lab.until_idle()).await.expect("everything is settled in the end");
            let counts = lab.oracle.counts();
            for (n, (late, _, dies)) in scripts.iter().enumerate() {
                let id = n.to_string();
                let ran = counts.get(&id).copied().unwrap_or(0);
                assert!(ran >= 1, "task {id} was lost");
                if !fences {
                    // A late-acked task whose process dies is delivered three times, then parked.
                    assert_eq!(ran, if *dies && *late { 3 } else { 1 }, "task {id}");
                }
                // A dead late-acked task is parked without a result, all others have theirs.
                if !(*dies && *late) {
                    assert!(lab.document(&id).is_some(), "task {id} has no result");
                }
            }
            let dead = lab.broker.dead().len();
            assert!(deaths || dead == 0, "{dead} parked");
            lab.stop(Stop::Warm).await.expect("a clean end");
        });
    }

    /// A stop at any moment, of either kind: what did not end is back in the queue, unless it was
    /// acknowledged early.
    #[test]
    fn a_stop_at_any_moment_loses_nothing(
        scripts in prop::collection::vec((any::<bool>(), 0u32..30), 1..60),
        at in 0u64..100,
        cold in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let lab = Lab::new(config());
            let messages: Vec<_> = scripts.iter().enumerate().map(|(n, (late, ms))| {
                message(&n.to_string(), if *late { "late" } else { "early" }, &format!("{ms} ok"))
            }).collect();
            lab.broker.put(&messages);
            tokio::time::sleep(Duration::from_millis(at)).await;
            let (broker, oracle, results) = (lab.broker.clone(), lab.oracle.clone(), lab.results.clone());
            lab.stop(if cold { Stop::Cold } else { Stop::Warm }).await.expect("a clean end");
            let (begun, ended, back) = (oracle.begun(), oracle.ended(), broker.take_all().await);
            prop_assert_eq!(broker.figures().dead, 0);
            let sorted = back.iter().map(|id| id.parse::<u32>().expect("a number"));
            prop_assert!(sorted.is_sorted(), "{:?}", back);
            for (n, (late, _)) in scripts.iter().enumerate() {
                let id = n.to_string();
                let stored = results.get(&[&id]).expect("memory")[0].is_some();
                let is_back = back.contains(&id);
                if ended.contains(&id) {
                    prop_assert!(stored && !is_back, "{} ended", id);
                } else if begun.contains(&id) && !late {
                    prop_assert!(cold && stored && !is_back, "{} was killed", id);
                } else {
                    prop_assert!(is_back, "{} never ended", id);
                    prop_assert!(cold || !begun.contains(&id), "{} was not let finish", id);
                }
            }
            Ok(())
        })?;
    }
}
