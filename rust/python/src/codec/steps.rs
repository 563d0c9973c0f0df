//! `Steps`: the rest of a chain as a message carries it, of which only the next step is decoded.
//!
//! A list of signatures in reverse order, so the last is the next to run. Each step of a chain
//! passes on all that come after it: were they decoded and encoded every time, a chain of n steps
//! would cost n * n of that. Their bytes go over as they came instead, into the body of the next
//! message; that is n * n as well, but of copied bytes.
//!
//! Whoever asks for more than the next step and the rest gets the list, decoded. From then on that
//! list is the chain, so what the program changes in it counts.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyList, PySlice},
};
use taskcore::message::List;

use super::{Format, fault::Written, read, walk, walk::Sink};

/// The rest of a chain.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Steps {
    format: Format,
    count: usize,
    /// The signatures, encoded, without the head and the end of their list.
    items: Bytes,
    /// The last of them, and the others; of what was cut off from another one, neither is known.
    parts: Option<(Py<PyAny>, Bytes)>,
    /// All of them. Set by who asks for the list; then it alone is read.
    decoded: PyOnceLock<Py<PyList>>,
}

impl Steps {
    /// The list at `list` of a body.
    pub(super) fn new(format: Format, body: &Bytes, list: &List, next: Bound<'_, PyAny>) -> Self {
        Self {
            format,
            count: list.count,
            items: body.slice(list.items.clone()),
            parts: Some((next.unbind(), body.slice(list.others.clone()))),
            decoded: PyOnceLock::new(),
        }
    }

    /// Writes them as a list; the bytes as they came where the format is the same and nobody has
    /// seen the list.
    pub(super) fn write<S: Sink>(&self, out: &mut S, py: Python<'_>, depth: usize) -> Written {
        if self.decoded.get(py).is_none() && self.format == S::FORMAT {
            out.list(self.count)?;
            out.items(&self.items);
            out.list_end();
            return Ok(());
        }
        let list = self.list(py).map_err(super::fault::Fault::raised)?;
        walk::value(out, list.as_any().as_borrowed(), depth)
    }

    fn list<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyList>> {
        let list = self.decoded.get_or_try_init(py, || {
            let mut data = Vec::with_capacity(self.items.len() + 5);
            match self.format {
                Format::Json => data.extend([b"[", &*self.items, b"]"].concat()),
                Format::Msgpack => {
                    data.push(0xdd); // an array of 32 bits
                    data.extend_from_slice(&(self.count as u32).to_be_bytes());
                    data.extend_from_slice(&self.items);
                }
            }
            Ok::<_, PyErr>(read(py, self.format, &data)?.cast_into::<PyList>()?.unbind())
        })?;
        Ok(list.bind(py))
    }
}

#[pymethods]
impl Steps {
    /// The list of all of them, decoded; the same one every time.
    fn decoded<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.list(py).cloned()
    }

    /// What codecs in Python write in its place.
    fn __json__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.list(py).cloned()
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.decoded.get(py).map_or(self.count, |list| list.bind(py).len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.list(py)?.try_iter()?.into_any())
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.list(py)?.call_method0("__reversed__")
    }

    /// As of the list; the last one, and all before it as they came, without decoding others.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let (None, Some((next, others))) = (self.decoded.get(py), &self.parts) {
            if index.extract::<isize>().is_ok_and(|index| index == -1) {
                return Ok(next.bind(py).clone());
            }
            if let Ok(slice) = index.cast::<PySlice>() {
                let cut = slice.indices(self.count as isize)?;
                if (cut.start, cut.step, cut.slicelength) == (0, 1, self.count - 1) {
                    let others = Self {
                        format: self.format,
                        count: self.count - 1,
                        items: others.clone(),
                        parts: None,
                        decoded: PyOnceLock::new(),
                    };
                    return Ok(Bound::new(py, others)?.into_any());
                }
            }
        }
        self.list(py)?.as_any().get_item(index)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.list(py)?.repr()?.to_string())
    }
}
