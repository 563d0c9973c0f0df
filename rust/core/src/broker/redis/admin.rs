//! Questions and repairs from outside the path: what a queue holds, purging, cancelling, dead
//! letters.
//!
//! Asked by people and command lines, so clarity beats speed; still no script runs longer than a
//! few hundred messages' worth, because the server serves nobody else meanwhile.
//!
//! The key of a dead letter, as callers see it, is the index of its lane, a colon, and its field in
//! the lane's hash.

use std::collections::BTreeSet;

use bytes::Bytes;
use redis::{Pipeline, RedisResult, Value, cmd, pipe};

use super::{
    keys::{Keys, Lane},
    scripts::{CANCEL, PURGE, REPLAY},
};
use crate::{
    broker::{DeadLetter, QueueStats, cancelled},
    clock::Millis,
    redis_connection::{Lease, is_about_key},
};

/// Digits before a message in its bucket; see `keys::bucket_offset`.
const OFFSET: usize = 3;
/// Dead letters, or buckets of the due set, per script.
const CHUNK: usize = 256;

pub(super) fn stats(lease: &mut Lease, keys: &Keys, lanes: &[Lane]) -> RedisResult<QueueStats> {
    let mut stats = QueueStats::default();
    let mut ask = pipe();
    ask.cmd("ZRANGE").arg(keys.leases()).arg(0).arg(-1);
    for lane in lanes {
        ask.cmd("LLEN").arg(&lane.list);
        ask.cmd("LLEN").arg(lane.redelivered());
        ask.cmd("LLEN").arg(lane.overdue());
        ask.cmd("ZRANGE").arg(lane.due()).arg(0).arg(-1);
        ask.cmd("HLEN").arg(lane.dead());
    }
    let answers = lease.pipeline(&ask)?;
    let (epochs, answers) = answers.split_first().expect("a reply for each command");
    let epochs: Vec<String> = redis::from_redis_value_ref(epochs)?;
    let mut scheduled = pipe();
    for (lane, answer) in lanes.iter().zip(answers.chunks(5)) {
        let number = |i: usize| redis::from_redis_value_ref::<u64>(&answer[i]);
        stats.depth += number(0)? + number(1)? + number(2)?;
        for begin in redis::from_redis_value_ref::<Vec<Millis>>(&answer[3])? {
            scheduled.cmd("HLEN").arg(lane.bucket(begin));
        }
        stats.dead += number(4)?;
    }
    stats.scheduled = sum(lease, &scheduled)?;
    stats.in_flight = in_flight(lease, &epochs, lanes)?;
    Ok(stats)
}

/// What these epochs have of these lanes.
fn in_flight(lease: &mut Lease, epochs: &[String], lanes: &[Lane]) -> RedisResult<u64> {
    let each = || epochs.iter().flat_map(|epoch| lanes.iter().map(move |lane| (epoch, lane)));
    let mut ask = pipe();
    for (epoch, lane) in each() {
        ask.cmd("HLEN").arg(lane.unacked(epoch)).cmd("HGET").arg(lane.unacked(epoch)).arg("");
    }
    let answers = lease.pipeline(&ask)?;
    let (mut total, mut moved) = (0, pipe());
    for ((epoch, lane), answer) in each().zip(answers.chunks(2)) {
        let mut held = redis::from_redis_value_ref::<u64>(&answer[0])?;
        if let Some(session) = redis::from_redis_value_ref::<Option<String>>(&answer[1])? {
            held = held.saturating_sub(1); // the session is a field of its own
            moved.cmd("LLEN").arg(lane.moved(epoch, session));
        }
        total += held;
    }
    if moved.is_empty() {
        return Ok(total);
    }
    for count in lease.exchange(&moved.get_packed_pipeline(), moved.len())? {
        match count.extract_error() {
            // The session ended between the two questions: then this is no list any more, and what it
            // held is in its queue.
            Err(error) if is_about_key(&error) => {}
            count => total += redis::from_redis_value::<u64>(count?)?,
        }
    }
    Ok(total)
}

/// The sum of what the commands answer.
fn sum(lease: &mut Lease, commands: &Pipeline) -> RedisResult<u64> {
    if commands.is_empty() {
        return Ok(0);
    }
    let counts = lease.pipeline(commands)?;
    counts.into_iter().map(|count| Ok(redis::from_redis_value::<u64>(count)?)).sum()
}

pub(super) fn queues(lease: &mut Lease, key: &str) -> RedisResult<Vec<String>> {
    let names: BTreeSet<String> = cmd("SMEMBERS").arg(key).query(&mut lease.con)?;
    Ok(names.into_iter().collect())
}

pub(super) fn purge(lease: &mut Lease, lanes: &[Lane]) -> RedisResult<u64> {
    let mut dropped = 0;
    for lane in lanes {
        let buckets = buckets(lease, lane)?;
        // At least one call, for what is ready.
        for chunk in chunks_or_none(&buckets) {
            let mut keys = vec![lane.list.clone(), lane.redelivered(), lane.overdue(), lane.due()];
            keys.extend(chunk.iter().map(|begin| lane.bucket(*begin)));
            let mut call = PURGE.call(&keys);
            call.arg(chunk);
            dropped += redis::from_redis_value::<u64>(PURGE.run(lease, &call)?)?;
        }
    }
    Ok(dropped)
}

pub(super) fn cancel(lease: &mut Lease, lanes: &[Lane], id: &str) -> RedisResult<bool> {
    let mut dropped = 0;
    for lane in lanes {
        for chunk in buckets(lease, lane)?.chunks(CHUNK) {
            let mut keys = vec![lane.list.clone(), lane.due()];
            keys.extend(chunk.iter().map(|begin| lane.bucket(*begin)));
            dropped += cancel_in(lease, &keys, id, chunk)?;
        }
    }
    Ok(dropped > 0)
}

/// What becomes of a message is decided here; the script carries it out where the message is still
/// what it was.
fn cancel_in(lease: &mut Lease, keys: &[String], id: &str, chunk: &[Millis]) -> RedisResult<u64> {
    let (mut cancelled, mut seen) = (0, Vec::<(Vec<u8>, Bytes)>::new());
    loop {
        let mut call = CANCEL.call(keys);
        call.arg(id).arg(seen.len());
        for (raw, instead) in &seen {
            call.arg(raw).arg(&instead[..]);
        }
        call.arg(chunk);
        let (gone, unseen): (u64, Vec<Vec<u8>>) =
            redis::from_redis_value(CANCEL.run(lease, &call)?)?;
        cancelled += gone;
        if unseen.is_empty() {
            return Ok(cancelled);
        }
        seen.extend(unseen.into_iter().map(|raw| {
            let message = raw.get(OFFSET..).unwrap_or_default();
            let instead = cancelled::instead(message).unwrap_or_default();
            (raw, instead)
        }));
    }
}

/// Where the buckets of a lane's due set begin.
fn buckets(lease: &mut Lease, lane: &Lane) -> RedisResult<Vec<Millis>> {
    cmd("ZRANGE").arg(lane.due()).arg(0).arg(-1).query(&mut lease.con)
}

/// Chunks, or a single empty one.
fn chunks_or_none(buckets: &[Millis]) -> impl Iterator<Item = &[Millis]> {
    buckets.chunks(CHUNK).chain(buckets.is_empty().then_some(buckets))
}

pub(super) fn dead(
    lease: &mut Lease,
    lanes: &[Lane],
    limit: usize,
) -> RedisResult<Vec<DeadLetter>> {
    let mut found = fields(lease, lanes)?;
    // Fields begin with the time: the newest are the largest.
    found.sort_unstable_by(|a, b| b.1.cmp(&a.1));
    found.truncate(limit);
    let mut letters = Vec::with_capacity(found.len());
    for chunk in found.chunks(CHUNK) {
        let mut ask = pipe();
        for (lane, field) in chunk {
            ask.cmd("HGET").arg(lanes[*lane].dead()).arg(field);
        }
        let records = lease.pipeline(&ask)?;
        for ((lane, field), record) in chunk.iter().zip(records) {
            let Value::BulkString(record) = record else { continue };
            letters.extend(read_record(format!("{lane}:{field}"), &Bytes::from(record)));
        }
    }
    Ok(letters)
}

pub(super) fn replay(
    lease: &mut Lease,
    lanes: &[Lane],
    keys: Option<&[String]>,
) -> RedisResult<u64> {
    each_lane(lease, lanes, keys, |lease, lane, fields| {
        let mut call = REPLAY.call(&[&lane.list, &lane.dead()]);
        for field in fields {
            call.arg(field);
        }
        redis::from_redis_value::<u64>(REPLAY.run(lease, &call)?).map_err(Into::into)
    })
}

pub(super) fn discard(
    lease: &mut Lease,
    lanes: &[Lane],
    keys: Option<&[String]>,
) -> RedisResult<u64> {
    each_lane(lease, lanes, keys, |lease, lane, fields| {
        cmd("HDEL").arg(lane.dead()).arg(fields).query(&mut lease.con)
    })
}

/// Runs `act` on the chosen dead letters, oldest first, in chunks of one lane.
fn each_lane(
    lease: &mut Lease,
    lanes: &[Lane],
    keys: Option<&[String]>,
    act: impl Fn(&mut Lease, &Lane, &[String]) -> RedisResult<u64>,
) -> RedisResult<u64> {
    let chosen = match keys {
        None => fields(lease, lanes)?,
        Some(keys) => keys.iter().filter_map(|key| split_key(key, lanes.len())).collect(),
    };
    let mut total = 0;
    for (index, lane) in lanes.iter().enumerate() {
        let mut fields: Vec<String> =
            chosen.iter().filter(|(i, _)| *i == index).map(|(_, field)| field.clone()).collect();
        fields.sort_unstable();
        for chunk in fields.chunks(CHUNK) {
            total += act(lease, lane, chunk)?;
        }
    }
    Ok(total)
}

/// Every dead letter as (lane, field).
fn fields(lease: &mut Lease, lanes: &[Lane]) -> RedisResult<Vec<(usize, String)>> {
    let mut ask = pipe();
    for lane in lanes {
        ask.cmd("HKEYS").arg(lane.dead());
    }
    let mut found = Vec::new();
    for (lane, fields) in lease.pipeline(&ask)?.into_iter().enumerate() {
        let fields: Vec<String> = redis::from_redis_value(fields)?;
        found.extend(fields.into_iter().map(|field| (lane, field)));
    }
    Ok(found)
}

fn split_key(key: &str, lanes: usize) -> Option<(usize, String)> {
    let (lane, field) = key.split_once(':')?;
    let lane = lane.parse().ok().filter(|lane| *lane < lanes)?;
    Some((lane, field.to_owned()))
}

/// Reads `at count idlen reasonlen\n`, the id, the reason, the message, as `settle.lua` writes
/// them. `None` for a record that this version did not write.
fn read_record(key: String, record: &Bytes) -> Option<DeadLetter> {
    let eol = record.iter().position(|b| *b == b'\n')?;
    let mut numbers = std::str::from_utf8(&record[..eol]).ok()?.split(' ').map(str::parse::<i64>);
    let mut number = || numbers.next()?.ok();
    let (at, redeliveries, id_len, reason_len) =
        (number()?, number()?, number()? as usize, number()? as usize);
    let id_end = eol.checked_add(1)?.checked_add(id_len)?;
    let reason_end = id_end.checked_add(reason_len)?;
    let raw = record.slice_ref(record.get(reason_end..)?);
    let id = String::from_utf8_lossy(record.get(eol + 1..id_end)?).into_owned();
    let letter = DeadLetter {
        key,
        id,
        reason: String::from_utf8_lossy(record.get(id_end..reason_end)?).into_owned(),
        at,
        redeliveries: redeliveries as u32,
        message: None,
        raw,
    };
    Some(letter.decoded())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let record = Bytes::from_static(b"1700000000000 2 3 7\nid1broken\nraw\nbytes");
        let letter = read_record("0:k".into(), &record).unwrap();
        assert_eq!((letter.id.as_str(), letter.reason.as_str()), ("id1", "broken\n"));
        assert_eq!(
            (letter.at, letter.redeliveries, &*letter.raw),
            (1_700_000_000_000, 2, &b"raw\nbytes"[..])
        );
        for bad in [&b""[..], b"no newline", b"1 2 3\n", b"1 2 900 1\nx", b"1 2 -3 1\nxxxx"] {
            assert!(read_record(String::new(), &Bytes::copy_from_slice(bad)).is_none());
        }
    }

    #[test]
    fn keys_of_other_shapes_are_passed_over() {
        assert_eq!(split_key("1:17-e-2", 4), Some((1, "17-e-2".into())));
        assert_eq!(split_key("9:17", 4), None);
        assert_eq!(split_key("17", 4), None);
    }
}
