use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::broker::{Answer, Capability, Outgoing, QueueOrder, Settlement};

/// A broker whose consumers do what the script says; everything that is not said hangs.
#[derive(Default)]
struct Scripted {
    consumes: Mutex<Vec<Result<()>>>,
    renews: Mutex<Vec<Result<()>>>,
    connected: AtomicUsize,
    /// How long every answer takes.
    slow: Mutex<Duration>,
}

impl Scripted {
    async fn delay(&self) {
        let slow = *self.slow.lock().expect("whole");
        sleep(slow).await;
    }
}

struct Shared(Arc<Scripted>);

async fn next<T>(script: &Mutex<Vec<Result<T>>>) -> Result<T> {
    let entry = script.lock().expect("whole").pop();
    match entry {
        Some(result) => result,
        None => std::future::pending().await,
    }
}

impl Broker for Shared {
    fn publish(&self, _: &[Outgoing], _: std::time::Instant) -> Result<Vec<Answer>> {
        unreachable!("a connection does not publish")
    }
    fn consume(&self, _: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        Box::pin(async move {
            next(&self.0.consumes).await?;
            self.0.delay().await;
            self.0.connected.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::new(Shared(Arc::clone(&self.0))) as Arc<dyn Consumer>)
        })
    }
    fn url(&self) -> &'static str {
        "scripted://"
    }
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }
}

impl Consumer for Shared {
    fn fetch(&self, _: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(std::future::pending())
    }
    fn settle(&self, _: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        unreachable!("flush settles")
    }
    fn begin(&self, _: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.0.delay().await;
            next(&self.0.renews).await
        })
    }
    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(async { Ok(Recovered::default()) })
    }
    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        unreachable!("the loop releases")
    }
    fn epoch(&self) -> &'static str {
        "e"
    }
}

fn refused(kind: ErrorKind) -> Error {
    Error::new(kind, "scripted")
}

fn connection(consumes: Vec<Result<()>>, renews: Vec<Result<()>>) -> (Connection, Arc<Scripted>) {
    let broker = Arc::new(Scripted::default());
    *broker.consumes.lock().expect("whole") = consumes.into_iter().rev().collect();
    *broker.renews.lock().expect("whole") = renews.into_iter().rev().collect();
    let subscription = Subscription {
        queues: vec!["q".into()],
        declarations: Vec::new(),
        order: QueueOrder::default(),
        epoch: "e".into(),
        max_deliveries: 3,
    };
    (Connection::new(Arc::new(Shared(Arc::clone(&broker))), subscription, Box::new(|| 1.0)), broker)
}

/// The next news that is not a sweep's.
async fn news(connection: &mut Connection) -> ConnectionNews {
    loop {
        match connection.news().await {
            ConnectionNews::Recovered(_) => {}
            news => return news,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_the_cap() {
    let failures = (0..8).map(|_| Err(refused(ErrorKind::Connection))).chain([Ok(())]).collect();
    let (mut connection, _) = connection(failures, vec![]);
    let mut waits = Vec::new();
    let mut last = Instant::now();
    for _ in 0..8 {
        assert!(matches!(news(&mut connection).await, ConnectionNews::Down(_)));
        waits.push(last.elapsed().as_millis());
        last = Instant::now();
    }
    assert!(matches!(news(&mut connection).await, ConnectionNews::Up(_)));
    assert!(connection.consumer().is_some() && connection.can_fetch(true));
    for (wait, expected) in waits.into_iter().zip([0, 250, 500, 1_000, 2_000, 4_000, 8_000, 8_000])
    {
        assert!((expected..=expected + 1).contains(&wait), "{wait} instead of {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_brings_the_link_down() {
    let (mut connection, broker) = connection(vec![Ok(()), Ok(())], vec![Ok(())]);
    assert!(matches!(news(&mut connection).await, ConnectionNews::Up(_)));
    connection.fetch(Want::of(1, 0));
    assert!(!connection.can_fetch(true));
    assert!(matches!(news(&mut connection).await, ConnectionNews::Renewed(_)));
    let since = Instant::now();
    let ConnectionNews::Down(error) = news(&mut connection).await else { panic!("it hung") };
    assert_eq!(error.kind(), ErrorKind::Connection);
    let lease = Duration::from_millis(LEASE_MS as u64);
    assert!(
        since.elapsed() < lease,
        "found out before the lease could lapse: {:?}",
        since.elapsed()
    );
    assert!(connection.consumer().is_none() && !connection.can_fetch(true));
    assert!(matches!(news(&mut connection).await, ConnectionNews::Up(_)));
    assert_eq!(broker.connected.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_no_suspects_gives_way_to_one_that_does() {
    let (mut connection, _) = connection(vec![Ok(())], vec![]);
    assert!(matches!(news(&mut connection).await, ConnectionNews::Up(_)));
    connection.fetch(Want { ready: 1, suspects: 0, due: 0 });
    assert!(!connection.can_fetch(false) && connection.can_fetch(true));
    connection.fetch(Want::of(1, 0));
    assert!(!connection.can_fetch(false) && !connection.can_fetch(true));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_as_old_as_the_question() {
    let (mut connection, broker) = connection(vec![Ok(())], vec![Ok(())]);
    let slow = Duration::from_secs(3);
    *broker.slow.lock().expect("whole") = slow;
    let ConnectionNews::Up(took) = news(&mut connection).await else { panic!("it connects") };
    assert!(took >= slow);
    let ConnectionNews::Renewed(took) = news(&mut connection).await else { panic!("it renews") };
    assert!(took >= slow);
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_is_replaced_at_once() {
    let (mut connection, _) =
        connection(vec![Ok(()), Ok(())], vec![Err(refused(ErrorKind::Fenced))]);
    assert!(matches!(news(&mut connection).await, ConnectionNews::Up(_)));
    assert!(matches!(news(&mut connection).await, ConnectionNews::Down(_)));
    let since = Instant::now();
    assert!(matches!(news(&mut connection).await, ConnectionNews::Up(_)));
    assert!(since.elapsed() <= Duration::from_millis(1), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_proves_useful_backs_off_further() {
    let (mut connection, _) = connection((0..4).map(|_| Ok(())).collect(), vec![]);
    for expected in [250, 500, 1_000] {
        assert!(matches!(connection.news().await, ConnectionNews::Up(_)));
        connection.fail(ErrorKind::Storage);
        let since = Instant::now();
        // Connecting is no proof: only a fetch, a renewal or a sweep that was answered is.
        std::future::poll_fn(|cx| match &mut connection.state {
            State::Waiting(until) => until.as_mut().poll(cx),
            _ => Poll::Ready(()),
        })
        .await;
        let wait = since.elapsed().as_millis();
        assert!((expected..=expected + 1).contains(&wait), "{wait} instead of {expected}");
        connection.state = State::Connecting(connect(&connection.broker, &connection.subscription));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_only_at_the_first_attempt() {
    let (mut first, _) = connection(vec![Err(refused(ErrorKind::Config))], vec![]);
    assert!(matches!(news(&mut first).await, ConnectionNews::Fatal(_)));
    let (mut later, _) = connection(
        vec![Ok(()), Err(refused(ErrorKind::Config)), Ok(())],
        vec![Err(refused(ErrorKind::Connection))],
    );
    assert!(matches!(news(&mut later).await, ConnectionNews::Up(_)));
    assert!(matches!(news(&mut later).await, ConnectionNews::Down(_)));
    assert!(matches!(news(&mut later).await, ConnectionNews::Down(_)));
    assert!(matches!(news(&mut later).await, ConnectionNews::Up(_)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_attempt_is_bounded_and_closing_gives_the_consumer() {
    let (mut hung, _) = connection(vec![], vec![]);
    let since = Instant::now();
    assert!(matches!(news(&mut hung).await, ConnectionNews::Down(_)));
    assert!(since.elapsed() <= CONNECT + Duration::from_millis(1));
    assert!(hung.close().is_none());
    let (mut up, _) = connection(vec![Ok(())], vec![]);
    assert!(matches!(news(&mut up).await, ConnectionNews::Up(_)));
    assert!(up.close().is_some());
    assert!(up.consumer().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_sleep_of_the_machine_counts_as_time_that_an_answer_took() {
    let (times, asked) = ([1_000, 61_000_000], AtomicUsize::new(0));
    let clock = || times[asked.fetch_add(1, Ordering::Relaxed)];
    let ((), took) = timed(clock, std::future::ready(Ok(()))).await.unwrap();
    assert_eq!(took, Duration::from_millis(60_999));
}
