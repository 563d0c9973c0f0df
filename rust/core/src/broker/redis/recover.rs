//! Putting back what dead workers held.
//!
//! Any worker may sweep, and several may sweep at once. A sweep lists the leases that have ended on its lanes and takes
//! those for dead that `lease::lapsed` allows; it first takes the epoch's lease away for good, which fences the worker should it live after
//! all, then moves what it held in scripts of [`CHUNK`] messages, newest first, so that the oldest ends up at the very head.
//!
//! The name of a dead epoch is kept for [`REMEMBER_MS`] to look into its inbox again, see `wait`.

use std::sync::Arc;

use redis::pipe;

use super::{
    consume::Shared,
    scripts::{CONDEMN, LAPSED, RECOVER},
};
use crate::{
    broker::{Recovered, lease},
    clock::Millis,
    error::Result,
};

/// Messages per script.
const CHUNK: usize = 256;
/// How long the name of a dead epoch is kept.
const REMEMBER_MS: Millis = 600_000;

pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Recovered> {
    shared.check()?;
    let mut total = Recovered::default();
    for (lane, epoch, mut seqs) in condemn(shared, dead(shared).await?).await? {
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        for chunk in seqs.chunks(CHUNK) {
            let served = &shared.lanes[lane];
            let mut call = RECOVER.call(&[served.lane.again(), served.lane.held(&epoch)]);
            call.arg(chunk);
            let mut commands = pipe();
            commands.add_command(call);
            let reply = shared.run("recover messages", commands).await?.pop();
            total.requeued += shared.read::<u64>("recover messages", reply)?;
        }
    }
    if total.requeued > 0 {
        shared.state().kick = true;
        shared.news.notify_one();
    }
    Ok(total)
}

/// The epochs that may be taken for dead, each with the index of the lane.
async fn dead(shared: &Shared) -> Result<Vec<(usize, String)>> {
    let leases: Vec<String> = shared.lanes.iter().map(|served| served.lane.leases()).collect();
    let mut commands = pipe();
    commands.add_command(LAPSED.call(&leases));
    let mut lists: Vec<redis::Value> =
        shared.read("list leases", shared.run("list leases", commands).await?.pop())?;
    let now: Millis = shared.read("list leases", (!lists.is_empty()).then(|| lists.remove(0)))?;
    let (mine, until) = {
        let state = shared.state();
        (state.mine, state.until)
    };
    if until < now {
        // This worker is late itself, or the server's clock has jumped: it judges nobody before it has renewed.
        return Ok(Vec::new());
    }
    let mut dead = Vec::new();
    for (lane, list) in lists.into_iter().enumerate() {
        let ended: Vec<(String, f64)> = shared.read("list leases", Some(list))?;
        dead.extend(
            ended
                .into_iter()
                .filter(|(epoch, until)| {
                    *epoch != shared.epoch && lease::lapsed(*until as Millis, mine, now)
                })
                .map(|(epoch, _)| (lane, epoch)),
        );
    }
    Ok(dead)
}

/// Takes the leases away; what each epoch held, as (lane, epoch, sequence numbers).
async fn condemn(
    shared: &Shared,
    dead: Vec<(usize, String)>,
) -> Result<Vec<(usize, String, Vec<u64>)>> {
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let mut commands = pipe();
    for (lane, epoch) in &dead {
        let lane = &shared.lanes[*lane].lane;
        let mut call = CONDEMN.call(&[lane.leases(), lane.held(epoch), lane.inbox(epoch)]);
        call.arg(epoch).arg(REMEMBER_MS);
        commands.add_command(call);
    }
    let replies = shared.run("recover messages", commands).await?;
    let mut found = Vec::with_capacity(dead.len());
    for ((lane, epoch), reply) in dead.into_iter().zip(replies) {
        let seqs: Option<Vec<u64>> = shared.read("recover messages", Some(reply))?;
        found.push((lane, epoch, seqs.unwrap_or_default()));
    }
    Ok(found)
}
