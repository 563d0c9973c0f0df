//! A socket whose operations end in time.
//!
//! What an operation may take is a [`Limit`], which is looked at before each read and write: a
//! server that answers byte by byte does not stretch it.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::clock;

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

/// A socket and what its operations may take.
pub(super) struct Wire {
    pub(super) socket: Socket,
    pub(super) limit: Limit,
    /// What the socket's timeouts are set to.
    timeout: Duration,
}

impl Wire {
    pub(super) fn new(socket: Socket, limit: Limit) -> Self {
        Self { socket, limit, timeout: Duration::ZERO }
    }

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
                done => return done.map_err(late),
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.in_time()?;
        self.socket.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket whose time is over says on Unix that it would block, which tells an operator nothing.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// A stream of bytes to a server.
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Connects to the first address of `host` that accepts.
    pub(super) fn tcp(host: &str, port: u16, deadline: Instant) -> io::Result<Self> {
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
    pub(super) fn unix(path: &std::path::Path, deadline: Instant) -> io::Result<Self> {
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
    pub(super) fn look(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let read = match self {
            Self::Tcp(stream) => recv(stream, buffer, RecvFlags::DONTWAIT),
            Self::Unix(stream) => recv(stream, buffer, RecvFlags::DONTWAIT),
        };
        Ok(read?.0)
    }

    /// Where a socket cannot be asked without waiting, the thread sleeps.
    #[cfg(not(unix))]
    pub(super) fn look(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::instant());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_knows_no_deadline_is_left_behind_at_it() {
        let soon = clock::instant() + Duration::from_millis(20);
        let (release, blocked) = mpsc::channel::<()>();
        assert_eq!(within(soon, move || blocked.recv()).unwrap(), None);
        drop(release);
        let later = clock::instant() + Duration::from_secs(30);
        assert_eq!(within(later, || 7).unwrap(), Some(7));
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
        assert!(redis::RedisError::from(refused).is_timeout());
    }
}
