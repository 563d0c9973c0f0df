//! Protocol 1 and the hybrid of both, read as protocol 2. Never written.
//!
//! In protocol 1 the body is one map: the headers, the arguments and the links together. In a
//! hybrid message a `task` header stands beside such a map; the real headers win over those of the
//! map. Here the map is taken apart and the body becomes `[args, kwargs, embed]` in the same
//! serializer, the arguments copied as the bytes they were. The price of knowing the headers only
//! from the body: it must be opened, which works for JSON and MessagePack without Python and for no
//! other serializer. Times without an offset are taken as UTC whatever `utc` says.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    Message,
    body::{JSON, MSGPACK},
    compression::Compression,
    envelope::HeaderSet,
    headers::{Headers, Rare},
    msgpack::{Head, Reader, Writer, text, unexpected},
    pyjson,
};
use crate::error::{Error, ErrorKind, Result};

/// How large a compressed protocol 1 body may become; the receiver's own limit is not known this
/// early.
const MAX_BODY: usize = 64 << 20;

/// Turns a message whose body is a map, or whose headers name no task, into protocol 2.
pub(super) fn upgrade(mut message: Message) -> Result<Message> {
    if let Some(name) = message.headers.compression.take() {
        let plain = Compression::from_content_type(&name)?.decompress(&message.body, MAX_BODY)?;
        message.body = Bytes::from(plain);
    }
    let json = match &*message.content_type {
        JSON => true,
        MSGPACK => false,
        other => return Err(unopened(other)),
    };
    let opened = if json { open_json(&message.body) } else { open_msgpack(&message.body) };
    let mut parts = opened.map_err(|e| {
        e.context("there is no protocol 2 `task` header, and the body is not a protocol 1 task")
    })?;
    let body = parts.body()?;
    let new_body = Bytes::from(if json { join_json(&body) } else { join_msgpack(&body) });
    let old = HeaderSet::from_map(&parts.headers())?.headers;
    message.headers = merged(message.headers, old);
    message.body = new_body;
    Ok(message)
}

fn unopened(content_type: &str) -> Error {
    Error::new(
        ErrorKind::Decode,
        format!(
            "there is no `task` header, and a protocol 1 body of type `{content_type}` is not opened: \
             expected `{JSON}` or `{MSGPACK}`; publish it with protocol 2"
        ),
    )
}

/// The fields of the map: plain ones as values, the opaque ones as the bytes they are.
#[derive(Default)]
struct Parts<'a> {
    plain: Map<String, Value>,
    args: Option<&'a [u8]>,
    kwargs: Option<&'a [u8]>,
    callbacks: Option<&'a [u8]>,
    errbacks: Option<&'a [u8]>,
    chord: Option<&'a [u8]>,
}

/// The protocol 2 body that they make.
struct Body<'a> {
    args: &'a [u8],
    kwargs: &'a [u8],
    callbacks: Option<&'a [u8]>,
    errbacks: Option<&'a [u8]>,
    chord: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// The place of an opaque field.
    fn slot(&mut self, key: &str) -> Option<&mut Option<&'a [u8]>> {
        Some(match key {
            "args" => &mut self.args,
            "kwargs" => &mut self.kwargs,
            "callbacks" => &mut self.callbacks,
            "errbacks" => &mut self.errbacks,
            "chord" => &mut self.chord,
            _ => return None,
        })
    }

    fn body(&self) -> Result<Body<'a>> {
        let missing = |field: &str| {
            Error::new(ErrorKind::Decode, format!("`{field}` is missing from the protocol 1 body"))
        };
        Ok(Body {
            args: self.args.ok_or_else(|| missing("args"))?,
            kwargs: self.kwargs.ok_or_else(|| missing("kwargs"))?,
            callbacks: self.callbacks,
            errbacks: self.errbacks,
            chord: self.chord,
        })
    }

    /// What is left is headers, but for `utc`, `chain` (which never was one) and `taskset`, the old
    /// name of `group`.
    fn headers(&mut self) -> Map<String, Value> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.shift_remove("utc");
        plain.shift_remove("chain");
        if let Some(taskset) = plain.shift_remove("taskset").filter(|t| !t.is_null()) {
            plain.insert("group".to_owned(), taskset);
        }
        plain
    }
}

fn not_a(wanted: &str, field: &str) -> Error {
    Error::new(ErrorKind::Decode, format!("`{field}` of a protocol 1 body is not {wanted}"))
}

fn open_json(body: &[u8]) -> Result<Parts<'_>> {
    let mut parts = Parts::default();
    for (key, value) in pyjson::entries(body)? {
        match (key.as_ref(), value[0]) {
            ("args", b'[') | ("kwargs", b'{') => {}
            ("args", _) => return Err(not_a("an array", &key)),
            ("kwargs", _) => return Err(not_a("an object", &key)),
            _ => {}
        }
        if let Some(slot) = parts.slot(&key) {
            *slot = Some(value);
            continue;
        }
        let value = serde_json::from_slice(value).map_err(|e| {
            Error::caused(
                ErrorKind::Decode,
                format!("`{key}` of a protocol 1 body is not valid JSON"),
                e,
            )
        })?;
        parts.plain.insert(key.into_owned(), value);
    }
    Ok(parts)
}

fn join_json(body: &Body<'_>) -> Vec<u8> {
    let null = b"null".as_slice();
    [
        b"[",
        body.args,
        b", ",
        body.kwargs,
        b", {\"callbacks\": ",
        body.callbacks.unwrap_or(null),
        b", \"errbacks\": ",
        body.errbacks.unwrap_or(null),
        b", \"chain\": null, \"chord\": ",
        body.chord.unwrap_or(null),
        b"}]",
    ]
    .concat()
}

fn open_msgpack(body: &[u8]) -> Result<Parts<'_>> {
    let mut reader = Reader::new(body);
    let count = match reader.head()? {
        Head::Map(n) => n,
        head => return Err(unexpected(head, "a map")),
    };
    let mut parts = Parts::default();
    for _ in 0..count {
        let key = match reader.head()? {
            Head::Str(key) => text(key)?,
            head => return Err(unexpected(head, "a string as key")),
        };
        let start = reader.pos();
        let Some(slot) = parts.slot(key) else {
            let value = reader.value(1)?;
            parts.plain.insert(key.to_owned(), value);
            continue;
        };
        let head = reader.head()?;
        match (key, head) {
            ("args", Head::Array(_)) | ("kwargs", Head::Map(_)) => {}
            ("args", _) => return Err(not_a("an array", key)),
            ("kwargs", _) => return Err(not_a("a map", key)),
            _ => {}
        }
        reader.skip_rest(head)?;
        *slot = Some(&body[start..reader.pos()]);
    }
    Ok(parts)
}

fn join_msgpack(body: &Body<'_>) -> Vec<u8> {
    let mut out = Writer::with_capacity(body.args.len() + body.kwargs.len() + 64);
    out.array(3);
    out.raw(body.args);
    out.raw(body.kwargs);
    out.map(4);
    let embed = [
        ("callbacks", body.callbacks),
        ("errbacks", body.errbacks),
        ("chain", None),
        ("chord", body.chord),
    ];
    for (key, value) in embed {
        out.str(key);
        match value {
            Some(value) => out.raw(value),
            None => out.nil(),
        }
    }
    out.into_vec()
}

/// The real headers, completed by those of the map.
fn merged(real: Headers, old: Headers) -> Headers {
    let rare = match (real.rare, old.rare) {
        (Some(real), Some(old)) => Some(Box::new(merged_rare(*real, *old))),
        (real, old) => real.or(old),
    };
    Headers {
        task: if real.task.is_empty() { old.task } else { real.task },
        id: if real.id.is_empty() { old.id } else { real.id },
        eta: real.eta.or(old.eta),
        expires: real.expires.or(old.expires),
        retries: real.retries.max(old.retries),
        timelimit: super::TimeLimit {
            hard: real.timelimit.hard.or(old.timelimit.hard),
            soft: real.timelimit.soft.or(old.timelimit.soft),
        },
        ignore_result: real.ignore_result.or(old.ignore_result),
        root_id: real.root_id.or(old.root_id),
        parent_id: real.parent_id.or(old.parent_id),
        compression: None, // the body was opened
        rare,
    }
}

fn merged_rare(real: Rare, old: Rare) -> Rare {
    let mut extra = old.extra;
    extra.extend(real.extra);
    let mut stamps = old.stamps;
    stamps.extend(real.stamps);
    Rare {
        lang: real.lang.or(old.lang),
        shadow: real.shadow.or(old.shadow),
        group: real.group.or(old.group),
        group_index: real.group_index.or(old.group_index),
        argsrepr: real.argsrepr.or(old.argsrepr),
        kwargsrepr: real.kwargsrepr.or(old.kwargsrepr),
        origin: real.origin.or(old.origin),
        replaced_task_nesting: real.replaced_task_nesting.max(old.replaced_task_nesting),
        stamped_headers: real.stamped_headers.or(old.stamped_headers),
        stamps,
        extra,
    }
}
