//! What becomes of held messages.

use bytes::Bytes;
use taskcore::{broker::QueueStats, clock::wall_ms};

use super::*;
use crate::{Harness, PATIENCE, QUIET, unique};

pub(crate) async fn ack_forgets(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 3);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 3).await;
    ack(&*worker, &got).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
    worker.release().await.unwrap();
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
}

pub(crate) async fn hand_back_keeps_order_at_the_head(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 6);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 4).await;
    ack(&*worker, &got[..1]).await;
    settle(&*worker, &got[1..], |_| Settle::HandBack).await;
    let again = take(&*worker, 5).await;
    assert_eq!(bodies(&again), numbers(1, 6));
    assert!(again.iter().all(|d| d.redeliveries == 0), "handing back is not counted");
}

pub(crate) async fn requeue_goes_to_the_tail(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 4);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 2).await;
    settle(&*worker, &got, |_| Settle::Requeue).await;
    let again = take(&*worker, 4).await;
    assert_eq!(bodies(&again), ["2", "3", "0", "1"]);
    assert!(again.iter().all(|d| d.redeliveries == 0), "rejecting is not counted");
}

pub(crate) async fn requeue_keeps_the_count(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish(&*broker, &queue, &["x"]);
    let worker = worker(&*broker, &[&queue]).await;
    settle(&*worker, &take(&*worker, 1).await, |_| Settle::Redeliver { id: "id-x".into() }).await;
    settle(&*worker, &take(&*worker, 1).await, |_| Settle::Requeue).await;
    let got = take(&*worker, 1).await;
    assert_eq!((bodies(&got), got[0].redeliveries), (vec!["x".to_owned()], 1));
    settle(&*worker, &got, |_| Settle::Redeliver { id: "id-x".into() }).await;
    assert_eq!(take(&*worker, 1).await[0].redeliveries, 2, "and counts on");
}

pub(crate) async fn redeliver_is_counted_and_parks(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish(&*broker, &queue, &["x"]);
    let worker = worker_with(&*broker, &[&queue], 3).await;
    for redeliveries in 0..3 {
        let got = take(&*worker, 1).await;
        assert_eq!(got[0].redeliveries, redeliveries);
        settle(&*worker, &got, |_| Settle::Redeliver { id: "id-x".into() }).await;
    }
    nothing(&*worker).await;
    let dead = broker.dead(&queue, 10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].id, dead[0].redeliveries), ("id-x", 3));
    assert_eq!(dead_bodies(&dead), ["x"]);
    assert!(!dead[0].reason.is_empty());
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { dead: 1, ..QueueStats::default() });
}

pub(crate) async fn redeliver_comes_before_what_is_queued(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 4);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 1).await;
    settle(&*worker, &got, |_| Settle::Redeliver { id: "id-0".into() }).await;
    let again = take(&*worker, 4).await;
    assert_eq!(bodies(&again), numbers(0, 4));
    assert_eq!(again.iter().map(|d| d.redeliveries).collect::<Vec<_>>(), [1, 0, 0, 0]);
    ack(&*worker, &again).await;
    // The count goes with the message: the same id published again starts afresh.
    publish(&*broker, &queue, &["0"]);
    assert_eq!(take(&*worker, 1).await[0].redeliveries, 0);
}

pub(crate) async fn defer_goes_to_the_due_set(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish(&*broker, &queue, &["later"]);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 1).await;
    settle(&*worker, &got, |_| Settle::Defer { id: "id-later".into(), due: wall_ms() + 3_600_000 })
        .await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { scheduled: 1, ..QueueStats::default() });
    nothing(&*worker).await;
    assert!(broker.cancel(&queue, "id-later").unwrap());
    publish(&*broker, &queue, &["now"]);
    let got = take(&*worker, 1).await;
    settle(&*worker, &got, |_| Settle::Defer { id: "id-now".into(), due: wall_ms() }).await;
    let again = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(1, 1)))
        .await
        .expect("what is due comes back")
        .unwrap();
    assert_eq!(bodies(&again), ["now"]);
    assert_eq!(again[0].redeliveries, 0);
}

pub(crate) async fn park_keeps_the_bytes(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let data = Bytes::from((0..=255_u8).collect::<Vec<_>>());
    let outgoing = message(&queue, "bad").body(data);
    let raw = outgoing.message.encode(outgoing.encoding);
    broker.publish(&[outgoing], soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    let before = wall_ms();
    let got = take(&*worker, 1).await;
    settle(&*worker, &got, |_| Settle::Park { id: "".into(), reason: "it is `bad`".into() }).await;
    let dead = broker.dead(&queue, 10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].reason, &dead[0].raw, dead[0].redeliveries), ("it is `bad`", &raw, 0));
    assert!((before..=wall_ms()).contains(&dead[0].at));
    worker.release().await.unwrap();
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { dead: 1, ..QueueStats::default() });
}

pub(crate) async fn settle_many_in_order(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 10);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 10).await;
    let how = |n: usize| match n {
        0 | 5 => Settle::HandBack,
        1 | 6 => Settle::Requeue,
        2 => Settle::Park { id: "id-2".into(), reason: "parked".into() },
        3 => Settle::Defer { id: "id-3".into(), due: wall_ms() + 3_600_000 },
        _ => Settle::Ack,
    };
    worker
        .settle(
            got.iter().enumerate().map(|(n, d)| Settlement { tag: d.tag, how: how(n) }).collect(),
        )
        .await
        .unwrap();
    assert_eq!(
        broker.stats(&queue).unwrap(),
        QueueStats { depth: 4, in_flight: 0, scheduled: 1, dead: 1 }
    );
    assert_eq!(bodies(&take(&*worker, 4).await), ["0", "5", "1", "6"]);
}

pub(crate) async fn a_tag_that_is_not_held_is_ignored(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 2);
    let (first, second) = (worker(&*broker, &[&queue]).await, worker(&*broker, &[&queue]).await);
    let at_first = take(&*first, 1).await;
    let at_second = take(&*second, 1).await;
    ack(&*first, &at_first).await;
    // Twice the same, and in every way.
    ack(&*first, &at_first).await;
    settle(&*first, &at_first, |_| Settle::Requeue).await;
    settle(&*first, &at_first, |_| Settle::HandBack).await;
    settle(&*first, &at_first, |_| Settle::Park { id: "".into(), reason: "no".into() }).await;
    settle(&*first, &at_first, |_| Settle::Redeliver { id: "id-0".into() }).await;
    settle(&*first, &at_first, |_| Settle::Defer { id: "id-0".into(), due: wall_ms() + 60_000 })
        .await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { in_flight: 1, ..QueueStats::default() });
    ack(&*second, &at_second).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
}

pub(crate) async fn a_settlement_sent_again_leaves_a_newer_claim_alone(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish(&*broker, &queue, &["x"]);
    let worker = worker_with(&*broker, &[&queue], 10).await;
    let id: Arc<str> = "id-x".into();
    for how in [
        Settle::HandBack,
        Settle::Requeue,
        Settle::Redeliver { id: id.clone() },
        Settle::Defer { id, due: wall_ms() },
    ] {
        let old = take(&*worker, 1).await;
        settle(&*worker, &old, |_| how.clone()).await;
        let new =
            tokio::time::timeout(PATIENCE, worker.fetch(Want::of(1, 1))).await.unwrap().unwrap();
        // The confirmation was lost on the way, so the worker says the same again.
        for again in [how.clone(), Settle::Ack, Settle::HandBack] {
            settle(&*worker, &old, |_| again.clone()).await;
            let held = QueueStats { in_flight: 1, ..QueueStats::default() };
            assert_eq!(broker.stats(&queue).unwrap(), held, "{how:?}, then {again:?}");
        }
        settle(&*worker, &new, |_| Settle::HandBack).await;
    }
}

pub(crate) async fn settling_wakes_another_worker(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish(&*broker, &queue, &["x"]);
    let (first, second) =
        (worker(&*h.broker(), &[&queue]).await, worker(&*h.broker(), &[&queue]).await);
    for how in [Settle::HandBack, Settle::Requeue, Settle::Redeliver { id: "id-x".into() }] {
        let held = take(&*first, 1).await;
        let mut fetch = second.fetch(Want::of(1, 0));
        assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
        settle(&*first, &held, |_| how.clone()).await;
        let got = tokio::time::timeout(PATIENCE, fetch)
            .await
            .expect("the other worker is woken")
            .unwrap();
        settle(&*second, &got, |_| Settle::HandBack).await;
    }
}
