//! `amqp://user:password@host:port/vhost`, as kombu reads it.
//!
//! The virtual host is what follows the slash: `amqp://host//` and `amqp://host` name `/`,
//! `amqp://host/shop` names `shop`.

use super::{
    Parsed, TlsFiles, malformed, parse_host, parse_query, parse_user, percent_decode, unsupported,
};

/// How to reach a RabbitMQ server.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    /// Name or address, without brackets.
    pub host: String,
    /// Port: 5672 unless named, 5671 with TLS.
    pub port: u16,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Certificates for `amqps://`.
    pub tls_files: TlsFiles,
    /// User, `guest` unless named.
    pub username: String,
    /// Password, `guest` unless named.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
    /// Seconds between heartbeats; `None` leaves it to the server, 0 turns them off.
    pub heartbeat: Option<u16>,
}

// Written by hand so that no log of a configuration can show the password.
impl std::fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, tls, username, vhost, .. } = self;
        write!(f, "AmqpUrl({username}:**@{host}:{port}/{vhost}, tls {tls})")
    }
}

const PARAMS: &str =
    "`heartbeat`, `ssl_cert_reqs`, `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`";

/// Whether a URL is one of these.
pub(super) fn is_scheme(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| matches!(scheme, "amqp" | "amqps" | "pyamqp"))
}

/// One or more of them, joined by `;`.
pub(super) fn parse(urls: &str) -> Parsed<Vec<AmqpUrl>> {
    urls.split(';').map(str::trim).filter(|url| !url.is_empty()).map(one).collect()
}

fn one(url: &str) -> Parsed<AmqpUrl> {
    let (scheme, rest) = url.split_once("://").filter(|_| is_scheme(url)).map_or_else(
        || malformed("each of the URLs that are joined by `;` begins with `amqp://` or `amqps://`"),
        Ok,
    )?;
    let tls = scheme == "amqps";
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') || query.contains('@') {
        return malformed(
            "a `/`, `?` or `@` in a user name, password or parameter is written `%2F`, `%3F` or `%40`",
        );
    }
    let (username, password, address) = parse_user(authority)?;
    let (host, port) = parse_host(address, if tls { 5671 } else { 5672 })?;
    let vhost = percent_decode(path)?;
    let guest = || "guest".to_owned();
    let mut url = AmqpUrl {
        host,
        port,
        tls,
        tls_files: TlsFiles::default(),
        username: username.unwrap_or_else(guest),
        password: password.unwrap_or_else(guest),
        vhost: if vhost.is_empty() { "/".to_owned() } else { vhost },
        heartbeat: None,
    };
    for (name, value) in parse_query(query)? {
        apply(&mut url, &name, &value)?;
    }
    if !tls && url.tls_files != TlsFiles::default() {
        return malformed("`ssl_` parameters need `amqps://`");
    }
    if url.tls_files.cert.is_some() != url.tls_files.key.is_some() {
        return malformed("`ssl_certfile` and `ssl_keyfile` are given together");
    }
    Ok(url)
}

fn apply(url: &mut AmqpUrl, name: &str, value: &str) -> Parsed<()> {
    match name {
        "heartbeat" => match value.parse() {
            Ok(seconds) => url.heartbeat = Some(seconds),
            Err(_) => {
                return malformed(format!(
                    "`heartbeat` is `{value}`; expected whole seconds, at most 65535"
                ));
            }
        },
        "ssl_cert_reqs" if matches!(value, "required" | "CERT_REQUIRED") => {}
        "ssl_cert_reqs" => {
            return unsupported(format!(
                "`ssl_cert_reqs={value}` would accept any server; name its authority with `ssl_ca_certs=path` instead"
            ));
        }
        "ssl_ca_certs" => url.tls_files.ca = Some(value.into()),
        "ssl_certfile" => url.tls_files.cert = Some(value.into()),
        "ssl_keyfile" => url.tls_files.key = Some(value.into()),
        _ => {
            return malformed(format!(
                "`{name}` is not a parameter of `amqp://` URLs, which are {PARAMS}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{BrokerUrl, Target};
    use super::*;

    fn amqp(url: &str) -> Vec<AmqpUrl> {
        let Target::Amqp(urls) = BrokerUrl::parse(url).expect("a URL").target else {
            panic!("{url}")
        };
        urls
    }

    fn error(url: &str) -> String {
        BrokerUrl::parse(url).expect_err("no URL").to_string()
    }

    #[test]
    fn the_virtual_host_is_what_follows_the_slash() {
        for (url, vhost) in [
            ("amqp://h", "/"),
            ("amqp://h/", "/"),
            ("amqp://h//", "/"),
            ("amqp://h/%2F", "/"),
            ("amqp://h/shop", "shop"),
            ("pyamqp://h//shop", "/shop"),
        ] {
            assert_eq!(amqp(url)[0].vhost, vhost, "{url}");
        }
    }

    #[test]
    fn everything_and_nothing() {
        let url = &amqp("amqps://me:p%40ss@[::1]:99/v?heartbeat=10&ssl_ca_certs=/ca.pem")[0];
        assert_eq!((&*url.host, url.port, url.tls, url.heartbeat), ("::1", 99, true, Some(10)));
        assert_eq!((&*url.username, &*url.password), ("me", "p@ss"));
        assert_eq!(url.tls_files.ca, Some("/ca.pem".into()));
        let url = &amqp("amqp://")[0];
        assert_eq!((&*url.host, url.port, &*url.username), ("localhost", 5672, "guest"));
        assert_eq!(amqp("amqps://h")[0].port, 5671);
        assert!(!format!("{:?}", amqp("amqp://u:hidden@h")).contains("hidden"));
    }

    #[test]
    fn several_are_joined() {
        let urls = amqp("amqp://a//;amqp://u:p@b:1/v;");
        assert_eq!(urls.len(), 2);
        assert_eq!((&*urls[1].host, urls[1].port, &*urls[1].vhost), ("b", 1, "v"));
        assert!(error("amqp://a//;redis://b").contains("joined by `;`"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(error("amqp://h?frob=1").contains("`frob` is not a parameter"));
        assert!(error("amqp://h?heartbeat=x").contains("whole seconds"));
        assert!(error("amqp://h?ssl_ca_certs=x").contains("need `amqps://`"));
        assert!(error("amqps://h?ssl_cert_reqs=none").contains("ssl_ca_certs"));
        assert!(error("amqp://u:s3c/ret@h").contains("is written `%2F`"));
    }
}
