//! A request as it lies in the mailbox: who is meant, what is asked, where the reply goes.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::glob;
use crate::{
    broker::broadcast::{BroadcastMessage, Exchange, ExchangeType},
    error::{Error, ErrorKind, Result},
    message,
};

/// What follows the name of a mailbox in the name of its exchange.
const PIDBOX: &str = "pidbox";

/// The exchange that requests are said on, and the one that replies to them are.
pub fn exchanges(mailbox: &str) -> (Exchange, Exchange) {
    let name = format!("{mailbox}.{PIDBOX}");
    let replies = Exchange { name: format!("reply.{name}").into(), kind: ExchangeType::Direct };
    (Exchange { name: name.into(), kind: ExchangeType::Fanout }, replies)
}

/// Something that workers are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Name of the command.
    pub method: String,
    /// Its arguments by name.
    pub arguments: Map<String, Value>,
    /// The logical clock of whoever asks; 0 when it says none.
    pub clock: u64,
    /// Where the reply goes; `None` when none is wanted.
    pub reply_to: Option<ReplyTo>,
    audience: Audience,
}

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The exchange.
    pub exchange: Arc<str>,
    /// The key of whoever asks.
    pub routing_key: Arc<str>,
    /// What tells this request from others, repeated in the reply.
    pub ticket: Value,
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Audience {
    All,
    Named(Vec<String>),
    Glob(String),
    Regex(String),
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Decode`: it is none, or its body is in a form that is not opened here.
    pub fn parse(message: &BroadcastMessage) -> Result<Self> {
        let body = message::decode_value(&message.content_type, &message.body)?;
        let Value::Object(mut body) = body else { return Err(malformed("its body is no map")) };
        let Some(Value::String(method)) = body.remove("method") else {
            return Err(malformed("it has no `method`"));
        };
        let arguments = match body.remove("arguments") {
            Some(Value::Object(arguments)) => arguments,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(malformed("its `arguments` are no map")),
        };
        let audience = Audience::of(&mut body)?;
        let ticket = body.remove("ticket").unwrap_or_default();
        let reply_to = match body.remove("reply_to") {
            Some(Value::Object(to)) => Some(ReplyTo::of(&to, ticket)?),
            None | Some(Value::Null) => None,
            Some(_) => return Err(malformed("its `reply_to` is no map")),
        };
        let clock = message.headers.get("clock").and_then(Value::as_u64).unwrap_or(0);
        Ok(Self { method, arguments, clock, reply_to, audience })
    }

    /// Whether no worker is left out.
    pub fn is_for_everybody(&self) -> bool {
        self.audience == Audience::All
    }

    /// Whether the worker of this name is meant.
    pub fn is_for(&self, hostname: &str) -> bool {
        match &self.audience {
            Audience::All => true,
            Audience::Named(names) => names.iter().any(|name| name == hostname),
            Audience::Glob(pattern) => glob::fits(pattern, hostname),
            Audience::Regex(pattern) => {
                // As Python's `re.match`: from the beginning, not to the end. Its engine here takes
                // linear time, whatever the pattern.
                let whole = regex::Regex::new(&format!("^(?:{pattern})"));
                whole.is_ok_and(|regex| regex.is_match(hostname))
            }
        }
    }
}

impl Audience {
    fn of(body: &mut Map<String, Value>) -> Result<Self> {
        let names = match body.remove("destination") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => {
                names.into_iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
            }
            Some(_) => return Err(malformed("its `destination` is no list of names")),
        };
        if !names.is_empty() {
            return Ok(Self::Named(names));
        }
        let mut text = |name| match body.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        match (text("pattern"), text("matcher").as_deref()) {
            (Some(pattern), Some("glob")) => Ok(Self::Glob(pattern)),
            (Some(pattern), Some("pcre")) => Ok(Self::Regex(pattern)),
            (Some(_), Some(_)) => Err(malformed("its `matcher` is neither `glob` nor `pcre`")),
            _ => Ok(Self::All),
        }
    }
}

impl ReplyTo {
    fn of(to: &Map<String, Value>, ticket: Value) -> Result<Self> {
        let text = |name| to.get(name).and_then(Value::as_str).map(Arc::from);
        match (text("exchange"), text("routing_key")) {
            (Some(exchange), Some(routing_key)) => Ok(Self { exchange, routing_key, ticket }),
            _ => Err(malformed("its `reply_to` names no exchange and routing key")),
        }
    }

    /// The reply of the worker `hostname`.
    pub fn message(&self, hostname: &str, answer: Value, clock: u64) -> BroadcastMessage {
        let body = Map::from_iter([(hostname.to_owned(), answer)]);
        let mut encoded = Vec::new();
        message::pyjson::write_map(&mut encoded, &body);
        BroadcastMessage {
            exchange: Exchange { name: Arc::clone(&self.exchange), kind: ExchangeType::Direct },
            routing_key: Arc::clone(&self.routing_key),
            headers: Map::from_iter([
                ("ticket".to_owned(), self.ticket.clone()),
                ("clock".to_owned(), clock.into()),
            ]),
            content_type: message::JSON.to_owned(),
            content_encoding: message::natural_encoding(message::JSON).to_owned(),
            body: encoded.into(),
        }
    }
}

#[cold]
fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Decode, format!("a request of remote control is malformed: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(content_type: &str, body: &[u8]) -> BroadcastMessage {
        BroadcastMessage {
            exchange: exchanges("celery").0,
            routing_key: "".into(),
            headers: Map::from_iter([("clock".to_owned(), 7.into())]),
            content_type: content_type.to_owned(),
            content_encoding: "utf-8".to_owned(),
            body: body.to_vec().into(),
        }
    }

    fn parsed(body: &Value) -> Result<Request> {
        Request::parse(&said(message::JSON, body.to_string().as_bytes()))
    }

    #[test]
    fn who_is_meant() {
        for (fields, meant) in [
            (json!({}), true),
            (json!({"destination": null}), true),
            (json!({"destination": []}), true),
            (json!({"destination": ["w1@h", "w2@h"]}), true),
            (json!({"destination": "w1@h"}), true),
            (json!({"destination": ["w2@h"]}), false),
            (json!({"destination": ["w2@h"], "pattern": "*", "matcher": "glob"}), false),
            (json!({"pattern": "w?@*", "matcher": "glob"}), true),
            (json!({"pattern": "x*", "matcher": "glob"}), false),
            (json!({"pattern": "w[0-9]", "matcher": "pcre"}), true),
            (json!({"pattern": "@h", "matcher": "pcre"}), false),
            (json!({"pattern": "x|w", "matcher": "pcre"}), true),
            (json!({"pattern": "(", "matcher": "pcre"}), false),
            (json!({"pattern": "x", "matcher": null}), true),
        ] {
            let mut body = json!({"method": "ping"});
            body.as_object_mut().expect("a map").extend(fields.as_object().expect("a map").clone());
            assert_eq!(parsed(&body).expect("a request").is_for("w1@h"), meant, "{fields}");
        }
    }

    #[test]
    fn a_reply_goes_where_the_request_says() {
        let body = json!({
            "method": "hello", "arguments": {"from_node": "w"}, "ticket": "t",
            "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "key"},
        });
        let request = parsed(&body).expect("a request");
        assert_eq!((&*request.method, request.clock), ("hello", 7));
        assert_eq!(request.arguments["from_node"], "w");
        let reply = request.reply_to.expect("wanted").message("w1@h", json!({"ok": "pong"}), 9);
        assert_eq!(reply.exchange, exchanges("celery").1);
        assert_eq!((&*reply.routing_key, &reply.headers["ticket"]), ("key", &json!("t")));
        assert_eq!(&reply.body[..], br#"{"w1@h": {"ok": "pong"}}"#);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in [
            json!([]),
            json!({}),
            json!({"method": 1}),
            json!({"method": "ping", "arguments": []}),
            json!({"method": "ping", "destination": 1}),
            json!({"method": "ping", "reply_to": "x"}),
            json!({"method": "ping", "reply_to": {"exchange": "x"}}),
            json!({"method": "ping", "pattern": "x", "matcher": "other"}),
        ] {
            assert!(parsed(&body).is_err(), "{body}");
        }
        for (content_type, body) in [
            (message::JSON, &b"{"[..]),
            (message::JSON, b"\xff"),
            (message::MSGPACK, b"\x81"),
            (message::PICKLE, b"cos\nsystem\n"),
        ] {
            assert!(Request::parse(&said(content_type, body)).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(body in prop::collection::vec(any::<u8>(), 0..200), json in any::<bool>()) {
            let content_type = if json { message::JSON } else { message::MSGPACK };
            if let Ok(request) = Request::parse(&said(content_type, &body)) {
                request.is_for("w1@h");
            }
        }
    }
}
