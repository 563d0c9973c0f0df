//! The embedded broker: queues in a database file, for several processes on one machine, with no
//! server.
//!
//! The default when nothing is configured. A publish is confirmed when it is on the disk
//! (`durability=full`) or when it survives the death of any process (`normal`). Everything that
//! changes goes through the process's group commits (`sqlite_store`), so a batch costs one fsync,
//! and producers of one process share it. A claim is not synced: what the loss of power can take of
//! it is the knowledge of who held a message, and the holder is gone too.
//!
//! Files in the order of the path: [`publish`], [`claim`], [`settle`], [`lease`]; [`operate`] for
//! the operator, [`schedule`] for periodic tasks; [`consumer`] ties claim, settle and lease together, [`epoch`] is what outlives it;
//! [`key`] is the integer by which a message stands in its queue. A trade-off: all writers of a
//! machine take turns, so this scales with batches, not with processes.

mod bindings;
mod broadcast;
mod revoked;
mod claim;
mod consumer;
mod epoch;
pub(crate) mod key;
mod lease;
mod operate;
mod publish;
mod schedule;
mod settle;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use self::{broadcast::SqliteSubscriber, consumer::SqliteConsumer, epoch::Epoch};
use super::{
    Admin, Answer, Broadcast, Broker, Capability, Consumer, DeadLetter, Outgoing, QueueStats,
    Schedule, Subscription,
    broadcast::{Binding, BroadcastMessage, Exchange, ExchangeType, Subscriber},
    encoded,
    routed::{self, Known, Routed, RoutedFirings},
    schedule::{Definition, Entries, Firing, Guard, Leader},
};
use crate::{
    clock::{self, Millis},
    error::Result,
    future::BoxFuture,
    sqlite_store::{Cost, Handle, Location, TIMEOUT, Tx},
};

/// The broker in a database file.
pub struct SqliteBroker {
    url: String,
    handle: Handle,
    /// How the exchanges route that tasks are published to. Written by `consume`.
    known: Known,
    /// The epochs under which this process consumed, by the worker's name for them. Behind a std
    /// mutex because a section is one look or insertion.
    epochs: Mutex<HashMap<String, Arc<Epoch>>>,
}

impl SqliteBroker {
    /// A handle on the file at `path`; `durability` is `full` (default) or `normal`. Opens nothing
    /// yet.
    pub fn new(url: &str, path: &Path, durability: Option<&str>) -> Result<Self> {
        let handle = Handle::new(&Location::new(path, durability)?);
        Ok(Self { url: url.to_owned(), handle, known: Known::default(), epochs: Mutex::default() })
    }

    /// A change that the operator asked for.
    fn change<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let cost = Cost { durable: self.handle.durable(), rows: 1_000, ..Cost::default() };
        self.handle.database().write(cost, clock::instant() + TIMEOUT, work)
    }
}

impl SqliteBroker {
    /// Publishes messages that have their queues.
    fn publish_to_queues(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        let messages = encoded::encode(batch);
        if !messages.is_empty() {
            let bytes = messages.iter().map(|message| message.data.len()).sum();
            let (durable, rows) = (self.handle.durable(), messages.len());
            let cost = Cost { durable, publishes: true, rows, bytes };
            let publish = move |tx: &mut Tx<'_>| publish::publish(tx, &messages);
            self.handle.database().write(cost, deadline, publish)?;
        }
        Ok(vec![Answer::Confirmed; batch.len()])
    }

    /// Declares the queues that the messages of a batch know, as far as the file does not.
    fn declare(&self, batch: &[Outgoing], deadline: Instant) -> Result<()> {
        let declares = self.known.declares(batch.iter());
        let new =
            self.handle.database().read(|connection| bindings::unknown(connection, &declares))?;
        if new.is_empty() {
            return Ok(());
        }
        let cost = Cost { durable: self.handle.durable(), rows: new.len(), ..Cost::default() };
        let declare = move |tx: &mut Tx<'_>| bindings::declare(tx, &new, None);
        self.handle.database().write(cost, deadline, declare)
    }
}

impl Broker for SqliteBroker {
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        if !routed::is_needed(batch) {
            return self.publish_to_queues(batch, deadline);
        }
        self.declare(batch, deadline)?;
        let routed = self.handle.database().read(|connection| {
            Routed::new(batch, |message| bindings::receivers(connection, message))
        })?;
        let copies = self.publish_to_queues(&routed.messages, deadline)?;
        Ok(routed.answers(copies))
    }

    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        self.known.add(subscription.declarations.iter());
        Box::pin(async move {
            let epochs = || self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
            let (database, durable) = (self.handle.database().clone(), self.handle.durable());
            let known = epochs().get(&subscription.epoch).cloned();
            let consumer =
                SqliteConsumer::register(database, &subscription, known, durable).await?;
            epochs().insert(subscription.epoch, consumer.held_by().clone());
            Ok(Arc::new(consumer) as Arc<dyn Consumer>)
        })
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn capabilities(&self) -> &'static [Capability] {
        &Capability::ALL
    }
}

impl Admin for SqliteBroker {
    fn stats(&self, queue: &str) -> Result<QueueStats> {
        self.handle.database().read(|connection| operate::stats(connection, queue))
    }

    fn queues(&self) -> Result<Vec<String>> {
        self.handle.database().read(operate::queues)
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        let queue = queue.to_owned();
        self.change(move |tx| operate::purge(tx, &queue))
    }

    fn cancel(&self, queue: &str, id: &str) -> Result<bool> {
        let (queue, id) = (queue.to_owned(), id.to_owned());
        self.change(move |tx| operate::cancel(tx, &queue, &id))
    }

    fn dead(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>> {
        self.handle.database().read(|connection| operate::dead(connection, queue, limit))
    }

    fn replay(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        let (queue, keys) = (queue.to_owned(), keys.map(<[String]>::to_vec));
        self.change(move |tx| operate::replay(tx, &queue, keys.as_deref()))
    }

    fn discard(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        let (queue, keys) = (queue.to_owned(), keys.map(<[String]>::to_vec));
        self.change(move |tx| operate::discard(tx, &queue, keys.as_deref()))
    }
}

impl Broadcast for SqliteBroker {
    fn broadcast(&self, batch: &[BroadcastMessage], deadline: Instant) -> Result<()> {
        let database = self.handle.database();
        let bindings = database.read(|c| broadcast::bindings(c, clock::wall_ms()))?;
        let wanted = |message: &&BroadcastMessage| bindings.iter().any(|b| b.wants(message));
        let batch: Vec<BroadcastMessage> = batch.iter().filter(wanted).cloned().collect();
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.iter().map(|message| message.body.len()).sum();
        // A disk without room to spare must not keep an operator from asking and telling.
        let publishes = batch.iter().any(|message| message.exchange.kind == ExchangeType::Topic);
        let cost = Cost { durable: false, publishes, rows: batch.len(), bytes };
        database.write(cost, deadline, move |tx| broadcast::say(tx, &batch))
    }

    fn is_heard(&self, exchange: &Exchange, routing_key: &str, _: Instant) -> Result<bool> {
        let bindings = self.handle.database().read(|c| broadcast::bindings(c, clock::wall_ms()))?;
        Ok(bindings.iter().any(|binding| binding.is_for(exchange, routing_key)))
    }

    fn subscribe(&self, bindings: Vec<Binding>) -> BoxFuture<'_, Result<Arc<dyn Subscriber>>> {
        Box::pin(async move {
            let database = self.handle.database().clone();
            let subscriber = SqliteSubscriber::new(database, bindings).await?;
            Ok(Arc::new(subscriber) as Arc<dyn Subscriber>)
        })
    }

    fn revoke(&self, ids: &[Arc<str>], until: clock::Millis, deadline: Instant) -> Result<()> {
        let ids = ids.to_vec();
        let cost = Cost { durable: self.handle.durable(), rows: ids.len(), ..Cost::default() };
        self.handle.database().write(cost, deadline, move |tx| revoked::add(tx, &ids, until))
    }

    fn revoked(&self, _deadline: Instant) -> Result<Vec<Arc<str>>> {
        self.handle.database().read(|connection| revoked::all(connection, clock::wall_ms()))
    }
}

impl Schedule for SqliteBroker {
    fn lead(&self, schedule: &str, beat: &str, lease: Millis) -> Result<Leader> {
        let (schedule, beat) = (schedule.to_owned(), beat.to_owned());
        // A lease that the loss of power takes is of a beat that it has taken too.
        let cost = Cost { rows: 1, ..Cost::default() };
        self.handle.database().write(cost, clock::instant() + TIMEOUT, move |tx| {
            schedule::lead(tx, &schedule, &beat, lease)
        })
    }

    fn resign(&self, schedule: &str, beat: &str) -> Result<()> {
        let (schedule, beat) = (schedule.to_owned(), beat.to_owned());
        self.change(move |tx| schedule::resign(tx, &schedule, &beat))
    }

    fn entries(&self, schedule: &str) -> Result<Entries> {
        self.handle.database().read(|connection| schedule::entries(connection, schedule))
    }

    fn put(&self, schedule: &str, definitions: &[Definition], guard: &Guard) -> Result<bool> {
        let (schedule, definitions, guard) =
            (schedule.to_owned(), definitions.to_vec(), guard.clone());
        self.change(move |tx| schedule::put(tx, &schedule, &definitions, &guard))
    }

    fn remove(&self, schedule: &str, names: &[String], guard: &Guard) -> Result<Option<u64>> {
        let (schedule, names, guard) = (schedule.to_owned(), names.to_vec(), guard.clone());
        self.change(move |tx| schedule::remove(tx, &schedule, &names, &guard))
    }

    fn pause(&self, schedule: &str, name: &str, paused: bool) -> Result<bool> {
        let (schedule, name) = (schedule.to_owned(), name.to_owned());
        self.change(move |tx| schedule::pause(tx, &schedule, &name, paused))
    }

    fn fire(&self, schedule: &str, firings: &[Firing], deadline: Instant) -> Result<Vec<bool>> {
        let sent: Vec<_> = firings.iter().filter_map(|one| one.message.clone()).collect();
        self.declare(&sent, deadline)?;
        let routed = self.handle.database().read(|connection| {
            let queues = |message: &Outgoing| bindings::receivers(connection, message).ok();
            Ok(RoutedFirings::new(firings, |message| Some(queues(message).unwrap_or_default())))
        })?;
        let prepared: Vec<_> = routed.firings.iter().map(schedule::Prepared::new).collect();
        let messages = || prepared.iter().filter_map(|one| one.message.as_ref());
        let cost = Cost {
            durable: self.handle.durable(),
            publishes: messages().next().is_some(),
            rows: 2 * prepared.len(),
            bytes: messages().map(|message| message.data.len()).sum(),
        };
        let schedule = schedule.to_owned();
        let fire = move |tx: &mut Tx<'_>| schedule::fire(tx, &schedule, &prepared);
        let done = self.handle.database().write(cost, deadline, fire)?;
        let (done, rest) = routed.done(&done);
        self.publish_to_queues(&rest, deadline)?;
        Ok(done)
    }
}
