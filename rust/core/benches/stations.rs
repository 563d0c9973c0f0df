//! What each pure station of the worker costs per task.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use taskcore::{
    broker::Tag,
    config::{Prefetch, TaskSpec},
    message::Message,
    pool::{Outcome, Status},
    worker::{
        dispatch::dispatch,
        eta::EtaHeap,
        inflight::{Inflight, Place, Request},
        rate::Rates,
        settle::{self, Context},
        triage::{Registry, triage},
        window::{Load, Window},
    },
};

const N: usize = 1_000;

fn request(id: String) -> Request {
    Request {
        tag: Tag { lane: 0, seq: 1 },
        lease: 1,
        task: 0,
        id,
        shadow: None,
        queue: Arc::from("taskcore"),
        redeliveries: 0,
        suspect: false,
        dispatched: 0,
        begun: false,
        revoked: false,
        message: Bytes::from_static(&[0; 180]),
        soft_us: None,
        hard_us: None,
        expires: None,
        reply_to: None,
        ignore_result: false,
        member: None,
        since: 0,
        acked: false,
        started: None,
        pid: 0,
        seen: None,
        ended: None,
    }
}

fn eta(c: &mut Criterion) {
    let mut group = c.benchmark_group("eta");
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("push and pop 1000, shuffled", |b| {
        b.iter(|| {
            let mut heap = EtaHeap::new();
            for key in 0..N as u64 {
                heap.push((key.wrapping_mul(7_919) % 2_000) as i64, key);
            }
            while let Some((_, key)) = heap.pop_due(2_000) {
                black_box(key);
            }
        });
    });
    group.finish();
}

fn rate(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate");
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("admit and release 1000", |b| {
        b.iter(|| {
            let mut rates = Rates::new([Some(1_000.0)]);
            let mut out = Vec::with_capacity(N);
            for key in 0..N as u64 {
                black_box(rates.admit(0, key, key));
            }
            rates.release(10_000_000, &mut out);
            black_box(out)
        });
    });
    group.finish();
}

fn triage_one(c: &mut Criterion) {
    let tasks: HashMap<Arc<str>, TaskSpec> = (0..200)
        .map(|n| (Arc::from(format!("proj.tasks.number_{n}")), TaskSpec::default()))
        .collect();
    let registry =
        Registry::new(&tasks, &["application/json".into(), "application/x-msgpack".into()]);
    let mut message =
        Message { content_type: "application/x-msgpack".into(), ..Message::default() };
    message.headers.task = "proj.tasks.number_77".into();
    message.headers.id = "36d7e962-d910-4333-af9b-1d28b20f7af4".into();
    let mut group = c.benchmark_group("triage");
    group.bench_function("to run", |b| {
        b.iter(|| black_box(triage(&message, (3, false), 1_000_000, &registry)));
    });
    message.headers.eta = Some(2_000_000);
    message.headers.expires = Some(9_000_000);
    group.bench_function("to wait", |b| {
        b.iter(|| black_box(triage(&message, (3, false), 1_000_000, &registry)));
    });
    message.headers.task = "proj.tasks.nmber_77".into();
    group.bench_function("unknown among 200", |b| {
        b.iter(|| black_box(triage(&message, (3, false), 1_000_000, &registry)));
    });
    group.finish();
}

fn window(c: &mut Criterion) {
    let mut window = Window::new(Prefetch::Auto, 8, 64 << 20);
    c.bench_function("window/learn and ask", |b| {
        b.iter(|| {
            window.received(100, 22_000);
            window.ran(100, 900);
            black_box(window.want(Load { claimed: 500, bytes: 100_000, idle: false }))
        });
    });
}

fn inflight(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflight");
    group.throughput(Throughput::Elements(N as u64));
    let requests = || {
        (0..N).map(|_| request("36d7e962-d910-4333-af9b-1d28b20f7af4".into())).collect::<Vec<_>>()
    };
    let (spec, ctx) =
        (TaskSpec::default(), Context { now: 0, ttl: None, hostname: "w@h", max_deliveries: 3 });
    group.bench_function("accept, dispatch, settle 1000", |b| {
        let mut table = Inflight::new();
        b.iter_batched(
            requests,
            |requests| {
                let mut ready =
                    requests.into_iter().map(|r| table.insert(Place::Ready, r)).collect();
                for call in dispatch(&mut table, &mut ready, N, 0).calls {
                    let outcome = Outcome {
                        pid: 0,
                        key: call.key,
                        status: Status::Success,
                        runtime_us: 1,
                        document: None,
                        note: String::new(),
                        traceback: String::new(),
                        follow: Vec::new(),
                        ended: Vec::new(),
                    };
                    let request = table.remove(call.key).expect("dispatched");
                    black_box(settle::outcome(outcome, request, &spec, ctx));
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(stations, eta, rate, triage_one, window, inflight);
criterion_main!(stations);
