//! The scripts, one per state change of more than one step, and how they are called.
//!
//! A script's contract (its keys, arguments, reply) is the comment that opens its file. They are
//! called by hash. The blocking side loads a script when the server does not know it; a consumer
//! loads all of them when it connects and takes a server that has forgotten them for one that it
//! must connect to anew, because a pipeline cannot be repeated from the middle.

use std::sync::LazyLock;

use redis::{Cmd, RedisResult, Value, cmd};

use crate::redis_connection::Lease;

/// A script and its hash.
pub(super) struct Lua(LazyLock<redis::Script>, &'static str);

macro_rules! scripts {
    ($($name:ident = $($file:literal),+;)*) => {
        $(pub(super) static $name: Lua = {
            const TEXT: &str = concat!($(include_str!($file)),+);
            Lua(LazyLock::new(|| redis::Script::new(TEXT)), TEXT)
        };)*
        /// All of them, to be loaded at once.
        pub(super) static ALL: &[&Lua] = &[$(&$name),*];
    };
}

scripts! {
    SCHEDULE = "lua/schedule.lua";
    REGISTER = "lua/register.lua";
    OPEN = "lua/hand_back.lua", "lua/open.lua";
    CLAIM = "lua/claim.lua";
    BUCKETS = "lua/buckets.lua";
    DUE = "lua/due.lua";
    RECORD = "lua/record.lua";
    BEGIN = "lua/begin.lua";
    SETTLE = "lua/settle.lua";
    LAPSE = "lua/lapse.lua";
    FENCE = "lua/fence.lua";
    RECOVER = "lua/recover.lua";
    RELEASE = "lua/hand_back.lua", "lua/release.lua";
    PURGE = "lua/purge.lua";
    CANCEL = "lua/cancel.lua";
    REPLAY = "lua/replay.lua";
    LEAD = "lua/lead.lua";
    RESIGN = "lua/resign.lua";
    PUT = "lua/guard.lua", "lua/put.lua";
    REMOVE = "lua/guard.lua", "lua/remove.lua";
    PAUSE = "lua/pause.lua";
    FIRE = "lua/fire.lua";
    FANOUT = "lua/fanout.lua";
}

impl Lua {
    /// Its hash, by which it is called.
    pub(super) fn hash(&self) -> &str {
        self.0.get_hash()
    }

    /// A call with its keys; arguments are added to it.
    pub(super) fn call<K: AsRef<str>>(&self, keys: &[K]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(self.hash()).arg(keys.len());
        for key in keys {
            call.arg(key.as_ref());
        }
        call
    }

    /// The command that makes the server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.1);
        load
    }

    /// Makes a call on a blocking connection, loading the script when the server does not know it.
    pub(super) fn run(&self, lease: &mut Lease, call: &Cmd) -> RedisResult<Value> {
        match call.query(&mut lease.con) {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                self.load().exec(&mut lease.con)?;
                call.query(&mut lease.con)
            }
            other => other,
        }
    }
}
