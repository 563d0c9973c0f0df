//! What an HTTP client asks: the head of a request, understood or refused. Pure.
//!
//! Only `GET` and `HEAD` without a body are served, and each connection carries one request, so the
//! head is all there is to read.

/// Bytes that a head may have.
pub const MOST_BYTES: usize = 8 << 10;
/// Header lines that a head may have.
const MOST_HEADERS: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Whether the loop turns.
    Live,
    /// Whether the worker is ready.
    Ready,
    /// All that is measured.
    Metrics,
}

impl Path {
    /// What there is, for those who asked for something else.
    pub const ALL: &'static str = "/live, /ready or /metrics";

    fn read(target: &str) -> Option<Self> {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        match path.strip_suffix('/').unwrap_or(path) {
            "/live" => Some(Self::Live),
            "/ready" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// A request that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub path: Path,
    /// Whether it wants the head of the answer alone.
    pub head: bool,
    /// Whether it prefers `OpenMetrics` to the text format of Prometheus.
    pub open_metrics: bool,
}

/// Why a request is refused: the status of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no HTTP.
    Malformed,
    /// There is no such path.
    Unknown,
    /// Neither `GET` nor `HEAD`.
    Method,
    /// Its head is too large.
    TooLarge,
    /// It did not come in time.
    Late,
}

impl Refusal {
    /// Status code and what it is called.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Self::Malformed => (400, "Bad Request"),
            Self::Unknown => (404, "Not Found"),
            Self::Method => (405, "Method Not Allowed"),
            Self::Late => (408, "Request Timeout"),
            Self::TooLarge => (431, "Request Header Fields Too Large"),
        }
    }

    /// What was expected.
    pub fn sentence(self) -> String {
        match self {
            Self::Malformed => "this is no HTTP request, expected one of version 1.0 or 1.1".into(),
            Self::Unknown => format!("there is no such page, expected {}", Path::ALL),
            Self::Method => "this method is not served, expected GET or HEAD".into(),
            Self::Late => "the request did not come in time".into(),
            Self::TooLarge => format!("the head is too large, expected at most {MOST_BYTES} bytes"),
        }
    }
}

/// What the bytes so far are; `None` when more have to come.
pub fn parse(bytes: &[u8]) -> Option<Result<Request, Refusal>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let whole = match request.parse(&bytes[..bytes.len().min(MOST_BYTES)]) {
        Ok(status) => status.is_complete(),
        Err(httparse::Error::TooManyHeaders) => return Some(Err(Refusal::TooLarge)),
        Err(_) => return Some(Err(Refusal::Malformed)),
    };
    if !whole {
        return (bytes.len() >= MOST_BYTES).then_some(Err(Refusal::TooLarge));
    }
    let head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Err(Refusal::Method)),
    };
    let Some(path) = request.path.and_then(Path::read) else {
        return Some(Err(Refusal::Unknown));
    };
    let accept = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let values = accept.filter_map(|header| std::str::from_utf8(header.value).ok());
    Some(Ok(Request { path, head, open_metrics: prefers_open_metrics(values) }))
}

/// Whether what these `Accept` headers like best is `OpenMetrics`. Who does not name it, gets the older
/// format, which everything reads.
fn prefers_open_metrics<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut open, mut text) = (0.0_f32, 0.0_f32);
    for entry in accept.flat_map(|value| value.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let quality = |part: &str| part.strip_prefix("q=").map(|q| q.trim().parse().unwrap_or(0.0));
        let weight = parts.find_map(quality).unwrap_or(1.0);
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            open = open.max(weight);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            text = text.max(weight);
        }
    }
    open > 0.0 && open >= text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(path: Path) -> Request {
        Request { path, head: false, open_metrics: false }
    }

    #[test]
    fn requests_are_understood_or_refused() {
        let refused = |why| Some(Err(why));
        let long = format!("GET /live HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(MOST_BYTES));
        let many = format!("GET /live HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MOST_HEADERS + 1));
        let cases: [(&str, Option<Result<Request, Refusal>>); 21] = [
            ("GET /live HTTP/1.1\r\nHost: a\r\n\r\n", Some(Ok(get(Path::Live)))),
            ("GET /ready HTTP/1.0\r\n\r\n", Some(Ok(get(Path::Ready)))),
            ("GET /metrics?name[]=x HTTP/1.1\r\n\r\n", Some(Ok(get(Path::Metrics)))),
            ("GET /metrics/ HTTP/1.1\r\n\r\nrest", Some(Ok(get(Path::Metrics)))),
            ("GET /live HTTP/1.1\n\n", Some(Ok(get(Path::Live)))),
            ("HEAD /live HTTP/1.1\r\n\r\n", Some(Ok(Request { head: true, ..get(Path::Live) }))),
            ("", None),
            ("GET /li", None),
            ("GET /live HTTP/1.1\r\nHost: a\r\n", None),
            ("POST /live HTTP/1.1\r\n\r\n", refused(Refusal::Method)),
            ("get /live HTTP/1.1\r\n\r\n", refused(Refusal::Method)),
            ("GET / HTTP/1.1\r\n\r\n", refused(Refusal::Unknown)),
            ("GET /live/x HTTP/1.1\r\n\r\n", refused(Refusal::Unknown)),
            ("GET /metric HTTP/1.1\r\n\r\n", refused(Refusal::Unknown)),
            ("GET http://host/live HTTP/1.1\r\n\r\n", refused(Refusal::Unknown)),
            ("GET /live HTTP/2.0\r\n\r\n", refused(Refusal::Malformed)),
            ("\x16\x03\x01\x02\x00\x01\x00", refused(Refusal::Malformed)),
            ("GET /live\r\n\r\n", refused(Refusal::Malformed)),
            ("GET /live HTTP/1.1\r\nno header\r\n\r\n", refused(Refusal::Malformed)),
            (&long, refused(Refusal::TooLarge)),
            (&many, refused(Refusal::TooLarge)),
        ];
        for (bytes, expected) in cases {
            let shown = &bytes[..bytes.len().min(60)];
            assert_eq!(parse(bytes.as_bytes()), expected, "{shown:?}");
        }
    }

    #[test]
    fn the_format_is_what_the_client_likes_best() {
        for (accept, open) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text; version=1.0.0; q=0.5, text/plain;q=0.9", false),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                true,
            ),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=nonsense", false),
        ] {
            let text = format!("GET /metrics HTTP/1.1\r\naccept: {accept}\r\n\r\n");
            let Some(Ok(request)) = parse(text.as_bytes()) else { panic!("{accept}") };
            assert_eq!(request.open_metrics, open, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_an_obstacle(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_head_is_understood_when_it_is_whole_and_not_before(
            path in "/(live|ready|metrics|[a-z/?=%]{0,12})",
            headers in prop::collection::vec(("[A-Za-z-]{1,12}", "[ -~]{0,30}"), 0..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let lines: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            let whole = format!("GET {path} HTTP/1.1\r\n{}\r\n", lines.concat());
            prop_assert!(parse(whole.as_bytes()).is_some());
            let part = &whole.as_bytes()[..cut.index(whole.len() - 1)];
            prop_assert_eq!(parse(part), None);
        }

        #[test]
        fn whatever_it_is_it_is_refused_at_the_limit(
            start in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = start;
            bytes.resize(MOST_BYTES, b'x');
            prop_assert!(parse(&bytes).is_some());
        }
    }
}
