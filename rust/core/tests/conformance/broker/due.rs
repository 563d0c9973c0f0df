//! The due set: what is scheduled stays in the broker until it is nearly due.

use bytes::Bytes;
use taskcore::{
    broker::{HORIZON_MS, QueueStats},
    clock::{Millis, wall_ms},
    message::JSON,
};

use super::*;
use crate::{Harness, PATIENCE, QUIET, unique};

fn scheduled(queue: &Arc<str>, body: &str, due: Millis) -> Outgoing {
    message(queue, body).due(due)
}

pub(crate) async fn far_due_is_not_delivered(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    broker.publish(&[scheduled(&queue, "far", wall_ms() + 3_600_000)], soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    nothing(&*worker).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { scheduled: 1, ..QueueStats::default() });
}

pub(crate) async fn near_due_is_in_the_queue(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let now = wall_ms();
    broker
        .publish(
            &[scheduled(&queue, "near", now + 500), scheduled(&queue, "past", now - 60_000)],
            soon(),
        )
        .unwrap();
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { depth: 2, ..QueueStats::default() });
    let worker = worker(&*broker, &[&queue]).await;
    assert_eq!(bodies(&take(&*worker, 2).await), ["near", "past"]);
}

pub(crate) async fn due_is_delivered_within_the_horizon(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = worker(&*h.broker(), &[&queue]).await;
    let due = wall_ms() + HORIZON_MS + 700;
    broker.publish(&[scheduled(&queue, "soon", due)], soon()).unwrap();
    let got = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, 10)))
        .await
        .expect("it comes due")
        .unwrap();
    let now = wall_ms();
    assert_eq!(bodies(&got), ["soon"]);
    assert!(now >= due - HORIZON_MS, "claimed {} ms before the horizon", due - HORIZON_MS - now);
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { in_flight: 1, ..QueueStats::default() });
    // Handed back before it was due it waits in the queue; the next worker's heap holds it for the
    // rest.
    settle(&*worker, &got, |_| Settle::HandBack).await;
    assert_eq!(broker.stats(&queue).unwrap().depth, 1);
}

pub(crate) async fn due_wakes_a_blocked_fetch(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = worker(&*h.broker(), &[&queue]).await;
    let mut fetch = worker.fetch(Want::of(10, 10));
    assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
    let now = wall_ms();
    let batch = [
        scheduled(&queue, "far", now + 3_600_000),
        scheduled(&queue, "soon", now + HORIZON_MS + 300),
    ];
    broker.publish(&batch, soon()).unwrap();
    let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it comes due").unwrap();
    assert_eq!(bodies(&got), ["soon"]);
}

pub(crate) async fn scheduled_ones_cost_no_fetch(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let due = wall_ms() + 3_600_000;
    let batch: Vec<_> = (0..10_000).map(|n| scheduled(&queue, &n.to_string(), due + n)).collect();
    broker.publish(&batch, soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    nothing(&*worker).await;
    publish(&*broker, &queue, &["now"]);
    let got = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(100, 100)))
        .await
        .expect("ready ones pass by")
        .unwrap();
    assert_eq!(bodies(&got), ["now"]);
    assert_eq!(
        broker.stats(&queue).unwrap(),
        QueueStats { in_flight: 1, scheduled: 10_000, ..QueueStats::default() }
    );
}

pub(crate) async fn due_order(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let soonest = wall_ms() + HORIZON_MS + 300;
    let batch: Vec<_> = [("c", 20), ("a", 0), ("d", 30), ("b", 10)]
        .map(|(b, ms)| scheduled(&queue, b, soonest + ms))
        .into();
    broker.publish(&batch, soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    let mut got = Vec::new();
    while got.len() < 4 {
        let fetch = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, 2)));
        let mut part = bodies(&fetch.await.expect("they come due").unwrap());
        // Those of one fetch come in any order: the worker's heap sorts them.
        part.sort_unstable();
        got.extend(part);
    }
    assert_eq!(got, ["a", "b", "c", "d"]);
}

pub(crate) async fn ready_only_and_due_only(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = worker(&*broker, &[&queue]).await;
    publish(&*broker, &queue, &["one", "two"]);
    let held = take(&*worker, 2).await;
    settle(&*worker, &held[..1], |_| Settle::Defer { id: "id-one".into(), due: wall_ms() + 1_900 })
        .await;
    settle(&*worker, &held[1..], |_| Settle::HandBack).await;
    let ready = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(5, 0)))
        .await
        .expect("one is ready")
        .unwrap();
    assert_eq!(bodies(&ready), ["two"]);
    assert!(
        tokio::time::timeout(QUIET, worker.fetch(Want::of(5, 0))).await.is_err(),
        "no due one was asked for"
    );
    settle(&*worker, &ready, |_| Settle::HandBack).await;
    let due = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, 5)))
        .await
        .expect("one is due")
        .unwrap();
    assert_eq!(bodies(&due), ["one"]);
    assert!(
        tokio::time::timeout(QUIET, worker.fetch(Want::of(0, 5))).await.is_err(),
        "no ready one was asked for"
    );
}

pub(crate) async fn what_is_put_back_overdue_is_the_next_to_be_claimed(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let first = worker(&*broker, &[&queue]).await;
    publish_numbers(&*broker, &queue, 6);
    let held = take(&*first, 6).await;
    settle(&*first, &held[2..], |_| Settle::HandBack).await;
    // Put back in two batches, in the order of their due times.
    let past = wall_ms() - 1_000;
    for (n, one) in held[..2].iter().enumerate() {
        let due = past + n as Millis;
        settle(&*first, std::slice::from_ref(one), |_| Settle::Defer { id: "x".into(), due }).await;
    }
    let second = worker(&*h.broker(), &[&queue]).await;
    let got =
        tokio::time::timeout(PATIENCE, second.fetch(Want::of(1, 0))).await.expect("one").unwrap();
    assert_eq!(bodies(&got), ["0"], "within what is wanted, ahead of what was never scheduled");
    assert_eq!(bodies(&take(&*second, 3).await), ["1", "2", "3"]);
    assert_eq!(bodies(&take(&*first, 2).await), ["4", "5"]);
}

pub(crate) async fn what_is_put_back_overdue_wakes_another_worker(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let busy = worker(&*broker, &[&queue]).await;
    publish(&*broker, &queue, &["x"]);
    let held = take(&*busy, 1).await;
    let idle = worker(&*h.broker(), &[&queue]).await;
    let mut fetch = idle.fetch(Want::of(1, 0));
    assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
    settle(&*busy, &held, |_| Settle::Defer { id: "x".into(), due: wall_ms() - 1 }).await;
    let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it is woken").unwrap();
    assert_eq!(bodies(&got), ["x"]);
}

pub(crate) async fn cancel_by_id(h: &impl Harness) {
    let (broker, queue, other) = (h.broker(), unique("q"), unique("other"));
    let due = wall_ms() + 3_600_000;
    let batch: Vec<_> = ["a", "b", "c"].map(|b| scheduled(&queue, b, due)).into();
    broker.publish(&batch, soon()).unwrap();
    publish(&*broker, &queue, &["ready"]);
    assert!(broker.cancel(&queue, "id-b").unwrap());
    assert!(!broker.cancel(&queue, "id-b").unwrap(), "it is gone");
    assert!(!broker.cancel(&queue, "id-ready").unwrap(), "it is not scheduled");
    assert!(!broker.cancel(&other, "id-a").unwrap(), "another queue");
    assert_eq!(
        broker.stats(&queue).unwrap(),
        QueueStats { depth: 1, scheduled: 2, ..QueueStats::default() }
    );
}

pub(crate) async fn what_others_wait_for_comes_marked_when_it_is_cancelled(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let due = wall_ms() + 3_600_000;
    let task = |name: &str, embed: &str| {
        let mut outgoing = scheduled(&queue, name, due);
        outgoing.message.content_type = JSON.into();
        outgoing.body(format!("[[], {{}}, {{{embed}}}]"))
    };
    let chain = r#""chain": [{"task": "proj.next"}]"#;
    let batch = [task("alone", r#""chain": null"#), task("followed", chain), task("other", chain)];
    broker.publish(&batch, soon()).unwrap();
    for name in ["alone", "followed"] {
        assert!(broker.cancel(&queue, &format!("id-{name}")).unwrap());
        assert!(!broker.cancel(&queue, &format!("id-{name}")).unwrap(), "it is scheduled no more");
    }
    let expected = QueueStats { depth: 1, scheduled: 1, ..QueueStats::default() };
    assert_eq!(broker.stats(&queue).unwrap(), expected);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 1).await.remove(0).message().unwrap();
    assert_eq!(got.headers.id, "id-followed");
    assert!(got.is_revoked());
    assert_eq!((got.headers.eta, got.body), (None, batch[1].message.body.clone()));
}

pub(crate) async fn cancelling_wakes_a_blocked_fetch(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let mut outgoing = scheduled(&queue, "followed", wall_ms() + 3_600_000);
    outgoing.message.content_type = JSON.into();
    let outgoing = outgoing.body(r#"[[], {}, {"errbacks": [{"task": "proj.told"}]}]"#);
    broker.publish(&[outgoing], soon()).unwrap();
    let worker = worker(&*h.broker(), &[&queue]).await;
    let mut fetch = worker.fetch(Want::of(1, 0));
    assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
    assert!(broker.cancel(&queue, "id-followed").unwrap());
    let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it is woken").unwrap();
    assert!(got[0].message().unwrap().is_revoked());
}

pub(crate) async fn due_bytes_are_untouched(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let data = Bytes::from((0..=255_u8).cycle().take(100_000).collect::<Vec<_>>());
    let outgoing = scheduled(&queue, "big", wall_ms() + HORIZON_MS + 200).body(data.clone());
    broker.publish(&[outgoing], soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    let got = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, 1)))
        .await
        .expect("it comes due")
        .unwrap();
    assert_eq!(got[0].message().unwrap().body, data);
    assert_eq!(&*got[0].queue, &*queue);
}
