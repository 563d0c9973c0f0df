//! What becomes of each message, seen from the broker and the result store.

use bytes::Bytes;

use super::fake::{Lab, config, message, wall_us};
use crate::{
    config::{Prefetch, TaskSpec},
    worker::Stop,
};

#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_run_once_each_in_order() {
    let lab = Lab::new(config());
    let ids: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    lab.broker.put(
        &ids.iter()
            .map(|id| message(id, if id.len() % 2 == 0 { "early" } else { "late" }, "0 ok"))
            .collect::<Vec<_>>(),
    );
    lab.until_empty().await;
    assert_eq!(lab.oracle.begun(), ids);
    assert!(ids.iter().all(|id| lab.document(id).as_deref() == Some("ok")));
    assert!(lab.settlements().iter().all(|s| *s == "ack"));
    let stats = lab.stop(Stop::Warm).await.expect("a clean end");
    assert_eq!((stats.processed, stats.succeeded, stats.failed), (1_000, 1_000, 0));
    assert!(stats.prefetch > 100, "short tasks opened the window: {}", stats.prefetch);
}

#[tokio::test(start_paused = true)]
async fn what_the_pool_gives_back_begins_in_the_order_of_the_queue() {
    let lab = Lab::new(config());
    let ends = ["10 swap", "15 swap", "5 ok", "0 ok", "0 ok", "0 ok", "0 ok", "0 ok"];
    let tasks = (0..).zip(ends).map(|(n, end): (u32, _)| message(&n.to_string(), "late", end));
    lab.broker.put(&tasks.collect::<Vec<_>>());
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn every_outcome_early_and_late() {
    // end, task -> document (None: nothing), settlements
    for (end, task, document, settlements) in [
        ("ok", "early", Some("ok"), &["ack"][..]),
        ("ok", "late", Some("ok"), &["ack"]),
        ("fail", "early", Some("fail"), &["ack"]),
        ("fail", "late", Some("fail"), &["ack"]),
        ("retry", "late", Some("retry"), &["ack"]),
        ("ignore", "late", None, &["ack"]),
        ("reject", "early", Some("reject"), &["ack"]),
        ("reject", "late", Some("reject"), &["park"]),
        ("garbled", "early", Some("DecodeError"), &["park"]),
        ("garbled", "late", Some("DecodeError"), &["park"]),
        ("die", "early", Some("WorkerLostError"), &["ack"]),
        ("die", "late", Some("WorkerLostError"), &["redeliver", "redeliver", "redeliver"]),
        ("limit", "early", Some("TimeLimitExceeded"), &["ack"]),
        ("limit", "late", Some("TimeLimitExceeded"), &["ack"]),
    ] {
        for time in ["0", "50"] {
            let lab = Lab::new(config());
            let script = format!("{time} {end}");
            // An early acknowledgement leaves at the start, so an undecodable body cannot be parked
            // any more; the pool promises not to report a start for it.
            if (end, task, time) == ("garbled", "early", "50") {
                continue;
            }
            lab.broker.put(&[message("x", task, &script)]);
            lab.oracle.until(|o| !o.begun().is_empty()).await;
            lab.until_idle().await;
            assert_eq!(lab.settlements(), settlements, "{task} {script}");
            let stored = lab.document("x");
            match document {
                Some(part) => assert!(
                    stored.as_ref().is_some_and(|d| d.contains(part)),
                    "{task} {script}: {stored:?}"
                ),
                None => assert_eq!(stored, None, "{task} {script}"),
            }
            let dead = lab.broker.dead();
            assert_eq!(
                dead.len(),
                usize::from(settlements == ["park"] || end == "die" && task == "late"),
                "{task} {script}"
            );
            lab.stop(Stop::Warm).await.expect("a clean end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_end_that_the_worker_decided_is_told_before_the_message_is_settled() {
    // end, task, links -> what the pool is told after the runs, settlements
    let linked = br#"[[], {}, {"errbacks": [{"task": "e"}]}]"#.as_slice();
    let plain = b"[[], {}, {}]".as_slice();
    let lost = &["x FAILURE WorkerLostError"][..];
    let limit = &["x FAILURE TimeLimitExceeded"][..];
    for (end, task, body, told, settlements) in [
        ("die", "early", linked, lost, &["ack"][..]),
        ("die", "early", plain, &[], &["ack"]),
        ("die", "late", linked, lost, &["redeliver", "redeliver", "redeliver"]),
        ("die", "hears", plain, lost, &["ack"]),
        ("limit", "late", linked, limit, &["ack"]),
        ("limit", "early", linked, limit, &["ack"]),
        ("expired", "early", linked, &["x REVOKED TaskRevokedError"], &["ack"]),
        ("expired", "hears", plain, &[], &["ack"]),
    ] {
        let mut config = config();
        let hears = TaskSpec { has_failure_handlers: true, ..TaskSpec::default() };
        config.tasks.insert("hears".into(), hears);
        let lab = Lab::new(config);
        let mut x = message("x", task, &format!("50 {end}"));
        x.body = Bytes::from_static(body);
        x.headers.expires = (end == "expired").then(|| wall_us() - 1);
        lab.broker.put(&[x]);
        lab.until_figures(|f| f.depth == 0).await;
        lab.until_idle().await;
        let what = format!("{end} {task} {}", String::from_utf8_lossy(body));
        let begun = lab.oracle.begun();
        let found: Vec<_> = begun.iter().filter(|id| *id != "x").collect();
        assert_eq!(found, told, "{what}");
        assert_eq!(lab.settlements(), settlements, "{what}");
        assert!(lab.document("x").is_some(), "{what}");
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_hand_back_what_has_ended() {
    let lab = Lab::new(config());
    let long: Vec<_> = (0..4).map(|n| message(&format!("long{n}"), "early", "100 ok")).collect();
    let mut x = message("x", "early", "0 ok");
    x.body = Bytes::from_static(br#"[[], {}, {"chain": [{"task": "e"}]}]"#);
    x.headers.expires = Some(wall_us() - 1);
    lab.broker.put(&long);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.broker.put(&[x]);
    // Both slots and the pool's queue are full: the telling waits in the loop.
    while lab.document("x").is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let broker = std::sync::Arc::clone(&lab.broker);
    lab.stop(Stop::Warm).await.expect("a clean end");
    assert_eq!(broker.figures().depth, 2, "only what had not begun goes back");
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_again_without_user_code_when_the_process_is_lost_that_told_of_it() {
    for task in ["early", "late"] {
        for (script, ended) in [("0 harmful", 1), ("0 deadly", 0)] {
            let lab = Lab::new(config());
            let mut x = message("x", task, script);
            x.body = Bytes::from_static(br#"[[], {}, {"chain": [{"task": "e"}]}]"#);
            x.headers.expires = Some(wall_us() - 1);
            lab.broker.put(&[x]);
            lab.until_empty().await;
            let told = ["x REVOKED TaskRevokedError", "x REVOKED TaskRevokedError again"];
            assert_eq!(lab.oracle.begun(), told, "{task} {script}");
            assert_eq!(lab.oracle.ended().len(), ended, "{task} {script}");
            assert_eq!(lab.settlements(), ["ack"], "{task} {script}");
            lab.stop(Stop::Warm).await.expect("a clean end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_requeued_task_goes_behind_the_others() {
    let lab = Lab::new(crate::config::WorkerConfig { prefetch: Prefetch::Disabled, ..config() });
    lab.broker.put(&[
        message("again", "late", "10 requeue"),
        message("other", "late", "10 ok"),
        message("last", "late", "10 ok"),
    ]);
    lab.oracle.until(|o| o.counts().get("again") == Some(&2)).await;
    assert_eq!(lab.oracle.begun(), ["again", "other", "last", "again"]);
    lab.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn an_early_ack_leaves_when_the_task_begins_and_a_late_one_after_its_end() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("e", "early", "forever ok"), message("l", "late", "forever ok")]);
    lab.until_figures(|f| f.depth == 0 && f.in_flight == 1).await;
    assert_eq!(lab.settlements(), ["ack"]);
    assert_eq!(lab.document("e"), None);
    lab.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_tracked_start_is_stored() {
    let mut config = config();
    config.tasks.insert("tracked".into(), TaskSpec { track_started: true, ..TaskSpec::default() });
    let lab = Lab::new(config);
    lab.broker.put(&[message("x", "tracked", "100 ok")]);
    lab.until_figures(|f| f.depth + f.in_flight == 0).await;
    let started = lab.document("x").expect("stored");
    assert!(started.contains("STARTED") && started.contains("w@h"), "{started}");
    lab.oracle.until(|o| !o.ended().is_empty()).await;
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn bad_messages_are_parked_with_the_reason_and_their_bytes() {
    let lab = Lab::new(config());
    let mut pickled = message("p", "early", "0 ok");
    pickled.content_type = "application/x-python-serialize".into();
    lab.broker.put_raw("", Bytes::from_static(b"{\"not\": \"a task\"}"));
    lab.broker.put_raw("", Bytes::from_static(b"\xff\xfe\x00"));
    lab.broker.put(&[pickled, message("u", "eraly", "0 ok"), message("good", "early", "0 ok")]);
    lab.oracle.until(|o| !o.ended().is_empty()).await;
    lab.until_empty().await;
    assert_eq!(lab.oracle.begun(), ["good"]);
    let mut dead = lab.broker.dead();
    dead.reverse();
    let reasons: Vec<&str> = dead.iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(dead.len(), 4, "{reasons:?}");
    assert!(
        reasons[0].contains("cannot be decoded") && reasons[1].contains("cannot be decoded"),
        "{reasons:?}"
    );
    assert!(
        reasons[2].contains("`application/x-python-serialize`")
            && reasons[2].contains("`application/json`"),
        "{reasons:?}"
    );
    assert!(
        reasons[3].contains("`eraly`") && reasons[3].contains("did you mean `early`?"),
        "{reasons:?}"
    );
    assert_eq!(dead[1].raw, Bytes::from_static(b"\xff\xfe\x00"));
    assert!(lab.document("u").expect("stored").contains("NotRegistered"));
    assert!(lab.document("p").expect("stored").contains("ContentDisallowed"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn what_expired_is_revoked_at_receipt_and_before_it_begins() {
    let lab = Lab::new(config());
    let mut late = message("late", "early", "0 ok");
    late.headers.expires = Some(wall_us() - 1);
    let mut waits = message("waits", "early", "0 ok");
    waits.headers.expires = Some(wall_us() + 50_000);
    let mut quick = message("quick", "early", "0 ok");
    quick.headers.expires = Some(wall_us() + 60_000_000);
    // Four long ones fill the pool's slots and its queue, so that `waits` waits in the loop.
    let long: Vec<_> = (0..4).map(|n| message(&format!("long{n}"), "early", "100 ok")).collect();
    lab.broker.put(&[late]);
    lab.broker.put(&long);
    lab.broker.put(&[waits, quick]);
    lab.oracle.until(|o| o.ended().len() == 5).await;
    lab.until_empty().await;
    assert_eq!(lab.oracle.begun(), ["long0", "long1", "long2", "long3", "quick"]);
    for id in ["late", "waits"] {
        let document = lab.document(id).expect("stored");
        assert!(
            document.contains("REVOKED")
                && document.contains("TaskRevokedError")
                && document.contains("expired"),
            "{document}"
        );
    }
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_celery_message_crosses_compact() {
    let lab = Lab::new(config());
    let mut foreign = message("c", "early", "0 ok");
    foreign.headers.rare_mut().lang = Some("py".into()); // written as Celery's envelope by the fake
    lab.broker.put(&[foreign]);
    lab.oracle.until(|o| !o.ended().is_empty()).await;
    lab.until_empty().await;
    assert_eq!(lab.document("c").as_deref(), Some("ok"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}
