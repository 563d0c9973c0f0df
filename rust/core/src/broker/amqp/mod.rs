//! RabbitMQ: Celery's queues and exchanges, messages as AMQP carries them.
//!
//! What other brokers do with leases, this server does with connections: it knows when one has
//! ended, and puts back at once what was delivered over it. So nobody recovers here, and the epoch
//! of a worker is its connection. Delays are kept by the server in queues that let messages expire
//! into the next ([`delay`]); nobody can list or cancel what waits there.
//!
//! Files in the order of the path: [`client`] and [`server`] connect, [`topology`] declares,
//! [`native`] writes and reads messages, [`publish`] confirms them; a worker has a [`session`], its
//! [`consumer`] fetches, [`settle`] decides by [`acks`] what is said; [`dead`] and [`admin`] are for
//! operators.

mod block_on;
mod error;
mod server;
mod client;
mod topology;
mod delay;
mod native;
mod publish;
mod session;
mod consumer;
mod acks;
mod settle;
mod dead;
mod admin;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use self::{
    client::{Client, Link},
    consumer::AmqpConsumer,
    server::Server,
    session::Session,
};
use super::{
    Answer, Broadcast, Broker, Capability, Consumer, Outgoing, Schedule, Subscription, epoch,
};
use crate::{
    error::{Error, ErrorKind, Result},
    fork::PerProcess,
    future::BoxFuture,
    url::AmqpUrl,
};

/// A session that is to go on must answer within this.
const ANSWER: Duration = Duration::from_secs(3);

/// Options of `broker_transport_options` and settings that this adapter knows.
#[derive(Clone, Debug)]
pub struct AmqpOptions {
    /// The type of the queues in which delayed messages wait: `quorum` or `classic`
    /// (`native_delayed_delivery_queue_type` of `broker_transport_options`).
    pub delay_queue_type: String,
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self { delay_queue_type: "quorum".to_owned() }
    }
}

/// The broker on RabbitMQ.
#[derive(Clone)]
pub struct AmqpBroker {
    server: Arc<Server>,
    client: Arc<PerProcess<Client>>,
    delay_kind: Arc<str>,
    workers: Arc<Workers>,
}

/// How many sessions there were under a name, and the one that stands.
type Sessions = HashMap<String, (u32, Option<Arc<Session>>)>;

/// The sessions of this process, by the worker's name for its epoch.
#[derive(Default)]
struct Workers {
    /// Behind a std mutex because a section is one look or insertion.
    sessions: Mutex<Sessions>,
    last: AtomicU32,
}

impl AmqpBroker {
    /// A handle on the first of these servers that answers; connects nothing yet.
    pub fn new(urls: Vec<AmqpUrl>, redacted: &str, options: &AmqpOptions) -> Result<Self> {
        let kind = options.delay_queue_type.as_str();
        if !matches!(kind, "quorum" | "classic") {
            let text = format!(
                "`native_delayed_delivery_queue_type` is `{kind}`, expected `quorum` or `classic`"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        let server = Arc::new(Server::new(urls, redacted)?);
        let (client, workers) = (Arc::default(), Arc::default());
        Ok(Self { server, client, delay_kind: kind.into(), workers })
    }

    fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| Client::new(Arc::clone(&self.server)))
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.workers.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session has ended.
    fn forget(&self, session: &Arc<Session>) {
        for (_, known) in self.sessions().values_mut() {
            if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, session)) {
                *known = None;
            }
        }
    }

    /// The session under this name that goes on, or a new one.
    async fn session(&self, base: &str) -> Result<Arc<Session>> {
        let known = self.sessions().get(base).and_then(|(_, session)| session.clone());
        if let Some(session) = known {
            let standing = tokio::time::timeout(ANSWER, async {
                session.check()?;
                session.answers().await
            });
            if matches!(standing.await, Ok(Ok(()))) {
                return Ok(session);
            }
            session.end("it does not answer".to_owned());
            self.forget(&session);
        }
        let client = self.client()?;
        let connection = self.server.connect(&client.runtime, base).await?;
        let link = Link::new(Arc::clone(&self.server), connection);
        let channels = (link.plain_channel().await?, link.plain_channel().await?);
        let mut sessions = self.sessions();
        let (count, session) = sessions.entry(base.to_owned()).or_default();
        let epoch = epoch::after(base, *count);
        let number = self.workers.last.fetch_add(1, Ordering::Relaxed) + 1;
        *count += 1;
        let made = Session::new(link, channels, number, epoch);
        Ok(Arc::clone(session.insert(Arc::new(made))))
    }

    async fn subscribe_worker(&self, wanted: Subscription) -> Result<Arc<dyn Consumer>> {
        let session = self.session(&wanted.epoch).await?;
        for queue in &wanted.queues {
            topology::declare(&session.link, &wanted.declaration(queue)).await?;
        }
        session.watch(&wanted.queues).await?;
        Ok(Arc::new(AmqpConsumer::new(self.clone(), session, wanted)))
    }
}

impl Broker for AmqpBroker {
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        let client = self.client()?;
        client.run(deadline, publish::publish(client, batch, &self.delay_kind))
    }

    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        Box::pin(self.subscribe_worker(subscription))
    }

    fn url(&self) -> &str {
        &self.server.url
    }

    fn capabilities(&self) -> &'static [Capability] {
        &[
            Capability::Stats,
            Capability::Purge,
            Capability::Dead,
            Capability::Replay,
            Capability::Discard,
        ]
    }
}

impl Broadcast for AmqpBroker {}

impl Schedule for AmqpBroker {}
