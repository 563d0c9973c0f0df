//! Result documents: what the store is given about a call that has ended.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use pyo3::prelude::*;
use serde_json::Value;
use taskcore::{
    clock,
    result::{State, record::Document},
};

use crate::{
    codec::{self, Format},
    encoding::ResultEncoding,
    entries::Entry,
    errors,
    request::Request,
};

/// What the buffer for encoded results may keep.
const SCRATCH: usize = 64 * 1024;
/// Bytes that the description of an exception may always take: more than twice `execute::WORDS` do.
const DESCRIPTION: usize = 64 << 10;
/// Makes the documents of one process.
pub(crate) struct Documents {
    hostname: Option<String>,
    /// Bytes of the longest result.
    result_max_size: usize,
    /// For encoded results; taken while in use.
    scratch: RefCell<Vec<u8>>,
    /// None for JSON.
    encoding: Option<Arc<ResultEncoding>>,
}

impl Documents {
    pub(crate) fn new(execution: &Bound<'_, PyAny>) -> PyResult<Self> {
        let hostname = execution.getattr_opt("hostname")?;
        Ok(Self {
            hostname: hostname.and_then(|h| h.extract().ok()),
            result_max_size: execution.getattr("result_max_size")?.extract()?,
            scratch: RefCell::default(),
            encoding: ResultEncoding::of(execution)?,
        })
    }

    /// The document of a state and the result or exception that goes with it.
    ///
    /// # Errors
    /// `EncodeError` when the result has no form in JSON or takes too many bytes.
    pub(crate) fn write(
        &self,
        entry: &Entry,
        request: &Bound<'_, Request>,
        state: &State,
        result: &Bound<'_, PyAny>,
        traceback: Option<&str>,
    ) -> PyResult<Bytes> {
        let this = request.get();
        if let Some(encoding) = &self.encoding {
            return self.write_encoded(encoding, (entry, request), state, result, traceback);
        }
        let mut encoded = self.scratch.take();
        encoded.clear();
        codec::write(Format::Json, &mut encoded, result, "result")?;
        self.check_size(request, state, encoded.len())?;
        let children = this.children_json(request.py())?;
        let extra = if entry.extended { self.extended(request) } else { Vec::new() };
        let document = written(this, state, &encoded, traceback, &children, &extra);
        encoded.shrink_to(SCRATCH);
        self.scratch.replace(encoded);
        Ok(document)
    }

    /// The same in another encoding than JSON.
    fn write_encoded(
        &self,
        encoding: &ResultEncoding,
        (entry, request): (&Entry, &Bound<'_, Request>),
        state: &State,
        result: &Bound<'_, PyAny>,
        traceback: Option<&str>,
    ) -> PyResult<Bytes> {
        let (py, this) = (request.py(), request.get());
        let children = this.children_json(py)?;
        let extra = if entry.extended { self.extended(request) } else { Vec::new() };
        let skeleton = written(this, state, b"null", traceback, &children, &extra);
        let document = encoding.document(py, &skeleton, result)?;
        self.check_size(request, state, document.len())?;
        Ok(document)
    }

    fn check_size(&self, request: &Bound<'_, Request>, state: &State, size: usize) -> PyResult<()> {
        // What is no result but says why there is none has room whatever the limit.
        let least = if *state == State::Success { 0 } else { DESCRIPTION };
        if size > self.result_max_size.max(least) {
            return Err(self.too_large(request, size));
        }
        Ok(())
    }

    #[cold]
    fn too_large(&self, request: &Bound<'_, Request>, size: usize) -> PyErr {
        let (task, limit) = (&request.get().message().headers.task, self.result_max_size);
        let text = format!(
            "the result of `{task}` takes `{size}` bytes, more than the `result_max_size` of `{limit}`; store the data elsewhere \
             and return where it is, or raise that setting"
        );
        errors::encode(request.py(), text)
    }

    /// What `result_extended` adds, as JSON. Arguments may have no such form, or none any more: the
    /// task has had them.
    fn extended(&self, request: &Bound<'_, Request>) -> Vec<(String, Vec<u8>)> {
        let (py, this) = (request.py(), request.get());
        let headers = &this.message().headers;
        let text = |value: &Value| value.to_string().into_bytes();
        let mut extra = vec![
            ("name".to_owned(), text(&headers.task.as_str().into())),
            ("args".to_owned(), codec::dumps_json_or_repr(this.args(py))),
            ("kwargs".to_owned(), codec::dumps_json_or_repr(this.kwargs(py))),
            ("worker".to_owned(), text(&self.hostname.as_deref().into())),
            ("retries".to_owned(), text(&headers.retries.into())),
            ("queue".to_owned(), text(&this.queue().into())),
        ];
        if let Some(names) = &headers.rare().stamped_headers {
            extra.push(("stamped_headers".to_owned(), text(&names.as_slice().into())));
            let stamps = &headers.rare().stamps;
            extra.extend(
                names.iter().map(|n| (n.clone(), text(stamps.get(n).unwrap_or(&Value::Null)))),
            );
        }
        extra
    }
}

/// The document of a result that is encoded, with further fields that are.
pub(crate) fn written(
    request: &Request,
    state: &State,
    result: &[u8],
    traceback: Option<&str>,
    children: &[u8],
    extra: &[(String, Vec<u8>)],
) -> Bytes {
    let extra = codec::borrowed(extra);
    let headers = &request.message().headers;
    let document = Document {
        state,
        result,
        traceback,
        children: Some(children),
        now_us: clock::wall_us(),
        group_id: headers.rare().group.as_deref(),
        parent_id: headers.parent_id.as_deref(),
        extra: &extra,
        task_id: &headers.id,
    };
    document.write()
}
