//! Rate limits: one token bucket per task type, and the line behind it.
//!
//! A request that finds no token waits in line; the head keeps its place and nothing of its type
//! overtakes it. Waiting here occupies no slot and no place in the prefetch window. The line is
//! short on purpose: what the bucket would pass only after [`LINE_US`] goes back to the broker's
//! due set, so that a long backlog of a slow type neither fills this worker's memory nor keeps
//! other types behind it. A message sent back returns after at most [`DEFER_US`], whatever the
//! estimate, because another worker may have joined by then; the order among those is therefore
//! only approximate. Limits are per worker, as in Celery.

use std::collections::VecDeque;

use crate::clock::Micros;

/// How much waiting the line in memory may hold.
pub const LINE_US: u64 = 2_000_000;
/// The longest deferral to the broker.
pub const DEFER_US: u64 = 30_000_000;
/// How much time's worth of tokens a bucket keeps: timers tick in milliseconds, so a limit above
/// 1,000/s needs more than the single token that Celery keeps.
const BURST_US: f64 = 5_000.0;
/// Sums of fractions fall this short of a whole token at most; the sleeper that woke on time must
/// not sleep again for it.
const HAIR: f64 = 1e-9;

/// What becomes of a request of a limited type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It took a token: run it.
    Now,
    /// It stands in line and comes out of [`Rates::release`].
    Waiting,
    /// The line is full: give it back to the broker for this many microseconds.
    Defer(u64),
}

#[derive(Debug)]
struct Bucket {
    /// Tokens per microsecond. Zero when the limit is zero: nothing ever passes.
    rate: f64,
    capacity: f64,
    tokens: f64,
    filled: Micros,
    line: VecDeque<u64>,
    /// Until when the requests deferred so far use up the bucket.
    booked: Micros,
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        let rate = per_second / 1e6;
        let capacity = (rate * BURST_US).max(1.0);
        Self { rate, capacity, tokens: capacity, filled: 0, line: VecDeque::new(), booked: 0 }
    }

    fn fill(&mut self, now: Micros) {
        let passed = now.saturating_sub(self.filled) as f64;
        self.tokens = (self.tokens + passed * self.rate).min(self.capacity);
        self.filled = self.filled.max(now);
    }

    fn take(&mut self) -> bool {
        let ok = self.tokens >= 1.0 - HAIR;
        if ok {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        ok
    }

    /// Microseconds until `n` tokens are there, counted from the last fill.
    fn wait_for(&self, n: f64) -> u64 {
        if self.rate <= 0.0 {
            return u64::MAX;
        }
        ((n - self.tokens - HAIR).max(0.0) / self.rate).ceil() as u64
    }

    fn admit(&mut self, key: u64, now: Micros) -> Admission {
        self.fill(now);
        if self.line.is_empty() && self.take() {
            return Admission::Now;
        }
        let wait = self.wait_for(self.line.len() as f64 + 1.0);
        // One always fits, so that the bucket never idles however slow it is.
        if wait <= LINE_US || self.line.is_empty() {
            self.line.push_back(key);
            return Admission::Waiting;
        }
        // Each deferral books one turn after the last, and starts over at the horizon: those sent
        // back return spread over it, and a backlog that was purged leaves no debt.
        let soonest = now.saturating_add(wait);
        let turn = if self.booked > now + DEFER_US { soonest } else { self.booked.max(soonest) };
        self.booked = turn.saturating_add(self.wait_for(self.tokens + 1.0));
        // At least a line's length later, or a message would circle between here and the broker.
        Admission::Defer((turn - now).clamp(LINE_US, DEFER_US))
    }

    fn wake(&self) -> Option<Micros> {
        (!self.line.is_empty() && self.rate > 0.0)
            .then(|| self.filled.saturating_add(self.wait_for(1.0)))
    }
}

/// The buckets of all limited task types.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: Vec<Option<Bucket>>,
    waiting: usize,
}

impl Rates {
    /// Buckets for tasks numbered as in `limits`: executions per second, `None` is unlimited.
    pub fn new(limits: impl IntoIterator<Item = Option<f64>>) -> Self {
        Self { buckets: limits.into_iter().map(|l| l.map(Bucket::new)).collect(), waiting: 0 }
    }

    /// Whether task number `task` has a limit.
    pub fn limits(&self, task: u32) -> bool {
        self.buckets.get(task as usize).is_some_and(Option::is_some)
    }

    /// Decides about one request of task number `task`.
    pub fn admit(&mut self, task: u32, key: u64, now: Micros) -> Admission {
        let Some(Some(bucket)) = self.buckets.get_mut(task as usize) else { return Admission::Now };
        let admission = bucket.admit(key, now);
        self.waiting += usize::from(admission == Admission::Waiting);
        admission
    }

    /// Changes the limit of task number `task`. Those that wait in line keep their place, and go to
    /// `out` when there is no limit any more.
    pub fn set(&mut self, task: u32, limit: Option<f64>, now: Micros, out: &mut Vec<u64>) {
        let Some(bucket) = self.buckets.get_mut(task as usize) else { return };
        let before = bucket.take();
        match (limit, before) {
            (None, Some(before)) => {
                self.waiting -= before.line.len();
                out.extend(before.line);
            }
            (None, None) => {}
            (Some(limit), before) => {
                let mut new = Bucket::new(limit);
                new.filled = now;
                if let Some(mut before) = before {
                    before.fill(now);
                    new.tokens = before.tokens.min(new.capacity);
                    new.line = before.line;
                }
                *bucket = Some(new);
            }
        }
    }

    /// Takes one out of its line.
    pub fn forget(&mut self, key: u64) {
        for bucket in self.buckets.iter_mut().flatten() {
            let before = bucket.line.len();
            bucket.line.retain(|k| *k != key);
            self.waiting -= before - bucket.line.len();
        }
    }

    /// Moves those whose turn has come, head first, to `out`.
    pub fn release(&mut self, now: Micros, out: &mut Vec<u64>) {
        if self.waiting == 0 {
            return;
        }
        let before = out.len();
        for bucket in self.buckets.iter_mut().flatten().filter(|b| !b.line.is_empty()) {
            bucket.fill(now);
            while !bucket.line.is_empty() && bucket.take() {
                out.extend(bucket.line.pop_front());
            }
        }
        self.waiting -= out.len() - before;
    }

    /// When the next head gets its token.
    pub fn next_wake(&self) -> Option<Micros> {
        if self.waiting == 0 {
            return None;
        }
        self.buckets.iter().flatten().filter_map(Bucket::wake).min()
    }

    /// How many stand in line.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Empties all lines; what stood in them.
    pub fn drain(&mut self) -> Vec<u64> {
        self.waiting = 0;
        self.buckets.iter_mut().flatten().flat_map(|b| std::mem::take(&mut b.line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn released(rates: &mut Rates, now: u64) -> Vec<u64> {
        let mut out = Vec::new();
        rates.release(now, &mut out);
        out
    }

    #[test]
    fn the_head_keeps_its_place() {
        let mut rates = Rates::new([None, Some(2.0)]);
        assert_eq!(rates.admit(0, 100, 0), Admission::Now);
        assert_eq!(rates.admit(1, 1, 0), Admission::Now);
        assert_eq!(rates.admit(1, 2, 0), Admission::Waiting);
        // A token is there for key 2; key 3 must not take it.
        assert_eq!(rates.admit(1, 3, SECOND / 2), Admission::Waiting);
        assert_eq!(rates.next_wake(), Some(SECOND / 2));
        assert_eq!(released(&mut rates, SECOND / 2), [2]);
        assert_eq!(released(&mut rates, SECOND - 1), [0; 0]);
        assert_eq!(rates.next_wake(), Some(SECOND));
        assert_eq!(released(&mut rates, SECOND), [3]);
        assert_eq!(rates.next_wake(), None);
    }

    #[test]
    fn an_idle_bucket_saves_one_token_only() {
        let mut rates = Rates::new([Some(1.0)]);
        assert_eq!(rates.admit(0, 1, 100 * SECOND), Admission::Now);
        assert_eq!(rates.admit(0, 2, 100 * SECOND), Admission::Waiting);
    }

    #[test]
    fn a_long_backlog_goes_back_to_the_broker() {
        let mut rates = Rates::new([Some(10.0 / 60.0)]); // 10/m
        assert_eq!(rates.admit(0, 1, 0), Admission::Now);
        assert_eq!(rates.admit(0, 2, 0), Admission::Waiting);
        assert_eq!(rates.admit(0, 3, 0), Admission::Defer(12 * SECOND));
        assert_eq!(rates.admit(0, 4, 0), Admission::Defer(18 * SECOND));
        for key in 5..100 {
            assert!(matches!(rates.admit(0, key, 0), Admission::Defer(wait) if wait <= DEFER_US));
        }
        assert_eq!(rates.len(), 1);
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_pass_and_does_not_spin() {
        let mut rates = Rates::new([Some(0.0)]);
        assert_eq!(rates.admit(0, 1, 0), Admission::Now); // the bucket starts full, as Celery's does
        assert_eq!(rates.admit(0, 2, 0), Admission::Waiting);
        assert_eq!(rates.admit(0, 3, SECOND), Admission::Defer(DEFER_US));
        assert_eq!(rates.next_wake(), None);
        assert_eq!(rates.drain(), [2]);
    }

    #[test]
    fn a_new_limit_keeps_the_line_and_none_releases_it() {
        let mut rates = Rates::new([None, Some(1.0)]);
        let mut out = Vec::new();
        for key in 1..=3 {
            rates.admit(1, key, 0);
        }
        assert_eq!(rates.len(), 2);
        rates.set(1, Some(10.0), SECOND / 2, &mut out);
        // Half a token was there.
        assert_eq!(rates.next_wake(), Some(SECOND / 2 + SECOND / 20));
        assert_eq!(released(&mut rates, SECOND / 2 + SECOND / 20), [2]);
        rates.set(1, None, SECOND, &mut out);
        assert_eq!((out.as_slice(), rates.len(), rates.limits(1)), (&[3][..], 0, false));
        rates.set(0, Some(1.0), 5 * SECOND, &mut out);
        assert_eq!(rates.admit(0, 7, 5 * SECOND), Admission::Now);
        assert_eq!(rates.admit(0, 8, 5 * SECOND), Admission::Waiting);
        rates.set(0, Some(0.0), 5 * SECOND, &mut out);
        assert_eq!((rates.next_wake(), rates.len()), (None, 1));
    }

    #[test]
    fn one_that_is_forgotten_leaves_its_place_to_the_next() {
        let mut rates = Rates::new([Some(1.0)]);
        for key in 1..=3 {
            rates.admit(0, key, 0);
        }
        rates.forget(2);
        rates.forget(9);
        assert_eq!(rates.len(), 1);
        assert_eq!(released(&mut rates, SECOND), [3]);
        assert_eq!(rates.len(), 0);
    }

    proptest! {
        #[test]
        fn never_faster_than_the_limit_and_always_in_order(
            rate in 0.5f64..5_000.0,
            gaps in prop::collection::vec(0u64..20_000, 1..300),
        ) {
            let mut rates = Rates::new([Some(rate)]);
            let (mut now, mut passed, mut order) = (0u64, 0usize, Vec::new());
            for (key, gap) in gaps.iter().enumerate() {
                now += gap;
                for k in released(&mut rates, now) { order.push(k); passed += 1; }
                match rates.admit(0, key as u64, now) {
                    Admission::Now => { order.push(key as u64); passed += 1; }
                    Admission::Waiting | Admission::Defer(_) => {}
                }
                let allowed = (rate / 1e6 * BURST_US).max(1.0) + now as f64 * rate / 1e6;
                prop_assert!(passed as f64 <= allowed + 1e-3, "{passed} passed, {allowed} allowed at {now}");
            }
            prop_assert!(order.is_sorted());
        }

        #[test]
        fn waking_when_told_drains_the_line(rate in 0.5f64..5_000.0, n in 1u64..50) {
            let mut rates = Rates::new([Some(rate)]);
            let mut waiting = (0..n).filter(|k| rates.admit(0, *k, 0) == Admission::Waiting).count();
            while let Some(wake) = rates.next_wake() {
                let out = released(&mut rates, wake);
                prop_assert!(!out.is_empty(), "woke in vain at {wake}");
                waiting -= out.len();
            }
            prop_assert_eq!(waiting, 0);
        }
    }
}
