//! The embedded database: what the sqlite broker and the sqlite result store share when their URLs
//! name the same file.
//!
//! One [`Database`] per process and file. It owns the one connection that writes and a few that
//! read ([`connections`]); what is to be written goes in group commits ([`commit`], [`writer`]),
//! after which waiters here and in other processes are woken ([`notifier`]). It knows transactions,
//! numbers and queue names; what a message or a result is, its users know. A file that is removed
//! or replaced while it is open is noticed on the next use, and what is there then is opened
//! ([`identity`]). Publishing leaves some of the disk free, so that what is queued can be claimed
//! and settled ([`space`]).
//!
//! No connection ever crosses a fork: all are closed right before one and opened again on use, and
//! a forked child finds nothing of its parent ([`forked`]). That costs a parent that forks a
//! millisecond, and makes the order of fork and first use irrelevant.

mod job;
mod commit;
mod writer;
mod tx;
mod notifier;
mod connections;
mod connect;
mod schema;
mod space;
mod identity;
mod failure;
mod forked;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use self::connections::Connections;
pub(crate) use self::{
    job::Cost,
    notifier::{Notifier, Waiter},
    tx::Tx,
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    fork::PerProcess,
};

/// How long an operation without a deadline of its own waits for other processes' transactions.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a waiter looks although it was not notified: the notification is a hint, this is the
/// guarantee.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How much a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Every confirmed change survives the loss of power: one fsync per group commit.
    Full,
    /// Every confirmed change survives the death of any process; the loss of power may cost the
    /// last moments.
    Normal,
}

/// Which file, and how much its commits survive: what a URL says.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// Absolute path of the file.
    pub(crate) path: PathBuf,
    /// What the handles made with this location promise.
    pub(crate) durability: Durability,
}

impl Location {
    /// `path` as a URL gave it, resolved once, so that a later change of the working directory
    /// changes nothing.
    pub(crate) fn new(path: &Path, durability: Option<&str>) -> Result<Self> {
        let durability = match durability {
            None | Some("full") => Durability::Full,
            Some("normal") => Durability::Normal,
            Some(other) => {
                let message = format!(
                    "unknown durability `{other}`, expected `full` (survives power loss) or `normal`"
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
        };
        let absolute = std::path::absolute(path).map_err(|e| {
            Error::caused(
                ErrorKind::Config,
                format!("`{}` is not a usable path", path.display()),
                e,
            )
        })?;
        // One file has one name here whatever links lead to it; a directory that does not exist yet
        // is reported on first use.
        let path = match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => absolute,
        };
        Ok(Self { path, durability })
    }
}

/// One file, open in this process.
pub(crate) struct Database {
    connections: Arc<Connections>,
    notifier: Arc<Notifier>,
}

/// The databases of this process by path. Weak: a database closes with its last handle.
type Registry = Mutex<HashMap<PathBuf, Weak<Database>>>;

impl Database {
    /// The database at `path`, shared by all handles of this process. Opens nothing yet.
    pub(crate) fn shared(path: &Path) -> Arc<Self> {
        static REGISTRY: PerProcess<Registry> = PerProcess::new();
        let mut registry =
            REGISTRY.get_or_init(Registry::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = registry.get(path).and_then(Weak::upgrade) {
            return database;
        }
        registry.retain(|_, database| database.strong_count() > 0);
        let notifier = Arc::new(Notifier::new(path));
        let connections = Connections::new(path, notifier.clone());
        forked::close_before_fork(&connections);
        let database = Arc::new(Self { connections, notifier });
        registry.insert(path.to_owned(), Arc::downgrade(&database));
        database
    }

    /// Runs `run` in a transaction, perhaps one shared with others, and waits for it in this
    /// thread. It runs again when the transaction fails by another's fault.
    pub(crate) fn write<T, R>(&self, cost: Cost, deadline: Instant, run: R) -> Result<T>
    where
        T: Send + 'static,
        R: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.connections.run(cost, deadline, run)
    }

    /// As [`Self::write`], for tasks, which must not block.
    pub(crate) async fn write_async<T, R>(&self, cost: Cost, run: R) -> Result<T>
    where
        T: Send + 'static,
        R: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_then(cost, run, |value| value).await
    }

    /// As [`Self::write_async`]; `then` takes the value in hand right after the commit, whether or
    /// not anybody still waits for it.
    pub(crate) async fn write_then<T, U, R, D>(&self, cost: Cost, run: R, then: D) -> Result<U>
    where
        T: Send + 'static,
        U: Send + 'static,
        R: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        D: FnOnce(T) -> U + Send + 'static,
    {
        self.connections.run_there(cost, clock::instant() + TIMEOUT, run, then).await
    }

    /// Reads on a connection that no writer blocks.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let reader = self.connections.reader(clock::instant() + TIMEOUT)?;
        read(reader.connection()).map_err(|e| failure::describe(&self.connections.path, &e))
    }

    /// What wakes waiters.
    pub(crate) fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.connections.close();
        self.notifier.close();
    }
}

/// A database as one broker or store uses it.
pub(crate) struct Handle {
    database: Arc<Database>,
    durability: Durability,
}

impl Handle {
    pub(crate) fn new(location: &Location) -> Self {
        Self { database: Database::shared(&location.path), durability: location.durability }
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Whether what this handle confirms must be on the disk.
    pub(crate) fn durable(&self) -> bool {
        self.durability == Durability::Full
    }
}

#[cfg(test)]
mod tests;
