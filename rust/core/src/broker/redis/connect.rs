//! From a subscription to a consumer: connecting, checking the server, taking or keeping the lease.
//!
//! A consumer that connects again under an epoch whose lease stands first asks what became of the commands whose replies
//! the broken link swallowed. What was claimed it delivers; what only landed goes back, because the wait that would have
//! announced it is gone. An epoch that was declared dead meanwhile is left to those who recover it, and a fresh name taken.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::{Value, aio::ConnectionLike, cmd, pipe};
use tokio::sync::Notify;

use super::{
    RedisBroker,
    consume::{Life, RedisConsumer, Served, Shared, State},
    fetch,
    keys::STEPS,
    ledger::Ledger,
    scripts::{self, UNCLAIM},
    settle, wait,
};
use crate::{
    broker::{Consumer, Delivery, Subscription},
    clock,
    error::{Error, ErrorKind, Result},
    redis_link::Multiplexed,
};

/// A reply that takes longer means that the link is dead.
const PATIENCE: Duration = Duration::from_secs(6);

/// Connects, takes the lease and starts the waits.
pub(super) async fn consume(
    broker: &RedisBroker,
    subscription: Subscription,
) -> Result<Arc<dyn Consumer>> {
    let ledger = broker.ledger(&subscription.epoch);
    let mut con = broker.link.multiplexed(PATIENCE).await?;
    let link = prepare(broker, &mut con, &subscription).await?;
    let resumed = ledger.is_registered();
    let mut shared = build(broker, &subscription, &con, &ledger);
    let mut registered = shared.register(if resumed { "renew" } else { "new" }).await;
    let fenced = registered.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced);
    if fenced {
        ledger.fenced();
        shared = build(broker, &subscription, &con, &ledger);
        registered = shared.register("new").await;
    }
    registered?;
    ledger.registered();
    let shared = Arc::new(shared);
    if resumed && !fenced {
        resume(&shared).await?;
    }
    ledger.linked(link);
    let waits = (0..shared.lanes.len())
        .map(|lane| tokio::spawn(wait::serve(Arc::clone(&shared), lane)))
        .collect();
    Ok(Arc::new(RedisConsumer::new(shared, waits)))
}

/// Checks the server, loads the scripts and makes the queues known; the server's number of the connection.
async fn prepare(
    broker: &RedisBroker,
    con: &mut Multiplexed,
    subscription: &Subscription,
) -> Result<Option<i64>> {
    let mut ask = pipe();
    ask.cmd("INFO").arg("server").cmd("CLIENT").arg("ID");
    for script in scripts::ALL {
        ask.add_command(script.load());
    }
    let mut known = cmd("SADD");
    known.arg(broker.keys.queues());
    for queue in &subscription.queues {
        known.arg(&**queue);
    }
    ask.add_command(known);
    let count = ask.len();
    let failed = |e| broker.link.error("consume", e);
    let mut replies = con.req_packed_commands(&ask, 0, count).await.map_err(failed)?.into_iter();
    // A user without the permission to ask is believed to know the server.
    if let Some(Ok(info)) = replies.next().map(redis::from_redis_value::<String>) {
        check_version(&info, broker.link.url())?;
    }
    let link = replies.next().and_then(|reply| redis::from_redis_value(reply).ok());
    replies.try_for_each(|reply| reply.extract_error().map(drop::<Value>)).map_err(failed)?;
    Ok(link)
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

fn build(
    broker: &RedisBroker,
    subscription: &Subscription,
    con: &Multiplexed,
    ledger: &Arc<Ledger>,
) -> Shared {
    let epoch = ledger.epoch();
    let mut lanes = Vec::with_capacity(subscription.queues.len() * STEPS.len());
    for step in 0..STEPS.len() {
        for queue in &subscription.queues {
            let lane = broker.keys.lane(queue, step);
            lanes.push(Served {
                queue: Arc::clone(queue),
                number: ledger.lane(queue, step),
                held: lane.held(&epoch),
                inbox: lane.inbox(&epoch),
                lane,
                go: Notify::new(),
            });
        }
    }
    let now = clock::instant();
    Shared {
        link: Arc::clone(&broker.link),
        ledger: Arc::clone(ledger),
        calls: fetch::Calls::new(&lanes, &epoch),
        epoch,
        max_deliveries: subscription.max_deliveries,
        con: con.clone(),
        by_tag: lanes.iter().enumerate().map(|(index, served)| (served.number, index)).collect(),
        state: Mutex::new(State {
            wanted: None,
            claiming: false,
            kick: false,
            landed_at: None,
            lingering: false,
            due_at: now,
            waits: vec![(wait::Phase::Idle, None); lanes.len()],
            renewed: now,
            until: 0,
            mine: 0,
            strays: vec![None; lanes.len()],
            life: Life::Open,
        }),
        lanes,
        news: Notify::new(),
    }
}

/// Finds out what became of commands whose replies were lost with the last connection.
async fn resume(shared: &Arc<Shared>) -> Result<()> {
    if let Some(link) = shared.ledger.link() {
        // What was sent over it and has not arrived must not be done after it was asked about. Refused to a user without the
        // permission, for whom such a command, which must be slower than a new connection, stays possible.
        let mut kill = cmd("CLIENT");
        let _ = kill.arg("KILL").arg("ID").arg(link).exec_async(&mut shared.con.clone()).await;
    }
    shared.ledger.adopt_again();
    settle::hand_back(shared, &shared.ledger.returning()).await?;
    let doubts = shared.ledger.claims_in_doubt();
    let seqs: Vec<u64> = doubts.iter().cloned().flatten().collect();
    let mut ask = pipe();
    for served in &shared.lanes {
        ask.cmd("LRANGE").arg(&served.inbox).arg(0).arg(-1);
        if !seqs.is_empty() {
            ask.cmd("HMGET").arg(&served.held).arg(&seqs);
        }
    }
    let mut replies = shared.run("resume", ask).await?.into_iter();
    let mut strays = pipe();
    let mut found: Vec<Delivery> = Vec::new();
    for served in &shared.lanes {
        let inbox: Vec<Vec<u8>> = shared.read("resume", replies.next())?;
        for raw in inbox {
            let mut call = UNCLAIM.call(&[&served.inbox, &served.lane.list]);
            call.arg(raw);
            strays.add_command(call);
        }
        if !seqs.is_empty() {
            let values: Vec<Option<Vec<u8>>> = shared.read("resume", replies.next())?;
            found.extend(
                seqs.iter()
                    .zip(values)
                    .filter_map(|(seq, v)| Some(served.delivery(*seq, v?.into()))),
            );
        }
    }
    if !strays.is_empty() {
        shared.run("resume", strays).await?;
    }
    found.sort_by_key(|delivery| delivery.tag.seq);
    shared.ledger.resolved(&doubts, found);
    Ok(())
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
