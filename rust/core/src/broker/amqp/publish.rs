//! Publishing: a batch is pipelined on one channel and every message is confirmed by the server.
//!
//! Messages are mandatory: what no queue receives comes back, and is told as unroutable. Between the
//! messages of a window no answer is waited for.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use lapin::{
    Channel, PublisherConfirm, message::BasicReturnMessage, options::BasicPublishOptions,
    types::ShortString,
};

use super::{
    client::{Client, Link},
    delay,
    native::{self, Content, short},
    topology,
};
use crate::{
    broker::{Answer, HORIZON_MS, Outgoing, QueueDeclaration},
    clock::{self, Millis},
    error::Result,
};

/// Messages, and bytes, that are under way at most before the first of them is confirmed.
const WINDOW: usize = 1_000;
const WINDOW_BYTES: usize = 4 << 20;
const MANDATORY: BasicPublishOptions = BasicPublishOptions { mandatory: true, immediate: false };

/// A message and where it goes.
pub(super) struct Addressed {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) content: Content,
}

impl Addressed {
    /// To a queue, by its name.
    pub(super) fn to_queue(queue: &str, content: Content) -> Result<Self> {
        let routing_key = short("name of the queue", queue)?;
        Ok(Self { exchange: ShortString::default(), routing_key, content })
    }

    /// To a queue, by way of the levels of delay.
    pub(super) fn delayed(queue: &str, seconds: u32, content: Content) -> Result<Self> {
        let key = delay::routing_key(seconds, queue);
        let routing_key = short("routing key of a delayed message", &key)?;
        let exchange = delay::level(delay::LEVELS - 1).as_str().into();
        Ok(Self { exchange, routing_key, content })
    }
}

/// When a message is due that is not to be delivered yet, as seconds to wait in the server.
pub(super) fn delay_of(due: Option<Millis>) -> Option<u32> {
    let now = clock::wall_ms();
    due.filter(|due| *due > now + HORIZON_MS).and_then(|due| delay::seconds(due, now))
}

/// The due time of a message in either encoding.
fn due(outgoing: &Outgoing) -> Option<Millis> {
    outgoing.message.headers.eta.map(|eta| eta.div_euclid(1_000))
}

/// Publishes a batch; what became of each.
pub(super) async fn publish(
    client: &Client,
    batch: &[Outgoing],
    delay_kind: &str,
) -> Result<Vec<Answer>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let link = client.link().await?;
    let mut answers = vec![Answer::Confirmed; batch.len()];
    let mut ready = Vec::with_capacity(batch.len());
    for (at, outgoing) in batch.iter().enumerate() {
        declare(&link, outgoing).await?;
        let own = is_own(outgoing);
        let properties = &outgoing.message.properties;
        if !own && !topology::has_exchange(&link, &properties.exchange).await? {
            answers[at] = Answer::Unroutable;
            continue;
        }
        // What goes by another exchange is delayed by whoever receives it, for its own queue.
        let seconds = delay_of(due(outgoing)).filter(|_| own);
        if seconds.is_some() {
            topology::declare_delay(&link, &outgoing.queue, delay_kind).await?;
        }
        match address(outgoing, seconds) {
            Ok(addressed) => ready.push((at, addressed)),
            Err(error) => answers[at] = Answer::Refused(error.to_string().into()),
        }
    }
    let (places, ready): (Vec<_>, Vec<_>) = ready.into_iter().unzip();
    for (at, answer) in places.into_iter().zip(send(&link, &ready).await?) {
        answers[at] = answer;
    }
    again(&link, batch, &mut answers).await?;
    Ok(answers)
}

/// Whether a message goes to a queue by its name.
fn is_own(outgoing: &Outgoing) -> bool {
    outgoing.message.properties.exchange.is_empty()
}

/// Declares what a message needs on its way.
async fn declare(link: &Link, outgoing: &Outgoing) -> Result<()> {
    match &outgoing.route {
        Some(route) => {
            for queue in &route.declares {
                topology::declare(link, queue).await?;
            }
            Ok(())
        }
        None if is_own(outgoing) && !link.has_declared(&outgoing.queue) => {
            topology::declare(link, &QueueDeclaration::named(&outgoing.queue)).await
        }
        None => Ok(()),
    }
}

/// A queue that was deleted since it was declared is declared once more, and gets its messages.
async fn again(link: &Link, batch: &[Outgoing], answers: &mut [Answer]) -> Result<()> {
    let mut lost = Vec::new();
    for (at, outgoing) in batch.iter().enumerate() {
        let due = delay_of(due(outgoing));
        if is_own(outgoing) && answers[at] == Answer::Unroutable && due.is_none() {
            link.forget(&outgoing.queue);
            for queue in outgoing.route.iter().flat_map(|route| &route.declares) {
                link.forget(&queue.name);
            }
            declare(link, outgoing).await?;
            lost.push((at, address(outgoing, None)?));
        }
    }
    let (places, lost): (Vec<_>, Vec<_>) = lost.into_iter().unzip();
    for (at, answer) in places.into_iter().zip(send(link, &lost).await?) {
        answers[at] = answer;
    }
    Ok(())
}

fn address(outgoing: &Outgoing, seconds: Option<u32>) -> Result<Addressed> {
    let content = native::content(outgoing)?;
    let properties = &outgoing.message.properties;
    match seconds {
        Some(seconds) => Addressed::delayed(&outgoing.queue, seconds, content),
        None if properties.exchange.is_empty() => Addressed::to_queue(&outgoing.queue, content),
        None => Ok(Addressed {
            exchange: short("name of the exchange", &properties.exchange)?,
            routing_key: short("routing key", &properties.routing_key)?,
            content,
        }),
    }
}

/// Publishes what is addressed, in order; what became of each.
pub(super) async fn send(link: &Link, batch: &[Addressed]) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while !rest.is_empty() {
        let (window, behind) = rest.split_at(fitting(rest));
        let channel = link.channel().await?;
        let sent = send_window(&channel, window).await;
        answers.extend(sent.map_err(|e| link.server.told("publish", &e))?);
        link.put_back(channel);
        rest = behind;
    }
    Ok(answers)
}

/// How many of these fit into one window.
fn fitting(batch: &[Addressed]) -> usize {
    let mut bytes = 0;
    let fits = |one: &&Addressed| {
        bytes += one.content.body.len();
        bytes <= WINDOW_BYTES
    };
    batch.iter().take(WINDOW).take_while(fits).count().max(1)
}

/// Where a message was to go, and which it was.
type Returned = (ShortString, ShortString, Option<ShortString>);

fn returned(message: &BasicReturnMessage) -> Returned {
    let delivery = &message.delivery;
    let id = delivery.properties.correlation_id().clone();
    (delivery.exchange.clone(), delivery.routing_key.clone(), id)
}

async fn send_window(channel: &Channel, window: &[Addressed]) -> lapin::Result<Vec<Answer>> {
    let mut sending: Vec<_> =
        window.iter().map(|one| Box::pin(publish_one(channel, one))).collect();
    let begun = begin(&mut sending);
    let mut confirms = Vec::with_capacity(window.len());
    for (sending, begun) in sending.into_iter().zip(begun) {
        confirms.push(match begun {
            Some(sent) => sent?,
            None => sending.await?,
        });
    }
    let (mut nacked, mut lost) = (Vec::with_capacity(window.len()), HashSet::new());
    for confirm in confirms {
        let confirmation = confirm.await?;
        nacked.push(confirmation.is_nack());
        lost.extend(confirmation.take_message().as_ref().map(returned));
    }
    let answer = |(one, nacked): (&Addressed, bool)| {
        let id = one.content.properties.correlation_id().clone();
        let key = || (one.exchange.clone(), one.routing_key.clone(), id);
        if nacked {
            Answer::Refused(Arc::from("the queue takes no more messages, or its node is away"))
        } else if !lost.is_empty() && lost.contains(&key()) {
            Answer::Unroutable
        } else {
            Answer::Confirmed
        }
    };
    Ok(window.iter().zip(nacked).map(answer).collect())
}

async fn publish_one(channel: &Channel, one: &Addressed) -> lapin::Result<PublisherConfirm> {
    let Content { properties, body } = &one.content;
    let (exchange, key) = (one.exchange.clone(), one.routing_key.clone());
    channel.basic_publish(exchange, key, MANDATORY, body, properties.clone()).await
}

/// Puts all of these on their way; what those gave that were done at once.
pub(super) fn begin<T, F: Future<Output = T>>(all: &mut [Pin<Box<F>>]) -> Vec<Option<T>> {
    let mut cx = Context::from_waker(Waker::noop());
    let look = |one: &mut Pin<Box<F>>| match one.as_mut().poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    };
    all.iter_mut().map(look).collect()
}
