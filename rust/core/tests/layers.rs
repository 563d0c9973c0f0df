//! Who may import whom, read off the `use` lines of the sources.
//!
//! The table is in the order of the layers: a room may use only rooms above it in the table, so that
//! there is no circle between rooms. An adapter knows its port and what it shares with the other
//! adapter of its server; only `assemble` names adapters.

#![allow(clippy::unwrap_used)] // a test

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room and what it may import. A file belongs to the longest room that its path begins with.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("fork", &[]),
    ("backoff", &[]),
    ("future", &[]),
    ("spelling", &[]),
    ("url", &["error"]),
    ("redis_connection", &["error", "clock", "url"]),
    ("sqlite_store", &["error", "clock", "fork"]),
    ("beat", &["error"]),
    ("message", &["error"]),
    ("broker", &["error", "clock", "future", "message"]),
    ("result", &["error", "clock", "future", "message"]),
    ("pool", &["error", "clock", "future"]),
    ("config", &["clock", "broker"]),
    ("broker::memory", &["error", "clock", "future", "message", "broker"]),
    ("broker::sqlite", &["error", "clock", "future", "sqlite_store", "message", "broker"]),
    (
        "broker::redis",
        &["error", "clock", "future", "url", "redis_connection", "message", "broker"],
    ),
    ("broker::amqp", &["error", "clock", "fork", "future", "url", "message", "broker"]),
    ("result::memory", &["error", "clock", "future", "message", "result"]),
    ("result::sqlite", &["error", "clock", "future", "sqlite_store", "message", "result"]),
    (
        "result::redis",
        &["error", "clock", "future", "url", "redis_connection", "message", "result"],
    ),
    ("pool::process", &["error", "clock", "future", "pool"]),
    ("event", &["message"]),
    ("publish", &["error", "clock", "fork", "backoff", "future", "message", "broker"]),
    (
        "worker",
        &[
            "error", "clock", "backoff", "future", "spelling", "message", "broker", "event",
            "result", "pool", "config",
        ],
    ),
    ("health", &["error", "clock", "broker", "result", "worker"]),
    ("control", &["error", "clock", "backoff", "message", "broker", "worker", "health"]),
    (
        "assemble",
        &[
            "error",
            "url",
            "broker",
            "result",
            "broker::memory",
            "broker::sqlite",
            "broker::redis",
            "broker::amqp",
            "result::memory",
            "result::sqlite",
            "result::redis",
        ],
    ),
];

/// The stations of the worker's loop: no runtime, no I/O.
const PURE: &[&str] = &[
    "window",
    "triage",
    "eta",
    "rate",
    "deadline",
    "dispatch",
    "inflight",
    "settle",
    "suspect",
    "shutdown",
    "condition",
];
const IMPURE: &[&str] = &["tokio", "redis", "rusqlite", "rustix", "std::fs", "std::net"];

/// Names at the root of the crate that come from a room.
const AT_THE_ROOT: &[&str] = &["Error", "ErrorKind", "Result"];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let is_test = |name: &str| name.contains("tests");
    files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let parts: Vec<_> = inside.iter().map(|p| p.to_str().unwrap()).collect();
            let module = parts.join("::");
            (module.trim_end_matches("::mod").to_owned(), fs::read_to_string(path).unwrap())
        })
        .filter(|(module, _)| module != "lib" && !is_test(module))
        .collect()
}

/// The code of a file: no comments, nothing after its test module begins.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines();
    lines.map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Every path under `crate::`, braces spelt out.
fn imports(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        expand("", &code[at + "crate::".len()..], &mut paths);
    }
    paths
}

/// Reads one tree of a `use`, such as `a::{b, c::d}`; how many bytes it took.
fn expand(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let name: String = text.chars().take_while(|c| is_name(*c)).collect();
    let mut at = name.len();
    let path = match (prefix, name.as_str()) {
        ("", _) => name.clone(),
        (_, "") => prefix.to_owned(),
        _ => format!("{prefix}::{name}"),
    };
    if text[at..].starts_with("::") {
        return at + 2 + expand(&path, &text[at + 2..], paths);
    }
    if !text[at..].starts_with('{') {
        paths.insert(path);
        return at;
    }
    at += 1;
    loop {
        at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
        if text[at..].starts_with('}') {
            return at + 1;
        }
        let read = expand(&path, &text[at..], paths);
        assert!(read > 0, "cannot read `{}`", &text[at..text.len().min(at + 60)]);
        at += read;
    }
}

fn room(path: &str) -> Option<&'static str> {
    let inside = |room: &str| {
        path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    ROOMS.iter().map(|(name, _)| *name).filter(|name| inside(name)).max_by_key(|name| name.len())
}

#[test]
fn rooms_import_downward() {
    for (index, (name, allowed)) in ROOMS.iter().enumerate() {
        for lower in *allowed {
            let at = ROOMS.iter().position(|(room, _)| room == lower);
            assert!(at.is_some_and(|at| at < index), "`{lower}` does not stand above `{name}`");
        }
    }
    let mut wrong = Vec::new();
    for (module, text) in sources() {
        let own = room(&module).unwrap_or_else(|| panic!("`{module}` is in no room: name it here"));
        let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == own).unwrap();
        for path in imports(&code(&text)) {
            if AT_THE_ROOT.contains(&path.as_str()) {
                continue;
            }
            let target = room(&path).unwrap_or_else(|| panic!("{module} imports `{path}`"));
            if target != own && !allowed.contains(&target) {
                wrong.push(format!("{module} imports {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed by the table:\n{}", wrong.join("\n"));
}

#[test]
fn stations_are_pure() {
    let sources = sources();
    for station in PURE {
        let module = format!("worker::{station}");
        let (_, text) = sources.iter().find(|(name, _)| *name == module).expect(&module);
        let code = code(text);
        for name in IMPURE {
            assert!(!code.contains(&format!("{name}::")), "`{module}` uses `{name}`");
        }
    }
}

#[test]
fn what_is_imported_is_read() {
    let text = "use crate::{\n    a::{B, c::{D, self}},\n    e,\n};\nlet x = crate::f::G::h();";
    let expected = ["a::B", "a::c::D", "a::c::self", "e", "f::G::h"].map(str::to_owned);
    assert_eq!(imports(&code(text)), BTreeSet::from(expected));
    assert_eq!(room("broker::redis::consumer"), Some("broker::redis"));
    assert_eq!(room("broker::Tag"), Some("broker"));
    assert_eq!(room("brokers"), None);
}
