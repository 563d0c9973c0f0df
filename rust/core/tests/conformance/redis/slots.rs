//! The slots of a cluster: whatever a script is given for one lane lies in one slot.
//!
//! The adapter works through its whole contract on a single server, on queues whose names are as
//! nasty as they can be, and the server writes down what it is sent. All of it is then sent to a
//! real cluster, to the node that owns the slot of the first key, which refuses a command whose
//! keys lie in several slots. A script that takes several lanes is sent once for each lane.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use redis::{Cmd, Connection, Value, cmd};
use taskcore::{
    broker::{Broker, Consumer, HORIZON_MS, Settle, lease::SWEEP_MS},
    clock::wall_ms,
};

use super::server::*;
use crate::{PATIENCE, broker::*, run, skipped};

/// With a tag, with several, with an empty one, with half of one, and with none.
const QUEUES: [&str; 12] = [
    "q",
    "{}q",
    "q{}",
    "a}b",
    "}{",
    "{tag}q",
    "q{tag}",
    "{a}{b}",
    "{{a}}",
    "{}{a}",
    "a{b",
    "\u{fc}\" \\{}\n}",
];

macro_rules! text {
    ($name:expr) => {
        include_str!(concat!("../../../src/broker/redis/lua/", $name, ".lua"))
    };
}

macro_rules! scripts {
    ($($($shared:ident +)? $name:literal),* $(,)?) => {
        [$(($name, concat!($(text!(stringify!($shared)),)? text!($name)))),*]
    };
}

/// Every script of the adapter.
const SCRIPTS: [(&str, &str); 16] = scripts![
    "begin",
    "buckets",
    "cancel",
    "claim",
    "due",
    "fence",
    "lapse",
    hand_back + "open",
    "purge",
    "record",
    "recover",
    "register",
    hand_back + "release",
    "replay",
    "schedule",
    "settle",
];

/// Of a script that takes several lanes: keys per lane, arguments before those of the lanes,
/// arguments per lane.
fn lanes_of(script: &str) -> Option<(usize, usize, usize)> {
    match script {
        "claim" => Some((4, 6, 1)),
        "due" => Some((3, 4, 2)),
        "buckets" => Some((1, 1, 0)),
        _ => None,
    }
}

/// Three nodes that share the slots, each with its first slot.
struct Cluster {
    nodes: Vec<(u16, Server, Connection)>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Option<Self> {
        const SLOTS: u16 = 16_384;
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for n in 0..3_u16 {
            let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let file = dir.path().join(format!("node-{n}.conf")).display().to_string();
            let bus_text = bus.to_string();
            let server = Server::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                &file,
                "--cluster-port",
                &bus_text,
            ])?;
            let mut client = server.client();
            let (first, next) = (SLOTS / 3 * n, if n == 2 { SLOTS } else { SLOTS / 3 * (n + 1) });
            let slots = [first, next - 1];
            cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(&slots).exec(&mut client).unwrap();
            buses.push((server.port, bus));
            nodes.push((first, server, client));
        }
        for (port, bus) in &buses {
            let mut meet = cmd("CLUSTER");
            meet.arg("MEET").arg("127.0.0.1").arg(port).arg(bus);
            meet.exec(&mut nodes[0].2).unwrap();
        }
        let mut cluster = Self { nodes, _dir: dir };
        run(async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            let whole = async {
                while !cluster.is_whole() {
                    tick.tick().await;
                }
            };
            tokio::time::timeout(PATIENCE, whole).await.expect("the nodes meet");
        });
        for (_, script) in SCRIPTS {
            for (.., client) in &mut cluster.nodes {
                cmd("SCRIPT").arg("LOAD").arg(script).exec(client).unwrap();
            }
        }
        Some(cluster)
    }

    fn is_whole(&mut self) -> bool {
        self.nodes.iter_mut().all(|(.., client)| {
            let info: String = cmd("CLUSTER").arg("INFO").query(client).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    }

    fn slot(&mut self, key: &[u8]) -> u16 {
        cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut self.nodes[0].2).unwrap()
    }

    /// Sends a command to the node that owns its keys, which lie in one slot.
    fn send(&mut self, parts: &[Vec<u8>], keys: &[Vec<u8>], what: &str) {
        let shown = || keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>();
        let slots: Vec<u16> = keys.iter().map(|key| self.slot(key)).collect();
        assert!(slots.windows(2).all(|pair| pair[0] == pair[1]), "{what}: {:?} {slots:?}", shown());
        let owner = self.nodes.iter_mut().rev().find(|(first, ..)| *first <= slots[0]);
        let mut command = Cmd::new();
        for part in parts {
            command.arg(part);
        }
        // Errors of other kinds are no matter of slots: a message may have gone another way here.
        if let Err(error) = command.query::<Value>(&mut owner.unwrap().2) {
            let text = error.to_string().to_lowercase();
            for refusal in ["crossslot", "same slot", "moved", "non local key", "noscript"] {
                assert!(!text.contains(refusal), "{what}: {:?}: {error}", shown());
            }
        }
    }

    /// Sends what the adapter sent, one lane at a time; which script that was.
    fn replay(&mut self, parts: &[Vec<u8>]) -> Option<&'static str> {
        let name = String::from_utf8_lossy(&parts[0]).to_ascii_uppercase();
        match name.as_str() {
            "LPUSH" | "HSET" | "HDEL" | "HGET" | "HKEYS" | "ZADD" | "SADD" | "ZRANGE" => {
                self.send(parts, &parts[1..2], &name);
            }
            // It would wait for what has gone another way here.
            "BLMOVE" => {
                let same = self.slot(&parts[1]) == self.slot(&parts[2]);
                assert!(same, "a wait moves to another slot: {parts:?}");
            }
            "EVALSHA" => {
                let hash = String::from_utf8_lossy(&parts[1]).into_owned();
                let hashed = |text: &str| redis::Script::new(text).get_hash() == hash;
                let (script, _) = SCRIPTS.into_iter().find(|(_, text)| hashed(text)).unwrap();
                self.replay_script(parts, script);
                return Some(script);
            }
            _ => {}
        }
        None
    }

    fn replay_script(&mut self, parts: &[Vec<u8>], script: &str) {
        let count: usize = String::from_utf8_lossy(&parts[2]).parse().unwrap();
        let (keys, arguments) = parts[3..].split_at(count);
        let Some((per_lane, fixed, own)) = lanes_of(script) else {
            return self.send(parts, keys, script);
        };
        let (fixed, rest) = arguments.split_at(fixed);
        for (lane, keys) in keys.chunks(per_lane).enumerate() {
            let mut one = vec![parts[0].clone(), parts[1].clone(), per_lane.to_string().into()];
            one.extend_from_slice(keys);
            one.extend_from_slice(fixed);
            one.extend_from_slice(&rest[own * lane..own * (lane + 1)]);
            self.send(&one, keys, script);
        }
    }
}

/// Everything that a server is sent, from now until [`Record::end`].
struct Record {
    lines: JoinHandle<Vec<Vec<Vec<u8>>>>,
}

impl Record {
    const END: &str = "the end of the record";

    fn begin(server: &Server) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "+OK");
        let read = move || {
            let lines = lines.take_while(|line| !line.contains(Self::END));
            // What a script does is not sent to a server.
            lines.filter(|line| !line.contains(" lua] ")).map(|line| arguments(&line)).collect()
        };
        Self { lines: std::thread::spawn(read) }
    }

    fn end(self, server: &Server) -> Vec<Vec<Vec<u8>>> {
        cmd("ECHO").arg(Self::END).exec(&mut server.client()).unwrap();
        self.lines.join().unwrap()
    }
}

/// The arguments of a line as `+1700000000.1 [0 127.0.0.1:50000] "LPUSH" "q" "\x00"`.
fn arguments(line: &str) -> Vec<Vec<u8>> {
    let mut bytes = line.bytes().skip_while(|byte| *byte != b'"');
    let mut all = Vec::new();
    while bytes.next().is_some() {
        let mut argument = Vec::new();
        loop {
            match bytes.next().unwrap() {
                b'"' => break,
                b'\\' => argument.push(match bytes.next().unwrap() {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                }),
                byte => argument.push(byte),
            }
        }
        all.push(argument);
        bytes.next(); // the space
    }
    all
}

/// Publishes to every lane of a queue: something now, something due soon, something due much later.
fn fill(broker: &dyn Broker, queue: &Arc<str>) {
    let now = wall_ms();
    for priority in [0, 3, 6, 9] {
        let of = |body: &str| message(queue, &format!("{body}-{priority}")).priority(priority);
        let soon_due = now + HORIZON_MS + 300;
        let batch =
            [of("a"), of("b"), of("c"), of("d"), of("e"), of("f"), of("soon").due(soon_due)];
        broker.publish(&batch, soon()).unwrap();
        let later = now + 3_600_000;
        let batch = [of("new").due(later).new_id(true), of("later").due(later)];
        broker.publish(&batch, soon()).unwrap();
    }
}

/// Claims everything, and settles it in every way.
async fn work(worker: &dyn Consumer) {
    let mut got = Vec::new();
    while got.len() < QUEUES.len() * 4 * 7 {
        let fetched = tokio::time::timeout(PATIENCE, worker.fetch(Want::of(1_000, 1_000))).await;
        got.extend(fetched.expect("the last come due").unwrap());
    }
    worker.begin(got.iter().map(|delivery| delivery.tag).collect()).await.unwrap();
    settle(worker, &got, |delivery| {
        let id = delivery.message().unwrap().headers.id;
        let id = id.as_str();
        match id.as_bytes()[3] {
            b'a' => Settle::HandBack,
            b'b' => Settle::Requeue,
            b'c' => Settle::Redeliver { id: id.into() },
            b'd' => Settle::Defer { id: id.into(), due: wall_ms() + 3_600_000 },
            b'e' => Settle::Park { id: id.into(), reason: "why not".into() },
            _ => Settle::Ack,
        }
    })
    .await;
}

/// Everything that the adapter can be asked.
async fn everything(server: &Server) {
    let broker = broker(server);
    let queues: Vec<Arc<str>> = QUEUES.iter().map(|queue| Arc::from(*queue)).collect();
    for queue in &queues {
        fill(&*broker, queue);
    }
    let all: Vec<&Arc<str>> = queues.iter().collect();
    let lost = worker(&*broker, &all).await;
    work(&*lost).await;
    take(&*lost, QUEUES.len() * 4 * 3).await;
    // A wait moves what comes now, and it is recorded by what is sent next.
    for queue in &queues {
        let fetch = lost.fetch(Want::of(1, 0));
        publish(&*broker, queue, &["wakes"]);
        fetch.await.unwrap();
        lost.renew().await.unwrap();
    }
    drop(lost);
    let heir = worker(&*broker, &all).await;
    let mut tick = tokio::time::interval(Duration::from_millis(SWEEP_MS));
    let held = || queues.iter().map(|queue| broker.stats(queue).unwrap().in_flight).sum::<u64>();
    while held() > 0 {
        tick.tick().await;
        heir.renew().await.unwrap();
        heir.recover().await.unwrap();
    }
    take(&*heir, 10).await;
    heir.release().await.unwrap();
    for queue in &queues {
        assert!(broker.cancel(queue, "id-later-3").unwrap());
        assert_eq!(broker.replay(queue, None).unwrap(), 4);
        broker.discard(queue, None).unwrap();
        assert!(broker.purge(queue).unwrap() > 0);
    }
}

#[test]
fn every_script_stays_within_the_slot_of_its_lane() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let Some(mut cluster) = Cluster::start() else { return skipped("redis") };
    let record = Record::begin(&server);
    run(async {
        let worked = tokio::time::timeout(2 * PATIENCE, everything(&server));
        worked.await.expect("it comes to an end");
    });
    let seen: HashSet<&str> =
        record.end(&server).iter().filter_map(|parts| cluster.replay(parts)).collect();
    let missing: Vec<_> =
        SCRIPTS.iter().map(|(name, _)| name).filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "the test does not reach {missing:?}");
}

#[test]
fn the_record_of_a_server_is_read_as_it_was_sent() {
    let line = r#"+1700000000.1 [0 127.0.0.1:5] "SET" "a\"\\ \x06\n" "" "b""#;
    let expected: [&[u8]; 4] = [b"SET", b"a\"\\ \x06\n", b"", b"b"];
    assert_eq!(arguments(line), expected);
}
