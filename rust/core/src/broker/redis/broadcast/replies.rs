//! Direct exchanges: kombu's binding sets and the lists that replies are pushed to.
//!
//! Whoever is bound is a member of the set `_kombu.binding.<exchange>`: routing key, pattern and
//! queue. A reply is pushed to the queues of its key. A process that wants replies has one queue for
//! all of its subscribers, read by a thread that lives as long as they do. A queue of replies
//! expires when nobody reads it, and the deadline of its binding lies where kombu's sweep looks for
//! it, so that a process that is killed leaves nothing behind for long.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{Pipeline, cmd};
use tokio::task::spawn_blocking;

use super::envelope;
use crate::{
    broker::{
        broadcast::{Binding, BroadcastMessage, ExchangeType},
        inbox::Inbox,
    },
    clock,
    error::{Error, ErrorKind, Result},
    redis_connection::{Lease, Pool, Server},
};

/// Between the parts of a member of a binding set.
const SEPARATOR: &str = "\x06\x16";
/// What the name of a queue of replies ends with, Celery's as well as ours; no other queue expires.
const REPLIES: &str = ".pidbox";
/// How long replies wait that nobody reads.
const EXPIRES: Duration = Duration::from_secs(60);
/// How long the bindings of an exchange outlive the last who was bound.
const BINDING_EXPIRES: Duration = Duration::from_secs(3600);
/// How long one read waits.
const BLOCK: Duration = Duration::from_secs(1);
/// How long anything else may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long somebody who leaves waits for the server.
const FAREWELL: Duration = Duration::from_secs(1);

/// The replies that this process waits for.
pub(super) struct Replies {
    pool: Pool,
    prefix: String,
    /// Its queue.
    queue: String,
    /// Behind a std mutex because a section is a look or an assignment.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inboxes: Vec<Arc<Inbox>>,
    /// Whether there is a thread.
    running: bool,
}

/// Somebody is bound as long as this lives.
pub(super) struct Bound {
    replies: Arc<Replies>,
    inbox: Arc<Inbox>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let mut state = self.replies.state();
        state.inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        let last = state.inboxes.is_empty();
        drop(state);
        if let Err(error) = self.replies.unbind(&self.inbox.bindings, last) {
            tracing::debug!(%error, "a binding for replies is left to expire");
        }
    }
}

fn is_direct(binding: &Binding) -> bool {
    binding.exchange.kind == ExchangeType::Direct
}

impl Replies {
    pub(super) fn new(server: Arc<Server>, prefix: &str) -> Self {
        let name = envelope::Tags::new().next().unwrap_or_default();
        let queue = format!("{name}.reply.taskcore{REPLIES}");
        Self { pool: Pool::new(server), prefix: prefix.to_owned(), queue, state: Mutex::default() }
    }

    /// Binds the queue; `None` when nothing that is wanted is a direct message.
    pub(super) async fn bind(self: Arc<Self>, inbox: &Arc<Inbox>) -> Result<Option<Bound>> {
        if !inbox.bindings.iter().any(is_direct) {
            return Ok(None);
        }
        // From here on, what was bound is unbound, whatever happens.
        let bound = Bound { replies: Arc::clone(&self), inbox: Arc::clone(inbox) };
        let (replies, bindings) = (Arc::clone(&self), inbox.bindings.clone());
        let bind = move || replies.add(&bindings);
        spawn_blocking(bind)
            .await
            .map_err(|e| Error::caused(ErrorKind::Internal, "cannot bind", e))??;
        self.read_for(inbox)?;
        Ok(Some(bound))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within(time: Duration) -> Instant {
        clock::instant() + time
    }

    fn table(&self, exchange: &str) -> String {
        format!("{}_kombu.binding.{exchange}", self.prefix)
    }

    fn member(&self, binding: &Binding) -> String {
        format!("{}{SEPARATOR}{SEPARATOR}{}", binding.routing_key, self.queue)
    }

    fn add(&self, bindings: &[Binding]) -> Result<()> {
        let mut commands = Pipeline::new();
        let until = clock::wall_ms() + BINDING_EXPIRES.as_millis() as i64;
        for binding in bindings.iter().filter(|binding| is_direct(binding)) {
            let exchange = &*binding.exchange.name;
            commands.sadd(self.table(exchange), self.member(binding));
            let deadlines = format!("{}_kombu.binding_deadlines", self.prefix);
            commands.cmd("ZADD").arg(deadlines).arg("GT").arg(until).arg(exchange);
        }
        self.pool
            .repeat("wait for replies", Self::within(TIMEOUT), |lease| lease.pipeline(&commands))?;
        Ok(())
    }

    fn unbind(&self, bindings: &[Binding], last: bool) -> Result<()> {
        let mut commands = Pipeline::new();
        for binding in bindings.iter().filter(|binding| is_direct(binding)) {
            commands.srem(self.table(&binding.exchange.name), self.member(binding));
        }
        if last {
            commands.del(format!("{}{}", self.prefix, self.queue));
        }
        self.pool.repeat("end the wait for replies", Self::within(FAREWELL), |lease| {
            lease.pipeline(&commands)
        })?;
        Ok(())
    }

    /// Reads the queue for one more; the thread is started when there is none.
    fn read_for(self: &Arc<Self>, inbox: &Arc<Inbox>) -> Result<()> {
        let mut state = self.state();
        state.inboxes.push(Arc::clone(inbox));
        if !state.running {
            let replies = Arc::clone(self);
            let builder = std::thread::Builder::new().name("taskcore-replies".to_owned());
            builder.spawn(move || replies.read()).map_err(|e| {
                Error::caused(ErrorKind::Internal, "cannot start a thread to wait for replies", e)
            })?;
            state.running = true;
        }
        Ok(())
    }

    /// The life of the thread.
    fn read(&self) {
        while self.is_wanted() {
            let key = format!("{}{}", self.prefix, self.queue);
            let pop = |lease: &mut Lease| {
                cmd("BRPOP").arg(&key).arg(BLOCK.as_secs()).query(&mut lease.con)
            };
            let until = Self::within(BLOCK + TIMEOUT);
            let popped: Result<Option<(String, Vec<u8>)>> =
                self.pool.run("wait for replies", until, pop);
            match popped {
                Ok(None) => {}
                Ok(Some((_, envelope))) => self.deliver(&envelope),
                Err(error) => {
                    // Whoever waits binds anew: a server that comes back may have forgotten.
                    let inboxes = std::mem::take(&mut self.state().inboxes);
                    for inbox in inboxes {
                        inbox.end(&error);
                    }
                }
            }
        }
    }

    /// Whether somebody waits; if not there is no thread from now on.
    fn is_wanted(&self) -> bool {
        let mut state = self.state();
        state.running = !state.inboxes.is_empty();
        state.running
    }

    fn deliver(&self, raw: &[u8]) {
        match envelope::decode(raw, ExchangeType::Direct) {
            Ok(message) => {
                let message = [message];
                self.state().inboxes.iter().for_each(|inbox| inbox.put(&message));
            }
            Err(error) => tracing::warn!(queue = self.queue, %error, "a reply cannot be read"),
        }
    }
}

/// Pushes replies to the queues that are bound with their keys; nobody being bound is no error.
pub(super) fn push(
    lease: &mut Lease,
    prefix: &str,
    batch: &[&BroadcastMessage],
    envelopes: &[Vec<u8>],
) -> redis::RedisResult<()> {
    let mut look = Pipeline::new();
    for message in batch {
        look.smembers(format!("{prefix}_kombu.binding.{}", message.exchange.name));
    }
    let mut commands = Pipeline::new();
    let messages = batch.iter().zip(envelopes);
    for ((message, envelope), members) in messages.zip(lease.pipeline(&look)?) {
        let members: Vec<String> = redis::from_redis_value(members)?;
        for queue in members.iter().filter_map(|member| bound(member, &message.routing_key)) {
            let key = format!("{prefix}{queue}");
            commands.lpush(&key, envelope);
            if queue.ends_with(REPLIES) {
                commands.pexpire(&key, EXPIRES.as_millis() as i64);
            }
        }
    }
    lease.pipeline(&commands).map(drop)
}

/// The queue of a member of a binding set, if it is bound with this key.
fn bound<'a>(member: &'a str, routing_key: &str) -> Option<&'a str> {
    let mut parts = member.split(SEPARATOR);
    let (key, _pattern, queue) = (parts.next()?, parts.next()?, parts.next()?);
    (key == routing_key).then_some(queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_kombus() {
        let member = "7c1a\x06\x16\x06\x167c1a.reply.celery.pidbox";
        assert_eq!(bound(member, "7c1a"), Some("7c1a.reply.celery.pidbox"));
        for (member, key) in [(member, "7c1"), (member, ""), ("7c1a", "7c1a"), ("", "")] {
            assert_eq!(bound(member, key), None, "{member:?}");
        }
    }
}
