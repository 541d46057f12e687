//! What a call shows of its caller: the certificate of its connection, and the token in its header.

use std::sync::Arc;

use http::{Extensions, HeaderMap, header::AUTHORIZATION};

use super::Bearer;
use crate::{server::Peer, tls::PeerCertificate};

/// Everything that a call shows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Credential {
    /// Certificate of the connection.
    pub(super) certificate: Option<Arc<PeerCertificate>>,
    /// The `authorization` header.
    pub(super) bearer: Shown,
}

/// An `authorization` header.
#[derive(Debug, Clone, Default)]
pub(super) enum Shown {
    /// There is none.
    #[default]
    Nothing,
    /// There is one that is no bearer token, or there are two.
    Garbled,
    /// There is a token.
    Bearer(Arc<Bearer>),
}

impl Credential {
    /// A token and no certificate.
    #[must_use]
    pub fn bearer(bearer: Bearer) -> Self {
        Self {
            certificate: None,
            bearer: Shown::Bearer(Arc::new(bearer)),
        }
    }

    /// What a request shows.
    pub(super) fn of(extensions: &Extensions, headers: &HeaderMap) -> Self {
        let peer = extensions.get::<Peer>().cloned().unwrap_or_default();
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let bearer = match (values.next(), values.next()) {
            (None, _) => Shown::Nothing,
            (Some(value), None) => value
                .to_str()
                .ok()
                .and_then(|value| value.strip_prefix("Bearer "))
                .and_then(Bearer::parse)
                .map_or(Shown::Garbled, |bearer| Shown::Bearer(Arc::new(bearer))),
            (Some(_), Some(_)) => Shown::Garbled,
        };
        Self {
            certificate: peer.certificate,
            bearer,
        }
    }
}
