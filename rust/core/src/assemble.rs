//! From a URL to a broker and a result store: the only place that names adapters.
//!
//! A scheme is known here or refused here, with the list of those that are. What an adapter understands of the rest of the URL and of
//! the options is its own business.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    broker::{
        Broker,
        memory::MemoryBroker,
        redis::{RedisBroker, RedisOptions},
        sqlite::SqliteBroker,
        url::{BrokerUrl, RedisUrl, Target},
    },
    error::{Error, ErrorKind, Result},
    result::{
        ResultStore,
        memory::MemoryResults,
        redis::{RedisResultOptions, RedisResults},
        sqlite::SqliteResults,
    },
};

/// Options beside the URL, by name: `broker_transport_options` and `result_backend_transport_options` as text.
pub type Options = BTreeMap<String, String>;

/// Celery's option that is put before every key.
const KEYPREFIX: &str = "global_keyprefix";

/// The schemes of this version.
const KNOWN: &str =
    "`sqlite://`, `memory://`, `redis://`, `rediss://`, `redis+socket://` or `unix://`";

/// What Celery or the design knows and this version does not do.
const LATER: [&str; 12] = [
    "amqp",
    "amqps",
    "pyamqp",
    "postgresql",
    "postgres",
    "sqs",
    "sentinel",
    "mongodb",
    "rpc",
    "db+sqlite",
    "db+postgresql",
    "cache",
];

/// The broker that `url` names. Nothing is connected yet.
pub fn broker(url: &str, options: &Options) -> Result<Arc<dyn Broker>> {
    match scheme(url)? {
        "memory" => {
            only(options, &[], "memory")?;
            Ok(Arc::new(MemoryBroker::new(url)))
        }
        "sqlite" => {
            let (path, durability) = file(url, options)?;
            Ok(Arc::new(SqliteBroker::new(url, &path, durability.as_deref())?))
        }
        "redis" | "rediss" | "redis+socket" | "unix" => {
            only(options, &[KEYPREFIX], "redis")?;
            let (target, redacted) = redis(url)?;
            let options = RedisOptions { global_keyprefix: text(options, KEYPREFIX) };
            Ok(Arc::new(RedisBroker::new(&target, &redacted, &options)?))
        }
        other => Err(unknown(other, "broker")),
    }
}

/// The result store that `url` names. Nothing is connected yet.
pub fn results(url: &str, options: &Options) -> Result<Arc<dyn ResultStore>> {
    match scheme(url)? {
        "memory" | "cache+memory" => {
            only(options, &[], "memory")?;
            Ok(Arc::new(MemoryResults::new(url)))
        }
        "sqlite" => {
            let (path, durability) = file(url, options)?;
            Ok(Arc::new(SqliteResults::new(url, &path, durability.as_deref())?))
        }
        "redis" | "rediss" | "redis+socket" | "unix" => {
            only(options, &[KEYPREFIX], "redis")?;
            let (target, redacted) = redis(url)?;
            let options = RedisResultOptions { global_keyprefix: text(options, KEYPREFIX) };
            Ok(Arc::new(RedisResults::new(&target, &redacted, &options)?))
        }
        other => Err(unknown(other, "result store")),
    }
}

/// The server that a Redis URL names, and the URL with its password hidden.
fn redis(url: &str) -> Result<(RedisUrl, String)> {
    let parsed = BrokerUrl::parse(url)?;
    match parsed.target {
        Target::Redis(target) => Ok((*target, parsed.redacted)),
        _ => Err(Error::new(
            ErrorKind::Internal,
            format!("`{}` is not a URL of redis", parsed.redacted),
        )),
    }
}

fn text(options: &Options, name: &str) -> String {
    options.get(name).cloned().unwrap_or_default()
}

/// What stands before `://`.
fn scheme(url: &str) -> Result<&str> {
    url.split_once("://").map(|(scheme, _)| scheme).filter(|s| !s.is_empty()).ok_or_else(|| {
        // The text may be a password with a typing error around it: its length is all that is shown.
        let message =
            format!("a URL of {} characters has no scheme, expected {KNOWN}", url.chars().count());
        Error::new(ErrorKind::Config, message)
    })
}

/// Path and durability from a `sqlite:///` URL.
fn file(url: &str, options: &Options) -> Result<(PathBuf, Option<String>)> {
    only(options, &["durability"], "sqlite")?;
    let Target::Sqlite { path, params } = BrokerUrl::parse(url)?.target else {
        return Err(Error::new(ErrorKind::Internal, format!("`{url}` is not a URL of sqlite")));
    };
    let mut durability = options.get("durability").cloned();
    for (name, value) in params {
        if name != "durability" {
            let message = format!(
                "unknown parameter `{name}` in `{url}`, expected `durability=full` or `durability=normal`"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        durability = Some(value);
    }
    Ok((path, durability))
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

fn unknown(scheme: &str, what: &str) -> Error {
    if LATER.contains(&scheme) {
        return Error::new(
            ErrorKind::Unsupported,
            format!("`{scheme}://` is not supported in this version as a {what}, use {KNOWN}"),
        );
    }
    Error::new(
        ErrorKind::Config,
        format!("unknown scheme `{scheme}` for a {what}, expected {KNOWN}"),
    )
}
