//! What RabbitMQ's answers mean to callers, in words.

use lapin::{
    ErrorKind as Cause,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};

use crate::error::{Error, ErrorKind};

/// What `error`, met while trying to `what` at `url`, means.
#[cold]
pub(super) fn told(what: &str, url: &str, error: &lapin::Error) -> Error {
    let (kind, hint) = meaning(error);
    let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
    Error::new(kind, format!("cannot {what} at rabbitmq `{url}`{hint}: {}", reason(error)))
}

/// The server's own words where it said some.
pub(super) fn reason(error: &lapin::Error) -> String {
    match error.kind() {
        Cause::ProtocolError(said) => said.get_message().to_string(),
        Cause::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Whether the server said that what was named does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    matches!(code(error), Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)))
}

fn code(error: &lapin::Error) -> Option<&AMQPErrorKind> {
    match error.kind() {
        Cause::ProtocolError(said) => Some(said.kind()),
        _ => None,
    }
}

fn meaning(error: &lapin::Error) -> (ErrorKind, &'static str) {
    use {AMQPHardError as Hard, AMQPSoftError as Soft};
    match code(error) {
        Some(AMQPErrorKind::Soft(Soft::ACCESSREFUSED)) => (
            ErrorKind::Config,
            "the user, its password or its permissions are refused; look at the URL, and at `rabbitmqctl list_permissions`",
        ),
        Some(AMQPErrorKind::Hard(Hard::NOTALLOWED)) => (
            ErrorKind::Config,
            "the virtual host does not exist or the user may not use it; `rabbitmqctl add_vhost` makes one",
        ),
        Some(AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED)) => (
            ErrorKind::Config,
            "it exists and was declared in another way; declare it with the same arguments, or delete it with `rabbitmqctl delete_queue`",
        ),
        Some(AMQPErrorKind::Soft(Soft::NOTFOUND)) => {
            (ErrorKind::Storage, "it does not exist; declare it, or let workers and clients do so")
        }
        Some(AMQPErrorKind::Soft(Soft::RESOURCELOCKED)) => {
            (ErrorKind::Storage, "it belongs to another connection alone")
        }
        Some(AMQPErrorKind::Soft(Soft::CONTENTTOOLARGE)) => {
            (ErrorKind::TooLarge, "the server takes no message as large as that")
        }
        Some(AMQPErrorKind::Hard(Hard::FRAMEERROR | Hard::SYNTAXERROR | Hard::NOTIMPLEMENTED)) => {
            (ErrorKind::Storage, "the server does not know what was asked; is it older than 3.10?")
        }
        _ => match error.kind() {
            Cause::AuthProviderError(_) | Cause::InvalidProtocolVersion(_) => {
                (ErrorKind::Config, "")
            }
            _ => (ErrorKind::Connection, ""),
        },
    }
}
