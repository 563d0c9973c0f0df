//! What Celery and other senders write: envelopes, their headers, and protocol 1.

use serde_json::{Map, Value, json};

use super::{super::*, plain, refused};

/// The envelope of [`plain`], changed.
fn envelope(change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_slice(&plain().encode(Encoding::Celery)).unwrap();
    change(&mut value);
    value.to_string()
}

#[test]
fn a_bad_header_is_named() {
    for (header, bad) in [
        ("eta", json!("tomorrow")),
        ("eta", json!(1_795_159_047)),
        ("retries", json!(-1)),
        ("timelimit", json!([1])),
        ("timelimit", json!(30)),
        ("id", json!(7)),
        ("stamps", json!([])),
        ("stamped_headers", json!("a")),
        ("ignore_result", json!("no")),
    ] {
        let text = refused(envelope(|e| e["headers"][header] = bad));
        assert!(text.contains(&format!("`headers`: `{header}`")), "{text}");
    }
}

#[test]
fn absent_headers_have_their_defaults() {
    let mut bare = plain();
    let raw = json!({"body": "[[1], {}]", "content-type": JSON, "content-encoding": "utf-8",
        "headers": {"task": "proj.add", "id": "an-id"}});
    assert_eq!(Message::decode(&raw.to_string().into()).unwrap(), bare);

    let raw = envelope(|e| {
        let headers = e["headers"].as_object_mut().unwrap();
        for (key, value) in headers.iter_mut() {
            if key != "task" && key != "id" {
                *value = Value::Null;
            }
        }
        e["properties"] = json!({"delivery_info": null, "priority": null, "reply_to": "", "body_encoding": "base64"});
        e["content-type"] = Value::Null;
        e["content-encoding"] = Value::Null;
    });
    bare.content_type = "application/data".into();
    assert_eq!(Message::decode(&raw.into()).unwrap(), bare);
}

#[test]
fn other_senders_are_understood() {
    let raw = envelope(|e| {
        e["headers"]["eta"] = json!({"__type__": "datetime", "__value__": "2026-11-20T07:17:27Z"});
        e["headers"]["redelivered"] = json!(true);
        e["properties"]["delivery_tag"] = json!(7);
        e["properties"]["expiration"] = json!(1500);
        e["properties"]["priority"] = json!(-3);
        e["properties"]["origin"] = json!("gen1@host");
        e["redelivered"] = json!(true);
    });
    let m = Message::decode(&raw.replace("proj.add", "proj\\u002eadd").into()).unwrap();
    assert_eq!(m.headers.task, "proj.add");
    assert_eq!(m.headers.eta, Some(1_795_159_047_000_000));
    assert_eq!(m.headers.rare().extra["redelivered"], json!(true));
    assert_eq!(m.properties.delivery_tag.as_deref(), Some("7"));
    assert_eq!(m.properties.expiration.as_deref(), Some("1500"));
    assert_eq!(m.properties.priority, 0);
}

#[test]
fn a_delivery_tag_is_made_up_and_never_twice() {
    let tag = || {
        let m = Message::decode(&plain().encode(Encoding::Celery)).unwrap();
        m.properties.delivery_tag.expect("a stock consumer needs one")
    };
    let (one, two) = (tag(), tag());
    assert_eq!(uuid::Uuid::parse_str(&one).unwrap().get_version_num(), 4);
    assert_ne!(one, two);
}

fn old(content_type: &str, headers: &Value, body: Vec<u8>) -> Result<Message> {
    let raw = json!({"content-type": content_type, "content-encoding": "utf-8", "headers": headers,
        "body": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, body),
        "properties": {"body_encoding": "base64", "correlation_id": "an-id"}});
    Message::decode(&raw.to_string().into())
}

#[test]
fn protocol_1_keeps_what_only_python_reads() {
    let body = r#"{"task": "t", "id": "an-id", "args": [NaN, {"a": -Infinity}], "kwargs": {"k": 1e400}, "utc": true,
        "retries": 2, "eta": "2026-11-20T07:17:27", "taskset": "g", "group": null, "chord": {"task": "c"}}"#;
    let m = old(JSON, &json!({"mine": 1}), body.into()).unwrap();
    assert_eq!(
        str::from_utf8(&m.body).unwrap(),
        r#"[[NaN, {"a": -Infinity}], {"k": 1e400}, {"callbacks": null, "errbacks": null, "chain": null, "chord": {"task": "c"}}]"#
    );
    assert_eq!((m.headers.task.as_str(), m.headers.retries), ("t", 2));
    assert_eq!(m.headers.eta, Some(1_795_159_047_000_000));
    assert_eq!(m.headers.rare().group.as_deref(), Some("g"));
    assert_eq!(m.headers.rare().extra, Map::from_iter([("mine".to_owned(), json!(1))]));
    assert_eq!(m.properties.correlation_id, None);
}

#[test]
fn protocol_1_in_msgpack_and_compressed() {
    let body = b"\x85\xa4task\xa1t\xa2id\xa5an-id\xa4args\x92\x01\xc4\x01\xff\xa6kwargs\x81\xa1k\xc7\x01\x05\x00\xa7retries\x01";
    let expected = b"\x93\x92\x01\xc4\x01\xff\x81\xa1k\xc7\x01\x05\x00\x84\xa9callbacks\xc0\xa8errbacks\xc0\xa5chain\xc0\xa5chord\xc0";
    let m = old(MSGPACK, &json!({}), body.to_vec()).unwrap();
    assert_eq!(m.body, expected.as_slice());
    assert_eq!(m.headers.retries, 1);
    let packed = Compression::Zlib.compress(body);
    let same = old(MSGPACK, &json!({"compression": "application/x-gzip"}), packed).unwrap();
    assert_eq!(same, m);
}

#[test]
fn in_a_hybrid_message_the_real_headers_win() {
    let body = r#"{"task": "old", "id": "old", "args": [1], "kwargs": {}, "retries": 1, "expires": "2026-11-20T07:17:27"}"#;
    let m = old(JSON, &json!({"task": "new", "id": "an-id", "retries": 3}), body.into()).unwrap();
    assert_eq!(
        (m.headers.task.as_str(), m.headers.id.as_str(), m.headers.retries),
        ("new", "an-id", 3)
    );
    assert_eq!(m.headers.expires, Some(1_795_159_047_000_000));
    assert!(m.body.starts_with(b"[[1], {}, {"));
    assert!(!m.has_embed());
}

#[test]
fn bad_protocol_1_says_what_is_wrong() {
    let error = |content_type: &str, body: &str| {
        let error = old(content_type, &json!({}), body.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        error.to_string()
    };
    assert!(error(JSON, r#"{"task": "t", "id": "i", "args": []}"#).contains("`kwargs` is missing"));
    assert!(
        error(JSON, r#"{"task": "t", "id": "i", "args": [], "kwargs": null}"#).contains("`kwargs`")
    );
    assert!(
        error(JSON, r#"{"task": "t", "id": "i", "args": {}, "kwargs": {}}"#).contains("`args`")
    );
    assert!(error(JSON, r#"{"id": "i", "args": [], "kwargs": {}}"#).contains("`task` is missing"));
    assert!(error(JSON, "[[], {}, {}]").contains("no protocol 2 `task` header"));
    assert!(error(PICKLE, "\u{80}").contains("not opened"));
    assert!(error(YAML, "task: t").contains("protocol 2"));
    assert!(error(MSGPACK, "\u{7}").contains("expected"));
}
