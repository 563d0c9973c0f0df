//! The tables, and which versions of them this code understands.
//!
//! A message is written once, into `message`, under a number that grows with every publish. Where
//! it is, is said by an entry of a few bytes in one of five other tables, so moving a message moves
//! no body:
//!
//! * `ready`, `suspect` (what is ready and suspect) and `held` by *key*: queue, priority and number in one integer
//!   ([`crate::broker::sqlite::key`]), so the table is its own index, a lane is a range, its head
//!   is the smallest key, and putting a message back in its old place is an insertion;
//! * `due` by queue and time, with a label made of the task id to cancel by;
//! * `dead` by the order of parking.
//!
//! `counter` is the source of all numbers: messages, dead letters; holders are random. `lease` has
//! a row per live worker. `result` is found by a hash of the task id, because an index of
//! 36-character random ids would be three times the size. `joined` has a row per group or chord that
//! is counted, `member` one per member that has ended. `said` has what was said to all in the last
//! seconds, `binding` a row per binding of those who listen. `schedule` has a row per app with periodic tasks,
//! `periodic` one per task.
//! `queue_binding` has a row per binding of a queue to an exchange.
//! `revoked` has the ids of tasks that are to be dropped when they come.
//!
//! A file is brought forward when it is opened to be written. A step only adds: a program of an
//! older version that has the file open meanwhile goes on with what it knows.

use rusqlite::Connection;

/// `PRAGMA application_id` of a file made by taskcore: "tcor".
pub(super) const APPLICATION: i32 = 0x7463_6f72;

/// Step `n` brings a file from version `n` to `n + 1`; a new file takes all of them, so that it is
/// the same as one that was brought forward. Files have taken these steps, so none is ever edited.
const STEPS: [&str; 10] = [
    "
CREATE TABLE counter (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
INSERT INTO counter VALUES (1, 0);
CREATE TABLE queue (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE message (number INTEGER PRIMARY KEY, redeliveries INTEGER NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE ready (key INTEGER PRIMARY KEY);
CREATE TABLE held (key INTEGER PRIMARY KEY, holder INTEGER NOT NULL);
CREATE TABLE due (queue INTEGER NOT NULL, at INTEGER NOT NULL, key INTEGER NOT NULL, label INTEGER NOT NULL,
    PRIMARY KEY (queue, at, key)) WITHOUT ROWID;
CREATE INDEX due_label ON due (label);
CREATE TABLE dead (number INTEGER PRIMARY KEY, queue INTEGER NOT NULL, key INTEGER NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX dead_queue ON dead (queue, number);
CREATE TABLE lease (holder INTEGER PRIMARY KEY, epoch TEXT NOT NULL, until INTEGER NOT NULL);
CREATE TABLE result (number INTEGER PRIMARY KEY, hash INTEGER NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, expires INTEGER,
    document BLOB NOT NULL);
CREATE INDEX result_hash ON result (hash);
CREATE INDEX result_expires ON result (expires) WHERE expires IS NOT NULL;
",
    // By which of its holder's claims a message was taken.
    "ALTER TABLE held ADD COLUMN claim INTEGER NOT NULL DEFAULT 0",
    // Whether a worker was lost that held it; whether its holder says that it has begun.
    "
ALTER TABLE message ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0;
ALTER TABLE held ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
",
    // Groups and chords. A size of NULL is not declared yet; `token` has the claim until `claimed`.
    "
CREATE TABLE joined (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, size INTEGER, ended INTEGER NOT NULL DEFAULT 0, body BLOB,
    token TEXT, claimed INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0, expires INTEGER);
CREATE INDEX joined_expires ON joined (expires) WHERE expires IS NOT NULL;
CREATE TABLE member (joined INTEGER NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, result BLOB NOT NULL,
    PRIMARY KEY (joined, place, id)) WITHOUT ROWID;
",
    // How many members were added while others ran. `joined.body` is not used any more.
    "ALTER TABLE joined ADD COLUMN added INTEGER NOT NULL DEFAULT 0",
    // Ready messages that are suspect, apart from the others, so that each are claimed by their own
    // measure. Those of before stay where they are.
    "CREATE TABLE suspect (key INTEGER PRIMARY KEY)",
    // What was said to all, for a while, and who listens.
    "
CREATE TABLE said (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, exchange TEXT NOT NULL, kind INTEGER NOT NULL, routing_key TEXT NOT NULL,
    headers TEXT NOT NULL, content_type TEXT NOT NULL, content_encoding TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX said_at ON said (at);
CREATE TABLE binding (number INTEGER PRIMARY KEY, subscriber INTEGER NOT NULL, exchange TEXT NOT NULL, kind INTEGER NOT NULL,
    routing_key TEXT NOT NULL, until INTEGER NOT NULL);
CREATE INDEX binding_subscriber ON binding (subscriber);
",
    // Periodic tasks. `done` is the last due time that is done with, in microseconds.
    "
CREATE TABLE schedule (name TEXT PRIMARY KEY, revision INTEGER NOT NULL DEFAULT 0, leader TEXT, until INTEGER) WITHOUT ROWID;
CREATE TABLE periodic (schedule TEXT NOT NULL, name TEXT NOT NULL, definition TEXT NOT NULL, done INTEGER NOT NULL,
    runs INTEGER NOT NULL DEFAULT 0, sent_at INTEGER, paused INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (schedule, name)) WITHOUT ROWID;
",
    // What was revoked, for workers that start later.
    "
CREATE TABLE revoked (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX revoked_until ON revoked (until);
",
    // Which queue receives what is published to an exchange; of `holder`, as long as its lease stands.
    "
CREATE TABLE queue_binding (number INTEGER PRIMARY KEY, exchange TEXT NOT NULL, queue TEXT NOT NULL, routing_key TEXT NOT NULL,
    arguments TEXT NOT NULL, kind INTEGER NOT NULL, holder INTEGER, UNIQUE (exchange, queue, routing_key, arguments));
CREATE INDEX queue_binding_holder ON queue_binding (holder) WHERE holder IS NOT NULL;
",
];

/// `PRAGMA user_version` after all steps.
pub(super) const VERSION: usize = STEPS.len();

/// What a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Ours, of that version; an empty file is of version 0.
    Version(usize),
    /// Ours, of a version that this code does not know.
    Newer(i32),
    /// Somebody else's.
    Foreign,
}

/// Looks what the file is, in one snapshot: another process may be making the tables between two of
/// the reads.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Found> {
    if !connection.is_autocommit() {
        return look_within(connection);
    }
    let snapshot = connection.unchecked_transaction()?;
    let found = look_within(&snapshot)?;
    snapshot.commit()?;
    Ok(found)
}

fn look_within(connection: &Connection) -> rusqlite::Result<Found> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application == APPLICATION {
        let known = usize::try_from(version).ok().filter(|version| (1..=VERSION).contains(version));
        return Ok(known.map_or(Found::Newer(version), Found::Version));
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(if application == 0 && version == 0 && tables == 0 {
        Found::Version(0)
    } else {
        Found::Foreign
    })
}

/// Takes the steps from version `from` on, inside the transaction that the caller has begun.
pub(super) fn bring_forward(connection: &Connection, from: usize) -> rusqlite::Result<()> {
    for step in &STEPS[from..] {
        connection.execute_batch(step)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", VERSION as i64)
}
