//! Messages into their queues and into the due set.

use crate::{
    broker::{HORIZON_MS, Outgoing, PRIORITIES},
    clock::Millis,
    database::Tx,
};

use super::key;

const MESSAGE: &str = "INSERT INTO message (number, redeliveries, id, body) VALUES (?1, 0, ?2, ?3)";
const READY: &str = "INSERT INTO ready (key) VALUES (?1)";
const DUE: &str = "INSERT INTO due (queue, at, key, hash) VALUES (?1, ?2, ?3, ?4)";

/// Writes the batch, in order.
pub(super) fn publish(tx: &mut Tx<'_>, batch: &[Outgoing]) -> rusqlite::Result<()> {
    let (mut message, mut ready) = (tx.prepare(MESSAGE)?, tx.prepare(READY)?);
    let horizon = tx.now + HORIZON_MS;
    let mut rings = false;
    for outgoing in batch {
        let number = tx.number()?;
        let queue = tx.queue(&outgoing.queue)?;
        let key = key::key(queue, outgoing.priority.min(PRIORITIES - 1), number)?;
        message.execute((number, &*outgoing.id, &outgoing.data[..]))?;
        match outgoing.due {
            Some(due) if due > horizon => schedule(tx, key, due, &outgoing.id)?,
            _ => {
                ready.execute([key])?;
                rings = true;
            }
        }
    }
    // What was scheduled is beyond the horizon, and every waiting consumer looks before that.
    if rings {
        tx.ring();
    }
    Ok(())
}

/// Puts a message that is nowhere into the due set.
pub(super) fn schedule(tx: &Tx<'_>, key: i64, due: Millis, id: &str) -> rusqlite::Result<()> {
    let queue = key::queue_of(key);
    tx.prepare(DUE)?.execute((queue, due, key, hash(queue, id))).map(drop)
}

/// Puts a message that is nowhere into its queue, where its key says.
pub(super) fn make_ready(tx: &mut Tx<'_>, key: i64) -> rusqlite::Result<()> {
    tx.ring();
    tx.prepare(READY)?.execute([key]).map(drop)
}

/// Under what a scheduled message is found to be cancelled: FNV-1a of queue and id. Written to disk, so never changed; ids
/// that collide are told apart by the id itself.
pub(super) fn hash(queue: i64, id: &str) -> i64 {
    let bytes = queue.to_le_bytes().into_iter().chain(id.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) as i64
}
