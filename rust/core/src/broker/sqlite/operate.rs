//! What the operator sees and does: statistics, purge, cancel, dead letters.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::{
    key::{self, NUMBERS},
    publish,
    settle::to_tail,
};
use crate::{
    broker::{DeadLetter, QueueStats, cancelled},
    sqlite_store::Tx,
};

fn find(connection: &Connection, queue: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM queue WHERE name = ?1")?
        .query_row([queue], |row| row.get(0))
        .optional()
}

/// Counts, in one snapshot.
pub(super) fn stats(connection: &Connection, queue: &str) -> rusqlite::Result<QueueStats> {
    let Some(queue) = find(connection, queue)? else { return Ok(QueueStats::default()) };
    let (first, last) = key::queue_range(queue);
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM ready WHERE key BETWEEN ?1 AND ?2) + (SELECT count(*) FROM suspect WHERE key BETWEEN ?1 AND ?2),
                    (SELECT count(*) FROM held WHERE key BETWEEN ?1 AND ?2),
                    (SELECT count(*) FROM due WHERE queue = ?3), (SELECT count(*) FROM dead WHERE queue = ?3)",
        )?
        .query_row((first, last, queue), |row| {
            let count = |column| row.get::<_, i64>(column).map(|n| n as u64);
            Ok(QueueStats { depth: count(0)?, in_flight: count(1)?, scheduled: count(2)?, dead: count(3)? })
        })
}

/// All names that were ever published to or consumed.
pub(super) fn queues(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT name FROM queue ORDER BY name")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Drops what is ready and scheduled.
pub(super) fn purge(tx: &mut Tx<'_>, queue: &str) -> rusqlite::Result<u64> {
    let Some(queue) = tx.find_queue(queue)? else { return Ok(0) };
    let (first, last) = key::queue_range(queue);
    tx.prepare("DELETE FROM message WHERE number IN (SELECT key & ?3 FROM ready WHERE key BETWEEN ?1 AND ?2)")?
        .execute((first, last, NUMBERS))?;
    let ready =
        tx.prepare("DELETE FROM ready WHERE key BETWEEN ?1 AND ?2")?.execute((first, last))?;
    tx.prepare("DELETE FROM message WHERE number IN (SELECT key & ?3 FROM suspect WHERE key BETWEEN ?1 AND ?2)")?
        .execute((first, last, NUMBERS))?;
    let suspects =
        tx.prepare("DELETE FROM suspect WHERE key BETWEEN ?1 AND ?2")?.execute((first, last))?;
    tx.prepare("DELETE FROM message WHERE number IN (SELECT key & ?2 FROM due WHERE queue = ?1)")?
        .execute((queue, NUMBERS))?;
    let due = tx.prepare("DELETE FROM due WHERE queue = ?1")?.execute([queue])?;
    Ok((ready + suspects + due) as u64)
}

/// Takes one scheduled message back; whether there was one.
pub(super) fn cancel(tx: &mut Tx<'_>, queue: &str, id: &str) -> rusqlite::Result<bool> {
    let Some(queue) = tx.find_queue(queue)? else { return Ok(false) };
    let mut next = tx.prepare("SELECT label FROM due WHERE label >= ?1 ORDER BY label LIMIT 1")?;
    let mut find = tx.prepare(
        "SELECT d.at, d.key FROM due d JOIN message m ON m.number = d.key & ?4
         WHERE d.label = ?1 AND d.queue = ?2 AND m.id = ?3 LIMIT 1",
    )?;
    let mut from = 0;
    while let Some(label) = next.query_row([from], |row| row.get(0)).optional()? {
        let bucket = publish::bucket_of(label);
        let found: Option<(i64, i64)> = find
            .query_row((publish::label(bucket, id), queue, id, NUMBERS), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        if let Some((at, key)) = found {
            tx.prepare("DELETE FROM due WHERE queue = ?1 AND at = ?2 AND key = ?3")?
                .execute((queue, at, key))?;
            let body: Vec<u8> = tx
                .prepare("SELECT body FROM message WHERE number = ?1")?
                .query_row([key & NUMBERS], |row| row.get(0))?;
            if let Some(body) = cancelled::instead(&body) {
                tx.prepare("UPDATE message SET body = ?2 WHERE number = ?1")?
                    .execute((key & NUMBERS, &body[..]))?;
                to_tail(tx, key)?;
            } else {
                tx.prepare("DELETE FROM message WHERE number = ?1")?.execute([key & NUMBERS])?;
            }
            return Ok(true);
        }
        from = (bucket + 1) << 32;
    }
    Ok(false)
}

/// The newest dead letters.
pub(super) fn dead(
    connection: &Connection,
    queue: &str,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let Some(queue) = find(connection, queue)? else { return Ok(Vec::new()) };
    let letter = |row: &rusqlite::Row<'_>| {
        Ok(DeadLetter {
            key: row.get::<_, i64>(0)?.to_string(),
            reason: row.get(1)?,
            at: row.get(2)?,
            id: row.get(3)?,
            redeliveries: row.get(4)?,
            message: None,
            raw: Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?),
        }
        .decoded())
    };
    connection
        .prepare_cached(
            "SELECT d.number, d.reason, d.at, m.id, m.redeliveries, m.body FROM dead d JOIN message m ON m.number = d.key & ?2
             WHERE d.queue = ?1 ORDER BY d.number DESC LIMIT ?3",
        )?
        .query_map((queue, NUMBERS, i64::try_from(limit).unwrap_or(i64::MAX)), letter)?
        .collect()
}

/// Takes the named dead letters, or all, out of their table; the keys of their messages in the
/// order of parking.
fn take_dead(tx: &mut Tx<'_>, queue: &str, names: Option<&[String]>) -> rusqlite::Result<Vec<i64>> {
    let Some(queue) = tx.find_queue(queue)? else { return Ok(Vec::new()) };
    let all: Vec<(i64, i64)> = tx
        .prepare("SELECT number, key FROM dead WHERE queue = ?1 ORDER BY number")?
        .query_map([queue], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let wanted: Option<std::collections::HashSet<&str>> =
        names.map(|names| names.iter().map(String::as_str).collect());
    let mut keys = Vec::new();
    let mut delete = tx.prepare("DELETE FROM dead WHERE number = ?1")?;
    for (number, key) in all {
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(number.to_string().as_str())) {
            delete.execute([number])?;
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Puts dead letters back to the tail, with a fresh count.
pub(super) fn replay(
    tx: &mut Tx<'_>,
    queue: &str,
    names: Option<&[String]>,
) -> rusqlite::Result<u64> {
    let keys = take_dead(tx, queue, names)?;
    for key in &keys {
        tx.prepare("UPDATE message SET redeliveries = 0 WHERE number = ?1")?
            .execute([key & NUMBERS])?;
        to_tail(tx, *key)?;
    }
    Ok(keys.len() as u64)
}

/// Drops dead letters.
pub(super) fn discard(
    tx: &mut Tx<'_>,
    queue: &str,
    names: Option<&[String]>,
) -> rusqlite::Result<u64> {
    let keys = take_dead(tx, queue, names)?;
    for key in &keys {
        tx.prepare("DELETE FROM message WHERE number = ?1")?.execute([key & NUMBERS])?;
    }
    Ok(keys.len() as u64)
}
