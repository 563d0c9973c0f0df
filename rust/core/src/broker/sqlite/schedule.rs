//! Periodic tasks in the database: a row per schedule, a row per entry.

use rusqlite::{Connection, OptionalExtension};

use super::publish;
use crate::{
    broker::{
        Outgoing,
        encoded::Encoded,
        schedule::{Definition, Due, Entries, Entry, Firing, Guard, Leader},
    },
    clock::Millis,
    sqlite_store::Tx,
};

/// One firing, its message encoded.
pub(super) struct Prepared {
    pub(super) name: String,
    pub(super) from: Due,
    pub(super) to: Due,
    pub(super) message: Option<Encoded>,
}

impl Prepared {
    pub(super) fn new(firing: &Firing) -> Self {
        Self {
            name: firing.name.clone(),
            from: firing.from,
            to: firing.to,
            message: firing.message.as_ref().map(Outgoing::encoded),
        }
    }
}

const NEW: &str = "INSERT INTO schedule (name) VALUES (?1) ON CONFLICT DO NOTHING";
const CHANGED: &str = "UPDATE schedule SET revision = revision + 1 WHERE name = ?1";
/// A lease that ends later than a whole one from now is of a clock that was set back since.
const LEAD: &str = "UPDATE schedule SET leader = ?2, until = ?3 + ?4
    WHERE name = ?1 AND (leader IS NULL OR leader = ?2 OR until <= ?3 OR until > ?3 + ?4)";
const LEADER: &str = "SELECT leader, revision FROM schedule WHERE name = ?1";
const PUT: &str = "INSERT INTO periodic (schedule, name, definition, done) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET definition = ?3, done = CASE WHEN ?5 THEN max(done, ?4) ELSE done END";
const ADVANCE: &str =
    "UPDATE periodic SET done = ?4, runs = runs + (?5 IS NOT NULL), sent_at = coalesce(?5, sent_at)
    WHERE schedule = ?1 AND name = ?2 AND done = ?3 AND NOT paused";

fn make(tx: &Tx<'_>, schedule: &str) -> rusqlite::Result<()> {
    tx.prepare(NEW)?.execute([schedule]).map(drop)
}

fn changed(tx: &Tx<'_>, schedule: &str) -> rusqlite::Result<()> {
    make(tx, schedule)?;
    tx.prepare(CHANGED)?.execute([schedule]).map(drop)
}

/// Takes or renews the lease, if nobody else has it.
pub(super) fn lead(
    tx: &mut Tx<'_>,
    schedule: &str,
    beat: &str,
    lease: Millis,
) -> rusqlite::Result<Leader> {
    make(tx, schedule)?;
    tx.prepare(LEAD)?.execute((schedule, beat, tx.now, lease))?;
    tx.prepare(LEADER)?
        .query_row([schedule], |row| Ok(Leader { beat: row.get(0)?, revision: count(row, 1)? }))
}

/// Gives the lease up.
pub(super) fn resign(tx: &mut Tx<'_>, schedule: &str, beat: &str) -> rusqlite::Result<()> {
    tx.prepare("UPDATE schedule SET leader = NULL WHERE name = ?1 AND leader = ?2")?
        .execute([schedule, beat])
        .map(drop)
}

fn count(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| count as u64)
}

/// All entries, in one snapshot.
pub(super) fn entries(connection: &Connection, schedule: &str) -> rusqlite::Result<Entries> {
    let snapshot = connection.unchecked_transaction()?;
    let revision = snapshot
        .prepare_cached("SELECT revision FROM schedule WHERE name = ?1")?
        .query_row([schedule], |row| count(row, 0))
        .optional()?;
    let entry = |row: &rusqlite::Row<'_>| {
        Ok(Entry {
            name: row.get(0)?,
            definition: row.get(1)?,
            done: row.get(2)?,
            runs: count(row, 3)?,
            sent_at: row.get(4)?,
            paused: row.get(5)?,
        })
    };
    let entries = snapshot
        .prepare_cached(
            "SELECT name, definition, done, runs, sent_at, paused FROM periodic WHERE schedule = ?1 ORDER BY name",
        )?
        .query_map([schedule], entry)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Entries { revision: revision.unwrap_or(0), entries })
}

fn lets(tx: &Tx<'_>, schedule: &str, guard: &Guard) -> rusqlite::Result<bool> {
    match guard {
        Guard::Always => Ok(true),
        Guard::Leads(beat) => tx
            .prepare("SELECT 1 FROM schedule WHERE name = ?1 AND leader = ?2 AND until > ?3")?
            .exists((schedule, beat, tx.now)),
        Guard::Revision(revision) => {
            make(tx, schedule)?;
            tx.prepare("SELECT 1 FROM schedule WHERE name = ?1 AND revision = ?2")?
                .exists((schedule, *revision as i64))
        }
    }
}

/// Adds or changes entries.
pub(super) fn put(
    tx: &mut Tx<'_>,
    schedule: &str,
    definitions: &[Definition],
    guard: &Guard,
) -> rusqlite::Result<bool> {
    if !lets(tx, schedule, guard)? {
        return Ok(false);
    }
    changed(tx, schedule)?;
    let mut put = tx.prepare(PUT)?;
    for Definition { name, definition, done, restart } in definitions {
        put.execute((schedule, name, definition, done, restart))?;
    }
    Ok(true)
}

/// Removes entries.
pub(super) fn remove(
    tx: &mut Tx<'_>,
    schedule: &str,
    names: &[String],
    guard: &Guard,
) -> rusqlite::Result<Option<u64>> {
    if !lets(tx, schedule, guard)? {
        return Ok(None);
    }
    let mut delete = tx.prepare("DELETE FROM periodic WHERE schedule = ?1 AND name = ?2")?;
    let mut removed = 0;
    for name in names {
        removed += delete.execute([schedule, name.as_str()])? as u64;
    }
    if removed > 0 {
        changed(tx, schedule)?;
    }
    Ok(Some(removed))
}

/// Pauses an entry or lets it go on.
pub(super) fn pause(
    tx: &mut Tx<'_>,
    schedule: &str,
    name: &str,
    paused: bool,
) -> rusqlite::Result<bool> {
    let found = tx
        .prepare("UPDATE periodic SET paused = ?3 WHERE schedule = ?1 AND name = ?2")?
        .execute((schedule, name, paused))?;
    if found > 0 {
        changed(tx, schedule)?;
    }
    Ok(found > 0)
}

/// Sends what is due and moves its entries, in this transaction.
pub(super) fn fire(
    tx: &mut Tx<'_>,
    schedule: &str,
    firings: &[Prepared],
) -> rusqlite::Result<Vec<bool>> {
    let mut advance = tx.prepare(ADVANCE)?;
    let mut done = Vec::with_capacity(firings.len());
    for Prepared { name, from, to, message } in firings {
        let sent = message.as_ref().map(|_| tx.now);
        let moved = advance.execute((schedule, name, from, to, sent))? > 0;
        if let Some(message) = message.as_ref().filter(|_| moved) {
            publish::publish(tx, std::slice::from_ref(message))?;
        }
        done.push(moved);
    }
    Ok(done)
}
