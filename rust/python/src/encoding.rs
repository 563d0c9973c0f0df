//! Result documents in another encoding than plain JSON, which Python writes and reads.
//!
//! Whoever runs a task encodes its document; what the worker writes itself is JSON, as in any worker,
//! and encoded on its way to the store ([`EncodedResults`]), on a thread of its own: whoever holds the
//! interpreter must not hold up the worker's loop. There the members of joins are decoded as far as the
//! worker must know how they ended; what they returned stays as it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};
use taskcore::{
    Error, ErrorKind,
    future::BoxFuture,
    message::Compression,
    result::{
        Join, JoinClaim, Joins, Member, Observer, Origin, Record, ResultStore, State, Stored,
        Watch,
        encoded::{self, is_json},
        join::MemberEnd,
        record,
    },
};
use tokio::task::spawn_blocking;

use crate::{bridge, codec, errors};

/// How documents are written and read.
pub(crate) struct ResultEncoding {
    /// `taskcore.results.encoding.Encoding`.
    object: Py<PyAny>,
    compression: Option<Compression>,
    /// Whether what it writes is JSON to look at, with values that only it reads.
    is_like_json: bool,
}

impl ResultEncoding {
    /// That of `object`; none when it is None: documents are plain JSON.
    ///
    /// # Errors
    /// `ValueError` for an unknown compression, and for a serializer in whose documents the state
    /// is not seen.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        if object.is_none() {
            return Ok(None);
        }
        let name: Option<String> = object.getattr("compression")?.extract()?;
        let compression = name.map(|name| Compression::from_name(&name)).transpose();
        let compression = compression.map_err(|e| errors::argument(object.py(), &e))?;
        let mut encoding =
            Self { object: object.clone().unbind(), compression, is_like_json: false };
        encoding.is_like_json = encoding.looks_like_json(object.py())?;
        Ok(Some(Arc::new(encoding)))
    }

    /// That of an executor.
    ///
    /// # Errors
    /// As [`ResultEncoding::new`].
    pub(crate) fn of(execution: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        execution.getattr_opt("encoding")?.map_or(Ok(None), |object| Self::new(&object))
    }

    fn looks_like_json(&self, py: Python<'_>) -> PyResult<bool> {
        let mut looks = false;
        for (state, other) in [(State::Success, "STARTED"), (State::Started, "SUCCESS")] {
            let result = PyDict::new(py);
            result.set_item("status", other)?;
            let document = self.document(py, &skeleton(&state), &result)?;
            looks = is_json(&document);
            let opened = record::open(&document).map_err(|e| errors::to_python(py, &e))?;
            if !is_json(&opened) && encoded::state_of(&opened).as_ref() != Some(&state) {
                let name: String = self.object.bind(py).getattr("serializer")?.extract()?;
                return Err(errors::value(format!(
                    "the setting `result_serializer` is `{name}`, in whose bytes the state of a task is not seen, expected one that keeps \
                     the order of a dict and its texts as they are, as json, msgpack, pickle and yaml do; encode what tasks return instead"
                )));
            }
        }
        Ok(looks)
    }

    /// A document from one in JSON and the result that is put into it.
    ///
    /// # Errors
    /// What the serializer raises.
    pub(crate) fn document(
        &self,
        py: Python<'_>,
        skeleton: &[u8],
        result: &Bound<'_, PyAny>,
    ) -> PyResult<Bytes> {
        let document = codec::loads_json(py, skeleton)?;
        document.cast::<PyDict>()?.set_item("result", result)?;
        self.encode(&document)
    }

    /// Encodes and compresses a value.
    ///
    /// # Errors
    /// What the serializer raises.
    pub(crate) fn encode(&self, value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
        let encoded = self.object.bind(value.py()).call_method1("encode", (value,))?;
        let encoded: Vec<u8> = encoded.extract()?;
        Ok(match self.compression {
            Some(compression) => record::compressed(compression, &encoded),
            None => encoded.into(),
        })
    }

    /// What one member of a join returned, when that is not JSON.
    ///
    /// # Errors
    /// What the serializer raises, and `ContentDisallowed`.
    pub(crate) fn value<'py>(&self, py: Python<'py>, member: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.decode(py, member)?.get_item(3)
    }

    fn decode<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let data = record::open(data).map_err(|e| errors::to_python(py, &e))?;
        self.object.bind(py).call_method1("decode", (&*data,))
    }

    /// Whether a record is stored as it is.
    fn keeps(&self, record: &Record) -> bool {
        record.member.is_none() && !self.encodes(record)
    }

    /// Whether a record is the worker's own, which is in JSON.
    fn encodes(&self, record: &Record) -> bool {
        is_json(&record.document) && !self.is_like_json
    }

    /// The record as it is stored.
    fn record(&self, py: Python<'_>, record: &Record) -> PyResult<Record> {
        let mut made = record.clone();
        if self.keeps(record) {
            return Ok(made);
        }
        let decoded;
        if self.encodes(record) {
            decoded = codec::loads_json(py, &record.document)?;
            made.document = self.encode(&decoded)?;
        } else {
            let data = record::open(&record.document).map_err(|e| errors::to_python(py, &e))?;
            // This worker's own: whatever may be opened.
            decoded = self.object.bind(py).call_method1("reopen", (&*data,))?;
        }
        if let Some(member) = made.member.as_mut().filter(|_| record.state.is_ready()) {
            let (id, state) = (record.id.as_str(), record.state.as_str());
            let part = PyList::new(py, [1_u8])?;
            part.append(id)?;
            part.append(state)?;
            part.append(decoded.get_item("result")?)?;
            let encoded = self.encode(part.as_any())?;
            **member = Member { encoded: Some(encoded), ..(**member).clone() };
        }
        Ok(made)
    }

    fn records(&self, batch: &[Record]) -> Vec<Record> {
        bridge::attach(|py| {
            let stored = |record: &Record| {
                self.record(py, record).unwrap_or_else(|error| {
                    tracing::error!(task = record.id, %error, "a result document is stored as JSON, because it cannot be encoded");
                    record.clone()
                })
            };
            batch.iter().map(stored).collect()
        })
    }

    /// A member of a join, as far as the worker must know it.
    fn member(&self, py: Python<'_>, ended: MemberEnd) -> PyResult<MemberEnd> {
        let Some(member) = encoded::member(&ended.result) else {
            if !self.is_like_json || ended.state != State::Success {
                return Ok(ended);
            }
            let member = [b"[1, null, null, ", &ended.result[..], b"]"].concat();
            return Ok(MemberEnd { result: encoded::mark(&member), ..ended });
        };
        let member = record::open(member).map_err(|e| errors::to_python(py, &e))?;
        let told = self.object.bind(py).call_method1("member", (&*member,))?;
        let (id, state, exception): (String, String, Option<Bound<'_, PyAny>>) = told.extract()?;
        let result = match exception {
            Some(exception) => codec::dumps_json(&exception, "exception")?.into(),
            None => ended.result.clone(),
        };
        Ok(MemberEnd { id, state: State::from_name(&state), result })
    }

    /// A document as JSON, where that can be had.
    fn as_json(&self, py: Python<'_>, document: &Bytes) -> PyResult<Bytes> {
        if is_json(document) {
            return Ok(document.clone());
        }
        Ok(codec::dumps_json(&self.decode(py, document)?, "result")?.into())
    }
}

/// A document as a dict.
///
/// # Errors
/// `DecodeError`, `ContentDisallowed`.
pub(crate) fn read<'py>(
    py: Python<'py>,
    encoding: Option<&ResultEncoding>,
    data: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(encoding) = encoding {
        return encoding.decode(py, data);
    }
    let data = record::open(data).map_err(|e| errors::to_python(py, &e))?;
    codec::loads_json(py, &data).map_err(|error| {
        if is_json(&data) {
            return error;
        }
        let text = "a result document is not in JSON: set `result_serializer` to what its writer has, and name it in `result_accept_content`";
        errors::decode(py, text.to_owned())
    })
}

fn skeleton(state: &State) -> Bytes {
    record::Document {
        state,
        result: b"null",
        traceback: None,
        children: None,
        now_us: 0,
        group_id: None,
        parent_id: None,
        extra: &[],
        task_id: "",
    }
    .write()
}

/// A store of documents in such an encoding, as the worker sees it: JSON, as far as it must read it.
pub(crate) struct EncodedResults {
    inner: Arc<dyn ResultStore>,
    encoding: Arc<ResultEncoding>,
    /// How many threads are inside Python for it. Written by those, read by whoever ends the process.
    inside: Arc<AtomicUsize>,
}

impl EncodedResults {
    /// `store`, or one that encodes what is stored there. `inside` counts the threads that are in Python
    /// for that.
    pub(crate) fn around(
        store: Arc<dyn ResultStore>,
        encoding: Option<Arc<ResultEncoding>>,
        inside: Arc<AtomicUsize>,
    ) -> Arc<dyn ResultStore> {
        match encoding {
            Some(encoding) => Arc::new(Self { inner: store, encoding, inside }),
            None => store,
        }
    }
}

impl Joins for EncodedResults {
    fn declare(&self, join: &Join) -> Result<(), Error> {
        self.inner.declare(join)
    }

    fn extend(&self, more: &Join) -> Result<(), Error> {
        self.inner.extend(more)
    }

    fn members(&self, id: &str, most: usize) -> Result<Vec<MemberEnd>, Error> {
        let members = self.inner.members(id, most)?;
        bridge::attach(|py| {
            let told = members.into_iter().map(|ended| self.encoding.member(py, ended));
            told.collect::<PyResult<_>>().map_err(|e| errors::from_python(py, &e))
        })
    }

    fn renew(&self, joined: &JoinClaim) -> Result<bool, Error> {
        self.inner.renew(joined)
    }

    fn close<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<(), Error>> {
        self.inner.close(joined)
    }

    fn reopen<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<(), Error>> {
        self.inner.reopen(joined)
    }
}

impl ResultStore for EncodedResults {
    fn store<'a>(&'a self, batch: &'a [Record]) -> BoxFuture<'a, Result<Stored, Error>> {
        Box::pin(async move {
            if batch.iter().all(|record| self.encoding.keeps(record)) {
                return self.inner.store(batch).await;
            }
            let (encoding, inside) = (Arc::clone(&self.encoding), Arc::clone(&self.inside));
            let batch = batch.to_vec();
            let work = move || {
                inside.fetch_add(1, Ordering::SeqCst);
                let made = encoding.records(&batch);
                inside.fetch_sub(1, Ordering::SeqCst);
                made
            };
            let made = spawn_blocking(work).await.map_err(|e| {
                Error::caused(ErrorKind::Internal, "the encoding of results was broken off", e)
            })?;
            self.inner.store(&made).await
        })
    }

    fn put(&self, record: &Record) -> Result<(), Error> {
        let records = self.encoding.records(std::slice::from_ref(record));
        records.iter().try_for_each(|record| self.inner.put(record))
    }

    fn get(&self, ids: &[&str]) -> Result<Vec<Option<Bytes>>, Error> {
        let documents = self.inner.get(ids)?;
        bridge::attach(|py| {
            let json = |document: Option<Bytes>| {
                document.map(|document| self.encoding.as_json(py, &document)).transpose()
            };
            let all = documents.into_iter().map(json).collect::<PyResult<_>>();
            all.map_err(|e| errors::from_python(py, &e))
        })
    }

    fn wait(
        &self,
        id: &str,
        origin: Origin,
        deadline: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Bytes>, Error> {
        self.inner.wait(id, origin, deadline, interrupt)
    }

    fn watch(
        &self,
        id: &str,
        origin: Origin,
        key: u64,
        observer: &Arc<dyn Observer>,
    ) -> Result<Watch, Error> {
        self.inner.watch(id, origin, key, observer)
    }

    fn forget(&self, id: &str) -> Result<(), Error> {
        self.inner.forget(id)
    }

    fn cleanup(&self) -> Result<u64, Error> {
        self.inner.cleanup()
    }

    fn reply_to(&self) -> &str {
        self.inner.reply_to()
    }

    fn url(&self) -> &str {
        self.inner.url()
    }
}
