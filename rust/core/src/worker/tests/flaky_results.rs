//! The in-process result store, that can go away and that refuses what is too large.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    result::{
        Join, JoinClaim, Joins, Observer, Origin, Record, ResultStore, Stored, Watch,
        join::MemberEnd, memory::MemoryResults,
    },
};

pub(crate) struct FlakyResults {
    inner: Arc<MemoryResults>,
    down: AtomicBool,
    largest: AtomicUsize,
    room: AtomicUsize,
}

impl FlakyResults {
    pub(crate) fn new(inner: Arc<MemoryResults>) -> Arc<Self> {
        let (largest, room) = (AtomicUsize::new(usize::MAX), AtomicUsize::new(usize::MAX));
        Arc::new(Self { inner, down: AtomicBool::default(), largest, room })
    }

    /// Pulls or plugs the cable.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    fn trouble(&self) -> Result<()> {
        let down = self.down.load(Ordering::Relaxed);
        if down { Err(Error::new(ErrorKind::Connection, "unplugged")) } else { Ok(()) }
    }

    /// Has no memory for documents of more bytes.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// Refuses documents of more bytes.
    pub(crate) fn limit(&self, bytes: usize) {
        self.largest.store(bytes, Ordering::Relaxed);
    }
}

impl Joins for FlakyResults {
    fn declare(&self, join: &Join) -> Result<()> {
        self.inner.declare(join)
    }
    fn extend(&self, more: &Join) -> Result<()> {
        self.inner.extend(more)
    }
    fn members(&self, id: &str, most: usize) -> Result<Vec<MemberEnd>> {
        self.inner.members(id, most)
    }
    fn renew(&self, joined: &JoinClaim) -> Result<bool> {
        self.trouble()?;
        self.inner.renew(joined)
    }
    fn close<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.trouble()?;
            self.inner.close(joined).await
        })
    }
    fn reopen<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.trouble()?;
            self.inner.reopen(joined).await
        })
    }
}

impl ResultStore for FlakyResults {
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            self.trouble()?;
            let mut stored = Stored::default();
            for (n, record) in batch.iter().enumerate() {
                if record.document.len() > self.largest.load(Ordering::Relaxed) {
                    stored.refused.push((n, Error::new(ErrorKind::TooLarge, "too many bytes")));
                } else if record.document.len() > self.room.load(Ordering::Relaxed) {
                    stored.later.push((n, Error::new(ErrorKind::Storage, "full")));
                } else {
                    let one = self.inner.store(std::slice::from_ref(record)).await?;
                    stored.joined.extend(one.joined);
                    stored.claimed.extend(one.claimed.iter().map(|_| n));
                }
            }
            Ok(stored)
        })
    }
    fn put(&self, record: &Record) -> Result<()> {
        self.inner.put(record)
    }
    fn get(&self, ids: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.inner.get(ids)
    }
    fn wait(
        &self,
        id: &str,
        origin: Origin,
        deadline: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>> {
        self.inner.wait(id, origin, deadline, interrupt)
    }
    fn watch(
        &self,
        id: &str,
        origin: Origin,
        key: u64,
        observer: &Arc<dyn Observer>,
    ) -> Result<Watch> {
        self.inner.watch(id, origin, key, observer)
    }
    fn forget(&self, id: &str) -> Result<()> {
        self.inner.forget(id)
    }
    fn cleanup(&self) -> Result<u64> {
        self.inner.cleanup()
    }
    fn reply_to(&self) -> &str {
        self.inner.reply_to()
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}
