//! Documents in other encodings than JSON: what is told of them without decoding them.
//!
//! Celery writes the whole document by the serializer that is configured, so a pickled document is
//! one pickle. A store must know the state of what it has, and no more: pickle and MessagePack keep
//! the order of the fields, in which the state is first, and YAML gives each field a line. Whoever
//! configures a serializer makes sure that the state is seen ([`state_of`]) in what it writes.

use bytes::Bytes;

use super::{State, join::MemberEnd, record};

/// Begins the result of a member of a join whose results are not JSON; the whole member as Celery
/// writes it follows, encoded. No JSON begins so.
const MARK: u8 = 0;
/// Where the name of the first field ends, at the latest: a pickle's frame takes 16 bytes before it.
const BEGINNING: usize = 24;

/// Whether a document is JSON.
pub fn is_json(document: &[u8]) -> bool {
    document.first() == Some(&b'{')
}

/// The state that a document which is not JSON tells, if it can be seen: in YAML, which begins with a
/// name and a colon, in a line of its own, and otherwise at the beginning. `rank_of` of the Redis
/// adapter's `store.lua` goes by the same rule.
pub fn state_of(document: &[u8]) -> Option<State> {
    let document = record::open(document).ok()?;
    let colon = document.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'_')?;
    let mut told = if colon > 0 && document[colon] == b':' {
        // A value that comes before it has no line without an indent.
        let line = |at: usize| &document[at + b"\nstatus:".len()..];
        document.strip_prefix(b"status:").or_else(|| find(&document, b"\nstatus:").map(line))?
    } else {
        let at = find(&document[..document.len().min(BEGINNING)], b"status")?;
        &document[at + b"status".len()..]
    };
    // The memo of the name and the type of the state, in old pickles.
    if let [b'q', _, b'X', rest @ ..] = told {
        told = rest;
    }
    let word = &told[told.iter().position(u8::is_ascii_alphabetic)?..];
    let end = word.iter().position(|byte| !byte.is_ascii_uppercase() && *byte != b'_');
    let word = &word[..end.unwrap_or(word.len())];
    (!word.is_empty()).then(|| State::from_name(&String::from_utf8_lossy(word)))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The result of a member whose results are not JSON.
pub fn mark(member: &[u8]) -> Bytes {
    [&[MARK], member].concat().into()
}

/// The member as it is encoded, when the result is not JSON.
pub fn member(result: &[u8]) -> Option<&[u8]> {
    result.strip_prefix(&[MARK])
}

/// A member that is not JSON, of which nothing else is known before it is decoded.
pub(super) fn unknown(member: &[u8]) -> MemberEnd {
    let state = State::Custom(String::new());
    MemberEnd { id: String::new(), state, result: mark(member) }
}

/// Whether nobody has decoded a member.
pub fn is_unknown(ended: &MemberEnd) -> bool {
    ended.id.is_empty() && member(&ended.result).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Compression;

    #[test]
    fn the_state_is_seen_as_celery_writes_it() {
        let state = |document: &[u8]| state_of(document).map(|state| state.as_str().to_owned());
        for (document, expected) in [
            // By kombu's pickle, protocol 2, and by protocol 4.
            (&b"\x80\x02}q\x00(X\x06\x00\x00\x00statusq\x01X\x07\x00\x00\x00SUCCESSq\x02X\x06"[..], "SUCCESS"),
            (b"\x80\x04\x95\x8a\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x06status\x94\x8c\x07FAILURE\x94\x8c\x06", "FAILURE"),
            // MessagePack.
            (b"\x86\xa6status\xa7REVOKED\xa6result\x05", "REVOKED"),
            (b"\x86\xa6status\xa8PROGRESS\xa6result\xa7SUCCESS", "PROGRESS"),
            // YAML, whose fields are sorted, so that a value may come before.
            (b"children: []\nresult: 'status: FAILURE'\nstatus: SUCCESS\ntask_id: a\n", "SUCCESS"),
            (b"status: STARTED\n", "STARTED"),
            // What a task returns may look like the field, and has line breaks as they are.
            (b"\x86\xa6status\xa8PROGRESS\xa6result\xb3job\nstatus: SUCCESS\n", "PROGRESS"),
            (b"\x86\xa6status\xa7SUCCESS\xa6result\xaekind\nstatus: ok", "SUCCESS"),
            (b"\x80\x02}q\x00(X\x06\x00\x00\x00statusq\x01X\x07\x00\x00\x00SUCCESSq\x02X\n\nstatus: ok\n", "SUCCESS"),
            (b"\x86\xa6status\xa8XSUCCESS\xa6result\x05", "XSUCCESS"),
        ] {
            assert_eq!(state(document).as_deref(), Some(expected), "{document:?}");
            let zipped = Compression::Zlib.compress(document);
            let marked = [&b"\0celery-compressed\0application/x-gzip\0"[..], &zipped].concat();
            assert_eq!(state(&marked).as_deref(), Some(expected));
        }
        for none in [
            &b""[..],
            b"\x80",
            b"status",
            b"\x80status\0\0\0",
            b"status: null\nX: SUCCESS\n",
            b"\x81\xa6result\xd9\x20and then comes\xa6status\xa7SUCCESS",
            b"\0celery-compressed\0x",
        ] {
            assert_eq!(state(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_member_is_marked() {
        assert_eq!(member(&mark(b"\x80")), Some(&b"\x80"[..]));
        assert_eq!(member(b"null"), None);
        assert!(is_unknown(&unknown(b"\x80")));
    }
}
