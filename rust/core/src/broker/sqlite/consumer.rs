//! A worker's side of the file: it claims, or waits until there is something.
//!
//! What a claim took goes into the epoch's inbox, not to the future that asked for it, so a fetch
//! that was dropped meanwhile loses nothing: the next one finds it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    bindings,
    claim::{self, Claim, Claimed, Look},
    epoch::Epoch,
    lease, settle,
};
use crate::{
    broker::{
        Consumer, Delivery, QueueDeclaration, Recovered, Settlement, Subscription, Tag, Want,
        order::Turns,
    },
    clock,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    sqlite_store::{Cost, Database, POLL_INTERVAL, Tx},
};

/// A registered worker process start.
pub(super) struct SqliteConsumer {
    database: Arc<Database>,
    queues: Arc<[Arc<str>]>,
    /// Whose turn it is among them. Behind a std mutex because a section is one copy.
    turns: Arc<Mutex<Turns>>,
    max_deliveries: u32,
    epoch: Arc<Epoch>,
    /// Whether settlements must be on the disk before they are confirmed.
    durable: bool,
    released: AtomicBool,
}

impl SqliteConsumer {
    /// A consumer under the epoch that is `known` from an earlier one, or under a fresh one.
    pub(super) async fn register(
        database: Arc<Database>,
        subscription: &Subscription,
        known: Option<Arc<Epoch>>,
        durable: bool,
    ) -> Result<Self> {
        let queues: Arc<[Arc<str>]> = subscription.queues.clone().into();
        let epoch = Epoch::resume(&database, known, &subscription.epoch, &queues).await?;
        let max_deliveries = subscription.max_deliveries;
        let consumed = |queue: &&Arc<QueueDeclaration>| queues.contains(&queue.name);
        let declared = subscription.declarations.iter().filter(consumed);
        let (own, kept): (Vec<_>, Vec<_>) = declared
            .filter(|queue| !queue.no_declare)
            .cloned()
            .partition(|queue| queue.auto_delete);
        if !own.is_empty() || !kept.is_empty() {
            let holder = epoch.holder;
            let declare = move |tx: &mut Tx<'_>| {
                bindings::declare(tx, &own, Some(holder))?;
                bindings::declare(tx, &kept, None)
            };
            database.write_async(cost(1, false), declare).await?;
        }
        let released = AtomicBool::new(false);
        let turns = Arc::new(Mutex::new(Turns::new(subscription.order, queues.len())));
        Ok(Self { database, queues, turns, max_deliveries, epoch, durable, released })
    }

    /// What it holds by, for the next consumer.
    pub(super) fn held_by(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    fn fenced(&self) -> Error {
        let epoch = &self.epoch.name;
        Error::new(
            ErrorKind::Fenced,
            format!(
                "the lease of epoch `{epoch}` has ended, expected a live one; consume again with a fresh epoch"
            ),
        )
    }

    async fn write<T: Send + 'static>(
        &self,
        cost: Cost,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.database.write_async(cost, run).await
    }

    /// One attempt; whether there was something, which is in the inbox afterwards.
    async fn claim(&self, want: Want) -> Result<bool> {
        let claim = self.asking(want);
        let (epoch, turns) = (self.epoch.clone(), self.turns.clone());
        let into_inbox = move |claimed: Option<Claimed>| {
            claimed.map(|claimed| {
                let some = !claimed.deliveries.is_empty();
                *turns.lock().unwrap_or_else(PoisonError::into_inner) = claimed.turns;
                epoch.inbox().extend(claimed.deliveries);
                some
            })
        };
        // Not synced: losing the knowledge that this process holds something takes losing the
        // process.
        let cost = cost(want.ready + want.due, false);
        let run = move |tx: &mut Tx<'_>| claim::claim(tx, &claim);
        self.database.write_then(cost, run, into_inbox).await?.ok_or_else(|| self.fenced())
    }

    fn asking(&self, want: Want) -> Claim {
        let (holder, number) = (self.epoch.holder, self.epoch.next_claim());
        let turns = *self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Claim { holder, number, queues: self.queues.clone(), turns, want }
    }

    /// Waits until a claim may find something.
    async fn wait(&self, want: Want) -> Result<()> {
        let (claim, notifier) = (self.asking(want), self.database.notifier());
        let mut waiter = None;
        while !self.released.load(Ordering::Acquire) {
            // Armed before the look, so that no commit falls between the look and the wait.
            let change = notifier.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            match self.database.read(|c| claim::look(c, &claim, clock::wall_ms()))? {
                Look::Now => break,
                // Other processes are heard from here on: look once more.
                Look::Later(_) if waiter.is_none() => waiter = Some(notifier.waiter()),
                Look::Later(next) => {
                    let rest =
                        next.map(|at| Duration::from_millis((at - clock::wall_ms()).max(1) as u64));
                    let limit = rest.map_or(POLL_INTERVAL, |rest| rest.min(POLL_INTERVAL));
                    if tokio::time::timeout(limit, change).await.is_err() {
                        notifier.watch();
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, limit: usize) -> Vec<Delivery> {
        let mut inbox = self.epoch.inbox();
        let count = inbox.len().min(limit);
        inbox.drain(..count).collect()
    }

    async fn fetch(&self, want: Want) -> Result<Vec<Delivery>> {
        loop {
            if self.released.load(Ordering::Acquire) {
                return Err(self.fenced());
            }
            let held = self.take(want.ready + want.due);
            if !held.is_empty() {
                return Ok(held);
            }
            if !self.claim(want).await? {
                self.wait(want).await?;
            }
        }
    }
}

fn cost(rows: usize, durable: bool) -> Cost {
    Cost { durable, rows, ..Cost::default() }
}

impl Consumer for SqliteConsumer {
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.fetch(want))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Ok(());
            }
            let (holder, max_deliveries) = (self.epoch.holder, self.max_deliveries);
            self.write(cost(batch.len(), self.durable), move |tx| {
                settle::settle(tx, holder, &batch, max_deliveries)
            })
            .await
        })
    }

    fn begin(&self, tags: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let holder = self.epoch.holder;
            // Not synced, as claims are not: losing it takes losing the machine and not a process.
            self.write(cost(tags.len(), false), move |tx| settle::begin(tx, holder, &tags)).await
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let renewed = self.epoch.renew(&self.database).await?;
            renewed.map(drop).ok_or_else(|| self.fenced())
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(async move {
            let (judge, mine) = (self.epoch.holder, self.epoch.mine());
            let lapsed = |c: &_| lease::lapsed(c, judge, mine, clock::wall_ms());
            if self.database.read(lapsed)?.is_empty() {
                return Ok(Recovered::default());
            }
            self.write(cost(1_000, false), move |tx| {
                let dead = lease::lapsed(tx.connection(), judge, mine, tx.now)?;
                lease::recover(tx, &dead)
            })
            .await
        })
    }

    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { self.database.read(|c: &_| lease::standing(c, clock::wall_ms())) })
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.released.store(true, Ordering::Release);
            let holder = self.epoch.holder;
            self.write(cost(1_000, self.durable), move |tx| lease::release(tx, holder)).await?;
            self.epoch.inbox().clear();
            Ok(())
        })
    }

    fn epoch(&self) -> &str {
        &self.epoch.name
    }
}
