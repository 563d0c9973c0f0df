//! How many processes or threads a pool has, by what there is to do: `--autoscale`.
//!
//! As in Celery the pool grows at once to what is claimed, within its bounds, and shrinks again to
//! that, but only after all of it has not been needed for a while: a pause between two bursts costs
//! no process.

use crate::{
    clock::Micros,
    error::{Error, ErrorKind, Result},
};

/// How many there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub least: usize,
    /// At most.
    pub most: usize,
}

/// What is to be done about the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// It is as large as it should be.
    Stay,
    /// So many more.
    Grow(usize),
    /// So many fewer.
    Shrink(usize),
}

impl Bounds {
    /// With one or both of them changed.
    ///
    /// # Errors
    /// `Config`: there would be none at most, or the most would be less than the least.
    pub fn changed(self, most: Option<usize>, least: Option<usize>) -> Result<Self> {
        let new = Self { most: most.unwrap_or(self.most), least: least.unwrap_or(self.least) };
        if new.most == 0 || new.most < new.least {
            let text = format!(
                "autoscale from `{}` to `{}`, expected a maximum of at least 1 that is not below the minimum",
                new.least, new.most
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(new)
    }

    /// The nearest size within them; one is always left.
    pub fn clamp(self, size: usize) -> usize {
        size.clamp(self.least.max(1), self.most.max(1))
    }

    /// Wide enough for this size, which somebody asked for.
    #[must_use]
    pub fn including(self, size: usize) -> Self {
        Self { least: self.least.min(size), most: self.most.max(size) }
    }
}

/// When a pool grows and shrinks.
#[derive(Clone, Copy, Debug)]
pub struct Autoscale {
    /// Between what. Written by control.
    pub bounds: Bounds,
    keepalive: Micros,
    /// When all of the pool was last needed.
    needed: Micros,
}

impl Autoscale {
    /// Shrinks after `keepalive` microseconds.
    pub fn new(bounds: Bounds, keepalive: Micros) -> Self {
        Self { bounds, keepalive, needed: 0 }
    }

    /// What to do with a pool of `size` while so many are `claimed`.
    pub fn decide(&mut self, claimed: usize, size: usize, now: Micros) -> Scale {
        let wanted = self.bounds.clamp(claimed);
        if wanted >= size {
            self.needed = now;
            return if wanted > size { Scale::Grow(wanted - size) } else { Scale::Stay };
        }
        if size > self.bounds.clamp(size) {
            return Scale::Shrink(size - self.bounds.clamp(size));
        }
        if now < self.needed.saturating_add(self.keepalive) {
            return Scale::Stay;
        }
        Scale::Shrink(size - wanted)
    }

    /// When a pool of `size` may shrink; `None` when it may not.
    pub fn next_wake(&self, size: usize) -> Option<Micros> {
        (size > self.bounds.clamp(0)).then(|| self.needed.saturating_add(self.keepalive))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scaler(least: usize, most: usize) -> Autoscale {
        Autoscale::new(Bounds { least, most }, 30)
    }

    #[test]
    fn it_grows_at_once_and_shrinks_when_nothing_needed_it_for_a_while() {
        let mut scaler = scaler(2, 10);
        for (now, claimed, size, expected) in [
            (100, 0, 2, Scale::Stay),
            (101, 2, 2, Scale::Stay),
            (102, 5, 2, Scale::Grow(3)),
            (103, 900, 5, Scale::Grow(5)),
            (104, 900, 10, Scale::Stay),
            (105, 9, 10, Scale::Stay),
            (120, 10, 10, Scale::Stay), // needed again
            (149, 3, 10, Scale::Stay),
            (150, 3, 10, Scale::Shrink(7)),
            (151, 0, 3, Scale::Shrink(1)),
            (152, 0, 2, Scale::Stay),
        ] {
            assert_eq!(scaler.decide(claimed, size, now), expected, "at {now}");
        }
        assert_eq!(scaler.next_wake(2), None);
        assert_eq!(scaler.next_wake(3), Some(scaler.needed + 30));
    }

    #[test]
    fn bounds_are_changed_or_refused() {
        let bounds = Bounds { least: 2, most: 10 };
        for (most, least, changed) in [
            (None, None, Some((2, 10))),
            (Some(4), None, Some((2, 4))),
            (None, Some(0), Some((0, 10))),
            (Some(1), None, None),
            (None, Some(11), None),
            (Some(0), Some(0), None),
        ] {
            let new = bounds.changed(most, least).ok().map(|b| (b.least, b.most));
            assert_eq!(new, changed, "{most:?} {least:?}");
        }
        assert_eq!(bounds.including(12), Bounds { least: 2, most: 12 });
        assert_eq!(bounds.including(1), Bounds { least: 1, most: 10 });
    }

    proptest! {
        #[test]
        fn a_pool_stays_within_its_bounds(
            least in 0usize..20,
            more in 0usize..20,
            steps in prop::collection::vec((0usize..60, 0u64..40), 1..60),
        ) {
            let mut scaler = scaler(least, (least + more).max(1));
            let (mut size, mut now) = (scaler.bounds.clamp(0), 0);
            for (claimed, later) in steps {
                now += later;
                match scaler.decide(claimed, size, now) {
                    Scale::Stay => {}
                    Scale::Grow(by) => size += by,
                    Scale::Shrink(by) => size -= by,
                }
                prop_assert_eq!(size, scaler.bounds.clamp(size));
                prop_assert!(size >= claimed.min(scaler.bounds.most));
            }
        }
    }
}
