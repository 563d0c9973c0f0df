//! The fuzz targets, given mutated examples in every run; `make fuzz` searches with libFuzzer.

#[allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};
use taskcore::{
    message::{Encoding, Message},
    pool::{Call, FollowUp, Outcome, Status, process::frame},
};

/// Messages that stock Celery wrote, in both encodings, and their bodies.
fn messages() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/messages.jsonl");
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let envelopes = lines.filter_map(|line| Some(line.ok()?.get("envelope")?.to_string()));
    let mut seeds = Vec::new();
    for envelope in envelopes {
        if let Ok(message) = Message::decode(&Bytes::from(envelope.clone())) {
            seeds.push(message.encode(Encoding::Compact).to_vec());
            seeds.push(message.body.to_vec());
        }
        seeds.push(envelope.into_bytes());
    }
    assert!(seeds.len() > 100, "{} seeds", seeds.len());
    seeds
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = messages();
    let (mut call, mut outcome) = (Vec::new(), Vec::new());
    let message = Bytes::from_static(b"\x81\xa1t\xa1x");
    let (queue, ended) = (Arc::<str>::from("queue"), Some(Box::from(&b"{}"[..])));
    let one = Call {
        key: 7,
        queue: Arc::clone(&queue),
        redeliveries: 1,
        soft_us: None,
        hard_us: Some(9),
        message: message.clone(),
        ended,
    };
    frame::put_call(&mut call, 3, &one);
    let follow = FollowUp { queue, id: "id".into(), data: message };
    let one = Outcome {
        key: 7,
        pid: 0,
        status: Status::Failure,
        runtime_us: 5,
        document: Some(Bytes::from_static(b"{}")),
        note: "note".into(),
        traceback: "traceback".into(),
        follow: vec![follow],
        ended: Vec::new(),
    };
    frame::put_outcome(&mut outcome, 4, &one);
    seeds.extend([call[4..].to_vec(), outcome[4..].to_vec(), call, outcome]);
    let document = r#"{"status": "SUCCESS", "result": [1, {"a": null}], "traceback": null}"#;
    seeds.push(document.as_bytes().to_vec());
    let texts = [
        "rediss://:p%40ss@[::1]:6380/2?ssl_cert_reqs=required&ssl_ca_certs=/a",
        "redis+socket:///tmp/redis.sock?virtual_host=1",
        "sqlite:////var/lib/x.db?durability=normal",
        "memory://name",
        "2026-11-21T20:15:30.123456+01:00",
        "2030-02-28T23:59:60Z",
        "19700101T000000",
    ];
    seeds.extend(texts.map(|text| text.as_bytes().to_vec()));
    seeds
}

/// A change of an example: a byte set, a piece cut out, doubled, or put in from another one.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Cut(Index, Index),
    Double(Index, Index),
    Splice(Index, Index, Index),
    Number(Index, u64, bool),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let edge = prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(0x7fff_ffff),
        any::<u64>()
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(a, b)| Mutation::Set(a, b)),
        any::<(Index, Index)>().prop_map(|(a, b)| Mutation::Cut(a, b)),
        any::<(Index, Index)>().prop_map(|(a, b)| Mutation::Double(a, b)),
        any::<(Index, Index, Index)>().prop_map(|(a, b, c)| Mutation::Splice(a, b, c)),
        (any::<Index>(), edge, any::<bool>()).prop_map(|(a, n, text)| Mutation::Number(a, n, text)),
    ]
}

fn apply(data: &mut Vec<u8>, mutation: &Mutation, seeds: &[Vec<u8>]) {
    if data.is_empty() {
        return;
    }
    let range = |a: &Index, b: &Index, len: usize| {
        let (a, b) = (a.index(len), b.index(len));
        a.min(b)..a.max(b)
    };
    match mutation {
        Mutation::Set(at, byte) => {
            let at = at.index(data.len());
            data[at] = *byte;
        }
        Mutation::Cut(a, b) => drop(data.drain(range(a, b, data.len()))),
        Mutation::Double(a, b) => {
            let range = range(a, b, data.len());
            let piece = data[range.clone()].to_vec();
            data.splice(range.start..range.start, piece);
        }
        Mutation::Splice(which, a, b) => {
            let other = which.get(seeds);
            let piece = other[range(a, b, other.len().max(1))].to_vec();
            let at = a.index(data.len());
            data.splice(at..at, piece);
        }
        Mutation::Number(at, number, text) => {
            let bytes =
                if *text { number.to_string().into_bytes() } else { number.to_le_bytes().to_vec() };
            let at = at.index(data.len());
            let end = data.len().min(at + bytes.len());
            data.splice(at..end, bytes);
        }
    }
}

#[test]
fn every_parser_keeps_its_promises_for_examples_as_they_are() {
    for seed in seeds() {
        for (_, target) in targets::TARGETS {
            target(&seed);
        }
    }
}

#[test]
fn every_parser_keeps_its_promises_for_damaged_examples() {
    let seeds = seeds();
    let default = ProptestConfig::default(); // its cases are those of PROPTEST_CASES
    let cases = default.cases.max(2_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..default };
    proptest!(config, |(seed: Index, mutations in prop::collection::vec(mutation(), 1..6))| {
        let mut data = seed.get(&seeds).clone();
        for mutation in &mutations {
            apply(&mut data, mutation, &seeds);
        }
        for (_, target) in targets::TARGETS {
            target(&data);
        }
    });
}

#[test]
fn every_parser_keeps_its_promises_for_noise() {
    proptest!(|(data: Vec<u8>, text: String)| {
        for (_, target) in targets::TARGETS {
            target(&data);
            target(text.as_bytes());
        }
    });
}

/// Answers of a Redis server to what the adapters ask, and some that it never gives.
const REPLIES: [&str; 12] = [
    "+OK\r\n",
    ":1\r\n:2\r\n",
    "$2\r\nok\r\n",
    "$-1\r\n",
    "*2\r\n$1\r\na\r\n:5\r\n",
    "*3\r\n*1\r\n:1\r\n$-1\r\n*0\r\n",
    "%1\r\n$5\r\nproto\r\n:3\r\n",
    "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "-NOSCRIPT No matching script\r\n",
    ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n",
    "*-1\r\n_\r\n#t\r\n,1.5\r\n",
    "+OK\r\n+OK\r\n*2\r\n:1\r\n*2\r\n:7\r\n$6\r\n\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\r\n",
];

#[test]
fn no_answer_of_a_server_is_more_than_an_error() {
    let seeds: Vec<Vec<u8>> = REPLIES.map(|reply| reply.repeat(9).into_bytes()).into();
    for seed in &seeds {
        targets::replies(seed);
    }
    let config =
        ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(picked in prop::collection::vec(any::<Index>(), 1..9), mutations in prop::collection::vec(mutation(), 0..4))| {
        let mut data: Vec<u8> = picked.iter().flat_map(|one| one.get(&seeds).clone()).collect();
        for mutation in &mutations {
            apply(&mut data, mutation, &seeds);
        }
        targets::replies(&data);
    });
}
