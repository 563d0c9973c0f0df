//! Writing messages: one `LPUSH` for one, long pipelines for many.
//!
//! The budget of a single confirmed publish is one round trip and little else, so it is one command without a script.
//! A batch is grouped by list into commands of up to [`PER_COMMAND`] values, in order, and written in pieces of some
//! [`PIECE`] bytes: while a piece is being written the server already works on its beginning.
//!
//! The first message to a queue over a connection also enters the queue into the set of known ones.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use redis::{Cmd, RedisResult, Value, cmd};

use super::{
    keys::{Keys, step},
    scripts::SCHEDULE,
};
use crate::{
    broker::{HORIZON_MS, Outgoing},
    clock::{self, Millis},
    error::Result,
    redis_link::{Lease, Pool},
};

/// Values per command: the server does nothing else while it reads and runs one.
const PER_COMMAND: usize = 500;
/// Bytes per command, for the same reason.
const BYTES_PER_COMMAND: usize = 1 << 20;
/// Says that a connection has loaded the script; no queue has an empty name.
const SCRIPT: &str = "";
/// Bytes per pipeline.
const PIECE: usize = 4 << 20;

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
            lease.con.send_packed_command(&lease.packed)?;
            lease.con.recv_response()?.extract_error().map(drop)
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

/// Packs a command. By hand, because for one small message building a `Cmd` first is what a publish costs most.
fn pack(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let mut digits = itoa::Buffer::new();
    let mut number = |out: &mut Vec<u8>, kind: u8, n: usize| {
        out.push(kind);
        out.extend_from_slice(digits.format(n).as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    number(out, b'*', parts.len());
    for part in parts {
        number(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
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
    /// Index into `open` by queue, step and kind.
    index: HashMap<(&'a str, usize, bool), usize>,
    packed: Vec<u8>,
    commands: usize,
}

/// A command that collects messages of one list or due set.
struct Open<'a> {
    queue: &'a str,
    step: usize,
    messages: Vec<&'a Outgoing>,
    bytes: usize,
    /// Task ids in it, when it schedules: one call names each once.
    ids: HashSet<&'a str>,
}

impl<'a> Pipeline<'a> {
    fn new(keys: &'a Keys, horizon: Millis) -> Self {
        Self {
            keys,
            horizon,
            open: Vec::new(),
            index: HashMap::new(),
            packed: Vec::new(),
            commands: 0,
        }
    }

    fn run(mut self, lease: &mut Lease, batch: &'a [Outgoing]) -> RedisResult<()> {
        self.announce(lease, batch);
        if batch.iter().any(|message| is_later(message, self.horizon))
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
        self.send(lease)
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

    fn push(&mut self, message: &'a Outgoing) {
        let later = is_later(message, self.horizon);
        let key = (&*message.queue, step(message.priority), later);
        let at = *self.index.entry(key).or_insert_with(|| {
            self.open.push(Open {
                queue: key.0,
                step: key.1,
                messages: Vec::new(),
                bytes: 0,
                ids: HashSet::new(),
            });
            self.open.len() - 1
        });
        let full = {
            let open = &self.open[at];
            open.messages.len() >= PER_COMMAND
                || open.bytes + message.data.len() > BYTES_PER_COMMAND
                || (later && open.ids.contains(&*message.id))
        };
        if full && !self.open[at].messages.is_empty() {
            let fresh =
                Open { messages: Vec::new(), bytes: 0, ids: HashSet::new(), ..self.open[at] };
            let done = std::mem::replace(&mut self.open[at], fresh);
            self.close(&done);
        }
        let open = &mut self.open[at];
        open.bytes += message.data.len();
        open.messages.push(message);
        if later {
            open.ids.insert(&message.id);
        }
    }

    /// Packs a command that is complete.
    fn close(&mut self, open: &Open<'_>) {
        let command = if open.ids.is_empty() {
            let mut push = Cmd::with_capacity(open.messages.len() + 2, open.bytes + 64);
            push.arg("LPUSH").arg(self.keys.list(open.queue, open.step));
            for message in &open.messages {
                push.arg(&*message.data);
            }
            push
        } else {
            let lane = self.keys.lane(open.queue, open.step);
            let mut schedule = SCHEDULE.call(&[lane.due(), lane.later()]);
            for message in &open.messages {
                schedule.arg(&*message.id).arg(message.due.unwrap_or(0)).arg(&*message.data);
            }
            schedule
        };
        self.add(&command);
    }

    fn add(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.packed);
        self.commands += 1;
    }

    fn send(&mut self, lease: &mut Lease) -> RedisResult<()> {
        if self.commands > 0 {
            let replies = lease.exchange(&self.packed, self.commands)?;
            replies.into_iter().try_for_each(|reply| reply.extract_error().map(drop::<Value>))?;
        }
        self.packed.clear();
        self.commands = 0;
        Ok(())
    }
}
