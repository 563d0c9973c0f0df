//! Claiming: one script for what is ready on all lanes, two for what comes due (which buckets, then out of these, because a script
//! is told all its keys), and a wait when there is nothing.
//!
//! A claim runs as a task of its own: whoever drops a `fetch` does not drop the reply, which the next `fetch` finds. What
//! nobody asks for within [`GRACE`] goes back to its list, so that a worker that wants one message holds one.
//!
//! Waits end when a message lands or when the next scheduled one enters the horizon. Besides, every [`TICK`] a waiting fetch
//! claims anyway: other producers add to the due set, and what another worker recovered wakes no wait.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value, pipe};

use super::{
    consume::{Life, Served, Shared, State},
    keys::BUCKET_MS,
    scripts::{CLAIM, DUE, Lua, NEAR},
    settle, wait,
};
use crate::{
    broker::{Delivery, HORIZON_MS},
    clock::{self, Millis},
    error::Result,
};

/// How long a message waits for a fetch before it is handed back.
const GRACE: Duration = Duration::from_millis(2);
/// How often a waiting fetch looks for what wakes nobody: twice per horizon.
const TICK: Duration = Duration::from_millis(HORIZON_MS as u64 / 2);
/// How long after a wait landed a message nothing is claimed: its list was empty then, and the next wait answers at once if it is
/// not any more. A claim would stand in front of that message's result in the server.
const LULL: Duration = Duration::from_millis(1);
/// Messages per script: a bound on how long the server serves nobody else, and on the arguments of one Lua call.
const MOST: usize = 1_000;
/// Buckets of a lane's due set per script.
const BUCKETS: usize = 64;

/// Marks a fetch as outstanding for as long as it lives.
struct Outstanding<'a>(&'a Arc<Shared>);

impl<'a> Outstanding<'a> {
    fn begin(shared: &'a Arc<Shared>, want: usize) -> Self {
        shared.state().wanted = Some(want);
        Self(shared)
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.wanted = None;
        linger(self.0, &mut state);
    }
}

pub(super) async fn fetch(
    shared: &Arc<Shared>,
    want: usize,
    want_due: usize,
) -> Result<Vec<Delivery>> {
    let _outstanding = Outstanding::begin(shared, want);
    let lull_until = shared.state().landed_at.map(|at| at + LULL);
    let mut claim_first = lull_until.is_none_or(|until| until <= clock::instant());
    loop {
        shared.check()?;
        let (claiming, due_at) = {
            let mut state = shared.state();
            let taken = shared.ledger.take(want, want_due);
            if !taken.is_empty() {
                return Ok(taken);
            }
            claim_first |= std::mem::take(&mut state.kick);
            let claiming = state.claiming;
            if !claiming && claim_first {
                state.claiming = true;
                state.landed_at = None;
            }
            (claiming, state.due_at)
        };
        if claiming {
            shared.news.notified().await;
            claim_first = false;
        } else if claim_first {
            tokio::spawn(claim(Arc::clone(shared), want.min(MOST), want_due.min(MOST)));
            claim_first = false;
        } else {
            if want > 0 {
                wait::arm(shared);
            }
            let now = clock::instant();
            let tick = lull_until.filter(|until| *until > now).unwrap_or(now + TICK);
            let until = if want_due > 0 { tick.min(due_at) } else { tick };
            tokio::select! {
                () = shared.news.notified() => {}
                () = tokio::time::sleep_until(until.into()) => claim_first = true,
            }
        }
    }
}

/// Claims, and leaves what it got, or why it failed, for the fetch.
async fn claim(shared: Arc<Shared>, want: usize, want_due: usize) {
    let first = shared.ledger.claim((want + want_due) as u64);
    let outcome = ask(&shared, first, want, want_due).await;
    let mut state = shared.state();
    state.claiming = false;
    match outcome {
        Ok(()) => {
            if state.wanted.is_none() {
                linger(&shared, &mut state);
            }
            drop(state);
            shared.news.notify_one();
        }
        Err(error) => {
            drop(state);
            shared.fail(&error);
        }
    }
}

async fn ask(shared: &Shared, first: u64, want: usize, want_due: usize) -> Result<()> {
    let due = want_due > 0 && shared.state().due_at <= clock::instant();
    let mut commands = pipe();
    if want > 0 {
        commands.add_command(shared.calls.claim.clone().arg(want).arg(first).take());
    }
    if due {
        commands.add_command(shared.calls.near.clone());
    }
    if commands.is_empty() {
        shared.ledger.claimed(first, Vec::new(), Vec::new());
        return Ok(());
    }
    let asked = clock::instant();
    let mut replies = shared.run("claim messages", commands).await?.into_iter();
    let ready = if want > 0 { shared.groups(replies.next(), first)? } else { Vec::new() };
    let scheduled = if due {
        let near = Near::read(shared, replies.next())?;
        let (scheduled, all) = if near.buckets.is_empty() {
            (Vec::new(), true)
        } else {
            take_due(shared, &near.buckets, first + want as u64, want_due).await?
        };
        let next = if all { near.next.map_or(TICK, |next| TICK.min(next)) } else { Duration::ZERO };
        shared.state().due_at = asked + next;
        scheduled
    } else {
        Vec::new()
    };
    shared.ledger.claimed(first, ready, scheduled);
    Ok(())
}

/// What the due sets have for now.
struct Near {
    /// The buckets that lie within the horizon, by lane and where they begin.
    buckets: Vec<(usize, Millis)>,
    /// How long until more do, if there are more.
    next: Option<Duration>,
}

impl Near {
    fn read(shared: &Shared, reply: Option<Value>) -> Result<Self> {
        let mut lists: Vec<Value> = shared.read("claim messages", reply)?;
        let now: Millis =
            shared.read("claim messages", (!lists.is_empty()).then(|| lists.remove(0)))?;
        let mut near = Self { buckets: Vec::new(), next: None };
        for (lane, list) in lists.into_iter().enumerate() {
            let begins: Vec<Millis> = shared.read("claim messages", Some(list))?;
            let mut next = (begins.len() == BUCKETS).then_some(0);
            for begin in begins {
                let ahead = begin + BUCKET_MS - 1 - HORIZON_MS - now;
                if ahead > 0 {
                    next = Some(ahead);
                    break;
                }
                near.buckets.push((lane, begin));
            }
            if let Some(next) = next {
                let next = Duration::from_millis(next.unsigned_abs());
                near.next = Some(near.next.map_or(next, |other| other.min(next)));
            }
        }
        Ok(near)
    }
}

/// Claims out of these buckets; what it got, and whether that was all.
async fn take_due(
    shared: &Shared,
    buckets: &[(usize, Millis)],
    first: u64,
    want_due: usize,
) -> Result<(Vec<Delivery>, bool)> {
    let mut keys = Vec::with_capacity(buckets.len() * 4);
    for (lane, begin) in buckets {
        let Served { lane, held, .. } = &shared.lanes[*lane];
        keys.extend([lane.due(), held.clone(), lane.leases(), lane.bucket(*begin)]);
    }
    let mut call = DUE.call(&keys);
    call.arg(&shared.epoch).arg(want_due).arg(first);
    for (lane, begin) in buckets {
        call.arg(*lane).arg(*begin);
    }
    let mut commands = pipe();
    commands.add_command(call);
    let reply = shared.run("claim messages", commands).await?.pop();
    let mut groups: Vec<Value> = shared.read("claim messages", reply)?;
    let left: u8 = shared.read("claim messages", (!groups.is_empty()).then(|| groups.remove(0)))?;
    Ok((shared.groups(Some(Value::Array(groups)), first)?, left == 0))
}

/// The calls of a fetch up to their epoch: their keys are many and never change.
pub(super) struct Calls {
    claim: Cmd,
    near: Cmd,
}

impl Calls {
    pub(super) fn new(lanes: &[Served], epoch: &str) -> Self {
        let mut claim = Vec::with_capacity(lanes.len() * 4);
        let mut near = Vec::with_capacity(lanes.len() * 2);
        for Served { lane, held, .. } in lanes {
            claim.extend([lane.again(), lane.list.clone(), held.clone(), lane.leases()]);
            near.extend([lane.due(), lane.leases()]);
        }
        let call = |script: &Lua, keys: &[String]| script.call(keys).arg(epoch).take();
        Self { claim: call(&CLAIM, &claim), near: call(&NEAR, &near).arg(BUCKETS).take() }
    }
}

impl Shared {
    /// Reads `{ lane, { message, ... } }` groups; the messages are numbered from `first`.
    fn groups(&self, reply: Option<Value>, first: u64) -> Result<Vec<Delivery>> {
        let groups: Vec<Value> = self.read("claim messages", reply)?;
        let mut found = Vec::new();
        let mut seq = first;
        for group in groups {
            let mut parts: Vec<Value> = self.read("claim messages", Some(group))?;
            let messages = parts.pop();
            let lane: usize = self.read("claim messages", parts.pop())?;
            let Some(Value::Array(messages)) = messages else { continue };
            for message in messages {
                if let (Value::BulkString(raw), Some(served)) = (message, self.lanes.get(lane)) {
                    found.push(served.delivery(seq, raw.into()));
                }
                seq += 1;
            }
        }
        Ok(found)
    }
}

/// Hands back what is ready and nobody takes, after a moment in which a next fetch may.
pub(super) fn linger(shared: &Arc<Shared>, state: &mut State) {
    if state.lingering || state.life != Life::Open || !shared.ledger.has_ready() {
        return;
    }
    // Outside a runtime (a consumer dropped with it) the lease takes care of them.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    state.lingering = true;
    let shared = Arc::clone(shared);
    runtime.spawn(async move {
        tokio::time::sleep(GRACE).await;
        let left = {
            let mut state = shared.state();
            state.lingering = false;
            if state.wanted.is_some_and(|want| want > 0) || state.life != Life::Open {
                return;
            }
            // A fetch for scheduled messages alone takes those itself.
            shared.ledger.return_rest(state.wanted.is_none())
        };
        if let Err(error) = settle::hand_back(&shared, &left).await {
            shared.fail(&error);
        }
    });
}
