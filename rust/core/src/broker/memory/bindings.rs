//! The exchanges of the in-process broker: who is bound to them.

use std::sync::Arc;

use super::super::{Outgoing, QueueBinding, QueueDeclaration, Subscription};

/// Every binding.
#[derive(Default)]
pub(super) struct Bindings(Vec<Bound>);

/// A queue that is bound.
struct Bound {
    queue: Arc<str>,
    binding: QueueBinding,
    /// The holder with which it goes.
    holder: Option<u64>,
}

impl Bindings {
    /// Binds a queue, for as long as a holder lives if one is named.
    pub(super) fn add(&mut self, queue: &QueueDeclaration, holder: Option<u64>) {
        let named = |binding: &&QueueBinding| !binding.exchange.name.is_empty();
        for binding in queue.bindings.iter().filter(named) {
            let same = |bound: &&mut Bound| {
                let (known, new) = (&bound.binding, binding);
                bound.queue == queue.name
                    && known.exchange.name == new.exchange.name
                    && (&known.routing_key, &known.arguments) == (&new.routing_key, &new.arguments)
            };
            match self.0.iter_mut().find(same) {
                Some(known) => (known.binding, known.holder) = (binding.clone(), holder),
                None => self.0.push(Bound {
                    queue: Arc::clone(&queue.name),
                    binding: binding.clone(),
                    holder,
                }),
            }
        }
    }

    /// Binds the queues that a holder consumes.
    pub(super) fn consume(&mut self, subscription: &Subscription, holder: u64) {
        let consumed = |queue: &&Arc<QueueDeclaration>| subscription.queues.contains(&queue.name);
        for queue in subscription.declarations.iter().filter(consumed) {
            if !queue.no_declare {
                self.add(queue, queue.auto_delete.then_some(holder));
            }
        }
    }

    /// The queues that receive a message, each once.
    pub(super) fn receivers(&self, message: &Outgoing) -> Vec<Arc<str>> {
        let (headers, properties) = (&message.message.headers, &message.message.properties);
        let wanted = |bound: &&Bound| {
            *bound.binding.exchange.name == *properties.exchange
                && bound.binding.wants(&properties.routing_key, &headers.rare().extra)
        };
        let mut queues: Vec<_> =
            self.0.iter().filter(wanted).map(|bound| Arc::clone(&bound.queue)).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    /// Takes back what goes with a holder; its queues.
    pub(super) fn forget(&mut self, holder: u64) -> Vec<Arc<str>> {
        let (gone, kept) =
            std::mem::take(&mut self.0).into_iter().partition(|bound| bound.holder == Some(holder));
        self.0 = kept;
        Vec::into_iter(gone).map(|bound: Bound| bound.queue).collect()
    }
}
