//! Reading an envelope.
//!
//! Everything is read into its place: a message is some 600 bytes, and handing it up through the
//! results of nested deserializers would copy it at each level.

use std::borrow::Cow;

use base64::Engine;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{
    super::{
        Message,
        body::is_map,
        headers::{Headers, Properties, TimeLimit},
        protocol1, pyjson,
        time::parse_iso,
    },
    BASE64,
};
use crate::error::{Error, ErrorKind, Result};

pub(in super::super) fn decode(raw: &Bytes) -> Result<Message> {
    let mut wire = Wire::default();
    if let Err(error) = parse(raw, &mut wire) {
        // Python's NaN in a header is no reason to refuse a task; it is read as null.
        return pyjson::without_nan(raw).map_or(Err(error), |tamed| decode(&tamed.into()));
    }
    let HeaderSet { headers, named } = wire.headers;
    let mut message = Message {
        headers,
        properties: wire.properties.known,
        // What kombu takes a message without them for.
        content_type: wire.content_type.map_or("application/data".into(), Into::into),
        content_encoding: wire.content_encoding.map_or("utf-8".into(), Into::into),
        body: body(wire.body, wire.properties.body_encoding.as_deref())?,
    };
    if !named || is_map(&message.content_type, &message.body) {
        message = protocol1::upgrade(message)?;
    }
    let correlation_id = wire.properties.correlation_id.filter(|c| *c != message.headers.id);
    message.properties.correlation_id = correlation_id.map(Cow::into_owned);
    message.headers.settle_root();
    message.check()?;
    Ok(message)
}

fn body(text: Option<Cow<'_, str>>, encoding: Option<&str>) -> Result<Bytes> {
    let text = text.ok_or_else(|| Error::new(ErrorKind::Decode, "the envelope has no `body`"))?;
    if encoding != Some("base64") {
        return Ok(Bytes::from(text.into_owned()));
    }
    let decoded = BASE64.decode(text.as_bytes());
    decoded.map(Bytes::from).map_err(|e| {
        Error::caused(ErrorKind::Decode, "the body is not base64, as its `body_encoding` says", e)
    })
}

fn parse<'a>(raw: &'a [u8], wire: &mut Wire<'a>) -> Result<()> {
    let refused = "not a task message in a JSON envelope";
    // Checked once as a whole, the strings in it need no check of their own.
    let text =
        std::str::from_utf8(raw).map_err(|e| Error::caused(ErrorKind::Decode, refused, e))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let done = Record(wire).deserialize(&mut json).and_then(|()| json.end());
    done.map_err(|e| Error::caused(ErrorKind::Decode, refused, e))
}

/// Something read field by field from a JSON object.
trait Fields<'de> {
    /// Takes the value of `key` off `map`.
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object into a `T`, and null into none of it. Fields come in any order; of two with one
/// name the last counts.
struct Record<'m, T>(&'m mut T);

impl<'de, T: Fields<'de>> DeserializeSeed<'de> for Record<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Fields<'de>> Visitor<'de> for Record<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let done = self.0.field(&key, &mut map);
            done.map_err(|e| A::Error::custom(format_args!("`{key}`: {e}")))?;
        }
        Ok(())
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

/// The next value as text; null is absent.
fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    Ok(map.next_value::<Option<Text<'de>>>()?.map(|t| t.0))
}

/// A time in ISO 8601, as text or as kombu's typed value of a datetime.
fn time<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<i64>, A::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time<'a> {
        Plain(#[serde(borrow)] Cow<'a, str>),
        Typed {
            #[serde(borrow, rename = "__value__")]
            value: Cow<'a, str>,
        },
    }
    let Some(time) = map.next_value::<Option<Time<'de>>>()? else { return Ok(None) };
    let (Time::Plain(text) | Time::Typed { value: text }) = time;
    parse_iso(&text).map(Some).map_err(A::Error::custom)
}

/// Text, or a number where a sender was careless.
fn loose<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    match map.next_value::<Value>()? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(n) => Ok(Some(n.to_string())),
        other => Err(A::Error::custom(format_args!("found `{other}`, expected a string"))),
    }
}

#[derive(Default)]
struct Wire<'a> {
    body: Option<Cow<'a, str>>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: HeaderSet,
    properties: PropertySet<'a>,
}

impl<'de> Fields<'de> for Wire<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "body" => self.body = text(map)?,
            "content-type" => self.content_type = map.next_value()?,
            "content-encoding" => self.content_encoding = map.next_value()?,
            "headers" => map.next_value_seed(Record(&mut self.headers))?,
            "properties" => map.next_value_seed(Record(&mut self.properties))?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Headers as they stand in the map.
#[derive(Default)]
pub(in super::super) struct HeaderSet {
    pub(in super::super) headers: Headers,
    /// Whether there was a `task`, which makes it protocol 2.
    pub(in super::super) named: bool,
}

impl HeaderSet {
    /// From the fields of a protocol 1 body.
    pub(in super::super) fn from_map(fields: &Map<String, Value>) -> Result<Self> {
        let mut set = Self::default();
        Record(&mut set)
            .deserialize(fields)
            .map_err(|e| Error::caused(ErrorKind::Decode, "not a task message", e))?;
        Ok(set)
    }
}

impl<'de> Fields<'de> for HeaderSet {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let h = &mut self.headers;
        match key {
            "task" => {
                h.task = map.next_value::<Option<_>>()?.unwrap_or_default();
                self.named = true;
            }
            "id" => h.id = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "eta" => h.eta = time(map)?,
            "expires" => h.expires = time(map)?,
            "retries" => h.retries = map.next_value::<Option<_>>()?.unwrap_or(0),
            "timelimit" => {
                let limits: Option<(Option<f64>, Option<f64>)> = map.next_value()?;
                h.timelimit =
                    limits.map(|(hard, soft)| TimeLimit { hard, soft }).unwrap_or_default();
            }
            "ignore_result" => h.ignore_result = map.next_value()?,
            "root_id" => {
                let root = text(map)?.filter(|root| *root != h.id);
                h.root_id = root.map(Cow::into_owned);
            }
            "parent_id" => h.parent_id = map.next_value()?,
            "compression" => h.compression = map.next_value()?,
            _ => return rare_header(h, key, map),
        }
        Ok(())
    }
}

fn rare_header<'de, A: MapAccess<'de>>(
    h: &mut Headers,
    key: &str,
    map: &mut A,
) -> Result<(), A::Error> {
    // Most are null, and a message whose rare headers are all null needs no box for them.
    macro_rules! keep {
        ($field:ident) => {
            if let Some(value) = map.next_value::<Option<_>>()? {
                h.rare_mut().$field = value;
            }
        };
        (some $field:ident) => {
            if let Some(value) = map.next_value::<Option<_>>()? {
                h.rare_mut().$field = Some(value);
            }
        };
    }
    match key {
        "lang" => {
            if let Some(lang) = text(map)?.filter(|lang| lang != "py") {
                h.rare_mut().lang = Some(lang.into_owned());
            }
        }
        "shadow" => keep!(some shadow),
        "group" => keep!(some group),
        "group_index" => keep!(some group_index),
        "argsrepr" => keep!(some argsrepr),
        "kwargsrepr" => keep!(some kwargsrepr),
        "origin" => keep!(some origin),
        "replaced_task_nesting" => keep!(replaced_task_nesting),
        "stamped_headers" => keep!(some stamped_headers),
        "stamps" => keep!(stamps),
        _ => {
            let value = map.next_value()?;
            h.rare_mut().extra.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

#[derive(Default)]
struct PropertySet<'a> {
    known: Properties,
    /// Compared with the task id when that is known.
    correlation_id: Option<Cow<'a, str>>,
    body_encoding: Option<Cow<'a, str>>,
}

impl<'de> Fields<'de> for PropertySet<'de> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let p = &mut self.known;
        match key {
            "correlation_id" => self.correlation_id = text(map)?,
            "body_encoding" => self.body_encoding = text(map)?,
            "reply_to" => p.reply_to = text(map)?.filter(|to| !to.is_empty()).map(Cow::into_owned),
            // Some senders go beyond 9; the message keeps their number, the broker's lists end at
            // 9.
            "priority" => {
                let priority = map.next_value::<Option<i64>>()?.unwrap_or(0);
                p.priority = priority.clamp(0, i64::from(u8::MAX)) as u8;
            }
            "delivery_mode" => {
                p.delivery_mode = map.next_value::<Option<u8>>()?.filter(|mode| *mode != 2);
            }
            "expiration" => p.expiration = loose(map)?,
            "delivery_tag" => p.delivery_tag = loose(map)?,
            "delivery_info" => map.next_value_seed(Record(&mut DeliveryInfo(p)))?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

struct DeliveryInfo<'m>(&'m mut Properties);

impl<'de> Fields<'de> for DeliveryInfo<'_> {
    fn field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "exchange" => self.0.exchange = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "routing_key" => {
                self.0.routing_key = map.next_value::<Option<_>>()?.unwrap_or_default();
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}
