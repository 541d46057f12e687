//! From a token to a caller: credentials of the process first, then authority, remembered for a second.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use counterfoil_proto::authority::{
    IntrospectTokenRequest, principal_service_client::PrincipalServiceClient,
};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tonic::Code;

use super::{Caller, Role, Token};
use crate::{
    client::ServiceChannel,
    clock::{self, Clock},
    config::StaticCredential,
    error::ApiError,
    names::PrincipalName,
    secrets::SecretError,
    sync::lock,
};

/// How long an answer is remembered: so long a revoked token may still work.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Answers remembered at once; a flood of made-up tokens costs no more memory.
const REMEMBERED_MAX: usize = 10_000;

/// Who presents a token, and until when.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// Who.
    pub caller: Caller,
    /// When the token ends, milliseconds; `None`: it does not.
    pub expires_at_ms: Option<i64>,
}

/// Knows the tokens of tenants' principals. Authority looks into its tables, the other services ask authority.
#[async_trait]
pub trait Introspector: Send + Sync + 'static {
    /// Who presents the token. `None`: nobody, or no longer.
    async fn introspect(&self, token: &Token) -> Result<Option<Introspection>, ApiError>;
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

/// When authority was asked about a token, and what it said.
type Remembered = (Instant, Option<Introspection>);

/// Tells who presents a token.
pub struct Authenticator {
    clock: Clock,
    known: HashMap<String, StaticToken>,
    introspector: Option<Arc<dyn Introspector>>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

impl Authenticator {
    /// Knows these credentials, and asks `introspector` for all others.
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
            remembered: Mutex::default(),
        }
    }

    /// The caller behind the value of an `authorization` header.
    ///
    /// # Errors
    /// UNAUTHENTICATED; UNAVAILABLE when authority does not answer.
    pub async fn authenticate(&self, authorization: &str) -> Result<Caller, ApiError> {
        let token = authorization
            .strip_prefix("Bearer ")
            .and_then(Token::parse)
            .ok_or_else(ApiError::unauthenticated)?;
        let sha256 = token.sha256();
        if let Some(known) = self.known.get(token.id()) {
            let same: bool = known.sha256.ct_eq(&sha256).into();
            return if same {
                Ok(known.caller.clone())
            } else {
                Err(ApiError::unauthenticated())
            };
        }
        self.introspect(&token, sha256)
            .await?
            .filter(|found| {
                found
                    .expires_at_ms
                    .is_none_or(|end| self.clock.now_ms() < end)
            })
            .map(|found| found.caller)
            .ok_or_else(ApiError::unauthenticated)
    }

    async fn introspect(
        &self,
        token: &Token,
        sha256: [u8; 32],
    ) -> Result<Option<Introspection>, ApiError> {
        let Some(introspector) = &self.introspector else {
            return Ok(None);
        };
        if let Some((at, found)) = lock(&self.remembered).get(&sha256)
            && at.elapsed() < REMEMBERED
        {
            return Ok(found.clone());
        }
        let found = introspector.introspect(token).await?;
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(sha256, (Instant::now(), found.clone()));
        }
        Ok(found)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({} static credentials)", self.known.len())
    }
}

/// Asks authority.
#[derive(Debug, Clone)]
pub struct RemoteTokens {
    authority: PrincipalServiceClient<ServiceChannel>,
}

impl RemoteTokens {
    /// Asks authority behind `channel`.
    #[must_use]
    pub fn new(channel: ServiceChannel) -> Self {
        Self {
            authority: PrincipalServiceClient::new(channel),
        }
    }
}

#[async_trait]
impl Introspector for RemoteTokens {
    async fn introspect(&self, token: &Token) -> Result<Option<Introspection>, ApiError> {
        let request = IntrospectTokenRequest {
            token: token.expose().to_owned(),
        };
        let found = match self.authority.clone().introspect_token(request).await {
            Ok(answer) => answer.into_inner(),
            // Authority does not know it. Our own token being refused looks the same, and is logged there.
            Err(status) if status.code() == Code::Unauthenticated => return Ok(None),
            Err(status) => return Err(ApiError::from_peer("authority", status)),
        };
        let name = PrincipalName::parse(&found.principal)
            .map_err(|error| ApiError::internal(format!("authority: principal {error}")))?;
        let roles = found.roles.iter().map(String::as_str);
        Ok(Some(Introspection {
            caller: Caller::of_tenant(&name.tenant, &name.principal, roles),
            expires_at_ms: found.expire_time.as_ref().and_then(clock::millis),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::TestClock;

    struct OneToken {
        id: String,
        asked: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl Introspector for OneToken {
        async fn introspect(&self, token: &Token) -> Result<Option<Introspection>, ApiError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Ok((token.id() == self.id).then(|| Introspection {
                caller: Caller::of_tenant("acme", "p1", ["reviewer"]),
                expires_at_ms: Some(2000),
            }))
        }
    }

    fn bearer(token: &Token) -> String {
        format!("Bearer {}", token.expose())
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
        assert_eq!(good.authenticate(&bearer(&token)).await.unwrap(), caller);
        // The credential with this id has another secret.
        let other = Authenticator::new(clock, [forged_known], None);
        let refused = other.authenticate(&bearer(&token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        for header in ["", "Bearer", "Bearer x", token.expose()] {
            assert!(good.authenticate(header).await.is_err());
        }
    }

    #[tokio::test]
    async fn authority_is_asked_once_and_an_expired_token_is_refused_at_once() {
        let token = Token::generate().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let introspector = OneToken {
            id: token.id().to_owned(),
            asked: Arc::clone(&asked),
        };
        let time = TestClock::new(1000);
        let authenticator = Authenticator::new(time.clock(), [], Some(Arc::new(introspector)));
        for _ in 0..3 {
            let caller = authenticator.authenticate(&bearer(&token)).await.unwrap();
            assert_eq!(caller.tenant(), Some("acme"));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        time.set_ms(2000);
        assert!(authenticator.authenticate(&bearer(&token)).await.is_err());
        let unknown = Token::generate().unwrap();
        assert!(authenticator.authenticate(&bearer(&unknown)).await.is_err());
    }
}
