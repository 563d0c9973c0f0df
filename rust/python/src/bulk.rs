//! Many messages in one call: encoded into chunks, each chunk one round trip.
//!
//! A chunk is sent when it has [`CHUNK`] messages or [`BYTES`] bytes, or before a message that is
//! to be sent with another effort; the lock of the interpreter is free meanwhile. When something
//! fails, be it the broker, the caller's iterator or a value that cannot be encoded, the chunk
//! under way is dropped and the exception says in its attribute `published` which ids did go out.

use std::sync::Arc;

use pyo3::{
    prelude::*,
    types::{PyIterator, PyString},
};
use taskcore::{
    broker::Outgoing,
    publish::{self, Effort},
};

use crate::{bridge, errors};

/// Messages in a chunk: beyond some hundreds the round trip no longer shows.
const CHUNK: usize = 1000;
/// Bytes in a chunk.
const BYTES: usize = 4 * 1024 * 1024;

/// A message and how hard to try to send it.
type Made = PyResult<(Outgoing, Effort)>;

/// A bulk publish under way.
pub(crate) struct Bulk<'py> {
    py: Python<'py>,
    sender: Arc<publish::Publisher>,
    /// Of the chunk under way.
    effort: Effort,
    ids: Vec<Py<PyString>>,
    /// How many of `ids` are published.
    sent: usize,
    chunk: Vec<Outgoing>,
    bytes: usize,
}

impl<'py> Bulk<'py> {
    /// A bulk publish; every chunk has the whole effort of its messages to itself.
    pub(crate) fn new(py: Python<'py>, sender: Arc<publish::Publisher>) -> Self {
        Self {
            py,
            sender,
            effort: Effort::default(),
            ids: Vec::new(),
            sent: 0,
            chunk: Vec::with_capacity(CHUNK),
            bytes: 0,
        }
    }

    /// Publishes what `write` makes of each item, with the effort that it names; the ids in order.
    ///
    /// # Errors
    /// Of the iterator, of `write`, of the broker; with `published`.
    pub(crate) fn publish(
        mut self,
        items: Bound<'py, PyIterator>,
        mut write: impl FnMut(&Bound<'py, PyAny>) -> Made,
    ) -> PyResult<Vec<Py<PyString>>> {
        match self.run(items, &mut write) {
            Ok(()) => Ok(self.ids),
            Err(error) => {
                self.ids.truncate(self.sent);
                // Every exception has attributes, unless its class forbids it; then the ids are
                // lost but not the error.
                let _ = error.value(self.py).setattr("published", self.ids);
                Err(error)
            }
        }
    }

    fn run(
        &mut self,
        items: Bound<'py, PyIterator>,
        write: &mut dyn FnMut(&Bound<'py, PyAny>) -> Made,
    ) -> PyResult<()> {
        for item in items {
            let (out, effort) = write(&item?)?;
            if effort != self.effort && !self.chunk.is_empty() {
                self.flush()?;
            }
            self.effort = effort;
            self.ids.push(PyString::new(self.py, &out.id).unbind());
            self.bytes += out.data.len();
            self.chunk.push(out);
            if self.chunk.len() >= CHUNK || self.bytes >= BYTES {
                self.flush()?;
            }
        }
        if self.chunk.is_empty() { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> PyResult<()> {
        let (sender, chunk, effort) = (&self.sender, &self.chunk, &self.effort);
        bridge::interruptible(self.py, errors::publishing, |interrupt| {
            sender.send(chunk, effort, interrupt)
        })?;
        self.sent = self.ids.len();
        self.chunk.clear();
        self.bytes = 0;
        Ok(())
    }
}
