//! API tokens: issued once, kept as a hash, refused at once when revoked, expired, or their principal has ended.

use async_trait::async_trait;
use counterfoil_chassis::{
    ApiError, Caller,
    auth::{Bearer, Introspection, Introspector, Token},
    clock::timestamp,
    names::{PrincipalName, tenant_field},
};
use counterfoil_proto::authority as proto;

use super::{Api, convert};
use crate::{
    error::Refusal,
    model::{
        ids::PrincipalId,
        principal::{OrganizationKind, Principal},
    },
    store::{
        self,
        tokens::{KeptToken, NewToken},
    },
};

const TTL_SECONDS: std::ops::RangeInclusive<i64> = 60..=31_536_000;
const TTL_SECONDS_DEFAULT: i64 = 86_400;

pub(super) async fn issue_token(
    api: &Api,
    caller: &Caller,
    request: proto::IssueTokenRequest,
) -> Result<proto::IssueTokenResponse, ApiError> {
    let name = PrincipalName::parse_field("principal", &request.principal)?;
    caller.require_tenant(&name.tenant)?;
    let id = convert::id("principal", PrincipalId::parse(&name.principal))?;
    let ttl_seconds = match request.ttl_seconds {
        0 => TTL_SECONDS_DEFAULT,
        seconds if TTL_SECONDS.contains(&seconds) => seconds,
        _ => {
            return Err(ApiError::invalid(
                "ttl_seconds",
                "must be 60 to 31,536,000, or 0",
            ));
        }
    };
    // The tenant's lock: a principal that ends meanwhile gets no token.
    let mut tx = api.db.write_tx(&name.tenant).await?;
    let found = store::principals::get(tx.conn(), &name.tenant, &id).await?;
    let principal = found.ok_or_else(ApiError::not_found)?;
    if !principal.is_active() {
        return Err(Refusal::PrincipalEnded.into());
    }
    let issuer = match caller.tenant() {
        None => None,
        Some(tenant) => {
            let issuer = convert::principal_in("caller", caller.principal(), tenant)?;
            Some(store::principals::get(tx.conn(), tenant, &issuer).await?)
        }
    };
    if issuer.is_some_and(|issuer| !may_issue(issuer.as_ref(), &principal)) {
        return Err(Refusal::CallerNotCustomer.into());
    }
    let token = Token::generate().map_err(ApiError::internal)?;
    let issued_at_ms = api.clock.now_ms();
    let kept = NewToken {
        id: token.id(),
        principal: id.as_str(),
        sha256: token.sha256(),
        issued_at_ms,
        expires_at_ms: issued_at_ms.saturating_add(ttl_seconds * 1000),
    };
    store::tokens::insert(tx.conn(), &name.tenant, &kept).await?;
    // If we crash here: there is no token. After the commit and before the answer: one that nobody knows and that expires.
    tx.commit().await?;
    Ok(proto::IssueTokenResponse {
        token: token.expose().to_owned(),
        token_id: token.id().to_owned(),
        expire_time: Some(timestamp(kept.expires_at_ms)),
    })
}

/// Whether someone of a tenant may issue a token for this principal: the customer for all, others for their own
/// organisation. Who operates the process must not be able to decide in the customer's name.
fn may_issue(issuer: Option<&Principal>, principal: &Principal) -> bool {
    issuer.is_some_and(|issuer| {
        issuer.organization_kind == OrganizationKind::Customer
            || issuer.organization == principal.organization
    })
}

pub(super) async fn revoke_token(
    api: &Api,
    caller: &Caller,
    request: proto::RevokeTokenRequest,
) -> Result<proto::RevokeTokenResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    caller.require_tenant(&tenant)?;
    let mut tx = api.db.write_tx(&tenant).await?;
    let now_ms = api.clock.now_ms();
    if !store::tokens::revoke(tx.conn(), &tenant, &request.token_id, now_ms).await? {
        return Err(ApiError::not_found());
    }
    // If we crash here: the token still works and the caller has no answer, so it asks again.
    tx.commit().await?;
    Ok(proto::RevokeTokenResponse {})
}

pub(super) async fn introspect_token(
    api: &Api,
    _caller: &Caller,
    request: proto::IntrospectTokenRequest,
) -> Result<proto::IntrospectTokenResponse, ApiError> {
    let token = Token::parse(&request.token).ok_or_else(ApiError::unauthenticated)?;
    let kept = find(api, &token)
        .await?
        .ok_or_else(ApiError::unauthenticated)?;
    Ok(proto::IntrospectTokenResponse {
        principal: kept.principal.id.name(&kept.tenant),
        roles: kept.principal.roles,
        expire_time: Some(timestamp(kept.expires_at_ms)),
        ..proto::IntrospectTokenResponse::default()
    })
}

/// A token that is good now.
async fn find(api: &Api, token: &Token) -> Result<Option<KeptToken>, ApiError> {
    // Whose the token is, only the token says.
    let mut reader = api.db.read_everything("whose a token is").await?;
    let found = store::tokens::find(&mut reader, token.id()).await?;
    Ok(found.filter(|kept| {
        // Hashes of 256 random bits: how long comparing them takes tells nothing that helps to find one.
        kept.sha256 == token.sha256()
            && kept.revoked_at_ms.is_none()
            && kept.principal.is_active()
            && api.clock.now_ms() < kept.expires_at_ms
    }))
}

#[async_trait]
impl Introspector for Api {
    async fn introspect(&self, bearer: &Bearer) -> Result<Option<Introspection>, ApiError> {
        let Bearer::Token(token) = bearer else {
            return Ok(None);
        };
        let Some(kept) = find(self, token).await? else {
            return Ok(None);
        };
        let roles = kept.principal.roles.iter().map(String::as_str);
        Ok(Some(Introspection {
            caller: Caller::of_tenant(&kept.tenant, kept.principal.id.as_str(), roles),
            expires_at_ms: Some(kept.expires_at_ms),
            bound_to: None,
        }))
    }
}
