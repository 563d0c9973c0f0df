//! One transaction as its jobs see it: the connection, numbers, queue names, and whether waiters
//! must be woken.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{CachedStatement, Connection, OptionalExtension};

use crate::clock::Millis;

/// What is known between transactions. Dropped when one is rolled back.
#[derive(Default)]
pub(super) struct Names {
    /// Queues are never deleted, so a number once read stays right.
    ids: HashMap<Arc<str>, i64>,
}

/// A transaction that is being filled.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    names: &'a mut Names,
    /// The counter as read in this transaction.
    last: Option<i64>,
    /// The counter as it must be written before the commit.
    taken: Option<i64>,
    notify: bool,
    /// Wall time at the start of the transaction.
    pub(crate) now: Millis,
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection, names: &'a mut Names, now: Millis) -> Self {
        Self { connection, names, last: None, taken: None, notify: false, now }
    }

    /// A statement, prepared once per connection. `sql` is a constant of the program.
    pub(crate) fn prepare(&self, sql: &'static str) -> rusqlite::Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    /// For what only reads.
    pub(crate) fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> rusqlite::Result<i64> {
        let last = match self.last {
            Some(last) => last,
            None => self.prepare("SELECT last FROM counter")?.query_row([], |row| row.get(0))?,
        };
        self.last = Some(last + 1);
        self.taken = self.last;
        Ok(last + 1)
    }

    /// The number of a queue, if it has ever existed.
    pub(crate) fn find_queue(&mut self, name: &str) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.names.ids.get(name) {
            return Ok(Some(*id));
        }
        let id = self
            .prepare("SELECT id FROM queue WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            self.names.ids.insert(Arc::from(name), id);
        }
        Ok(id)
    }

    /// The number of a queue, which exists after this.
    pub(crate) fn queue(&mut self, name: &Arc<str>) -> rusqlite::Result<i64> {
        if let Some(id) = self.find_queue(name)? {
            return Ok(id);
        }
        let id = self
            .prepare("INSERT INTO queue (name) VALUES (?1) RETURNING id")?
            .query_row([&**name], |row| row.get(0))?;
        self.names.ids.insert(name.clone(), id);
        Ok(id)
    }

    /// After the commit, wake everybody who waits for messages or results.
    pub(crate) fn notify(&mut self) {
        self.notify = true;
    }

    /// Writes what is left to write; whether to notify after the commit.
    pub(super) fn finish(self) -> rusqlite::Result<bool> {
        if let Some(last) = self.taken {
            self.prepare("UPDATE counter SET last = ?1")?.execute([last])?;
        }
        Ok(self.notify)
    }
}
