//! Joins in a database file. A member is counted in the transaction that stores its result.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use crate::{
    clock::Millis,
    error::Result,
    result::{
        Join, JoinClaim, Member, State,
        join::{CLAIM_MS, DONE_MS, MemberEnd, Size, UNDECLARED_MS},
    },
    sqlite_store::Tx,
};

/// Joins that have expired, deleted at a time, with all their members.
const SLICE: i64 = 50;

/// Begins or completes the row of a join.
pub(super) fn declare(tx: &Tx<'_>, join: &Join) -> rusqlite::Result<()> {
    forget(tx, &join.id, true)?;
    tx.prepare(
        "INSERT INTO joined (id, size, expires) VALUES (?1, ?2, ?3) ON CONFLICT (id) \
         DO UPDATE SET size = ?2, expires = ?3",
    )?
    .execute((&join.id, join.size as i64, expires(tx, join)))
    .map(drop)
}

/// Has a join that is not closed wait for more members.
pub(super) fn extend(tx: &Tx<'_>, more: &Join) -> rusqlite::Result<()> {
    forget(tx, &more.id, false)?;
    tx.prepare(
        "INSERT INTO joined (id, added, expires) VALUES (?1, ?2, coalesce(?3, ?4)) ON CONFLICT (id) \
         DO UPDATE SET added = added + ?2, expires = coalesce(?3, iif(size IS NULL, ?4, NULL)) \
         WHERE NOT closed",
    )?
    .execute((&more.id, more.size as i64, expires(tx, more), undeclared(tx)))
    .map(drop)
}

fn expires(tx: &Tx<'_>, join: &Join) -> Option<Millis> {
    join.expires_ms.map(|ms| tx.now.saturating_add_unsigned(ms))
}

/// Until when a join is kept whose size is not known.
fn undeclared(tx: &Tx<'_>) -> Millis {
    tx.now.saturating_add_unsigned(UNDECLARED_MS)
}

/// Counts a member; whose claim the join is when it is complete.
pub(super) fn count(
    tx: &Tx<'_>,
    member: &Member,
    ended: &MemberEnd,
    expires: Option<Millis>,
) -> rusqlite::Result<Option<JoinClaim>> {
    let row = tx
        .prepare("SELECT number, closed, expires <= ?2 FROM joined WHERE id = ?1")?
        .query_row((&member.group, tx.now), |row| {
            let over: Option<bool> = row.get(2)?;
            Ok((row.get(0)?, row.get::<_, bool>(1)?, over == Some(true)))
        })
        .optional()?;
    let number: i64 = match row {
        Some((_, true, false)) => return Ok(None),
        Some((number, false, false)) => number,
        found => {
            if found.is_some() {
                forget(tx, &member.group, false)?;
            }
            tx.prepare("INSERT INTO joined (id) VALUES (?1) RETURNING number")?
                .query_row([&member.group], |row| row.get(0))?
        }
    };
    let place = member.index.unwrap_or(i64::MAX);
    let new = tx
        .prepare(
            "INSERT OR IGNORE INTO member (joined, place, id, state, result) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((number, place, &ended.id, ended.state.as_str(), &ended.result[..]))?;
    tx.prepare(
        "UPDATE joined SET ended = ended + ?2, expires = coalesce(?3, iif(size IS NULL, ?4, NULL)) \
         WHERE number = ?1",
    )?
    .execute((number, new as i64, expires, undeclared(tx)))?;
    claim(tx, number, &member.group, &member.token)
}

/// Claims a join that is complete, unless somebody else has; whose claim it is.
fn claim(tx: &Tx<'_>, number: i64, id: &str, token: &str) -> rusqlite::Result<Option<JoinClaim>> {
    let owner: Option<String> = tx
        .prepare(
            "UPDATE joined SET token = iif(token <> ?2 AND claimed > ?4, token, ?2), \
             claimed = iif(token <> ?2 AND claimed > ?4, claimed, ?3) \
             WHERE number = ?1 AND size + added = ended RETURNING token",
        )?
        .query_row((number, token, tx.now.saturating_add_unsigned(CLAIM_MS), tx.now), |row| {
            row.get(0)
        })
        .optional()?;
    Ok(owner.map(|token| JoinClaim { id: id.to_owned(), token }))
}

/// Has a claim last; whether it is not another's by now.
pub(super) fn renew(tx: &Tx<'_>, joined: &JoinClaim) -> rusqlite::Result<bool> {
    let claimed = tx.now.saturating_add_unsigned(CLAIM_MS);
    let renewed = tx
        .prepare(
            "UPDATE joined SET token = ?2, claimed = ?3 \
             WHERE id = ?1 AND NOT closed AND (token IS NULL OR token = ?2)",
        )?
        .execute((&joined.id, &joined.token, claimed))?;
    let unknown = tx
        .prepare("SELECT 1 FROM joined WHERE id = ?1")?
        .query_row([&joined.id], |_| Ok(()))
        .optional()?
        .is_none();
    Ok(renewed == 1 || unknown)
}

/// The members that have ended, in order; an error when they have more than `most` bytes of results.
pub(super) fn members(
    connection: &Connection,
    (id, most): (&str, usize),
    now: Millis,
) -> rusqlite::Result<Result<Vec<MemberEnd>>> {
    let mut statement = connection.prepare_cached(
        "SELECT member.id, state, result FROM joined JOIN member ON joined = number \
         WHERE joined.id = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY place, member.id",
    )?;
    let (mut rows, mut members) = (statement.query((id, now))?, Vec::new());
    let mut size = Size::new(most);
    while let Some(row) = rows.next()? {
        let ended = MemberEnd {
            id: row.get(0)?,
            state: State::from_name(row.get_ref(1)?.as_str()?),
            result: Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?),
        };
        if let Err(error) = size.add(&ended) {
            return Ok(Err(error));
        }
        members.push(ended);
    }
    Ok(Ok(members))
}

/// Closes a join that is claimed with this token.
pub(super) fn close(tx: &Tx<'_>, joined: &JoinClaim) -> rusqlite::Result<()> {
    let number: Option<i64> = tx
        .prepare(
            "UPDATE joined SET closed = 1, size = NULL, added = 0, token = NULL, \
             expires = coalesce(expires, ?3) WHERE id = ?1 AND token = ?2 RETURNING number",
        )?
        .query_row((&joined.id, &joined.token, tx.now.saturating_add_unsigned(DONE_MS)), |row| {
            row.get(0)
        })
        .optional()?;
    match number {
        Some(number) => drop_members(tx, number),
        None => Ok(()),
    }
}

/// Takes the claim back.
pub(super) fn reopen(tx: &Tx<'_>, joined: &JoinClaim) -> rusqlite::Result<()> {
    tx.prepare("UPDATE joined SET token = NULL WHERE id = ?1 AND token = ?2")?
        .execute((&joined.id, &joined.token))
        .map(drop)
}

/// Deletes joins that have expired.
pub(super) fn sweep(tx: &Tx<'_>) -> rusqlite::Result<()> {
    let numbers: Vec<i64> = tx
        .prepare("DELETE FROM joined WHERE number IN (SELECT number FROM joined WHERE expires <= ?1 LIMIT ?2) RETURNING number")?
        .query_map((tx.now, SLICE), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    numbers.into_iter().try_for_each(|number| drop_members(tx, number))
}

/// Deletes a join that has expired or, if asked, is closed.
fn forget(tx: &Tx<'_>, id: &str, closed: bool) -> rusqlite::Result<()> {
    let number: Option<i64> = tx
        .prepare("DELETE FROM joined WHERE id = ?1 AND (expires <= ?2 OR (closed AND ?3)) RETURNING number")?
        .query_row((id, tx.now, closed), |row| row.get(0))
        .optional()?;
    match number {
        Some(number) => drop_members(tx, number),
        None => Ok(()),
    }
}

fn drop_members(tx: &Tx<'_>, number: i64) -> rusqlite::Result<()> {
    tx.prepare("DELETE FROM member WHERE joined = ?1")?.execute([number]).map(drop)
}
