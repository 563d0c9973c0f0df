//! A list inside a body, cut in front of its last item without decoding any of them.
//!
//! The rest of a chain travels so: whoever runs a step needs the last signature of the list, which
//! is the next step, and passes on the others as they came. The items are stepped over and not
//! judged; whoever decodes one says what is wrong with it.

use std::ops::Range;

use super::{
    msgpack::{Head, Reader},
    pyjson,
};

/// Where the parts of a list stand; it has one item at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// How many items.
    pub count: usize,
    /// From the first byte of the first item to behind the last.
    pub items: Range<usize>,
    /// The items but the last, without what separates them from it.
    pub others: Range<usize>,
    /// Where the last item begins.
    pub last: usize,
    /// Behind the list.
    pub end: usize,
}

impl List {
    /// The list whose first byte is at `at` of a JSON text; `None` when no list stands there, or one
    /// that is empty or malformed.
    pub fn json(text: &[u8], at: usize) -> Option<Self> {
        let text = text.get(at..)?;
        let mut found: Option<Self> = None;
        let end = pyjson::walk(text, |item| match &mut found {
            None => found = Some(Self::of_one(item)),
            Some(list) => list.push(item),
        });
        let mut list = found?;
        list.end = end.ok()?;
        Some(list.behind(at))
    }

    /// The same of MessagePack.
    pub fn msgpack(data: &[u8], at: usize) -> Option<Self> {
        let mut reader = Reader::new(data.get(at..)?);
        let Head::Array(count) = reader.head().ok()? else { return None };
        let first = reader.pos();
        let mut found = Self::of_one(first..first);
        for _ in 0..count {
            found.last = reader.pos();
            reader.skip().ok()?;
        }
        (found.items.end, found.end) = (reader.pos(), reader.pos());
        (found.count, found.others.end) = (count as usize, found.last);
        (count > 0).then(|| found.behind(at))
    }

    fn of_one(item: Range<usize>) -> Self {
        let (last, end) = (item.start, item.end);
        Self { count: 1, others: last..last, items: item, last, end }
    }

    fn push(&mut self, item: Range<usize>) {
        self.count += 1;
        self.others.end = self.items.end;
        (self.last, self.items.end) = (item.start, item.end);
    }

    /// The same where `at` bytes stand in front.
    fn behind(self, at: usize) -> Self {
        let move_on = |range: Range<usize>| range.start + at..range.end + at;
        Self {
            items: move_on(self.items),
            others: move_on(self.others),
            last: self.last + at,
            end: self.end + at,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::message::msgpack::Writer;

    /// Anything that JSON can say.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[aé\"\\\\\\]\\[{},: ]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[a\"\\\\]{0,4}", inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn in_msgpack(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.value(value);
        writer.into_vec()
    }

    fn from_json(text: &[u8]) -> Vec<Value> {
        serde_json::from_slice(&[b"[", text, b"]"].concat()).unwrap()
    }

    proptest! {
        #[test]
        fn the_parts_of_a_list_are_its_items(items in prop::collection::vec(anything(), 1..20),
                                             before in "[ a-z]{0,5}", pretty: bool) {
            let whole = Value::from(items.clone());
            let text = if pretty {
                serde_json::to_string_pretty(&whole).unwrap()
            } else {
                whole.to_string()
            };
            let text = format!("{before}{text}, \"chord\": null}}]").into_bytes();
            let list = List::json(&text, before.len()).unwrap();
            let (last, others) = items.split_last().unwrap();
            prop_assert_eq!(list.count, items.len());
            prop_assert_eq!(from_json(&text[list.items.clone()]), items.clone());
            prop_assert_eq!(from_json(&text[list.others.clone()]), others);
            prop_assert_eq!(from_json(&text[list.last..list.items.end]), std::slice::from_ref(last));
            prop_assert!(text[list.end..].starts_with(b", \"chord\""));
        }

        #[test]
        fn likewise_in_msgpack(items in prop::collection::vec(anything(), 1..40), before in 0usize..5) {
            let mut data = vec![0; before];
            data.extend(in_msgpack(&Value::from(items.clone())));
            let end = data.len();
            data.push(0xc0);
            let list = List::msgpack(&data, before).unwrap();
            let each = |items: &[Value]| items.iter().map(in_msgpack).collect::<Vec<_>>().concat();
            let (last, others) = items.split_last().unwrap();
            prop_assert_eq!((list.count, list.end), (items.len(), end));
            prop_assert_eq!(&data[list.items.clone()], each(&items));
            prop_assert_eq!(&data[list.others.clone()], each(others));
            prop_assert_eq!(&data[list.last..list.end], in_msgpack(last));
        }

        #[test]
        fn nothing_panics(data: Vec<u8>, at in 0usize..20) {
            let _ = (List::json(&data, at), List::msgpack(&data, at));
        }
    }

    #[test]
    fn what_is_no_list_with_items_is_none() {
        for text in ["", "null", "[]", "[ ]", "{}", "[1", "[1,", "[\"a]", "[{]"] {
            assert_eq!(List::json(text.as_bytes(), 0), None, "{text}");
        }
        for data in [b"".as_slice(), b"\xc0", b"\x90", b"\x80", b"\x92\x01", b"\x91\xc1"] {
            assert_eq!(List::msgpack(data, 0), None, "{data:?}");
        }
        assert_eq!(in_msgpack(&json!([])), b"\x90");
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = [vec![b'['; 500_000], vec![b']'; 500_000]].concat();
        assert_eq!(List::json(&deep, 0).unwrap().items, 1..deep.len() - 1);
        let deep = [vec![0x91; 500_000], vec![0xc0]].concat();
        assert_eq!(List::msgpack(&deep, 0).unwrap().items, 1..deep.len());
    }
}
