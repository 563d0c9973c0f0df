//! What every parser promises, whatever bytes it is given: it does not panic, does not run away,
//! and what it accepts it gives back when that is written and read again.
//!
//! Each target is one function of bytes. `fuzz_targets/` hands them to libFuzzer, which searches
//! for hours; `rust/core/tests/fuzz.rs` hands them mutated examples in every run of the tests.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use taskcore::{
    message::{Compression, Embed, Encoding, JSON, MSGPACK, Message, format_iso, parse_iso},
    pool::process::frame,
    url::{BrokerUrl, redact},
};

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("message", message),
    ("body", body),
    ("compressed", compressed),
    ("frames", frames),
    ("call", call),
    ("outcome", outcome),
    ("url", url),
    ("time", time),
];

/// A task message: the compact encoding, Celery's envelope of protocol 2, and protocol 1.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::decode(&Bytes::copy_from_slice(data)) else { return };
    let _ = message.has_embed();
    for encoding in [Encoding::Compact, Encoding::Celery] {
        let raw = message.encode(encoding);
        let again = match Message::decode(&raw) {
            Ok(again) => again,
            // Such a body makes an envelope one of protocol 1; the compact encoding knows none.
            Err(_) if encoding == Encoding::Celery && may_be_a_map(&message.body) => continue,
            Err(error) => panic!("{encoding:?} of {message:?}: {error}"),
        };
        // NaN, which JSON has not, is not equal to itself; its bytes are.
        assert_eq!(again.encode(encoding), raw, "{encoding:?} of {message:?}");
    }
}

fn may_be_a_map(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | 0x80..=0x8f | 0xde | 0xdf))
}

/// Whether a body carries callbacks, told without decoding it.
pub fn body(data: &[u8]) {
    for content_type in [JSON, MSGPACK] {
        let _ = Embed::of(content_type, data);
    }
}

/// A compressed body: never more than the limit comes out.
pub fn compressed(data: &[u8]) {
    const LIMIT: usize = 1 << 16;
    for name in ["gzip", "bzip2", "zstd"] {
        let compression = Compression::from_name(name).expect("it is known");
        if let Ok(plain) = compression.decompress(data, LIMIT) {
            assert!(plain.len() <= LIMIT);
        }
    }
    let plain = compression_of(data).decompress(&compression_of(data).compress(data), data.len());
    assert_eq!(plain.expect("what was compressed can be opened"), data);
}

fn compression_of(data: &[u8]) -> Compression {
    let names = ["gzip", "bzip2", "zstd"];
    let index = usize::from(data.first().copied().unwrap_or(0)) % names.len();
    Compression::from_name(names[index]).expect("it is known")
}

/// The stream between a worker and its child, cut anywhere.
pub fn frames(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut taken = 0;
    while let Some(frame) = frame::next_frame(&mut buffer) {
        taken += 4 + frame.len();
    }
    assert_eq!(taken + buffer.len(), data.len());
    let _ = frame::missing(&buffer);
}

/// A call, as a child reads it.
pub fn call(data: &[u8]) {
    let mut queue: Arc<str> = Arc::from("");
    let Ok((seq, call)) = frame::read_call(Bytes::copy_from_slice(data), &mut queue) else {
        return;
    };
    let mut raw = Vec::new();
    frame::put_call(&mut raw, seq, &call);
    let again = frame::read_call(Bytes::from(raw).slice(4..), &mut queue);
    assert_eq!(again.expect("what was written can be read"), (seq, call));
}

/// An outcome, as a worker reads it.
pub fn outcome(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok((seq, outcome)) = frame::read_outcome(&bytes, &bytes) else { return };
    let mut raw = Vec::new();
    frame::put_outcome(&mut raw, seq, &outcome);
    let raw = Bytes::from(raw);
    let again = frame::read_outcome(&raw[4..], &raw);
    assert_eq!(again.expect("what was written can be read"), (seq, outcome));
}

/// The URL of a broker or result store; no error and no redacted text shows its password.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = redact(text);
    let _ = BrokerUrl::parse(text);
    let name: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let secret = format!("redis://user:Pass{name}word@{name}.example:1/0?{text}");
    let shown = match BrokerUrl::parse(&secret) {
        Ok(url) => format!("{} {:?}", url.redacted, url.target),
        Err(error) => error.to_string(),
    };
    let leaked = shown.contains(&format!("Pass{name}word")) && !text.contains("Pass");
    assert!(!leaked, "`{shown}` shows the password");
}

/// A time in ISO 8601, as headers carry it.
pub fn time(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(micros) = parse_iso(text) else { return };
    assert_eq!(parse_iso(&format_iso(micros)).expect("what was written can be read"), micros);
}
