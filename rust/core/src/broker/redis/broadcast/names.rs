//! Channels as kombu names them.
//!
//! A message on a fanout or topic exchange is published on the channel `/<db>.<exchange>`, followed
//! by `/<routing key>` on a topic exchange, unless the key is empty. What a topic's pattern fits is
//! a prefix of channels to the server and judged by whoever hears it.

use crate::{
    broker::broadcast::{Binding, Exchange, ExchangeType},
    redis_connection::glob,
};

/// The names of channels.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// What stands before the name of an exchange.
    start: String,
}

impl Names {
    pub(super) fn new(prefix: &str, db: i64) -> Self {
        Self { start: format!("{prefix}/{db}.") }
    }

    /// Where a message of this routing key is published. A fanout exchange has one channel.
    pub(super) fn channel(&self, exchange: &Exchange, routing_key: &str) -> String {
        let key = match exchange.kind {
            ExchangeType::Topic => routing_key,
            ExchangeType::Fanout | ExchangeType::Direct | ExchangeType::Headers => "",
        };
        self.keyed(&exchange.name, key)
    }

    /// The channel of a key on an exchange.
    pub(super) fn keyed(&self, exchange: &str, key: &str) -> String {
        let slash = if key.is_empty() { "" } else { "/" };
        format!("{}{exchange}{slash}{key}", self.start)
    }

    /// Where to listen for what a binding wants, and perhaps more.
    pub(super) fn sources(&self, binding: &Binding) -> Vec<Source> {
        let (exchange, key) = (&*binding.exchange.name, &*binding.routing_key);
        let exact = |key| Source { name: self.keyed(exchange, key), exact: true };
        match binding.exchange.kind {
            ExchangeType::Direct | ExchangeType::Headers => Vec::new(),
            // kombu publishes a fanout message with a routing key on a channel of that.
            ExchangeType::Fanout if key.is_empty() => vec![exact("")],
            ExchangeType::Fanout => vec![exact(""), exact(key)],
            ExchangeType::Topic => match key.find(['*', '#']) {
                None => vec![exact(key)],
                Some(wildcard) => {
                    // `task.#` fits `task` too.
                    let literal = key[..wildcard].trim_end_matches('.');
                    let literal =
                        if key[wildcard..].starts_with('#') { literal } else { &key[..wildcard] };
                    let name = format!("{}{exchange}/{literal}", self.start);
                    let all = Source { name, exact: false };
                    if wildcard == 0 { vec![all, exact("")] } else { vec![all] }
                }
            },
        }
    }
}

/// A channel, or the prefix of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    name: String,
    pub(super) exact: bool,
}

impl Source {
    /// Its name to the server.
    pub(super) fn subscription(&self) -> String {
        if self.exact { self.name.clone() } else { glob(&self.name) }
    }

    pub(super) fn has(&self, channel: &[u8]) -> bool {
        if self.exact {
            self.name.as_bytes() == channel
        } else {
            channel.starts_with(self.name.as_bytes())
        }
    }
}
