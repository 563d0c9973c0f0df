//! Writes log lines from a thread of its own, so that the worker's loop never waits for whoever
//! reads them.
//!
//! Lines wait in a bounded buffer. What does not fit, because nobody reads the other end of a pipe,
//! and what cannot be written, because the reader is gone or the disk is full, is dropped and
//! counted; the count is written as soon as anything can be written again. The price is that a
//! process that is killed takes its last few lines with it.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::log;

/// What may wait to be written: some 50,000 lines, enough for a reader that pauses for a second at
/// full load.
const ROOM: usize = 8 * 1024 * 1024;
/// Lines are gathered into writes of at most this size, which a pipe takes as a whole (`PIPE_BUF`
/// of Linux).
const WRITE: usize = 4096;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT: usize = 64 * 1024;

/// Lines that are to be written together, and where each ends.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    fn clear(&mut self) {
        if self.bytes.capacity() > KEPT {
            *self = Self::default();
        }
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Default)]
struct State {
    lines: Lines,
    /// Lines that found no room. Counted by whoever logs, taken by the thread.
    dropped: u64,
    /// The thread has lines that are not written yet.
    writing: bool,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A line is there with its end or not at all, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes lines to be written; never waits for the file.
#[derive(Clone)]
pub(crate) struct LogWriter(Arc<Shared>);

impl LogWriter {
    /// The place where lines wait, and what writes them to `file`. With a `path` its first failure
    /// is said on standard error.
    pub(crate) fn new(file: File, path: Option<String>) -> (Self, Drain) {
        let shared = Arc::new(Shared::default());
        let writer = Self(Arc::clone(&shared));
        (writer, Drain { shared, file, path, dropped: 0, why: None, torn: false })
    }

    /// No more lines will come. Waits until those that did are written, at most for `limit`.
    pub(crate) fn finish(&self, limit: Duration) {
        let mut state = self.0.lock();
        state.ended = true;
        self.0.changed.notify_all();
        let pending = |state: &mut State| state.writing || !state.lines.ends.is_empty();
        drop(self.0.changed.wait_timeout_while(state, limit, pending));
    }
}

impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        let lines = &mut state.lines;
        if lines.bytes.len() + line.len() > ROOM {
            state.dropped += 1;
            return Ok(line.len());
        }
        lines.bytes.extend_from_slice(line);
        lines.ends.push(lines.bytes.len());
        if lines.ends.len() == 1 && !state.writing {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Writes what waits; made before there is a thread for it.
pub(crate) struct Drain {
    shared: Arc<Shared>,
    file: File,
    /// The path of a log file, until its first failure was said.
    path: Option<String>,
    /// Lines that were not written, and have not been reported.
    dropped: u64,
    /// Why the last of them was not; `None` when there was no room.
    why: Option<io::Error>,
    /// The last write was cut off, maybe in the middle of a line.
    torn: bool,
}

impl Drain {
    /// Starts the thread, which ends after [`LogWriter::finish`].
    pub(crate) fn start(mut self) -> io::Result<()> {
        std::thread::Builder::new().name("taskcore-log".into()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(&mut self) {
        let mut lines = Lines::default();
        while let Some(dropped) = self.take(&mut lines) {
            self.write_lines(&lines);
            lines.clear();
            if dropped > 0 {
                self.dropped += dropped;
                self.why = None;
                let _ = self.report(); // it is tried again before the next lines
            }
        }
    }

    /// Waits for lines; how many more found no room behind them, `None` at the end.
    fn take(&mut self, lines: &mut Lines) -> Option<u64> {
        let mut state = self.shared.lock();
        state.writing = false;
        self.shared.changed.notify_all();
        while state.lines.ends.is_empty() {
            if state.ended {
                return None;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        std::mem::swap(&mut state.lines, lines);
        Some(std::mem::take(&mut state.dropped))
    }

    fn write_lines(&mut self, lines: &Lines) {
        let (mut from, mut next) = (0, 0);
        while next < lines.ends.len() {
            let first = next;
            next += 1;
            while next < lines.ends.len() && lines.ends[next] - from <= WRITE {
                next += 1;
            }
            let to = lines.ends[next - 1];
            let written = self.report().and_then(|()| self.write(&lines.bytes[from..to]));
            if let Err(error) = written {
                self.failed((next - first) as u64, error);
            }
            from = to;
        }
    }

    /// Writes how many lines are missing, if any are.
    fn report(&mut self) -> io::Result<()> {
        if self.dropped == 0 {
            return Ok(());
        }
        if self.torn {
            self.write(b"\n")?;
            self.torn = false;
        }
        let why = self.why.as_ref().map_or("nobody read them".to_owned(), ToString::to_string);
        let text = format!("{} log lines were dropped: {why}", self.dropped);
        self.write(log::warning(&text).as_bytes())?;
        self.dropped = 0;
        Ok(())
    }

    fn failed(&mut self, lines: u64, error: io::Error) {
        if let Some(path) = self.path.take() {
            let text =
                format!("log file `{path}` cannot be written, its lines are dropped: {error}");
            // Where nobody hears this either, nobody can be told.
            let _ = io::stderr().write_all(log::warning(&text).as_bytes());
        }
        self.dropped += lines;
        self.why = Some(error);
    }

    /// Writes all of it. Waits for room also where whoever shares the descriptor made it one that
    /// does not block.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                #[cfg(unix)]
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    use rustix::event::{PollFd, PollFlags, poll};
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None)?;
                }
                Err(e) => {
                    self.torn |= rest.len() < bytes.len();
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}
