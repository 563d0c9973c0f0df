//! A worker's side of a session.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use lapin::options::BasicQosOptions;

use super::{AmqpBroker, session::Session, settle::Rules};
use crate::{
    broker::{Consumer, Delivery, Recovered, Settlement, Subscription, Tag, Want, order::Turns},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
};

/// A fetch that finds nothing for so long, though more is asked for than the server gives, takes it
/// that what is held stays held, and asks for more beside it. Acknowledgements are quicker.
const PATIENCE: Duration = Duration::from_millis(25);

/// A worker's consumer: queues of one session.
pub(super) struct AmqpConsumer {
    broker: AmqpBroker,
    session: Arc<Session>,
    queues: Vec<Arc<str>>,
    rules: Rules,
    /// Behind a std mutex because a section is one hand-out, which awaits nothing.
    turns: Mutex<Turns>,
}

impl AmqpConsumer {
    pub(super) fn new(broker: AmqpBroker, session: Arc<Session>, wanted: Subscription) -> Self {
        let turns = Mutex::new(Turns::new(wanted.order, wanted.queues.len()));
        let delay_kind = Arc::clone(&broker.delay_kind);
        let rules = Rules { max_deliveries: wanted.max_deliveries, delay_kind };
        Self { broker, session, queues: wanted.queues, rules, turns }
    }

    /// Has the server give more, in a task of its own: a fetch may be dropped at any moment.
    fn ask_for(&self, want: usize, held: bool) -> Result<()> {
        let client = self.broker.client()?;
        for (queue, credit) in self.session.lacking(want, held) {
            let session = Arc::clone(&self.session);
            client.runtime.spawn(async move {
                // An error has ended the session, which the fetch will say.
                let _ = session.consume(&queue, credit).await;
                session.changed(&queue);
            });
        }
        Ok(())
    }

    /// Deliveries, or none when the server is to be asked for them once more.
    async fn next(&self, want: Want) -> Result<Vec<Delivery>> {
        std::future::poll_fn(|cx| {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            self.session.poll(cx, want, &mut turns, &self.queues)
        })
        .await
    }

    async fn fetch(&self, want: Want) -> Result<Vec<Delivery>> {
        // Scheduled messages come as any others, when they are due.
        let want = if want.ready == 0 { Want::of(want.due, 0) } else { want };
        let _fetching = self.session.fetching();
        loop {
            self.ask_for(want.ready, false)?;
            let mut next = pin!(self.next(want));
            // Most fetches find something, and need no timer.
            let first = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            let got = if let Poll::Ready(got) = first {
                got?
            } else if let Ok(got) = tokio::time::timeout(PATIENCE, next.as_mut()).await {
                got?
            } else {
                self.ask_for(want.ready, true)?;
                next.await?
            };
            if !got.is_empty() {
                return Ok(got);
            }
        }
    }
}

impl Consumer for AmqpConsumer {
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.fetch(want))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Ok(());
            }
            self.session.settle(batch, self.broker.client()?, &self.rules).await
        })
    }

    fn begin(&self, _tags: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.session.check() })
    }

    /// A connection that answers is one that the server has not given up.
    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.session.check()?;
            self.session.answers().await?;
            self.session.relinquish().await
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(async { Ok(Recovered::default()) })
    }

    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(vec![self.session.epoch.clone()]) })
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.broker.forget(&self.session);
            // The server puts back what is held when the channel is closed, and confirms that.
            let closed = self.session.channel.close(200, "OK".into()).await;
            self.session.end("it was released".to_owned());
            let _ = self.session.link.connection.close(200, "OK".into()).await;
            closed.map_err(|e| {
                Error::new(ErrorKind::Connection, format!("the channel was lost: {e}"))
            })
        })
    }

    fn epoch(&self) -> &str {
        &self.session.epoch
    }
}

impl Session {
    /// Whether the server answers.
    pub(super) async fn answers(&self) -> Result<()> {
        let options = BasicQosOptions { global: false };
        let asked = self.probe.basic_qos(0, options).await;
        asked.map_err(|e| self.failed(&e))
    }
}
