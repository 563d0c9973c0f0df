//! Opening a connection: everything that must be true of one before it is used.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    failure::{self, describe, is_busy},
    schema::{self, Found},
    space,
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

/// How long SQLite itself waits for a lock outside the group commits, where locks are held for
/// moments.
const BUSY: Duration = Duration::from_millis(250);

/// Pages in the log before a commit carries them over into the file: 16 MiB. More makes a hot
/// page's way there rarer; less makes the log shorter.
const CHECKPOINT_PAGES: u64 = 4_000;

/// On a small disk the log is a quarter of what stays free there.
fn checkpoint_pages(path: &Path) -> u64 {
    let small = space::disk(path).map(|(_, total)| space::reserve(total) / 4 / space::PAGE);
    small.map_or(CHECKPOINT_PAGES, |small| small.clamp(1, CHECKPOINT_PAGES))
}

/// The connection that writes, on a file that is ours and has its tables.
pub(super) fn writer(path: &Path, deadline: Instant) -> Result<Connection> {
    retry(path, deadline, || {
        let connection = open(path)?;
        if connection.is_readonly("main").map_err(Attempt::Sqlite)? {
            return Err(Attempt::Refused(failure::read_only(path)));
        }
        prepare(path, &connection)?;
        // Group commits wait for the lock themselves, because SQLite's own waiting is coarse.
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "wal_autocheckpoint", checkpoint_pages(path) as i64)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        Ok(connection)
    })
}

/// A connection that reads. The writer has been open before: the tables are there.
pub(super) fn reader(path: &Path, deadline: Instant) -> Result<Connection> {
    retry(path, deadline, || {
        let connection = open(path)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -1_024)?;
        Ok(connection)
    })
}

/// Why one attempt to open failed.
enum Attempt {
    Sqlite(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for Attempt {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn retry(
    path: &Path,
    deadline: Instant,
    attempt: impl Fn() -> Result<Connection, Attempt>,
) -> Result<Connection> {
    loop {
        match attempt() {
            Ok(connection) => return Ok(connection),
            Err(Attempt::Refused(error)) => return Err(error),
            // SQLite has already waited.
            Err(Attempt::Sqlite(error)) if is_busy(&error) && clock::instant() < deadline => {}
            Err(Attempt::Sqlite(error)) => return Err(describe(path, &error)),
        }
    }
}

fn open(path: &Path) -> Result<Connection, Attempt> {
    // One thread at a time uses a connection, so SQLite's own mutexes are not needed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

/// Makes sure that the file is ours, in WAL mode, and has its tables.
fn prepare(path: &Path, connection: &Connection) -> Result<(), Attempt> {
    // Looked at before anything is changed: a foreign file stays as it was.
    let version = accept(path, &schema::look(connection)?)?;
    enter_wal(path, connection)?;
    if version == schema::VERSION {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Another process may have been faster.
    let made = schema::look(connection).map_err(Attempt::Sqlite).and_then(|found| {
        let version = accept(path, &found)?;
        Ok(schema::bring_forward(connection, version)?)
    });
    match made.and_then(|()| Ok(connection.execute_batch("COMMIT")?)) {
        Ok(()) => Ok(()),
        Err(error) => {
            // The connection is dropped with its transaction either way.
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

/// The version of the tables; an error when the file is not for us.
fn accept(path: &Path, found: &Found) -> Result<usize, Attempt> {
    let at = path.display();
    let message = match found {
        Found::Version(version) => return Ok(*version),
        Found::Newer(version) => format!(
            "`{at}` has tables of version {version}, expected at most version {}; use a taskcore as new as the one that wrote it, or another file",
            schema::VERSION
        ),
        Found::Foreign => {
            format!(
                "`{at}` is a database of another program, expected one made by taskcore or a path where nothing is yet; choose another path"
            )
        }
    };
    Err(Attempt::Refused(Error::new(ErrorKind::Storage, message)))
}

fn enter_wal(path: &Path, connection: &Connection) -> Result<(), Attempt> {
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let message = format!(
        "`{}` cannot use a write-ahead log (journal mode is `{mode}`), expected a local file system with shared memory; choose a path on one",
        path.display()
    );
    Err(Attempt::Refused(Error::new(ErrorKind::Storage, message)))
}
