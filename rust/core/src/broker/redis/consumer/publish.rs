//! A message published by the worker itself, in one command over the connection that settlements
//! take.
//!
//! Only to a queue that is consumed here: it is in the set of known ones. What is scheduled needs a
//! script, and what is long would hold up renewals of the lease; both are left to the producer's
//! side.

use std::sync::Arc;

use redis::{Value, aio::ConnectionLike, cmd};

use super::session::Session;
use crate::{
    broker::{Outgoing, redis::keys::step},
    error::Result,
    future::BoxFuture,
};

/// The longest message in bytes.
const LONGEST: usize = 64 << 10;

pub(super) fn publish(
    session: &Arc<Session>,
    message: &Outgoing,
) -> Option<BoxFuture<'static, Result<()>>> {
    let is_known = || session.open_lanes().iter().any(|served| served.queue == message.queue);
    if !message.is_to_queue() || message.due().is_some() || !is_known() {
        return None;
    }
    let encoded = message.encoded();
    if encoded.data.len() > LONGEST {
        return None;
    }
    let list = session.keys.list(&message.queue, step(encoded.priority));
    let mut push = cmd("LPUSH");
    push.arg(&*list).arg(&*encoded.data);
    let session = Arc::clone(session);
    Some(Box::pin(async move {
        let pushed = session.con.clone().req_packed_command(&push).await;
        let pushed = pushed.and_then(Value::extract_error).map(drop);
        pushed.map_err(|error| session.server.error("publish", error))
    }))
}
