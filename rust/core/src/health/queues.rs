//! What the queues of a worker hold, asked of the broker.

use std::sync::Arc;

use super::probe::Probe;
use crate::broker::{Admin, QueueStats};

/// Queues and what each holds.
type Depths = Vec<(Arc<str>, QueueStats)>;

/// Asks the broker.
pub(super) struct Queues(Arc<Probe<Vec<Arc<str>>, Depths>>);

impl Queues {
    pub(super) fn new(broker: Arc<dyn Admin>) -> Self {
        Self(Probe::new(move |names: Vec<Arc<str>>| {
            let one = |name: Arc<str>| broker.stats(&name).map(|stats| (name, stats));
            names.into_iter().map(one).collect()
        }))
    }

    /// What these queues hold; `None` when the broker does not say in time.
    pub(super) async fn depths(&self, names: Vec<Arc<str>>) -> Option<Depths> {
        self.0.get(names).await.ok()
    }
}
