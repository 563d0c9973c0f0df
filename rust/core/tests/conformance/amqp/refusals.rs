//! What the server refuses is said in words, and what cannot work is not tried for ever.

use std::time::Duration;

use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::{QueueDeclaration, QueueOrder, Route, Subscription, broadcast::ExchangeType},
    clock,
};

use super::server::{broker, with_server};
use crate::{
    broker::{message, publish, soon},
    run, unique,
};

fn refused(url: &str) -> taskcore::Error {
    let broker = assemble::broker(url, &Options::default()).unwrap();
    let error = broker.publish(&[message(&unique("q"), "x")], soon()).unwrap_err();
    assert!(error.to_string().contains("rabbitmq `amqp://"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    error
}

#[test]
fn credentials_and_virtual_hosts_are_refused_for_good() {
    with_server(|server| {
        let error = refused(&server.url().replace("guest:guest", "guest:secret"));
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("password"), "{error}");
        let error = refused(&format!("{}/no-such-vhost", server.url().trim_end_matches('/')));
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("add_vhost"), "{error}");
    });
}

#[test]
fn nobody_listening_is_an_error_of_the_connection() {
    let error = refused("amqp://guest:secret@127.0.0.1:1//");
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[test]
fn the_first_server_that_answers_is_used() {
    with_server(|server| {
        let urls = format!("amqp://guest:secret@127.0.0.1:1//;{}", server.url());
        let broker = assemble::broker(&urls, &Options::default()).unwrap();
        publish(&*broker, &unique("q"), &["x"]);
    });
}

#[test]
fn a_queue_that_was_declared_otherwise_is_refused_in_words_when_it_matters() {
    with_server(|server| {
        run(async {
            let (broker, queue) = (broker(server), unique("q"));
            publish(&*broker, &queue, &["x"]);
            let mut declaration = QueueDeclaration::named(&queue);
            declaration.arguments.insert("x-max-priority".into(), 9.into());
            let subscription = Subscription {
                queues: vec![queue.clone()],
                declarations: vec![declaration.clone().into()],
                order: QueueOrder::default(),
                epoch: unique("epoch").to_string(),
                max_deliveries: 3,
            };
            let error = super::server::broker(server).consume(subscription).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            let text = error.to_string();
            assert!(text.contains("x-max-priority") && text.contains("same arguments"), "{text}");
            // One that exists is taken as it is by those who say nothing about it.
            let other = unique("other");
            declaration = QueueDeclaration::named(&other);
            declaration.arguments.insert("x-max-priority".into(), 9.into());
            let mut first = message(&other, "x");
            let declares = vec![declaration.into()];
            first.route = Some(Route { kind: ExchangeType::Direct, declares }.into());
            broker.publish(&[first], soon()).unwrap();
            publish(&*super::server::broker(server), &other, &["y"]);
            assert_eq!(broker.stats(&other).unwrap().depth, 2);
        });
    });
}

#[test]
fn a_name_that_amqp_cannot_carry_is_refused() {
    with_server(|server| {
        let long = unique(&"q".repeat(300));
        let error = broker(server).publish(&[message(&long, "x")], soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().contains("255"), "{error}");
    });
}

#[test]
fn a_publish_ends_by_its_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://127.0.0.1:{}//", listener.local_addr().unwrap().port());
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    let deadline = clock::instant() + Duration::from_millis(300);
    let error = broker.publish(&[message(&unique("q"), "x")], deadline).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}
