//! Periodic tasks on the server: hashes by the name of the entry, and one script that sends what is
//! due and says so.
//!
//! The script writes to the lists of the queues and to the schedule's own keys, which lie in
//! different slots of a cluster: there it is refused by the server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use redis::{Cmd, RedisResult, cmd, from_redis_value, pipe};

use super::{
    keys::{Keys, ScheduleKeys, bucket_begin, bucket_offset, step},
    scripts::{FIRE, LEAD, PAUSE, PUT, REMOVE, RESIGN},
};
use crate::{
    broker::{
        HORIZON_MS,
        schedule::{Definition, Due, Entries, Entry, Firing, Guard, Leader},
    },
    clock::{self, Millis},
    redis_connection::Lease,
};

/// Entries per script: the server does nothing else meanwhile.
const CHUNK: usize = 200;

pub(super) fn lead(
    lease: &mut Lease,
    keys: &ScheduleKeys,
    beat: &str,
    length: Millis,
) -> RedisResult<Leader> {
    let mut call = LEAD.call(&[&keys.leader, &keys.revision]);
    let (beat, revision) = from_redis_value(LEAD.run(lease, call.arg(beat).arg(length))?)?;
    Ok(Leader { beat, revision })
}

pub(super) fn resign(lease: &mut Lease, keys: &ScheduleKeys, beat: &str) -> RedisResult<()> {
    RESIGN.run(lease, RESIGN.call(&[&keys.leader]).arg(beat)).map(drop)
}

/// Revision, definitions, done, runs, sent, paused.
type Answer = (
    Option<u64>,
    BTreeMap<String, String>,
    HashMap<String, Due>,
    HashMap<String, u64>,
    HashMap<String, Millis>,
    HashSet<String>,
);

pub(super) fn entries(lease: &mut Lease, keys: &ScheduleKeys) -> RedisResult<Entries> {
    let mut ask = pipe();
    // One moment for all of them.
    ask.atomic().cmd("GET").arg(&keys.revision).cmd("HGETALL").arg(&keys.definitions);
    ask.cmd("HGETALL").arg(&keys.done).cmd("HGETALL").arg(&keys.runs);
    ask.cmd("HGETALL").arg(&keys.sent).cmd("SMEMBERS").arg(&keys.paused);
    let (revision, definitions, done, runs, sent, paused): Answer = ask.query(&mut lease.con)?;
    let entry = |(name, definition): (String, String)| Entry {
        done: done.get(&name).copied().unwrap_or_default(),
        runs: runs.get(&name).copied().unwrap_or_default(),
        sent_at: sent.get(&name).copied(),
        paused: paused.contains(&name),
        definition,
        name,
    };
    let entries = definitions.into_iter().map(entry).collect();
    Ok(Entries { revision: revision.unwrap_or_default(), entries })
}

pub(super) fn put(
    lease: &mut Lease,
    keys: &ScheduleKeys,
    definitions: &[Definition],
    guard: &Guard,
) -> RedisResult<bool> {
    let mut guard = guard.clone();
    for chunk in definitions.chunks(CHUNK) {
        let mut call = PUT.call(&[&keys.leader, &keys.revision, &keys.definitions, &keys.done]);
        add_guard(&mut call, &guard);
        for one in chunk {
            call.arg(&one.name).arg(&one.definition).arg(one.done).arg(u8::from(one.restart));
        }
        if !from_redis_value(PUT.run(lease, &call)?)? {
            return Ok(false);
        }
        // Each chunk is a change of its own.
        if let Guard::Revision(revision) = &mut guard {
            *revision += 1;
        }
    }
    Ok(true)
}

pub(super) fn remove(
    lease: &mut Lease,
    keys: &ScheduleKeys,
    names: &[String],
    guard: &Guard,
) -> RedisResult<Option<u64>> {
    let (mut removed, mut guard) = (0, guard.clone());
    for chunk in names.chunks(CHUNK) {
        let ScheduleKeys { leader, revision, definitions, done, runs, sent, paused } = keys;
        let mut call = REMOVE.call(&[leader, revision, definitions, done, runs, sent, paused]);
        add_guard(&mut call, &guard);
        let there: Option<u64> = from_redis_value(REMOVE.run(lease, call.arg(chunk))?)?;
        let Some(there) = there else { return Ok(None) };
        removed += there;
        if let Guard::Revision(revision) = &mut guard {
            *revision += u64::from(there > 0);
        }
    }
    Ok(Some(removed))
}

/// Two arguments: the beat that must lead, the revision that must be; empty: any.
fn add_guard(call: &mut Cmd, guard: &Guard) {
    match guard {
        Guard::Always => call.arg("").arg(""),
        Guard::Leads(beat) => call.arg(beat).arg(""),
        Guard::Revision(revision) => call.arg("").arg(*revision),
    };
}

pub(super) fn pause(
    lease: &mut Lease,
    keys: &ScheduleKeys,
    name: &str,
    paused: bool,
) -> RedisResult<bool> {
    let mut call = PAUSE.call(&[&keys.definitions, &keys.paused, &keys.revision]);
    from_redis_value(PAUSE.run(lease, call.arg(name).arg(u8::from(paused)))?).map_err(Into::into)
}

/// Sends what is due, in order, and moves its entries.
pub(super) fn fire(
    lease: &mut Lease,
    (keys, schedule): (&Keys, &ScheduleKeys),
    firings: &[Firing],
) -> RedisResult<Vec<bool>> {
    announce(lease, keys, firings)?;
    let mut done = Vec::with_capacity(firings.len());
    for chunk in firings.chunks(CHUNK) {
        let now = clock::wall_ms();
        let mut places = Places::new(schedule);
        let steps: Vec<_> =
            chunk.iter().map(|one| places.step(keys, one, now + HORIZON_MS)).collect();
        let mut call = FIRE.call(&places.keys);
        call.arg(now);
        for (firing, (place, scheduled, raw)) in chunk.iter().zip(steps) {
            call.arg(&firing.name)
                .arg(firing.from)
                .arg(firing.to)
                .arg(place)
                .arg(scheduled)
                .arg(raw);
        }
        done.extend(from_redis_value::<Vec<bool>>(FIRE.run(lease, &call)?)?);
    }
    Ok(done)
}

/// Enters queues that this connection has not named before into the set of known ones.
fn announce(lease: &mut Lease, keys: &Keys, firings: &[Firing]) -> RedisResult<()> {
    let messages = firings.iter().filter_map(|firing| firing.message.as_ref());
    let new: BTreeSet<&Arc<str>> = messages
        .filter(|message| !lease.said.contains(&message.queue))
        .map(|message| &message.queue)
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut add = cmd("SADD");
    add.arg(keys.queues());
    for queue in &new {
        add.arg(&***queue);
    }
    add.exec(&mut lease.con)?;
    lease.said.extend(new.into_iter().cloned());
    Ok(())
}

/// The keys of one script: the schedule's own, and then those that messages go to.
struct Places {
    keys: Vec<String>,
    /// Which of the further keys each is, from 1 on.
    known: HashMap<String, usize>,
}

impl Places {
    fn new(schedule: &ScheduleKeys) -> Self {
        let ScheduleKeys { done, runs, sent, paused, .. } = schedule;
        let keys = [done, runs, sent, paused].map(Clone::clone).to_vec();
        Self { keys, known: HashMap::new() }
    }

    /// Where a firing's message goes: the place of its key, what a bucket needs, the bytes.
    fn step(&mut self, keys: &Keys, firing: &Firing, horizon: Millis) -> (usize, String, Vec<u8>) {
        let Some(message) = &firing.message else { return (0, String::new(), Vec::new()) };
        let encoded = message.encoded();
        let lane = keys.lane(&message.queue, step(encoded.priority));
        let Some(due) = encoded.due.filter(|due| *due > horizon) else {
            return (self.place(&[lane.list]), String::new(), encoded.data.to_vec());
        };
        let begin = bucket_begin(due);
        let raw = [&bucket_offset(due)[..], &encoded.data].concat();
        let place = self.place(&[lane.due(), lane.bucket(begin)]);
        (place, format!("{begin} {}", encoded.id), raw)
    }

    fn place(&mut self, keys: &[String]) -> usize {
        let name = keys.last().expect("a message goes somewhere");
        if let Some(place) = self.known.get(name) {
            return *place;
        }
        // Behind the four of the schedule.
        let place = self.keys.len() - 3;
        self.known.insert(name.clone(), place);
        self.keys.extend_from_slice(keys);
        place
    }
}
