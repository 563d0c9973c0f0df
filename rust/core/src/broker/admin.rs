//! What operators ask of a broker: what its queues hold, purging, cancelling, dead letters.
//!
//! Asked by people and command lines, never on the path of a task. A broker implements what it can
//! and names it among its capabilities; for the rest the answer is here: a clear error of the kind
//! `Unsupported`.

use super::{Broker, Capability, DeadLetter};
use crate::error::Result;

/// What a queue holds, for `taskcore queues`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Ready messages, all priorities.
    pub depth: u64,
    /// Claimed by workers and not settled.
    pub in_flight: u64,
    /// Waiting in the due set.
    pub scheduled: u64,
    /// Parked.
    pub dead: u64,
}

/// The operator's side: blocking, callable from any thread. What is asked about a queue that does
/// not exist finds nothing.
pub trait Admin: Broker {
    /// What `queue` holds now.
    fn stats(&self, _queue: &str) -> Result<QueueStats> {
        Err(Capability::Stats.missing(self.url()))
    }

    /// Names of the queues that exist here (hold something or were consumed), sorted.
    fn queues(&self) -> Result<Vec<String>> {
        Err(Capability::Queues.missing(self.url()))
    }

    /// Drops what is ready and scheduled in `queue` (not what workers hold, not dead letters); how
    /// many.
    fn purge(&self, _queue: &str) -> Result<u64> {
        Err(Capability::Purge.missing(self.url()))
    }

    /// Takes a scheduled message back by its task id; whether there was one. It is dropped, or, where
    /// others wait for its task ([`Message::has_embed`](crate::message::Message::has_embed)), put into
    /// its queue, marked, in the same step, so that a worker ends it as revoked and them with it.
    fn cancel(&self, _queue: &str, _id: &str) -> Result<bool> {
        Err(Capability::Cancel.missing(self.url()))
    }

    /// The newest `limit` dead letters of `queue`.
    fn dead(&self, _queue: &str, _limit: usize) -> Result<Vec<DeadLetter>> {
        Err(Capability::Dead.missing(self.url()))
    }

    /// Puts dead letters (all, or those with these `key`s) back to the tail of the queue; how many.
    fn replay(&self, _queue: &str, _keys: Option<&[String]>) -> Result<u64> {
        Err(Capability::Replay.missing(self.url()))
    }

    /// Drops dead letters (all, or those with these `key`s); how many.
    fn discard(&self, _queue: &str, _keys: Option<&[String]>) -> Result<u64> {
        Err(Capability::Discard.missing(self.url()))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;
    use crate::{
        broker::{Answer, Consumer, Outgoing, Subscription},
        error::{Error, ErrorKind},
        future::BoxFuture,
    };

    /// A broker that can do nothing beyond its own port.
    struct Plain;

    impl Broker for Plain {
        fn publish(&self, _: &[Outgoing], _: Instant) -> Result<Vec<Answer>> {
            unreachable!("nobody publishes")
        }
        fn consume(&self, _: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
            unreachable!("nobody consumes")
        }
        fn url(&self) -> &'static str {
            "plain://host"
        }
        fn capabilities(&self) -> &'static [Capability] {
            &[]
        }
    }

    impl Admin for Plain {}

    #[test]
    fn what_a_broker_cannot_do_is_a_clear_error() {
        let answers: [Option<Error>; 7] = [
            Plain.stats("q").err(),
            Plain.queues().err(),
            Plain.purge("q").err(),
            Plain.cancel("q", "id").err(),
            Plain.dead("q", 1).err(),
            Plain.replay("q", None).err(),
            Plain.discard("q", None).err(),
        ];
        for (answer, what) in answers.into_iter().zip(Capability::ADMIN) {
            let error = answer.expect("an error");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(text.contains("`plain://host`") && text.contains(what.does()), "{text}");
        }
    }
}
