//! Servers and how they are reached: passwords, databases, sockets, certificates; and those that do
//! not answer as they should.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    result::{Origin, Record, State},
};

use super::server::*;
use crate::{
    PATIENCE,
    broker::*,
    result::watch::{next, observer},
    run, skipped, unique,
};

#[test]
fn a_wrong_password_says_so_and_is_not_shown() {
    let Some(server) = Server::start(&["--requirepass", "right"]) else { return skipped("redis") };
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/0", server.port);
    let good = assemble::broker(&url("right"), &Options::default()).unwrap();
    publish(&*good, &unique("q"), &["x"]);
    for url in [url("wrong"), server.url()] {
        let broker = assemble::broker(&url, &Options::default()).unwrap();
        let queue = unique("q");
        let published = broker.publish(&[message(&queue, "x")], soon()).unwrap_err();
        let consumed = run(broker.consume(subscription(&queue, "e"))).err().unwrap();
        for error in [published, consumed] {
            assert_eq!(error.kind(), ErrorKind::Connection);
            let text = error.to_string();
            assert!(text.contains("password in the URL") && !text.contains("wrong@"), "{text}");
        }
    }
}

#[test]
fn a_user_a_database_and_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let path = socket.to_str().unwrap();
    let Some(server) = Server::start(&["--unixsocket", path]) else { return skipped("redis") };
    let rules = ["SETUSER", "worker", "on", ">p@ss/word", "allkeys", "allchannels", "allcommands"];
    redis::cmd("ACL").arg(&rules).exec(&mut server.client()).unwrap();
    let urls = [
        format!("redis://worker:p%40ss%2Fword@127.0.0.1:{}/5", server.port),
        format!("redis+socket://{path}?virtual_host=5"),
        format!("unix://worker:p%40ss%2Fword@{path}?db=5"),
    ];
    run(async {
        let queue = unique("q");
        for (n, url) in urls.iter().enumerate() {
            let broker = assemble::broker(url, &Options::default()).unwrap();
            publish_numbers(&*broker, &queue, 2);
            let size: usize = redis::cmd("LLEN").arg(&*queue).query(&mut server.client()).unwrap();
            assert_eq!(size, 0, "it is database 5, not 0");
            let worker = worker(&*broker, &[&queue]).await;
            let got = take(&*worker, 2).await;
            assert_eq!(bodies(&got), numbers(0, 2), "url {n}");
            ack(&*worker, &got).await;
            worker.release().await.unwrap();
        }
    });
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &cert])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return skipped("redis with TLS (openssl makes its certificate)");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key];
    let options = ["--tls-ca-cert-file", &cert, "--tls-auth-clients", "no"];
    let arguments: Vec<&str> = tls.into_iter().chain(options).collect();
    let Some(_server) = Server::start(&arguments) else { return skipped("redis with TLS") };
    let url = format!("rediss://localhost:{port}/0");
    let refused = assemble::broker(&url, &Options::default()).unwrap();
    let error = refused.publish(&[message(&unique("q"), "x")], soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "nobody vouches for this certificate");
    let url = format!("{url}?ssl_cert_reqs=required&ssl_ca_certs={cert}");
    let (broker, queue) = (assemble::broker(&url, &Options::default()).unwrap(), unique("q"));
    let results = assemble::results(&url, &Options::default()).unwrap();
    run(async {
        let worker = worker(&*broker, &[&queue]).await;
        let fetch = worker.fetch(Want::of(1, 0));
        publish(&*broker, &queue, &["x"]);
        ack(&*worker, &fetch.await.unwrap()).await;
        let document = Bytes::from_static(b"{\"status\": \"SUCCESS\"}");
        let done = Record {
            id: "1".into(),
            state: State::Success,
            document,
            reply_to: None,
            expires_ms: None,
            member: None,
        };
        results.store(std::slice::from_ref(&done)).await.unwrap();
        let got = results.wait("1", Origin::Foreign, Some(soon()), &mut || false).unwrap();
        assert_eq!(got, Some(done.document));
    });
}

#[test]
fn a_server_that_forgot_the_scripts_is_connected_to_anew() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    run(async {
        let (broker, queue, epoch) = (broker(&server), unique("q"), unique("epoch"));
        let results = assemble::results(&server.url(), &Options::default()).unwrap();
        publish_numbers(&*broker, &queue, 3);
        let first = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        let held = take(&*first, 1).await;
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        assert_eq!(first.fetch(Want::of(1, 0)).await.unwrap_err().kind(), ErrorKind::Connection);
        drop(first);
        let second = broker.consume(subscription(&queue, &epoch)).await.unwrap();
        ack(&*second, &held).await;
        assert_eq!(bodies(&take(&*second, 2).await), ["1", "2"]);
        // Client code and the result store load what they need again.
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        assert!(!broker.cancel(&queue, "none").unwrap());
        let document = Bytes::from_static(b"{}");
        let done = Record {
            id: "1".into(),
            state: State::Success,
            document,
            reply_to: None,
            expires_ms: None,
            member: None,
        };
        results.put(&done).unwrap();
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        results.store(&[Record { id: "2".into(), ..done }]).await.unwrap();
        assert!(results.get(&["1", "2"]).unwrap().iter().all(Option::is_some));
    });
}

#[test]
fn a_key_of_another_type_is_a_storage_error() {
    with_server(|server| {
        let (broker, queue) = (broker(server), unique("q"));
        redis::cmd("SET").arg(&*queue).arg("text").exec(&mut server.client()).unwrap();
        let error = broker.publish(&[message(&queue, "x")], soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.to_string().contains("choose another queue"), "{error}");
        // The connection is still good.
        publish(&*broker, &unique("q"), &["x"]);
    });
}

#[test]
fn a_server_that_does_not_answer_ends_at_the_deadline() {
    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    let deadline = taskcore::clock::instant() + Duration::from_millis(200);
    let error = broker.publish(&[message(&unique("q"), "x")], deadline).unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[test]
fn waiting_survives_a_broken_link() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let store = |server: &Server| assemble::results(&server.url(), &Options::default()).unwrap();
    for origin in [Origin::Own, Origin::Foreign] {
        let (client, id) = (store(&server), unique("t"));
        let (pulse_send, pulse) = std::sync::mpsc::channel();
        let waiter = {
            let (client, id) = (client.clone(), id.clone());
            std::thread::spawn(move || {
                client.wait(&id, origin, Some(taskcore::clock::instant() + PATIENCE), &mut || {
                    let _ = pulse_send.send(());
                    false
                })
            })
        };
        pulse.recv_timeout(PATIENCE).expect("the wait blocks");
        for kind in ["normal", "pubsub"] {
            redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg(kind)
                .exec(&mut server.client())
                .unwrap();
        }
        let done = Record {
            id: id.to_string(),
            state: State::Success,
            document: format!("{{\"status\": \"SUCCESS\", \"task_id\": \"{id}\"}}").into(),
            reply_to: Some(client.reply_to().to_owned()),
            expires_ms: None,
            member: None,
        };
        run(store(&server).store(std::slice::from_ref(&done))).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), Some(done.document));
    }
}

#[test]
fn a_watch_survives_a_broken_link_and_a_restart() {
    let Some(mut server) = Server::start(&[]) else { return skipped("redis") };
    let client = assemble::results(&server.url(), &Options::default()).unwrap();
    let (observer, told) = observer();
    for (key, origin) in [(1, Origin::Own), (2, Origin::Foreign)] {
        let (ready, id) = (unique("t"), unique("t"));
        let _watch = client.watch(&id, origin, key, &observer).unwrap();
        client.put(&ended(&ready, None)).unwrap();
        let _ready = client.watch(&ready, Origin::Foreign, 0, &observer).unwrap();
        assert_eq!(next(&told).0, 0, "it is listened to");
        if origin == Origin::Own {
            for kind in ["normal", "pubsub"] {
                let words = ["KILL", "TYPE", kind];
                redis::cmd("CLIENT").arg(&words).exec(&mut server.client()).unwrap();
            }
        } else {
            server = server.restarted();
        }
        let end = ended(&id, Some(client.reply_to().to_owned()));
        let worker = assemble::results(&server.url(), &Options::default()).unwrap();
        run(worker.store(std::slice::from_ref(&end))).unwrap();
        assert_eq!(next(&told), (key, end.document));
    }
}

fn ended(id: &str, reply_to: Option<String>) -> Record {
    let document = format!("{{\"status\": \"SUCCESS\", \"task_id\": \"{id}\"}}").into();
    Record {
        id: id.to_owned(),
        state: State::Success,
        document,
        reply_to,
        expires_ms: None,
        member: None,
    }
}
