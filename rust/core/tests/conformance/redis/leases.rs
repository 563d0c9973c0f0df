//! Broken links, lost leases, and what is found of them later.

use std::time::Duration;

use taskcore::{
    ErrorKind,
    broker::{QueueStats, Recovered},
    clock::wall_ms,
};

use super::server::*;
use crate::{PATIENCE, QUIET, broker::*, run, skipped, unique};

#[test]
fn a_broken_link_keeps_the_epoch_and_everything_it_held() {
    // A server of its own: all clients of it are cut off.
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        publish_numbers(&*broker, &queue, 10);
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        let held = take(&*first, 4).await;
        redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .exec(&mut server.client())
            .unwrap();
        let error = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Err(error) = first.fetch(1, 0).await {
                    break error;
                }
            }
        });
        assert_eq!(error.await.expect("the break is seen").kind(), ErrorKind::Connection);
        drop(first);
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        assert_eq!(second.epoch(), &*epoch, "the lease stands");
        ack(&*second, &held).await;
        let rest = take(&*second, 6).await;
        assert_eq!(bodies(&rest), numbers(4, 10));
        ack(&*second, &rest).await;
        assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
    });
}

#[test]
fn replies_that_a_broken_link_swallowed_are_asked_for() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch, mut client) =
                (broker(server), unique("q"), unique("epoch"), server.client());
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            // A wait whose message landed but whose reply never came, as after a cut between the two.
            let mut fetch = first.fetch(1, 0);
            assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
            drop(fetch);
            drop(first);
            redis::cmd("LPUSH")
                .arg(format!("{{{queue}}}:inbox:{epoch}"))
                .arg("landed")
                .exec(&mut client)
                .unwrap();
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            assert_eq!(bodies(&take(&*second, 1).await), ["landed"]);
            // One that lands only after the new connection has looked comes back with the renewals.
            redis::cmd("LPUSH")
                .arg(format!("{{{queue}}}:inbox:{epoch}"))
                .arg("late")
                .exec(&mut client)
                .unwrap();
            second.renew().await.unwrap();
            second.renew().await.unwrap();
            assert_eq!(bodies(&take(&*second, 1).await), ["late"]);
        });
    });
}

#[test]
fn a_connection_that_was_replaced_can_do_nothing_more() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch) = (broker(server), unique("q"), unique("epoch"));
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            assert_eq!(first.renew().await.unwrap_err().kind(), ErrorKind::Connection);
            second.renew().await.unwrap();
        });
    });
}

#[test]
fn what_could_not_be_handed_back_is_handed_back_later() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        publish_numbers(&*broker, &queue, 3);
        // A fetch that nobody waits for any more: what it claimed is to be handed back in a moment.
        tokio::select! {
            biased;
            got = first.fetch(3, 0) => panic!("{got:?}"),
            () = std::future::ready(()) => {}
        }
        while broker.stats(&queue).unwrap().in_flight < 3 {
            tokio::task::yield_now().await;
        }
        // Which then fails.
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        tokio::time::sleep(QUIET).await;
        drop(first);
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        assert_eq!(second.epoch(), &*epoch, "the lease stands");
        assert_eq!(bodies(&take(&*second, 3).await), numbers(0, 3));
    });
}

#[test]
fn who_was_cut_off_gives_the_others_time_to_come_back() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch) = (broker(server), unique("q"), unique("epoch"));
            publish_numbers(&*broker, &queue, 1);
            let other = worker(&*self::broker(server), &[&queue]).await;
            take(&*other, 1).await;
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            drop(first);
            // The same outage took the other's lease a moment before this one's.
            redis::cmd("ZADD")
                .arg(format!("{{{queue}}}:leases"))
                .arg(wall_ms() - 1_000)
                .arg(other.epoch())
                .exec(&mut server.client())
                .unwrap();
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            assert_eq!(second.recover().await.unwrap(), Recovered::default());
            other.renew().await.unwrap();
        });
    });
}

#[test]
fn a_lost_lease_gives_a_fresh_epoch() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch, mut client) =
                (broker(server), unique("q"), unique("epoch"), server.client());
            publish_numbers(&*broker, &queue, 2);
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            let held = take(&*first, 1).await;
            redis::cmd("ZREM")
                .arg(format!("{{{queue}}}:leases"))
                .arg(&*epoch)
                .exec(&mut client)
                .unwrap();
            assert_eq!(first.fetch(1, 0).await.unwrap_err().kind(), ErrorKind::Fenced);
            assert_eq!(first.renew().await.unwrap_err().kind(), ErrorKind::Fenced);
            drop(first);
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            assert_ne!(second.epoch(), &*epoch);
            let got = take(&*second, 1).await;
            assert_eq!(bodies(&got), ["1"]);
            // Tags of the old epoch name nothing in the new one.
            ack(&*second, &held).await;
            assert_eq!(broker.stats(&queue).unwrap().in_flight, 1);
        });
    });
}

#[test]
fn what_lands_for_a_dead_worker_is_found_later() {
    with_server(|server| {
        run(async {
            let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
            let heir = worker(&*broker, &[&queue]).await;
            // The mark that recovery leaves, and a message that a stopped process's wait lands after it.
            let dead_at = wall_ms() - 1_000;
            redis::cmd("ZADD")
                .arg(format!("{{{queue}}}:leases"))
                .arg(-dead_at)
                .arg("gone")
                .exec(&mut client)
                .unwrap();
            redis::cmd("LPUSH")
                .arg(format!("{{{queue}}}:inbox:gone"))
                .arg("stray")
                .exec(&mut client)
                .unwrap();
            assert_eq!(broker.stats(&queue).unwrap().in_flight, 1);
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            let recovered = tokio::time::timeout(PATIENCE, async {
                loop {
                    tick.tick().await;
                    heir.renew().await.unwrap();
                    let recovered = heir.recover().await.unwrap();
                    if recovered.requeued > 0 {
                        break recovered.requeued;
                    }
                }
            });
            assert_eq!(recovered.await.expect("it is found"), 1);
            let got = take(&*heir, 1).await;
            // It never began, so it is not counted.
            assert_eq!((bodies(&got), got[0].redeliveries), (vec!["stray".to_owned()], 0));
        });
    });
}
