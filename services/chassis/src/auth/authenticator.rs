//! From what a call shows to its caller: the certificate of a service; or a token, known to the process itself or to authority,
//! whose answer is remembered for a second.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{Bearer, Caller, Credential, Role, Token, credential::Shown};
use crate::{
    clock::Clock,
    config::StaticCredential,
    error::ApiError,
    secrets::SecretError,
    sync::lock,
    tls::{Holder, PeerCertificate},
};

/// How long an answer is remembered, by the machine's time and by the service's clock: so long a revoked token may still work.
const REMEMBERED: Duration = Duration::from_secs(1);
/// The same, milliseconds; and so long after the question a stream asks again.
pub(super) const REMEMBERED_MS: i64 = 1_000;
/// Answers remembered at once; a flood of made-up tokens costs no more memory.
const REMEMBERED_MAX: usize = 10_000;

/// Who presents a token, and until when.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// Who.
    pub caller: Caller,
    /// When the token ends, milliseconds; `None`: it does not.
    pub expires_at_ms: Option<i64>,
    /// SHA-256 of the client certificate without which the token is nothing; `None`: any connection will do.
    pub bound_to: Option<[u8; 32]>,
}

/// How long an authenticated call may go on without being asked about again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As long as the process runs: the process itself knows the credential.
    Lasting,
    /// For a second after the question.
    Asked {
        /// When it was asked, milliseconds: the answer may have been remembered since.
        at_ms: i64,
        /// When it ends whatever is answered, milliseconds; `None`: it does not.
        ends_ms: Option<i64>,
    },
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// Who.
    pub caller: Caller,
    /// For how long.
    pub standing: Standing,
}

/// Knows the tokens of tenants' principals. Authority looks into its tables, the other services ask authority.
#[async_trait]
pub trait Introspector: Send + Sync + 'static {
    /// Who presents the token. `None`: nobody, or no longer.
    async fn introspect(&self, bearer: &Bearer) -> Result<Option<Introspection>, ApiError>;
}

/// A credential that the process knows by itself.
#[derive(Clone)]
pub struct StaticToken {
    id: String,
    sha256: [u8; 32],
    caller: Caller,
}

impl StaticToken {
    /// This token is presented by this caller.
    #[must_use]
    pub fn new(token: &Token, caller: Caller) -> Self {
        Self {
            id: token.id().to_owned(),
            sha256: token.sha256(),
            caller,
        }
    }

    /// As configured.
    ///
    /// # Errors
    /// When the file cannot be used or a role is unknown.
    pub fn load(credential: &StaticCredential) -> Result<Self, SecretError> {
        let path: &Path = &credential.token_file;
        let token = Token::load(path)?;
        let roles = credential.roles.iter().map(|name| {
            Role::named(name).ok_or_else(|| SecretError::Content {
                path: path.to_owned(),
                reason: format!("is configured with the unknown role {name:?}"),
            })
        });
        let roles: Vec<Role> = roles.collect::<Result<_, _>>()?;
        let caller = Caller::of_deployment(&credential.principal, roles);
        Ok(Self::new(&token, caller))
    }
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticToken({}, {})", self.id, self.caller.principal())
    }
}

/// What authority said about a token.
struct Remembered {
    at: Instant,
    /// The same moment by the service's clock, which tests move and machines set.
    at_ms: i64,
    found: Option<Introspection>,
}

impl Remembered {
    fn is_fresh(&self, now_ms: i64) -> bool {
        self.at.elapsed() < REMEMBERED
            && (self.at_ms..self.at_ms.saturating_add(REMEMBERED_MS)).contains(&now_ms)
    }
}

/// Tells who calls.
pub struct Authenticator {
    clock: Clock,
    known: HashMap<String, StaticToken>,
    introspector: Option<Arc<dyn Introspector>>,
    remembers: bool,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

impl Authenticator {
    /// Knows these credentials, and asks `introspector` for all others. It remembers the answers.
    #[must_use]
    pub fn new(
        clock: Clock,
        known: impl IntoIterator<Item = StaticToken>,
        introspector: Option<Arc<dyn Introspector>>,
    ) -> Self {
        let known = known.into_iter().map(|token| (token.id.clone(), token));
        Self {
            clock,
            known: known.collect(),
            introspector,
            remembers: true,
            remembered: Mutex::default(),
        }
    }

    /// The same, which remembers no answer: where the tables are, what is revoked is refused at once.
    #[must_use]
    pub fn remembering_nothing(self) -> Self {
        Self {
            remembers: false,
            ..self
        }
    }

    /// The service's clock.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Who shows this.
    ///
    /// # Errors
    /// UNAUTHENTICATED; UNAVAILABLE when authority does not answer.
    pub async fn identify(&self, credential: &Credential) -> Result<Identified, ApiError> {
        let now_ms = self.clock.now_ms();
        let certificate = credential.certificate.as_deref();
        if certificate.is_some_and(|certificate| !certificate.counts(now_ms)) {
            return Err(ApiError::unauthenticated());
        }
        let service = certificate.filter(|one| one.leaf().id.holder() == Holder::Service);
        match (service, &credential.bearer) {
            (Some(service), Shown::Nothing) => Ok(identified_by(service, now_ms)),
            (None, Shown::Bearer(bearer)) => self.identify_bearer(bearer, certificate).await,
            (Some(service), _) => {
                let service = service.leaf().id.name();
                tracing::warn!(service, "a service showed its certificate and a token");
                Err(ApiError::unauthenticated())
            }
            (None, Shown::Nothing | Shown::Garbled) => Err(ApiError::unauthenticated()),
        }
    }

    async fn identify_bearer(
        &self,
        bearer: &Bearer,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Identified, ApiError> {
        let sha256 = bearer.sha256();
        if let Bearer::Token(token) = bearer
            && let Some(known) = self.known.get(token.id())
        {
            let same: bool = known.sha256.ct_eq(&sha256).into();
            let identified = Identified {
                caller: known.caller.clone(),
                standing: Standing::Lasting,
            };
            return same
                .then_some(identified)
                .ok_or_else(ApiError::unauthenticated);
        }
        let (at_ms, found) = self.introspect(bearer, sha256).await?;
        let found = found.ok_or_else(ApiError::unauthenticated)?;
        let now_ms = self.clock.now_ms();
        let ended = found.expires_at_ms.is_some_and(|end| end <= now_ms);
        let shown = certificate.map(|certificate| certificate.leaf().sha256);
        let bound_elsewhere = found.bound_to.is_some() && found.bound_to != shown;
        if ended || bound_elsewhere {
            return Err(ApiError::unauthenticated());
        }
        let ends = [
            found.expires_at_ms,
            certificate.map(|certificate| certificate.leaf().ends_ms),
        ];
        Ok(Identified {
            caller: found.caller,
            standing: Standing::Asked {
                at_ms,
                ends_ms: ends.into_iter().flatten().min(),
            },
        })
    }

    /// Whose the token is, and when that was asked.
    async fn introspect(
        &self,
        bearer: &Bearer,
        sha256: [u8; 32],
    ) -> Result<(i64, Option<Introspection>), ApiError> {
        let now_ms = self.clock.now_ms();
        let Some(introspector) = &self.introspector else {
            return Ok((now_ms, None));
        };
        if !self.remembers {
            return Ok((now_ms, introspector.introspect(bearer).await?));
        }
        if let Some(known) = lock(&self.remembered).get(&sha256)
            && known.is_fresh(now_ms)
        {
            return Ok((known.at_ms, known.found.clone()));
        }
        // The answer is as old as the question.
        let at = Instant::now();
        let found = introspector.introspect(bearer).await?;
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| known.is_fresh(now_ms));
        }
        if remembered.len() < REMEMBERED_MAX {
            let known = Remembered {
                at,
                at_ms: now_ms,
                found: found.clone(),
            };
            remembered.insert(sha256, known);
        }
        Ok((now_ms, found))
    }
}

/// A service is who its certificate says, and may what services may.
fn identified_by(certificate: &PeerCertificate, now_ms: i64) -> Identified {
    let leaf = certificate.leaf();
    Identified {
        caller: Caller::of_deployment(leaf.id.principal(), [Role::Service]),
        standing: Standing::Asked {
            at_ms: now_ms,
            ends_ms: Some(leaf.ends_ms),
        },
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({} static credentials)", self.known.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tonic::Code;

    use super::*;
    use crate::clock::TestClock;

    struct OneToken {
        id: String,
        asked: Arc<AtomicUsize>,
        bound_to: Option<[u8; 32]>,
    }

    #[async_trait]
    impl Introspector for OneToken {
        async fn introspect(&self, bearer: &Bearer) -> Result<Option<Introspection>, ApiError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let ours = matches!(bearer, Bearer::Token(token) if token.id() == self.id);
            Ok(ours.then(|| Introspection {
                caller: Caller::of_tenant("acme", "p1", ["reviewer"]),
                expires_at_ms: Some(2000),
                bound_to: self.bound_to,
            }))
        }
    }

    fn bearer(token: &Token) -> Credential {
        Credential::bearer(Bearer::Token(token.clone()))
    }

    async fn refused(authenticator: &Authenticator, token: &Token) -> Code {
        let refusal = authenticator.identify(&bearer(token)).await.unwrap_err();
        refusal.code()
    }

    #[tokio::test]
    async fn a_token_with_the_right_id_and_another_secret_is_refused() {
        let token = Token::generate().unwrap();
        let caller = Caller::of_deployment("operators/admin", [Role::Administrator]);
        let known = StaticToken::new(&token, caller.clone());
        let forged = Token::generate().unwrap();
        let mut forged_known = StaticToken::new(&forged, caller.clone());
        forged_known.id = token.id().to_owned();
        let clock = TestClock::new(0).clock();
        let good = Authenticator::new(clock.clone(), [known], None);
        let identified = good.identify(&bearer(&token)).await.unwrap();
        assert_eq!(identified.caller, caller);
        // The credential with this id has another secret.
        let other = Authenticator::new(clock, [forged_known], None);
        assert_eq!(refused(&other, &token).await, Code::Unauthenticated);
        let nothing = good.identify(&Credential::default()).await.unwrap_err();
        assert_eq!(nothing.code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn authority_is_asked_once_a_second_and_an_expired_token_is_refused_at_once() {
        let token = Token::generate().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let introspector = OneToken {
            id: token.id().to_owned(),
            asked: Arc::clone(&asked),
            bound_to: None,
        };
        let time = TestClock::new(0);
        let authenticator = Authenticator::new(time.clock(), [], Some(Arc::new(introspector)));
        for _ in 0..3 {
            let identified = authenticator.identify(&bearer(&token)).await.unwrap();
            assert_eq!(identified.caller.tenant(), Some("acme"));
            let standing = Standing::Asked {
                at_ms: 0,
                ends_ms: Some(2000),
            };
            assert_eq!(identified.standing, standing, "as old as the question");
            time.advance_ms(300);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        time.set_ms(1000);
        authenticator.identify(&bearer(&token)).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        time.set_ms(1999);
        authenticator.identify(&bearer(&token)).await.unwrap();
        time.set_ms(2000);
        assert_eq!(refused(&authenticator, &token).await, Code::Unauthenticated);
        let unknown = Token::generate().unwrap();
        assert_eq!(
            refused(&authenticator, &unknown).await,
            Code::Unauthenticated
        );
    }

    #[tokio::test]
    async fn where_the_tables_are_nothing_is_remembered() {
        let token = Token::generate().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let introspector = OneToken {
            id: token.id().to_owned(),
            asked: Arc::clone(&asked),
            bound_to: None,
        };
        let clock = TestClock::new(0).clock();
        let authenticator =
            Authenticator::new(clock, [], Some(Arc::new(introspector))).remembering_nothing();
        for times in 1..=3 {
            authenticator.identify(&bearer(&token)).await.unwrap();
            assert_eq!(asked.load(Ordering::SeqCst), times);
        }
    }

    #[tokio::test]
    async fn a_token_that_is_bound_to_a_certificate_is_nothing_without_it() {
        let token = Token::generate().unwrap();
        let introspector = OneToken {
            id: token.id().to_owned(),
            asked: Arc::default(),
            bound_to: Some([7; 32]),
        };
        let clock = TestClock::new(0).clock();
        let authenticator = Authenticator::new(clock, [], Some(Arc::new(introspector)));
        assert_eq!(refused(&authenticator, &token).await, Code::Unauthenticated);
    }
}
