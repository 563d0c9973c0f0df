//! One message from a draft and its arguments: id, body, compression, and what a stock Celery
//! worker expects beyond that.
//!
//! The body is written into a buffer that the caller keeps, so that a bulk publish allocates only
//! what it hands to the broker. Messages in Celery's encoding carry printable arguments and their
//! origin for Flower and for a stock worker's log; compact ones leave them out, since whoever shows
//! a compact message can decode it.

use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyList, PyString, PyTuple},
};
use taskcore::{
    broker::Outgoing,
    clock,
    message::{Encoding, Message},
    publish,
};

use crate::{
    codec, errors,
    fields::{Shown, Style},
    template::Serializer,
};

/// Longest printable arguments, as in Celery.
const REPR: usize = 1024;

/// Makes messages of one publish.
pub(crate) struct Writer {
    body: Vec<u8>,
    max_body: usize,
}

impl Writer {
    /// A writer that refuses bodies above `max_body`.
    pub(crate) fn new(max_body: usize) -> Self {
        Self { body: Vec::with_capacity(256), max_body }
    }

    /// Puts these arguments into a message. Its id is kept when it has one and is made otherwise;
    /// all else that an earlier message left in its place is written anew, so one place serves many
    /// messages of one style.
    ///
    /// # Errors
    /// `EncodeError`; `ValueError` for a body above the limit.
    pub(crate) fn write<'py>(
        &mut self,
        style: &Style<'_, 'py>,
        outgoing: &mut Outgoing,
        args: &Bound<'py, PyAny>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<()> {
        let py = args.py();
        let message = &mut outgoing.message;
        outgoing.new_id = message.headers.id.is_empty();
        if outgoing.new_id {
            message.headers.id = publish::task_id();
        }
        let celery = outgoing.encoding == Encoding::Celery;
        if celery {
            for_celery(message, style.shown, args, kwargs)?;
        }
        self.body.clear();
        match &*style.serializer {
            Serializer::Native(format) => {
                codec::write_body(*format, &mut self.body, args, kwargs, &style.embed, celery)?;
            }
            Serializer::Foreign(name) => {
                let body = (args, kwargs, style.embed.to_dict(py)?).into_pyobject(py)?;
                let (content_type, encoding, data) = codec::dumps_foreign(&body, name)?;
                message.content_type = content_type.into();
                message.content_encoding = encoding.into();
                self.body = data;
            }
        }
        publish::check_body(&message.headers.task, self.body.len(), self.max_body)
            .map_err(|e| errors::to_python(py, &e))?;
        if let Some(compression) = style.compression {
            self.body = compression.compress(&self.body);
            message.headers.compression = Some(compression.content_type().to_owned());
        }
        message.body = bytes::Bytes::copy_from_slice(&self.body);
        Ok(())
    }
}

/// The positional arguments as a list or tuple.
///
/// # Errors
/// `TypeError` for what is none and cannot be meant as one.
pub(crate) fn positional<'py>(args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if args.is_instance_of::<PyTuple>() || args.is_instance_of::<PyList>() {
        return Ok(args.clone());
    }
    if args.is_instance_of::<PyString>()
        || args.is_instance_of::<PyDict>()
        || args.try_iter().is_err()
    {
        let found = errors::type_name(args);
        return Err(errors::kind(format!(
            "args is of type `{found}`, expected a list or tuple of arguments"
        )));
    }
    Ok(args
        .try_iter()?
        .collect::<PyResult<Vec<_>>>()
        .and_then(|items| PyTuple::new(args.py(), items))?
        .into_any())
}

/// What a stock worker and its tools show.
fn for_celery(
    message: &mut Message,
    shown: Shown,
    args: &Bound<'_, PyAny>,
    kwargs: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let py = args.py();
    if let Some(expires) = message.headers.expires {
        let left = (expires - clock::wall_us()).max(0) / 1000;
        message.properties.expiration = Some(left.to_string());
    }
    message.properties.delivery_tag = Some(publish::task_id());
    let rare = message.headers.rare_mut();
    if rare.origin.is_none() {
        rare.origin = Some(origin(py)?);
    }
    if shown.args {
        let tuple = match args.cast::<PyList>() {
            Ok(list) => list.to_tuple().into_any(),
            Err(_) => args.clone(),
        };
        rare.argsrepr = Some(printable(&tuple));
    }
    if shown.kwargs {
        rare.kwargsrepr = Some(printable(kwargs));
    }
    Ok(())
}

/// The repr of a value, cut to what a header may hold. A repr that raises is not worth failing a
/// publish for.
fn printable(value: &Bound<'_, PyAny>) -> String {
    let Ok(text) = value.repr() else { return "<no repr>".to_owned() };
    let mut text = text.to_string_lossy().into_owned();
    if let Some((end, _)) =
        text.char_indices().nth(REPR - 3).filter(|_| text.chars().count() > REPR)
    {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Celery's name of a publishing process: `gen<pid>@<host>`.
fn origin(py: Python<'_>) -> PyResult<String> {
    static HOST: PyOnceLock<String> = PyOnceLock::new();
    let host = HOST.get_or_try_init(py, || {
        py.import(intern!(py, "socket"))?
            .call_method0(intern!(py, "gethostname"))?
            .extract::<String>()
    })?;
    Ok(format!("gen{}@{host}", std::process::id()))
}
