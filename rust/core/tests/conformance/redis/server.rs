//! A Redis server for the suites.
//!
//! One server, started from the installed binary on a free port, serves all tests of the process.
//! It runs under a shell that reads from this process and ends the server when that pipe closes: so
//! it never outlives the tests, however they end.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
};

use taskcore::{
    assemble::{self, Options},
    broker::{Adapter, QueueOrder, Subscription},
};

use crate::{harness::ByUrl, skipped};

/// A server of these tests.
pub(super) struct Server {
    pub(super) port: u16,
    /// Its standard input keeps the server alive.
    _shell: Child,
}

impl Server {
    /// Starts one with further arguments; `None` when it is not installed.
    pub(super) fn start(arguments: &[&str]) -> Option<Self> {
        Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().ok()?;
        // A port that is free now may be taken a moment later; then the server ends and the next
        // one is tried.
        (0..20).find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            Self::listening(port, arguments)
        })
    }

    /// Ends it and starts another one, with nothing in it, on the same port.
    pub(super) fn restarted(self) -> Self {
        self.restarted_with(&[])
    }

    /// The same with further arguments, among which a folder may be, with what was saved there.
    pub(super) fn restarted_with(self, arguments: &[&str]) -> Self {
        let _ = redis::cmd("SHUTDOWN").arg("NOSAVE").exec(&mut self.client());
        let port = self.port;
        drop(self);
        (0..100).find_map(|_| Self::listening(port, arguments)).expect("the port is its own")
    }

    fn listening(port: u16, arguments: &[&str]) -> Option<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", "redis-server \"$@\" & read _; kill $!", "redis"])
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let log = BufReader::new(shell.stdout.take()?);
        // Its log tells when it listens, or ends when it could not.
        let listens = log
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("Ready to accept connections"));
        listens.then_some(Self { port, _shell: shell })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(super) fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}

pub(super) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[])).as_ref()
}

/// A harness on the server of all tests.
pub(crate) fn harness() -> Option<ByUrl> {
    shared().map(|server| ByUrl::part_of(server.url()))
}

pub(super) fn broker(server: &Server) -> Arc<dyn Adapter> {
    assemble::broker(&server.url(), &Options::default()).unwrap()
}

/// Runs a test with a server, or skips it.
pub(super) fn with_server(test: impl FnOnce(&Server)) {
    match shared() {
        Some(server) => test(server),
        None => skipped("redis"),
    }
}

pub(super) fn subscription(queue: &Arc<str>, epoch: &str) -> Subscription {
    Subscription {
        queues: vec![queue.clone()],
        declarations: Vec::new(),
        order: QueueOrder::default(),
        epoch: epoch.to_owned(),
        max_deliveries: 3,
    }
}
