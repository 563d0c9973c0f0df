//! What a running worker is asked, and what it answers.

use std::{sync::Arc, time::Duration};

use super::fake::{Lab, config, message, wall_us};
use crate::{
    config::TaskSpec,
    error::{ErrorKind, Result},
    worker::{
        Command, Stop,
        command::{Limits, Report, RevokeAnswer},
    },
};

async fn revoke(lab: &Lab, ids: &[&str], terminate: Option<i32>) -> Result<RevokeAnswer> {
    let ids: Vec<Arc<str>> = ids.iter().copied().map(Arc::from).collect();
    lab.handle.ask(|reply| Command::Revoke { ids, terminate, reply }).await
}

async fn report(lab: &Lab) -> Report {
    lab.handle.ask(|reply| Command::Report { reply }).await.expect("a report")
}

async fn revoked(lab: &Lab) -> Vec<Arc<str>> {
    lab.handle.ask(|reply| Command::Revoked { reply }).await.expect("ids")
}

fn ids(held: &[crate::worker::command::Held]) -> Vec<&str> {
    held.iter().map(|one| one.id.as_str()).collect()
}

/// Two run, two wait at the pool, two are ready, one is held and one limited.
async fn busy() -> Lab {
    let mut config = config();
    let limited = TaskSpec { rate_limit: Some(0.6), acks_late: true, ..TaskSpec::default() };
    config.tasks.insert("limited".into(), limited);
    let lab = Lab::new(config);
    let mut held = message("held", "late", "0 ok");
    held.headers.eta = Some(wall_us() + 1_900_000);
    lab.broker.put(&[
        message("first", "limited", "0 ok"),
        message("early", "early", "forever ok"),
        message("late", "late", "forever ok"),
        held,
        message("pool1", "early", "0 ok"),
        message("limited", "limited", "0 ok"),
        message("pool2", "late", "0 ok"),
        message("ready1", "early", "0 ok"),
        message("ready2", "late", "0 ok"),
    ]);
    lab.oracle.until(|o| o.begun().len() == 3).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(lab.broker.figures().depth, 0, "all is claimed");
    lab
}

#[tokio::test(start_paused = true)]
async fn a_report_tells_where_everything_is() {
    let lab = busy().await;
    let report = report(&lab).await;
    assert_eq!(ids(&report.active), ["early", "late"]);
    assert_eq!(ids(&report.scheduled), ["held"]);
    assert_eq!(ids(&report.reserved).len(), 5);
    let early = &report.active[0];
    assert_eq!(
        (early.pid, early.acked, &*early.task, &*early.queue),
        (Some(7), true, "early", "q")
    );
    let ago = wall_us().div_euclid(1_000) - early.started.expect("it runs");
    assert!((0..=100).contains(&ago), "{ago}");
    assert_eq!(report.rate_limits, [("limited".into(), 0.6)]);
    assert_eq!((report.slots, report.queues, report.stats.active), (2, vec!["q".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_dropped_wherever_it_is_and_what_runs_goes_on() {
    let lab = busy().await;
    let waiting = ["held", "limited", "pool1", "pool2", "ready1", "ready2"];
    let mut all = waiting.to_vec();
    all.extend(["early", "unknown"]);
    let answer = revoke(&lab, &all, None).await.expect("done");
    let mut dropped = answer.dropped;
    dropped.sort();
    assert_eq!(dropped, waiting);
    assert_eq!((answer.running, answer.terminated), (vec!["early".to_owned()], vec![]));
    tokio::time::sleep(Duration::from_secs(3)).await;
    for id in waiting {
        let document = lab.document(id).expect("stored");
        assert!(document.contains("REVOKED") && document.contains("revoked"), "{document}");
    }
    assert_eq!(lab.oracle.begun().len(), 3, "none of them ran: {:?}", lab.oracle.begun());
    assert_eq!(lab.broker.figures().in_flight, 1, "all but `late` are acknowledged");
    let report = report(&lab).await;
    assert_eq!((ids(&report.active), report.reserved.len()), (vec!["early", "late"], 0));
    assert_eq!((report.scheduled.len(), report.stats.revoked), (0, 6));
    assert_eq!(revoked(&lab).await.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_is_dropped_when_it_comes() {
    let lab = Lab::new(config());
    revoke(&lab, &["a", "b"], None).await.expect("done");
    lab.broker.put(&[
        message("a", "late", "0 ok"),
        message("c", "late", "0 ok"),
        message("b", "missing", "0 ok"),
    ]);
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["c"]);
    assert!(lab.document("a").expect("stored").contains("TaskRevokedError"));
    assert_eq!(lab.broker.dead().len(), 1, "a task that is unknown here may be known elsewhere");
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_killed_when_a_signal_says_so_and_never_again_delivered() {
    for task in ["early", "late"] {
        let lab = Lab::new(config());
        lab.broker.put(&[message("a", task, "forever ok"), message("b", task, "30 ok")]);
        lab.oracle.until(|o| o.begun().len() == 2).await;
        let answer = revoke(&lab, &["a"], Some(15)).await.expect("done");
        assert_eq!(answer.terminated, ["a"]);
        lab.until_idle().await;
        let document = lab.document("a").expect("stored");
        assert!(document.contains("REVOKED") && document.contains("terminated"), "{document}");
        assert_eq!((lab.oracle.begun().len(), lab.broker.take_all().await.len()), (2, 0));
        let stats = lab.stop(Stop::Warm).await.expect("a clean end");
        assert_eq!((stats.processed, stats.revoked, stats.failed), (2, 1, 0), "{task}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_the_pool_refuses_revokes_nothing() {
    let lab = Lab::new(config());
    let error = revoke(&lab, &["a"], Some(libc::SIGSTOP)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(revoked(&lab).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_from_now_on_and_none_releases_what_waits() {
    let lab = busy().await;
    let limit = |per_second| {
        let task = "limited".to_owned();
        lab.handle.ask(move |reply| Command::RateLimit { task, per_second, reply })
    };
    revoke(&lab, &["early", "late"], Some(9)).await.expect("done");
    assert_eq!(limit(None).await.expect("done"), Some(0.6));
    lab.oracle.until(|o| o.ended().contains(&"limited".to_owned())).await;
    assert_eq!(limit(Some(1.0)).await.expect("done"), None);
    assert_eq!(report(&lab).await.rate_limits, [("limited".into(), 1.0)]);
    lab.broker.put(&[message("x", "limited", "0 ok"), message("y", "limited", "0 ok")]);
    lab.oracle.until(|o| o.ended().contains(&"y".to_owned())).await;
    let times = lab.oracle.times();
    assert!(times[times.len() - 1] - times[times.len() - 2] >= Duration::from_millis(990));
    let error = limit(Some(-1.0)).await.expect_err("refused").to_string();
    assert!(error.starts_with("rate limit `-1` per second, expected 0 or more"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn limits_of_time_hold_for_what_has_not_begun() {
    let lab = Lab::new(config());
    let mut own = message("own", "late", "0 ok");
    own.headers.timelimit.hard = Some(9.0);
    lab.broker.put(&[
        message("1", "late", "500 ok"),
        message("2", "late", "500 ok"),
        message("3", "late", "0 ok"),
        own,
    ]);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let limits = Limits { soft_us: Some(1_000_000), hard_us: Some(2_000_000) };
    let set = |task: &str, limits| {
        let task = task.to_owned();
        lab.handle.ask(move |reply| Command::TimeLimit { task, limits, reply })
    };
    assert_eq!(set("late", limits).await.expect("done"), Limits::default());
    assert_eq!(set("late", limits).await.expect("done"), limits);
    lab.until_idle().await;
    let limits = lab.oracle.limits();
    let expected = [
        ("1", None, None),
        ("2", None, None),
        ("3", Some(1_000_000), Some(2_000_000)),
        ("own", Some(1_000_000), Some(9_000_000)),
    ];
    for (id, soft, hard) in expected {
        assert_eq!(limits[id], (soft, hard), "{id}");
    }
    let error = set("lat", Limits::default()).await.expect_err("unknown").to_string();
    assert!(error.contains("did you mean `late`?"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_pool_grows_and_shrinks_and_the_window_follows() {
    let lab = Lab::new(config());
    let grow = |by| lab.handle.ask(move |reply| Command::Grow { by, reply });
    let shrink = |by| lab.handle.ask(move |reply| Command::Shrink { by, reply });
    assert_eq!(grow(3).await.expect("done"), 5);
    assert_eq!(report(&lab).await.stats.prefetch, 20);
    let messages: Vec<_> = (0..6).map(|n| message(&n.to_string(), "late", "100 ok")).collect();
    lab.broker.put(&messages);
    lab.oracle.until(|o| o.begun().len() == 5).await;
    assert_eq!(shrink(4).await.expect("done"), 1);
    assert_eq!(report(&lab).await.stats.prefetch, 4);
    lab.until_idle().await;
    let error = shrink(1).await.expect_err("refused").to_string();
    assert!(error.starts_with("cannot shrink a pool of `1` by `1`, expected"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_worker_that_stops_or_has_ended_is_told() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("1", "late", "500 ok")]);
    lab.oracle.until(|o| o.begun().len() == 1).await;
    let handle = lab.handle.clone();
    handle.stop(Stop::Warm);
    let error = handle.ask(|reply| Command::Grow { by: 1, reply }).await.expect_err("stopping");
    assert!(error.to_string().starts_with("the worker `w@h` is stopping"), "{error}");
    lab.end().await.expect("a clean end");
    let error = handle.ask(|reply| Command::Report { reply }).await.expect_err("ended");
    assert!(error.to_string().starts_with("the worker has ended"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn queues_come_and_go_while_what_is_held_goes_on() {
    let lab = Lab::new(config());
    let consume = |queue: &str| {
        let queue = queue.into();
        lab.handle.ask(move |reply| Command::Consume { queue, reply })
    };
    let cancel = |queue: &str| {
        let queue = queue.into();
        lab.handle.ask(move |reply| Command::Cancel { queue, reply })
    };
    lab.broker.put_in("other", &message("other", "late", "0 ok"));
    lab.broker.put(&[
        message("1", "late", "300 ok"),
        message("2", "late", "300 ok"),
        message("3", "late", "300 ok"),
    ]);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    assert_eq!(consume("other").await.expect("done").concat(), "qother");
    assert_eq!(consume("other").await.expect("done").len(), 2, "it is one of them already");
    assert_eq!(cancel("q").await.expect("done").concat(), "other");
    lab.broker.put(&[message("4", "late", "0 ok")]);
    lab.oracle.until(|o| o.ended().len() == 4).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut ended = lab.oracle.ended();
    ended.sort();
    assert_eq!(ended, ["1", "2", "3", "other"], "what was in hand has run, once");
    assert_eq!(lab.oracle.begun().len(), 4);
    let figures = lab.broker.figures();
    assert_eq!((figures.depth, figures.in_flight), (1, 0), "`4` waits, the rest is acknowledged");
    let error = cancel("q").await.expect_err("refused").to_string();
    assert_eq!(error, "queue `q` is not consumed here, expected one that is: `other`");
    // Without a queue it claims nothing, and goes on when it has one.
    assert!(cancel("other").await.expect("done").is_empty());
    lab.broker.put_in("other", &message("5", "late", "0 ok"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(lab.oracle.begun().len(), 4);
    consume("q").await.expect("done");
    lab.oracle.until(|o| o.ended().contains(&"4".to_owned())).await;
    assert_eq!(lab.oracle.begun().len(), 5);
    assert_eq!(report(&lab).await.queues.concat(), "q");
}

#[tokio::test(start_paused = true)]
async fn queues_change_while_the_broker_is_away() {
    let lab = Lab::new(config());
    lab.broker.put(&[message("1", "late", "100 ok")]);
    lab.oracle.until(|o| o.begun().len() == 1).await;
    lab.broker.set_down(true);
    lab.broker.put_in("other", &message("2", "late", "0 ok"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let queue = "other".into();
    lab.handle.ask(|reply| Command::Consume { queue, reply }).await.expect("done");
    lab.broker.set_down(false);
    lab.oracle.until(|o| o.ended().len() == 2).await;
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_said_to_be_dropped_does_not_run_however_many_are_revoked_with_it() {
    let lab = Lab::new(config());
    let ids = ["run1", "run2", "pool1", "pool2"];
    lab.broker.put(&ids.map(|id| message(id, "late", "5000 ok")));
    lab.oracle.until(|o| o.begun().len() == 2).await;
    let mut revoked: Vec<Arc<str>> = vec!["pool1".into()];
    revoked
        .extend((0..=crate::config::Revokes::default().most).map(|n| format!("other{n}").into()));
    let ask = |reply| Command::Revoke { ids: revoked, terminate: None, reply };
    let answer = lab.handle.ask(ask).await.expect("an answer");
    assert_eq!(answer.dropped, ["pool1"]);
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["run1", "run2", "pool2"]);
    lab.stop(Stop::Cold).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_before_it_is_known_what_was_revoked() {
    let mut config = config();
    config.awaits_revoked = true;
    let lab = Lab::new(config);
    lab.broker.put(&[message("gone", "early", "0 ok"), message("kept", "early", "0 ok")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(lab.broker.figures().depth, 2);
    lab.handle.send(Command::Remember { ids: vec!["gone".into()] });
    lab.until_idle().await;
    assert_eq!(lab.oracle.begun(), ["kept"]);
    assert!(lab.document("gone").expect("stored").contains("TaskRevokedError"));
}

#[tokio::test(start_paused = true)]
async fn the_callbacks_of_what_was_revoked_are_told_however_often_it_is_revoked() {
    let lab = Lab::new(config());
    let long: Vec<_> = (0..4).map(|n| message(&format!("long{n}"), "early", "100 ok")).collect();
    let mut x = message("x", "early", "0 followed");
    x.body = (&br#"[[], {}, {"chain": [{"task": "e"}]}]"#[..]).into();
    x.headers.rare_mut().stamps.insert("colour".into(), "red".into());
    lab.broker.put(&long);
    lab.oracle.until(|o| o.begun().len() == 2).await;
    lab.broker.put(&[x]);
    lab.until_figures(|f| f.depth == 0).await;
    let nothing = RevokeAnswer::default();
    let stamped = || {
        let stamps = vec![("colour".to_owned(), vec!["red".into()])];
        let terminate = Some(libc::SIGTERM);
        lab.handle.ask(move |reply| Command::RevokeByStamps { stamps, terminate, reply })
    };
    assert_eq!(revoke(&lab, &["x"], None).await.expect("revoked").dropped, ["x"]);
    // It has ended, and waits until the pool has room to tell its callbacks.
    assert_eq!(revoke(&lab, &["x"], None).await.expect("revoked"), nothing);
    assert_eq!(stamped().await.expect("revoked").tasks, nothing);
    lab.oracle.until(|o| o.begun().contains(&"x REVOKED TaskRevokedError".to_owned())).await;
    // Now a child tells them.
    assert_eq!(revoke(&lab, &["x"], Some(libc::SIGTERM)).await.expect("revoked"), nothing);
    let answer = stamped().await.expect("revoked");
    assert_eq!((answer.tasks, answer.terminated), (nothing, Vec::new()));
    lab.oracle.until(|o| o.begun().contains(&"after-x".to_owned())).await;
    lab.stop(Stop::Warm).await.expect("a clean end");
}
