//! From a URL to a broker and a result store: the only place that names adapters.
//!
//! `url.rs` reads the URL; here its target meets its adapter and the options that this one
//! knows. Other options are refused, because a misspelt one that is ignored is worse than an error.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    broker::{
        Adapter, QueueOrder,
        amqp::{AmqpBroker, AmqpOptions},
        memory::MemoryBroker,
        redis::{RedisBroker, RedisOptions},
        sqlite::SqliteBroker,
    },
    error::{Error, ErrorKind, Result},
    result::{
        ResultStore,
        memory::MemoryResults,
        redis::{RedisResultOptions, RedisResults},
        sqlite::SqliteResults,
    },
    url::{BrokerUrl, Target},
};

/// Options beside the URL, by name: `broker_transport_options` and
/// `result_backend_transport_options` as text.
pub type Options = BTreeMap<String, String>;

/// Celery's option that is put before every key.
const KEYPREFIX: &str = "global_keyprefix";

/// How much a commit to a database file survives.
const DURABILITY: &str = "durability";

/// The type of the queues in which delayed messages wait in RabbitMQ.
const DELAY_QUEUE_TYPE: &str = "native_delayed_delivery_queue_type";

/// kombu's option: how the queues of a worker share it. Every broker knows it.
const QUEUE_ORDER: &str = "queue_order_strategy";

/// The order in which a worker serves `queues`, which are sorted by name where the option says so.
///
/// # Errors
/// `Config` for a strategy that does not exist.
pub fn queue_order(options: &Options, queues: &mut [Arc<str>]) -> Result<QueueOrder> {
    match options.get(QUEUE_ORDER).map(String::as_str) {
        None | Some("round_robin") => Ok(QueueOrder::RoundRobin),
        Some("priority") => Ok(QueueOrder::Strict),
        Some("sorted") => {
            queues.sort_unstable();
            Ok(QueueOrder::Strict)
        }
        Some(other) => Err(Error::new(
            ErrorKind::Config,
            format!(
                "unknown `{QUEUE_ORDER}` `{other}`, expected `round_robin`, `priority` or `sorted`"
            ),
        )),
    }
}

/// The broker that `url` names, with all of its ports; callers take the one that they need. Nothing
/// is connected yet.
pub fn broker(url: &str, options: &Options) -> Result<Arc<dyn Adapter>> {
    queue_order(options, &mut [])?;
    let mut options = options.clone();
    options.remove(QUEUE_ORDER);
    let options = &options;
    let BrokerUrl { target, redacted } = BrokerUrl::parse(url)?;
    match target {
        Target::Memory { name } => {
            only(options, &[], "memory")?;
            Ok(Arc::new(MemoryBroker::new(&redacted, &name)))
        }
        Target::Sqlite { path, params } => {
            let durability = durability(params, options, &redacted)?;
            Ok(Arc::new(SqliteBroker::new(&redacted, &path, durability.as_deref())?))
        }
        Target::Redis(target) => {
            only(options, &[KEYPREFIX], "redis")?;
            let options = RedisOptions { global_keyprefix: text(options, KEYPREFIX) };
            Ok(Arc::new(RedisBroker::new(&target, &redacted, &options)?))
        }
        Target::Amqp(urls) => {
            only(options, &[DELAY_QUEUE_TYPE], "amqp")?;
            let delay_queue_type =
                options.get(DELAY_QUEUE_TYPE).map_or("quorum", String::as_str).to_owned();
            Ok(Arc::new(AmqpBroker::new(urls, &redacted, &AmqpOptions { delay_queue_type })?))
        }
    }
}

/// The result store that `url` names. Nothing is connected yet.
pub fn results(url: &str, options: &Options) -> Result<Arc<dyn ResultStore>> {
    // Celery's name for results in the process.
    let url = url.strip_prefix("cache+").filter(|u| u.starts_with("memory://")).unwrap_or(url);
    let BrokerUrl { target, redacted } = BrokerUrl::parse(url)?;
    match target {
        Target::Memory { name } => {
            only(options, &[], "memory")?;
            Ok(Arc::new(MemoryResults::new(&redacted, &name)))
        }
        Target::Sqlite { path, params } => {
            let durability = durability(params, options, &redacted)?;
            Ok(Arc::new(SqliteResults::new(&redacted, &path, durability.as_deref())?))
        }
        Target::Redis(target) => {
            only(options, &[KEYPREFIX], "redis")?;
            let options = RedisResultOptions { global_keyprefix: text(options, KEYPREFIX) };
            Ok(Arc::new(RedisResults::new(&target, &redacted, &options)?))
        }
        Target::Amqp(_) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "results cannot be stored in `{redacted}`, expected a store such as `redis://` or `sqlite:///path`"
            ),
        )),
    }
}

fn text(options: &Options, name: &str) -> String {
    options.get(name).cloned().unwrap_or_default()
}

/// The durability of a database file: the URL's, else the option's.
fn durability(
    params: Vec<(String, String)>,
    options: &Options,
    url: &str,
) -> Result<Option<String>> {
    only(options, &[DURABILITY], "sqlite")?;
    let mut durability = options.get(DURABILITY).cloned();
    for (name, value) in params {
        if name != DURABILITY {
            let message = format!(
                "unknown parameter `{name}` in `{url}`, expected `durability=full` or `durability=normal`"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        durability = Some(value);
    }
    Ok(durability)
}

/// Refuses options that the adapter does not know.
fn only(options: &Options, known: &[&str], adapter: &str) -> Result<()> {
    let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let expected = if known.is_empty() {
        "none".to_owned()
    } else {
        known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
    };
    Err(Error::new(
        ErrorKind::Config,
        format!("unknown option `{name}` for `{adapter}://`, expected {expected}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, options: &[(&str, &str)]) -> (ErrorKind, String) {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let error = broker(url, &options).err().expect("refused");
        assert_eq!(results(url, &options).err().expect("refused").kind(), error.kind());
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_order_of_queues_is_an_option_of_every_broker() {
        let order = |strategy: Option<&str>| {
            let options = strategy.map(|s| (QUEUE_ORDER.to_owned(), s.to_owned()));
            let options = options.into_iter().collect();
            broker("memory://", &options)?;
            let mut queues: [Arc<str>; 3] = ["b".into(), "c".into(), "a".into()];
            Ok((queue_order(&options, &mut queues)?, queues.concat()))
        };
        let (turns, strict) = (QueueOrder::RoundRobin, QueueOrder::Strict);
        let found = [None, Some("round_robin"), Some("priority"), Some("sorted")].map(order);
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        let of = |order, queues: &str| (order, queues.to_owned());
        assert_eq!(
            found,
            [of(turns, "bca"), of(turns, "bca"), of(strict, "bca"), of(strict, "abc")]
        );
        let error: Error = order(Some("fifo")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("`fifo`, expected `round_robin`"), "{error}");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        let (kind, text) = refused("bogus://x", &[]);
        assert_eq!(kind, ErrorKind::Config);
        assert!(text.contains("`bogus`") && text.contains("sqlite://"), "{text}");
        let (kind, text) = refused("sqs://guest:secret@host//", &[]);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(text.contains("this version") && !text.contains("secret"), "{text}");
        let (kind, text) = refused("memory://", &[("durability", "full")]);
        assert_eq!(kind, ErrorKind::Config);
        assert!(text.contains("`durability`"), "{text}");
        let (kind, text) = refused("sqlite:///x.db", &[("durabilty", "full")]);
        assert_eq!(kind, ErrorKind::Config);
        assert!(text.contains("`durabilty`") && text.contains("`durability`"), "{text}");
        let (_, text) = refused("sqlite:///x.db?durability=none", &[]);
        assert!(text.contains("`none`") && text.contains("`normal`"), "{text}");
        let (_, text) = refused("sqlite:///x.db?mode=ro", &[]);
        assert!(text.contains("`mode`"), "{text}");
        refused("sqlite://", &[]);
        refused("no url at all", &[]);
    }

    #[test]
    fn what_is_known_opens_nothing_yet() {
        let options = Options::from([("durability".to_owned(), "normal".to_owned())]);
        for url in ["sqlite:///no-such-directory/x.db", "sqlite:////no-such-directory/x.db"] {
            assert_eq!(broker(url, &options).expect("known").url(), url);
            assert_eq!(results(url, &options).expect("known").url(), url);
        }
        for url in ["memory://", "memory://name", "redis://:secret@localhost/1"] {
            assert!(!broker(url, &Options::new()).expect("known").url().contains("secret"));
            assert!(!results(url, &Options::new()).expect("known").url().contains("secret"));
        }
        assert!(results("cache+memory://", &Options::new()).is_ok());
    }
}
