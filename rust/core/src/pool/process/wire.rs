//! The bytes between the parent and one child: what the socket did not take yet, and what is not a
//! whole frame yet.
//!
//! It knows frames and no calls. Nothing here blocks, and nothing of what was read is lost: a
//! socket that fails still gives what it had.

use std::{
    io,
    os::unix::net::UnixStream,
    task::{Context, Poll},
};

use bytes::BytesMut;

use super::{frame, socket::Socket};

/// Unwritten bytes beyond which a child takes no more calls.
const BACKLOG: usize = 256 * 1024;

/// The parent's end of the stream to a child.
pub(super) struct Wire {
    socket: Socket,
    output: Vec<u8>,
    written: usize,
    input: BytesMut,
}

/// What [`Wire::poll`] came to.
pub(super) struct Heard {
    /// Whether anything was read.
    pub(super) bytes: bool,
    /// Whether nothing more can be said or will be heard.
    pub(super) over: bool,
}

impl Wire {
    /// Takes over the parent's end. Inside a runtime.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let socket = Socket::new(stream)?;
        Ok(Self { socket, output: Vec::new(), written: 0, input: BytesMut::new() })
    }

    /// Where frames are put; [`Wire::flush`] follows.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether more waits to be written than should.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() - self.written > BACKLOG
    }

    /// Writes what the socket takes; the rest goes when it is writable. A failure shows in
    /// [`Wire::poll`].
    pub(super) fn flush(&mut self) {
        while self.written < self.output.len() {
            match self.socket.try_write(&self.output[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.drop_output();
    }

    /// Forgets what was not written.
    pub(super) fn drop_output(&mut self) {
        self.written = 0;
        self.output.clear();
        self.output.shrink_to(BACKLOG);
    }

    /// Moves bytes both ways as far as they go and registers for more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Heard {
        let mut heard = Heard { bytes: false, over: false };
        while !heard.over && self.written < self.output.len() {
            match self.socket.poll_write(cx, &self.output[self.written..]) {
                Poll::Ready(Ok(n)) => self.written += n,
                // A child that gets half a frame waits for the other half for ever.
                Poll::Ready(Err(_)) => heard.over = true,
                Poll::Pending => break,
            }
        }
        if self.written == self.output.len() {
            self.drop_output();
        }
        loop {
            match self.socket.poll_read(cx, scratch) {
                Poll::Pending => return heard,
                Poll::Ready(Ok(n)) if n > 0 => {
                    heard.bytes = true;
                    self.input.extend_from_slice(&scratch[..n]);
                }
                Poll::Ready(_) => {
                    heard.over = true;
                    return heard;
                }
            }
        }
    }

    /// Reads what is left of a child that is gone, whether or not its readiness was reported yet.
    pub(super) fn read_rest(&mut self, scratch: &mut [u8]) {
        loop {
            match self.socket.try_read(scratch) {
                Ok(n) if n > 0 => self.input.extend_from_slice(&scratch[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    /// The next frame, as [`frame::next_frame`].
    pub(super) fn next_frame(&mut self) -> Option<BytesMut> {
        frame::next_frame(&mut self.input)
    }

    /// Tells the child that nothing more comes.
    pub(super) fn close(&self) {
        // Fails only when the child is gone already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }
}
