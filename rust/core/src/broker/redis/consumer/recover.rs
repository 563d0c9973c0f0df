//! Putting back what lost workers had.
//!
//! Any worker may sweep, and several may sweep at once. A sweep lists all leases, of whatever
//! queues, and takes an epoch for lost whose lease has not moved for its length ([`Watch`]). It
//! first takes the lease away for good, then each lane, which fences the worker should it live
//! after all, and then moves what it had in scripts of [`CHUNK`] messages, newest first, so that
//! the oldest ends up at the very head. A lease that was taken away stays, as 0, until all of that
//! is done: whoever sees it goes on.
//!
//! A worker does the same with what its own epoch has and it does not hold ([`retain`]).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::{Value, pipe};

use super::{session::Session, settle};
use crate::{
    broker::{
        Recovered, Tag,
        lease::{LEASE_MS, SWEEP_MS},
        redis::{
            keys::Lane,
            scripts::{FENCE, LAPSE, RECOVER},
        },
    },
    clock::{self, Millis},
    error::Result,
};

const WHAT: &str = "recover messages";
/// Messages per script.
const CHUNK: usize = 256;
/// A sweeper that has not swept for longer has missed renewals of others, or the server was away
/// from all of them: it begins anew to watch.
const GAP: Duration = Duration::from_millis(4 * SWEEP_MS);

/// Which leases move.
///
/// A lease is lost when it has not moved for its length of the watcher's own time, in which the
/// watcher has looked all the time. So no clock is compared with another one, wherever the server's
/// is set to; a new worker watches for the length of a lease before it judges; and after an outage,
/// which stops all leases, everybody gets that time to come back.
#[derive(Default)]
pub(super) struct Watch {
    seen: HashMap<String, Seen>,
    last: Option<Instant>,
}

struct Seen {
    /// The lease as the server tells it, to be compared with itself.
    lease: String,
    since: Instant,
}

impl Watch {
    /// Which of these leases are lost, as (epoch, lease).
    fn lost(&mut self, leases: Vec<(String, String)>, now: Instant) -> Vec<(String, String)> {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) > GAP) {
            self.seen.clear();
        }
        self.last = Some(now);
        let length = Duration::from_millis(LEASE_MS as u64);
        let mut before = std::mem::take(&mut self.seen);
        let mut lost = Vec::new();
        for (epoch, lease) in leases {
            let since = match before.remove(&epoch) {
                Some(seen) if seen.lease == lease => seen.since,
                _ => now,
            };
            // 0: somebody has taken it away and may not have come to an end.
            if lease == "0" || now.saturating_duration_since(since) >= length {
                lost.push((epoch.clone(), lease.clone()));
            }
            self.seen.insert(epoch, Seen { lease, since });
        }
        lost
    }
}

pub(super) async fn recover(session: &Arc<Session>, watch: &Mutex<Watch>) -> Result<Recovered> {
    let mut commands = pipe();
    commands.cmd("ZRANGE").arg(session.keys.leases()).arg(0).arg(-1).arg("WITHSCORES");
    let reply = session.run("list leases", commands).await?.pop();
    let mut leases: Vec<(String, String)> = session.read("list leases", reply)?;
    leases.retain(|(epoch, _)| *epoch != session.epoch);
    let lost = watch.lock().unwrap_or_else(PoisonError::into_inner).lost(leases, clock::instant());
    let mut total = Recovered::default();
    for (epoch, lease) in lost {
        total.requeued += of_epoch(session, &epoch, &lease).await?;
    }
    Ok(total)
}

/// The epochs that have renewed their lease within its length, by the server's clock.
pub(super) async fn standing(session: &Session) -> Result<Vec<String>> {
    const WHAT: &str = "list leases";
    let mut commands = pipe();
    commands.cmd("TIME");
    commands.cmd("ZRANGE").arg(session.keys.leases()).arg(0).arg(-1).arg("WITHSCORES");
    let mut replies = session.run(WHAT, commands).await?.into_iter();
    let (seconds, _): (Millis, Millis) = session.read(WHAT, replies.next())?;
    let leases: Vec<(String, f64)> = session.read(WHAT, replies.next())?;
    let stands = |(_, renewed): &(String, f64)| *renewed as Millis + LEASE_MS >= seconds * 1_000;
    Ok(leases.into_iter().filter(stands).map(|(epoch, _)| epoch).collect())
}

/// Recovers what an epoch had, if its lease is still as it was seen.
async fn of_epoch(session: &Session, epoch: &str, lease: &str) -> Result<u64> {
    let (leases, queues) = (session.keys.leases(), session.keys.queues_of(epoch));
    let mut commands = pipe();
    commands.add_command(LAPSE.call(&[&leases, &queues]).arg(epoch).arg(lease).take());
    let reply = session.run(WHAT, commands).await?.pop();
    let Some(names): Option<Vec<String>> = session.read(WHAT, reply)? else { return Ok(0) };
    let lanes: Vec<Lane> = names.iter().flat_map(|name| session.keys.lanes(name)).collect();
    fence(session, epoch, &lanes).await?;
    let (requeued, all) = of_lanes(session, epoch, &lanes).await?;
    if all {
        let mut commands = pipe();
        commands.cmd("ZREM").arg(&leases).arg(epoch).cmd("DEL").arg(&queues);
        session.run(WHAT, commands).await?;
    }
    Ok(requeued)
}

/// Takes away the lanes on which the epoch may still claim.
async fn fence(session: &Session, epoch: &str, lanes: &[Lane]) -> Result<()> {
    let mut ask = pipe();
    for lane in lanes {
        ask.cmd("HGET").arg(lane.unacked(epoch)).arg("");
    }
    let mut commands = pipe();
    for (lane, reply) in lanes.iter().zip(session.replies(WHAT, ask).await?) {
        match reply.extract_error() {
            Ok(Value::Nil) => {}
            Ok(number) => {
                let number: String = session.read(WHAT, Some(number))?;
                commands.add_command(FENCE.call(&[lane.unacked(epoch), lane.moved(epoch, number)]));
            }
            Err(error) => session.spared(WHAT, &lane.unacked(epoch), error)?,
        }
    }
    if !commands.is_empty() {
        session.run(WHAT, commands).await?;
    }
    Ok(())
}

/// Puts back what the epoch had; how many messages, and whether that was all.
async fn of_lanes(session: &Session, epoch: &str, lanes: &[Lane]) -> Result<(u64, bool)> {
    let (mut requeued, mut all) = (0, true);
    let mut ask = pipe();
    for lane in lanes {
        ask.cmd("HKEYS").arg(lane.unacked(epoch));
    }
    for (lane, reply) in lanes.iter().zip(session.replies(WHAT, ask).await?) {
        let unacked = lane.unacked(epoch);
        let mut seqs: Vec<u64> = match reply.extract_error() {
            Ok(fields) => session.read(WHAT, Some(fields))?,
            Err(error) => {
                session.spared(WHAT, &unacked, error)?;
                continue;
            }
        };
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        for chunk in seqs.chunks(CHUNK) {
            let mut commands = pipe();
            commands.add_command(
                RECOVER.call(&[lane.redelivered(), unacked.clone()]).arg(chunk).take(),
            );
            let reply = session.replies(WHAT, commands).await?.pop().unwrap_or(Value::Nil);
            match reply.extract_error() {
                Ok(count) => requeued += session.read::<u64>(WHAT, Some(count))?,
                Err(error) => {
                    session.spared(WHAT, &lane.redelivered(), error)?;
                    all = false;
                    break;
                }
            }
        }
    }
    Ok((requeued, all))
}

/// Hands back what is recorded under the epoch of the session and is not among `held`. Newest first,
/// as each call puts its part in front of the one before.
pub(super) async fn retain(session: &Arc<Session>, held: Vec<Tag>) -> Result<Recovered> {
    const WHAT: &str = "compare what is held";
    let held: HashSet<Tag> = held.into_iter().collect();
    let mut ask = pipe();
    for served in &session.lanes {
        ask.cmd("HKEYS").arg(&served.unacked);
    }
    let mut total = Recovered::default();
    for (served, reply) in session.lanes.iter().zip(session.replies(WHAT, ask).await?) {
        let fields: Vec<String> = match reply.extract_error() {
            Ok(fields) => session.read(WHAT, Some(fields))?,
            Err(error) => {
                session.spared(WHAT, &served.unacked, error)?;
                continue;
            }
        };
        let tag = |field: &String| Some(Tag { lane: served.number, seq: field.parse().ok()? });
        let mut tags: Vec<Tag> =
            fields.iter().filter_map(tag).filter(|tag| !held.contains(tag)).collect();
        tags.sort_unstable_by_key(|tag| tag.seq);
        for chunk in tags.rchunks(CHUNK) {
            settle::hand_back(session, chunk).await?;
        }
        total.requeued += tags.len() as u64;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(epoch, lease)| ((*epoch).into(), (*lease).into())).collect()
    }

    #[test]
    fn a_lease_that_does_not_move_is_lost_wherever_it_is_set_to() {
        let (mut watch, begin) = (Watch::default(), clock::instant());
        let far = "9000000000000";
        for second in 0..8 {
            let moves = (second + 1).to_string();
            let now = begin + Duration::from_secs(second);
            assert_eq!(watch.lost(leases(&[("dead", far), ("alive", &moves)]), now), []);
        }
        let now = begin + Duration::from_secs(8);
        assert_eq!(
            watch.lost(leases(&[("dead", far), ("alive", "9")]), now),
            leases(&[("dead", far)])
        );
    }

    #[test]
    fn who_has_not_looked_begins_anew() {
        let (mut watch, begin) = (Watch::default(), clock::instant());
        for second in [0, 1, 2, 9, 10, 16] {
            let now = begin + Duration::from_secs(second);
            assert_eq!(watch.lost(leases(&[("other", "7")]), now), [], "after {second} s");
        }
    }

    #[test]
    fn what_another_worker_began_is_brought_to_an_end() {
        let lost = Watch::default().lost(leases(&[("e", "0")]), clock::instant());
        assert_eq!(lost, leases(&[("e", "0")]));
    }
}
