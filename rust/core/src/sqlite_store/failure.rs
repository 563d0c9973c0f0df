//! What SQLite's refusals mean to the user: the path, what was expected, what to do.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// Whether another process holds the lock: worth another try until the deadline.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// The refusal as an error of the core.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> Error {
    let at = path.display();
    let code = error.sqlite_error_code();
    let (kind, message) = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return locked(path),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::Storage,
            format!(
                "`{at}` is not a database, expected one made by taskcore or a path where nothing is yet; choose another path"
            ),
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Storage,
            format!(
                "`{at}` is damaged, expected an intact database; restore it or move it out of the way"
            ),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => return read_only(path),
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Storage,
            format!(
                "no space is left for `{at}`, expected room for the change, of which nothing was kept; free some space"
            ),
        ),
        Some(ErrorCode::CannotOpen) => (ErrorKind::Storage, cannot_open(path)),
        Some(ErrorCode::SystemIoFailure) => (
            ErrorKind::Storage,
            format!(
                "`{at}` could not be read or written, expected a working local disk; look into the system's log"
            ),
        ),
        Some(ErrorCode::TooBig) => (
            ErrorKind::TooLarge,
            format!(
                "a message or result is too large for `{at}`, expected less than 1 GB; store the data elsewhere and pass a reference"
            ),
        ),
        _ => (
            ErrorKind::Internal,
            format!("an operation on `{at}` failed, expected it to succeed; please report this"),
        ),
    };
    Error::caused(kind, message, error.to_string())
}

/// Another process held the lock until the deadline.
pub(super) fn locked(path: &Path) -> Error {
    let message = format!(
        "`{}` stayed locked by another process until the deadline, expected transactions of milliseconds; end the program that holds one open",
        path.display()
    );
    Error::new(ErrorKind::Timeout, message)
}

/// What is free on the disk is kept for what is queued already.
pub(super) fn no_room(path: &Path) -> Error {
    let message = format!(
        "the disk of `{}` is nearly full, expected room beyond what is kept so that queued messages can run; free some space, or let workers empty the queues",
        path.display()
    );
    Error::new(ErrorKind::Storage, message)
}

/// The file or its directory is not writable.
pub(super) fn read_only(path: &Path) -> Error {
    let message = format!(
        "`{}` is read-only, expected write permission on the file and its directory; change the permissions or choose another path",
        path.display()
    );
    Error::new(ErrorKind::Storage, message)
}

fn cannot_open(path: &Path) -> String {
    let at = path.display();
    if path.is_dir() {
        return format!("`{at}` is a directory, expected a file; add a file name");
    }
    match path.parent() {
        Some(parent) if !parent.is_dir() => {
            format!(
                "`{at}` cannot be made, expected `{}` to be a directory; create it",
                parent.display()
            )
        }
        _ => format!(
            "`{at}` cannot be opened or made, expected write permission on the file and its directory; change the permissions or choose another path"
        ),
    }
}
