//! What loop and thread of events share: what the loop has noted, and who tells it.
//!
//! A broker that is slow or away must not hold the loop up, so the loop only leaves events here, and
//! no more than [`WAITING_BYTES`] of them: what comes on top of that is dropped, counted, and said in
//! the log. The thread (`event_thread`) starts when there is something to tell, and ends with the
//! worker.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::{
    broker::{
        Broadcast,
        broadcast::{BroadcastMessage, Exchange, ExchangeType},
    },
    clock,
    event::{Field, Kind, Teller},
    message::JSON,
    worker::{event_thread::EventThread, handle::Shared, task_event::TaskEvent},
};

/// Bytes of events that wait to be sent.
const WAITING_BYTES: usize = 8 << 20;

/// What a worker tells, and as whom.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// Whether events about tasks are told from the start (`worker_send_task_events`).
    pub tasks: bool,
    /// Between two heartbeats; `None` for none. Default 2 s.
    pub heartbeat: Option<Duration>,
    /// Name of the exchange (`event_exchange`).
    pub exchange: Arc<str>,
    /// Hours west of Greenwich of this machine's time.
    pub utcoffset: f64,
}

/// What loop and thread share.
pub(super) struct EventSender {
    pub(super) broker: Arc<dyn Broadcast>,
    options: EventOptions,
    pub(super) teller: Teller,
    /// The worker's figures.
    figures: Arc<Shared>,
    /// Behind a std mutex because a section is a push or a swap.
    state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Told when the thread has ended.
    pub(super) ended: Notify,
}

/// What is behind the mutex.
#[derive(Default)]
pub(super) struct State {
    pub(super) thread: Thread,
    /// What was noted and not taken yet.
    pub(super) waiting: Vec<TaskEvent>,
    /// Memory that it holds, about.
    pub(super) bytes: usize,
    /// Whether the thread sleeps until something is there.
    pub(super) sleeps: bool,
    pub(super) dropped: u64,
    /// Events sent since the start, and those dropped. Read by whoever measures.
    pub(super) totals: (u64, u64),
    /// Whether a heartbeat is asked for out of turn.
    pub(super) beat: bool,
    /// Logical time.
    clock: u64,
    pub(super) closing: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Thread {
    #[default]
    None,
    Running,
    Ended,
}

impl EventSender {
    pub(super) fn new(
        broker: Arc<dyn Broadcast>,
        options: EventOptions,
        hostname: &str,
        figures: Arc<Shared>,
    ) -> Self {
        let teller = Teller::new(hostname, std::process::id(), options.utcoffset);
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { broker, options, teller, figures, state, changed, ended: Notify::new() }
    }

    pub(super) fn options(&self) -> &EventOptions {
        &self.options
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, unless there was one.
    pub(super) fn start(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.thread != Thread::None || state.closing {
            return;
        }
        let sender = Arc::clone(self);
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let builder = std::thread::Builder::new().name("taskcore-events".to_owned());
        let run = move || {
            tracing::dispatcher::with_default(&dispatch, || EventThread::new(&sender).run());
        };
        match builder.spawn(run) {
            Ok(_) => state.thread = Thread::Running,
            Err(error) => tracing::warn!(%error, "cannot start a thread to tell events"),
        }
    }

    /// Takes events to be sent; nothing is left of them.
    pub(super) fn send(&self, events: &mut Vec<TaskEvent>) {
        let bytes: usize = events.iter().map(TaskEvent::bytes).sum();
        let mut state = self.lock();
        if state.thread == Thread::Ended || state.bytes + bytes > WAITING_BYTES {
            let count = events.iter().map(TaskEvent::count).sum::<u64>();
            state.dropped += count;
            state.totals.1 += count;
            events.clear();
            return;
        }
        state.bytes += bytes;
        if state.waiting.is_empty() {
            std::mem::swap(&mut state.waiting, events);
        } else {
            state.waiting.append(events);
        }
        if std::mem::take(&mut state.sleeps) {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// How many events were sent, and how many dropped.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.lock().totals
    }

    /// Sends a heartbeat soon.
    pub(super) fn beat(&self) {
        self.lock().beat = true;
        self.changed.notify_one();
    }

    /// Has the thread send what is left and end; whether there is one.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        state.closing = true;
        self.changed.notify_one();
        state.thread == Thread::Running
    }

    /// Waits for the end of the thread.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The next logical times: the first of `count`.
    pub(super) fn ticks(&self, count: u64) -> u64 {
        let mut state = self.lock();
        state.clock += count;
        state.clock - count + 1
    }

    pub(super) fn exchange(&self) -> Exchange {
        Exchange { name: Arc::clone(&self.options.exchange), kind: ExchangeType::Topic }
    }

    pub(super) fn message(&self, routing_key: &str, body: Vec<u8>) -> BroadcastMessage {
        let hostname = Value::from(self.teller.hostname());
        BroadcastMessage {
            exchange: self.exchange(),
            routing_key: routing_key.into(),
            headers: Map::from_iter([("hostname".to_owned(), hostname)]),
            content_type: JSON.to_owned(),
            content_encoding: "utf-8".to_owned(),
            body: Bytes::from(body),
        }
    }

    pub(super) fn figures(&self, kind: Kind) -> BroadcastMessage {
        let stats = self.figures.stats();
        let seconds = self.options.heartbeat.map_or(0.0, |every| every.as_secs_f64());
        let fields = [
            Field::Float(seconds),
            Field::Int(stats.active as i64),
            Field::Int(stats.processed as i64),
            Field::Floats(load()),
            Field::Text("taskcore"),
            Field::Text(env!("CARGO_PKG_VERSION")),
            Field::Text(system()),
        ];
        let mut body = Vec::new();
        self.teller.write(&mut body, kind, (self.ticks(1), clock::wall_us()), &fields);
        self.message(&kind.routing_key(), body)
    }
}

/// The load of the machine over one, five and fifteen minutes; zeros where it does not tell.
fn load() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split(' ').map_while(|word| word.parse().ok());
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

/// The system's name, as Python's `platform.system()` has it.
fn system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "windows" => "Windows",
        other => other,
    }
}
