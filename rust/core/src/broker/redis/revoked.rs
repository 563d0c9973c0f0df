//! What was revoked, in one sorted set: for workers that start later.

use std::sync::Arc;

use redis::{Pipeline, RedisResult, cmd};

use crate::{broker::broadcast::REVOKED_MAX, clock::Millis, redis_connection::Lease};

/// Ids per command.
const PIECE: usize = 1_000;

/// Remembers these until then; the set itself does not outlive the last of them.
pub(super) fn add(
    lease: &mut Lease,
    key: &str,
    ids: &[Arc<str>],
    (until, now): (Millis, Millis),
) -> RedisResult<()> {
    let mut pipeline = Pipeline::new();
    for piece in ids.chunks(PIECE) {
        let zadd = pipeline.cmd("ZADD").arg(key);
        for id in piece {
            zadd.arg(until).arg(&**id);
        }
    }
    pipeline.cmd("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(now);
    pipeline.cmd("ZREMRANGEBYRANK").arg(key).arg(0).arg(-(REVOKED_MAX as i64) - 1);
    lease.pipeline(&pipeline)?;
    let last: Vec<(String, f64)> =
        cmd("ZRANGE").arg(key).arg(-1).arg(-1).arg("WITHSCORES").query(&mut lease.con)?;
    match last.first() {
        Some((_, until)) => cmd("PEXPIREAT").arg(key).arg(*until as i64).query(&mut lease.con),
        None => Ok(()),
    }
}

/// All that is remembered.
pub(super) fn all(lease: &mut Lease, key: &str, now: Millis) -> RedisResult<Vec<Arc<str>>> {
    let ids: Vec<String> =
        cmd("ZRANGEBYSCORE").arg(key).arg(format!("({now}")).arg("+inf").query(&mut lease.con)?;
    Ok(ids.into_iter().map(Arc::from).collect())
}
