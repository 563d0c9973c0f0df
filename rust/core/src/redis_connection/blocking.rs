//! A blocking connection that stays awake for a reply, and that ends in time.
//!
//! A server nearby answers in some ten microseconds, but a thread that went to sleep meanwhile, and
//! often a processor with it, takes several times as long to wake up. So the reply to a lone
//! command is looked for during [`AWAKE`] before the thread sleeps, giving the processor to whoever
//! wants it between two looks. A server that takes longer is far away or busy, and for the next
//! [`ASLEEP`] replies the thread sleeps at once. Behind TLS it always sleeps.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use redis::{ConnectionLike, ErrorKind, Parser, RedisError, RedisResult, Value, cmd};
use rustls::{ClientConnection, StreamOwned};

use super::{
    socket::{Limit, Socket, Wire},
    tls::Tls,
};
use crate::{
    clock,
    url::{Endpoint, RedisUrl},
};

/// How long a reply is awaited awake.
const AWAKE: Duration = Duration::from_micros(50);
/// How many replies are awaited asleep after one that took longer.
const ASLEEP: u32 = 64;
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
        let wire = Wire::new(socket, Limit::Until(deadline));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn connection(socket: Socket) -> Connection {
        let limit = Limit::Until(clock::instant() + Duration::from_secs(30));
        let stream = Stream::Plain(Wire::new(socket, limit));
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
        let slow = |mut stream: TcpStream| {
            for piece in [b":1\r\n$2\r", b"\nab\r\n:3"] {
                dawdle();
                stream.write_all(piece).unwrap();
            }
            stream.write_all(b"\r\n").unwrap();
            let _ = stream.read(&mut [0]);
        };
        // To a client that had to wait for a processor the reply was there at once.
        let first = || {
            let mut con = connected(slow);
            assert_eq!(con.reply().unwrap(), Value::Int(1));
            con
        };
        let mut con = (0..1_000).map(|_| first()).find(|con| con.asleep > 0).expect("a wait");
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
        let error = silent.reply().unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains("timed out"), "{error}");
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
    fn a_socket_in_the_file_system() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut con = connection(Socket::Unix(near));
        far.write_all(b"+OK\r\n").unwrap();
        assert_eq!(con.reply().unwrap(), Value::Okay);
    }
}
