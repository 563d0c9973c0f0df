//! A message whose headers and properties travel beside its body and not in an envelope, as AMQP
//! carries it. The adapter knows the types of its protocol; here they are JSON's.

use base64::Engine;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Message, Properties,
    body::is_map,
    envelope::{BASE64, HeaderSet},
    headers::whole,
    protocol1,
    time::format_iso,
};
use crate::error::Result;

/// What a transport with headers of its own delivers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// All headers.
    pub headers: Map<String, Value>,
    /// Properties; what is a default stands as such.
    pub properties: Properties,
    /// MIME type of the body.
    pub content_type: Option<String>,
    /// `utf-8` or `binary`.
    pub content_encoding: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Native {
    /// The task message that this is.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Decode`] when it is none; the text says why.
    pub fn message(&self) -> Result<Message> {
        let HeaderSet { headers, named } = HeaderSet::from_map(&self.headers)?;
        let text = |value: &Option<String>, default: &'static str| {
            value.clone().map_or(default.into(), Into::into)
        };
        let mut message = Message {
            headers,
            properties: self.properties.clone(),
            content_type: text(&self.content_type, "application/data"),
            content_encoding: text(&self.content_encoding, "utf-8"),
            body: self.body.clone(),
        };
        if !named || is_map(&message.content_type, &message.body) {
            message = protocol1::upgrade(message)?;
        }
        let properties = &mut message.properties;
        properties.delivery_mode = properties.delivery_mode.filter(|mode| *mode != 2);
        properties.reply_to = properties.reply_to.take().filter(|to| !to.is_empty());
        let id = &message.headers.id;
        properties.correlation_id = properties.correlation_id.take().filter(|c| c != id);
        message.headers.settle_root();
        message.check()?;
        Ok(message)
    }

    /// All of it in kombu's JSON envelope, whatever it is: what is no task message is kept so.
    pub fn envelope(&self) -> Bytes {
        let p = &self.properties;
        let document = json!({
            "body": BASE64.encode(&self.body),
            "content-encoding": self.content_encoding,
            "content-type": self.content_type,
            "headers": self.headers,
            "properties": {
                "correlation_id": p.correlation_id,
                "reply_to": p.reply_to,
                "delivery_mode": p.delivery_mode.unwrap_or(2),
                "expiration": p.expiration,
                "delivery_info": {"exchange": p.exchange, "routing_key": p.routing_key},
                "priority": p.priority,
                "body_encoding": "base64",
                "delivery_tag": p.delivery_tag,
            },
        });
        Bytes::from(document.to_string())
    }
}

impl Message {
    /// Every header of protocol 2, as a stock client sends them.
    pub fn header_map(&self) -> Map<String, Value> {
        let (h, rare) = (&self.headers, self.headers.rare());
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        put("lang", rare.lang.as_deref().unwrap_or("py").into());
        put("task", h.task.as_str().into());
        put("id", h.id.as_str().into());
        put("shadow", rare.shadow.clone().into());
        put("eta", h.eta.map(format_iso).into());
        put("expires", h.expires.map(format_iso).into());
        put("group", rare.group.clone().into());
        put("group_index", rare.group_index.into());
        put("retries", h.retries.into());
        put("timelimit", vec![seconds(h.timelimit.hard), seconds(h.timelimit.soft)].into());
        put("root_id", h.root().into());
        put("parent_id", h.parent_id.clone().into());
        put("argsrepr", rare.argsrepr.clone().into());
        put("kwargsrepr", rare.kwargsrepr.clone().into());
        put("origin", rare.origin.clone().into());
        put("ignore_result", h.ignore_result.into());
        put("replaced_task_nesting", rare.replaced_task_nesting.into());
        put("stamped_headers", rare.stamped_headers.clone().into());
        put("stamps", Value::Object(rare.stamps.clone()));
        if let Some(compression) = &h.compression {
            put("compression", compression.as_str().into());
        }
        for (key, value) in &rare.extra {
            put(key, value.clone());
        }
        map
    }
}

/// Seconds as Python would write them had the caller given a whole number.
fn seconds(seconds: Option<f64>) -> Value {
    let Some(seconds) = seconds.filter(|s| s.is_finite()) else { return Value::Null };
    whole(seconds).map_or_else(|| seconds.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_no_message_is_kept_as_it_came() {
        let native = Native {
            headers: [("x".to_owned(), Value::from(1))].into_iter().collect(),
            content_type: Some("text/plain".into()),
            body: Bytes::from_static(b"\xffhello"),
            ..Native::default()
        };
        let error = native.message().expect_err("no task");
        assert_eq!(error.kind(), ErrorKind::Decode);
        let kept = Message::decode(&native.envelope()).expect_err("no task");
        assert_eq!(kept.to_string(), error.to_string());
    }
}
