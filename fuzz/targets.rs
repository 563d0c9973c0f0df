//! What every parser promises, whatever bytes it is given: it does not panic, does not run away,
//! and what it accepts it gives back when that is written and read again.
//!
//! Each target is one function of bytes. `fuzz_targets/` hands them to libFuzzer, which searches
//! for hours; `rust/core/tests/fuzz.rs` hands them mutated examples in every run of the tests.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use taskcore::{
    assemble,
    broker::{Outgoing, QueueOrder, Subscription, Want},
    message::{Compression, Embed, Encoding, JSON, MSGPACK, Message, format_iso, parse_iso},
    pool::process::frame,
    result::{
        Join, Joins as _, Member, Record, ResultStore as _, State, memory::MemoryResults, record,
    },
    url::{BrokerUrl, redact},
};
use tokio::{runtime::Runtime, time::timeout};

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("message", message),
    ("body", body),
    ("compressed", compressed),
    ("frames", frames),
    ("call", call),
    ("outcome", outcome),
    ("document", document),
    ("url", url),
    ("time", time),
];

/// A task message: the compact encoding, Celery's envelope of protocol 2, and protocol 1.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::decode(&Bytes::copy_from_slice(data)) else { return };
    let _ = message.has_embed();
    for encoding in [Encoding::Compact, Encoding::Celery] {
        let raw = message.encode(encoding);
        let again = match Message::decode(&raw) {
            Ok(again) => again,
            // Such a body makes an envelope one of protocol 1; the compact encoding knows none.
            Err(_) if encoding == Encoding::Celery && may_be_a_map(&message.body) => continue,
            Err(error) => panic!("{encoding:?} of {message:?}: {error}"),
        };
        // NaN, which JSON has not, is not equal to itself; its bytes are.
        assert_eq!(again.encode(encoding), raw, "{encoding:?} of {message:?}");
    }
}

fn may_be_a_map(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | 0x80..=0x8f | 0xde | 0xdf))
}

/// Whether a body carries callbacks, told without decoding it.
pub fn body(data: &[u8]) {
    for content_type in [JSON, MSGPACK] {
        let _ = Embed::of(content_type, data);
    }
}

/// A compressed body: never more than the limit comes out.
pub fn compressed(data: &[u8]) {
    const LIMIT: usize = 1 << 16;
    for name in ["gzip", "bzip2", "zstd"] {
        let compression = Compression::from_name(name).expect("it is known");
        if let Ok(plain) = compression.decompress(data, LIMIT) {
            assert!(plain.len() <= LIMIT);
        }
    }
    let plain = compression_of(data).decompress(&compression_of(data).compress(data), data.len());
    assert_eq!(plain.expect("what was compressed can be opened"), data);
}

fn compression_of(data: &[u8]) -> Compression {
    let names = ["gzip", "bzip2", "zstd"];
    let index = usize::from(data.first().copied().unwrap_or(0)) % names.len();
    Compression::from_name(names[index]).expect("it is known")
}

/// The stream between a worker and its child, cut anywhere.
pub fn frames(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut taken = 0;
    while let Some(frame) = frame::next_frame(&mut buffer) {
        taken += 4 + frame.len();
    }
    assert_eq!(taken + buffer.len(), data.len());
    let _ = frame::missing(&buffer);
}

/// A call, as a child reads it.
pub fn call(data: &[u8]) {
    let mut queue: Arc<str> = Arc::from("");
    let Ok((seq, call)) = frame::read_call(Bytes::copy_from_slice(data), &mut queue) else {
        return;
    };
    let mut raw = Vec::new();
    frame::put_call(&mut raw, seq, &call);
    let again = frame::read_call(Bytes::from(raw).slice(4..), &mut queue);
    assert_eq!(again.expect("what was written can be read"), (seq, call));
}

/// An outcome, as a worker reads it.
pub fn outcome(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok((seq, outcome)) = frame::read_outcome(&bytes, &bytes) else { return };
    let mut raw = Vec::new();
    frame::put_outcome(&mut raw, seq, &outcome);
    let raw = Bytes::from(raw);
    let again = frame::read_outcome(&raw[4..], &raw);
    assert_eq!(again.expect("what was written can be read"), (seq, outcome));
}

/// A result document, opened, and as a join takes its result out.
pub fn document(data: &[u8]) {
    let _ = record::open(data);
    // Examples run beside each other, and stores of one name are one.
    let store = MemoryResults::new("memory://fuzz", &format!("{:?}", thread::current().id()));
    let join = Join { id: "group".into(), size: 1, expires_ms: None };
    store.declare(&join).expect("memory declares");
    let record = Record {
        id: "member".into(),
        state: State::Success,
        document: Bytes::copy_from_slice(data),
        reply_to: None,
        expires_ms: None,
        member: Some(Box::new(Member::new("group", Some(0)))),
    };
    let stored = runtime().block_on(store.store(&[record])).expect("memory stores");
    let members = store.members("group", usize::MAX).expect("memory answers");
    let [member] = &members[..] else { panic!("{members:?}") };
    let inside = data.windows(member.result.len().max(1)).any(|part| part == member.result);
    assert!(inside || member.result == "null", "{:?} is not in the document", member.result);
    for joined in &stored.joined {
        runtime().block_on(store.close(joined)).expect("memory closes");
    }
    store.forget("member").expect("memory forgets");
}

/// A Redis server that answers these bytes to whatever is asked, and hangs up: each call ends, and
/// none panics. Not among [`TARGETS`], because an example takes a thousand times as long.
pub fn replies(data: &[u8]) {
    let server = Server::get(data);
    let url = format!("redis+socket://{}", server.path);
    let soon = || taskcore::clock::instant() + Duration::from_millis(50);
    let broker = assemble::broker(&url, &assemble::Options::new()).expect("a URL");
    let message = Message::decode(&Bytes::from_static(SMALL)).expect("a message");
    let outgoing = Outgoing::new(message, "queue".into(), Encoding::Compact);
    let _ = broker.publish(&[outgoing], soon());
    let _ = (broker.stats("queue"), broker.queues(), broker.dead("queue", 10));
    let _ = (broker.cancel("queue", "id"), broker.replay("queue", None), broker.purge("queue"));
    let store = assemble::results(&url, &assemble::Options::new()).expect("a URL");
    let _ = (store.get(&["a", "b"]), store.members("group", 1_000), store.forget("a"));
    let record = Record {
        id: "a".into(),
        state: State::Success,
        document: Bytes::from_static(b"{}"),
        reply_to: Some("tc-1".into()),
        expires_ms: Some(1_000),
        member: Some(Box::new(Member::new("group", Some(0)))),
    };
    let _ = store.put(&record);
    runtime().block_on(async {
        let brief = Duration::from_millis(20);
        let _ = timeout(brief, store.store(std::slice::from_ref(&record))).await;
        let subscription = Subscription {
            queues: vec!["queue".into()],
            declarations: Vec::new(),
            order: QueueOrder::RoundRobin,
            epoch: "epoch".into(),
            max_deliveries: 3,
        };
        let Ok(Ok(consumer)) = timeout(brief, broker.consume(subscription)).await else { return };
        let _ = timeout(brief, consumer.fetch(Want::of(10, 10))).await;
        let _ = timeout(brief, consumer.recover()).await;
        let _ = timeout(brief, consumer.epochs()).await;
        let _ = timeout(brief, consumer.release()).await;
    });
}

/// A compact message that says nothing but its task and id.
const SMALL: &[u8] = b"\x82\xa1t\xa1x\xa1i\xa1y";

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime starts"))
}

/// The server of [`replies`].
struct Server {
    path: String,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    /// It answers `data` from now on. One example at a time has it.
    fn get(data: &[u8]) -> MutexGuard<'static, Self> {
        static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(|| Mutex::new(Self::start()));
        let server = server.lock().unwrap_or_else(PoisonError::into_inner);
        *server.answer.lock().unwrap_or_else(PoisonError::into_inner) = data.to_vec();
        server
    }

    fn start() -> Self {
        let name = format!("taskcore-fuzz-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket can be bound");
        let answer = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&answer);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let data = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(&data);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { path: path.to_string_lossy().into_owned(), answer }
    }
}

/// The URL of a broker or result store; no error and no redacted text shows its password.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = redact(text);
    let _ = BrokerUrl::parse(text);
    let name: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let secret = format!("redis://user:Pass{name}word@{name}.example:1/0?{text}");
    let shown = match BrokerUrl::parse(&secret) {
        Ok(url) => format!("{} {:?}", url.redacted, url.target),
        Err(error) => error.to_string(),
    };
    let leaked = shown.contains(&format!("Pass{name}word")) && !text.contains("Pass");
    assert!(!leaked, "`{shown}` shows the password");
}

/// A time in ISO 8601, as headers carry it.
pub fn time(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(micros) = parse_iso(text) else { return };
    assert_eq!(parse_iso(&format_iso(micros)).expect("what was written can be read"), micros);
}
