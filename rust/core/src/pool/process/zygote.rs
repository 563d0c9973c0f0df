//! The worker's end of the control socket to the zygote, the process that forks the children and
//! reaps them.
//!
//! Records are four u32, little endian. To the zygote: fork a child (its socket and the memory that
//! it shares with this process travel along as open files), signal a process, and which modules
//! children import. From it: forked, exited, fork failed.
//! Signals go through the zygote because it alone knows which pids it has not reaped yet: a pid
//! that was reused is never signalled.
//!
//! While something is awaited of it the zygote is asked every second whether it is there. One that
//! was stopped from outside would otherwise leave a worker that holds messages and runs nothing. It
//! is told to continue; one that cannot is killed, which ends the pool with an error.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg},
    process::{Pid, Signal, kill_process},
};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::UnixStream,
};

use super::{QUIET, child::Report};
use crate::{Error, ErrorKind, Result, clock::Micros, pool::PoolNews};

const FORK: u32 = 1;
const KILL: u32 = 2;
const PING: u32 = 3;
/// Twelve bytes of text; more may follow.
const TEXT: u32 = 4;
/// The text so far is complete: so many bytes of it are modules that children import from now on.
const MODULES: u32 = 5;
const FORKED: u32 = 1;
const EXITED: u32 = 2;
const FORK_FAILED: u32 = 3;
const PONG: u32 = 4;
/// How often the zygote is asked, while something is awaited of it.
const ASK_US: Micros = 1_000_000;
/// After how many questions without an answer it is told to continue, and after how many it is
/// given up. A machine under heavy load answers within one.
const SILENT: u32 = 5;
const LOST: u32 = 15;
/// Bytes of a record.
const RECORD: usize = 16;

/// What the zygote says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZygoteNews {
    /// The child of this number runs as this process.
    Forked { number: u32, pid: u32 },
    /// The process is gone, with this wait status; its pid may be reused from now on.
    Exited { pid: u32, status: i32 },
    /// No process could be made for the child of this number; the errno.
    ForkFailed { number: u32, errno: i32 },
}

/// The control socket, and what is known of the process at its other end.
pub(super) struct Zygote {
    /// Its process id, which stays its own: this process is its parent.
    pub(super) pid: u32,
    /// When it is asked next; `None` while nothing is awaited of it.
    ask_at: Option<Micros>,
    /// Questions since it was last heard. They count instead of the time that has passed, because
    /// this process may have been stopped too.
    asked: u32,
    stream: UnixStream,
    output: VecDeque<([u8; RECORD], Option<[OwnedFd; 2]>)>,
    input: Vec<u8>,
}

impl Zygote {
    /// Takes over the control socket. Inside a runtime.
    pub(super) fn new(control: OwnedFd, pid: u32) -> Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(control);
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let stream = stream.map_err(|e| {
            Error::caused(ErrorKind::Internal, "cannot use the zygote's control socket", e)
        })?;
        Ok(Self { pid, ask_at: None, asked: 0, stream, output: VecDeque::new(), input: Vec::new() })
    }

    /// Asks for a child that gets these open files; its `number` comes back in the answer.
    pub(super) fn fork(&mut self, number: u32, files: [OwnedFd; 2]) -> Result<()> {
        self.send(record(FORK, number, 0), Some(files))
    }

    /// Sends `signal` to a child, unless it is gone.
    pub(super) fn kill(&mut self, pid: u32, signal: i32) -> Result<()> {
        self.send(record(KILL, pid, signal as u32), None)
    }

    /// Has the children that are forked from now on import these modules: JSON, as the program wrote
    /// it.
    pub(super) fn prepare(&mut self, modules: &str) -> Result<()> {
        for piece in modules.as_bytes().chunks(RECORD - 4) {
            let mut record = record(TEXT, 0, 0);
            record[4..4 + piece.len()].copy_from_slice(piece);
            self.send(record, None)?;
        }
        self.send(record(MODULES, modules.len() as u32, 0), None)
    }

    /// Asks whether it is there, while something is `awaited` of it. Returns when to be called
    /// again.
    ///
    /// # Errors
    /// It did not answer for too long and was killed.
    pub(super) fn watch(
        &mut self,
        awaited: bool,
        now: Micros,
        report: &mut Report,
    ) -> Result<Option<Micros>> {
        if !awaited {
            (self.ask_at, self.asked) = (None, 0);
            return Ok(None);
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            self.ask(report)?;
        }
        Ok(Some(*self.ask_at.get_or_insert(now + ASK_US)))
    }

    fn ask(&mut self, report: &mut Report) -> Result<()> {
        let pid = self.pid;
        let silent = format!(
            "the zygote, process `{pid}`, which forks the pool's processes, has not answered for `{}` s",
            u64::from(self.asked) * ASK_US / 1_000_000
        );
        if self.asked == LOST {
            self.signal(Signal::KILL);
            let text = format!("{silent} and was killed; restart the worker");
            return Err(Error::new(ErrorKind::Connection, text));
        }
        if self.asked == SILENT {
            self.signal(Signal::CONT);
            let text = format!("{silent}: if it was stopped, it is continued now");
            report.news.push(PoolNews::Notice(text));
        }
        self.asked += 1;
        self.send(record(PING, 0, 0), None)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid as i32) {
            let _ = kill_process(pid, signal); // one that is gone shows in `poll`
        }
    }

    fn send(&mut self, record: [u8; RECORD], files: Option<[OwnedFd; 2]>) -> Result<()> {
        self.output.push_back((record, files));
        self.flush().map_err(|e| gone(Some(e)))
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some((record, files)) = self.output.front() {
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = files.as_ref().map(|files| files.each_ref().map(AsFd::as_fd));
                if let Some(fds) = &fds {
                    control.push(SendAncillaryMessage::ScmRights(fds));
                }
                let iov = [IoSlice::new(record)];
                sendmsg(self.stream.as_fd(), &iov, &mut control, QUIET).map_err(io::Error::from)
            });
            match sent {
                Ok(RECORD) => drop(self.output.pop_front()),
                Ok(_) => return Err(io::Error::other("a record was cut")),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The next thing it says; `Pending` registers for more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ZygoteNews>> {
        // Until all is sent or the socket says that it will report room.
        while !self.output.is_empty()
            && let Poll::Ready(room) = self.stream.poll_write_ready(cx)
        {
            room.and_then(|()| self.flush()).map_err(|e| gone(Some(e)))?;
        }
        loop {
            if self.input.len() >= RECORD {
                let word = |i: usize| {
                    u32::from_le_bytes(self.input[i * 4..i * 4 + 4].try_into().expect("four bytes"))
                };
                let (kind, a, b) = (word(0), word(1), word(2));
                self.input.drain(..RECORD);
                self.asked = 0;
                return Poll::Ready(match kind {
                    PONG => continue,
                    FORKED => Ok(ZygoteNews::Forked { number: a, pid: b }),
                    EXITED => Ok(ZygoteNews::Exited { pid: a, status: b as i32 }),
                    FORK_FAILED => Ok(ZygoteNews::ForkFailed { number: a, errno: b as i32 }),
                    _ => Err(Error::new(
                        ErrorKind::Internal,
                        format!("unknown record `{kind}` from the zygote"),
                    )),
                });
            }
            let mut space = [0; 64 * RECORD];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Poll::Ready(Err(gone(None)));
                }
                Poll::Ready(Ok(())) => self.input.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(gone(Some(e)))),
            }
        }
    }
}

fn record(kind: u32, a: u32, b: u32) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    for (i, word) in [kind, a, b].into_iter().enumerate() {
        record[i * 4..i * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
    record
}

#[cold]
fn gone(cause: Option<io::Error>) -> Error {
    let text = "the zygote, which forks the pool's processes, is gone: it was killed from outside; restart the worker";
    match cause {
        Some(e) => Error::caused(ErrorKind::Connection, text, e),
        None => Error::new(ErrorKind::Connection, text),
    }
}

/// A wait status in words: `signal 9 (SIGKILL)`, `exit code 1`.
pub(super) fn in_words(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        let name = match signal {
            libc::SIGABRT => " (SIGABRT)",
            libc::SIGBUS => " (SIGBUS)",
            libc::SIGFPE => " (SIGFPE)",
            libc::SIGHUP => " (SIGHUP)",
            libc::SIGILL => " (SIGILL)",
            libc::SIGINT => " (SIGINT)",
            libc::SIGKILL => " (SIGKILL)",
            libc::SIGQUIT => " (SIGQUIT)",
            libc::SIGSEGV => " (SIGSEGV)",
            libc::SIGTERM => " (SIGTERM)",
            _ => "",
        };
        format!("signal {signal}{name}")
    } else {
        format!("exit code {}", libc::WEXITSTATUS(status))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// A process that is stopped, as its own zygote.
    fn stopped() -> (std::process::Child, Zygote, std::os::unix::net::UnixStream) {
        let process = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let zygote = Zygote::new(ours.into(), process.id()).unwrap();
        zygote.signal(Signal::STOP);
        (process, zygote, theirs)
    }

    fn state(process: &std::process::Child) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        stat.rsplit_once(')').unwrap().1.trim_start().chars().next().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_silent_zygote_is_continued_and_at_last_killed() {
        let (mut process, mut zygote, _theirs) = stopped();
        while state(&process) != 'T' {
            tokio::task::yield_now().await;
        }
        let mut report = Report::default();
        let mut now = 0;
        for asked in 0..=u64::from(LOST) {
            // The first time only sets the time of the first question.
            assert_eq!(report.news.len(), usize::from(asked > u64::from(SILENT) + 1), "{asked}");
            assert_eq!(state(&process) == 'T', report.news.is_empty());
            assert_eq!(zygote.watch(true, now, &mut report).unwrap(), Some(now + ASK_US));
            now += ASK_US;
        }
        let error = zygote.watch(true, now, &mut report).unwrap_err();
        assert!(error.to_string().contains("has not answered for `15` s"), "{error}");
        process.wait().unwrap();
    }

    #[tokio::test]
    async fn one_that_answers_or_is_not_needed_is_left_alone() {
        let (mut process, mut zygote, theirs) = stopped();
        let mut report = Report::default();
        for second in 0..100 {
            let awaited = second > 50 || second % 6 > 0;
            let wake = zygote.watch(awaited, second * ASK_US, &mut report).unwrap();
            assert_eq!(wake.is_some(), awaited);
            if second > 50 {
                rustix::net::send(&theirs, &record(PONG, 0, 0), QUIET).unwrap();
                std::future::poll_fn(|cx| {
                    assert!(zygote.poll(cx).is_pending());
                    if zygote.asked == 0 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        }
        assert!(report.news.is_empty());
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[tokio::test]
    async fn a_slow_zygote_is_told_everything() {
        const MANY: u32 = 20_000; // more than a socket holds
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut zygote = Zygote::new(ours.into(), 0).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        for pid in 0..MANY {
            zygote.kill(pid, libc::SIGTERM).unwrap();
        }
        assert!(!zygote.output.is_empty());
        let hears = async {
            for pid in 0..MANY {
                let mut told = [0; RECORD];
                theirs.read_exact(&mut told).await.unwrap();
                assert_eq!(told, record(KILL, pid, libc::SIGTERM as u32));
            }
        };
        tokio::select! {
            () = hears => {}
            news = std::future::poll_fn(|cx| zygote.poll(cx)) => panic!("{news:?}"),
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it waits for room for ever"),
        }
    }
}
