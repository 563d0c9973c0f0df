//! What comes by PUB/SUB into the queues of this worker that are bound to fanout exchanges.
//!
//! A task to a fanout exchange is published on a channel and stored nowhere, because kombu does it
//! so. Whoever consumes a queue that is bound there listens, and puts what it hears into that queue,
//! where it is claimed, acknowledged and recovered like any other message. Several workers that
//! consume one queue hear the same; the first one's copy counts.
//!
//! What is published while nobody listens is lost, which its publisher is told; so is what comes while
//! the connection is broken.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use redis::{PushInfo, PushKind, Value, pipe};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::AbortHandle,
};

use super::session::Session;
use crate::{
    broker::{
        QueueDeclaration, Subscription,
        broadcast::ExchangeType,
        redis::{RedisBroker, bindings, scripts::FANOUT},
    },
    error::Result,
    redis_connection::{Multiplexed, Server, glob},
};

/// A connection on which nothing moves for longer while a reply is awaited is dead.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a connection on which nothing comes is asked for a sign of life.
const PING: Duration = Duration::from_secs(15);
/// Messages that are put into queues at once.
const MANY: usize = 500;
/// For how long the copies of one message are told from another: seconds.
const SEEN: u64 = 60;
/// A queue of one worker's that was killed goes after so long: seconds.
const LEFT_BEHIND: u64 = 3_600;

/// A queue that hears an exchange.
struct Heard {
    /// What its channels begin with, or are.
    channel: String,
    list: String,
    /// What the notes begin with that say which messages were heard.
    seen: String,
    auto_delete: bool,
}

/// Declares the queues of a subscription and listens for them. Who listens does so until this is
/// aborted; `None` when no queue is bound to a fanout exchange.
pub(super) async fn listen(
    broker: &RedisBroker,
    subscription: &Subscription,
    session: &Arc<Session>,
) -> Result<Option<AbortHandle>> {
    broker.known.add(subscription.declarations.iter());
    let queues: Vec<Arc<QueueDeclaration>> = declared(subscription).cloned().collect();
    let mut declare = pipe();
    for queue in queues.iter().filter(|queue| !queue.no_declare) {
        bindings::declare(&broker.keys, queue, &mut declare);
    }
    if !declare.is_empty() {
        session.run("declare queues", declare).await?;
    }
    let heard: Vec<Heard> = queues.iter().flat_map(|queue| heard(broker, queue)).collect();
    if heard.is_empty() {
        return Ok(None);
    }
    let server = Arc::clone(&broker.server);
    let connected = subscribe(&server, &heard).await?;
    let listener = Listener { server, session: Arc::clone(session), heard };
    Ok(Some(tokio::spawn(listener.run(connected)).abort_handle()))
}

/// What takes back the declarations of queues that go with their worker.
pub(super) fn forget(session: &Session, queues: &[Arc<QueueDeclaration>]) -> redis::Pipeline {
    let mut commands = pipe();
    for queue in queues.iter().filter(|queue| queue.auto_delete) {
        bindings::undeclare(&session.keys, queue, &mut commands);
        for lane in session.keys.lanes(&queue.name) {
            commands.cmd("DEL").arg(&lane.list).arg(lane.redelivered()).arg(lane.overdue());
        }
        commands.cmd("SREM").arg(session.keys.queues()).arg(&*queue.name);
    }
    commands
}

/// The queues that are consumed and declared.
pub(super) fn declared(
    subscription: &Subscription,
) -> impl Iterator<Item = &Arc<QueueDeclaration>> {
    subscription.declarations.iter().filter(|queue| subscription.queues.contains(&queue.name))
}

fn heard<'a>(
    broker: &'a RedisBroker,
    queue: &'a QueueDeclaration,
) -> impl Iterator<Item = Heard> + 'a {
    let fanouts = queue.bindings.iter().filter(|b| b.exchange.kind == ExchangeType::Fanout);
    fanouts.map(|binding| Heard {
        channel: broker.exchanges.channel(&binding.exchange.name, ""),
        list: broker.keys.list(&queue.name, 0),
        seen: broker.keys.heard(&queue.name),
        auto_delete: queue.auto_delete,
    })
}

type Connected = (Multiplexed, UnboundedReceiver<PushInfo>);

async fn subscribe(server: &Server, heard: &[Heard]) -> Result<Connected> {
    let (sender, pushes) = unbounded_channel();
    let mut con = server.pushing(sender, PATIENCE).await?;
    let mut channels: Vec<&str> = heard.iter().map(|heard| &*heard.channel).collect();
    channels.sort_unstable();
    channels.dedup();
    // A message with a routing key is published on a channel of that.
    let patterns: Vec<String> =
        channels.iter().map(|channel| glob(&format!("{channel}/"))).collect();
    let subscribed = async {
        con.subscribe(&channels).await?;
        con.psubscribe(&patterns).await
    };
    subscribed.await.map_err(|e| server.error("subscribe", e))?;
    Ok((con, pushes))
}

struct Listener {
    server: Arc<Server>,
    session: Arc<Session>,
    heard: Vec<Heard>,
}

impl Listener {
    async fn run(self, connected: Connected) {
        let mut connected = Some(connected);
        loop {
            if let Some((con, pushes)) = connected.take() {
                self.serve(con, pushes).await;
            }
            tracing::warn!("what is published to all workers is not heard: connecting again");
            connected = subscribe(&self.server, &self.heard).await.ok();
            if connected.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Until the connection breaks.
    async fn serve(&self, mut con: Multiplexed, mut pushes: UnboundedReceiver<PushInfo>) {
        loop {
            let mut some = Vec::new();
            tokio::select! {
                count = pushes.recv_many(&mut some, MANY) => {
                    let ended = |push: &PushInfo| push.kind == PushKind::Disconnection;
                    if count == 0 || some.iter().any(ended) || self.put(some).await.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(PING) => {
                    let ping = redis::cmd("PING");
                    let alive = tokio::time::timeout(PATIENCE, ping.exec_async(&mut con)).await;
                    if !matches!(alive, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }

    /// Puts what was heard into the queues that hear it.
    async fn put(&self, pushes: Vec<PushInfo>) -> Result<()> {
        let mut commands = pipe();
        for push in pushes {
            let data: Vec<Value> = match push.kind {
                PushKind::Message => push.data,
                PushKind::PMessage => push.data.into_iter().skip(1).collect(),
                _ => continue,
            };
            let [Value::BulkString(channel), Value::BulkString(message)] = &data[..] else {
                continue;
            };
            for heard in self.heard.iter().filter(|heard| heard.hears(channel)) {
                let seen = format!("{}{:016x}", heard.seen, fingerprint(message));
                let mut call = FANOUT.call(&[&heard.list, &seen]);
                call.arg(message).arg(SEEN);
                call.arg(if heard.auto_delete { LEFT_BEHIND } else { 0 });
                commands.add_command(call);
            }
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.session.run("take what is published to all workers", commands).await.map(drop)
    }
}

impl Heard {
    fn hears(&self, channel: &[u8]) -> bool {
        let rest = channel.strip_prefix(self.channel.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

/// A number by which messages are told apart; the same in every worker of a version.
fn fingerprint(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new(); // its keys are constant
    hasher.write(message);
    hasher.finish()
}
