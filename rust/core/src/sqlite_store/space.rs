//! Free space that publishing leaves to everything else.
//!
//! To claim and to settle is to write: the log grows until its pages are carried over into the
//! file, which may grow with it. So whoever fills the disk with messages could not empty it again.
//! Publishing is therefore refused while less than a reserve is free, and what is queued already is
//! claimed, run and settled in that reserve. When other programs have taken the reserve too, claims
//! go on as far as the space that the log already has allows.

use std::path::Path;

use rusqlite::Connection;

use super::job::Cost;

/// What stays free on a disk of ordinary size: the log at its usual length, a large group, and as
/// much again in the file.
const RESERVE: u64 = 64 << 20;

/// On a small disk, the part of it.
const SMALL: u64 = 4;

/// How much is published between two looks. Each process may be wrong by this much.
const LOOK_EVERY: u64 = 1 << 20;

/// Bytes of a page, as SQLite makes them when nothing else is said.
pub(super) const PAGE: u64 = 4_096;

/// Bytes that a row takes beside its body, about.
const ROW: u64 = 200;

/// How many bytes stay free on a disk of `total` bytes.
pub(super) fn reserve(total: u64) -> u64 {
    RESERVE.min(total / SMALL)
}

/// Whether so much may be published, which is written to the log and again to the file. `unused`
/// bytes of the file hold nothing any more and count as free, except that the log needs some of the
/// reserve on the disk itself.
fn admits((free, total): (u64, u64), unused: u64, size: u64) -> bool {
    let reserve = reserve(total);
    free >= reserve / 4
        && free.saturating_add(unused) >= reserve.saturating_add(size.saturating_mul(2))
}

/// What one writer knows of the space on its disk.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// What may be published before the next look.
    allowance: u64,
}

impl Space {
    /// Whether there is room for this.
    pub(super) fn admits(&mut self, path: &Path, connection: &Connection, cost: Cost) -> bool {
        if !cost.publishes {
            return true;
        }
        let size = cost.bytes as u64 + cost.rows as u64 * ROW;
        if let Some(rest) = self.allowance.checked_sub(size) {
            self.allowance = rest;
            return true;
        }
        // Where free space cannot be asked for, SQLite's own refusal is all there is.
        let admitted = disk(path).is_none_or(|disk| admits(disk, unused(connection), size));
        self.allowance = if admitted { LOOK_EVERY } else { 0 };
        admitted
    }
}

/// Bytes of the file that hold nothing any more.
fn unused(connection: &Connection) -> u64 {
    let pages = connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
    pages.unwrap_or(0).max(0) as u64 * PAGE
}

/// Free and total bytes of the disk that has the file.
#[cfg(unix)]
pub(super) fn disk(path: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_bavail), bytes(found.f_blocks)))
}

#[cfg(not(unix))]
pub(super) fn disk(_: &Path) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_part_of_a_small_disk() {
        assert_eq!(reserve(1 << 40), RESERVE);
        assert_eq!(reserve(48 << 20), 12 << 20);
    }

    #[test]
    fn what_is_published_leaves_the_reserve() {
        let total = 1 << 40;
        assert!(admits((RESERVE + 200, total), 0, 100));
        assert!(!admits((RESERVE + 199, total), 0, 100));
        assert!(!admits((u64::MAX - 1, total), 0, u64::MAX), "no overflow");
    }

    #[test]
    fn what_the_file_does_not_use_is_free_but_the_log_needs_the_disk() {
        let total = 1 << 40;
        assert!(admits((RESERVE / 2, total), RESERVE, 100));
        assert!(!admits((RESERVE / 4 - 1, total), 10 * RESERVE, 100));
    }

    #[test]
    fn only_what_publishes_is_refused() {
        let (mut space, connection) = (Space::default(), Connection::open_in_memory().unwrap());
        let cost = Cost { publishes: false, bytes: usize::MAX >> 1, ..Cost::default() };
        assert!(space.admits(Path::new("/"), &connection, cost));
        let cost = Cost { publishes: true, ..cost };
        assert!(!space.admits(Path::new("/"), &connection, cost));
    }
}
