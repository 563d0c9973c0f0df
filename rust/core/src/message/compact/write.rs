//! Writing a compact message: fields in the order in which a reader is glad to have them, defaults
//! left out.

use super::{
    super::{
        Message,
        body::natural_encoding,
        headers::{Headers, Properties, TimeLimit},
        msgpack::Writer,
    },
    COMPRESSIONS, CONTENT_TYPES,
};

/// Writes the message into an empty buffer.
pub(in super::super) fn encode(m: &Message, mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.reserve(192 + m.headers.task.len() + m.headers.id.len() + m.body.len());
    let mut fields = Fields { out: Writer::onto(buffer), count: 0 };
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
    out
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

/// The bytes of a UUID as Python's `str(uuid4())` writes it; `None` for any other text, which would
/// not come back as it was.
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
