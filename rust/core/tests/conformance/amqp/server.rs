//! A RabbitMQ for the suites.
//!
//! One server, started from the installed package on free ports, serves all tests of the process.
//! A script keeps it while this process holds its standard input open, so it never outlives the
//! tests, however they end.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
};

use taskcore::{
    assemble::{self, Options},
    broker::Adapter,
};

use crate::{harness::ByUrl, skipped, unique};

/// A server of these tests.
pub(super) struct Server {
    port: u16,
    dir: tempfile::TempDir,
    /// Its standard input keeps the server alive.
    _script: Child,
}

impl Server {
    fn start() -> Option<Self> {
        let installed = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists();
        // A port that is free now may be taken a moment later; then the server ends and the next
        // one is tried.
        (0..5).filter(|_| installed).find_map(|_| Self::listening(free_ports()?))
    }

    fn listening(port: u16) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/support/rabbitmq.sh");
        let mut script = Command::new(script)
            .arg(port.to_string())
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let said = BufReader::new(script.stdout.take()?);
        let ready = said.lines().map_while(Result::ok).any(|line| line.contains("completed with"));
        ready.then_some(Self { port, dir, _script: script })
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}//", self.port)
    }

    /// A virtual host of one test alone, and its URL.
    pub(super) fn new_host(&self) -> (String, String) {
        let name = unique("host").to_string();
        self.ctl(&["add_vhost", &name]);
        self.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]);
        let url = format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.port);
        (name, url)
    }

    /// What `rabbitmqctl` says.
    pub(super) fn ctl(&self, arguments: &[&str]) -> String {
        let out = Command::new(self.dir.path().join("ctl")).args(arguments).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    }
}

/// The first of three ports in a row that are free.
fn free_ports() -> Option<u16> {
    (0..50).find_map(|_| {
        let first = TcpListener::bind("127.0.0.1:0").ok()?;
        let port = first.local_addr().ok()?.port();
        let rest = [port.checked_add(1)?, port.checked_add(2)?]
            .map(|p| TcpListener::bind(("127.0.0.1", p)));
        rest.iter().all(Result::is_ok).then_some(port)
    })
}

pub(super) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::start).as_ref()
}

/// A harness on the server of all tests.
pub(crate) fn harness() -> Option<ByUrl> {
    shared().map(|server| ByUrl::whole(server.url()))
}

/// Another handle on the server.
pub(super) fn broker(server: &Server) -> Arc<dyn Adapter> {
    assemble::broker(&server.url(), &Options::default()).unwrap()
}

/// Runs a test with a server, or skips it.
pub(super) fn with_server(test: impl FnOnce(&Server)) {
    match shared() {
        Some(server) => test(server),
        None => skipped("rabbitmq"),
    }
}
