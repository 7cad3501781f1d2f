//! The certificate of a stand-in, made at start.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;

/// A certificate with its key. The default is self-signed for `localhost` and `127.0.0.1`.
pub struct Certificate {
    leaf: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    trusted: String,
    fingerprint: String,
}

impl Certificate {
    /// Signs itself.
    ///
    /// # Errors
    /// When one of `names` is neither a DNS name nor an address, or no key can be made.
    pub fn self_signed(common_name: &str, names: &[&str]) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = parameters(common_name, names)?.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self::new(signed.der(), &key, pem(signed.der())))
    }

    /// Signed by a CA of its own, which is not sent along, as a Proxmox VE node does it. [`Self::pem`] is the CA's.
    ///
    /// # Errors
    /// As [`Self::self_signed`].
    pub fn issued(common_name: &str, names: &[&str]) -> io::Result<Self> {
        let mut authority = parameters("lab certificate authority", &[])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(authority, authority_key).map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = parameters(common_name, names)?.signed_by(&key, &issuer).map_err(io::Error::other)?;
        Ok(Self::new(signed.der(), &key, pem(issuer.der())))
    }

    /// Self-signed, and expired at the end of 2020.
    ///
    /// # Errors
    /// As [`Self::self_signed`].
    pub fn expired(common_name: &str, names: &[&str]) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut parameters = parameters(common_name, names)?;
        parameters.not_before = date_time_ymd(2019, 1, 1);
        parameters.not_after = date_time_ymd(2020, 12, 31);
        let signed = parameters.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self::new(signed.der(), &key, pem(signed.der())))
    }

    /// What a client has to trust, as PEM: the certificate itself, or the CA that issued it.
    pub fn pem(&self) -> &str {
        &self.trusted
    }

    /// SHA-256 of the certificate that is sent, as `AA:BB:…`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn new(leaf: &CertificateDer<'static>, key: &KeyPair, trusted: String) -> Self {
        let bytes: Vec<String> = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02X}")).collect();
        Self {
            leaf: leaf.clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            trusted,
            fingerprint: bytes.join(":"),
        }
    }

    pub(crate) fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], PrivateKeyDer::Pkcs8(self.key.clone_key()))
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }
}

impl Default for Certificate {
    #[expect(
        clippy::expect_used,
        reason = "the names are constants, and a machine without randomness has no TLS at all"
    )]
    fn default() -> Self {
        Self::self_signed("lab", &["localhost", "127.0.0.1"]).expect("a self-signed certificate")
    }
}

fn parameters(common_name: &str, names: &[&str]) -> io::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).map_err(io::Error::other)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    Ok(parameters)
}

fn pem(certificate: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = &*STANDARD.encode(certificate);
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
