//! What is due later waits in the server, in the queues that Celery has for it.

use taskcore::{
    broker::{HORIZON_MS, Settle, Want},
    clock::wall_ms,
    message::Encoding,
};

use super::server::{broker, with_server};
use crate::{
    PATIENCE,
    broker::{Otherwise, bodies, message, settle, soon, take, worker},
    run, unique,
};

#[test]
fn a_message_comes_when_it_is_due_and_not_long_before() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            let due = wall_ms() + HORIZON_MS + 1_500;
            let soon_due = message(&queue, "soon").due(due);
            let far = message(&queue, "far").due(due + 3_600_000);
            // A stock worker is spared a message that it would have to hold as well.
            let mut celery = message(&queue, "celery").due(due);
            celery.encoding = Encoding::Celery;
            broker.publish(&[far, soon_due, celery, message(&queue, "now")], soon()).unwrap();
            assert_eq!(broker.stats(&queue).unwrap().depth, 1);
            let worker = worker(&*broker, &[&queue]).await;
            assert_eq!(bodies(&take(&*worker, 1).await), ["now"]);
            let mut got = Vec::new();
            while got.len() < 2 {
                let fetch = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(5, 5)));
                got.extend(fetch.await.expect("they come due").unwrap());
            }
            assert!(wall_ms() >= due - HORIZON_MS, "within the horizon");
            let mut found = bodies(&got);
            found.sort_unstable();
            assert_eq!(found, ["celery", "soon"]);
            let message = got[0].message().unwrap();
            assert_eq!(message.headers.eta, Some(due * 1_000));
        });
    });
}

#[test]
fn what_a_stock_client_sent_too_early_is_put_where_it_waits() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            let mut early = message(&queue, "early");
            early.encoding = Encoding::Celery;
            broker.publish(&[early], soon()).unwrap();
            let worker = worker(&*broker, &[&queue]).await;
            let held = take(&*worker, 1).await;
            let due = wall_ms() + HORIZON_MS + 1_200;
            settle(&*worker, &held, |_| Settle::Defer { id: "id-early".into(), due }).await;
            assert_eq!(broker.stats(&queue).unwrap().depth, 0);
            let fetch = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(1, 1)));
            let got = fetch.await.expect("it comes due").unwrap();
            assert!(wall_ms() >= due - HORIZON_MS);
            assert_eq!(bodies(&got), ["early"]);
            let properties = got[0].message().unwrap().properties;
            assert_eq!((&*properties.exchange, &*properties.routing_key), ("", &*queue));
        });
    });
}
