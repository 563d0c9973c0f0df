//! Queues, exchanges and bindings, declared as Celery declares them.
//!
//! A queue that exists is taken as it is, whatever it was declared with, unless this app says how it
//! is to be. So nobody is refused beside workers that know more about a queue.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    client::Link,
    delay, error,
    native::{short, table},
    server::Server,
};
use crate::{
    broker::{ExchangeDeclaration, QueueDeclaration, broadcast::ExchangeType},
    error::Result,
};

const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};
const DURABLE_QUEUE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};
const EXISTS: QueueDeclareOptions = QueueDeclareOptions { passive: true, ..DURABLE_QUEUE };
const BIND: QueueBindOptions = QueueBindOptions { nowait: false };

/// Declares a queue, its exchanges and its bindings, unless that was done over this connection. One
/// about which nobody has said anything is made only if it does not exist.
pub(super) async fn declare(link: &Link, queue: &QueueDeclaration) -> Result<()> {
    if queue.no_declare || link.has_declared(&queue.name) {
        return Ok(());
    }
    let said = *queue != QueueDeclaration::named(&queue.name);
    if said || depth(link, &queue.name).await?.is_none() {
        create(link, queue).await?;
    }
    link.declared(queue.name.to_string());
    Ok(())
}

async fn create(link: &Link, queue: &QueueDeclaration) -> Result<()> {
    let channel = link.plain_channel().await?;
    let name = short("name of the queue", &queue.name)?;
    let options = QueueDeclareOptions {
        passive: false,
        durable: queue.durable,
        exclusive: queue.exclusive,
        auto_delete: queue.auto_delete,
        nowait: false,
    };
    for binding in &queue.bindings {
        declare_exchange(link, &channel, &binding.exchange).await?;
    }
    let told = |e: lapin::Error| link.server.told(&format!("declare the queue `{name}`"), &e);
    channel.queue_declare(name.clone(), options, table(&queue.arguments)?).await.map_err(told)?;
    for binding in queue.bindings.iter().filter(|b| !b.exchange.name.is_empty()) {
        let exchange = short("name of the exchange", &binding.exchange.name)?;
        let key = short("routing key", &binding.routing_key)?;
        let arguments = table(&binding.arguments)?;
        channel.queue_bind(name.clone(), exchange, key, BIND, arguments).await.map_err(told)?;
    }
    Ok(())
}

async fn declare_exchange(
    link: &Link,
    channel: &Channel,
    exchange: &ExchangeDeclaration,
) -> Result<()> {
    if exchange.no_declare || exchange.name.is_empty() {
        return Ok(());
    }
    let name = short("name of the exchange", &exchange.name)?;
    let ExchangeDeclaration { durable, auto_delete, .. } = *exchange;
    let options = ExchangeDeclareOptions { durable, auto_delete, ..DURABLE };
    let declaring =
        channel.exchange_declare(name, kind(exchange.kind), options, table(&exchange.arguments)?);
    let told = |e| link.server.told(&format!("declare the exchange `{}`", exchange.name), &e);
    declaring.await.map_err(told)
}

pub(super) fn kind(kind: ExchangeType) -> ExchangeKind {
    match kind {
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Fanout => ExchangeKind::Fanout,
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Headers => ExchangeKind::Headers,
    }
}

/// A queue that holds messages and receives them by its name alone.
pub(super) async fn declare_plain(link: &Link, queue: &str) -> Result<()> {
    if link.has_declared(queue) {
        return Ok(());
    }
    let channel = link.plain_channel().await?;
    let name = short("name of the queue", queue)?;
    channel
        .queue_declare(name, DURABLE_QUEUE, FieldTable::default())
        .await
        .map_err(|e| link.server.told(&format!("declare the queue `{queue}`"), &e))?;
    link.declared(queue.to_owned());
    Ok(())
}

/// How many messages are ready in a queue; `None` when there is none of this name.
pub(super) async fn depth(link: &Link, queue: &str) -> Result<Option<u64>> {
    // The server closes a channel on which somebody asks for what is not there.
    let channel = link.plain_channel().await?;
    let name = short("name of the queue", queue)?;
    match channel.queue_declare(name, EXISTS, FieldTable::default()).await {
        Ok(found) => Ok(Some(u64::from(found.message_count()))),
        Err(error) if error::is_missing(&error) => Ok(None),
        Err(error) => Err(link.server.told(&format!("look at the queue `{queue}`"), &error)),
    }
}

/// Whether there is an exchange of this name. To publish to one that does not exist would close the
/// channel, and nobody could say what became of what was published before.
pub(super) async fn has_exchange(link: &Link, exchange: &str) -> Result<bool> {
    let known = format!("exchange {exchange}");
    if link.has_declared(&known) {
        return Ok(true);
    }
    let channel = link.plain_channel().await?;
    let name = short("name of the exchange", exchange)?;
    let options = ExchangeDeclareOptions { passive: true, ..DURABLE };
    let found =
        channel.exchange_declare(name, ExchangeKind::Direct, options, FieldTable::default()).await;
    match found {
        Ok(()) => {
            link.declared(known);
            Ok(true)
        }
        Err(error) if error::is_missing(&error) => Ok(false),
        Err(error) => Err(link.server.told(&format!("look at the exchange `{exchange}`"), &error)),
    }
}

/// Declares the levels of delay, and binds the queue behind them. `kind` is the type of their
/// queues.
pub(super) async fn declare_delay(link: &Link, queue: &str, kind: &str) -> Result<()> {
    let channel = link.plain_channel().await?;
    let told = |error: lapin::Error| delay_error(&link.server, &error);
    if !link.has_declared(delay::DELIVERY) {
        declare_levels(&channel, kind).await.map_err(told)?;
        link.declared(delay::DELIVERY.to_owned());
    }
    let bound = format!("{} {queue}", delay::DELIVERY);
    if !link.has_declared(&bound) {
        let name = short("name of the queue", queue)?;
        let key = short("routing key of a delayed message", &delay::delivery_binding(queue))?;
        let none = FieldTable::default();
        channel.queue_bind(name, delay::DELIVERY.into(), key, BIND, none).await.map_err(told)?;
        link.declared(bound);
    }
    Ok(())
}

#[cold]
fn delay_error(server: &Server, error: &lapin::Error) -> crate::error::Error {
    server.told("declare the queues of delayed messages, `celery_delayed_0` and so on", error)
}

async fn declare_levels(channel: &Channel, kind: &str) -> lapin::Result<()> {
    let none = FieldTable::default;
    let topic = || ExchangeKind::Topic;
    channel.exchange_declare(delay::DELIVERY.into(), topic(), DURABLE, none()).await?;
    let mut below = delay::DELIVERY.to_owned();
    for n in 0..delay::LEVELS {
        let name = delay::level(n);
        channel.exchange_declare(name.as_str().into(), topic(), DURABLE, none()).await?;
        let arguments = level_arguments(n, kind, &below);
        channel.queue_declare(name.as_str().into(), DURABLE_QUEUE, arguments).await?;
        let (exchange, key) = (name.as_str(), delay::binding(n, 1));
        channel
            .queue_bind(exchange.into(), exchange.into(), key.as_str().into(), BIND, none())
            .await?;
        let key = delay::binding(n, 0);
        let options = ExchangeBindOptions { nowait: false };
        channel
            .exchange_bind(
                below.as_str().into(),
                exchange.into(),
                key.as_str().into(),
                options,
                none(),
            )
            .await?;
        below = name;
    }
    Ok(())
}

fn level_arguments(n: usize, kind: &str, below: &str) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(kind));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt((1 << n) * 1_000));
    arguments.insert("x-dead-letter-exchange".into(), text(below));
    if kind == "quorum" {
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    arguments
}
