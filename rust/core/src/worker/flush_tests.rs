use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    broker::{Delivery, Recovered, Settle, Want, memory::MemoryBroker},
    error::ErrorKind,
    result::{Join, JoinClaim, Joins, State, Stored, join::MemberEnd},
    worker::storing::LARGE,
};

/// A store and a consumer that write down what they get, when they are let.
#[derive(Default)]
struct Servers {
    log: Mutex<Vec<String>>,
    refusals: Mutex<Vec<ErrorKind>>,
    poison: Mutex<Option<String>>,
    gate: Option<Semaphore>,
}

impl Servers {
    async fn take(&self, entry: String) -> Result<()> {
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("open").forget();
        }
        let refusal = self.refusals.lock().expect("whole").pop();
        if let Some(kind) = refusal {
            return Err(Error::new(kind, "refused"));
        }
        self.log.lock().expect("whole").push(entry);
        Ok(())
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().expect("whole"))
    }
}

impl Joins for Servers {
    fn declare(&self, _: &Join) -> Result<()> {
        unreachable!("the loop never declares")
    }
    fn extend(&self, _: &Join) -> Result<()> {
        unreachable!("the loop never adds members")
    }
    fn members(&self, _: &str, _: usize) -> Result<Vec<MemberEnd>> {
        unreachable!("flush never reads")
    }
    fn renew(&self, _: &JoinClaim) -> Result<bool> {
        unreachable!("flush never renews")
    }
    fn close<'a>(&'a self, _: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        unreachable!("flush never closes")
    }
    fn reopen<'a>(&'a self, _: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        unreachable!("flush never opens")
    }
}

impl ResultStore for Servers {
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored>> {
        let ids: Vec<&str> = batch.iter().map(|r| r.id.as_str()).collect();
        let poison = self.poison.lock().expect("whole");
        let poisoned = ids.iter().position(|id| poison.as_deref() == Some(id));
        let entry = format!("store {}", ids.join(","));
        Box::pin(async move {
            self.take(entry).await?;
            let refused = poisoned.map(|n| (n, Error::new(ErrorKind::TooLarge, "too large")));
            Ok(Stored { refused: refused.into_iter().collect(), ..Stored::default() })
        })
    }
    fn put(&self, _: &Record) -> Result<()> {
        unreachable!("the loop never puts")
    }
    fn get(&self, _: &[&str]) -> Result<Vec<Option<Bytes>>> {
        unreachable!("the loop never reads")
    }
    fn wait(
        &self,
        _: &str,
        _: crate::result::Origin,
        _: Option<std::time::Instant>,
        _: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>> {
        unreachable!("the loop never waits")
    }
    fn watch(
        &self,
        _: &str,
        _: crate::result::Origin,
        _: u64,
        _: &Arc<dyn crate::result::Observer>,
    ) -> Result<crate::result::Watch> {
        unreachable!("the loop never watches")
    }
    fn forget(&self, _: &str) -> Result<()> {
        unreachable!("the loop never forgets")
    }
    fn cleanup(&self) -> Result<u64> {
        unreachable!("the loop never cleans")
    }
    fn reply_to(&self) -> &'static str {
        "tc-x"
    }
    fn url(&self) -> &'static str {
        "fake://"
    }
}

impl Consumer for Servers {
    fn fetch(&self, _: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        unreachable!("flush never fetches")
    }
    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        let entries: Vec<String> = batch.iter().map(|s| format!("{}", s.tag.seq)).collect();
        Box::pin(async move { self.take(format!("settle {}", entries.join(","))).await })
    }
    fn begin(&self, _: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        unreachable!("flush never renews")
    }
    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        unreachable!("flush never sweeps")
    }
    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        unreachable!("flush never releases")
    }
    fn epoch(&self) -> &'static str {
        "e"
    }
}

struct Bench {
    servers: Arc<Servers>,
    consumer: Arc<dyn Consumer>,
    flush: Flush,
}

fn bench(servers: Servers) -> Bench {
    let servers = Arc::new(servers);
    let store: Arc<dyn ResultStore> = servers.clone();
    let broker = Arc::new(MemoryBroker::new("memory://", "flush"));
    let flush = Flush::new(broker, Some(store), Box::new(|| 1.0));
    Bench { consumer: servers.clone(), servers, flush }
}

fn record(id: &str) -> Record {
    Record {
        id: id.into(),
        state: State::Success,
        document: Bytes::new(),
        reply_to: None,
        expires_ms: None,
        member: None,
    }
}

fn settlement(seq: u64, how: Settle) -> Settlement {
    Settlement { tag: Tag { lane: 0, seq }, how }
}

impl Bench {
    fn ack(&mut self, seq: u64) {
        self.flush.push(None, Some(settlement(seq, Settle::Ack)).into());
    }

    fn both(&mut self, id: &str, seq: u64) {
        self.flush.push(Some(record(id)), Some(settlement(seq, Settle::Ack)).into());
    }

    fn kick(&mut self, idle: bool, now: Micros) {
        self.flush.kick(Some(&self.consumer), idle, now);
    }

    /// Lets everything happen that can without more time passing than settlements gather for.
    async fn run(&mut self, now: Micros) -> Vec<FlushNews> {
        let mut news = Vec::new();
        loop {
            self.kick(true, now);
            self.kick(true, now.max(self.flush.settled_at + GATHER_US)); // what only gathers leaves too
            let mut next = std::pin::pin!(self.flush.news(now));
            let polled = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            match polled {
                Poll::Ready(item) => news.push(item),
                Poll::Pending => return news,
            }
        }
    }
}

#[tokio::test]
async fn records_are_stored_before_their_settlements_leave() {
    let mut b = bench(Servers::default());
    b.both("a", 1);
    b.both("b", 2);
    b.ack(3);
    assert_eq!(b.flush.len(), 3);
    b.run(0).await;
    assert_eq!(b.servers.log(), ["store a,b", "settle 3", "settle 1,2"]);
    assert_eq!(b.flush.len(), 0);
}

#[tokio::test]
async fn without_a_store_only_settlements_leave() {
    let mut b = bench(Servers::default());
    b.flush.storing = Storing::new(None);
    b.both("a", 1);
    b.run(0).await;
    assert_eq!(b.servers.log(), ["settle 1"]);
}

#[tokio::test]
async fn settlements_gather_and_records_of_an_idle_worker_do_not() {
    let mut b = bench(Servers::default());
    let first = GATHER_US;
    b.ack(1);
    b.kick(false, first); // the first leaves at once: none left lately
    b.flush.news(first).await;
    b.ack(2);
    b.kick(false, first + 1);
    assert_eq!(b.servers.log(), ["settle 1"]);
    assert_eq!(b.flush.next_wake(true), Some(first + GATHER_US));
    assert_eq!(b.flush.next_wake(false), None);
    b.ack(3);
    b.kick(false, first + GATHER_US);
    b.flush.news(0).await;
    assert_eq!(b.servers.log(), ["settle 2,3"]);
    b.ack(4);
    b.kick(true, first + GATHER_US + 1); // nobody waits for an acknowledgement
    assert!(b.flush.settling.is_none());
    for seq in 0..GATHER as u64 {
        b.ack(seq);
    }
    b.kick(false, first + GATHER_US + 2);
    assert!(b.flush.settling.is_some());
}

#[tokio::test]
async fn what_comes_while_a_batch_is_under_way_makes_the_next() {
    let mut b = bench(Servers { gate: Some(Semaphore::new(0)), ..Servers::default() });
    b.ack(1);
    b.run(0).await;
    b.ack(2);
    b.ack(3);
    b.run(0).await;
    assert_eq!(b.servers.log(), [""; 0]);
    b.servers.gate.as_ref().expect("set").add_permits(2);
    b.run(0).await;
    assert_eq!(b.servers.log(), ["settle 1", "settle 2,3"]);
}

#[tokio::test]
async fn a_store_that_is_away_keeps_records_and_their_settlements() {
    let mut b = bench(Servers {
        refusals: Mutex::new(vec![ErrorKind::Storage, ErrorKind::Connection]),
        ..Servers::default()
    });
    b.both("a", 1);
    let news = b.run(0).await;
    assert!(matches!(news[..], [FlushNews::StoreFailed(_)]), "{news:?}");
    b.both("b", 2);
    let again = b.flush.next_wake(true).expect("it will be tried again");
    assert!(b.run(again - 1).await.is_empty());
    b.run(again).await; // refused once more
    assert_eq!(b.servers.log(), [""; 0]);
    b.run(again * 10).await;
    assert_eq!(b.servers.log(), ["store a,b", "settle 1,2"]);
}

#[tokio::test]
async fn one_impossible_record_is_told_apart() {
    let mut b = bench(Servers { poison: Mutex::new(Some("d".into())), ..Servers::default() });
    for (seq, id) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        b.both(id, seq as u64);
    }
    let mut news = b.run(0).await.into_iter();
    let Some(FlushNews::Stored(mut refused, ..)) = news.next() else {
        panic!("nothing was stored")
    };
    let one = refused.remove(0);
    assert_eq!((one.record.id.as_str(), one.error.kind()), ("d", ErrorKind::TooLarge));
    assert!(refused.is_empty());
    // The worker decides what becomes of it.
    assert_eq!(b.servers.log(), ["store a,b,c,d,e", "settle 0,1,2,4"]);
    b.flush.push(None, one.after);
    b.run(GATHER_US).await;
    assert_eq!(b.servers.log(), ["settle 3"]);
    assert_eq!((b.flush.len(), b.flush.bytes()), (0, 0));
}

#[tokio::test]
async fn a_large_record_travels_alone_and_in_turn() {
    let mut b = bench(Servers::default());
    let large = Record { document: Bytes::from(vec![0; LARGE + 1]), ..record("large") };
    b.flush.push(Some(large.clone()), Some(settlement(1, Settle::Ack)).into());
    b.both("a", 2);
    b.both("b", 3);
    b.flush.push(Some(Record { id: "larger".into(), ..large }), SettleAfter::default());
    b.servers.refusals.lock().expect("whole").push(ErrorKind::Connection);
    b.run(0).await;
    assert_eq!(b.servers.log(), [""; 0]);
    let retry = b.flush.next_wake(true).expect("it will be tried again");
    b.both("c", 4);
    b.run(retry).await;
    let log = b.servers.log();
    let stored: Vec<&str> = log.iter().filter_map(|l| l.strip_prefix("store ")).collect();
    assert_eq!(stored, ["large", "a,b,c", "larger"], "what failed does not stand in the way");
    assert_eq!((b.flush.len(), b.flush.bytes()), (0, 0));
}

#[tokio::test]
async fn what_is_given_up_is_held_unless_it_must_not_run_again() {
    let mut b = bench(Servers { gate: Some(Semaphore::new(0)), ..Servers::default() });
    let of = |state| Record { state, ..record("x") };
    let ack = |seq, once| SettleAfter {
        settlement: Some(settlement(seq, Settle::Ack)),
        once,
        join: None,
    };
    b.flush.push(Some(of(State::Success)), ack(1, true));
    b.run(0).await; // on its way
    b.flush.push(Some(of(State::Success)), ack(2, false));
    b.flush.push(Some(of(State::Retry)), ack(3, false));
    b.flush.push(Some(of(State::Success)), SettleAfter::default());
    let held: Vec<bool> = b.flush.give_up().iter().map(|one| one.held).collect();
    assert_eq!(held, [false, true, false, false]);
    b.servers.gate.as_ref().expect("set").add_permits(9);
    b.run(GATHER_US).await;
    assert_eq!(b.servers.log(), ["settle 1", "settle 3"], "the first left beside its record");
    assert_eq!((b.flush.len(), b.flush.bytes()), (0, 0));
}

#[tokio::test]
async fn settlements_outlive_the_connection_but_not_the_lease() {
    let mut b =
        bench(Servers { refusals: Mutex::new(vec![ErrorKind::Connection]), ..Servers::default() });
    b.ack(1);
    assert!(matches!(b.run(0).await[..], [FlushNews::SettleFailed(_)]));
    b.ack(2);
    b.run(u64::MAX / 2).await;
    assert_eq!(b.servers.log(), ["settle 1,2"]);

    b.servers.refusals.lock().expect("whole").push(ErrorKind::Fenced);
    b.ack(3);
    assert!(matches!(b.run(u64::MAX / 2).await[..], [FlushNews::SettleFailed(_)]));
    b.both("a", 4);
    b.flush.fenced();
    b.run(u64::MAX - 1).await;
    assert_eq!(b.servers.log(), ["store a"]);
    assert_eq!(b.flush.len(), 0);
}

#[tokio::test]
async fn what_is_handed_back_goes_in_the_order_of_claims() {
    let mut b = bench(Servers::default());
    for seq in [5, 2, 9] {
        b.flush.push(None, Some(settlement(seq, Settle::HandBack)).into());
    }
    b.ack(1);
    b.run(0).await;
    assert_eq!(b.servers.log(), ["settle 2,5,9,1"]);
}

#[tokio::test]
async fn a_call_settles_a_thousand_and_what_is_handed_back_keeps_its_order() {
    let mut b = bench(Servers::default());
    let back: Vec<u64> = (1..=2_500).collect();
    for seq in back.iter().rev() {
        b.flush.push(None, Some(settlement(*seq, Settle::HandBack)).into());
    }
    b.ack(9_999);
    b.ack(9_998);
    while b.flush.len() > 0 {
        b.run(b.flush.next_wake(true).expect("some are left")).await;
    }
    let names = |part: &[u64]| part.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let (first, rest) = back.split_at(500);
    let (second, third) = rest.split_at(1_000);
    let expected =
        [&[9_999, 9_998], third, second, first].map(|part| format!("settle {}", names(part)));
    assert_eq!(b.servers.log(), expected);
}

#[tokio::test]
async fn a_backlog_is_noticed_until_half_of_it_is_gone() {
    let mut b = bench(Servers::default());
    for seq in 0..KEPT as u64 {
        assert!(!b.flush.is_full());
        b.ack(seq);
    }
    assert!(b.flush.is_full());
    b.flush.ready.truncate(KEPT / 2);
    assert!(b.flush.is_full());
    b.flush.ready.truncate(KEPT / 2 - 1);
    assert!(!b.flush.is_full());
    let half = Record { document: Bytes::from(vec![0; KEPT_BYTES / 2]), ..record("half") };
    b.flush.push(Some(half.clone()), SettleAfter::default());
    assert!(!b.flush.is_full());
    b.flush.push(Some(half), SettleAfter::default());
    assert!(b.flush.is_full());
}
