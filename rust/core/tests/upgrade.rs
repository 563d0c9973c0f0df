//! Database files of earlier versions, with data in them, opened by this one.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use taskcore::{
    assemble::{self, Options},
    broker::{Broker, Consumer, QueueOrder, QueueStats, Settle, Settlement, Subscription, Want},
    clock,
    result::{Join, Member, Record, State},
};

/// A file made by the statements of `data/`, and its URL.
fn file_of(statements: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(statements).unwrap();
    (dir, format!("sqlite:///{}", path.display()))
}

async fn consume(broker: &dyn Broker, queue: &str) -> Arc<dyn Consumer> {
    let (queues, epoch) = (vec![queue.into()], "worker-2".into());
    let order = QueueOrder::default();
    broker
        .consume(Subscription { queues, declarations: Vec::new(), order, epoch, max_deliveries: 3 })
        .await
        .unwrap()
}

/// Claims one after the other, acknowledges, and returns the bodies.
async fn drain(worker: &dyn Consumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let got = tokio::time::timeout(Duration::from_secs(30), worker.fetch(Want::of(1, 0))).await;
        let delivery = got.expect("a message").unwrap().remove(0);
        worker.settle(vec![Settlement { tag: delivery.tag, how: Settle::Ack }]).await.unwrap();
        let body = String::from_utf8(delivery.raw.to_vec()).unwrap();
        bodies.push(format!("{body} {}", delivery.redeliveries));
    }
    bodies
}

#[tokio::test]
async fn version_1_keeps_its_messages_and_results() {
    let (_dir, url) = file_of(include_str!("data/version1.sql"));
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    let stats = QueueStats { depth: 5, in_flight: 2, scheduled: 1, dead: 1 };
    assert_eq!(broker.stats("jobs").unwrap(), stats);
    assert_eq!(broker.queues().unwrap(), ["jobs", "mail"]);

    let dead = broker.dead("jobs", 10).unwrap();
    assert_eq!(
        (&*dead[0].id, &*dead[0].reason, &dead[0].raw[..]),
        ("id-bad", "it is `bad`", &b"bad"[..])
    );
    assert_eq!(broker.replay("jobs", None).unwrap(), 1);
    assert!(broker.cancel("jobs", "id-far").unwrap());

    let worker = consume(&*broker, "jobs").await;
    assert_eq!(
        drain(&*worker, 6).await,
        ["urgent 0", "lost 1", "ready-0 0", "ready-1 0", "ready-2 0", "bad 0"]
    );
    // The worker of then does not come back: its lease has ended, and what it held is claimed here.
    let patience = clock::instant() + Duration::from_secs(60);
    while worker.recover().await.unwrap().requeued == 0 {
        assert!(clock::instant() < patience, "what the lost worker held did not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
        worker.renew().await.unwrap();
    }
    assert_eq!(drain(&*worker, 2).await, ["held-0 0", "held-1 0"]);
    assert_eq!(broker.stats("jobs").unwrap(), QueueStats::default());
    assert_eq!(drain(&*consume(&*broker, "mail").await, 1).await, ["letter 0"]);

    let results = assemble::results(&url, &Options::default()).unwrap();
    let got = results.get(&["done", "running", "old"]).unwrap();
    let texts: Vec<_> = got.iter().map(|d| d.as_deref()).collect();
    assert_eq!(
        texts,
        [Some(&br#"{"status": "SUCCESS"}"#[..]), Some(&br#"{"status": "STARTED"}"#[..]), None]
    );
}

#[tokio::test]
async fn version_3_keeps_what_it_has_and_counts_joins() {
    let (_dir, url) = file_of(include_str!("data/version3.sql"));
    let results = assemble::results(&url, &Options::default()).unwrap();
    let record = Record {
        id: "m".into(),
        state: State::Success,
        document: (&br#"{"status": "SUCCESS", "result": 5}"#[..]).into(),
        reply_to: None,
        expires_ms: None,
        member: Some(Box::new(Member::new("g", Some(0)))),
    };
    results.declare(&Join { id: "g".into(), size: 1, expires_ms: None }).unwrap();
    assert_eq!(results.store(&[record]).await.unwrap().joined.len(), 1);
    assert_eq!(&results.members("g", usize::MAX).unwrap()[0].result[..], b"5");
    let got = results.get(&["done", "old", "m"]).unwrap();
    let there: Vec<bool> = got.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true]);

    let broker = assemble::broker(&url, &Options::default()).unwrap();
    let stats = QueueStats { depth: 5, in_flight: 2, scheduled: 1, dead: 1 };
    assert_eq!(broker.stats("jobs").unwrap(), stats);
    let worker = consume(&*broker, "jobs").await;
    let order = ["urgent 0", "lost 1", "ready-0 0", "ready-1 0", "ready-2 0"];
    assert_eq!(drain(&*worker, 5).await, order);
}
