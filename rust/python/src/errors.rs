//! Errors of the core as Python exceptions: one match.
//!
//! The classes live in `taskcore.exceptions`, where users import them from, and are looked up once.
//! Where that module does not know a name (the extension can be loaded without the package) a
//! builtin of the same meaning stands in, so that an error is never hidden behind an import error.

use pyo3::{
    exceptions::{
        PyConnectionError, PyNotImplementedError, PyRuntimeError, PyTimeoutError, PyTypeError,
        PyValueError,
    },
    prelude::*,
    sync::PyOnceLock,
    types::PyType,
};
use taskcore::{Error, ErrorKind};

/// The exception classes, each with its builtin stand-in.
struct Classes {
    operational: Py<PyType>,
    unroutable: Py<PyType>,
    timeout: Py<PyType>,
    improper: Py<PyType>,
    decode: Py<PyType>,
    encode: Py<PyType>,
    refused: Py<PyType>,
    unsupported: Py<PyType>,
}

impl Classes {
    fn get(py: Python<'_>) -> &'static Self {
        static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
        CLASSES.get_or_init(py, || {
            let module = py.import("taskcore.exceptions").ok();
            let find = |name: &str, fallback: Bound<'_, PyType>| -> Py<PyType> {
                module
                    .as_ref()
                    .and_then(|m| m.getattr(name).ok())
                    .and_then(|c| c.cast_into::<PyType>().ok())
                    .unwrap_or(fallback)
                    .unbind()
            };
            Self {
                operational: find("OperationalError", py.get_type::<PyConnectionError>()),
                unroutable: find("UnroutableError", py.get_type::<PyConnectionError>()),
                timeout: find("TimeoutError", py.get_type::<PyTimeoutError>()),
                improper: find("ImproperlyConfigured", py.get_type::<PyValueError>()),
                decode: find("DecodeError", py.get_type::<PyValueError>()),
                encode: find("EncodeError", py.get_type::<PyValueError>()),
                refused: find("ContentDisallowed", py.get_type::<PyValueError>()),
                unsupported: find("NotSupportedError", py.get_type::<PyNotImplementedError>()),
            }
        })
    }
}

fn raise(py: Python<'_>, class: &Py<PyType>, message: String) -> PyErr {
    PyErr::from_type(class.bind(py).clone(), (message,))
}

/// An error of the core as the exception that the caller of `_core` catches.
#[cold]
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let classes = Classes::get(py);
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Connection | ErrorKind::Storage | ErrorKind::Fenced => {
            away(py, raise(py, &classes.operational, message))
        }
        ErrorKind::Unroutable => raise(py, &classes.unroutable, message),
        ErrorKind::Timeout => raise(py, &classes.timeout, message),
        ErrorKind::Config => raise(py, &classes.improper, message),
        ErrorKind::Decode => raise(py, &classes.decode, message),
        ErrorKind::Encode => raise(py, &classes.encode, message),
        ErrorKind::Refused => raise(py, &classes.refused, message),
        ErrorKind::TooLarge => PyValueError::new_err(message),
        ErrorKind::Unsupported => raise(py, &classes.unsupported, message),
        ErrorKind::Internal => PyRuntimeError::new_err(message),
    }
}

/// The attribute of an exception that came out of the core because one of its servers is away.
const AWAY: &str = "_server_away";

/// Marks an exception. Code of the user's raises the same class about other servers, as often as it
/// is run.
#[cold]
fn away(py: Python<'_>, error: PyErr) -> PyErr {
    // A class of the user's may forbid attributes; then it counts as the user's.
    let _ = error.value(py).setattr(AWAY, true);
    error
}

/// An exception of Python's as an error of the core; retryable where a server of the core's is away.
#[cold]
pub(crate) fn from_python(py: Python<'_>, error: &PyErr) -> Error {
    let away = error.value(py).hasattr(AWAY).unwrap_or(false);
    let kind = if away { ErrorKind::Connection } else { ErrorKind::Encode };
    Error::new(kind, crate::execute::in_words(py, error))
}

/// A publish that did not end in time is a broker that could not be reached, whichever of the two
/// the core noticed.
#[cold]
pub(crate) fn publishing(py: Python<'_>, error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::Timeout => away(py, operational(py, error.to_string())),
        _ => to_python(py, error),
    }
}

/// An argument of a constructor that is wrong.
#[cold]
pub(crate) fn argument(py: Python<'_>, error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::Config => PyValueError::new_err(error.to_string()),
        _ => to_python(py, error),
    }
}

/// `taskcore.exceptions.OperationalError`.
#[cold]
pub(crate) fn operational(py: Python<'_>, message: String) -> PyErr {
    raise(py, &Classes::get(py).operational, message)
}

/// `taskcore.exceptions.EncodeError`.
#[cold]
pub(crate) fn encode(py: Python<'_>, message: String) -> PyErr {
    raise(py, &Classes::get(py).encode, message)
}

/// `taskcore.exceptions.DecodeError`.
#[cold]
pub(crate) fn decode(py: Python<'_>, message: String) -> PyErr {
    raise(py, &Classes::get(py).decode, message)
}

/// A value that is out of its range.
#[cold]
pub(crate) fn value(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}

/// A value of the wrong type.
#[cold]
pub(crate) fn kind(message: impl Into<String>) -> PyErr {
    PyTypeError::new_err(message.into())
}

/// The name of an object's type, for an error's text.
#[cold]
pub(crate) fn type_name(obj: &Bound<'_, PyAny>) -> String {
    obj.get_type().name().map_or_else(|_| "?".to_owned(), |n| n.to_string_lossy().into_owned())
}
