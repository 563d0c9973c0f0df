//! Both encodings: their limits and refusals here, what Celery writes in `celery`, what holds for
//! any message in `properties`.

mod properties;
mod celery;

use serde_json::Value;

use super::*;

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
