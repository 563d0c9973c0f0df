//! What can be said about a body without Python: its serializer's names, and whether links hang on
//! it.
//!
//! A body is `[args, kwargs, embed]`; compact messages leave the embed out when it is empty. Most
//! tasks have no links, and the worker takes a short way for those, so [`Embed::of`] answers in
//! well under a microsecond by stepping over the arguments instead of building them. It does not
//! decode arguments and does not judge them: a body that it cannot make sense of is one that may
//! have links, and whoever decodes it says what is wrong.

use serde_json::{Map, Value};

use super::{
    Compression, Message,
    msgpack::{Head, Reader},
    pyjson,
};
use crate::error::{Error, ErrorKind, Result};

/// The longest body whose arguments are shown.
const SHOWN: usize = 64 << 10;

/// Content type of JSON.
pub const JSON: &str = "application/json";
/// Content type of MessagePack.
pub const MSGPACK: &str = "application/x-msgpack";
/// Content type of pickle.
pub const PICKLE: &str = "application/x-python-serialize";
/// Content type of YAML.
pub const YAML: &str = "application/x-yaml";

/// The content encoding that goes with a content type: `utf-8` for text, else `binary`.
pub fn natural_encoding(content_type: &str) -> &'static str {
    match content_type {
        JSON | YAML | "text/plain" => "utf-8",
        _ => "binary",
    }
}

/// What a document says that is no task: JSON or MessagePack, plain data.
///
/// # Errors
/// `Decode`: it is malformed, nested too deeply, or another serializer's.
pub fn decode_value(content_type: &str, document: &[u8]) -> Result<Value> {
    match content_type {
        JSON => serde_json::from_slice(document)
            .map_err(|e| Error::caused(ErrorKind::Decode, "a document is no JSON", e)),
        MSGPACK => Reader::new(document).value(0),
        other => {
            let other: String = other.chars().take(100).collect();
            let text = format!("content type `{other}`, expected `{JSON}` or `{MSGPACK}`");
            Err(Error::new(ErrorKind::Decode, text))
        }
    }
}

/// Which links a body carries. Null and empty ones count as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embed(u8);

const KEYS: [&str; 4] = ["callbacks", "errbacks", "chain", "chord"];

impl Embed {
    /// The links of an uncompressed body; `None` when it cannot be told: a serializer that only
    /// Python reads, or a body that is malformed.
    pub fn of(content_type: &str, body: &[u8]) -> Option<Self> {
        match content_type {
            MSGPACK => msgpack_embed(body),
            JSON => json_embed(body),
            // Text is no list that could hold links.
            "text/plain" => Some(Self::default()),
            _ => None,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether tasks follow on success.
    pub fn callbacks(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether tasks follow on failure.
    pub fn errbacks(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the rest of a chain follows.
    pub fn chain(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether the task is a member of a chord.
    pub fn chord(self) -> bool {
        self.0 & 8 != 0
    }

    fn set(&mut self, key: &[u8], present: bool) {
        for (bit, name) in KEYS.iter().enumerate() {
            if name.as_bytes() == key {
                self.0 = self.0 & !(1 << bit) | u8::from(present) << bit;
            }
        }
    }
}

impl Message {
    /// The arguments in its body, where that is short plain data: what can be shown of them. Of a longer
    /// one its sender's own words are.
    pub fn arguments(&self) -> Option<(Vec<Value>, Map<String, Value>)> {
        if self.body.len() > SHOWN {
            return None;
        }
        let unpacked = match &self.headers.compression {
            None => None,
            Some(name) => Some(
                Compression::from_content_type(name).ok()?.decompress(&self.body, SHOWN).ok()?,
            ),
        };
        let body = unpacked.as_deref().unwrap_or(&self.body);
        let Value::Array(parts) = decode_value(&self.content_type, body).ok()? else { return None };
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some(Value::Array(args)), Some(Value::Object(kwargs))) => Some((args, kwargs)),
            _ => None,
        }
    }

    /// Whether the body may carry callbacks, errbacks, a chain or a chord. `false` is certain; of a
    /// body that is compressed or that only Python reads it is always `true`: open it and ask
    /// [`Embed::of`], or look.
    pub fn has_embed(&self) -> bool {
        self.headers.compression.is_some()
            || Embed::of(&self.content_type, &self.body).is_none_or(|embed| !embed.is_empty())
    }

    /// Whether the task is a member of a chord, so that it counts when it has ended; `None` when that
    /// cannot be told, of a body that is compressed or that only Python reads.
    pub fn is_member(&self) -> Option<bool> {
        if self.headers.rare.as_ref().is_none_or(|rare| rare.group.is_none()) {
            return Some(false);
        }
        let embed = match self.headers.compression {
            Some(_) => None,
            None => Embed::of(&self.content_type, &self.body),
        };
        embed.map(Embed::chord)
    }
}

/// Whether a body is a map, as in protocol 1, going by its first byte.
pub(super) fn is_map(content_type: &str, body: &[u8]) -> bool {
    match content_type {
        JSON => body.trim_ascii_start().first() == Some(&b'{'),
        MSGPACK => matches!(body.first(), Some(0x80..=0x8f | 0xde | 0xdf)),
        _ => false,
    }
}

fn msgpack_embed(body: &[u8]) -> Option<Embed> {
    let mut reader = Reader::new(body);
    let mut embed = Embed::default();
    match reader.head().ok()? {
        Head::Array(2) => return Some(embed),
        Head::Array(3) => {}
        _ => return None,
    }
    reader.skip().ok()?;
    reader.skip().ok()?;
    let count = match reader.head().ok()? {
        Head::Map(n) => n,
        Head::Nil => 0,
        _ => return None,
    };
    for _ in 0..count {
        let Head::Str(key) = reader.head().ok()? else { return None };
        let value = reader.head().ok()?;
        embed.set(key, !matches!(value, Head::Nil | Head::Array(0) | Head::Map(0)));
        reader.skip_rest(value).ok()?;
    }
    Some(embed)
}

/// How the JSON body of a task without links ends. In valid JSON these bytes can only be the last
/// item of the outermost array, and if that is not the embed, then there is none.
const EMPTY_ENDS: [&[u8]; 3] = [
    br#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#,
    br#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]"#,
    b"{}]",
];

fn json_embed(body: &[u8]) -> Option<Embed> {
    let mut embed = Embed::default();
    if EMPTY_ENDS.iter().any(|end| body.ends_with(end)) {
        return Some(embed);
    }
    let links = match pyjson::items(body).ok()?.as_slice() {
        [_, _] | [_, _, b"null"] => return Some(embed),
        [_, _, links] => pyjson::entries(links).ok()?,
        _ => return None,
    };
    for (key, value) in links {
        embed.set(key.as_bytes(), !matches!(value, b"null" | b"[]" | b"{}"));
    }
    Some(embed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(json: &str) -> Embed {
        Embed::of(JSON, json.as_bytes()).unwrap()
    }

    #[test]
    fn no_links_in_any_spelling() {
        for json in [
            "[[], {}]",
            "[[1], {\"a\": 2}]",
            "[[1], {\"a\": 2}, {}]",
            "[[1], {}, null]",
            "[[NaN], {\"a\": 1}, {\"chain\": []}]",
            r#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#,
            r#"[[2,3],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]"#,
            r#" [ [2,3], {}, {"chord" : null , "chain" : [] } ] "#,
            r#"[[], {"callbacks": 1, "chord": {}}]"#,
        ] {
            assert!(of(json).is_empty(), "{json}");
        }
    }

    #[test]
    fn each_link_is_seen() {
        let one =
            |key| of(&format!(r#"[["}}]"], {{}}, {{"chain": null, "{key}": [{{"task": "a"}}]}}]"#));
        assert!(one("callbacks").callbacks() && one("errbacks").errbacks());
        assert!(one("chain").chain() && one("chord").chord());
        assert!(!one("chord").chain() && one("else").is_empty());
    }

    #[test]
    fn links_are_seen_behind_arguments_that_look_like_none() {
        let json = r#"[["{\"callbacks\": null}]"], {"x": {}}, {"chord": {"task": "t", "kwargs": {"callbacks": null,
            "errbacks": null, "chain": null, "chord": null}}}]"#;
        assert!(of(json).chord());
    }

    #[test]
    fn what_cannot_be_told_may_have_links() {
        let message = |content_type: &'static str, body: &'static [u8]| Message {
            content_type: content_type.into(),
            body: body.into(),
            ..Message::default()
        };
        assert!(message(PICKLE, b"\x80\x04").has_embed());
        for body in
            ["", "[", "[[]]", "[[], {}, 7]", "[[], {}, {\"chain\": [}]", "[[], {}, {}, {}] ", "nul"]
        {
            assert!(message(JSON, body.as_bytes()).has_embed(), "{body}");
        }
        for body in [
            b"".as_slice(),
            b"\x91\x90",
            b"\x93\x90\x80",
            b"\x93\x90\x80\x07",
            b"\x93\x90\x80\x81\xa1a",
        ] {
            assert!(message(MSGPACK, body).has_embed(), "{body:?}");
        }
        assert!(!message(MSGPACK, b"\x92\x90\x80").has_embed());
        assert!(!message(MSGPACK, b"\x93\x90\x80\xc0").has_embed());
        let mut compressed = message(MSGPACK, b"\x92\x90\x80");
        compressed.headers.compression = Some("application/zstd".into());
        assert!(compressed.has_embed());
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = (Embed::of(MSGPACK, &body), Embed::of(JSON, &body));
        }
    }
}
