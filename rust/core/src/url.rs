//! Where a broker or result store is, as a URL says it; and how a URL is shown.
//!
//! Owns the syntax: scheme, user, password, host, port, database, path, query. It opens nothing and
//! knows no adapter. Users paste these URLs from Celery projects, so Celery's spellings are
//! accepted (`redis+socket://...?virtual_host=1`, `unix://`, `ssl_cert_reqs=required`) and
//! `sqlite:///` follows `SQLAlchemy`: three slashes are relative, four absolute.
//!
//! Strict where guessing would hurt: an unknown scheme or parameter is an error that lists the
//! known ones, because a silently ignored `ssl_ca_certs` misspelt is worse than a refusal. Every
//! error shows the redacted URL, never the password.

mod amqp;

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

pub use amqp::AmqpUrl;

/// A parsed URL and how to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// What it points to. Read by `assemble`, which picks the adapter.
    pub target: Target,
    /// The URL with its password hidden. Read by banners, logs and errors.
    pub redacted: String,
}

/// What a URL points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `memory://name`: queues of this process, shared by equal names.
    Memory {
        /// The name; often empty.
        name: String,
    },
    /// `sqlite:///path`.
    Sqlite {
        /// The database file, relative to the current directory unless absolute.
        path: PathBuf,
        /// The query, decoded, in order.
        params: Vec<(String, String)>,
    },
    /// `redis://`, `rediss://`, `redis+socket://`, `unix://`.
    Redis(Box<RedisUrl>),
    /// `amqp://`, `amqps://`: one server, or several joined by `;` of which the first that answers
    /// is used.
    Amqp(Vec<AmqpUrl>),
}

/// How to reach a Redis server.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Name of an ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Number of the database.
    pub db: i64,
    /// Certificates for `rediss://`.
    pub tls: TlsFiles,
}

// Written by hand so that no log of a configuration can show the password.
impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisUrl")
            .field("endpoint", &self.endpoint)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| MASK))
            .field("db", &self.db)
            .field("tls", &self.tls)
            .finish()
    }
}

/// Where a Redis server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and port, with or without TLS.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Whether to speak TLS.
        tls: bool,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Files with certificates, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The client's key.
    pub key: Option<PathBuf>,
}

const MASK: &str = "**";
const SCHEMES: &str = "`sqlite:///path`, `memory://`, `redis://host:port/db`, `rediss://`, `redis+socket:///path`, `unix:///path`, `amqp://user:password@host:port/vhost` or `amqps://`";
const REDIS_PARAMS: &str =
    "`db`, `virtual_host`, `ssl_cert_reqs`, `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`";

impl BrokerUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// `Config` when it is malformed, `Unsupported` for schemes and options of Celery that this
    /// version lacks.
    pub fn parse(url: &str) -> Result<Self> {
        let redacted = redact(url);
        let target = parse_target(url.trim()).map_err(|problem| {
            let kind = match problem {
                Problem::Malformed(_) => ErrorKind::Config,
                Problem::Unsupported(_) => ErrorKind::Unsupported,
            };
            let (Problem::Malformed(text) | Problem::Unsupported(text)) = problem;
            Error::new(kind, format!("cannot use the URL `{redacted}`: {text}"))
        })?;
        Ok(Self { target, redacted })
    }
}

/// The URL with every password in it replaced by `**`. Works on malformed URLs too: it would rather
/// hide too much.
pub fn redact(url: &str) -> String {
    let several: Vec<&str> = url.split(';').collect();
    if several.len() > 1 && several.iter().all(|one| one.contains("://")) {
        return several.into_iter().map(redact).collect::<Vec<_>>().join(";");
    }
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if scheme.starts_with("sqlite") || scheme == "memory" {
        return url.to_owned();
    }
    // The last `@`, wherever it stands: a password with a raw `/` or `?` in it must not show
    // either.
    let mut shown = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:{MASK}@{host}"),
            None => format!("{scheme}://{user}@{host}"),
        },
        None => url.to_owned(),
    };
    if let Some(at) = shown.find("password=") {
        let start = at + "password=".len();
        let end = shown[start..].find('&').map_or(shown.len(), |n| start + n);
        shown.replace_range(start..end, MASK);
    }
    shown
}

enum Problem {
    Malformed(String),
    Unsupported(String),
}

type Parsed<T> = Result<T, Problem>;

fn malformed<T>(text: impl Into<String>) -> Parsed<T> {
    Err(Problem::Malformed(text.into()))
}

fn unsupported<T>(text: impl Into<String>) -> Parsed<T> {
    Err(Problem::Unsupported(text.into()))
}

fn parse_target(url: &str) -> Parsed<Target> {
    if amqp::is_scheme(url) {
        return amqp::parse(url).map(Target::Amqp);
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        if matches!(url, "django-db" | "django-cache") {
            return unsupported(format!(
                "results in the tables or the cache of Django are not supported; expected {SCHEMES}"
            ));
        }
        return malformed(format!("it has no scheme; expected {SCHEMES}"));
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !matches!(scheme, "memory" | "sqlite") {
        // Caught before any part is shown as a port or a parameter: it is part of a password.
        let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        if rest[authority.len()..].contains('@') || query.contains('@') {
            return malformed(
                "a `/`, `?` or `@` in a user name, password or parameter is written `%2F`, `%3F` or `%40`",
            );
        }
    }
    let params = parse_query(query)?;
    match scheme {
        "memory" => match params.first() {
            Some((name, _)) => {
                malformed(format!("`{name}` is not a parameter of `memory://`, which has none"))
            }
            None => Ok(Target::Memory { name: percent_decode(rest)? }),
        },
        "sqlite" => {
            // SQLAlchemy: an empty authority, its slash, then the path.
            let Some(path) = rest.strip_prefix('/') else {
                return malformed(
                    "a path follows three slashes (relative) or four (absolute), as in `sqlite:///taskcore.db`",
                );
            };
            if path.is_empty() {
                return malformed(
                    "it names no file; expected a path, as in `sqlite:///taskcore.db`",
                );
            }
            if path == ":memory:" {
                return malformed(
                    "a database in memory belongs to one connection; expected a path, or `memory://` for one process",
                );
            }
            Ok(Target::Sqlite { path: percent_decode(path)?.into(), params })
        }
        "redis" | "rediss" => parse_tcp(rest, &params, scheme == "rediss"),
        "redis+socket" | "unix" => parse_socket(rest, &params),
        "sentinel" | "sqs" | "postgresql" | "rpc" | "redis+cluster" => {
            unsupported(format!("this version has no adapter for `{scheme}`; expected {SCHEMES}"))
        }
        _ if scheme.starts_with("db+") => unsupported(format!(
            "results in the tables of a SQL database are not supported; expected {SCHEMES}"
        )),
        _ => malformed(format!("`{scheme}` is not a scheme of taskcore; expected {SCHEMES}")),
    }
}

fn parse_tcp(rest: &str, params: &[(String, String)], tls: bool) -> Parsed<Target> {
    if rest.contains(';') {
        return unsupported("several URLs joined by `;` are not supported; name one server");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password, address) = parse_user(authority)?;
    let (host, port) = parse_host(address, 6379)?;
    let mut url = RedisUrl {
        endpoint: Endpoint::Tcp { host, port, tls },
        username,
        password,
        db: if path.is_empty() { 0 } else { parse_db(path)? },
        tls: TlsFiles::default(),
    };
    apply_params(&mut url, params)?;
    if !tls && url.tls != TlsFiles::default() {
        return malformed("`ssl_` parameters need `rediss://`");
    }
    Ok(Target::Redis(Box::new(url)))
}

fn parse_socket(rest: &str, params: &[(String, String)]) -> Parsed<Target> {
    let (username, password, path) = match rest.split_once('/') {
        Some(("", path)) => (None, None, format!("/{path}")),
        Some((authority, path)) if authority.ends_with('@') => {
            let (username, password, _) = parse_user(authority)?;
            (username, password, format!("/{path}"))
        }
        _ => {
            return malformed(
                "the path of the socket must be absolute, as in `redis+socket:///run/redis.sock`",
            );
        }
    };
    if path == "/" {
        return malformed("it names no socket, as in `redis+socket:///run/redis.sock`");
    }
    let endpoint = Endpoint::Unix(percent_decode(&path)?.into());
    let mut url = RedisUrl { endpoint, username, password, db: 0, tls: TlsFiles::default() };
    apply_params(&mut url, params)?;
    Ok(Target::Redis(Box::new(url)))
}

fn parse_user(authority: &str) -> Parsed<(Option<String>, Option<String>, &str)> {
    let Some((user, address)) = authority.rsplit_once('@') else {
        return Ok((None, None, authority));
    };
    let some = |text: &str| -> Parsed<Option<String>> {
        Ok(if text.is_empty() { None } else { Some(percent_decode(text)?) })
    };
    match user.split_once(':') {
        Some((name, password)) => Ok((some(name)?, some(password)?, address)),
        None => Ok((some(user)?, None, address)),
    }
}

fn parse_host(address: &str, default: u16) -> Parsed<(String, u16)> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, tail)) if tail.starts_with(':') => (host, Some(&tail[1..])),
            _ => {
                return malformed(
                    "an IPv6 address is written in brackets, as in `redis://[::1]:6379/0`",
                );
            }
        }
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let port = match port {
        None | Some("") => default,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return malformed(format!("the port `{text}` is not a number from 1 to 65535")),
        },
    };
    let host = if host.is_empty() { "localhost".to_owned() } else { percent_decode(host)? };
    Ok((host, port))
}

fn parse_db(text: &str) -> Parsed<i64> {
    match text.trim_matches('/').parse::<u32>() {
        Ok(db) => Ok(i64::from(db)),
        Err(_) => malformed(format!(
            "the database `{text}` is not a number, as in `redis://localhost:6379/0`"
        )),
    }
}

fn apply_params(url: &mut RedisUrl, params: &[(String, String)]) -> Parsed<()> {
    for (name, value) in params {
        match name.as_str() {
            "db" | "virtual_host" => url.db = parse_db(value)?,
            "ssl_cert_reqs" => match value.as_str() {
                "required" | "CERT_REQUIRED" => {}
                "none" | "CERT_NONE" | "optional" | "CERT_OPTIONAL" => {
                    return unsupported(format!(
                        "`ssl_cert_reqs={value}` would accept any server; name its authority with `ssl_ca_certs=path` instead"
                    ));
                }
                _ => {
                    return malformed(format!("`ssl_cert_reqs` is `{value}`; expected `required`"));
                }
            },
            "ssl_ca_certs" => url.tls.ca = Some(value.into()),
            "ssl_certfile" => url.tls.cert = Some(value.into()),
            "ssl_keyfile" => url.tls.key = Some(value.into()),
            _ => {
                return malformed(format!(
                    "`{name}` is not a parameter of Redis URLs, which are {REDIS_PARAMS}"
                ));
            }
        }
    }
    if url.tls.cert.is_some() != url.tls.key.is_some() {
        return malformed("`ssl_certfile` and `ssl_keyfile` are given together");
    }
    Ok(())
}

fn parse_query(query: &str) -> Parsed<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((percent_decode(name)?, percent_decode(value)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Parsed<String> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digits = (bytes.next(), bytes.next());
        let hex = |d: Option<u8>| d.and_then(|d| char::from(d).to_digit(16));
        match (hex(digits.0), hex(digits.1)) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            // Not shown: it may be part of a password.
            _ => {
                return malformed(
                    "a `%` is followed by two hexadecimal digits; write `%25` for the sign itself",
                );
            }
        }
    }
    String::from_utf8(out).or_else(|_| malformed("its percent-encoded bytes are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(url: &str) -> RedisUrl {
        match BrokerUrl::parse(url).unwrap().target {
            Target::Redis(r) => *r,
            other => panic!("{other:?}"),
        }
    }

    fn error(url: &str) -> String {
        BrokerUrl::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn tcp_with_everything() {
        let r = redis("redis://me:p%40ss%2Fw@example.org:6380/3");
        assert_eq!(
            r.endpoint,
            Endpoint::Tcp { host: "example.org".into(), port: 6380, tls: false }
        );
        assert_eq!(
            (r.username.as_deref(), r.password.as_deref(), r.db),
            (Some("me"), Some("p@ss/w"), 3)
        );
    }

    #[test]
    fn tcp_defaults() {
        let r = redis("redis://");
        assert_eq!(r.endpoint, Endpoint::Tcp { host: "localhost".into(), port: 6379, tls: false });
        assert_eq!((r.username, r.password, r.db), (None, None, 0));
        let r = redis("redis://:secret@[::1]/");
        assert_eq!(r.endpoint, Endpoint::Tcp { host: "::1".into(), port: 6379, tls: false });
        assert_eq!(r.password.as_deref(), Some("secret"));
    }

    #[test]
    fn tls_and_its_files() {
        let r = redis("rediss://h:1?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem");
        assert_eq!(r.endpoint, Endpoint::Tcp { host: "h".into(), port: 1, tls: true });
        assert_eq!(r.tls.ca, Some("/etc/ca.pem".into()));
        assert!(error("rediss://h?ssl_cert_reqs=none").contains("ssl_ca_certs=path"));
        assert!(error("rediss://h?ssl_certfile=a").contains("given together"));
        assert!(error("redis://h?ssl_ca_certs=a").contains("rediss://"));
    }

    #[test]
    fn sockets() {
        let r = redis("redis+socket:///run/redis.sock?virtual_host=2");
        assert_eq!((r.endpoint, r.db), (Endpoint::Unix("/run/redis.sock".into()), 2));
        let r = redis("unix://me:pw@/run/redis.sock?db=1");
        assert_eq!(
            (r.username.as_deref(), r.password.as_deref(), r.db),
            (Some("me"), Some("pw"), 1)
        );
        assert!(error("unix://relative/path").contains("must be absolute"));
    }

    #[test]
    fn files_and_memory() {
        let parse = |url: &str| BrokerUrl::parse(url).unwrap().target;
        assert_eq!(
            parse("sqlite:///a/b.db"),
            Target::Sqlite { path: "a/b.db".into(), params: vec![] }
        );
        assert_eq!(
            parse("sqlite:////var/a%20b.db?durability=normal"),
            Target::Sqlite {
                path: "/var/a b.db".into(),
                params: vec![("durability".into(), "normal".into())]
            }
        );
        assert_eq!(parse("memory://"), Target::Memory { name: String::new() });
        assert_eq!(parse("memory://x"), Target::Memory { name: "x".into() });
        assert!(error("sqlite://").contains("three slashes"));
        assert!(error("sqlite:///").contains("names no file"));
        assert!(error("sqlite:///:memory:").contains("`memory://`"));
    }

    #[test]
    fn malformed_urls_name_themselves_without_the_password() {
        for (url, text) in [
            ("redis://u:s3cret@h:port", "port `port`"),
            ("redis://u:s3cret@h:0", "port `0`"),
            ("redis://u:s3cret@h/zero", "database `zero`"),
            ("redis://u:s3cret@h/0?frob=1", "`frob` is not a parameter"),
            ("redis://u:s3cret%zz@h/0", "two hexadecimal digits"),
            ("redys://u:s3cret@h/0", "`redys` is not a scheme"),
            ("sqs://u:s3cret@h//", "no adapter for `sqs`"),
            ("amqp://u:s3cret@h:port//", "port `port`"),
            ("db+postgresql://u:s3cret@h/x", "tables of a SQL database"),
            ("redis://u:s3c/ret@h/0", "is written `%2F`"),
            ("redis://u:s3c?ret@h/0", "is written `%2F`"),
        ] {
            let shown = error(url);
            assert!(shown.contains(text), "{shown}");
            assert!(!shown.contains("s3c"), "{shown}");
            assert!(shown.starts_with("cannot use the URL `"), "{shown}");
        }
        assert!(error("localhost:6379").contains("no scheme"));
        assert!(error("django-db").contains("tables or the cache of Django"));
    }

    #[test]
    fn redaction() {
        assert_eq!(redact("redis://u:pw@h/0"), "redis://u:**@h/0");
        assert_eq!(redact("redis://:p:w@h/0"), "redis://:**@h/0");
        assert_eq!(redact("redis://h/0"), "redis://h/0");
        assert_eq!(redact("amqp://u:p@a//;amqp://v:q@b//"), "amqp://u:**@a//;amqp://v:**@b//");
        assert_eq!(redact("unix:///s?password=pw&db=1"), "unix:///s?password=**&db=1");
        assert_eq!(redact("sqlite:///a:b@c.db"), "sqlite:///a:b@c.db");
        assert!(!format!("{:?}", redis("redis://:hidden@h")).contains("hidden"));
    }
}
