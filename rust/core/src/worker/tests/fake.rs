//! What the loop is tested with: a broker that can be unplugged, a pool that follows a script, an
//! oracle that counts.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, Sleep, sleep},
};

use crate::{
    broker::{
        Admin, Answer, Broker, Capability, Consumer, DeadLetter, Delivery, Outgoing, QueueOrder,
        QueueStats, Recovered, Settle, Settlement, Subscription, Tag, Want, memory::MemoryBroker,
    },
    clock,
    config::{Prefetch, TaskSpec, WorkerConfig},
    error::{Error, ErrorKind, Result},
    event::EXCHANGE,
    future::BoxFuture,
    message::{Encoding, Message},
    pool::{Call, EndedTask, FollowUp, Lost, Outcome, Pool, PoolNews, Status, shrunk},
    result::{ResultStore, memory::MemoryResults},
    worker::tests::flaky_results::FlakyResults,
    worker::{
        EventOptions, Handle, Now, Stats, Stop, Surroundings, Worker,
        compose::{Composed, Composer, Ending, ErrorCall, Fate},
    },
};

pub(crate) const QUEUE: &str = "q";
/// Bytes of the document of a task that ends `large`.
pub(crate) const LARGE: usize = 16 << 20;

/// A name for a store that no other test has.
fn fresh() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("memory://loop-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

#[derive(Default)]
struct Faults {
    down: bool,
    refuses: Option<ErrorKind>,
    publish: Option<ErrorKind>,
    /// The task whose message no queue takes.
    unroutable: Option<String>,
    fenced: bool,
    marks: bool,
    epochs: usize,
    inner: Option<Arc<dyn Consumer>>,
}

/// The in-process broker behind a cable that can be pulled.
pub(crate) struct Flaky {
    inner: Arc<MemoryBroker>,
    name: String,
    faults: Mutex<Faults>,
    changed: Notify,
    /// Every settlement that reached the broker.
    pub(crate) settled: Mutex<Vec<Settlement>>,
    /// What a worker said that it holds, each time that it connected again; sequence numbers.
    pub(crate) retained: Mutex<Vec<Vec<u64>>>,
    /// How often somebody tried to connect.
    pub(crate) attempts: AtomicU64,
    /// When something was to be published, and how long that was to take at most.
    published: Mutex<Vec<(Instant, Duration)>>,
}

impl Flaky {
    pub(crate) fn new() -> Arc<Self> {
        Self::to(fresh())
    }

    fn to(name: String) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(MemoryBroker::timed("memory://", &name, || {
                wall_us().div_euclid(1_000)
            })),
            name,
            faults: Mutex::default(),
            changed: Notify::new(),
            settled: Mutex::default(),
            retained: Mutex::default(),
            attempts: AtomicU64::new(0),
            published: Mutex::default(),
        })
    }

    /// Another cable to the same store.
    pub(crate) fn beside(&self) -> Arc<Self> {
        Self::to(self.name.clone())
    }

    /// Pulls or plugs the cable.
    /// What carries events; it has no faults.
    pub(crate) fn hears(&self) -> Arc<MemoryBroker> {
        Arc::clone(&self.inner)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.faults.lock().expect("whole").down = down;
        self.changed.notify_waiters();
    }

    /// Refuses connections with this error, or not.
    pub(crate) fn refuse(&self, kind: Option<ErrorKind>) {
        self.faults.lock().expect("whole").refuses = kind;
    }

    /// Refuses what is published with this error, or not.
    pub(crate) fn refuse_publish(&self, kind: Option<ErrorKind>) {
        self.faults.lock().expect("whole").publish = kind;
    }

    /// When each attempt to publish began, and how long it was to take at most.
    pub(crate) fn attempts_to_publish(&self) -> Vec<(Instant, Duration)> {
        self.published.lock().expect("whole").clone()
    }

    /// Has no queue for the message of this task.
    pub(crate) fn lose_route(&self, id: &str) {
        self.faults.lock().expect("whole").unroutable = Some(id.to_owned());
    }

    /// Loses marks with their connection, or not.
    pub(crate) fn lose_marks(&self, lose: bool) {
        self.faults.lock().expect("whole").marks = lose;
    }

    /// Ends the lease and puts back what was held under it, as another worker would.
    pub(crate) async fn fence(&self) {
        let inner = self.faults.lock().expect("whole").inner.take();
        if let Some(inner) = inner {
            inner.release().await.expect("memory");
        }
        self.faults.lock().expect("whole").fenced = true;
        self.changed.notify_waiters();
    }

    /// Puts messages into the queue.
    pub(crate) fn put(&self, messages: &[Message]) {
        for message in messages {
            let encoding = if message.headers.rare().lang.is_some() {
                Encoding::Celery
            } else {
                Encoding::Compact
            };
            // Due at once, whatever its ETA: the loop is what is tested.
            self.inner.put_raw(QUEUE, &message.headers.id, message.encode(encoding));
        }
    }

    /// Puts a message into another queue.
    pub(crate) fn put_in(&self, queue: &str, message: &Message) {
        self.inner.put_raw(queue, &message.headers.id, message.encode(Encoding::Compact));
    }

    /// Puts anything into the queue.
    pub(crate) fn put_raw(&self, id: &str, data: Bytes) {
        self.inner.put_raw(QUEUE, id, data);
    }

    /// Ids of what is in the queue, first first. Takes them.
    pub(crate) async fn take_all(&self) -> Vec<String> {
        self.take_counted().await.into_iter().map(|(id, _)| id).collect()
    }

    /// The same, each with how often a worker was lost with it.
    pub(crate) async fn take_counted(&self) -> Vec<(String, u32)> {
        let depth = self.inner.stats(QUEUE).expect("memory").depth as usize;
        if depth == 0 {
            return Vec::new();
        }
        let subscription = Subscription {
            queues: vec![QUEUE.into()],
            declarations: Vec::new(),
            order: QueueOrder::default(),
            epoch: "reader".into(),
            max_deliveries: 3,
        };
        let consumer = self.inner.consume(subscription).await.expect("memory");
        let deliveries = consumer.fetch(Want::of(depth, 0)).await.expect("memory");
        let id = |d: &Delivery| Message::decode(&d.raw).expect("ours").headers.id;
        deliveries.iter().map(|d| (id(d), d.redeliveries)).collect()
    }

    pub(crate) fn figures(&self) -> QueueStats {
        self.inner.stats(QUEUE).expect("memory")
    }

    pub(crate) fn dead(&self) -> Vec<DeadLetter> {
        self.inner.dead(QUEUE, 100).expect("memory")
    }

    fn trouble(&self) -> Option<Error> {
        let faults = self.faults.lock().expect("whole");
        let kind = if faults.down {
            ErrorKind::Connection
        } else {
            faults.fenced.then_some(ErrorKind::Fenced)?
        };
        Some(Error::new(kind, "unplugged"))
    }
}

/// A broker as the worker sees it.
pub(crate) struct Cable(pub(crate) Arc<Flaky>);

impl Broker for Cable {
    fn publish(&self, batch: &[Outgoing], deadline: std::time::Instant) -> Result<Vec<Answer>> {
        let left = deadline.saturating_duration_since(clock::instant());
        self.0.published.lock().expect("whole").push((Instant::now(), left));
        if let Some(kind) = self.0.faults.lock().expect("whole").publish {
            return Err(Error::new(kind, "refused"));
        }
        self.0.trouble().map_or(Ok(()), Err)?;
        let unroutable = self.0.faults.lock().expect("whole").unroutable.clone();
        let is_lost = |one: &Outgoing| unroutable.as_deref() == Some(&one.message.headers.id);
        let (mut answers, mut taken) = (Vec::new(), Vec::new());
        for one in batch {
            answers.push(is_lost(one).then_some(Answer::Unroutable));
            if !is_lost(one) {
                taken.push(one.clone());
            }
        }
        let mut published = self.0.inner.publish(&taken, deadline)?.into_iter();
        Ok(answers.into_iter().filter_map(|one| one.or_else(|| published.next())).collect())
    }
    fn url(&self) -> &'static str {
        "flaky://"
    }
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }

    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        Box::pin(async move {
            self.0.attempts.fetch_add(1, Ordering::Relaxed);
            let epoch = {
                let mut faults = self.0.faults.lock().expect("whole");
                if faults.down {
                    return Err(Error::new(ErrorKind::Connection, "unplugged"));
                }
                if let Some(kind) = faults.refuses {
                    return Err(Error::new(kind, "refused"));
                }
                faults.fenced = false;
                faults.epochs += usize::from(faults.inner.is_none());
                format!("{}.{}", subscription.epoch, faults.epochs)
            };
            // The lease outlives a connection: the same epoch goes on.
            let inner =
                self.0.inner.consume(Subscription { epoch: epoch.clone(), ..subscription }).await?;
            self.0.faults.lock().expect("whole").inner = Some(Arc::clone(&inner));
            Ok(Arc::new(Plug { inner, broker: Arc::clone(&self.0), epoch }) as Arc<dyn Consumer>)
        })
    }
}

struct Plug {
    inner: Arc<dyn Consumer>,
    broker: Arc<Flaky>,
    epoch: String,
}

impl Plug {
    fn check(&self) -> Result<()> {
        self.broker.trouble().map_or(Ok(()), Err)
    }
}

impl Consumer for Plug {
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                let changed = self.broker.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                self.check()?;
                tokio::select! {
                    deliveries = self.inner.fetch(want) => return deliveries,
                    () = changed => {}
                }
            }
        })
    }
    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // A round trip takes a moment, in which the cable may be pulled.
            tokio::task::yield_now().await;
            self.check()?;
            self.broker.settled.lock().expect("whole").extend(batch.iter().cloned());
            self.inner.settle(batch).await?;
            self.broker.changed.notify_waiters();
            Ok(())
        })
    }
    fn begin(&self, tags: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.check()?;
            if self.broker.faults.lock().expect("whole").marks {
                return Err(Error::new(ErrorKind::Connection, "unplugged"));
            }
            self.inner.begin(tags).await
        })
    }
    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.check() })
    }
    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(async move {
            self.check()?;
            self.inner.recover().await
        })
    }
    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn retain(&self, held: Vec<Tag>) -> BoxFuture<'_, Result<Recovered>> {
        let held = held.into_iter().map(|tag| tag.seq).collect();
        self.broker.retained.lock().expect("whole").push(held);
        self.inner.retain(Vec::new())
    }
    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check()?;
            self.inner.release().await
        })
    }
    fn epoch(&self) -> &str {
        &self.epoch
    }
}

/// Limits in microseconds.
type SoftAndHard = (Option<u64>, Option<u64>);

/// What happened, by task id.
#[derive(Default)]
pub(crate) struct Oracle {
    begun: Mutex<Vec<(String, Instant)>>,
    ended: Mutex<Vec<String>>,
    limits: Mutex<HashMap<String, SoftAndHard>>,
    killed: AtomicU64,
    changed: Notify,
}

impl Oracle {
    /// Ids in the order of their beginning.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.begun.lock().expect("whole").iter().map(|(id, _)| id.clone()).collect()
    }

    /// Soft and hard limit that each began with.
    pub(crate) fn limits(&self) -> HashMap<String, SoftAndHard> {
        self.limits.lock().expect("whole").clone()
    }

    /// When each began.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.begun.lock().expect("whole").iter().map(|(_, at)| *at).collect()
    }

    /// Ids in the order of their end.
    pub(crate) fn ended(&self) -> Vec<String> {
        self.ended.lock().expect("whole").clone()
    }

    /// How often each began.
    pub(crate) fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for id in self.begun() {
            *counts.entry(id).or_default() += 1;
        }
        counts
    }

    /// How many workers were killed by their tasks.
    pub(crate) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Waits for something to have happened.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    fn begin(&self, id: &str) {
        self.begun.lock().expect("whole").push((id.into(), Instant::now()));
        self.changed.notify_waiters();
    }

    fn end(&self, id: &str) {
        self.ended.lock().expect("whole").push(id.into());
        self.changed.notify_waiters();
    }
}

struct Run {
    key: u64,
    id: String,
    end: String,
    until: Option<Pin<Box<Sleep>>>,
}

/// Composes what follows joins: `after-<group>`, which runs what is said in the embed of the member
/// that completes it in the place of a body; `garbled` cannot be composed, `hostile` not even ended,
/// `unreachable` needs a server that is away, `pair` is two messages, and `within` is the first member
/// of the chord `outer`.
struct ScriptedComposer(Arc<Oracle>);

impl Composer for ScriptedComposer {
    fn limit(&self) -> usize {
        100
    }

    fn compose(&self, ending: &Ending) -> Result<Composed> {
        let member = Message::decode(&ending.message).expect("what the member came with");
        let body: serde_json::Value = serde_json::from_slice(&member.body).expect("JSON");
        let script = body[2]["chord"]["task"].as_str().expect("a body");
        let group = &ending.group;
        let told = match &ending.fate {
            Fate::Succeeded(results) => {
                let results = results.iter().map(|r| String::from_utf8_lossy(r).into_owned());
                format!("{group} {}", results.collect::<Vec<_>>().join(" "))
            }
            Fate::Failed { id, .. } => format!("{group} failed {id}"),
            Fate::Lost(why) => format!("{group} lost {why}"),
        };
        self.0.begin(&told);
        let failed = !matches!(ending.fate, Fate::Succeeded(_));
        if script == "unreachable" {
            return Err(Error::new(ErrorKind::Connection, script));
        }
        if script == "hostile" || (script == "garbled" && !failed) {
            return Err(Error::new(ErrorKind::Encode, script));
        }
        let id = format!("after-{group}");
        if failed {
            let document = Bytes::from_static(b"unrun");
            let within = script == "within" && group != "outer";
            let end = |id| EndedTask {
                id,
                revoked: false,
                document: document.clone(),
                member: within.then(|| ("outer".to_owned(), Some(0))),
            };
            let more = (script == "pair").then(|| end(format!("{id}-2")));
            let ended = [end(id.clone())].into_iter().chain(more).collect();
            let message = message(&id, "early", "0 ok").encode(Encoding::Compact);
            let end = br#"{"state": "FAILURE", "exc_type": "ChordError", "exc_message": [], "exc_module": "celery.exceptions"}"#;
            let end = Box::from(&end[..]);
            let calls = vec![ErrorCall { message, queue: QUEUE.into(), end }];
            return Ok(Composed { ended, calls, ..Composed::default() });
        }
        let ids = if script == "pair" { vec![id.clone(), format!("{id}-2")] } else { vec![id] };
        let script = if script == "pair" { "0 ok" } else { script };
        let follow = ids.into_iter().map(|id| {
            let data = message(&id, "early", script).encode(Encoding::Compact);
            FollowUp { queue: QUEUE.into(), id: id.as_str().into(), data }
        });
        Ok(Composed { follow: follow.collect(), ..Composed::default() })
    }
}

/// Runs what a message's `shadow` says: `<milliseconds | forever> <how it ends>`. What ends `last`
/// does so when the pool is killed.
pub(crate) struct ScriptedPool {
    slots: usize,
    queued: VecDeque<Call>,
    running: Vec<Run>,
    news: Vec<PoolNews>,
    oracle: Arc<Oracle>,
    broken: bool,
    dead: bool,
}

impl ScriptedPool {
    pub(crate) fn new(slots: usize, oracle: Arc<Oracle>) -> Self {
        Self {
            slots,
            queued: VecDeque::new(),
            running: Vec::new(),
            news: Vec::new(),
            oracle,
            broken: false,
            dead: false,
        }
    }

    fn begin(&mut self, call: &Call) {
        let message = Message::decode(&call.message).expect("the loop sends what it could read");
        if let Some(end) = &call.ended {
            let end: serde_json::Value = serde_json::from_slice(end).expect("JSON");
            let mut told = format!("{} {} {}", message.headers.id, end["state"], end["exc_type"]);
            let again = end["again"] == true;
            told.push_str(if again { " again" } else { "" });
            let script = message.headers.rare().shadow.as_deref().unwrap_or_default();
            let end = match script.rsplit(' ').next() {
                Some("followed") => "told followed",
                Some("deadly") => "die",
                Some("harmful") if !again => "die",
                Some("beside") if !self.oracle.begun().contains(&told.replace('"', "")) => "beside",
                _ => "ignore",
            };
            return self.tell(call.key, told.replace('"', ""), end);
        }
        let script = message.headers.rare().shadow.clone().unwrap_or_else(|| "0 ok".into());
        let (time, end) = script.split_once(' ').expect("a script");
        let until = (time != "forever")
            .then(|| Box::pin(sleep(Duration::from_millis(time.parse().expect("a time")))));
        if time != "0" {
            self.news.push(PoolNews::Started { key: call.key, pid: 7, at: 0 });
        }
        let limits = (call.soft_us, call.hard_us);
        self.oracle.limits.lock().expect("whole").insert(message.headers.id.clone(), limits);
        self.oracle.begin(&message.headers.id);
        self.running.push(Run { key: call.key, id: message.headers.id, end: end.into(), until });
    }

    /// A call that does not run its task any more.
    fn tell(&mut self, key: u64, told: String, end: &str) {
        self.news.push(PoolNews::Started { key, pid: 7, at: 0 });
        self.oracle.begin(&told);
        let until = Some(Box::pin(sleep(Duration::from_millis(10))));
        self.running.push(Run { key, id: told, end: end.into(), until });
    }

    /// A message after what ends `followed` or `again`.
    fn follow(run: &Run) -> Vec<FollowUp> {
        if !run.end.ends_with("followed") && run.end != "again" {
            return Vec::new();
        }
        let id = run.id.split(' ').next().unwrap_or_default();
        let next = message(&format!("after-{id}"), "early", "0 ok");
        let id = next.headers.id.as_str().into();
        vec![FollowUp { queue: QUEUE.into(), id, data: next.encode(Encoding::Compact) }]
    }

    fn finish(&mut self, run: &Run) {
        let status = match run.end.as_str() {
            "ok" | "large" | "last" | "followed" => Status::Success,
            "swap" => {
                // As two children give back what waits at them, each at its own moment.
                let back = self.queued.drain(..).rev();
                self.news.extend(back.map(|call| PoolNews::Returned { key: call.key }));
                Status::Success
            }
            "fail" => Status::Failure,
            "retry" | "again" => Status::Retry,
            "ignore" | "told followed" => Status::Ignore,
            "reject" => Status::Reject,
            "requeue" => Status::Requeue,
            "garbled" => Status::Undecodable,
            "die" => {
                let why = Lost::Died("signal 9 (SIGKILL)".into());
                return self.news.push(PoolNews::Lost { key: run.key, pid: 0, why });
            }
            "beside" => {
                let why = Lost::Beside;
                return self.news.push(PoolNews::Lost { key: run.key, pid: 7, why });
            }
            "break" => {
                self.broken = true;
                return;
            }
            "kill" => {
                // The process of the worker is gone; whoever watches drops what is left of it.
                self.dead = true;
                self.oracle.killed.fetch_add(1, Ordering::Relaxed);
                return self.oracle.changed.notify_waiters();
            }
            "limit" => {
                return self.news.push(PoolNews::Lost {
                    key: run.key,
                    pid: 0,
                    why: Lost::TimeLimit(1_000_000),
                });
            }
            other => panic!("no such end: {other}"),
        };
        self.oracle.end(&run.id);
        self.news.push(PoolNews::Done(Outcome {
            pid: 0,
            key: run.key,
            status,
            runtime_us: 10,
            document: Some(match run.end.as_str() {
                "large" => Bytes::from(vec![0; LARGE]),
                end => Bytes::copy_from_slice(end.as_bytes()),
            }),
            note: format!("it says {}", run.end),
            traceback: String::new(),
            follow: Self::follow(run),
            ended: Vec::new(),
        }));
    }
}

impl Pool for ScriptedPool {
    fn slots(&self) -> usize {
        self.slots
    }
    fn room(&self) -> usize {
        (self.slots * 2).saturating_sub(self.running.len() + self.queued.len())
    }
    fn submit(&mut self, calls: Vec<Call>) -> Result<()> {
        assert!(calls.len() <= self.room(), "more calls than room");
        self.queued.extend(calls);
        Ok(())
    }
    fn news(&mut self) -> BoxFuture<'_, Result<Vec<PoolNews>>> {
        Box::pin(std::future::poll_fn(|cx| {
            while self.running.len() < self.slots && !self.dead {
                let Some(call) = self.queued.pop_front() else { break };
                self.begin(&call);
            }
            let mut at = 0;
            while at < self.running.len() && !self.dead {
                let until = self.running[at].until.as_mut();
                if until.is_some_and(|u| u.as_mut().poll(cx).is_ready()) {
                    let run = self.running.remove(at);
                    self.finish(&run);
                } else {
                    at += 1;
                }
            }
            if self.broken {
                Poll::Ready(Err(Error::new(ErrorKind::Internal, "the pool broke")))
            } else if self.news.is_empty() || self.dead {
                Poll::Pending
            } else {
                Poll::Ready(Ok(std::mem::take(&mut self.news)))
            }
        }))
    }
    fn recall(&mut self) {
        self.news.extend(self.queued.drain(..).map(|c| PoolNews::Returned { key: c.key }));
    }
    fn pids(&self) -> Vec<u32> {
        vec![7]
    }
    fn cancel(&mut self, key: u64) -> bool {
        let queued = self.queued.len();
        self.queued.retain(|call| call.key != key);
        let back = self.queued.len() < queued;
        self.news.extend(back.then_some(PoolNews::Returned { key }));
        back
    }
    fn can_terminate(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGSTOP {
            return Err(Error::new(ErrorKind::Config, "not this one"));
        }
        Ok(())
    }
    fn terminate(&mut self, key: u64, signal: i32) {
        self.running.retain(|run| run.key != key);
        self.news.push(PoolNews::Lost { key, pid: 7, why: Lost::Terminated(signal) });
    }
    fn grow(&mut self, by: usize) -> Result<usize> {
        self.slots += by;
        Ok(self.slots)
    }
    fn shrink(&mut self, by: usize) -> Result<usize> {
        self.slots = shrunk(self.slots, by)?;
        Ok(self.slots)
    }
    fn shutdown(&mut self, force: bool) -> BoxFuture<'_, ()> {
        assert!(force || self.running.is_empty(), "a pool that works is not to be ended gently");
        self.queued.clear();
        self.news.clear();
        for run in std::mem::take(&mut self.running).iter().filter(|run| run.end == "last") {
            self.finish(run);
        }
        Box::pin(async {})
    }
    fn name(&self) -> &'static str {
        "scripted"
    }
}

/// A message for `task` that plays `script`.
pub(crate) fn message(id: &str, task: &str, script: &str) -> Message {
    let mut message = Message {
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        body: Bytes::from_static(b"[[], {}, {}]"),
        ..Message::default()
    };
    message.headers.task = task.into();
    message.headers.id = id.into();
    message.headers.rare_mut().shadow = Some(script.into());
    message
}

/// Two slots, tasks `early` and `late` and what the tests add, no patience at shutdown needed.
pub(crate) fn config() -> WorkerConfig {
    let spec = |acks_late| TaskSpec {
        acks_late,
        acks_on_failure_or_timeout: true,
        reject_on_worker_lost: true,
        ..TaskSpec::default()
    };
    WorkerConfig {
        hostname: "w@h".into(),
        queues: vec![QUEUE.into()],
        declarations: Vec::new(),
        queue_order: QueueOrder::default(),
        prefetch: Prefetch::Auto,
        prefetch_bytes: 64 << 20,
        tasks: HashMap::from([("early".into(), spec(false)), ("late".into(), spec(true))]),
        accept_content: vec!["application/json".into()],
        max_deliveries: 3,
        result_expires_ms: None,
        log_tasks: true,
        shutdown_timeout_ms: None,
        disable_rate_limits: false,
        revokes: <_>::default(),
        awaits_revoked: false,
    }
}

/// A worker at work, and everything around it.
pub(crate) struct Lab {
    pub(crate) broker: Arc<Flaky>,
    pub(crate) results: Arc<MemoryResults>,
    pub(crate) store: Arc<FlakyResults>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) handle: Handle,
    /// How long the process did not run while the clocks went on, in microseconds.
    stopped: Arc<AtomicU64>,
    run: JoinHandle<Result<Stats>>,
}

/// The wall clock at the start of the test, running with the (paused) time of the runtime.
pub(crate) fn wall_us() -> i64 {
    thread_local! { static ZERO: (Instant, i64) = (Instant::now(), clock::wall_us()); }
    ZERO.with(|(at, wall)| wall + at.elapsed().as_micros() as i64)
}

impl Lab {
    pub(crate) fn new(config: WorkerConfig) -> Self {
        Self::on(Flaky::new(), config)
    }

    /// Another worker with the same broker; what one does to its cable the other does not notice.
    pub(crate) fn beside(other: &Self, config: WorkerConfig) -> Self {
        Self::on(other.broker.beside(), config)
    }

    /// The worker dies without a word, its lease lapses, and another one comes.
    pub(crate) async fn crash(self, config: WorkerConfig) -> Self {
        self.run.abort();
        let _ = self.run.await;
        self.broker.inner.lapse();
        Self::with(self.broker.beside(), self.oracle, self.results, config)
    }

    /// Another worker with what a first one has left behind.
    pub(crate) fn over(broker: &Flaky, results: Arc<MemoryResults>, config: WorkerConfig) -> Self {
        Self::with(broker.beside(), Arc::default(), results, config)
    }

    /// A worker that tells events about tasks, and no heartbeats.
    pub(crate) fn telling(config: WorkerConfig) -> Self {
        let (broker, results) = (Flaky::new(), MemoryResults::new("memory://", &fresh()));
        let telling = EventOptions {
            tasks: true,
            heartbeat: None,
            exchange: EXCHANGE.into(),
            utcoffset: 0.0,
        };
        Self::begun(broker, Arc::default(), Arc::new(results), (config, Some(telling)))
    }

    pub(crate) fn on(broker: Arc<Flaky>, config: WorkerConfig) -> Self {
        let results = Arc::new(MemoryResults::new("memory://", &fresh()));
        Self::with(broker, Arc::default(), results, config)
    }

    fn with(
        broker: Arc<Flaky>,
        oracle: Arc<Oracle>,
        results: Arc<MemoryResults>,
        config: WorkerConfig,
    ) -> Self {
        Self::begun(broker, oracle, results, (config, None))
    }

    fn begun(
        broker: Arc<Flaky>,
        oracle: Arc<Oracle>,
        results: Arc<MemoryResults>,
        (config, events): (WorkerConfig, Option<EventOptions>),
    ) -> Self {
        let zero = Instant::now();
        wall_us();
        let stopped = Arc::new(AtomicU64::new(0));
        let gap = Arc::clone(&stopped);
        let surroundings = Surroundings {
            clock: Box::new(move || {
                let gap = gap.load(Ordering::Relaxed);
                Now {
                    wall: wall_us() + gap as i64,
                    mono: 1_000_000 + zero.elapsed().as_micros() as u64 + gap,
                }
            }),
            random: || Box::new(|| 0.5),
        };
        let pool = Box::new(ScriptedPool::new(2, Arc::clone(&oracle)));
        let cable = Arc::new(Cable(Arc::clone(&broker)));
        let store = FlakyResults::new(Arc::clone(&results));
        let (worker, handle) =
            Worker::within(surroundings, config, cable, Some(store.clone()), pool);
        let worker = worker.composing(Arc::new(ScriptedComposer(Arc::clone(&oracle))));
        let worker = match events {
            Some(options) => worker.telling(broker.hears(), options),
            None => worker,
        };
        Self { broker, results, store, oracle, handle, stopped, run: tokio::spawn(worker.run()) }
    }

    /// Stops the process for so long.
    pub(crate) fn stop_for(&self, time: Duration) {
        self.stopped.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// The document stored for `id`.
    pub(crate) fn document(&self, id: &str) -> Option<String> {
        let documents = self.results.get(&[id]).expect("memory");
        documents[0].as_ref().map(|d| String::from_utf8(d.to_vec()).expect("text"))
    }

    /// Waits until the queue looks so, letting time pass.
    pub(crate) async fn until_figures(&self, condition: impl Fn(&QueueStats) -> bool) {
        while !condition(&self.broker.figures()) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until nothing is in the queue or held.
    pub(crate) async fn until_empty(&self) {
        self.until_figures(|f| f.depth + f.in_flight == 0).await;
    }

    /// Waits until nothing is in the queue, held, running or unstored.
    pub(crate) async fn until_idle(&self) {
        let busy = |s: Stats| s.active + s.reserved + s.scheduled > 0;
        while {
            self.until_empty().await;
            busy(self.handle.stats())
        } {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(1)).await;
    }

    pub(crate) async fn stop(self, how: Stop) -> Result<Stats> {
        self.handle.stop(how);
        self.end().await
    }

    pub(crate) async fn end(self) -> Result<Stats> {
        self.run.await.expect("the loop did not panic")
    }

    /// How the broker was told, as words, without the tags.
    pub(crate) fn settlements(&self) -> Vec<&'static str> {
        let word = |s: &Settlement| match s.how {
            Settle::Ack => "ack",
            Settle::HandBack => "hand back",
            Settle::Requeue => "requeue",
            Settle::Redeliver { .. } => "redeliver",
            Settle::Defer { .. } => "defer",
            Settle::Park { .. } => "park",
        };
        self.broker.settled.lock().expect("whole").iter().map(word).collect()
    }
}
