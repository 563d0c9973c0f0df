//! What a message costs: reading and writing both encodings, and asking a body for its links.
//!
//! `small` is what most tasks are: a name, an id, a reply id, two arguments. `celery` is what a
//! stock client sends for the same call.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use taskcore::message::{
    Compression, Embed, Encoding, Headers, JSON, MSGPACK, Message, Properties, format_iso,
    parse_iso,
};

fn small() -> Message {
    Message {
        headers: Headers {
            task: "proj.tasks.add".into(),
            id: "36d7e962-d910-4333-af9b-1d28b20f7af4".into(),
            ..Headers::default()
        },
        properties: Properties {
            reply_to: Some("tc-ee02fcbb842b377ebef48ea324be9bb9".into()),
            routing_key: "taskcore".into(),
            ..Properties::default()
        },
        content_type: MSGPACK.into(),
        content_encoding: "binary".into(),
        body: Bytes::from_static(b"\x92\x92\x02\x03\x80"),
    }
}

const CELERY_BODY: &[u8] =
    br#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;

fn celery() -> Message {
    let mut m = small();
    m.content_type = JSON.into();
    m.content_encoding = "utf-8".into();
    m.body = Bytes::from_static(CELERY_BODY);
    m.headers.ignore_result = Some(false);
    let rare = m.headers.rare_mut();
    rare.argsrepr = Some("(2, 3)".into());
    rare.kwargsrepr = Some("{}".into());
    rare.origin = Some("gen12353@vm".into());
    m.properties.delivery_tag = Some("90343174-0c26-45cc-99a5-c867a6199837".into());
    m
}

fn encodings(c: &mut Criterion) {
    for (name, message) in [("small", small()), ("celery", celery())] {
        for encoding in [Encoding::Compact, Encoding::Celery] {
            let raw = message.encode(encoding);
            c.bench_function(&format!("encode/{encoding:?}/{name}/{}B", raw.len()), |b| {
                b.iter(|| black_box(&message).encode(encoding));
            });
            c.bench_function(&format!("decode/{encoding:?}/{name}/{}B", raw.len()), |b| {
                // As it comes from a broker: in a buffer of its own.
                b.iter_batched_ref(
                    || Bytes::copy_from_slice(&raw),
                    |raw| Message::decode(black_box(raw)).expect("it was just written"),
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

fn bodies(c: &mut Criterion) {
    let nils = b"\x84\xa9callbacks\xc0\xa8errbacks\xc0\xa5chain\xc0\xa5chord\xc0".as_slice();
    let full = [b"\x93\x92\x02\x03\x80", nils].concat();
    let long = [b"\x93\xdc\x03\xe8".as_slice(), &b"\xa5hello".repeat(1000), b"\x80", nils].concat();
    let json = [b"[[".as_slice(), &b"\"hello\", ".repeat(1000), br#"1], {"a": 2}]"#].concat();
    for (name, content_type, body) in [
        ("msgpack", MSGPACK, b"\x92\x92\x02\x03\x80".as_slice()),
        ("msgpack, with an empty embed", MSGPACK, &full),
        ("msgpack, 1000 arguments", MSGPACK, &long),
        ("json", JSON, CELERY_BODY),
        ("json, 1000 arguments", JSON, &json),
    ] {
        c.bench_function(&format!("embed/{name}"), |b| {
            b.iter(|| Embed::of(content_type, black_box(body)));
        });
    }
}

fn times(c: &mut Criterion) {
    let text = "2026-11-20T07:17:27.701199+00:00";
    c.bench_function("time/parse", |b| b.iter(|| parse_iso(black_box(text))));
    c.bench_function("time/format", |b| b.iter(|| format_iso(black_box(1_795_159_047_701_199))));
}

fn compression(c: &mut Criterion) {
    let body = CELERY_BODY.repeat(100);
    for kind in [Compression::Zlib, Compression::Bzip2, Compression::Zstd] {
        let packed = kind.compress(&body);
        c.bench_function(&format!("compress/{}/8kB", kind.name()), |b| {
            b.iter(|| kind.compress(black_box(&body)));
        });
        c.bench_function(&format!("decompress/{}/8kB", kind.name()), |b| {
            b.iter(|| kind.decompress(black_box(&packed), 1 << 20));
        });
    }
}

criterion_group!(benches, encodings, bodies, times, compression);
criterion_main!(benches);
