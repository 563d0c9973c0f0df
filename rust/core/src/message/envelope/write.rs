//! Writing an envelope: every header and property, always, in the order of a stock client.

use base64::Engine;
use serde_json::Value;

use super::{
    super::{
        Message,
        headers::{Headers, whole},
        pyjson::{write_int, write_map, write_str, write_value},
        time::format_iso,
    },
    BASE64,
};

/// Writes the message into an empty buffer.
pub(in super::super) fn encode(m: &Message, mut buffer: Vec<u8>) -> Vec<u8> {
    let base64_len = m.body.len().div_ceil(3) * 4;
    buffer.reserve(base64_len + 1280);
    let mut out = Object(buffer);
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
    out.0
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

/// Seconds as Python would write them had the caller given a whole number; what is no number is no
/// limit.
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

/// A UUID of version 4. A consumer keys what it holds by it, so two of one value would lose a
/// message.
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
        write_value(&mut self.0, value);
    }
}
