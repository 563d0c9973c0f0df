//! Members of joins are counted however they end, and their messages are settled after that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::fake::{Lab, config, message, wall_us};
use crate::{
    clock,
    config::TaskSpec,
    error::ErrorKind,
    message::Message,
    result::{Join, Joins, Member, Record, ResultStore, State, join::CLAIM_MS},
    worker::Stop,
};

const CHORD: &[u8] = br#"[[], {}, {"chord": {"task": "body"}}]"#;

fn member(group: &str, index: i64, task: &str, script: &str) -> Message {
    let mut message = message(&format!("{group}-{index}"), task, script);
    message.body = Bytes::from_static(CHORD);
    let rare = message.headers.rare_mut();
    (rare.group, rare.group_index) = (Some(group.into()), Some(index));
    message
}

#[tokio::test(start_paused = true)]
async fn members_count_however_they_end() {
    let mut config = config();
    let ignored = TaskSpec { ignore_result: true, ..TaskSpec::default() };
    config.tasks.insert("ignored".into(), ignored);
    let lab = Lab::new(config);
    let mut expired = member("g", 6, "ignored", "0 ok");
    expired.headers.expires = Some(wall_us() - 1);
    lab.broker.put(&[
        member("g", 1, "late", "0 ok"),
        member("g", 0, "early", "0 fail"),
        member("g", 4, "early", "0 die"),
        member("g", 3, "late", "0 limit"),
        member("g", 2, "late", "0 garbled"),
        member("g", 5, "nobody", "0 ok"),
        expired,
        member("g", 7, "ignored", "0 ok"),
        // These do not.
        member("g", 8, "late", "0 retry"),
        member("g", 9, "late", "0 ignore"),
    ]);
    lab.until_figures(|f| f.depth == 0).await;
    lab.until_idle().await;
    let members = lab.results.members("g", usize::MAX).expect("memory");
    let found: Vec<(&str, &str)> =
        members.iter().map(|one| (one.id.as_str(), one.state.as_str())).collect();
    let expected = [
        ("g-0", "FAILURE"),
        ("g-1", "SUCCESS"),
        ("g-2", "FAILURE"),
        ("g-3", "FAILURE"),
        ("g-4", "FAILURE"),
        ("g-5", "FAILURE"),
        ("g-6", "REVOKED"),
        ("g-7", "SUCCESS"),
    ];
    assert_eq!(found, expected);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_no_chord_is_not_counted() {
    let lab = Lab::new(config());
    let mut plain = member("g", 0, "late", "0 ok");
    plain.body = Bytes::from_static(br#"[[], {}, {"callbacks": [{"task": "x"}], "chord": null}]"#);
    lab.broker.put(&[plain]);
    lab.until_empty().await;
    assert_eq!(lab.document("g-0").as_deref(), Some("ok"));
    assert_eq!(lab.results.members("g", usize::MAX).expect("memory"), []);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

/// A chord whose members run these scripts; its body runs `body`.
fn chord(lab: &Lab, group: &str, body: &str, scripts: &[(&str, &str)]) {
    let size = scripts.len() as u64;
    lab.results.declare(&Join { id: group.into(), size, expires_ms: None }).expect("memory");
    for (index, (task, script)) in scripts.iter().enumerate() {
        let mut member = member(group, index as i64, task, script);
        let embed = format!(r#"[[], {{}}, {{"chord": {{"task": "{body}"}}}}]"#);
        member.body = embed.into();
        lab.broker.put(&[member]);
    }
}

/// Waits until a chord is closed, letting time pass.
async fn until_closed(lab: &Lab, group: &str) {
    while !lab.results.members(group, usize::MAX).expect("memory").is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_member_has_the_body_published_and_is_settled_after_that() {
    for task in ["early", "late"] {
        let lab = Lab::new(config());
        lab.broker.refuse_publish(Some(ErrorKind::Connection));
        chord(&lab, "g", "0 ok", &[(task, "0 ok"), (task, "100 ok")]);
        lab.oracle.until(|o| o.begun().contains(&"g null null".to_owned())).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        // The long one was acknowledged when it began, if that is how it is.
        let expected = if task == "early" { 2 } else { 1 };
        assert_eq!(lab.settlements().len(), expected, "{task}");
        lab.broker.refuse_publish(None);
        until_closed(&lab, "g").await;
        lab.oracle.until(|o| o.ended().contains(&"after-g".to_owned())).await;
        lab.until_idle().await;
        assert_eq!(lab.document("after-g").as_deref(), Some("ok"));
        assert_eq!(lab.settlements(), ["ack"; 3], "{task}");
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_lost_before_the_body_is_published_leaves_it_to_the_next() {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    chord(&lab, "g", "0 ok", &[("late", "0 ok"), ("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().contains(&"g null null".to_owned())).await;
    // Its lease outlives its claim.
    let_claims_lapse();
    let lab = lab.crash(config()).await;
    lab.until_idle().await;
    let body = lab.oracle.begun().into_iter().filter(|one| one == "after-g");
    assert_eq!((body.count(), lab.document("after-g").as_deref()), (1, Some("ok")));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_while_the_broker_is_away_gives_the_join_back() {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    chord(&lab, "g", "0 ok", &[("late", "0 ok"), ("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().contains(&"g null null".to_owned())).await;
    let (broker, results) = (lab.broker.clone(), lab.results.clone());
    lab.stop(Stop::Cold).await.expect("a clean end");
    broker.refuse_publish(None);
    assert!(broker.figures().depth > 0, "the last member runs again");
    let lab = Lab::over(&broker, results, config());
    lab.until_idle().await;
    assert_eq!(lab.document("after-g").as_deref(), Some("ok"), "at once, without a lapse");
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_failed_ends_the_body_and_has_its_error_callbacks_called() {
    let lab = Lab::new(config());
    let members = [("late", "0 ok"), ("late", "0 fail"), ("early", "0 die")];
    chord(&lab, "g", "0 ok", &members);
    lab.oracle.until(|o| o.ended().iter().any(|one| one.contains("ChordError"))).await;
    until_closed(&lab, "g").await;
    let begun = lab.oracle.begun();
    assert!(begun.contains(&"g failed g-1".to_owned()), "{begun:?}");
    assert!(begun.contains(&"after-g FAILURE ChordError".to_owned()), "{begun:?}");
    assert_eq!(lab.document("after-g").as_deref(), Some("unrun"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_had_ends_as_a_failure_and_holds_up_nothing() {
    for (body, refused, why) in [
        ("garbled", None, "g lost garbled"),
        ("hostile", None, "g lost hostile"),
        ("0 ok", Some(ErrorKind::TooLarge), "g lost refused"),
    ] {
        let lab = Lab::new(config());
        lab.broker.refuse_publish(refused);
        chord(&lab, "g", body, &[("late", "0 ok")]);
        lab.oracle.until(|o| o.begun().contains(&why.to_owned())).await;
        lab.broker.refuse_publish(None);
        chord(&lab, "h", "0 ok", &[("late", "0 ok")]);
        lab.until_idle().await;
        assert_eq!(lab.document("after-h").as_deref(), Some("ok"), "{why}");
        let unrun = lab.document("after-g");
        assert_eq!(unrun.as_deref(), (body != "hostile").then_some("unrun"), "{why}");
        assert!(lab.settlements().iter().all(|how| *how == "ack"), "{why}");
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn results_over_the_limit_end_the_body_with_a_clear_error() {
    let lab = Lab::new(config());
    let long = (0..30).map(|_| ("late", "0 ok")).collect::<Vec<_>>();
    chord(&lab, "g", "0 ok", &long);
    lab.until_idle().await;
    let begun = lab.oracle.begun();
    let told = begun.iter().find(|one| one.starts_with("g lost")).expect("it is told");
    assert!(told.contains("more than `100` bytes together"), "{told}");
    assert_eq!(lab.document("after-g").as_deref(), Some("unrun"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_delays_the_body() {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    chord(&lab, "g", "0 ok", &[("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().contains(&"g null".to_owned())).await;
    lab.store.set_down(true);
    lab.broker.refuse_publish(None);
    lab.oracle.until(|o| o.begun().contains(&"after-g".to_owned())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(lab.settlements(), ["ack"], "of the body; the join is not closed");
    lab.store.set_down(false);
    lab.until_idle().await;
    assert_eq!(lab.settlements(), ["ack", "ack"]);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

/// Lets the claim of a join lapse, by the clock of the store, the machine's.
#[allow(clippy::disallowed_methods)] // what it waits for is a time of the machine's
fn let_claims_lapse() {
    let lapsed = clock::wall_ms() + CLAIM_MS as i64;
    while clock::wall_ms() <= lapsed {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A record of member `index`, as another worker that ran it once more stores it.
fn again(group: &str, index: i64) -> Record {
    Record {
        id: format!("{group}-{index}"),
        state: State::Success,
        document: Bytes::from_static(b"ok"),
        reply_to: None,
        expires_ms: None,
        member: Some(Box::new(Member::new(group, Some(index)))),
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_another_has_taken_over_is_not_published_twice() {
    for closed in [true, false] {
        let lab = Lab::new(config());
        lab.broker.refuse_publish(Some(ErrorKind::Connection));
        chord(&lab, "g", "0 ok", &[("late", "0 ok")]);
        lab.oracle.until(|o| o.begun().contains(&"g null".to_owned())).await;
        let_claims_lapse();
        let claim = lab.results.store(&[again("g", 0)]).await.expect("memory").joined.remove(0);
        if closed {
            lab.results.close(&claim).await.expect("memory");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        lab.broker.refuse_publish(None);
        lab.until_idle().await;
        assert_eq!(lab.document("after-g"), None, "it is the other's to publish");
        assert_eq!(lab.settlements(), ["ack"]);
        lab.stop(Stop::Warm).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_has_lapsed_and_is_nobody_elses_is_published() {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    chord(&lab, "g", "0 ok", &[("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().contains(&"g null".to_owned())).await;
    let_claims_lapse();
    tokio::time::sleep(Duration::from_secs(60)).await;
    lab.broker.refuse_publish(None);
    lab.oracle.until(|o| o.ended().contains(&"after-g".to_owned())).await;
    lab.until_idle().await;
    assert_eq!(lab.settlements(), ["ack", "ack"]);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_member_is_not_settled_while_another_worker_has_the_claim() {
    let lab = Lab::new(config());
    lab.results.declare(&Join { id: "g".into(), size: 1, expires_ms: None }).expect("memory");
    // A worker that has lost its lease has run it, has claimed the join, and is lost.
    assert_eq!(lab.results.store(&[again("g", 0)]).await.expect("memory").joined.len(), 1);
    let mut late = member("g", 0, "late", "0 ok");
    late.body = Bytes::from_static(br#"[[], {}, {"chord": {"task": "0 ok"}}]"#);
    lab.broker.put(&[late]);
    lab.oracle.until(|o| o.ended().len() == 1).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(lab.settlements(), [""; 0], "nobody else would know what follows");
    let_claims_lapse();
    lab.oracle.until(|o| o.begun().contains(&"g null".to_owned())).await;
    until_closed(&lab, "g").await;
    lab.until_idle().await;
    assert!(!lab.settlements().is_empty());
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_composition_that_always_finds_its_server_away_holds_up_no_other() {
    let lab = Lab::new(config());
    chord(&lab, "g", "unreachable", &[("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().iter().filter(|one| *one == "g null").count() == 3).await;
    chord(&lab, "h", "0 ok", &[("late", "0 ok")]);
    lab.oracle.until(|o| o.ended().contains(&"after-h".to_owned())).await;
    lab.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_which_the_broker_refuses_a_part_fails_as_a_whole() {
    let lab = Lab::new(config());
    lab.broker.lose_route("after-g-2");
    chord(&lab, "g", "pair", &[("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().iter().any(|one| one.starts_with("g lost"))).await;
    until_closed(&lab, "g").await;
    lab.until_idle().await;
    assert_eq!(lab.document("after-g-2").as_deref(), Some("unrun"));
    assert!(lab.document("after-g").is_some());
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_warm_stop_waits_for_the_error_callbacks_of_a_chord() {
    let lab = Lab::new(config());
    chord(&lab, "g", "0 ok", &[("late", "50 fail")]);
    lab.oracle.until(|o| o.begun().len() == 1).await;
    let oracle = Arc::clone(&lab.oracle);
    let broker = Arc::clone(&lab.broker);
    lab.stop(Stop::Warm).await.expect("a clean end");
    let begun = oracle.begun();
    assert!(begun.contains(&"after-g FAILURE ChordError".to_owned()), "{begun:?}");
    assert_eq!(broker.figures().depth, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_killed_leaves_the_error_callbacks_of_a_chord_to_another() {
    for lost in ["stop", "crash"] {
        let lab = Lab::new(config());
        // They wait behind these.
        chord(&lab, "g", "0 ok", &[("late", "0 fail")]);
        lab.broker.put(&[message("x", "early", "forever ok"), message("y", "early", "forever ok")]);
        lab.oracle.until(|o| o.begun().contains(&"g failed g-0".to_owned())).await;
        while lab.document("after-g").is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = "after-g FAILURE ChordError".to_owned();
        assert!(!lab.oracle.begun().contains(&told), "{lost}");
        let lab = if lost == "stop" {
            let (broker, results) = (Arc::clone(&lab.broker), Arc::clone(&lab.results));
            lab.stop(Stop::Cold).await.expect("a clean end");
            Lab::over(&broker, results, config())
        } else {
            let_claims_lapse();
            lab.crash(config()).await
        };
        lab.oracle.until(|o| o.begun().contains(&told)).await;
        until_closed(&lab, "g").await;
        lab.stop(Stop::Cold).await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_callbacks_of_a_chord_in_a_chord_are_called_once_each() {
    let lab = Lab::new(config());
    lab.results.declare(&Join { id: "outer".into(), size: 1, expires_ms: None }).expect("memory");
    chord(&lab, "g", "within", &[("late", "0 fail")]);
    lab.oracle.until(|o| o.ended().contains(&"after-outer FAILURE ChordError".to_owned())).await;
    until_closed(&lab, "g").await;
    until_closed(&lab, "outer").await;
    lab.until_idle().await;
    let mut begun = lab.oracle.begun();
    begun.sort();
    let told = [
        "after-g FAILURE ChordError",
        "after-outer FAILURE ChordError",
        "g failed g-0",
        "g-0",
        "outer failed after-g",
    ];
    assert_eq!(begun, told);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_cold_stop_leaves_the_error_callbacks_of_a_chord_of_early_acked_members_to_another() {
    let lab = Lab::new(config());
    chord(&lab, "g", "0 ok", &[("early", "0 fail")]);
    lab.broker.put(&[message("x", "early", "forever ok"), message("y", "early", "forever ok")]);
    while lab.document("after-g").is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let told = "after-g FAILURE ChordError".to_owned();
    assert!(!lab.oracle.begun().contains(&told));
    let (broker, results) = (Arc::clone(&lab.broker), Arc::clone(&lab.results));
    lab.stop(Stop::Cold).await.expect("a clean end");
    assert_eq!(results.members("g", usize::MAX).expect("memory"), [], "the join is closed");
    let lab = Lab::over(&broker, results, config());
    lab.oracle.until(|o| o.ended().contains(&told)).await;
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), [told]);
    assert_eq!(lab.document("after-g").as_deref(), Some("unrun"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_to_publish_a_body_outlives_the_claim() {
    let lab = Lab::new(config());
    lab.broker.refuse_publish(Some(ErrorKind::Connection));
    chord(&lab, "g", "0 ok", &[("late", "0 ok")]);
    lab.oracle.until(|o| o.begun().contains(&"g null".to_owned())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let claim = Duration::from_millis(CLAIM_MS);
    let attempts = lab.broker.attempts_to_publish();
    let (first, _) = attempts[0];
    assert!(attempts.len() > 2, "{attempts:?}");
    for (at, left) in &attempts {
        assert!(*at - first + *left <= claim, "{attempts:?}");
    }
    lab.broker.refuse_publish(None);
    lab.until_idle().await;
    assert_eq!(lab.document("after-g").as_deref(), Some("ok"));
    lab.stop(Stop::Warm).await.expect("a clean end");
}
