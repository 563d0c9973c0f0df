//! Serializers that are Python's: pickle, yaml, and what the user registered. The functions of
//! `taskcore.serialize` are looked up once. Only writing is here: what may be opened is decided
//! where messages are executed.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyTuple},
};

const MODULE: &str = "taskcore.serialize";

/// Encodes with a registered serializer; gives content type, content encoding and the bytes.
///
/// # Errors
/// What the serializer raises.
pub(crate) fn dumps_foreign(
    value: &Bound<'_, PyAny>,
    name: &str,
) -> PyResult<(String, String, Vec<u8>)> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = DUMPS.import(value.py(), MODULE, "dumps")?.call1((value, name))?;
    let made = made.cast_into::<PyTuple>()?;
    let data = made.get_item(2)?.cast_into::<PyBytes>()?.as_bytes().to_vec();
    Ok((made.get_item(0)?.extract()?, made.get_item(1)?.extract()?, data))
}

/// The content type of a registered serializer.
///
/// # Errors
/// An exception that names the known ones.
pub(crate) fn content_type_of(py: Python<'_>, name: &str) -> PyResult<String> {
    static TYPE_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    TYPE_OF.import(py, MODULE, "content_type_of")?.call1((name,))?.extract()
}
