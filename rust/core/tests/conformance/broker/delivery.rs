//! From publish to delivery: order, amount, waking, and who gets what.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use taskcore::{ErrorKind, broker::Answer, clock::wall_ms, message::Encoding};

use super::*;
use crate::{Harness, PATIENCE, QUIET, unique};

pub(crate) async fn fifo(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 10);
    publish(&*broker, &queue, &["10", "11"]);
    let worker = worker(&*h.broker(), &[&queue]).await;
    assert_eq!(bodies(&take(&*worker, 12).await), numbers(0, 12));
}

pub(crate) async fn priorities(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let batch: Vec<_> =
        [(9, "d1"), (3, "b1"), (0, "a1"), (6, "c1"), (9, "d2"), (0, "a2"), (3, "b2")]
            .map(|(priority, body)| message(&queue, body).priority(priority))
            .into();
    broker.publish(&batch, soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    assert_eq!(bodies(&take(&*worker, 7).await), ["a1", "a2", "b1", "b2", "c1", "d1", "d2"]);
}

pub(crate) async fn queues_in_order_within_a_priority(h: &impl Harness) {
    let (broker, first, second) = (h.broker(), unique("first"), unique("second"));
    let urgent = message(&second, "urgent").priority(0);
    let (one, two) = (message(&first, "one").priority(3), message(&second, "two").priority(3));
    broker.publish(&[two, urgent, one], soon()).unwrap();
    let worker = worker(&*broker, &[&first, &second]).await;
    let got = take(&*worker, 3).await;
    assert_eq!(bodies(&got), ["urgent", "one", "two"]);
    assert_eq!(got.iter().map(|d| &*d.queue).collect::<Vec<_>>(), [&*second, &*first, &*second]);
}

pub(crate) async fn queues_take_turns(h: &impl Harness) {
    let (broker, first, second) = (h.broker(), unique("first"), unique("second"));
    publish_numbers(&*broker, &first, 300);
    publish_numbers(&*broker, &second, 12);
    let worker = worker(&*broker, &[&first, &second]).await;
    let mut got = Vec::new();
    // However many a fetch asks for, the backlog of the first does not keep the second waiting.
    for want in [1, 1, 1, 1, 8, 12] {
        got.extend(worker.fetch(Want::of(want, 0)).await.unwrap());
    }
    assert_eq!(got.len(), 24);
    let of = |queue: &Arc<str>| got.iter().filter(|d| d.queue == *queue).collect::<Vec<_>>();
    assert_eq!(bodies(&of(&second)), numbers(0, 12));
    assert_eq!(bodies(&of(&first)), numbers(0, 12));
    // They are mixed, and not a whole share of the one before the other's.
    for (at, pair) in got.chunks(2).enumerate() {
        assert_ne!(pair[0].queue, pair[1].queue, "pair {at}");
    }
    assert_eq!(bodies(&take(&*worker, 200).await), numbers(12, 212), "and alone it has all");
}

pub(crate) async fn a_strict_order_is_kept(h: &impl Harness) {
    let (broker, first, second) = (h.broker(), unique("first"), unique("second"));
    publish_numbers(&*broker, &second, 5);
    publish_numbers(&*broker, &first, 20);
    let (queues, epoch) = (vec![first.clone(), second.clone()], unique("epoch").to_string());
    let subscription = Subscription {
        queues,
        declarations: Vec::new(),
        order: QueueOrder::Strict,
        epoch,
        max_deliveries: 3,
    };
    let worker = broker.consume(subscription).await.unwrap();
    let got = take(&*worker, 25).await;
    assert!(got[..20].iter().all(|d| d.queue == first), "the first has nothing left before");
    assert_eq!(bodies(&got[20..]), numbers(0, 5));
}

pub(crate) async fn fetch_many_claims_no_more_than_asked(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 100);
    let worker = worker(&*broker, &[&queue]).await;
    let got = worker.fetch(Want::of(30, 0)).await.unwrap();
    assert!((1..=30).contains(&got.len()));
    let stats = broker.stats(&queue).unwrap();
    assert_eq!((stats.in_flight, stats.depth), (got.len() as u64, 100 - got.len() as u64));
}

pub(crate) async fn bytes_are_untouched(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let every: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let bodies = [
        Bytes::from(every),
        Bytes::from(vec![b'x'; 3_000_000]),
        Bytes::from_static(b"\0"),
        Bytes::new(),
    ];
    let batch: Vec<_> =
        bodies.iter().map(|data| message(&queue, "any").body(data.clone())).collect();
    broker.publish(&batch, soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, bodies.len()).await;
    assert!(
        got.iter().zip(&bodies).all(|(d, body)| d.message().unwrap().body == *body),
        "bodies differ"
    );
    assert!(got.iter().all(|d| d.redeliveries == 0));
    ack(&*worker, &got).await;
}

/// Whichever way it was written, and also among the dead letters.
pub(crate) async fn a_delivery_holds_its_message(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let mut task = message(&queue, "[[1], {}, {}]").id(&unique("id")).message;
    task.headers.rare_mut().extra.insert("tenant".into(), "a".into());
    task.properties.delivery_tag = Some("tag".into());
    let batch = [Encoding::Compact, Encoding::Celery]
        .map(|encoding| Outgoing::new(task.clone(), queue.clone(), encoding));
    assert_eq!(broker.publish(&batch, soon()).unwrap(), [Answer::Confirmed, Answer::Confirmed]);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 2).await;
    for (delivery, outgoing) in got.iter().zip(&batch) {
        assert_eq!(delivery.message().unwrap(), task);
        assert_eq!(delivery.raw, task.encode(outgoing.encoding));
    }
    let id = Arc::from(&*task.headers.id);
    let park = Settle::Park { id, reason: "no such task".into() };
    settle(&*worker, &got[..1], |_| park.clone()).await;
    assert_eq!(broker.dead(&queue, 1).unwrap()[0].message.as_ref(), Some(&task));
}

pub(crate) async fn what_is_no_message_comes_with_the_reason(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let mut nameless = message(&queue, "x");
    nameless.message.headers.task.clear();
    let raw = nameless.message.encode(nameless.encoding);
    broker.publish(&[nameless], soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 1).await;
    let error = got[0].message().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("`task` is missing"), "{error}");
    assert_eq!(got[0].raw, raw);
    let park = Settle::Park { id: Arc::from(""), reason: "no message".into() };
    settle(&*worker, &got, |_| park.clone()).await;
    let dead = broker.dead(&queue, 1).unwrap();
    assert_eq!((&*dead[0].id, &dead[0].message, &dead[0].raw), ("", &None, &raw));
}

/// And it does not keep the rest of the batch.
pub(crate) async fn an_exchange_that_is_none_is_unroutable(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let (confirmed, unroutable) = (|| Answer::Confirmed, || Answer::Unroutable);
    let lost = |body: &str| message(&queue, body).exchange(&unique("no-such-exchange"));
    let later = |outgoing: Outgoing| outgoing.due(wall_ms() + 3_600_000);
    let batch = [lost("a"), message(&queue, "b"), later(lost("c")), later(message(&queue, "d"))];
    let answers = broker.publish(&batch, soon()).unwrap();
    assert_eq!(answers, [unroutable(), confirmed(), unroutable(), confirmed()]);
    assert_eq!(broker.publish(&[lost("e")], soon()).unwrap(), [unroutable()]);
    assert_eq!(broker.publish(&[message(&queue, "f")], soon()).unwrap(), [confirmed()]);
    let stats = broker.stats(&queue).unwrap();
    assert_eq!((stats.depth, stats.scheduled), (2, 1));
    let worker = worker(&*broker, &[&queue]).await;
    assert_eq!(bodies(&take(&*worker, 2).await), ["b", "f"]);
}

pub(crate) async fn many_at_once(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 20_000);
    let worker = worker(&*broker, &[&queue]).await;
    let got = take(&*worker, 20_000).await;
    assert_eq!(bodies(&got), numbers(0, 20_000));
    ack(&*worker, &got).await;
    assert_eq!(broker.stats(&queue).unwrap(), taskcore::broker::QueueStats::default());
}

pub(crate) async fn publish_wakes_a_blocked_fetch(h: &impl Harness) {
    let (broker, producer, queue) = (h.broker(), h.broker(), unique("q"));
    let worker = worker(&*broker, &[&queue]).await;
    for round in 0..20 {
        let mut fetch = worker.fetch(Want::of(10, 0));
        // The first round lets the fetch come to rest; the others catch it on its way there.
        let rest = if round == 0 { QUIET } else { std::time::Duration::from_millis(round) };
        assert!(tokio::time::timeout(rest, &mut fetch).await.is_err());
        let (producer, queue) = (producer.clone(), queue.clone());
        let sent = tokio::task::spawn_blocking(move || publish(&*producer, &queue, &["hello"]));
        let got =
            tokio::time::timeout(PATIENCE, fetch).await.expect("publish wakes the fetch").unwrap();
        sent.await.unwrap();
        assert_eq!(bodies(&got), ["hello"]);
        ack(&*worker, &got).await;
    }
}

pub(crate) async fn one_message_goes_to_one_worker(h: &impl Harness) {
    let (producer, queue) = (h.broker(), unique("q"));
    let (a, b) = (worker(&*h.broker(), &[&queue]).await, worker(&*h.broker(), &[&queue]).await);
    let (mut at_a, mut at_b) = (a.fetch(Want::of(10, 0)), b.fetch(Want::of(10, 0)));
    assert!(
        tokio::time::timeout(QUIET, async {
            tokio::select! { r = &mut at_a => r, r = &mut at_b => r }
        })
        .await
        .is_err()
    );
    publish(&*producer, &queue, &["only"]);
    let (got, other) =
        tokio::select! { r = &mut at_a => (r.unwrap(), at_b), r = &mut at_b => (r.unwrap(), at_a) };
    assert_eq!(bodies(&got), ["only"]);
    assert!(tokio::time::timeout(QUIET, other).await.is_err(), "the other worker got it too");
}

pub(crate) async fn a_dropped_fetch_loses_nothing(h: &impl Harness) {
    let (broker, producer, queue) = (h.broker(), h.broker(), unique("q"));
    let first = worker(&*broker, &[&queue]).await;
    for body in ["0", "1", "2", "3", "4"] {
        // Dropped after a few polls, at whatever step it was.
        let _ =
            tokio::time::timeout(std::time::Duration::from_millis(2), first.fetch(Want::of(1, 0)))
                .await;
        publish(&*producer, &queue, &[body]);
        let _ = tokio::time::timeout(
            std::time::Duration::from_micros(200),
            first.fetch(Want::of(1, 0)),
        )
        .await;
    }
    first.release().await.unwrap();
    let second = worker(&*broker, &[&queue]).await;
    let got = take(&*second, 5).await;
    assert_eq!(bodies(&got).into_iter().collect::<HashSet<_>>().len(), 5);
    assert!(got.iter().all(|d| d.redeliveries == 0));
}

pub(crate) async fn two_workers_share_everything_once(h: &impl Harness) {
    const ALL: usize = 2_000;
    let (producer, queue) = (h.broker(), unique("q"));
    let (a, b) = (worker(&*h.broker(), &[&queue]).await, worker(&*h.broker(), &[&queue]).await);
    let publishing = {
        let queue = queue.clone();
        tokio::task::spawn_blocking(move || {
            for start in (0..ALL).step_by(50) {
                let batch: Vec<_> =
                    (start..start + 50).map(|n| message(&queue, &n.to_string())).collect();
                producer.publish(&batch, soon()).unwrap();
            }
        })
    };
    let (done_send, done) = tokio::sync::watch::channel(0_usize);
    let done_send = Arc::new(done_send);
    let drain = |consumer: Arc<dyn taskcore::broker::Consumer>| {
        let (counter, mut finished) = (done_send.clone(), done.clone());
        async move {
            let mut seen = Vec::new();
            loop {
                let got = tokio::select! {
                    got = consumer.fetch(Want::of(64, 0)) => got.unwrap(),
                    _ = finished.wait_for(|n| *n == ALL) => return seen,
                };
                ack(&*consumer, &got).await;
                counter.send_modify(|n| *n += got.len());
                seen.extend(bodies(&got));
            }
        }
    };
    let (mut at_a, at_b) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(drain(a), drain(b)) })
            .await
            .expect("all arrive");
    publishing.await.unwrap();
    at_a.extend(at_b);
    assert_eq!(at_a.len(), ALL);
    assert_eq!(at_a.into_iter().collect::<HashSet<_>>().len(), ALL);
}

pub(crate) async fn an_empty_batch_is_nothing(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    broker.publish(&[], soon()).unwrap();
    let worker = worker(&*broker, &[&queue]).await;
    worker.settle(Vec::new()).await.unwrap();
    nothing(&*worker).await;
}
