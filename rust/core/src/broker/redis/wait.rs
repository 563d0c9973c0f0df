//! Blocking on empty lanes: one connection each, in `BLMOVE` from the list to this epoch's inbox.
//!
//! The server hands a message to exactly one of all the workers that wait, in the step that pushes it: one hop, no herd, no
//! poll, whoever the producer is. Only a fetch that found nothing arms the waits. A wait that answers when no fetch wants anything
//! leaves its message to `fetch::linger`, and its lane stays idle until the next fetch arms it.
//!
//! `BLMOVE` knows no leases, so a wait is only sent while the lease will outlast it. The last resort, for a process that was stopped
//! right between that check and the command, is that the inbox of a dead epoch is looked after for a while (`recover`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Value, cmd, pipe};
use tokio::task::JoinHandle;

use super::{
    consume::{Life, Shared},
    fetch,
};
use crate::{
    broker::{Tag, lease},
    clock,
    error::{Error, ErrorKind, Result},
};

/// How long one wait blocks at most.
pub(super) const BLOCK: Duration = Duration::from_secs(5);
/// A reply that is later than that means that the link is dead.
const SLACK: Duration = Duration::from_secs(5);
/// How much of the lease must be left when a wait ends.
const MARGIN: Duration = Duration::from_secs(1);
/// The shortest wait worth sending.
const SHORTEST: Duration = Duration::from_millis(200);

/// What the wait of a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, until a fetch arms it.
    Idle,
    /// About to block, or waiting for the lease to be renewed first.
    Armed,
    /// Blocked, or answering.
    Blocked,
}

/// Makes every idle lane wait.
pub(super) fn arm(shared: &Shared) {
    let mut state = shared.state();
    for ((phase, _), served) in state.waits.iter_mut().zip(&shared.lanes) {
        if *phase == Phase::Idle {
            *phase = Phase::Armed;
            served.go.notify_one();
        }
    }
}

/// The life of a lane's wait, until the consumer is closed or the link fails.
pub(super) async fn serve(shared: Arc<Shared>, lane: usize) {
    if let Err(error) = run(&shared, lane).await {
        shared.fail(&error);
    }
}

async fn run(shared: &Arc<Shared>, lane: usize) -> Result<()> {
    let failed = |e| shared.link.error("wait for messages", e);
    let mut con = shared.link.multiplexed(BLOCK + SLACK).await?;
    let id: i64 = cmd("CLIENT").arg("ID").query_async(&mut con).await.map_err(failed)?;
    shared.state().waits[lane].1 = Some(id);
    let served = &shared.lanes[lane];
    while let Some(block) = ready(shared, lane).await {
        let mut wait = cmd("BLMOVE");
        wait.arg(&served.lane.list)
            .arg(&served.inbox)
            .arg("RIGHT")
            .arg("LEFT")
            .arg(block.as_secs_f64());
        let tag = Tag { lane: served.number, seq: shared.ledger.wait() };
        let answer = wait.query_async::<Value>(&mut con).await.map_err(failed)?;
        answered(shared, lane, tag, answer)?;
    }
    Ok(())
}

/// Waits until the lane is armed and the lease fresh; how long to block, or `None` when the consumer is closed.
async fn ready(shared: &Shared, lane: usize) -> Option<Duration> {
    loop {
        {
            let mut state = shared.state();
            if state.life != Life::Open {
                return None;
            }
            let lease = Duration::from_millis(lease::LEASE_MS as u64).saturating_sub(MARGIN);
            let left =
                lease.saturating_sub(clock::instant().saturating_duration_since(state.renewed));
            if state.waits[lane].0 == Phase::Armed && left >= SHORTEST {
                state.waits[lane].0 = Phase::Blocked;
                return Some(left.min(BLOCK));
            }
        }
        shared.lanes[lane].go.notified().await;
    }
}

fn answered(shared: &Arc<Shared>, lane: usize, tag: Tag, answer: Value) -> Result<()> {
    let mut state = shared.state();
    let wanted = state.wanted.is_some_and(|want| want > 0);
    match answer {
        Value::Nil => state.waits[lane].0 = if wanted { Phase::Armed } else { Phase::Idle },
        // The end of the consumer, or its successor, finds it in the inbox.
        Value::BulkString(_) if state.life != Life::Open => {}
        Value::BulkString(raw) => {
            state.waits[lane].0 = Phase::Idle;
            state.landed_at.get_or_insert_with(clock::instant);
            let raw = Bytes::from(raw);
            shared.ledger.land(tag, raw.clone());
            shared.ledger.offer(shared.lanes[lane].delivery(tag.seq, raw));
            if !wanted {
                fetch::linger(shared, &mut state);
            }
            drop(state);
            shared.news.notify_one();
        }
        other => {
            let text = format!(
                "redis at `{}` answered `{other:?}` to a wait, expected a message",
                shared.link.url()
            );
            return Err(Error::new(ErrorKind::Storage, text));
        }
    }
    Ok(())
}

/// Ends all waits of a closed consumer and joins their tasks.
pub(super) async fn end(shared: &Shared, tasks: &mut Vec<JoinHandle<()>>) {
    shared.lanes.iter().for_each(|served| served.go.notify_one());
    loop {
        let mut unblock = pipe();
        for (phase, id) in &shared.state().waits {
            if let (Phase::Blocked, Some(id)) = (phase, id) {
                unblock.cmd("CLIENT").arg("UNBLOCK").arg(*id);
            }
        }
        // Repeated, because a wait may reach the server after the first attempt to end it; a user without the permission
        // waits for the block to end by itself.
        if !unblock.is_empty() && shared.run("end a wait", unblock).await.is_err() {
            break;
        }
        tasks.retain(|task| !task.is_finished());
        let Some(task) = tasks.first_mut() else { return };
        if tokio::time::timeout(Duration::from_millis(5), task).await.is_ok() {
            tasks.remove(0);
        }
    }
    for task in tasks.drain(..) {
        // A task that panicked has ended too.
        let _ = task.await;
    }
}
