//! The result documents that the worker itself writes: of tasks that began, never ran, or lost
//! their process.
//!
//! Whoever runs a task writes its document; these are for when nobody did. The exception names are
//! those that a stock client looks up, so that its `get()` raises the class a Celery user expects.
//! Group and parent are read from the message again: these are rare, and carrying two more fields
//! in every request would cost every task.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    message::{Encoding, Message, pyjson::write_value},
    pool::EndedTask,
    result::{Member, Record, State, record::Document},
    worker::inflight::Request,
};

/// What a document says besides its state.
pub(super) enum Told<'a> {
    /// Execution began in this process.
    Started {
        /// Its process id.
        pid: u32,
        /// Node name of the worker.
        hostname: &'a str,
    },
    /// It ended with an exception.
    Raised(&'a Raised),
}

/// An exception in whose name the worker ends a task.
#[derive(Clone, Debug)]
pub struct Raised {
    /// The state: FAILURE or REVOKED.
    pub state: State,
    /// Class name.
    pub exc_type: &'static str,
    /// Arguments of its constructor.
    pub args: Value,
    /// Module of the class.
    pub module: &'static str,
}

impl Raised {
    /// As documents describe an exception.
    pub(super) fn describe(&self) -> Value {
        json!({"exc_type": self.exc_type, "exc_message": self.args, "exc_module": self.module})
    }
}

/// Which member of which join the task of a message is. Where that cannot be told it is counted for its
/// group, which is in vain if that is no chord, and expires.
pub(super) fn member_of(message: &Message) -> Option<Box<Member>> {
    let rare = message.headers.rare.as_ref()?;
    let group = rare.group.as_deref()?;
    (message.is_member() != Some(false)).then(|| Box::new(Member::new(group, rare.group_index)))
}

/// The records of tasks that end with that of `message`, which says what follows it. Whoever waits
/// for them is the client that waits for all of it.
pub(super) fn of_ended(ended: Vec<EndedTask>, message: &Bytes, ttl: Option<u64>) -> Vec<Record> {
    if ended.is_empty() {
        return Vec::new();
    }
    let read = Message::decode(message).unwrap_or_default();
    let reply_to = read.properties.reply_to.as_ref();
    let record = |one| Record { reply_to: reply_to.cloned(), ..of_one_ended(one, message, ttl) };
    ended.into_iter().map(record).collect()
}

fn of_one_ended(ended: EndedTask, message: &Bytes, ttl: Option<u64>) -> Record {
    let EndedTask { id, revoked, document, member } = ended;
    let member = member.map(|(group, index)| {
        let message = message.clone();
        Box::new(Member { message, ..Member::new(&group, index) })
    });
    let state = if revoked { State::Revoked } else { State::Failure };
    Record { id, state, document, reply_to: None, expires_ms: ttl, member }
}

/// The record of a request that triage accepted.
pub(super) fn of_request(request: &Request, told: &Told<'_>, now: i64, ttl: Option<u64>) -> Record {
    let message = Message::decode(&request.message).unwrap_or_default();
    let record = write(&request.id, &message, request.reply_to.clone(), told, now, ttl);
    Record { member: request.member.clone(), ..record }
}

/// The record of a message that never became a request.
pub(super) fn of_message(message: &Message, told: &Told<'_>, now: i64, ttl: Option<u64>) -> Record {
    let record =
        write(&message.headers.id, message, message.properties.reply_to.clone(), told, now, ttl);
    let member = member_of(message).map(|member| {
        let message = message.encode(Encoding::Compact);
        Box::new(Member { message, ..*member })
    });
    Record { member, ..record }
}

/// The record of an exception in the place of one that cannot be stored. Nothing is left of the
/// message by then.
pub(super) fn instead_of(record: &Record, raised: &Raised, now: i64) -> Record {
    let reply_to = record.reply_to.clone();
    let told = Told::Raised(raised);
    let member = record.member.clone();
    let record = write(&record.id, &Message::default(), reply_to, &told, now, record.expires_ms);
    Record { member, ..record }
}

fn write(
    id: &str,
    message: &Message,
    reply_to: Option<String>,
    told: &Told<'_>,
    now: i64,
    ttl: Option<u64>,
) -> Record {
    let (state, result) = match told {
        Told::Started { pid, hostname } => {
            (State::Started, json!({"pid": pid, "hostname": hostname}))
        }
        Told::Raised(raised) => (raised.state.clone(), raised.describe()),
    };
    let mut encoded = Vec::new();
    write_value(&mut encoded, &result);
    let document = Document {
        state: &state,
        result: &encoded,
        traceback: None,
        children: Some(b"[]"),
        now_us: now,
        group_id: message.headers.rare().group.as_deref(),
        parent_id: message.headers.parent_id.as_deref(),
        extra: &[],
        task_id: id,
    }
    .write();
    Record { id: id.to_owned(), state, document, reply_to, expires_ms: ttl, member: None }
}
