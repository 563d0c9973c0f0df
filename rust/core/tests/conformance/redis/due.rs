//! The due set: buckets, ids, and what comes due.

use taskcore::{
    broker::{HORIZON_MS, QueueStats, Settle},
    clock::wall_ms,
};

use super::server::*;
use crate::{PATIENCE, broker::*, run, unique};

#[test]
fn the_same_id_may_be_scheduled_twice() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            let due = wall_ms() + 3_600_000;
            let scheduled = |body: &str, due| message(&queue, body).id("same").due(due);
            broker.publish(&[scheduled("one", due), scheduled("two", due + 1)], soon()).unwrap();
            broker.publish(&[scheduled("three", due + 2)], soon()).unwrap();
            assert_eq!(broker.stats(&queue).unwrap().scheduled, 3);
            // A publish that is repeated because its confirmation was lost is one message.
            broker.publish(&[scheduled("three", due + 2)], soon()).unwrap();
            assert_eq!(broker.stats(&queue).unwrap().scheduled, 3);
            // Deferred under the same id it is still another.
            broker.publish(&[message(&queue, "four")], soon()).unwrap();
            let worker = worker(&*broker, &[&queue]).await;
            let got = take(&*worker, 1).await;
            settle(&*worker, &got, |_| Settle::Defer { id: "same".into(), due }).await;
            assert_eq!(broker.stats(&queue).unwrap().scheduled, 4);
            assert!(broker.cancel(&queue, "same").unwrap());
            assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
        });
    });
}

/// The keys of the due set of a queue's first lane.
fn due_keys(server: &Server, queue: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(format!("{{{queue}}}:due*")).query(&mut server.client()).unwrap()
}

#[test]
fn an_id_made_for_its_message_is_scheduled_cancelled_and_purged_as_any_other() {
    with_server(|server| {
        let (broker, queue) = (broker(server), unique("q"));
        let due = wall_ms() + 3_600_000;
        let scheduled =
            |n: i64, new_id| message(&queue, &n.to_string()).due(due + n * 10).new_id(new_id);
        let batch: Vec<_> = (0..1_200).map(|n| scheduled(n, n % 5 != 0)).collect();
        broker.publish(&batch, soon()).unwrap();
        assert_eq!(broker.stats(&queue).unwrap().scheduled, 1_200);
        // Twice, as after a lost confirmation: by now nobody may rely on the ids.
        let again: Vec<_> = (0..1_200).map(|n| scheduled(n, false)).collect();
        broker.publish(&again, soon()).unwrap();
        assert_eq!(broker.stats(&queue).unwrap().scheduled, 1_200);
        // One bucket is emptied by cancelling and leaves nothing.
        broker.publish(&[scheduled(7_777, true).due(due * 2)], soon()).unwrap();
        let keys = due_keys(server, &queue).len();
        assert!(broker.cancel(&queue, "id-7777").unwrap());
        assert!(!broker.cancel(&queue, "id-7777").unwrap());
        assert_eq!(due_keys(server, &queue).len(), keys - 1);
        assert!(broker.cancel(&queue, "id-600").unwrap());
        assert_eq!(broker.purge(&queue).unwrap(), 1_199);
        assert_eq!(due_keys(server, &queue), Vec::<String>::new());
    });
}

#[test]
fn a_crowd_due_at_once_is_claimed_once_and_leaves_nothing() {
    with_server(|server| {
        run(async {
            const COUNT: usize = 5_000;
            let (broker, queue) = (broker(server), unique("q"));
            let first = worker(&*broker, &[&queue]).await;
            let second = worker(&*broker, &[&queue]).await;
            let due = wall_ms() + HORIZON_MS + 200;
            let batch: Vec<_> = (0..COUNT)
                .map(|n| message(&queue, &n.to_string()).due(due + (n % 7) as i64).new_id(true))
                .collect();
            broker.publish(&batch, soon()).unwrap();
            assert_eq!(broker.stats(&queue).unwrap().scheduled, COUNT as u64);
            let mut got = Vec::new();
            for (worker, want) in [(&first, 700), (&second, 300)].into_iter().cycle() {
                let fetched = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, want)));
                let fetched = bodies(&fetched.await.expect("they come due").unwrap());
                assert!(fetched.len() <= want);
                got.extend(fetched);
                if got.len() >= COUNT {
                    break;
                }
            }
            got.sort_unstable_by_key(|body| body.parse::<usize>().unwrap());
            assert_eq!(got, numbers(0, COUNT));
            let stats = QueueStats { in_flight: COUNT as u64, ..QueueStats::default() };
            assert_eq!(broker.stats(&queue).unwrap(), stats);
            assert_eq!(due_keys(server, &queue), Vec::<String>::new());
        });
    });
}

#[test]
fn many_buckets_come_due() {
    with_server(|server| {
        run(async {
            const COUNT: usize = 300;
            let (broker, queue) = (broker(server), unique("q"));
            // Overdue for minutes, as after a time without workers, a bucket for each.
            let now = wall_ms().div_euclid(1_000) * 1_000;
            let mut connection = server.client();
            for n in 0..COUNT as i64 {
                let begin = now - 1_000 * (COUNT as i64 - n);
                let (due, bucket) =
                    (format!("{{{queue}}}:due"), format!("{{{queue}}}:due:{begin}"));
                let mut write = redis::pipe();
                write.zadd(due, begin, begin).hset(bucket, n, format!("000{n}")).ignore();
                write.query::<()>(&mut connection).unwrap();
            }
            let worker = worker(&*broker, &[&queue]).await;
            assert_eq!(broker.stats(&queue).unwrap().scheduled, COUNT as u64);
            let mut got = Vec::new();
            while got.len() < COUNT {
                let fetched = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, 40)));
                got.extend(bodies(&fetched.await.expect("they are due").unwrap()));
            }
            assert_eq!(got, numbers(0, COUNT));
            assert_eq!(due_keys(server, &queue), Vec::<String>::new());
        });
    });
}

#[test]
fn a_count_survives_deferring_and_handing_back() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            publish(&*broker, &queue, &["x", "y"]);
            let worker = worker(&*broker, &[&queue]).await;
            let got = take(&*worker, 1).await;
            settle(&*worker, &got, |_| Settle::Redeliver { id: "x".into() }).await;
            let got = take(&*worker, 1).await;
            assert_eq!((bodies(&got), got[0].redeliveries), (vec!["x".to_owned()], 1));
            settle(&*worker, &got, |_| Settle::Defer {
                id: "x".into(),
                due: wall_ms() + HORIZON_MS + 1,
            })
            .await;
            let got = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(0, 1)))
                .await
                .expect("it comes due")
                .unwrap();
            assert_eq!((bodies(&got), got[0].redeliveries), (vec!["x".to_owned()], 1));
            worker.release().await.unwrap();
            let next = worker_with(&*broker, &[&queue], 2).await;
            let got = take(&*next, 2).await;
            assert_eq!(
                (bodies(&got), got[0].redeliveries),
                (vec!["x".to_owned(), "y".to_owned()], 1)
            );
            settle(&*next, &got[..1], |_| Settle::Redeliver { id: "x".into() }).await;
            assert_eq!(broker.dead(&queue, 9).unwrap()[0].redeliveries, 2);
        });
    });
}
