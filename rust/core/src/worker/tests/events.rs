//! What monitors are told of each fate of a task.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::fake::{Flaky, Lab, config, message, wall_us};
use crate::{
    broker::{
        Answer, Broadcast, Broker, Capability, Consumer, Outgoing, Subscription,
        broadcast::{Binding, BroadcastMessage, Exchange, ExchangeType, Subscriber},
        memory::MemoryBroker,
    },
    error::{Error, ErrorKind, Result},
    event::EXCHANGE,
    future::BoxFuture,
    message::Message,
    worker::{
        Command, EventOptions, Stop,
        event_sender::EventSender,
        task_event::{TaskEvent, What},
    },
};

async fn listening(lab: &Lab) -> Arc<dyn Subscriber> {
    hearing(&lab.broker.hears()).await
}

async fn hearing(broker: &MemoryBroker) -> Arc<dyn Subscriber> {
    let exchange = Exchange { name: EXCHANGE.into(), kind: ExchangeType::Topic };
    broker.subscribe(vec![Binding { exchange, routing_key: "#".into() }]).await.unwrap()
}

/// Carries events, unless it has a fault.
struct Carrier {
    inner: Arc<MemoryBroker>,
    fault: Mutex<Option<ErrorKind>>,
    failed: tokio::sync::Notify,
}

impl Carrier {
    fn new() -> Arc<Self> {
        let (inner, fault) = (Flaky::new().hears(), Mutex::default());
        Arc::new(Self { inner, fault, failed: tokio::sync::Notify::new() })
    }

    fn set_fault(&self, fault: Option<ErrorKind>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn sender(self: &Arc<Self>, heartbeat: Option<Duration>) -> Arc<EventSender> {
        let exchange = EXCHANGE.into();
        let options = EventOptions { tasks: true, heartbeat, exchange, utcoffset: 0.0 };
        let broker = Arc::clone(self) as Arc<dyn Broadcast>;
        Arc::new(EventSender::new(broker, options, "w@h", Arc::default()))
    }
}

impl Broker for Carrier {
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        self.inner.publish(batch, deadline)
    }
    fn url(&self) -> &'static str {
        "carrier://"
    }
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }
    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        self.inner.consume(subscription)
    }
}

impl Broadcast for Carrier {
    fn broadcast(&self, batch: &[BroadcastMessage], deadline: Instant) -> Result<()> {
        if let Some(kind) = *self.fault.lock().unwrap() {
            self.failed.notify_one();
            return Err(Error::new(kind, "not carried"));
        }
        self.inner.broadcast(batch, deadline)
    }
}

fn cancelled(id: &str) -> TaskEvent {
    TaskEvent { at: 0, what: What::Cancelled { id: id.into() } }
}

#[tokio::test]
async fn heartbeats_go_on_after_an_outage() {
    let carrier = Carrier::new();
    let listener = hearing(&carrier.inner).await;
    let sender = carrier.sender(Some(Duration::from_millis(10)));
    sender.start();
    listener.receive().await.unwrap();
    carrier.set_fault(Some(ErrorKind::Connection));
    carrier.failed.notified().await;
    let then = sender.ticks(1);
    carrier.set_fault(None);
    let later = async {
        loop {
            for message in listener.receive().await.unwrap().messages {
                let event: Value = serde_json::from_slice(&message.body).unwrap();
                if event["type"] == "worker-heartbeat" && event["clock"].as_u64() > Some(then) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), later).await.expect("a heartbeat");
    assert!(sender.close());
    sender.ended().await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_dropped_and_holds_up_nothing() {
    let carrier = Carrier::new();
    let listener = hearing(&carrier.inner).await;
    let sender = carrier.sender(None);
    sender.start();
    carrier.set_fault(Some(ErrorKind::TooLarge));
    sender.send(&mut vec![cancelled("1"), cancelled("2")]);
    carrier.failed.notified().await;
    carrier.set_fault(None);
    sender.send(&mut vec![cancelled("3")]);
    let heard = listener.receive().await.unwrap().messages;
    assert_eq!(heard.len(), 1);
    let events: Vec<Value> = serde_json::from_slice(&heard[0].body).unwrap();
    assert_eq!(events.iter().map(|event| &event["uuid"]).collect::<Vec<_>>(), ["3"]);
    assert!(sender.close());
    sender.ended().await;
}

/// The events about one task until one of the last type, as type and own fields.
async fn events_of(listener: &dyn Subscriber, uuid: &str, last: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    loop {
        for message in listener.receive().await.unwrap().messages {
            assert_eq!(&*message.routing_key, "task.multi");
            let events: Vec<Value> = serde_json::from_slice(&message.body).unwrap();
            for mut event in events.into_iter().filter(|event| event["uuid"] == uuid) {
                let fields = event.as_object_mut().unwrap();
                assert_eq!(fields.remove("hostname"), Some("w@h".into()));
                for common in ["uuid", "utcoffset", "pid", "clock", "timestamp"] {
                    fields.remove(common);
                }
                let kind = fields.remove("type").unwrap().as_str().unwrap().to_owned();
                let ends = kind == last;
                found.push((kind, event));
                if ends {
                    return found;
                }
            }
        }
    }
}

fn kinds(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(kind, _)| kind.strip_prefix("task-").unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_fate_is_told() {
    for (script, task, told, last) in [
        (
            "0 ok",
            "early",
            "received started succeeded",
            json!({"result": "it says ok", "runtime": 0.00001}),
        ),
        (
            "5 ok",
            "late",
            "received started succeeded",
            json!({"result": "it says ok", "runtime": 0.00001}),
        ),
        (
            "0 fail",
            "early",
            "received started failed",
            json!({"exception": "it says fail", "traceback": null}),
        ),
        (
            "0 retry",
            "early",
            "received started retried",
            json!({"exception": "it says retry", "traceback": null}),
        ),
        ("0 reject", "late", "received started rejected", json!({"requeue": false})),
        ("0 requeue", "late", "received started rejected", json!({"requeue": true})),
        ("0 garbled", "late", "received rejected", json!({"requeue": false})),
        (
            "5 limit",
            "early",
            "received started failed",
            json!({"exception": "TimeLimitExceeded(1)", "traceback": null}),
        ),
        (
            "5 die",
            "early",
            "received started failed",
            json!({"exception": "WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL).')", "traceback": null}),
        ),
        ("5 die", "late", "received started rejected", json!({"requeue": true})),
        (
            "0 ok",
            "unknown",
            "failed",
            json!({"exception": "NotRegistered('unknown')", "traceback": null}),
        ),
    ] {
        let lab = Lab::telling(config());
        let listener = listening(&lab).await;
        lab.broker.put(&[message("x", task, script)]);
        let name = format!("task-{}", told.rsplit(' ').next().unwrap());
        let events = events_of(&*listener, "x", &name).await;
        assert_eq!(kinds(&events).join(" "), told, "{script} {task}");
        let own = &events[events.len() - 1].1;
        assert_eq!(*own, last, "{script} {task}");
        lab.stop(Stop::Cold).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_received_says_what_was_called() {
    let lab = Lab::telling(config());
    let listener = listening(&lab).await;
    let mut sent: Message = message("x", "early", "0 ok");
    sent.headers.rare_mut().argsrepr = Some("(2, 3)".into());
    sent.headers.rare_mut().kwargsrepr = Some("{}".into());
    sent.headers.parent_id = Some("p".into());
    sent.headers.retries = 2;
    lab.broker.put(&[sent]);
    let events = events_of(&*listener, "x", "task-received").await;
    let expected = json!({
        "name": "0 ok", "args": "(2, 3)", "kwargs": "{}", "root_id": "x", "parent_id": "p", "retries": 2,
        "eta": null, "expires": null,
    });
    assert_eq!(events[0].1, expected);
    let mut compact: Message = message("y", "early", "0 ok");
    compact.body = (&br#"[[2, "x"], {"y": null}, {}]"#[..]).into();
    lab.broker.put(&[compact]);
    let events = events_of(&*listener, "y", "task-received").await;
    assert_eq!(
        (&events[0].1["args"], &events[0].1["kwargs"]),
        (&json!("(2, 'x')"), &json!("{'y': None}"))
    );
    lab.stop(Stop::Warm).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_or_late_is_told() {
    let lab = Lab::telling(config());
    let listener = listening(&lab).await;
    let revoke = |reply| Command::Revoke { ids: vec!["r".into()], terminate: None, reply };
    lab.handle.ask(revoke).await.unwrap();
    let mut late = message("e", "early", "0 ok");
    late.headers.expires = Some(wall_us() - 1);
    lab.broker.put(&[message("r", "early", "0 ok")]);
    let revoked = |expired| json!({"terminated": false, "signum": null, "expired": expired});
    let events = events_of(&*listener, "r", "task-revoked").await;
    assert_eq!(events[1], ("task-revoked".into(), revoked(false)));
    lab.broker.put(&[late]);
    let events = events_of(&*listener, "e", "task-revoked").await;
    assert_eq!(events[1], ("task-revoked".into(), revoked(true)));
    lab.stop(Stop::Warm).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn telling_is_switched_while_the_worker_runs() {
    let lab = Lab::telling(config());
    let listener = listening(&lab).await;
    let switch = |on| lab.handle.ask(move |reply| Command::Events { on, reply });
    assert!(!switch(true).await.unwrap(), "it is on already");
    assert!(switch(false).await.unwrap());
    lab.broker.put(&[message("silent", "early", "0 ok")]);
    lab.until_idle().await;
    assert!(switch(true).await.unwrap());
    lab.broker.put(&[message("heard", "early", "0 ok")]);
    let heard = listener.receive().await.unwrap();
    let body = String::from_utf8_lossy(&heard.messages[0].body).into_owned();
    assert!(body.contains("heard") && !body.contains("silent"), "{body}");
    lab.stop(Stop::Warm).await.unwrap();

    let dumb = Lab::new(config());
    let error = dumb.handle.ask(|reply| Command::Events { on: true, reply }).await.unwrap_err();
    assert!(error.to_string().contains("started without events"), "{error}");
}
