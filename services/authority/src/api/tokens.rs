//! API tokens: issued once, kept as a hash, refused at once when revoked, expired, or their principal has ended.
//!
//! Who can issue a token can act as its principal, so issuing and revoking are on record (R88).

use async_trait::async_trait;
use counterfoil_chassis::{
    ApiError, Caller,
    auth::{Bearer, Introspection, Introspector, Token},
    clock::timestamp,
    names::{PrincipalName, tenant_field},
};
use counterfoil_evidence::v1::{CredentialIssued, CredentialRevoked, RolePermissions};
use counterfoil_proto::authority as proto;
use sha2::{Digest as _, Sha256};

use super::{
    Api, agents,
    change::{Asked, Change, REVOKE_TOKEN},
    convert, emergencies, policies,
};
use crate::{
    error::{AgentRefusal, Refusal},
    model::{
        credential::{
            CredentialKind, Own, TokenTerms, calls_from_elsewhere, has_say, is_machine_for_human,
        },
        ids::PrincipalId,
        principal::Principal,
        tenant::{Tenant, TenantState},
    },
    store::{
        self, Connection, From,
        tokens::{KeptToken, ListedToken, NewToken},
    },
};

pub(super) async fn issue_token(
    api: &Api,
    caller: &Caller,
    request: proto::IssueTokenRequest,
) -> Result<proto::IssueTokenResponse, ApiError> {
    let name = PrincipalName::parse_field("principal", &request.principal)?;
    // No request id: the answer has the secret, which is stored nowhere. Who loses it issues another.
    let mut change = match api
        .begin(caller, &name.tenant, "IssueToken", "", &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let id = convert::id("principal", PrincipalId::parse(&name.principal))?;
    let (principal, own) = change.require_issuer_for(caller, &id).await?;
    let terms = TokenTerms::read(
        request.ttl_seconds,
        &request.scopes,
        &request.certificate_sha256,
        |scope| api.permissions.knows(scope),
    )
    .map_err(Refusal::from)?;
    if let Some(own) = &own {
        own.may_issue(&terms).map_err(Refusal::from)?;
    }
    let issued_with = own.map(|own| own.id).unwrap_or_default();
    let token = Token::generate().map_err(ApiError::internal)?;
    let expires_at_ms = change.now_ms.saturating_add(terms.ttl_ms);
    let payload = CredentialIssued {
        credential: token.id().to_owned(),
        kind: CredentialKind::ApiToken.into(),
        principal: principal.id.in_records(),
        scopes: terms.scopes.clone(),
        valid_to_ms: expires_at_ms,
        issued_with: issued_with.clone(),
        secret_tag: Sha256::digest(token.sha256()).to_vec(),
        certificate_sha256: terms
            .certificate_sha256
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
    };
    let draft = change.draft(&payload, principal.id.in_records());
    let emitted = api.emit(&mut change, draft).await?;
    let kept = NewToken {
        id: token.id(),
        principal: id.as_str(),
        sha256: token.sha256(),
        scopes: &terms.scopes,
        certificate_sha256: terms.certificate_sha256,
        issued_by: caller.actor(),
        issued_with: &issued_with,
        issued_at_ms: change.now_ms,
        expires_at_ms,
    };
    store::tokens::insert(change.tx.conn(), &name.tenant, &kept).await?;
    let answer = proto::IssueTokenResponse {
        token: token.expose().to_owned(),
        token_id: token.id().to_owned(),
        expire_time: Some(timestamp(expires_at_ms)),
        receipt: Some(emitted.pending_receipt()),
    };
    // If we crash here: there is no token. After the commit and before the answer: one that nobody knows and that expires.
    api.finish(change, answer).await
}

impl Change {
    /// The principal that is given a credential, if whoever asks may give it, and with which credential of theirs; `None`:
    /// somebody of the deployment asks, which is only while the tenant is set up.
    pub(super) async fn require_issuer_for(
        &mut self,
        caller: &Caller,
        id: &PrincipalId,
    ) -> Result<(Principal, Option<Own>), ApiError> {
        let tenant = self.tenant.id.clone();
        // The tenant's lock: a principal that ends meanwhile gets nothing.
        let found = store::principals::get(self.tx.conn(), &tenant, id).await?;
        let principal = found.ok_or_else(ApiError::not_found)?;
        if !principal.is_active() {
            return Err(Refusal::PrincipalEnded.into());
        }
        if calls_from_elsewhere(self.tenant.kind, &principal) {
            return Err(Refusal::TokenOfOwnTenant.into());
        }
        if store::mandates::is_revoked(self.tx.conn(), &tenant, id).await? {
            return Err(AgentRefusal::AgentRevoked.into());
        }
        let Some((issuer, own)) = self.presented(caller).await? else {
            return Ok((principal, None));
        };
        if !has_say(self.tenant.kind, &issuer, &principal) {
            return Err(Refusal::CallerNotCustomer.into());
        }
        if is_machine_for_human(&issuer, &principal) {
            return Err(Refusal::HumanRequired.into());
        }
        Ok((principal, Some(own)))
    }

    /// Refuses who may not take credentials of this principal away.
    pub(super) async fn require_say_in(
        &mut self,
        caller: &Caller,
        principal: &str,
    ) -> Result<(), ApiError> {
        let Some((issuer, _)) = self.presented(caller).await? else {
            return Ok(());
        };
        let tenant = self.tenant.id.clone();
        let id = PrincipalId::stored(principal.to_owned());
        let holder = store::principals::get(self.tx.conn(), &tenant, &id).await?;
        match holder {
            Some(holder) if has_say(self.tenant.kind, &issuer, &holder) => Ok(()),
            _ => Err(Refusal::CallerNotCustomer.into()),
        }
    }

    /// Who asks, with the credential that they have presented. The gate has looked at it up to a second ago: under the tenant's
    /// lock it is looked at again. `None`: somebody of the deployment asks.
    async fn presented(&mut self, caller: &Caller) -> Result<Option<(Principal, Own)>, ApiError> {
        let Some(id) = self.caller().cloned() else {
            return Ok(None);
        };
        // Whoever acts for a customer as one of its principals has presented a credential of another tenant.
        let credential = caller.credential().ok_or(Refusal::CallerNotCustomer)?;
        let (tenant, now_ms) = (self.tenant.id.clone(), self.now_ms);
        let conn = self.tx.conn();
        let issuer = store::principals::get(conn, &tenant, &id).await?;
        let issuer = issuer.filter(Principal::is_active);
        let own = in_force(conn, (&tenant, &id), credential, now_ms).await?;
        let (Some(issuer), Some((term_ms, scopes))) = (issuer, own) else {
            return Err(ApiError::unauthenticated());
        };
        let own = Own {
            id: credential.to_owned(),
            term_ms,
            scopes,
            bound: caller.is_bound(),
        };
        Ok(Some((issuer, own)))
    }

    /// Writes that a credential ends now.
    pub(super) fn revocation(&self, credential: &str) -> counterfoil_chassis::RecordDraft {
        let payload = CredentialRevoked {
            credential: credential.to_owned(),
            effective_ms: self.now_ms,
        };
        self.draft(&payload, format!("credentials/{credential}"))
    }
}

/// How long a credential of a principal was to live and what it is limited to, as the tables say while the tenant's lock is held.
/// `None`: it is not in force, or not theirs.
pub(super) async fn in_force(
    connection: &mut Connection,
    (tenant, principal): (&str, &PrincipalId),
    credential: &str,
    now_ms: i64,
) -> Result<Option<(Option<i64>, Vec<String>)>, ApiError> {
    let token = store::tokens::get(connection, tenant, credential).await?;
    let found = match token {
        Some(token) => {
            let good = token.revoked_at_ms.is_none() && now_ms < token.expires_at_ms;
            good.then_some((token.principal, Some(token.term_ms), token.scopes))
        }
        None => store::logins::get(connection, tenant, credential)
            .await?
            .filter(|login| login.unlinked_at_ms.is_none())
            .map(|login| (login.principal, None, Vec::new())),
    };
    let found = found.filter(|(holder, ..)| holder == principal.as_str());
    Ok(found.map(|(_, term_ms, scopes)| (term_ms, scopes)))
}

pub(super) async fn revoke_token(
    api: &Api,
    caller: &Caller,
    request: proto::RevokeTokenRequest,
) -> Result<proto::RevokeTokenResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let mut change = match api
        .begin(caller, &tenant, REVOKE_TOKEN, "", &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let found = store::tokens::get(change.tx.conn(), &tenant, &request.token_id).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    change.require_say_in(caller, &found.principal).await?;
    if found.revoked_at_ms.is_some() {
        change.tx.rollback().await?;
        return Ok(proto::RevokeTokenResponse::default());
    }
    // Tokens from before R88 have no record that one could refer to.
    let receipt = if found.issued_by.is_empty() {
        None
    } else {
        let draft = change.revocation(&request.token_id);
        Some(api.emit(&mut change, draft).await?.pending_receipt())
    };
    let now_ms = change.now_ms;
    store::tokens::revoke(change.tx.conn(), &tenant, &request.token_id, now_ms).await?;
    // If we crash here: the token still works and the caller has no answer, so it asks again.
    api.finish(change, proto::RevokeTokenResponse { receipt })
        .await
}

pub(super) async fn list_tokens(
    api: &Api,
    caller: &Caller,
    request: proto::ListTokensRequest,
) -> Result<proto::ListTokensResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListTokens", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::tokens::list(reader.conn(), &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.clone().into_bytes());
    Ok(proto::ListTokensResponse {
        tokens: rows.iter().map(|row| listed(&tenant, row)).collect(),
        next_page_token,
    })
}

fn listed(tenant: &str, token: &ListedToken) -> proto::ApiToken {
    proto::ApiToken {
        token_id: token.id.clone(),
        principal: PrincipalId::stored(token.principal.clone()).name(tenant),
        scopes: token.scopes.clone(),
        issue_time: Some(timestamp(token.issued_at_ms)),
        issuer: token.issued_by.clone(),
        expire_time: Some(timestamp(token.expires_at_ms)),
        revoke_time: token.revoked_at_ms.map(timestamp),
        last_used_time: token.last_used_at_ms.map(timestamp),
        certificate_sha256: token
            .certificate_sha256
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
    }
}

pub(super) async fn introspect_token(
    api: &Api,
    _caller: &Caller,
    request: proto::IntrospectTokenRequest,
) -> Result<proto::IntrospectTokenResponse, ApiError> {
    let bearer = Bearer::parse(&request.token).ok_or_else(ApiError::unauthenticated)?;
    let found = api
        .presented(&bearer)
        .await?
        .ok_or_else(ApiError::unauthenticated)?;
    Ok(proto::IntrospectTokenResponse {
        role_permissions: found
            .role_permissions
            .iter()
            .map(convert::kept_by_role)
            .collect(),
        principal: found.principal.id.name(&found.tenant),
        roles: found.principal.roles,
        expire_time: Some(timestamp(found.expires_at_ms)),
        scopes: found.scopes,
        certificate_sha256: found
            .certificate_sha256
            .map(|hash| hash.to_vec())
            .unwrap_or_default(),
    })
}

/// Whom a bearer makes its presenter.
pub(super) struct Presented {
    pub(super) tenant: String,
    /// Public id of the credential.
    pub(super) credential: String,
    pub(super) principal: Principal,
    pub(super) scopes: Vec<String>,
    /// What the policy in force leaves to which roles.
    pub(super) role_permissions: Vec<RolePermissions>,
    pub(super) certificate_sha256: Option<[u8; 32]>,
    pub(super) expires_at_ms: i64,
}

impl Api {
    /// Who presents this now. `None`: nobody, or no longer.
    async fn presented(&self, bearer: &Bearer) -> Result<Option<Presented>, ApiError> {
        let found = match bearer {
            Bearer::Token(token) => self.presented_token(token).await?,
            Bearer::Jwt(text) => self.presented_jwt(text).await?,
        };
        let Some(mut found) = found else {
            return Ok(None);
        };
        let mut reader = self.db.read(&found.tenant).await?;
        let tenant = store::tenants::get(&mut reader, &found.tenant).await?;
        let good = |tenant: &Tenant| {
            // From before providers had tenants of their own: what was issued then would let them act unseen.
            let elsewhere = calls_from_elsewhere(tenant.kind, &found.principal);
            tenant.state != TenantState::Closed && !elsewhere
        };
        if !tenant.as_ref().is_some_and(good) {
            return Ok(None);
        }
        // What access in an emergency gives is known no longer than that lasts.
        let who = (found.tenant.as_str(), &found.principal.id);
        let now_ms = self.clock.now_ms();
        let (roles, end_ms) = emergencies::roles(&mut reader, who, now_ms).await?;
        if let Some(end_ms) = end_ms {
            found.expires_at_ms = found.expires_at_ms.min(end_ms);
            found.principal.roles.extend(roles);
            found.principal.roles.sort_unstable();
            found.principal.roles.dedup();
        }
        let kept = policies::kept_by_roles(&mut reader, &found.tenant, now_ms).await?;
        let who = (found.tenant.as_str(), &found.principal);
        let (kept, until_ms) = agents::leave_to_roles(self, &mut reader, who, kept).await?;
        found.role_permissions = kept;
        found.expires_at_ms = found.expires_at_ms.min(until_ms);
        Ok(Some(found))
    }

    async fn presented_token(&self, token: &Token) -> Result<Option<Presented>, ApiError> {
        // Whose the token is, only the token says.
        let mut reader = self.db.read_everything("whose a token is").await?;
        let found = store::tokens::find(reader.conn(), token.id()).await?;
        let now_ms = self.clock.now_ms();
        let good = |kept: &KeptToken| {
            // Hashes of 256 random bits: how long comparing them takes tells nothing that helps to find one.
            kept.sha256 == token.sha256()
                && kept.revoked_at_ms.is_none()
                && kept.principal.is_active()
                && now_ms < kept.expires_at_ms
        };
        let Some(kept) = found.filter(good) else {
            return Ok(None);
        };
        self.uses.note(&kept.tenant, token.id(), now_ms);
        Ok(Some(Presented {
            tenant: kept.tenant,
            credential: token.id().to_owned(),
            principal: kept.principal,
            scopes: kept.scopes,
            role_permissions: Vec::new(),
            certificate_sha256: kept.certificate_sha256,
            expires_at_ms: kept.expires_at_ms,
        }))
    }
}

#[async_trait]
impl Introspector for Api {
    async fn introspect(&self, bearer: &Bearer) -> Result<Option<Introspection>, ApiError> {
        let Some(found) = self.presented(bearer).await? else {
            return Ok(None);
        };
        let roles = found.principal.roles.iter().map(String::as_str);
        let caller = Caller::of_tenant(&found.tenant, found.principal.id.as_str(), roles);
        let kept = found.role_permissions.iter();
        let kept = kept.map(|one| (one.role.as_str(), one.permissions.clone()));
        let bound = found.certificate_sha256.is_some();
        Ok(Some(Introspection {
            caller: caller
                .limited_to(found.scopes)
                .narrowed_to(kept)
                .presenting(found.credential, bound),
            expires_at_ms: Some(found.expires_at_ms),
            bound_to: found.certificate_sha256,
        }))
    }
}
