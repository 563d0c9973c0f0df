//! Properties of both encodings: what goes in comes out, and no bytes whatever bring a decoder down.

use proptest::{collection::vec, option::of, prelude::*};
use serde_json::{Map, Value, json};

use super::*;

// The strategies are boxed: unboxed, one of a whole message is so large that moving it overflows a test's stack.

fn id() -> BoxedStrategy<String> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(|b| uuid::Uuid::from_bytes(b).to_string()),
        any::<[u8; 16]>().prop_map(|b| uuid::Uuid::from_bytes(b).to_string().to_uppercase()),
        any::<[u8; 16]>().prop_map(|b| format!("tc-{}", uuid::Uuid::from_bytes(b))),
        "[0-9a-f-]{36}",
        "\\PC{1,12}",
        any::<String>().prop_filter("ids are not empty", |s| !s.is_empty()),
    ]
    .boxed()
}

fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no other", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4)
                .prop_map(|entries| Value::Object(Map::from_iter(entries))),
        ]
    })
    .boxed()
}

fn entries() -> BoxedStrategy<Map<String, Value>> {
    vec(("x-[a-z]{0,8}", value()), 0..4).prop_map(Map::from_iter).boxed()
}

/// Within the years that both languages can write.
fn time() -> impl Strategy<Value = i64> {
    -62_135_596_800_000_000_i64..=253_402_300_799_999_999
}

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![(0..100_000_u32).prop_map(f64::from), 0.0..1e9]
}

prop_compose! {
    fn rare()(
        texts in (of(any::<String>()), of(any::<String>()), of(any::<String>()), of(any::<String>())),
        lang in of("go|rust|node"),
        group in of(id()),
        group_index in of(any::<i64>()),
        replaced_task_nesting: u32,
        stamped_headers in of(vec(any::<String>(), 0..3)),
        stamps in entries(),
        extra in entries(),
    ) -> Rare {
        let (shadow, argsrepr, kwargsrepr, origin) = texts;
        Rare {
            lang, shadow, group, group_index, argsrepr, kwargsrepr, origin, replaced_task_nesting, stamped_headers,
            stamps, extra,
        }
    }
}

prop_compose! {
    fn headers()(
        names in (id(), id(), of(id()), of(id())),
        times in (of(time()), of(time())),
        retries: u32,
        limits in (of(seconds()), of(seconds())),
        ignore_result: Option<bool>,
        compression in of(prop_oneof![Just("application/zstd".to_owned()), any::<String>()]),
        rare in of(rare().boxed()),
    ) -> Headers {
        let (task, id, root_id, parent_id) = names;
        Headers {
            task, id, eta: times.0, expires: times.1, retries,
            timelimit: TimeLimit { hard: limits.0, soft: limits.1 },
            ignore_result, root_id, parent_id, compression, rare: rare.map(Box::new),
        }
    }
}

prop_compose! {
    fn properties()(
        ids in (of(id()), of(id()), id()),
        priority: u8,
        delivery_mode in of(prop_oneof![Just(0), Just(1), 3..=u8::MAX]),
        expiration in of("[0-9]{1,9}"),
        exchange: String,
        routing_key: String,
    ) -> Properties {
        let (reply_to, correlation_id, tag) = ids;
        Properties {
            reply_to, correlation_id, priority, delivery_mode, expiration, exchange, routing_key,
            delivery_tag: Some(tag),
        }
    }
}

/// A message as a decoder gives it: what equals a default is absent, and the body is that of protocol 2.
fn message() -> BoxedStrategy<Message> {
    let content = prop_oneof![
        Just(JSON.to_owned()),
        Just(MSGPACK.to_owned()),
        Just(PICKLE.to_owned()),
        any::<String>()
    ];
    let encoding =
        prop_oneof![Just("utf-8".to_owned()), Just("binary".to_owned()), any::<String>()];
    (headers().boxed(), properties().boxed(), content.boxed(), encoding.boxed(), any::<Vec<u8>>())
        .prop_map(|(headers, properties, content_type, content_encoding, body)| {
            let body =
                if body::is_map(&content_type, &body) { Bytes::new() } else { Bytes::from(body) };
            let mut m = Message { headers, properties, content_type, content_encoding, body };
            m.headers.settle_root();
            let id = &m.headers.id;
            m.properties.correlation_id = m.properties.correlation_id.filter(|c| c != id);
            m.checked().expect("ids are not empty")
        })
        .boxed()
}

fn plain() -> Message {
    let headers = Headers { task: "proj.add".into(), id: "an-id".into(), ..Headers::default() };
    Message {
        headers,
        content_type: JSON.into(),
        content_encoding: "utf-8".into(),
        body: Bytes::from_static(b"[[1], {}]"),
        ..Message::default()
    }
}

fn refused(raw: impl Into<Bytes>) -> String {
    let error = Message::decode(&raw.into()).expect_err("it is no message");
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    error.to_string()
}

proptest! {
    #[test]
    fn compact_gives_back_what_it_was_given(m in message()) {
        let raw = m.encode(Encoding::Compact);
        prop_assert_ne!(raw[0], b'{');
        prop_assert_eq!(Message::decode(&raw).unwrap(), m);
    }

    #[test]
    fn celery_gives_back_what_it_was_given(m in message()) {
        let raw = m.encode(Encoding::Celery);
        prop_assert_eq!(raw[0], b'{');
        prop_assert!(raw.is_ascii());
        prop_assert_eq!(Message::decode(&raw).unwrap(), m);
    }

    #[test]
    fn damage_never_panics(m in message(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        for encoding in [Encoding::Compact, Encoding::Celery] {
            let mut raw = m.encode(encoding).to_vec();
            let at = at.index(raw.len());
            raw[at] = byte;
            let _ = Message::decode(&Bytes::from(raw.clone()));
            raw.truncate(cut.index(raw.len()));
            if !raw.is_empty() {
                let _ = Message::decode(&Bytes::from(raw));
            }
        }
    }

    #[test]
    fn a_message_cut_off_is_refused(m in message(), cut: prop::sample::Index) {
        for encoding in [Encoding::Compact, Encoding::Celery] {
            let raw = m.encode(encoding);
            refused(raw.slice(..cut.index(raw.len())));
        }
    }

    #[test]
    fn noise_never_panics(raw: Vec<u8>) {
        let _ = Message::decode(&Bytes::from(raw.clone()));
        // The same behind a map's head and a known key, so that it gets further in.
        for key in b"tiblIGVxSc" {
            let _ = Message::decode(&Bytes::from([&[0x81, 0xa1, *key], raw.as_slice()].concat()));
        }
    }
}

#[test]
fn claimed_lengths_allocate_nothing() {
    for claim in [
        b"\xdf\xff\xff\xff\xff".as_slice(),
        b"\x81\xa1b\xc6\xff\xff\xff\xff",
        b"\x81\xa1t\xdb\xff\xff\xff\xff",
        b"\x81\xa1x\xdf\xff\xff\xff\xff",
        b"\x81\xa1S\xdd\xff\xff\xff\xff",
        b"\x81\xa1?\xdd\xff\xff\xff\xff",
        b"\x81\xa1x\x81\xa1a\xdd\xff\xff\xff\xff",
    ] {
        assert!(refused(claim).contains("cut off"), "{claim:?}");
    }
}

#[test]
fn nesting_has_one_limit_in_both_encodings() {
    let nested = |depth: usize| {
        let mut m = plain();
        let value = (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        m.headers.rare_mut().extra.insert("deep".into(), value);
        m
    };
    let deepest = nested(MAX_DEPTH - 2);
    for encoding in [Encoding::Compact, Encoding::Celery] {
        let back = Message::decode(&deepest.encode(encoding)).unwrap();
        assert_eq!(back.headers, deepest.headers);
        let text = refused(nested(MAX_DEPTH - 1).encode(encoding));
        assert!(text.contains("limit"), "{text}");
    }
    let unknown = [b"\x81\xa1?".as_slice(), &vec![0x91; 1_000_000], b"\xc0"].concat();
    assert!(refused(unknown).contains("`task` is missing"), "skipping costs no stack");
}

#[test]
fn unknown_fields_of_a_later_version_are_skipped() {
    let raw = plain().encode(Encoding::Compact);
    let more = [
        &[raw[0] + 3],
        b"\xa1~\x92\x01\x81\x07\xc0\xa4long\xc3\x05\xd4\x00\x00".as_slice(),
        &raw[1..],
    ];
    assert_eq!(Message::decode(&more.concat().into()).unwrap(), plain());
}

#[test]
fn what_is_no_message_says_so() {
    assert!(refused("").contains("nothing"));
    assert!(refused("[1]").contains("`0x5b`"));
    assert!(refused("\u{feff}{}").contains("not a task message"));
    assert!(refused("{").contains("not a task message"));
    assert!(refused("{}").contains("`body`"));
    assert!(
        refused(plain().encode(Encoding::Compact).iter().copied().chain([0]).collect::<Vec<_>>())
            .contains("follow the end")
    );
    assert!(refused(b"\x81\xa1t\x07".as_slice()).contains("field `t`"));
    assert!(refused(b"\x81\xa1c\x63".as_slice()).contains("code `99` is unknown"));
    let mut nameless = plain();
    nameless.headers.id.clear();
    for encoding in [Encoding::Compact, Encoding::Celery] {
        assert!(refused(nameless.encode(encoding)).contains("`id` is missing"));
    }
}

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
