//! Joins that stock Celery workers count as well: its keys, its bytes, its claim.

use redis::Connection;
use taskcore::{
    assemble::{self, Options},
    result::{Join, Member, Record, ResultStore, State},
};

use super::server::{Server, with_server};
use crate::{run, unique};

/// The part of a member that Celery 5.7 records, as its script does; whether it claims.
fn stock_part(con: &mut Connection, id: &str, index: i64, size: usize) -> bool {
    let key = |suffix: &str| format!("celery-taskset-meta-{id}{suffix}");
    let task = format!("{id}-{index}");
    let part = format!("[1, \"{task}\", \"SUCCESS\", {index}]");
    let counted: i64 =
        redis::cmd("SADD").arg(key(".d")).arg(format!("{task}:{index}")).query(con).unwrap();
    if counted == 1 {
        redis::cmd("ZADD").arg(key(".j")).arg(index).arg(part).exec(con).unwrap();
    }
    let ended: usize = redis::cmd("ZCARD").arg(key(".j")).query(con).unwrap();
    let mut claim = redis::cmd("SET");
    claim.arg(key(".c")).arg("stock").arg("NX").arg("EX").arg(6);
    ended == size && claim.query::<Option<String>>(con).unwrap().is_some()
}

/// `.s`, as a stock client writes it.
fn stock_size(con: &mut Connection, id: &str, size: usize) {
    redis::cmd("SET").arg(format!("celery-taskset-meta-{id}.s")).arg(size).exec(con).unwrap();
}

fn member(id: &str, index: i64) -> Record {
    let task = format!("{id}-{index}");
    let document =
        format!("{{\"status\": \"SUCCESS\", \"result\": {index}, \"task_id\": \"{task}\"}}");
    Record {
        id: task,
        state: State::Success,
        document: document.into(),
        reply_to: None,
        expires_ms: Some(3_600_000),
        member: Some(Box::new(Member::new(id, Some(index)))),
    }
}

fn results(server: &Server) -> std::sync::Arc<dyn ResultStore> {
    assemble::results(&server.url(), &Options::default()).unwrap()
}

#[test]
fn a_claim_that_has_lapsed_and_is_nobody_elses_closes_the_join() {
    with_server(|server| {
        run(async {
            let (results, con) = (results(server), &mut server.client());
            for taken in [false, true] {
                let id = unique("chord");
                stock_size(con, &id, 1);
                let joined = results.store(&[member(&id, 0)]).await.unwrap().joined.remove(0);
                let claim = format!("celery-taskset-meta-{id}.c");
                redis::cmd("DEL").arg(&claim).exec(con).unwrap();
                if taken {
                    redis::cmd("SET").arg(&claim).arg("another").exec(con).unwrap();
                }
                results.close(&joined).await.unwrap();
                let left: bool = redis::cmd("EXISTS")
                    .arg(format!("celery-taskset-meta-{id}.j"))
                    .query(con)
                    .unwrap();
                assert_eq!(left, taken);
            }
        });
    });
}

#[test]
fn a_chord_of_a_stock_client_is_completed_by_either_side() {
    with_server(|server| {
        run(async {
            let (results, con) = (results(server), &mut server.client());
            for ours_last in [true, false] {
                let id = unique("chord");
                stock_size(con, &id, 3);
                assert!(!stock_part(con, &id, 0, 3));
                // One of them ran there before, and came back.
                let batch = [member(&id, 0), member(&id, 1)];
                assert_eq!(results.store(&batch).await.unwrap().joined, []);
                assert_eq!(stock_part(con, &id, if ours_last { 1 } else { 2 }, 3), !ours_last);
                let joined = results.store(&[member(&id, 2)]).await.unwrap().joined;
                assert_eq!(joined.len(), usize::from(ours_last));
                assert!(!stock_part(con, &id, 2, 3), "it is claimed");
                let members = results.members(&id, usize::MAX).unwrap();
                assert_eq!(
                    members.iter().map(|m| &m.result[..]).collect::<Vec<_>>(),
                    [b"0", b"1", b"2"]
                );
            }
        });
    });
}

#[test]
fn members_are_celerys_byte_for_byte_and_expire() {
    with_server(|server| {
        run(async {
            let (results, con, id) = (results(server), &mut server.client(), unique("chord"));
            let key = |suffix: &str| format!("celery-taskset-meta-{id}{suffix}");
            stock_size(con, &id, 1);
            let joined = results.store(&[member(&id, 4)]).await.unwrap().joined;
            let parts: Vec<(String, String)> = redis::cmd("ZRANGE")
                .arg(key(".j"))
                .arg(0)
                .arg(-1)
                .arg("WITHSCORES")
                .query(con)
                .unwrap();
            assert_eq!(parts, [(format!("[1, \"{id}-4\", \"SUCCESS\", 4]"), "4".to_owned())]);
            let counted: Vec<String> = redis::cmd("SMEMBERS").arg(key(".d")).query(con).unwrap();
            assert_eq!(counted, [format!("{id}-4:4")]);
            for suffix in [".j", ".s", ".d", ".c"] {
                let ttl: i64 = redis::cmd("PTTL").arg(key(suffix)).query(con).unwrap();
                assert!(ttl > 0, "{suffix}: {ttl}");
            }
            results.close(&joined[0]).await.unwrap();
            let left: Vec<String> = redis::cmd("KEYS").arg(key("*")).query(con).unwrap();
            assert_eq!(left, [key(".c")]);
            let done: String = redis::cmd("GET").arg(key(".c")).query(con).unwrap();
            assert_eq!(done, "done", "a stock worker counts no more either");
        });
    });
}

/// The longest time that a key of the join lives; `None` for ever.
fn lives(con: &mut Connection, id: &str) -> Option<i64> {
    let pattern = format!("celery-taskset-meta-{id}*");
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(con).unwrap();
    assert!(!keys.is_empty());
    let times = keys.iter().map(|key| redis::cmd("PTTL").arg(key).query::<i64>(con).unwrap());
    times.map(|ms| (ms >= 0).then_some(ms)).reduce(|a, b| a.zip(b).map(|(a, b)| a.max(b))).flatten()
}

#[test]
fn a_join_whose_size_is_not_known_expires_where_results_do_not() {
    with_server(|server| {
        run(async {
            let (results, con, id) = (results(server), &mut server.client(), unique("chord"));
            let kept = |index| Record { expires_ms: None, ..member(&id, index) };
            let of = |size| Join { id: id.to_string(), size, expires_ms: None };
            results.extend(&of(1)).unwrap();
            assert!(lives(con, &id).is_some());
            results.store(&[kept(0)]).await.unwrap();
            assert!(lives(con, &id).is_some());
            results.declare(&of(1)).unwrap();
            assert!(lives(con, &id).is_none(), "it waits as long as it takes");
            let joined = results.store(&[kept(1)]).await.unwrap().joined.remove(0);
            results.close(&joined).await.unwrap();
            // A duplicate, after it is forgotten that the join was closed.
            redis::cmd("DEL").arg(format!("celery-taskset-meta-{id}.c")).exec(con).unwrap();
            results.store(&[kept(1)]).await.unwrap();
            assert!(lives(con, &id).is_some());
        });
    });
}

#[test]
fn a_key_of_another_type_holds_up_no_result() {
    with_server(|server| {
        run(async {
            let (results, con) = (results(server), &mut server.client());
            let (bad, good) = (unique("chord"), unique("chord"));
            redis::cmd("SET")
                .arg(format!("celery-taskset-meta-{bad}.d"))
                .arg("x")
                .exec(con)
                .unwrap();
            stock_size(con, &good, 1);
            let stored = results.store(&[member(&bad, 0), member(&good, 0)]).await.unwrap();
            assert_eq!((stored.refused.len(), stored.joined.len()), (0, 1));
            assert!(results.get(&[&format!("{bad}-0")]).unwrap()[0].is_some());
        });
    });
}

#[test]
fn an_unordered_chord_of_stock_workers_is_read() {
    with_server(|server| {
        run(async {
            let (results, con, id) = (results(server), &mut server.client(), unique("chord"));
            let list = format!("celery-taskset-meta-{id}.j");
            redis::cmd("RPUSH")
                .arg(&list)
                .arg("[1, \"a\", \"SUCCESS\", [1, 2]]")
                .exec(con)
                .unwrap();
            stock_size(con, &id, 2);
            assert_eq!(results.store(&[member(&id, 1)]).await.unwrap().joined.len(), 1);
            let members = results.members(&id, usize::MAX).unwrap();
            assert_eq!((&*members[0].id, &members[0].result[..]), ("a", &b"[1, 2]"[..]));
        });
    });
}
