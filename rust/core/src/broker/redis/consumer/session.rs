//! One session of a consumer: the lanes it serves, and the connection that everything but fetching
//! goes over.
//!
//! A session lasts as long as its connections. Every command that is not part of fetching goes
//! through [`Session::run`], which puts the recording of freshly moved messages in front: so it
//! costs no round trip of its own and nothing is settled before it is recorded. Acknowledgements of
//! others leave them where the wait has put them (`settle`), until they are acknowledged as well.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{Pipeline, RedisError, Value, aio::ConnectionLike, pipe};

use super::ledger::{Ledger, Moved};
use crate::{
    broker::{
        Delivery, Tag,
        lease::LEASE_MS,
        redis::{
            keys::{Keys, Lane, split_count},
            scripts::{RECORD, REGISTER},
        },
    },
    clock,
    error::{Error, ErrorKind, Result},
    redis_connection::{Multiplexed, Server, WRONG_TYPE, is_about_key},
};

/// Moved messages per script that records them: a bound on the arguments of one Lua call.
const RECORDED: usize = 500;

/// What the parts of a consumer share.
pub(super) struct Session {
    pub(super) server: Arc<Server>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) keys: Keys,
    pub(super) epoch: String,
    /// Its number under the epoch: what it claims is refused once another one was opened.
    pub(super) number: u32,
    pub(super) max_deliveries: u32,
    pub(super) con: Multiplexed,
    /// In the order of service: the first priority step of every queue, then the second. Behind them
    /// those that nothing is claimed from any more.
    pub(super) lanes: Vec<Served>,
    /// Index into `lanes` by the lane number of a tag.
    pub(super) by_tag: HashMap<u32, usize>,
    /// When the lease was last renewed. Written by `register`, read by the waits.
    renewed: Mutex<Instant>,
    /// Keys that were complained about: once is enough.
    complained: Mutex<HashSet<String>>,
}

/// A lane and the names of its keys for this epoch.
pub(super) struct Served {
    pub(super) queue: Arc<str>,
    /// Index of the queue in the subscription; beyond all when it is not in it any more.
    pub(super) of: usize,
    /// Index of the priority step.
    pub(super) step: usize,
    /// Its number in tags.
    pub(super) number: u32,
    pub(super) lane: Lane,
    pub(super) redelivered: String,
    pub(super) overdue: String,
    pub(super) unacked: String,
    pub(super) due: String,
    /// Where a wait moves a message, for a lane that may be waited on.
    pub(super) moved: Option<Arc<str>>,
}

impl Served {
    /// A message of this lane as it is handed out.
    pub(super) fn delivery(&self, seq: u64, value: Bytes) -> Delivery {
        let (count, raw) = split_count(value);
        Delivery {
            tag: Tag { lane: self.number, seq },
            queue: Arc::clone(&self.queue),
            redeliveries: count.unwrap_or(0),
            suspect: count.is_some(),
            raw,
        }
    }
}

impl Session {
    /// The lanes that are claimed from.
    pub(super) fn open_lanes(&self) -> &[Served] {
        let open = self.lanes.iter().take_while(|served| served.of != usize::MAX).count();
        &self.lanes[..open]
    }

    pub(super) fn new(
        (server, keys): (Arc<Server>, Keys),
        ledger: Arc<Ledger>,
        number: u32,
        max_deliveries: u32,
        con: Multiplexed,
        lanes: Vec<Served>,
    ) -> Self {
        Self {
            by_tag: lanes.iter().enumerate().map(|(at, served)| (served.number, at)).collect(),
            epoch: ledger.epoch(),
            renewed: Mutex::new(clock::instant()),
            complained: Mutex::default(),
            server,
            keys,
            ledger,
            number,
            max_deliveries,
            con,
            lanes,
        }
    }

    /// Sends the commands behind those that record freshly moved messages; the replies, errors
    /// taken out.
    pub(super) async fn run(&self, what: &str, commands: Pipeline) -> Result<Vec<Value>> {
        let replies = self.replies(what, commands).await?.into_iter();
        let replies = replies.map(Value::extract_error).collect::<std::result::Result<_, _>>();
        replies.map_err(|e| self.server.error(what, e))
    }

    /// As [`Session::run`], where an error is the reply to a command and not the end of all.
    pub(super) async fn replies(&self, what: &str, commands: Pipeline) -> Result<Vec<Value>> {
        let moved = self.ledger.to_record();
        self.send(what, commands, &moved).await
    }

    /// Sends the commands behind those that record these messages.
    pub(super) async fn send(
        &self,
        what: &str,
        commands: Pipeline,
        moved: &[Moved],
    ) -> Result<Vec<Value>> {
        let (commands, recording) =
            if moved.is_empty() { (commands, 0) } else { self.recording(moved, &commands) };
        let count = commands.len();
        let sent = self.con.clone().req_packed_commands(&commands, 0, count).await;
        let mut replies = sent.map_err(|e| self.server.error(what, e))?;
        for reply in replies.drain(..recording) {
            reply.extract_error().map_err(|e| self.server.error(what, e))?;
        }
        if !moved.is_empty() {
            let tags: Vec<Tag> = moved.iter().map(|message| message.tag).collect();
            self.ledger.recorded(&tags);
        }
        Ok(replies)
    }

    /// The commands behind those that record moved messages as unacked, and how many those are.
    fn recording(&self, moved: &[Moved], commands: &Pipeline) -> (Pipeline, usize) {
        let mut all = Pipeline::with_capacity(commands.len() + 1);
        let of_one = |a: &Moved, b: &Moved| a.tag.lane == b.tag.lane && a.to == b.to;
        for messages in moved.chunk_by(of_one).flat_map(|messages| messages.chunks(RECORDED)) {
            let Moved { tag, to, .. } = &messages[0];
            // Those of a queue that is not consumed any more belong to whoever recovers them.
            let Some(at) = self.by_tag.get(&tag.lane) else { continue };
            let served = &self.lanes[*at];
            let mut call = RECORD.call(&[&**to, &served.unacked, &served.lane.list]);
            for message in messages {
                call.arg(message.tag.seq).arg(&*message.raw);
            }
            all.add_command(call);
        }
        let recording = all.len();
        for command in commands.cmd_iter() {
            all.add_command(command.clone());
        }
        (all, recording)
    }

    /// Reads a reply.
    pub(super) fn read<T: redis::FromRedisValue>(
        &self,
        what: &str,
        reply: Option<Value>,
    ) -> Result<T> {
        redis::from_redis_value(reply.unwrap_or(Value::Nil))
            .map_err(|e| self.server.error(what, e.into()))
    }

    /// Takes or renews the lease.
    pub(super) async fn register(&self, mode: &str, queues: &[Arc<str>]) -> Result<()> {
        let keys = [self.keys.leases(), self.keys.queues_of(&self.epoch), self.keys.queues()];
        let mut call = REGISTER.call(&keys);
        call.arg(&self.epoch).arg(mode);
        for queue in queues {
            call.arg(&**queue);
        }
        let mut commands = pipe();
        commands.add_command(call);
        let asked = clock::instant();
        self.run("renew the lease", commands).await?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        Ok(())
    }

    /// How much of the lease is left.
    pub(super) fn lease_left(&self) -> Duration {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let age = clock::instant().saturating_duration_since(renewed);
        Duration::from_millis(LEASE_MS as u64).saturating_sub(age)
    }

    /// What an error of the server about one key means to the others: nothing, if only that key is
    /// to blame, because it is of another type. Then it is logged, once. Whatever else a server
    /// refuses it takes later.
    pub(super) fn spared(&self, what: &str, key: &str, error: RedisError) -> Result<()> {
        let about_key = is_about_key(&error);
        let error = self.server.error(what, error);
        if !about_key {
            return Err(error);
        }
        self.complain(key, &error.to_string());
        Ok(())
    }

    /// The same of an error that a script notes beside what it did.
    pub(super) fn spared_by_script(&self, what: &str, key: &str, error: &str) -> Result<()> {
        if error.contains(WRONG_TYPE) {
            return Ok(());
        }
        let url = self.server.url();
        let text = format!("cannot {what} at redis `{url}`: of the key `{key}` it says `{error}`");
        Err(Error::new(ErrorKind::Connection, text))
    }

    /// Logs, once, that a key is of no use.
    pub(super) fn complain(&self, key: &str, error: &str) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.insert(key.to_owned()) {
            tracing::error!(
                key,
                error,
                "a key of the broker is of no use; the rest goes on without it"
            );
        }
    }

    /// What the server answered that makes no sense.
    pub(super) fn nonsense(&self, what: &str, answer: &Value) -> Error {
        let text =
            format!("cannot {what} at redis `{}`: it answered `{answer:?}`", self.server.url());
        Error::new(ErrorKind::Storage, text)
    }
}
