//! Settling batches: one `HDEL` per lane for acks, which are nearly everything; one script per lane for anything else.
//!
//! The lanes of a batch go out in one pipeline. Within a lane the order of the batch is kept: a lane with anything but acks is
//! settled by the script alone.

use std::sync::Arc;

use redis::{Cmd, pipe};

use super::{
    consume::{Served, Shared},
    keys::{bucket_begin, bucket_offset},
    scripts::{BEGIN, SETTLE},
};
use crate::{
    broker::{Settle, Settlement, Tag},
    clock,
    error::Result,
};

pub(super) async fn settle(shared: &Arc<Shared>, batch: Vec<Settlement>) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut lanes: Vec<Vec<Settlement>> = shared.lanes.iter().map(|_| Vec::new()).collect();
    let (mut deferred, mut redelivered) = (false, false);
    for settlement in batch {
        deferred |= matches!(settlement.how, Settle::Defer { .. });
        redelivered |= matches!(settlement.how, Settle::Redeliver { .. } | Settle::HandBack);
        // A tag of a lane that is not consumed any more belongs to an epoch that is over.
        if let Some(at) = shared.by_tag.get(&settlement.tag.lane) {
            lanes[*at].push(settlement);
        }
    }
    let mut commands = pipe();
    for (served, batch) in shared.lanes.iter().zip(&lanes) {
        if batch.iter().all(|settlement| matches!(settlement.how, Settle::Ack)) {
            if !batch.is_empty() {
                let mut ack = Cmd::with_capacity(batch.len() + 2, batch.len() * 8 + 64);
                ack.arg("HDEL").arg(&served.held);
                for settlement in batch {
                    ack.arg(settlement.tag.seq);
                }
                commands.add_command(ack);
            }
        } else {
            commands.add_command(script(shared, served, batch));
        }
    }
    if !commands.is_empty() {
        shared.run("settle messages", commands).await?;
    }
    if deferred || redelivered {
        let mut state = shared.state();
        if deferred {
            state.due_at = clock::instant();
        }
        // What lies in `again` wakes no wait, and neither does the due set.
        state.kick = true;
        drop(state);
        shared.news.notify_one();
    }
    Ok(())
}

/// Marks these as begun, a script for each lane.
pub(super) async fn begin(shared: &Arc<Shared>, tags: Vec<Tag>) -> Result<()> {
    let mut commands = pipe();
    for served in &shared.lanes {
        let mut seqs = tags.iter().filter(|t| t.lane == served.number).map(|t| t.seq).peekable();
        if seqs.peek().is_some() {
            let mut call = BEGIN.call(&[&served.held]);
            for seq in seqs {
                call.arg(seq);
            }
            commands.add_command(call);
        }
    }
    if commands.is_empty() { Ok(()) } else { shared.run("mark messages", commands).await.map(drop) }
}

/// Hands back what the ledger notes as returning.
pub(super) async fn hand_back(shared: &Arc<Shared>, tags: &[Tag]) -> Result<()> {
    let batch = tags.iter().map(|tag| Settlement { tag: *tag, how: Settle::HandBack }).collect();
    settle(shared, batch).await?;
    shared.ledger.returned(tags);
    Ok(())
}

/// The call that settles a lane's batch, whatever is in it.
fn script(shared: &Shared, served: &Served, batch: &[Settlement]) -> Cmd {
    let lane = &served.lane;
    let mut keys =
        vec![lane.list.clone(), lane.again(), served.held.clone(), lane.due(), lane.dead()];
    let now = clock::wall_ms();
    keys.extend(batch.iter().filter_map(|settlement| match settlement.how {
        Settle::Defer { due, .. } if due > now => Some(lane.bucket(bucket_begin(due))),
        _ => None,
    }));
    let mut call = SETTLE.call(&keys);
    call.arg(&shared.epoch).arg(shared.max_deliveries);
    for Settlement { tag, how } in batch {
        let (letter, id, detail) = match how {
            Settle::Ack => ("a", "", String::new()),
            Settle::HandBack => ("h", "", String::new()),
            Settle::Requeue => ("q", "", String::new()),
            Settle::Redeliver { id } => ("r", &**id, lost_reason(shared.max_deliveries)),
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
