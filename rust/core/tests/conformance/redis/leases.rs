//! Broken links, lost leases, and what is found of them later.

use std::time::Duration;

use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::{Consumer, Delivery, QueueStats, Recovered, Want},
    clock::wall_ms,
};

use super::{server::*, slow_proxy::SlowProxy};
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
                if let Err(error) = first.fetch(Want::of(1, 0)).await {
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
fn what_a_wait_moved_without_being_heard_of_comes_back() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch, mut client) =
                (broker(server), unique("q"), unique("epoch"), server.client());
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            let moved = format!("{{{queue}}}:moved:{epoch}:1");
            redis::cmd("LPUSH").arg(&moved).arg("moved").exec(&mut client).unwrap();
            drop(first);
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            assert_eq!(second.epoch(), &*epoch, "the lease stands");
            let got = take(&*second, 1).await;
            assert_eq!((bodies(&got), got[0].redeliveries), (vec!["moved".to_owned()], 0));
            // A wait of the first that is left behind at the server can move nothing any more.
            let late = redis::cmd("LPUSH").arg(&moved).arg("late").exec(&mut client);
            assert_eq!(late.unwrap_err().code(), Some("WRONGTYPE"));
        });
    });
}

#[test]
fn claims_whose_replies_never_come_go_back_and_come_again() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (direct, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        let proxy = SlowProxy::to(server.port);
        let broker = assemble::broker(&proxy.url(), &Options::default()).unwrap();
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        proxy.swallow(true);
        publish_numbers(&*direct, &queue, 50);
        let mut fetch = first.fetch(Want::of(50, 0));
        while direct.stats(&queue).unwrap().in_flight == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(1), &mut fetch).await;
        }
        drop(fetch);
        drop(first);
        proxy.swallow(false);
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        assert_eq!(second.epoch(), &*epoch, "the lease stands");
        let got = take(&*second, 50).await;
        assert_eq!(bodies(&got), numbers(0, 50));
        assert!(got.iter().all(|d| d.redeliveries == 0));
        ack(&*second, &got).await;
        assert_eq!(direct.stats(&queue).unwrap(), QueueStats::default());
    });
}

#[test]
fn a_session_that_was_replaced_can_do_nothing_more() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch) = (broker(server), unique("q"), unique("epoch"));
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            // Its waits are at the server, and stay there.
            let mut waiting = first.fetch(Want::of(1, 0));
            assert!(tokio::time::timeout(QUIET, &mut waiting).await.is_err());
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            publish(&*broker, &queue, &["x"]);
            assert_eq!(bodies(&take(&*second, 1).await), ["x"]);
            publish(&*broker, &queue, &["y"]);
            let error = tokio::time::timeout(PATIENCE, waiting).await.expect("it is told");
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Fenced);
            assert_eq!(bodies(&take(&*second, 1).await), ["y"]);
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
            got = first.fetch(Want::of(3, 0)) => panic!("{got:?}"),
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
fn a_lease_is_judged_by_whether_it_moves_and_not_by_the_servers_clock() {
    // A server of its own: any worker recovers whatever it finds.
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, mut client) = (broker(&server), unique("q"), server.client());
        publish_numbers(&*broker, &queue, 2);
        let lost = worker(&*broker, &[&queue]).await;
        take(&*lost, 1).await;
        let alive = worker(&*broker, &[&queue]).await;
        take(&*alive, 1).await;
        // As when the clock of the server is set back by ten minutes, or on.
        for (worker, minutes) in [(&lost, 10), (&alive, -10)] {
            redis::cmd("ZADD")
                .arg("{taskcore}:leases")
                .arg(wall_ms() + minutes * 60_000)
                .arg(worker.epoch())
                .exec(&mut client)
                .unwrap();
        }
        let heir = worker(&*broker, &[&queue]).await;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let recovered = tokio::time::timeout(PATIENCE, async {
            loop {
                tick.tick().await;
                alive.renew().await.unwrap();
                heir.renew().await.unwrap();
                if heir.recover().await.unwrap().requeued > 0 {
                    break;
                }
            }
        });
        recovered.await.expect("the dead are found");
        alive.renew().await.unwrap();
        assert_eq!(broker.stats(&queue).unwrap().in_flight, 1, "and the living are left alone");
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
            // As another worker does that has not seen the lease move.
            redis::cmd("ZREM").arg("{taskcore}:leases").arg(&*epoch).exec(&mut client).unwrap();
            let unacked = format!("{{{queue}}}:unacked:{epoch}");
            redis::cmd("HDEL").arg(unacked).arg("").exec(&mut client).unwrap();
            assert_eq!(first.fetch(Want::of(1, 0)).await.unwrap_err().kind(), ErrorKind::Fenced);
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
fn what_a_wait_moved_for_a_lost_worker_is_recovered() {
    // A server of its own: any worker recovers whatever it finds.
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, mut client) = (broker(&server), unique("q"), server.client());
        let lost = worker(&*broker, &[&queue]).await;
        let moved = format!("{{{queue}}}:moved:{}:1", lost.epoch());
        redis::cmd("LPUSH").arg(&moved).arg("moved").exec(&mut client).unwrap();
        assert_eq!(broker.stats(&queue).unwrap().in_flight, 1);
        // Somebody has taken its lease away and come to no end.
        redis::cmd("ZADD")
            .arg("{taskcore}:leases")
            .arg(0)
            .arg(lost.epoch())
            .exec(&mut client)
            .unwrap();
        let heir = worker(&*broker, &[&queue]).await;
        assert_eq!(heir.recover().await.unwrap(), Recovered { requeued: 1 });
        let got = take(&*heir, 1).await;
        assert_eq!((bodies(&got), got[0].redeliveries), (vec!["moved".to_owned()], 0));
        // A wait that is left behind at the server can move nothing any more.
        let late = redis::cmd("LPUSH").arg(&moved).arg("late").exec(&mut client);
        assert_eq!(late.unwrap_err().code(), Some("WRONGTYPE"));
    });
}

#[test]
fn what_is_in_flight_is_counted_also_while_a_session_ends() {
    with_server(|server| {
        run(async {
            let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
            publish_numbers(&*broker, &queue, 2);
            let worker = worker(&*broker, &[&queue]).await;
            take(&*worker, 2).await;
            // As whoever ends a session leaves it between the two questions that are asked.
            let unacked = format!("{{{queue}}}:unacked:{}", worker.epoch());
            let session: String =
                redis::cmd("HGET").arg(&unacked).arg("").query(&mut client).unwrap();
            let moved = format!("{{{queue}}}:moved:{}:{session}", worker.epoch());
            redis::cmd("SET").arg(moved).arg("ended").exec(&mut client).unwrap();
            assert_eq!(broker.stats(&queue).unwrap().in_flight, 2);
            worker.release().await.unwrap();
        });
    });
}

#[test]
fn what_an_older_state_has_and_the_worker_does_not_hold_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = ["--dir", dir.path().to_str().unwrap()];
    let Some(server) = Server::start(&folder) else { return skipped("redis") };
    run(async {
        let (broker, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        publish_numbers(&*broker, &queue, 900);
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        let held = take(&*first, 800).await;
        first.begin(vec![held[1].tag]).await.unwrap();
        redis::cmd("SAVE").exec(&mut server.client()).unwrap();
        ack(&*first, &held[..700]).await;
        let more = take(&*first, 50).await;
        let _server = server.restarted_with(&folder);
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        assert_eq!(second.epoch(), &*epoch, "the lease stands");
        let tags = held[700..].iter().chain(&more).map(|delivery| delivery.tag);
        assert_eq!(second.retain(tags.clone().collect()).await.unwrap().requeued, 700);
        assert_eq!(second.retain(tags.collect()).await.unwrap().requeued, 0);
        let stats = QueueStats { depth: 800, in_flight: 100, ..QueueStats::default() };
        assert_eq!(broker.stats(&queue).unwrap(), stats);
        let again = bodies(&take(&*second, 800).await);
        assert_eq!(again[0], "1", "what was marked is tried first");
        let mut rest = again[1..700].to_vec();
        rest.insert(1, "1".into());
        assert_eq!(rest, numbers(0, 700));
        ack(&*second, &held[700..]).await;
        second.release().await.unwrap();
    });
}

/// One message that a wait moves.
async fn waited_for(
    worker: &dyn Consumer,
    queue: &str,
    client: &mut redis::Connection,
    body: &str,
) -> Delivery {
    let mut fetch = worker.fetch(Want::of(1, 0));
    assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
    redis::cmd("LPUSH").arg(queue).arg(body).exec(client).unwrap();
    let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it wakes").unwrap();
    assert_eq!(bodies(&got), [body]);
    got.into_iter().next().expect("as many as were pushed")
}

#[test]
fn what_is_acknowledged_before_it_was_recorded_is_dropped_and_the_rest_kept() {
    with_server(|server| {
        run(async {
            let (broker, queue, epoch) = (broker(server), unique("q"), unique("epoch"));
            let (mut client, mut look) = (server.client(), server.client());
            let mut state = || -> (Vec<String>, usize) {
                let moved = format!("{{{queue}}}:moved:{epoch}:1");
                let unacked = format!("{{{queue}}}:unacked:{epoch}");
                let moved = redis::cmd("LRANGE").arg(moved).arg(0).arg(-1).query(&mut look);
                let unacked: usize = redis::cmd("HLEN").arg(unacked).query(&mut look).unwrap();
                (moved.unwrap(), unacked - 1) // the number of the session is in it
            };
            let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            let one = waited_for(&*first, &queue, &mut client, "a").await;
            let two = waited_for(&*first, &queue, &mut client, "b").await;
            assert_eq!(state(), (vec!["b".to_owned(), "a".to_owned()], 0));
            ack(&*first, &[one]).await;
            assert_eq!(state(), (vec!["b".to_owned()], 0), "the oldest is dropped");
            let three = waited_for(&*first, &queue, &mut client, "c").await;
            ack(&*first, &[three]).await;
            assert_eq!(state(), (vec![], 1), "with an older one in front both are recorded");
            let four = waited_for(&*first, &queue, &mut client, "d").await;
            let five = waited_for(&*first, &queue, &mut client, "e").await;
            ack(&*first, &[two, four]).await;
            assert_eq!(state(), (vec!["e".to_owned()], 0), "beside one that was recorded");
            drop(first);
            let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
            assert_eq!(broker.stats(&queue).unwrap().in_flight, 1, "what is held stays held");
            ack(&*second, &[five]).await;
            assert_eq!(broker.stats(&queue).unwrap(), QueueStats::default());
        });
    });
}

#[test]
fn an_acknowledgement_after_the_lane_was_taken_away_drops_nothing() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, mut client) = (broker(&server), unique("q"), server.client());
        let lost = worker(&*broker, &[&queue]).await;
        let held = waited_for(&*lost, &queue, &mut client, "held").await;
        redis::cmd("ZADD")
            .arg("{taskcore}:leases")
            .arg(0)
            .arg(lost.epoch())
            .exec(&mut client)
            .unwrap();
        let heir = worker(&*broker, &[&queue]).await;
        assert_eq!(heir.recover().await.unwrap(), Recovered { requeued: 1 });
        ack(&*lost, &[held]).await;
        assert_eq!(bodies(&take(&*heir, 1).await), ["held"]);
    });
}
