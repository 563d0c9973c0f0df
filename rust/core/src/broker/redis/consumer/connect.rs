//! From a subscription to a consumer: connecting, checking the server, taking or keeping the lease,
//! opening the lanes.
//!
//! A session that follows another under a lease that stands first has what is in doubt go back:
//! what that one claimed or moved without the worker learning of it. An epoch that was taken for
//! lost meanwhile is left to those who recover it, and a fresh name taken.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::{Value, aio::ConnectionLike, cmd, pipe};
use tokio::sync::mpsc;

use super::{
    RedisConsumer,
    ask::Asker,
    fanout,
    fetch::Fetcher,
    ledger::Ledger,
    recover::Watch,
    session::{Served, Session},
    wait,
};
use crate::{
    broker::{
        Consumer, Subscription,
        redis::{
            RedisBroker,
            keys::STEPS,
            scripts::{self, OPEN},
        },
    },
    error::{Error, ErrorKind, Result},
    redis_connection::Multiplexed,
};

/// A connection on which nothing moves for longer while a reply is awaited is dead.
const PATIENCE: Duration = Duration::from_secs(6);

/// Connects, takes the lease and begins a session.
pub(in crate::broker::redis) async fn consume(
    broker: &RedisBroker,
    subscription: Subscription,
) -> Result<Arc<dyn Consumer>> {
    let ledger = broker.ledger(&subscription.epoch);
    let mut con = broker.server.multiplexed(PATIENCE).await?;
    prepare(broker, &mut con).await?;
    let session = match begin(broker, &subscription, &con, &ledger).await {
        Err(error) if error.kind() == ErrorKind::Fenced => {
            ledger.fenced();
            begin(broker, &subscription, &con, &ledger).await?
        }
        begun => begun?,
    };
    let session = Arc::new(session);
    let (pushes, told) = mpsc::unbounded_channel();
    let mut con = broker.server.pushing(pushes, PATIENCE).await?;
    let asked = cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN").exec_async(&mut con).await;
    let tracked = match asked.map_err(|e| broker.server.error("be told of changes", e)) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::Storage => false,
        // A user without the permission.
        Err(error) if con.req_packed_command(&cmd("PING")).await.is_ok() => {
            tracing::debug!(%error, "the server does not tell of changes; it is asked instead");
            false
        }
        Err(error) => return Err(error),
    };
    let questioner = Asker { session: Arc::clone(&session), con, tracked };
    let (requests, receiver) = mpsc::unbounded_channel();
    let fetcher = Fetcher::new(questioner, subscription.order);
    let fetcher = tokio::spawn(fetcher.run(receiver, told)).abort_handle();
    let listener = fanout::listen(broker, &subscription, &session).await?;
    let declared = fanout::declared(&subscription).cloned().collect();
    let watch = Mutex::new(Watch::default());
    Ok(Arc::new(RedisConsumer { session, requests, fetcher, listener, declared, watch }))
}

/// Checks the server and loads the scripts.
async fn prepare(broker: &RedisBroker, con: &mut Multiplexed) -> Result<()> {
    let mut ask = pipe();
    ask.cmd("INFO").arg("server");
    for script in scripts::ALL {
        ask.add_command(script.load());
    }
    let count = ask.len();
    let failed = |e| broker.server.error("consume", e);
    let mut replies = con.req_packed_commands(&ask, 0, count).await.map_err(failed)?.into_iter();
    // A user without the permission to ask is believed to know the server.
    if let Some(Ok(info)) = replies.next().map(redis::from_redis_value::<String>) {
        check_version(&info, broker.server.url())?;
    }
    replies.try_for_each(|reply| reply.extract_error().map(drop::<Value>)).map_err(failed)
}

fn check_version(info: &str, url: &str) -> Result<()> {
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .unwrap_or_default()
        .trim();
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let (Some(major), minor) = (numbers.next(), numbers.next().unwrap_or(0)) else { return Ok(()) };
    if (1..6).contains(&major) || (major == 6 && minor < 2) {
        let text = format!(
            "redis at `{url}` is version `{version}`, expected 6.2 or later; upgrade the server"
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(())
}

/// A session under the epoch as it is called now: takes the lease, or renews it if there was a
/// session before.
async fn begin(
    broker: &RedisBroker,
    subscription: &Subscription,
    con: &Multiplexed,
    ledger: &Arc<Ledger>,
) -> Result<Session> {
    let (number, before) = ledger.begin();
    let lanes = lanes(broker, subscription, ledger, number);
    let session = Session::new(
        (Arc::clone(&broker.server), broker.keys.clone()),
        Arc::clone(ledger),
        number,
        subscription.max_deliveries,
        con.clone(),
        lanes,
    );
    let mode = if before.is_some() { "renew" } else { "new" };
    session.register(mode, &subscription.queues).await?;
    open(&session, before).await?;
    Ok(session)
}

/// Opens every lane for the session.
async fn open(session: &Session, before: Option<u32>) -> Result<()> {
    const WHAT: &str = "begin a session";
    session.ledger.record_again();
    let doubts = session.ledger.doubts();
    let mut commands = pipe();
    for served in &session.lanes {
        let (follows, waited) = session.ledger.was_open(served);
        let moved = before.filter(|_| waited);
        let moved = moved.map(|before| served.lane.moved(&session.epoch, before));
        let mut keys = vec![&*served.lane.list, &*served.redelivered, &*served.unacked];
        keys.extend(moved.as_deref());
        let mut call = OPEN.call(&keys);
        call.arg(session.number).arg(u8::from(follows));
        for (first, count) in &doubts {
            call.arg(*first).arg(*count);
        }
        commands.add_command(call);
    }
    let replies = session.replies(WHAT, commands).await?;
    for (served, reply) in session.lanes.iter().zip(replies) {
        if let Err(error) = reply.extract_error() {
            session.spared(WHAT, &served.unacked, error)?;
        }
    }
    session.ledger.opened(session.number, &doubts, &session.lanes);
    Ok(())
}

/// The lanes of a subscription in the order of service, and behind them those of queues that were
/// consumed before: what is held of these is still settled.
fn lanes(
    broker: &RedisBroker,
    subscription: &Subscription,
    ledger: &Ledger,
    session: u32,
) -> Vec<Served> {
    let epoch = ledger.epoch();
    let served = |(queue, of): (&Arc<str>, usize), step: usize, waited: bool| {
        let lane = broker.keys.lane(queue, step);
        Served {
            queue: Arc::clone(queue),
            of,
            step,
            number: ledger.lane(queue, step),
            redelivered: lane.redelivered(),
            overdue: lane.overdue(),
            unacked: lane.unacked(&epoch),
            due: lane.due(),
            moved: waited.then(|| lane.moved(&epoch, session).into()),
            lane,
        }
    };
    let mut lanes = Vec::with_capacity(subscription.queues.len() * STEPS.len());
    for step in 0..STEPS.len() {
        for (of, queue) in subscription.queues.iter().enumerate() {
            lanes.push(served((queue, of), step, lanes.len() < wait::MOST));
        }
    }
    for queue in ledger.left_out(&subscription.queues) {
        for step in 0..STEPS.len() {
            lanes.push(served((&queue, usize::MAX), step, false));
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_with_the_version_needed() {
        for (version, fits) in [
            ("6.2.0", true),
            ("7.0.15", true),
            ("8.1", true),
            ("6.0.16", false),
            ("5.0.7", false),
            ("odd", true),
        ] {
            let checked = check_version(
                &format!("# Server\r\nredis_version:{version}\r\nos:x\r\n"),
                "redis://h",
            );
            assert_eq!(checked.is_ok(), fits, "{version}");
            if let Err(error) = checked {
                assert!(error.to_string().contains("6.2 or later"), "{error}");
            }
        }
    }
}
