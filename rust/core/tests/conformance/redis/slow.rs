//! Links that are slow: what moves is waited for.

use std::time::Duration;

use bytes::Bytes;
use taskcore::{
    assemble::{self, Options},
    result::{Record, State},
};

use super::{server::*, slow_proxy::SlowProxy};
use crate::{broker::*, run, skipped, unique};

#[test]
fn a_large_result_passes_a_slow_link() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let url = SlowProxy::slow(server.port).url();
    let results = assemble::results(&url, &Options::default()).unwrap();
    let record = |bytes: usize| Record {
        id: unique("t").to_string(),
        state: State::Success,
        document: Bytes::from(vec![b'x'; bytes]),
        reply_to: None,
        expires_ms: None,
        member: None,
    };
    let batch: Vec<_> = [4 << 20, 10, 10].map(record).into();
    run(results.store(&batch)).unwrap();
    let ids: Vec<&str> = batch.iter().map(|record| &*record.id).collect();
    let near = assemble::results(&server.url(), &Options::default()).unwrap();
    assert!(near.get(&ids).unwrap().iter().all(Option::is_some));
    let got = results.get(&ids).unwrap();
    assert!(got.into_iter().eq(batch.into_iter().map(|record| Some(record.document))));
}

#[test]
fn a_backlog_passes_a_slow_link() {
    const SIZE: usize = 100_000;
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let (direct, queue) = (broker(&server), unique("q"));
    let large = |n: usize| message(&queue, &n.to_string()).body(format!("{n}{}", "x".repeat(SIZE)));
    // One claim of all of them would take twice as long as a silent connection is believed to be
    // alive.
    let batch: Vec<_> = (0..80).map(large).collect();
    direct.publish(&batch, soon()).unwrap();
    let broker =
        assemble::broker(&SlowProxy::slow(server.port).url(), &Options::default()).unwrap();
    run(async {
        let worker = worker(&*broker, &[&queue]).await;
        let renewing = async {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            loop {
                tick.tick().await;
                // Answered beside what is claimed, and not behind it.
                let answer = tokio::time::timeout(Duration::from_secs(3), worker.renew());
                answer.await.expect("a renewal is answered soon").unwrap();
            }
        };
        let fetching = async {
            let (mut got, mut claims) = (Vec::new(), 0);
            while got.len() < batch.len() {
                got.extend(worker.fetch(Want::of(1_000, 0)).await.unwrap());
                claims += 1;
            }
            assert!(claims > 4, "{claims} claims");
            got
        };
        let got = tokio::select! { got = fetching => got, () = renewing => unreachable!() };
        assert!(got.iter().zip(&batch).all(|(d, o)| d.message().unwrap() == o.message));
    });
}
