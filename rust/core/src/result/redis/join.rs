//! Joins on Redis, under the keys of Celery's chords: `celery-taskset-meta-<group>` with a suffix,
//! laid out and guarded against duplicates as by Celery 5.7, so stock workers and these may count
//! members of one join, and whoever completes it publishes.
//!
//! A key that another program has put in the place of one of these is said in the log and left alone.
//! Members are counted after their results are stored, one script call for each join in a batch. Both
//! may be sent again. The keys of a join differ in their suffix alone; a cluster, which stock workers
//! cannot use, would need a hash tag around the part before it.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, RedisResult, Script, Value, cmd};

use super::RedisResults;
use crate::{
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    message::pyjson::write_str,
    redis_connection::Multiplexed,
    result::{
        Join, JoinClaim, Joins, Member, Record, State, Stored, encoded,
        join::{self, CLAIM_MS, DONE_MS, MemberEnd, Size},
        record,
    },
};

static JOIN: LazyLock<Script> = LazyLock::new(|| Script::new(JOIN_SOURCE));
const JOIN_SOURCE: &str = include_str!("join.lua");
static DECLARE: LazyLock<Script> = LazyLock::new(|| Script::new(DECLARE_SOURCE));
const DECLARE_SOURCE: &str = include_str!("declare.lua");
static UNJOIN: LazyLock<Script> = LazyLock::new(|| Script::new(UNJOIN_SOURCE));
const UNJOIN_SOURCE: &str = include_str!("unjoin.lua");

static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(RENEW_SOURCE));
const RENEW_SOURCE: &str = include_str!("renew.lua");

/// How many members are read at a time, because each may be large.
const READ: usize = 500;

/// In the order of the scripts' keys.
const SUFFIXES: [&str; 6] = [".j", ".t", ".s", ".d", "", ".c"];

/// What [`JOIN`] replies: whose claim.
type Claimed = Option<String>;

impl RedisResults {
    /// Counts the members in a batch whose records are stored.
    pub(super) async fn count_members(&self, batch: &[Record], stored: &mut Stored) -> Result<()> {
        if batch.iter().all(|record| record.member.is_none()) {
            return Ok(());
        }
        let mut joins: Vec<(&str, Cmd, Vec<usize>)> = Vec::new();
        for (index, record) in batch.iter().enumerate() {
            let Some((member, ended)) = record.ended() else { continue };
            if stored.refused.iter().chain(&stored.later).any(|(lost, _)| *lost == index) {
                continue;
            }
            let known = joins.iter().position(|(id, ..)| *id == member.group);
            let of = known.unwrap_or_else(|| {
                let mut call = self.join_call(&JOIN, &member.group, record.expires_ms);
                call.arg(CLAIM_MS);
                joins.push((&member.group, call, Vec::new()));
                joins.len() - 1
            });
            add_member(&mut joins[of].1, member, &ended);
            joins[of].2.push(index);
        }
        for (id, call, members) in joins {
            let mut con = self.connection().await?;
            match run(&mut con, &call).await {
                Ok(None) => {}
                Ok(Some(token)) => {
                    let own = |index: &usize| {
                        batch[*index].member.as_ref().is_some_and(|member| member.token == token)
                    };
                    if members.iter().any(own) {
                        stored.joined.push(JoinClaim { id: id.to_owned(), token });
                    } else {
                        stored.claimed.extend(members);
                    }
                }
                Err(error) if error.to_string().contains("WRONGTYPE") => {
                    // It will never work, and must not hold up the results of others.
                    tracing::error!(join = id, %error, "a key of a join holds a value of another type, its members are not counted");
                }
                Err(error) => {
                    let error = self.server.error("count the members of a join", error);
                    if error.kind() != ErrorKind::Storage {
                        self.disconnect();
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// A call of a script about a join, with the time that the join is to live.
    fn join_call(&self, script: &Script, id: &str, expires_ms: Option<u64>) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(script.get_hash()).arg(SUFFIXES.len()).arg(self.join_keys(id));
        match expires_ms {
            Some(ms) => call.arg(ms.max(1)),
            None => call.arg(""),
        };
        call
    }

    /// Declares a join, or has it wait for more members in the name of `token`.
    fn set_size(&self, join: &Join, token: &str) -> Result<()> {
        let mut call = self.join_call(&DECLARE, &join.id, join.expires_ms);
        call.arg(join.size).arg(token);
        self.pool.repeat("declare a join", Self::soon(), |lease| match call.exec(&mut lease.con) {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                load(DECLARE_SOURCE).exec(&mut lease.con)?;
                call.exec(&mut lease.con)
            }
            done => done,
        })
    }

    fn join_keys(&self, id: &str) -> Vec<String> {
        SUFFIXES
            .iter()
            .map(|suffix| format!("{}celery-taskset-meta-{id}{suffix}", self.prefix))
            .collect()
    }

    fn exists(&self, key: &str) -> Result<bool> {
        self.pool.repeat("read the members of a join", Self::soon(), |lease| {
            cmd("EXISTS").arg(key).query(&mut lease.con)
        })
    }

    /// Closes a join or gives its claim back.
    async fn unjoin(&self, joined: &JoinClaim, remember: Option<u64>) -> Result<()> {
        let mut call = cmd("EVALSHA");
        call.arg(UNJOIN.get_hash()).arg(SUFFIXES.len()).arg(self.join_keys(&joined.id));
        call.arg(&joined.token);
        match remember {
            Some(ms) => call.arg(ms),
            None => call.arg(""),
        };
        let mut con = self.connection().await?;
        let mut reply: RedisResult<Value> = call.query_async(&mut con).await;
        if reply.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
            load(UNJOIN_SOURCE).exec_async(&mut con).await.map_err(|e| self.lost(e))?;
            reply = call.query_async(&mut con).await;
        }
        reply.map(drop).map_err(|e| self.lost(e))
    }

    fn lost(&self, error: redis::RedisError) -> Error {
        let error = self.server.error("settle a join", error);
        if error.kind() != ErrorKind::Storage {
            self.disconnect();
        }
        error
    }
}

impl Joins for RedisResults {
    fn declare(&self, join: &Join) -> Result<()> {
        self.set_size(join, "")
    }

    fn extend(&self, more: &Join) -> Result<()> {
        // The command may be sent twice, and adds once.
        self.set_size(more, &join::token())
    }

    fn members(&self, id: &str, most: usize) -> Result<Vec<MemberEnd>> {
        let key = &self.join_keys(id)[0];
        let (mut members, mut size) = (Vec::new(), Size::new(most));
        loop {
            let first = members.len();
            let range = |name| {
                let mut range = cmd(name);
                range.arg(key).arg(first).arg(first + READ - 1);
                range
            };
            let parts: Vec<Vec<u8>> = self.pool.repeat(
                "read the members of a join",
                Self::soon(),
                |lease| match range("ZRANGE").query(&mut lease.con) {
                    Err(error) if error.code() == Some("WRONGTYPE") => {
                        range("LRANGE").query(&mut lease.con)
                    }
                    done => done,
                },
            )?;
            for part in &parts {
                let ended = ended(part)?;
                size.add(&ended)?;
                members.push(ended);
            }
            if parts.len() < READ {
                break;
            }
        }
        if members.len() >= READ && !self.exists(key)? {
            // It was closed meanwhile, and what was read is a part of it.
            members.clear();
        }
        Ok(members)
    }

    fn renew(&self, joined: &JoinClaim) -> Result<bool> {
        let mut call = cmd("EVALSHA");
        call.arg(RENEW.get_hash()).arg(SUFFIXES.len()).arg(self.join_keys(&joined.id));
        call.arg(&joined.token).arg(CLAIM_MS);
        self.pool.repeat("renew the claim of a join", Self::soon(), |lease| {
            match call.query(&mut lease.con) {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    load(RENEW_SOURCE).exec(&mut lease.con)?;
                    call.query(&mut lease.con)
                }
                done => done,
            }
        })
    }

    fn close<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.unjoin(joined, Some(DONE_MS)))
    }

    fn reopen<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.unjoin(joined, None))
    }
}

async fn run(con: &mut Multiplexed, call: &Cmd) -> RedisResult<Claimed> {
    let mut reply: RedisResult<Claimed> = call.query_async(con).await;
    if reply.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
        load(JOIN_SOURCE).exec_async(con).await?;
        reply = call.query_async(con).await;
    }
    reply
}

/// Adds a member to a call of [`JOIN`].
fn add_member(call: &mut Cmd, member: &Member, ended: &MemberEnd) {
    call.arg(&member.token);
    match member.index {
        Some(index) => call.arg(index),
        None => call.arg("+inf"),
    };
    call.arg(&ended.id).arg(part(ended));
}

/// Makes the server know a script.
fn load(source: &str) -> Cmd {
    let mut load = cmd("SCRIPT");
    load.arg("LOAD").arg(source);
    load
}

/// A member as Celery writes it, byte for byte: in a sorted set the bytes tell members apart.
fn part(ended: &MemberEnd) -> Vec<u8> {
    if let Some(member) = encoded::member(&ended.result) {
        return member.to_vec();
    }
    let mut out = b"[1, ".to_vec();
    write_str(&mut out, &ended.id);
    out.extend_from_slice(b", ");
    write_str(&mut out, ended.state.as_str());
    out.extend_from_slice(b", ");
    out.extend_from_slice(&ended.result);
    out.push(b']');
    out
}

/// A member as it was written.
fn ended(part: &[u8]) -> Result<MemberEnd> {
    let broken = |_| Error::new(ErrorKind::Decode, "a member of a join is not what Celery writes");
    let part = record::open(part)?;
    if part.first() != Some(&b'[') {
        return Ok(encoded::unknown(&part));
    }
    let items = join::items(&part)?;
    let [_, id, state, result] = items[..] else {
        return Err(Error::new(
            ErrorKind::Decode,
            "a member of a join has not the four parts that Celery writes",
        ));
    };
    let id: String = serde_json::from_slice(id).map_err(broken)?;
    let state: String = serde_json::from_slice(state).map_err(broken)?;
    Ok(MemberEnd { id, state: State::from_name(&state), result: Bytes::copy_from_slice(result) })
}
