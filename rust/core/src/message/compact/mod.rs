//! The compact encoding: one MessagePack map with short keys, defaults left out.
//!
//! | key | what | key | what | key | what |
//! | --- | --- | --- | --- | --- | --- |
//! | `t` | task | `i` | id | `b` | body, raw |
//! | `c` | content type: a code of [`CONTENT_TYPES`] or text | `e` | content encoding | `z` | compression: code or text |
//! | `n` | eta, us | `E` | expires, us | `r` | retries |
//! | `l` | `[hard, soft]`, s | `I` | ignore result | `o` | root id |
//! | `p` | parent id | `g` | group | `G` | group index |
//! | `s` | shadow | `L` | lang | `O` | origin |
//! | `a` | argsrepr | `k` | kwargsrepr | `N` | replaced task nesting |
//! | `S` | stamped headers | `V` | stamps | `x` | headers unknown to the protocol |
//! | `R` | reply to | `C` | correlation id | `P` | priority |
//! | `m` | delivery mode | `X` | expiration | `h` | exchange |
//! | `q` | routing key | `d` | delivery tag | | |
//!
//! Keys come in any order; unknown ones are skipped, so that a later version may add some. An id
//! that is a lower-case UUID is its 16 bytes, any other is text. The first byte is that of a map
//! and never `{`. The trade-off: nothing here is self-describing, which saves some 500 bytes a
//! task; `taskcore` prints messages for people.

mod read;
mod write;

use super::body::{JSON, MSGPACK, PICKLE, YAML};
pub(super) use read::decode;
pub(super) use write::encode;

/// Content types by their code; the first is left out altogether. Append only.
const CONTENT_TYPES: [&str; 6] = [MSGPACK, JSON, PICKLE, YAML, "application/data", "text/plain"];

/// Compressions by their code. Append only.
const COMPRESSIONS: [&str; 3] = ["application/x-gzip", "application/x-bz2", "application/zstd"];

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        super::{Headers, Message, Properties},
        *,
    };
    use crate::error::ErrorKind;

    fn small() -> Message {
        Message {
            headers: Headers {
                task: "proj.add".into(),
                id: "36d7e962-d910-4333-af9b-1d28b20f7af4".into(),
                ..Headers::default()
            },
            properties: Properties {
                reply_to: Some("tc-ee02fcbb-842b-377e".into()),
                ..Properties::default()
            },
            content_type: "application/x-msgpack".into(),
            content_encoding: "binary".into(),
            body: Bytes::from_static(b"\x92\x92\x02\x03\x80"),
        }
    }

    #[test]
    fn a_small_task_is_small() {
        let raw = Bytes::from(encode(&small(), Vec::new()));
        assert!(raw.len() < 100, "{}", raw.len());
        assert_eq!(decode(&raw).unwrap(), small());
    }

    #[test]
    fn every_prefix_is_refused() {
        let raw = Bytes::from(encode(&small(), Vec::new()));
        for end in 0..raw.len() {
            let error = decode(&raw.slice(..end)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        }
    }
}
