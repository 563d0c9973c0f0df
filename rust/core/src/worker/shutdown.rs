//! Shutdown: what state the worker is in, and what the next request to stop makes of it.
//!
//! Warm: nothing more is fetched, what has not begun goes back in order, what runs may finish.
//! Cold: what runs is killed; late-acked tasks go back, early-acked ones are recorded as lost. The
//! second request is always cold. Whatever happens, the last settlements get a bounded time: a
//! broker that is down must not keep a process alive, for its lease will lapse.

use crate::clock::Micros;

/// How long the last settlements and the release of the lease may take.
pub const DRAIN_US: u64 = 5_000_000;

/// How a worker is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Running tasks finish.
    Warm,
    /// Running tasks are killed.
    Cold,
}

/// Where the worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It works.
    Running,
    /// It waits for running tasks, at most until then.
    Warm {
        /// When it becomes cold.
        until: Option<Micros>,
    },
    /// No task runs any more; it settles what is left, at most until then.
    Draining {
        /// When it gives up.
        until: Micros,
        /// Whether the pool was killed.
        killed: bool,
    },
}

/// What a change of phase asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Stop fetching and hand back what has not begun.
    HandBack,
    /// The same, and kill what runs.
    Kill,
    /// The end: release the lease and leave.
    Leave,
}

/// What is still to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// Calls that the pool has, and those that only tell what follows a task that has ended.
    pub at_pool: usize,
    /// Settlements and records that have not been confirmed.
    pub unsettled: usize,
}

impl Phase {
    /// A request to stop came.
    pub fn ask(&mut self, stop: Stop, now: Micros, patience: Option<u64>) -> Step {
        match (*self, stop) {
            (Self::Running, Stop::Warm) => {
                *self = Self::Warm { until: patience.map(|p| now.saturating_add(p)) };
                Step::HandBack
            }
            (Self::Running, Stop::Cold) | (Self::Warm { .. }, _) => {
                *self = Self::Draining { until: now + DRAIN_US, killed: true };
                Step::Kill
            }
            (Self::Draining { .. }, _) => Step::Nothing,
        }
    }

    /// Time passed or something was finished.
    pub fn turn(&mut self, left: Left, now: Micros) -> Step {
        match *self {
            Self::Warm { .. } if left.at_pool == 0 => {
                *self = Self::Draining { until: now + DRAIN_US, killed: false };
                self.turn(left, now)
            }
            Self::Warm { until: Some(until) } if now >= until => self.ask(Stop::Cold, now, None),
            Self::Draining { until, .. }
                if now >= until || (left.unsettled == 0 && left.at_pool == 0) =>
            {
                Step::Leave
            }
            _ => Step::Nothing,
        }
    }

    /// When [`Phase::turn`] wants to be asked again at the latest.
    pub fn next_wake(&self) -> Option<Micros> {
        match *self {
            Self::Running => None,
            Self::Warm { until } => until,
            Self::Draining { until, .. } => Some(until),
        }
    }

    /// Whether the worker takes and begins tasks.
    pub fn works(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Whether the pool can still be had to tell what follows tasks that have ended.
    pub fn tells(&self) -> bool {
        !matches!(self, Self::Draining { killed: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUSY: Left = Left { at_pool: 1, unsettled: 0 };
    const UNSETTLED: Left = Left { at_pool: 0, unsettled: 1 };
    const IDLE: Left = Left { at_pool: 0, unsettled: 0 };

    #[test]
    fn warm_waits_for_what_runs_then_for_what_is_unsettled() {
        let mut phase = Phase::Running;
        assert_eq!(phase.turn(IDLE, 0), Step::Nothing);
        assert_eq!(phase.ask(Stop::Warm, 0, None), Step::HandBack);
        assert_eq!(phase.turn(BUSY, u64::MAX / 2), Step::Nothing);
        assert_eq!(phase.turn(UNSETTLED, 10), Step::Nothing);
        assert_eq!(phase, Phase::Draining { until: 10 + DRAIN_US, killed: false });
        assert_eq!(phase.turn(IDLE, 11), Step::Leave);
    }

    #[test]
    fn the_second_request_is_cold_and_the_third_changes_nothing() {
        let mut phase = Phase::Running;
        assert_eq!(phase.ask(Stop::Warm, 0, None), Step::HandBack);
        assert!(phase.tells());
        assert_eq!(phase.ask(Stop::Warm, 5, None), Step::Kill);
        assert!(!phase.tells());
        assert_eq!(phase.ask(Stop::Cold, 6, None), Step::Nothing);
        assert_eq!(phase.next_wake(), Some(5 + DRAIN_US));
    }

    #[test]
    fn patience_and_the_drain_are_bounded() {
        let mut phase = Phase::Running;
        phase.ask(Stop::Warm, 0, Some(100));
        assert_eq!(phase.next_wake(), Some(100));
        assert_eq!(phase.turn(BUSY, 99), Step::Nothing);
        assert_eq!(phase.turn(BUSY, 100), Step::Kill);
        assert_eq!(phase.turn(UNSETTLED, 100 + DRAIN_US - 1), Step::Nothing);
        assert_eq!(phase.turn(UNSETTLED, 100 + DRAIN_US), Step::Leave);
    }

    proptest! {
        #[test]
        fn whoever_was_asked_to_stop_with_patience_leaves(asks in prop::collection::vec(any::<bool>(), 1..5), busy in any::<bool>()) {
            let (mut phase, mut now, mut left) = (Phase::Running, 0, if busy { BUSY } else { UNSETTLED });
            for cold in asks {
                if phase.ask(if cold { Stop::Cold } else { Stop::Warm }, now, Some(1_000)) == Step::Kill { left = UNSETTLED; }
            }
            for _ in 0..4 {
                match phase.turn(left, now) {
                    Step::Leave => return Ok(()),
                    Step::Kill => left = UNSETTLED,
                    _ => {}
                }
                now = phase.next_wake().expect("it is stopping");
            }
            prop_assert!(false, "still {phase:?}");
        }
    }
}
