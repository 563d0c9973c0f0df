//! The worker's end of the control socket to the zygote, the process that forks the children and
//! reaps them.
//!
//! Records are four u32, little endian. To the zygote: fork a child for a cell (the child's socket
//! travels along as an open file), and signal a process. From it: forked, exited, fork failed.
//! Signals go through the zygote because it alone knows which pids it has not reaped yet: a pid
//! that was reused is never signalled.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::UnixStream,
};

use super::QUIET;
use crate::{Error, ErrorKind, Result};

const FORK: u32 = 1;
const KILL: u32 = 2;
const FORKED: u32 = 1;
const EXITED: u32 = 2;
const FORK_FAILED: u32 = 3;
/// Bytes of a record.
const RECORD: usize = 16;

/// What the zygote says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZygoteNews {
    /// The child for this birth number runs as this process.
    Forked { birth: u32, pid: u32 },
    /// The process is gone, with this wait status; its pid may be reused from now on.
    Exited { pid: u32, status: i32 },
    /// No process could be made for this birth number; the errno.
    ForkFailed { birth: u32, errno: i32 },
}

/// The control socket.
pub(super) struct Zygote {
    stream: UnixStream,
    output: VecDeque<([u8; RECORD], Option<OwnedFd>)>,
    input: Vec<u8>,
}

impl Zygote {
    /// Takes over the control socket. Inside a runtime.
    pub(super) fn new(control: OwnedFd) -> Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(control);
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let stream = stream.map_err(|e| {
            Error::caused(ErrorKind::Internal, "cannot use the zygote's control socket", e)
        })?;
        Ok(Self { stream, output: VecDeque::new(), input: Vec::new() })
    }

    /// Asks for a child that uses `cell` and `socket`; `birth` comes back in the answer.
    pub(super) fn fork(&mut self, cell: usize, birth: u32, socket: OwnedFd) -> Result<()> {
        self.send(record(FORK, cell as u32, birth), Some(socket))
    }

    /// Sends `signal` to a child, unless it is gone.
    pub(super) fn kill(&mut self, pid: u32, signal: i32) -> Result<()> {
        self.send(record(KILL, pid, signal as u32), None)
    }

    fn send(&mut self, record: [u8; RECORD], socket: Option<OwnedFd>) -> Result<()> {
        self.output.push_back((record, socket));
        self.flush().map_err(|e| gone(Some(e)))
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some((record, socket)) = self.output.front() {
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = socket.as_ref().map(|s| [s.as_fd()]);
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
                return Poll::Ready(match kind {
                    FORKED => Ok(ZygoteNews::Forked { birth: a, pid: b }),
                    EXITED => Ok(ZygoteNews::Exited { pid: a, status: b as i32 }),
                    FORK_FAILED => Ok(ZygoteNews::ForkFailed { birth: a, errno: b as i32 }),
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

    #[tokio::test]
    async fn a_slow_zygote_is_told_everything() {
        const MANY: u32 = 20_000; // more than a socket holds
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut zygote = Zygote::new(ours.into()).unwrap();
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
