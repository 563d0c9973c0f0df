//! Worker epochs in the file: registered, renewed, released, and recovered from when they lapse.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::{bindings, key, publish::make_ready, settle::count};
use crate::{
    broker::{
        Recovered,
        lease::{self, LEASE_MS},
    },
    clock::Millis,
    sqlite_store::Tx,
};

/// Gives the epoch a lease; its number, which no other epoch ever has, in this file or in one that
/// takes its place: a worker that was given another file finds itself without a lease there, and
/// not with a stranger's.
pub(super) fn register(tx: &mut Tx<'_>, epoch: &str, queues: &[Arc<str>]) -> rusqlite::Result<i64> {
    for queue in queues {
        tx.queue(queue)?;
    }
    let until = tx.now + LEASE_MS;
    tx.prepare(
        "INSERT INTO lease (holder, epoch, until) VALUES (random() & 0x3fffffffffffffff, ?1, ?2) RETURNING holder",
    )?
    .query_row((epoch, until), |row| row.get(0))
}

/// A lease that was renewed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leased {
    /// When it would have ended.
    pub(super) before: Millis,
    /// When it was renewed.
    pub(super) now: Millis,
}

/// Renews the lease, if it is still there.
pub(super) fn renew(tx: &mut Tx<'_>, holder: i64) -> rusqlite::Result<Option<Leased>> {
    let now = tx.now;
    let Some(before) = end(tx.connection(), holder)? else { return Ok(None) };
    tx.prepare("UPDATE lease SET until = ?2 WHERE holder = ?1")?
        .execute((holder, now + LEASE_MS))?;
    Ok(Some(Leased { before, now }))
}

fn end(connection: &Connection, holder: i64) -> rusqlite::Result<Option<Millis>> {
    connection
        .prepare_cached("SELECT until FROM lease WHERE holder = ?1")?
        .query_row([holder], |row| row.get(0))
        .optional()
}

/// The epochs whose lease stands.
pub(super) fn standing(connection: &Connection, now: Millis) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached("SELECT epoch FROM lease WHERE until >= ?1")?;
    select.query_map([now], |row| row.get(0))?.collect()
}

/// Puts back, uncounted and in order, what the holder has, and ends its lease.
pub(super) fn release(tx: &mut Tx<'_>, holder: i64) -> rusqlite::Result<()> {
    for (key, _) in take_from(tx, holder)? {
        make_ready(tx, key)?;
    }
    bindings::forget(tx, holder)?;
    tx.prepare("DELETE FROM lease WHERE holder = ?1")?.execute([holder]).map(drop)
}

/// The holders that `judge`, which has held its own lease since `mine`, may declare dead. One that
/// is late itself (the machine slept, or its clock was set) judges nobody before it has renewed.
pub(super) fn lapsed(
    connection: &Connection,
    judge: i64,
    mine: Millis,
    now: Millis,
) -> rusqlite::Result<Vec<i64>> {
    if end(connection, judge)?.is_none_or(|until| until < now) {
        return Ok(Vec::new());
    }
    let mut select = connection
        .prepare_cached("SELECT holder, until FROM lease WHERE until < ?1 ORDER BY holder")?;
    let rows = select.query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut dead = Vec::new();
    for row in rows {
        let (holder, until) = row?;
        if lease::lapsed(until, mine, now) {
            dead.push(holder);
        }
    }
    Ok(dead)
}

/// Puts back, as suspects, what those holders have, counts what had begun, and ends their leases.
pub(super) fn recover(tx: &mut Tx<'_>, dead: &[i64]) -> rusqlite::Result<Recovered> {
    let mut recovered = Recovered::default();
    for &holder in dead {
        for (key, begun) in take_from(tx, holder)? {
            if begun {
                count(tx, key)?;
            }
            tx.prepare("UPDATE message SET suspect = 1 WHERE number = ?1")?
                .execute([key & key::NUMBERS])?;
            make_ready(tx, key)?;
            recovered.requeued += 1;
        }
        bindings::forget(tx, holder)?;
        tx.prepare("DELETE FROM lease WHERE holder = ?1")?.execute([holder])?;
    }
    Ok(recovered)
}

/// Takes everything out of a holder's hands, in order; each key, and whether it had begun. A walk
/// over all that is held: rare, and an index for it would cost every claim.
fn take_from(tx: &Tx<'_>, holder: i64) -> rusqlite::Result<Vec<(i64, bool)>> {
    let keys = tx
        .prepare("SELECT key, begun FROM held WHERE holder = ?1 ORDER BY key")?
        .query_map([holder], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    tx.prepare("DELETE FROM held WHERE holder = ?1")?.execute([holder])?;
    Ok(keys)
}
