//! The port to who composes what follows a join that is complete. That is Python, which knows tasks,
//! routes and signatures; this loop knows bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    error::Result,
    pool::{EndedTask, FollowUp},
};

/// A join all of whose members have ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Id of the group.
    pub group: String,
    /// The message, compact, of the member that completed it. It says what follows.
    pub message: Bytes,
    /// How its members ended.
    pub fate: Fate,
}

/// How the members of a join ended.
#[derive(Clone, Debug)]
pub enum Fate {
    /// All with a result; these, as JSON, in order.
    Succeeded(Vec<Bytes>),
    /// One did not; of several the first in order.
    Failed {
        /// Its task id.
        id: String,
        /// Its exception, as JSON in a result document.
        exception: Bytes,
    },
    /// What follows cannot be composed or published; why.
    Lost(String),
}

/// What follows a join.
#[derive(Clone, Debug, Default)]
pub struct Composed {
    /// To be published.
    pub follow: Vec<FollowUp>,
    /// What ends because of it.
    pub ended: Vec<EndedTask>,
    /// Error callbacks that are called in the pool instead of being published.
    pub calls: Vec<ErrorCall>,
}

/// Error callbacks to be called.
#[derive(Clone, Debug)]
pub struct ErrorCall {
    /// A message, compact, whose error callbacks these are.
    pub message: Bytes,
    /// The queue of its task.
    pub queue: Arc<str>,
    /// What happened; see [`Call::ended`](crate::pool::Call::ended).
    pub end: Box<[u8]>,
}

/// Composes what follows joins. Both are called on a thread that may block.
pub trait Composer: Send + Sync {
    /// How many bytes of results what follows a join may carry.
    fn limit(&self) -> usize;

    /// What follows a join. Nothing is published by that.
    ///
    /// # Errors
    /// A retryable one when a server is away; any other when it cannot be composed, and then what
    /// follows a [`Fate::Lost`] is asked for.
    fn compose(&self, ending: &Ending) -> Result<Composed>;
}
