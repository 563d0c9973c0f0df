//! What a queue is and what it receives: the declarations of AMQP, resolved.
//!
//! Written by the Python layer from `task_queues` and the defaults; read by adapters, which declare
//! a queue before they first publish to it or consume from it. A queue that nobody has declared is
//! [`QueueDeclaration::named`]: durable, and bound to a direct exchange of its own name, as Celery
//! makes it.
//!
//! A message goes to one exchange. On the default one (its name is empty) the routing key is the
//! name of a queue; every other sends it to the queues that are bound so that they want it
//! ([`Binding::wants`](QueueBinding::wants)).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::broadcast::{ExchangeType, fits};
use crate::error::{Error, ErrorKind, Result};

/// An exchange as it is declared.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeDeclaration {
    /// Its name; empty for the default exchange, which is never declared.
    pub name: Arc<str>,
    /// How it routes.
    #[serde(rename = "type")]
    pub kind: ExchangeType,
    /// Whether it outlives the broker.
    pub durable: bool,
    /// Whether it goes with the last queue that was bound to it.
    pub auto_delete: bool,
    /// Whether somebody else declares it.
    pub no_declare: bool,
    /// Arguments of its declaration.
    pub arguments: Map<String, Value>,
}

/// One reason for which a queue receives messages.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueBinding {
    /// Of what is published here:
    pub exchange: ExchangeDeclaration,
    /// what has this routing key, or one that fits this pattern of a topic. A fanout exchange and a
    /// headers exchange have no use for it.
    pub routing_key: Arc<str>,
    /// Arguments of the binding: for a headers exchange, the headers that are wanted, and `x-match`.
    pub arguments: Map<String, Value>,
}

/// A queue as it is declared.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // AMQP's options of a queue, independent of each other
pub struct QueueDeclaration {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it outlives the broker.
    pub durable: bool,
    /// Whether only the connection that declared it may use it.
    pub exclusive: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Whether somebody else declares it.
    pub no_declare: bool,
    /// Arguments of its declaration, `x-max-priority`, `x-queue-type`, `x-expires` (milliseconds)
    /// and the like among them.
    pub arguments: Map<String, Value>,
    /// What it receives beside what names it on the default exchange. The first is the one of the
    /// queue's own `exchange` and `routing_key`.
    pub bindings: Vec<QueueBinding>,
}

/// Where a message is published that goes another way than to a queue of its own name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// How the exchange routes that the message's properties name.
    #[serde(rename = "type")]
    pub kind: ExchangeType,
    /// The queues that are declared before the first message goes this way: the one that it is
    /// meant for, and whatever else is known to be bound to the exchange.
    pub declares: Vec<Arc<QueueDeclaration>>,
}

impl Route {
    /// A route from JSON with these very names.
    ///
    /// # Errors
    /// `Config` when it is none.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|e| Error::caused(ErrorKind::Config, "a route cannot be read", e))
    }
}

impl QueueDeclaration {
    /// The queue of this name when nobody has said more about it.
    pub fn named(name: &Arc<str>) -> Self {
        let exchange = ExchangeDeclaration {
            name: Arc::clone(name),
            kind: ExchangeType::Direct,
            durable: true,
            auto_delete: false,
            no_declare: false,
            arguments: Map::new(),
        };
        let binding =
            QueueBinding { exchange, routing_key: Arc::clone(name), arguments: Map::new() };
        Self {
            name: Arc::clone(name),
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_declare: false,
            arguments: Map::new(),
            bindings: vec![binding],
        }
    }

    /// A declaration from JSON with these very names.
    ///
    /// # Errors
    /// `Config` when it is none.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| {
            Error::caused(ErrorKind::Config, "a queue's declaration cannot be read", e)
        })
    }

    /// The highest priority that it knows, where that is said (`x-max-priority`).
    pub fn max_priority(&self) -> Option<u8> {
        self.arguments.get("x-max-priority")?.as_u64()?.try_into().ok()
    }
}

impl QueueBinding {
    /// Whether a queue bound so receives what is published to its exchange with this key and these
    /// headers.
    pub fn wants(&self, routing_key: &str, headers: &Map<String, Value>) -> bool {
        receives(self.exchange.kind, (&self.routing_key, &self.arguments), routing_key, headers)
    }
}

/// Whether a binding, of a key and arguments, to an exchange of this type wants a message.
pub(super) fn receives(
    kind: ExchangeType,
    (bound, arguments): (&str, &Map<String, Value>),
    routing_key: &str,
    headers: &Map<String, Value>,
) -> bool {
    match kind {
        ExchangeType::Fanout => true,
        ExchangeType::Direct => bound == routing_key,
        ExchangeType::Topic => fits(bound, routing_key),
        ExchangeType::Headers => has(arguments, headers),
    }
}

/// Whether headers are those that a binding asks for: all of them, or any (`x-match`). Arguments
/// that begin with `x-` are not asked for; an argument without a value asks that the header is there.
fn has(arguments: &Map<String, Value>, headers: &Map<String, Value>) -> bool {
    let mode = arguments.get("x-match").and_then(Value::as_str).unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let mut asked = arguments
        .iter()
        .filter(|(name, _)| *name != "x-match" && (with_x || !name.starts_with("x-")));
    let fulfilled = |(name, value): (&String, &Value)| {
        headers.get(name).is_some_and(|found| value.is_null() || found == value)
    };
    if mode.starts_with("any") { asked.any(fulfilled) } else { asked.all(fulfilled) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn headers_match_as_amqp_says() {
        for (arguments, headers, wanted) in [
            (json!({}), json!({}), true),
            (json!({"x-match": "any"}), json!({"a": 1}), false),
            (json!({"a": 1, "b": "x"}), json!({"a": 1, "b": "x", "c": 2}), true),
            (json!({"a": 1, "b": "x"}), json!({"a": 1}), false),
            (json!({"x-match": "any", "a": 1, "b": "x"}), json!({"b": "x"}), true),
            (json!({"x-match": "any", "a": 1}), json!({"a": 2}), false),
            (json!({"a": null}), json!({"a": "whatever"}), true),
            (json!({"x-of-others": 1, "a": 1}), json!({"a": 1}), true),
            (json!({"x-match": "all-with-x", "x-of-others": 1}), json!({}), false),
        ] {
            assert_eq!(has(&map(&arguments), &map(&headers)), wanted, "{arguments} {headers}");
        }
    }

    #[test]
    fn a_declaration_is_read_by_its_names_and_nothing_else() {
        let text = r#"{"name": "feed", "durable": true, "exclusive": false, "auto_delete": false,
            "no_declare": false, "arguments": {"x-max-priority": 9}, "bindings": [
            {"exchange": {"name": "news", "type": "topic", "durable": true, "auto_delete": false,
             "no_declare": false, "arguments": {}}, "routing_key": "news.#", "arguments": {}}]}"#;
        let queue = QueueDeclaration::from_json(text).expect("a declaration");
        assert_eq!(queue.max_priority(), Some(9));
        assert!(queue.bindings[0].wants("news.sport", &Map::new()));
        assert!(!queue.bindings[0].wants("sport", &Map::new()));
        let misspelt = text.replace("durable", "durabel");
        let error = QueueDeclaration::from_json(&misspelt).expect_err("an unknown name");
        assert!(error.to_string().contains("durabel"), "{error}");
        let unknown = text.replace("topic", "x-delayed-message");
        assert!(QueueDeclaration::from_json(&unknown).is_err());
    }
}
