//! Documents in other encodings, whose states the server judges as `encoded::state_of` does.

use taskcore::{
    assemble::{self, Options},
    result::{Record, State, encoded::state_of},
};

use super::server::with_server;
use crate::unique;

/// As pickle, MessagePack and YAML write them, and nearly.
const DOCUMENTS: &[&[u8]] = &[
    b"\x80\x02}q\x00(X\x06\x00\x00\x00statusq\x01X\x07\x00\x00\x00SUCCESSq\x02X\x06",
    b"\x80\x02}q\x00(X\x06\x00\x00\x00statusq\x01X\x07\x00\x00\x00STARTEDq\x02X\n\nstatus: SUCCESS\n",
    b"\x80\x04\x95\x8a\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x06status\x94\x8c\x07FAILURE\x94\x8c\x06",
    b"\x86\xa6status\xa7REVOKED\xa6result\x05",
    b"\x86\xa6status\xa7SUCCESS\xa6result\xaekind\nstatus: ok",
    b"\x86\xa6status\xa8PROGRESS\xa6result\xb3job\nstatus: SUCCESS\n",
    b"\x86\xa6status\xa8XSUCCESS\xa6result\x05",
    b"\x81\xa6result\xd9\x20and then comes\xa6status\xa7SUCCESS",
    b"children: []\nresult: 'status: FAILURE'\nstatus: SUCCESS\ntask_id: a\n",
    b"children: []\nresult: 5\nstatus: PROGRESS\ntask_id: SUCCESS\n",
    b"status: REVOKED\n",
    b"status: null\nX: SUCCESS\n",
    b"status",
    b"\x80",
];

#[test]
fn one_rule_says_what_stays() {
    with_server(|server| {
        let results = assemble::results(&server.url(), &Options::default()).unwrap();
        let mut client = server.client();
        for old in DOCUMENTS {
            for next in [State::Started, State::Failure] {
                let id = unique("t");
                let key = format!("celery-task-meta-{id}");
                redis::cmd("SET").arg(key).arg(*old).exec(&mut client).unwrap();
                let record = Record {
                    id: id.to_string(),
                    state: next.clone(),
                    document: "next".into(),
                    reply_to: None,
                    expires_ms: None,
                    member: None,
                };
                results.put(&record).unwrap();
                let stays = results.get(&[&id]).unwrap()[0].as_deref() == Some(*old);
                let expected = state_of(old).is_some_and(|state| !state.yields_to(&next));
                assert_eq!(stays, expected, "{} after {}", next.as_str(), old.escape_ascii());
            }
        }
    });
}
