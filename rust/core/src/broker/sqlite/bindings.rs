//! Exchanges in the file: a row per binding, which says what its queue receives.
//!
//! A queue that goes with its consumer is bound as long as the lease of that one stands, so that
//! nothing is kept for a worker that will not come back.

use std::sync::Arc;

use rusqlite::{Connection, Row};
use serde_json::{Map, Value};

use super::{
    broadcast::{kind_of, number_of},
    operate,
};
use crate::{
    broker::{
        Outgoing, QueueBinding, QueueDeclaration, broadcast::ExchangeType, declaration::receives,
    },
    sqlite_store::Tx,
};

const FIND: &str = "SELECT 1 FROM queue_binding
    WHERE exchange = ?1 AND queue = ?2 AND routing_key = ?3 AND arguments = ?4 AND kind = ?5";
const BIND: &str =
    "INSERT INTO queue_binding (exchange, queue, routing_key, arguments, kind, holder)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET kind = ?5, holder = ?6";
const BOUND: &str = "SELECT queue, kind, routing_key, arguments FROM queue_binding b
    WHERE exchange = ?1 AND (holder IS NULL OR EXISTS (SELECT 1 FROM lease l WHERE l.holder = b.holder))
    ORDER BY queue";
const LEFT: &str = "SELECT DISTINCT queue FROM queue_binding WHERE holder = ?1";
const UNBIND: &str = "DELETE FROM queue_binding WHERE holder = ?1";

/// Bindings that mean anything: to the default exchange a queue is bound by its name.
fn named(queue: &QueueDeclaration) -> impl Iterator<Item = &QueueBinding> {
    let named = |binding: &&QueueBinding| !binding.exchange.name.is_empty();
    queue.bindings.iter().filter(named)
}

fn arguments(binding: &QueueBinding) -> String {
    Value::Object(binding.arguments.clone()).to_string()
}

/// Those of these queues that the file does not know, or knows otherwise.
pub(super) fn unknown(
    connection: &Connection,
    queues: &[Arc<QueueDeclaration>],
) -> rusqlite::Result<Vec<Arc<QueueDeclaration>>> {
    let mut find = connection.prepare_cached(FIND)?;
    let mut new = Vec::new();
    for queue in queues.iter().filter(|queue| !queue.no_declare) {
        for binding in named(queue) {
            let (exchange, key) = (&*binding.exchange.name, &*binding.routing_key);
            let kind = number_of(binding.exchange.kind);
            if !find.exists((exchange, &*queue.name, key, arguments(binding), kind))? {
                new.push(Arc::clone(queue));
                break;
            }
        }
    }
    Ok(new)
}

/// Binds queues, for as long as the lease of a holder stands if one is named.
pub(super) fn declare(
    tx: &mut Tx<'_>,
    queues: &[Arc<QueueDeclaration>],
    holder: Option<i64>,
) -> rusqlite::Result<()> {
    for queue in queues {
        tx.queue(&queue.name)?;
        for binding in named(queue) {
            let (exchange, key) = (&*binding.exchange.name, &*binding.routing_key);
            let kind = number_of(binding.exchange.kind);
            let of = (exchange, &*queue.name, key, arguments(binding), kind, holder);
            tx.prepare(BIND)?.execute(of)?;
        }
    }
    Ok(())
}

/// The queues that receive a message, each once.
pub(super) fn receivers(
    connection: &Connection,
    message: &Outgoing,
) -> rusqlite::Result<Vec<Arc<str>>> {
    let (headers, properties) = (&message.message.headers, &message.message.properties);
    let mut bound = connection.prepare_cached(BOUND)?;
    let mut queues: Vec<Arc<str>> = Vec::new();
    for row in bound.query_map([&properties.exchange], read)? {
        let (queue, kind, key, arguments) = row?;
        let wanted =
            receives(kind, (&key, &arguments), &properties.routing_key, &headers.rare().extra);
        if wanted && queues.last() != Some(&queue) {
            queues.push(queue);
        }
    }
    Ok(queues)
}

type Bound = (Arc<str>, ExchangeType, String, Map<String, Value>);

fn read(row: &Row<'_>) -> rusqlite::Result<Bound> {
    let arguments: String = row.get(3)?;
    let arguments = serde_json::from_str(&arguments).unwrap_or_default();
    Ok((row.get(0)?, kind_of(row.get(1)?), row.get(2)?, arguments))
}

/// Takes back what was bound for a holder, with what lies in its queues.
pub(super) fn forget(tx: &mut Tx<'_>, holder: i64) -> rusqlite::Result<()> {
    let queues: Vec<String> = tx
        .prepare(LEFT)?
        .query_map([holder], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for queue in &queues {
        operate::purge(tx, queue)?;
    }
    tx.prepare(UNBIND)?.execute([holder]).map(drop)
}
