//! What a broker promises, whichever it is. One conformance suite holds every adapter to it.
//!
//! * **Claim is atomic.** There is no moment at which a message is neither in its queue nor
//!   recorded as held by a worker's epoch.
//! * **A worker holds by its own life.** It renews one lease; while it does, nothing it holds is
//!   handed to another, however long a task runs. When the lease lapses, any other worker puts
//!   everything back, in order, in seconds.
//! * **Blame only what had begun.** A worker that loses a process says which message it ran, and
//!   after `max_deliveries` of these the message is parked among the dead letters. When a whole
//!   worker is lost nobody knows what it ran, except what it had marked as begun
//!   ([`Consumer::begin`]): that is counted, the rest is not, and all of it is put back as
//!   *suspect*, whatever its count: whoever claims it judges it, and can say to those who wait for
//!   the task what became of it.
//! * **Delays live here.** What is due later than [`HORIZON_MS`] stays in the broker's due set;
//!   what comes due within it is claimed once, by one worker, whose ETA heap gives the last
//!   milliseconds.
//! * **Fetch many, settle many**, in one round trip each. An idle `fetch` waits blocked; it does
//!   not poll.
//!
//! A broker has several ports: [`Broker`] for those who publish and consume, [`Admin`] for
//! operators, [`Broadcast`] for remote control and events, [`Schedule`] for periodic tasks. The first is what makes it a broker; the
//! others it may have in part, and [`Broker::capabilities`] tells which part.
//!
//! Producers call from any thread and block; consumers live in the worker's runtime and are async.
//! A port carries messages. In which bytes they lie in a broker is its adapter's own affair; it
//! opens no body.

pub mod admin;
pub mod broadcast;
pub mod answer;
pub mod capability;
pub mod deadletter;
pub mod declaration;
mod encoded;
mod routed;
mod inbox;
mod cancelled;
pub mod epoch;
pub mod lease;
pub mod memory;
pub mod order;
pub mod schedule;
pub mod redis;
pub mod sqlite;
pub mod amqp;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    clock::Millis,
    error::Result,
    future::BoxFuture,
    message::{Encoding, Message},
};
pub use admin::{Admin, QueueStats};
pub use answer::Answer;
pub use broadcast::Broadcast;
pub use capability::Capability;
pub use deadletter::DeadLetter;
pub use declaration::{ExchangeDeclaration, QueueBinding, QueueDeclaration, Route};
pub use order::QueueOrder;
pub use schedule::Schedule;

/// How far ahead of its due time a scheduled message may be claimed into a worker's memory.
pub const HORIZON_MS: Millis = 2_000;

/// The number of priorities: 0 (served first) to 9. Redis keeps Celery's four lists: 0, 3, 6, 9.
pub const PRIORITIES: u8 = 10;

/// One message on its way to a queue.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message; its properties name the exchange and the routing key.
    pub message: Message,
    /// Name of the queue, which is the routing key on the default exchange.
    pub queue: Arc<str>,
    /// What the message is written in, where the broker carries bytes.
    pub encoding: Encoding,
    /// Whether the id was made for this message, so that the due set cannot hold another under it.
    /// Scheduling is cheaper then; a message with a false claim may take the place of its namesake.
    pub new_id: bool,
    /// The way that it goes when that is another than to a queue that nobody has declared
    /// otherwise, by the name of the queue on the default exchange.
    pub route: Option<Arc<Route>>,
}

impl Outgoing {
    /// A message to `queue` whose id may be known to the broker.
    pub fn new(message: Message, queue: Arc<str>, encoding: Encoding) -> Self {
        Self { message, queue, encoding, new_id: false, route: None }
    }

    /// When it is due; `None` means now. Adapters keep what is due after `now + HORIZON_MS` in the
    /// due set and everything else in the queue (the worker's ETA heap holds it for the rest).
    ///
    /// A message in Celery's encoding is due at once, whatever its ETA, as if a stock client had
    /// sent it: a stock worker may be the consumer, and it knows no due set.
    pub fn due(&self) -> Option<Millis> {
        match self.encoding {
            // The millisecond by whose end the ETA has passed: a task is never early.
            Encoding::Compact => self
                .message
                .headers
                .eta
                .map(|eta| eta.div_euclid(1_000) + Millis::from(eta.rem_euclid(1_000) != 0)),
            Encoding::Celery => None,
        }
    }
}

/// How an adapter recognises a message that it handed out. Opaque to everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// Which of the adapter's lanes (queue and priority) it came from.
    pub lane: u32,
    /// Its number; unique among what this consumer holds, and ordered within a lane as the lane is
    /// served.
    pub seq: u64,
}

/// A message that this worker holds, and how to settle it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Handed back in a [`Settlement`].
    pub tag: Tag,
    /// The queue it came from.
    pub queue: Arc<str>,
    /// How many earlier deliveries ended with a lost worker.
    pub redeliveries: u32,
    /// Whether a worker was lost that held it, so that it may be what killed that worker. Until it
    /// has run to its end.
    pub suspect: bool,
    /// The message in one of its encodings, or what came instead of one, untouched. See
    /// [`Delivery::message`].
    pub raw: Bytes,
}

/// What becomes of a held message.
#[derive(Clone, Debug)]
pub enum Settle {
    /// Done with; forget it (and its delivery count).
    Ack,
    /// Back to the head of its queue, uncounted: claimed but never started, at shutdown. A batch of
    /// these keeps its order.
    HandBack,
    /// Back to the tail of its queue, not suspect any more: `Reject(requeue=True)`.
    Requeue,
    /// Back because the process that ran it died: counted, to the head; dead-lettered at
    /// `max_deliveries`.
    Redeliver {
        /// Task id, under which redeliveries are counted.
        id: Arc<str>,
    },
    /// Into the due set until then. When that time has passed, and so what came due and found no
    /// room here: back to its queue at once, ahead of what was never scheduled, in the order of the
    /// due times.
    Defer {
        /// Task id, under which it can be cancelled.
        id: Arc<str>,
        /// When it is due.
        due: Millis,
    },
    /// Parked among the dead letters of its queue, with the raw bytes.
    Park {
        /// Task id, or empty when it could not be read.
        id: Arc<str>,
        /// Why, in one sentence.
        reason: String,
    },
}

/// A decision about one held message.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Which.
    pub tag: Tag,
    /// What becomes of it.
    pub how: Settle,
}

/// What a consumer wants from the broker.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The queues.
    pub queues: Vec<Arc<str>>,
    /// How they are declared, as far as that is not [`QueueDeclaration::named`]; may be of other
    /// queues too.
    pub declarations: Vec<Arc<QueueDeclaration>>,
    /// In which order they are served within a priority.
    pub order: QueueOrder,
    /// Unique name of this worker process start; the adapter takes a fresh one when its lease
    /// lapsed.
    pub epoch: String,
    /// At this count [`Settle::Redeliver`] parks a message.
    pub max_deliveries: u32,
}

impl Subscription {
    /// How a queue is declared.
    pub fn declaration(&self, queue: &Arc<str>) -> Arc<QueueDeclaration> {
        let known = self.declarations.iter().find(|known| known.name == *queue);
        known.cloned().unwrap_or_else(|| Arc::new(QueueDeclaration::named(queue)))
    }
}

/// How much a fetch asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Messages that may run.
    pub ready: usize,
    /// How many of these may be suspect. What is not suspect does not wait behind suspects for
    /// which this leaves no room.
    pub suspects: usize,
    /// Beside those, scheduled ones that come due within [`HORIZON_MS`].
    pub due: usize,
}

impl Want {
    /// So many that may run, suspect or not, and so many scheduled ones.
    pub fn of(ready: usize, due: usize) -> Self {
        Self { ready, suspects: ready, due }
    }
}

/// What one sweep for dead workers put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Messages returned to their queues.
    pub requeued: u64,
}

/// The producer's side: blocking, callable from any thread, safe to share. Every call ends by its
/// deadline. It belongs to the process that made it: a forked one makes its own
/// ([`PerProcess`](crate::fork::PerProcess)).
pub trait Broker: Send + Sync {
    /// Writes the batch and says of each message, in order, what became of it. One call is one
    /// pipeline (or one transaction); what cannot be routed does not keep the rest.
    ///
    /// # Errors
    /// `Connection` when the broker cannot be reached before `deadline` (nothing is retried here:
    /// `publish` does that); `Storage` when it answers but cannot write.
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>>;

    /// Connects, authenticates, registers the lease. Must be awaited inside the worker's runtime.
    ///
    /// Called again after a failure. While the lease of the epoch stands it is resumed: tags handed
    /// out before stay valid, and what was claimed without the worker learning of it goes back.
    /// When it lapsed, [`Consumer::epoch`] is a fresh name and every older tag is void.
    ///
    /// The queues may be others than before. What is held from a queue that is left out stays held:
    /// it is settled, recovered and released as before, and nothing more is claimed there.
    fn consume(&self, subscription: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>>;

    /// The URL with its password hidden.
    fn url(&self) -> &str;

    /// What it can do beyond this port. What is not among it answers `Unsupported`.
    fn capabilities(&self) -> &'static [Capability];
}

/// All ports of one broker.
pub trait Adapter: Admin + Broadcast + Schedule {}

impl<T: Admin + Broadcast + Schedule> Adapter for T {}

/// The worker's side of one connection. All methods take `&self` and may run concurrently with each
/// other, except that at most one `fetch` is outstanding. Dropping a `fetch` future is safe: what
/// it claimed is still recorded under the epoch, and is given to the next fetch, whatever that asks
/// for, or comes back with `release`.
pub trait Consumer: Send + Sync {
    /// Claims what is wanted: messages that may run, highest priority first, within one suspects
    /// and then what was put back overdue ahead of the rest of its queue; and scheduled ones. What
    /// came due in the due set because nobody claimed it in time may count as either, and is not
    /// counted as suspect. Waits blocked while there is nothing; returns at least one delivery, or
    /// an error.
    ///
    /// # Errors
    /// `Connection` when the link is gone: call [`Broker::consume`] again. `Fenced` when the lease
    /// had lapsed.
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<Vec<Delivery>>>;

    /// Settles a batch, in order, atomically per queue lane. Tags that are not held any more are
    /// ignored.
    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>>;

    /// Publishes a message over this connection, without blocking a thread, where one command does it;
    /// else `None`, and [`Broker::publish`] does it. Errors are those of that.
    fn publish(&self, message: &Outgoing) -> Option<BoxFuture<'static, Result<()>>> {
        let _ = message;
        None
    }

    /// Renews the lease; the worker calls it every [`lease::RENEW_MS`]. `Fenced` when it had
    /// lapsed.
    fn renew(&self) -> BoxFuture<'_, Result<()>>;

    /// Records that these held messages have begun: should the lease lapse, they are counted. It is
    /// forgotten with the next settlement; tags that are not held any more are ignored.
    fn begin(&self, tags: Vec<Tag>) -> BoxFuture<'_, Result<()>>;

    /// Puts back, as suspects and in order, what workers with a lapsed lease held, and counts what
    /// they had marked as begun; the worker calls it every [`lease::SWEEP_MS`].
    fn recover(&self) -> BoxFuture<'_, Result<Recovered>>;

    /// The epochs whose lease stands, at least those on the queues of this consumer, with its own.
    fn epochs(&self) -> BoxFuture<'_, Result<Vec<String>>>;

    /// Hands back, in order, what is recorded under this epoch and is not among `held`. The worker calls it
    /// when its lease was resumed, before it fetches: a server that comes back with an older state has
    /// messages in it that were settled since. Where that cannot happen there is nothing to do.
    fn retain(&self, held: Vec<Tag>) -> BoxFuture<'_, Result<Recovered>> {
        drop(held);
        Box::pin(async { Ok(Recovered::default()) })
    }

    /// Hands back, in order, everything still held under this epoch, and drops the lease. The last
    /// call.
    fn release(&self) -> BoxFuture<'_, Result<()>>;

    /// The epoch that the broker knows this consumer by.
    fn epoch(&self) -> &str;
}
