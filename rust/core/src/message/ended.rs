//! The mark of a message whose task has ended, and for which others wait that nobody has told: a
//! worker tells them, and does not run the task.

use serde_json::{Map, Value};

use super::Message;

/// A header of this name stands in such a message.
const MARK: &str = "ended";
/// Modules of the exceptions with which workers end tasks.
const MODULES: [&str; 3] = ["billiard.exceptions", "celery.exceptions", "kombu.exceptions"];

impl Message {
    /// Marks it with what `end` says of its task: the exception as in a result document, and the
    /// `state`, as JSON. A stock worker, which does not know the mark, finds that it has expired.
    pub fn end(&mut self, end: &[u8]) {
        self.headers.eta = None;
        self.headers.expires = Some(0);
        let end = String::from_utf8_lossy(end).into_owned();
        self.headers.rare_mut().extra.insert(MARK.to_owned(), Value::String(end));
    }

    /// Takes the mark away; what it says, if this is one. A header of the user's own is none: it
    /// stands in no message that would never run, or says something else.
    pub fn take_end(&mut self) -> Option<Map<String, Value>> {
        let end = self.read_end()?;
        self.headers.expires = None;
        self.headers.rare_mut().extra.remove(MARK);
        Some(end)
    }

    /// Whether it is marked.
    pub fn has_end(&self) -> bool {
        self.read_end().is_some()
    }

    fn read_end(&self) -> Option<Map<String, Value>> {
        if self.headers.expires != Some(0) {
            return None;
        }
        let Value::String(end) = self.headers.rare.as_ref()?.extra.get(MARK)? else { return None };
        let end: Map<String, Value> = serde_json::from_str(end).ok()?;
        let text = |name| end.get(name).and_then(Value::as_str);
        let ends = matches!(text("state"), Some("FAILURE" | "REVOKED"));
        let known = text("exc_module").is_some_and(|module| MODULES.contains(&module));
        (ends && known && text("exc_type").is_some()).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Encoding;

    #[test]
    fn an_end_travels_in_every_encoding_and_leaves_no_trace() {
        let end = br#"{"state": "FAILURE", "exc_type": "TimeLimitExceeded", "exc_message": [1.5], "exc_module": "billiard.exceptions"}"#;
        for encoding in [Encoding::Compact, Encoding::Celery] {
            let mut message = Message::default();
            message.headers.task = "t".into();
            message.headers.id = "i".into();
            message.headers.eta = Some(5);
            message.headers.rare_mut().extra.insert("mine".into(), 1.into());
            message.end(end);
            let mut read = Message::decode(&message.encode(encoding)).expect("its own");
            assert!(read.has_end());
            let found = read.take_end().expect("an end");
            let expected: Map<String, Value> = serde_json::from_slice(end).expect("JSON");
            assert_eq!(found, expected);
            assert!(!read.has_end() && read.headers.expires.is_none());
            let left: Vec<&String> = read.headers.rare().extra.keys().collect();
            assert_eq!(left, ["mine"]);
        }
    }
}
