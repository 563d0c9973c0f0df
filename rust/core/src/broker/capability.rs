//! What a broker can do beyond publishing and consuming, by name.

use crate::error::{Error, ErrorKind};

/// One thing that some brokers can do and others cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// [`Admin::stats`](super::Admin::stats).
    Stats,
    /// [`Admin::queues`](super::Admin::queues).
    Queues,
    /// [`Admin::purge`](super::Admin::purge).
    Purge,
    /// [`Admin::cancel`](super::Admin::cancel).
    Cancel,
    /// [`Admin::dead`](super::Admin::dead).
    Dead,
    /// [`Admin::replay`](super::Admin::replay).
    Replay,
    /// [`Admin::discard`](super::Admin::discard).
    Discard,
    /// All of [`Schedule`](super::Schedule).
    Schedule,
    /// All of [`Broadcast`](super::Broadcast).
    Broadcast,
}

impl Capability {
    /// All that operators ask, in the order of [`Admin`](super::Admin).
    pub const ADMIN: [Self; 7] = [
        Self::Stats,
        Self::Queues,
        Self::Purge,
        Self::Cancel,
        Self::Dead,
        Self::Replay,
        Self::Discard,
    ];

    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Stats,
        Self::Queues,
        Self::Purge,
        Self::Cancel,
        Self::Dead,
        Self::Replay,
        Self::Discard,
        Self::Schedule,
        Self::Broadcast,
    ];

    /// In words, as in "this broker cannot ...".
    pub fn does(self) -> &'static str {
        match self {
            Self::Stats => "count what a queue holds",
            Self::Queues => "list its queues",
            Self::Purge => "purge a queue",
            Self::Cancel => "cancel a scheduled task",
            Self::Dead => "list dead letters",
            Self::Replay => "replay dead letters",
            Self::Discard => "discard dead letters",
            Self::Schedule => "keep periodic tasks",
            Self::Broadcast => "carry what is said to all workers",
        }
    }

    /// The error of a broker that does not have it.
    #[cold]
    pub fn missing(self, url: &str) -> Error {
        let does = self.does();
        let instead = match self {
            Self::Broadcast => "use `redis://` or `sqlite://`",
            Self::Schedule => {
                "set `beat_scheduler` to `taskcore.beat:PersistentScheduler`, which keeps them in a file"
            }
            _ => "use the tools of its server",
        };
        let sentence =
            format!("the broker `{url}` cannot {does} yet, expected one that can; {instead}");
        Error::new(ErrorKind::Unsupported, sentence)
    }
}
