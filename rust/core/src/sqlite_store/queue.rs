//! Who commits: the queue of pending works, and the thread that takes the lead.
//!
//! There is one writing connection, and whoever needs it when it is free leads: it commits its own work and whatever others
//! have brought meanwhile, then wakes them. A lone producer thus commits in its own thread without a hop, and
//! many form groups by themselves, the larger the slower the disk is. Works of async callers, who must not block, are led by a helper
//! thread that is started for the first of them.
//!
//! The mutex is held for moments; the leader works without it.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    bell::Bell,
    connect, failure,
    identity::Identity,
    writer::{Job, Work, Writer},
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

/// Readers kept for reuse.
const READERS: usize = 4;

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // four independent facts
struct State {
    /// Works in the order in which they came.
    pending: VecDeque<Box<dyn Job>>,
    /// `None` before the first use, after a fork, after a failure, and while somebody leads.
    writer: Option<Writer>,
    /// Whether a thread leads.
    led: bool,
    /// Whether the helper thread runs.
    helped: bool,
    /// Readers that are free.
    readers: Vec<Connection>,
    /// Readers in use.
    lent: usize,
    /// The file in which a writer was opened: it is ours and has its tables.
    prepared: Option<Identity>,
    /// Forks under way: no connection may be open.
    paused: usize,
    /// The last handle is gone.
    closed: bool,
}

/// The pending works of one database, and its connections.
pub(super) struct Queue {
    path: PathBuf,
    bell: Arc<Bell>,
    state: Mutex<State>,
    /// Wakes threads that wait for their work, for the lead, for a reader or for a fork to be over.
    moved: Condvar,
    /// Wakes the helper.
    work: Condvar,
}

/// A thread's place for the value of its work.
type Slot<T> = Arc<Mutex<Option<Result<T>>>>;

impl Queue {
    pub(super) fn new(path: &Path, bell: Arc<Bell>) -> Arc<Self> {
        let path = path.to_owned();
        Arc::new(Self {
            path,
            bell,
            state: Mutex::default(),
            moved: Condvar::new(),
            work: Condvar::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many works wait for a leader.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.moved.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Forgets the connections to a file that is not there any more: somebody removed it, or put another in its place. What is
    /// written to such a file nobody else would ever find.
    fn look_for_file(&self, state: &mut State) {
        if state.prepared.is_none() || state.prepared == Identity::of(&self.path) {
            return;
        }
        tracing::warn!(file = %self.path.display(), "the database file was removed or replaced, what is there now is used");
        state.writer = None;
        state.readers.clear();
        state.prepared = None;
        self.bell.deafen();
    }

    /// Runs `work` and returns its value; this thread leads when nobody else does.
    pub(super) fn run_here<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        let slot: Slot<T> = Arc::default();
        let answer = slot.clone();
        let work = work.then(move |value| {
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        let deadline = work.deadline();
        let mut state = self.lock();
        state.pending.push_back(Box::new(work));
        loop {
            if let Some(value) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return value;
            }
            if state.led || state.paused > 0 {
                let rest = deadline.saturating_duration_since(clock::instant());
                if rest.is_zero() {
                    expire(&self.path, &mut state.pending);
                }
                // Past its deadline it is in a group, which ends soon, and every move wakes.
                state = self.wait(state, rest.max(Duration::from_millis(1)));
            } else {
                state = self.lead(state);
            }
        }
    }

    /// Runs `work` on the helper thread.
    pub(super) async fn run_there<T: Send + 'static>(self: &Arc<Self>, work: Work<T>) -> Result<T> {
        let (send, receive) = tokio::sync::oneshot::channel();
        // Nobody may wait any more: then nobody needs the answer.
        self.hand_over(Box::new(work.then(move |value| drop(send.send(value)))))?;
        receive.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn hand_over(self: &Arc<Self>, job: Box<dyn Job>) -> Result<()> {
        let mut state = self.lock();
        if !state.helped {
            let queue = self.clone();
            // What it has to say belongs into the log of whoever needed it.
            let log = tracing::dispatcher::get_default(Clone::clone);
            let started = std::thread::Builder::new()
                .name("taskcore-db".into())
                .spawn(move || tracing::dispatcher::with_default(&log, || queue.help()));
            started.map_err(|e| {
                Error::caused(
                    ErrorKind::Internal,
                    "the thread of the database could not be started, expected room for one",
                    e,
                )
            })?;
            state.helped = true;
        }
        state.pending.push_back(job);
        // A leader looks at what is pending before it leaves.
        let idle = !state.led;
        drop(state);
        if idle {
            self.work.notify_one();
        }
        Ok(())
    }

    fn gone(&self) -> Error {
        Error::new(
            ErrorKind::Internal,
            format!(
                "`{}` was closed while an operation waited, expected it to stay open",
                self.path.display()
            ),
        )
    }

    /// The helper thread: leads for those who must not block.
    fn help(&self) {
        let mut state = self.lock();
        while !(state.closed && state.pending.is_empty()) {
            if state.pending.is_empty() || state.led || state.paused > 0 {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.lead(state);
            }
        }
    }

    /// Runs one group with the writer, then lets others lead.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.led = true;
        self.look_for_file(&mut state);
        let mut pending = std::mem::take(&mut state.pending);
        let writer = state.writer.take();
        drop(state);
        let writer = match writer.map_or_else(|| self.open(&mut pending), Some) {
            Some(mut writer) => {
                writer.run_group(&self.path, &self.bell, &mut pending).then_some(writer)
            }
            None => None,
        };
        let mut state = self.lock();
        // What the group had no room for comes before what came meanwhile.
        pending.append(&mut state.pending);
        state.pending = pending;
        if let Some(writer) = &writer
            && state.prepared.is_none()
        {
            state.prepared = writer.file;
        }
        state.writer = writer.filter(|w| w.file == state.prepared);
        state.led = false;
        self.moved.notify_all();
        if !state.pending.is_empty() || state.closed {
            self.work.notify_one();
        }
        state
    }

    /// Opens the writer; when that fails, answers everybody with the reason.
    fn open(&self, pending: &mut VecDeque<Box<dyn Job>>) -> Option<Writer> {
        let deadline = pending.iter().map(|j| j.deadline()).min()?;
        match Writer::open(&self.path, deadline) {
            Ok(writer) => Some(writer),
            Err(error) => {
                for mut job in pending.drain(..) {
                    job.finish(Err(Error::new(error.kind(), error.to_string())));
                }
                None
            }
        }
    }

    /// Lends a connection that reads.
    pub(super) fn reader(&self, deadline: Instant) -> Result<Reader<'_>> {
        let mut state = self.lock();
        while state.paused > 0 {
            state = self.wait(state, super::SAFETY);
        }
        self.look_for_file(&mut state);
        state.lent += 1;
        let (free, prepared) = (state.readers.pop(), state.prepared);
        drop(state);
        // From here on the drop of `lent` gives the place back.
        let mut lent = Reader { queue: self, connection: free, file: prepared };
        if lent.connection.is_none() {
            if prepared.is_none() {
                // A writer makes the tables; a file that is not for us is refused here.
                lent.file = Writer::open(&self.path, deadline)?.file;
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
        while state.led || state.lent > 0 {
            state = self.wait(state, super::SAFETY);
        }
        state.writer = None;
        state.readers.clear();
        // With the last connection the watched file goes.
        self.bell.deafen();
    }

    /// After the fork, in the parent.
    #[cfg(unix)]
    pub(super) fn resume(&self) {
        self.lock().paused -= 1;
        self.moved.notify_all();
        self.work.notify_all();
    }

    /// The last handle is gone: the helper ends when its works are done.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        drop(state);
        self.work.notify_all();
    }
}

/// Answers those whose deadline has passed before a group took them: nothing of them was done.
fn expire(path: &Path, pending: &mut VecDeque<Box<dyn Job>>) {
    let now = clock::instant();
    pending.retain_mut(|job| {
        let late = job.deadline() <= now;
        if late {
            job.finish(Err(failure::locked(path)));
        }
        !late
    });
}

/// A connection that reads, on loan.
pub(super) struct Reader<'a> {
    queue: &'a Queue,
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
        let mut state = self.queue.lock();
        match connection {
            Some(connection)
                if state.readers.len() < READERS
                    && state.paused == 0
                    && state.prepared == self.file =>
            {
                state.readers.push(connection);
            }
            // Closed before it is counted as back, because a fork may be waiting for exactly that.
            other => drop(other),
        }
        state.lent -= 1;
        drop(state);
        self.queue.moved.notify_all();
    }
}
