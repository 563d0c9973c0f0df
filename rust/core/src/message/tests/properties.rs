//! Properties of both encodings: what goes in comes out, and no bytes whatever bring a decoder
//! down.

use proptest::{collection::vec, option::of, prelude::*};
use serde_json::{Map, Value};

use super::{super::*, refused};

// The strategies are boxed: unboxed, one of a whole message is so large that moving it overflows a
// test's stack.

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

/// A message as a decoder gives it: what equals a default is absent, and the body is that of
/// protocol 2.
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
            let (content_type, content_encoding) = (content_type.into(), content_encoding.into());
            let mut m = Message { headers, properties, content_type, content_encoding, body };
            m.headers.settle_root();
            let id = &m.headers.id;
            m.properties.correlation_id = m.properties.correlation_id.filter(|c| c != id);
            m.check().expect("ids are not empty");
            m
        })
        .boxed()
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
    fn headers_say_what_the_envelope_says(m in message()) {
        let envelope: Value = serde_json::from_slice(&m.encode(Encoding::Celery)).unwrap();
        prop_assert_eq!(&Value::Object(m.header_map()), &envelope["headers"]);
        let native = Native {
            headers: m.header_map(),
            properties: m.properties.clone(),
            content_type: Some(m.content_type.to_string()),
            content_encoding: Some(m.content_encoding.to_string()),
            body: m.body.clone(),
        };
        prop_assert_eq!(&native.message().unwrap(), &m);
        prop_assert_eq!(&Message::decode(&native.envelope()).unwrap(), &m);
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
