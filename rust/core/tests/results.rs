//! Against what stock Celery 5.7 stored: every captured result document is written again byte for
//! byte from its parts.

use std::path::Path;

use serde_json::{Map, Value, value::RawValue};
use taskcore::{
    message::parse_iso,
    result::{State, record::Document},
};

/// The captured documents of tasks, with the case they belong to.
fn captured() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/results_redis.jsonl");
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Map<String, Value>>(line).expect("a line is an object"));
    let documents: Vec<_> = lines
        .filter_map(|line| {
            Some((line.get("case")?.as_str()?.to_owned(), line.get("raw")?.as_str()?.to_owned()))
        })
        // The rest are counters of chords and documents of groups.
        .filter(|(_, raw)| raw.contains("\"status\": "))
        .collect();
    assert_eq!(documents.len(), 108, "a vector was lost");
    documents
}

/// The top-level fields in their order.
fn fields(raw: &str) -> Vec<(String, Box<RawValue>)> {
    struct Fields(Vec<(String, Box<RawValue>)>);
    impl<'de> serde::Deserialize<'de> for Fields {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Fields;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Fields, A::Error> {
                    let mut fields = Vec::new();
                    while let Some(entry) = map.next_entry()? {
                        fields.push(entry);
                    }
                    Ok(Fields(fields))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Fields>(raw).expect("an object").0
}

#[test]
fn every_document_is_written_byte_for_byte() {
    for (case, raw) in captured() {
        let fields = fields(&raw);
        let json = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.get());
        let text = |name: &str| {
            json(name)
                .and_then(|v| serde_json::from_str::<Option<String>>(v).expect("text or null"))
        };
        let state = State::from_name(&text("status").expect("a status"));
        let (traceback, group, parent, id) =
            (text("traceback"), text("group_id"), text("parent_id"), text("task_id"));
        let done = text("date_done").map(|d| parse_iso(&d).expect("a time"));
        assert_eq!(done.is_some(), state.is_ready(), "{case}");
        let fixed = [
            "status",
            "result",
            "traceback",
            "children",
            "date_done",
            "group_id",
            "parent_id",
            "task_id",
        ];
        let extra: Vec<(&str, &[u8])> = fields
            .iter()
            .filter(|(n, _)| !fixed.contains(&n.as_str()))
            .map(|(n, v)| (n.as_str(), v.get().as_bytes()))
            .collect();
        let document = Document {
            state: &state,
            result: json("result").expect("a result").as_bytes(),
            traceback: traceback.as_deref(),
            children: json("children").map(str::as_bytes),
            now_us: done.unwrap_or_default(),
            group_id: group.as_deref(),
            parent_id: parent.as_deref(),
            extra: &extra,
            task_id: id.as_deref().expect("an id"),
        };
        assert_eq!(std::str::from_utf8(&document.write()), Ok(&*raw), "{case}");
    }
}
