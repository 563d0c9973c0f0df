//! Which file a path names: a path keeps its name when its file is removed and made again, a
//! connection keeps its file.

use std::path::Path;

/// A file, whatever its name. Where the system has no numbers for files, all existing ones count as
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// The file at `path`; `None` when there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self::from_metadata(&found))
    }

    #[cfg(unix)]
    fn from_metadata(found: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(found.dev(), found.ino())
    }

    #[cfg(not(unix))]
    fn from_metadata(_: &std::fs::Metadata) -> Self {
        Self(0, 0)
    }
}
