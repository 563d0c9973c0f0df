//! Arguments of a command, each taken out once; what is wrong with one is said as Python would.

use serde_json::{Map, Value};

use crate::message::repr;

/// Why a command is refused: an exception as Python shows it.
pub(super) type Refusal = String;

/// The arguments of one command. Those that nobody asks for are ignored, as in Celery.
pub(super) struct Arguments<'m> {
    method: &'m str,
    values: Map<String, Value>,
}

impl<'m> Arguments<'m> {
    pub(super) fn new(method: &'m str, values: Map<String, Value>) -> Self {
        Self { method, values }
    }

    /// An argument that is there and not null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// An argument without which there is no command, whatever it is.
    pub(super) fn required(&mut self, name: &str) -> Result<Value, Refusal> {
        self.values.remove(name).ok_or_else(|| {
            let text =
                format!("{}() missing 1 required positional argument: '{name}'", self.method);
            repr::exception("TypeError", &text)
        })
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, &other, "text")),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&mut self, name: &str) -> Result<String, Refusal> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            other => Err(wrong(name, &other, "text")),
        }
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        list(name, self.take(name).unwrap_or_default())
    }

    /// The same, where it must be there.
    pub(super) fn required_texts(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let value = self.required(name)?;
        list(name, value)
    }

    /// Yes or no, also as the number or the text that a command line makes of it.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => {
                !matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "no" | "off" | "false")
            }
            Some(_) => true,
        }
    }

    /// A count, 1 when nobody says it.
    pub(super) fn count(&mut self, name: &str) -> Result<usize, Refusal> {
        let Some(value) = self.take(name) else { return Ok(1) };
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        let number = number.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        number.ok_or_else(|| wrong(name, &value, "a whole number above 0"))
    }

    /// Seconds above 0, or none.
    pub(super) fn seconds(&mut self, name: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        match number {
            Some(seconds) if seconds > 0.0 && f64::is_finite(seconds) => Ok(Some(seconds)),
            _ => Err(wrong(name, &value, "seconds above 0, or null")),
        }
    }
}

/// A list of texts from one text, from a list, or from the keys of a map, which is how older
/// workers write a set.
pub(super) fn list(name: &str, value: Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text]),
        Value::Object(map) => Ok(map.into_iter().map(|(key, _)| key).collect()),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong(name, &other, "text")),
            })
            .collect(),
        other => Err(wrong(name, &other, "text, or a list of texts")),
    }
}

/// A value that cannot be meant.
#[cold]
pub(super) fn wrong(name: &str, value: &Value, expected: &str) -> Refusal {
    let shown: String = repr::of(value).chars().take(100).collect();
    repr::exception("ValueError", &format!("{name} is {shown}, expected {expected}"))
}
