//! Who waits for what was stored: asked behind the documents of a batch, so that nothing is
//! announced to nobody.
//!
//! Whoever waits subscribes first and then reads the store, and here the question follows the
//! document: a client that is not seen here finds the document when it reads.
//!
//! There are two ways to ask for the tasks of a batch: about the channel of each, or for the names
//! of all channels that belong to tasks. The second is one short question, but the server looks at
//! every channel it has for it, whoever's that is. So it is asked while these are few, which the
//! server says once a second.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{Cmd, FromRedisValue, Pipeline, Value, cmd, from_redis_value};

use super::{RedisResults, store::client};
use crate::{clock, redis_connection::glob, result::Record};

/// How long the number of channels is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// The names of all channels are asked for while there are at most so many for each record: what
/// the question about one record costs.
const PER_RECORD: u64 = 4;

/// How many channels the server has, and when it said so. Behind a std mutex because a section is
/// one look or one assignment.
#[derive(Default)]
pub(super) struct Channels(Mutex<Option<(Instant, u64)>>);

impl Channels {
    fn known(&self) -> MutexGuard<'_, Option<(Instant, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, if the server has said so lately.
    fn count(&self, now: Instant) -> Option<u64> {
        let (said, count) = (*self.known())?;
        (now.saturating_duration_since(said) < BELIEVED).then_some(count)
    }

    /// Reads what `INFO` says.
    fn learn(&self, info: Option<Value>, now: Instant) {
        let info: Option<String> = read(info);
        let count = info.and_then(|info| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix("pubsub_channels:")?.trim().parse().ok())
        });
        *self.known() = count.map(|count| (now, count));
    }
}

/// What was asked, in this order.
pub(super) struct Question<'a> {
    /// The clients of the batch.
    clients: Vec<&'a str>,
    /// Whether the names of all channels of tasks were asked for, and not each record's.
    names: bool,
    /// Whether the number of channels was asked for.
    info: bool,
}

/// Who listens.
pub(super) struct Listeners<'a> {
    tasks: Tasks,
    /// How many listen on a client's channel; `None` when all may.
    clients: Option<HashMap<&'a str, u64>>,
}

/// The listeners on the channels of tasks.
enum Tasks {
    /// The server would not say, or somebody listens by a pattern: perhaps all.
    Any,
    /// How many, per record.
    Each(Vec<u64>),
    /// The channels that have some.
    Named(HashSet<String>),
}

impl RedisResults {
    /// Adds the questions who listens for these records.
    pub(super) fn ask_listeners<'a>(
        &self,
        ask: &mut Pipeline,
        records: &'a [Record],
    ) -> Question<'a> {
        let count = self.channels.count(clock::instant());
        let names = count.is_some_and(|count| count <= PER_RECORD * records.len() as u64);
        let mut clients: Vec<&str> = records.iter().filter_map(client).collect();
        clients.dedup();
        clients.sort_unstable();
        clients.dedup();
        ask.cmd("PUBSUB").arg("NUMPAT");
        let mut of_clients = cmd("PUBSUB");
        of_clients.arg("NUMSUB");
        for to in &clients {
            of_clients.arg(self.reply_channel(to));
        }
        ask.add_command(of_clients);
        if names {
            ask.cmd("PUBSUB").arg("CHANNELS").arg(glob(&self.key("")));
        } else {
            let mut each = Cmd::with_capacity(records.len() + 2, records.len() * 64);
            each.arg("PUBSUB").arg("NUMSUB");
            for record in records {
                each.arg(self.key(&record.id));
            }
            ask.add_command(each);
        }
        if count.is_none() {
            ask.cmd("INFO").arg("stats");
        }
        Question { clients, names, info: count.is_none() }
    }

    /// Reads the answers.
    pub(super) fn listeners<'a>(
        &self,
        question: Question<'a>,
        mut replies: impl Iterator<Item = Value>,
    ) -> Listeners<'a> {
        let patterns = read::<u64>(replies.next());
        let (clients, tasks) = (replies.next(), replies.next());
        if question.info {
            self.channels.learn(replies.next(), clock::instant());
        }
        if patterns != Some(0) {
            return Listeners { tasks: Tasks::Any, clients: None };
        }
        let tasks = if question.names {
            read(tasks).map(Tasks::Named)
        } else {
            counts(tasks).map(Tasks::Each)
        };
        let clients = counts(clients).map(|counts| question.clients.into_iter().zip(counts));
        Listeners { tasks: tasks.unwrap_or(Tasks::Any), clients: clients.map(Iterator::collect) }
    }
}

impl Listeners<'_> {
    /// Whether somebody may listen on the channel of the record at `index`.
    pub(super) fn has_task(&self, index: usize, key: impl FnOnce() -> String) -> bool {
        match &self.tasks {
            Tasks::Any => true,
            Tasks::Each(counts) => counts.get(index).is_none_or(|count| *count > 0),
            Tasks::Named(names) => !names.is_empty() && names.contains(&key()),
        }
    }

    /// Whether a client may listen.
    pub(super) fn has_client(&self, to: &str) -> bool {
        self.clients.as_ref().is_none_or(|clients| clients.get(to).is_none_or(|count| *count > 0))
    }
}

/// A reply that is not an error.
fn read<T: FromRedisValue>(reply: Option<Value>) -> Option<T> {
    from_redis_value(reply?.extract_error().ok()?).ok()
}

/// The numbers in channels and how many listen there.
fn counts(reply: Option<Value>) -> Option<Vec<u64>> {
    let pairs: Vec<(Value, u64)> = read(reply)?;
    Some(pairs.into_iter().map(|(_, count)| count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        result::redis::RedisResultOptions,
        url::{Endpoint, RedisUrl, TlsFiles},
    };

    fn store() -> RedisResults {
        let url = RedisUrl {
            endpoint: Endpoint::Unix("/none".into()),
            username: None,
            password: None,
            db: 0,
            tls: TlsFiles::default(),
        };
        RedisResults::new(&url, "unix:///none", &RedisResultOptions::default()).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn numbers(counts: &[i64]) -> Value {
        Value::Array(counts.iter().flat_map(|n| [text("channel"), Value::Int(*n)]).collect())
    }

    fn asked<'a>(names: bool, clients: &[&'a str]) -> Question<'a> {
        Question { clients: clients.to_vec(), names, info: false }
    }

    #[test]
    fn each_record_and_client_is_answered_for() {
        let replies = [Value::Int(0), numbers(&[2, 0]), numbers(&[0, 1])];
        let listeners = store().listeners(asked(false, &["a", "b"]), replies.into_iter());
        assert!(listeners.has_client("a") && !listeners.has_client("b"));
        let has = |at| listeners.has_task(at, || unreachable!("no name is needed"));
        assert!(!has(0) && has(1));
    }

    #[test]
    fn names_say_who_has_listeners() {
        let names = Value::Array(vec![text("celery-task-meta-1")]);
        let replies = [Value::Int(0), numbers(&[]), names];
        let listeners = store().listeners(asked(true, &[]), replies.into_iter());
        let has = |id: &str| listeners.has_task(0, || format!("celery-task-meta-{id}"));
        assert!(has("1") && !has("2"));
    }

    #[test]
    fn who_does_not_say_has_listeners() {
        let nothing = || Value::Array(Vec::new());
        let pattern = [Value::Int(1), numbers(&[0]), nothing()];
        for replies in
            [&pattern[..], &[], &[Value::Int(0)], &[Value::Nil, numbers(&[0]), nothing()]]
        {
            let listeners = store().listeners(asked(true, &["a"]), replies.iter().cloned());
            assert!(listeners.has_client("a"), "{replies:?}");
            assert!(listeners.has_task(0, || "celery-task-meta-1".into()), "{replies:?}");
        }
    }

    #[test]
    fn the_number_of_channels_is_believed_for_a_while() {
        let (channels, now) = (Channels::default(), clock::instant());
        assert_eq!(channels.count(now), None);
        channels.learn(Some(text("# Stats\r\npubsub_channels:7\r\nother:1\r\n")), now);
        assert_eq!(channels.count(now), Some(7));
        assert_eq!(channels.count(now + BELIEVED), None);
        channels.learn(Some(text("nothing")), now);
        assert_eq!(channels.count(now), None, "a server that will not say is asked for each");
    }
}
