//! Memory that the parent and one child share: a cell (what the child runs) and a ring (what it
//! finished).
//!
//! The parent makes it as a file without a name and passes that along with the request to fork, so
//! there may be as many children as the system allows, and one that is gone shares nothing with its
//! successor.
//!
//! The cell lets both sides agree, without a lock or a message, which calls have begun. Calls to
//! one child are numbered 0, 1, 2.. in sending order; `floor` is the first number that may still
//! begin. The child begins call `s` by moving the floor from at most `s` to `s + 1`; the parent
//! takes back everything that has not begun by moving it to the number it would send next. Each
//! move is one compare-and-swap, so every call is begun by the child or taken back by the parent,
//! never both. A child that runs several calls at once begins them in order all the same; what each
//! of its lanes runs stands in a table of its own.
//!
//! Outcomes go through a ring in the same memory instead of the socket: they survive a child that
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
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::BytesMut;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

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
    /// The first number that may still begin. Moved by both sides.
    floor: AtomicU32,
    /// Bytes written to the ring, wrapping. Written by the child.
    written: AtomicU32,
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

    fn ring(&self) -> *mut u8 {
        // SAFETY: the ring are the last bytes of the mapping.
        unsafe { self.0.base.as_ptr().add(self.0.len - RING as usize) }
    }

    /// Child: begins call `seq`; false when the parent took it back.
    pub fn begin(&self, seq: u32) -> bool {
        let floor = &self.head().floor;
        let mut seen = floor.load(Ordering::Acquire);
        loop {
            if before(seq, seen) {
                return false;
            }
            match floor.compare_exchange_weak(
                seen,
                seq.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Parent: takes back every call that has not begun; `next` is the number it would send next.
    /// Calls from the returned number on are the parent's again.
    pub fn take_back(&self, next: u32) -> u32 {
        let floor = &self.head().floor;
        let mut seen = floor.load(Ordering::Acquire);
        loop {
            match floor.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return seen,
                Err(now) => seen = now,
            }
        }
    }

    /// Parent: whether call `seq`, not taken back, has begun.
    pub fn has_begun(&self, seq: u32) -> bool {
        before(seq, self.head().floor.load(Ordering::Acquire))
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

    /// Child: puts bytes into the ring, all or nothing; false when they do not fit.
    pub fn push(&self, data: &[u8]) -> bool {
        let head = self.head();
        let written = head.written.load(Ordering::Relaxed);
        let used = written.wrapping_sub(head.read.read.load(Ordering::Acquire));
        if data.len() > RING.saturating_sub(used) as usize {
            return false;
        }
        let at = (written % RING) as usize;
        let first = data.len().min(RING as usize - at);
        // SAFETY: `at + first <= RING` and the rest is at most what is free, so both copies stay in
        // this child's ring, in the part that the parent does not read before `written` says so.
        unsafe {
            let ring = self.ring();
            std::ptr::copy_nonoverlapping(data.as_ptr(), ring.add(at), first);
            std::ptr::copy_nonoverlapping(data.as_ptr().add(first), ring, data.len() - first);
        }
        head.written.store(written.wrapping_add(data.len() as u32), Ordering::Release);
        true
    }

    /// Parent: moves what the ring holds to the end of `into`; how many bytes.
    ///
    /// # Errors
    /// `Internal` when the counters make no sense: the child overwrote them.
    pub fn drain(&self, into: &mut BytesMut) -> Result<usize> {
        let head = self.head();
        let read = head.read.read.load(Ordering::Relaxed);
        let written = head.written.load(Ordering::Acquire);
        let len = written.wrapping_sub(read);
        if len == 0 {
            return Ok(0);
        }
        if len > RING {
            return Err(Error::new(
                ErrorKind::Internal,
                "a child overwrote the memory it shares with the worker",
            ));
        }
        let at = (read % RING) as usize;
        let first = (len as usize).min(RING as usize - at);
        // SAFETY: both parts lie inside this child's ring, and the child does not write there
        // before `read` says so. (One that does is broken; the bytes are parsed with every length
        // checked.)
        unsafe {
            let ring = self.ring();
            into.extend_from_slice(std::slice::from_raw_parts(ring.add(at), first));
            into.extend_from_slice(std::slice::from_raw_parts(ring, len as usize - first));
        }
        head.read.read.store(written, Ordering::Release);
        Ok(len as usize)
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

/// Whether `a` comes before `b` in a numbering that wraps; at most 2^31 apart.
fn before(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) > 0
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
