//! Rate limits: one token bucket per task type, and the line behind it.
//!
//! A request that finds no token waits in line; the head keeps its place and nothing of its type
//! overtakes it. Waiting here occupies no slot and no place in the prefetch window. The line is
//! short on purpose: what the bucket would pass only after [`LINE_US`] goes back to the broker's
//! due set, so that a long backlog of a slow type neither fills this worker's memory nor keeps
//! other types behind it. Each deferral books one turn after the last, so a message mostly returns
//! when its turn has come. One whose turn is far away returns earlier, after an eighth of that time
//! at most and [`DEFER_US`] at the latest, because another worker may have joined by then or the
//! limit may have been raised. So a backlog costs some ten claims for each task that runs, and a
//! very long one two claims in a thousand of its messages a second. The order among what was
//! deferred is only approximate. Limits are per worker, as in Celery.

use std::collections::VecDeque;

use crate::clock::Micros;

/// How much waiting the line in memory may hold.
pub const LINE_US: u64 = 2_000_000;
/// A message whose turn is this near returns when it has come.
const NEAR_US: u64 = 30_000_000;
/// Every other one returns in this part of the time until its turn, ...
const LOOKS: u64 = 8;
/// ... and after this at the latest.
pub const DEFER_US: u64 = 600_000_000;
/// Turns are booked no further ahead, so that what is deferred again and again books no more than
/// the backlog needs.
const BOOKED_US: u64 = LOOKS * DEFER_US;
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
    /// How many were deferred; spreads the returns of those whose turn is far away.
    deferred: u64,
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        let rate = per_second / 1e6;
        let capacity = (rate * BURST_US).max(1.0);
        Self {
            rate,
            capacity,
            tokens: capacity,
            filled: 0,
            line: VecDeque::new(),
            booked: 0,
            deferred: 0,
        }
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
            // Nothing waited for this token: what was booked has run, or is gone.
            self.booked = now;
            return Admission::Now;
        }
        let wait = self.wait_for(self.line.len() as f64 + 1.0);
        // One always fits, so that the bucket never idles however slow it is.
        if wait <= LINE_US || self.line.is_empty() {
            self.line.push_back(key);
            return Admission::Waiting;
        }
        Admission::Defer(self.book(now, now.saturating_add(wait)))
    }

    /// Books the next free turn, `soonest` or later; how long the message is to stay away.
    fn book(&mut self, now: Micros, soonest: Micros) -> u64 {
        let turn = self.booked.max(soonest);
        let next = turn.saturating_add(self.wait_for(self.tokens + 1.0));
        self.booked = next.min(now.saturating_add(BOOKED_US));
        let until = turn - now;
        let reach = (until / LOOKS).clamp(NEAR_US, DEFER_US);
        if until <= reach {
            // At least a line's length later, or it would circle between here and the broker.
            return until.max(LINE_US);
        }
        // Spread evenly over the second half of `reach`, or all would return at one instant.
        self.deferred = self.deferred.wrapping_add(1);
        let spread = self.deferred.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        reach / 2 + ((reach / 2 * spread) >> 32)
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
        if self.buckets.len() <= task as usize {
            self.buckets.resize_with(task as usize + 1, || None);
        }
        let bucket = &mut self.buckets[task as usize];
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
    use std::{cmp::Reverse, collections::BinaryHeap};

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
        // The turn of key 9 is beyond `NEAR_US`: it is looked at before.
        for key in 5..=100 {
            let Admission::Defer(wait) = rates.admit(0, key, 0) else { panic!("{key} fits") };
            let turn = 6 * (key - 1) * SECOND;
            let in_time = if turn <= NEAR_US { wait == turn } else { wait >= NEAR_US / 2 };
            assert!(in_time && wait <= turn, "{key} returns after {wait}");
        }
        assert_eq!(rates.len(), 1);
    }

    /// A backlog of `n` messages that come back when they were told to, `seconds` long; how many
    /// ran, how often one was claimed, and the most claims within one second.
    fn simulate(per_second: f64, n: u64, seconds: u64) -> (u64, u64, u64) {
        let mut rates = Rates::new([Some(per_second)]);
        let mut due: BinaryHeap<Reverse<(u64, u64)>> =
            (0..n).map(|key| Reverse((0, key))).collect();
        let (mut ran, mut claims, mut most, mut this_second) = (0, 0, 0, (0, 0));
        let mut now = 0;
        while now < seconds * SECOND {
            ran += released(&mut rates, now).len() as u64;
            while due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                let Some(Reverse((_, key))) = due.pop() else { break };
                claims += 1;
                this_second = (
                    now / SECOND,
                    if this_second.0 == now / SECOND { this_second.1 + 1 } else { 1 },
                );
                most = most.max(if now < SECOND { 0 } else { this_second.1 });
                match rates.admit(0, key, now) {
                    Admission::Now => ran += 1,
                    Admission::Waiting => {}
                    Admission::Defer(wait) => due.push(Reverse((now + wait, key))),
                }
            }
            let next = due.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            now = rates.next_wake().unwrap_or(u64::MAX).min(next).max(now + 1);
        }
        (ran, claims, most)
    }

    #[test]
    fn a_long_backlog_keeps_the_bucket_busy_and_is_seldom_looked_at() {
        let n = 200_000;
        let (ran, claims, most) = simulate(10.0, n, 600);
        assert!(ran >= 5_900, "{ran} of 6,000 ran");
        let again = claims - n;
        assert!(again < 600 * 500, "{again} claims beyond the first");
        assert!(most < 1_500, "{most} claims in one second");
    }

    #[test]
    fn a_short_backlog_is_claimed_a_few_times_and_runs_in_its_time() {
        let (ran, claims, _) = simulate(10.0, 3_000, 400);
        assert_eq!(ran, 3_000);
        assert!(claims < 12 * 3_000, "{claims} claims");
    }

    #[test]
    fn a_purged_backlog_leaves_no_debt() {
        let mut rates = Rates::new([Some(10.0)]);
        for key in 0..100_000 {
            rates.admit(0, key, 0);
        }
        let mut now = 0;
        while let Some(wake) = rates.next_wake() {
            now = wake;
            released(&mut rates, now);
        }
        now += SECOND;
        assert_eq!(rates.admit(0, 1, now), Admission::Now);
        let waits: Vec<_> = (2..100).map(|key| rates.admit(0, key, now)).collect();
        let far = |wait: &Admission| matches!(wait, Admission::Defer(wait) if *wait > 10 * SECOND);
        assert!(!waits.iter().any(far), "{waits:?}");
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_pass_and_does_not_spin() {
        let mut rates = Rates::new([Some(0.0)]);
        assert_eq!(rates.admit(0, 1, 0), Admission::Now); // the bucket starts full, as Celery's does
        assert_eq!(rates.admit(0, 2, 0), Admission::Waiting);
        assert!(matches!(rates.admit(0, 3, SECOND), Admission::Defer(300_000_000..=DEFER_US)));
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
