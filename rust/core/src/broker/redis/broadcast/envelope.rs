//! What is said to all, in kombu's JSON envelope, byte for byte.

use base64::{Engine, engine::general_purpose::STANDARD_PAD_INDIFFERENT as BASE64};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Builder;

use crate::{
    broker::broadcast::{BroadcastMessage, Exchange, ExchangeType},
    error::{Error, ErrorKind, Result},
    message::pyjson::{write_map, write_str},
};

/// Transient: what is said to all is stored nowhere.
const DELIVERY_MODE: &[u8] = b"1";

/// Writes a message; `tag` is any name that no other message has.
pub(super) fn encode(message: &BroadcastMessage, tag: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.body.len() * 4 / 3 + 512);
    out.extend_from_slice(b"{\"body\": \"");
    out.extend_from_slice(BASE64.encode(&message.body).as_bytes());
    out.extend_from_slice(b"\", \"content-encoding\": ");
    write_str(&mut out, &message.content_encoding);
    out.extend_from_slice(b", \"content-type\": ");
    write_str(&mut out, &message.content_type);
    out.extend_from_slice(b", \"headers\": ");
    write_map(&mut out, &message.headers);
    out.extend_from_slice(b", \"properties\": {\"delivery_mode\": ");
    out.extend_from_slice(DELIVERY_MODE);
    out.extend_from_slice(b", \"delivery_info\": {\"exchange\": ");
    write_str(&mut out, &message.exchange.name);
    out.extend_from_slice(b", \"routing_key\": ");
    write_str(&mut out, &message.routing_key);
    out.extend_from_slice(b"}, \"priority\": 0, \"body_encoding\": \"base64\", \"delivery_tag\": ");
    write_str(&mut out, tag);
    out.extend_from_slice(b"}}");
    out
}

#[derive(Deserialize)]
struct Envelope {
    body: String,
    #[serde(default, rename = "content-encoding")]
    content_encoding: Option<String>,
    #[serde(default, rename = "content-type")]
    content_type: Option<String>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    body_encoding: Option<String>,
    delivery_info: DeliveryInfo,
}

#[derive(Deserialize)]
struct DeliveryInfo {
    exchange: Option<String>,
    routing_key: Option<String>,
}

/// Reads a message. How its exchange routes is not in the envelope: it is what `kind` says.
///
/// # Errors
/// `Decode` when it is no envelope.
pub(super) fn decode(raw: &[u8], kind: ExchangeType) -> Result<BroadcastMessage> {
    let broken = |e: serde_json::Error| {
        Error::caused(ErrorKind::Decode, "what was said to all is no envelope of kombu's", e)
    };
    let Envelope { body, content_encoding, content_type, headers, properties } =
        serde_json::from_slice(raw).map_err(broken)?;
    let body = if properties.body_encoding.as_deref() == Some("base64") {
        BASE64.decode(&body).map_err(|e| {
            Error::caused(ErrorKind::Decode, "the body of what was said to all is no base64", e)
        })?
    } else {
        body.into_bytes()
    };
    let DeliveryInfo { exchange, routing_key } = properties.delivery_info;
    Ok(BroadcastMessage {
        exchange: Exchange { name: exchange.unwrap_or_default().into(), kind },
        routing_key: routing_key.unwrap_or_default().into(),
        headers: headers.unwrap_or_default(),
        content_type: content_type.unwrap_or_else(|| "application/json".to_owned()),
        content_encoding: content_encoding.unwrap_or_else(|| "utf-8".to_owned()),
        body: Bytes::from(body),
    })
}

/// Delivery tags that nobody else has: the numbers that follow a random one.
pub(super) struct Tags(u128);

impl Tags {
    pub(super) fn new() -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has randomness");
        Self(u128::from_ne_bytes(random))
    }
}

impl Iterator for Tags {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.0 = self.0.wrapping_add(1);
        Some(Builder::from_random_bytes(self.0.to_ne_bytes()).into_uuid().to_string())
    }
}
