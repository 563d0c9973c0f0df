//! Many messages in one call: made into chunks, each chunk one round trip.
//!
//! A chunk that has [`CHUNK`] messages or [`BYTES`] bytes of bodies is sent before the next message is
//! written, but after that was asked for: so whoever gives the messages knows, when asked for more,
//! that those before are good, and that the last is not sent yet. It is also sent before a message
//! that is to be sent with another effort. The lock of the interpreter is free meanwhile. When
//! something fails, be it the broker, the caller's iterator or a value that cannot be encoded, the
//! chunk under way is dropped and the exception says in its attribute `published` which ids did go
//! out. When some messages of a chunk are unroutable the rest of it did go out; the exception
//! names those in its attribute `unroutable`.
//!
//! A chunk is made of places that serve one message after the other, because the messages of a bulk
//! publish differ in their ids and bodies alone.

use std::sync::Arc;

use pyo3::{
    prelude::*,
    types::{PyIterator, PyString},
};
use taskcore::{
    ErrorKind,
    broker::{Answer, Outgoing},
    publish::{self, Effort},
};

use crate::{bridge, errors};

/// Messages in a chunk: beyond some hundreds the round trip no longer shows.
const CHUNK: usize = 1000;
/// Bytes in a chunk.
const BYTES: usize = 4 * 1024 * 1024;

/// A bulk publish under way.
pub(crate) struct Bulk<'py> {
    py: Python<'py>,
    sender: Arc<publish::Publisher>,
    /// Of the chunk under way.
    effort: Effort,
    ids: Vec<Py<PyString>>,
    /// How many of `ids` are published.
    sent: usize,
    /// What a place holds before its first message.
    empty: Outgoing,
    places: Vec<Outgoing>,
    /// How many of `places` hold a message of the chunk under way.
    filled: usize,
    bytes: usize,
}

impl<'py> Bulk<'py> {
    /// A bulk publish; every chunk has the whole effort of its messages to itself. A new place
    /// holds what `empty` does.
    pub(crate) fn new(py: Python<'py>, sender: Arc<publish::Publisher>, empty: Outgoing) -> Self {
        Self {
            py,
            sender,
            effort: Effort::default(),
            ids: Vec::new(),
            sent: 0,
            empty,
            places: Vec::new(),
            filled: 0,
            bytes: 0,
        }
    }

    /// Publishes what `write` puts into a place for each item, with the effort that it names; the
    /// ids in order.
    ///
    /// # Errors
    /// Of the iterator, of `write`, of the broker; with `published`.
    pub(crate) fn publish(
        mut self,
        items: Bound<'py, PyIterator>,
        mut write: impl FnMut(&Bound<'py, PyAny>, &mut Outgoing) -> PyResult<Effort>,
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
        write: &mut dyn FnMut(&Bound<'py, PyAny>, &mut Outgoing) -> PyResult<Effort>,
    ) -> PyResult<()> {
        for item in items {
            let item = item?;
            if self.filled >= CHUNK || self.bytes >= BYTES {
                self.flush()?;
            }
            if self.filled == self.places.len() {
                self.places.push(self.empty.clone());
            }
            let effort = write(&item, &mut self.places[self.filled])?;
            if effort != self.effort && self.filled > 0 {
                let at = self.filled;
                self.flush()?;
                self.places.swap(0, at);
            }
            self.effort = effort;
            let message = &self.places[self.filled].message;
            self.ids.push(PyString::new(self.py, &message.headers.id).unbind());
            self.bytes += message.body.len();
            self.filled += 1;
        }
        if self.filled == 0 { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> PyResult<()> {
        let (sender, effort) = (&self.sender, &self.effort);
        let chunk = &mut self.places[..self.filled];
        let answers = bridge::interruptible(self.py, errors::publishing, |interrupt| {
            sender.send(chunk, effort, interrupt)
        })?;
        if let Err(error) = self.sender.kept(&self.places[..self.filled], &answers) {
            return Err(self.incomplete(&answers, &error));
        }
        self.sent = self.ids.len();
        self.filled = 0;
        self.bytes = 0;
        Ok(())
    }

    /// The exception about messages of the chunk that the broker does not have; their ids are taken
    /// out of those that are published.
    #[cold]
    fn incomplete(&mut self, answers: &[Answer], error: &taskcore::Error) -> PyErr {
        let (mut published, mut lost) = (Vec::new(), Vec::new());
        for (id, answer) in self.ids.drain(self.sent..).zip(answers) {
            match answer {
                Answer::Confirmed | Answer::Duplicate => published.push(id),
                Answer::Unroutable | Answer::Refused(_) => lost.push(id),
            }
        }
        self.ids.extend(published);
        self.sent = self.ids.len();
        let name = if error.kind() == ErrorKind::Unroutable { "unroutable" } else { "refused" };
        let error = errors::publishing(self.py, error);
        // As for `published`.
        let _ = error.value(self.py).setattr(name, lost);
        error
    }
}
