//! What follows a task is published, then its result stored, then its message settled, whatever is
//! away.

use std::time::Duration;

use bytes::Bytes;

use super::fake::{Lab, config, message, wall_us};
use crate::{error::ErrorKind, worker::Stop};

#[tokio::test(start_paused = true)]
async fn what_follows_is_published_before_the_result_and_the_acknowledgement() {
    for task in ["early", "late"] {
        for end in ["followed", "again"] {
            let lab = Lab::new(config());
            lab.broker.refuse_publish(Some(ErrorKind::Connection));
            lab.broker.put(&[message("x", task, &format!("0 {end}"))]);
            lab.oracle.until(|o| o.ended().len() == 1).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(lab.document("x"), None, "{task} {end}");
            assert_eq!(lab.settlements(), [""; 0], "{task} {end}");
            lab.broker.refuse_publish(None);
            lab.oracle.until(|o| o.ended().len() == 2).await;
            lab.until_idle().await;
            assert_eq!(lab.oracle.begun(), ["x", "after-x"], "{task} {end}");
            assert_eq!(lab.document("x").as_deref(), Some(end));
            assert_eq!(lab.settlements(), ["ack", "ack"], "{task} {end}");
            lab.stop(Stop::Warm).await.expect("a clean end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_again_when_its_worker_is_lost_before_what_follows_is_published() {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    lab.broker.put(&[message("x", "late", "0 followed")]);
    lab.oracle.until(|o| o.ended().len() == 1).await;
    let lab = lab.crash(config()).await;
    lab.oracle.until(|o| o.ended().len() == 3).await;
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["x", "x", "after-x"]);
    assert_eq!(lab.document("x").as_deref(), Some("followed"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_follows_outlives_a_broker_that_is_full_for_a_minute() {
    for kind in [ErrorKind::Storage, ErrorKind::Internal] {
        for (task, end) in [("late", "again"), ("late", "followed"), ("early", "again")] {
            let lab = Lab::new(config());
            lab.broker.refuse_publish(Some(kind));
            lab.broker.put(&[message("x", task, &format!("0 {end}"))]);
            lab.oracle.until(|o| o.ended().len() == 1).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(lab.settlements(), [""; 0], "{kind:?} {task} {end}");
            lab.broker.refuse_publish(None);
            lab.oracle.until(|o| o.ended().len() == 2).await;
            lab.until_idle().await;
            assert_eq!(lab.oracle.begun(), ["x", "after-x"], "{kind:?} {task} {end}");
            assert_eq!(lab.document("x").as_deref(), Some(end));
            assert_eq!(lab.broker.dead().len(), 0);
            lab.stop(Stop::Warm).await.expect("a clean end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_fails_when_the_broker_will_never_take_what_follows() {
    for end in ["followed", "again"] {
        let lab = Lab::new(config());
        lab.broker.refuse_publish(Some(ErrorKind::TooLarge));
        lab.broker.put(&[message("x", "late", &format!("0 {end}"))]);
        lab.oracle.until(|o| o.ended().len() == 1).await;
        lab.until_idle().await;
        let document = lab.document("x").expect("stored");
        assert!(
            document.contains("FAILURE") && document.contains("OperationalError"),
            "{document}"
        );
        assert_eq!((lab.settlements(), lab.oracle.begun().len()), (vec!["park"], 1));
        let dead = lab.broker.dead();
        assert_eq!(dead[0].id, "x");
        assert_eq!(dead[0].reason, "cannot publish what follows the task: refused");
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_end_that_the_worker_decided_leaves_to_publish_is_published_before_the_message_is_settled()
 {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    let mut x = message("x", "late", "0 followed");
    x.body = Bytes::from_static(br#"[[], {}, {"errbacks": [{"task": "e"}]}]"#);
    x.headers.expires = Some(wall_us() - 1);
    lab.broker.put(&[x]);
    lab.oracle.until(|o| o.ended().len() == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(lab.document("x").expect("stored at once").contains("REVOKED"));
    assert_eq!(lab.settlements(), [""; 0]);
    lab.broker.refuse_publish(None);
    lab.oracle.until(|o| o.ended().len() == 2).await;
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["x REVOKED TaskRevokedError", "after-x"]);
    assert_eq!(lab.settlements(), ["ack", "ack"]);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_must_end_gives_back_what_it_could_not_complete() {
    for (task, end, back) in [
        ("late", "followed", &["x"][..]),
        ("late", "again", &["x"]),
        // It ran, and was not to run twice.
        ("early", "followed", &[]),
        ("early", "again", &["x"]),
    ] {
        let lab = Lab::new(config());
        lab.broker.refuse_publish(Some(ErrorKind::Connection));
        lab.broker.put(&[message("x", task, &format!("0 {end}"))]);
        lab.oracle.until(|o| o.ended().len() == 1).await;
        let (broker, results) = (lab.broker.clone(), lab.results.clone());
        lab.stop(Stop::Warm).await.expect("a clean end");
        assert_eq!(broker.take_all().await, back, "{task} {end}");
        let stored = crate::result::ResultStore::get(&*results, &["x"]).expect("memory");
        assert_eq!(
            stored[0].is_none(),
            !back.is_empty(),
            "a task that runs again has no result that can be read before what follows it is published"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_nothing_will_bring_again_is_stored_while_the_broker_is_away() {
    for (end, says) in [("followed", "followed"), ("again", "the retry is lost")] {
        let lab = Lab::new(config());
        lab.broker.put(&[message("x", "early", &format!("300 {end}"))]);
        lab.oracle.until(|o| o.begun().len() == 1).await;
        while lab.settlements().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lab.broker.refuse_publish(Some(ErrorKind::Connection));
        lab.broker.set_down(true);
        lab.oracle.until(|o| o.ended().len() == 1).await;
        let results = lab.results.clone();
        lab.stop(Stop::Warm).await.expect("a clean end");
        let stored = crate::result::ResultStore::get(&*results, &["x"]).expect("memory");
        let document = String::from_utf8_lossy(stored[0].as_deref().expect("stored")).into_owned();
        assert!(document.contains(says), "{end}: {document}");
        assert_eq!(document.contains("FAILURE"), end == "again", "{document}");
    }
}
