//! Keys that another program has made of another type, and a server whose memory is full.

use taskcore::{
    ErrorKind,
    broker::{
        Answer, Outgoing, QueueStats, Settle,
        schedule::{Definition, Firing, Guard},
    },
    clock::wall_ms,
};

use super::server::*;
use crate::{PATIENCE, broker::*, run, skipped, unique};

#[test]
fn a_key_of_another_type_spares_the_rest() {
    for name in ["redelivered", "overdue", "due", "list", "unacked"] {
        with_server(|server| {
            run(async {
                let (broker, queue, other) = (broker(server), unique("q"), unique("other"));
                let (epoch, mut client) = (unique("epoch"), server.client());
                let key = match name {
                    "list" => queue.to_string(),
                    "unacked" => format!("{{{queue}}}:unacked:{epoch}"),
                    _ => format!("{{{queue}}}:{name}"),
                };
                redis::cmd("SET").arg(&key).arg("text").exec(&mut client).unwrap();
                let mut both = subscription(&queue, &epoch);
                both.queues.push(other.clone());
                let worker = broker.consume(both).await.unwrap();
                for round in 0..3 {
                    let mut fetch = worker.fetch(Want::of(4, 4));
                    if round == 2 {
                        let rest = std::time::Duration::from_millis(50);
                        assert!(tokio::time::timeout(rest, &mut fetch).await.is_err());
                    }
                    publish(&*broker, &other, &["x"]);
                    let got = tokio::time::timeout(PATIENCE, fetch).await.expect("it comes");
                    let got = got.unwrap_or_else(|e| panic!("{name}: {e}"));
                    ack(&*worker, &got).await;
                }
                if name == "redelivered" {
                    // What this key is not needed for works in its own queue too.
                    publish_numbers(&*broker, &queue, 2);
                    let got = take(&*worker, 2).await;
                    // This cannot be done; that can.
                    settle(&*worker, &got[..1], |_| Settle::Redeliver { id: "a".into() }).await;
                    ack(&*worker, &got[1..]).await;
                    redis::cmd("DEL").arg(&key).exec(&mut client).unwrap();
                    worker.release().await.unwrap();
                    let stats = QueueStats { depth: 1, ..QueueStats::default() };
                    assert_eq!(broker.stats(&queue).unwrap(), stats, "and nothing is lost");
                }
            });
        });
    }
}

#[test]
fn what_cannot_be_parked_or_deferred_is_not_lost() {
    with_server(|server| {
        run(async {
            let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
            publish_numbers(&*broker, &queue, 3);
            let worker = worker(&*broker, &[&queue]).await;
            let got = take(&*worker, 3).await;
            for key in ["dead", "due"] {
                let key = format!("{{{queue}}}:{key}");
                redis::cmd("SET").arg(key).arg("text").exec(&mut client).unwrap();
            }
            let park = Settle::Park { id: "0".into(), reason: "no".into() };
            let defer = Settle::Defer { id: "1".into(), due: wall_ms() + 3_600_000 };
            let how = |d: &_| if *d == got[0].tag { park.clone() } else { defer.clone() };
            settle(&*worker, &got[..2], |d| how(&d.tag)).await;
            ack(&*worker, &got[2..]).await;
            worker.release().await.unwrap();
            for key in ["dead", "due"] {
                redis::cmd("DEL").arg(format!("{{{queue}}}:{key}")).exec(&mut client).unwrap();
            }
            let next = self::worker(&*broker, &[&queue]).await;
            assert_eq!(bodies(&take(&*next, 2).await), ["0", "1"]);
        });
    });
}

#[test]
fn a_server_whose_memory_is_full_can_be_emptied() {
    const SIZE: usize = 10_000;
    let Some(server) = Server::start(&["--maxmemory", "12mb"]) else { return skipped("redis") };
    run(async {
        let (broker, queue, mut client) = (broker(&server), unique("q"), server.client());
        let large = |n: usize| {
            let large = message(&queue, &n.to_string()).body(format!("{n:0>SIZE$}"));
            if n.is_multiple_of(50) { large.due(wall_ms() + 2_600) } else { large }
        };
        // A worker that has been there, with something unacked, and one that was lost.
        let early = worker(&*broker, &[&queue]).await;
        let mut count = 0;
        while broker.publish(&[large(count)], soon()).is_ok() {
            count += 1;
        }
        assert!(count > 300, "{count}");
        let memory = ["CONFIG", "SET", "maxmemory", "1mb"];
        redis::cmd(memory[0]).arg(&memory[1..]).exec(&mut client).unwrap();
        let late = worker(&*broker, &[&queue]).await;
        let mut done = 0;
        while done < count {
            for worker in [&early, &late] {
                worker.renew().await.unwrap();
                let fetch = tokio::time::timeout(
                    std::time::Duration::from_millis(300),
                    worker.fetch(Want::of(9, 9)),
                );
                let Ok(got) = fetch.await else { continue };
                let got = got.unwrap();
                // Some take a way round, which needs memory for a moment.
                settle(&**worker, &got[..1], |_| Settle::Requeue).await;
                ack(&**worker, &got[1..]).await;
                done += got.len() - 1;
            }
            if broker.stats(&queue).unwrap().depth < 2 {
                break;
            }
        }
        early.release().await.unwrap();
        late.release().await.unwrap();
        assert!(broker.stats(&queue).unwrap().depth <= 4, "{:?}", broker.stats(&queue));
    });
}

#[test]
fn bytes_that_look_like_a_count_and_are_none_are_parked_and_replayed_as_they_were() {
    with_server(|server| {
        run(async {
            let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
            let bytes = b"\0tc99999999999999999999\n{}";
            redis::cmd("LPUSH").arg(&*queue).arg(bytes).exec(&mut client).unwrap();
            let worker = worker(&*broker, &[&queue]).await;
            let got = take(&*worker, 1).await;
            assert_eq!((&got[0].raw[..], got[0].suspect), (&bytes[..], false));
            settle(&*worker, &got, |_| Settle::Park { id: "".into(), reason: "r".into() }).await;
            assert_eq!(&broker.dead(&queue, 10).unwrap()[0].raw[..], bytes);
            // Records of other shapes, as a later version may write them, keep no other from going back.
            let dead = format!("{{{queue}}}:dead");
            for (field, record) in
                [("0", "no record"), ("1", "1 2 900 1\nx"), ("2", "5 -9 1 1\nirgood")]
            {
                redis::cmd("HSET").arg(&dead).arg(field).arg(record).exec(&mut client).unwrap();
            }
            assert_eq!(broker.replay(&queue, None).unwrap(), 2);
            let back = take(&*worker, 2).await;
            assert_eq!((&back[0].raw[..], &back[1].raw[..]), (&bytes[..], &b"good"[..]));
            let left: Vec<String> = redis::cmd("HKEYS").arg(&dead).query(&mut client).unwrap();
            assert_eq!(left, ["0", "1"]);
            worker.release().await.unwrap();
        });
    });
}

#[test]
fn of_a_batch_with_a_key_of_another_type_the_rest_is_published_and_answered() {
    with_server(|server| {
        run(async {
            let (broker, good, bad, mut client) =
                (broker(server), unique("good"), unique("bad"), server.client());
            redis::cmd("SET").arg(&*bad).arg("text").exec(&mut client).unwrap();
            redis::cmd("SET").arg(format!("{{{bad}}}:due")).arg("text").exec(&mut client).unwrap();
            let later = wall_ms() + 3_600_000;
            let mut batch: Vec<_> = [&good, &bad, &good, &bad, &good]
                .into_iter()
                .enumerate()
                .map(|(n, queue)| message(queue, &n.to_string()))
                .collect();
            for (n, queue, new_id) in
                [(5, &bad, true), (6, &good, true), (7, &bad, false), (8, &good, false)]
            {
                let one = message(queue, &n.to_string()).due(later);
                batch.push(Outgoing { new_id, ..one });
            }
            let answers = broker.publish(&batch, soon()).unwrap();
            let refused: Vec<usize> =
                (0..9).filter(|n| matches!(answers[*n], Answer::Refused(_))).collect();
            assert_eq!(refused, [1, 3, 5, 7], "{answers:?}");
            let Answer::Refused(why) = &answers[1] else { panic!("{answers:?}") };
            assert!(why.contains("WRONGTYPE"), "{why}");
            let stats = broker.stats(&good).unwrap();
            assert_eq!((stats.depth, stats.scheduled), (3, 2));
            let error = broker.publish(&batch[1..2], soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage);
        });
    });
}

#[test]
fn a_periodic_task_whose_queue_is_of_another_type_stays_and_spares_the_rest() {
    with_server(|server| {
        let (broker, queue, bad) = (broker(server), unique("q"), unique("bad"));
        let schedule = unique("schedule");
        redis::cmd("SET").arg(&*bad).arg("text").exec(&mut server.client()).unwrap();
        let names = ["first", "bad", "last"];
        let definition = |name: &str| Definition {
            name: name.to_owned(),
            definition: String::new(),
            done: 0,
            restart: false,
        };
        broker.put(&schedule, &names.map(definition), &Guard::Always).unwrap();
        let firing = |name: &str| {
            let queue = if name == "bad" { &bad } else { &queue };
            let message = Some(message(queue, name));
            Firing { name: name.to_owned(), from: 0, to: 1, message }
        };
        let done = broker.fire(&schedule, &names.map(firing), soon()).unwrap();
        assert_eq!(done, [true, false, true]);
        let entries = broker.entries(&schedule).unwrap().entries;
        let done: Vec<_> = entries.iter().map(|one| (&*one.name, one.done, one.runs)).collect();
        assert_eq!(done, [("bad", 0, 0), ("first", 1, 1), ("last", 1, 1)]);
        assert_eq!(broker.stats(&queue).unwrap().depth, 2);
    });
}

#[test]
fn what_is_cancelled_and_cannot_go_to_its_queue_stays_scheduled() {
    with_server(|server| {
        let (broker, queue, mut client) = (broker(server), unique("q"), server.client());
        let mut outgoing = message(&queue, "1").due(wall_ms() + 3_600_000).id("later");
        outgoing.message.content_type = "application/json".into();
        let outgoing = outgoing.body(r#"[[], {}, {"callbacks": [{"task": "next"}]}]"#);
        broker.publish(&[outgoing], soon()).unwrap();
        redis::cmd("SET").arg(&*queue).arg("text").exec(&mut client).unwrap();
        assert!(broker.cancel(&queue, "later").is_err());
        redis::cmd("DEL").arg(&*queue).exec(&mut client).unwrap();
        assert_eq!(broker.stats(&queue).unwrap().scheduled, 1);
        assert!(broker.cancel(&queue, "later").unwrap());
        let stats = broker.stats(&queue).unwrap();
        assert_eq!((stats.depth, stats.scheduled), (1, 0));
    });
}

#[test]
fn what_fires_for_later_and_cannot_be_scheduled_leaves_nothing() {
    with_server(|server| {
        let (broker, queue, schedule) = (broker(server), unique("q"), unique("schedule"));
        let (mut client, due) = (server.client(), format!("{{{queue}}}:due"));
        let definition = String::new();
        let entry = Definition { name: "a".into(), definition, done: 0, restart: false };
        broker.put(&schedule, &[entry], &Guard::Always).unwrap();
        redis::cmd("SET").arg(&due).arg("text").exec(&mut client).unwrap();
        let later = message(&queue, "1").due(wall_ms() + 3_600_000);
        let firing = [Firing { name: "a".into(), from: 0, to: 1, message: Some(later) }];
        assert_eq!(broker.fire(&schedule, &firing, soon()).unwrap(), [false]);
        redis::cmd("DEL").arg(&due).exec(&mut client).unwrap();
        let left: Vec<String> =
            redis::cmd("KEYS").arg(format!("{due}*")).query(&mut client).unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(broker.fire(&schedule, &firing, soon()).unwrap(), [true]);
        assert_eq!(broker.stats(&queue).unwrap().scheduled, 1);
    });
}
