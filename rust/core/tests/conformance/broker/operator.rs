//! What the operator sees and does: statistics, purge, dead letters.

use taskcore::{
    ErrorKind,
    broker::{Capability, QueueStats},
    clock::wall_ms,
};

use super::*;
use crate::{Harness, unique};

/// Parks one message per body, in order.
async fn park(broker: &dyn Broker, queue: &Arc<str>, dead: &[&str]) -> Arc<dyn Consumer> {
    publish(broker, queue, dead);
    let worker = worker(broker, &[queue]).await;
    for delivery in take(&*worker, dead.len()).await {
        let id = Arc::from(format!("id-{}", body(&delivery)));
        let how = Settle::Park { id, reason: "no such task".into() };
        worker.settle(vec![Settlement { tag: delivery.tag, how }]).await.unwrap();
    }
    worker
}

/// What is named is done, what is not is refused; a queue that nobody knows is no error.
pub(crate) async fn capabilities_are_true(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("unknown"));
    let answers = [
        broker.stats(&queue).map(drop),
        broker.queues().map(drop),
        broker.purge(&queue).map(drop),
        broker.cancel(&queue, "id").map(drop),
        broker.dead(&queue, 1).map(drop),
        broker.replay(&queue, None).map(drop),
        broker.discard(&queue, None).map(drop),
        broker.entries("schedule").map(drop),
        broker.broadcast(&[], soon()),
    ];
    for (answer, capability) in answers.into_iter().zip(Capability::ALL) {
        if broker.capabilities().contains(&capability) {
            answer.unwrap();
        } else {
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{capability:?}");
            assert!(error.to_string().contains(capability.does()), "{error}");
        }
    }
}

pub(crate) async fn stats_count(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
    let worker = park(&*broker, &queue, &["dead"]).await;
    let mut batch: Vec<_> =
        (0..10_u8).map(|n| message(&queue, &n.to_string()).priority(n % 10)).collect();
    batch.push(message(&queue, "later").due(wall_ms() + 3_600_000));
    broker.publish(&batch, soon()).unwrap();
    take(&*worker, 3).await;
    assert_eq!(
        h.broker().stats(&queue).unwrap(),
        QueueStats { depth: 7, in_flight: 3, scheduled: 1, dead: 1 }
    );
}

pub(crate) async fn queues_are_listed(h: &impl Harness) {
    let (broker, held, consumed, unknown) =
        (h.broker(), unique("held"), unique("consumed"), unique("unknown"));
    publish(&*broker, &held, &["x"]);
    let _worker = worker(&*broker, &[&consumed]).await;
    let queues = h.broker().queues().unwrap();
    assert!(
        queues.contains(&held.to_string()) && queues.contains(&consumed.to_string()),
        "{queues:?}"
    );
    assert!(!queues.contains(&unknown.to_string()));
    assert!(queues.is_sorted());
}

pub(crate) async fn purge_drops_ready_and_scheduled(h: &impl Harness) {
    let (broker, queue, other) = (h.broker(), unique("q"), unique("other"));
    let worker = park(&*broker, &queue, &["dead"]).await;
    publish(&*broker, &queue, &["held"]);
    let held = take(&*worker, 1).await;
    let mut batch: Vec<_> =
        [0, 3, 9].map(|priority| message(&queue, "ready").priority(priority)).into();
    batch.push(message(&queue, "later").due(wall_ms() + 3_600_000));
    batch.push(message(&other, "stays"));
    broker.publish(&batch, soon()).unwrap();
    assert_eq!(broker.purge(&queue).unwrap(), 4);
    assert_eq!(broker.purge(&queue).unwrap(), 0);
    assert_eq!(
        broker.stats(&queue).unwrap(),
        QueueStats { in_flight: 1, dead: 1, ..QueueStats::default() }
    );
    assert_eq!(broker.stats(&other).unwrap().depth, 1);
    nothing(&*worker).await;
    settle(&*worker, &held, |_| Settle::HandBack).await;
    assert_eq!(bodies(&take(&*worker, 1).await), ["held"]);
}

pub(crate) async fn dead_letters_are_listed_newest_first(h: &impl Harness) {
    let (broker, queue, other) = (h.broker(), unique("q"), unique("other"));
    assert_eq!(broker.dead(&queue, 10).unwrap(), []);
    park(&*broker, &queue, &["a", "b", "c"]).await;
    park(&*broker, &other, &["d"]).await;
    let dead = broker.dead(&queue, 2).unwrap();
    assert_eq!(dead_bodies(&dead), ["c", "b"]);
    assert_eq!(dead.iter().map(|d| &*d.id).collect::<Vec<_>>(), ["id-c", "id-b"]);
    assert_ne!(dead[0].key, dead[1].key);
}

pub(crate) async fn replay_goes_to_the_tail(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = park(&*broker, &queue, &["a", "b"]).await;
    publish(&*broker, &queue, &["c"]);
    assert_eq!(broker.replay(&queue, None).unwrap(), 2);
    assert_eq!(broker.replay(&queue, None).unwrap(), 0);
    let got = take(&*worker, 3).await;
    assert_eq!(bodies(&got), ["c", "a", "b"]);
    assert!(got.iter().all(|d| d.redeliveries == 0), "a replayed message starts afresh");
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats { in_flight: 3, ..QueueStats::default() });
}

pub(crate) async fn replay_by_key(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = park(&*broker, &queue, &["a", "b", "c"]).await;
    let key = broker.dead(&queue, 10).unwrap()[1].key.clone();
    assert_eq!(broker.replay(&queue, Some(&[key.clone(), "no such key".into()])).unwrap(), 1);
    assert_eq!(broker.replay(&queue, Some(&[key])).unwrap(), 0);
    assert_eq!(broker.replay(&queue, Some(&[])).unwrap(), 0);
    assert_eq!(bodies(&take(&*worker, 1).await), ["b"]);
    assert_eq!(broker.stats(&queue).unwrap().dead, 2);
}

pub(crate) async fn discard_by_key_and_all(h: &impl Harness) {
    let (broker, queue) = (h.broker(), unique("q"));
    let worker = park(&*broker, &queue, &["a", "b", "c"]).await;
    let key = broker.dead(&queue, 1).unwrap()[0].key.clone();
    assert_eq!(broker.discard(&queue, Some(&[key])).unwrap(), 1);
    assert_eq!(dead_bodies(&broker.dead(&queue, 10).unwrap()), ["b", "a"]);
    assert_eq!(broker.discard(&queue, None).unwrap(), 2);
    assert_eq!(broker.discard(&queue, None).unwrap(), 0);
    nothing(&*worker).await;
    assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
}

pub(crate) async fn the_url_is_redacted(h: &impl Harness) {
    let url = h.broker().url().to_owned();
    assert!(url.contains("://"), "`{url}` is not a URL");
    assert!(!url.contains("secret"), "`{url}` shows a password");
}
