//! Members: how those of a join ended, as what follows it is given.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    error::{Error, ErrorKind, Result},
    message::pyjson::entries,
    result::{GROUP_PREFIX, ResultStore, State, encoded, join::MemberEnd},
    worker::compose::Fate,
};

/// How the members of a join ended; `None` when it is closed or has expired.
///
/// # Errors
/// The store is away, or the results take more than `most` bytes.
pub(super) fn fate(store: &dyn ResultStore, group: &str, most: usize) -> Result<Option<Fate>> {
    let members = store.members(group, most)?;
    if members.is_empty() {
        return Ok(None);
    }
    if members.iter().any(encoded::is_unknown) {
        let text = "its members are told in another encoding than this worker's, set the same `result_serializer` on all workers";
        return Err(Error::new(ErrorKind::Decode, text));
    }
    let lost = |one: &&MemberEnd| matches!(one.state, State::Failure | State::Revoked);
    if let Some(one) = members.iter().find(lost) {
        let (id, exception) = (one.id.clone(), one.result.clone());
        return Ok(Some(Fate::Failed { id, exception }));
    }
    let saved = store.get(&[format!("{GROUP_PREFIX}{group}").as_str()])?.pop().flatten();
    let results = match saved {
        Some(saved) => nested(store, &saved, members, most)?,
        None => members.into_iter().map(|one| one.result).collect(),
    };
    Ok(Some(Fate::Succeeded(results)))
}

/// The results as the group is nested whose document is stored: each group in it is a list. A stock
/// client stores that where the header of a chord has groups.
fn nested(
    store: &dyn ResultStore,
    saved: &[u8],
    members: Vec<MemberEnd>,
    most: usize,
) -> Result<Vec<Bytes>> {
    let broken = |e| Error::caused(ErrorKind::Decode, "what is stored of the group is not read", e);
    let saved: Value = serde_json::from_slice(saved).map_err(broken)?;
    let shape = &saved["result"];
    let mut results: HashMap<String, Bytes> =
        members.into_iter().map(|one| (one.id, one.result)).collect();
    let mut wanted = Vec::new();
    leaves(shape, &mut wanted);
    wanted.retain(|id| !results.contains_key(*id));
    let mut left = most;
    for (id, document) in wanted.iter().zip(store.get(&wanted)?) {
        let document = document.unwrap_or_default();
        left = left.checked_sub(document.len()).ok_or_else(|| {
            Error::new(ErrorKind::TooLarge, format!("the results take more than `{most}` bytes"))
        })?;
        let result = entries(&document)?.into_iter().find(|(name, _)| name == "result");
        let result = result.map_or(&b"null"[..], |(_, json)| json);
        results.insert((*id).to_owned(), Bytes::copy_from_slice(result));
    }
    let children = children(shape).map(Vec::as_slice).unwrap_or_default();
    Ok(children.iter().map(|child| list(child, &results)).collect())
}

/// What a result tuple, `[[id, parent], children]`, has inside, if it is that of a group.
fn children(tuple: &Value) -> Option<&Vec<Value>> {
    tuple.get(1)?.as_array()
}

fn id_of(tuple: &Value) -> Option<&str> {
    tuple.get(0)?.get(0)?.as_str()
}

/// The ids of the tasks in a result tuple.
fn leaves<'a>(tuple: &'a Value, out: &mut Vec<&'a str>) {
    match children(tuple) {
        Some(children) => children.iter().for_each(|child| leaves(child, out)),
        None => out.extend(id_of(tuple)),
    }
}

/// The JSON of a result, or of the list that a group gives.
fn list(tuple: &Value, results: &HashMap<String, Bytes>) -> Bytes {
    let Some(children) = children(tuple) else {
        let result = id_of(tuple).and_then(|id| results.get(id));
        return result.cloned().unwrap_or_else(|| Bytes::from_static(b"null"));
    };
    let parts: Vec<Bytes> = children.iter().map(|child| list(child, results)).collect();
    let inside = parts.join(&b", "[..]);
    Bytes::from([&b"["[..], &inside, b"]"].concat())
}
