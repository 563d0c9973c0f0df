//! What the whole loop costs per task: in-process broker, a pool that answers at once, results off
//! and on.
//!
//! Prints CPU time of the process per task, not wall time only: the machine may be busy. The
//! broker's own share (claim and acknowledge in the in-process broker, which is a test double and
//! not fast) is measured alone and shown beside it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use taskcore::{
    broker::{
        Broker, Outgoing, QueueOrder, Settle, Settlement, Subscription, Want, memory::MemoryBroker,
    },
    clock,
    config::{Prefetch, TaskSpec, WorkerConfig},
    error::Result,
    future::BoxFuture,
    message::{Encoding, Message},
    pool::{Call, Outcome, Pool, PoolNews, Status},
    result::{ResultStore, memory::MemoryResults},
    worker::{Handle, Stats, Stop, Worker},
};

const TASKS: usize = 200_000;

/// Answers as many calls at once as a busy child's socket would hold.
struct NoOp {
    done: VecDeque<Call>,
    /// How many there will be.
    expected: usize,
    /// When each was submitted, if somebody wants to know.
    submitted: Option<Arc<Mutex<Vec<i64>>>>,
    document: Option<Bytes>,
    finished: usize,
    ready: Option<std::task::Waker>,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

const BATCH: usize = 32;

impl Pool for NoOp {
    fn slots(&self) -> usize {
        2
    }
    fn room(&self) -> usize {
        256 - self.done.len()
    }
    fn submit(&mut self, calls: Vec<Call>) -> Result<()> {
        if let Some(submitted) = &self.submitted {
            let now = clock::wall_us();
            submitted.lock().expect("whole").extend(calls.iter().map(|_| now));
        }
        self.done.extend(calls);
        if let Some(waker) = self.ready.take() {
            waker.wake();
        }
        Ok(())
    }
    fn news(&mut self) -> BoxFuture<'_, Result<Vec<PoolNews>>> {
        Box::pin(std::future::poll_fn(|cx| {
            if self.done.is_empty() {
                self.ready = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let n = self.done.len().min(BATCH);
            self.finished += n;
            if self.finished == self.expected
                && let Some(stop) = self.stop.take()
            {
                stop();
            }
            let news = self.done.drain(..n).map(|call| {
                PoolNews::Done(Outcome {
                    pid: 0,
                    key: call.key,
                    status: Status::Success,
                    runtime_us: 3,
                    document: self.document.clone(),
                    note: String::new(),
                    traceback: String::new(),
                    follow: Vec::new(),
                    ended: Vec::new(),
                })
            });
            Poll::Ready(Ok(news.collect()))
        }))
    }
    fn shutdown(&mut self, _: bool) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    fn name(&self) -> &'static str {
        "no-op"
    }
}

fn message(n: usize, eta: Option<i64>) -> Outgoing {
    let mut message = Message {
        content_type: "application/x-msgpack".into(),
        content_encoding: "binary".into(),
        body: Bytes::from_static(b"\x93\x92\x02\x03\x80\x80"),
        ..Message::default()
    };
    message.headers.task = "proj.tasks.add".into();
    message.headers.id = format!("36d7e962-d910-4333-af9b-{n:012x}");
    message.headers.eta = eta;
    message.properties.reply_to = Some("tc-ee02fcbb842b377ebef48ea324be9bb9".into());
    let outgoing = Outgoing::new(message, "taskcore".into(), Encoding::Compact);
    Outgoing { new_id: true, ..outgoing }
}

fn config() -> WorkerConfig {
    WorkerConfig {
        hostname: "bench@host".into(),
        queues: vec!["taskcore".into()],
        declarations: Vec::new(),
        queue_order: QueueOrder::default(),
        prefetch: Prefetch::Auto,
        prefetch_bytes: 64 << 20,
        tasks: HashMap::from([(
            "proj.tasks.add".into(),
            TaskSpec { acks_late: true, ..TaskSpec::default() },
        )]),
        accept_content: vec!["application/json".into(), "application/x-msgpack".into()],
        max_deliveries: 3,
        result_expires_ms: Some(86_400_000),
        log_tasks: false,
        shutdown_timeout_ms: None,
        disable_rate_limits: false,
        revokes: taskcore::config::Revokes::default(),
        awaits_revoked: false,
    }
}

fn fill(broker: &MemoryBroker) {
    let batch: Vec<Outgoing> = (0..TASKS).map(|n| message(n, None)).collect();
    broker.publish(&batch, clock::instant() + Duration::from_secs(10)).expect("memory");
}

/// CPU time of this process in microseconds.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    stat.split(' ').next().expect("a figure").parse::<u64>().expect("nanoseconds") / 1_000
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn per_task(since: u64) -> f64 {
    (cpu_us() - since) as f64 / TASKS as f64
}

/// Claim and acknowledge alone, as the loop does it.
fn broker_alone(name: &str) -> f64 {
    let broker = MemoryBroker::new(name, name);
    fill(&broker);
    let from = cpu_us();
    runtime().block_on(async {
        let subscription = Subscription {
            queues: vec!["taskcore".into()],
            declarations: Vec::new(),
            order: QueueOrder::default(),
            epoch: "alone".into(),
            max_deliveries: 3,
        };
        let consumer = broker.consume(subscription).await.expect("memory");
        let mut left = TASKS;
        while left > 0 {
            let got = consumer.fetch(Want::of(500, 0)).await.expect("memory");
            left -= got.len();
            let acks = got.iter().map(|d| Settlement { tag: d.tag, how: Settle::Ack }).collect();
            consumer.settle(acks).await.expect("memory");
        }
    });
    per_task(from)
}

/// Reading the messages alone, part of the loop's cost that belongs to `message`.
fn decode_alone() -> f64 {
    let raw = |n| message(n, None).message.encode(Encoding::Compact);
    let all: Vec<Bytes> = (0..TASKS).map(raw).collect();
    let from = cpu_us();
    for raw in &all {
        std::hint::black_box(Message::decode(raw).expect("ours"));
    }
    per_task(from)
}

fn whole(name: &str, results: bool) -> f64 {
    let broker = Arc::new(MemoryBroker::new(name, name));
    fill(&broker);
    let store = results.then(|| Arc::new(MemoryResults::new(name, name)) as Arc<dyn ResultStore>);
    let document = results.then(|| Bytes::from_static(&[b'x'; 180]));
    let pool = NoOp { document, ..no_op(TASKS) };
    let from = cpu_us();
    let stats = run(broker, store, pool);
    assert_eq!(stats.processed as usize, TASKS);
    per_task(from)
}

fn no_op(expected: usize) -> NoOp {
    NoOp {
        done: VecDeque::new(),
        expected,
        submitted: None,
        document: None,
        finished: 0,
        ready: None,
        stop: None,
    }
}

/// Runs a worker until the pool has finished what it expects.
fn run(broker: Arc<MemoryBroker>, store: Option<Arc<dyn ResultStore>>, mut pool: NoOp) -> Stats {
    let (send, receive) = std::sync::mpsc::channel::<Handle>();
    pool.stop = Some(Box::new(move || receive.recv().expect("sent below").stop(Stop::Warm)));
    let (worker, handle) = Worker::new(config(), broker, store, Box::new(pool));
    send.send(handle).expect("the pool holds the other end");
    runtime().block_on(worker.run()).expect("a clean end")
}

/// Milliseconds by which tasks spread evenly over some seconds are submitted late: median, 99th
/// percentile, worst.
fn lateness() -> [f64; 3] {
    const COUNT: usize = 10_000;
    const SPREAD_US: i64 = 10_000_000;
    let broker = Arc::new(MemoryBroker::new("memory://eta", "eta"));
    let zero = clock::wall_us() + 500_000;
    let dues: Vec<i64> = (0..COUNT).map(|n| zero + n as i64 * SPREAD_US / COUNT as i64).collect();
    let batch: Vec<Outgoing> =
        dues.iter().enumerate().map(|(n, eta)| message(n, Some(*eta))).collect();
    broker.publish(&batch, clock::instant()).expect("memory");
    let submitted = Arc::new(Mutex::new(Vec::new()));
    run(broker, None, NoOp { submitted: Some(Arc::clone(&submitted)), ..no_op(COUNT) });
    let submitted = submitted.lock().expect("whole");
    let mut late: Vec<f64> =
        submitted.iter().zip(&dues).map(|(at, due)| (at - due) as f64 / 1e3).collect();
    late.sort_by(f64::total_cmp);
    [late[COUNT / 2], late[COUNT * 99 / 100], late[COUNT - 1]]
}

fn main() {
    let median = |mut figures: [f64; 5]| {
        figures.sort_by(f64::total_cmp);
        figures[2]
    };
    let broker = median(std::array::from_fn(|n| broker_alone(&format!("memory://alone-{n}"))));
    let decode = median(std::array::from_fn(|_| decode_alone()));
    let plain = median(std::array::from_fn(|n| whole(&format!("memory://plain-{n}"), false)));
    let stored = median(std::array::from_fn(|n| whole(&format!("memory://stored-{n}"), true)));
    report(&[
        ("in-process broker alone, claim and acknowledge", broker),
        ("Message::decode alone", decode),
        ("worker, no results", plain),
        ("worker, results in the in-process store", stored),
        ("loop and stations, no results (worker - broker - decode)", plain - broker - decode),
    ]);
    late(lateness());
}

#[allow(clippy::print_stdout)] // a benchmark prints
fn report(lines: &[(&str, f64)]) {
    for (what, us) in lines {
        println!("{us:8.3} us/task  {what}");
    }
}

#[allow(clippy::print_stdout)] // a benchmark prints
fn late([median, p99, worst]: [f64; 3]) {
    println!(
        "10,000 due times over 10 s, late by: median {median:.2} ms, p99 {p99:.2} ms, worst {worst:.2} ms"
    );
}
