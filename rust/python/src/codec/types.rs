//! Values that neither encoding has a type for, and kombu's way to write them: `{"__type__": T,
//! "__value__": V}`.
//!
//! | T | Python | V |
//! | --- | --- | --- |
//! | `datetime` `date` `time` | of the module `datetime` | ISO 8601 |
//! | `decimal` | `Decimal` | its text |
//! | `uuid` | `UUID` | `{"hex": ...}` |
//! | `bytes` `base64` | `bytes`, in JSON | text when it is UTF-8, else base64 |
//! | `int` | `int` beyond 64 bits, in MessagePack | decimal digits |
//!
//! The last is taskcore's own; a stock worker reads no such integer from MessagePack anyway. An
//! object with `__json__` is replaced by what that returns. Any other T is an error on the way in:
//! a value must not change its type in silence.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyString, PyType},
};

/// The classes, looked up once.
struct Classes {
    datetime: Py<PyType>,
    date: Py<PyType>,
    time: Py<PyType>,
    decimal: Py<PyType>,
    uuid: Py<PyType>,
    int: Py<PyType>,
}

impl Classes {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
        CLASSES.get_or_try_init(py, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Self {
                datetime: class("datetime", "datetime")?,
                date: class("datetime", "date")?,
                time: class("datetime", "time")?,
                decimal: class("decimal", "Decimal")?,
                uuid: class("uuid", "UUID")?,
                int: class("builtins", "int")?,
            })
        })
    }
}

/// What an object is written as.
pub(super) enum Form<'py> {
    /// A typed map with text.
    Typed(&'static str, Bound<'py, PyAny>),
    /// The typed map of a UUID.
    Uuid(Bound<'py, PyAny>),
    /// Bytes, which each encoding writes in its own way.
    Bytes(Bound<'py, PyAny>),
    /// Something else in its place.
    Instead(Bound<'py, PyAny>),
    /// It has no form.
    Unknown,
}

/// The form of an object that is none of the plain types. The order of the questions is kombu's.
pub(super) fn form<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Form<'py>> {
    let py = obj.py();
    let classes = Classes::get(py)?;
    // The exact classes first: they have no `__json__`, and asking an object for a missing
    // attribute is slow.
    let exact = obj.get_type();
    let known = [&classes.datetime, &classes.decimal, &classes.uuid, &classes.date, &classes.time]
        .iter()
        .any(|c| c.bind(py).is(&exact));
    if !known
        && let Some(reducer) = obj.getattr_opt(intern!(py, "__json__"))?
        && !reducer.is_none()
    {
        return Ok(Form::Instead(reducer.call0()?));
    }
    let iso = intern!(py, "isoformat");
    // A datetime is also a date.
    if obj.is_instance(classes.datetime.bind(py))? {
        return Ok(Form::Typed("datetime", classes.datetime.bind(py).call_method1(iso, (obj,))?));
    }
    if obj.is_instance(classes.date.bind(py))? {
        return Ok(Form::Typed("date", obj.call_method0(iso)?));
    }
    if obj.is_instance(classes.time.bind(py))? {
        return Ok(Form::Typed("time", obj.call_method0(iso)?));
    }
    if obj.is_instance(classes.decimal.bind(py))? {
        return Ok(Form::Typed("decimal", obj.str()?.into_any()));
    }
    if obj.is_instance(classes.uuid.bind(py))? {
        return Ok(Form::Uuid(obj.getattr(intern!(py, "hex"))?));
    }
    if obj.is_instance_of::<PyBytes>() {
        return Ok(Form::Bytes(obj.clone()));
    }
    if is_lazy_text(obj)? {
        return Ok(Form::Instead(obj.str()?.into_any()));
    }
    Ok(Form::Unknown)
}

/// Whether it is one of Django's lazy translations, which kombu writes as text. Django is asked
/// only when it is loaded.
fn is_lazy_text(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = obj.py();
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    match modules.cast::<PyDict>()?.get_item(intern!(py, "django.utils.functional"))? {
        Some(module) => obj.is_instance(&module.getattr(intern!(py, "Promise"))?),
        None => Ok(false),
    }
}

/// The decimal digits of an int, whatever a subclass has made of `str`.
pub(super) fn digits<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    Classes::get(py)?.int.bind(py).call_method1(intern!(py, "__repr__"), (value,))
}

/// An int from decimal digits.
pub(super) fn int_of<'py>(py: Python<'py>, digits: &str) -> PyResult<Bound<'py, PyAny>> {
    Classes::get(py)?.int.bind(py).call1((digits,))
}

/// An aware datetime from MessagePack's timestamp.
pub(super) fn timestamp(py: Python<'_>, seconds: i64, micros: u32) -> PyResult<Bound<'_, PyAny>> {
    let module = py.import("datetime")?;
    let utc = module.getattr("timezone")?.getattr("utc")?;
    let epoch = Classes::get(py)?.datetime.bind(py).call_method1("fromtimestamp", (0, utc))?;
    epoch.add(module.getattr("timedelta")?.call1((0, seconds, micros))?)
}

/// The value that a typed map stands for; `None` for an unknown type.
pub(super) fn revive<'py>(
    kind: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = kind.py();
    let Ok(kind) = kind.cast::<PyString>() else { return Ok(None) };
    let classes = Classes::get(py)?;
    let parse =
        |class: &Py<PyType>| class.bind(py).call_method1(intern!(py, "fromisoformat"), (value,));
    let revived = match &*kind.to_cow()? {
        "datetime" => parse(&classes.datetime)?,
        // Older producers wrote a date with a time of day.
        "date" => parse(&classes.datetime)?.call_method0(intern!(py, "date"))?,
        "time" => parse(&classes.time)?,
        "decimal" => classes.decimal.bind(py).call1((value,))?,
        "uuid" => match value.cast::<PyDict>() {
            Ok(parts) => classes.uuid.bind(py).call((), Some(parts))?,
            Err(_) => classes.uuid.bind(py).call1((value,))?,
        },
        "bytes" => PyBytes::new(py, value.cast::<PyString>()?.to_str()?.as_bytes()).into_any(),
        "base64" => from_base64(value)?,
        "int" => classes.int.bind(py).call1((value.cast::<PyString>()?,))?,
        _ => return Ok(None),
    };
    Ok(Some(revived))
}

fn from_base64<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let text = value.cast::<PyString>()?;
    match STANDARD.decode(text.to_str()?) {
        Ok(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        // Python's decoder is more forgiving (line breaks), and its error is the one to show.
        Err(_) => py.import("base64")?.call_method1("b64decode", (text,)),
    }
}
