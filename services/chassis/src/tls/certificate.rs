//! What a certificate says of its holder, and whether it still counts.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{SpiffeId, Tls};
use crate::sync::lock;

/// Why a certificate identifies nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// It does not parse.
    #[error("the certificate is malformed")]
    Malformed,
    /// It has no URI name, or more than one: which of them would count?
    #[error("the certificate must have exactly one URI as subject alternative name")]
    NotOneUri,
    /// The URI is no id of a service or client.
    #[error("the certificate's URI is no SPIFFE id of a service or client")]
    NotAnId,
    /// It is of another deployment.
    #[error("the certificate is of another trust domain")]
    TrustDomain,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// First moment, milliseconds.
    pub not_before_ms: i64,
    /// Last moment is before this one, milliseconds.
    pub ends_ms: i64,
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
}

impl Leaf {
    /// Reads a certificate of this deployment. Who signed it is not looked at.
    ///
    /// # Errors
    /// See [`NoIdentity`].
    pub fn read(der: &CertificateDer<'_>, deployment: &str) -> Result<Self, NoIdentity> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| NoIdentity::Malformed)?;
        if !rest.is_empty() {
            return Err(NoIdentity::Malformed);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| NoIdentity::Malformed)?;
        let names = names.map_or(&[][..], |names| names.value.general_names.as_slice());
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(NoIdentity::NotOneUri);
        };
        let id = SpiffeId::parse(uri).ok_or(NoIdentity::NotAnId)?;
        if id.trust_domain() != deployment {
            return Err(NoIdentity::TrustDomain);
        }
        Ok(Self {
            id,
            not_before_ms: certificate
                .validity()
                .not_before
                .timestamp()
                .saturating_mul(1000),
            ends_ms: end_ms(&certificate),
            sha256: Sha256::digest(der).into(),
        })
    }
}

/// The last moment of a certificate is before this one, milliseconds: X.509 counts the second it names as the last one.
fn end_ms(certificate: &X509Certificate<'_>) -> i64 {
    let last = certificate.validity().not_after.timestamp();
    last.saturating_add(1).saturating_mul(1000)
}

/// For how long a chain was found to be good.
#[derive(Debug, Clone, Copy)]
struct Trusted {
    /// Under this generation of the trust bundle.
    generation: u64,
    from_ms: i64,
    /// Before the next certificate of the chain ends, milliseconds.
    until_ms: i64,
}

/// The certificate of the other end of a connection.
pub struct PeerCertificate {
    leaf: Leaf,
    chain: Vec<CertificateDer<'static>>,
    tls: Arc<Tls>,
    /// When the certificates of the chain end, milliseconds.
    ends_ms: Vec<i64>,
    trusted: Mutex<Option<Trusted>>,
}

impl PeerCertificate {
    /// The certificate of a connection whose handshake has succeeded.
    pub(crate) fn of(
        chain: &[CertificateDer<'_>],
        tls: &Arc<Tls>,
    ) -> Result<Option<Arc<Self>>, NoIdentity> {
        let Some(first) = chain.first() else {
            return Ok(None);
        };
        let ends_ms = chain.iter().map(|der| {
            let (_, certificate) =
                X509Certificate::from_der(der).map_err(|_| NoIdentity::Malformed)?;
            Ok(end_ms(&certificate))
        });
        Ok(Some(Arc::new(Self {
            ends_ms: ends_ms.collect::<Result<_, _>>()?,
            leaf: Leaf::read(first, tls.deployment())?,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            tls: Arc::clone(tls),
            // The handshake may have ended under an older bundle: the first call looks again.
            trusted: Mutex::new(None),
        })))
    }

    /// What it says.
    #[must_use]
    pub const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whether it counts now: in its time, and still trusted. A connection outlives its certificate, those that vouch for it, and
    /// a trust bundle.
    #[must_use]
    pub fn counts(&self, now_ms: i64) -> bool {
        if !(self.leaf.not_before_ms..self.leaf.ends_ms).contains(&now_ms) {
            return false;
        }
        let current = self.tls.current();
        let generation = current.generation();
        let trusted = *lock(&self.trusted);
        if trusted.is_some_and(|known| {
            known.generation == generation && (known.from_ms..known.until_ms).contains(&now_ms)
        }) {
            return true;
        }
        let (Some(leaf), Ok(seconds)) = (self.chain.first(), u64::try_from(now_ms / 1000)) else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let good = current.trusts(leaf, &self.chain[1..], now);
        let ends_later = self.ends_ms.iter().copied().filter(|end| *end > now_ms);
        *lock(&self.trusted) = good.then(|| Trusted {
            generation,
            from_ms: now_ms,
            until_ms: ends_later.min().unwrap_or(now_ms),
        });
        good
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({})", self.leaf.id)
    }
}
