//! A blocking connection that stays awake for a reply.
//!
//! A server nearby answers in some ten microseconds, but a thread that went to sleep meanwhile, and often a processor with it, takes
//! several times as long to wake up. So the reply to a lone command is looked for during [`AWAKE`] before the thread sleeps, giving the
//! processor to whoever wants it between two looks. A server that takes longer is far away or busy, and for the next [`ASLEEP`]
//! replies the thread sleeps at once.
//!
//! The library's own blocking connection does not show its socket. It serves where there is more than a socket: TLS.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use redis::{ConnectionLike, ErrorKind, Parser, RedisError, RedisResult, Value, cmd};

use crate::{
    broker::url::{Endpoint, RedisUrl},
    clock,
};

/// How long a reply is awaited awake.
const AWAKE: Duration = Duration::from_micros(50);
/// How many replies are awaited asleep after one that took longer.
const ASLEEP: u32 = 64;

/// A connection for one user at a time, who reads a reply for each command.
pub(crate) enum Connection {
    Plain(Plain),
    Tls(Box<redis::Connection>),
}

impl Connection {
    /// Connects to `target` and introduces itself; `library` knows the certificates.
    pub(super) fn open(
        target: &RedisUrl,
        library: &redis::Client,
        deadline: Instant,
    ) -> RedisResult<Self> {
        let socket = match &target.endpoint {
            Endpoint::Tcp { tls: true, .. } => {
                let con = library.get_connection_with_timeout(left(deadline)?)?;
                return Ok(Self::Tls(Box::new(con)));
            }
            Endpoint::Tcp { host, port, .. } => Socket::tcp(host, *port, deadline)?,
            #[cfg(unix)]
            Endpoint::Unix(path) => Socket::Unix(std::os::unix::net::UnixStream::connect(path)?),
            #[cfg(not(unix))]
            Endpoint::Unix(_) => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let mut con =
            Self::Plain(Plain { socket, parser: Parser::new(), db: target.db, asleep: 0 });
        con.limit(left(deadline)?)?;
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

    /// Sends packed commands.
    pub(super) fn send(&mut self, packed: &[u8]) -> RedisResult<()> {
        match self {
            Self::Plain(plain) => Ok(plain.socket.write_all(packed)?),
            Self::Tls(con) => con.send_packed_command(packed),
        }
    }

    /// Reads the next reply, asleep until it comes.
    pub(super) fn receive(&mut self) -> RedisResult<Value> {
        match self {
            Self::Plain(plain) => plain.parser.parse_value(&mut plain.socket),
            Self::Tls(con) => con.recv_response(),
        }
    }

    /// Lets no single read or write last longer than `left`.
    pub(super) fn limit(&self, left: Duration) -> RedisResult<()> {
        match self {
            Self::Plain(Plain { socket, .. }) => Ok(socket.limit(left)?),
            Self::Tls(con) => {
                con.set_read_timeout(Some(left))?;
                con.set_write_timeout(Some(left))
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.send(packed)?;
        match self {
            Self::Plain(plain) => plain.reply(),
            Self::Tls(con) => con.recv_response(),
        }
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
        match self {
            Self::Plain(plain) => plain.db,
            Self::Tls(con) => con.get_db(),
        }
    }

    fn check_connection(&mut self) -> bool {
        cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        true // one that failed is thrown away by its user
    }
}

/// A connection without TLS.
pub(crate) struct Plain {
    socket: Socket,
    parser: Parser,
    db: i64,
    /// So many of the next replies are awaited asleep.
    asleep: u32,
}

impl Plain {
    /// Reads the reply to a lone command.
    fn reply(&mut self) -> RedisResult<Value> {
        if self.asleep > 0 {
            self.asleep -= 1;
            return self.parser.parse_value(&mut self.socket);
        }
        let until = clock::instant() + AWAKE;
        let mut reader = Awake { socket: &mut self.socket, until: Some(until) };
        let value = self.parser.parse_value(&mut reader);
        if reader.until.is_none() {
            self.asleep = ASLEEP;
        }
        value
    }
}

/// Reads without sleeping until a moment, then as the socket does.
struct Awake<'a> {
    socket: &'a mut Socket,
    /// `None` when it has passed.
    until: Option<Instant>,
}

impl Read for Awake<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(until) = self.until {
            match self.socket.look(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if clock::instant() < until {
                        std::thread::yield_now();
                    } else {
                        self.until = None;
                    }
                }
                done => return done,
            }
        }
        self.socket.read(buffer)
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
    fn tcp(host: &str, port: u16, deadline: Instant) -> RedisResult<Self> {
        let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal.into())
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
}

impl Read for Socket {
    /// A signal, which Python handles later, is no reason to lose a reply.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => stream.read(buffer),
                #[cfg(unix)]
                Self::Unix(stream) => stream.read(buffer),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::instant());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    /// A connection to `server`, which runs in a thread with the other end.
    fn connected(server: impl FnOnce(TcpStream) + Send + 'static) -> Plain {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || server(listener.accept().unwrap().0));
        let deadline = clock::instant() + Duration::from_secs(30);
        let socket = Socket::tcp("127.0.0.1", port, deadline).unwrap();
        socket.limit(Duration::from_secs(30)).unwrap();
        Plain { socket, parser: Parser::new(), db: 0, asleep: 0 }
    }

    /// Lets more time pass than a reply is awaited awake.
    fn dawdle() {
        let end = clock::instant() + 4 * AWAKE;
        while clock::instant() < end {
            thread::yield_now();
        }
    }

    #[test]
    fn a_reply_that_is_there_is_read_awake() {
        let mut plain = connected(|mut stream| {
            stream.write_all(b"+OK\r\n:7\r\n").unwrap();
            let _ = stream.read(&mut [0]); // until the test is over
        });
        assert_eq!(plain.parser.parse_value(&mut plain.socket).unwrap(), Value::Okay);
        assert_eq!(plain.reply().unwrap(), Value::Int(7));
        assert_eq!(plain.asleep, 0);
    }

    #[test]
    fn a_slow_server_is_awaited_asleep_for_a_while() {
        let mut plain = connected(|mut stream| {
            for piece in [b":1\r\n$2\r", b"\nab\r\n:3"] {
                dawdle();
                stream.write_all(piece).unwrap();
            }
            stream.write_all(b"\r\n").unwrap();
            let _ = stream.read(&mut [0]);
        });
        assert_eq!(plain.reply().unwrap(), Value::Int(1));
        assert_eq!(plain.asleep, ASLEEP);
        assert_eq!(plain.reply().unwrap(), Value::BulkString(b"ab".into()));
        assert_eq!(plain.asleep, ASLEEP - 1);
        plain.asleep = 1;
        assert_eq!(plain.reply().unwrap(), Value::Int(3));
        assert_eq!(plain.asleep, 0, "then it is tried again");
    }

    #[test]
    fn a_silent_server_and_one_that_hangs_up_are_errors() {
        let mut silent = connected(|mut stream| drop(stream.read(&mut [0])));
        silent.socket.limit(Duration::from_millis(1)).unwrap();
        assert!(silent.reply().unwrap_err().is_timeout());
        let mut gone = connected(drop);
        assert!(gone.reply().unwrap_err().is_io_error());
    }

    #[test]
    fn a_refusal_that_is_not_about_the_password_is_not_called_so() {
        for (said, kind) in [
            ("-ERR max number of clients reached\r\n", None),
            ("-ERR AUTH <password> called without any password configured\r\n", Some(())),
        ] {
            let plain = connected(move |mut stream| {
                stream.write_all(said.as_bytes()).unwrap();
                let _ = stream.read(&mut [0; 99]);
            });
            let target = RedisUrl {
                endpoint: Endpoint::Tcp { host: "h".into(), port: 1, tls: false },
                username: None,
                password: Some("p".into()),
                db: 0,
                tls: crate::broker::url::TlsFiles::default(),
            };
            let error = Connection::Plain(plain).introduce(&target).unwrap_err();
            let found = (error.kind() == ErrorKind::AuthenticationFailed).then_some(());
            assert_eq!(found, kind, "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_in_the_file_system_and_a_passed_deadline() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut plain =
            Plain { socket: Socket::Unix(near), parser: Parser::new(), db: 0, asleep: 0 };
        far.write_all(b"+OK\r\n").unwrap();
        assert_eq!(plain.reply().unwrap(), Value::Okay);
        assert_eq!(left(clock::instant()).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
