//! What happened to one task, kept as little as it takes to be told later.
//!
//! The loop only notes it. Whether anybody listens is asked for many at a time by the thread that
//! tells (`event_sender`), and what nobody hears is never written out.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    event::{Field, Kind, Teller},
    message::{Message, format_iso, pyjson, repr},
    pool::{Outcome, Status},
};

/// Characters of arguments that are shown, as many as Celery's clients write into a message.
const ARGUMENTS: usize = 1024;
/// Bytes that an event takes beside what is counted.
const OWN: usize = size_of::<TaskEvent>() + 40;

/// Something that happened to a task.
#[derive(Debug)]
pub(super) struct TaskEvent {
    /// When, microseconds since the Unix epoch.
    pub(super) at: i64,
    pub(super) what: What,
}

/// What happened; ids are those of tasks.
#[derive(Debug)]
pub(super) enum What {
    /// It was accepted; its message, compact.
    Received(Bytes),
    /// It has begun and goes on.
    Started { id: Id },
    /// Its pool says how it ended.
    Ended(End),
    /// The worker has ended it.
    Failed { id: Id, exception: Box<str> },
    /// It will not run, or runs no longer.
    Revoked { id: Id, signal: Option<i32>, expired: bool },
    /// Its message was rejected.
    Rejected { id: Id, requeue: bool },
    /// It was interrupted and goes back to its queue.
    Cancelled { id: Id },
}

/// The id of a task: most are UUIDs in text, which need no memory of their own.
#[derive(Debug)]
pub(super) enum Id {
    Uuid([u8; 36]),
    Other(Box<str>),
}

impl From<&str> for Id {
    fn from(id: &str) -> Self {
        id.as_bytes().try_into().map_or_else(|_| Self::Other(id.into()), Self::Uuid)
    }
}

impl Id {
    fn as_str(&self) -> &str {
        match self {
            Self::Uuid(id) => std::str::from_utf8(id).unwrap_or_default(), // it was text
            Self::Other(id) => id,
        }
    }
}

/// How the execution of a task ended.
#[derive(Debug)]
pub(super) struct End {
    id: Id,
    /// Whether nobody has heard yet that it had begun.
    begins: bool,
    status: Status,
    runtime_us: u32,
    note: String,
    traceback: Box<str>,
    /// The result document, where nobody has made the result printable.
    document: Option<Bytes>,
}

impl End {
    /// What is printable of a result is taken out of the outcome.
    pub(super) fn of(id: &str, begun: bool, outcome: &mut Outcome) -> Self {
        let unprinted = outcome.status == Status::Success && outcome.note.is_empty();
        let note = match outcome.status {
            Status::Success => std::mem::take(&mut outcome.note),
            _ => outcome.note.clone(),
        };
        Self {
            id: id.into(),
            // It was over before anybody heard of it.
            begins: !begun && outcome.status != Status::Undecodable,
            status: outcome.status,
            runtime_us: outcome.runtime_us,
            note,
            traceback: outcome.traceback.as_str().into(),
            document: outcome.document.as_ref().filter(|_| unprinted).cloned(),
        }
    }
}

/// Where events are written: who tells, and the next logical time.
pub(super) struct Telling<'a> {
    pub(super) teller: &'a Teller,
    pub(super) clock: u64,
}

impl Telling<'_> {
    fn write(&mut self, out: &mut Vec<u8>, kind: Kind, at: i64, fields: &[Field<'_>]) {
        out.extend_from_slice(if out.is_empty() { b"[" } else { b", " });
        self.teller.write(out, kind, (self.clock, at), fields);
        self.clock += 1;
    }
}

impl TaskEvent {
    /// Bytes of memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        OWN + match &self.what {
            What::Received(message) => message.len(),
            What::Ended(end) => {
                let document = end.document.as_ref().map_or(0, Bytes::len);
                end.note.len() + end.traceback.len() + document
            }
            What::Failed { exception, .. } => exception.len(),
            _ => 0,
        }
    }

    /// How many events are told of it.
    pub(super) fn count(&self) -> u64 {
        match &self.what {
            What::Ended(end) => u64::from(end.begins) + u64::from(end.status != Status::Ignore),
            _ => 1,
        }
    }

    /// Appends what is told of it to a list of events without its end.
    pub(super) fn write(&self, out: &mut Vec<u8>, telling: &mut Telling<'_>) {
        let at = self.at;
        let (kind, fields): (_, &[Field<'_>]) = match &self.what {
            What::Received(message) => return received(out, message, at, telling),
            What::Ended(end) => return ended(out, end, at, telling),
            What::Started { id } => (Kind::TaskStarted, &[Field::Text(id.as_str())]),
            What::Failed { id, exception } => {
                (Kind::TaskFailed, &[Field::Text(id.as_str()), Field::Text(exception), Field::None])
            }
            What::Revoked { id, signal, expired } => {
                let signum = signal.map_or(Field::None, |signal| Field::Int(i64::from(signal)));
                let terminated = Field::Bool(signal.is_some());
                let fields = [Field::Text(id.as_str()), terminated, signum, Field::Bool(*expired)];
                return telling.write(out, Kind::TaskRevoked, at, &fields);
            }
            What::Rejected { id, requeue } => {
                (Kind::TaskRejected, &[Field::Text(id.as_str()), Field::Bool(*requeue)])
            }
            What::Cancelled { id } => (Kind::TaskCancelled, &[Field::Text(id.as_str())]),
        };
        telling.write(out, kind, at, fields);
    }
}

fn received(out: &mut Vec<u8>, message: &Bytes, at: i64, telling: &mut Telling<'_>) {
    let message = Message::decode(message).unwrap_or_default(); // it was written by this worker
    let (headers, rare) = (&message.headers, message.headers.rare());
    let (eta, expires) = (headers.eta.map(format_iso), headers.expires.map(format_iso));
    let (mut args, mut kwargs) = (None, None);
    if (rare.argsrepr.is_none() || rare.kwargsrepr.is_none())
        && let Some((given, named)) = message.arguments()
    {
        // A compact message says it in its body alone.
        args = Some(bounded(repr::tuple(&given)));
        kwargs = Some(bounded(repr::of(&Value::Object(named))));
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
    telling.write(out, Kind::TaskReceived, at, &fields);
}

/// A tuple or a dict as Python shows it, with its end replaced where it is too long.
fn bounded(mut shown: String) -> String {
    if let Some((at, _)) = shown.char_indices().nth(ARGUMENTS) {
        let end = if shown.ends_with(')') { "...)" } else { "...}" };
        let kept = shown[..at].char_indices().rev().nth(end.len() - 1).map_or(0, |(at, _)| at);
        shown.truncate(kept);
        shown.push_str(end);
    }
    shown
}

fn ended(out: &mut Vec<u8>, end: &End, at: i64, telling: &mut Telling<'_>) {
    let uuid = Field::Text(end.id.as_str());
    let runtime = i64::from(end.runtime_us);
    if end.begins {
        telling.write(out, Kind::TaskStarted, at - runtime, &[uuid]);
    }
    let note = Field::Text(&end.note);
    let traceback = Some(&*end.traceback).filter(|text| !text.is_empty()).into();
    match end.status {
        Status::Success => {
            let stored = end.document.as_deref().and_then(stored);
            let result = if end.note.is_empty() { stored.as_deref().into() } else { note };
            let fields = [uuid, result, Field::Micros(runtime)];
            telling.write(out, Kind::TaskSucceeded, at, &fields);
        }
        Status::Failure => telling.write(out, Kind::TaskFailed, at, &[uuid, note, traceback]),
        Status::Retry => telling.write(out, Kind::TaskRetried, at, &[uuid, note, traceback]),
        Status::Reject | Status::Requeue | Status::Undecodable => {
            let requeue = Field::Bool(end.status == Status::Requeue);
            telling.write(out, Kind::TaskRejected, at, &[uuid, requeue]);
        }
        Status::Ignore => {}
    }
}

/// The result as it is stored, where nobody has made it printable.
fn stored(document: &[u8]) -> Option<String> {
    let entries = pyjson::entries(document).ok()?;
    let (_, result) = entries.into_iter().find(|(name, _)| name == "result")?;
    serde_json::from_slice(result).ok().map(|result| repr::of(&result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_arguments_are_cut_inside_of_their_brackets() {
        for (shown, end) in [
            (format!("('{}',)", "ä".repeat(2_000)), "ä...)"),
            (format!("{{'k': '{}'}}", "x".repeat(2_000)), "x...}"),
        ] {
            let cut = bounded(shown);
            assert!(cut.ends_with(end), "{cut}");
            assert_eq!(cut.chars().count(), ARGUMENTS);
        }
        let whole = format!("({})", "1".repeat(ARGUMENTS - 2));
        assert_eq!(bounded(whole.clone()), whole);
    }
}
