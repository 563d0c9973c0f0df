//! What a server will not take: it is told apart, and the rest goes on.

use std::sync::Arc;

use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::{QueueStats, Settle, Settlement, Tag},
    clock::wall_ms,
    result::{Join, Member, Origin, Record, ResultStore, State},
};

use super::server::*;
use crate::{broker::*, run, skipped, unique};

fn results(server: &Server) -> Arc<dyn ResultStore> {
    assemble::results(&server.url(), &Options::default()).unwrap()
}

fn record(bytes: usize) -> Record {
    let id = unique("t").to_string();
    let filler = "x".repeat(bytes);
    let document =
        format!("{{\"status\": \"SUCCESS\", \"result\": \"{filler}\", \"task_id\": \"{id}\"}}");
    Record {
        id,
        state: State::Success,
        document: document.into(),
        reply_to: None,
        expires_ms: None,
        member: None,
    }
}

fn stored(store: &dyn ResultStore, batch: &[Record]) -> Vec<bool> {
    let ids: Vec<&str> = batch.iter().map(|record| &*record.id).collect();
    // One by one: reading many does not tell a key of another type apart.
    ids.iter().map(|id| store.get(&[id]).unwrap()[0].is_some()).collect()
}

#[test]
fn a_key_of_another_type_refuses_its_own_result_alone() {
    with_server(|server| {
        for count in [3, 300] {
            let store = results(server);
            let batch: Vec<_> = (0..count).map(|_| record(9)).collect();
            let key = format!("celery-task-meta-{}", batch[1].id);
            redis::cmd("LPUSH").arg(&key).arg("x").exec(&mut server.client()).unwrap();
            let refused = run(store.store(&batch)).unwrap().refused;
            let [(1, error)] = &refused[..] else { panic!("{refused:?}") };
            assert!(error.to_string().contains(&key), "{error}");
            assert!(!error.is_retryable());
            let put = store.put(&batch[1]).unwrap_err();
            assert!(put.to_string().contains(&key), "{put}");
            let mut expected = vec![true; count];
            expected[1] = false;
            assert_eq!(stored(&*store, &batch), expected);
        }
    });
}

#[test]
fn a_result_that_is_too_large_for_the_server_is_refused_alone() {
    let Some(server) = Server::start(&["--proto-max-bulk-len", "1mb"]) else {
        return skipped("redis");
    };
    let store = results(&server);
    let batch = [9, 5 << 20, 9, 9].map(record);
    let refused = run(store.store(&batch)).unwrap().refused;
    let [(1, error)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("proto-max-bulk-len"), "{error}");
    assert_eq!(stored(&*store, &batch), [true, false, true, true]);
    let put = store.put(&batch[1]).unwrap_err();
    assert_eq!(put.kind(), ErrorKind::TooLarge, "{put}");
    // A message likewise.
    let (broker, queue) = (broker(&server), unique("q"));
    let large = message(&queue, "x").body(vec![b'x'; 5 << 20]);
    let error = broker.publish(&[large], soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    publish(&*broker, &queue, &["x"]);
}

#[test]
fn a_full_server_says_what_to_do() {
    let Some(server) = Server::start(&["--maxmemory", "1"]) else { return skipped("redis") };
    let error = broker(&server).publish(&[message(&unique("q"), "x")], soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("raise its `maxmemory`"), "{error}");
}

#[test]
fn a_full_server_takes_small_results_and_large_ones_later() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let memory = |most: &str| {
        let setting = ["SET", "maxmemory", most];
        redis::cmd("CONFIG").arg(&setting).exec(&mut server.client()).unwrap();
    };
    for count in [1, 3, 300] {
        let store = results(&server);
        let mut batch: Vec<_> =
            (0..count).map(|n| record(if n == 1 { 5_000 } else { 9 })).collect();
        batch.push(record(5_000));
        let group = unique("group");
        batch[0].member = Some(Box::new(Member::new(&group, Some(0))));
        store.declare(&Join { id: group.to_string(), size: 1, expires_ms: None }).unwrap();
        memory("1");
        let stored = run(store.store(&batch)).unwrap();
        let later: Vec<usize> = stored.later.iter().map(|(n, _)| *n).collect();
        let expected: &[usize] = if count == 1 { &[1] } else { &[1, count] };
        assert_eq!((&*later, stored.refused.len()), (expected, 0));
        assert_eq!(stored.joined.len(), 1, "its last member is counted");
        let error = stored.later[0].1.to_string();
        assert!(error.contains("raise its `maxmemory`"), "{error}");
        let only = run(store.store(&batch[count..])).unwrap();
        assert_eq!(only.later.len(), 1);
        memory("0");
        assert!(run(store.store(&batch[1..])).unwrap().later.is_empty());
        assert_eq!(self::stored(&*store, &batch), vec![true; count + 1]);
    }
}

#[test]
fn what_a_server_refuses_for_a_moment_is_done_when_it_is_tried_again() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let replicas = |count: &str| {
        let setting = ["SET", "min-replicas-to-write", count];
        redis::cmd("CONFIG").arg(&setting).exec(&mut server.client()).unwrap();
    };
    run(async {
        let (broker, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        publish_numbers(&*broker, &queue, 6);
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        let got = take(&*first, 5).await;
        let tags: Vec<_> = got.iter().map(|delivery| delivery.tag).collect();
        let acks = |tags: &[Tag]| {
            tags.iter().map(|tag| Settlement { tag: *tag, how: Settle::Ack }).collect::<Vec<_>>()
        };
        let others = [
            Settle::HandBack,
            Settle::Redeliver { id: "1".into() },
            Settle::Defer { id: "2".into(), due: wall_ms() + 3_600_000 },
        ];
        let others = tags[..3].iter().zip(others).map(|(tag, how)| Settlement { tag: *tag, how });
        let others: Vec<_> = others.collect();
        replicas("1");
        let refused = |result: taskcore::Result<()>| {
            let error = result.unwrap_err();
            assert!(error.is_retryable() && error.to_string().contains("replicas"), "{error}");
        };
        refused(first.settle(acks(&tags[3..])).await);
        refused(first.settle(others.clone()).await);
        refused(first.begin(tags.clone()).await);
        refused(first.renew().await);
        refused(first.fetch(Want::of(1, 0)).await.map(drop));
        refused(broker.consume(subscription(&queue, &epoch)).await.map(drop));
        refused(first.release().await);
        drop(first);
        replicas("0");
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        second.settle(others).await.unwrap();
        second.settle(acks(&tags[3..])).await.unwrap();
        let stats = QueueStats { depth: 3, scheduled: 1, ..QueueStats::default() };
        assert_eq!(broker.stats(&queue).unwrap(), stats);
        let suspect: Vec<_> = take(&*second, 3).await.iter().map(|d| d.redeliveries).collect();
        assert_eq!(suspect, [1, 0, 0]);
    });
}

#[test]
fn what_was_stored_but_not_announced_is_announced_when_it_is_stored_again() {
    with_server(|server| {
        for (count, origin) in [(1, Origin::Foreign), (100, Origin::Own)] {
            let (client, worker) = (results(server), results(server));
            let mut batch: Vec<_> = (0..count).map(|_| record(9)).collect();
            batch[0].reply_to = Some(client.reply_to().to_owned());
            let id = batch[0].id.clone();
            // As a worker leaves it whose link broke between the two.
            let key = format!("celery-task-meta-{id}");
            let document = batch[0].document.to_vec();
            let (blocked_send, blocked) = std::sync::mpsc::channel();
            let waiter = std::thread::spawn(move || {
                client.wait(&id, origin, Some(soon()), &mut || {
                    let _ = blocked_send.send(());
                    false
                })
            });
            blocked.recv_timeout(crate::PATIENCE).expect("the wait blocks");
            redis::cmd("SET").arg(key).arg(document).exec(&mut server.client()).unwrap();
            run(worker.store(&batch)).unwrap();
            assert_eq!(waiter.join().unwrap().unwrap().as_ref(), Some(&batch[0].document));
        }
    });
}
