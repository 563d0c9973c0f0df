//! The prefetch window: how many messages to ask the broker for next.
//!
//! It counts what is claimed and wants a slot: ready, queued at the pool or running. Suspects, which
//! may wait for long to be tried, have a window of the same size of their own. What waits for a due
//! time or for a rate limit has an allowance of its own ([`HELD`]) and does not count. With
//! [`Prefetch::Auto`] the window starts at Celery's four per slot and doubles, as evidence comes
//! in, up to what the measured run times say is [`WORTH_US`] of work per slot: enough to amortise a
//! round trip, little enough that another worker is not deprived of work for long. One figure for
//! all task types is coarse; a slow task among fast ones shrinks the window at once and it grows
//! back by doubling.

use crate::config::Prefetch;

/// Most that may wait for due times in this worker.
pub const HELD: usize = 8_192;
/// The automatic window never exceeds this.
const MOST: usize = 2_000;
/// One fetch never asks for more: a claim is one script that other clients of the broker wait for.
const FETCH_MOST: usize = 1_000;
/// Work in the automatic window, per slot.
const WORTH_US: f64 = 50_000.0;
/// The window when `worker_prefetch_multiplier` is 0: only memory limits it.
const UNLIMITED: usize = 1 << 20;
/// Weight of a new run time in the mean: the last thirty or so count.
const WEIGHT: f64 = 1.0 / 32.0;

/// What is claimed now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Ready, at the pool, running; not what waits for a due time or a rate limit.
    pub claimed: usize,
    /// Bytes of all that is claimed and has not begun, wherever it waits.
    pub bytes: usize,
    /// Whether a slot has nothing to do.
    pub idle: bool,
}

/// The budget arithmetic.
#[derive(Debug)]
pub struct Window {
    prefetch: Prefetch,
    slots: usize,
    bytes: usize,
    size: usize,
    mean_us: Option<f64>,
    mean_bytes: f64,
    evidence: usize,
}

impl Window {
    /// For a pool of `slots`, holding at most about `bytes` of unstarted messages.
    pub fn new(prefetch: Prefetch, slots: usize, bytes: usize) -> Self {
        let slots = slots.max(1);
        let size = first_size(prefetch, slots);
        Self { prefetch, slots, bytes, size, mean_us: None, mean_bytes: 256.0, evidence: 0 }
    }

    /// The pool has another number of slots now.
    pub fn resize(&mut self, slots: usize) {
        self.slots = slots.max(1);
        let first = first_size(self.prefetch, self.slots);
        self.size = match self.mean_us {
            Some(mean) => self.size.clamp(first, self.target(mean).max(first)),
            None => first,
        };
    }

    /// How large the automatic window may become when tasks take so long.
    fn target(&self, mean_us: f64) -> usize {
        let least = self.slots * 4;
        let worth = (self.slots as f64 * WORTH_US / mean_us.max(1.0)).round() as usize;
        worth.clamp(least, least.max(MOST))
    }

    /// How many may be claimed at once.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Learns that `count` tasks ran for `total_us` in all.
    pub fn ran(&mut self, count: usize, total_us: u64) {
        if count == 0 || self.prefetch != Prefetch::Auto {
            return;
        }
        let sample = total_us as f64 / count as f64;
        let keep = (1.0 - WEIGHT).powi(count.min(1_000) as i32);
        let mean = self.mean_us.map_or(sample, |m| m * keep + sample * (1.0 - keep));
        self.mean_us = Some(mean);
        self.evidence += count;
        let target = self.target(mean);
        if target < self.size {
            self.size = target;
            self.evidence = 0;
        } else if self.evidence >= self.size {
            self.size = (self.size * 2).min(target);
            self.evidence = 0;
        }
    }

    /// Learns that `count` messages of `total` bytes came.
    pub fn received(&mut self, count: usize, total: usize) {
        if count > 0 {
            self.mean_bytes += (total as f64 / count as f64 - self.mean_bytes) * 0.25;
        }
    }

    /// How many to ask for; 0 is not worth a round trip yet.
    pub fn want(&self, load: Load) -> usize {
        let free = self.size.saturating_sub(load.claimed);
        let affordable =
            (self.bytes.saturating_sub(load.bytes) as f64 / self.mean_bytes.max(1.0)) as usize;
        // A message larger than the whole byte budget still has to run some time.
        let affordable = if load.bytes == 0 { affordable.max(1) } else { affordable };
        let want = free.min(affordable).min(FETCH_MOST);
        if want >= self.batch() || load.idle { want } else { 0 }
    }

    /// How many of those may be suspect, when so many are `held`.
    pub fn want_suspects(&self, held: usize) -> usize {
        let free = self.size.saturating_sub(held);
        if free >= self.batch() || held < self.slots { free } else { 0 }
    }

    /// Fewer are not worth a round trip while nobody is idle.
    fn batch(&self) -> usize {
        (self.size / 4).clamp(1, FETCH_MOST / 4)
    }

    /// How many scheduled messages to ask for, when `held` wait for their due time and `bytes` are
    /// held in all.
    pub fn want_due(&self, held: usize, bytes: usize) -> usize {
        if bytes >= self.bytes { 0 } else { HELD.saturating_sub(held).min(FETCH_MOST) }
    }
}

/// The size to begin with, which is the size for good unless it adapts.
fn first_size(prefetch: Prefetch, slots: usize) -> usize {
    match prefetch {
        Prefetch::Auto => slots * 4,
        Prefetch::PerSlot(0) => UNLIMITED,
        Prefetch::PerSlot(n) => slots * n as usize,
        Prefetch::Disabled => slots,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: usize = 64 << 20;

    fn load(claimed: usize) -> Load {
        Load { claimed, bytes: claimed * 100, idle: claimed == 0 }
    }

    #[test]
    fn sizes_of_the_modes() {
        for (prefetch, size) in [
            (Prefetch::Auto, 8),
            (Prefetch::PerSlot(1), 2),
            (Prefetch::PerSlot(10), 20),
            (Prefetch::PerSlot(0), UNLIMITED),
            (Prefetch::Disabled, 2),
        ] {
            let mut window = Window::new(prefetch, 2, BYTES);
            assert_eq!(window.size(), size, "{prefetch:?}");
            if prefetch != Prefetch::Auto {
                window.ran(100_000, 1);
                assert_eq!(window.size(), size, "{prefetch:?} does not adapt");
            }
        }
    }

    #[test]
    fn it_follows_the_pool() {
        for (prefetch, sizes) in [
            (Prefetch::Auto, [8, 20, 4]),
            (Prefetch::PerSlot(3), [6, 15, 3]),
            (Prefetch::PerSlot(0), [UNLIMITED; 3]),
            (Prefetch::Disabled, [2, 5, 1]),
        ] {
            let mut window = Window::new(prefetch, 2, BYTES);
            for (slots, size) in [2, 5, 1].into_iter().zip(sizes) {
                window.resize(slots);
                assert_eq!(window.size(), size, "{prefetch:?} {slots}");
            }
        }
        // What was learned of the run times stays.
        let mut window = Window::new(Prefetch::Auto, 2, BYTES);
        for _ in 0..100 {
            window.ran(100, 100 * 1_000);
        }
        assert_eq!(window.size(), 100);
        window.resize(1);
        assert_eq!(window.size(), 50);
        window.resize(20);
        assert_eq!(window.size(), 80);
    }

    #[test]
    fn short_tasks_open_it_and_long_ones_close_it() {
        let mut window = Window::new(Prefetch::Auto, 2, BYTES);
        let mut tasks = 0;
        while window.size() < 2_000 {
            window.ran(8, 8 * 5);
            tasks += 8;
            assert!(tasks < 10_000, "stuck at {}", window.size());
        }
        for _ in 0..100 {
            window.ran(1, 1_000_000);
        }
        assert_eq!(window.size(), 8);
        for _ in 0..1_000 {
            window.ran(1, 5_000); // 50 ms per slot are ten of these
        }
        assert_eq!(window.size(), 20);
    }

    #[test]
    fn asks_in_batches_unless_somebody_is_idle() {
        let window = Window::new(Prefetch::PerSlot(50), 2, BYTES);
        assert_eq!(window.want(load(0)), 100);
        assert_eq!(window.want(load(75)), 25);
        assert_eq!(window.want(load(76)), 0);
        assert_eq!(window.want(Load { idle: true, ..load(99) }), 1);
        assert_eq!(window.want(load(500)), 0);
        for (held, want) in [(0, 100), (75, 25), (76, 0), (100, 0), (500, 0)] {
            assert_eq!(window.want_suspects(held), want, "{held} suspects are held");
        }
        let window = Window::new(Prefetch::PerSlot(1), 8, BYTES);
        assert_eq!([7, 8].map(|held| window.want_suspects(held)), [1, 0]);
    }

    #[test]
    fn bytes_bound_it_but_one_always_fits() {
        let mut window = Window::new(Prefetch::PerSlot(50), 2, 1_000);
        window.received(100, 100 * 10_000);
        window.received(100, 100 * 10_000);
        assert_eq!(window.want(load(0)), 1);
        assert_eq!(window.want(Load { claimed: 1, bytes: 10_000, idle: true }), 0);
        assert_eq!(window.want_due(0, 10_000), 0);
        assert_eq!(window.want_due(HELD - 3, 0), 3);
    }

    proptest! {
        #[test]
        fn never_claims_beyond_its_size(
            slots in 1usize..32,
            runs in prop::collection::vec((1usize..500, 0u64..2_000_000), 0..60),
            claimed in 0usize..5_000,
        ) {
            let mut window = Window::new(Prefetch::Auto, slots, BYTES);
            for (count, us) in runs {
                window.ran(count, us * count as u64);
                prop_assert!(window.size() >= slots * 4 && window.size() <= MOST.max(slots * 4));
                let want = window.want(load(claimed));
                prop_assert!(want == 0 || claimed + want <= window.size());
            }
        }
    }
}
