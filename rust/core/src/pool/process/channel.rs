//! The child's end: calls in, outcomes out.
//!
//! It reads what the socket has at once and hands the calls out one by one; it begins a call
//! through the [`Cell`], so that one the parent took back is dropped here. Outcomes go into the
//! ring without a system call; the bell is rung when the child would have nothing to do, when one
//! has waited a millisecond, when the ring fills, or before a call that is not known to be short.
//! It runs no user code and knows no Python: whoever drives it decides what to do between
//! `next_call` and `reply`.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{RecvFlags, recv, send},
};

use super::{
    QUIET,
    frame::{self, BELL},
    page::Cell,
};
use crate::{
    Error, ErrorKind, Result,
    clock::Micros,
    pool::{Call, Outcome},
};

/// How long an outcome may wait in the ring while the child goes on with short calls.
const LINGER_US: Micros = 1_000;
/// Bytes in the ring after which the bell is rung.
const LINGER_BYTES: usize = 24 * 1024;
/// What one read asks for.
const READ: usize = 64 * 1024;
/// A call smaller than this is copied out of what was read with it: a request that user code keeps,
/// in a traceback say, would keep all of that.
const OWN: usize = READ / 4;
/// A frame beyond this leaves its buffer instead of growing it for good.
const LARGE: usize = 1024 * 1024;

/// The child's end of its socket and of its cell.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    cell: Cell,
    input: BytesMut,
    queue: Arc<str>,
    scratch: Vec<u8>,
    /// Bytes in the ring that the parent was not told of, and since when.
    unrung: usize,
    unrung_since: Micros,
}

impl Channel {
    /// Takes over the blocking socket and says to the parent that this child is ready.
    pub fn new(socket: OwnedFd, cell: Cell) -> Result<Self> {
        let mut channel = Self {
            socket,
            cell,
            input: BytesMut::new(),
            queue: Arc::from(""),
            scratch: Vec::new(),
            unrung: 1,
            unrung_since: 0,
        };
        channel.ring()?;
        Ok(channel)
    }

    /// The cell, for the soft limit.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The next call that may run, begun; `None` when more must be read first.
    pub fn next_call(&mut self) -> Result<Option<(u32, Call)>> {
        while let Some(payload) = self.next_payload() {
            let (seq, call) = frame::read_call(payload, &mut self.queue)?;
            if self.cell.begin(seq) {
                return Ok(Some((seq, call)));
            }
        }
        Ok(None)
    }

    fn next_payload(&mut self) -> Option<Bytes> {
        let payload = frame::split_frame(&mut &self.input[..])?;
        if payload.len() < OWN {
            let own = Bytes::copy_from_slice(payload);
            self.input.advance(BELL.len() + own.len());
            return Some(own);
        }
        let payload = frame::next_frame(&mut self.input)?;
        if payload.len() > LARGE && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Some(payload.freeze())
    }

    /// Whether a call has come that was not handed out; the parent may have taken it back.
    pub fn has_call(&self) -> bool {
        frame::split_frame(&mut &self.input[..]).is_some()
    }

    /// Reads what the socket has; blocks while it has nothing. False at the end: the parent closed
    /// it, or is gone.
    ///
    /// # Errors
    /// `Timeout` when a signal interrupted the wait: let its handler run and call again.
    pub fn fill(&mut self) -> Result<bool> {
        self.fill_from(Self::read)
    }

    /// As [`Channel::fill`], for an event loop that says when the socket has something: never
    /// blocks, and is true also when there was nothing.
    ///
    /// # Errors
    /// As [`Channel::fill`].
    pub fn fill_at_once(&mut self) -> Result<bool> {
        match self.fill_from(Self::receive) {
            Err(e) if e.kind() == ErrorKind::Timeout => Ok(true),
            filled => filled,
        }
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    #[allow(unsafe_code)]
    fn fill_from(&mut self, read: fn(&mut Self) -> rustix::io::Result<usize>) -> Result<bool> {
        let missing = frame::missing(&self.input);
        if self.input.capacity() - self.input.len() < missing.max(READ / 4) {
            self.input.reserve(missing.max(READ));
        }
        match read(self) {
            Ok(n) => {
                // SAFETY: it initialised the first `n` bytes of the spare capacity.
                unsafe { self.input.advance_mut(n) };
                Ok(n > 0)
            }
            Err(Errno::INTR | Errno::AGAIN) => {
                Err(Error::new(ErrorKind::Timeout, "interrupted by a signal"))
            }
            Err(Errno::CONNRESET) => Ok(false),
            Err(e) => Err(Error::caused(ErrorKind::Internal, "cannot read from the worker", e)),
        }
    }

    /// Reads into the spare capacity. It waits in `poll`, as who sleeps in a read of a Unix socket
    /// is also woken whenever the other end takes what was written.
    fn read(&mut self) -> rustix::io::Result<usize> {
        loop {
            match self.receive() {
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None)?;
                }
                done => return done,
            }
        }
    }

    /// Reads what is there into the spare capacity.
    fn receive(&mut self) -> rustix::io::Result<usize> {
        let spare = self.input.spare_capacity_mut();
        Ok(recv(self.socket.as_fd(), spare, RecvFlags::DONTWAIT)?.0.0.len())
    }

    /// User code of the call starts now, in this lane.
    pub fn start(&self, lane: usize, seq: u32, now: Micros) {
        self.cell.start(lane, seq, now);
    }

    /// Leaves an outcome for the parent. False when it is too big for the ring: then
    /// [`Channel::send`] must follow, which may block.
    pub fn reply(&mut self, seq: u32, outcome: &Outcome, now: Micros) -> Result<bool> {
        self.scratch.clear();
        frame::put_outcome(&mut self.scratch, seq, outcome);
        if !self.cell.push(&self.scratch) {
            return Ok(false);
        }
        if self.unrung == 0 {
            self.unrung_since = now;
        }
        self.unrung += self.scratch.len();
        if self.unrung >= LINGER_BYTES || now.saturating_sub(self.unrung_since) >= LINGER_US {
            self.ring()?;
        }
        Ok(true)
    }

    /// Sends the outcome that did not fit the ring, after what is in it.
    pub fn send(&mut self) -> Result<()> {
        self.ring()?;
        let data = std::mem::take(&mut self.scratch);
        self.write(&data)
    }

    /// Tells the parent of what is in the ring, if it was not told yet.
    pub fn ring(&mut self) -> Result<()> {
        if self.unrung > 0 {
            self.unrung = 0;
            self.write(&BELL)?;
        }
        Ok(())
    }

    /// Says that this process takes so many KiB of memory, which is too much. It begins nothing more:
    /// what has come is the parent's again. Returns when the parent has closed the socket.
    pub fn retire(&mut self, kib: u32) -> Result<()> {
        self.cell.outgrow(kib);
        self.unrung = self.unrung.max(1);
        self.ring()?;
        loop {
            self.input.clear();
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Timeout => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn write(&self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            match send(self.socket.as_fd(), data, QUIET) {
                Ok(n) => data = &data[n..],
                Err(Errno::INTR) => {}
                // An event loop has made it one that does not block.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], None);
                }
                Err(e) => {
                    return Err(Error::caused(ErrorKind::Connection, "the worker is gone", e));
                }
            }
        }
        Ok(())
    }
}
