//! A worker's side of the file: it looks, claims, or waits for the bell.
//!
//! What a claim took goes into the epoch's inbox, not to the future that asked for it, so a fetch that was dropped meanwhile
//! loses nothing: the next one finds it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    claim::{self, Claim, Claimed},
    epoch::Epoch,
    lease, settle,
};
use crate::{
    broker::{BoxFuture, Consumer, Delivery, HORIZON_MS, Recovered, Settlement, Subscription},
    clock,
    error::{Error, ErrorKind, Result},
    sqlite_store::{Cost, Database, PATIENCE, SAFETY, Tx, Work},
};

/// A registered worker process start.
pub(super) struct SqliteConsumer {
    database: Arc<Database>,
    queues: Arc<[Arc<str>]>,
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
        let released = AtomicBool::new(false);
        Ok(Self { database, queues, max_deliveries, epoch, durable, released })
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
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.database.write_async(Work::new(cost, clock::instant() + PATIENCE, work)).await
    }

    /// One attempt; what it took is in the inbox afterwards.
    async fn claim(&self, want: usize, want_due: usize) -> Result<Claimed> {
        let asked = Claim {
            holder: self.epoch.holder,
            number: self.epoch.next_claim(),
            queues: self.queues.clone(),
            want,
            want_due,
        };
        let peeked = asked.clone();
        let epoch = self.epoch.clone();
        // Not synced: losing the knowledge that this process holds something takes losing the process.
        let work =
            Work::new(cost(want + want_due, false), clock::instant() + PATIENCE, move |tx| {
                claim::claim(tx, &asked)
            })
            .unless(move |connection| claim::peek(connection, &peeked, clock::wall_ms()))
            .map(move |claimed| match claimed {
                Claimed::Some(deliveries) => {
                    epoch.inbox().extend(deliveries);
                    Claimed::Some(Vec::new())
                }
                other => other,
            });
        self.database.write_async(work).await
    }

    fn take(&self, limit: usize) -> Vec<Delivery> {
        let mut inbox = self.epoch.inbox();
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
            let (holder, max_deliveries) = (self.epoch.holder, self.max_deliveries);
            self.write(cost(batch.len(), self.durable), move |tx| {
                settle::settle(tx, holder, &batch, max_deliveries)
            })
            .await
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
            let work = Work::new(cost(1_000, false), clock::instant() + PATIENCE, move |tx| {
                let dead = lease::lapsed(tx.connection(), judge, mine, tx.now)?;
                lease::recover(tx, &dead)
            })
            .unless(move |connection| {
                let dead = lease::lapsed(connection, judge, mine, clock::wall_ms())?;
                Ok(dead.is_empty().then(Recovered::default))
            });
            self.database.write_async(work).await
        })
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
