//! Where RabbitMQ is, and how a connection to it is opened.

use std::{sync::Arc, time::Duration};

use lapin::{Connection, ConnectionProperties, uri};
use tokio::runtime::Handle;

use super::error;
use crate::{
    error::{Error, ErrorKind, Result},
    url::AmqpUrl,
};

/// What opening a connection to one of several servers may take.
const CONNECT: Duration = Duration::from_secs(4);

/// One server, or several of which the first that answers is used.
pub(super) struct Server {
    urls: Vec<AmqpUrl>,
    /// As it is shown.
    pub(super) url: Arc<str>,
}

impl Server {
    pub(super) fn new(urls: Vec<AmqpUrl>, redacted: &str) -> Result<Self> {
        if urls.iter().any(|url| url.tls) {
            let text = format!("cannot use the URL `{redacted}`: TLS to rabbitmq is not built yet");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(Self { urls, url: Arc::from(redacted) })
    }

    /// What an error means.
    #[cold]
    pub(super) fn told(&self, what: &str, error: &lapin::Error) -> Error {
        error::told(what, &self.url, error)
    }

    /// Opens a connection called `name`, whose reading and timers belong to `runtime`.
    pub(super) async fn connect(&self, runtime: &Handle, name: &str) -> Result<Connection> {
        let mut first = None;
        for url in &self.urls {
            let opening = open(uri_of(url), name.to_owned());
            // Spawned because timers and sockets need the runtime, and the caller may have none.
            let bounded = runtime.spawn(async { tokio::time::timeout(CONNECT, opening).await });
            let error = match bounded.await {
                Ok(Ok(Ok(connection))) => return Ok(connection),
                Ok(Ok(Err(error))) => self.told("connect", &error),
                Ok(Err(_)) => self.silent(url),
                Err(e) => Error::caused(ErrorKind::Internal, "the connecting was broken off", e),
            };
            // What can be put right is more worth saying than that another server is away.
            if first.as_ref().is_none_or(|first: &Error| first.is_retryable()) {
                first = Some(error);
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::Config, "the URL names no server")))
    }

    #[cold]
    fn silent(&self, url: &AmqpUrl) -> Error {
        let AmqpUrl { host, port, .. } = url;
        let text = format!(
            "cannot connect at rabbitmq `{}`: `{host}:{port}` did not answer within `{}` s",
            self.url,
            CONNECT.as_secs()
        );
        Error::new(ErrorKind::Connection, text)
    }
}

async fn open(uri: uri::AMQPUri, name: String) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect_uri(uri, properties).await
}

fn uri_of(url: &AmqpUrl) -> uri::AMQPUri {
    let userinfo =
        uri::AMQPUserInfo { username: url.username.clone(), password: url.password.clone() };
    let query = uri::AMQPQueryString { heartbeat: url.heartbeat, ..Default::default() };
    uri::AMQPUri {
        scheme: uri::AMQPScheme::AMQP,
        authority: uri::AMQPAuthority { userinfo, host: url.host.clone(), port: url.port },
        vhost: url.vhost.clone(),
        query,
    }
}
