//! The worker's connections: one socket for many commands at a time, inside a runtime.
//!
//! The library drives the socket and pairs replies with commands. What is added is the socket
//! itself, so that it can be seen whether bytes move, and a bound for silence in the place of the
//! library's bound for a whole reply ([`progress`](super::progress)).

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, PushInfo, RedisConnectionInfo, RedisFuture, RedisResult,
    ToRedisArgs, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    sync::mpsc::UnboundedSender,
    task::AbortHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{progress::Progress, tls::Tls};
use crate::{clock, url::Endpoint};

/// A connection for many concurrent users inside one runtime.
#[derive(Clone)]
pub(crate) struct Multiplexed {
    con: MultiplexedConnection,
    progress: Arc<Progress>,
    patience: Duration,
    /// Last, so that no command is left behind in a driver that has ended.
    _driver: Arc<Driver>,
}

/// The task that moves the bytes; it ends with the last user of the connection.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Multiplexed {
    /// Connects and introduces itself. The connection is dead when no byte moves for `patience`
    /// while a reply is awaited.
    pub(super) async fn open(
        endpoint: &Endpoint,
        tls: Option<&Tls>,
        settings: &RedisConnectionInfo,
        pushes: Option<UnboundedSender<PushInfo>>,
        patience: Duration,
    ) -> RedisResult<Self> {
        let progress = Arc::new(Progress::new());
        let socket = Socket::open(endpoint, tls).await?;
        let stream = Watched { socket, progress: Arc::clone(&progress) };
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let config = match pushes {
            Some(pushes) => config.set_push_sender(pushes),
            None => config,
        };
        let (con, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        let driver = Arc::new(Driver(tokio::spawn(driver).abort_handle()));
        Ok(Self { con, progress, patience, _driver: driver })
    }

    /// Listens to more channels; needs a connection on which the server may push.
    pub(crate) async fn subscribe(
        &mut self,
        channels: &[impl ToRedisArgs + Sync],
    ) -> RedisResult<()> {
        let request = self.con.subscribe(channels);
        Self::reply(&self.progress, self.patience, request).await
    }

    /// The opposite.
    pub(crate) async fn unsubscribe(
        &mut self,
        channels: &[impl ToRedisArgs + Sync],
    ) -> RedisResult<()> {
        let request = self.con.unsubscribe(channels);
        Self::reply(&self.progress, self.patience, request).await
    }

    /// Listens to the channels whose names fit more patterns.
    pub(crate) async fn psubscribe(
        &mut self,
        patterns: &[impl ToRedisArgs + Sync],
    ) -> RedisResult<()> {
        let request = self.con.psubscribe(patterns);
        Self::reply(&self.progress, self.patience, request).await
    }

    /// The opposite.
    pub(crate) async fn punsubscribe(
        &mut self,
        patterns: &[impl ToRedisArgs + Sync],
    ) -> RedisResult<()> {
        let request = self.con.punsubscribe(patterns);
        Self::reply(&self.progress, self.patience, request).await
    }

    /// Waits for the reply to a request for as long as the connection is alive.
    async fn reply<T>(
        progress: &Progress,
        patience: Duration,
        request: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let since = clock::mono_us();
        let mut request = pin!(request);
        while let Some(left) = progress.left(since, patience) {
            if let Ok(reply) = tokio::time::timeout(left, &mut request).await {
                return reply;
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut).into())
    }
}

impl ConnectionLike for Multiplexed {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let request = self.con.send_packed_command(command);
        Box::pin(Self::reply(&self.progress, self.patience, request))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let request = self.con.send_packed_commands(commands, offset, count);
        Box::pin(Self::reply(&self.progress, self.patience, request))
    }

    fn get_db(&self) -> i64 {
        self.con.get_db()
    }
}

/// A stream of bytes to a server.
enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Socket {
    async fn open(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Self> {
        let (host, port) = match endpoint {
            Endpoint::Tcp { host, port, .. } => (host.as_str(), *port),
            #[cfg(unix)]
            Endpoint::Unix(path) => {
                return Ok(Self::Unix(tokio::net::UnixStream::connect(path).await?));
            }
            #[cfg(not(unix))]
            Endpoint::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let stream = tcp(host, port).await?;
        stream.set_nodelay(true)?;
        let Some(Tls { config, name }) = tls else { return Ok(Self::Tcp(stream)) };
        let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
        Ok(Self::Tls(Box::new(tls)))
    }
}

/// Connects to the first address of `host` that accepts.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// A socket that notes when bytes move.
struct Watched {
    socket: Socket,
    progress: Arc<Progress>,
}

/// Calls a method of whichever stream it is.
macro_rules! delegate {
    ($watched:expr, $method:ident($($argument:expr),*)) => {
        match &mut $watched.socket {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Tls(stream) => Pin::new(stream).$method($($argument),*),
            #[cfg(unix)]
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = delegate!(self, poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.progress.read();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = delegate!(self, poll_write(cx, bytes));
        if let Poll::Ready(Ok(count)) = written {
            self.progress.written(count);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use redis::cmd;

    use super::*;

    /// A connection to `server`, which runs in a thread with the other end.
    async fn connected(
        patience: Duration,
        server: impl FnOnce(std::net::TcpStream) + Send + 'static,
    ) -> Multiplexed {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || server(listener.accept().unwrap().0));
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port, tls: false };
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        Multiplexed::open(&endpoint, None, &settings, None, patience).await.unwrap()
    }

    #[tokio::test]
    async fn a_reply_may_take_longer_than_a_silence() {
        let patience = Duration::from_millis(500);
        let mut con = connected(patience, move |mut stream| {
            stream.read_exact(&mut [0; 14]).unwrap();
            stream.write_all(b"$1000000\r\n").unwrap();
            let (end, mut sent) = (clock::instant() + 3 * patience, 0);
            while sent < 1_000_000 {
                let piece = if clock::instant() < end { 1 } else { 1_000_000 - sent };
                stream.write_all(&vec![b'x'; piece]).unwrap();
                sent += piece;
                std::thread::park_timeout(patience / 100);
            }
            stream.write_all(b"\r\n").unwrap();
        })
        .await;
        let reply: Vec<u8> = cmd("PING").query_async(&mut con).await.unwrap();
        assert_eq!(reply.len(), 1_000_000);
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let mut con = connected(Duration::from_millis(20), |mut stream| {
            let _ = stream.read(&mut [0; 99]);
            let _ = stream.read(&mut [0; 99]); // until the test is over
        })
        .await;
        let error = cmd("PING").exec_async(&mut con).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }
}
