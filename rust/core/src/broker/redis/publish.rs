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
//! What one command cannot write, because a key is of another type, the others do: the refused
//! messages are told apart, so that nobody publishes the rest twice.
//!
//! The first message to a queue over a connection also enters the queue into the set of known ones.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use redis::{Cmd, ConnectionLike, RedisError, RedisResult, cmd};

use super::{
    keys::{Keys, bucket_begin, bucket_offset, step},
    scripts::SCHEDULE,
};
use crate::{
    broker::{HORIZON_MS, Outgoing},
    clock::{self, Millis},
    error::Result,
    redis_connection::{Lease, Pool, is_refusal},
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

/// Messages of a batch, by their index, and why the server did not write them.
pub(super) type Refused = (Vec<usize>, RedisError);

/// Publishes a batch; what was refused of it while others were written.
pub(super) fn publish(
    pool: &Pool,
    keys: &Keys,
    batch: &[Outgoing],
    deadline: Instant,
) -> Result<Vec<Refused>> {
    let horizon = if batch.iter().any(|message| message.due().is_some()) {
        clock::wall_ms() + HORIZON_MS
    } else {
        Millis::MAX
    };
    // Encoded before a connection is taken: it is held for the round trip alone.
    let one = match batch {
        [one] if !is_later(one, horizon) => Some((one, one.encoded())),
        _ => None,
    };
    pool.run("publish", deadline, |lease| match &one {
        Some((one, encoded)) if lease.said.contains(&one.queue) => {
            lease.packed.clear();
            let list = keys.list(&one.queue, step(encoded.priority));
            pack(&mut lease.packed, &[b"LPUSH", list.as_bytes(), &encoded.data]);
            lease.con.req_packed_command(&lease.packed)?.extract_error().map(|_| Vec::new())
        }
        _ => {
            let sent = Pipeline::new(keys, horizon).run(lease, batch);
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
    message.due().is_some_and(|due| due > horizon)
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
    /// The bytes of the message that is being added.
    encoded: Vec<u8>,
    /// For each reply that will come, the command whose messages it is about.
    replies: Vec<Option<usize>>,
    /// The commands that carry messages: index into `open`, how many.
    commands: Vec<(usize, usize)>,
    /// Which of them the server refused, and why.
    refused: Vec<(usize, RedisError)>,
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
    count: usize,
    /// The messages as they are sent; scheduled ones as pairs: id, and message behind its offset.
    packed: Vec<u8>,
    /// Task ids in it, when it is [`Way::Checked`]: one call names each once.
    ids: HashSet<&'a str>,
}

impl<'a> Open<'a> {
    fn new(place: Place<'a>) -> Self {
        Self { place, count: 0, packed: Vec::new(), ids: HashSet::new() }
    }

    fn is_full_for(&self, id: &str, bytes: usize) -> bool {
        self.count > 0
            && (self.count >= PER_COMMAND
                || self.packed.len() + bytes > BYTES_PER_COMMAND
                || self.ids.contains(id))
    }

    fn add(&mut self, message: &'a Outgoing, encoded: &[u8]) {
        let id = message.message.headers.id.as_str();
        match self.place.way {
            Way::Now => bulk(&mut self.packed, &[encoded]),
            Way::NewId(_) | Way::Checked(_) => {
                let offset = bucket_offset(message.due().unwrap_or(0));
                bulk(&mut self.packed, &[id.as_bytes()]);
                bulk(&mut self.packed, &[&offset, encoded]);
            }
        }
        if matches!(self.place.way, Way::Checked(_)) {
            self.ids.insert(id);
        }
        self.count += 1;
    }

    /// Makes it empty for more messages of its place.
    fn clear(&mut self) {
        self.count = 0;
        self.packed.clear();
        self.ids.clear();
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
            encoded: Vec::new(),
            replies: Vec::new(),
            commands: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn run(mut self, lease: &mut Lease, batch: &'a [Outgoing]) -> RedisResult<Vec<Refused>> {
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
        for at in 0..self.open.len() {
            self.close(at);
        }
        self.send(lease)?;
        if self.packed.capacity() <= KEPT {
            lease.packed = std::mem::take(&mut self.packed);
        }
        if self.refused.len() < self.commands.len() {
            return Ok(self.name_refused(batch));
        }
        // Nothing was written.
        self.refused.into_iter().next().map_or(Ok(Vec::new()), |(_, error)| Err(error))
    }

    /// Which messages the refused commands carried: those of one place went in their order.
    #[cold]
    fn name_refused(mut self, batch: &'a [Outgoing]) -> Vec<Refused> {
        let refused = std::mem::take(&mut self.refused);
        let mut of: Vec<Vec<usize>> = refused.iter().map(|_| Vec::new()).collect();
        if refused.is_empty() {
            return Vec::new();
        }
        let mut commands: Vec<VecDeque<(usize, Option<usize>)>> =
            vec![VecDeque::new(); self.open.len()];
        for (command, (at, count)) in self.commands.iter().enumerate() {
            let which = refused.iter().position(|(refused, _)| *refused == command);
            commands[*at].push_back((*count, which));
        }
        for (index, message) in batch.iter().enumerate() {
            let Some(at) = self.index.get(&self.place(message)) else { continue };
            let Some((left, which)) = commands[*at].front_mut() else { continue };
            if let Some(which) = *which {
                of[which].push(index);
            }
            *left -= 1;
            if *left == 0 {
                commands[*at].pop_front();
            }
        }
        of.into_iter().zip(refused).map(|(messages, (_, error))| (messages, error)).collect()
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
        let way = match message.due().filter(|due| *due > self.horizon).map(bucket_begin) {
            None => Way::Now,
            Some(begin) if message.new_id => Way::NewId(begin),
            Some(begin) => Way::Checked(begin),
        };
        Place { queue: &message.queue, step: step(message.priority()), way }
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
        message.encode_into(&mut self.encoded);
        let encoded = std::mem::take(&mut self.encoded);
        if self.open[at].is_full_for(&message.message.headers.id, encoded.len()) {
            self.close(at);
        }
        self.open[at].add(message, &encoded);
        self.encoded = encoded;
    }

    /// Packs a command that is complete.
    fn close(&mut self, at: usize) {
        let (place, count) = (self.open[at].place, self.open[at].count);
        self.commands.push((at, count));
        let lane = || self.keys.lane(place.queue, place.step);
        match place.way {
            Way::Now => {
                let list = self.keys.list(place.queue, place.step);
                self.begin(count + 2, &[b"LPUSH", list.as_bytes()]);
                self.take(at);
            }
            Way::NewId(begin) => {
                let (due, bucket, name) = (lane().due(), lane().bucket(begin), begin.to_string());
                self.begin(1, &[b"MULTI"]);
                self.begin(4, &[b"ZADD", due.as_bytes(), name.as_bytes(), name.as_bytes()]);
                self.begin(count * 2 + 2, &[b"HSET", bucket.as_bytes()]);
                self.take(at);
                self.begin(1, &[b"EXEC"]);
            }
            Way::Checked(begin) => {
                let (due, bucket, name) = (lane().due(), lane().bucket(begin), begin.to_string());
                let fixed: [&[u8]; 6] = [
                    b"EVALSHA",
                    SCHEDULE.hash().as_bytes(),
                    b"2",
                    due.as_bytes(),
                    bucket.as_bytes(),
                    name.as_bytes(),
                ];
                self.begin(count * 2 + fixed.len(), &fixed);
                self.take(at);
            }
        }
    }

    /// Takes the messages of a command over.
    fn take(&mut self, at: usize) {
        self.packed.extend_from_slice(&self.open[at].packed);
        self.open[at].clear();
    }

    /// Begins a command of so many parts with the first of them.
    fn begin(&mut self, parts: usize, first: &[&[u8]]) {
        number(&mut self.packed, b'*', parts);
        for part in first {
            bulk(&mut self.packed, &[part]);
        }
        self.replies.push(self.commands.len().checked_sub(1));
    }

    fn add(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.packed);
        self.replies.push(None);
    }

    fn send(&mut self, lease: &mut Lease) -> RedisResult<()> {
        let about = std::mem::take(&mut self.replies);
        if !about.is_empty() {
            for (about, reply) in about.iter().zip(lease.exchange(&self.packed, about.len())?) {
                let Err(error) = reply.extract_error() else { continue };
                let Some(command) = about.filter(|_| is_refusal(&error)) else { return Err(error) };
                // Of a transaction, the first error says why.
                if self.refused.last().is_none_or(|(last, _)| *last != command) {
                    self.refused.push((command, error));
                }
            }
        }
        self.packed.clear();
        Ok(())
    }
}
