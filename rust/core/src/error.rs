//! The one error of the core.
//!
//! An error says the value, what was expected and what to do; it is lower case and ends without a
//! full stop. A cause is never dropped: `context` puts a sentence in front of it. Callers branch on
//! predicates and on [`ErrorKind`], never on text.

use std::fmt;

/// The result of every fallible function of the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What family an error belongs to; the Python layer maps each to an exception class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The broker or result store cannot be reached, or went away; trying again may help.
    Connection,
    /// The deadline passed before the operation was confirmed.
    Timeout,
    /// A setting, URL or option is not valid.
    Config,
    /// Bytes that are not a valid message, body or result document.
    Decode,
    /// A value that cannot be written in the chosen encoding.
    Encode,
    /// A content type that the receiver does not accept.
    Refused,
    /// The store answered, but cannot do it: read-only, full, corrupt, not a database.
    Storage,
    /// This worker's lease lapsed and what it held was handed to others; it needs a fresh epoch.
    Fenced,
    /// A body or nesting over its limit.
    TooLarge,
    /// A message that no queue receives.
    Unroutable,
    /// Something that this version does not do.
    Unsupported,
    /// A broken invariant of taskcore itself.
    Internal,
}

/// An error of the core: a kind, a sentence, and what caused it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with its sentence.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// The same, keeping what caused it.
    #[cold]
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// Puts a sentence in front; the kind stays.
    #[cold]
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let kind = self.kind();
        Self::caused(kind, message, self)
    }

    /// The family of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same operation may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Connection | ErrorKind::Timeout)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut said = self.0.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            let text = c.to_string();
            // Some libraries' errors already end with the text of their cause.
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            // A core error prints its own chain.
            cause = if c.is::<Error>() { None } else { c.source() };
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A library's error that repeats its cause, and names it as its cause too.
    #[derive(Debug)]
    struct Repeats(&'static str, io::Error);

    impl fmt::Display for Repeats {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}{}", self.0, self.1)
        }
    }

    impl std::error::Error for Repeats {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn every_cause_is_said_once() {
        for (prefix, expected) in
            [("", "no broker: refused"), ("at redis: ", "no broker: at redis: refused")]
        {
            let cause = Repeats(prefix, io::Error::other("refused"));
            let error = Error::caused(ErrorKind::Connection, "no broker", cause);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.context("publishing").to_string(), format!("publishing: {expected}"));
        }
    }
}
