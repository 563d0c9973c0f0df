use std::sync::Mutex;

use super::*;
use crate::{
    broker::{
        Capability, Delivery, Outgoing, Recovered, Settle, Subscription, Want, memory::MemoryBroker,
    },
    error::Result,
    future::BoxFuture,
    message::{Encoding, Message},
    result::State,
};

/// A broker that writes down what is published, and refuses batches with a poisoned message or when
/// it is away.
struct Server {
    inner: MemoryBroker,
    log: Mutex<Vec<String>>,
    away: Mutex<u32>,
    poison: Mutex<Option<ErrorKind>>,
}

impl Broker for Server {
    fn publish(&self, batch: &[Outgoing], _: std::time::Instant) -> Result<Vec<Answer>> {
        let mut away = self.away.lock().expect("whole");
        if *away > 0 {
            *away -= 1;
            return Err(Error::new(ErrorKind::Connection, "away"));
        }
        let id = |outgoing: &Outgoing| outgoing.message.headers.id.clone();
        let poisoned = batch.iter().any(|outgoing| id(outgoing) == "poison");
        let poison = self.poison.lock().expect("whole");
        if let Some(kind) = poison.filter(|_| poisoned) {
            return Err(Error::new(kind, "refused"));
        }
        let lost = |outgoing: &&Outgoing| !outgoing.message.properties.exchange.is_empty();
        let refused = |outgoing: &&Outgoing| id(outgoing) == "wrong type";
        if batch.iter().all(|outgoing| refused(&outgoing)) {
            return Err(Error::new(ErrorKind::Storage, "wrong type"));
        }
        let ids: Vec<String> = batch.iter().filter(|o| !lost(o) && !refused(o)).map(id).collect();
        self.log.lock().expect("whole").push(ids.join(","));
        let answer = |o| match () {
            () if lost(&o) => Answer::Unroutable,
            () if refused(&o) => Answer::Refused("wrong type".into()),
            () => Answer::Confirmed,
        };
        Ok(batch.iter().map(answer).collect())
    }
    fn capabilities(&self) -> &'static [Capability] {
        self.inner.capabilities()
    }
    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        self.inner.consume(subscription)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}

struct Bench {
    server: Arc<Server>,
    outbox: Outbox,
    now: Micros,
}

fn bench() -> Bench {
    let server = Arc::new(Server {
        inner: MemoryBroker::new("memory://", "outbox"),
        log: Mutex::default(),
        away: Mutex::default(),
        poison: Mutex::default(),
    });
    Bench { outbox: Outbox::new(server.clone(), None), server, now: 0 }
}

fn message(id: &str) -> FollowUp {
    let mut message = Message { body: "0123456789".into(), ..Message::default() };
    message.headers.task = "proj.next".into();
    message.headers.id = id.into();
    if id.starts_with("lost") {
        message.properties.exchange = "logs".into();
    }
    FollowUp { queue: "q".into(), id: id.into(), data: message.encode(Encoding::Compact) }
}

impl Bench {
    /// Puts the messages that follow one task, whose own message has the tag `seq`.
    fn put(&mut self, ids: &[&str], seq: u64) {
        let settlement = Some(Settlement { tag: Tag { lane: 0, seq }, how: Settle::Ack });
        let follow = ids.iter().map(|id| message(id)).collect();
        let record = Record {
            id: "task".into(),
            state: State::Success,
            document: bytes::Bytes::from_static(b"{}"),
            reply_to: None,
            expires_ms: None,
            member: None,
        };
        self.outbox.push(follow, Some(record), settlement.into());
    }

    /// Lets one batch go, as soon as it may.
    async fn send(&mut self) -> Sent {
        self.send_over(None).await
    }

    /// The same, where a consumer may carry it.
    async fn send_over(&mut self, consumer: Option<&Arc<dyn Consumer>>) -> Sent {
        self.now = self.now.max(self.outbox.next_wake().expect("something waits"));
        self.outbox.kick(consumer, self.now);
        let now = self.now;
        std::future::poll_fn(|cx| self.outbox.poll(cx, now, &mut || 1.0)).await
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.server.log.lock().expect("whole"))
    }
}

#[tokio::test]
async fn what_comes_while_a_batch_is_under_way_makes_the_next() {
    let mut b = bench();
    b.put(&["a", "b"], 1);
    b.outbox.kick(None, 0);
    b.put(&["c"], 2);
    b.put(&["d"], 3);
    b.outbox.kick(None, 0);
    assert_eq!(b.outbox.len(), 3);
    let mut held = Vec::new();
    b.outbox.held(&mut held);
    assert_eq!(held.iter().map(|tag| tag.seq).collect::<Vec<_>>(), [2, 3, 1]);
    let sent = std::future::poll_fn(|cx| b.outbox.poll(cx, 0, &mut || 1.0)).await;
    let Sent::All(entries) = sent else { panic!("{sent:?}") };
    assert_eq!((entries.len(), entries[0].record.is_some()), (1, true));
    assert!(matches!(b.send().await, Sent::All(entries) if entries.len() == 2));
    assert_eq!(b.log(), ["a,b", "c,d"]);
    assert_eq!((b.outbox.len(), b.outbox.bytes(), b.outbox.next_wake()), (0, 0, None));
}

#[tokio::test]
async fn nothing_is_dropped_and_all_is_in_order_while_the_broker_is_away() {
    let mut b = bench();
    *b.server.away.lock().expect("whole") = 30;
    b.put(&["a"], 1);
    for _ in 0..30 {
        assert!(matches!(b.send().await, Sent::Failed(_)));
    }
    assert!(b.now > 0, "it waits between attempts");
    b.put(&["b"], 2);
    assert!(matches!(b.send().await, Sent::All(_)));
    assert_eq!(b.log(), ["a,b"]);
}

#[tokio::test]
async fn what_the_broker_will_never_take_holds_up_no_other() {
    for (kind, attempts) in
        [(ErrorKind::TooLarge, 1), (ErrorKind::Storage, REFUSALS), (ErrorKind::Internal, REFUSALS)]
    {
        let mut b = bench();
        *b.server.poison.lock().expect("whole") = Some(kind);
        b.put(&["a"], 1);
        b.put(&["poison", "with it"], 2);
        b.put(&["c"], 3);
        let (mut sent, mut refusals) = (0, 0);
        let refused = loop {
            match b.send().await {
                Sent::All(entries) => sent += entries.len(),
                Sent::Failed(_) => {
                    refusals += 1;
                    // Others go through all the time, and at once.
                    b.put(&["other"], 9);
                    assert_eq!(b.outbox.next_wake(), Some(0), "{kind:?}");
                }
                Sent::Refused(entry, error) => {
                    assert_eq!(error.kind(), kind);
                    break entry;
                }
                Sent::Superseded(_) => unreachable!("there is no join"),
            }
        };
        assert_eq!(refusals, attempts, "the whole batch once, then alone");
        assert_eq!(refused.follow[1], message("with it"));
        while b.outbox.len() > 0 {
            let Sent::All(entries) = b.send().await else { panic!("the others are good") };
            sent += entries.len();
        }
        let mut log = b.log();
        log.retain(|batch| !batch.contains("other"));
        assert_eq!(log, ["a", "c"], "{kind:?}");
        assert_eq!((sent, b.outbox.bytes()), (2 + attempts as usize, 0));
    }
}

#[tokio::test]
async fn a_broker_that_takes_nothing_says_nothing_of_a_message() {
    for kind in [ErrorKind::Storage, ErrorKind::Internal] {
        let mut b = bench();
        *b.server.poison.lock().expect("whole") = Some(kind);
        b.put(&["poison", "1"], 1);
        b.put(&["poison", "2"], 2);
        for _ in 0..10 * REFUSALS {
            assert!(matches!(b.send().await, Sent::Failed(_)), "{kind:?}");
        }
        assert!(b.now > 60_000_000, "it waits between attempts: {}", b.now);
        *b.server.poison.lock().expect("whole") = None;
        while b.outbox.len() > 0 {
            assert!(matches!(b.send().await, Sent::All(_)));
        }
        let mut log = b.log();
        log.sort();
        assert_eq!(log, ["poison,1", "poison,2"]);
    }
}

#[tokio::test]
async fn of_a_batch_that_is_partly_refused_only_that_part_is_sent_again() {
    let mut b = bench();
    b.put(&["a"], 1);
    b.put(&["b", "wrong type"], 2);
    b.put(&["c"], 3);
    assert!(matches!(b.send().await, Sent::All(entries) if entries.len() == 2));
    assert!(matches!(b.send().await, Sent::Failed(_)));
    assert_eq!(b.log(), ["a,b,c"]);
    assert_eq!(b.outbox.give_up()[0].follow, [message("wrong type")]);
}

#[tokio::test]
async fn what_has_no_queue_is_refused_and_the_rest_of_its_batch_is_sent_once() {
    let mut b = bench();
    b.put(&["a"], 1);
    b.put(&["lost-1"], 2);
    b.put(&["b", "c"], 3);
    b.put(&["lost-2"], 4);
    assert!(matches!(b.send().await, Sent::All(entries) if entries.len() == 2));
    for id in ["lost-1", "lost-2"] {
        let Sent::Refused(entry, error) = b.send().await else { panic!("it has no queue") };
        assert_eq!((&entry.follow[0], error.kind()), (&message(id), ErrorKind::Unroutable));
    }
    assert_eq!(b.log(), ["a,b,c", "", ""]);
    assert_eq!((b.outbox.len(), b.outbox.bytes()), (0, 0));
}

#[tokio::test]
async fn a_full_server_that_has_room_again_gets_all() {
    let mut b = bench();
    *b.server.poison.lock().expect("whole") = Some(ErrorKind::Storage);
    b.put(&["poison"], 1);
    for _ in 1..REFUSALS {
        assert!(matches!(b.send().await, Sent::Failed(_)));
    }
    *b.server.poison.lock().expect("whole") = None;
    assert!(matches!(b.send().await, Sent::All(_)));
    assert_eq!(b.log(), ["poison"]);
}

#[tokio::test]
async fn a_lapsed_lease_voids_settlements_and_not_what_follows() {
    let mut b = bench();
    b.put(&["a"], 1);
    b.outbox.kick(None, 0);
    b.put(&["b"], 2);
    b.outbox.fenced();
    let mut entries = Vec::new();
    for _ in 0..2 {
        let sent = if b.outbox.sending.is_some() {
            std::future::poll_fn(|cx| b.outbox.poll(cx, 0, &mut || 1.0)).await
        } else {
            b.send().await
        };
        let Sent::All(some) = sent else { panic!("{sent:?}") };
        entries.extend(some);
    }
    assert!(entries.iter().all(|entry| entry.after.settlement.is_none()));
    assert_eq!(b.log(), ["a", "b"]);
}

/// A consumer that publishes what is for the queue `q`, or fails.
#[derive(Default)]
struct Carrier {
    log: Mutex<Vec<String>>,
    away: Mutex<u32>,
}

impl Consumer for Carrier {
    fn publish(&self, message: &Outgoing) -> Option<BoxFuture<'static, Result<()>>> {
        let mut away = self.away.lock().expect("whole");
        let result = match *away {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::Connection, "away")),
        };
        *away = away.saturating_sub(1);
        self.log.lock().expect("whole").push(message.message.headers.id.clone());
        (&*message.queue == "q").then(|| -> BoxFuture<'static, _> { Box::pin(async { result }) })
    }
    fn fetch(&self, _: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        unreachable!("the outbox never fetches")
    }
    fn settle(&self, _: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        unreachable!("the outbox never settles")
    }
    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        unreachable!("the outbox never renews")
    }
    fn begin(&self, _: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        unreachable!("the outbox never marks")
    }
    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        unreachable!("the outbox never sweeps")
    }
    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        unreachable!("the outbox never asks")
    }
    fn release(&self) -> BoxFuture<'_, Result<()>> {
        unreachable!("the outbox never releases")
    }
    fn epoch(&self) -> &'static str {
        "e"
    }
}

#[tokio::test]
async fn a_lone_message_goes_over_the_connection_of_the_consumer() {
    let (mut b, carrier) = (bench(), Arc::new(Carrier::default()));
    let consumer: Arc<dyn Consumer> = carrier.clone();
    for (ids, by_consumer) in [(&["a"][..], true), (&["b", "c"], false)] {
        b.put(ids, 1);
        let sent = b.send_over(Some(&consumer)).await;
        assert!(matches!(&sent, Sent::All(entries) if entries.len() == 1), "{sent:?}");
        let log = std::mem::take(&mut *carrier.log.lock().expect("whole"));
        assert_eq!((!log.is_empty(), b.log().is_empty()), (by_consumer, by_consumer));
    }
    assert_eq!((b.outbox.len(), b.outbox.bytes()), (0, 0));
}

#[tokio::test]
async fn after_a_failure_it_goes_over_a_connection_of_its_own() {
    let (mut b, carrier) = (bench(), Arc::new(Carrier::default()));
    let consumer: Arc<dyn Consumer> = carrier.clone();
    *carrier.away.lock().expect("whole") = 1;
    b.put(&["a"], 1);
    assert!(matches!(b.send_over(Some(&consumer)).await, Sent::Failed(_)));
    assert!(matches!(b.send_over(Some(&consumer)).await, Sent::All(_)));
    assert_eq!(b.log(), ["a"], "by the producer's side");
    b.put(&["b"], 2);
    assert!(matches!(b.send_over(Some(&consumer)).await, Sent::All(_)));
    assert_eq!(*carrier.log.lock().expect("whole"), ["a", "b"]);
}
