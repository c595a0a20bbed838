//! Whose certificates are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The certificates of a `ca_file`.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |said: String| format!("the ca_file {} {said}", path.display());
    let bytes = std::fs::read(path).map_err(|error| fail(format!("cannot be read ({error}); check the path")))?;
    let read: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| fail(format!("is not a file of certificates in PEM ({error})")))?;
    let mut store = RootCertStore::empty();
    let (good, bad) = store.add_parsable_certificates(read.iter().cloned());
    if good == 0 || bad > 0 {
        return Err(fail(
            "holds no certificate, or one that cannot be read; it must be in PEM".to_owned(),
        ));
    }
    Ok(read)
}

/// The system's certificates and these of our own, with a provider that belongs to us: a library leaves that of the process
/// alone. The client wants a configuration for plain HTTP too, which needs no certificates.
pub(super) fn tls_config(is_used: bool, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if is_used {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            roots.add_parsable_certificates(certificates(path)?);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
