//! Blocking connections between two uses.
//!
//! One that has rested for [`RESTED`] is asked for a sign of life before it is trusted, which costs
//! one round trip after a pause and saves the caller from the server's or a firewall's idle
//! timeout.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::ConnectionLike;

use super::{Connection, Server, meaning, socket::Limit};
use crate::{
    clock,
    error::{ErrorKind, Result},
};

/// How long a connection may rest before its next user checks it.
const RESTED: Duration = Duration::from_secs(5);
/// How long that check may take.
const PROBE: Duration = Duration::from_secs(1);
/// How many connections wait for their next user; more are closed after use.
const IDLE_MAX: usize = 16;

/// Blocking connections between two uses.
pub(crate) struct Pool {
    server: Arc<Server>,
    /// Whether a deadline bounds the silences of an operation, not the whole of it.
    patient: bool,
    /// Behind a std mutex because a section is one push or pop, from threads that have no runtime.
    idle: Mutex<Vec<Rested>>,
}

struct Rested {
    lease: Lease,
    since: Instant,
}

/// A blocking connection in use by one thread.
pub(crate) struct Lease {
    /// The connection; a failed operation on it ends it.
    pub(crate) con: Connection,
    /// What has been said over it once and need not be repeated. Written and read by the pool's
    /// user.
    pub(crate) said: HashSet<Arc<str>>,
    /// A buffer to pack a command in, kept for its memory.
    pub(crate) packed: Vec<u8>,
}

impl Pool {
    /// A pool that opens connections when they are asked for. Its operations end by their
    /// deadlines.
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self { server, patient: false, idle: Mutex::default() }
    }

    /// The same for replies of any size: as long as bytes move, an operation may last longer than
    /// its deadline says.
    pub(crate) fn patient(server: Arc<Server>) -> Self {
        Self { patient: true, ..Self::new(server) }
    }

    /// Runs `operation` on a connection, which goes back to the pool unless it failed. `what`
    /// completes "cannot ..." in errors.
    pub(crate) fn run<T>(
        &self,
        what: &str,
        deadline: Instant,
        operation: impl FnOnce(&mut Lease) -> redis::RedisResult<T>,
    ) -> Result<T> {
        let mut lease = self.take(deadline)?;
        let outcome = operation(&mut lease);
        match outcome {
            Ok(value) => {
                self.put_back(lease);
                Ok(value)
            }
            Err(error) => {
                if meaning(&error).0 == ErrorKind::Storage {
                    // The server answered; the connection is sound.
                    self.put_back(lease);
                } else {
                    // Whatever broke this connection broke its siblings too.
                    self.idle().clear();
                }
                Err(self.server.error(what, error))
            }
        }
    }

    /// As [`Pool::run`] for what may be done twice: a connection that broke while it rested is no
    /// reason to fail.
    pub(crate) fn repeat<T>(
        &self,
        what: &str,
        deadline: Instant,
        mut operation: impl FnMut(&mut Lease) -> redis::RedisResult<T>,
    ) -> Result<T> {
        let rested = !self.idle().is_empty();
        match self.run(what, deadline, &mut operation) {
            Err(error) if rested && error.kind() == ErrorKind::Connection => {
                self.run(what, deadline, operation)
            }
            done => done,
        }
    }

    fn take(&self, deadline: Instant) -> Result<Lease> {
        let mut lease = loop {
            let left = self.server.time_left(deadline)?;
            let rested = self.idle().pop();
            let Some(Rested { mut lease, since }) = rested else {
                let con = self.server.connect(deadline)?;
                break Lease { con, said: HashSet::new(), packed: Vec::new() };
            };
            let fresh = clock::instant().saturating_duration_since(since) < RESTED;
            if fresh || lease.is_alive(left) {
                break lease;
            }
        };
        let left = self.server.time_left(deadline)?;
        let limit = if self.patient { Limit::Silence(left) } else { Limit::Until(deadline) };
        lease.con.limit(limit);
        Ok(lease)
    }

    fn put_back(&self, lease: Lease) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(Rested { lease, since: clock::instant() });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Rested>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Sends packed commands and reads their `count` replies, errors of the server among them.
    ///
    /// Not the library's own pipeline: when a reply does not come it still waits the whole timeout
    /// for each of the others, and many commands would outlast their deadline many times over.
    pub(crate) fn exchange(
        &mut self,
        packed: &[u8],
        count: usize,
    ) -> redis::RedisResult<Vec<redis::Value>> {
        self.con.send(packed)?;
        (0..count).map(|_| self.con.receive()).collect()
    }

    /// Sends a pipeline; the replies, or the first error among them.
    pub(crate) fn pipeline(
        &mut self,
        commands: &redis::Pipeline,
    ) -> redis::RedisResult<Vec<redis::Value>> {
        let replies = self.exchange(&commands.get_packed_pipeline(), commands.len())?;
        replies.into_iter().map(redis::Value::extract_error).collect()
    }

    /// Whether the server still answers here, soon. What keeps silent, a firewall that forgot the
    /// connection, must leave time for another one.
    fn is_alive(&mut self, left: Duration) -> bool {
        self.con.limit(Limit::Until(clock::instant() + left.min(PROBE)));
        self.con.check_connection()
    }
}
