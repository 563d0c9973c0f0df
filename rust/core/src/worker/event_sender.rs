//! The thread that tells events: it sends what the loop has gathered, and the worker's heartbeats.
//!
//! A broker that is slow or away must not hold the loop up, so the loop only leaves events here, and
//! no more than [`WAITING_BYTES`] of them: what comes on top of that is dropped, counted, and said in
//! the log. While a batch is on its way the next one gathers, so batches grow with the load. While the
//! broker is away events wait and heartbeats do not, but each is tried when its time has come, so the
//! first that goes through ends the outage. What the broker refuses for another reason than that is
//! dropped and counted likewise. The thread starts when there is something to tell, and ends with the
//! worker.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
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
    error::{Error, ErrorKind},
    event::{Field, Kind, TASKS, Teller},
    message::JSON,
    worker::handle::Shared,
};

/// Bytes of events that wait to be sent.
const WAITING_BYTES: usize = 8 << 20;
/// How long one attempt to send may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts while the broker is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is said at most that events were dropped.
const SAY: Duration = Duration::from_secs(10);

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
    broker: Arc<dyn Broadcast>,
    options: EventOptions,
    teller: Teller,
    /// The worker's figures.
    figures: Arc<Shared>,
    /// Behind a std mutex because a section is a push or a swap.
    state: Mutex<State>,
    changed: Condvar,
    /// Told when the thread has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    thread: Thread,
    /// Lists of events without their last bracket, and how many events each has.
    waiting: VecDeque<(Vec<u8>, u64)>,
    bytes: usize,
    dropped: u64,
    /// Whether a heartbeat is asked for out of turn.
    beat: bool,
    /// Logical time.
    clock: u64,
    closing: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Thread {
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

    pub(super) fn teller(&self) -> &Teller {
        &self.teller
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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
        let run = move || tracing::dispatcher::with_default(&dispatch, || Run::new(&sender).run());
        match builder.spawn(run) {
            Ok(_) => state.thread = Thread::Running,
            Err(error) => tracing::warn!(%error, "cannot start a thread to tell events"),
        }
    }

    /// Leaves `count` events to be sent: a list without its last bracket.
    pub(super) fn send(&self, events: Vec<u8>, count: u64) {
        let mut state = self.lock();
        if state.thread == Thread::Ended || state.bytes + events.len() > WAITING_BYTES {
            state.dropped += count;
            return;
        }
        state.bytes += events.len();
        state.waiting.push_back((events, count));
        drop(state);
        self.changed.notify_one();
    }

    /// Sends a heartbeat now.
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

    fn message(&self, routing_key: &str, body: Vec<u8>) -> BroadcastMessage {
        let hostname = Value::from(self.teller.hostname());
        BroadcastMessage {
            exchange: Exchange {
                name: Arc::clone(&self.options.exchange),
                kind: ExchangeType::Topic,
            },
            routing_key: routing_key.into(),
            headers: Map::from_iter([("hostname".to_owned(), hostname)]),
            content_type: JSON.to_owned(),
            content_encoding: "utf-8".to_owned(),
            body: Bytes::from(body),
        }
    }

    fn figures(&self, kind: Kind) -> BroadcastMessage {
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

/// What the thread has in hand.
struct Run<'a> {
    sender: &'a EventSender,
    /// When the next heartbeat is due.
    due: Option<Instant>,
    /// Taken, and not sent yet.
    batch: Vec<BroadcastMessage>,
    /// How many events about tasks are in it.
    count: u64,
    /// When it was last said that events were dropped.
    said: Option<Instant>,
    /// Whether the broker was away at the last attempt.
    away: bool,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.sender.lock().thread = Thread::Ended;
        self.sender.ended.notify_one();
    }
}

impl<'a> Run<'a> {
    fn new(sender: &'a EventSender) -> Self {
        Self { sender, due: None, batch: Vec::new(), count: 0, said: None, away: false }
    }

    fn run(mut self) {
        let beats = self.sender.options.heartbeat.is_some();
        if beats {
            self.batch.push(self.sender.figures(Kind::WorkerOnline));
        }
        loop {
            let closing = self.gather();
            if closing && beats {
                self.batch.push(self.sender.figures(Kind::WorkerOffline));
            }
            if !self.send() || closing {
                return;
            }
        }
    }

    /// Waits for something to tell; whether it is the last.
    fn gather(&mut self) -> bool {
        let sender = self.sender;
        let mut state = sender.lock();
        if self.away && !state.closing {
            state = sender
                .changed
                .wait_timeout_while(state, PAUSE, |state| !state.closing)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let every = sender.options.heartbeat;
        while state.waiting.is_empty() && !state.beat && !state.closing && self.batch.is_empty() {
            let now = clock::instant();
            let left = self.due.map(|due| due.saturating_duration_since(now));
            state = match left {
                Some(Duration::ZERO) => {
                    state.beat = true;
                    state
                }
                Some(left) => {
                    let waited = sender.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => sender.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        // A batch that could not be sent is sent first, and by itself.
        let waiting = if self.batch.is_empty() || state.closing {
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        } else {
            VecDeque::new()
        };
        let overdue = self.due.is_some_and(|due| due <= clock::instant());
        let beat = (std::mem::take(&mut state.beat) || overdue) && every.is_some();
        let (dropped, closing) = (state.dropped, state.closing);
        drop(state);
        self.say_dropped(dropped, None);
        for (mut events, count) in waiting {
            events.push(b']');
            self.batch.push(sender.message(TASKS, events));
            self.count += count;
        }
        if beat {
            self.batch.push(sender.figures(Kind::WorkerHeartbeat));
        }
        if beat || self.due.is_none() {
            self.due = every.map(|every| clock::instant() + every);
        }
        closing
    }

    /// Sends what is in hand; whether it is worth going on.
    fn send(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let sent = self.sender.broker.broadcast(&self.batch, clock::instant() + TIMEOUT);
        match sent {
            Ok(()) => {
                self.away = false;
                self.batch.clear();
                self.count = 0;
                true
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::info!(%error, "no events are told");
                false
            }
            Err(error) if !error.is_retryable() => {
                self.away = false;
                let others = self.batch.iter().filter(|message| !is_about_tasks(message)).count();
                let count = std::mem::take(&mut self.count) + others as u64;
                self.batch.clear();
                let mut state = self.sender.lock();
                state.dropped += count;
                let dropped = state.dropped;
                drop(state);
                self.say_dropped(dropped, Some(&error));
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(%error, "events wait for the broker");
                }
                // What says how it is now is worth nothing later.
                self.batch.retain(is_about_tasks);
                true
            }
        }
    }

    fn say_dropped(&mut self, dropped: u64, refusal: Option<&Error>) {
        let now = clock::instant();
        if dropped > 0 && self.said.is_none_or(|said| now.saturating_duration_since(said) > SAY) {
            self.said = Some(now);
            self.sender.lock().dropped -= dropped;
            if let Some(error) = refusal {
                tracing::warn!(dropped, %error, "the broker refuses events, they are dropped");
            } else {
                tracing::warn!(
                    dropped,
                    "the broker takes events too slowly or refuses them, some were dropped"
                );
            }
        }
    }
}

fn is_about_tasks(message: &BroadcastMessage) -> bool {
    *message.routing_key == *TASKS
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
