//! The mark of a message whose task was cancelled while it was scheduled, and for which others wait:
//! a worker ends it, and with it what was to follow.

use serde_json::Value;

use super::Message;

/// A header of this name stands in such a message.
const MARK: &str = "revoked";

impl Message {
    /// Marks it. A stock worker, which does not know the mark, finds that it has expired.
    pub fn revoke(&mut self) {
        self.headers.eta = None;
        self.headers.expires = Some(0);
        self.headers.rare_mut().extra.insert(MARK.to_owned(), Value::Bool(true));
    }

    /// Whether it is marked.
    pub fn is_revoked(&self) -> bool {
        let rare = self.headers.rare.as_ref();
        self.headers.expires == Some(0)
            && rare.is_some_and(|rare| rare.extra.get(MARK) == Some(&Value::Bool(true)))
    }
}
