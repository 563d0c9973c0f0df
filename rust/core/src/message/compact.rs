//! The compact encoding: one MessagePack map with short keys, defaults left out.
//!
//! | key | what | key | what | key | what |
//! | --- | --- | --- | --- | --- | --- |
//! | `t` | task | `i` | id | `b` | body, raw |
//! | `c` | content type: a code of [`CONTENT_TYPES`] or text | `e` | content encoding | `z` | compression: code or text |
//! | `n` | eta, us | `E` | expires, us | `r` | retries |
//! | `l` | `[hard, soft]`, s | `I` | ignore result | `o` | root id |
//! | `p` | parent id | `g` | group | `G` | group index |
//! | `s` | shadow | `L` | lang | `O` | origin |
//! | `a` | argsrepr | `k` | kwargsrepr | `N` | replaced task nesting |
//! | `S` | stamped headers | `V` | stamps | `x` | headers unknown to the protocol |
//! | `R` | reply to | `C` | correlation id | `P` | priority |
//! | `m` | delivery mode | `X` | expiration | `h` | exchange |
//! | `q` | routing key | `d` | delivery tag | | |
//!
//! Keys come in any order; unknown ones are skipped, so that a later version may add some. An id that is a
//! lower-case UUID is its 16 bytes, any other is text. The first byte is that of a map and never `{`. The trade-off: nothing
//! here is self-describing, which saves some 500 bytes a task; `taskcore` prints messages for people.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Message,
    body::{JSON, MSGPACK, PICKLE, YAML, natural_encoding},
    headers::{Headers, Properties, TimeLimit},
    msgpack::{Head, Reader, Writer, text, unexpected},
};
use crate::error::{Error, ErrorKind, Result};

/// Content types by their code; the first is left out altogether. Append only.
const CONTENT_TYPES: [&str; 6] = [MSGPACK, JSON, PICKLE, YAML, "application/data", "text/plain"];

/// Compressions by their code. Append only.
const COMPRESSIONS: [&str; 3] = ["application/x-gzip", "application/x-bz2", "application/zstd"];

/// Containers around a value of `x` or `V`: the message, the map itself being the next.
const OUTER_DEPTH: usize = 1;

pub(super) fn decode(raw: &Bytes) -> Result<Message> {
    let mut reader = Reader::new(raw);
    let Ok(Head::Map(fields)) = reader.head() else { return Err(no_message(raw)) };
    let mut partial = Partial { raw, message: Message::default(), typed: false, encoded: false };
    for _ in 0..fields {
        let key = match reader.head()? {
            Head::Str([key]) => *key,
            head => {
                reader.skip_rest(head)?;
                reader.skip()?;
                continue;
            }
        };
        partial
            .field(key, &mut reader)
            .map_err(|e| e.context(format!("field `{}` of a compact message", char::from(key))))?;
    }
    if reader.left() > 0 {
        let sentence = format!("`{}` bytes follow the end of a compact message", reader.left());
        return Err(Error::new(ErrorKind::Decode, sentence));
    }
    partial.finish()
}

#[cold]
fn no_message(raw: &[u8]) -> Error {
    let found = raw.first().map_or_else(|| "nothing".to_owned(), |b| format!("`{b:#04x}`"));
    Error::new(
        ErrorKind::Decode,
        format!("not a task message: it begins with {found}, expected `{{` or a MessagePack map"),
    )
}

/// A message being read.
struct Partial<'a> {
    raw: &'a Bytes,
    message: Message,
    /// Whether the content type, and its encoding, were among the fields.
    typed: bool,
    encoded: bool,
}

impl Partial<'_> {
    /// The fields of most messages; the rest is for [`Self::rare_field`].
    #[inline]
    fn field(&mut self, key: u8, r: &mut Reader<'_>) -> Result<()> {
        let Message { headers, properties, .. } = &mut self.message;
        match key {
            b't' => headers.task = string(r)?.unwrap_or_default(),
            b'i' => headers.id = id(r)?.unwrap_or_default(),
            b'b' => self.message.body = body(r, self.raw)?,
            b'c' => {
                self.message.content_type = coded(r, &CONTENT_TYPES)?.unwrap_or_default();
                self.typed = true;
            }
            b'q' => properties.routing_key = string(r)?.unwrap_or_default(),
            b'R' => properties.reply_to = id(r)?,
            b'o' => headers.root_id = id(r)?,
            b'p' => headers.parent_id = id(r)?,
            b'n' => headers.eta = int(r)?,
            b'E' => headers.expires = int(r)?,
            b'r' => headers.retries = small(r)?.unwrap_or(0),
            b'P' => properties.priority = small(r)?.unwrap_or(0),
            b'I' => headers.ignore_result = boolean(r)?,
            b'l' => headers.timelimit = timelimit(r)?,
            b'z' => headers.compression = coded(r, &COMPRESSIONS)?,
            b'e' => {
                self.message.content_encoding = string(r)?.unwrap_or_default();
                self.encoded = true;
            }
            b'C' => properties.correlation_id = id(r)?,
            b'm' => properties.delivery_mode = small(r)?,
            b'X' => properties.expiration = string(r)?,
            b'h' => properties.exchange = string(r)?.unwrap_or_default(),
            b'd' => properties.delivery_tag = id(r)?,
            _ => self.rare_field(key, r)?,
        }
        Ok(())
    }

    fn rare_field(&mut self, key: u8, r: &mut Reader<'_>) -> Result<()> {
        if !b"gGsLOakNSVx".contains(&key) {
            return r.skip();
        }
        let rare = self.message.headers.rare_mut();
        match key {
            b'g' => rare.group = id(r)?,
            b'G' => rare.group_index = int(r)?,
            b's' => rare.shadow = string(r)?,
            b'L' => rare.lang = string(r)?,
            b'O' => rare.origin = string(r)?,
            b'a' => rare.argsrepr = string(r)?,
            b'k' => rare.kwargsrepr = string(r)?,
            b'N' => rare.replaced_task_nesting = small(r)?.unwrap_or(0),
            b'S' => rare.stamped_headers = strings(r)?,
            b'V' => rare.stamps = entries(r)?,
            _ => rare.extra = entries(r)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Message> {
        let mut message = self.message;
        if !self.typed {
            CONTENT_TYPES[0].clone_into(&mut message.content_type);
        }
        if !self.encoded {
            natural_encoding(&message.content_type).clone_into(&mut message.content_encoding);
        }
        message.checked()
    }
}

// Each reader takes nil as absent.

fn string(r: &mut Reader<'_>) -> Result<Option<String>> {
    match r.head()? {
        Head::Str(s) => Ok(Some(text(s)?.to_owned())),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "a string")),
    }
}

fn id(r: &mut Reader<'_>) -> Result<Option<String>> {
    match r.head()? {
        Head::Bin(b) if b.len() == 16 => Ok(Some(uuid_text(b))),
        Head::Str(s) => Ok(Some(text(s)?.to_owned())),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "an id, text or 16 bytes,")),
    }
}

fn body(r: &mut Reader<'_>, raw: &Bytes) -> Result<Bytes> {
    match r.head()? {
        Head::Bin(b) => {
            let end = r.pos();
            Ok(raw.slice(end - b.len()..end))
        }
        Head::Nil => Ok(Bytes::new()),
        head => Err(unexpected(head, "binary")),
    }
}

fn coded(r: &mut Reader<'_>, codes: &[&str]) -> Result<Option<String>> {
    match r.head()? {
        Head::Str(s) => Ok(Some(text(s)?.to_owned())),
        Head::Nil => Ok(None),
        Head::Int(n) => match usize::try_from(n).ok().and_then(|n| codes.get(n)) {
            Some(name) => Ok(Some((*name).to_owned())),
            None => Err(Error::new(
                ErrorKind::Decode,
                format!(
                    "code `{n}` is unknown, expected 0 to {}; is the sender newer?",
                    codes.len() - 1
                ),
            )),
        },
        head => Err(unexpected(head, "a code or a string")),
    }
}

fn int(r: &mut Reader<'_>) -> Result<Option<i64>> {
    match r.head()? {
        Head::Int(n) => Ok(Some(n)),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "an integer")),
    }
}

fn small<T: TryFrom<i64>>(r: &mut Reader<'_>) -> Result<Option<T>> {
    let Some(n) = int(r)? else { return Ok(None) };
    T::try_from(n)
        .map(Some)
        .map_err(|_| Error::new(ErrorKind::Decode, format!("integer `{n}` is out of range")))
}

fn boolean(r: &mut Reader<'_>) -> Result<Option<bool>> {
    match r.head()? {
        Head::Bool(b) => Ok(Some(b)),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "a boolean")),
    }
}

fn timelimit(r: &mut Reader<'_>) -> Result<TimeLimit> {
    match r.head()? {
        Head::Array(2) => Ok(TimeLimit { hard: seconds(r)?, soft: seconds(r)? }),
        Head::Nil => Ok(TimeLimit::default()),
        head => Err(unexpected(head, "`[hard, soft]`")),
    }
}

fn seconds(r: &mut Reader<'_>) -> Result<Option<f64>> {
    match r.head()? {
        Head::Int(n) => Ok(Some(n as f64)),
        Head::Float(f) => Ok(Some(f)),
        Head::Nil => Ok(None),
        head => Err(unexpected(head, "a number of seconds")),
    }
}

fn strings(r: &mut Reader<'_>) -> Result<Option<Vec<String>>> {
    let count = match r.head()? {
        Head::Array(n) => n,
        Head::Nil => return Ok(None),
        head => return Err(unexpected(head, "an array of strings")),
    };
    let mut out = Vec::with_capacity((count as usize).min(r.left()).min(64));
    for _ in 0..count {
        match r.head()? {
            Head::Str(s) => out.push(text(s)?.to_owned()),
            head => return Err(unexpected(head, "a string")),
        }
    }
    Ok(Some(out))
}

fn entries(r: &mut Reader<'_>) -> Result<serde_json::Map<String, serde_json::Value>> {
    match r.head()? {
        Head::Map(n) => r.entries(n, OUTER_DEPTH),
        Head::Nil => Ok(serde_json::Map::new()),
        head => Err(unexpected(head, "a map")),
    }
}

pub(super) fn encode(m: &Message) -> Bytes {
    let size = 192 + m.headers.task.len() + m.headers.id.len() + m.body.len();
    let mut fields = Fields { out: Writer::with_capacity(size), count: 0 };
    fields.out.map(0); // its count is put in at the end
    fields.headers(&m.headers);
    fields.properties(&m.properties, &m.headers.id);
    fields.content(m);
    if m.headers.rare.is_some() {
        fields.rare(&m.headers);
    }
    let count = fields.count;
    let mut out = fields.out.into_vec();
    if count < 16 {
        out[0] = 0x80 | count;
    } else {
        out.splice(..1, [0xde, 0, count]);
    }
    Bytes::from(out)
}

/// The map being written.
struct Fields {
    out: Writer,
    count: u8,
}

impl Fields {
    fn key(&mut self, key: u8) -> &mut Writer {
        self.count += 1;
        self.out.raw(&[0xa1, key]);
        &mut self.out
    }

    fn text(&mut self, key: u8, value: &str) {
        self.key(key).str(value);
    }

    fn some_text(&mut self, key: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn id(&mut self, key: u8, value: &str) {
        match uuid_bytes(value) {
            Some(bytes) => self.key(key).bin(&bytes),
            None => self.text(key, value),
        }
    }

    fn some_id(&mut self, key: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.id(key, value);
        }
    }

    fn some_int(&mut self, key: u8, value: Option<i64>) {
        if let Some(value) = value {
            self.key(key).int(value);
        }
    }

    /// An integer whose default is zero.
    fn nonzero(&mut self, key: u8, value: i64) {
        self.some_int(key, (value != 0).then_some(value));
    }

    fn coded(&mut self, key: u8, value: &str, codes: &[&str]) {
        match codes.iter().position(|c| *c == value) {
            Some(code) => self.key(key).int(code as i64),
            None => self.text(key, value),
        }
    }

    fn headers(&mut self, h: &Headers) {
        self.text(b't', &h.task);
        self.id(b'i', &h.id);
        self.some_int(b'n', h.eta);
        self.some_int(b'E', h.expires);
        self.nonzero(b'r', i64::from(h.retries));
        if h.timelimit != TimeLimit::default() {
            let out = self.key(b'l');
            out.array(2);
            for limit in [h.timelimit.hard, h.timelimit.soft] {
                match limit {
                    Some(secs) => out.number(secs),
                    None => out.nil(),
                }
            }
        }
        if let Some(ignore) = h.ignore_result {
            self.key(b'I').bool(ignore);
        }
        self.some_id(b'o', h.root_id.as_deref().filter(|root| *root != h.id));
        self.some_id(b'p', h.parent_id.as_deref());
        if let Some(compression) = &h.compression {
            self.coded(b'z', compression, &COMPRESSIONS);
        }
    }

    fn properties(&mut self, p: &Properties, id: &str) {
        self.some_id(b'R', p.reply_to.as_deref().filter(|to| !to.is_empty()));
        self.some_id(b'C', p.correlation_id.as_deref().filter(|c| *c != id));
        self.nonzero(b'P', i64::from(p.priority));
        self.some_int(b'm', p.delivery_mode.filter(|m| *m != 2).map(i64::from));
        self.some_text(b'X', p.expiration.as_deref());
        self.some_text(b'h', Some(p.exchange.as_str()).filter(|e| !e.is_empty()));
        self.some_text(b'q', Some(p.routing_key.as_str()).filter(|k| !k.is_empty()));
        self.some_id(b'd', p.delivery_tag.as_deref());
    }

    fn content(&mut self, m: &Message) {
        if m.content_type != CONTENT_TYPES[0] {
            self.coded(b'c', &m.content_type, &CONTENT_TYPES);
        }
        if m.content_encoding != natural_encoding(&m.content_type) {
            self.text(b'e', &m.content_encoding);
        }
        self.key(b'b').bin(&m.body);
    }

    fn rare(&mut self, headers: &Headers) {
        let rare = headers.rare();
        self.some_id(b'g', rare.group.as_deref());
        self.some_int(b'G', rare.group_index);
        self.some_text(b's', rare.shadow.as_deref());
        self.some_text(b'L', rare.lang.as_deref().filter(|lang| *lang != "py"));
        self.some_text(b'O', rare.origin.as_deref());
        self.some_text(b'a', rare.argsrepr.as_deref());
        self.some_text(b'k', rare.kwargsrepr.as_deref());
        self.nonzero(b'N', i64::from(rare.replaced_task_nesting));
        if let Some(names) = &rare.stamped_headers {
            let out = self.key(b'S');
            out.array(names.len());
            for name in names {
                out.str(name);
            }
        }
        if !rare.stamps.is_empty() {
            self.key(b'V').entries(&rare.stamps);
        }
        if !rare.extra.is_empty() {
            self.key(b'x').entries(&rare.extra);
        }
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    let mut buf = [0; 36];
    let bytes = bytes.try_into().unwrap_or_default();
    Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut buf).to_owned()
}

/// The bytes of a UUID as Python's `str(uuid4())` writes it; `None` for any other text, which would not come back as
/// it was.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    const PAIRS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if DASHES.iter().any(|&at| text[at] != b'-') {
        return None;
    }
    let (mut out, mut bad) = ([0_u8; 16], 0);
    for (byte, at) in out.iter_mut().zip(PAIRS) {
        let (high, low) = (NIBBLES[usize::from(text[at])], NIBBLES[usize::from(text[at + 1])]);
        bad |= (high | low) & 0xf0;
        *byte = high << 4 | low;
    }
    (bad == 0).then_some(out)
}

/// The value of each lower-case hexadecimal digit; 0xff for every other byte.
static NIBBLES: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut n = 0;
    while n < 16 {
        table[b"0123456789abcdef"[n] as usize] = n as u8;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Message {
        Message {
            headers: Headers {
                task: "proj.add".into(),
                id: "36d7e962-d910-4333-af9b-1d28b20f7af4".into(),
                ..Headers::default()
            },
            properties: Properties {
                reply_to: Some("tc-ee02fcbb-842b-377e".into()),
                ..Properties::default()
            },
            content_type: "application/x-msgpack".into(),
            content_encoding: "binary".into(),
            body: Bytes::from_static(b"\x92\x92\x02\x03\x80"),
        }
    }

    #[test]
    fn a_small_task_is_small() {
        let raw = encode(&small());
        assert!(raw.len() < 100, "{}", raw.len());
        assert_eq!(decode(&raw).unwrap(), small());
    }

    #[test]
    fn every_prefix_is_refused() {
        let raw = encode(&small());
        for end in 0..raw.len() {
            let error = decode(&raw.slice(..end)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        }
    }
}
