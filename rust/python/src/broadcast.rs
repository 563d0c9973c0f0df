//! `Subscriber`: what is said to all, heard by Python; and how Python says something.
//!
//! A subscriber has a runtime of its own, which runs in the thread that waits for messages and only
//! while it waits: a program that hears nothing has no thread for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pyo3::{
    prelude::*,
    types::{PyBytes, PyTuple},
};
use serde_json::{Map, Value};
use taskcore::{
    Error, ErrorKind,
    broker::{
        Broadcast,
        broadcast::{self, Binding, BroadcastMessage, Exchange, ExchangeType, Heard},
    },
    clock, message,
};
use tokio::runtime::Runtime;

use crate::{bridge, errors, publisher::duration, worker::SIGNALS};

/// How long a subscription may take to stand.
const SUBSCRIBE: Duration = Duration::from_secs(5);

/// One who hears what is said to all.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Subscriber {
    runtime: Runtime,
    heard: Arc<dyn broadcast::Subscriber>,
}

impl Subscriber {
    /// Subscribes; returns when the subscription stands.
    pub(crate) fn new(
        py: Python<'_>,
        broker: &Arc<impl Broadcast + ?Sized>,
        bindings: Vec<(String, String, String)>,
    ) -> PyResult<Self> {
        let bindings = bindings.into_iter().map(binding).collect::<PyResult<Vec<_>>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let subscribed = bridge::detach(py, || {
            runtime.block_on(async {
                tokio::time::timeout(SUBSCRIBE, broker.subscribe(bindings)).await
            })
        });
        let late = |_| {
            let (url, limit) = (broker.url(), SUBSCRIBE.as_secs());
            let text = format!(
                "the broker `{url}` has not answered for {limit} s, expected a subscription"
            );
            Err(Error::new(ErrorKind::Connection, text))
        };
        let heard = subscribed.unwrap_or_else(late).map_err(|e| errors::to_python(py, &e))?;
        Ok(Self { runtime, heard })
    }

    /// What comes until `end`; nothing when that passes.
    fn wait(
        &self,
        end: Option<Instant>,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> taskcore::Result<Heard> {
        loop {
            let left = end.map_or(SIGNALS, |end| end.saturating_duration_since(clock::instant()));
            let turn =
                async { tokio::time::timeout(left.min(SIGNALS), self.heard.receive()).await };
            if let Ok(heard) = self.runtime.block_on(turn) {
                return heard;
            }
            if interrupt() || end.is_some_and(|end| clock::instant() >= end) {
                return Ok(Heard::default());
            }
        }
    }
}

#[pymethods]
impl Subscriber {
    #[pyo3(signature = (timeout = None))]
    fn receive<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<(Vec<Bound<'py, PyTuple>>, u64)> {
        let limit = timeout.map(|seconds| duration("timeout", seconds)).transpose()?;
        let end = limit.map(|limit| clock::instant() + limit);
        let heard =
            bridge::interruptible(py, errors::to_python, |interrupt| self.wait(end, interrupt))?;
        let messages = heard.messages.iter().map(|one| {
            let headers = Value::Object(one.headers.clone()).to_string();
            let body = PyBytes::new(py, &one.body);
            (&*one.exchange.name, &*one.routing_key, headers, &*one.content_type, body)
                .into_pyobject(py)
        });
        Ok((messages.collect::<PyResult<_>>()?, heard.lost))
    }
}

/// Says one message to all.
pub(crate) fn say(
    py: Python<'_>,
    broker: &Arc<impl Broadcast + ?Sized>,
    (exchange, kind, routing_key): (String, &str, &str),
    (headers, content_type, body): (&str, &str, &[u8]),
    timeout: f64,
) -> PyResult<()> {
    let headers: Map<String, Value> = serde_json::from_str(headers)
        .map_err(|e| errors::value(format!("headers `{headers}`, expected a JSON map: {e}")))?;
    let message = BroadcastMessage {
        exchange: Exchange { name: exchange.into(), kind: exchange_type(kind)? },
        routing_key: routing_key.into(),
        headers,
        content_type: content_type.to_owned(),
        content_encoding: message::natural_encoding(content_type).to_owned(),
        body: body.to_vec().into(),
    };
    let deadline = clock::instant() + duration("timeout", timeout)?;
    bridge::blocking(py, || broker.broadcast(&[message], deadline))
}

fn binding((exchange, kind, routing_key): (String, String, String)) -> PyResult<Binding> {
    let exchange = Exchange { name: exchange.into(), kind: exchange_type(&kind)? };
    Ok(Binding { exchange, routing_key: routing_key.into() })
}

fn exchange_type(kind: &str) -> PyResult<ExchangeType> {
    match kind {
        "direct" => Ok(ExchangeType::Direct),
        "fanout" => Ok(ExchangeType::Fanout),
        "topic" => Ok(ExchangeType::Topic),
        other => {
            Err(errors::value(format!("exchange type `{other}`, expected direct, fanout or topic")))
        }
    }
}
