//! The embedded database: what the sqlite broker and the sqlite result store share when their URLs name the same file.
//!
//! One [`Database`] per process and file. It owns the one connection that writes, through which everything goes in group commits
//! ([`writer`]), a few connections that read, and the bell that wakes waiters here and in other processes ([`bell`]). It knows
//! transactions, numbers and queue names; what a message or a result is, its users know. A file that is removed or replaced while it
//! is open is noticed on the next use, and what is there then is opened ([`identity`]).
//!
//! No connection ever crosses a fork: all are closed right before one and opened again on use, and a forked child finds
//! nothing of its parent ([`forked`]). That costs a parent that forks a millisecond, and makes the order of fork and first use
//! irrelevant.

mod bell;
mod connect;
mod failure;
mod forked;
mod identity;
mod queue;
mod schema;
mod tx;
mod writer;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use self::queue::Queue;
pub(crate) use self::{
    bell::Bell,
    forked::PerProcess,
    tx::Tx,
    writer::{Cost, Work},
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

/// How long an operation without a deadline of its own waits for other processes' transactions.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How often a waiter looks although nothing rang: the bell is a hint, this is the guarantee.
pub(crate) const SAFETY: Duration = Duration::from_secs(1);

/// How much a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Every confirmed change survives the loss of power: one fsync per group commit.
    Full,
    /// Every confirmed change survives the death of any process; the loss of power may cost the last moments.
    Normal,
}

/// Which file, and how much its commits survive: what a URL says.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// Absolute path of the file.
    pub(crate) path: PathBuf,
    /// What the handles opened with this location promise.
    pub(crate) durability: Durability,
}

impl Location {
    /// `path` as a URL gave it, resolved once, so that a later change of the working directory changes nothing.
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
        // One file has one name here whatever links lead to it; a directory that does not exist yet is reported on first use.
        let path = match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => absolute,
        };
        Ok(Self { path, durability })
    }
}

/// One file, open in this process.
pub(crate) struct Database {
    queue: Arc<Queue>,
    bell: Arc<Bell>,
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
        let bell = Arc::new(Bell::new(path));
        let queue = Queue::new(path, bell.clone());
        forked::close_before_fork(&queue);
        let database = Arc::new(Self { queue, bell });
        registry.insert(path.to_owned(), Arc::downgrade(&database));
        database
    }

    /// Runs `work` in a group commit and waits for it in this thread, which may find itself committing for others.
    pub(crate) fn write<T, F>(&self, cost: Cost, deadline: Instant, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.queue.run_here(Work::new(cost, deadline, work))
    }

    /// Runs `work` in a group commit on the database's own thread.
    pub(crate) async fn write_async<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        self.queue.run_there(work).await
    }

    /// Reads on a connection that no writer blocks.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let reader = self.queue.reader(clock::instant() + PATIENCE)?;
        read(reader.connection()).map_err(|e| failure::describe(self.queue.path(), &e))
    }

    /// What wakes waiters.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.queue.close();
        self.bell.close();
    }
}

/// A handle's way to its database, in whatever process it finds itself.
pub(crate) struct Handle {
    location: Location,
    here: PerProcess<Arc<Database>>,
}

impl Handle {
    pub(crate) fn new(location: Location) -> Self {
        Self { location, here: PerProcess::new() }
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        self.here.get_or_init(|| Database::shared(&self.location.path))
    }

    /// Whether what this handle confirms must be on the disk.
    pub(crate) fn durable(&self) -> bool {
        self.location.durability == Durability::Full
    }
}

#[cfg(test)]
mod tests;
