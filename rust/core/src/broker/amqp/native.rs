//! A task message as AMQP carries it: properties, a table of headers, the body as it is.
//!
//! In Celery's encoding header and property have the names that a stock client uses. A compact
//! message is the body as a whole, under a content type of its own. What this adapter says about a
//! message beside it stands in headers that begin with [`OWN`].

use std::sync::Arc;

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use serde_json::{Map, Value};

use super::delay;
use crate::{
    broker::Outgoing,
    error::{Error, ErrorKind, Result},
    message::{Encoding, Message, Native, Properties},
};

/// What a body is that holds a whole compact message.
pub(super) const COMPACT: &str = "application/x-taskcore";
/// What the headers of this adapter begin with.
const OWN: &str = "x-taskcore-";
/// How many deliveries ended with a lost worker.
pub(super) const REDELIVERIES: &str = "x-taskcore-redeliveries";
/// Why a message was parked, when, how it is called among the dead letters, and its task id.
pub(super) const REASON: &str = "x-taskcore-reason";
pub(super) const PARKED_AT: &str = "x-taskcore-parked-at";
pub(super) const KEY: &str = "x-taskcore-key";
pub(super) const ID: &str = "x-taskcore-id";

/// What is published, and what was delivered: it can be published again as it is.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// A name of at most 255 bytes, as the protocol has them.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString> {
    ShortString::try_new(text).map_err(|_| {
        let text = format!(
            "the {what} has `{}` bytes, expected at most 255, which is what AMQP carries",
            text.len()
        );
        Error::new(ErrorKind::TooLarge, text)
    })
}

/// A message as it is published.
pub(super) fn content(outgoing: &Outgoing) -> Result<Content> {
    let message = &outgoing.message;
    let p = &message.properties;
    let common = BasicProperties::default()
        .with_delivery_mode(p.delivery_mode.unwrap_or(2))
        .with_priority(p.priority);
    if outgoing.encoding == Encoding::Compact {
        let properties = common
            .with_content_type(COMPACT.into())
            .with_content_encoding("binary".into())
            .with_headers(FieldTable::default());
        return Ok(Content { properties, body: message.encode(Encoding::Compact) });
    }
    let id = p.correlation_id.as_deref().unwrap_or(&message.headers.id);
    let reply_to = p.reply_to.as_deref().unwrap_or_default();
    let properties = common
        .with_content_type(short("content type", &message.content_type)?)
        .with_content_encoding(short("content encoding", &message.content_encoding)?)
        .with_headers(table(&message.header_map())?)
        .with_correlation_id(short("task id", id)?)
        .with_reply_to(short("reply id", reply_to)?);
    Ok(Content { properties, body: message.body.clone() })
}

impl Content {
    /// The bytes by which a worker knows what was delivered: a compact message, or what came
    /// instead in an envelope.
    pub(super) fn raw(&self, exchange: &str, routing_key: &str) -> Bytes {
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        let p = &self.properties;
        if p.content_type().as_ref().is_some_and(|kind| kind.as_str() == COMPACT) {
            return self.body.clone();
        }
        let exchange = if exchange == delay::DELIVERY { "" } else { exchange };
        let native = Native {
            headers: p.headers().as_ref().map(headers).unwrap_or_default(),
            properties: Properties {
                reply_to: text(p.reply_to()),
                correlation_id: text(p.correlation_id()),
                priority: p.priority().unwrap_or(0),
                delivery_mode: *p.delivery_mode(),
                expiration: text(p.expiration()),
                exchange: exchange.to_owned(),
                routing_key: delay::undelayed(routing_key).to_owned(),
                delivery_tag: None,
            },
            content_type: text(p.content_type()),
            content_encoding: text(p.content_encoding()),
            body: self.body.clone(),
        };
        match native.message() {
            Ok(message) => message.encode(Encoding::Compact),
            Err(_) => native.envelope(),
        }
    }

    /// A whole number of this adapter's about the message.
    pub(super) fn number(&self, header: &str) -> Option<i64> {
        match self.properties.headers().as_ref()?.inner().get(header)? {
            AMQPValue::LongLongInt(n) => Some(*n),
            AMQPValue::LongInt(n) => Some(i64::from(*n)),
            _ => None,
        }
    }

    /// A text of this adapter's about the message.
    pub(super) fn text(&self, header: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(header)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// How many deliveries ended with a lost worker.
    pub(super) fn redeliveries(&self) -> u32 {
        self.number(REDELIVERIES).and_then(|n| n.try_into().ok()).unwrap_or(0)
    }

    /// The same message with this said about it, and nothing else of this adapter's or the
    /// server's own. It does not expire: who runs it looks at its headers.
    pub(super) fn saying(&self, own: &[(&str, AMQPValue)]) -> Self {
        let mut table = FieldTable::default();
        for (name, value) in self.properties.headers().iter().flat_map(FieldTable::inner) {
            if !is_about(name.as_str()) {
                table.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in own {
            table.insert((*name).into(), value.clone());
        }
        let p = &self.properties;
        let mut properties = BasicProperties::default().with_headers(table);
        macro_rules! keep {
            ($($field:ident $with:ident),*) => {
                $(if let Some(value) = p.$field() { properties = properties.$with(value.clone()); })*
            };
        }
        keep!(content_type with_content_type, content_encoding with_content_encoding,
            delivery_mode with_delivery_mode, priority with_priority,
            correlation_id with_correlation_id, reply_to with_reply_to,
            message_id with_message_id, timestamp with_timestamp, kind with_type,
            app_id with_app_id);
        Self { properties, body: self.body.clone() }
    }
}

/// Whether a header is none of its sender's.
fn is_about(name: &str) -> bool {
    let servers = ["x-death", "x-delivery-count", "x-acquired-count"];
    name.starts_with(OWN)
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
        || servers.contains(&name)
}

/// The headers of a sender.
fn headers(table: &FieldTable) -> Map<String, Value> {
    let own = table.inner().iter().filter(|(name, _)| !is_about(name.as_str()));
    own.map(|(name, value)| (name.to_string(), json(value))).collect()
}

/// Any table.
pub(super) fn map(table: &FieldTable) -> Map<String, Value> {
    table.inner().iter().map(|(name, value)| (name.to_string(), json(value))).collect()
}

fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(v) => (*v).into(),
        AMQPValue::ShortShortInt(v) => (*v).into(),
        AMQPValue::ShortShortUInt(v) => (*v).into(),
        AMQPValue::ShortInt(v) => (*v).into(),
        AMQPValue::ShortUInt(v) => (*v).into(),
        AMQPValue::LongInt(v) => (*v).into(),
        AMQPValue::LongUInt(v) => (*v).into(),
        AMQPValue::LongLongInt(v) => (*v).into(),
        AMQPValue::Float(v) => f64::from(*v).into(),
        AMQPValue::Double(v) => (*v).into(),
        AMQPValue::DecimalValue(v) => (f64::from(v.value) / 10_f64.powi(i32::from(v.scale))).into(),
        AMQPValue::ShortString(v) => v.as_str().into(),
        AMQPValue::LongString(v) => String::from_utf8_lossy(v.as_bytes()).into(),
        AMQPValue::FieldArray(v) => v.as_slice().iter().map(json).collect::<Vec<_>>().into(),
        AMQPValue::Timestamp(v) => (*v).into(),
        AMQPValue::FieldTable(v) => Value::Object(map(v)),
        AMQPValue::ByteArray(v) => String::from_utf8_lossy(v.as_slice()).into(),
        AMQPValue::Void => Value::Null,
    }
}

/// The same as a table.
pub(super) fn table(map: &Map<String, Value>) -> Result<FieldTable> {
    let mut table = FieldTable::default();
    for (name, value) in map {
        table.insert(short("name of a header", name)?, amqp(value)?);
    }
    Ok(table)
}

fn amqp(value: &Value) -> Result<AMQPValue> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(v) => AMQPValue::Boolean(*v),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => AMQPValue::LongLongInt(n),
            (None, f) => AMQPValue::Double(f.unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(items) => {
            let mut array = FieldArray::default();
            for item in items {
                array.push(amqp(item)?);
            }
            AMQPValue::FieldArray(array)
        }
        Value::Object(entries) => AMQPValue::FieldTable(table(entries)?),
    })
}

/// A message of a queue's, to be published to it again.
pub(super) fn id_of(raw: &Bytes) -> Arc<str> {
    Message::decode(raw).map_or_else(|_| Arc::from(""), |message| Arc::from(message.headers.id))
}
