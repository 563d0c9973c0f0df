//! What TLS needs to know: whom to trust, and who we are.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::{
    error::{Error, ErrorKind, Result},
    url::TlsFiles,
};

/// How to speak TLS to a server of this name.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Tls {
    /// Reads the certificates: of `files`, or those that the system trusts.
    pub(super) fn new(host: &str, files: &TlsFiles) -> Result<Self> {
        // Fails when the process has a provider already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = ServerName::try_from(host.to_owned()).map_err(|e| {
            Error::caused(
                ErrorKind::Config,
                format!("`{host}` is not a name that a certificate can carry"),
                e,
            )
        })?;
        let config = ClientConfig::builder().with_root_certificates(roots(files)?);
        let config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => config
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|e| unusable(cert, "certificate", e))?,
            _ => config.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), name })
    }
}

fn roots(files: &TlsFiles) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|e| unusable(path, "certificate", e))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    // One bad certificate among the system's is no reason to trust none of the others.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let text = "the system names no certificate authority; name one with `ssl_ca_certs=path`";
        return Err(match found.errors.into_iter().next() {
            Some(error) => Error::caused(ErrorKind::Config, text, error),
            None => Error::new(ErrorKind::Config, text),
        });
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|e| unusable(path, "certificate", e))?;
    if found.is_empty() {
        let text = format!("`{}` holds no certificate, expected PEM", path.display());
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| unusable(path, "private key", e))
}

#[cold]
fn unusable(
    path: &Path,
    what: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::caused(ErrorKind::Config, format!("cannot read the {what} `{}`", path.display()), error)
}
