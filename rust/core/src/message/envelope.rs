//! Celery's task message protocol 2 in kombu's JSON envelope, as it lies in a Redis list.
//!
//! Reading is one pass of serde over the text, typed and borrowing, without a tree of values in between. Absent headers have
//! their protocol defaults, unknown ones are kept; unknown properties are not (only a broken sender has any). What
//! is equal to a default (`root_id` = `id`, `lang` = `py`, delivery mode 2, empty `reply_to`) is read as absent, so that a
//! message compares equal whichever way it travelled. Writing gives every header and property that a stock
//! worker wants to see, in Celery's order and Python's spacing, the body in base64.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD_PAD_INDIFFERENT as BASE64};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{
    Message,
    body::is_map,
    headers::{Headers, Properties, TimeLimit, whole},
    protocol1,
    pyjson::{write_int, write_map, write_str},
    time::{format_iso, parse_iso},
};
use crate::error::{Error, ErrorKind, Result};

pub(super) fn decode(raw: &Bytes) -> Result<Message> {
    let Record(wire): Record<Wire<'_>> = serde_json::from_slice(raw).map_err(|e| {
        Error::caused(ErrorKind::Decode, "not a task message in a JSON envelope", e)
    })?;
    let HeaderSet { headers, named } = wire.headers;
    let mut message = Message {
        headers,
        properties: wire.properties.known,
        // What kombu takes a message without them for.
        content_type: wire.content_type.unwrap_or_else(|| "application/data".to_owned()),
        content_encoding: wire.content_encoding.unwrap_or_else(|| "utf-8".to_owned()),
        body: body(wire.body, wire.properties.body_encoding.as_deref())?,
    };
    if !named || is_map(&message.content_type, &message.body) {
        message = protocol1::upgrade(message)?;
    }
    let correlation_id = wire.properties.correlation_id.filter(|c| *c != message.headers.id);
    message.properties.correlation_id = correlation_id.map(Cow::into_owned);
    message.headers.settle_root();
    message.checked()
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

/// Something read field by field from a JSON object.
trait Fields<'de>: Default {
    /// Takes the value of `key` off `map`.
    fn field<A: MapAccess<'de>>(&mut self, key: Cow<'de, str>, map: &mut A)
    -> Result<(), A::Error>;
}

/// Reads a `T` from an object, or its default from null. Fields come in any order; of two with one name the last counts.
struct Record<T>(T);

impl<'de, T: Fields<'de>> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(T);

        impl<'de, T: Fields<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<T, E> {
                Ok(self.0)
            }

            fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
                while let Some(Text(key)) = map.next_key()? {
                    let name = key.clone(); // borrowed but for keys with escapes
                    let done = self.0.field(key, &mut map);
                    done.map_err(|e| A::Error::custom(format_args!("`{name}`: {e}")))?;
                }
                Ok(self.0)
            }
        }

        deserializer.deserialize_any(ObjectVisitor(T::default())).map(Record)
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
    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key.as_ref() {
            "body" => self.body = text(map)?,
            "content-type" => self.content_type = map.next_value()?,
            "content-encoding" => self.content_encoding = map.next_value()?,
            "headers" => self.headers = map.next_value::<Record<_>>()?.0,
            "properties" => self.properties = map.next_value::<Record<_>>()?.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Headers as they stand in the map.
#[derive(Default)]
pub(super) struct HeaderSet {
    pub(super) headers: Headers,
    /// Whether there was a `task`, which makes it protocol 2.
    pub(super) named: bool,
}

impl HeaderSet {
    /// From the fields of a protocol 1 body.
    pub(super) fn from_map(fields: &Map<String, Value>) -> Result<Self> {
        Record::deserialize(fields)
            .map(|record| record.0)
            .map_err(|e| Error::caused(ErrorKind::Decode, "not a task message", e))
    }
}

impl<'de> Fields<'de> for HeaderSet {
    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let h = &mut self.headers;
        match key.as_ref() {
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
    key: Cow<'de, str>,
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
    match key.as_ref() {
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
            h.rare_mut().extra.insert(key.into_owned(), value);
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
    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let p = &mut self.known;
        match key.as_ref() {
            "correlation_id" => self.correlation_id = text(map)?,
            "body_encoding" => self.body_encoding = text(map)?,
            "reply_to" => p.reply_to = text(map)?.filter(|to| !to.is_empty()).map(Cow::into_owned),
            // Some senders go beyond 9; the message keeps their number, the broker's lists end at 9.
            "priority" => {
                let priority = map.next_value::<Option<i64>>()?.unwrap_or(0);
                p.priority = priority.clamp(0, i64::from(u8::MAX)) as u8;
            }
            "delivery_mode" => {
                p.delivery_mode = map.next_value::<Option<u8>>()?.filter(|mode| *mode != 2);
            }
            "expiration" => p.expiration = loose(map)?,
            "delivery_tag" => p.delivery_tag = loose(map)?,
            "delivery_info" => {
                let Record(DeliveryInfo { exchange, routing_key }) = map.next_value()?;
                (p.exchange, p.routing_key) = (exchange, routing_key);
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

#[derive(Default)]
struct DeliveryInfo {
    exchange: String,
    routing_key: String,
}

impl<'de> Fields<'de> for DeliveryInfo {
    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key.as_ref() {
            "exchange" => self.exchange = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "routing_key" => self.routing_key = map.next_value::<Option<_>>()?.unwrap_or_default(),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

pub(super) fn encode(m: &Message) -> Bytes {
    let base64_len = m.body.len().div_ceil(3) * 4;
    let mut out = Object(Vec::with_capacity(base64_len + 1280));
    out.0.extend_from_slice(b"{\"body\": \"");
    let start = out.0.len();
    out.0.resize(start + base64_len, 0);
    BASE64.encode_slice(&m.body, &mut out.0[start..]).expect("base64 is four bytes for three");
    out.0.push(b'"');
    out.text("content-encoding", &m.content_encoding);
    out.text("content-type", &m.content_type);
    out.open("headers");
    write_headers(&mut out, &m.headers);
    out.0.extend_from_slice(b"}");
    out.open("properties");
    write_properties(&mut out, m);
    out.0.extend_from_slice(b"}}");
    Bytes::from(out.0)
}

fn write_headers(out: &mut Object, h: &Headers) {
    let rare = h.rare();
    out.text("lang", rare.lang.as_deref().unwrap_or("py"));
    out.text("task", &h.task);
    out.text("id", &h.id);
    out.some_text("shadow", rare.shadow.as_deref());
    out.some_text("eta", h.eta.map(format_iso).as_deref());
    out.some_text("expires", h.expires.map(format_iso).as_deref());
    out.some_text("group", rare.group.as_deref());
    match rare.group_index {
        Some(n) => out.int("group_index", n),
        None => out.null("group_index"),
    }
    out.int("retries", i64::from(h.retries));
    out.key("timelimit");
    out.0.push(b'[');
    write_seconds(&mut out.0, h.timelimit.hard);
    out.0.extend_from_slice(b", ");
    write_seconds(&mut out.0, h.timelimit.soft);
    out.0.push(b']');
    out.text("root_id", h.root());
    out.some_text("parent_id", h.parent_id.as_deref());
    out.some_text("argsrepr", rare.argsrepr.as_deref());
    out.some_text("kwargsrepr", rare.kwargsrepr.as_deref());
    out.some_text("origin", rare.origin.as_deref());
    match h.ignore_result {
        Some(true) => out.raw("ignore_result", b"true"),
        Some(false) => out.raw("ignore_result", b"false"),
        None => out.null("ignore_result"),
    }
    out.int("replaced_task_nesting", i64::from(rare.replaced_task_nesting));
    match &rare.stamped_headers {
        Some(names) => {
            let names = names.iter().map(|name| Value::from(name.as_str())).collect();
            out.value("stamped_headers", &Value::Array(names));
        }
        None => out.null("stamped_headers"),
    }
    out.key("stamps");
    write_map(&mut out.0, &rare.stamps);
    if let Some(compression) = &h.compression {
        out.text("compression", compression);
    }
    for (key, value) in &rare.extra {
        out.value(key, value);
    }
}

/// Seconds as Python would write them had the caller given a whole number; what is no number is no limit.
fn write_seconds(out: &mut Vec<u8>, seconds: Option<f64>) {
    match seconds.filter(|s| s.is_finite()) {
        None => out.extend_from_slice(b"null"),
        Some(s) => match whole(s) {
            Some(n) => write_int(out, n),
            None => out.extend_from_slice(Value::from(s).to_string().as_bytes()),
        },
    }
}

fn write_properties(out: &mut Object, m: &Message) {
    let p = &m.properties;
    out.text("correlation_id", p.correlation_id.as_deref().unwrap_or(&m.headers.id));
    out.text("reply_to", p.reply_to.as_deref().unwrap_or_default());
    out.int("delivery_mode", i64::from(p.delivery_mode.unwrap_or(2)));
    if let Some(expiration) = &p.expiration {
        out.text("expiration", expiration);
    }
    out.open("delivery_info");
    out.text("exchange", &p.exchange);
    out.text("routing_key", &p.routing_key);
    out.0.push(b'}');
    out.int("priority", i64::from(p.priority));
    out.text("body_encoding", "base64");
    match &p.delivery_tag {
        Some(tag) => out.text("delivery_tag", tag),
        None => out.text("delivery_tag", fresh_tag().encode_lower(&mut [0; 36])),
    }
}

/// A UUID of version 4. A consumer keys what it holds by it, so two of one value would lose a message.
fn fresh_tag() -> uuid::fmt::Hyphenated {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated()
}

/// JSON being written, entry by entry.
struct Object(Vec<u8>);

impl Object {
    fn key(&mut self, key: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.extend_from_slice(b", ");
        }
        write_str(&mut self.0, key);
        self.0.extend_from_slice(b": ");
    }

    fn open(&mut self, key: &str) {
        self.key(key);
        self.0.push(b'{');
    }

    fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key);
        self.0.extend_from_slice(json);
    }

    fn null(&mut self, key: &str) {
        self.raw(key, b"null");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        write_str(&mut self.0, value);
    }

    fn some_text(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    fn int(&mut self, key: &str, value: i64) {
        self.key(key);
        write_int(&mut self.0, value);
    }

    fn value(&mut self, key: &str, value: &Value) {
        self.key(key);
        super::pyjson::write_value(&mut self.0, value);
    }
}
