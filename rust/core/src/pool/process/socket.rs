//! The parent's end of a child's socket.
//!
//! A socket of the Unix kind tells its writer each time the other end has read, and whoever watches
//! it for room is woken by that. So it is watched for what comes, and for room only while there is
//! none.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    task::{Context, Poll, ready},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A stream that does not block, registered with the current runtime.
pub(super) struct Socket {
    coming: AsyncFd<UnixStream>,
    /// The same stream, while it takes nothing.
    room: Option<AsyncFd<UnixStream>>,
}

impl Socket {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { coming: watch(stream, Interest::READABLE)?, room: None })
    }

    /// Writes what there is room for; `WouldBlock` when there is none.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.coming.get_ref().write(bytes)
    }

    /// Reads what has come; `WouldBlock` when nothing has.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.coming.get_ref().read(buffer)
    }

    /// As [`Socket::try_write`], and when there is no room wakes the task once there is.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.coming.get_ref().write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.room.is_none() {
                        let stream = self.coming.get_ref().try_clone()?;
                        self.room = Some(watch(stream, Interest::WRITABLE)?);
                    }
                    if let Some(room) = &self.room {
                        ready!(room.poll_write_ready(cx))?.clear_ready();
                    }
                }
                done => {
                    self.room = None;
                    return Poll::Ready(done);
                }
            }
        }
    }

    /// Reads what has come, and when nothing has wakes the task once something does.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.coming.poll_read_ready(cx))?;
            if let Ok(done) = guard.try_io(|fd| fd.get_ref().read(buffer)) {
                return Poll::Ready(done);
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.coming.as_fd()
    }
}

#[allow(unsafe_code)]
fn watch(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a `UnixStream` has one descriptor, open for as long as it lives, and it moves into
    // what is returned.
    unsafe { AsyncFd::register_with_interest(stream, interest) }.map_err(Into::into)
}
