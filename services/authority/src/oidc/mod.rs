//! Identity providers: their keys, kept and refreshed, and what their tokens say.
//!
//! Invariants:
//! - A token is judged by the settings of the one issuer it names, with that issuer's keys; it can speak for no other tenant.
//! - Keys are asked for at most once a minute, also when tokens with made-up key ids rain. Each issuer waits for itself alone.
//! - Keys that could not be refreshed for a day count no longer: a provider that is away cannot take a key back.

mod fetch;

use std::sync::Arc;

use counterfoil_chassis::{ApiError, Clock, tls::TlsError};
use tokio::sync::Mutex;

use crate::{
    config::IssuerConfig,
    model::jwt::{Algorithm, Keys, SignedIn, Terms, Unverified},
};
use fetch::Location;

/// Keys are asked for at most so often, milliseconds.
const ASKED_EVERY_MS: i64 = 60_000;
/// Keys that are older are asked for again, milliseconds: so long a key that the provider took back may still count.
const FRESH_MS: i64 = 600_000;
/// Keys that are older count no longer, milliseconds.
const KEPT_MS: i64 = 86_400_000;

/// The issuers of the configuration.
#[derive(Debug)]
pub(crate) struct Issuers {
    clock: Clock,
    issuers: Vec<Issuer>,
}

#[derive(Debug)]
struct Issuer {
    terms: Terms,
    algorithms: Vec<Algorithm>,
    pinned: Vec<String>,
    location: Location,
    known: Mutex<Known>,
}

/// What is known of an issuer's keys.
#[derive(Debug, Default)]
struct Known {
    keys: Arc<Keys>,
    /// When they were read.
    read_at_ms: Option<i64>,
    /// When they were last asked for, whatever came of it.
    asked_at_ms: Option<i64>,
}

impl Issuers {
    /// The issuers as configured. Their keys are read when they are first needed.
    pub(crate) fn new(configs: &[IssuerConfig], clock: Clock) -> Result<Self, TlsError> {
        let issuers = configs.iter().map(Issuer::new);
        Ok(Self {
            clock,
            issuers: issuers.collect::<Result<_, _>>()?,
        })
    }

    /// Whether there is such an issuer, and it may speak for the tenant.
    pub(crate) fn speaks_for(&self, issuer: &str, tenant: &str) -> bool {
        let mut named = self.issuers.iter().map(|one| &one.terms);
        named.any(|terms| {
            terms.issuer == issuer && terms.tenants.iter().any(|known| known == tenant)
        })
    }

    /// Who has signed in. `None`: nobody whom an issuer vouches for.
    ///
    /// # Errors
    /// UNAVAILABLE when the issuer's keys are not known and cannot be had.
    pub(crate) async fn verify(&self, text: &str) -> Result<Option<SignedIn>, ApiError> {
        let Some(token) = Unverified::read(text) else {
            return Ok(None);
        };
        let mut named = self.issuers.iter();
        let Some(issuer) = named.find(|one| one.terms.issuer == token.issuer) else {
            return Ok(None);
        };
        let pinned = issuer.pinned.is_empty() || issuer.pinned.contains(&token.key_id);
        if !pinned || !issuer.algorithms.contains(&token.algorithm) {
            return Ok(None);
        }
        let now_ms = self.clock.now_ms();
        let keys = issuer.keys(&token.key_id, now_ms).await?;
        let key = keys.get(&token.key_id);
        let claims = key.and_then(|key| token.verify(key));
        Ok(claims.and_then(|claims| claims.accept(&issuer.terms, now_ms)))
    }
}

impl Issuer {
    fn new(config: &IssuerConfig) -> Result<Self, TlsError> {
        Ok(Self {
            terms: Terms {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                subject_claim: config.subject_claim.clone(),
                tenant_claim: config.tenant_claim.clone(),
                tenants: config.tenants.clone(),
                leeway_ms: i64::from(config.leeway_seconds) * 1_000,
                age_max_ms: i64::from(config.token_age_max_seconds) * 1_000,
            },
            algorithms: config.algorithms.clone(),
            pinned: config.key_ids.clone(),
            location: Location::new(config)?,
            known: Mutex::default(),
        })
    }

    /// The keys, asked for again when the one that is needed is not among them or they are old.
    async fn keys(&self, key_id: &str, now_ms: i64) -> Result<Arc<Keys>, ApiError> {
        let mut known = self.known.lock().await;
        // A clock that was set back makes nothing fresh.
        let within = |at: Option<i64>, ms: i64| {
            at.is_some_and(|at| (at..at.saturating_add(ms)).contains(&now_ms))
        };
        let complete = within(known.read_at_ms, FRESH_MS) && known.keys.get(key_id).is_some();
        if !complete && !within(known.asked_at_ms, ASKED_EVERY_MS) {
            known.asked_at_ms = Some(now_ms);
            match self.location.read().await {
                Ok(keys) => {
                    known.keys = Arc::new(keys.pinned(&self.pinned));
                    known.read_at_ms = Some(now_ms);
                }
                Err(error) => {
                    let issuer = &self.terms.issuer;
                    tracing::warn!(issuer, %error, "the keys of an issuer cannot be had");
                }
            }
        }
        if within(known.read_at_ms, KEPT_MS) {
            return Ok(Arc::clone(&known.keys));
        }
        Err(ApiError::unavailable(
            "ISSUER_UNAVAILABLE",
            "the identity provider's keys cannot be had",
            std::time::Duration::from_secs(60),
        ))
    }
}
