//! What this process knows about an epoch under which it holds messages; it outlives a consumer.
//!
//! A consumer that failed is replaced by another for the same epoch. While the lease stands, tags
//! that were handed out stay good, and what was claimed for a fetch that nobody waited for any more
//! is found in the inbox by the next one.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{
    key::CLAIMS,
    lease::{self, Leased},
};
use crate::{
    broker::{Delivery, epoch},
    clock::Millis,
    error::Result,
    sqlite_store::{Cost, Database, Tx},
};

/// One lease, and what was claimed under it.
pub(super) struct Epoch {
    /// How it is called: as the worker said, with a number behind it when an earlier lease under
    /// that name was lost.
    pub(super) name: String,
    /// How many leases under the worker's name were lost before.
    lost: u32,
    /// Its number in the file.
    pub(super) holder: i64,
    /// Since when the present consumer has held the lease without a gap. Written when it is taken
    /// or renewed, read by the sweep: who was cut off gives the others time to come back.
    mine: AtomicI64,
    /// How many claims were made under it.
    claims: AtomicI64,
    /// Filled by the database's thread, emptied by `fetch`.
    inbox: Mutex<VecDeque<Delivery>>,
}

impl Epoch {
    /// Takes up the lease that this process has under `known`, or takes a fresh one when there is
    /// none or it has lapsed.
    pub(super) async fn resume(
        database: &Database,
        known: Option<Arc<Self>>,
        base: &str,
        queues: &Arc<[Arc<str>]>,
    ) -> Result<Arc<Self>> {
        let lost = match known {
            Some(epoch) => match epoch.renew(database).await? {
                Some(leased) => {
                    epoch.mine.store(leased.now, Ordering::Relaxed);
                    return Ok(epoch);
                }
                None => epoch.lost + 1,
            },
            None => 0,
        };
        let name = epoch::after(base, lost);
        let (called, queues) = (name.clone(), queues.clone());
        let register = move |tx: &mut Tx<'_>| Ok((lease::register(tx, &called, &queues)?, tx.now));
        let (holder, now) = database.write_async(Cost::default(), register).await?;
        let (mine, claims, inbox) = (AtomicI64::new(now), AtomicI64::new(0), Mutex::default());
        Ok(Arc::new(Self { name, lost, holder, mine, claims, inbox }))
    }

    /// Renews the lease; `None` when it was not there any more.
    pub(super) async fn renew(&self, database: &Database) -> Result<Option<Leased>> {
        let holder = self.holder;
        let renew = move |tx: &mut Tx<'_>| lease::renew(tx, holder);
        let leased = database.write_async(Cost::default(), renew).await?;
        if let Some(leased) = leased.filter(|leased| leased.before < leased.now) {
            self.mine.store(leased.now, Ordering::Relaxed);
        }
        Ok(leased)
    }

    pub(super) fn mine(&self) -> Millis {
        self.mine.load(Ordering::Relaxed)
    }

    /// The number of a claim that is about to be made.
    pub(super) fn next_claim(&self) -> i64 {
        self.claims.fetch_add(1, Ordering::Relaxed) % CLAIMS
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
