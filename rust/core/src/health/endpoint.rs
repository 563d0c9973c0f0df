//! Where a worker listens for HTTP: `host:port`, `:port`, `port`, or `unix:path`.

use std::{
    io,
    net::{TcpListener, ToSocketAddrs},
};

use crate::error::{Error, ErrorKind, Result};

/// Where nobody else than this machine reaches it.
const HOST: &str = "127.0.0.1";
/// What the path of a socket begins with.
const UNIX: &str = "unix:";

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At a port; 0 is any that is free.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// At a socket in the file system.
    Unix(String),
}

/// A listening socket.
#[derive(Debug)]
pub enum Bound {
    /// At a port.
    Tcp(TcpListener),
    /// At a path, which is removed with it.
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener, Path),
}

/// The path of a socket, removed when it is dropped.
#[cfg(unix)]
#[derive(Debug)]
pub struct Path(std::path::PathBuf);

#[cfg(unix)]
impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it may be gone already
    }
}

impl Endpoint {
    /// Reads what the user wrote.
    ///
    /// # Errors
    /// `Config` for what is no address.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong(text)) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| wrong(text))?;
        let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner,
            None if host.contains([':', '/', '[', ' ']) => return Err(wrong(text)),
            None if host.is_empty() => HOST,
            None => host,
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// Listens.
    ///
    /// # Errors
    /// `Config`: the address is in use, not here, or not allowed.
    pub fn bind(&self) -> Result<Bound> {
        match self {
            Self::Tcp { host, port } => {
                let cannot = |e| cannot(&format!("{host}:{port}"), e);
                // Each address of a name is tried, and the first that works is taken.
                let addresses: Vec<_> =
                    (host.as_str(), *port).to_socket_addrs().map_err(cannot)?.collect();
                let listener = TcpListener::bind(addresses.as_slice()).map_err(cannot)?;
                listener.set_nonblocking(true).map_err(cannot)?;
                Ok(Bound::Tcp(listener))
            }
            #[cfg(unix)]
            Self::Unix(path) => bind_unix(path).map_err(|e| cannot(&format!("{UNIX}{path}"), e)),
            #[cfg(not(unix))]
            Self::Unix(path) => {
                Err(cannot(&format!("{UNIX}{path}"), io::ErrorKind::Unsupported.into()))
            }
        }
    }
}

impl Bound {
    /// Where it listens, as a client names it.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                address.map_or_else(|e| e.to_string(), |address| format!("http://{address}"))
            }
            #[cfg(unix)]
            Self::Unix(_, path) => format!("{UNIX}{}", path.0.display()),
        }
    }
}

/// A socket that nobody listens at is what a killed worker left behind.
#[cfg(unix)]
fn bind_unix(path: &str) -> io::Result<Bound> {
    use std::os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    };
    let left = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if left && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix(listener, Path(path.into())))
}

#[cold]
fn wrong(text: &str) -> Error {
    let text = format!(
        "`{text}` is no address for HTTP, expected `host:port`, `port`, or `unix:` and a path; for any free port write `127.0.0.1:0`"
    );
    Error::new(ErrorKind::Config, text)
}

#[cold]
fn cannot(address: &str, error: io::Error) -> Error {
    let instead = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: choose another port, or 0 for any that is free"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023, or a folder of your own",
        _ => "choose an address of this machine, such as 127.0.0.1",
    };
    Error::caused(
        ErrorKind::Config,
        format!("cannot listen for HTTP at `{address}`, {instead}"),
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_each_form() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        for (text, expected) in [
            ("127.0.0.1:9808", tcp("127.0.0.1", 9808)),
            ("0.0.0.0:0", tcp("0.0.0.0", 0)),
            (":9808", tcp(HOST, 9808)),
            ("9808", tcp(HOST, 9808)),
            ("localhost:1", tcp("localhost", 1)),
            ("[::1]:65535", tcp("::1", 65535)),
            ("unix:/run/w.sock", Endpoint::Unix("/run/w.sock".into())),
            ("unix:///run/w.sock", Endpoint::Unix("/run/w.sock".into())),
            ("unix:w.sock", Endpoint::Unix("w.sock".into())),
        ] {
            assert_eq!(Endpoint::parse(text).expect(text), expected);
        }
        for text in [
            "",
            ":",
            "host",
            "host:",
            "host:70000",
            "::1:80",
            "http://host:80",
            "a b:80",
            "unix:",
            "-1",
        ] {
            let error = Endpoint::parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("host:port"), "{error}");
        }
    }

    #[test]
    fn a_port_in_use_is_said() {
        let first = Endpoint::parse("0").expect("valid").bind().expect("free");
        let port = first.address().rsplit_once(':').expect("a port").1.to_owned();
        let error = Endpoint::parse(&port).expect("valid").bind().expect_err("in use").to_string();
        assert!(error.contains(&port) && error.contains("another program"), "{error}");
        drop(first);
        Endpoint::parse(&port).expect("valid").bind().expect("free again");
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.sock");
        let text = format!("unix:{}", path.display());
        let endpoint = Endpoint::parse(&text).expect("valid");
        let first = endpoint.bind().expect("free");
        assert_eq!(first.address(), text);
        assert!(endpoint.bind().expect_err("in use").to_string().contains("another program"));
        drop(first);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
        assert!(path.exists());
        endpoint.bind().expect("nobody listens");
        std::fs::write(&path, "a file").expect("written");
        endpoint.bind().expect_err("no socket");
        assert_eq!(std::fs::read(&path).expect("kept"), b"a file");
    }
}
