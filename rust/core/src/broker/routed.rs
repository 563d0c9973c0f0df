//! A batch with messages to exchanges, where exchanges are tables of bindings: what memory, sqlite
//! and Redis share.
//!
//! A message to an exchange becomes a copy for each queue that receives it. Its properties keep the
//! exchange and the routing key that it was published with, so that whoever runs it, or publishes it
//! again, knows them. Batches without exchanges, which are the rule, never come here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Answer, Outgoing, QueueDeclaration, Route, schedule::Firing};

/// The exchanges that this process knows: what is published to them by somebody who does not know
/// how they are declared, as what follows a task is, goes the way that is known here.
#[derive(Default)]
pub(super) struct Known {
    /// Behind a std mutex because a section is a look or an insertion.
    exchanges: Mutex<HashMap<Arc<str>, Arc<Route>>>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Route>>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the exchanges of these queues, and which of them are bound there. One that goes with
    /// its consumer is declared by that one alone.
    pub(super) fn add<'a>(&self, queues: impl Iterator<Item = &'a Arc<QueueDeclaration>>) {
        let mut known = self.lock();
        for queue in queues {
            for binding in &queue.bindings {
                let new = || Arc::new(Route { kind: binding.exchange.kind, declares: Vec::new() });
                let route = known.entry(Arc::clone(&binding.exchange.name)).or_insert_with(new);
                if route.kind == binding.exchange.kind
                    && (queue.auto_delete || route.declares.contains(queue))
                {
                    continue;
                }
                let route = Arc::make_mut(route);
                route.kind = binding.exchange.kind;
                route.declares.retain(|declared| declared.name != queue.name);
                if !queue.auto_delete {
                    route.declares.push(Arc::clone(queue));
                }
            }
        }
    }

    /// The way of a message: its own, or what is known of its exchange.
    pub(super) fn route(&self, message: &Outgoing) -> Option<Arc<Route>> {
        let known = || self.lock().get(message.message.properties.exchange.as_str()).cloned();
        message.route.clone().or_else(known)
    }

    /// The queues that are declared before these messages are published.
    pub(super) fn declares<'a>(
        &self,
        batch: impl Iterator<Item = &'a Outgoing>,
    ) -> Vec<Arc<QueueDeclaration>> {
        let mut queues: Vec<Arc<QueueDeclaration>> = Vec::new();
        let mut last: Option<Arc<Route>> = None;
        for route in batch.filter_map(|message| self.route(message)) {
            if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &route)) {
                continue; // runs of one way are the rule
            }
            for queue in route.declares.iter().filter(|queue| !queue.no_declare) {
                if !queues.contains(queue) {
                    queues.push(Arc::clone(queue));
                }
            }
            last = Some(route);
        }
        queues
    }
}

/// A batch on its way to queues.
pub(super) struct Routed {
    /// A message for each queue, in the order of the batch.
    pub(super) messages: Vec<Outgoing>,
    /// Which message of the batch each of them is.
    of: Vec<usize>,
    /// How many messages the batch has.
    size: usize,
}

/// Whether any message of a batch goes to an exchange other than the default one.
pub(super) fn is_needed(batch: &[Outgoing]) -> bool {
    batch.iter().any(|message| !message.is_to_queue())
}

impl Routed {
    /// The messages of a batch for their queues; `queues` says which ones bindings name for one.
    pub(super) fn new<E>(
        batch: &[Outgoing],
        mut queues: impl FnMut(&Outgoing) -> Result<Vec<Arc<str>>, E>,
    ) -> Result<Self, E> {
        let mut routed = Self { messages: Vec::new(), of: Vec::new(), size: batch.len() };
        for (index, message) in batch.iter().enumerate() {
            if message.is_to_queue() {
                routed.add(index, message.clone());
                continue;
            }
            for queue in queues(message)? {
                routed.add(index, Outgoing { queue, ..message.clone() });
            }
        }
        Ok(routed)
    }

    fn add(&mut self, index: usize, message: Outgoing) {
        self.messages.push(message);
        self.of.push(index);
    }

    /// What became of each message of the batch, by what became of its copies. One that went nowhere
    /// is unroutable, and one of which a copy was refused is refused.
    pub(super) fn answers(&self, copies: Vec<Answer>) -> Vec<Answer> {
        let mut answers = vec![Answer::Unroutable; self.size];
        for (index, answer) in self.of.iter().zip(copies) {
            if !matches!(answers[*index], Answer::Refused(_)) {
                answers[*index] = answer;
            }
        }
        answers
    }
}

/// Firings on their way to queues.
pub(super) struct RoutedFirings {
    /// Those that can be done, each with its message for the first queue.
    pub(super) firings: Vec<Firing>,
    /// Which of the firings each of them is.
    of: Vec<usize>,
    /// Messages for further queues, and with which of `firings` they go.
    rest: Vec<(usize, Outgoing)>,
    /// How many firings there are.
    size: usize,
}

impl RoutedFirings {
    /// The firings with their messages for their queues; `queues` says which ones bindings name for
    /// one, or `None` where it is published as it is, after the firing.
    pub(super) fn new(
        firings: &[Firing],
        mut queues: impl FnMut(&Outgoing) -> Option<Vec<Arc<str>>>,
    ) -> Self {
        let (firings_of, size) = (Vec::new(), firings.len());
        let mut routed = Self { firings: Vec::new(), of: firings_of, rest: Vec::new(), size };
        for (index, firing) in firings.iter().enumerate() {
            let at = routed.firings.len();
            let mut firing = firing.clone();
            if let Some(message) = firing.message.take_if(|message| !message.is_to_queue()) {
                let Some(queues) = queues(&message) else {
                    routed.rest.push((at, message));
                    routed.add(index, firing);
                    continue;
                };
                let mut copies =
                    queues.into_iter().map(|queue| Outgoing { queue, ..message.clone() });
                let Some(first) = copies.next() else { continue };
                firing.message = Some(first);
                routed.rest.extend(copies.map(|copy| (at, copy)));
            }
            routed.add(index, firing);
        }
        routed
    }

    fn add(&mut self, index: usize, firing: Firing) {
        self.of.push(index);
        self.firings.push(firing);
    }

    /// Which firings were done, by which of `firings` were; and what is to be published now.
    pub(super) fn done(self, done: &[bool]) -> (Vec<bool>, Vec<Outgoing>) {
        let mut all = vec![false; self.size];
        for (index, done) in self.of.iter().zip(done) {
            all[*index] = *done;
        }
        let is_done = |at: &usize| done.get(*at).copied().unwrap_or(false);
        let rest = self.rest.into_iter().filter(|(at, _)| is_done(at));
        (all, rest.map(|(_, message)| message).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Encoding, Message};

    fn message(exchange: &str) -> Outgoing {
        let mut message = Outgoing::new(Message::default(), "q".into(), Encoding::Compact);
        message.message.properties.exchange = exchange.to_owned();
        message
    }

    #[test]
    fn copies_are_answered_as_one_message() {
        let batch = [message(""), message("two"), message("none"), message("two")];
        assert!(is_needed(&batch) && !is_needed(&batch[..1]));
        let queues = |message: &Outgoing| -> Result<Vec<Arc<str>>, ()> {
            let two = message.message.properties.exchange == "two";
            Ok(if two { vec!["a".into(), "b".into()] } else { Vec::new() })
        };
        let routed = Routed::new(&batch, queues).expect("nothing fails");
        let names: Vec<_> = routed.messages.iter().map(|message| &*message.queue).collect();
        assert_eq!(names, ["q", "a", "b", "a", "b"]);
        let refused = Answer::Refused("full".into());
        let ok = Answer::Confirmed;
        let copies = vec![ok.clone(), ok.clone(), ok.clone(), refused.clone(), ok.clone()];
        assert_eq!(routed.answers(copies), [ok.clone(), ok, Answer::Unroutable, refused]);
    }
}
