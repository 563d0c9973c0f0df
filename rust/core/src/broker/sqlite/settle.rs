//! What becomes of held messages.

use std::ops::Range;

use super::{
    key::{self, Hold},
    publish::{make_ready, schedule},
};
use crate::{
    broker::{Settle, Settlement, Tag},
    sqlite_store::Tx,
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
        let hold = Hold::of(settlement.tag);
        match &settlement.how {
            Settle::Ack => acked.push(hold),
            other => {
                if let_go(tx, holder, hold)? {
                    move_on(tx, hold.key, other, max_deliveries)?;
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

/// Marks what the holder has of these as begun.
pub(super) fn begin(tx: &Tx<'_>, holder: i64, tags: &[Tag]) -> rusqlite::Result<()> {
    let mut mark =
        tx.prepare("UPDATE held SET begun = 1 WHERE key = ?1 AND holder = ?2 AND claim = ?3")?;
    for tag in tags {
        let hold = Hold::of(*tag);
        mark.execute((hold.key, holder, hold.claim))?;
    }
    Ok(())
}

/// Takes the message out of the holder's hands; whether it was there.
fn let_go(tx: &Tx<'_>, holder: i64, hold: Hold) -> rusqlite::Result<bool> {
    let mut delete =
        tx.prepare("DELETE FROM held WHERE key = ?1 AND holder = ?2 AND claim = ?3")?;
    Ok(delete.execute((hold.key, holder, hold.claim))? == 1)
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
            tx.notify();
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
    tx.prepare("UPDATE message SET number = ?2, suspect = 0 WHERE number = ?1")?
        .execute((key & key::NUMBERS, number))?;
    make_ready(tx, key::key(key::queue_of(key), key::priority_of(key), number)?)
}

/// Counts a delivery that ended with a lost process, and parks the message, which is nowhere, once
/// there were too many.
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

/// Forgets messages of one run, as far as the holder has them.
fn forget(tx: &Tx<'_>, holder: i64, holds: &[Hold]) -> rusqlite::Result<()> {
    let (Some(Hold { key: first, claim }), Some(Hold { key: last, .. })) =
        (holds.first(), holds.last())
    else {
        return Ok(());
    };
    let mut message = tx.prepare("DELETE FROM message WHERE number BETWEEN ?1 AND ?2")?;
    let held: i64 = tx
        .prepare(
            "SELECT count(*) FROM held WHERE key BETWEEN ?1 AND ?2 AND holder = ?3 AND claim = ?4",
        )?
        .query_row((first, last, holder, claim), |row| row.get(0))?;
    if held == holds.len() as i64 {
        // Nothing else can lie between consecutive keys: two walks over ranges.
        tx.prepare("DELETE FROM held WHERE key BETWEEN ?1 AND ?2")?.execute((first, last))?;
        return message.execute((first & key::NUMBERS, last & key::NUMBERS)).map(drop);
    }
    for hold in holds {
        if let_go(tx, holder, *hold)? {
            let number = hold.key & key::NUMBERS;
            message.execute((number, number))?;
        }
    }
    Ok(())
}

/// Where consecutive keys of one claim begin and end.
fn runs(holds: &[Hold]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (n, hold) in holds.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if holds[run.end - 1] == Hold { key: hold.key - 1, ..*hold } => {
                run.end = n + 1;
            }
            _ => runs.push(n..n + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_consecutive_keys_of_one_claim() {
        let runs = |holds: &[(i64, i64)]| {
            let holds: Vec<Hold> = holds.iter().map(|&(key, claim)| Hold { key, claim }).collect();
            runs(&holds)
        };
        assert!(runs(&[]).is_empty());
        assert_eq!(runs(&[(7, 0), (9, 0)]), [0..1, 1..2]);
        assert_eq!(runs(&[(1, 4), (2, 4), (3, 4), (5, 4), (6, 4), (9, 4)]), [0..3, 3..5, 5..6]);
        assert_eq!(runs(&[(4, 0), (4, 0), (5, 0)]), [0..1, 1..3]);
        assert_eq!(runs(&[(4, 0), (5, 1), (6, 1)]), [0..1, 1..3]);
    }
}
