//! What the loop counts for whoever measures it, when it was asked to count.
//!
//! Counting is a few additions where an outcome passes anyway; a worker that nobody scrapes has no
//! counters. Only the first [`MOST_TASKS`] names of tasks that come have counters of their own and
//! the others share some, so a program with thousands of tasks costs a scrape no more. Figures are
//! totals since the start; they are copied out when they are asked for ([`Snapshot`]).

use std::sync::Arc;

use super::{Condition, Now, Stats, Worker, inflight::Request, shutdown::Phase, triage::Registry};
use crate::{
    broker::Settle,
    clock::Micros,
    pool::{Census, Lost, Outcome, Status},
};

/// Names of tasks with counters of their own.
pub const MOST_TASKS: usize = 100;
/// The name that the others have together.
pub const OTHER: &str = "other";
/// Upper bounds of the buckets of a histogram, in microseconds; one more bucket is without bound.
pub const BOUNDS_US: [u64; 15] = [
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// How many lasted how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many lasted at most as long as the bound of the same index, and longer than the one before.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Microseconds of all together.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one.
    #[inline]
    pub fn add(&mut self, us: u64) {
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us += us;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// How a task or one execution of it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Succeeded,
    /// It raised or ran out of time.
    Failed,
    /// It was published again.
    Retried,
    /// It raised `Ignore`.
    Ignored,
    /// It raised `Reject`, or `Reject(requeue=True)`.
    Rejected,
    /// Its process was lost.
    Lost,
    /// It was revoked.
    Revoked,
    /// Its time had passed.
    Expired,
    /// Its message can never run here.
    Parked,
}

impl End {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Failed,
        Self::Retried,
        Self::Ignored,
        Self::Rejected,
        Self::Lost,
        Self::Revoked,
        Self::Expired,
        Self::Parked,
    ];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Parked => "parked",
        }
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::Succeeded,
            Status::Failure | Status::Undecodable => Self::Failed,
            Status::Retry => Self::Retried,
            Status::Ignore => Self::Ignored,
            Status::Reject | Status::Requeue => Self::Rejected,
        }
    }
}

impl From<&Lost> for End {
    fn from(why: &Lost) -> Self {
        match why {
            Lost::TimeLimit(_) => Self::Failed,
            Lost::Terminated(_) => Self::Revoked,
            Lost::Died(_) | Lost::Beside | Lost::Shutdown => Self::Lost,
        }
    }
}

/// What was counted of one task.
#[derive(Clone, Debug, Default)]
pub struct TaskCounts {
    /// Messages that this worker took.
    pub received: u64,
    /// By [`End`].
    pub ended: [u64; End::ALL.len()],
    /// How long executions ran.
    pub runtime: Histogram,
    /// How long they waited in this worker: from receipt, or from when they were due, to the start.
    pub waiting: Histogram,
}

/// How messages were settled, with the broker's word for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled(pub [u64; Settled::NAMES.len()]);

impl Settled {
    /// As labels, in the order of the counts.
    pub const NAMES: [&'static str; 6] =
        ["acked", "handed_back", "requeued", "redelivered", "deferred", "parked"];

    /// Counts one.
    #[inline]
    pub(super) fn add(&mut self, how: &Settle) {
        let index = match how {
            Settle::Ack => 0,
            Settle::HandBack => 1,
            Settle::Requeue => 2,
            Settle::Redeliver { .. } => 3,
            Settle::Defer { .. } => 4,
            Settle::Park { .. } => 5,
        };
        self.0[index] += 1;
    }
}

/// What the loop counts.
#[derive(Debug)]
pub(super) struct Counters {
    /// Of each task of the registry, by number, where its counts are in `tasks`; 0 before it came.
    slots: Vec<u8>,
    /// First those of the other tasks; beside the counts the number of the task.
    tasks: Vec<(u32, TaskCounts)>,
    /// How often the connection stood again after an outage.
    reconnects: u64,
}

impl Counters {
    pub(super) fn new(tasks: usize) -> Self {
        Self {
            slots: vec![0; tasks],
            tasks: vec![(u32::MAX, TaskCounts::default())],
            reconnects: 0,
        }
    }

    #[inline]
    fn of(&mut self, task: u32) -> &mut TaskCounts {
        let slot = match self.slots.get(task as usize) {
            Some(0) => self.make(task),
            Some(slot) => usize::from(*slot),
            None => 0,
        };
        &mut self.tasks[slot].1
    }

    #[cold]
    fn make(&mut self, task: u32) -> usize {
        let slot = self.tasks.len();
        if slot > MOST_TASKS {
            return 0;
        }
        self.slots[task as usize] = slot as u8; // MOST_TASKS fits
        self.tasks.push((task, TaskCounts::default()));
        slot
    }

    fn named(&self, registry: &Registry) -> Vec<(Arc<str>, TaskCounts)> {
        let name = |task: u32| match task {
            u32::MAX => OTHER.into(),
            task => Arc::clone(registry.name(task)),
        };
        self.tasks.iter().map(|(task, counts)| (name(*task), counts.clone())).collect()
    }
}

/// Everything that is measured of a worker, as of one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The figures that every worker has.
    pub stats: Stats,
    /// Whether it is ready.
    pub condition: Condition,
    /// Its processes.
    pub census: Census,
    /// How many tasks may run at a time.
    pub slots: usize,
    /// Tasks that wait for their rate limit.
    pub limited: usize,
    /// Revoked ids that are remembered.
    pub revoked: usize,
    /// Entries and bytes that wait to be published, stored or settled.
    pub kept: (usize, usize),
    /// Since when the lease was renewed; `None` before the first.
    pub lease_age_us: Option<Micros>,
    /// By name of the task.
    pub tasks: Vec<(Arc<str>, TaskCounts)>,
    /// How messages were settled.
    pub settled: Settled,
    /// Results that are stored, and those that the store refused for good.
    pub results: (u64, u64),
    /// How often the connection stood again after an outage.
    pub reconnects: u64,
    /// Events that were sent, and those that were dropped.
    pub events: (u64, u64),
    /// The queues it consumes from.
    pub queues: Vec<Arc<str>>,
}

impl Worker {
    /// Counts for whoever measures; without, [`Command::Metrics`](super::Command::Metrics) has no
    /// counts of tasks and messages.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.counters = Some(Box::new(Counters::new(self.registry.len())));
        self.flush.count();
        self
    }

    /// A message of this task is taken.
    #[inline]
    pub(super) fn count_received(&mut self, task: u32) {
        if let Some(counters) = &mut self.counters {
            counters.of(task).received += 1;
        }
    }

    /// A task ended without having run, or nobody knows how long.
    pub(super) fn count_end(&mut self, task: u32, end: End) {
        if let Some(counters) = &mut self.counters {
            counters.of(task).ended[end as usize] += 1;
        }
    }

    /// An execution ended.
    #[inline]
    pub(super) fn count_done(&mut self, request: &Request, outcome: &Outcome, now: Now) {
        let Some(counters) = &mut self.counters else { return };
        let counts = counters.of(request.task);
        counts.ended[End::from(outcome.status) as usize] += 1;
        let ran_us = match (outcome.runtime_us, request.seen) {
            // It ran for longer than can be said there.
            (u32::MAX, Some(seen)) => now.mono.saturating_sub(seen),
            (us, _) => u64::from(us),
        };
        counts.runtime.add(ran_us);
        counts.waiting.add(now.mono.saturating_sub(request.since).saturating_sub(ran_us));
    }

    /// An execution was lost.
    pub(super) fn count_lost(&mut self, request: &Request, why: &Lost, now: Now) {
        let Some(counters) = &mut self.counters else { return };
        let counts = counters.of(request.task);
        counts.ended[End::from(why) as usize] += 1;
        if let Some(seen) = request.seen {
            counts.runtime.add(now.mono.saturating_sub(seen));
            counts.waiting.add(seen.saturating_sub(request.since));
        }
    }

    /// The connection stands again.
    pub(super) fn count_reconnect(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.reconnects += 1;
        }
    }

    /// The facts by which it is judged.
    pub(super) fn condition(&self, now: Now) -> Condition {
        Condition {
            stopping: self.phase != Phase::Running,
            connected: self.connection.consumer().is_some(),
            leased: self.holds_lease(now),
            awaits_revoked: self.config.awaits_revoked,
            queues: self.config.queues.len(),
            pool_up: self.pool.census().up,
            overloaded: self.away.is_overloaded(),
            store_failed: self.away.is_store_away(),
        }
    }

    /// Everything that is measured.
    pub(super) fn snapshot(&mut self, now: Now) -> Snapshot {
        self.children_changed = true;
        self.publish();
        let counters = self.counters.as_deref();
        Snapshot {
            stats: self.counts.clone(),
            condition: self.condition(now),
            census: self.pool.census(),
            slots: self.pool.slots(),
            limited: self.rates.len(),
            revoked: self.revoked.len() + self.revoked_stamps.len(),
            kept: (self.flush.len(), self.flush.bytes()),
            lease_age_us: (self.renewed > 0).then(|| now.mono.saturating_sub(self.renewed)),
            tasks: counters.map_or_else(Vec::new, |counters| counters.named(&self.registry)),
            settled: self.flush.settled(),
            results: self.flush.results(),
            reconnects: counters.map_or(0, |counters| counters.reconnects),
            events: self.events.totals(),
            queues: self.config.queues.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_histogram_counts_each_in_the_first_bucket_that_holds_it(
            all in prop::collection::vec(0u64..5_000_000_000, 0..60),
        ) {
            let mut histogram = Histogram::default();
            for us in &all {
                histogram.add(*us);
            }
            let mut below = 0;
            for (bound, count) in BOUNDS_US.iter().zip(histogram.counts) {
                below += count;
                prop_assert_eq!(below, all.iter().filter(|us| *us <= bound).count() as u64);
            }
            prop_assert_eq!(histogram.count(), all.len() as u64);
            prop_assert_eq!(histogram.sum_us, all.iter().sum::<u64>());
        }
    }

    #[test]
    fn tasks_beyond_the_first_hundred_share_their_counters() {
        let mut counters = Counters::new(300);
        for task in (0..300).rev().chain(0..300) {
            counters.of(task).received += 1;
        }
        counters.of(u32::MAX).received += 1;
        assert_eq!(counters.tasks.len(), MOST_TASKS + 1);
        assert_eq!(counters.tasks[0].1.received, 2 * 200 + 1);
        assert_eq!(counters.tasks[1].0, 299, "who comes first has a name");
        assert!(counters.tasks[1..].iter().all(|(_, counts)| counts.received == 2));
    }

    #[test]
    fn numbers_of_ends_are_their_places() {
        for (place, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, place);
        }
    }
}
