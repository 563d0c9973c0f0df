//! Saying something to all over Redis, as kombu does: what is said on a fanout or topic exchange
//! goes by PUB/SUB ([`channels`]), what is said on a direct one by lists ([`replies`]).
//!
//! Nothing is opened for those who only speak beyond the connections that publish tasks. Who hears
//! has one connection for all channels of the process, and one for replies while it waits for some.

mod channels;
mod envelope;
mod names;
mod replies;

use std::{sync::Arc, time::Instant};

use redis::Pipeline;

use self::{
    channels::{Channels, Listening},
    envelope::Tags,
    names::Names,
    replies::{Bound, Replies},
};
use crate::{
    broker::{
        broadcast::{Binding, BroadcastMessage, ExchangeType, Heard, Subscriber},
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

    /// Says each message, in order within its exchange.
    pub(super) fn say(
        &self,
        pool: &Pool,
        batch: &[BroadcastMessage],
        deadline: Instant,
    ) -> Result<()> {
        // Encoded before a connection is taken.
        let encoded: Vec<(&BroadcastMessage, Vec<u8>)> = batch
            .iter()
            .zip(Tags::new())
            .map(|(message, tag)| (message, envelope::encode(message, &tag)))
            .collect();
        if encoded.is_empty() {
            return Ok(());
        }
        let (direct, published): (Vec<_>, Vec<_>) = encoded
            .into_iter()
            .partition(|(message, _)| message.exchange.kind == ExchangeType::Direct);
        pool.run("say something to all", deadline, |lease| {
            self.publish(lease, &published)?;
            direct.chunks(PIECE).try_for_each(|piece| replies::push(lease, &self.prefix, piece))
        })
    }

    fn publish(
        &self,
        lease: &mut Lease,
        batch: &[(&BroadcastMessage, Vec<u8>)],
    ) -> redis::RedisResult<()> {
        let (mut piece, mut bytes) = (Pipeline::new(), 0);
        for (message, envelope) in batch {
            piece.cmd("PUBLISH").arg(self.names.channel(message)).arg(envelope);
            bytes += envelope.len();
            if piece.len() >= PIECE || bytes >= PIECE_BYTES {
                lease.pipeline(&piece)?;
                (piece, bytes) = (Pipeline::new(), 0);
            }
        }
        lease.pipeline(&piece).map(drop)
    }

    pub(super) async fn subscribe(&self, bindings: Vec<Binding>) -> Result<Arc<dyn Subscriber>> {
        let inbox = Arc::new(Inbox::new(bindings));
        let bound = Arc::clone(&self.replies).bind(&inbox).await?;
        let listening = Arc::clone(&self.channels).listen(&inbox).await?;
        Ok(Arc::new(RedisSubscriber { inbox, _listening: listening, _bound: bound }))
    }
}
