//! The thread that tells events: it asks whether anybody listens, writes and sends what the loop has
//! noted, and the worker's heartbeats.
//!
//! Events gather for [`GATHER`] between two sendings, so a busy worker asks a hundred times a second,
//! and writes nothing while nobody listens: whoever subscribes hears all that happens from then on.
//! While the broker is away events wait and heartbeats do not, but each is tried when its time has
//! come, so the first that goes through ends the outage. What the broker refuses for another reason
//! than that is dropped and counted.

use std::{
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    broker::broadcast::BroadcastMessage,
    clock,
    error::{Error, ErrorKind},
    event::{Kind, TASKS},
    worker::{
        event_sender::{EventSender, State, Thread},
        task_event::{TaskEvent, Telling},
    },
};

/// Bytes of a list of events, about; a longer one is divided.
const LIST: usize = 64 << 10;
/// Between two sendings, unless the worker ends.
const GATHER: Duration = Duration::from_millis(10);
/// How long one attempt to send may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts while the broker is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is said at most that events were dropped.
const SAY: Duration = Duration::from_secs(10);

/// What the thread has in hand.
pub(super) struct EventThread<'a> {
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
    /// When something was last sent or found to be heard by nobody.
    sent: Option<Instant>,
}

impl Drop for EventThread<'_> {
    fn drop(&mut self) {
        self.sender.lock().thread = Thread::Ended;
        self.sender.ended.notify_one();
    }
}

impl<'a> EventThread<'a> {
    pub(super) fn new(sender: &'a EventSender) -> Self {
        Self { sender, due: None, batch: Vec::new(), count: 0, said: None, away: false, sent: None }
    }

    /// The life of the thread.
    pub(super) fn run(mut self) {
        let beats = self.sender.options().heartbeat.is_some();
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
        let state = self.pause(sender.lock());
        let mut state = self.sleep(state);
        // A batch that could not be sent is sent first, and by itself.
        let waiting = if self.batch.is_empty() || state.closing {
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        } else {
            Vec::new()
        };
        let every = sender.options().heartbeat;
        let overdue = self.due.is_some_and(|due| due <= clock::instant());
        let beat = (std::mem::take(&mut state.beat) || overdue) && every.is_some();
        let (dropped, closing) = (state.dropped, state.closing);
        drop(state);
        self.say_dropped(dropped, None);
        self.take(&waiting);
        if beat {
            self.batch.push(sender.figures(Kind::WorkerHeartbeat));
        }
        if beat || self.due.is_none() {
            self.due = every.map(|every| clock::instant() + every);
        }
        closing
    }

    /// Lets events gather, longer while the broker is away.
    fn pause(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let pause = if self.away {
            PAUSE
        } else {
            self.sent.map_or(Duration::ZERO, |sent| {
                GATHER.saturating_sub(clock::instant().saturating_duration_since(sent))
            })
        };
        if pause.is_zero() {
            return state;
        }
        let waited = self.sender.changed.wait_timeout_while(state, pause, |state| !state.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Sleeps until there is something to do.
    fn sleep(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let changed = &self.sender.changed;
        while state.waiting.is_empty() && !state.beat && !state.closing && self.batch.is_empty() {
            let now = clock::instant();
            state.sleeps = true;
            state = match self.due.map(|due| due.saturating_duration_since(now)) {
                Some(Duration::ZERO) => {
                    state.beat = true;
                    state
                }
                Some(left) => {
                    let waited = changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.sleeps = false;
        state
    }

    /// Writes events into lists, unless nobody listens.
    fn take(&mut self, events: &[TaskEvent]) {
        if events.is_empty() {
            return;
        }
        self.sent = Some(clock::instant());
        let sender = self.sender;
        let deadline = clock::instant() + TIMEOUT;
        // Whatever is wrong shows when they are sent.
        let heard = || sender.broker.is_heard(&sender.exchange(), TASKS, deadline).unwrap_or(true);
        if !self.away && !heard() {
            return;
        }
        let count = events.iter().map(TaskEvent::count).sum();
        let mut telling = Telling { teller: &sender.teller, clock: sender.ticks(count) };
        let mut list = Vec::new();
        for event in events {
            event.write(&mut list, &mut telling);
            if list.len() >= LIST {
                self.put(std::mem::take(&mut list));
            }
        }
        self.put(list);
        self.count += count;
    }

    fn put(&mut self, mut list: Vec<u8>) {
        if !list.is_empty() {
            list.push(b']');
            self.batch.push(self.sender.message(TASKS, list));
        }
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
                let count = std::mem::take(&mut self.count) + self.others();
                self.batch.clear();
                self.sender.lock().totals.0 += count;
                true
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::info!(%error, "no events are told");
                false
            }
            Err(error) if !error.is_retryable() => {
                self.away = false;
                let count = std::mem::take(&mut self.count) + self.others();
                self.batch.clear();
                let mut state = self.sender.lock();
                state.dropped += count;
                state.totals.1 += count;
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

    /// How many events in hand are not about tasks: each is a message of its own.
    fn others(&self) -> u64 {
        self.batch.iter().filter(|message| !is_about_tasks(message)).count() as u64
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
