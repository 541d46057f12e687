//! Logins at identity providers: a subject there is a principal here.

use counterfoil_chassis::{
    ApiError, Caller,
    clock::timestamp,
    names::{PrincipalName, new_id},
};
use counterfoil_evidence::v1::CredentialIssued;
use counterfoil_proto::authority as proto;

use super::{
    Api,
    change::{Asked, UNLINK_LOGIN},
    convert::{self, LoginName},
    tokens::Presented,
};
use crate::{
    error::Refusal,
    model::{
        Faults,
        credential::{CredentialKind, is_subject},
        ids::PrincipalId,
        tenant::TenantState,
    },
    store::{self, From, logins::Login},
};

pub(super) async fn link_login(
    api: &Api,
    caller: &Caller,
    request: proto::LinkLoginRequest,
) -> Result<proto::LinkLoginResponse, ApiError> {
    let name = PrincipalName::parse_field("principal", &request.principal)?;
    let tenant = name.tenant.clone();
    let mut change = match api
        .begin(caller, &tenant, "LinkLogin", &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    let id = convert::id("principal", PrincipalId::parse(&name.principal))?;
    let (principal, own) = change.require_issuer_for(caller, &id).await?;
    // What the deployment issues ends soon after the activation, and so does what was made with it; a login does not end.
    let own = own.ok_or(Refusal::PrincipalRequired)?;
    if change.tenant.state == TenantState::Onboarding {
        return Err(Refusal::TenantState(change.tenant.state).into());
    }
    own.may_link().map_err(Refusal::from)?;
    if !is_subject(&request.subject) {
        let what = "must have 1 to 255 bytes and no control character";
        return Err(Refusal::from(Faults::one("subject", what)).into());
    }
    if !api.issuers.speaks_for(&request.issuer, &tenant) {
        return Err(Refusal::IssuerUnknown.into());
    }
    let taken =
        store::logins::find(change.tx.conn(), &tenant, &request.issuer, &request.subject).await?;
    if taken.is_some() {
        return Err(Refusal::LoginExists.into());
    }
    let login = Login {
        id: new_id(change.now_ms),
        issuer: request.issuer,
        subject: request.subject,
        principal: id.as_str().to_owned(),
        linked_at_ms: change.now_ms,
        issued_with: own.id,
        unlinked_at_ms: None,
    };
    let payload = CredentialIssued {
        credential: login.id.clone(),
        kind: CredentialKind::OidcLogin.into(),
        principal: principal.id.in_records(),
        issued_with: login.issued_with.clone(),
        ..CredentialIssued::default()
    };
    let draft = change
        .draft(&payload, principal.id.in_records())
        .commit("issuer", login.issuer.as_bytes())
        .commit("subject", login.subject.as_bytes());
    let emitted = api.emit(&mut change, draft).await?;
    store::logins::insert(change.tx.conn(), &tenant, &login).await?;
    let answer = proto::LinkLoginResponse {
        login: Some(listed(&tenant, &login)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn unlink_login(
    api: &Api,
    caller: &Caller,
    request: proto::UnlinkLoginRequest,
) -> Result<proto::UnlinkLoginResponse, ApiError> {
    let name = LoginName::parse_field("name", &request.name)?;
    let tenant = name.tenant;
    let mut change = match api
        .begin(caller, &tenant, UNLINK_LOGIN, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let found = store::logins::get(change.tx.conn(), &tenant, &name.login).await?;
    let found = found.ok_or_else(ApiError::not_found)?;
    change.require_say_in(caller, &found.principal).await?;
    if found.unlinked_at_ms.is_some() {
        return Err(Refusal::LoginUnlinked.into());
    }
    let draft = change.revocation(&found.id);
    let emitted = api.emit(&mut change, draft).await?;
    let now_ms = change.now_ms;
    store::logins::unlink(change.tx.conn(), &tenant, &found.id, now_ms).await?;
    let unlinked = Login {
        unlinked_at_ms: Some(now_ms),
        ..found
    };
    let answer = proto::UnlinkLoginResponse {
        login: Some(listed(&tenant, &unlinked)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn list_logins(
    api: &Api,
    caller: &Caller,
    request: proto::ListLoginsRequest,
) -> Result<proto::ListLoginsResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListLogins", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::logins::list(reader.conn(), &tenant, From::page(&page)?).await?;
    let next_page_token = page.cut(&mut rows, |row| row.id.clone().into_bytes());
    Ok(proto::ListLoginsResponse {
        logins: rows.iter().map(|row| listed(&tenant, row)).collect(),
        next_page_token,
    })
}

fn listed(tenant: &str, login: &Login) -> proto::Login {
    let name = LoginName {
        tenant: tenant.to_owned(),
        login: login.id.clone(),
    };
    proto::Login {
        name: name.to_string(),
        principal: PrincipalId::stored(login.principal.clone()).name(tenant),
        issuer: login.issuer.clone(),
        subject: login.subject.clone(),
        link_time: Some(timestamp(login.linked_at_ms)),
        unlink_time: login.unlinked_at_ms.map(timestamp),
    }
}

impl Api {
    /// Who presents a JWT now: the issuer vouches for the subject, the link says who that is in the tenant.
    pub(super) async fn presented_jwt(&self, text: &str) -> Result<Option<Presented>, ApiError> {
        let Some(signed_in) = self.issuers.verify(text) else {
            return Ok(None);
        };
        let mut reader = self.db.read(&signed_in.tenant).await?;
        let found = store::logins::find(
            &mut reader,
            &signed_in.tenant,
            &signed_in.issuer,
            &signed_in.subject,
        )
        .await?;
        let found = found.filter(|(_, principal)| principal.is_active());
        Ok(found.map(|(credential, principal)| Presented {
            tenant: signed_in.tenant,
            credential,
            principal,
            scopes: Vec::new(),
            role_permissions: Vec::new(),
            certificate_sha256: signed_in.bound_to,
            expires_at_ms: signed_in.expires_at_ms,
        }))
    }
}
