//! From ready and due to held by a worker, in one transaction.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

use super::key::{self, Hold};
use crate::{
    broker::{self, HORIZON_MS, Want, order::Turns},
    clock::Millis,
    sqlite_store::Tx,
};

/// Bodies beyond this wait for the next claim, so that many large ones do not meet in memory.
const CLAIM_BYTES: usize = 64 << 20;

/// The statements about one of the two tables of ready messages.
struct Table {
    head: &'static str,
    lane: &'static str,
    hold: &'static str,
    drop: &'static str,
}

macro_rules! table {
    ($name:literal) => {
        Table {
            head: concat!("SELECT key FROM ", $name, " WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT 1"),
            lane: concat!(
                "SELECT r.key, m.redeliveries, m.suspect, m.body FROM ", $name,
                " r JOIN message m ON m.number = r.key & ?3 WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key LIMIT ?4"
            ),
            hold: concat!(
                "INSERT INTO held (key, holder, claim) SELECT key, ?3, ?4 FROM ", $name,
                " WHERE key BETWEEN ?1 AND ?2 ORDER BY key"
            ),
            drop: concat!("DELETE FROM ", $name, " WHERE key BETWEEN ?1 AND ?2"),
        }
    };
}

const READY: Table = table!("ready");
const SUSPECT: Table = table!("suspect");
const FIRST_DUE: &str = "SELECT at FROM due WHERE queue = ?1 ORDER BY at LIMIT 1";

/// Who claims, and how much.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) holder: i64,
    /// Its number among the claims of the holder.
    pub(super) number: i64,
    pub(super) queues: Arc<[Arc<str>]>,
    /// Whose turn it is among the queues.
    pub(super) turns: Turns,
    pub(super) want: Want,
}

/// What a claim took.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) deliveries: Vec<broker::Delivery>,
    /// Whose turn it is next time.
    pub(super) turns: Turns,
}

/// What a look at the queues found.
#[derive(Debug)]
pub(super) enum Look {
    /// A claim will find something, or that its holder has no lease any more.
    Now,
    /// There is nothing; when the next scheduled one may be claimed.
    Later(Option<Millis>),
}

/// Looks, without a transaction, whether there is something to claim.
pub(super) fn look(connection: &Connection, claim: &Claim, now: Millis) -> rusqlite::Result<Look> {
    let leased = connection
        .prepare_cached("SELECT 1 FROM lease WHERE holder = ?1")?
        .exists([claim.holder])?;
    if !leased {
        return Ok(Look::Now);
    }
    let mut next = None;
    let mut find = connection.prepare_cached("SELECT id FROM queue WHERE name = ?1")?;
    for name in claim.queues.iter() {
        let Some(queue) = find.query_row([&**name], |row| row.get(0)).optional()? else { continue };
        if claim.want.ready > 0 && Head::of(connection, queue, claim.want.suspects)?.is_some() {
            return Ok(Look::Now);
        }
        let due: Option<Millis> = connection
            .prepare_cached(FIRST_DUE)?
            .query_row([queue], |row| row.get(0))
            .optional()?;
        let open = due.map(|due| if claim.want.due > 0 { due - HORIZON_MS } else { due });
        if open.is_some_and(|open| open <= now) {
            return Ok(Look::Now);
        }
        next = [next, open].into_iter().flatten().min();
    }
    Ok(Look::Later(next))
}

/// Claims in the order of service; `None` when the holder has no lease any more.
pub(super) fn claim(tx: &mut Tx<'_>, claim: &Claim) -> rusqlite::Result<Option<Claimed>> {
    let leased = tx.prepare("SELECT 1 FROM lease WHERE holder = ?1")?.exists([claim.holder])?;
    if !leased {
        return Ok(None);
    }
    let mut taken = Taken {
        holder: claim.holder,
        claim: claim.number,
        bytes: 0,
        suspects: claim.want.suspects,
        deliveries: Vec::new(),
    };
    let mut queues = Vec::with_capacity(claim.queues.len());
    for name in claim.queues.iter() {
        queues.push((tx.queue(name)?, name));
    }
    let mut turns = claim.turns;
    let due = first_due(tx, &queues)?;
    if due.is_some_and(|due| due <= tx.now) {
        claim_due(tx, &queues, tx.now, claim.want.ready, &mut taken)?;
    }
    claim_ready(tx, &queues, claim.want.ready - taken.deliveries.len(), &mut turns, &mut taken)?;
    if due.is_some_and(|due| due <= tx.now + HORIZON_MS) {
        claim_due(tx, &queues, tx.now + HORIZON_MS, claim.want.due, &mut taken)?;
    }
    Ok(Some(Claimed { deliveries: taken.deliveries, turns }))
}

/// What this claim has so far.
struct Taken {
    holder: i64,
    claim: i64,
    bytes: usize,
    /// How many more suspects it takes.
    suspects: usize,
    deliveries: Vec<broker::Delivery>,
}

impl Taken {
    fn is_full(&self) -> bool {
        self.bytes >= CLAIM_BYTES
    }

    /// Takes a row of key, redeliveries, suspect and body.
    fn push(&mut self, key: i64, queue: &Arc<str>, row: &Row<'_>) -> rusqlite::Result<()> {
        let body = row.get_ref(3)?.as_blob()?;
        self.bytes += body.len();
        self.deliveries.push(broker::Delivery {
            tag: Hold { key, claim: self.claim }.tag(),
            queue: queue.clone(),
            redeliveries: row.get(1)?,
            suspect: row.get(2)?,
            raw: Bytes::copy_from_slice(body),
        });
        Ok(())
    }
}

/// The message of a queue that is served next.
#[derive(Clone, Copy)]
struct Head {
    key: i64,
    /// Whether it is in the table of suspects.
    suspect: bool,
}

impl Head {
    /// The next one of a queue, where so many suspects are still taken.
    fn of(connection: &Connection, queue: i64, suspects: usize) -> rusqlite::Result<Option<Self>> {
        let range = key::queue_range(queue);
        let first = |table: &Table| {
            connection.prepare_cached(table.head)?.query_row(range, |row| row.get(0)).optional()
        };
        let other = first(&READY)?.map(|key| Self { key, suspect: false });
        let suspect = if suspects > 0 { first(&SUSPECT)? } else { None };
        let suspect = suspect.map(|key| Self { key, suspect: true });
        Ok(suspect.into_iter().chain(other).min_by_key(|head| key::priority_of(head.key)))
    }
}

/// Takes lanes by priority, and within one as the queues have their turns.
fn claim_ready(
    tx: &Tx<'_>,
    queues: &[(i64, &Arc<str>)],
    want: usize,
    turns: &mut Turns,
    taken: &mut Taken,
) -> rusqlite::Result<()> {
    // The head of each queue says its most urgent lane.
    let mut heads = Vec::with_capacity(queues.len());
    for (queue, _) in queues {
        heads.push(Head::of(tx.connection(), *queue, taken.suspects)?);
    }
    let until = taken.deliveries.len() + want;
    while taken.deliveries.len() < until && !taken.is_full() {
        let Some(urgent) = heads.iter().flatten().map(|head| key::priority_of(head.key)).min()
        else {
            break;
        };
        let waits = |n: &usize| heads[*n].is_some_and(|head| key::priority_of(head.key) == urgent);
        let mut lanes: Vec<usize> = turns.queues().filter(waits).collect();
        if !turns.shared() {
            lanes.truncate(1);
        }
        let share = (until - taken.deliveries.len()).div_ceil(lanes.len());
        let mut shares = Vec::with_capacity(lanes.len());
        for n in lanes {
            let from = taken.deliveries.len();
            let limit = share.min(until - from);
            if limit == 0 || taken.is_full() {
                break;
            }
            let first = heads[n].expect("the lane was chosen among those that have a head");
            claim_lane(tx, first, queues[n].1, limit, taken)?;
            heads[n] = Head::of(tx.connection(), queues[n].0, taken.suspects)?;
            shares.push((n, from));
        }
        mix(&mut taken.deliveries, &shares, turns);
    }
    Ok(())
}

/// Puts the shares of one round, each the index of its queue and where it begins, into the order of
/// their turns: one of each queue after the other, as if they had been claimed one by one.
fn mix(deliveries: &mut Vec<broker::Delivery>, shares: &[(usize, usize)], turns: &mut Turns) {
    let (Some(&(last, _)), Some(&(_, start))) = (shares.last(), shares.first()) else { return };
    if shares.len() == 1 {
        turns.served(last);
        return;
    }
    let mut parts = Vec::with_capacity(shares.len());
    for &(queue, from) in shares.iter().rev() {
        parts.push((queue, deliveries.split_off(from).into_iter()));
    }
    parts.reverse();
    deliveries.truncate(start);
    loop {
        let before = deliveries.len();
        for (queue, part) in &mut parts {
            if let Some(delivery) = part.next() {
                deliveries.push(delivery);
                turns.served(*queue);
            }
        }
        if deliveries.len() == before {
            return;
        }
    }
}

/// Takes up to `limit` from the lane whose head is `first`; of suspects no more than are taken.
fn claim_lane(
    tx: &Tx<'_>,
    Head { key: first, suspect }: Head,
    queue: &Arc<str>,
    limit: usize,
    taken: &mut Taken,
) -> rusqlite::Result<()> {
    let (table, limit) =
        if suspect { (SUSPECT, limit.min(taken.suspects)) } else { (READY, limit) };
    if limit == 0 {
        return Ok(());
    }
    let mut select = tx.prepare(table.lane)?;
    let before = taken.deliveries.len();
    let mut rows = select.query((first, key::lane_end(first), key::NUMBERS, limit as i64))?;
    let mut last = first;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        taken.push(last, queue, row)?;
        if taken.is_full() {
            break;
        }
    }
    drop(rows);
    if suspect {
        taken.suspects -= taken.deliveries.len() - before;
    }
    // The claimed are exactly the keys from the head to the last one: both moves are one walk over
    // a range.
    tx.prepare(table.hold)?.execute((first, last, taken.holder, taken.claim))?;
    tx.prepare(table.drop)?.execute((first, last)).map(drop)
}

/// When the first scheduled message of these queues is due.
fn first_due(tx: &Tx<'_>, queues: &[(i64, &Arc<str>)]) -> rusqlite::Result<Option<Millis>> {
    let mut find = tx.prepare(FIRST_DUE)?;
    let mut first: Option<Millis> = None;
    for (queue, _) in queues {
        let due = find.query_row([queue], |row| row.get(0)).optional()?;
        first = [first, due].into_iter().flatten().min();
    }
    Ok(first)
}

/// Takes what is due by `until`, the earliest of each queue first. What is asked for is divided
/// among the queues.
fn claim_due(
    tx: &Tx<'_>,
    queues: &[(i64, &Arc<str>)],
    until: Millis,
    want: usize,
    taken: &mut Taken,
) -> rusqlite::Result<()> {
    let mut left = want;
    for (n, (queue, name)) in queues.iter().enumerate() {
        if left == 0 || taken.is_full() {
            break;
        }
        let share = left.div_ceil(queues.len() - n);
        let mut select = tx.prepare(
            "SELECT d.key, m.redeliveries, m.suspect, m.body, d.at FROM due d JOIN message m ON m.number = d.key & ?3
             WHERE d.queue = ?1 AND d.at <= ?2 ORDER BY d.at, d.key LIMIT ?4",
        )?;
        let mut rows = select.query((queue, until, key::NUMBERS, share as i64))?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let key = row.get(0)?;
            taken.push(key, name, row)?;
            tx.prepare("INSERT INTO held (key, holder, claim) VALUES (?1, ?2, ?3)")?.execute((
                key,
                taken.holder,
                taken.claim,
            ))?;
            last = Some((row.get::<_, Millis>(4)?, key));
            left -= 1;
            if taken.is_full() {
                break;
            }
        }
        drop(rows);
        if let Some((at, key)) = last {
            tx.prepare("DELETE FROM due WHERE queue = ?1 AND (at, key) <= (?2, ?3)")?
                .execute((queue, at, key))?;
        }
    }
    Ok(())
}
