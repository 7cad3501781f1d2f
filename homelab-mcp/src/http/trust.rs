//! Whom we believe to be the appliance. Its certificate is checked against the system's authorities unless the operator
//! named a CA file or fingerprints, or switched the check off. A certificate that is not believed gives an error with
//! its fingerprint and the line that would trust it, because self-signed ones are what appliances come with.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use x509_cert::{Certificate, der::Decode as _};

use super::link;
use crate::error::{Fault, Kind};

/// The SHA-256 digest of a certificate, as browsers and `openssl x509 -fingerprint -sha256` show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = String;

    /// With or without colons, in either case, also with openssl's `sha256 Fingerprint=` before it.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.rsplit('=').next().unwrap_or_default().trim();
        let digits: String = digits.chars().filter(|c| *c != ':').collect();
        let wrong = || {
            let sha1 = if digits.len() == 40 { "a SHA-1 fingerprint; SHA-256 is needed:" } else { "not" };
            format!(
                "`{text}` is {sha1} 32 hexadecimal bytes (AA:BB:…, as `openssl x509 -noout -fingerprint -sha256` prints)"
            )
        };
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// What the operator chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The system's certificate authorities.
    #[default]
    System,
    /// The certificates of this PEM file and no others.
    CaFile(PathBuf),
    /// One of these certificates, whoever signed it and whatever it is for. Several, for a renewal.
    Fingerprints(Vec<Fingerprint>),
    /// Anybody.
    Off,
}

/// A choice, ready to connect with. Files are read when they are first needed.
#[derive(Debug)]
pub(crate) struct Trust {
    choice: Choice,
    /// `PROXMOX`: the variables' prefix, for advice.
    prefix: &'static str,
    judge: OnceLock<Judge>,
}

/// What the handshake left to tell.
#[derive(Debug, Default)]
pub(crate) struct Doubt(Mutex<Option<(CertificateDer<'static>, rustls::Error)>>);

#[derive(Clone, Debug)]
enum Judge {
    Authorities { verifier: Arc<WebPkiServerVerifier>, exact: Arc<Vec<CertificateDer<'static>>> },
    Fingerprints(Arc<Vec<Fingerprint>>),
    Anybody,
}

#[derive(Debug)]
struct Verifier {
    judge: Judge,
    doubt: Arc<Doubt>,
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}

impl Trust {
    pub(crate) fn new(choice: Choice, prefix: &'static str) -> Self {
        Self { choice, prefix, judge: OnceLock::new() }
    }

    /// For one connection: its configuration, and where the reason will be found if the certificate is not believed.
    pub(crate) fn client(&self) -> Result<(Arc<ClientConfig>, Arc<Doubt>), Fault> {
        let judge = match self.judge.get() {
            Some(judge) => judge.clone(),
            None => {
                let judge = self.judge()?;
                self.judge.get_or_init(|| judge).clone()
            }
        };
        let doubt = Arc::new(Doubt::default());
        let verifier = Arc::new(Verifier { judge, doubt: doubt.clone() });
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::new(Kind::NotConfigured, format!("TLS cannot be used: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // Without ALPN: HTTP/1.1 is what is spoken, and an appliance that picks h2 would break WebSockets.
        Ok((Arc::new(config), doubt))
    }

    fn judge(&self) -> Result<Judge, Fault> {
        let (roots, exact) = match &self.choice {
            Choice::Fingerprints(wanted) => return Ok(Judge::Fingerprints(Arc::new(wanted.clone()))),
            Choice::Off => return Ok(Judge::Anybody),
            Choice::System => {
                let mut roots = RootCertStore::empty();
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                (roots, Vec::new())
            }
            Choice::CaFile(path) => {
                let name = format!("{}_CA_FILE: {}", self.prefix, path.display());
                let wrong = |why: String| {
                    Fault::new(Kind::NotConfigured, format!("{name} {why}")).hint("Name a PEM file with certificates.")
                };
                let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
                let found = found.map_err(|error| wrong(format!("cannot be read: {error}")))?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(found.iter().cloned());
                if roots.is_empty() {
                    return Err(wrong("holds no certificate".to_owned()));
                }
                (roots, found)
            }
        };
        if roots.is_empty() {
            return Err(Fault::new(Kind::NotConfigured, "this system has no certificate authorities")
                .hint(format!("Install ca-certificates, or set {0}_CA_FILE or {0}_TLS_FINGERPRINT.", self.prefix)));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Fault::new(Kind::NotConfigured, format!("certificates cannot be checked: {error}")))?;
        Ok(Judge::Authorities { verifier, exact: Arc::new(exact) })
    }

    /// What to tell of a handshake that failed at `place`.
    pub(crate) fn explain(&self, place: &str, doubt: &Doubt, error: &str) -> Fault {
        let taken = doubt.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A port that listens while its service comes up, or a server that is going.
        if taken.is_none() && error == link::CLOSED {
            return Fault::new(Kind::Unreachable, format!("{place} cannot be reached: {error} before TLS was set up"));
        }
        let Some((certificate, reason)) = taken else {
            return Fault::new(Kind::Unreachable, format!("{place} does not speak TLS as expected ({error})"))
                .hint("Check host and port; the appliance must be reached by https.");
        };
        let fingerprint = Fingerprint::of(&certificate);
        let prefix = self.prefix;
        let line = format!("{prefix}_TLS_FINGERPRINT={fingerprint}");
        let about = about(&certificate);
        let trusting =
            format!("Compare this with the fingerprint that the appliance itself shows; if they are equal, set {line}");
        let (cause, hint) = match (&self.choice, reason) {
            (Choice::Fingerprints(_), _) => (
                format!("the certificate of {place} is not one that {prefix}_TLS_FINGERPRINT names: it is {about}"),
                format!("If it was renewed and its fingerprint is what the appliance itself shows, set {line}"),
            ),
            (_, rustls::Error::InvalidCertificate(reason)) => match reason {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                    format!("the certificate of {place} is for another name: it is {about}"),
                    format!("Use a name in it as {prefix}_HOST, or set {line} after comparing it."),
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                    format!("the certificate of {place} has expired: it is {about}"),
                    format!("Renew it at the appliance, check this machine's clock, or set {line} after comparing it."),
                ),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                    format!("the certificate of {place} is not valid yet: it is {about}"),
                    "Check the clocks of the appliance and of this machine.".to_owned(),
                ),
                // A certificate that signed itself, or a leaf whose issuer is nobody we know.
                _ => (
                    format!("the certificate of {place} is signed by itself or by nobody trusted: it is {about}"),
                    format!("{trusting} (or its authority as {prefix}_CA_FILE)."),
                ),
            },
            (_, error) => (format!("the certificate of {place} cannot be checked ({error}): it is {about}"), trusting),
        };
        // Never over the bound that an error has: the fingerprint line is the point of it.
        Fault::new(Kind::NotConfigured, cause).hint(hint)
    }
}

/// Subject, validity and fingerprint of a certificate.
fn about(certificate: &CertificateDer<'_>) -> String {
    let fingerprint = Fingerprint::of(certificate);
    match Certificate::from_der(certificate) {
        Ok(parsed) => {
            let subject = super::text::vendor_text(&parsed.tbs_certificate().subject().to_string());
            let subject: String = subject.chars().take(120).collect();
            let until = parsed.tbs_certificate().validity().not_after.to_date_time();
            format!(
                "`{subject}`, valid until {}-{:02}-{:02}, SHA-256 {fingerprint}",
                until.year(),
                until.month(),
                until.day()
            )
        }
        Err(_) => format!("not readable as X.509, SHA-256 {fingerprint}"),
    }
}

impl Verifier {
    fn judged(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.judge {
            Judge::Anybody => Ok(ServerCertVerified::assertion()),
            Judge::Fingerprints(wanted) => {
                let found = Fingerprint::of(leaf);
                if wanted.contains(&found) {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(CertificateError::ApplicationVerificationFailure.into())
                }
            }
            // A self-signed certificate exported from the appliance and named as CA file: it is that very certificate.
            Judge::Authorities { exact, .. } if exact.iter().any(|known| known == leaf) => {
                Ok(ServerCertVerified::assertion())
            }
            Judge::Authorities { verifier, .. } => verifier.verify_server_cert(leaf, intermediates, name, ocsp, now),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judged(leaf, intermediates, name, ocsp, now).inspect_err(|error| {
            let mut doubt = self.doubt.0.lock().unwrap_or_else(PoisonError::into_inner);
            *doubt = Some((leaf.clone().into_owned(), error.clone()));
        })
    }

    // The signature proves that the peer holds the certificate's key; without it a fingerprint would prove nothing.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_tools_print_it() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [&plain, &colons, &format!("sha256 Fingerprint={colons}"), &plain.to_uppercase()] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), colons, "{text}");
        }
        assert!("ab".repeat(20).parse::<Fingerprint>().unwrap_err().contains("SHA-1"));
        for text in ["", "zz", &"zz".repeat(32), &"ab".repeat(33), &"ä".repeat(32)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_doubt_about_a_certificate_has_its_advice_and_the_line_where_it_helps() {
        use CertificateError::{ApplicationVerificationFailure, Expired, NotValidForName, NotValidYet, UnknownIssuer};
        let certificate = CertificateDer::from(vec![1, 2, 3]);
        let line = format!("PROXMOX_TLS_FINGERPRINT={}", Fingerprint::of(&certificate));
        let pinned = || Choice::Fingerprints(Vec::new());
        for (choice, reason, cause, advice) in [
            (Choice::System, Expired, "has expired", "Renew it"),
            (Choice::System, NotValidYet, "not valid yet", "clocks"),
            (Choice::System, NotValidForName, "for another name", "PROXMOX_HOST"),
            (Choice::System, UnknownIssuer, "signed by itself or by nobody trusted", "PROXMOX_CA_FILE"),
            (pinned(), ApplicationVerificationFailure, "not one that PROXMOX_TLS_FINGERPRINT names", "renewed"),
        ] {
            let doubt = Doubt(Mutex::new(Some((certificate.clone(), reason.clone().into()))));
            let fault = Trust::new(choice, "PROXMOX").explain("pve:8006", &doubt, "");
            let told = fault.with_advice();
            assert!(told.contains("pve:8006") && told.contains(cause) && told.contains(advice), "{told}");
            // A clock is not put right by trusting somebody.
            assert_eq!(told.contains(&line), reason != NotValidYet, "{told}");
            assert_eq!(fault.kind, Kind::NotConfigured);
        }
        let none = Trust::new(Choice::System, "PROXMOX").explain("pve:8006", &Doubt::default(), "corrupt message");
        assert!(none.kind == Kind::Unreachable && none.cause.contains("does not speak TLS"), "{none}");
    }
}
