//! Dead letters: messages in the queue `<queue>.dead`, with headers that say why.
//!
//! A queue can be read from its head only, so whoever looks takes all of it on a channel of its own
//! and gives it back by closing that.

use bytes::Bytes;
use lapin::{
    Channel,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions},
    types::AMQPValue,
};

use super::{
    client::Link,
    native::{Content, ID, KEY, PARKED_AT, REASON, REDELIVERIES, id_of, short},
    publish::{self, Addressed},
    topology,
};
use crate::{
    broker::{Answer, DeadLetter, QueueDeclaration},
    clock,
    error::{Error, ErrorKind, Result},
};

/// So many are looked at, at most.
const MOST: usize = 10_000;

/// The queue of the dead letters of a queue.
pub(super) fn queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// A message as a dead letter.
pub(super) fn letter(content: &Content, id: &str, reason: &str, redeliveries: u32) -> Content {
    let text = |text: &str| AMQPValue::LongString(text.into());
    content.saying(&[
        (REASON, text(reason)),
        (ID, text(id)),
        (KEY, text(&fresh_key())),
        (PARKED_AT, AMQPValue::LongLongInt(clock::wall_ms())),
        (REDELIVERIES, AMQPValue::LongLongInt(redeliveries.into())),
    ])
}

/// A name that no other dead letter has.
fn fresh_key() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// A dead letter as it lies in its queue.
struct Found {
    tag: u64,
    key: String,
    content: Content,
    routing: (String, String),
}

/// The dead letters of a queue, taken on this channel.
async fn look(link: &Link, channel: &Channel, dead: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    while found.len() < MOST {
        let name = short("name of the queue", dead)?;
        let got = channel.basic_get(name, BasicGetOptions { no_ack: false }).await;
        let got = got.map_err(|e| link.server.told(&format!("read the queue `{dead}`"), &e))?;
        let Some(BasicGetMessage { delivery, .. }) = got else { break };
        let tag = delivery.delivery_tag;
        let routing = (delivery.exchange.to_string(), delivery.routing_key.to_string());
        let content = Content { properties: delivery.properties, body: Bytes::from(delivery.data) };
        // One that the server or somebody else put there has no key of its own.
        let key = content.text(KEY).unwrap_or_else(|| tag.to_string());
        found.push(Found { tag, key, content, routing });
    }
    Ok(found)
}

/// The newest of them.
pub(super) async fn list(link: &Link, name: &str, limit: usize) -> Result<Vec<DeadLetter>> {
    let dead = queue(name);
    if topology::depth(link, &dead).await?.is_none() {
        return Ok(Vec::new());
    }
    let channel = link.plain_channel().await?;
    let found = look(link, &channel, &dead).await?;
    let letters = found.into_iter().rev().take(limit).map(Found::letter).collect();
    close(link, &channel).await?;
    Ok(letters)
}

/// Takes those with these keys, or all, out of their queue, after they are put back into the queue
/// that they came from, if so; how many.
pub(super) async fn take(
    link: &Link,
    name: &str,
    keys: Option<&[String]>,
    replay: bool,
) -> Result<u64> {
    let dead = queue(name);
    if topology::depth(link, &dead).await?.is_none() {
        return Ok(0);
    }
    let channel = link.plain_channel().await?;
    let mut taken = look(link, &channel, &dead).await?;
    taken.retain(|found| keys.is_none_or(|keys| keys.contains(&found.key)));
    if replay && !taken.is_empty() {
        topology::declare(link, &QueueDeclaration::named(&name.into())).await?;
        let again = |found: &Found| Addressed::to_queue(name, found.content.saying(&[]));
        let batch = taken.iter().map(again).collect::<Result<Vec<_>>>()?;
        let answers = publish::send(link, &batch).await?;
        if let Some(lost) = answers.iter().find(|answer| **answer != Answer::Confirmed) {
            let text = format!("the queue `{name}` does not take its dead letters: {lost:?}");
            return Err(Error::new(ErrorKind::Storage, text));
        }
    }
    for found in &taken {
        let options = BasicAckOptions { multiple: false };
        let acked = channel.basic_ack(found.tag, options).await;
        acked.map_err(|e| link.server.told("drop a dead letter", &e))?;
    }
    close(link, &channel).await?;
    Ok(taken.len() as u64)
}

/// What was taken and not acknowledged is back when this returns.
async fn close(link: &Link, channel: &Channel) -> Result<()> {
    let closed = channel.close(200, "OK".into()).await;
    closed.map_err(|e| link.server.told("give back dead letters", &e))
}

impl Found {
    fn letter(self) -> DeadLetter {
        let Self { key, content, routing: (exchange, routing_key), .. } = self;
        let raw = content.raw(&exchange, &routing_key);
        let id = content.text(ID).unwrap_or_else(|| id_of(&raw).to_string());
        let letter = DeadLetter {
            key,
            id,
            reason: content.text(REASON).unwrap_or_else(|| "put there by the server".to_owned()),
            at: content.number(PARKED_AT).unwrap_or(0),
            redeliveries: content.redeliveries(),
            message: None,
            raw,
        };
        letter.decoded()
    }
}
