//! The bell: wakes those who wait for a change of the database, in this process and in others.
//!
//! A commit that made messages ready or stored results rings. In the process itself that is a notification; for the others
//! the writer sets the times of the `-shm` file, which every process watches while one of its threads or tasks waits. Why those times:
//! a write to the `-wal` file is seen before the commit is complete, and the commit itself (a store to shared memory) is not
//! seen at all; the file exists as long as a connection does, is never synced, and needs not be opened, which would drop
//! SQLite's locks on it.
//!
//! The watcher's thread parks while nobody waits, so a process under load hears and pays nothing. The bell is a hint: who waits looks
//! for himself every [`super::SAFETY`], and that is all that happens where files cannot be watched.

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
    /// How often it has rung.
    rings: u64,
    /// How many wait.
    waiting: usize,
    /// Set once, by the owner: the watcher's thread must not park any more.
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes blocked threads.
    rung: Condvar,
    /// Wakes tasks.
    notify: Notify,
    /// Wakes the parked watcher.
    listened: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.lock().rings += 1;
        self.rung.notify_all();
        self.notify.notify_waiters();
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
pub(crate) struct Bell {
    /// The file whose times are the signal.
    file: PathBuf,
    shared: Arc<Shared>,
    /// Made by the first who waits.
    watcher: Mutex<Watch>,
    /// Whether the failure to watch or ring was logged.
    complained: AtomicBool,
}

/// Somebody waits, as long as this lives.
pub(crate) struct Listening(Arc<Shared>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Bell {
    /// The bell of the database at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        let mut file = path.as_os_str().to_owned();
        file.push("-shm");
        let state = State { rings: 0, waiting: 0, closed: false };
        let shared = Shared {
            state: Mutex::new(state),
            rung: Condvar::new(),
            notify: Notify::new(),
            listened: Condvar::new(),
        };
        Self {
            file: file.into(),
            shared: Arc::new(shared),
            watcher: Mutex::new(Watch::Not),
            complained: AtomicBool::new(false),
        }
    }

    /// Wakes everybody, everywhere. Called after the commit.
    pub(crate) fn ring(&self) {
        self.shared.ring();
        if let Err(error) = touch(&self.file) {
            self.complain("the bell cannot be rung", &error);
        }
    }

    /// Announces a waiter, who must look at the database after this and before waiting. Needs an open connection.
    pub(crate) fn listen(&self) -> Listening {
        self.shared.lock().waiting += 1;
        self.shared.listened.notify_all();
        self.attend();
        Listening(self.shared.clone())
    }

    /// Watches again if a fork ended it; who waits long calls it now and then.
    pub(crate) fn attend(&self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*watcher, Watch::Not) {
            *watcher = match self.watch() {
                Ok(watcher) => Watch::Running { _watcher: watcher },
                Err(error) => {
                    self.complain("commits of other processes are noticed late", &error);
                    Watch::Impossible
                }
            };
        }
    }

    /// Ends the watching until somebody attends.
    pub(super) fn deafen(&self) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Watch::Not;
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let config = notify::Config::default().with_poll_interval(super::SAFETY);
        let mut watcher = RecommendedWatcher::new(Ear(self.shared.clone()), config)?;
        watcher.watch(&self.file, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// For tasks: to be enabled before the look at the database.
    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.shared.notify.notified()
    }

    /// For threads: how often it has rung, to be read before the look at the database.
    pub(crate) fn rings(&self) -> u64 {
        self.shared.lock().rings
    }

    /// Blocks until it has rung more often than `seen`, or until `until`.
    pub(crate) fn wait(&self, seen: u64, until: Instant) {
        let mut state = self.shared.lock();
        while state.rings == seen {
            let rest = until.saturating_duration_since(clock::instant());
            if rest.is_zero() {
                return;
            }
            state = self
                .shared
                .rung
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the watcher.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.listened.notify_all();
        self.deafen();
    }

    fn complain(&self, what: &'static str, error: &dyn std::error::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(file = %self.file.display(), error = %error, "{what}");
        }
    }
}

/// The watcher's side of the bell, on the watcher's thread.
struct Ear(Arc<Shared>);

impl EventHandler for Ear {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        // Others open and read the file; only a change is a signal. An error may hide one.
        if event.is_ok_and(|e| !e.kind.is_modify()) {
            return;
        }
        self.0.ring();
        // While nobody waits, events wait in the system, which merges them.
        let mut state = self.0.lock();
        while state.waiting == 0 && !state.closed {
            state = self.0.listened.wait(state).unwrap_or_else(PoisonError::into_inner);
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
