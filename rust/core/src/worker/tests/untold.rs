//! Whoever waits for what was to follow a task learns of its end, although the worker that ended it
//! cannot tell: another does, and does not run the task.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::fake::{Flaky, Lab, config, message, wall_us};
use crate::{
    config::TaskSpec,
    message::{Encoding, Message},
    worker::{Command, Stop},
};

/// A message that others wait for.
fn followed(id: &str, task: &str, script: &str) -> Message {
    let mut message = message(id, task, script);
    message.body = Bytes::from_static(br#"[[], {}, {"chain": [{"task": "e"}]}]"#);
    message
}

/// A worker whose slots are taken for long.
async fn full(broker: Arc<Flaky>) -> Lab {
    let lab = Lab::on(broker, config());
    lab.broker.put(&[message("long0", "late", "20000 ok"), message("long1", "late", "20000 ok")]);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab
}

async fn until_stored(lab: &Lab, id: &str) {
    while lab.document(id).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a worker does that gets what a first one has left in the queue, until nothing is there.
async fn left_to_another(broker: &Flaky, lab: Lab) -> (Vec<String>, Option<String>) {
    let results = Arc::clone(&lab.results);
    lab.stop(Stop::Cold).await.expect("a clean end");
    let before = crate::result::ResultStore::get(&*results, &["x"]).expect("memory");
    let next = Lab::over(broker, results, config());
    let is_told = |id: &String| id.starts_with("x ");
    next.oracle.until(|o| o.ended().iter().any(is_told)).await;
    next.until_empty().await;
    let begun = next.oracle.begun().into_iter().filter(|id| !id.starts_with("long")).collect();
    let after = next.document("x");
    assert_eq!(before[0].as_deref(), after.as_deref().map(str::as_bytes), "it is not stored again");
    next.stop(Stop::Cold).await.expect("a clean end");
    (begun, after)
}

#[tokio::test(start_paused = true)]
async fn a_cold_stop_leaves_the_followers_of_what_it_kills_to_another_worker() {
    let lab = Lab::new(config());
    lab.broker.put(&[followed("x", "early", "forever ok")]);
    lab.oracle.until(|o| o.begun().len() == 1).await;
    let broker = Arc::clone(&lab.broker);
    let (begun, document) = left_to_another(&broker, lab).await;
    assert_eq!(begun, ["x FAILURE WorkerLostError"]);
    assert!(document.expect("stored").contains("WorkerLostError"));
    assert!(broker.dead().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cold_stop_does_not_run_again_what_has_ended_and_waits_to_be_told() {
    for task in ["early", "late"] {
        for (how, state) in [
            ("limit", "FAILURE TimeLimitExceeded"),
            ("expired", "REVOKED TaskRevokedError"),
            ("revoked", "REVOKED TaskRevokedError"),
        ] {
            let lab = Lab::new(config());
            let broker = Arc::clone(&lab.broker);
            if how == "limit" {
                let long = [
                    message("long0", "late", "20000 ok"),
                    followed("x", task, "50 limit"),
                    message("long1", "late", "20000 ok"),
                    message("long2", "late", "20000 ok"),
                    message("long3", "late", "20000 ok"),
                ];
                broker.put(&long);
            } else {
                let mut x = followed("x", task, "0 ok");
                x.headers.expires = (how == "expired").then(|| wall_us() - 1);
                let full = (0..4).map(|n| message(&format!("long{n}"), "late", "20000 ok"));
                broker.put(&full.collect::<Vec<_>>());
                lab.oracle.until(|o| o.begun().len() == 2).await;
                broker.put(&[x]);
            }
            if how == "revoked" {
                let ids = vec!["x".into()];
                let revoke = |reply| Command::Revoke { ids, terminate: None, reply };
                lab.handle.ask(revoke).await.expect("done");
            }
            until_stored(&lab, "x").await;
            let what = format!("{how} {task}");
            assert!(!lab.oracle.begun().contains(&format!("x {state}")), "{what}");
            let (begun, document) = left_to_another(&broker, lab).await;
            assert_eq!(begun, [format!("x {state}")], "{what}");
            assert!(document.expect("stored").contains(&state[..7]), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_is_parked_by_a_cold_stop_and_its_followers_told_by_another() {
    let lab = full(Flaky::new()).await;
    let broker = Arc::clone(&lab.broker);
    let queued = [message("long2", "late", "20000 ok"), message("long3", "late", "20000 ok")];
    broker.put(&queued);
    broker.put(&[followed("x", "nobody", "0 ok")]);
    until_stored(&lab, "x").await;
    let (begun, _) = left_to_another(&broker, lab).await;
    assert_eq!(begun, ["x FAILURE NotRegistered"]);
    let dead = broker.dead();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].raw, followed("x", "nobody", "0 ok").encode(Encoding::Compact), "as it was");
}

#[tokio::test(start_paused = true)]
async fn a_second_cold_stop_leaves_it_to_a_third_worker() {
    let lab = Lab::new(config());
    lab.broker.put(&[followed("x", "early", "forever ok")]);
    lab.oracle.until(|o| o.begun().len() == 1).await;
    let (broker, results) = (Arc::clone(&lab.broker), Arc::clone(&lab.results));
    lab.stop(Stop::Cold).await.expect("a clean end");
    let second = Lab::over(&broker, results, config());
    second.oracle.until(|o| o.begun().len() == 1).await;
    let told = "x FAILURE WorkerLostError".to_owned();
    assert_eq!((second.oracle.begun(), second.oracle.ended().len()), (vec![told.clone()], 0));
    let third = Lab::beside(&second, config());
    second.stop(Stop::Cold).await.expect("a clean end");
    third.oracle.until(|o| o.ended().contains(&told)).await;
    third.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_once_more_when_the_call_that_told_of_it_was_killed_beside_another() {
    for task in ["early", "late"] {
        let lab = Lab::new(config());
        let mut x = followed("x", task, "0 beside");
        x.headers.expires = Some(wall_us() - 1);
        lab.broker.put(&[x]);
        lab.oracle.until(|o| o.ended().len() == 1).await;
        lab.until_empty().await;
        assert_eq!(lab.oracle.begun(), ["x REVOKED TaskRevokedError"; 2], "{task}");
        assert_eq!(lab.settlements(), ["ack"], "{task}");
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_does_not_keep_the_end_of_an_acknowledged_task_from_being_told() {
    let mut config = config();
    let short = TaskSpec { acks_late: false, ..TaskSpec::default() };
    config.tasks.insert("short".into(), short);
    let lab = Lab::new(config);
    let long = |n: usize, time: &str| message(&format!("long{n}"), "early", &format!("{time} ok"));
    lab.broker.put(&[
        long(0, "20000"),
        followed("x", "short", "50 limit"),
        long(1, "20000"),
        long(2, "20000"),
        long(3, "20000"),
    ]);
    until_stored(&lab, "x").await;
    lab.broker.fence().await;
    let told = "x FAILURE TimeLimitExceeded".to_owned();
    lab.oracle.until(|o| o.ended().contains(&told)).await;
    lab.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_looks_like_the_end_of_a_task_and_is_none_is_not_told() {
    for forged in [
        "",
        "FAILURE",
        "{}",
        r#"{"state": "SUCCESS", "exc_type": "X", "exc_message": [], "exc_module": "celery.exceptions"}"#,
        r#"{"state": "FAILURE", "exc_type": "X", "exc_message": [], "exc_module": "subprocess"}"#,
    ] {
        for expires in [None, Some(0)] {
            let lab = Lab::new(config());
            let mut x = followed("x", "late", "0 ok");
            x.headers.expires = expires;
            x.headers.rare_mut().extra.insert("ended".into(), forged.into());
            lab.broker.put(&[x]);
            lab.oracle.until(|o| o.ended().len() == 1).await;
            let expected = if expires.is_some() { "x REVOKED TaskRevokedError" } else { "x" };
            assert_eq!(lab.oracle.begun(), [expected], "{forged}");
            lab.stop(Stop::Warm).await.expect("a clean end");
        }
    }
}
