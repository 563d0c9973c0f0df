//! Periodic tasks in the broker's store: when each was due last, and who sends them.
//!
//! A *schedule* is what the beats of one app share: a leader and entries by name. Any number of
//! beats run at once; the one that holds the lease leads, and the others ask for it now and then.
//! The lease saves work and is not what keeps a task from being sent twice. That is
//! [`Schedule::fire`]: the message is published and the entry moves on to its next due time in one
//! atomic step, and only if the entry is where the beat believed it to be. So each due time is sent
//! once, whoever sends it and whatever breaks in between.
//!
//! What an entry says (which task, when, with what) is the scheduler's affair and text here.

use std::time::Instant;

use super::{Broker, Capability, Outgoing};
use crate::{clock::Millis, error::Result};

/// A due time: microseconds since the Unix epoch.
pub type Due = i64;

/// One entry as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, unique within the schedule.
    pub name: String,
    /// What it says. Written by [`Schedule::put`].
    pub definition: String,
    /// The last due time that is done with: sent, or passed over. Written by [`Schedule::put`] and
    /// [`Schedule::fire`].
    pub done: Due,
    /// How many messages were sent for it.
    pub runs: u64,
    /// When the last was sent.
    pub sent_at: Option<Millis>,
    /// Whether it is not to be sent for now.
    pub paused: bool,
}

/// What an entry is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the entry.
    pub name: String,
    /// What it says from now on.
    pub definition: String,
    /// The due time that a new entry is done with; what comes after it is sent.
    pub done: Due,
    /// Whether an entry that exists also begins there, unless it is further on: what was sent once
    /// is never due again.
    pub restart: bool,
}

/// What must hold for entries to be changed, looked at in the same atomic step. Whoever decides by
/// what it has read may have slept since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    Always,
    /// This beat leads, and its lease has not ended.
    Leads(String),
    /// [`Entries::revision`] is this one.
    Revision(u64),
}

/// What is to happen to one entry that is due.
#[derive(Clone, Debug)]
pub struct Firing {
    /// Name of the entry.
    pub name: String,
    /// The due time that the entry is done with, as far as the caller knows.
    pub from: Due,
    /// The due time that it is done with from now on.
    pub to: Due,
    /// What is sent; nothing where a due time is passed over.
    pub message: Option<Outgoing>,
}

/// The entries of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Grows with every change of an entry other than by [`Schedule::fire`].
    pub revision: u64,
    /// Sorted by name.
    pub entries: Vec<Entry>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Name of the beat that leads.
    pub beat: String,
    /// As [`Entries::revision`].
    pub revision: u64,
}

/// The port of the schedulers. Blocking, callable from any thread; a schedule exists once somebody
/// names it.
pub trait Schedule: Broker {
    /// Takes the lease for `beat`, or renews it, for so long; who leads now.
    fn lead(&self, _schedule: &str, _beat: &str, _lease: Millis) -> Result<Leader> {
        Err(Capability::Schedule.missing(self.url()))
    }

    /// Gives the lease up, if `beat` has it.
    fn resign(&self, _schedule: &str, _beat: &str) -> Result<()> {
        Err(Capability::Schedule.missing(self.url()))
    }

    /// All entries.
    fn entries(&self, _schedule: &str) -> Result<Entries> {
        Err(Capability::Schedule.missing(self.url()))
    }

    /// Adds entries, or changes what they say; whether the guard let it. A large number may be
    /// written in several steps, of which each is guarded.
    fn put(&self, _schedule: &str, _definitions: &[Definition], _guard: &Guard) -> Result<bool> {
        Err(Capability::Schedule.missing(self.url()))
    }

    /// Removes entries; how many there were, `None` when the guard did not let it.
    fn remove(&self, _schedule: &str, _names: &[String], _guard: &Guard) -> Result<Option<u64>> {
        Err(Capability::Schedule.missing(self.url()))
    }

    /// Pauses an entry, or lets it go on; whether there is one.
    fn pause(&self, _schedule: &str, _name: &str, _paused: bool) -> Result<bool> {
        Err(Capability::Schedule.missing(self.url()))
    }

    /// Does each firing whose entry exists, is not paused, and is done with `from`: publishes its
    /// message and moves the entry to `to`, in one atomic step. Which were done, in order.
    ///
    /// # Errors
    /// `Connection`, `Timeout` or `Storage`: some may have been done, and the entries tell which.
    fn fire(&self, _schedule: &str, _firings: &[Firing], _deadline: Instant) -> Result<Vec<bool>> {
        Err(Capability::Schedule.missing(self.url()))
    }
}
