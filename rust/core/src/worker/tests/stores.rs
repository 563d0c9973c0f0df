//! The result store goes away, or will not take a result.

use std::time::Duration;

use super::fake::{LARGE, Lab, config, message};
use crate::{result::ResultStore, worker::Stop};

#[tokio::test(start_paused = true)]
async fn no_task_is_begun_while_too_much_is_kept() {
    let lab = Lab::new(config());
    lab.store.set_down(true);
    let large: Vec<_> = (0..40).map(|n| message(&n.to_string(), "early", "5 large")).collect();
    lab.broker.put(&large);
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Four fill what may be kept; the others ran already.
    let ended = lab.oracle.ended().len();
    assert!((4..8).contains(&ended), "{ended} have ended");
    assert_eq!(lab.handle.stats().active, 0, "what did not begin waits here, not at the pool");
    lab.store.set_down(false);
    lab.oracle.until(|o| o.ended().len() == 40).await;
    lab.until_idle().await;
    let ids: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let stored = lab.results.get(&ids).expect("memory");
    assert!(stored.iter().all(|d| d.as_ref().is_some_and(|d| d.len() == LARGE)));
    assert!(lab.oracle.counts().values().all(|n| *n == 1));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_refused_for_its_size_is_a_failure_that_says_so() {
    let lab = Lab::new(config());
    lab.store.limit(1_000);
    lab.broker.put(&[
        message("a", "late", "0 ok"),
        message("b", "late", "0 large"),
        message("c", "late", "0 ok"),
    ]);
    lab.oracle.until(|o| o.ended().len() == 3).await;
    lab.until_idle().await;
    assert_eq!(lab.document("a").as_deref(), Some("ok"));
    assert_eq!(lab.document("c").as_deref(), Some("ok"));
    let document = lab.document("b").expect("a failure");
    assert!(document.starts_with(r#"{"status": "FAILURE""#), "{document}");
    assert!(document.contains("EncodeError") && document.contains("too many bytes"), "{document}");
    assert_eq!(lab.settlements(), ["ack", "ack", "ack"]);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_stored_before_the_end_goes_back_if_it_may_run_again() {
    let lab = Lab::new(config());
    lab.store.set_down(true);
    lab.broker.put(&[
        message("early", "early", "0 ok"),
        message("late", "late", "0 ok"),
        message("retried", "late", "0 retry"),
    ]);
    lab.oracle.until(|o| o.ended().len() == 3).await;
    let broker = lab.broker.clone();
    lab.stop(Stop::Warm).await.expect("a clean end");
    assert_eq!(broker.take_all().await, ["late"]);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_run_again_is_acknowledged_while_the_store_is_away() {
    let lab = Lab::new(config());
    lab.store.set_down(true);
    lab.broker.put(&[
        message("early", "early", "0 ok"),
        message("retried", "early", "0 again"),
        message("followed", "early", "0 followed"),
        message("late", "late", "0 ok"),
    ]);
    lab.oracle.until(|o| o.ended().len() == 6).await;
    lab.until_figures(|f| f.depth == 0 && f.in_flight == 1).await;
    let heir = lab.crash(config()).await;
    heir.until_idle().await;
    let counts = heir.oracle.counts();
    for (id, count) in counts {
        assert_eq!(count, if id == "late" { 2 } else { 1 }, "{id}");
    }
    heir.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_a_full_store_has_no_memory_for_holds_up_no_other() {
    let lab = Lab::new(config());
    lab.store.set_room("ok".len());
    lab.broker.put(&[
        message("a", "late", "0 ok"),
        message("b", "late", "0 fail"),
        message("c", "late", "0 ok"),
    ]);
    lab.oracle.until(|o| o.ended().len() == 3).await;
    lab.until_figures(|f| f.in_flight == 1).await;
    lab.broker.put(&[message("d", "late", "0 ok")]);
    lab.oracle.until(|o| o.ended().len() == 4).await;
    lab.until_figures(|f| f.in_flight == 1).await;
    assert_eq!((lab.document("b"), lab.document("d").as_deref()), (None, Some("ok")));
    assert_eq!(lab.settlements(), ["ack"; 3]);
    lab.store.set_room(usize::MAX);
    lab.until_idle().await;
    assert_eq!(lab.document("b").as_deref(), Some("fail"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}
