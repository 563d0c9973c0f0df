//! The HTTP server: takes connections, reads one request of each, answers and closes.
//!
//! Every connection is bounded in bytes and in time. When there are [`MOST`], the oldest is dropped
//! for a new one: a client that is served takes milliseconds, so the oldest is one that does not
//! speak, and whoever opens a thousand connections keeps nobody else out.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    check::{Health, Verdict},
    endpoint::Bound,
    metrics::Metrics,
    request::{self, MOST_BYTES, Path, Refusal, Request},
};
use crate::broker::Admin;

/// Connections at a time.
const MOST: usize = 64;
/// How long a request may take to come.
const READ: Duration = Duration::from_secs(5);
/// How long an answer may take to go.
const WRITE: Duration = Duration::from_secs(10);
/// How long, and up to how many bytes, is read of what a client sends beyond its request: a connection that is
/// closed with bytes unread loses the answer on its way.
const REST: Duration = Duration::from_secs(1);
const REST_BYTES: usize = 1 << 20;
/// After a connection could not be taken, as when there are no more open files.
const PAUSE: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers probes and scrapes.
pub struct Server {
    pages: Arc<Pages>,
}

struct Pages {
    health: Health,
    metrics: Metrics,
}

struct Answer {
    status: (u16, &'static str),
    kind: &'static str,
    body: String,
}

impl Server {
    /// For the worker that `health` asks, with a pool of this name and this broker.
    pub fn new(health: Health, hostname: &str, pool: &str, broker: Arc<dyn Admin>) -> Self {
        let metrics = Metrics::new(hostname, pool, broker);
        Self { pages: Arc::new(Pages { health, metrics }) }
    }

    /// Serves for ever. Inside a runtime with I/O and time.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub async fn serve(self, at: Bound) -> io::Result<()> {
        match at {
            Bound::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                self.take(async || Ok(listener.accept().await?.0)).await
            }
            #[cfg(unix)]
            Bound::Unix(listener, _path) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                self.take(async || Ok(listener.accept().await?.0)).await
            }
        }
    }

    async fn take<S>(self, accept: impl AsyncFn() -> io::Result<S>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut served: JoinSet<()> = JoinSet::new();
        let mut order: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let accepted = accept().await;
            while served.try_join_next().is_some() {}
            order.retain(|one| !one.is_finished());
            match accepted {
                Ok(stream) => {
                    if order.len() >= MOST
                        && let Some(oldest) = order.pop_front()
                    {
                        oldest.abort();
                    }
                    let pages = Arc::clone(&self.pages);
                    order.push_back(served.spawn(async move { pages.serve(stream).await }));
                }
                Err(error) => {
                    let cause = error.to_string();
                    tracing::debug!(cause, "an HTTP connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Pages {
    /// One connection, from its request to its end.
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let request = match timeout(READ, read(&mut stream)).await {
            Ok(None) => return, // it left without a word
            Ok(Some(request)) => request,
            Err(_) => Err(Refusal::Late),
        };
        let (answer, head) = match request {
            Ok(request) => (self.answer(request).await, request.head),
            Err(refusal) => (refused(refusal), false),
        };
        let bytes = answer.bytes(head);
        let send = async {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        };
        if let Ok(Ok(())) = timeout(WRITE, send).await {
            let _ = timeout(REST, discard(&mut stream)).await;
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        match request.path {
            Path::Live => judged("live", &self.health.live().await),
            Path::Ready => judged("ready", &self.health.ready().await),
            Path::Metrics => {
                let kind = if request.open_metrics { OPEN_METRICS } else { PROMETHEUS };
                let body = self.metrics.write(&self.health, request.open_metrics).await;
                Answer { status: (200, "OK"), kind, body }
            }
        }
    }
}

impl Answer {
    fn bytes(&self, head: bool) -> Vec<u8> {
        let Self { status: (code, phrase), kind, body } = self;
        let allow = if *code == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let mut text = format!(
            "HTTP/1.1 {code} {phrase}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
        );
        if !head {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

fn judged(what: &str, verdict: &Verdict) -> Answer {
    let status = if verdict.is_good() { (200, "OK") } else { (503, "Service Unavailable") };
    Answer { status, kind: JSON, body: format!("{}\n", verdict.to_json(what)) }
}

fn refused(refusal: Refusal) -> Answer {
    let body = format!("{}\n", refusal.sentence());
    Answer { status: refusal.status(), kind: PLAIN, body }
}

/// Reads a request; `None` when the client left before it was whole.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Result<Request, Refusal>> {
    let mut bytes = Vec::with_capacity(1 << 10);
    loop {
        let left = MOST_BYTES - bytes.len();
        if stream.take(left as u64).read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(request) = request::parse(&bytes) {
            return Some(request);
        }
    }
}

/// Reads what is left, up to a bound.
async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut sink = tokio::io::sink();
    tokio::io::copy(&mut stream.take(REST_BYTES as u64), &mut sink).await.map(drop)
}
