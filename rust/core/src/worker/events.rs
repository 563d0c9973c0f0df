//! Events as the loop notes them: what happened to a task.
//!
//! Off, this is one branch where something happens to a task. On, an id or a reference to a message is
//! kept; whoever asks whether anybody listens, writes and sends is a thread of its own
//! (`event_sender`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    broker::Settle,
    error::{Error, ErrorKind, Result},
    message::{Message, repr},
    pool::{Lost, Outcome},
    worker::{
        Now, Worker,
        document::Raised,
        event_sender::EventSender,
        inflight::Request,
        task_event::{End, TaskEvent, What},
    },
};

/// Events that leave the loop at once, also in the middle of a turn.
const MANY: usize = 1_000;
/// How long the last events may take to leave.
const LAST: Duration = Duration::from_secs(2);

/// What the loop has to tell.
#[derive(Default)]
pub(super) struct Events {
    /// `None` when this worker tells nothing, ever.
    sender: Option<Arc<EventSender>>,
    /// Whether events about tasks are told now.
    tasks: bool,
    /// What happened in this turn.
    noted: Vec<TaskEvent>,
}

impl Events {
    pub(super) fn new(sender: EventSender) -> Self {
        let mut events = Self::default();
        events.tasks = sender.options().tasks;
        events.sender = Some(Arc::new(sender));
        events
    }

    /// Whether events about tasks are told.
    pub(super) fn tasks(&self) -> bool {
        self.tasks
    }

    /// How many events were sent, and how many dropped.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.sender.as_ref().map_or((0, 0), |sender| sender.totals())
    }

    /// The worker is connected.
    pub(super) fn online(&self) {
        if let Some(sender) = &self.sender
            && (self.tasks || sender.options().heartbeat.is_some())
        {
            sender.start();
        }
    }

    /// Begins or ends the telling of events about tasks; whether that is a change.
    pub(super) fn switch(&mut self, on: bool) -> Result<bool> {
        let Some(sender) = &self.sender else {
            let text = "this worker was started without events, expected one that tells them";
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        if on {
            sender.start();
        }
        Ok(std::mem::replace(&mut self.tasks, on) != on)
    }

    /// Sends a heartbeat out of turn.
    pub(super) fn beat(&self) {
        if let Some(sender) = &self.sender {
            sender.beat();
        }
    }

    fn note(&mut self, at: i64, what: What) {
        self.noted.push(TaskEvent { at, what });
        if self.noted.len() >= MANY {
            self.flush();
        }
    }

    /// Sends what was noted in this turn.
    pub(super) fn flush(&mut self) {
        if !self.noted.is_empty()
            && let Some(sender) = &self.sender
        {
            sender.send(&mut self.noted);
        }
    }

    /// Tells the rest, and that the worker leaves.
    pub(super) async fn close(&mut self) {
        self.flush();
        let Some(sender) = self.sender.take() else { return };
        self.tasks = false;
        if sender.close() && tokio::time::timeout(LAST, sender.ended()).await.is_err() {
            tracing::warn!("the last events could not be sent in time");
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(sender) = &self.sender {
            sender.close();
        }
    }
}

impl Worker {
    /// A task was accepted; its message, compact.
    pub(super) fn tell_received(&mut self, message: &Bytes, now: Now) {
        if self.events.tasks() {
            self.events.note(now.wall, What::Received(message.clone()));
        }
    }

    /// A task has begun and goes on.
    pub(super) fn tell_started(&mut self, key: u64, now: Now) {
        if self.events.tasks()
            && let Some(request) = self.inflight.get(key)
        {
            self.events.note(now.wall, What::Started { id: request.id.as_str().into() });
        }
    }

    /// The pool says how a task ended.
    pub(super) fn tell_outcome(&mut self, request: &Request, outcome: &mut Outcome, now: Now) {
        if self.events.tasks() {
            let end = End::of(&request.id, request.started.is_some(), outcome);
            self.events.note(now.wall, What::Ended(end));
        }
    }

    /// What ran a task is gone, and `settle` becomes of its message.
    pub(super) fn tell_lost(
        &mut self,
        request: &Request,
        (why, end): (&Lost, Option<&Raised>),
        settle: Option<&Settle>,
        now: Now,
    ) {
        if !self.events.tasks() {
            return;
        }
        let id = request.id.as_str();
        match (why, end, settle) {
            (Lost::Terminated(signal), ..) => self.tell_revoked(id, Some(*signal), false, now),
            (_, Some(raised), _) => self.tell_failed(id, raised, now),
            (_, None, Some(Settle::HandBack)) => {
                self.events.note(now.wall, What::Cancelled { id: id.into() });
            }
            (_, None, _) => {
                self.events.note(now.wall, What::Rejected { id: id.into(), requeue: true });
            }
        }
    }

    /// The worker has ended a task.
    pub(super) fn tell_failed(&mut self, id: &str, raised: &Raised, now: Now) {
        if self.events.tasks() {
            let exception = shown(raised).into();
            self.events.note(now.wall, What::Failed { id: id.into(), exception });
        }
    }

    /// A task will not run, or runs no longer, because it was revoked or its time has passed.
    pub(super) fn tell_revoked(&mut self, id: &str, signal: Option<i32>, expired: bool, now: Now) {
        if self.events.tasks() {
            self.events.note(now.wall, What::Revoked { id: id.into(), signal, expired });
        }
    }

    /// A message was parked that will never run here; `known` is whether its task is.
    pub(super) fn tell_parked(&mut self, message: &Message, known: bool, now: Now) {
        if !self.events.tasks() {
            return;
        }
        let id = message.headers.id.as_str().into();
        self.events.note(
            now.wall,
            if known {
                What::Rejected { id, requeue: false }
            } else {
                let exception = format!("NotRegistered('{}')", message.headers.task).into();
                What::Failed { id, exception }
            },
        );
    }
}

/// An exception as Python shows it.
fn shown(raised: &Raised) -> String {
    let args = raised.args.as_array().map(Vec::as_slice).unwrap_or_default();
    let args: Vec<String> = args.iter().map(repr::of).collect();
    format!("{}({})", raised.exc_type, args.join(", "))
}
