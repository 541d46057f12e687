//! Identity providers: their keys, kept and refreshed, and what their tokens say.
//!
//! Invariants:
//! - A token is judged by the settings of the one issuer it names, with that issuer's keys; it can speak for no other tenant.
//! - Keys are read by a task an issuer ([`Issuers::run`]): at the start, every ten minutes, and when a token names one that is
//!   not known; at most once a minute, also when tokens with made-up key ids rain.
//! - No token waits for keys. Whoever presents one learns that it is good, or that it is not: neither from the answer nor
//!   from the time that it takes, which issuers there are.
//! - Keys that could not be refreshed for a day count no longer: a provider that is away cannot take a key back.

mod fetch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use counterfoil_chassis::{CancellationToken, Clock, tls::TlsError};
use futures::future::join_all;
use tokio::sync::{Mutex as Turn, Notify};

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
    /// Held for a few instructions and never across an await.
    known: Mutex<Known>,
    /// Who has it reads the keys: one at a time.
    turn: Turn<()>,
    /// A token names a key that is not known.
    wanted: Notify,
}

/// What is known of an issuer's keys.
#[derive(Debug, Default)]
struct Known {
    keys: Arc<Keys>,
    /// When they were read.
    read_at_ms: Option<i64>,
    /// When they were last asked for, whatever came of it.
    asked_at_ms: Option<i64>,
    /// Whether a token named a key that is not among them, since then.
    wanted: bool,
}

/// Whether something was less than `ms` ago. A clock that was set back makes nothing recent.
fn within(at_ms: Option<i64>, ms: i64, now_ms: i64) -> bool {
    at_ms.is_some_and(|at| (at..at.saturating_add(ms)).contains(&now_ms))
}

impl Known {
    /// Whether the keys are to be read now.
    fn is_due(&self, now_ms: i64) -> bool {
        let enough = !self.wanted && within(self.read_at_ms, FRESH_MS, now_ms);
        !enough && !within(self.asked_at_ms, ASKED_EVERY_MS, now_ms)
    }

    /// When they are, if no token wants another one before.
    fn due_ms(&self, now_ms: i64) -> i64 {
        let (last_ms, every_ms) = if within(self.read_at_ms, FRESH_MS, now_ms) {
            (self.read_at_ms, FRESH_MS)
        } else {
            (self.asked_at_ms, ASKED_EVERY_MS)
        };
        last_ms.map_or(now_ms, |last| last.saturating_add(every_ms))
    }
}

impl Issuers {
    /// The issuers as configured. Their keys are read by [`Self::run`].
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

    /// Who has signed in. `None`: nobody whom an issuer vouches for, or by a key that is not known yet.
    pub(crate) fn verify(&self, text: &str) -> Option<SignedIn> {
        let token = Unverified::read(text)?;
        let mut named = self.issuers.iter();
        let issuer = named.find(|one| one.terms.issuer == token.issuer)?;
        let pinned = issuer.pinned.is_empty() || issuer.pinned.contains(&token.key_id);
        if !pinned || !issuer.algorithms.contains(&token.algorithm) {
            return None;
        }
        let now_ms = self.clock.now_ms();
        let keys = issuer.keys(&token.key_id, now_ms)?;
        let key = keys.get(&token.key_id)?;
        let claims = token.verify(key)?;
        claims.accept(&issuer.terms, now_ms)
    }

    /// Reads the keys that are due.
    pub(crate) async fn run_once(&self) {
        let due = self.issuers.iter().map(|one| one.refresh(&self.clock));
        join_all(due).await;
    }

    /// Reads the keys of each issuer when they are due, until the service ends.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let all = self.issuers.iter().map(|one| one.run(&self.clock));
        shutdown.run_until_cancelled(join_all(all)).await;
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
            turn: Turn::default(),
            wanted: Notify::new(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys as they are known; they are wanted anew when the one that is needed is not among them or they are old.
    fn keys(&self, key_id: &str, now_ms: i64) -> Option<Arc<Keys>> {
        let mut known = self.known();
        known.wanted |= known.keys.get(key_id).is_none();
        if known.is_due(now_ms) {
            self.wanted.notify_one();
        }
        within(known.read_at_ms, KEPT_MS, now_ms).then(|| Arc::clone(&known.keys))
    }

    /// Reads the keys if that is due.
    async fn refresh(&self, clock: &Clock) {
        let _turn = self.turn.lock().await;
        let now_ms = clock.now_ms();
        {
            let mut known = self.known();
            if !known.is_due(now_ms) {
                return;
            }
            known.asked_at_ms = Some(now_ms);
            known.wanted = false;
        }
        match self.location.read().await {
            Ok(keys) => {
                let mut known = self.known();
                known.keys = Arc::new(keys.pinned(&self.pinned));
                known.read_at_ms = Some(now_ms);
            }
            Err(error) => {
                let issuer = &self.terms.issuer;
                tracing::warn!(issuer, %error, "the keys of an issuer cannot be had");
            }
        }
    }

    async fn run(&self, clock: &Clock) {
        loop {
            self.refresh(clock).await;
            let due_ms = self.known().due_ms(clock.now_ms());
            tokio::select! {
                () = clock.reached(due_ms) => {}
                () = self.wanted.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
