//! Messages into their queues and into the due set.

use crate::{
    broker::{HORIZON_MS, encoded::Encoded},
    clock::Millis,
    sqlite_store::Tx,
};

use super::key;

const MESSAGE: &str = "INSERT INTO message (number, redeliveries, id, body) VALUES (?1, 0, ?2, ?3)";
const READY: &str = "INSERT INTO ready (key) VALUES (?1)";
const SUSPECT: &str = "INSERT INTO suspect (key) VALUES (?1)";
const IS_SUSPECT: &str = "SELECT 1 FROM message WHERE number = ?1 AND suspect";
const DUE: &str = "INSERT INTO due (queue, at, key, label) VALUES (?1, ?2, ?3, ?4)";

/// Writes the batch, in order.
pub(super) fn publish(tx: &mut Tx<'_>, batch: &[Encoded]) -> rusqlite::Result<()> {
    let (mut message, mut ready) = (tx.prepare(MESSAGE)?, tx.prepare(READY)?);
    let horizon = tx.now + HORIZON_MS;
    let mut ready_now = false;
    for one in batch {
        let number = tx.number()?;
        let queue = tx.queue(&one.queue)?;
        let key = key::key(queue, one.priority, number)?;
        message.execute((number, &*one.id, &one.data[..]))?;
        match one.due {
            Some(due) if due > horizon => schedule(tx, key, due, &one.id)?,
            _ => {
                ready.execute([key])?;
                ready_now = true;
            }
        }
    }
    // What was scheduled is beyond the horizon, and every waiting consumer looks before that.
    if ready_now {
        tx.notify();
    }
    Ok(())
}

/// Puts a message that is nowhere into the due set.
pub(super) fn schedule(tx: &Tx<'_>, key: i64, due: Millis, id: &str) -> rusqlite::Result<()> {
    tx.prepare(DUE)?.execute((key::queue_of(key), due, key, label(bucket(key), id))).map(drop)
}

/// Puts a message that is nowhere into its queue, where its key says, among the suspects if it is
/// one.
pub(super) fn make_ready(tx: &mut Tx<'_>, key: i64) -> rusqlite::Result<()> {
    tx.notify();
    let suspect = tx.prepare(IS_SUSPECT)?.exists([key & key::NUMBERS])?;
    tx.prepare(if suspect { SUSPECT } else { READY })?.execute([key]).map(drop)
}

/// Under what a scheduled message is found to be cancelled: its bucket and a hash of its task id.
///
/// A plain hash would put every insertion on a page of its own once the set is large. Labels of
/// messages published together share a bucket and lie together; whoever cancels asks every bucket,
/// of which there are few.
pub(super) fn label(bucket: i64, id: &str) -> i64 {
    bucket << 32 | hash(id)
}

/// The bucket of a message: 65,536 consecutive numbers share one.
fn bucket(key: i64) -> i64 {
    (key & key::NUMBERS) >> 16
}

/// FNV-1a in 32 bits. Written to disk, so never changed; ids that collide are told apart by the id
/// itself.
fn hash(id: &str) -> i64 {
    i64::from(
        id.bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)),
    )
}

/// The bucket of a label.
pub(super) fn bucket_of(label: i64) -> i64 {
    label >> 32
}
