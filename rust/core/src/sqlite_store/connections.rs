//! The connections of one database: the one that writes, a few that read, and when none of them may
//! be open.
//!
//! The mutex is held for moments; whoever has a connection works without it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rusqlite::Connection;

use super::{
    connect,
    identity::Identity,
    notifier::Notifier,
    writer::{Jobs, Writer},
};
use crate::error::Result;

/// Readers kept for reuse.
const READERS: usize = 4;

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(super) struct State {
    /// Jobs in the order in which they came.
    pub(super) pending: Jobs,
    /// `None` before the first use, after a fork, after a failure, and while somebody writes.
    writer: Option<Writer>,
    /// Whether somebody has the [`Turn`].
    pub(super) writing: bool,
    /// Whether the writer thread runs.
    pub(super) threaded: bool,
    /// Readers that are free.
    readers: Vec<Connection>,
    /// Readers in use.
    lent: usize,
    /// The file in which a writer was opened: it is ours and has its tables.
    prepared: Option<Identity>,
    /// Forks under way: no connection may be open.
    pub(super) paused: usize,
    /// The last handle is gone.
    pub(super) closed: bool,
}

/// The connections of one database, and what is to be written.
pub(super) struct Connections {
    pub(super) path: PathBuf,
    notifier: Arc<Notifier>,
    state: Mutex<State>,
    /// Wakes those who wait for a fork, or for the connections to be free for one.
    moved: Condvar,
    /// Wakes the writer thread.
    pub(super) work: Condvar,
}

impl Connections {
    pub(super) fn new(path: &Path, notifier: Arc<Notifier>) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            notifier,
            state: Mutex::default(),
            moved: Condvar::new(),
            work: Condvar::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.moved.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the connections to a file that is not there any more: somebody removed it, or put
    /// another in its place. What is written to such a file nobody else would ever find.
    fn look_for_file(&self, state: &mut State) {
        if state.prepared.is_none() || state.prepared == Identity::of(&self.path) {
            return;
        }
        tracing::warn!(file = %self.path.display(), "the database file was removed or replaced, what is there now is used");
        state.writer = None;
        state.readers.clear();
        state.prepared = None;
        self.notifier.unwatch();
    }

    /// Takes the turn to write, which nobody has.
    pub(super) fn turn(&self, mut state: MutexGuard<'_, State>) -> Turn<'_> {
        self.look_for_file(&mut state);
        state.writing = true;
        Turn { connections: self, writer: state.writer.take() }
    }

    /// Lends a connection that reads.
    pub(super) fn reader(&self, deadline: Instant) -> Result<Reader<'_>> {
        let mut state = self.lock();
        while state.paused > 0 {
            state = self.wait(state);
        }
        self.look_for_file(&mut state);
        state.lent += 1;
        let (free, prepared) = (state.readers.pop(), state.prepared);
        drop(state);
        // From here on the drop of `lent` gives the place back.
        let mut lent = Reader { connections: self, connection: free, file: prepared };
        if lent.connection.is_none() {
            if prepared.is_none() {
                // A writer makes the tables; a file that is not for us is refused here.
                lent.file = Writer::open(&self.path, &self.notifier, deadline)?.file;
                self.lock().prepared = lent.file;
            }
            lent.connection = Some(connect::reader(&self.path, deadline)?);
        }
        Ok(lent)
    }

    /// Before a fork: waits until nothing is under way, and closes every connection.
    #[cfg(unix)]
    pub(super) fn pause(&self) {
        let mut state = self.lock();
        state.paused += 1;
        while state.writing || state.lent > 0 {
            state = self.wait(state);
        }
        state.writer = None;
        state.readers.clear();
        // With the last connection the watched file goes.
        self.notifier.unwatch();
    }

    /// After the fork, in the parent.
    #[cfg(unix)]
    pub(super) fn resume(&self) {
        self.lock().paused -= 1;
        self.moved.notify_all();
        self.work.notify_one();
    }

    /// The last handle is gone: the writer thread ends when nothing is pending.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Tells a fork that waits for the connections that one of them is free.
    fn freed(&self, state: &State) {
        if state.paused > 0 {
            self.moved.notify_all();
        }
    }
}

/// The turn to write, for one transaction or one group. Dropping it gives it back; a panic loses
/// the connection, and with it what was not committed.
pub(super) struct Turn<'a> {
    connections: &'a Connections,
    writer: Option<Writer>,
}

impl Turn<'_> {
    /// The connection, opened when there is none.
    pub(super) fn writer(&mut self, deadline: Instant) -> Result<&mut Writer> {
        if self.writer.is_none() {
            let Connections { path, notifier, .. } = self.connections;
            self.writer = Some(Writer::open(path, notifier, deadline)?);
        }
        Ok(self.writer.as_mut().expect("it was opened when there was none"))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let good = |writer: &Writer| !writer.failed && !std::thread::panicking();
        let writer = self.writer.take().filter(good);
        let mut state = self.connections.lock();
        if let Some(writer) = &writer {
            state.prepared = state.prepared.or(writer.file);
        }
        state.writer = writer.filter(|writer| writer.file == state.prepared);
        state.writing = false;
        self.connections.freed(&state);
        if !state.pending.is_empty() {
            self.connections.work.notify_one();
        }
    }
}

/// A connection that reads, on loan.
pub(super) struct Reader<'a> {
    connections: &'a Connections,
    connection: Option<Connection>,
    /// The file that it reads.
    file: Option<Identity>,
}

impl Reader<'_> {
    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a reader is handed out with its connection")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut state = self.connections.lock();
        let kept =
            state.readers.len() < READERS && state.paused == 0 && state.prepared == self.file;
        match connection {
            Some(connection) if kept => state.readers.push(connection),
            // Closed before it is counted as back, because a fork may be waiting for exactly that.
            other => drop(other),
        }
        state.lent -= 1;
        self.connections.freed(&state);
    }
}
