//! Wakes those who wait for a change of the database, in this process and in others.
//!
//! A commit that made messages ready or stored results notifies. Within the process that is a
//! condition variable and a [`Notify`]. For the others the writer sets the times of the `-shm`
//! file, which every process watches while one of its threads or tasks waits. Why those times: a
//! write to the `-wal` file is seen before the commit is complete, and the commit itself, a store
//! to shared memory, is not seen at all. The `-shm` file exists as long as a connection does, is
//! never synced, and needs not be opened, which would drop SQLite's locks on it.
//!
//! The watching thread is parked while nobody waits, so a process under load pays nothing for it. A
//! notification is a hint: who waits looks by itself every [`super::POLL_INTERVAL`], and that is
//! all that happens where files cannot be watched.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use notify::{EventHandler, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::clock;

/// What this process's waiters and its watcher agree on.
struct State {
    /// How often it has notified.
    count: u64,
    /// How many wait.
    waiting: usize,
    /// Set once, by the owner: the watching thread must not park any more.
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes blocked threads.
    threads: Condvar,
    /// Wakes tasks.
    tasks: Notify,
    /// Wakes the parked watcher.
    waited_for: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.lock().count += 1;
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }
}

/// Whether the file is watched.
enum Watch {
    /// Nobody has waited yet, or a fork ended it.
    Not,
    /// As long as this lives.
    Running { _watcher: RecommendedWatcher },
    /// Files cannot be watched here.
    Impossible,
}

/// Wakes waiters.
pub(crate) struct Notifier {
    /// The file whose times are the signal.
    file: PathBuf,
    shared: Arc<Shared>,
    /// Made by the first who waits.
    watcher: Mutex<Watch>,
    /// Whether a failure to watch or to notify was logged.
    warned: AtomicBool,
}

/// Somebody waits, as long as this lives.
pub(crate) struct Waiter(Arc<Shared>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Notifier {
    /// The notifier of the database at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        let mut file = path.as_os_str().to_owned();
        file.push("-shm");
        let state = State { count: 0, waiting: 0, closed: false };
        let shared = Shared {
            state: Mutex::new(state),
            threads: Condvar::new(),
            tasks: Notify::new(),
            waited_for: Condvar::new(),
        };
        Self {
            file: file.into(),
            shared: Arc::new(shared),
            watcher: Mutex::new(Watch::Not),
            warned: AtomicBool::new(false),
        }
    }

    /// Wakes everybody, everywhere. Called after the commit.
    pub(crate) fn notify(&self) {
        self.shared.notify();
        if let Err(error) = touch(&self.file) {
            self.warn("other processes notice commits late", &error);
        }
    }

    /// Announces a waiter, who must look at the database after this and before waiting. Needs an
    /// open connection.
    pub(crate) fn waiter(&self) -> Waiter {
        self.shared.lock().waiting += 1;
        self.shared.waited_for.notify_all();
        self.watch();
        Waiter(self.shared.clone())
    }

    /// Watches if nothing is watched; who waits long calls it now and then, because a fork ends the
    /// watching.
    pub(crate) fn watch(&self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*watcher, Watch::Not) {
            *watcher = match self.start() {
                Ok(watcher) => Watch::Running { _watcher: watcher },
                Err(error) => {
                    self.warn("commits of other processes are noticed late", &error);
                    Watch::Impossible
                }
            };
        }
    }

    /// Ends the watching until somebody asks for it again.
    pub(super) fn unwatch(&self) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Watch::Not;
    }

    fn start(&self) -> notify::Result<RecommendedWatcher> {
        let config = notify::Config::default().with_poll_interval(super::POLL_INTERVAL);
        let mut watcher = RecommendedWatcher::new(OnChange(self.shared.clone()), config)?;
        watcher.watch(&self.file, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// For tasks: to be enabled before the look at the database.
    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.shared.tasks.notified()
    }

    /// For threads: how often it has notified, to be read before the look at the database.
    pub(crate) fn count(&self) -> u64 {
        self.shared.lock().count
    }

    /// Blocks until it has notified more often than `seen`, or until `until`.
    pub(crate) fn wait(&self, seen: u64, until: Instant) {
        let mut state = self.shared.lock();
        while state.count == seen {
            let rest = until.saturating_duration_since(clock::instant());
            if rest.is_zero() {
                return;
            }
            state = self
                .shared
                .threads
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the watcher.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.waited_for.notify_all();
        self.unwatch();
    }

    fn warn(&self, what: &'static str, error: &dyn std::error::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(file = %self.file.display(), error = %error, "{what}");
        }
    }
}

/// What happens on the watching thread when the file has changed.
struct OnChange(Arc<Shared>);

impl EventHandler for OnChange {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        // Others open and read the file; only a change is a signal. An error may hide one.
        if event.is_ok_and(|e| !e.kind.is_modify()) {
            return;
        }
        self.0.notify();
        // While nobody waits, events wait in the system, which merges them.
        let mut state = self.0.lock();
        while state.waiting == 0 && !state.closed {
            state = self.0.waited_for.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(unix)]
fn touch(file: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(utimensat(
        CWD,
        file,
        &Timestamps { last_access: now, last_modification: now },
        AtFlags::empty(),
    )?)
}

#[cfg(not(unix))]
#[allow(clippy::disallowed_methods)] // the time is the signal, nobody reads it
fn touch(file: &Path) -> std::io::Result<()> {
    std::fs::File::options().write(true).open(file)?.set_modified(std::time::SystemTime::now())
}
