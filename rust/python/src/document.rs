//! The result document of an execution, written around a value that is encoded straight from Python.
//!
//! Fields and their order are Celery's; the core's stores take the bytes as they are. Pure but for the encoding of the
//! values themselves.

use taskcore::message::{Message, format_iso};

/// The fields that only `result_extended` wants, as JSON where they hold values of the user.
pub(crate) struct Extended<'a> {
    pub(crate) args: &'a [u8],
    pub(crate) kwargs: &'a [u8],
    pub(crate) worker: Option<&'a str>,
    pub(crate) queue: &'a str,
}

/// Begins a document; the encoded result follows.
pub(crate) fn begin(out: &mut Vec<u8>, state: &str) {
    out.extend_from_slice(b"{\"status\": ");
    text(out, state);
    out.extend_from_slice(b", \"result\": ");
}

/// Ends a document after its result. `children` is JSON; `done` is in microseconds since the epoch, `None` for a state that is not final.
pub(crate) fn end(
    out: &mut Vec<u8>,
    message: &Message,
    traceback: Option<&str>,
    children: &[u8],
    done: Option<i64>,
    extended: Option<&Extended<'_>>,
) {
    out.extend_from_slice(b", \"traceback\": ");
    optional(out, traceback);
    out.extend_from_slice(b", \"children\": ");
    out.extend_from_slice(children);
    out.extend_from_slice(b", \"date_done\": ");
    optional(out, done.map(format_iso).as_deref());
    let rare = message.headers.rare();
    for (name, value) in [("group_id", &rare.group), ("parent_id", &message.headers.parent_id)] {
        if let Some(value) = value {
            key(out, name);
            text(out, value);
        }
    }
    if let Some(extended) = extended {
        key(out, "name");
        text(out, &message.headers.task);
        key(out, "args");
        out.extend_from_slice(extended.args);
        key(out, "kwargs");
        out.extend_from_slice(extended.kwargs);
        key(out, "worker");
        optional(out, extended.worker);
        key(out, "retries");
        out.extend_from_slice(itoa::Buffer::new().format(message.headers.retries).as_bytes());
        key(out, "queue");
        text(out, extended.queue);
        if let Some(names) = &rare.stamped_headers {
            key(out, "stamped_headers");
            out.extend_from_slice(&serde_json::to_vec(names).unwrap_or_default());
            for name in names {
                key(out, name);
                let value = rare.stamps.get(name).unwrap_or(&serde_json::Value::Null);
                out.extend_from_slice(&serde_json::to_vec(value).unwrap_or_default());
            }
        }
    }
    key(out, "task_id");
    text(out, &message.headers.id);
    out.push(b'}');
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b", ");
    text(out, name);
    out.extend_from_slice(b": ");
}

fn optional(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// A JSON text. Ids and names need no escapes, so the common one is a copy.
fn text(out: &mut Vec<u8>, value: &str) {
    if value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    out.push(b'"');
    for c in value.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            ' '..='~' => out.push(c as u8),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}
