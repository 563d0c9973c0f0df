//! Plain data as Python shows it: the form of arguments and errors in replies.

use std::fmt::Write;

use serde_json::Value;

/// Appends `value` as Python's `repr` shows it.
pub(crate) fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => drop(write!(out, "{number}")),
        Value::String(text) => quote(out, text),
        Value::Array(items) => {
            out.push('[');
            list(out, items);
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (n, (key, value)) in entries.iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                quote(out, key);
                out.push_str(": ");
                write(out, value);
            }
            out.push('}');
        }
    }
}

/// As `write`, given back.
pub(crate) fn of(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// A list of arguments as Python shows a tuple.
pub(crate) fn tuple(items: &[Value]) -> String {
    let mut out = "(".to_owned();
    list(&mut out, items);
    out.push_str(if items.len() == 1 { ",)" } else { ")" });
    out
}

/// A set of texts, in their order.
pub(crate) fn set<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut out = String::new();
    for text in texts {
        out.push_str(if out.is_empty() { "{" } else { ", " });
        quote(&mut out, text);
    }
    if out.is_empty() { "set()".to_owned() } else { out + "}" }
}

/// An exception of Python's with one argument.
pub(crate) fn exception(class: &str, argument: &str) -> String {
    let mut out = format!("{class}(");
    quote(&mut out, argument);
    out.push(')');
    out
}

fn list(out: &mut String, items: &[Value]) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        write(out, item);
    }
}

/// Appends text in single quotes, or in double ones when that needs no escape.
fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() && (c as u32) < 0x100 => drop(write!(out, "\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(mark);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_looks_as_in_python() {
        for (value, expected) in [
            (json!([null, true, false, 1, -2.5, "a"]), "[None, True, False, 1, -2.5, 'a']"),
            (json!({"k": {"n": []}}), "{'k': {'n': []}}"),
            (json!("it's"), "\"it's\""),
            (json!("'\""), "'\\'\"'"),
            (json!("a\n\t\\\u{1}é"), "'a\\n\\t\\\\\\x01é'"),
        ] {
            assert_eq!(of(&value), expected);
        }
        assert_eq!(tuple(&[json!(1)]), "(1,)");
        assert_eq!((tuple(&[]), tuple(&[json!(1), json!("a")])), ("()".into(), "(1, 'a')".into()));
        assert_eq!(set(["a", "b"].into_iter()), "{'a', 'b'}");
        assert_eq!(set(std::iter::empty()), "set()");
        assert_eq!(exception("KeyError", "x"), "KeyError('x')");
    }
}
