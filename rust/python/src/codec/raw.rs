//! The few calls of the C API that the codec needs faster than PyO3's safe ones, each behind a safe
//! function.
//!
//! The limited API hides the layout of objects, so a length or an item is a function call; what is
//! left to win is not to count references for values that nobody can drop meanwhile. The rule that
//! makes borrowing safe: an item borrowed from a list or dict is used before any Python code runs,
//! and whoever goes on with a container or with an object that may run Python code takes a
//! reference first (`Borrowed::to_owned`).
#![allow(unsafe_code)]

use pyo3::{ffi, prelude::*, types::PyDict};
use std::ffi::{c_int, c_long};

/// What the codec tells apart. Subclasses of dict and bytes are `Other`: their items and meaning
/// are their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `str` or a subclass.
    Text,
    /// `int` or a subclass, not `bool`.
    Int,
    /// `float` or a subclass.
    Float,
    True,
    False,
    None,
    /// `list` or a subclass.
    List,
    /// `tuple` or a subclass.
    Tuple,
    /// Exactly `dict`.
    Dict,
    /// A subclass of `dict`, whose `items()` decides.
    Mapping,
    /// Exactly `bytes`.
    Bytes,
    /// Anything else.
    Other,
}

/// The kind of an object, by identity of its type first.
#[inline]
pub(super) fn kind(obj: Borrowed<'_, '_, PyAny>) -> Kind {
    // SAFETY: `obj` is a live object and the interpreter is attached, which `Borrowed` proves.
    let class = unsafe { ffi::Py_TYPE(obj.as_ptr()) };
    if class == &raw mut ffi::PyUnicode_Type {
        Kind::Text
    } else if class == &raw mut ffi::PyLong_Type {
        Kind::Int
    } else if class == &raw mut ffi::PyDict_Type {
        Kind::Dict
    } else if class == &raw mut ffi::PyList_Type {
        Kind::List
    } else if class == &raw mut ffi::PyTuple_Type {
        Kind::Tuple
    } else if class == &raw mut ffi::PyFloat_Type {
        Kind::Float
    } else if class == &raw mut ffi::PyBytes_Type {
        Kind::Bytes
    } else {
        kind_of_other(obj)
    }
}

fn kind_of_other(obj: Borrowed<'_, '_, PyAny>) -> Kind {
    let ptr = obj.as_ptr();
    // SAFETY: as in `kind`; the checks read the type only.
    unsafe {
        if ptr == ffi::Py_None() {
            Kind::None
        } else if ptr == ffi::Py_True() {
            Kind::True
        } else if ptr == ffi::Py_False() {
            Kind::False
        } else if ffi::PyUnicode_Check(ptr) != 0 {
            Kind::Text
        } else if ffi::PyLong_Check(ptr) != 0 {
            Kind::Int
        } else if ffi::PyFloat_Check(ptr) != 0 {
            Kind::Float
        } else if ffi::PyList_Check(ptr) != 0 {
            Kind::List
        } else if ffi::PyTuple_Check(ptr) != 0 {
            Kind::Tuple
        } else if ffi::PyDict_Check(ptr) != 0 {
            Kind::Mapping
        } else {
            Kind::Other
        }
    }
}

/// The UTF-8 of a string, which the interpreter keeps beside it; `None` when it holds lone
/// surrogates.
#[inline]
pub(super) fn utf8<'a>(text: Borrowed<'a, '_, PyAny>) -> Option<&'a [u8]> {
    let mut size: ffi::Py_ssize_t = 0;
    // SAFETY: `text` is of kind `Text`; the buffer lives as long as the string, which `'a` borrows.
    unsafe {
        let data = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut size);
        if data.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(std::slice::from_raw_parts(data.cast(), size as usize))
    }
}

/// The value of an int, or `None` when it takes more than 64 bits with sign.
#[inline]
pub(super) fn int(value: Borrowed<'_, '_, PyAny>) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: `value` is of kind `Int`, for which the call cannot fail except by overflow.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(number)
}

/// The value of an int that may use the sign bit as a digit.
pub(super) fn uint(value: Borrowed<'_, '_, PyAny>) -> Option<u64> {
    // SAFETY: `value` is of kind `Int`; the error of an overflow is cleared.
    unsafe {
        let number = ffi::PyLong_AsUnsignedLongLong(value.as_ptr());
        if number == u64::MAX && !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(number)
    }
}

/// The value of a float.
#[inline]
pub(super) fn float(value: Borrowed<'_, '_, PyAny>) -> f64 {
    // SAFETY: `value` is of kind `Float`, for which the call cannot fail.
    unsafe { ffi::PyFloat_AsDouble(value.as_ptr()) }
}

/// The content of a bytes object.
#[inline]
pub(super) fn bytes<'a>(value: Borrowed<'a, '_, PyAny>) -> &'a [u8] {
    // SAFETY: `value` is a bytes object, which is immutable and borrowed for `'a`.
    unsafe {
        let data = ffi::PyBytes_AsString(value.as_ptr());
        std::slice::from_raw_parts(data.cast(), ffi::PyBytes_Size(value.as_ptr()) as usize)
    }
}

/// The number of items of a list or tuple.
#[inline]
pub(super) fn len(seq: &Bound<'_, PyAny>, kind: Kind) -> usize {
    // SAFETY: `seq` is of kind `List` or `Tuple`.
    unsafe {
        if kind == Kind::List {
            ffi::PyList_Size(seq.as_ptr()) as usize
        } else {
            ffi::PyTuple_Size(seq.as_ptr()) as usize
        }
    }
}

/// An item of a list or tuple, or `None` past the end. Valid until Python code runs.
#[inline]
pub(super) fn item<'a, 'py>(
    seq: &'a Bound<'py, PyAny>,
    kind: Kind,
    index: usize,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: `seq` is of kind `List` or `Tuple`; both calls check the bounds and set an error that
    // is cleared.
    unsafe {
        let ptr = if kind == Kind::List {
            ffi::PyList_GetItem(seq.as_ptr(), index as ffi::Py_ssize_t)
        } else {
            ffi::PyTuple_GetItem(seq.as_ptr(), index as ffi::Py_ssize_t)
        };
        if ptr.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(Borrowed::from_ptr(seq.py(), ptr))
    }
}

/// A position in a dict. Stays memory-safe when the dict changes: the table is asked anew at every
/// step.
pub(super) struct Pairs<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    at: ffi::Py_ssize_t,
}

impl<'a, 'py> Pairs<'a, 'py> {
    #[inline]
    pub(super) fn new(dict: &'a Bound<'py, PyDict>) -> Self {
        Self { dict, at: 0 }
    }
}

impl<'a, 'py> Iterator for Pairs<'a, 'py> {
    type Item = (Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>);

    /// The next pair. Valid until Python code runs.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: `dict` is a dict; both pointers are borrowed from it when the call says so.
        unsafe {
            if ffi::PyDict_Next(self.dict.as_ptr(), &raw mut self.at, &raw mut key, &raw mut value)
                == 0
            {
                return None;
            }
            let py = self.dict.py();
            Some((Borrowed::from_ptr(py, key), Borrowed::from_ptr(py, value)))
        }
    }
}

/// A string from WTF-8: UTF-8 in which lone surrogates may stand as three bytes.
pub(super) fn text_with_surrogates<'py>(
    py: Python<'py>,
    wtf8: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: pointer and length come from one slice; the result is a new reference or null with an
    // error set.
    unsafe {
        let ptr = ffi::PyUnicode_DecodeUTF8(
            wtf8.as_ptr().cast(),
            wtf8.len() as ffi::Py_ssize_t,
            c"surrogatepass".as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, ptr)
    }
}

/// WTF-8 of a string that has no UTF-8.
pub(super) fn surrogates_of<'py>(text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `text` is a string; the result is a new reference or null with an error set.
    unsafe {
        let ptr = ffi::PyUnicode_AsEncodedString(
            text.as_ptr(),
            c"utf-8".as_ptr(),
            c"surrogatepass".as_ptr(),
        );
        Bound::from_owned_ptr_or_err(text.py(), ptr)
    }
}

/// A string from bytes that are known to be UTF-8.
#[inline]
pub(super) fn text<'py>(py: Python<'py>, utf8: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: pointer and length come from one slice; invalid UTF-8 sets an error and returns null.
    unsafe {
        let ptr =
            ffi::PyUnicode_FromStringAndSize(utf8.as_ptr().cast(), utf8.len() as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, ptr)
    }
}

/// An int.
#[inline]
pub(super) fn new_int(py: Python<'_>, value: i64) -> Bound<'_, PyAny> {
    // SAFETY: returns a new reference, or null out of memory, on which PyO3 panics.
    unsafe {
        let ptr = if size_of::<c_long>() == 8 {
            ffi::PyLong_FromLong(value as c_long)
        } else {
            ffi::PyLong_FromLongLong(value)
        };
        Bound::from_owned_ptr(py, ptr)
    }
}

/// Stores a pair; fails when the key cannot be hashed.
#[inline]
pub(super) fn set(
    dict: &Bound<'_, PyDict>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: three live objects of one interpreter; the dict takes its own references.
    let status = unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) };
    if status < 0 { Err(PyErr::fetch(dict.py())) } else { Ok(()) }
}
