//! The HTTP server of a worker, on a thread of its own, so that it answers also for a loop that has
//! stalled.

use std::{sync::Arc, thread::JoinHandle};

use pyo3::prelude::*;
use taskcore::{
    Error, ErrorKind,
    broker::{Adapter, Admin},
    health::{Bound, Endpoint, Health, Server},
};
use tokio::sync::oneshot;

use crate::{config::attr, errors};

/// What the server of a worker is made of.
pub(crate) struct HttpParts {
    at: Bound,
    hostname: String,
    pool: String,
    broker: Arc<dyn Admin>,
}

/// The server runs as long as this is kept; when it is dropped the port is closed.
pub(crate) struct Serving {
    until: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpParts {
    /// Listens where the configuration says, if it does.
    pub(crate) fn of(
        config: &pyo3::Bound<'_, PyAny>,
        broker: &Arc<dyn Adapter>,
    ) -> PyResult<Option<Self>> {
        let Some(text) = attr::<Option<String>>(config, "http")? else { return Ok(None) };
        let bound = Endpoint::parse(&text).and_then(|endpoint| endpoint.bind());
        let at = bound.map_err(|e| errors::argument(config.py(), &e))?;
        let (hostname, pool) = (attr(config, "hostname")?, attr(config, "pool")?);
        Ok(Some(Self { at, hostname, pool, broker: broker.clone() }))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.at.address()
    }

    /// Serves. Called in the loop's thread, whose subscriber of the log it takes along.
    pub(crate) fn serve(self, health: Health) -> taskcore::Result<Serving> {
        let (until, ended) = oneshot::channel::<()>();
        let log = tracing::dispatcher::get_default(Clone::clone);
        let body = move || tracing::dispatcher::with_default(&log, || self.run(health, ended));
        let thread = std::thread::Builder::new().name("taskcore-http".into()).spawn(body);
        let thread = thread.map_err(|e| {
            Error::caused(ErrorKind::Internal, "the thread of the HTTP server cannot start", e)
        })?;
        Ok(Serving { until: Some(until), thread: Some(thread) })
    }

    fn run(self, health: Health, ended: oneshot::Receiver<()>) {
        let Self { at, hostname, pool, broker } = self;
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "health and metrics cannot be served"),
        };
        runtime.block_on(async {
            let server = Server::new(health, &hostname, &pool, broker);
            tokio::select! {
                end = server.serve(at) => if let Err(error) = end {
                    tracing::error!(%error, "health and metrics cannot be served");
                },
                _ = ended => {}
            }
        });
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.until.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it was told to end, and a panic of its own was printed
        }
    }
}
