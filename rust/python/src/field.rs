//! One named value from Python, checked for its type and range.

use pyo3::{
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde_json::{Map, Value};

use crate::{
    codec::{self, Steps},
    errors, template,
};

/// Headers that belong to the protocol; each has an option or is not the user's to set.
const PROTOCOL: [&str; 20] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
];

/// The latest time that ISO 8601 can say in four digits of a year.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// A field of a publish.
pub(crate) struct Field<'a, 'py> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a Bound<'py, PyAny>,
}

/// Whether a value is a list of signatures, or the rest of a chain as it came.
fn is_listed(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_instance_of::<Steps>()
}

impl<'py> Field<'_, 'py> {
    /// Text that may be empty.
    pub(crate) fn text(&self) -> PyResult<String> {
        match self.value.cast::<PyString>() {
            Ok(text) => Ok(text.to_str()?.to_owned()),
            Err(_) => Err(self.wrong("str")),
        }
    }

    /// Text that names something.
    pub(crate) fn named(&self) -> PyResult<String> {
        let text = self.text()?;
        if text.is_empty() { Err(self.wrong_value("text that is not empty")) } else { Ok(text) }
    }

    pub(crate) fn flag(&self) -> PyResult<bool> {
        self.value.cast::<PyBool>().map(PyBoolMethods::is_true).map_err(|_| self.wrong("bool"))
    }

    pub(crate) fn int(&self, expected: &str) -> PyResult<i64> {
        if !self.value.is_instance_of::<PyInt>() || self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong(expected));
        }
        self.value.extract().map_err(|_| self.wrong_value(expected))
    }

    pub(crate) fn count(&self) -> PyResult<u32> {
        let expected = "an int that is not negative";
        u32::try_from(self.int(expected)?).map_err(|_| self.wrong_value(expected))
    }

    pub(crate) fn number(&self, expected: &str) -> PyResult<f64> {
        let number = self.value.is_instance_of::<PyFloat>() || self.value.is_instance_of::<PyInt>();
        if !number || self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong(expected));
        }
        self.value.extract().map_err(|_| self.wrong_value(expected))
    }

    /// A Unix time as microseconds.
    pub(crate) fn time(&self) -> PyResult<i64> {
        let expected = "a number of seconds since 1970, up to the year 9999";
        let seconds = self.number(expected)?;
        if !seconds.is_finite() || seconds.abs() > LAST_SECOND {
            return Err(self.wrong_value(expected));
        }
        Ok((seconds * 1e6).round() as i64)
    }

    pub(crate) fn seconds(&self) -> PyResult<Option<f64>> {
        template::seconds(self.name, Some(self.number("a number of seconds")?))
    }

    pub(crate) fn mode(&self) -> PyResult<u8> {
        let expected = "2 (`persistent`) or 1 (`transient`)";
        if let Ok(name) = self.value.cast::<PyString>() {
            return match &*name.to_cow()? {
                "persistent" => Ok(2),
                "transient" => Ok(1),
                _ => Err(self.wrong_value(expected)),
            };
        }
        match self.int(expected)? {
            mode @ 1..=2 => Ok(mode as u8),
            _ => Err(self.wrong_value(expected)),
        }
    }

    /// Signatures: a list of them, or for `chord` one. Empty ones are absent.
    pub(crate) fn link(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.value;
        if self.name == "chord" {
            if !value.is_instance_of::<PyDict>() {
                return Err(self.wrong("a signature"));
            }
        } else if !is_listed(value) {
            return Err(self.wrong("a list of signatures"));
        }
        Ok(value.is_truthy()?.then(|| value.clone()))
    }

    pub(crate) fn names(&self) -> PyResult<Vec<String>> {
        if self.value.is_instance_of::<PyString>() {
            return Err(self.wrong("a list of str"));
        }
        self.value.extract().map_err(|_| self.wrong("a list of str"))
    }

    /// A dict as headers carry it: what JSON can say.
    pub(crate) fn map(&self) -> PyResult<Map<String, Value>> {
        if !self.value.is_instance_of::<PyDict>() {
            return Err(self.wrong("a dict"));
        }
        let json = codec::dumps_json(self.value, self.name)?;
        serde_json::from_slice(&json).map_err(|e| {
            let message = format!("cannot encode `{}` as headers: {e}", self.name);
            errors::encode(self.value.py(), message)
        })
    }

    pub(crate) fn headers(&self) -> PyResult<Map<String, Value>> {
        let map = self.map()?;
        match map.keys().find(|key| PROTOCOL.contains(&key.as_str())) {
            None => Ok(map),
            Some(key) => Err(errors::value(format!(
                "header `{key}` in `headers` belongs to the protocol, expected a name of your own; use the option of that name"
            ))),
        }
    }

    #[cold]
    pub(crate) fn wrong(&self, expected: &str) -> PyErr {
        let found = errors::type_name(self.value);
        errors::kind(format!("`{}` is of type `{found}`, expected {expected}", self.name))
    }

    #[cold]
    pub(crate) fn wrong_value(&self, expected: &str) -> PyErr {
        let found =
            self.value.repr().map_or_else(|_| "?".to_owned(), |r| r.to_string_lossy().into_owned());
        errors::value(format!("`{}` is `{found}`, expected {expected}", self.name))
    }
}
