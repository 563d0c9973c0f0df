//! In which order a worker serves the queues of one priority: the decision that all adapters share.
//!
//! By default the queues take turns, as Celery's do: whoever gave the last message is asked last
//! the next time, so a backlog in one queue does not keep the others waiting. A strict order serves
//! a queue only while those before it are empty.

/// `queue_order_strategy` of `broker_transport_options`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// Queues take turns (`round_robin`).
    #[default]
    RoundRobin,
    /// The first queue is served while it has something (`priority`, or `sorted` for queues that
    /// were sorted by name).
    Strict,
}

/// Whose turn it is among the queues of a consumer, by their index.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    order: QueueOrder,
    count: usize,
    first: usize,
}

impl Turns {
    /// The first of `count` queues begins.
    pub fn new(order: QueueOrder, count: usize) -> Self {
        Self { order, count, first: 0 }
    }

    /// The queues in the order in which they are to be asked.
    pub fn queues(&self) -> impl Iterator<Item = usize> + use<> {
        let Self { count, first, .. } = *self;
        (first..count).chain(0..first)
    }

    /// A queue gave a message.
    pub fn served(&mut self, queue: usize) {
        if self.order == QueueOrder::RoundRobin {
            self.first = (queue + 1) % self.count.max(1);
        }
    }

    /// Whether the queues share a claim of many.
    pub fn shared(&self) -> bool {
        self.order == QueueOrder::RoundRobin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_served_is_asked_last() {
        let mut turns = Turns::new(QueueOrder::RoundRobin, 3);
        let asked = |turns: &Turns| turns.queues().collect::<Vec<_>>();
        assert_eq!(asked(&turns), [0, 1, 2]);
        turns.served(0);
        assert_eq!(asked(&turns), [1, 2, 0]);
        turns.served(2);
        assert_eq!(asked(&turns), [0, 1, 2]);
    }

    #[test]
    fn a_strict_order_does_not_change() {
        let mut turns = Turns::new(QueueOrder::Strict, 3);
        turns.served(1);
        assert_eq!(turns.queues().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(!turns.shared());
    }
}
