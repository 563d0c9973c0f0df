//! Group commit, failures and their sentences. Forks have a test binary of their own.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};

use super::*;

fn soon() -> Instant {
    clock::instant() + Duration::from_secs(10)
}

fn database() -> (tempfile::TempDir, Arc<Database>) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::shared(&dir.path().join("x.db"));
    (dir, database)
}

/// Adds a queue of that name.
fn add(tx: &mut Tx<'_>, name: &str) -> rusqlite::Result<i64> {
    tx.queue(&Arc::from(name))
}

fn names(database: &Database) -> Vec<String> {
    let read = |connection: &Connection| {
        connection
            .prepare("SELECT name FROM queue ORDER BY id")?
            .query_map([], |r| r.get(0))?
            .collect()
    };
    database.read(read).unwrap()
}

/// How many jobs wait for a group.
fn pending(database: &Database) -> usize {
    database.connections.lock().pending.len()
}

/// A transaction of another process.
fn lock(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn a_failure_is_answered_to_the_one_who_caused_it() {
    let (dir, database) = database();
    database.write(Cost::default(), soon(), |tx| add(tx, "first")).unwrap();
    let other = lock(&dir.path().join("x.db"));
    std::thread::scope(|scope| {
        let write = |name: &'static str| {
            let database = &database;
            scope.spawn(move || {
                database.write(Cost::default(), soon(), move |tx| {
                    add(tx, name)?;
                    if name == "bad" { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
                })
            })
        };
        let all = ["a", "b", "bad", "c", "d"].map(|name| (name, write(name)));
        // One waits for the lock; the others gather behind it.
        while pending(&database) < 4 {
            std::thread::yield_now();
        }
        other.execute_batch("COMMIT").unwrap();
        for (name, thread) in all {
            assert_eq!(thread.join().unwrap().is_err(), name == "bad", "{name}");
        }
    });
    let mut names = names(&database);
    names.sort();
    assert_eq!(names, ["a", "b", "c", "d", "first"]);
}

/// Starts a job on the writer thread that adds a queue of that name, then does what `and` says.
fn start(
    database: &Arc<Database>,
    name: &'static str,
    mut and: impl FnMut() -> rusqlite::Result<()> + Send + 'static,
) -> tokio::task::JoinHandle<Result<()>> {
    let database = database.clone();
    let run = move |tx: &mut Tx<'_>| {
        add(tx, name)?;
        and()
    };
    tokio::spawn(async move { database.write_async(Cost::default(), run).await })
}

/// Waits until so many jobs wait for a group.
async fn gathered(database: &Database, count: usize) {
    while pending(database) != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_meets_a_lock_after_the_failure_of_another_is_tried_again() {
    let (dir, database) = database();
    database.write(Cost::default(), soon(), |tx| add(tx, "first")).unwrap();
    let other = lock(&dir.path().join("x.db"));
    let early = start(&database, "early", || Ok(()));
    tokio::task::yield_now().await;
    gathered(&database, 0).await;
    // The others gather behind it; one fails, and the other is tried alone, when it finds the file
    // locked.
    let mut runs = 0;
    let patient = start(&database, "patient", move || {
        runs += 1;
        let busy = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None);
        if runs == 2 { Err(busy) } else { Ok(()) }
    });
    tokio::task::yield_now().await;
    let bad = start(&database, "bad", || Err(rusqlite::Error::InvalidQuery));
    gathered(&database, 2).await;
    other.execute_batch("COMMIT").unwrap();
    assert!(early.await.unwrap().is_ok());
    assert!(bad.await.unwrap().is_err());
    assert!(patient.await.unwrap().is_ok());
    assert_eq!(names(&database), ["first", "early", "patient"]);
}

#[tokio::test]
async fn a_panic_ends_its_group_and_nothing_else() {
    let (dir, database) = database();
    database.write(Cost::default(), soon(), |tx| add(tx, "first")).unwrap();
    let other = lock(&dir.path().join("x.db"));
    let early = start(&database, "early", || Ok(()));
    tokio::task::yield_now().await;
    gathered(&database, 0).await;
    let neighbour = start(&database, "neighbour", || Ok(()));
    let bad = start(&database, "bad", || panic!("a job that is wrong"));
    gathered(&database, 2).await;
    other.execute_batch("COMMIT").unwrap();
    assert!(early.await.unwrap().is_ok());
    for lost in [neighbour, bad] {
        let error = lost.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("ended by a panic"), "{error}");
    }
    // Likewise for a blocking caller, in whose own thread it runs unless the writer thread is still
    // at it.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        database.write(Cost::default(), soon(), |tx| -> rusqlite::Result<()> {
            add(tx, "worse")?;
            panic!("a caller that is wrong")
        })
    }));
    assert!(matches!(caught, Err(_) | Ok(Err(_))));
    assert!(start(&database, "late", || Ok(())).await.unwrap().is_ok());
    database.write(Cost::default(), soon(), |tx| add(tx, "last")).unwrap();
    assert_eq!(names(&database), ["first", "early", "late", "last"]);
}

#[test]
fn a_locked_file_is_an_error_at_the_deadline_and_works_again_after() {
    let (dir, database) = database();
    database.write(Cost::default(), soon(), |tx| add(tx, "first")).unwrap();
    let other = lock(&dir.path().join("x.db"));
    let deadline = clock::instant() + Duration::from_millis(100);
    let error = database.write(Cost::default(), deadline, |tx| add(tx, "late")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("locked by another process"), "{error}");
    assert!(clock::instant() >= deadline);
    assert_eq!(names(&database), ["first"], "readers are not blocked, and nothing was written");
    other.execute_batch("COMMIT").unwrap();
    database.write(Cost::default(), soon(), |tx| add(tx, "second")).unwrap();
    assert_eq!(names(&database), ["first", "second"]);
}

#[test]
fn who_is_past_its_deadline_does_not_fail_the_others() {
    let (dir, database) = database();
    database.write(Cost::default(), soon(), |tx| add(tx, "first")).unwrap();
    let other = lock(&dir.path().join("x.db"));
    std::thread::scope(|scope| {
        let patient =
            scope.spawn(|| database.write(Cost::default(), soon(), |tx| add(tx, "patient")));
        let hurried = clock::instant() + Duration::from_millis(100);
        let error = database.write(Cost::default(), hurried, |tx| add(tx, "hurried")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        other.execute_batch("COMMIT").unwrap();
        patient.join().unwrap().unwrap();
    });
    assert_eq!(names(&database), ["first", "patient"]);
}

#[test]
fn many_threads_share_commits() {
    let (_dir, database) = database();
    let cost = Cost { durable: true, rows: 1, ..Cost::default() };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let database = &database;
            scope.spawn(move || {
                for n in 0..50 {
                    let name = format!("{thread}-{n}");
                    database.write(cost, soon(), move |tx| add(tx, &name)).unwrap();
                }
            });
        }
    });
    assert_eq!(names(&database).len(), 400);
}

#[test]
fn numbers_survive_and_are_not_given_twice() {
    let (dir, database) = database();
    let number = |database: &Database| {
        database.write(Cost::default(), soon(), |tx: &mut Tx<'_>| tx.number()).unwrap()
    };
    assert_eq!((number(&database), number(&database)), (1, 2));
    drop(database);
    let again = Database::shared(&dir.path().join("x.db"));
    assert_eq!(number(&again), 3);
}

#[test]
fn a_commit_of_another_connection_is_noticed() {
    let (dir, database) = database();
    let run = |tx: &mut Tx<'_>| {
        tx.notify();
        Ok(())
    };
    database.write(Cost::default(), soon(), run).unwrap();
    let _waiter = database.notifier().waiter();
    let seen = database.notifier().count();
    // As another process would: its own connections and notifier, the same file.
    let path = dir.path().join("x.db");
    let other = Connections::new(&path, Arc::new(Notifier::new(&path)));
    other.run(Cost::default(), soon(), run).unwrap();
    database.notifier().wait(seen, soon());
    assert!(database.notifier().count() > seen, "not noticed within the deadline");
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let database = Database::shared(&dir.path().join(name));
        let written = database.write(Cost::default(), soon(), |tx| add(tx, "x")).unwrap_err();
        let read = database.read(|_| Ok(())).unwrap_err();
        assert_eq!((written.kind(), written.to_string()), (read.kind(), read.to_string()));
        assert_eq!(written.kind(), ErrorKind::Storage);
        assert!(written.to_string().contains(name), "{written} does not name the path");
        written.to_string()
    };
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    assert!(refused("directory").contains("is a directory"));
    assert!(refused("missing/x.db").contains("create it"));

    let text = "this is a text about databases, long enough to be taken for one. ".repeat(20);
    std::fs::write(dir.path().join("text.db"), &text).unwrap();
    assert!(refused("text.db").contains("is not a database"));
    assert_eq!(std::fs::read_to_string(dir.path().join("text.db")).unwrap(), text);

    let other = Connection::open(dir.path().join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE message (x); PRAGMA user_version = 7").unwrap();
    assert!(refused("other.db").contains("another program"));
    let mode: String = other.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
    assert_eq!(mode, "delete");

    let newer = dir.path().join("newer.db");
    Database::shared(&newer).write(Cost::default(), soon(), |tx| add(tx, "x")).unwrap();
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(refused("newer.db").contains("version 99"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_directory_that_cannot_be_written_is_an_error() {
    // Not even root makes files there.
    let database = Database::shared(Path::new("/proc/self/x.db"));
    let error = database.write(Cost::default(), soon(), |tx| add(tx, "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("write permission"), "{error}");
}

#[test]
fn a_damaged_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let database = Database::shared(&path);
    for n in 0..200 {
        database
            .write(Cost::default(), soon(), move |tx| add(tx, &format!("queue {n:0100}")))
            .unwrap();
    }
    drop(database);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error =
        Database::shared(&path).write(Cost::default(), soon(), |tx| add(tx, "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let path = Path::new("/data/queue.db");
    for (code, kind, words) in [
        (ffi::SQLITE_FULL, ErrorKind::Storage, "free some space"),
        (ffi::SQLITE_READONLY, ErrorKind::Storage, "change the permissions"),
        (ffi::SQLITE_IOERR, ErrorKind::Storage, "could not be read or written"),
        (ffi::SQLITE_BUSY, ErrorKind::Timeout, "another process"),
        (ffi::SQLITE_TOOBIG, ErrorKind::TooLarge, "too large"),
        (ffi::SQLITE_MISUSE, ErrorKind::Internal, "report"),
    ] {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let described = failure::describe(path, &error);
        assert_eq!(described.kind(), kind);
        let text = described.to_string();
        assert!(text.contains(words) && text.contains("`/data/queue.db`"), "{text}");
    }
}

#[test]
#[cfg(unix)] // elsewhere an open file cannot be removed
fn a_file_that_was_removed_or_replaced_is_left_for_the_one_that_is_there() {
    let (dir, database) = database();
    let path = dir.path().join("x.db");
    let other = dir.path().join("other.db");
    Database::shared(&other).write(Cost::default(), soon(), |tx| add(tx, "other")).unwrap();
    for (what, change, before) in
        [("removed", None, &[][..]), ("replaced", Some(&other), &["other"])]
    {
        database.write(Cost::default(), soon(), |tx| add(tx, "old")).unwrap();
        assert!(names(&database).contains(&"old".to_owned()), "{what}");
        for part in ["x.db", "x.db-wal", "x.db-shm"] {
            std::fs::remove_file(dir.path().join(part)).unwrap();
        }
        if let Some(other) = change {
            std::fs::rename(other, &path).unwrap();
        }
        assert_eq!(names(&database), before, "{what}: read first");
        database.write(Cost::default(), soon(), |tx| add(tx, "new")).unwrap();
        let elsewhere = Connection::open(&path).unwrap();
        let found: i64 = elsewhere
            .query_row("SELECT count(*) FROM queue WHERE name = 'new'", [], |r| r.get(0))
            .unwrap();
        assert_eq!(found, 1, "{what}: others find what is written now");
    }
}

#[test]
fn one_file_is_one_database_whatever_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &Path| Database::shared(&Location::new(path, None).unwrap().path);
    let direct = at(&dir.path().join("x.db"));
    let around = at(&dir.path().join("../").join(dir.path().file_name().unwrap()).join("x.db"));
    assert!(Arc::ptr_eq(&direct, &around));
}

#[test]
fn a_database_closes_with_its_last_handle() {
    let (dir, database) = database();
    database.write(Cost::default(), soon(), |tx| add(tx, "x")).unwrap();
    assert!(dir.path().join("x.db-wal").exists());
    drop(database);
    assert!(!dir.path().join("x.db-wal").exists(), "the last connection carries the log over");
}
