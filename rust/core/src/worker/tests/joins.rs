//! Members of joins are counted however they end, and their messages are settled after that.

use bytes::Bytes;

use super::fake::{Lab, config, message, wall_us};
use crate::{
    config::TaskSpec,
    message::Message,
    result::{Join, Joins},
    worker::Stop,
};

const CHORD: &[u8] = br#"[[], {}, {"chord": {"task": "body"}}]"#;

fn member(group: &str, index: i64, task: &str, script: &str) -> Message {
    let mut message = message(&format!("{group}-{index}"), task, script);
    message.body = Bytes::from_static(CHORD);
    let rare = message.headers.rare_mut();
    (rare.group, rare.group_index) = (Some(group.into()), Some(index));
    message
}

#[tokio::test(start_paused = true)]
async fn members_count_however_they_end() {
    let mut config = config();
    let ignored = TaskSpec { ignore_result: true, ..TaskSpec::default() };
    config.tasks.insert("ignored".into(), ignored);
    let lab = Lab::new(config);
    let mut expired = member("g", 6, "ignored", "0 ok");
    expired.headers.expires = Some(wall_us() - 1);
    lab.broker.put(&[
        member("g", 1, "late", "0 ok"),
        member("g", 0, "early", "0 fail"),
        member("g", 4, "early", "0 die"),
        member("g", 3, "late", "0 limit"),
        member("g", 2, "late", "0 garbled"),
        member("g", 5, "nobody", "0 ok"),
        expired,
        member("g", 7, "ignored", "0 ok"),
        // These do not.
        member("g", 8, "late", "0 retry"),
        member("g", 9, "late", "0 ignore"),
    ]);
    lab.until_figures(|f| f.depth == 0).await;
    lab.until_idle().await;
    let members = lab.results.members("g").expect("memory");
    let found: Vec<(&str, &str)> =
        members.iter().map(|one| (one.id.as_str(), one.state.as_str())).collect();
    let expected = [
        ("g-0", "FAILURE"),
        ("g-1", "SUCCESS"),
        ("g-2", "FAILURE"),
        ("g-3", "FAILURE"),
        ("g-4", "FAILURE"),
        ("g-5", "FAILURE"),
        ("g-6", "REVOKED"),
        ("g-7", "SUCCESS"),
    ];
    assert_eq!(found, expected);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_no_chord_is_not_counted() {
    let lab = Lab::new(config());
    let mut plain = member("g", 0, "late", "0 ok");
    plain.body = Bytes::from_static(br#"[[], {}, {"callbacks": [{"task": "x"}], "chord": null}]"#);
    lab.broker.put(&[plain]);
    lab.until_empty().await;
    assert_eq!(lab.document("g-0").as_deref(), Some("ok"));
    assert_eq!(lab.results.members("g").expect("memory"), []);
    lab.stop(Stop::Warm).await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn the_messages_of_a_join_that_is_complete_are_settled() {
    let lab = Lab::new(config());
    for group in ["g", "h"] {
        let join = Join { id: group.into(), size: 2, expires_ms: None };
        lab.results.declare(&join).expect("memory");
    }
    let put = [("g", 0), ("h", 0), ("g", 1), ("h", 1)];
    lab.broker.put(&put.map(|(group, index)| member(group, index, "late", "0 ok")));
    lab.until_empty().await;
    assert_eq!(lab.settlements(), ["ack"; 4]);
    assert_eq!(lab.results.members("g").expect("memory").len(), 2);
    lab.stop(Stop::Warm).await.expect("a clean end");
}
