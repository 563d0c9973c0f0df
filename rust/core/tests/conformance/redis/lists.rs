//! The lists are Celery's, and what a worker takes from them is no more than it wants.

use std::sync::Arc;

use taskcore::{
    assemble::{self, Options},
    broker::{QueueStats, Settle},
    clock::wall_ms,
    error::ErrorKind,
    message::Message,
    result::{Record, State},
};

use super::server::*;
use crate::{PATIENCE, QUIET, broker::*, run, skipped, unique};

#[test]
fn lists_are_those_of_celery() {
    with_server(|server| {
        let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
        let batch: Vec<_> = [0_u8, 3, 6, 9, 4]
            .map(|priority| message(&queue, &priority.to_string()).priority(priority))
            .into();
        broker.publish(&batch, soon()).unwrap();
        let mut list = |step: &str| -> Vec<String> {
            let mut range = redis::cmd("LRANGE");
            range.arg(format!("{queue}{step}")).arg(0).arg(-1);
            let all: Vec<Vec<u8>> = range.query(&mut client).unwrap();
            let body = |raw: Vec<u8>| Message::decode(&raw.into()).unwrap().body.to_vec();
            all.into_iter().map(|raw| String::from_utf8(body(raw)).unwrap()).collect()
        };
        assert_eq!(list(""), ["0"]);
        // Newest first: producers push on the left.
        assert_eq!(list("\x06\x163"), ["4", "3"]);
        assert_eq!(list("\x06\x166"), ["6"]);
        assert_eq!(list("\x06\x169"), ["9"]);
    });
}

#[test]
fn a_foreign_producer_wakes_a_blocked_fetch() {
    with_server(|server| {
        run(async {
            let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
            let worker = worker(&*broker, &[&queue]).await;
            for list in [queue.to_string(), format!("{queue}\x06\x169")] {
                let mut fetch = worker.fetch(Want::of(5, 0));
                assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
                redis::cmd("LPUSH").arg(&list).arg("{}").exec(&mut client).unwrap();
                let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it wakes").unwrap();
                assert_eq!(bodies(&got), ["{}"]);
                ack(&*worker, &got).await;
                assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
            }
        });
    });
}

#[test]
fn a_worker_publishes_to_its_own_queue_over_its_own_connection() {
    with_server(|server| {
        run(async {
            let (broker, queue, other) = (broker(server), unique("q"), unique("q"));
            let worker = worker(&*broker, &[&queue]).await;
            for (body, priority) in [("a", 0), ("b", 9)] {
                let push = worker.publish(&message(&queue, body).priority(priority));
                push.expect("one command does it").await.unwrap();
                let got = take(&*worker, 1).await;
                assert_eq!(bodies(&got), [body]);
                ack(&*worker, &got).await;
            }
            let elsewhere = [
                message(&other, "not consumed here"),
                message(&queue, "scheduled").due(wall_ms() + 60_000),
                message(&queue, "routed").exchange("logs"),
                message(&queue, "long").body(vec![b'x'; 1 << 20]),
            ];
            assert!(elsewhere.iter().all(|message| worker.publish(message).is_none()));
            let wrong = worker.publish(&message(&queue, "refused").priority(3)).unwrap();
            redis::cmd("SET")
                .arg(format!("{queue}\x06\x163"))
                .arg("no list")
                .exec(&mut server.client())
                .unwrap();
            assert_eq!(wrong.await.unwrap_err().kind(), ErrorKind::Storage);
        });
    });
}

#[test]
fn global_keyprefix_is_before_every_key() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let options: Options = [("global_keyprefix".to_owned(), "pre:".to_owned())].into();
        let broker = assemble::broker(&server.url(), &options).unwrap();
        let results = assemble::results(&server.url(), &options).unwrap();
        let queue: Arc<str> = "celery".into();
        let later = message(&queue, "later").due(wall_ms() + 3_600_000);
        broker
            .publish(
                &[message(&queue, "a"), message(&queue, "b"), message(&queue, "c"), later],
                soon(),
            )
            .unwrap();
        let worker = worker(&*broker, &[&queue]).await;
        let got = take(&*worker, 2).await;
        settle(&*worker, &got[..1], |_| Settle::Park { id: "a".into(), reason: "no".into() }).await;
        let done = Record {
            id: "1".into(),
            state: State::Success,
            document: "{}".into(),
            reply_to: None,
            expires_ms: None,
            member: None,
        };
        results.store(&[done]).await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.client()).unwrap();
        assert!(keys.len() >= 7, "{keys:?}");
        assert!(
            keys.iter().all(|key| key.starts_with("pre:") || key.starts_with("{pre:")),
            "{keys:?}"
        );
        assert!(keys.contains(&"pre:celery-task-meta-1".to_owned()), "{keys:?}");
    });
}

#[test]
fn a_worker_that_wants_one_holds_one() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            let first = worker(&*broker, &[&queue]).await;
            // All lanes are armed, one answers; then the others have messages that nobody asked
            // for.
            let fetch = first.fetch(Want::of(1, 0));
            let (producer, name) = (broker.clone(), queue.clone());
            let all = tokio::task::spawn_blocking(move || {
                for priority in [0, 3, 6, 9] {
                    producer.publish(&[message(&name, "x").priority(priority)], soon()).unwrap();
                }
            });
            assert_eq!(fetch.await.unwrap().len(), 1);
            all.await.unwrap();
            let second = worker(&*broker, &[&queue]).await;
            assert_eq!(
                take(&*second, 3).await.len(),
                3,
                "what the first does not want goes to the second"
            );
            assert_eq!(
                broker.stats(&queue).unwrap(),
                QueueStats { in_flight: 4, ..QueueStats::default() }
            );
        });
    });
}
