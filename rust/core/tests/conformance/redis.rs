//! A Redis server for the suites, and what only the Redis adapters promise.
//!
//! One server, started from the installed binary on a free port, serves all tests of the process. It runs under a shell that reads
//! from this process and ends the server when that pipe closes: so it never outlives the tests, however they end.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::{Broker, HORIZON_MS, Outgoing, QueueStats, Recovered, Settle, Subscription},
    clock::wall_ms,
    result::{Origin, Record, State},
};

use crate::{PATIENCE, QUIET, broker::*, harness::ByUrl, run, skipped, unique};

/// A server of these tests.
struct Server {
    port: u16,
    /// Its standard input keeps the server alive.
    _shell: Child,
}

impl Server {
    /// Starts one with further arguments; `None` when it is not installed.
    fn start(arguments: &[&str]) -> Option<Self> {
        Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().ok()?;
        // A port that is free now may be taken a moment later; then the server ends and the next one is tried.
        (0..20).find_map(|_| Self::try_start(arguments))
    }

    fn try_start(arguments: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut shell = Command::new("sh")
            .args(["-c", "redis-server \"$@\" & read _; kill $!", "redis"])
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let log = BufReader::new(shell.stdout.take()?);
        // Its log tells when it listens, or ends when it could not.
        let listens = log
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("Ready to accept connections"));
        listens.then_some(Self { port, _shell: shell })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}

fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[])).as_ref()
}

/// A harness on the server of all tests; names are unique, so they do not meet.
pub(crate) fn harness() -> Option<ByUrl> {
    shared().map(|server| ByUrl::new(server.url()))
}

fn broker(server: &Server) -> Arc<dyn Broker> {
    assemble::broker(&server.url(), &Options::default()).unwrap()
}

/// Runs a test with a server, or skips it.
fn with_server(test: impl FnOnce(&Server)) {
    match shared() {
        Some(server) => test(server),
        None => skipped("redis"),
    }
}

fn subscription(queue: &Arc<str>, epoch: &str) -> Subscription {
    Subscription { queues: vec![queue.clone()], epoch: epoch.to_owned(), max_deliveries: 3 }
}

#[test]
fn lists_are_those_of_celery() {
    with_server(|server| {
        let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
        let batch: Vec<_> = [0_u8, 3, 6, 9, 4]
            .map(|priority| Outgoing { priority, ..message(&queue, &priority.to_string()) })
            .into();
        broker.publish(&batch, soon()).unwrap();
        let mut list = |step: &str| -> Vec<String> {
            redis::cmd("LRANGE")
                .arg(format!("{queue}{step}"))
                .arg(0)
                .arg(-1)
                .query(&mut client)
                .unwrap()
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
                let mut fetch = worker.fetch(5, 0);
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
fn global_keyprefix_is_before_every_key() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let options: Options = [("global_keyprefix".to_owned(), "pre:".to_owned())].into();
        let broker = assemble::broker(&server.url(), &options).unwrap();
        let results = assemble::results(&server.url(), &options).unwrap();
        let queue: Arc<str> = "celery".into();
        let later = Outgoing { due: Some(wall_ms() + 3_600_000), ..message(&queue, "later") };
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
            // All lanes are armed, one answers; then the others have messages that nobody asked for.
            let fetch = first.fetch(1, 0);
            let (producer, name) = (broker.clone(), queue.clone());
            let all = tokio::task::spawn_blocking(move || {
                for priority in [0, 3, 6, 9] {
                    producer
                        .publish(&[Outgoing { priority, ..message(&name, "x") }], soon())
                        .unwrap();
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

#[test]
fn the_same_id_may_be_scheduled_twice() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            let due = wall_ms() + 3_600_000;
            let scheduled = |body: &str, due| Outgoing {
                id: "same".into(),
                due: Some(due),
                ..message(&queue, body)
            };
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
        let scheduled = |n: i64, fresh| Outgoing {
            due: Some(due + n * 10),
            fresh,
            ..message(&queue, &n.to_string())
        };
        let batch: Vec<_> = (0..1_200).map(|n| scheduled(n, n % 5 != 0)).collect();
        broker.publish(&batch, soon()).unwrap();
        assert_eq!(broker.stats(&queue).unwrap().scheduled, 1_200);
        // Twice, as after a lost confirmation: by now nobody may rely on the ids.
        let again: Vec<_> = (0..1_200).map(|n| scheduled(n, false)).collect();
        broker.publish(&again, soon()).unwrap();
        assert_eq!(broker.stats(&queue).unwrap().scheduled, 1_200);
        // One bucket is emptied by cancelling and leaves nothing.
        broker
            .publish(&[Outgoing { due: Some(due * 2), ..scheduled(7_777, true) }], soon())
            .unwrap();
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
                .map(|n| Outgoing {
                    due: Some(due + (n % 7) as i64),
                    fresh: true,
                    ..message(&queue, &n.to_string())
                })
                .collect();
            broker.publish(&batch, soon()).unwrap();
            assert_eq!(broker.stats(&queue).unwrap().scheduled, COUNT as u64);
            let mut got = Vec::new();
            for (worker, want) in [(&first, 700), (&second, 300)].into_iter().cycle() {
                let fetched = tokio::time::timeout(PATIENCE, worker.fetch(0, want));
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
            publish_numbers(&*broker, &queue, COUNT);
            let worker = worker(&*broker, &[&queue]).await;
            let held = take(&*worker, COUNT).await;
            let now = wall_ms();
            // Overdue for minutes, as after a time without workers.
            settle(&*worker, &held, |held| {
                let body = std::str::from_utf8(&held.raw).unwrap();
                let n: i64 = body.parse().unwrap();
                Settle::Defer { id: body.into(), due: now - 1_000 * (COUNT as i64 - n) }
            })
            .await;
            assert_eq!(broker.stats(&queue).unwrap().scheduled, COUNT as u64);
            let mut got = Vec::new();
            while got.len() < COUNT {
                let fetched = tokio::time::timeout(PATIENCE, worker.fetch(0, 40));
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
            let got = tokio::time::timeout(PATIENCE, worker.fetch(0, 1))
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
            assert_eq!((bodies(&got), got[0].redeliveries), (vec!["stray".to_owned()], 1));
        });
    });
}

#[test]
fn a_wrong_password_says_so_and_is_not_shown() {
    let Some(server) = Server::start(&["--requirepass", "right"]) else { return skipped("redis") };
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/0", server.port);
    let good = assemble::broker(&url("right"), &Options::default()).unwrap();
    publish(&*good, &unique("q"), &["x"]);
    for url in [url("wrong"), server.url()] {
        let broker = assemble::broker(&url, &Options::default()).unwrap();
        let queue = unique("q");
        let published = broker.publish(&[message(&queue, "x")], soon()).unwrap_err();
        let consumed = run(broker.consume(subscription(&queue, "e"))).err().unwrap();
        for error in [published, consumed] {
            assert_eq!(error.kind(), ErrorKind::Connection);
            let text = error.to_string();
            assert!(text.contains("password in the URL") && !text.contains("wrong@"), "{text}");
        }
    }
}

#[test]
fn a_user_a_database_and_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let path = socket.to_str().unwrap();
    let Some(server) = Server::start(&["--unixsocket", path]) else { return skipped("redis") };
    let rules = ["SETUSER", "worker", "on", ">p@ss/word", "allkeys", "allchannels", "allcommands"];
    redis::cmd("ACL").arg(&rules).exec(&mut server.client()).unwrap();
    let urls = [
        format!("redis://worker:p%40ss%2Fword@127.0.0.1:{}/5", server.port),
        format!("redis+socket://{path}?virtual_host=5"),
        format!("unix://worker:p%40ss%2Fword@{path}?db=5"),
    ];
    run(async {
        let queue = unique("q");
        for (n, url) in urls.iter().enumerate() {
            let broker = assemble::broker(url, &Options::default()).unwrap();
            publish_numbers(&*broker, &queue, 2);
            let size: usize = redis::cmd("LLEN").arg(&*queue).query(&mut server.client()).unwrap();
            assert_eq!(size, 0, "it is database 5, not 0");
            let worker = worker(&*broker, &[&queue]).await;
            let got = take(&*worker, 2).await;
            assert_eq!(bodies(&got), numbers(0, 2), "url {n}");
            ack(&*worker, &got).await;
            worker.release().await.unwrap();
        }
    });
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &cert])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return skipped("redis with TLS (openssl makes its certificate)");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key];
    let options = ["--tls-ca-cert-file", &cert, "--tls-auth-clients", "no"];
    let arguments: Vec<&str> = tls.into_iter().chain(options).collect();
    let Some(_server) = Server::start(&arguments) else { return skipped("redis with TLS") };
    let url = format!("rediss://localhost:{port}/0");
    let refused = assemble::broker(&url, &Options::default()).unwrap();
    let error = refused.publish(&[message(&unique("q"), "x")], soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "nobody vouches for this certificate");
    let url = format!("{url}?ssl_cert_reqs=required&ssl_ca_certs={cert}");
    let (broker, queue) = (assemble::broker(&url, &Options::default()).unwrap(), unique("q"));
    let results = assemble::results(&url, &Options::default()).unwrap();
    run(async {
        let worker = worker(&*broker, &[&queue]).await;
        let fetch = worker.fetch(1, 0);
        publish(&*broker, &queue, &["x"]);
        ack(&*worker, &fetch.await.unwrap()).await;
        let document = Bytes::from_static(b"{\"status\": \"SUCCESS\"}");
        let done = Record {
            id: "1".into(),
            state: State::Success,
            document,
            reply_to: None,
            expires_ms: None,
        };
        results.store(std::slice::from_ref(&done)).await.unwrap();
        let got = results.wait("1", Origin::Foreign, Some(soon()), &mut || false).unwrap();
        assert_eq!(got, Some(done.document));
    });
}

#[test]
fn a_server_that_forgot_the_scripts_is_connected_to_anew() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        let results = assemble::results(&server.url(), &Options::default()).unwrap();
        publish_numbers(&*broker, &queue, 3);
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        let held = take(&*first, 1).await;
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        assert_eq!(first.fetch(1, 0).await.unwrap_err().kind(), ErrorKind::Connection);
        drop(first);
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        ack(&*second, &held).await;
        assert_eq!(bodies(&take(&*second, 2).await), ["1", "2"]);
        // Client code and the result store load what they need again.
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        assert!(!broker.cancel(&queue, "none").unwrap());
        let document = Bytes::from_static(b"{}");
        let done = Record {
            id: "1".into(),
            state: State::Success,
            document,
            reply_to: None,
            expires_ms: None,
        };
        results.put(&done).unwrap();
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        results.store(&[Record { id: "2".into(), ..done }]).await.unwrap();
        assert!(results.get(&["1", "2"]).unwrap().iter().all(Option::is_some));
    });
}

#[test]
fn a_key_of_another_type_is_a_storage_error() {
    with_server(|server| {
        let (broker, queue) = (broker(server), unique("q"));
        redis::cmd("SET").arg(&*queue).arg("text").exec(&mut server.client()).unwrap();
        let error = broker.publish(&[message(&queue, "x")], soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.to_string().contains("choose another queue"), "{error}");
        // The connection is still good.
        publish(&*broker, &unique("q"), &["x"]);
    });
}

#[test]
fn a_server_that_does_not_answer_ends_at_the_deadline() {
    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    let deadline = taskcore::clock::instant() + Duration::from_millis(200);
    let error = broker.publish(&[message(&unique("q"), "x")], deadline).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[test]
fn waiting_survives_a_broken_link() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let store = |server: &Server| assemble::results(&server.url(), &Options::default()).unwrap();
    for origin in [Origin::Own, Origin::Foreign] {
        let (client, id) = (store(&server), unique("t"));
        let (pulse_send, pulse) = std::sync::mpsc::channel();
        let waiter = {
            let (client, id) = (client.clone(), id.clone());
            std::thread::spawn(move || {
                client.wait(&id, origin, Some(taskcore::clock::instant() + PATIENCE), &mut || {
                    let _ = pulse_send.send(());
                    false
                })
            })
        };
        pulse.recv_timeout(PATIENCE).expect("the wait blocks");
        for kind in ["normal", "pubsub"] {
            redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg(kind)
                .exec(&mut server.client())
                .unwrap();
        }
        let done = Record {
            id: id.to_string(),
            state: State::Success,
            document: format!("{{\"status\": \"SUCCESS\", \"task_id\": \"{id}\"}}").into(),
            reply_to: Some(client.reply_to().to_owned()),
            expires_ms: None,
        };
        run(store(&server).store(std::slice::from_ref(&done))).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), Some(done.document));
    }
}
