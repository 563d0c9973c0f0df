//! Calls and outcomes as bytes between the worker and its children; used by both sides.
//!
//! A frame is a length (u32, little endian, without itself) and its payload. On the socket a frame
//! of length 0 is the bell: outcomes wait in the ring. Payloads are fixed fields followed by the
//! variable ones, in one order; both sides are the same build, forked from one process, so there is
//! no version. The reader still checks every length, because the ring lies in memory that user code
//! can reach.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    Error, ErrorKind, Result,
    pool::{Call, EndedTask, FollowUp, Outcome, Status},
};

/// The bell: a frame without payload.
pub const BELL: [u8; 4] = [0; 4];

/// Absent limit, document or end.
const NONE_64: u64 = u64::MAX;
const NONE_32: u32 = u32::MAX;

/// Bytes of an outcome before its variable fields.
const OUTCOME_FIXED: usize = 4 + 8 + 1 + 4 + 3 * 4;
/// Bytes of a message that follows before its variable fields.
const FOLLOW_FIXED: usize = 3 * 4;
/// Bytes of a task that ends with another before its variable fields. The first four are [`NONE_32`],
/// which a message that follows does not begin with.
const ENDED_FIXED: usize = 4 + 1 + 8 + 3 * 4;
/// Bytes of a call before its variable fields.
const CALL_FIXED: usize = 4 + 8 + 4 + 8 + 8 + 2 + 4;

/// Takes the next frame's payload off the front of `buffer`; `None` when it is not complete, or
/// `Some` of no bytes for the bell.
pub fn next_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let len = u32::from_le_bytes(buffer.get(..4)?.try_into().expect("four bytes")) as usize;
    if buffer.len() < 4 + len {
        return None;
    }
    buffer.advance(4);
    Some(buffer.split_to(len))
}

/// The same off bytes that are all there.
pub fn split_frame<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *bytes = rest;
    Some(payload)
}

/// How many more bytes the frame at the front of `buffer` needs; 0 when that is not known yet.
pub fn missing(buffer: &[u8]) -> usize {
    buffer.get(..4).map_or(0, |len| {
        let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
        (4 + len).saturating_sub(buffer.len())
    })
}

/// Appends a call as a frame.
pub fn put_call(out: &mut Vec<u8>, seq: u32, call: &Call) {
    let queue = call.queue.as_bytes();
    let queue = &queue[..queue.len().min(usize::from(u16::MAX))];
    let ended = call.ended.as_deref().unwrap_or_default();
    let payload = CALL_FIXED + queue.len() + ended.len() + call.message.len();
    out.reserve(4 + payload);
    out.put_u32_le(payload as u32);
    out.put_u32_le(seq);
    out.put_u64_le(call.key);
    out.put_u32_le(call.redeliveries);
    out.put_u64_le(call.soft_us.unwrap_or(NONE_64));
    out.put_u64_le(call.hard_us.unwrap_or(NONE_64));
    out.put_u16_le(queue.len() as u16);
    out.put_u32_le(call.ended.as_ref().map_or(NONE_32, |e| e.len() as u32));
    out.put_slice(queue);
    out.put_slice(ended);
    out.put_slice(&call.message);
}

/// Reads a call. `last_queue` is the name that the previous call had: most have the same.
pub fn read_call(mut frame: Bytes, last_queue: &mut Arc<str>) -> Result<(u32, Call)> {
    if frame.len() < CALL_FIXED {
        return Err(broken("call"));
    }
    let mut rest = &frame[..];
    let seq = rest.get_u32_le();
    let key = rest.get_u64_le();
    let redeliveries = rest.get_u32_le();
    let soft_us = Some(rest.get_u64_le()).filter(|v| *v != NONE_64);
    let hard_us = Some(rest.get_u64_le()).filter(|v| *v != NONE_64);
    let queue = usize::from(rest.get_u16_le());
    let ended = Some(rest.get_u32_le()).filter(|v| *v != NONE_32).map(|v| v as usize);
    if rest.len() < queue + ended.unwrap_or(0) {
        return Err(broken("call"));
    }
    let queue = take(&mut rest, queue);
    let ended = ended.map(|len| Box::from(take(&mut rest, len)));
    if last_queue.as_bytes() != queue {
        *last_queue = text(queue).into();
    }
    let queue = last_queue.clone();
    frame.advance(frame.len() - rest.len());
    Ok((seq, Call { key, queue, redeliveries, soft_us, hard_us, message: frame, ended }))
}

/// Appends an outcome as a frame. What follows the task and what ends with it comes last, so that an
/// outcome that has none of these has no byte for them.
pub fn put_outcome(out: &mut Vec<u8>, seq: u32, outcome: &Outcome) {
    let document = outcome.document.as_deref();
    let follow = |f: &FollowUp| FOLLOW_FIXED + f.queue.len() + f.id.len() + f.data.len();
    let payload = OUTCOME_FIXED
        + document.map_or(0, <[u8]>::len)
        + outcome.note.len()
        + outcome.traceback.len()
        + outcome.follow.iter().map(follow).sum::<usize>()
        + outcome.ended.iter().map(ended_length).sum::<usize>();
    out.reserve(4 + payload);
    out.put_u32_le(payload as u32);
    out.put_u32_le(seq);
    out.put_u64_le(outcome.key);
    out.put_u8(outcome.status as u8);
    out.put_u32_le(outcome.runtime_us);
    out.put_u32_le(document.map_or(NONE_32, |d| d.len() as u32));
    out.put_u32_le(outcome.note.len() as u32);
    out.put_u32_le(outcome.traceback.len() as u32);
    out.put_slice(document.unwrap_or_default());
    out.put_slice(outcome.note.as_bytes());
    out.put_slice(outcome.traceback.as_bytes());
    for follow in &outcome.follow {
        out.put_u32_le(follow.queue.len() as u32);
        out.put_u32_le(follow.id.len() as u32);
        out.put_u32_le(follow.data.len() as u32);
        out.put_slice(follow.queue.as_bytes());
        out.put_slice(follow.id.as_bytes());
        out.put_slice(&follow.data);
    }
    for ended in &outcome.ended {
        put_ended(out, ended);
    }
}

fn ended_length(ended: &EndedTask) -> usize {
    let group = ended.member.as_ref().map_or(0, |(group, _)| group.len());
    ENDED_FIXED + ended.id.len() + group + ended.document.len()
}

fn put_ended(out: &mut Vec<u8>, ended: &EndedTask) {
    let (group, index) = match &ended.member {
        Some((group, index)) => (Some(group.as_str()), *index),
        None => (None, None),
    };
    out.put_u32_le(NONE_32);
    out.put_u8(u8::from(ended.revoked));
    out.put_i64_le(index.unwrap_or(i64::MAX));
    out.put_u32_le(group.map_or(NONE_32, |g| g.len() as u32));
    out.put_u32_le(ended.id.len() as u32);
    out.put_u32_le(ended.document.len() as u32);
    out.put_slice(group.unwrap_or_default().as_bytes());
    out.put_slice(ended.id.as_bytes());
    out.put_slice(&ended.document);
}

/// Reads an outcome. What of it stays is a part of `bytes`, in which the frame lies; most have no
/// such part, and then nothing is counted or allocated.
pub fn read_outcome(mut frame: &[u8], bytes: &Bytes) -> Result<(u32, Outcome)> {
    if frame.len() < OUTCOME_FIXED {
        return Err(broken("outcome"));
    }
    let seq = frame.get_u32_le();
    let key = frame.get_u64_le();
    let status = status(frame.get_u8())?;
    let runtime_us = frame.get_u32_le();
    let (document, note, traceback) =
        (frame.get_u32_le(), frame.get_u32_le() as usize, frame.get_u32_le() as usize);
    let document_len = if document == NONE_32 { 0 } else { document as usize };
    if frame.len() < document_len + note + traceback {
        return Err(broken("outcome"));
    }
    let part = take(&mut frame, document_len);
    let document = (document != NONE_32).then(|| bytes.slice_ref(part));
    let (note, traceback) = (text(take(&mut frame, note)), text(take(&mut frame, traceback)));
    let (mut follow, mut ended) = (Vec::new(), Vec::new());
    while !frame.is_empty() {
        if frame.starts_with(&NONE_32.to_le_bytes()) {
            ended.push(read_ended(&mut frame, bytes)?);
        } else {
            follow.push(read_follow(&mut frame, bytes)?);
        }
    }
    Ok((seq, Outcome { key, pid: 0, status, runtime_us, document, note, traceback, follow, ended }))
}

fn read_ended(frame: &mut &[u8], bytes: &Bytes) -> Result<EndedTask> {
    if frame.len() < ENDED_FIXED {
        return Err(broken("outcome"));
    }
    frame.advance(4);
    let revoked = frame.get_u8() != 0;
    let index = Some(frame.get_i64_le()).filter(|index| *index != i64::MAX);
    let (group, id, document) =
        (frame.get_u32_le(), frame.get_u32_le() as usize, frame.get_u32_le() as usize);
    let group_length = if group == NONE_32 { 0 } else { group as usize };
    if frame.len() < group_length + id + document {
        return Err(broken("outcome"));
    }
    let (name, id) = (text(take(frame, group_length)), text(take(frame, id)));
    let member = (group != NONE_32).then_some((name, index));
    Ok(EndedTask { id, revoked, document: bytes.slice_ref(take(frame, document)), member })
}

fn read_follow(frame: &mut &[u8], bytes: &Bytes) -> Result<FollowUp> {
    if frame.len() < FOLLOW_FIXED {
        return Err(broken("outcome"));
    }
    let (queue, id, data) =
        (frame.get_u32_le() as usize, frame.get_u32_le() as usize, frame.get_u32_le() as usize);
    if frame.len() < queue + id + data {
        return Err(broken("outcome"));
    }
    let queue = text(take(frame, queue)).into();
    let id = text(take(frame, id)).into();
    Ok(FollowUp { queue, id, data: bytes.slice_ref(take(frame, data)) })
}

/// The first `len` bytes, of which there are so many.
fn take<'a>(frame: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (part, rest) = frame.split_at(len);
    *frame = rest;
    part
}

fn text(part: &[u8]) -> String {
    if part.is_empty() { String::new() } else { String::from_utf8_lossy(part).into_owned() }
}

fn status(byte: u8) -> Result<Status> {
    Ok(match byte {
        0 => Status::Success,
        1 => Status::Failure,
        2 => Status::Retry,
        3 => Status::Ignore,
        4 => Status::Reject,
        5 => Status::Requeue,
        6 => Status::Undecodable,
        _ => return Err(broken("status")),
    })
}

#[cold]
fn broken(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("broken {what} in a frame between the worker and a child"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn a_call()(key: u64, redeliveries: u32, soft in prop::option::of(0..u64::MAX), hard in prop::option::of(0..u64::MAX),
                    queue in "\\PC{0,20}", message in prop::collection::vec(any::<u8>(), 0..300),
                    ended in prop::option::of(prop::collection::vec(any::<u8>(), 0..300))) -> Call {
            let ended = ended.map(Vec::into_boxed_slice);
            Call { key, queue: queue.into(), redeliveries, soft_us: soft, hard_us: hard, message: message.into(), ended }
        }
    }

    prop_compose! {
        fn a_follow_up()(queue in "\\PC{0,20}", id in "\\PC{0,40}", data in prop::collection::vec(any::<u8>(), 0..300)) -> FollowUp {
            FollowUp { queue: queue.into(), id: id.into(), data: data.into() }
        }
    }

    prop_compose! {
        fn an_ended_task()(id in "\\PC{0,40}", revoked: bool, document in prop::collection::vec(any::<u8>(), 0..300),
                           member in prop::option::of(("\\PC{0,40}", prop::option::of(-9i64..9)))) -> EndedTask {
            EndedTask { id, revoked, document: document.into(), member }
        }
    }

    prop_compose! {
        fn an_outcome()(key: u64, v in 0u8..7, runtime_us: u32, document in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
                        note in "\\PC{0,40}", traceback in "\\PC{0,40}",
                        follow in prop::collection::vec(a_follow_up(), 0..4),
                        ended in prop::collection::vec(an_ended_task(), 0..4)) -> Outcome {
            Outcome { key, pid: 0, status: status(v).unwrap(), runtime_us, document: document.map(Bytes::from), note, traceback, follow, ended }
        }
    }

    proptest! {
        #[test]
        fn calls_survive_in_any_chunks(calls in prop::collection::vec(a_call(), 1..8), chunk in 1usize..200) {
            let mut bytes = Vec::new();
            for (seq, call) in calls.iter().enumerate() {
                put_call(&mut bytes, seq as u32, call);
            }
            let (mut buffer, mut queue, mut got) = (BytesMut::new(), Arc::from(""), Vec::new());
            for part in bytes.chunks(chunk) {
                buffer.extend_from_slice(part);
                while let Some(frame) = next_frame(&mut buffer) {
                    let (seq, call) = read_call(frame.freeze(), &mut queue).unwrap();
                    prop_assert_eq!(seq as usize, got.len());
                    got.push(call);
                }
            }
            prop_assert_eq!(got, calls);
        }

        #[test]
        fn outcomes_survive(outcome in an_outcome(), seq: u32) {
            let mut bytes = Vec::new();
            put_outcome(&mut bytes, seq, &outcome);
            let mut buffer = BytesMut::from(&bytes[..]);
            let frame = next_frame(&mut buffer).unwrap().freeze();
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(read_outcome(&frame, &frame).unwrap(), (seq, outcome.clone()));
            let bytes = Bytes::from(bytes);
            let mut rest = &bytes[..];
            let frame = split_frame(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read_outcome(frame, &bytes).unwrap(), (seq, outcome));
        }

        #[test]
        fn noise_is_an_error_not_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let noise = Bytes::from(noise);
            let _ = read_outcome(&noise, &noise);
            let mut rest = &noise[..];
            while let Some(frame) = split_frame(&mut rest) {
                let _ = read_outcome(frame, &noise);
            }
            let _ = read_call(noise, &mut Arc::from(""));
        }
    }

    #[test]
    fn nothing_that_follows_costs_no_byte() {
        let outcome = Outcome {
            key: 1,
            pid: 0,
            status: Status::Success,
            runtime_us: 1,
            document: None,
            note: String::new(),
            traceback: String::new(),
            follow: Vec::new(),
            ended: Vec::new(),
        };
        let mut bytes = Vec::new();
        put_outcome(&mut bytes, 0, &outcome);
        assert_eq!(bytes.len(), 4 + OUTCOME_FIXED);
    }

    #[test]
    fn the_bell_is_an_empty_frame() {
        let mut buffer = BytesMut::from(&BELL[..]);
        assert!(next_frame(&mut buffer).unwrap().is_empty());
        assert!(next_frame(&mut buffer).is_none());
    }
}
