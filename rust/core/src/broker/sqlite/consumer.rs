//! A worker's side of the file: it looks, claims, or waits for the bell.
//!
//! What a claim took goes into an inbox, not to the future that asked for it, so a fetch that was dropped meanwhile loses
//! nothing: the next one finds it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    claim::{self, Claim, Claimed},
    lease, settle,
};
use crate::{
    broker::{BoxFuture, Consumer, Delivery, HORIZON_MS, Recovered, Settlement, Subscription},
    clock::{self, Millis},
    database::{Cost, Database, PATIENCE, SAFETY, Tx, Work},
    error::{Error, ErrorKind, Result},
};

/// A registered worker process start.
pub(super) struct SqliteConsumer {
    database: Arc<Database>,
    subscription: Subscription,
    queues: Arc<[Arc<str>]>,
    /// Number of the epoch in the file.
    holder: i64,
    /// Since when it has held its lease.
    since: Millis,
    /// Whether settlements must be on the disk before they are confirmed.
    durable: bool,
    released: AtomicBool,
    /// Filled by the database's thread, emptied by `fetch`.
    inbox: Arc<Mutex<VecDeque<Delivery>>>,
}

fn lock(inbox: &Mutex<VecDeque<Delivery>>) -> MutexGuard<'_, VecDeque<Delivery>> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SqliteConsumer {
    pub(super) async fn register(
        database: Arc<Database>,
        subscription: Subscription,
        durable: bool,
    ) -> Result<Self> {
        let queues: Arc<[Arc<str>]> = subscription.queues.clone().into();
        let (epoch, names) = (subscription.epoch.clone(), queues.clone());
        let work = Work::new(cost(0, false), clock::instant() + PATIENCE, move |tx| {
            Ok((lease::register(tx, &epoch, &names)?, tx.now))
        });
        let (holder, since) = database.write_async(work).await?;
        let (released, inbox) = (AtomicBool::new(false), Arc::default());
        Ok(Self { database, subscription, queues, holder, since, durable, released, inbox })
    }

    fn fenced(&self) -> Error {
        let epoch = &self.subscription.epoch;
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
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.database.write_async(Work::new(cost, clock::instant() + PATIENCE, work)).await
    }

    /// One attempt; what it took is in the inbox afterwards.
    async fn claim(&self, want: usize, want_due: usize) -> Result<Claimed> {
        let asked = Claim { holder: self.holder, queues: self.queues.clone(), want, want_due };
        let peeked = asked.clone();
        let inbox = self.inbox.clone();
        // Not synced: losing the knowledge that this process holds something takes losing the process.
        let work =
            Work::new(cost(want + want_due, false), clock::instant() + PATIENCE, move |tx| {
                claim::claim(tx, &asked)
            })
            .unless(move |connection| claim::peek(connection, &peeked, clock::wall_ms()))
            .map(move |claimed| match claimed {
                Claimed::Some(deliveries) => {
                    lock(&inbox).extend(deliveries);
                    Claimed::Some(Vec::new())
                }
                other => other,
            });
        self.database.write_async(work).await
    }

    fn take(&self, limit: usize) -> Vec<Delivery> {
        let mut inbox = lock(&self.inbox);
        let count = inbox.len().min(limit);
        inbox.drain(..count).collect()
    }

    async fn fetch(&self, want: usize, want_due: usize) -> Result<Vec<Delivery>> {
        let mut listening = None;
        loop {
            if self.released.load(Ordering::Acquire) {
                return Err(self.fenced());
            }
            let held = self.take(want + want_due);
            if !held.is_empty() {
                return Ok(held);
            }
            // Armed before the look, so that no commit falls between the look and the wait.
            let rung = self.database.bell().notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            match self.claim(want, want_due).await? {
                Claimed::Fenced => return Err(self.fenced()),
                Claimed::Some(_) => {}
                // Other processes are heard from the moment of listening: look once more.
                Claimed::Nothing(_) if listening.is_none() => {
                    listening = Some(self.database.bell().listen());
                }
                Claimed::Nothing(next_due) => {
                    let until_due = next_due.map(|due| {
                        Duration::from_millis((due - HORIZON_MS - clock::wall_ms()).max(1) as u64)
                    });
                    let limit = until_due.map_or(SAFETY, |rest| rest.min(SAFETY));
                    if tokio::time::timeout(limit, rung).await.is_err() {
                        self.database.bell().attend();
                    }
                }
            }
        }
    }
}

fn cost(rows: usize, durable: bool) -> Cost {
    Cost { durable, rows, bytes: 0 }
}

impl Consumer for SqliteConsumer {
    fn fetch(&self, want: usize, want_due: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.fetch(want, want_due))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Ok(());
            }
            let (holder, max_deliveries) = (self.holder, self.subscription.max_deliveries);
            self.write(cost(batch.len(), self.durable), move |tx| {
                settle::settle(tx, holder, &batch, max_deliveries)
            })
            .await
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let holder = self.holder;
            if self.write(cost(1, false), move |tx| lease::renew(tx, holder)).await? {
                Ok(())
            } else {
                Err(self.fenced())
            }
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(async move {
            let (mine, max_deliveries) = (self.since, self.subscription.max_deliveries);
            let work = Work::new(cost(1_000, false), clock::instant() + PATIENCE, move |tx| {
                let dead = lease::lapsed(tx.connection(), mine, tx.now)?;
                lease::recover(tx, &dead, max_deliveries)
            })
            .unless(move |connection| {
                let none = lease::lapsed(connection, mine, clock::wall_ms())?.is_empty();
                Ok(none.then(Recovered::default))
            });
            self.database.write_async(work).await
        })
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.released.store(true, Ordering::Release);
            let holder = self.holder;
            self.write(cost(1_000, self.durable), move |tx| lease::release(tx, holder)).await?;
            lock(&self.inbox).clear();
            Ok(())
        })
    }

    fn epoch(&self) -> &str {
        &self.subscription.epoch
    }
}
