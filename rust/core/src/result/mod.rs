//! Result stores: Celery's document under the task's id, announced by push.
//!
//! A worker writes records in batches; a client reads, waits and forgets. Waiting uses one channel
//! per client process, never one subscription or poll per task. SUCCESS is final, and what is not
//! ready never undoes what is ([`State::yields_to`]).

pub mod encoded;
pub mod join;
pub mod memory;
pub mod record;
pub mod redis;
pub mod sqlite;
pub mod watch;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

pub use join::{Join, JoinClaim, Joins, Member};
pub use record::{Record, State};
pub use watch::{Observer, Watch};

use crate::{
    error::{Error, Result},
    future::BoxFuture,
};

/// Prefix of the `reply_to` property that a taskcore client sends: a worker that sees it also
/// announces on the client's own channel, which saves the client a subscription per task.
pub const REPLY_PREFIX: &str = "tc-";

/// Begins the key of what is known of a group: under `put`, `get` and `forget` an id that begins so
/// names which results belong to the group behind it. Celery's layout, on every store.
pub const GROUP_PREFIX: &str = "celery-taskset-meta-";

/// A fresh reply id: the prefix and 122 random bits.
pub fn fresh_reply_id() -> String {
    let mut random = [0; 16];
    // The system's source of randomness does not fail once it was seeded; an id need only be
    // unique, so time and pid stand in.
    if getrandom::fill(&mut random).is_err() {
        random[..8].copy_from_slice(&crate::clock::wall_us().to_le_bytes());
        random[8..12].copy_from_slice(&std::process::id().to_le_bytes());
    }
    format!("{REPLY_PREFIX}{}", uuid::Builder::from_random_bytes(random).into_uuid().simple())
}

/// What a waiter knows about its task: where the announcement comes from, and whether it can have
/// come already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Published by this thread an instant ago: the announcement is almost certainly still to come,
    /// on the client's own channel.
    JustPublished,
    /// Published by this process.
    Own,
    /// Published by another process, or perhaps run by a stock Celery worker: only the per-task
    /// announcement will come.
    Foreign,
}

/// What a store says to a batch.
#[derive(Debug, Default)]
pub struct Stored {
    /// Records that it will never take, by their index in the batch: too large for it, or under a
    /// key that is not its own.
    pub refused: Vec<(usize, Error)>,
    /// Records that it has no memory for, by their index in the batch: they may be stored later.
    pub later: Vec<(usize, Error)>,
    /// Joins that it completed, claimed for whoever stored it; see [`join`].
    pub joined: Vec<JoinClaim>,
    /// Members of joins that are complete and claimed by others, by their index in the batch: what
    /// waits for their records waits until these are stored once more and are not named.
    pub claimed: Vec<usize>,
}

impl Stored {
    /// Takes what counting the record at `index` said: whose claim its join is.
    fn counted(&mut self, index: usize, member: &Member, joined: JoinClaim) {
        if joined.token == member.token {
            self.joined.push(joined);
        } else {
            self.claimed.push(index);
        }
    }
}

/// The port of result stores. Blocking methods are callable from any thread; `store` belongs to the
/// worker's runtime. A store belongs to the process that made it, as a broker does.
pub trait ResultStore: Joins {
    /// Writes and announces a batch from the worker, and counts the members of joins in it. Storing a
    /// record again does no harm.
    ///
    /// # Errors
    /// The store is away or cannot write at all: the same batch may be stored later. A record that
    /// it will never take, or not now for its size, is no error: the others are stored, and the
    /// answer names it.
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored>>;

    /// Writes one record from client code (`update_state`, revoke), blocking. One that the store
    /// will never take is an error.
    fn put(&self, record: &Record) -> Result<()>;

    /// The documents of these ids, in order; `None` where nothing is stored.
    fn get(&self, ids: &[&str]) -> Result<Vec<Option<Bytes>>>;

    /// Waits until the document of `id` is in a ready state or the deadline (`None`: none) passes,
    /// then returns what is stored.
    ///
    /// # Errors
    /// `Timeout` at the deadline; `Connection` when the store went away and did not come back
    /// before it. `interrupt` is called about every 100 ms while blocked; when it returns true the
    /// wait ends early with `Ok(None)`.
    fn wait(
        &self,
        id: &str,
        origin: Origin,
        deadline: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>>;

    /// Has `observer` told under `key`, once, when the document of `id` is in a ready state, unless
    /// the watch is dropped before. What [`wait`](Self::wait) is for a thread, this is for an event
    /// loop: it returns at once, and any number of watches need one thread and one connection. A
    /// store that is away for long is told as an error.
    ///
    /// # Errors
    /// `Internal` when no thread can be started.
    fn watch(
        &self,
        id: &str,
        origin: Origin,
        key: u64,
        observer: &Arc<dyn Observer>,
    ) -> Result<Watch>;

    /// Drops the document.
    fn forget(&self, id: &str) -> Result<()>;

    /// Deletes expired documents where the store does not do so itself; how many.
    fn cleanup(&self) -> Result<u64>;

    /// The reply id of this client process, starting with [`REPLY_PREFIX`], put into `reply_to`
    /// when publishing.
    fn reply_to(&self) -> &str;

    /// The URL with its password hidden.
    fn url(&self) -> &str;
}
