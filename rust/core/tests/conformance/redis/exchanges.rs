//! What is said to all, as kombu's bytes and keys: what a stock client sees of ours, and ours of it.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::broadcast::{Binding, BroadcastMessage, Exchange, ExchangeType, Subscriber},
    message::pyjson::write_value,
};

use super::server::*;
use crate::{PATIENCE, broker::soon, run, unique};

fn binding(kind: ExchangeType, exchange: &str, key: &str) -> Binding {
    Binding { exchange: Exchange { name: exchange.into(), kind }, routing_key: key.into() }
}

fn message(kind: ExchangeType, exchange: &str, key: &str) -> BroadcastMessage {
    let Binding { exchange, routing_key } = binding(kind, exchange, key);
    BroadcastMessage {
        exchange,
        routing_key,
        headers: serde_json::Map::new(),
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        body: Bytes::from_static(b"{}"),
    }
}

async fn receive(subscriber: &dyn Subscriber) -> taskcore::Result<Vec<BroadcastMessage>> {
    let heard = tokio::time::timeout(PATIENCE, subscriber.receive()).await;
    heard.expect("something is heard").map(|heard| heard.messages)
}

fn python(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_value(&mut out, value);
    out
}

/// The events that stock workers sent: channel, and envelope with its body in base64.
fn captured() -> Vec<(String, Vec<u8>)> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/events_redis.jsonl");
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    let events: Vec<_> = text
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let envelope = &mut line["envelope_with_body_decoded"];
            envelope["body"] = STANDARD.encode(python(&envelope["body"])).into();
            (
                line["channel"].as_str().unwrap().to_owned(),
                python(&line["envelope_with_body_decoded"]),
            )
        })
        .collect();
    assert_eq!(events.len(), 273, "a vector was lost");
    events
}

/// An envelope without the one thing that differs each time.
fn without_tag(envelope: &[u8]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(envelope).unwrap();
    let tag = value["properties"]["delivery_tag"].take();
    assert_eq!(tag.as_str().map(str::len), Some(36));
    python(&value)
}

#[test]
fn events_of_stock_workers_are_read_and_written_byte_for_byte() {
    with_server(|server| {
        run(async {
            // The captured channels are those of database 0, where other tests are too.
            let prefix = format!("{}:", unique("bytes"));
            let options = Options::from([("global_keyprefix".to_owned(), prefix.clone())]);
            let broker = assemble::broker(&server.url(), &options).unwrap();
            let topic = |key| binding(ExchangeType::Topic, "celeryev", key);
            let listener = broker.subscribe(vec![topic("#")]).await.unwrap();
            let mut stock = server.client();
            let mut heard = Vec::new();
            for (channel, envelope) in captured() {
                redis::cmd("PUBLISH")
                    .arg(format!("{prefix}{channel}"))
                    .arg(envelope)
                    .exec(&mut stock)
                    .unwrap();
            }
            while heard.len() < captured().len() {
                heard.extend(receive(&*listener).await.unwrap());
            }

            let mut monitor = server.client();
            let mut monitor = monitor.as_pubsub();
            monitor.psubscribe(format!("{prefix}/0.celeryev/*")).unwrap();
            for (message, (channel, envelope)) in heard.into_iter().zip(captured()) {
                broker.broadcast(&[message], soon()).unwrap();
                let seen = monitor.get_message().unwrap();
                assert_eq!(seen.get_channel_name(), format!("{prefix}{channel}"));
                let found = without_tag(seen.get_payload_bytes());
                assert_eq!(String::from_utf8(found), String::from_utf8(without_tag(&envelope)));
                assert!(seen.get_payload_bytes().starts_with(b"{\"body\": \""));
            }
        });
    });
}

#[test]
fn requests_to_all_are_on_the_channel_of_the_mailbox() {
    with_server(|server| {
        run(async {
            let (broker, exchange) = (broker(server), unique("pidbox"));
            let mut stock = server.client();
            let mut stock = stock.as_pubsub();
            stock.psubscribe(format!("/0.{exchange}")).unwrap();
            broker.broadcast(&[message(ExchangeType::Fanout, &exchange, "")], soon()).unwrap();
            assert_eq!(stock.get_message().unwrap().get_channel_name(), format!("/0.{exchange}"));
        });
    });
}

#[test]
fn who_is_bound_with_a_key_is_pushed_its_replies() {
    with_server(|server| {
        run(async {
            let (broker, exchange) = (broker(server), unique("reply"));
            let (mut client, oid) = (server.client(), unique("oid"));
            let stock = format!("{oid}.{exchange}.pidbox");
            let durable = format!("{exchange}.durable");
            for queue in [&stock, &durable] {
                redis::cmd("SADD")
                    .arg(format!("_kombu.binding.{exchange}"))
                    .arg(format!("{oid}\x06\x16\x06\x16{queue}"))
                    .exec(&mut client)
                    .unwrap();
            }
            let reply = message(ExchangeType::Direct, &exchange, &oid);
            let other = message(ExchangeType::Direct, &exchange, "nobody");
            broker.broadcast(&[reply, other], soon()).unwrap();
            let mut ask = |name: &str, key: &String| -> i64 {
                redis::cmd(name).arg(key).query(&mut client).unwrap()
            };
            assert_eq!((ask("LLEN", &stock), ask("LLEN", &durable)), (1, 1));
            assert!(ask("TTL", &stock) > 0, "a reply that nobody reads goes away");
            assert_eq!(ask("TTL", &durable), -1, "no other queue does");
            let pushed: Vec<u8> = redis::cmd("RPOP").arg(&stock).query(&mut client).unwrap();
            let value: Value = serde_json::from_slice(&pushed).unwrap();
            assert_eq!(value["properties"]["delivery_info"]["routing_key"], *oid);
        });
    });
}

#[test]
fn who_waits_for_replies_is_bound_as_kombu_binds_and_leaves_nothing() {
    with_server(|server| {
        run(async {
            let (broker, exchange) = (broker(server), unique("reply"));
            let table = format!("_kombu.binding.{exchange}");
            let mut client = server.client();
            let wanted = vec![binding(ExchangeType::Direct, &exchange, "oid")];
            let listener = broker.subscribe(wanted).await.unwrap();
            let members: Vec<String> =
                redis::cmd("SMEMBERS").arg(&table).query(&mut client).unwrap();
            let [member] = &members[..] else { panic!("{members:?}") };
            let queue = member.strip_prefix("oid\x06\x16\x06\x16").expect("kombu's member");
            let deadline: Option<i64> = redis::cmd("ZSCORE")
                .arg("_kombu.binding_deadlines")
                .arg(&*exchange)
                .query(&mut client)
                .unwrap();
            assert!(deadline > Some(taskcore::clock::wall_ms()), "kombu's sweep knows it");
            // As a stock worker replies; the rest of an envelope has its defaults.
            let properties = format!(
                r#"{{"body_encoding": "utf-8", "delivery_info": {{"exchange": "{exchange}", "routing_key": "oid"}}}}"#
            );
            let envelope = format!(
                r#"{{"body": "{{}}", "headers": {{"ticket": "t"}}, "properties": {properties}}}"#
            );
            redis::cmd("LPUSH").arg(queue).arg(envelope).exec(&mut client).unwrap();
            let heard = receive(&*listener).await.unwrap();
            assert_eq!(
                (&heard[0].body[..], &heard[0].headers["ticket"]),
                (&b"{}"[..], &"t".into())
            );
            drop(listener);
            let left: i64 = redis::cmd("EXISTS").arg(&table).arg(queue).query(&mut client).unwrap();
            assert_eq!(left, 0);
        });
    });
}

#[test]
fn a_lost_connection_is_told_and_another_one_hears() {
    let Some(server) = Server::start(&[]) else { return crate::skipped("redis") };
    run(async {
        let broker = broker(&server);
        let all = || vec![binding(ExchangeType::Fanout, "all", "")];
        let events = || vec![binding(ExchangeType::Topic, "events", "task.*")];
        let mut listeners = Vec::new();
        for wanted in [all(), events(), all()] {
            listeners.push(broker.subscribe(wanted).await.unwrap());
        }
        let mut client = server.client();
        let subscribed = |client: &mut redis::Connection| -> usize {
            let list: String =
                redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(client).unwrap();
            list.lines().filter(|line| line.contains("sub=")).count()
        };
        assert_eq!(subscribed(&mut client), 1, "one connection for all who listen");
        let said = message(ExchangeType::Fanout, "all", "");
        broker.broadcast(std::slice::from_ref(&said), soon()).unwrap();
        // When one has heard it, it has come to the other.
        assert_eq!(receive(&*listeners[2]).await.unwrap(), std::slice::from_ref(&said));
        let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut client);
        assert_eq!(kill, Ok(1));
        assert_eq!(
            receive(&*listeners[0]).await.unwrap(),
            std::slice::from_ref(&said),
            "what came is heard"
        );
        for listener in &listeners {
            assert_eq!(receive(&**listener).await.unwrap_err().kind(), ErrorKind::Connection);
        }
        let again = broker.subscribe(all()).await.unwrap();
        broker.broadcast(std::slice::from_ref(&said), soon()).unwrap();
        assert_eq!(receive(&*again).await.unwrap(), [said]);
    });
}

#[test]
fn what_is_large_and_nobody_hears_is_not_sent() {
    let Some(server) = Server::start(&[]) else { return crate::skipped("redis") };
    run(async {
        let (broker, mut client) = (broker(&server), server.client());
        let mut published = || -> usize {
            let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut client).unwrap();
            let calls = stats.split_once("cmdstat_publish:calls=").map(|(_, rest)| rest);
            calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
        };
        let mut large = message(ExchangeType::Topic, "events", "task.multi");
        large.body = Bytes::from(vec![b'x'; 100_000]);
        let mut other = large.clone();
        other.routing_key = "task.sent".into();
        let both = [large, other];
        broker.broadcast(&both, soon()).unwrap();
        assert_eq!(published(), 0);
        let wanted = binding(ExchangeType::Topic, "events", "task.sent");
        let listener = broker.subscribe(vec![wanted]).await.unwrap();
        broker.broadcast(&both, soon()).unwrap();
        assert_eq!(receive(&*listener).await.unwrap(), both[1..]);
        assert_eq!(published(), 1, "what is heard is sent");
        let every = broker.subscribe(vec![binding(ExchangeType::Topic, "events", "#")]).await;
        broker.broadcast(&both, soon()).unwrap();
        assert_eq!(receive(&*every.unwrap()).await.unwrap()[0], both[0]);
    });
}
