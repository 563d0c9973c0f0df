//! Many queues, many workers, and servers that grant less.

use std::{sync::Arc, time::Duration};

use taskcore::{
    assemble::{self, Options},
    broker::{QueueOrder, QueueStats, Subscription},
};

use super::server::*;
use crate::{PATIENCE, broker::*, run, skipped, unique};

/// How many commands the server has run, those of scripts among them.
fn commands(client: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query(client).unwrap();
    let line = info.lines().find_map(|l| l.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn an_idle_worker_costs_the_same_however_many_queues_it_serves() {
    const WATCHED: Duration = Duration::from_secs(3);
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, mut client) = (broker(&server), server.client());
        let queues: Vec<Arc<str>> = (0..100).map(|n| unique(&format!("q{n}"))).collect();
        let worker = worker(&*broker, &queues.iter().collect::<Vec<_>>()).await;
        let mut fetch = worker.fetch(Want::of(8, 8));
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut fetch).await.is_err());
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut client).unwrap();
        let connections = clients.lines().count() - 1;
        assert!(connections <= 6, "{connections} connections:\n{clients}");
        // A publishing connection may be one of them.
        let before = commands(&mut client);
        assert!(tokio::time::timeout(WATCHED, &mut fetch).await.is_err());
        let count = commands(&mut client) - before;
        assert!(count <= 20 * WATCHED.as_secs(), "{count} commands in {WATCHED:?}");
        // And it is woken by whatever comes, wherever.
        for list in
            [format!("{}\x06\x166", queues[57]), queues[0].to_string(), queues[99].to_string()]
        {
            redis::cmd("LPUSH").arg(&list).arg(&list).exec(&mut client).unwrap();
            let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it wakes").unwrap();
            assert_eq!(bodies(&got), [list]);
            ack(&*worker, &got).await;
            fetch = worker.fetch(Want::of(8, 8));
        }
    });
}

#[test]
fn a_server_that_does_not_tell_of_changes_is_asked() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let rules =
        ["SETUSER", "worker", "on", ">p", "allkeys", "allchannels", "+@all", "-client", "-info"];
    redis::cmd("ACL").arg(&rules).exec(&mut server.client()).unwrap();
    let url = format!("redis://worker:p@127.0.0.1:{}/0", server.port);
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    run(async {
        let queues: Vec<Arc<str>> = (0..5).map(|n| unique(&format!("q{n}"))).collect();
        let worker = worker(&*broker, &queues.iter().collect::<Vec<_>>()).await;
        for queue in &queues {
            let mut fetch = worker.fetch(Want::of(8, 8));
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut fetch).await.is_err());
            publish(&*broker, queue, &["x"]);
            let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it is found").unwrap();
            assert_eq!(got[0].queue, *queue);
            ack(&*worker, &got).await;
        }
    });
}

#[test]
fn a_worker_is_recovered_by_one_that_serves_other_queues() {
    // A server of its own: any worker recovers whatever it finds.
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, other) = (broker(&server), unique("q"), unique("other"));
        publish_numbers(&*broker, &queue, 3);
        let lost = worker(&*broker, &[&queue]).await;
        take(&*lost, 2).await;
        drop(lost);
        let heir = worker(&*broker, &[&other]).await;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let recovered = tokio::time::timeout(PATIENCE, async {
            while broker.stats(&queue).unwrap().in_flight > 0 {
                tick.tick().await;
                heir.renew().await.unwrap();
                heir.recover().await.unwrap();
            }
        });
        recovered.await.expect("they come back");
        let stats = QueueStats { depth: 3, ..QueueStats::default() };
        assert_eq!(broker.stats(&queue).unwrap(), stats);
    });
}

#[test]
fn a_worker_of_many_queues_finds_what_was_there_before_it() {
    with_server(|server| {
        run(async {
            let broker = broker(server);
            let queues: Vec<Arc<str>> = (0..30).map(|n| unique(&format!("q{n}"))).collect();
            for queue in &queues {
                publish(&*broker, queue, &["a", "b"]);
            }
            let (order, epoch) = (QueueOrder::RoundRobin, unique("epoch").to_string());
            let subscription = Subscription {
                queues: queues.clone(),
                declarations: Vec::new(),
                order,
                epoch,
                max_deliveries: 3,
            };
            let worker = broker.consume(subscription).await.unwrap();
            let mut got = Vec::new();
            while got.len() < 60 {
                let fetched = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(7, 0))).await;
                got.extend(fetched.expect("they are there").unwrap());
            }
            // Everybody's first comes before anybody's second.
            assert!(got[..30].iter().all(|d| body(d) == "a"), "{:?}", bodies(&got));
        });
    });
}
