//! Memory that the parent and one child share: a cell (what the child runs) and a ring (what it
//! finished).
//!
//! The parent makes it as a file without a name and passes that along with the request to fork, so
//! there may be as many children as the system allows, and one that is gone shares nothing with its
//! successor.
//!
//! The cell lets both sides agree which calls have begun ([`floor`](super::floor)). A child that
//! runs several calls at once begins them in order all the same; what each of its lanes runs stands
//! in a table of its own.
//!
//! Outcomes go through a [`ring`](super::ring) in the same memory instead of the socket: they survive a child that
//! dies right after finishing them, and the parent can collect them while the child is busy with
//! its next, long call. The socket carries only the bell that wakes the parent, and outcomes too
//! big for the ring.
//!
//! The trade-off: user code in a child can scribble over this memory. Whatever the parent reads
//! from it is checked before use.

#![allow(unsafe_code)]

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::Arc,
};

use bytes::BytesMut;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{
    atomic::{AtomicU32, AtomicU64, Ordering},
    floor::Floor,
    ring::{Memory, Ring},
};
use crate::{Error, ErrorKind, Result, clock::Micros};

/// Bytes of the ring: about 250 small outcomes. A power of two, so that counters may wrap.
const RING: u32 = 64 * 1024;
/// The part before the ring is a multiple of this.
const PAGE: usize = 4096;
/// Most lanes of a child; the table of what they run is a megabyte then.
pub const MOST_LANES: usize = 32_768;

/// The head of the memory. Its writers sit on different cache lines.
#[repr(C, align(64))]
struct Head {
    floor: Floor,
    /// Bytes written to the ring, wrapping. Written by the child.
    written: AtomicU32,
    /// KiB of memory that the child found too much; 0 before. Written by the child.
    outgrown: AtomicU32,
    read: Line,
}

/// What the parent writes.
#[repr(C, align(64))]
struct Line {
    /// Bytes read from the ring, wrapping.
    read: AtomicU32,
}

/// One lane: what it runs, by the child, and what the parent asks of that.
#[repr(C, align(32))]
struct Lane {
    /// Monotonic time at which the call started; 0 before the first. Written by the child, before
    /// `seq`.
    at: AtomicU64,
    /// Its number. Written by the child.
    seq: AtomicU32,
    /// An [`Ask`] and the low half the number of the call it is meant for; 0 when there is none.
    /// Written by the parent, cleared by the child.
    asked: AtomicU64,
}

/// What the parent asks of a running call; a signal tells the child to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Ask {
    /// Its soft time limit is due.
    Soft = 1,
    /// It is to end.
    End = 2,
}

/// The mapping.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    lanes: usize,
}

// SAFETY: the memory is reached only through atomics and through the ring's copies, whose areas are
// handed over by atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: BorrowedFd<'_>, lanes: usize) -> io::Result<Self> {
        let len = length(lanes);
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).expect("a mapping is never at address 0");
        Ok(Self { base, len, lanes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `of` with this length; every `Cell` keeps the mapping alive.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Bytes before the ring.
fn before_ring(lanes: usize) -> usize {
    (size_of::<Head>() + lanes * size_of::<Lane>()).next_multiple_of(PAGE)
}

fn length(lanes: usize) -> usize {
    before_ring(lanes) + RING as usize
}

/// The memory of one child. Parent and child each hold one.
#[derive(Clone, Debug)]
pub struct Cell(Arc<Mapping>);

/// What a lane of the child says it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Number of the call.
    pub seq: u32,
    /// Monotonic time of the start.
    pub at: Micros,
}

impl Cell {
    /// Parent: memory for a child that runs `lanes` calls at once, and the file that it opens.
    pub fn make(lanes: usize) -> Result<(Self, OwnedFd)> {
        let made = nameless_file(length(lanes)).and_then(|file| {
            let mapping = Mapping::of(file.as_fd(), lanes)?;
            Ok((Self(Arc::new(mapping)), file))
        });
        made.map_err(|e| {
            Error::caused(ErrorKind::Internal, "cannot make the memory shared with a child", e)
        })
    }

    /// Child: opens what the parent made.
    pub fn open(file: &OwnedFd) -> Result<Self> {
        let failed = |e: io::Error| {
            Error::caused(ErrorKind::Internal, "cannot open the memory shared with the worker", e)
        };
        let len = rustix::fs::fstat(file).map_err(|e| failed(e.into()))?.st_size as usize;
        let table = len.saturating_sub(RING as usize + size_of::<Head>());
        let lanes = table / size_of::<Lane>();
        // What the pages leave over are lanes that nobody uses.
        Mapping::of(file.as_fd(), lanes).map(|mapping| Self(Arc::new(mapping))).map_err(failed)
    }

    /// How many calls may run at once, or a few more in the child.
    pub fn lanes(&self) -> usize {
        self.0.lanes
    }

    #[allow(clippy::cast_ptr_alignment)] // the memory starts on a page
    fn head(&self) -> &Head {
        // SAFETY: the memory is page-aligned, zeroed at first (a valid Head), lives as long as
        // `self`, and is only reached through atomics.
        unsafe { &*self.0.base.as_ptr().cast::<Head>() }
    }

    #[allow(clippy::cast_ptr_alignment)] // the table follows the head, which is a multiple of 64
    fn lane(&self, lane: usize) -> &Lane {
        assert!(lane < self.0.lanes, "lane {lane} of {}", self.0.lanes);
        // SAFETY: as `head`, and `lane` was checked, so it lies before the ring.
        unsafe { &*self.0.base.as_ptr().add(size_of::<Head>()).cast::<Lane>().add(lane) }
    }

    fn ring(&self) -> Ring<'_, RingBytes> {
        let head = self.head();
        // SAFETY: the ring are the last bytes of the mapping.
        let start = unsafe { self.0.base.add(self.0.len - RING as usize) };
        Ring { written: &head.written, read: &head.read.read, memory: RingBytes(start) }
    }

    /// Child: begins call `seq`; false when the parent took it back.
    pub fn begin(&self, seq: u32) -> bool {
        self.head().floor.begin(seq)
    }

    /// Parent: takes back every call that has not begun; `next` is the number it would send next.
    /// Calls from the returned number on are the parent's again.
    pub fn take_back(&self, next: u32) -> u32 {
        self.head().floor.take_back(next)
    }

    /// Parent: whether call `seq`, not taken back, has begun.
    pub fn has_begun(&self, seq: u32) -> bool {
        self.head().floor.has_begun(seq)
    }

    /// Child: user code of call `seq` starts now in this lane.
    pub fn start(&self, lane: usize, seq: u32, now: Micros) {
        let lane = self.lane(lane);
        lane.at.store(now, Ordering::Release);
        lane.seq.store(seq, Ordering::Release);
    }

    /// Parent: what started last in this lane. It may have ended.
    pub fn running(&self, lane: usize) -> Option<Running> {
        let lane = self.lane(lane);
        let seq = lane.seq.load(Ordering::Acquire);
        let at = lane.at.load(Ordering::Acquire);
        (at != 0).then_some(Running { seq, at })
    }

    /// Parent: asks something of call `seq`, which runs in this lane; a signal follows.
    pub fn ask(&self, lane: usize, seq: u32, what: Ask) {
        self.lane(lane).asked.store(asked(seq, what), Ordering::Release);
    }

    /// Child: whether this is asked of call `seq`; true once.
    pub fn is_asked(&self, lane: usize, seq: u32, what: Ask) -> bool {
        let word = &self.lane(lane).asked;
        word.compare_exchange(asked(seq, what), 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Child: says that it takes so many KiB of memory, which is too much, and begins nothing more.
    pub fn outgrow(&self, kib: u32) {
        self.head().outgrown.store(kib, Ordering::Release);
    }

    /// Parent: how many KiB the child takes, if that is too much.
    pub fn outgrown(&self) -> Option<u32> {
        Some(self.head().outgrown.load(Ordering::Acquire)).filter(|kib| *kib > 0)
    }

    /// Child: puts bytes into the ring, all or nothing; false when they do not fit.
    pub fn push(&self, data: &[u8]) -> bool {
        self.ring().push(data)
    }

    /// Parent: moves what the ring holds to the end of `into`; how many bytes.
    ///
    /// # Errors
    /// `Internal` when the counters make no sense: the child overwrote them.
    pub fn drain(&self, into: &mut BytesMut) -> Result<usize> {
        self.ring().drain(into).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "a child overwrote the memory it shares with the worker",
            )
        })
    }
}

/// The first byte of the ring.
struct RingBytes(NonNull<u8>);

impl Memory for RingBytes {
    const SIZE: u32 = RING;

    unsafe fn write(&self, at: usize, data: &[u8]) {
        // SAFETY: the caller says that it ends inside the ring, and that nobody else is there.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.0.as_ptr().add(at), data.len()) }
    }

    unsafe fn read(&self, at: usize, len: usize, into: &mut BytesMut) {
        // SAFETY: as above.
        into.extend_from_slice(unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(at), len) });
    }
}

fn asked(seq: u32, what: Ask) -> u64 {
    u64::from(what as u32) << 32 | u64::from(seq)
}

/// A file of `len` zero bytes that has no name and goes with its last descriptor.
fn nameless_file(len: usize) -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let file = memfd_create("taskcore", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, len as u64)?;
        // Cutting it would kill whoever reads beyond the end.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(file)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        use rustix::{
            fs::Mode,
            shm::{self, OFlags},
        };
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("/tc{:x}.{number:x}", std::process::id());
        let file = shm::open(
            name.as_str(),
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR,
            Mode::RUSR | Mode::WUSR,
        )?;
        shm::unlink(name.as_str())?;
        rustix::fs::ftruncate(&file, len as u64)?;
        Ok(file)
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
