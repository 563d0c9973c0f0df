//! Writing messages: one `LPUSH` for one, long pipelines for many.
//!
//! The budget of a single confirmed publish is one round trip and little else, so it is one command
//! without a script. A batch is grouped by list into commands of up to [`PER_COMMAND`] values, in
//! order, and written in pieces of some [`PIECE`] bytes: while a piece is being written the server
//! already works on its beginning.
//!
//! What is scheduled goes into a bucket of the due set, which enters the set in the same
//! transaction. Where an id may lie there already a script looks first; that costs the server about
//! as much again, so ids made for their message pass it by.
//!
//! The first message to a queue over a connection also enters the queue into the set of known ones.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use redis::{Cmd, ConnectionLike, RedisResult, Value, cmd};

use super::{
    keys::{Keys, bucket_begin, bucket_offset, step},
    scripts::SCHEDULE,
};
use crate::{
    broker::{HORIZON_MS, Outgoing},
    clock::{self, Millis},
    error::Result,
    redis_connection::{Lease, Pool},
};

/// Values per command: the server does nothing else while it reads and runs one.
const PER_COMMAND: usize = 500;
/// Bytes per command, for the same reason.
const BYTES_PER_COMMAND: usize = 1 << 20;
/// Says that a connection has loaded the script; no queue has an empty name.
const SCRIPT: &str = "";
/// Bytes per pipeline.
const PIECE: usize = 4 << 20;
/// The largest buffer that a connection keeps for its next user.
const KEPT: usize = 1 << 20;

pub(super) fn publish(
    pool: &Pool,
    keys: &Keys,
    batch: &[Outgoing],
    deadline: Instant,
) -> Result<()> {
    let horizon = if batch.iter().any(|message| message.due.is_some()) {
        clock::wall_ms() + HORIZON_MS
    } else {
        Millis::MAX
    };
    if batch.is_empty() {
        return Ok(());
    }
    pool.run("publish", deadline, |lease| match batch {
        [one] if !is_later(one, horizon) && lease.said.contains(&one.queue) => {
            lease.packed.clear();
            let list = keys.list(&one.queue, step(one.priority));
            pack(&mut lease.packed, &[b"LPUSH", list.as_bytes(), &one.data]);
            lease.con.req_packed_command(&lease.packed)?.extract_error().map(drop)
        }
        many => {
            let sent = Pipeline::new(keys, horizon).run(lease, many);
            if sent.is_err() {
                lease.said.clear();
            }
            sent
        }
    })
}

/// Packs a command. By hand, because building a `Cmd` first is what a publish costs most.
fn pack(out: &mut Vec<u8>, parts: &[&[u8]]) {
    number(out, b'*', parts.len());
    for part in parts {
        bulk(out, &[part]);
    }
}

/// Packs a number of parts or bytes.
fn number(out: &mut Vec<u8>, kind: u8, n: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Packs one part of a command, given in pieces.
fn bulk(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    number(out, b'$', pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}

fn is_later(message: &Outgoing, horizon: Millis) -> bool {
    message.due.is_some_and(|due| due > horizon)
}

/// A batch on its way.
struct Pipeline<'a> {
    keys: &'a Keys,
    horizon: Millis,
    /// Commands that are still growing, in the order in which they were begun.
    open: Vec<Open<'a>>,
    /// Index into `open`.
    index: HashMap<Place<'a>, usize>,
    /// The place of the last message: runs of one are the rule, and are spared the look-up.
    last: Option<(Place<'a>, usize)>,
    packed: Vec<u8>,
    /// How many replies will come.
    replies: usize,
}

/// Where a message goes, and how.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place<'a> {
    queue: &'a str,
    step: usize,
    way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// Into the list.
    Now,
    /// Into the bucket that begins then, where nothing lies under the ids.
    NewId(Millis),
    /// Into the bucket that begins then, whatever lies there.
    Checked(Millis),
}

/// A command that collects messages of one place.
struct Open<'a> {
    place: Place<'a>,
    messages: Vec<&'a Outgoing>,
    bytes: usize,
    /// Task ids in it, when it is [`Way::Checked`]: one call names each once.
    ids: HashSet<&'a str>,
}

impl<'a> Open<'a> {
    fn new(place: Place<'a>) -> Self {
        Self { place, messages: Vec::new(), bytes: 0, ids: HashSet::new() }
    }

    fn is_full_for(&self, message: &Outgoing) -> bool {
        !self.messages.is_empty()
            && (self.messages.len() >= PER_COMMAND
                || self.bytes + message.data.len() > BYTES_PER_COMMAND
                || self.ids.contains(&*message.id))
    }
}

impl<'a> Pipeline<'a> {
    fn new(keys: &'a Keys, horizon: Millis) -> Self {
        Self {
            keys,
            horizon,
            open: Vec::new(),
            index: HashMap::new(),
            last: None,
            packed: Vec::new(),
            replies: 0,
        }
    }

    fn run(mut self, lease: &mut Lease, batch: &'a [Outgoing]) -> RedisResult<()> {
        self.packed = std::mem::take(&mut lease.packed);
        self.packed.clear();
        self.announce(lease, batch);
        if batch.iter().any(|message| !message.new_id && is_later(message, self.horizon))
            && lease.said.insert(SCRIPT.into())
        {
            self.add(&SCHEDULE.load());
        }
        for message in batch {
            self.push(message);
            if self.packed.len() >= PIECE {
                self.send(lease)?;
            }
        }
        for open in std::mem::take(&mut self.open) {
            self.close(&open);
        }
        self.send(lease)?;
        if self.packed.capacity() <= KEPT {
            lease.packed = self.packed;
        }
        Ok(())
    }

    /// Enters queues that this connection has not named before into the set.
    fn announce(&mut self, lease: &mut Lease, batch: &[Outgoing]) {
        let mut last: Option<&Arc<str>> = None;
        for message in batch {
            // Runs of one queue are the rule; comparing pointers spares hashing its name each time.
            if last.is_some_and(|queue| Arc::ptr_eq(queue, &message.queue)) {
                continue;
            }
            last = Some(&message.queue);
            if !lease.said.contains(&message.queue) {
                lease.said.insert(Arc::clone(&message.queue));
                self.add(cmd("SADD").arg(self.keys.queues()).arg(&*message.queue));
            }
        }
    }

    fn place(&self, message: &'a Outgoing) -> Place<'a> {
        let way = match message.due.filter(|due| *due > self.horizon).map(bucket_begin) {
            None => Way::Now,
            Some(begin) if message.new_id => Way::NewId(begin),
            Some(begin) => Way::Checked(begin),
        };
        Place { queue: &message.queue, step: step(message.priority), way }
    }

    fn push(&mut self, message: &'a Outgoing) {
        let place = self.place(message);
        let at = match self.last {
            Some((last, at)) if last == place => at,
            _ => *self.index.entry(place).or_insert_with(|| {
                self.open.push(Open::new(place));
                self.open.len() - 1
            }),
        };
        self.last = Some((place, at));
        if self.open[at].is_full_for(message) {
            let done = std::mem::replace(&mut self.open[at], Open::new(place));
            self.close(&done);
        }
        let open = &mut self.open[at];
        open.bytes += message.data.len();
        open.messages.push(message);
        if matches!(place.way, Way::Checked(_)) {
            open.ids.insert(&message.id);
        }
    }

    /// Packs a command that is complete.
    fn close(&mut self, open: &Open<'_>) {
        let place = open.place;
        match place.way {
            Way::Now => {
                let list = self.keys.list(place.queue, place.step);
                self.begin(open.messages.len() + 2, &[b"LPUSH", list.as_bytes()]);
                for message in &open.messages {
                    bulk(&mut self.packed, &[&message.data]);
                }
            }
            Way::NewId(begin) => {
                let lane = self.keys.lane(place.queue, place.step);
                let (due, bucket, name) = (lane.due(), lane.bucket(begin), begin.to_string());
                self.begin(1, &[b"MULTI"]);
                self.begin(4, &[b"ZADD", due.as_bytes(), name.as_bytes(), name.as_bytes()]);
                self.begin(open.messages.len() * 2 + 2, &[b"HSET", bucket.as_bytes()]);
                self.scheduled(open);
                self.begin(1, &[b"EXEC"]);
            }
            Way::Checked(begin) => {
                let lane = self.keys.lane(place.queue, place.step);
                let (due, bucket, name) = (lane.due(), lane.bucket(begin), begin.to_string());
                let fixed: [&[u8]; 6] = [
                    b"EVALSHA",
                    SCHEDULE.hash().as_bytes(),
                    b"2",
                    due.as_bytes(),
                    bucket.as_bytes(),
                    name.as_bytes(),
                ];
                self.begin(open.messages.len() * 2 + fixed.len(), &fixed);
                self.scheduled(open);
            }
        }
    }

    /// The messages of a command as pairs: id, and message behind its offset.
    fn scheduled(&mut self, open: &Open<'_>) {
        for message in &open.messages {
            bulk(&mut self.packed, &[message.id.as_bytes()]);
            bulk(&mut self.packed, &[&bucket_offset(message.due.unwrap_or(0)), &message.data]);
        }
    }

    /// Begins a command of so many parts with the first of them.
    fn begin(&mut self, parts: usize, first: &[&[u8]]) {
        number(&mut self.packed, b'*', parts);
        for part in first {
            bulk(&mut self.packed, &[part]);
        }
        self.replies += 1;
    }

    fn add(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.packed);
        self.replies += 1;
    }

    fn send(&mut self, lease: &mut Lease) -> RedisResult<()> {
        if self.replies > 0 {
            let replies = lease.exchange(&self.packed, self.replies)?;
            replies.into_iter().try_for_each(|reply| reply.extract_error().map(drop::<Value>))?;
        }
        self.packed.clear();
        self.replies = 0;
        Ok(())
    }
}
