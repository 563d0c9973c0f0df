//! Saying something to all by the database file.
//!
//! Each binding of a subscriber is a row with a lease, and what is said is written only when such a
//! row wants it, so that speaking to nobody costs one read. A subscriber reads what came after the
//! number that it has seen, woken as consumers are. What is said stays for [`LIFE_MS`] and is swept
//! by the next who speaks; whoever has not asked for so long has lost its lease, and learns that it
//! must subscribe again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, Row};
use serde_json::{Map, Value};

use crate::{
    broker::broadcast::{
        Binding, BroadcastMessage, Exchange, ExchangeType, Heard, Subscriber, WAITING_BYTES,
        WAITING_MAX,
    },
    clock::{self, Millis},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    sqlite_store::{Cost, Database, POLL_INTERVAL, Tx},
};

/// How long a subscriber that does not ask is still listening.
const LEASE_MS: Millis = 30_000;
/// When a lease is renewed, before its end.
const RENEW_MS: Millis = LEASE_MS / 2;
/// How long what was said stays: longer than any lease.
const LIFE_MS: Millis = LEASE_MS + 5_000;
/// Between two looks while others' commits come one after the other.
const PAUSE: Duration = Duration::from_millis(2);

const BINDINGS: &str = "SELECT DISTINCT exchange, kind, routing_key FROM binding WHERE until > ?1";
const BIND: &str = "INSERT INTO binding (subscriber, exchange, kind, routing_key, until) VALUES (?1, ?2, ?3, ?4, ?5)";
const UNBIND: &str = "DELETE FROM binding WHERE subscriber = ?1 OR until < ?2";
const RENEW: &str = "UPDATE binding SET until = ?2 WHERE subscriber = ?1 AND until > ?3";
const UNTIL: &str = "SELECT min(until) FROM binding WHERE subscriber = ?1";
const SAY: &str =
    "INSERT INTO said (number, at, exchange, kind, routing_key, headers, content_type, content_encoding, body)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const SWEEP: &str = "DELETE FROM said WHERE at < ?1";
const SINCE: &str = "SELECT number, exchange, kind, routing_key, headers, content_type, content_encoding, body, length(body)
     FROM said WHERE number > ?1 ORDER BY number DESC";

/// What stands for a type of exchange in the file.
pub(super) fn number_of(kind: ExchangeType) -> i64 {
    match kind {
        ExchangeType::Direct => 0,
        ExchangeType::Fanout => 1,
        ExchangeType::Topic => 2,
        ExchangeType::Headers => 3,
    }
}

/// The type of exchange that a number stands for.
pub(super) fn kind_of(number: i64) -> ExchangeType {
    match number {
        0 => ExchangeType::Direct,
        1 => ExchangeType::Fanout,
        3 => ExchangeType::Headers,
        _ => ExchangeType::Topic,
    }
}

/// An exchange and a routing key, in three columns from `first` on.
fn address(row: &Row<'_>, first: usize) -> rusqlite::Result<(Exchange, Arc<str>)> {
    let kind = kind_of(row.get(first + 1)?);
    let name: String = row.get(first)?;
    let key: String = row.get(first + 2)?;
    Ok((Exchange { name: name.into(), kind }, key.into()))
}

/// What everybody who listens wants.
pub(super) fn bindings(connection: &Connection, now: Millis) -> rusqlite::Result<Vec<Binding>> {
    let binding = |row: &Row<'_>| {
        address(row, 0).map(|(exchange, routing_key)| Binding { exchange, routing_key })
    };
    connection.prepare_cached(BINDINGS)?.query_map([now], binding)?.collect()
}

/// Writes the batch, in order, and wakes those who listen.
pub(super) fn say(tx: &mut Tx<'_>, batch: &[BroadcastMessage]) -> rusqlite::Result<()> {
    tx.prepare(SWEEP)?.execute([tx.now - LIFE_MS])?;
    let mut insert = tx.prepare(SAY)?;
    for message in batch {
        insert.execute((
            tx.number()?,
            tx.now,
            &*message.exchange.name,
            number_of(message.exchange.kind),
            &*message.routing_key,
            Value::from(message.headers.clone()).to_string(),
            &message.content_type,
            &message.content_encoding,
            &message.body[..],
        ))?;
    }
    tx.notify();
    Ok(())
}

/// What one look found.
struct Since {
    /// When the lease ends; `None` when there is none.
    until: Option<Millis>,
    /// The number of the newest that was said, if any was.
    newest: Option<i64>,
    heard: Heard,
}

/// What was said after `seen`, newest first until there is no room; the rest is lost.
fn since(connection: &Connection, s: &SqliteSubscriber) -> rusqlite::Result<Since> {
    let until = connection.prepare_cached(UNTIL)?.query_row([s.number], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(SINCE)?;
    let mut rows = statement.query([s.seen.load(Ordering::Acquire)])?;
    let (mut newest, mut heard, mut bytes) = (None, Heard::default(), 0);
    while let Some(row) = rows.next()? {
        newest = newest.max(Some(row.get(0)?));
        let (exchange, routing_key) = address(row, 1)?;
        let wants = |binding: &Binding| binding.is_for(&exchange, &routing_key);
        if !s.bindings.iter().any(wants) {
            continue;
        }
        bytes += row.get::<_, i64>(8)? as usize;
        let waiting = heard.messages.len();
        if heard.lost > 0 || waiting == WAITING_MAX || (waiting > 0 && bytes > WAITING_BYTES) {
            heard.lost += 1;
            continue;
        }
        let headers: String = row.get(4)?;
        heard.messages.push(BroadcastMessage {
            exchange,
            routing_key,
            headers: serde_json::from_str::<Map<_, _>>(&headers).unwrap_or_default(),
            content_type: row.get(5)?,
            content_encoding: row.get(6)?,
            body: row.get::<_, Vec<u8>>(7)?.into(),
        });
    }
    heard.messages.reverse();
    Ok(Since { until, newest, heard })
}

/// One who hears.
pub(super) struct SqliteSubscriber {
    database: Arc<Database>,
    bindings: Vec<Binding>,
    /// Its own number.
    number: i64,
    /// The number up to which it has heard all.
    seen: AtomicI64,
}

/// A few rows that need not survive the loss of power.
const COST: Cost = Cost { durable: false, publishes: false, rows: 2, bytes: 0 };

impl SqliteSubscriber {
    pub(super) async fn new(database: Arc<Database>, bindings: Vec<Binding>) -> Result<Self> {
        let rows = bindings.clone();
        let bind = move |tx: &mut Tx<'_>| {
            let number = tx.number()?;
            tx.prepare(UNBIND)?.execute([number, tx.now])?;
            for Binding { exchange, routing_key } in &rows {
                let kind = number_of(exchange.kind);
                let row = (number, &*exchange.name, kind, &**routing_key, tx.now + LEASE_MS);
                tx.prepare(BIND)?.execute(row)?;
            }
            Ok(number)
        };
        let number = database.write_async(COST, bind).await?;
        Ok(Self { database, bindings, number, seen: AtomicI64::new(number) })
    }

    /// Looks once; `None` when nothing was said.
    async fn look(&self) -> Result<Option<Heard>> {
        let Since { until, newest, heard } = self.database.read(|c| since(c, self))?;
        let now = clock::wall_ms();
        let left = until.map_or(0, |until| until - now);
        if left <= 0 {
            let text = "what was said to all was not asked for in time, or the database was replaced; subscribe again";
            return Err(Error::new(ErrorKind::Connection, text));
        }
        if left < RENEW_MS {
            let number = self.number;
            let renew = move |tx: &mut Tx<'_>| {
                tx.prepare(RENEW)?.execute([number, tx.now + LEASE_MS, tx.now]).map(drop)
            };
            self.database.write_async(COST, renew).await?;
        }
        if let Some(newest) = newest {
            // Nothing is awaited between this and the answer.
            self.seen.store(newest, Ordering::Release);
        }
        Ok(Some(heard).filter(|heard| !heard.messages.is_empty()))
    }

    async fn receive(&self) -> Result<Heard> {
        let notifier = self.database.notifier();
        loop {
            let waiter = notifier.waiter();
            // Armed before the look, so that no commit falls between the look and the wait.
            let change = notifier.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            if let Some(heard) = self.look().await? {
                return Ok(heard);
            }
            if tokio::time::timeout(POLL_INTERVAL, change).await.is_err() {
                notifier.watch();
                continue;
            }
            drop(waiter);
            if let Some(heard) = self.look().await? {
                return Ok(heard);
            }
            // Somebody else's commit, and others follow it.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Subscriber for SqliteSubscriber {
    fn receive(&self) -> BoxFuture<'_, Result<Heard>> {
        Box::pin(self.receive())
    }
}

impl Drop for SqliteSubscriber {
    fn drop(&mut self) {
        let number = self.number;
        let unbind = move |tx: &mut Tx<'_>| tx.prepare(UNBIND)?.execute([number, tx.now]).map(drop);
        // Without it the lease ends.
        let _ = self.database.write(COST, clock::instant() + PAUSE * 500, unbind);
    }
}
