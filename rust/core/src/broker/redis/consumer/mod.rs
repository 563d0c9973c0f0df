//! The worker's side of the broker: what a worker was given, by which right, and how it is settled.
//!
//! A worker holds a *lease* under the name of its *epoch*, which lasts as long as the process
//! renews it. Under it there is one *session* after the other, each as long as its connections. The
//! right to claim from a lane is the number of the session in the lane's record of unacked
//! messages:
//!
//! ```text
//!                 register, open every lane                a fetch claims, a settlement deletes
//!   (no lease) ------------------------------> session 1 --------------------------------------+
//!                                                  | connection broken                          |
//!                                                  v open every lane: what is in doubt goes back|
//!                                              session 2 <--------------------------------------+
//!                                                  |
//!               release <--------------------------+----------------------> lapsed
//!   every lane handed back in order, lease dropped        taken away by another worker, lane by lane; counted, to the head
//! ```
//!
//! * [`connect`] makes sessions, [`session`] is what its parts share, [`ledger`] is what outlives
//!   it.
//! * [`fetch`] is the task that fetches, with [`lanes`] (what to ask), [`ask`] (asking) and
//!   [`wait`] (being told at once).
//! * [`fanout`] hears what is published to all workers.
//! * [`settle`], [`publish`] and [`recover`] are the rest of the port.
//!
//! However many queues there are, a worker has one connection for fetching, one for all else, and
//! [`wait::MOST`] for waits.

mod ask;
mod connect;
mod fanout;
mod fetch;
mod lanes;
mod ledger;
mod publish;
mod recover;
mod request;
mod session;
mod settle;
mod wait;

use std::sync::{Arc, Mutex};

use redis::pipe;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

pub(super) use self::{connect::consume, ledger::Ledger};
use self::{recover::Watch, request::Request, session::Session};
use super::scripts::RELEASE;
use crate::{
    broker::{Consumer, Delivery, Outgoing, QueueDeclaration, Recovered, Settlement, Tag, Want},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// The port's consumer.
struct RedisConsumer {
    session: Arc<Session>,
    requests: mpsc::UnboundedSender<Request>,
    /// The task that fetches.
    fetcher: AbortHandle,
    /// The task that listens, if there is anything to hear.
    listener: Option<AbortHandle>,
    /// The queues that are consumed and declared.
    declared: Vec<Arc<QueueDeclaration>>,
    /// Behind a std mutex because a section is one look at a list of leases, and awaits nothing.
    watch: Mutex<Watch>,
}

impl RedisConsumer {
    /// Ends the tasks.
    fn stop(&self) {
        self.fetcher.abort();
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }

    fn ended(&self) -> Error {
        let epoch = &self.session.epoch;
        let text = format!("the consumer of epoch `{epoch}` has ended; consume again");
        Error::new(ErrorKind::Fenced, text)
    }

    /// Hands everything back and drops the lease. What could not go back, because a key is of
    /// another type, is left to those who recover a lapsed lease.
    async fn give_up(&self) -> Result<()> {
        let session = &self.session;
        let mut commands = pipe();
        for served in &session.lanes {
            let mut keys = vec![&*served.lane.list, &*served.redelivered, &*served.unacked];
            keys.extend(served.moved.as_deref());
            commands.add_command(RELEASE.call(&keys));
        }
        let replies = session.replies("release the lease", commands).await?;
        let mut all = true;
        for (served, reply) in session.lanes.iter().zip(replies) {
            if let Err(error) = reply.extract_error() {
                session.spared("release the lease", &served.unacked, error)?;
                all = false;
            }
        }
        if all {
            let mut commands = fanout::forget(session, &self.declared);
            commands.cmd("ZREM").arg(session.keys.leases()).arg(&session.epoch);
            commands.cmd("DEL").arg(session.keys.queues_of(&session.epoch));
            session.run("release the lease", commands).await?;
        }
        Ok(())
    }
}

impl Consumer for RedisConsumer {
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let request = Request { want, reply };
            self.requests.send(request).map_err(|_| self.ended())?;
            let claimed = answer.await.map_err(|_| self.ended())??;
            Ok(claimed.take())
        })
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(settle::settle(&self.session, batch))
    }

    fn publish(&self, message: &Outgoing) -> Option<BoxFuture<'static, Result<()>>> {
        publish::publish(&self.session, message)
    }

    fn begin(&self, tags: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(settle::begin(&self.session, tags))
    }

    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.session.register("renew", &[]))
    }

    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(recover::recover(&self.session, &self.watch))
    }

    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(recover::standing(&self.session))
    }

    fn retain(&self, held: Vec<Tag>) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(recover::retain(&self.session, held))
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.stop();
            self.give_up().await
        })
    }

    fn epoch(&self) -> &str {
        &self.session.epoch
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.stop();
    }
}
