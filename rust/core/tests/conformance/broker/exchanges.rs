//! Exchanges: a message goes to every queue whose binding wants it, and to none is an error.

use serde_json::{Map, Value, json};
use taskcore::broker::{
    Answer, ExchangeDeclaration, QueueBinding, QueueDeclaration, Route, broadcast::ExchangeType,
};

use super::*;
use crate::{Harness, unique};

fn binding(exchange: &str, kind: ExchangeType, key: &str) -> QueueBinding {
    QueueBinding {
        exchange: ExchangeDeclaration {
            name: exchange.into(),
            kind,
            durable: true,
            auto_delete: false,
            no_declare: false,
            arguments: Map::new(),
        },
        routing_key: key.into(),
        arguments: Map::new(),
    }
}

fn queue(name: &Arc<str>, bindings: Vec<QueueBinding>) -> Arc<QueueDeclaration> {
    Arc::new(QueueDeclaration { bindings, ..QueueDeclaration::named(name) })
}

/// A message to an exchange that declares these queues.
fn to(
    exchange: &str,
    kind: ExchangeType,
    key: &str,
    body: &str,
    declares: &[Arc<QueueDeclaration>],
) -> Outgoing {
    let mut outgoing = message(&Arc::from(exchange), body).exchange(exchange);
    key.clone_into(&mut outgoing.message.properties.routing_key);
    outgoing.route = Some(Arc::new(Route { kind, declares: declares.to_vec() }));
    outgoing
}

async fn worker_on(
    broker: &dyn Broker,
    declarations: Vec<Arc<QueueDeclaration>>,
) -> Arc<dyn Consumer> {
    let queues = declarations.iter().map(|queue| queue.name.clone()).collect();
    let (order, epoch) = (QueueOrder::default(), unique("epoch").to_string());
    let subscription = Subscription { queues, declarations, order, epoch, max_deliveries: 3 };
    broker.consume(subscription).await.unwrap()
}

fn sorted(deliveries: &[Delivery]) -> Vec<(String, String)> {
    let mut found: Vec<_> =
        deliveries.iter().map(|one| (one.queue.to_string(), body(one))).collect();
    found.sort();
    found
}

/// Before any worker has come: what a publish declares is bound from then on.
pub(crate) async fn a_topic_reaches_every_queue_whose_pattern_fits(h: &impl Harness) {
    let (broker, exchange) = (h.broker(), unique("topic"));
    let (news, all) = (unique("a-news"), unique("b-all"));
    let topic = |key| binding(&exchange, ExchangeType::Topic, key);
    let queues =
        [queue(&news, vec![topic("news.*"), topic("*.sport")]), queue(&all, vec![topic("#")])];
    let send = |key: &str| to(&exchange, ExchangeType::Topic, key, key, &queues);
    let batch = [send("news.sport"), message(&news, "plain"), send("weather")];
    assert_eq!(broker.publish(&batch, soon()).unwrap(), vec![Answer::Confirmed; 3]);
    let worker = worker_on(&*h.broker(), queues.to_vec()).await;
    let got = take(&*worker, 4).await;
    let expected =
        [(&news, "news.sport"), (&news, "plain"), (&all, "news.sport"), (&all, "weather")];
    assert_eq!(sorted(&got), expected.map(|(q, b)| (q.to_string(), b.to_owned())));
    let topic = got.iter().find(|one| body(one) == "weather").unwrap().message().unwrap();
    assert_eq!(topic.properties.exchange, *exchange, "who runs it knows the exchange");
    assert_eq!(topic.properties.routing_key, "weather");
}

/// Declared by whoever consumes alone, so that a publisher need not know the queues.
pub(crate) async fn a_direct_exchange_compares_the_key(h: &impl Harness) {
    let (broker, exchange, name) = (h.broker(), unique("direct"), unique("q"));
    let kind = ExchangeType::Direct;
    let send = |key: &str| to(&exchange, kind, key, key, &[]);
    let first = broker.publish(&[send("in")], soon()).unwrap();
    assert_eq!(first, [Answer::Unroutable], "nobody is bound yet");
    let bound = queue(&name, vec![binding(&exchange, kind, "in"), binding(&exchange, kind, "to")]);
    let worker = worker_on(&*h.broker(), vec![bound]).await;
    let answers = broker.publish(&[send("in"), send("other"), send("to")], soon()).unwrap();
    assert_eq!(answers, [Answer::Confirmed, Answer::Unroutable, Answer::Confirmed]);
    assert_eq!(bodies(&take(&*worker, 2).await), ["in", "to"]);
    nothing(&*worker).await;
}

pub(crate) async fn a_headers_exchange_looks_at_the_headers(h: &impl Harness) {
    let (broker, exchange, name) = (h.broker(), unique("headers"), unique("q"));
    let mut bound = binding(&exchange, ExchangeType::Headers, "");
    bound.arguments = json!({"format": "pdf", "x-match": "all"}).as_object().cloned().unwrap();
    let queues = [queue(&name, vec![bound])];
    let send = |format: &str| {
        let mut one = to(&exchange, ExchangeType::Headers, "", format, &queues);
        let extra = &mut one.message.headers.rare_mut().extra;
        extra.insert("format".to_owned(), Value::from(format));
        one
    };
    let answers = broker.publish(&[send("pdf"), send("zip")], soon()).unwrap();
    assert_eq!(answers, [Answer::Confirmed, Answer::Unroutable]);
    let worker = worker_on(&*h.broker(), queues.to_vec()).await;
    assert_eq!(bodies(&take(&*worker, 1).await), ["pdf"]);
}

/// Every worker has a queue of its own, which goes with it.
pub(crate) async fn a_fanout_reaches_every_worker(h: &impl Harness) {
    let (broker, exchange) = (h.broker(), unique("fanout"));
    let own = |name: &str| {
        let name = unique(name);
        let bindings = vec![binding(&exchange, ExchangeType::Fanout, "ignored")];
        let named = QueueDeclaration::named(&name);
        Arc::new(QueueDeclaration { auto_delete: true, bindings, ..named })
    };
    let send = |body: &str| to(&exchange, ExchangeType::Fanout, "key", body, &[]);
    assert_eq!(broker.publish(&[send("early")], soon()).unwrap(), [Answer::Unroutable]);
    let one = worker_on(&*h.broker(), vec![own("one")]).await;
    let two = worker_on(&*h.broker(), vec![own("two")]).await;
    assert_eq!(
        broker.publish(&[send("a"), send("b")], soon()).unwrap(),
        vec![Answer::Confirmed; 2]
    );
    for worker in [&one, &two] {
        let got = take(&**worker, 2).await;
        assert_eq!(bodies(&got), ["a", "b"]);
        assert_eq!(got[0].message().unwrap().properties.exchange, *exchange);
        ack(&**worker, &got).await;
    }
    one.release().await.unwrap();
    drop(one);
    assert_eq!(broker.publish(&[send("c")], soon()).unwrap(), [Answer::Confirmed]);
    let got = take(&*two, 1).await;
    assert_eq!(bodies(&got), ["c"]);
    two.release().await.unwrap();
    drop(two);
    assert_eq!(broker.publish(&[send("late")], soon()).unwrap(), [Answer::Unroutable]);
}

/// As follows a task: its publisher does not know how the exchange is declared.
pub(crate) async fn a_consumer_knows_the_exchanges_of_its_queues(h: &impl Harness) {
    let (broker, exchange) = (h.broker(), unique("topic"));
    let (mine, other) = (unique("mine"), unique("other"));
    let bound = queue(&other, vec![binding(&exchange, ExchangeType::Topic, "a.#")]);
    let queues = vec![mine];
    let (order, epoch) = (QueueOrder::default(), unique("epoch").to_string());
    let declarations = vec![bound.clone()];
    let subscription = Subscription { queues, declarations, order, epoch, max_deliveries: 3 };
    let _worker = broker.consume(subscription).await.unwrap();
    let mut follows = to(&exchange, ExchangeType::Topic, "a.b.c", "next", &[]);
    follows.route = None;
    assert_eq!(broker.publish(&[follows], soon()).unwrap(), [Answer::Confirmed]);
    let there = worker_on(&*h.broker(), vec![bound]).await;
    assert_eq!(bodies(&take(&*there, 1).await), ["next"]);
}
