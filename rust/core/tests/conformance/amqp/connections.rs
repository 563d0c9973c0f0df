//! The server knows when a worker is gone: it puts back what was held.

use std::sync::Arc;

use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::{Answer, Consumer, Settle, Want},
};

use super::server::{broker, with_server};
use crate::{
    PATIENCE, QUIET,
    broker::{ack, bodies, message, publish, publish_numbers, settle, soon, take, worker},
    run, unique,
};

async fn next_error(consumer: &dyn Consumer) -> taskcore::Error {
    let fetch = tokio::time::timeout(PATIENCE, consumer.fetch(Want::of(1, 0)));
    fetch.await.expect("it answers").unwrap_err()
}

#[test]
fn what_was_held_over_a_connection_that_is_closed_goes_to_others() {
    with_server(|server| {
        run(async {
            let (host, url) = server.new_host();
            let broker = assemble::broker(&url, &Options::default()).unwrap();
            let queue = unique("q");
            publish_numbers(&*broker, &queue, 3);
            let lost = worker(&*broker, &[&queue]).await;
            let held = take(&*lost, 2).await;
            server.ctl(&["close_all_connections", "--vhost", &host, "a test of reconnecting"]);
            let error = next_error(&*lost).await;
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
            assert!(error.to_string().contains("a test of reconnecting"), "{error}");
            assert_eq!(lost.renew().await.unwrap_err().kind(), ErrorKind::Fenced);
            let heir = worker(&*broker, &[&queue]).await;
            let got = take(&*heir, 3).await;
            assert_eq!(bodies(&got), ["0", "1", "2"]);
            assert!(got[..2].iter().all(|one| one.suspect), "one of these may have been fatal");
            let late = lost.settle(vec![]).await;
            assert!(late.is_ok());
            ack(&*heir, &got).await;
            // The numbers of one connection mean nothing on another.
            settle(&*heir, &held, |_| Settle::Requeue).await;
            heir.release().await.unwrap();
            assert_eq!(broker.stats(&queue).unwrap().depth, 0);
            publish(&*broker, &queue, &["published again over a new connection"]);
        });
    });
}

#[test]
fn who_asks_for_nothing_gives_back_what_it_was_given() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            publish_numbers(&*broker, &queue, 6);
            let busy = worker(&*broker, &[&queue]).await;
            let held = take(&*busy, 4).await;
            // The server sends two more in the place of those.
            ack(&*busy, &held[..2]).await;
            let idle = worker(&*broker, &[&queue]).await;
            let mut fetch = idle.fetch(Want::of(2, 0));
            assert!(tokio::time::timeout(QUIET, &mut fetch).await.is_err());
            for _ in 0..2 {
                busy.renew().await.unwrap();
            }
            let mut got = tokio::time::timeout(PATIENCE, fetch).await.expect("they go on").unwrap();
            if got.len() < 2 {
                got.extend(take(&*idle, 1).await);
            }
            assert_eq!(bodies(&got), ["4", "5"]);
            ack(&*busy, &held[2..]).await;
            publish(&*broker, &queue, &["6"]);
            assert_eq!(bodies(&take(&*busy, 1).await), ["6"], "it asks again when it has room");
        });
    });
}

#[test]
fn a_queue_that_is_deleted_is_made_again() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            publish(&*broker, &queue, &["gone"]);
            let worker = worker(&*broker, &[&queue]).await;
            take(&*worker, 1).await;
            server.ctl(&["delete_queue", &queue]);
            let error = next_error(&*worker).await;
            assert!(error.to_string().contains("was deleted"), "{error}");
            let batch = [message(&queue, "back")];
            assert_eq!(broker.publish(&batch, soon()).unwrap(), [Answer::Confirmed]);
            let again = crate::broker::worker(&*broker, &[&queue]).await;
            assert_eq!(bodies(&take(&*again, 1).await), ["back"]);
        });
    });
}

#[test]
fn what_no_queue_receives_is_told_and_keeps_nothing_else() {
    with_server(|server| {
        run(async {
            let (broker, queue): (_, Arc<str>) = (broker(server), unique("q"));
            let mut lost = message(&queue, "a");
            lost.message.properties.exchange = unique("no-such-exchange").to_string();
            let mut unbound = message(&queue, "b");
            unbound.message.properties.exchange = "amq.topic".to_owned();
            let batch = [lost, message(&queue, "c"), unbound, message(&queue, "d")];
            let answers = broker.publish(&batch, soon()).unwrap();
            let (here, nowhere) = (Answer::Confirmed, Answer::Unroutable);
            assert_eq!(answers, [nowhere.clone(), here.clone(), nowhere, here]);
            let worker = worker(&*broker, &[&queue]).await;
            assert_eq!(bodies(&take(&*worker, 2).await), ["c", "d"]);
        });
    });
}
