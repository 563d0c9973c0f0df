//! A worker holds by its own life: release, recovery, fencing.

use std::time::Duration;

use taskcore::{
    ErrorKind,
    broker::{QueueStats, Recovered, lease},
    clock::wall_ms,
};

use super::*;
use crate::{Harness, PATIENCE, QUIET, unique};

pub(crate) async fn release_returns_everything_in_order(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let batch: Vec<_> = (0..10)
        .map(|n| message(&queue, &n.to_string()).priority(if n < 5 { 0 } else { 9 }))
        .collect();
    broker.publish(&batch, soon()).unwrap();
    let first = worker(&*h.broker(), &[&queue]).await;
    let held = take(&*first, 8).await;
    ack(&*first, &held[2..3]).await;
    first.release().await.unwrap();
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { depth: 9, ..QueueStats::default() });
    let second = worker(&*broker, &[&queue]).await;
    let got = take(&*second, 9).await;
    assert_eq!(bodies(&got), ["0", "1", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(got.iter().all(|d| d.redeliveries == 0), "releasing is not counted");
}

pub(crate) async fn a_released_consumer_is_refused(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let first = worker(&*broker, &[&queue]).await;
    first.release().await.unwrap();
    publish(&*broker, &queue, &["x"]);
    let error = tokio::time::timeout(PATIENCE, first.fetch(Want::of(1, 0)))
        .await
        .expect("it answers")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(first.renew().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(broker.stats(&queue).unwrap().depth, 1);
}

/// Renews as the worker does and sweeps until something was put back.
async fn sweep(sweeper: &dyn Consumer, others: &[&dyn Consumer]) -> Recovered {
    tokio::time::timeout(PATIENCE, async {
        let mut tick = tokio::time::interval(Duration::from_millis(lease::SWEEP_MS));
        loop {
            tick.tick().await;
            sweeper.renew().await.unwrap();
            for other in others {
                other.renew().await.unwrap();
            }
            let recovered = sweeper.recover().await.unwrap();
            if recovered != Recovered::default() {
                return recovered;
            }
        }
    })
    .await
    .expect("the lapsed lease is found")
}

pub(crate) async fn the_leases_that_stand_are_known(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let first = worker(&*broker, &[&queue]).await;
    let second = worker(&*h.broker(), &[&queue]).await;
    let epochs = second.epochs().await.unwrap();
    assert!([first.epoch(), second.epoch()].iter().all(|e| epochs.iter().any(|o| o == e)));
    first.release().await.unwrap();
    let epochs = second.epochs().await.unwrap();
    assert!(epochs.iter().all(|epoch| epoch != first.epoch()), "{epochs:?}");
}

pub(crate) async fn a_lapsed_lease_is_recovered(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 6);
    let lost = worker_with(&*h.broker(), &[&queue], 2).await;
    let heir = worker_with(&*h.broker(), &[&queue], 2).await;
    let first = take(&*lost, 1).await;
    settle(&*lost, &first, |_| Settle::Redeliver { id: "id-0".into() }).await;
    let held = take(&*lost, 4).await;
    lost.begin(held[..2].iter().map(|d| d.tag).collect()).await.unwrap();
    let started = wall_ms();
    let recovered = sweep(&*heir, &[]).await;
    assert!(
        wall_ms() - started >= lease::LEASE_MS - lease::SWEEP_MS as i64,
        "robbed before the lease lapsed"
    );
    assert_eq!(recovered, Recovered { requeued: 4 });
    // All are back at the head, in order, and suspect; what had begun is counted, also the one that
    // was lost as often as it may be, which its claimer judges.
    assert_eq!(broker.dead(&queue, 10).unwrap().len(), 0);
    let got = take(&*heir, 6).await;
    assert_eq!(bodies(&got), numbers(0, 6));
    assert_eq!(got.iter().map(|d| d.redeliveries).collect::<Vec<_>>(), [2, 1, 0, 0, 0, 0]);
    let suspects = [true, true, true, true, false, false];
    assert_eq!(got.iter().map(|d| d.suspect).collect::<Vec<_>>(), suspects);
    // The worker that was taken for dead cannot touch them any more.
    assert_eq!(lost.renew().await.unwrap_err().kind(), ErrorKind::Fenced);
    let error = tokio::time::timeout(PATIENCE, lost.fetch(Want::of(1, 0)))
        .await
        .expect("it answers")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    ack(&*lost, &held).await;
    settle(&*lost, &held, |_| Settle::Requeue).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { in_flight: 6, ..QueueStats::default() });
    ack(&*heir, &got).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
}

pub(crate) async fn a_suspect_is_one_until_it_has_run(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 3);
    let lost = worker(&*h.broker(), &[&queue]).await;
    let heir = worker(&*h.broker(), &[&queue]).await;
    take(&*lost, 2).await;
    assert_eq!(sweep(&*heir, &[]).await, Recovered { requeued: 2 });
    let got = take(&*heir, 3).await;
    heir.begin(got.iter().map(|d| d.tag).collect()).await.unwrap();
    settle(&*heir, &got, |_| Settle::HandBack).await;
    let retried = take(&*heir, 2).await;
    assert_eq!(bodies(&retried), ["0", "1"]);
    assert!(retried.iter().all(|d| d.suspect && d.redeliveries == 0), "{retried:?}");
    heir.begin(retried.iter().map(|d| d.tag).collect()).await.unwrap();
    settle(&*heir, &retried, |_| Settle::Requeue).await;
    let requeued = take(&*heir, 3).await;
    assert_eq!(bodies(&requeued), ["2", "0", "1"]);
    assert!(requeued[1..].iter().all(|d| !d.suspect && d.redeliveries == 0), "{requeued:?}");
    heir.release().await.unwrap();
    assert_eq!(broker.stats(&queue).unwrap().depth, 3);
}

/// A queue where suspects `0`, `1`, ... `count - 1` wait, a worker on it, and another.
async fn with_suspects(
    h: &impl Harness,
    count: usize,
) -> (Arc<str>, Arc<dyn Consumer>, Arc<dyn Consumer>) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, count);
    let lost = worker(&*h.broker(), &[&queue]).await;
    let (heir, other) = (worker(&*broker, &[&queue]).await, worker(&*broker, &[&queue]).await);
    take(&*lost, count).await;
    assert_eq!(sweep(&*heir, &[&*other]).await, Recovered { requeued: count as u64 });
    (queue, heir, other)
}

/// The bodies of what one fetch is given.
async fn fetched(consumer: &dyn Consumer, ready: usize, suspects: usize) -> Vec<String> {
    let fetch = consumer.fetch(Want { ready, suspects, due: 0 });
    bodies(&tokio::time::timeout(PATIENCE, fetch).await.expect("it is answered").unwrap())
}

pub(crate) async fn a_fetch_takes_no_more_suspects_than_it_wants(h: &impl Harness) {
    let (queue, heir, other) = with_suspects(h, 6).await;
    publish(&*h.broker(), &queue, &["a", "b", "c"]);
    assert_eq!(fetched(&*heir, 4, 2).await, ["0", "1", "a", "b"]);
    assert_eq!(fetched(&*heir, 1, 9).await, ["2"], "suspects come first");
    assert_eq!(fetched(&*other, 9, 2).await, ["3", "4", "c"]);
    assert_eq!(fetched(&*heir, 9, 9).await, ["5"]);
    let stats = QueueStats { in_flight: 9, ..QueueStats::default() };
    assert_eq!(h.broker().stats(&queue).unwrap(), stats);
    publish(&*h.broker(), &queue, &["d"]);
    assert_eq!(fetched(&*heir, 9, 0).await, ["d"]);
}

pub(crate) async fn suspects_hold_up_nothing_else(h: &impl Harness) {
    let (queue, heir, other) = with_suspects(h, 2).await;
    let broker = h.broker();
    let none = Want { ready: 9, suspects: 0, due: 0 };
    let mut fetch = heir.fetch(none);
    assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err(), "there are only suspects");
    publish(&*broker, &queue, &["wakes"]);
    let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it is woken").unwrap();
    assert_eq!(bodies(&got), ["wakes"]);
    // What was put back overdue does not wait behind them either.
    settle(&*heir, &got, |_| Settle::Defer { id: "x".into(), due: wall_ms() - 1 }).await;
    assert_eq!(fetched(&*heir, 9, 0).await, ["wakes"]);
    assert!(tokio::time::timeout(QUIET, heir.fetch(none)).await.is_err());
    assert_eq!(broker.stats(&queue).unwrap().depth, 2);
    assert_eq!(fetched(&*heir, 9, 1).await, ["0"], "in the place of a fetch that was dropped");
    assert_eq!(broker.purge(&queue).unwrap(), 1);
    assert!(tokio::time::timeout(QUIET, other.fetch(Want::of(9, 0))).await.is_err());
}

pub(crate) async fn a_renewed_lease_is_respected(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 2);
    let alive = worker(&*h.broker(), &[&queue]).await;
    let lost = worker(&*h.broker(), &[&queue]).await;
    let heir = worker(&*h.broker(), &[&queue]).await;
    let held = take(&*alive, 1).await;
    take(&*lost, 1).await;
    assert_eq!(sweep(&*heir, &[&*alive]).await, Recovered { requeued: 1 });
    assert_eq!(heir.recover().await.unwrap(), Recovered::default());
    assert_eq!(
        broker.stats(&queue).unwrap(),
        QueueStats { depth: 1, in_flight: 1, ..QueueStats::default() }
    );
    ack(&*alive, &held).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { depth: 1, ..QueueStats::default() });
}

pub(crate) async fn who_is_late_itself_judges_nobody(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    publish_numbers(&*broker, &queue, 2);
    let other = worker(&*h.broker(), &[&queue]).await;
    let late = worker(&*h.broker(), &[&queue]).await;
    take(&*other, 1).await;
    take(&*late, 1).await;
    // As after a sleep of the whole machine.
    tokio::time::sleep(Duration::from_millis(lease::LEASE_MS as u64 + 200)).await;
    assert_eq!(late.recover().await.unwrap(), Recovered::default());
    late.renew().await.unwrap();
    assert_eq!(late.recover().await.unwrap(), Recovered::default(), "the other may be about to");
    other.renew().await.unwrap();
    assert_eq!(broker.stats(&queue).unwrap().in_flight, 2);
}

/// A consumer under this name.
async fn consumer(broker: &dyn Broker, queue: &Arc<str>, epoch: &Arc<str>) -> Arc<dyn Consumer> {
    let subscription = Subscription {
        queues: vec![queue.clone()],
        declarations: Vec::new(),
        order: QueueOrder::default(),
        epoch: epoch.to_string(),
        max_deliveries: 3,
    };
    broker.consume(subscription).await.unwrap()
}

pub(crate) async fn a_consumer_is_replaced_under_its_lease(h: &impl Harness) {
    let (broker, queue, epoch) = (h.broker(), unique("q"), unique("epoch"));
    publish_numbers(&*broker, &queue, 4);
    let first = consumer(&*broker, &queue, &epoch).await;
    let held = take(&*first, 2).await;
    // Nobody waits for what this one claims, unless it has it at once.
    let mut got = tokio::select! {
        biased;
        got = first.fetch(Want::of(2, 0)) => got.unwrap(),
        () = std::future::ready(()) => Vec::new(),
    };
    drop(first);
    let second = consumer(&*broker, &queue, &epoch).await;
    assert_eq!(second.epoch(), &*epoch, "the lease stands");
    ack(&*second, &held[..1]).await;
    if got.is_empty() {
        got = take(&*second, 2).await;
    }
    assert_eq!(bodies(&got), ["2", "3"]);
    assert_eq!(broker.stats(&queue).unwrap().in_flight, 3);
    second.release().await.unwrap();
    let third = worker(&*broker, &[&queue]).await;
    let got = take(&*third, 3).await;
    assert_eq!(bodies(&got), ["1", "2", "3"]);
    assert!(got.iter().all(|d| d.redeliveries == 0), "nothing was lost");
}

pub(crate) async fn the_queues_of_a_consumer_change(h: &impl Harness) {
    let (broker, epoch) = (h.broker(), unique("epoch"));
    let (old, kept, new) = (unique("old"), unique("kept"), unique("new"));
    let consume = |queues: &[&Arc<str>]| {
        let queues = queues.iter().map(|q| (*q).clone()).collect();
        let (order, epoch) = (QueueOrder::default(), epoch.to_string());
        broker.consume(Subscription {
            queues,
            declarations: Vec::new(),
            order,
            epoch,
            max_deliveries: 3,
        })
    };
    publish_numbers(&*broker, &old, 4);
    publish(&*broker, &kept, &["k"]);
    let first = consume(&[&old, &kept]).await.unwrap();
    let held = take(&*first, 5).await;
    let of_old: Vec<Delivery> = held.into_iter().filter(|d| d.queue == old).collect();
    drop(first);
    let second = consume(&[&kept, &new]).await.unwrap();
    assert_eq!(second.epoch(), &*epoch, "the lease stands");
    publish(&*broker, &old, &["later"]);
    publish(&*broker, &new, &["n"]);
    assert_eq!(bodies(&take(&*second, 1).await), ["n"]);
    nothing(&*second).await;
    // What is held from the queue that was left out is settled as ever.
    ack(&*second, &of_old[..1]).await;
    settle(&*second, &of_old[1..2], |_| Settle::HandBack).await;
    second.begin(vec![of_old[2].tag]).await.unwrap();
    second.renew().await.unwrap();
    let stats = broker.stats(&old).unwrap();
    assert_eq!((stats.depth, stats.in_flight), (2, 2));
    drop(second);
    // It is taken up again, and left out once more.
    let third = consume(&[&old, &new, &kept]).await.unwrap();
    assert_eq!(third.epoch(), &*epoch);
    assert_eq!(bodies(&take(&*third, 2).await), ["1", "later"]);
    drop(third);
    let last = consume(&[&kept]).await.unwrap();
    ack(&*last, &of_old[2..3]).await;
    last.release().await.unwrap();
    let stats = broker.stats(&old).unwrap();
    assert_eq!((stats.depth, stats.in_flight), (3, 0), "what is left has gone back");
    let other = worker(&*broker, &[&old]).await;
    let got = take(&*other, 3).await;
    let mut found = bodies(&got);
    found.sort();
    assert_eq!(found, ["1", "3", "later"]);
    assert!(got.iter().all(|d| d.redeliveries == 0));
}

pub(crate) async fn a_lease_that_ended_is_followed_by_a_fresh_epoch(h: &impl Harness) {
    let (broker, queue, epoch) = (h.broker(), unique("q"), unique("epoch"));
    publish_numbers(&*broker, &queue, 1);
    let first = consumer(&*broker, &queue, &epoch).await;
    let held = take(&*first, 1).await;
    first.release().await.unwrap();
    let second = consumer(&*broker, &queue, &epoch).await;
    assert_ne!(second.epoch(), &*epoch);
    ack(&*second, &held).await;
    assert_eq!(bodies(&take(&*second, 1).await), ["0"], "older tags are void");
    let third = consumer(&*broker, &queue, &epoch).await;
    assert_eq!(third.epoch(), second.epoch());
}

pub(crate) async fn the_next_fetch_finds_what_a_dropped_one_was_given(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = worker(&*broker, &[&queue]).await;
    publish_numbers(&*broker, &queue, 5);
    let mut fetch = worker.fetch(Want::of(5, 0));
    let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(fetch.as_mut().poll(cx)));
    if let std::task::Poll::Ready(got) = poll.await {
        // This broker answers within the call: there is no moment in between.
        return assert_eq!(bodies(&got.unwrap()), numbers(0, 5));
    }
    // As below: time for an answer that nobody looks at.
    tokio::time::sleep(QUIET).await;
    drop(fetch);
    assert_eq!(bodies(&take(&*worker, 5).await), numbers(0, 5));
}

/// The connection fails while the answer to a fetch is on its way to the loop, which drops both.
pub(crate) async fn an_answered_fetch_that_is_dropped_loses_nothing(h: &impl Harness) {
    let (broker, queue, epoch) = (h.broker(), unique("q"), unique("epoch"));
    let subscription = || Subscription {
        queues: vec![queue.clone()],
        declarations: Vec::new(),
        order: QueueOrder::default(),
        epoch: epoch.to_string(),
        max_deliveries: 3,
    };
    let worker = broker.consume(subscription()).await.unwrap();
    publish_numbers(&*broker, &queue, 5);
    let mut fetch = worker.fetch(Want::of(5, 0));
    // Asked once, and not looked at again.
    let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(fetch.as_mut().poll(cx)));
    if let std::task::Poll::Ready(got) = poll.await {
        // This broker answers within the call: there is no moment in between.
        return assert_eq!(bodies(&got.unwrap()), numbers(0, 5));
    }
    // Nothing tells from outside that a fetch was answered. Without the pause this is the test of a
    // fetch that is dropped before.
    tokio::time::sleep(QUIET).await;
    drop(fetch);
    drop(worker);
    let worker = broker.consume(subscription()).await.unwrap();
    assert_eq!(worker.epoch(), &*epoch, "the lease stands");
    let got = take(&*worker, 5).await;
    assert_eq!(bodies(&got), numbers(0, 5));
    assert!(got.iter().all(|one| !one.suspect));
}
