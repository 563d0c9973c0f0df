//! Redis as a broker: Celery's own lists, with taskcore's records beside them.
//!
//! A queue is the list that Celery uses, so both kinds of producers and workers can share it; what
//! makes it safe (who holds what, leases, due set, delivery counts, dead letters) lies beside it
//! under hash-tagged keys, which `keys` lists. Every change of more than one step is one script, so
//! there is no moment at which a message is in no key at all.
//!
//! Producers are blocking and borrow a connection from a pool. A consumer has a few connections,
//! however many queues it serves (`consumer`), and an idle one neither polls nor wakes for others'
//! messages more than it must.
//!
//! Needs Redis 6.2 (`BLMOVE`, `RPOP` with a count).

mod keys;
mod scripts;
mod publish;
mod bindings;
mod consumer;
mod admin;
mod broadcast;
mod schedule;
mod revoked;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Admin, Answer, Broadcast, Broker, Capability, Consumer, DeadLetter, Outgoing, QueueStats,
    Schedule, Subscription,
    broadcast::{Binding, BroadcastMessage, Exchange, Subscriber},
    routed::{self, Known},
    schedule::{Definition, Entries, Firing, Guard, Leader},
};
use crate::{
    clock::{self, Millis},
    error::Result,
    future::BoxFuture,
    redis_connection::{Lease, Pool, Server},
    url::RedisUrl,
};
use broadcast::Exchanges;
use consumer::Ledger;
use keys::Keys;

/// How long the questions of a command line may take; publishing has the deadline of its caller.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What `broker_transport_options` may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisOptions {
    /// Put before every key, as Celery does.
    pub global_keyprefix: String,
}

/// The adapter.
pub struct RedisBroker {
    server: Arc<Server>,
    pool: Pool,
    keys: Keys,
    exchanges: Exchanges,
    /// How the exchanges route that tasks are published to. Written by `publish` and `consume`.
    known: Known,
    /// What this process knows about each epoch it consumed under. Written by `consume`; it
    /// outlives a connection, so that tags given out before a break stay good after it.
    ledgers: Mutex<HashMap<String, Arc<Ledger>>>,
}

impl RedisBroker {
    /// Prepares the adapter; connects on first use.
    ///
    /// # Errors
    /// `Config` when a certificate cannot be read.
    pub fn new(url: &RedisUrl, redacted: &str, options: &RedisOptions) -> Result<Self> {
        let server = Arc::new(Server::new(url, redacted)?);
        Ok(Self {
            pool: Pool::new(Arc::clone(&server)),
            keys: Keys::new(&options.global_keyprefix),
            exchanges: Exchanges::new(&server, &options.global_keyprefix, url.db),
            known: Known::default(),
            ledgers: Mutex::default(),
            server,
        })
    }

    /// The ledger of an epoch.
    fn ledger(&self, epoch: &str) -> Arc<Ledger> {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledgers.entry(epoch.to_owned()).or_insert_with(|| Arc::new(Ledger::new(epoch))))
    }

    fn admin_deadline() -> Instant {
        clock::instant() + ADMIN_TIMEOUT
    }
}

impl Broker for RedisBroker {
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        if routed::is_needed(batch) {
            return self.publish_routed(batch, deadline);
        }
        self.publish_to_queues(batch, deadline)
    }

    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        Box::pin(consumer::consume(self, subscription))
    }

    fn url(&self) -> &str {
        self.server.url()
    }

    fn capabilities(&self) -> &'static [Capability] {
        &Capability::ALL
    }
}

impl RedisBroker {
    /// Publishes messages that have their queues.
    fn publish_to_queues(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        let refused = publish::publish(&self.pool, &self.keys, batch, deadline)?;
        let mut answers = vec![Answer::Confirmed; batch.len()];
        for (messages, error) in refused {
            let why: Arc<str> = self.server.error("publish", error).to_string().into();
            for index in messages {
                answers[index] = Answer::Refused(Arc::clone(&why));
            }
        }
        Ok(answers)
    }
}

impl Admin for RedisBroker {
    fn stats(&self, queue: &str) -> Result<QueueStats> {
        let lanes = self.keys.lanes(queue);
        self.pool.repeat("read the state of a queue", Self::admin_deadline(), |lease| {
            admin::stats(lease, &self.keys, &lanes)
        })
    }

    fn queues(&self) -> Result<Vec<String>> {
        let key = self.keys.queues();
        self.pool
            .repeat("list the queues", Self::admin_deadline(), |lease| admin::queues(lease, &key))
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        let lanes = self.keys.lanes(queue);
        self.pool
            .repeat("purge a queue", Self::admin_deadline(), |lease| admin::purge(lease, &lanes))
    }

    fn cancel(&self, queue: &str, id: &str) -> Result<bool> {
        let lanes = self.keys.lanes(queue);
        self.pool.repeat("cancel a task", Self::admin_deadline(), |lease| {
            admin::cancel(lease, &lanes, id)
        })
    }

    fn dead(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>> {
        let lanes = self.keys.lanes(queue);
        self.pool.repeat("list dead letters", Self::admin_deadline(), |lease| {
            admin::dead(lease, &lanes, limit)
        })
    }

    fn replay(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        let lanes = self.keys.lanes(queue);
        self.pool.repeat("replay dead letters", Self::admin_deadline(), |lease| {
            admin::replay(lease, &lanes, keys)
        })
    }

    fn discard(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        let lanes = self.keys.lanes(queue);
        self.pool.repeat("discard dead letters", Self::admin_deadline(), |lease| {
            admin::discard(lease, &lanes, keys)
        })
    }
}

impl Broadcast for RedisBroker {
    fn broadcast(&self, batch: &[BroadcastMessage], deadline: Instant) -> Result<()> {
        self.exchanges.say(&self.pool, batch, deadline)
    }

    fn is_heard(&self, exchange: &Exchange, routing_key: &str, deadline: Instant) -> Result<bool> {
        self.exchanges.is_heard(&self.pool, (exchange, routing_key), deadline)
    }

    fn subscribe(&self, bindings: Vec<Binding>) -> BoxFuture<'_, Result<Arc<dyn Subscriber>>> {
        Box::pin(self.exchanges.subscribe(bindings))
    }

    fn revoke(&self, ids: &[Arc<str>], until: Millis, deadline: Instant) -> Result<()> {
        let (key, times) = (self.keys.revoked(), (until, clock::wall_ms()));
        let add = |lease: &mut Lease| revoked::add(lease, &key, ids, times);
        self.pool.repeat("remember what is revoked", deadline, add)
    }

    fn revoked(&self, deadline: Instant) -> Result<Vec<Arc<str>>> {
        let (key, now) = (self.keys.revoked(), clock::wall_ms());
        let all = |lease: &mut Lease| revoked::all(lease, &key, now);
        self.pool.repeat("read what is revoked", deadline, all)
    }
}

impl Schedule for RedisBroker {
    fn lead(&self, schedule: &str, beat: &str, lease: Millis) -> Result<Leader> {
        let keys = self.keys.schedule(schedule);
        self.pool.repeat("ask who leads the beats", Self::admin_deadline(), |connection| {
            schedule::lead(connection, &keys, beat, lease)
        })
    }

    fn resign(&self, schedule: &str, beat: &str) -> Result<()> {
        let keys = self.keys.schedule(schedule);
        self.pool.repeat("give up the lead of the beats", Self::admin_deadline(), |connection| {
            schedule::resign(connection, &keys, beat)
        })
    }

    fn entries(&self, schedule: &str) -> Result<Entries> {
        let keys = self.keys.schedule(schedule);
        self.pool.repeat("list periodic tasks", Self::admin_deadline(), |connection| {
            schedule::entries(connection, &keys)
        })
    }

    fn put(&self, schedule: &str, definitions: &[Definition], guard: &Guard) -> Result<bool> {
        let keys = self.keys.schedule(schedule);
        self.pool.repeat("write periodic tasks", Self::admin_deadline(), |connection| {
            schedule::put(connection, &keys, definitions, guard)
        })
    }

    fn remove(&self, schedule: &str, names: &[String], guard: &Guard) -> Result<Option<u64>> {
        let keys = self.keys.schedule(schedule);
        self.pool.repeat("remove periodic tasks", Self::admin_deadline(), |connection| {
            schedule::remove(connection, &keys, names, guard)
        })
    }

    fn pause(&self, schedule: &str, name: &str, paused: bool) -> Result<bool> {
        let keys = self.keys.schedule(schedule);
        self.pool.repeat("pause a periodic task", Self::admin_deadline(), |connection| {
            schedule::pause(connection, &keys, name, paused)
        })
    }

    fn fire(&self, schedule: &str, firings: &[Firing], deadline: Instant) -> Result<Vec<bool>> {
        let keys = self.keys.schedule(schedule);
        let routed = self.route_firings(firings, deadline)?;
        let done = self.pool.run("send periodic tasks", deadline, |connection| {
            schedule::fire(connection, (&self.keys, &keys), &routed.firings)
        })?;
        let (done, rest) = routed.done(&done);
        if !rest.is_empty() {
            self.publish(&rest, deadline)?;
        }
        Ok(done)
    }
}
