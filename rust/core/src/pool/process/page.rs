//! Memory that the parent and its children share: per child one cell (what it runs) and one ring
//! (what it finished).
//!
//! The cell lets both sides agree, without a lock or a message, which calls have begun. Calls to
//! one child are numbered 0, 1, 2.. in sending order; `floor` is the first number that may still
//! begin. The child begins call `s` by moving the floor from at most `s` to `s + 1`; the parent
//! takes back everything that has not begun by moving it to the number it would send next. Each
//! move is one compare-and-swap, so every call is begun by the child or taken back by the parent,
//! never both.
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
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::BytesMut;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::{Error, ErrorKind, Result, clock::Micros};

/// Bytes of one ring: about 250 small outcomes. A power of two, so that counters may wrap.
const RING: u32 = 64 * 1024;
/// Bytes between two cells' heads: one page, so that a child dirties only its own.
const STRIDE: usize = 4096 + RING as usize;

/// The head of a child's region. Its writers sit on different cache lines.
#[repr(C, align(64))]
struct Head {
    /// The first number that may still begin. Moved by both sides.
    floor: AtomicU32,
    /// Low 16 bits of the number that runs, and the 48-bit microsecond it started in; 0 before the
    /// first. Written by the child.
    running: AtomicU64,
    /// Bytes written to the ring, wrapping. Written by the child.
    written: AtomicU32,
    tail: Line,
}

/// What the parent writes.
#[repr(C, align(64))]
struct Line {
    /// Bytes read from the ring, wrapping.
    read: AtomicU32,
    /// The number whose soft limit is due, plus `1 << 32`; 0 when none is. Cleared by the child.
    soft: AtomicU64,
}

/// The shared memory of one process pool; made before the zygote is forked, so that all share it.
#[derive(Debug)]
pub struct Pages {
    base: NonNull<u8>,
    cells: usize,
}

// SAFETY: the memory is reached only through atomics and through the ring's copies, whose areas are
// handed over by atomics.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Room for `slots` children and as many that are about to end: a child is replaced before it
    /// is gone.
    pub fn new(slots: usize) -> Result<Self> {
        let cells = slots.max(1) * 2;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no
        // existing memory.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                cells * STRIDE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }
        .map_err(|e| {
            Error::caused(
                ErrorKind::Internal,
                format!("cannot map shared memory for `{slots}` children"),
                e,
            )
        })?;
        let base = NonNull::new(base.cast()).expect("a mapping is never at address 0");
        Ok(Self { base, cells })
    }

    /// How many cells there are: twice the slots.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The slots it was made for.
    pub fn slots(&self) -> usize {
        self.cells / 2
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; every `Cell` keeps the `Pages` alive.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.cells * STRIDE) };
    }
}

/// One child's part of the shared memory. Parent and child each hold one.
#[derive(Clone, Debug)]
pub struct Cell {
    pages: Arc<Pages>,
    index: usize,
}

/// What the child says it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    low: u16,
    /// Monotonic time of the start.
    pub at: Micros,
}

impl Running {
    /// Whether call number `seq` is meant.
    pub fn is(self, seq: u32) -> bool {
        self.low == seq as u16
    }
}

impl Cell {
    /// The cell with this index; `None` beyond the last.
    pub fn new(pages: Arc<Pages>, index: usize) -> Option<Self> {
        (index < pages.cells).then_some(Self { pages, index })
    }

    /// Which cell it is.
    pub fn index(&self) -> usize {
        self.index
    }

    fn region(&self) -> *mut u8 {
        // SAFETY: `index < cells`, so the region lies inside the mapping.
        unsafe { self.pages.base.as_ptr().add(self.index * STRIDE) }
    }

    #[allow(clippy::cast_ptr_alignment)] // the region starts on a page
    fn head(&self) -> &Head {
        // SAFETY: the region is page-aligned, zeroed at first (a valid Head), lives as long as
        // `self`, and is only reached through atomics.
        unsafe { &*self.region().cast::<Head>() }
    }

    /// Parent: makes the cell ready for a new child. The previous one must be gone.
    pub fn reset(&self) {
        let head = self.head();
        head.floor.store(0, Ordering::Relaxed);
        head.running.store(0, Ordering::Relaxed);
        head.written.store(0, Ordering::Relaxed);
        head.tail.read.store(0, Ordering::Relaxed);
        head.tail.soft.store(0, Ordering::Release);
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

    /// Child: user code of call `seq` starts now.
    pub fn start(&self, seq: u32, now: Micros) {
        self.head().running.store(u64::from(seq as u16) << 48 | (now & MASK_48), Ordering::Release);
    }

    /// Parent: what started last.
    pub fn running(&self) -> Option<Running> {
        let word = self.head().running.load(Ordering::Acquire);
        (word != 0).then_some(Running { low: (word >> 48) as u16, at: word & MASK_48 })
    }

    /// Parent: the soft limit of call `seq` is due; a signal follows.
    pub fn ask_soft(&self, seq: u32) {
        self.head().tail.soft.store(SOFT | u64::from(seq), Ordering::Release);
    }

    /// Child: whether the soft limit of call `seq` is due; true once.
    pub fn soft_due(&self, seq: u32) -> bool {
        let soft = &self.head().tail.soft;
        soft.compare_exchange(SOFT | u64::from(seq), 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Child: puts bytes into the ring, all or nothing; false when they do not fit.
    pub fn push(&self, data: &[u8]) -> bool {
        let head = self.head();
        let written = head.written.load(Ordering::Relaxed);
        let used = written.wrapping_sub(head.tail.read.load(Ordering::Acquire));
        if data.len() > RING.saturating_sub(used) as usize {
            return false;
        }
        let at = (written % RING) as usize;
        let first = data.len().min(RING as usize - at);
        // SAFETY: `at + first <= RING` and the rest is at most what is free, so both copies stay in
        // this child's ring, in the part that the parent does not read before `written` says so.
        unsafe {
            let ring = self.region().add(STRIDE - RING as usize);
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
        let read = head.tail.read.load(Ordering::Relaxed);
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
            let ring = self.region().add(STRIDE - RING as usize);
            into.extend_from_slice(std::slice::from_raw_parts(ring.add(at), first));
            into.extend_from_slice(std::slice::from_raw_parts(ring, len as usize - first));
        }
        head.tail.read.store(written, Ordering::Release);
        Ok(len as usize)
    }
}

const MASK_48: u64 = (1 << 48) - 1;
const SOFT: u64 = 1 << 32;

/// Whether `a` comes before `b` in a numbering that wraps; at most 2^31 apart.
fn before(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) > 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn cell() -> Cell {
        Cell::new(Arc::new(Pages::new(1).unwrap()), 0).unwrap()
    }

    /// Every order of steps of both sides over a few calls: the child begins its numbers in order,
    /// the parent sends and takes back.
    #[test]
    fn every_interleaving_runs_or_takes_back_each_call_exactly_once() {
        // A step is (parent?, action); orders are enumerated as bit strings over both scripts.
        let cell = cell();
        for script in 0..3u32.pow(5) {
            for order in 0..1u32 << 10 {
                run_model(&cell, script, order, 0);
                run_model(&cell, script, order, u32::MAX - 2); // across the wrap
            }
        }
    }

    fn run_model(cell: &Cell, mut script: u32, order: u32, start: u32) {
        cell.head().floor.store(start, Ordering::Relaxed);
        let (mut sent, mut child_next) = (start, start);
        let mut parents: BTreeSet<u32> = BTreeSet::new(); // sent and believed to be at the child
        let (mut ran, mut back) = (BTreeSet::new(), BTreeSet::new());
        for step in 0..10 {
            if order >> step & 1 == 0 {
                // The parent sends, sends, or takes back, as its script says.
                if script % 3 < 2 {
                    parents.insert(sent);
                    sent = sent.wrapping_add(1);
                } else {
                    let first = cell.take_back(sent);
                    let taken: Vec<_> =
                        parents.iter().copied().filter(|s| !before(*s, first)).collect();
                    for s in taken {
                        parents.remove(&s);
                        assert!(back.insert(s), "{s} taken back twice");
                    }
                }
                script /= 3;
            } else if child_next != sent {
                if cell.begin(child_next) {
                    assert!(ran.insert(child_next), "{child_next} ran twice");
                }
                child_next = child_next.wrapping_add(1);
            }
        }
        while child_next != sent {
            if cell.begin(child_next) {
                assert!(ran.insert(child_next));
            }
            child_next = child_next.wrapping_add(1);
        }
        assert!(ran.is_disjoint(&back), "{ran:?} {back:?}");
        assert_eq!(ran.len() + back.len(), sent.wrapping_sub(start) as usize, "a call was lost");
        assert_eq!(parents, ran, "the parent waits for exactly what ran");
    }

    #[test]
    fn two_threads_agree_on_every_call() {
        let cell = cell();
        let sent = Arc::new(AtomicU32::new(0));
        let child = std::thread::spawn({
            let (cell, sent) = (cell.clone(), sent.clone());
            move || {
                let mut ran = Vec::new();
                for seq in 0..20_000 {
                    while sent.load(Ordering::Acquire) <= seq {
                        std::hint::spin_loop();
                    }
                    if cell.begin(seq) {
                        ran.push(seq);
                    }
                }
                ran
            }
        });
        let mut back: Vec<u32> = Vec::new();
        let mut waiting: Vec<u32> = Vec::new();
        for next in (4..=20_000).step_by(4) {
            waiting.extend(next - 4..next);
            sent.store(next, Ordering::Release);
            let first = cell.take_back(next);
            back.extend(waiting.iter().copied().filter(|s| !before(*s, first)));
            waiting.clear();
        }
        let mut all = child.join().unwrap();
        all.extend(back);
        all.sort_unstable();
        assert_eq!(all, (0..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn running_names_the_call_and_soft_limit_is_due_once() {
        let cell = cell();
        assert_eq!(cell.running(), None);
        cell.start(70_000, 1_234_567_890_123);
        let running = cell.running().unwrap();
        assert!(running.is(70_000) && !running.is(70_001));
        assert_eq!(running.at, 1_234_567_890_123);
        cell.ask_soft(5);
        assert!(!cell.soft_due(4));
        assert!(cell.soft_due(5));
        assert!(!cell.soft_due(5));
    }

    #[test]
    fn scribbled_counters_are_an_error() {
        let cell = cell();
        cell.head().written.store(RING + 1, Ordering::Relaxed);
        assert_eq!(cell.drain(&mut BytesMut::new()).unwrap_err().kind(), ErrorKind::Internal);
    }

    proptest! {
        #[test]
        fn the_ring_is_a_queue_of_bytes(chunks in prop::collection::vec((0usize..30_000, any::<bool>()), 1..40)) {
            let cell = cell();
            let (mut expected, mut got) = (Vec::new(), BytesMut::new());
            for (i, (len, drain)) in chunks.into_iter().enumerate() {
                let chunk: Vec<u8> = (0..len).map(|j| (i * 31 + j) as u8).collect();
                let free = RING as usize - (expected.len() - got.len());
                prop_assert_eq!(cell.push(&chunk), len <= free);
                if len <= free {
                    expected.extend(chunk);
                }
                if drain {
                    cell.drain(&mut got).unwrap();
                    prop_assert_eq!(&got[..], &expected[..]);
                }
            }
        }
    }
}
