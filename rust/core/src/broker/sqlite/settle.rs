//! What becomes of held messages.

use std::ops::Range;

use super::{
    key,
    publish::{make_ready, schedule},
};
use crate::{
    broker::{Settle, Settlement, Tag},
    database::Tx,
};

/// Settles the batch of one holder.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    holder: i64,
    batch: &[Settlement],
    max_deliveries: u32,
) -> rusqlite::Result<()> {
    let mut acked = Vec::new();
    for settlement in batch {
        let key = key_of(settlement.tag);
        match &settlement.how {
            Settle::Ack => acked.push(key),
            other => {
                if let_go(tx, holder, key)? {
                    move_on(tx, key, other, max_deliveries)?;
                }
            }
        }
    }
    acked.sort_unstable();
    for run in runs(&acked) {
        forget(tx, holder, &acked[run])?;
    }
    Ok(())
}

fn key_of(tag: Tag) -> i64 {
    key::of_lane(i64::from(tag.lane), tag.seq as i64 & key::NUMBERS)
}

/// Takes the message out of the holder's hands; whether it was there.
pub(super) fn let_go(tx: &Tx<'_>, holder: i64, key: i64) -> rusqlite::Result<bool> {
    Ok(tx.prepare("DELETE FROM held WHERE key = ?1 AND holder = ?2")?.execute((key, holder))? == 1)
}

/// Puts a message that is nowhere where it belongs.
fn move_on(tx: &mut Tx<'_>, key: i64, how: &Settle, max_deliveries: u32) -> rusqlite::Result<()> {
    match how {
        Settle::Ack => unreachable!("acknowledged ones are forgotten in runs"),
        Settle::HandBack => make_ready(tx, key),
        Settle::Requeue => to_tail(tx, key),
        Settle::Redeliver { .. } => redeliver(tx, key, max_deliveries),
        Settle::Defer { id, due } => {
            rename(tx, key, id)?;
            // It may be due at once, and then somebody may be waiting for it.
            tx.ring();
            schedule(tx, key, *due, id)
        }
        Settle::Park { id, reason } => {
            rename(tx, key, id)?;
            park(tx, key, reason)
        }
    }
}

fn rename(tx: &Tx<'_>, key: i64, id: &str) -> rusqlite::Result<()> {
    tx.prepare("UPDATE message SET id = ?2 WHERE number = ?1 AND id <> ?2")?
        .execute((key & key::NUMBERS, id))
        .map(drop)
}

/// Gives a message that is nowhere a new number, the highest, and makes it ready.
pub(super) fn to_tail(tx: &mut Tx<'_>, key: i64) -> rusqlite::Result<()> {
    let number = tx.number()?;
    tx.prepare("UPDATE message SET number = ?2 WHERE number = ?1")?
        .execute((key & key::NUMBERS, number))?;
    make_ready(tx, key::key(key::queue_of(key), key::priority_of(key), number)?)
}

/// Counts a delivery that ended with a lost process, and parks the message, which is nowhere, once there were too many.
fn redeliver(tx: &mut Tx<'_>, key: i64, max_deliveries: u32) -> rusqlite::Result<()> {
    let redeliveries = count(tx, key)?;
    if redeliveries >= max_deliveries {
        return park(tx, key, &format!("{redeliveries} deliveries ended with a lost worker"));
    }
    make_ready(tx, key)
}

/// Counts a delivery that ended with a lost worker; how many there were.
pub(super) fn count(tx: &Tx<'_>, key: i64) -> rusqlite::Result<u32> {
    tx
        .prepare("UPDATE message SET redeliveries = redeliveries + 1 WHERE number = ?1 RETURNING redeliveries")?
        .query_row([key & key::NUMBERS], |row| row.get(0))
}

fn park(tx: &mut Tx<'_>, key: i64, reason: &str) -> rusqlite::Result<()> {
    let (number, now) = (tx.number()?, tx.now);
    tx.prepare("INSERT INTO dead (number, queue, key, reason, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((number, key::queue_of(key), key, reason, now))
        .map(drop)
}

/// Forgets messages of consecutive keys, as far as the holder has them.
fn forget(tx: &Tx<'_>, holder: i64, keys: &[i64]) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(()) };
    let mut message = tx.prepare("DELETE FROM message WHERE number BETWEEN ?1 AND ?2")?;
    let held: i64 = tx
        .prepare("SELECT count(*) FROM held WHERE key BETWEEN ?1 AND ?2 AND holder = ?3")?
        .query_row((first, last, holder), |row| row.get(0))?;
    if held == keys.len() as i64 {
        // Nothing else can lie between consecutive keys: two walks over ranges.
        tx.prepare("DELETE FROM held WHERE key BETWEEN ?1 AND ?2")?.execute((first, last))?;
        return message.execute((first & key::NUMBERS, last & key::NUMBERS)).map(drop);
    }
    for key in keys {
        if let_go(tx, holder, *key)? {
            let number = key & key::NUMBERS;
            message.execute((number, number))?;
        }
    }
    Ok(())
}

/// Where consecutive keys begin and end.
fn runs(keys: &[i64]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if keys[run.end - 1] + 1 == *key => run.end = n + 1,
            _ => runs.push(n..n + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_consecutive_keys() {
        assert!(runs(&[]).is_empty());
        assert_eq!(runs(&[7, 9]), [0..1, 1..2]);
        assert_eq!(runs(&[1, 2, 3, 5, 6, 9]), [0..3, 3..5, 5..6]);
        assert_eq!(runs(&[4, 4, 5]), [0..1, 1..3]);
    }
}
