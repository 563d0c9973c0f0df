//! Celery's result document, and the record that carries it to a store.
//!
//! The document is Python-JSON (`", "` and `": "` separators, non-ASCII escaped), with the fields
//! in Celery's order. The value inside stays opaque: whoever ran the task encoded it.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    encoded,
    join::{self, Member, MemberEnd},
};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Compression, format_iso, pyjson::write_str},
};

/// How Celery marks a compressed document; its content type and a zero byte follow.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// Largest document that is decompressed.
const MAX_DOCUMENT: usize = 256 * 1024 * 1024;

/// A document as it was before its writer compressed it.
///
/// # Errors
/// `Decode` for broken data, `Unsupported` for a compression that is not known, `TooLarge` for a
/// document that would become too large.
pub fn open(document: &[u8]) -> Result<Cow<'_, [u8]>> {
    let Some(rest) = document.strip_prefix(COMPRESSED) else { return Ok(Cow::Borrowed(document)) };
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(|| {
        Error::new(ErrorKind::Decode, "a compressed result document without a content type")
    })?;
    let compression = Compression::from_content_type(&String::from_utf8_lossy(&rest[..end]))?;
    compression.decompress(&rest[end + 1..], MAX_DOCUMENT).map(Cow::Owned)
}

/// A document as it is stored when it is compressed.
pub fn compressed(compression: Compression, document: &[u8]) -> Bytes {
    let content_type = compression.content_type().as_bytes();
    [COMPRESSED, content_type, &[0], &compression.compress(document)].concat().into()
}

/// The state of a task as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Execution has begun.
    Started,
    /// Published again after a failure.
    Retry,
    /// Returned. Final.
    Success,
    /// Raised.
    Failure,
    /// Revoked or expired.
    Revoked,
    /// A state of the user's own.
    Custom(String),
}

impl State {
    /// Celery's name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Custom(s) => s,
        }
    }

    /// The state of that name; a name that is none of Celery's is the user's own.
    pub fn from_name(name: &str) -> Self {
        match name {
            "STARTED" => Self::Started,
            "RETRY" => Self::Retry,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "REVOKED" => Self::Revoked,
            other => Self::Custom(other.to_owned()),
        }
    }

    /// Whether `next` may be stored in this state's place. SUCCESS is final. A state that is not
    /// ready never undoes one that is: of two attempts in two processes the first may report its
    /// RETRY after the second has reported its end.
    pub fn yields_to(&self, next: &Self) -> bool {
        match self {
            Self::Success => false,
            Self::Failure | Self::Revoked => next.is_ready(),
            _ => true,
        }
    }

    /// Whether no further state is expected.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

/// Celery's result document, its parts in its order. The parts that are JSON already are written as
/// they are.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// The state.
    pub state: &'a State,
    /// JSON: the value returned, the exception's map, or what the state carries.
    pub result: &'a [u8],
    /// The formatted traceback.
    pub traceback: Option<&'a str>,
    /// JSON: result tuples of the tasks published during the execution; `None` outside of one.
    pub children: Option<&'a [u8]>,
    /// When it was written, microseconds since the epoch; shown only by states that are ready.
    pub now_us: i64,
    /// Group the task belongs to.
    pub group_id: Option<&'a str>,
    /// The task that published it.
    pub parent_id: Option<&'a str>,
    /// Further fields, names and JSON.
    pub extra: &'a [(&'a str, &'a [u8])],
    /// The task.
    pub task_id: &'a str,
}

impl Document<'_> {
    /// Writes it as Python-JSON.
    pub fn write(&self) -> Bytes {
        let text = self.traceback.map_or(0, str::len) + self.task_id.len();
        let mut out = Vec::with_capacity(160 + self.result.len() + text);
        out.extend_from_slice(b"{\"status\": ");
        write_str(&mut out, self.state.as_str());
        field(&mut out, "result", self.result);
        text_field(&mut out, "traceback", self.traceback);
        field(&mut out, "children", self.children.unwrap_or(b"null"));
        let done = self.state.is_ready().then(|| format_iso(self.now_us));
        text_field(&mut out, "date_done", done.as_deref());
        if self.group_id.is_some() {
            text_field(&mut out, "group_id", self.group_id);
        }
        if self.parent_id.is_some() {
            text_field(&mut out, "parent_id", self.parent_id);
        }
        for (name, json) in self.extra {
            field(&mut out, name, json);
        }
        text_field(&mut out, "task_id", Some(self.task_id));
        out.push(b'}');
        Bytes::from(out)
    }
}

fn field(out: &mut Vec<u8>, name: &str, json: &[u8]) {
    out.extend_from_slice(b", ");
    write_str(out, name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(json);
}

fn text_field(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    field(out, name, if text.is_none() { b"null" } else { b"" });
    if let Some(text) = text {
        write_str(out, text);
    }
}

/// A document on its way to a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Task id.
    pub id: String,
    /// The state inside the document.
    pub state: State,
    /// The document.
    pub document: Bytes,
    /// Reply id of the client that published the task, when it is a taskcore client.
    pub reply_to: Option<String>,
    /// Time to live in milliseconds; `None` keeps it.
    pub expires_ms: Option<u64>,
    /// Which member of which join the task is; `None` for most. It counts when the state is ready.
    pub member: Option<Box<Member>>,
}

impl Record {
    /// The member that ended with this record, and how.
    pub(super) fn ended(&self) -> Option<(&Member, MemberEnd)> {
        let member = self.member.as_deref().filter(|_| self.state.is_ready())?;
        let result = match &member.encoded {
            Some(member) => encoded::mark(member),
            None => join::result_of(&self.document, &self.state),
        };
        Some((member, MemberEnd { id: self.id.clone(), state: self.state.clone(), result }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(state: &State) -> Document<'_> {
        Document {
            state,
            result: b"5",
            traceback: None,
            children: Some(b"[]"),
            now_us: 1_700_000_000_000_001,
            group_id: None,
            parent_id: None,
            extra: &[],
            task_id: "an-id",
        }
    }

    #[test]
    fn a_document_is_celerys_byte_for_byte() {
        let document = plain(&State::Success);
        assert_eq!(
            document.write(),
            r#"{"status": "SUCCESS", "result": 5, "traceback": null, "children": [], "date_done": "2023-11-14T22:13:20.000001+00:00", "task_id": "an-id"}"#
        );
        let state = State::Custom("PROGRÈS".into());
        let document = Document {
            traceback: Some("a \"b\"\n"),
            children: None,
            group_id: Some("g"),
            parent_id: Some("p"),
            extra: &[("name", br#""proj.add""#), ("retries", b"0")],
            ..plain(&state)
        };
        assert_eq!(
            document.write(),
            r#"{"status": "PROGR\u00c8S", "result": 5, "traceback": "a \"b\"\n", "children": null, "date_done": null, "group_id": "g", "parent_id": "p", "name": "proj.add", "retries": 0, "task_id": "an-id"}"#
        );
    }

    #[test]
    fn states_have_names_both_ways() {
        for name in ["STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "PROGRESS"] {
            assert_eq!(State::from_name(name).as_str(), name);
        }
        assert_eq!(State::from_name("SUCCESS"), State::Success);
    }
}
