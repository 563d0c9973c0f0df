//! The one connection state machine: connect, consume, fetch, renew, sweep, and again after a
//! failure.
//!
//! It is polled by the loop's task and answers with news, so it needs no channel and no task of its
//! own; at most one fetch, one renewal and one sweep are under way at a time. Anything that fails
//! brings the whole connection down, because half a connection is worse than none: a worker that
//! renews its lease but cannot fetch looks alive and does nothing. It reconnects for ever, with
//! backoff and full jitter; the backoff starts over only when the connection has proved useful.
//! Only a broker that says at the first attempt that it can never work ends the worker.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::{
    backoff,
    broker::{
        Broker, Consumer, Delivery, Recovered, Subscription, Tag, Want,
        lease::{LEASE_MS, RENEW_MS, SWEEP_MS},
    },
    clock::{self, Micros},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// One attempt to connect takes at most this.
const CONNECT: Duration = Duration::from_secs(10);
/// A renewal or sweep that has not been answered by then means that the connection is dead.
const ANSWER: Duration = Duration::from_millis(LEASE_MS as u64 / 2);
/// First ceiling of the wait before reconnecting, and the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));

/// What the connection reports.
#[derive(Debug)]
pub(super) enum ConnectionNews {
    /// The connection stands; the epoch may be another than before. The lease was taken at most so
    /// long ago.
    Up(Duration),
    /// What a fetch claimed.
    Deliveries(Vec<Delivery>),
    /// The lease was renewed, at most so long ago.
    Renewed(Duration),
    /// What was to be marked as begun is.
    Marked,
    /// What a sweep put back.
    Recovered(Recovered),
    /// What the broker had under this worker's lease that the worker did not hold, and put back.
    Retained(Recovered),
    /// The epochs whose lease stands, asked once when those of workers that are gone have ended.
    Epochs(Vec<String>),
    /// The connection failed or could not be made; it will be tried again.
    Down(Error),
    /// It can never be made.
    Fatal(Error),
}

struct Up {
    consumer: Arc<dyn Consumer>,
    /// And whether it takes suspects.
    fetch: Option<(bool, BoxFuture<'static, Result<Vec<Delivery>>>)>,
    mark: Option<BoxFuture<'static, Result<()>>>,
    /// Runs before the first fetch.
    retain: Option<BoxFuture<'static, Result<Recovered>>>,
    renew: Chore<((), Duration)>,
    sweep: Chore<Recovered>,
    epochs: Option<Chore<Vec<String>>>,
}

/// A consumer, and how long it took to connect.
type Connected = (Arc<dyn Consumer>, Duration);

enum State {
    Connecting(BoxFuture<'static, Result<Connected>>),
    Waiting(Pin<Box<Sleep>>),
    Up(Box<Up>),
    Closed,
}

/// The connection to the broker.
pub(super) struct Connection {
    broker: Arc<dyn Broker>,
    subscription: Subscription,
    state: State,
    /// Failures since the connection last proved useful. Written here, read by the backoff.
    attempt: u32,
    /// Whether it ever stood: before, a refusal is final.
    stood: bool,
    random: Box<dyn FnMut() -> f64 + Send>,
}

impl Connection {
    /// Not connected yet; the first poll begins it.
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        subscription: Subscription,
        random: Box<dyn FnMut() -> f64 + Send>,
    ) -> Self {
        let state = State::Connecting(connect(&broker, &subscription));
        Self { broker, subscription, state, attempt: 0, stood: false, random }
    }

    /// Waits for the next news; cancel-safe.
    pub(super) async fn news(&mut self) -> ConnectionNews {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The consumer, while the connection stands.
    pub(super) fn consumer(&self) -> Option<&Arc<dyn Consumer>> {
        match &self.state {
            State::Up(up) => Some(&up.consumer),
            _ => None,
        }
    }

    /// What the names of this worker's epochs begin with.
    pub(super) fn own_epoch(&self) -> &str {
        &self.subscription.epoch
    }

    /// Has the broker put back what it has under this worker's lease and is not among `held`. Nothing
    /// is fetched before that is done.
    pub(super) fn retain(&mut self, held: Vec<Tag>) {
        if let State::Up(up) = &mut self.state {
            let consumer = Arc::clone(&up.consumer);
            let retain = async move { consumer.retain(held).await };
            up.retain = Some(Box::pin(bounded(ANSWER, retain)));
        }
    }

    /// Whether a fetch may be begun that takes `suspects` or not: none is under way, or one that
    /// takes none and may block while suspects wait in the broker.
    pub(super) fn can_fetch(&self, suspects: bool) -> bool {
        let State::Up(up) = &self.state else { return false };
        up.retain.is_none() && up.fetch.as_ref().is_none_or(|(takes, _)| suspects && !takes)
    }

    /// Begins a fetch, if [`Connection::can_fetch`], in the place of one that is under way.
    pub(super) fn fetch(&mut self, want: Want) {
        if !self.can_fetch(want.suspects > 0) {
            return;
        }
        if let State::Up(up) = &mut self.state {
            let consumer = Arc::clone(&up.consumer);
            let fetch = Box::pin(async move { consumer.fetch(want).await });
            up.fetch = Some((want.suspects > 0, fetch));
        }
    }

    /// Whether messages may be marked.
    pub(super) fn can_mark(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.mark.is_none())
    }

    /// Marks messages as begun, if [`Connection::can_mark`].
    pub(super) fn mark(&mut self, tags: Vec<Tag>) {
        if let State::Up(up) = &mut self.state
            && up.mark.is_none()
        {
            let consumer = Arc::clone(&up.consumer);
            let mark = async move { consumer.begin(tags).await };
            up.mark = Some(Box::pin(bounded(ANSWER, mark)));
        }
    }

    /// Whether the queues may be changed now.
    pub(super) fn can_subscribe(&self) -> bool {
        !matches!(&self.state, State::Up(up) if up.mark.is_some())
    }

    /// Consumes from these queues from now on, under the lease that it has: the consumer is made
    /// anew. Of no queues it keeps the last ones, which nobody fetches from.
    pub(super) fn subscribe(&mut self, queues: &[Arc<str>]) {
        if !queues.is_empty() {
            self.subscription.queues = queues.to_vec();
        }
        if matches!(self.state, State::Up(_) | State::Connecting(_)) {
            self.state = State::Connecting(connect(&self.broker, &self.subscription));
        }
    }

    /// Somebody else's use of the connection failed: reconnect.
    pub(super) fn fail(&mut self, kind: ErrorKind) {
        if !matches!(self.state, State::Up(_)) {
            return;
        }
        // A lapsed lease says nothing against the broker: take a fresh epoch at once.
        let wait = if kind == ErrorKind::Fenced && self.attempt == 0 {
            Duration::ZERO
        } else {
            backoff::exponential(self.attempt, BACKOFF.0, BACKOFF.1, (self.random)())
        };
        self.attempt = self.attempt.saturating_add(1);
        self.state = State::Waiting(Box::pin(sleep(wait)));
    }

    /// Stops everything; the consumer for the last call, if the connection stands.
    pub(super) fn close(&mut self) -> Option<Arc<dyn Consumer>> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Up(up) => Some(up.consumer),
            _ => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionNews> {
        loop {
            match &mut self.state {
                State::Closed => return Poll::Pending,
                State::Waiting(until) => {
                    ready!(until.as_mut().poll(cx));
                    self.state = State::Connecting(connect(&self.broker, &self.subscription));
                }
                State::Connecting(attempt) => {
                    let result = ready!(attempt.as_mut().poll(cx));
                    return Poll::Ready(self.connected(result));
                }
                State::Up(up) => {
                    let news = ready!(up.poll(cx));
                    return Poll::Ready(self.judge(news));
                }
            }
        }
    }

    fn connected(&mut self, result: Result<Connected>) -> ConnectionNews {
        match result {
            Ok((consumer, took)) => {
                self.stood = true;
                let (renew, sweep) = (Chore::every(RENEW_MS), Chore::every(SWEEP_MS));
                let epochs = Some(Chore::every(LEASE_MS as u64 + RENEW_MS));
                self.state = State::Up(Box::new(Up {
                    consumer,
                    fetch: None,
                    mark: None,
                    retain: None,
                    renew,
                    sweep,
                    epochs,
                }));
                ConnectionNews::Up(took)
            }
            Err(error)
                if !self.stood && !error.is_retryable() && error.kind() != ErrorKind::Fenced =>
            {
                self.state = State::Closed;
                ConnectionNews::Fatal(error)
            }
            Err(error) => {
                let wait =
                    backoff::exponential(self.attempt, BACKOFF.0, BACKOFF.1, (self.random)());
                self.attempt = self.attempt.saturating_add(1);
                self.state = State::Waiting(Box::pin(sleep(wait)));
                ConnectionNews::Down(error)
            }
        }
    }

    fn judge(&mut self, news: Result<ConnectionNews>) -> ConnectionNews {
        match news {
            Ok(news) => {
                self.attempt = 0;
                news
            }
            Err(error) => {
                self.fail(error.kind());
                ConnectionNews::Down(error)
            }
        }
    }
}

impl Up {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConnectionNews>> {
        if let Some((_, fetch)) = &mut self.fetch
            && let Poll::Ready(result) = fetch.as_mut().poll(cx)
        {
            self.fetch = None;
            return Poll::Ready(result.map(ConnectionNews::Deliveries));
        }
        if let Some(mark) = &mut self.mark
            && let Poll::Ready(result) = mark.as_mut().poll(cx)
        {
            self.mark = None;
            return Poll::Ready(result.map(|()| ConnectionNews::Marked));
        }
        if let Some(retain) = &mut self.retain
            && let Poll::Ready(result) = retain.as_mut().poll(cx)
        {
            self.retain = None;
            return Poll::Ready(result.map(ConnectionNews::Retained));
        }
        let consumer = &self.consumer;
        let renew = |c: Arc<dyn Consumer>| -> BoxFuture<'static, _> {
            Box::pin(timed(clock::boot_us, async move { c.renew().await }))
        };
        if let Poll::Ready(result) = self.renew.poll(cx, || renew(Arc::clone(consumer))) {
            return Poll::Ready(result.map(|((), took)| ConnectionNews::Renewed(took)));
        }
        let sweep = |c: Arc<dyn Consumer>| -> BoxFuture<'static, _> {
            Box::pin(async move { c.recover().await })
        };
        if let Poll::Ready(result) = self.sweep.poll(cx, || sweep(Arc::clone(consumer))) {
            return Poll::Ready(result.map(ConnectionNews::Recovered));
        }
        let epochs = |c: Arc<dyn Consumer>| -> BoxFuture<'static, _> {
            Box::pin(async move { c.epochs().await })
        };
        if let Some(chore) = &mut self.epochs
            && let Poll::Ready(result) = chore.poll(cx, || epochs(Arc::clone(consumer)))
        {
            self.epochs = None;
            return Poll::Ready(result.map(ConnectionNews::Epochs));
        }
        Poll::Pending
    }
}

/// Something to do every so often, one at a time, with a bounded time for the answer.
struct Chore<T> {
    every: Duration,
    timer: Pin<Box<Sleep>>,
    running: Option<BoxFuture<'static, Result<T>>>,
}

impl<T: 'static> Chore<T> {
    fn every(ms: u64) -> Self {
        let every = Duration::from_millis(ms);
        Self { every, timer: Box::pin(sleep(every)), running: None }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        begin: impl FnOnce() -> BoxFuture<'static, Result<T>>,
    ) -> Poll<Result<T>> {
        if self.running.is_none() {
            ready!(self.timer.as_mut().poll(cx));
            let work = begin();
            self.running = Some(Box::pin(bounded(ANSWER, work)));
        }
        let running = self.running.as_mut().expect("set above when it was empty");
        let result = ready!(running.as_mut().poll(cx));
        self.running = None;
        self.timer = Box::pin(sleep(self.every));
        Poll::Ready(result)
    }
}

fn connect(
    broker: &Arc<dyn Broker>,
    subscription: &Subscription,
) -> BoxFuture<'static, Result<Connected>> {
    let (broker, subscription) = (Arc::clone(broker), subscription.clone());
    Box::pin(timed(
        clock::boot_us,
        async move { bounded(CONNECT, broker.consume(subscription)).await },
    ))
}

/// What came of it, and how long it took. The runtime's clock stands still while the machine
/// sleeps; `clock` does not, and a lease grows old by it.
async fn timed<T>(
    clock: impl Fn() -> Micros,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Duration)> {
    let (begun, begun_us) = (Instant::now(), clock());
    let done = work.await?;
    let passed = Duration::from_micros(clock().saturating_sub(begun_us));
    Ok((done, begun.elapsed().max(passed)))
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            ErrorKind::Connection,
            format!("the broker did not answer within `{}` seconds", limit.as_secs()),
        )),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
