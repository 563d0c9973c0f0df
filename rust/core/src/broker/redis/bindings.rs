//! Exchanges on Redis, by kombu's tables of bindings, so that both kinds of workers and producers
//! find each other's.
//!
//! Who is bound to an exchange is a member of the set `_kombu.binding.<exchange>`: routing key,
//! pattern (a regular expression, of a topic alone) and queue. A publish reads the set and pushes
//! the message to each queue that it names. What is published to a fanout exchange is stored
//! nowhere: it goes by PUB/SUB to the workers that listen, as kombu does it, and each of them puts it
//! into its queue ([`super::consumer`]). kombu has no headers exchanges; theirs are in a set of
//! taskcore's own.
//!
//! kombu keeps the type of an exchange in the memory of each process, and so does this. Of an
//! exchange that this process has not declared, the pattern of a member says whether it is a topic.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use redis::{Pipeline, RedisResult, Value, from_redis_value, pipe};
use serde_json::{Map, json};

use super::{RedisBroker, keys::Keys};
use crate::{
    broker::{
        Answer, Outgoing, QueueBinding, QueueDeclaration,
        broadcast::ExchangeType,
        declaration::receives,
        routed::{self, Routed, RoutedFirings},
        schedule::Firing,
    },
    error::Result,
    redis_connection::Lease,
};

/// Between the parts of a member.
const SEPARATOR: &str = "\x06\x16";
/// What begins the note that a connection has declared a queue; no queue's name does.
const DECLARED: &str = "\x06";

/// A table: who is bound to an exchange.
struct Table {
    /// How it routes, where somebody has said so.
    kind: Option<ExchangeType>,
    members: Vec<Member>,
}

/// A queue that is bound.
struct Member {
    routing_key: String,
    is_topic: bool,
    queue: Arc<str>,
    arguments: Map<String, serde_json::Value>,
}

/// The commands that bind a queue, as kombu binds it.
pub(super) fn declare(keys: &Keys, queue: &QueueDeclaration, commands: &mut Pipeline) {
    for binding in queue.bindings.iter().filter(|binding| !binding.exchange.name.is_empty()) {
        let exchange = &*binding.exchange.name;
        if binding.exchange.kind == ExchangeType::Headers {
            let member = json!([&*queue.name, binding.arguments]).to_string();
            commands.cmd("SADD").arg(keys.headers(exchange)).arg(member);
            continue;
        }
        let member = member(binding, &queue.name);
        commands.cmd("SADD").arg(keys.binding(exchange)).arg(&member);
        // What is here, kombu's sweep of expired tables leaves alone.
        commands.cmd("SADD").arg(keys.binding_permanent(exchange)).arg(member);
    }
}

/// The commands that undo it.
pub(super) fn undeclare(keys: &Keys, queue: &QueueDeclaration, commands: &mut Pipeline) {
    for binding in &queue.bindings {
        let (exchange, member) = (&*binding.exchange.name, member(binding, &queue.name));
        for table in [keys.binding(exchange), keys.binding_permanent(exchange)] {
            commands.cmd("SREM").arg(table).arg(&member);
        }
        let member = json!([&*queue.name, binding.arguments]).to_string();
        commands.cmd("SREM").arg(keys.headers(exchange)).arg(member);
    }
}

fn member(binding: &QueueBinding, queue: &str) -> String {
    let pattern = match binding.exchange.kind {
        ExchangeType::Topic => pattern(&binding.routing_key),
        _ => String::new(),
    };
    [&*binding.routing_key, &pattern, queue].join(SEPARATOR)
}

/// kombu's regular expression for the keys that fit a topic's pattern.
fn pattern(key: &str) -> String {
    let words = key.split('.').map(|word| match word {
        "*" => r"[^\.]+".to_owned(),
        "#" => ".*?".to_owned(),
        word => word.chars().fold(String::new(), |mut out, c| {
            if !(c.is_alphanumeric() || matches!(c, '#' | '*')) {
                out.push('\\');
            }
            out.push(c);
            out
        }),
    });
    format!("^{}$", words.collect::<Vec<_>>().join(r"\."))
}

impl Table {
    fn read(kind: Option<ExchangeType>, members: Vec<String>, headers: &[String]) -> Self {
        let mut found: Vec<Member> = Vec::new();
        for member in members {
            let mut parts = member.split(SEPARATOR);
            if let (Some(key), Some(pattern), Some(queue)) =
                (parts.next(), parts.next(), parts.next())
            {
                found.push(Member {
                    routing_key: key.to_owned(),
                    is_topic: !pattern.is_empty(),
                    queue: queue.into(),
                    arguments: Map::new(),
                });
            }
        }
        for member in headers {
            let Ok((queue, arguments)) = serde_json::from_str::<(String, _)>(member) else {
                continue;
            };
            found.push(Member {
                routing_key: String::new(),
                is_topic: false,
                queue: queue.into(),
                arguments,
            });
        }
        let kind = if headers.is_empty() { kind } else { Some(ExchangeType::Headers) };
        Self { kind, members: found }
    }

    /// The queues that receive a message, each once.
    fn receivers(&self, message: &Outgoing) -> Vec<Arc<str>> {
        let (headers, properties) = (&message.message.headers, &message.message.properties);
        let mut queues: Vec<Arc<str>> = Vec::new();
        for member in &self.members {
            let inferred = if member.is_topic { ExchangeType::Topic } else { ExchangeType::Direct };
            let bound = (&*member.routing_key, &member.arguments);
            let kind = self.kind.unwrap_or(inferred);
            if receives(kind, bound, &properties.routing_key, &headers.rare().extra)
                && !queues.contains(&member.queue)
            {
                queues.push(Arc::clone(&member.queue));
            }
        }
        queues.sort_unstable();
        queues
    }
}

impl RedisBroker {
    /// How the exchange of a message routes, as far as this process knows.
    fn kind(&self, message: &Outgoing) -> Option<ExchangeType> {
        self.known.route(message).map(|route| route.kind)
    }

    /// Publishes a batch with messages to exchanges.
    pub(super) fn publish_routed(
        &self,
        batch: &[Outgoing],
        deadline: Instant,
    ) -> Result<Vec<Answer>> {
        let tables = self.tables(batch, deadline)?;
        let is_fanout = |message: &Outgoing| {
            !message.is_to_queue() && self.kind(message) == Some(ExchangeType::Fanout)
        };
        let routed = Routed::new(batch, |message| {
            let table = tables.get(message.message.properties.exchange.as_str());
            let table = table.filter(|_| !is_fanout(message));
            Ok::<_, crate::Error>(table.map(|t| t.receivers(message)).unwrap_or_default())
        })?;
        let copies = match &*routed.messages {
            [] => Vec::new(),
            messages => self.publish_to_queues(messages, deadline)?,
        };
        let mut answers = routed.answers(copies);
        let fanout: Vec<usize> = (0..batch.len()).filter(|at| is_fanout(&batch[*at])).collect();
        if !fanout.is_empty() {
            let messages: Vec<&Outgoing> = fanout.iter().map(|at| &batch[*at]).collect();
            for (at, heard) in fanout.iter().zip(self.say(&messages, deadline)?) {
                if heard {
                    answers[*at] = Answer::Confirmed;
                }
            }
        }
        Ok(answers)
    }

    /// The firings with their messages for their queues.
    pub(super) fn route_firings(
        &self,
        firings: &[Firing],
        deadline: Instant,
    ) -> Result<RoutedFirings> {
        let batch: Vec<_> = firings.iter().filter_map(|one| one.message.clone()).collect();
        let tables =
            if routed::is_needed(&batch) { self.tables(&batch, deadline)? } else { HashMap::new() };
        Ok(RoutedFirings::new(firings, |message| {
            if self.kind(message) == Some(ExchangeType::Fanout) {
                return None;
            }
            let table = tables.get(message.message.properties.exchange.as_str());
            Some(table.map(|table| table.receivers(message)).unwrap_or_default())
        }))
    }

    /// Publishes messages by PUB/SUB; whether anybody heard each.
    fn say(&self, messages: &[&Outgoing], deadline: Instant) -> Result<Vec<bool>> {
        let mut commands = pipe();
        for message in messages {
            let properties = &message.message.properties;
            let channel = self.exchanges.channel(&properties.exchange, &properties.routing_key);
            let encoded = message.encoded();
            commands.cmd("PUBLISH").arg(channel).arg(&encoded.data[..]);
        }
        self.pool.run("publish", deadline, |lease| {
            let heard = lease.pipeline(&commands)?.into_iter();
            heard.map(|count| Ok(from_redis_value::<u64>(count)? > 0)).collect()
        })
    }

    /// Declares what the messages say, once per connection, and reads the tables of their exchanges.
    fn tables(&self, batch: &[Outgoing], deadline: Instant) -> Result<HashMap<String, Table>> {
        let mut exchanges: Vec<&str> = batch
            .iter()
            .filter(|message| self.kind(message) != Some(ExchangeType::Fanout))
            .map(|message| message.message.properties.exchange.as_str())
            .filter(|exchange| !exchange.is_empty())
            .collect();
        exchanges.sort_unstable();
        exchanges.dedup();
        let declares = self.known.declares(batch.iter());
        let read = |lease: &mut Lease| -> RedisResult<HashMap<String, Table>> {
            let mut commands = pipe();
            let said = self.declare_new(lease, &declares, &mut commands);
            let first = commands.len();
            for exchange in &exchanges {
                commands.cmd("SMEMBERS").arg(self.keys.binding(exchange));
                commands.cmd("SMEMBERS").arg(self.keys.headers(exchange));
            }
            if commands.is_empty() {
                return Ok(HashMap::new());
            }
            let replies: Vec<Value> = lease.pipeline(&commands)?;
            lease.said.extend(said);
            let mut replies = replies.into_iter().skip(first);
            let mut next = || from_redis_value(replies.next().unwrap_or(Value::Nil));
            let mut tables = HashMap::new();
            for exchange in &exchanges {
                let (members, headers): (Vec<String>, Vec<String>) = (next()?, next()?);
                let table = Table::read(self.kind_of(exchange, batch), members, &headers);
                tables.insert((*exchange).to_owned(), table);
            }
            Ok(tables)
        };
        self.pool.repeat("read who is bound to an exchange", deadline, read)
    }

    fn kind_of(&self, exchange: &str, batch: &[Outgoing]) -> Option<ExchangeType> {
        let message = batch.iter().find(|one| one.message.properties.exchange == exchange)?;
        self.kind(message)
    }

    /// Adds the commands that declare what this connection has not declared yet; what is to be noted
    /// once they are done.
    fn declare_new(
        &self,
        lease: &Lease,
        declares: &[Arc<QueueDeclaration>],
        commands: &mut Pipeline,
    ) -> HashSet<Arc<str>> {
        let mut said = HashSet::new();
        for queue in declares {
            let note: Arc<str> = format!("{DECLARED}{}", queue.name).into();
            if !lease.said.contains(&note) && said.insert(note) {
                declare(&self.keys, queue, commands);
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_kombus() {
        for (key, expected) in [
            ("news.#", r"^news\..*?$"),
            ("*.feed.*", r"^[^\.]+\.feed\.[^\.]+$"),
            ("#", "^.*?$"),
            ("a-b.c_d", r"^a\-b\.c\_d$"),
            ("", "^$"),
            ("usa#x", "^usa#x$"),
        ] {
            assert_eq!(pattern(key), expected, "{key}");
        }
    }
}
