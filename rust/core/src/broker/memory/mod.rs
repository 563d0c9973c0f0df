//! The broker inside one process: the whole contract, nothing on disk. Shipped for tests, the
//! user's and ours.
//!
//! Handles with the same URL (`memory://`, `memory://name`) share one store for the life of the
//! process, so that an app and a worker in threads of one test meet. Give each test a name of its
//! own to keep them apart.
//!
//! State is one struct behind one mutex ([`state`]), which decides everything and never waits; this
//! file adds the ports, the clock and the waking. One mutex is slower than a queue per lock under
//! contention, and that is the trade: a fake must be obviously right.

mod bindings;
mod broadcast;
mod schedule;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use self::{
    broadcast::{Remembered, Subscribers},
    state::State,
};
use super::{
    Admin, Answer, Broadcast, Broker, Capability, Consumer, DeadLetter, Delivery, HORIZON_MS,
    Outgoing, QueueStats, Recovered, Schedule, Settlement, Subscription, Tag, Want,
    broadcast::{Binding, BroadcastMessage, Exchange, Subscriber},
    encoded,
    order::Turns,
    routed::{self, Known, Routed, RoutedFirings},
    schedule::{Definition, Entries, Firing, Guard, Leader},
};
use crate::{
    clock::{self, Millis},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// What all handles of one URL share.
struct Store {
    /// Every section is short and free of awaits.
    state: Mutex<State>,
    /// Rung after every change that may give a fetch something; reaches waiters of any thread and
    /// runtime.
    changed: Notify,
    /// Who hears what is said to all.
    subscribers: Subscribers,
    /// What is revoked, and until when.
    revoked: Mutex<Remembered>,
    /// Where its time comes from.
    clock: fn() -> Millis,
}

impl Store {
    fn now(&self) -> Millis {
        (self.clock)()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store called `name`, made on first use.
fn store(name: &str, clock: fn() -> Millis) -> Arc<Store> {
    static STORES: OnceLock<Mutex<HashMap<String, Arc<Store>>>> = OnceLock::new();
    let mut stores =
        STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    stores
        .entry(name.to_owned())
        .or_insert_with(|| {
            Arc::new(Store {
                state: Mutex::default(),
                changed: Notify::new(),
                subscribers: Subscribers::default(),
                revoked: Mutex::default(),
                clock,
            })
        })
        .clone()
}

/// The in-process broker.
pub struct MemoryBroker {
    url: String,
    store: Arc<Store>,
    /// How the exchanges route that tasks are published to. Written by `consume`.
    known: Known,
}

impl MemoryBroker {
    /// A handle on the store called `name`; `url` is what is shown.
    pub fn new(url: &str, name: &str) -> Self {
        Self { url: url.to_owned(), store: store(name, clock::wall_ms), known: Known::default() }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.store.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a test whose time is not the machine's.
    #[cfg(test)]
    pub(crate) fn timed(url: &str, name: &str, clock: fn() -> Millis) -> Self {
        Self { url: url.to_owned(), store: store(name, clock), known: Known::default() }
    }
}

#[cfg(test)]
impl MemoryBroker {
    /// Puts any bytes into a queue, due at once.
    pub(crate) fn put_raw(&self, queue: &str, id: &str, data: bytes::Bytes) {
        let encoded =
            encoded::Encoded { queue: queue.into(), priority: 0, due: None, id: id.into(), data };
        self.store.lock().publish(encoded, self.store.now());
        self.store.changed.notify_waiters();
    }

    /// Ends every lease, as time does when all workers are lost at once.
    pub(crate) fn lapse(&self) {
        self.store.lock().lapse();
        self.store.changed.notify_waiters();
    }
}

impl MemoryBroker {
    /// Binds the queues that the messages of a batch know.
    fn declare<'a>(&self, state: &mut State, batch: impl Iterator<Item = &'a Outgoing>) {
        for queue in self.known.declares(batch) {
            state.bindings.add(&queue, None);
        }
    }

    /// Publishes messages that have their queues.
    fn publish_to_queues(&self, batch: &[Outgoing]) -> Vec<Answer> {
        let now = self.store.now();
        let encoded = encoded::encode(batch);
        let mut state = self.store.lock();
        for message in encoded {
            state.publish(message, now);
        }
        drop(state);
        self.store.changed.notify_waiters();
        vec![Answer::Confirmed; batch.len()]
    }
}

impl Broker for MemoryBroker {
    fn publish(&self, batch: &[Outgoing], _deadline: Instant) -> Result<Vec<Answer>> {
        if !routed::is_needed(batch) {
            return Ok(self.publish_to_queues(batch));
        }
        let mut state = self.store.lock();
        self.declare(&mut state, batch.iter());
        let routed =
            Routed::new(batch, |message| Ok::<_, Error>(state.bindings.receivers(message)))?;
        drop(state);
        let copies = self.publish_to_queues(&routed.messages);
        Ok(routed.answers(copies))
    }

    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        Box::pin(async move {
            let (holder, epoch) = self.store.lock().register(
                &subscription.epoch,
                &subscription.queues,
                self.store.now(),
            );
            self.store.lock().bindings.consume(&subscription, holder);
            self.known.add(subscription.declarations.iter());
            let turns = Turns::new(subscription.order, subscription.queues.len());
            let turns = Mutex::new(turns);
            let consumer =
                MemoryConsumer { store: self.store.clone(), turns, subscription, holder, epoch };
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

impl Admin for MemoryBroker {
    fn stats(&self, queue: &str) -> Result<QueueStats> {
        Ok(self.store.lock().stats(queue))
    }

    fn queues(&self) -> Result<Vec<String>> {
        Ok(self.store.lock().queues())
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        Ok(self.store.lock().purge(queue))
    }

    fn cancel(&self, queue: &str, id: &str) -> Result<bool> {
        let cancelled = self.store.lock().cancel(queue, id);
        self.store.changed.notify_waiters();
        Ok(cancelled)
    }

    fn dead(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>> {
        let dead = self.store.lock().dead(queue, limit);
        Ok(dead.into_iter().map(DeadLetter::decoded).collect())
    }

    fn replay(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        let count = self.store.lock().replay(queue, keys);
        self.store.changed.notify_waiters();
        Ok(count)
    }

    fn discard(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        Ok(self.store.lock().discard(queue, keys))
    }
}

impl Broadcast for MemoryBroker {
    fn broadcast(&self, batch: &[BroadcastMessage], _deadline: Instant) -> Result<()> {
        self.store.subscribers.tell(batch);
        Ok(())
    }

    fn is_heard(&self, exchange: &Exchange, routing_key: &str, _: Instant) -> Result<bool> {
        Ok(self.store.subscribers.are_there(exchange, routing_key))
    }

    fn subscribe(&self, bindings: Vec<Binding>) -> BoxFuture<'_, Result<Arc<dyn Subscriber>>> {
        Box::pin(async { Ok(self.store.subscribers.add(bindings)) })
    }

    fn revoke(&self, ids: &[Arc<str>], until: Millis, _deadline: Instant) -> Result<()> {
        self.remembered().add(ids, until, self.store.now());
        Ok(())
    }

    fn revoked(&self, _deadline: Instant) -> Result<Vec<Arc<str>>> {
        Ok(self.remembered().ids(self.store.now()))
    }
}

impl Schedule for MemoryBroker {
    fn lead(&self, schedule: &str, beat: &str, lease: Millis) -> Result<Leader> {
        let now = self.store.now();
        Ok(self.store.lock().schedules.lead(schedule, beat, now + lease, now))
    }

    fn resign(&self, schedule: &str, beat: &str) -> Result<()> {
        self.store.lock().schedules.resign(schedule, beat);
        Ok(())
    }

    fn entries(&self, schedule: &str) -> Result<Entries> {
        Ok(self.store.lock().schedules.entries(schedule))
    }

    fn put(&self, schedule: &str, definitions: &[Definition], guard: &Guard) -> Result<bool> {
        let now = self.store.now();
        Ok(self.store.lock().schedules.put(schedule, definitions, guard, now))
    }

    fn remove(&self, schedule: &str, names: &[String], guard: &Guard) -> Result<Option<u64>> {
        let now = self.store.now();
        Ok(self.store.lock().schedules.remove(schedule, names, guard, now))
    }

    fn pause(&self, schedule: &str, name: &str, paused: bool) -> Result<bool> {
        Ok(self.store.lock().schedules.pause(schedule, name, paused))
    }

    fn fire(&self, schedule: &str, firings: &[Firing], _deadline: Instant) -> Result<Vec<bool>> {
        let now = self.store.now();
        let mut state = self.store.lock();
        self.declare(&mut state, firings.iter().filter_map(|one| one.message.as_ref()));
        let routed = RoutedFirings::new(firings, |message| Some(state.bindings.receivers(message)));
        let fire = |one: &Firing| {
            let step = (one.name.as_str(), one.from, one.to);
            state.fire(schedule, step, one.message.as_ref().map(Outgoing::encoded), now)
        };
        let done: Vec<bool> = routed.firings.iter().map(fire).collect();
        drop(state);
        let (done, rest) = routed.done(&done);
        self.publish_to_queues(&rest);
        Ok(done)
    }
}

struct MemoryConsumer {
    store: Arc<Store>,
    subscription: Subscription,
    /// Behind a std mutex because a section is one claim, which awaits nothing.
    turns: Mutex<Turns>,
    /// Number of the epoch in the store.
    holder: u64,
    /// Its name there.
    epoch: String,
}

impl MemoryConsumer {
    fn fenced(&self) -> Error {
        let epoch = &self.epoch;
        Error::new(
            ErrorKind::Fenced,
            format!(
                "the lease of epoch `{epoch}` has lapsed, expected a fresh epoch: consume again"
            ),
        )
    }
}

impl Consumer for MemoryConsumer {
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                // Armed before the state is looked at, so that no change falls between the look and
                // the wait.
                let changed = self.store.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let now = self.store.now();
                let next_due = {
                    let mut state = self.store.lock();
                    let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                    let queues = (&*self.subscription.queues, &mut *turns);
                    let got =
                        state.claim(self.holder, queues, want, now).ok_or_else(|| self.fenced())?;
                    if !got.is_empty() {
                        return Ok(got);
                    }
                    let ahead = if want.due > 0 { HORIZON_MS } else { 0 };
                    state.next_due(&self.subscription.queues).map(|due| due - ahead)
                };
                match next_due {
                    None => changed.await,
                    Some(due) => {
                        let rest = Duration::from_millis((due - now).max(1) as u64);
                        let _ = tokio::time::timeout(rest, changed).await;
                    }
                }
            }
        })
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let now = self.store.now();
            let mut state = self.store.lock();
            for settlement in batch {
                state.settle(self.holder, settlement, self.subscription.max_deliveries, now);
            }
            drop(state);
            self.store.changed.notify_waiters();
            Ok(())
        })
    }

    fn begin(&self, tags: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.store.lock().begin(self.holder, &tags);
            Ok(())
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.store.lock().renew(self.holder, self.store.now()) {
                Ok(())
            } else {
                Err(self.fenced())
            }
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(async move {
            let recovered = self.store.lock().recover(self.holder, self.store.now());
            self.store.changed.notify_waiters();
            Ok(recovered)
        })
    }

    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(self.store.lock().standing(self.store.now())) })
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.store.lock().release(self.holder);
            self.store.changed.notify_waiters();
            Ok(())
        })
    }

    fn epoch(&self) -> &str {
        &self.epoch
    }
}
