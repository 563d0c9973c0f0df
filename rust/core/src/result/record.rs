//! Celery's result document, and the record that carries it to a store.
//!
//! The document is Python-JSON (`", "` and `": "` separators, non-ASCII escaped), with the fields in Celery's order. The value
//! inside stays opaque: whoever ran the task encoded it.

use bytes::Bytes;

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

    /// Whether no further state is expected.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
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
}
