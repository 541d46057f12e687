//! A certificate authority for tests: what `counterfoil ca` does, and what it would never do.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use counterfoil_chassis::{Clock, config::TlsConfig, tls::Tls};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

pub(crate) const DEPLOYMENT: &str = "counterfoil.test";

/// When a certificate begins and ends, seconds.
#[derive(Clone, Copy)]
pub(crate) struct Term(pub(crate) i64, pub(crate) i64);

pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn set_term(params: &mut CertificateParams, term: Term) {
    params.not_before = OffsetDateTime::from_unix_timestamp(term.0).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(term.1).unwrap();
}

impl Authority {
    pub(crate) fn new(term: Term) -> Self {
        let key = key();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        set_term(&mut params, term);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// An authority for which this one vouches: what it issues needs its certificate beside it.
    pub(crate) fn intermediate(&self, term: Term) -> Self {
        let key = key();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CommonName, "intermediate");
        set_term(&mut params, term);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate with these URIs, and its key, both as PEM.
    pub(crate) fn issue(&self, uris: &[&str], term: Term) -> (String, String) {
        let key = key();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for uri in uris {
            let uri = SanType::URI((*uri).try_into().unwrap());
            params.subject_alt_names.push(uri);
        }
        set_term(&mut params, term);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The files of one service.
pub(crate) struct Files {
    pub(crate) config: TlsConfig,
}

impl Files {
    /// Writes a certificate, its key and a trust bundle.
    pub(crate) fn write(folder: &Path, name: &str, pair: &(String, String), trust: &str) -> Self {
        let path = |kind: &str| -> PathBuf { folder.join(format!("{name}.{kind}.pem")) };
        let config = TlsConfig {
            certificate_file: path("certificate"),
            key_file: path("key"),
            trust_bundle_file: path("trust"),
            reload_interval_ms: 10_000,
        };
        fs::write(&config.certificate_file, &pair.0).unwrap();
        fs::write(&config.trust_bundle_file, trust).unwrap();
        fs::write(&config.key_file, &pair.1).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&config.key_file, mode).unwrap();
        Self { config }
    }

    pub(crate) fn load(&self, service: &str, clock: Clock) -> Arc<Tls> {
        Tls::load(&self.config, DEPLOYMENT, service, clock).unwrap()
    }
}
