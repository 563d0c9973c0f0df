//! Settling batches: one `HDEL` per lane for acks, which are nearly everything; one script per lane
//! for anything else.
//!
//! The lanes of a batch go out in one pipeline. Within a lane the order of the batch is kept: a
//! lane with anything but acks is settled by the script alone. What can never be settled, because a
//! key is of another type, is logged and stays unacked; the rest of the batch goes on. What the
//! server refuses for another reason fails the whole batch, which is sent again: what of it is
//! settled by then is passed over.

use std::sync::Arc;

use redis::{Cmd, Value, pipe};

use super::session::{Served, Session};
use crate::{
    broker::{
        Settle, Settlement, Tag,
        redis::{
            keys::{bucket_begin, bucket_offset},
            scripts::{BEGIN, SETTLE},
        },
    },
    clock,
    error::Result,
};

const WHAT: &str = "settle messages";

pub(super) async fn settle(session: &Arc<Session>, batch: Vec<Settlement>) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut lanes: Vec<Vec<&Settlement>> = session.lanes.iter().map(|_| Vec::new()).collect();
    for of_lane in batch.chunk_by(|a, b| a.tag.lane == b.tag.lane) {
        // A tag of a lane that is not consumed any more belongs to an epoch that is over.
        if let Some(at) = session.by_tag.get(&of_lane[0].tag.lane) {
            lanes[*at].extend(of_lane);
        }
    }
    let lanes = || session.lanes.iter().zip(&lanes).filter(|(_, batch)| !batch.is_empty());
    let mut commands = pipe();
    for (served, batch) in lanes() {
        if batch.iter().all(|settlement| matches!(settlement.how, Settle::Ack)) {
            let mut ack = Cmd::with_capacity(batch.len() + 2, batch.len() * 8 + 64);
            ack.arg("HDEL").arg(&served.unacked);
            for settlement in batch {
                ack.arg(settlement.tag.seq);
            }
            commands.add_command(ack);
        } else {
            commands.add_command(script(session, served, batch));
        }
    }
    if commands.is_empty() {
        return Ok(());
    }
    let replies = session.replies(WHAT, commands).await?;
    for ((served, batch), reply) in lanes().zip(replies) {
        match reply.extract_error() {
            Ok(Value::Array(failed)) => {
                for (seq, error) in
                    session.read::<Vec<(u64, String)>>(WHAT, Some(Value::Array(failed)))?
                {
                    let (id, key) = concerned(served, batch, seq);
                    session.spared_by_script(WHAT, &key, &error)?;
                    tracing::error!(
                        id,
                        key,
                        error,
                        "a message could not be settled; it stays with this worker until it ends"
                    );
                }
            }
            Ok(_) => {}
            Err(error) => session.spared(WHAT, &served.unacked, error)?,
        }
    }
    Ok(())
}

/// Marks these as begun, a script for each lane.
pub(super) async fn begin(session: &Arc<Session>, tags: Vec<Tag>) -> Result<()> {
    const WHAT: &str = "mark messages";
    let begun = |number: u32| tags.iter().filter(move |tag| tag.lane == number);
    let lanes = || session.lanes.iter().filter(|served| begun(served.number).next().is_some());
    let mut commands = pipe();
    for served in lanes() {
        let mut call = BEGIN.call(&[&served.unacked]);
        for tag in begun(served.number) {
            call.arg(tag.seq);
        }
        commands.add_command(call);
    }
    if commands.is_empty() {
        return Ok(());
    }
    for (served, reply) in lanes().zip(session.replies(WHAT, commands).await?) {
        if let Err(error) = reply.extract_error() {
            session.spared(WHAT, &served.unacked, error)?;
        }
    }
    Ok(())
}

/// The task and the key that a settlement is about which could not be made.
fn concerned<'a>(served: &Served, batch: &[&'a Settlement], seq: u64) -> (&'a str, String) {
    let how = batch.iter().find(|settlement| settlement.tag.seq == seq).map(|s| &s.how);
    match how {
        Some(Settle::Park { id, .. }) => (id, served.lane.dead()),
        Some(Settle::Redeliver { id }) => (id, served.redelivered.clone()),
        Some(Settle::Defer { id, .. }) => (id, served.due.clone()),
        _ => ("", served.lane.list.clone()),
    }
}

/// Hands back what the ledger notes as returning.
pub(super) async fn hand_back(session: &Arc<Session>, tags: &[Tag]) -> Result<()> {
    let batch = tags.iter().map(|tag| Settlement { tag: *tag, how: Settle::HandBack }).collect();
    settle(session, batch).await?;
    session.ledger.returned(tags);
    Ok(())
}

/// The call that settles a lane's batch, whatever is in it.
fn script(session: &Session, served: &Served, batch: &[&Settlement]) -> Cmd {
    let lane = &served.lane;
    let mut keys = vec![
        lane.list.clone(),
        served.redelivered.clone(),
        served.overdue.clone(),
        served.unacked.clone(),
        served.due.clone(),
        lane.dead(),
    ];
    let now = clock::wall_ms();
    keys.extend(batch.iter().filter_map(|settlement| match settlement.how {
        Settle::Defer { due, .. } if due > now => Some(lane.bucket(bucket_begin(due))),
        _ => None,
    }));
    let mut call = SETTLE.call(&keys);
    call.arg(&session.epoch).arg(session.max_deliveries);
    for Settlement { tag, how } in batch {
        let (letter, id, detail) = match how {
            Settle::Ack => ("a", "", String::new()),
            Settle::HandBack => ("h", "", String::new()),
            Settle::Requeue => ("q", "", String::new()),
            Settle::Redeliver { id } => ("r", &**id, lost_reason(session.max_deliveries)),
            Settle::Defer { due, .. } if *due <= now => ("o", "", String::new()),
            Settle::Defer { id, due } => {
                let offset = bucket_offset(*due);
                let offset = String::from_utf8_lossy(&offset);
                ("d", &**id, format!("{offset}{}", bucket_begin(*due)))
            }
            Settle::Park { id, reason } => ("p", &**id, reason.clone()),
        };
        call.arg(letter).arg(tag.seq).arg(id).arg(detail);
    }
    call
}

/// Why a message is parked that was lost too often.
fn lost_reason(max_deliveries: u32) -> String {
    format!(
        "the process that ran it was lost `{max_deliveries}` times, as often as `max_deliveries` allows"
    )
}
