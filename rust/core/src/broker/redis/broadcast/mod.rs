//! Saying something to all over Redis, as kombu does: what is said on a fanout or topic exchange
//! goes by PUB/SUB ([`channels`]), what is said on a direct one by lists ([`replies`]).
//!
//! Nothing is opened for those who only speak beyond the connections that publish tasks. Who hears
//! has one connection for all channels of the process, and one for replies while it waits for some.

mod channels;
mod envelope;
mod names;
mod replies;

use std::{collections::HashSet, sync::Arc, time::Instant};

use redis::Pipeline;

use self::{
    channels::{Channels, Listening},
    envelope::Tags,
    names::Names,
    replies::{Bound, Replies},
};
use crate::{
    broker::{
        broadcast::{Binding, BroadcastMessage, Exchange, ExchangeType, Heard, Subscriber},
        inbox::Inbox,
    },
    error::Result,
    future::BoxFuture,
    redis_connection::{Lease, Pool, Server},
};

/// Messages per pipeline.
const PIECE: usize = 500;
/// Bytes per pipeline, unless one message has more.
const PIECE_BYTES: usize = 1 << 20;
/// A batch of so many bytes is worth the question who listens: what nobody does is not encoded.
const ASK: usize = 8 << 10;

/// The broadcast port of one broker.
pub(super) struct Exchanges {
    prefix: String,
    names: Names,
    channels: Arc<Channels>,
    replies: Arc<Replies>,
}

/// One who hears, until it is dropped.
struct RedisSubscriber {
    inbox: Arc<Inbox>,
    _listening: Option<Listening>,
    _bound: Option<Bound>,
}

impl Subscriber for RedisSubscriber {
    fn receive(&self) -> BoxFuture<'_, Result<Heard>> {
        self.inbox.receive()
    }
}

impl Exchanges {
    pub(super) fn new(server: &Arc<Server>, prefix: &str, db: i64) -> Self {
        let names = Names::new(prefix, db);
        Self {
            prefix: prefix.to_owned(),
            names: names.clone(),
            channels: Arc::new(Channels::new(Arc::clone(server), names)),
            replies: Arc::new(Replies::new(Arc::clone(server), prefix)),
        }
    }

    /// The channel of a fanout exchange for messages of a routing key, which may be empty.
    pub(super) fn channel(&self, exchange: &str, routing_key: &str) -> String {
        self.names.keyed(exchange, routing_key)
    }

    /// Says each message, in order within its exchange.
    pub(super) fn say(
        &self,
        pool: &Pool,
        batch: &[BroadcastMessage],
        deadline: Instant,
    ) -> Result<()> {
        let (direct, published): (Vec<_>, Vec<_>) =
            batch.iter().partition(|message| message.exchange.kind == ExchangeType::Direct);
        if batch.is_empty() {
            return Ok(());
        }
        pool.run("say something to all", deadline, |lease| {
            self.publish(lease, &published)?;
            let mut tags = Tags::new();
            let mut tag = || tags.next().unwrap_or_default();
            direct.chunks(PIECE).try_for_each(|piece| {
                let encoded = |message: &&_| envelope::encode(message, &tag());
                let encoded: Vec<_> = piece.iter().map(encoded).collect();
                replies::push(lease, &self.prefix, piece, &encoded)
            })
        })
    }

    fn publish(&self, lease: &mut Lease, batch: &[&BroadcastMessage]) -> redis::RedisResult<()> {
        let bytes: usize = batch.iter().map(|message| message.body.len()).sum();
        let unheard = if bytes >= ASK { self.unheard(lease, batch)? } else { HashSet::new() };
        let (mut piece, mut bytes) = (Pipeline::new(), 0);
        for (message, tag) in batch.iter().zip(Tags::new()) {
            let channel = self.names.channel(&message.exchange, &message.routing_key);
            if unheard.contains(&channel) {
                continue;
            }
            let envelope = envelope::encode(message, &tag);
            bytes += envelope.len();
            piece.cmd("PUBLISH").arg(channel).arg(envelope);
            if piece.len() >= PIECE || bytes >= PIECE_BYTES {
                lease.pipeline(&piece)?;
                (piece, bytes) = (Pipeline::new(), 0);
            }
        }
        lease.pipeline(&piece).map(drop)
    }

    /// The channels of a batch on which nobody listens.
    fn unheard(
        &self,
        lease: &mut Lease,
        batch: &[&BroadcastMessage],
    ) -> redis::RedisResult<HashSet<String>> {
        let channel = |message: &&BroadcastMessage| {
            self.names.channel(&message.exchange, &message.routing_key)
        };
        silent(lease, &batch.iter().map(channel).collect())
    }

    /// Whether anybody may hear what is said there under this key.
    pub(super) fn is_heard(
        &self,
        pool: &Pool,
        (exchange, routing_key): (&Exchange, &str),
        deadline: Instant,
    ) -> Result<bool> {
        let channel = self.names.channel(exchange, routing_key);
        let silent = pool.repeat("ask who listens", deadline, |lease| {
            silent(lease, &HashSet::from([channel.clone()]))
        })?;
        Ok(silent.is_empty())
    }

    pub(super) async fn subscribe(&self, bindings: Vec<Binding>) -> Result<Arc<dyn Subscriber>> {
        let inbox = Arc::new(Inbox::new(bindings));
        let bound = Arc::clone(&self.replies).bind(&inbox).await?;
        let listening = Arc::clone(&self.channels).listen(&inbox).await?;
        Ok(Arc::new(RedisSubscriber { inbox, _listening: listening, _bound: bound }))
    }
}

/// Those of these channels on which nobody listens. Who listens by a pattern may listen on all.
fn silent(lease: &mut Lease, channels: &HashSet<String>) -> redis::RedisResult<HashSet<String>> {
    let mut ask = Pipeline::new();
    ask.cmd("PUBSUB").arg("NUMPAT");
    let count = ask.cmd("PUBSUB").arg("NUMSUB");
    for channel in channels {
        count.arg(channel);
    }
    let mut replies = lease.pipeline(&ask)?.into_iter();
    let patterns: Option<u64> = replies.next().and_then(|n| redis::from_redis_value(n).ok());
    let counts: Vec<(String, u64)> =
        replies.next().and_then(|n| redis::from_redis_value(n).ok()).unwrap_or_default();
    let silent = counts.into_iter().filter(|(_, listeners)| *listeners == 0);
    Ok(if patterns == Some(0) {
        silent.map(|(channel, _)| channel).collect()
    } else {
        HashSet::new()
    })
}
