//! Against what stock Celery 5.7 wrote: every captured task message is read, and written again as
//! it was.

use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use taskcore::message::{Compression, Embed, Encoding, JSON, Message, PICKLE, YAML};

#[derive(Deserialize)]
struct Line {
    label: String,
    envelope: Option<Box<RawValue>>,
    body: Option<Value>,
    body_raw: Option<String>,
}

/// The captured messages and their bytes.
fn captured() -> Vec<(Line, Bytes)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/messages.jsonl");
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    let found: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).expect("a line is an object"))
        .filter_map(|line| {
            let raw = Bytes::copy_from_slice(line.envelope.as_deref()?.get().as_bytes());
            Some((line, raw))
        })
        .collect();
    assert_eq!(found.len(), 48, "a vector was lost");
    found
}

fn is_protocol_1(raw: &Bytes) -> bool {
    let envelope: Value = serde_json::from_slice(raw).expect("JSON");
    envelope["headers"] == json!({})
}

#[test]
fn every_message_survives_both_encodings() {
    for (line, raw) in captured() {
        let message = Message::decode(&raw).unwrap_or_else(|e| panic!("{}: {e}", line.label));
        for encoding in [Encoding::Compact, Encoding::Celery] {
            let again = Message::decode(&message.encode(encoding)).unwrap();
            assert_eq!(again, message, "{}, {encoding:?}", line.label);
        }
    }
}

#[test]
fn protocol_2_is_written_byte_for_byte() {
    for (line, raw) in captured() {
        if !is_protocol_1(&raw) {
            let again = Message::decode(&raw).unwrap().encode(Encoding::Celery);
            assert_eq!(str::from_utf8(&again), str::from_utf8(&raw), "{}", line.label);
        }
    }
}

#[test]
fn compact_saves_500_bytes_a_message() {
    for (line, raw) in captured() {
        let compact = Message::decode(&raw).unwrap().encode(Encoding::Compact);
        assert!(
            compact.len() + 500 < raw.len(),
            "{}: {} of {}",
            line.label,
            compact.len(),
            raw.len()
        );
    }
}

#[test]
fn bodies_are_the_bytes_that_were_sent() {
    for (line, raw) in captured() {
        let message = Message::decode(&raw).unwrap();
        let Some(body) = &line.body_raw else { continue };
        if is_protocol_1(&raw) || matches!(&*message.content_type, YAML | PICKLE) {
            continue;
        }
        let plain = match &message.headers.compression {
            Some(name) => {
                let compression = Compression::from_content_type(name).unwrap();
                compression.decompress(&message.body, body.len()).unwrap()
            }
            None => message.body.to_vec(),
        };
        assert_eq!(str::from_utf8(&plain).unwrap(), body, "{}", line.label);
    }
}

#[test]
fn protocol_1_keeps_arguments_and_links() {
    let old: Vec<_> = captured().into_iter().filter(|(_, raw)| is_protocol_1(raw)).collect();
    assert_eq!(old.len(), 2);
    for (line, raw) in old {
        let sent: Value = serde_json::from_str(line.body_raw.as_deref().unwrap()).unwrap();
        let message = Message::decode(&raw).unwrap();
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let links = &sent["callbacks"];
        let embed = json!({"callbacks": links, "errbacks": null, "chain": null, "chord": null});
        assert_eq!(body, json!([sent["args"], sent["kwargs"], embed]), "{}", line.label);
        assert_eq!(message.headers.task, sent["task"].as_str().unwrap());
        assert_eq!(message.headers.id, sent["id"].as_str().unwrap());
        assert_eq!(message.headers.root(), message.headers.id);
        assert!(message.headers.rare.is_none(), "nothing of the old body is left over");
        assert!(message.has_embed());
    }
}

#[test]
fn links_are_seen_where_they_are() {
    let mut seen = 0;
    for (line, raw) in captured() {
        let message = Message::decode(&raw).unwrap();
        let Some(body) = line.body.filter(|_| !is_protocol_1(&raw)) else { continue };
        if message.content_type != JSON || message.headers.compression.is_some() {
            continue;
        }
        let embed = Embed::of(JSON, &message.body).unwrap();
        let present =
            |key: &str| !matches!(&body[2][key], Value::Null) && body[2][key] != json!([]);
        assert_eq!(
            [embed.callbacks(), embed.errbacks(), embed.chain(), embed.chord()],
            ["callbacks", "errbacks", "chain", "chord"].map(present),
            "{}",
            line.label
        );
        assert_eq!(message.has_embed(), !embed.is_empty());
        seen += usize::from(!embed.is_empty());
    }
    assert!(seen > 10, "only `{seen}` captured messages have links");
}
