//! Events as the loop tells them: what happened to a task, written at once and sent once a turn.
//!
//! Off, this is one branch where something happens to a task. On, an event is a few hundred bytes
//! appended to the batch of this turn of the loop; whoever sends it is a thread of its own
//! (`event_sender`).

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    broker::Settle,
    error::{Error, ErrorKind, Result},
    event::{Field, Kind},
    message::{Message, format_iso, pyjson, repr},
    pool::{Lost, Outcome, Status},
    worker::{Now, Worker, document::Raised, event_sender::EventSender, inflight::Request},
};

/// Bytes of a list of events, about; a longer one is divided.
const LIST: usize = 64 << 10;
/// How long the last events may take to leave.
const LAST: Duration = Duration::from_secs(2);

/// What the loop has to tell.
#[derive(Default)]
pub(super) struct Events {
    /// `None` when this worker tells nothing, ever.
    sender: Option<Arc<EventSender>>,
    /// Whether events about tasks are told now.
    tasks: bool,
    /// The list of this turn, without its end.
    list: Vec<u8>,
    count: u64,
    /// Logical time of the next event, and how many more are ours.
    clock: (u64, u64),
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

    fn tell(&mut self, kind: Kind, at: i64, fields: &[Field<'_>]) {
        let Some(sender) = &self.sender else { return };
        if self.clock.1 == 0 {
            self.clock = (sender.ticks(100), 100);
        }
        self.list.extend_from_slice(if self.list.is_empty() { b"[" } else { b", " });
        sender.teller().write(&mut self.list, kind, (self.clock.0, at), fields);
        self.clock = (self.clock.0 + 1, self.clock.1 - 1);
        self.count += 1;
        if self.list.len() >= LIST {
            self.flush();
        }
    }

    /// Sends the list of this turn.
    pub(super) fn flush(&mut self) {
        if self.count == 0 {
            return;
        }
        if let Some(sender) = &self.sender {
            sender.send(std::mem::take(&mut self.list), std::mem::take(&mut self.count));
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
    /// A task was accepted.
    pub(super) fn tell_received(&mut self, message: &Message, now: Now) {
        if !self.events.tasks() {
            return;
        }
        let (headers, rare) = (&message.headers, message.headers.rare());
        let (eta, expires) = (headers.eta.map(format_iso), headers.expires.map(format_iso));
        let (mut args, mut kwargs) = (None, None);
        if rare.argsrepr.is_none() || rare.kwargsrepr.is_none() {
            // A compact message says it in its body alone.
            if let Some((given, named)) = message.arguments() {
                args = Some(repr::tuple(&given));
                kwargs = Some(repr::of(&Value::Object(named)));
            }
        }
        let fields = [
            Field::Text(&headers.id),
            Field::Text(headers.display_name()),
            rare.argsrepr.as_deref().or(args.as_deref()).into(),
            rare.kwargsrepr.as_deref().or(kwargs.as_deref()).into(),
            Field::Text(headers.root()),
            headers.parent_id.as_deref().into(),
            Field::Int(i64::from(headers.retries)),
            eta.as_deref().into(),
            expires.as_deref().into(),
        ];
        self.events.tell(Kind::TaskReceived, now.wall, &fields);
    }

    /// A task has begun and goes on.
    pub(super) fn tell_started(&mut self, key: u64, now: Now) {
        if !self.events.tasks() {
            return;
        }
        if let Some(request) = self.inflight.get(key) {
            self.events.tell(Kind::TaskStarted, now.wall, &[Field::Text(&request.id)]);
        }
    }

    /// The pool says how a task ended.
    pub(super) fn tell_outcome(&mut self, request: &Request, outcome: &Outcome, now: Now) {
        if !self.events.tasks() {
            return;
        }
        let uuid = Field::Text(&request.id);
        let runtime = i64::from(outcome.runtime_us);
        if request.started.is_none() && outcome.status != Status::Undecodable {
            // It was over before anybody heard of it.
            self.events.tell(Kind::TaskStarted, now.wall - runtime, &[uuid]);
        }
        let note = Field::Text(&outcome.note);
        let traceback = Some(outcome.traceback.as_str()).filter(|text| !text.is_empty()).into();
        match outcome.status {
            Status::Success => {
                let stored = if outcome.note.is_empty() { stored(outcome) } else { None };
                let result = if outcome.note.is_empty() { stored.as_deref().into() } else { note };
                let fields = [uuid, result, Field::Micros(runtime)];
                self.events.tell(Kind::TaskSucceeded, now.wall, &fields);
            }
            Status::Failure => {
                self.events.tell(Kind::TaskFailed, now.wall, &[uuid, note, traceback]);
            }
            Status::Retry => {
                self.events.tell(Kind::TaskRetried, now.wall, &[uuid, note, traceback]);
            }
            Status::Reject | Status::Requeue | Status::Undecodable => {
                let requeue = Field::Bool(outcome.status == Status::Requeue);
                self.events.tell(Kind::TaskRejected, now.wall, &[uuid, requeue]);
            }
            Status::Ignore => {}
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
        let uuid = Field::Text(&request.id);
        match (why, end, settle) {
            (Lost::Terminated(signal), ..) => {
                self.tell_revoked(&request.id, Some(*signal), false, now);
            }
            (_, Some(raised), _) => self.tell_failed(&request.id, raised, now),
            (_, None, Some(Settle::HandBack)) => {
                self.events.tell(Kind::TaskCancelled, now.wall, &[uuid]);
            }
            (_, None, _) => {
                self.events.tell(Kind::TaskRejected, now.wall, &[uuid, Field::Bool(true)]);
            }
        }
    }

    /// The worker has ended a task.
    pub(super) fn tell_failed(&mut self, id: &str, raised: &Raised, now: Now) {
        if self.events.tasks() {
            let shown = shown(raised);
            let fields = [Field::Text(id), Field::Text(&shown), Field::None];
            self.events.tell(Kind::TaskFailed, now.wall, &fields);
        }
    }

    /// A task will not run, or runs no longer, because it was revoked or its time has passed.
    pub(super) fn tell_revoked(&mut self, id: &str, signal: Option<i32>, expired: bool, now: Now) {
        if self.events.tasks() {
            let signum = signal.map_or(Field::None, |signal| Field::Int(i64::from(signal)));
            let terminated = Field::Bool(signal.is_some());
            let fields = [Field::Text(id), terminated, signum, Field::Bool(expired)];
            self.events.tell(Kind::TaskRevoked, now.wall, &fields);
        }
    }

    /// A message was parked that will never run here; `known` is whether its task is.
    pub(super) fn tell_parked(&mut self, message: &Message, known: bool, now: Now) {
        if !self.events.tasks() {
            return;
        }
        let uuid = Field::Text(&message.headers.id);
        if known {
            self.events.tell(Kind::TaskRejected, now.wall, &[uuid, Field::Bool(false)]);
        } else {
            let exception = format!("NotRegistered('{}')", message.headers.task);
            let fields = [uuid, Field::Text(&exception), Field::None];
            self.events.tell(Kind::TaskFailed, now.wall, &fields);
        }
    }
}

/// The result as it is stored, where nobody has made it printable.
fn stored(outcome: &Outcome) -> Option<String> {
    let entries = pyjson::entries(outcome.document.as_deref()?).ok()?;
    let (_, result) = entries.into_iter().find(|(name, _)| name == "result")?;
    serde_json::from_slice(result).ok().map(|result| repr::of(&result))
}

/// An exception as Python shows it.
fn shown(raised: &Raised) -> String {
    let args = raised.args.as_array().map(Vec::as_slice).unwrap_or_default();
    let args: Vec<String> = args.iter().map(repr::of).collect();
    format!("{}({})", raised.exc_type, args.join(", "))
}
