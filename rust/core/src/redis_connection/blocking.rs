//! A blocking connection that stays awake for a reply, and that ends in time.
//!
//! A server nearby answers in some ten microseconds, but a thread that went to sleep meanwhile, and
//! often a processor with it, takes several times as long to wake up. So the reply to a lone
//! command is looked for during [`AWAKE`] before the thread sleeps, giving the processor to whoever
//! wants it between two looks. A server that takes longer is far away or busy, and for the next
//! [`ASLEEP`] replies the thread sleeps at once. Behind TLS it always sleeps.
//!
//! What an operation may take is a [`Limit`], which is looked at before each read and write of the
//! socket: a server that answers byte by byte does not stretch it.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use redis::{ConnectionLike, ErrorKind, Parser, RedisError, RedisResult, Value, cmd};
use rustls::{ClientConnection, StreamOwned};

use super::tls::Tls;
use crate::{
    clock,
    url::{Endpoint, RedisUrl},
};

/// How long a reply is awaited awake.
const AWAKE: Duration = Duration::from_micros(50);
/// How many replies are awaited asleep after one that took longer.
const ASLEEP: u32 = 64;
/// How far a socket's timeout may be from the time that is left before it is set again: setting it
/// is a system call.
const TIMEOUT_SLACK: Duration = Duration::from_millis(50);

/// What an operation may take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// It ends by then, whatever moves.
    Until(Instant),
    /// It ends when nothing moves for so long.
    Silence(Duration),
}

impl Limit {
    /// What the next read or write may take.
    fn left(self) -> io::Result<Duration> {
        match self {
            Self::Until(deadline) => left(deadline),
            Self::Silence(time) => Ok(time),
        }
    }
}

/// A connection for one user at a time, who reads a reply for each command.
pub(crate) struct Connection {
    stream: Stream,
    parser: Parser,
    db: i64,
    /// So many of the next replies are awaited asleep.
    asleep: u32,
}

impl Connection {
    /// Connects to `target` and introduces itself.
    pub(super) fn open(
        target: &RedisUrl,
        tls: Option<&Tls>,
        deadline: Instant,
    ) -> RedisResult<Self> {
        let socket = match &target.endpoint {
            Endpoint::Tcp { host, port, .. } => Socket::tcp(host, *port, deadline)?,
            #[cfg(unix)]
            Endpoint::Unix(path) => Socket::unix(path, deadline)?,
            #[cfg(not(unix))]
            Endpoint::Unix(_) => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let wire = Wire { socket, limit: Limit::Until(deadline), timeout: Duration::ZERO };
        let stream = match tls {
            None => Stream::Plain(wire),
            Some(Tls { config, name }) => {
                let client = ClientConnection::new(Arc::clone(config), name.clone())
                    .map_err(io::Error::other)?;
                let mut tls = StreamOwned::new(client, wire);
                tls.conn.complete_io(&mut tls.sock)?;
                Stream::Tls(Box::new(tls))
            }
        };
        let mut con = Self { stream, parser: Parser::new(), db: target.db, asleep: 0 };
        con.introduce(target)?;
        Ok(con)
    }

    /// Says who is calling and which database is meant.
    fn introduce(&mut self, target: &RedisUrl) -> RedisResult<()> {
        if let Some(password) = &target.password {
            let mut auth = cmd("AUTH");
            auth.arg(target.username.as_deref()).arg(password);
            auth.exec(self).map_err(|refusal| match (refusal.code(), refusal.detail()) {
                (Some("ERR"), Some(detail)) if detail.contains("AUTH") => RedisError::from((
                    ErrorKind::AuthenticationFailed,
                    "the server refused the user name or password",
                    detail.to_owned(),
                )),
                _ => refusal, // WRONGPASS among them, which says it itself
            })?;
        }
        if target.db != 0 { cmd("SELECT").arg(target.db).exec(self) } else { Ok(()) }
    }

    /// Sets what the operations from now on may take.
    pub(super) fn limit(&mut self, limit: Limit) {
        match &mut self.stream {
            Stream::Plain(wire) => wire.limit = limit,
            Stream::Tls(tls) => tls.sock.limit = limit,
        }
    }

    /// Sends packed commands.
    pub(super) fn send(&mut self, packed: &[u8]) -> RedisResult<()> {
        let sent = self.stream.write_all(packed).and_then(|()| self.stream.flush());
        sent.map_err(|error| {
            let error = RedisError::from(error);
            self.last_words().filter(|_| !error.is_timeout()).unwrap_or(error)
        })
    }

    /// Why the server closed the connection in the middle of a command, if it said so.
    fn last_words(&mut self) -> Option<RedisError> {
        loop {
            if let Err(refusal) = self.receive().ok()?.extract_error() {
                return Some(refusal);
            }
        }
    }

    /// Reads the next reply, asleep until it comes.
    pub(super) fn receive(&mut self) -> RedisResult<Value> {
        self.parser.parse_value(&mut self.stream)
    }

    /// Reads the reply to a lone command.
    fn reply(&mut self) -> RedisResult<Value> {
        let Stream::Plain(wire) = &mut self.stream else { return self.receive() };
        if self.asleep > 0 {
            self.asleep -= 1;
            return self.parser.parse_value(wire);
        }
        let until = clock::instant() + AWAKE;
        let mut reader = Awake { wire, until: Some(until) };
        let value = self.parser.parse_value(&mut reader);
        if reader.until.is_none() {
            self.asleep = ASLEEP;
        }
        value
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.send(packed)?;
        self.reply()
    }

    fn req_packed_commands(
        &mut self,
        packed: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.send(packed)?;
        for _ in 0..offset {
            self.receive()?;
        }
        (0..count).map(|_| self.receive()).collect()
    }

    fn get_db(&self) -> i64 {
        self.db
    }

    fn check_connection(&mut self) -> bool {
        cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        true // one that failed is thrown away by its user
    }
}

/// What commands are written to and replies read from.
enum Stream {
    Plain(Wire),
    Tls(Box<StreamOwned<ClientConnection, Wire>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(wire) => wire.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// Reads without sleeping until a moment, then as the socket does.
struct Awake<'a> {
    wire: &'a mut Wire,
    /// `None` when it has passed.
    until: Option<Instant>,
}

impl Read for Awake<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(until) = self.until {
            match self.wire.socket.look(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if clock::instant() < until {
                        thread::yield_now();
                    } else {
                        self.until = None;
                    }
                }
                done => return done,
            }
        }
        self.wire.read(buffer)
    }
}

/// A socket whose operations end in time.
struct Wire {
    socket: Socket,
    limit: Limit,
    /// What the socket's timeouts are set to.
    timeout: Duration,
}

impl Wire {
    /// Lets the next read or write last no longer than it may.
    fn in_time(&mut self) -> io::Result<()> {
        let left = self.limit.left()?;
        if self.timeout.abs_diff(left) > TIMEOUT_SLACK || self.timeout.is_zero() {
            self.socket.limit(left)?;
            self.timeout = left;
        }
        Ok(())
    }
}

impl Read for Wire {
    /// A signal, which Python handles later, is no reason to lose a reply.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.in_time()?;
            match self.socket.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.in_time()?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream of bytes to a server.
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Connects to the first address of `host` that accepts.
    fn tcp(host: &str, port: u16, deadline: Instant) -> io::Result<Self> {
        let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in resolve(host, port, deadline)? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Connects to a socket in the file system: a server that accepts nobody makes even that wait.
    #[cfg(unix)]
    fn unix(path: &std::path::Path, deadline: Instant) -> io::Result<Self> {
        use redis::io::tcp::socket2::{Domain, SockAddr, Socket, Type};
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_write_timeout(Some(left(deadline)?))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(Self::Unix(std::os::fd::OwnedFd::from(socket).into()))
    }

    fn limit(&self, left: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
        }
    }

    /// Reads what is there; `WouldBlock` when nothing is.
    #[cfg(unix)]
    fn look(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let read = match self {
            Self::Tcp(stream) => recv(stream, buffer, RecvFlags::DONTWAIT),
            Self::Unix(stream) => recv(stream, buffer, RecvFlags::DONTWAIT),
        };
        Ok(read?.0)
    }

    /// Where a socket cannot be asked without waiting, the thread sleeps.
    #[cfg(not(unix))]
    fn look(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }
}

/// The addresses of a name. The system's resolver knows no deadline, so it is asked by a thread
/// that may be left behind.
fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let resolved = within(deadline, move || (host, port).to_socket_addrs().map(Iterator::collect));
    resolved?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time")
    })?
}

/// What `work`, which knows no deadline, gives by `deadline`; `None` when it takes longer. It runs
/// in a thread of its own, which is then left behind and ends with it.
pub(super) fn within<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let left = left(deadline)?;
    let (send, receive) = mpsc::channel();
    thread::Builder::new().name("taskcore-connect".into()).spawn(move || {
        // Nobody listens any more when the deadline has passed.
        let _ = send.send(work());
    })?;
    Ok(receive.recv_timeout(left).ok())
}

/// The time until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::instant());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_knows_no_deadline_is_left_behind_at_it() {
        let soon = clock::instant() + Duration::from_millis(20);
        let (release, blocked) = mpsc::channel::<()>();
        assert_eq!(within(soon, move || blocked.recv()).unwrap(), None);
        drop(release);
        let later = clock::instant() + Duration::from_secs(30);
        assert_eq!(within(later, || 7).unwrap(), Some(7));
    }

    fn connection(socket: Socket) -> Connection {
        let limit = Limit::Until(clock::instant() + Duration::from_secs(30));
        let stream = Stream::Plain(Wire { socket, limit, timeout: Duration::ZERO });
        Connection { stream, parser: Parser::new(), db: 0, asleep: 0 }
    }

    /// A connection to `server`, which runs in a thread with the other end.
    fn connected(server: impl FnOnce(TcpStream) + Send + 'static) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || server(listener.accept().unwrap().0));
        let deadline = clock::instant() + Duration::from_secs(30);
        connection(Socket::tcp("127.0.0.1", port, deadline).unwrap())
    }

    /// Lets more time pass than a reply is awaited awake.
    fn dawdle() {
        let end = clock::instant() + 4 * AWAKE;
        while clock::instant() < end {
            thread::yield_now();
        }
    }

    /// Answers byte by byte, for ever.
    fn dribble(mut stream: TcpStream) {
        let _ = stream.write_all(b"$1000000\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_reply_that_is_there_is_read_awake() {
        let mut con = connected(|mut stream| {
            stream.write_all(b"+OK\r\n:7\r\n").unwrap();
            let _ = stream.read(&mut [0]); // until the test is over
        });
        assert_eq!(con.receive().unwrap(), Value::Okay);
        assert_eq!(con.reply().unwrap(), Value::Int(7));
        assert_eq!(con.asleep, 0);
    }

    #[test]
    fn a_slow_server_is_awaited_asleep_for_a_while() {
        let mut con = connected(|mut stream| {
            for piece in [b":1\r\n$2\r", b"\nab\r\n:3"] {
                dawdle();
                stream.write_all(piece).unwrap();
            }
            stream.write_all(b"\r\n").unwrap();
            let _ = stream.read(&mut [0]);
        });
        assert_eq!(con.reply().unwrap(), Value::Int(1));
        assert_eq!(con.asleep, ASLEEP);
        assert_eq!(con.reply().unwrap(), Value::BulkString(b"ab".into()));
        assert_eq!(con.asleep, ASLEEP - 1);
        con.asleep = 1;
        assert_eq!(con.reply().unwrap(), Value::Int(3));
        assert_eq!(con.asleep, 0, "then it is tried again");
    }

    #[test]
    fn a_silent_server_and_one_that_hangs_up_are_errors() {
        let mut silent = connected(|mut stream| drop(stream.read(&mut [0])));
        silent.limit(Limit::Silence(Duration::from_millis(1)));
        assert!(silent.reply().unwrap_err().is_timeout());
        let mut gone = connected(drop);
        assert!(gone.reply().unwrap_err().is_io_error());
    }

    #[test]
    fn a_server_that_answers_byte_by_byte_does_not_stretch_a_deadline() {
        for asleep in [0, ASLEEP] {
            let mut con = connected(dribble);
            con.asleep = asleep;
            con.limit(Limit::Until(clock::instant() + Duration::from_millis(100)));
            assert!(con.reply().unwrap_err().is_timeout());
        }
    }

    #[test]
    fn a_refusal_that_is_not_about_the_password_is_not_called_so() {
        for (said, kind) in [
            ("-ERR max number of clients reached\r\n", None),
            ("-ERR AUTH <password> called without any password configured\r\n", Some(())),
        ] {
            let mut con = connected(move |mut stream| {
                stream.write_all(said.as_bytes()).unwrap();
                let _ = stream.read(&mut [0; 99]);
            });
            let target = RedisUrl {
                endpoint: Endpoint::Tcp { host: "h".into(), port: 1, tls: false },
                username: None,
                password: Some("p".into()),
                db: 0,
                tls: crate::url::TlsFiles::default(),
            };
            let error = con.introduce(&target).unwrap_err();
            let found = (error.kind() == ErrorKind::AuthenticationFailed).then_some(());
            assert_eq!(found, kind, "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_in_the_file_system_and_a_passed_deadline() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut con = connection(Socket::Unix(near));
        far.write_all(b"+OK\r\n").unwrap();
        assert_eq!(con.reply().unwrap(), Value::Okay);
        assert_eq!(left(clock::instant()).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_accepts_nobody_is_given_up() {
        use redis::io::tcp::socket2::{Domain, SockAddr, Socket as Raw, Type};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full");
        let server = Raw::new(Domain::UNIX, Type::STREAM, None).unwrap();
        server.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        server.listen(0).unwrap();
        // One waits to be accepted, and there is no room for another.
        let soon = || clock::instant() + Duration::from_millis(100);
        let waiting: Vec<_> = (0..3).map(|_| Socket::unix(&path, soon())).collect();
        let refused = waiting.into_iter().find_map(Result::err).unwrap();
        assert!(RedisError::from(refused).is_timeout());
    }
}
