//! Settling batches: one `HDEL` per lane for acks, which are nearly everything; one script per lane
//! for anything else.
//!
//! A message that a wait has moved is recorded as unacked when a command is about it, or about
//! something other than acknowledgements. When the first that is said of it is its acknowledgement,
//! and nothing older is left where the wait has put it, it is dropped from there instead: it neither
//! crosses to the server again nor passes through a script, which reads every byte of its arguments.
//!
//! The lanes of a batch go out in one pipeline. Within a lane the order of the batch is kept: a
//! lane with anything but acks is settled by the script alone. What can never be settled, because a
//! key is of another type, is logged and stays unacked; the rest of the batch goes on. What the
//! server refuses for another reason fails the whole batch, which is sent again: what of it is
//! settled by then is passed over.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value, pipe};

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
    redis_connection::is_about_key,
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
    let mut commands = pipe();
    let forgotten = forget(session, &mut lanes, &mut commands);
    let trims = commands.len();
    let lanes = || session.lanes.iter().zip(&lanes).filter(|(_, batch)| !batch.is_empty());
    for (served, batch) in lanes() {
        commands.add_command(command(session, served, batch));
    }
    if commands.is_empty() {
        return Ok(());
    }
    let batches = || lanes().flat_map(|(_, batch)| batch);
    let about_moved =
        session.ledger.is_to_record(|tag| batches().any(|settlement| settlement.tag == tag));
    let moved = if about_moved { session.ledger.to_record() } else { Vec::new() };
    let mut replies = session.send(WHAT, commands, &moved).await?.into_iter();
    for reply in replies.by_ref().take(trims) {
        match reply.extract_error() {
            // The lane was taken away, and its messages are somebody else's.
            Err(error) if is_about_key(&error) => {}
            other => drop(other.map_err(|e| session.server.error(WHAT, e))?),
        }
    }
    session.ledger.recorded(&forgotten);
    for ((served, batch), reply) in lanes().zip(replies) {
        settled(session, served, batch, reply)?;
    }
    Ok(())
}

/// Takes the answer about a lane.
fn settled(session: &Session, served: &Served, batch: &[&Settlement], reply: Value) -> Result<()> {
    let failed = match reply.extract_error() {
        Ok(Value::Array(failed)) => failed,
        Ok(_) => return Ok(()),
        Err(error) => return session.spared(WHAT, &served.unacked, error),
    };
    for (seq, error) in session.read::<Vec<(u64, String)>>(WHAT, Some(Value::Array(failed)))? {
        let (id, key) = concerned(served, batch, seq);
        session.spared_by_script(WHAT, &key, &error)?;
        tracing::error!(
            id,
            key,
            error,
            "a message could not be settled; it stays with this worker until it ends"
        );
    }
    Ok(())
}

/// Takes out of the batches what is acknowledged before it was recorded as unacked, and adds the
/// commands that drop it from where the waits have put it, the newest in front.
fn forget(session: &Session, lanes: &mut [Vec<&Settlement>], commands: &mut Pipeline) -> Vec<Tag> {
    let mut forgotten = Vec::new();
    for (served, batch) in session.lanes.iter().zip(lanes) {
        let Some(moved) = served.moved.as_deref().filter(|_| !batch.is_empty()) else { continue };
        let is_acked =
            |tag| batch.iter().any(|one| one.tag == tag && matches!(one.how, Settle::Ack));
        let tags = session.ledger.forget(served.number, moved, is_acked);
        if tags.is_empty() {
            continue;
        }
        batch.retain(|one| !tags.contains(&one.tag));
        commands.cmd("LTRIM").arg(moved).arg(0).arg(-1 - tags.len() as i64);
        forgotten.extend(tags);
    }
    forgotten
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

/// What settles a lane's batch.
fn command(session: &Session, served: &Served, batch: &[&Settlement]) -> Cmd {
    if !batch.iter().all(|settlement| matches!(settlement.how, Settle::Ack)) {
        return script(session, served, batch);
    }
    let mut ack = Cmd::with_capacity(batch.len() + 2, batch.len() * 8 + 64);
    ack.arg("HDEL").arg(&served.unacked);
    for settlement in batch {
        ack.arg(settlement.tag.seq);
    }
    ack
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
