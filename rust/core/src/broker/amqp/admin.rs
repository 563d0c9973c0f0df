//! What operators ask.

use lapin::options::QueuePurgeOptions;

use super::{AmqpBroker, dead, native::short, topology};
use crate::{
    broker::{Admin, DeadLetter, QueueStats},
    clock,
    error::Result,
};

/// What an operator waits for.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

impl AmqpBroker {
    fn ask<T>(&self, work: impl AsyncFnOnce(&super::client::Link) -> Result<T>) -> Result<T> {
        let client = self.client()?;
        client.run(clock::instant() + TIMEOUT, async {
            let link = client.link().await?;
            work(&link).await
        })
    }
}

impl Admin for AmqpBroker {
    /// What is ready and what is dead. What workers hold and what waits for its time is known to the
    /// server's own tools alone.
    fn stats(&self, queue: &str) -> Result<QueueStats> {
        self.ask(async |link| {
            let depth = topology::depth(link, queue).await?.unwrap_or(0);
            let dead = topology::depth(link, &dead::queue(queue)).await?.unwrap_or(0);
            Ok(QueueStats { depth, dead, ..QueueStats::default() })
        })
    }

    /// Drops what is ready; what waits for its time is out of reach.
    fn purge(&self, queue: &str) -> Result<u64> {
        self.ask(async |link| {
            if topology::depth(link, queue).await?.is_none() {
                return Ok(0);
            }
            let channel = link.plain_channel().await?;
            let name = short("name of the queue", queue)?;
            let purged = channel.queue_purge(name, QueuePurgeOptions { nowait: false }).await;
            let told = |e| link.server.told(&format!("purge the queue `{queue}`"), &e);
            purged.map(u64::from).map_err(told)
        })
    }

    fn dead(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>> {
        self.ask(async |link| dead::list(link, queue, limit).await)
    }

    fn replay(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        self.ask(async |link| dead::take(link, queue, keys, true).await)
    }

    fn discard(&self, queue: &str, keys: Option<&[String]>) -> Result<u64> {
        self.ask(async |link| dead::take(link, queue, keys, false).await)
    }
}
