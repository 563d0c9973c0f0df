//! What was revoked, in the database file: for workers that start later.

use std::sync::Arc;

use rusqlite::Connection;

use crate::{broker::broadcast::REVOKED_MAX, clock::Millis, sqlite_store::Tx};

const ADD: &str = "INSERT INTO revoked (id, until) VALUES (?1, ?2)
     ON CONFLICT (id) DO UPDATE SET until = excluded.until";
const EXPIRE: &str = "DELETE FROM revoked WHERE until <= ?1";
const BOUND: &str = "DELETE FROM revoked WHERE id IN
     (SELECT id FROM revoked ORDER BY until DESC, id DESC LIMIT -1 OFFSET ?1)";
const ALL: &str = "SELECT id FROM revoked WHERE until > ?1 ORDER BY until, id";

/// Remembers these until then.
pub(super) fn add(tx: &mut Tx<'_>, ids: &[Arc<str>], until: Millis) -> rusqlite::Result<()> {
    tx.prepare(EXPIRE)?.execute([tx.now])?;
    let mut add = tx.prepare(ADD)?;
    for id in ids {
        add.execute((&**id, until))?;
    }
    drop(add);
    tx.prepare(BOUND)?.execute([REVOKED_MAX as i64]).map(drop)
}

/// All that is remembered.
pub(super) fn all(connection: &Connection, now: Millis) -> rusqlite::Result<Vec<Arc<str>>> {
    let mut all = connection.prepare_cached(ALL)?;
    all.query_map([now], |row| Ok(Arc::from(row.get_ref(0)?.as_str()?)))?.collect()
}
