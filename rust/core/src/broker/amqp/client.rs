//! What a process publishes by: one connection, a thread that drives it, and channels that those
//! who publish take turns with.
//!
//! Consumers have connections of their own: a server that is short of memory or disk stops reading
//! from connections that publish, and acknowledgements must not stop with them. A channel serves one
//! batch at a time, so that what the server returns belongs to that batch.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lapin::{Channel, Connection, options::ConfirmSelectOptions};
use tokio::{runtime::Handle, sync::oneshot};

use super::{block_on::block_on, server::Server};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

/// Channels that are kept for the next to publish.
const KEPT: usize = 16;
/// How often the opening of a channel is tried.
const OPENINGS: usize = 5;
/// What a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The publishing side of one process.
pub(super) struct Client {
    pub(super) server: Arc<Server>,
    /// Of the thread's runtime.
    pub(super) runtime: Handle,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    /// Ends the thread when it is dropped.
    _alive: oneshot::Sender<()>,
}

/// One connection, and what is known about the server over it.
pub(super) struct Link {
    pub(super) server: Arc<Server>,
    pub(super) connection: Connection,
    /// Nobody uses these now. Behind a std mutex because a section is a push or a pop.
    idle: Mutex<Vec<Channel>>,
    /// What was declared over this connection. Likewise.
    declared: Mutex<HashSet<String>>,
}

impl Client {
    /// Starts the thread; connects nothing yet.
    pub(super) fn new(server: Arc<Server>) -> Result<Self> {
        let failed = |e| Error::caused(ErrorKind::Internal, "cannot start the thread of amqp", e);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("taskcore-amqp".to_owned());
        let run = move || {
            let _ = runtime.block_on(ended);
        };
        thread.spawn(run).map_err(failed)?;
        Ok(Self { server, runtime: handle, link: tokio::sync::Mutex::default(), _alive: alive })
    }

    /// The connection, opened if there is none that stands.
    pub(super) async fn link(&self) -> Result<Arc<Link>> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| link.connection.status().connected()) {
            return Ok(Arc::clone(link));
        }
        *link = None;
        let connection = self.server.connect(&self.runtime, "taskcore publisher").await?;
        let server = Arc::clone(&self.server);
        Ok(Arc::clone(link.insert(Arc::new(Link::new(server, connection)))))
    }

    /// Waits in this thread for something that is done with the connection.
    ///
    /// # Errors
    /// `Timeout` at the deadline, saying whether the server has blocked its publishers.
    pub(super) fn run<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Some(result) = block_on(deadline, work) {
            return result;
        }
        let blocked = self
            .link
            .try_lock()
            .is_ok_and(|link| link.as_ref().is_some_and(|link| link.connection.status().blocked()));
        let hint = if blocked {
            " (it blocks publishers: it is short of memory or disk, see `rabbitmqctl status`)"
        } else {
            ""
        };
        let text =
            format!("rabbitmq at `{}` did not confirm before the deadline{hint}", self.server.url);
        Err(Error::new(ErrorKind::Timeout, text))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(link) = self.link.get_mut().take() {
            let closing = link.connection.close(200, "OK".into());
            let _ = block_on(clock::instant() + GOODBYE, closing);
        }
    }
}

impl Link {
    pub(super) fn new(server: Arc<Server>, connection: Connection) -> Self {
        Self { server, connection, idle: Mutex::default(), declared: Mutex::default() }
    }

    /// A channel on which publishes are confirmed, for this caller alone. It is given back with
    /// [`Link::put_back`], and closed otherwise.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let kept = loop {
            match self.idle().pop() {
                Some(channel) if !channel.status().connected() => {}
                kept => break kept,
            }
        };
        if let Some(channel) = kept {
            return Ok(channel);
        }
        let channel = self.plain_channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirming.map_err(|e| self.server.told("ask for confirms", &e))?;
        Ok(channel)
    }

    pub(super) fn put_back(&self, channel: Channel) {
        let mut idle = self.idle();
        if idle.len() < KEPT && channel.status().connected() {
            idle.push(channel);
        }
    }

    /// A channel for anything else.
    pub(super) async fn plain_channel(&self) -> Result<Channel> {
        let mut last = None;
        // A channel takes the number of one that the server has just closed, and lapin may tell it
        // of that.
        for _ in 0..OPENINGS {
            match self.connection.create_channel().await {
                Ok(channel) => return Ok(channel),
                Err(error) if self.connection.status().connected() => last = Some(error),
                Err(error) => return Err(self.server.told("open a channel", &error)),
            }
        }
        let error = last.expect("there was an attempt");
        Err(self.server.told("open a channel", &error))
    }

    /// Whether this was declared over this connection.
    pub(super) fn has_declared(&self, what: &str) -> bool {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).contains(what)
    }

    pub(super) fn declared(&self, what: String) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }

    /// The server does not have it any more.
    pub(super) fn forget(&self, what: &str) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
