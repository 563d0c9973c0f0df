//! What each adapter needs to open handles on a fresh store.

use std::sync::Arc;

use taskcore::{
    assemble::{self, Options},
    broker::Adapter,
    result::ResultStore,
};

use crate::{Harness, result::Stores, unique};

/// A store that is reached by URL; the directory, if any, lives as long as it.
pub(crate) struct ByUrl {
    url: String,
    options: Options,
    _dir: Option<tempfile::TempDir>,
}

impl ByUrl {
    /// A part of a server that others use too: whatever a worker finds there is of this test.
    pub(crate) fn part_of(url: String) -> Self {
        let prefix = format!("{}:", unique("part"));
        Self { url, options: [("global_keyprefix".to_owned(), prefix)].into(), _dir: None }
    }
}

impl ByUrl {
    /// All of a server, in which tests keep apart by the names of their queues.
    pub(crate) fn whole(url: String) -> Self {
        Self { url, options: Options::default(), _dir: None }
    }
}

impl Harness for ByUrl {
    fn broker(&self) -> Arc<dyn Adapter> {
        assemble::broker(&self.url, &self.options).unwrap()
    }
}

impl Stores for ByUrl {
    fn store(&self) -> Arc<dyn ResultStore> {
        assemble::results(&self.url, &self.options).unwrap()
    }
}

#[allow(clippy::unnecessary_wraps)] // other adapters have none
pub(crate) fn memory() -> Option<ByUrl> {
    let url = format!("memory://{}", unique("store"));
    Some(ByUrl { url, options: Options::default(), _dir: None })
}

pub(crate) fn memory_results() -> Option<ByUrl> {
    memory()
}

#[allow(clippy::unnecessary_wraps)] // other adapters have none
pub(crate) fn sqlite() -> Option<ByUrl> {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:///{}", dir.path().join("queue.db").display());
    Some(ByUrl { url, options: Options::default(), _dir: Some(dir) })
}

pub(crate) fn sqlite_results() -> Option<ByUrl> {
    sqlite()
}
