//! The promises of `broker/broadcast.rs`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use taskcore::broker::{
    Adapter,
    broadcast::{
        Binding, BroadcastMessage, Exchange, ExchangeType, Heard, REVOKED_MAX, Subscriber,
        WAITING_BYTES, WAITING_MAX,
    },
};

use crate::{Harness, PATIENCE, QUIET, broker::soon, unique};

/// Makes a test of every promise for one adapter.
#[macro_export]
macro_rules! broadcast_suite {
    ($adapter:ident, $start:path) => {
        $crate::broadcast_suite!(@ $adapter, $start,
            a_fanout_reaches_everybody, a_direct_message_reaches_one, topics_are_heard_by_pattern, what_is_said_is_heard_as_it_was,
            who_comes_late_has_missed_it, what_fits_twice_is_heard_once, saying_wakes_who_waits, a_dropped_receive_loses_nothing,
            who_does_not_keep_up_loses_the_oldest, large_messages_are_bounded_too, what_is_revoked_is_remembered_for_its_time,
        );
    };
    (@ $adapter:ident, $start:path, $($test:ident),* $(,)?) => {
        mod $adapter {
            $(
                #[test]
                fn $test() {
                    match $start() {
                        Some(harness) => $crate::run($crate::broadcast::$test(&harness)),
                        None => $crate::skipped(stringify!($adapter)),
                    }
                }
            )*
        }
    };
}

fn exchange(kind: ExchangeType) -> Exchange {
    Exchange { name: unique("exchange"), kind }
}

fn message(exchange: &Exchange, routing_key: &str, body: &str) -> BroadcastMessage {
    BroadcastMessage {
        exchange: exchange.clone(),
        routing_key: routing_key.into(),
        headers: serde_json::Map::new(),
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        body: Bytes::from(body.to_owned()),
    }
}

/// Says it on a handle of its own, as another process would.
fn say(h: &impl Harness, batch: &[BroadcastMessage]) {
    h.broker().broadcast(batch, soon()).unwrap();
}

async fn subscriber(
    broker: &dyn Adapter,
    exchange: &Exchange,
    keys: &[&str],
) -> Arc<dyn Subscriber> {
    let binding = |key: &&str| Binding { exchange: exchange.clone(), routing_key: Arc::from(*key) };
    broker.subscribe(keys.iter().map(binding).collect()).await.unwrap()
}

async fn receive(subscriber: &dyn Subscriber) -> Heard {
    let heard = tokio::time::timeout(PATIENCE, subscriber.receive());
    heard.await.expect("something is heard").unwrap()
}

/// Hears this many and nothing beyond them; their bodies.
async fn hear(subscriber: &dyn Subscriber, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let heard = receive(subscriber).await;
        assert_eq!(heard.lost, 0);
        let body = |message: &BroadcastMessage| String::from_utf8(message.body.to_vec()).unwrap();
        bodies.extend(heard.messages.iter().map(body));
    }
    silence(subscriber).await;
    bodies
}

async fn silence(subscriber: &dyn Subscriber) {
    let heard = tokio::time::timeout(QUIET, subscriber.receive()).await;
    assert!(heard.is_err(), "nothing was to be heard, got {heard:?}");
}

pub(crate) async fn a_fanout_reaches_everybody(h: &impl Harness) {
    let (all, other) = (exchange(ExchangeType::Fanout), exchange(ExchangeType::Fanout));
    let (first, second) = (h.broker(), h.broker());
    let here = subscriber(&*first, &all, &[""]).await;
    let there = subscriber(&*second, &all, &["whatever"]).await;
    let elsewhere = subscriber(&*second, &other, &[""]).await;
    say(h, &[message(&all, "", "ping"), message(&all, "key", "again")]);
    assert_eq!(hear(&*here, 2).await, ["ping", "again"]);
    assert_eq!(hear(&*there, 2).await, ["ping", "again"]);
    silence(&*elsewhere).await;
}

pub(crate) async fn a_direct_message_reaches_one(h: &impl Harness) {
    let (replies, broker) = (exchange(ExchangeType::Direct), h.broker());
    let one = subscriber(&*broker, &replies, &["client.1"]).await;
    let two = subscriber(&*broker, &replies, &["client.2"]).await;
    let (a, b) = (message(&replies, "client.1", "pong"), message(&replies, "*", "no pattern"));
    say(h, &[a, b, message(&replies, "client", "nobody")]);
    assert_eq!(hear(&*one, 1).await, ["pong"]);
    silence(&*two).await;
}

pub(crate) async fn topics_are_heard_by_pattern(h: &impl Harness) {
    let (events, broker) = (exchange(ExchangeType::Topic), h.broker());
    let tasks = subscriber(&*broker, &events, &["task.*"]).await;
    let every = subscriber(&*broker, &events, &["#"]).await;
    let some = subscriber(&*broker, &events, &["worker.online", "task.failed"]).await;
    let keys = ["task.received", "worker.online", "task.failed", "worker.heartbeat", "task"];
    say(h, &keys.map(|key| message(&events, key, key)));
    assert_eq!(hear(&*tasks, 2).await, ["task.received", "task.failed"]);
    assert_eq!(hear(&*every, 5).await, keys);
    assert_eq!(hear(&*some, 2).await, ["worker.online", "task.failed"]);
}

pub(crate) async fn what_is_said_is_heard_as_it_was(h: &impl Harness) {
    let (events, broker) = (exchange(ExchangeType::Topic), h.broker());
    let listener = subscriber(&*broker, &events, &["task.#"]).await;
    let mut said = message(&events, "task.sent", "");
    said.headers.insert("hostname".into(), "worker@host".into());
    said.headers.insert("clock".into(), 17.into());
    said.content_type = "application/data".into();
    said.content_encoding = "binary".into();
    said.body = Bytes::from((0..=255_u8).cycle().take(300_000).collect::<Vec<_>>());
    say(h, std::slice::from_ref(&said));
    assert_eq!(receive(&*listener).await, Heard { messages: vec![said], lost: 0 });
}

pub(crate) async fn who_comes_late_has_missed_it(h: &impl Harness) {
    let (all, broker) = (exchange(ExchangeType::Fanout), h.broker());
    say(h, &[message(&all, "", "to nobody")]);
    let early = subscriber(&*broker, &all, &[""]).await;
    say(h, &[message(&all, "", "to one")]);
    let late = subscriber(&*broker, &all, &[""]).await;
    say(h, &[message(&all, "", "to both")]);
    assert_eq!(hear(&*early, 2).await, ["to one", "to both"]);
    assert_eq!(hear(&*late, 1).await, ["to both"]);
    drop(early);
    say(h, &[message(&all, "", "to the other")]);
    assert_eq!(hear(&*late, 1).await, ["to the other"]);
}

pub(crate) async fn what_fits_twice_is_heard_once(h: &impl Harness) {
    let (events, broker) = (exchange(ExchangeType::Topic), h.broker());
    let listener = subscriber(&*broker, &events, &["task.*", "#", "task.sent"]).await;
    say(h, &[message(&events, "task.sent", "once")]);
    assert_eq!(hear(&*listener, 1).await, ["once"]);
}

pub(crate) async fn saying_wakes_who_waits(h: &impl Harness) {
    let (all, broker) = (exchange(ExchangeType::Fanout), h.broker());
    let listener = subscriber(&*broker, &all, &[""]).await;
    for round in 0..20 {
        let mut waiting = listener.receive();
        // The first round lets it come to rest; the others catch it on its way there.
        let rest = if round == 0 { QUIET } else { Duration::from_millis(round) };
        assert!(tokio::time::timeout(rest, &mut waiting).await.is_err());
        let (speaker, said) = (h.broker(), message(&all, "", "hello"));
        let saying = tokio::task::spawn_blocking(move || speaker.broadcast(&[said], soon()));
        let heard = tokio::time::timeout(PATIENCE, waiting).await.expect("it wakes").unwrap();
        saying.await.unwrap().unwrap();
        assert_eq!(&heard.messages[0].body[..], b"hello");
    }
}

pub(crate) async fn a_dropped_receive_loses_nothing(h: &impl Harness) {
    let (all, broker) = (exchange(ExchangeType::Fanout), h.broker());
    let listener = subscriber(&*broker, &all, &[""]).await;
    let mut bodies = Vec::new();
    for n in 0..50 {
        // Dropped after a few polls, at whatever step it was.
        let dropped = tokio::time::timeout(Duration::from_micros(100 * n), listener.receive());
        say(h, &[message(&all, "", &n.to_string())]);
        if let Ok(heard) = dropped.await {
            bodies.extend(heard.unwrap().messages);
        }
    }
    while bodies.len() < 50 {
        bodies.extend(receive(&*listener).await.messages);
    }
    let bodies: Vec<_> = bodies.iter().map(|message| message.body.to_vec()).collect();
    let expected: Vec<_> = (0..50).map(|n| n.to_string().into_bytes()).collect();
    assert_eq!(bodies, expected);
}

/// Says these a few at a time, each time until a second subscriber of the same handle has heard
/// them, so that they have come to the first one too, who does not ask.
async fn say_to_one_who_waits(h: &impl Harness, to: &dyn Subscriber, batch: &[BroadcastMessage]) {
    for piece in batch.chunks(1_000) {
        say(h, piece);
        until(to, &piece[piece.len() - 1]).await;
    }
}

/// Hears until the body that was said last; how many, how many were lost.
async fn until(subscriber: &dyn Subscriber, end: &BroadcastMessage) -> (usize, u64) {
    let (mut count, mut lost) = (0, 0);
    loop {
        let heard = receive(subscriber).await;
        count += heard.messages.len();
        lost += heard.lost;
        if heard.messages.last() == Some(end) {
            return (count, lost);
        }
    }
}

pub(crate) async fn who_does_not_keep_up_loses_the_oldest(h: &impl Harness) {
    const SAID: usize = 2 * WAITING_MAX + 7;
    let (all, broker) = (exchange(ExchangeType::Fanout), h.broker());
    let listener = subscriber(&*broker, &all, &[""]).await;
    let other = subscriber(&*broker, &all, &[""]).await;
    let batch: Vec<_> = (0..SAID).map(|n| message(&all, "", &n.to_string())).collect();
    say_to_one_who_waits(h, &*other, &batch).await;
    let (count, lost) = until(&*listener, &batch[SAID - 1]).await;
    assert_eq!(count, WAITING_MAX, "so many wait");
    assert_eq!(count as u64 + lost, SAID as u64, "what was lost is counted");
    say(h, &[message(&all, "", "next")]);
    assert_eq!(hear(&*listener, 1).await, ["next"], "and once only");
}

pub(crate) async fn large_messages_are_bounded_too(h: &impl Harness) {
    let (all, broker) = (exchange(ExchangeType::Fanout), h.broker());
    let listener = subscriber(&*broker, &all, &[""]).await;
    let other = subscriber(&*broker, &all, &[""]).await;
    let large = |n: usize| message(&all, "", &format!("{n}{}", "x".repeat(WAITING_BYTES / 4)));
    let batch: Vec<_> = (0..12).map(large).collect();
    for one in batch.chunks(1) {
        say_to_one_who_waits(h, &*other, one).await;
    }
    let (count, lost) = until(&*listener, &batch[11]).await;
    assert_eq!((count, lost), (3, 9));
    let huge = message(&all, "", &"x".repeat(WAITING_BYTES + 1));
    say(h, std::slice::from_ref(&huge));
    assert_eq!(until(&*listener, &huge).await, (1, 0), "one is heard whatever its size");
}

pub(crate) async fn what_is_revoked_is_remembered_for_its_time(h: &impl Harness) {
    let broker = h.broker();
    let now = taskcore::clock::wall_ms();
    let revoke = |ids: &[&str], until| {
        let ids: Vec<Arc<str>> = ids.iter().copied().map(Arc::from).collect();
        broker.revoke(&ids, until, soon()).unwrap();
    };
    let revoked = || h.broker().revoked(soon()).unwrap().join(" ");
    assert_eq!(revoked(), "");
    revoke(&["c", "a"], now + 60_000);
    revoke(&["b", "a"], now + 50_000);
    revoke(&["gone"], now - 1);
    assert_eq!(revoked(), "a b c", "by when it is forgotten, the last time counts");
    revoke(&["b"], now + 70_000);
    assert_eq!(revoked(), "a c b");
    let many: Vec<Arc<str>> = (0..REVOKED_MAX).map(|n| format!("id{n}").into()).collect();
    broker.revoke(&many, now + 65_000, soon()).unwrap();
    let kept = broker.revoked(soon()).unwrap();
    assert_eq!((kept.len(), &*kept[REVOKED_MAX - 1]), (REVOKED_MAX, "b"));
}
