//! Saying something to all who hear: what remote control and events travel by.
//!
//! A message is routed by its exchange and routing key, in AMQP's three ways: a *fanout* exchange
//! reaches everybody who is bound to it (requests to all workers), a *direct* one whoever is bound
//! with this very key (replies to one client), a *topic* one whoever is bound with a pattern that
//! the key fits (events by their type).
//!
//! What is said is heard by those who hear at that moment and by nobody later: nothing is stored,
//! acknowledged or redelivered, and nobody hearing is no error. A subscriber that does not keep up
//! loses the oldest and is told how many: what waits for it is bounded.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Broker, Capability};
use crate::{clock::Millis, error::Result, future::BoxFuture};

/// Messages that wait for one subscriber at most.
pub const WAITING_MAX: usize = 10_000;
/// Bytes of bodies that wait for one subscriber at most; the newest message waits whatever its
/// size.
pub const WAITING_BYTES: usize = 16 << 20;
/// Revoked ids that a broker remembers at most.
pub const REVOKED_MAX: usize = 100_000;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeType {
    /// To whoever is bound with the routing key.
    Direct,
    /// To everybody who is bound.
    Fanout,
    /// To whoever is bound with a pattern that the routing key fits: words divided by dots, `*` for
    /// one word, `#` for any number of them.
    Topic,
    /// To whoever is bound with arguments that the headers fulfil. Queues alone are bound to these:
    /// nobody says anything to all by one.
    Headers,
}

/// Where a message is said; whoever is first to use it declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    /// Its name.
    pub name: Arc<str>,
    /// How it routes.
    pub kind: ExchangeType,
}

/// What a subscriber wants to hear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Of what is said here:
    pub exchange: Exchange,
    /// what has this routing key, or one that fits this pattern. A fanout exchange has no use for
    /// it.
    pub routing_key: Arc<str>,
}

/// Something that is said to all. No task: its headers are whatever the sender writes.
#[derive(Clone, Debug, PartialEq)]
pub struct BroadcastMessage {
    /// Where it is said.
    pub exchange: Exchange,
    /// Its routing key.
    pub routing_key: Arc<str>,
    /// What its sender says beside the body.
    pub headers: Map<String, Value>,
    /// MIME type of the body.
    pub content_type: String,
    /// `utf-8` or `binary`.
    pub content_encoding: String,
    /// What it says.
    pub body: Bytes,
}

/// What a subscriber heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// In the order in which it was said.
    pub messages: Vec<BroadcastMessage>,
    /// How many were lost before these, because this subscriber did not keep up.
    pub lost: u64,
}

/// The port of those who speak to all and hear from all.
pub trait Broadcast: Broker {
    /// Says each message, in order, to those who hear it now. Blocking, callable from any thread.
    ///
    /// # Errors
    /// `Connection` when the broker cannot be reached before `deadline`.
    fn broadcast(&self, _batch: &[BroadcastMessage], _deadline: Instant) -> Result<()> {
        Err(Capability::Broadcast.missing(self.url()))
    }

    /// Whether anybody hears now what is said there under this key; true where that cannot be known.
    /// Blocking.
    ///
    /// # Errors
    /// `Connection` when the broker cannot be reached before `deadline`.
    fn is_heard(
        &self,
        _exchange: &Exchange,
        _routing_key: &str,
        _deadline: Instant,
    ) -> Result<bool> {
        Ok(true)
    }

    /// Hears what is said from when this returns until the subscriber is dropped. What fits several
    /// bindings is heard once.
    fn subscribe(&self, _bindings: Vec<Binding>) -> BoxFuture<'_, Result<Arc<dyn Subscriber>>> {
        Box::pin(async { Err(Capability::Broadcast.missing(self.url())) })
    }

    /// Remembers these as revoked until a time, for workers that do not hear it now: task ids, or
    /// whatever else workers know them by. Of what is revoked again the last time counts; of more
    /// than [`REVOKED_MAX`] those are forgotten whose time comes first. Blocking.
    fn revoke(&self, _ids: &[Arc<str>], _until: Millis, _deadline: Instant) -> Result<()> {
        Err(Capability::Broadcast.missing(self.url()))
    }

    /// What is remembered as revoked, in the order in which it will be forgotten. Blocking.
    fn revoked(&self, _deadline: Instant) -> Result<Vec<Arc<str>>> {
        Err(Capability::Broadcast.missing(self.url()))
    }
}

/// One who hears.
pub trait Subscriber: Send + Sync {
    /// What was said since the last call; waits while there is nothing. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// `Connection` when the link is gone, and with it what was said since: subscribe again.
    fn receive(&self) -> BoxFuture<'_, Result<Heard>>;
}

impl Binding {
    /// Whether it wants to hear this message.
    pub fn wants(&self, message: &BroadcastMessage) -> bool {
        self.is_for(&message.exchange, &message.routing_key)
    }

    /// Whether it wants to hear what is said there under this key.
    pub(super) fn is_for(&self, exchange: &Exchange, routing_key: &str) -> bool {
        self.exchange == *exchange
            && match self.exchange.kind {
                ExchangeType::Fanout => true,
                ExchangeType::Direct => *self.routing_key == *routing_key,
                ExchangeType::Topic => fits(&self.routing_key, routing_key),
                ExchangeType::Headers => false,
            }
    }
}

/// Whether a routing key fits a topic's pattern. In time of their lengths' product, whatever they
/// are.
pub(super) fn fits(pattern: &str, key: &str) -> bool {
    let key: Vec<&str> = words(key).collect();
    // Whether what was seen of the pattern fits the first so many words.
    let mut fit = vec![false; key.len() + 1];
    fit[0] = true;
    for word in words(pattern) {
        if word == "#" {
            let first = fit.iter().position(|fits| *fits).unwrap_or(fit.len());
            fit[first..].fill(true);
        } else {
            for at in (0..key.len()).rev() {
                fit[at + 1] = fit[at] && (word == "*" || word == key[at]);
            }
            fit[0] = false;
        }
    }
    fit[key.len()]
}

/// The words of a key; an empty one has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_as_amqp_says() {
        for (pattern, fitting, others) in [
            ("task.received", vec!["task.received"], vec!["task", "task.received.x", ""]),
            ("task.*", vec!["task.received", "task."], vec!["task", "worker.online", "task.a.b"]),
            ("*", vec!["task"], vec!["", "task.received"]),
            ("#", vec!["", "task", "task.received", "a.b.c"], vec![]),
            ("task.#", vec!["task", "task.a", "task.a.b"], vec!["tasks", "", "a.task"]),
            ("#.failed", vec!["failed", "task.failed", "a.b.failed"], vec!["failed.task", ""]),
            ("a.#.b.*", vec!["a.b.c", "a.x.y.b.c"], vec!["a.b", "a.c"]),
            ("*.#", vec!["a", "a.b.c"], vec![""]),
            ("", vec![""], vec!["a"]),
        ] {
            for key in fitting {
                assert!(fits(pattern, key), "`{key}` fits `{pattern}`");
            }
            for key in others {
                assert!(!fits(pattern, key), "`{key}` does not fit `{pattern}`");
            }
        }
        let long = ["a"; 500].join(".");
        assert!(!fits(&"#.".repeat(500), &long) && fits(&["#"; 500].join("."), &long));
    }
}
