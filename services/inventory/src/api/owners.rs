//! Owners.

use counterfoil_chassis::{
    ApiError, Caller, RecordDraft,
    idempotency::{self, Begun},
    names::PrincipalName,
};
use counterfoil_evidence::{leaf::canonical_identity_key, v1};
use counterfoil_proto::{
    authority::{GetPrincipalRequest, Principal},
    inventory::{SetOwnerRequest, SetOwnerResponse},
};
use tonic::Code;

use super::{
    Api, EVIDENCE_PATIENCE,
    names::{self, AccountName, EntitlementName},
    places,
};
use crate::{
    model::facts::Id,
    store::{entities::Kind, listing, owners},
};

/// What gets an owner.
struct Object {
    tenant: String,
    kind: Kind,
    id: Id,
}

impl Object {
    fn parse(name: &str) -> Result<Self, ApiError> {
        let (tenant, kind, id) = if let Ok(account) = AccountName::parse(name) {
            (account.tenant, Kind::Account, account.account)
        } else {
            let name = EntitlementName::parse(name).map_err(|_| {
                let pattern = "must be the name of an account or an entitlement";
                ApiError::invalid("object", pattern)
            })?;
            (name.tenant, Kind::Entitlement, name.entitlement)
        };
        let id = names::id(&id)?;
        Ok(Self { tenant, kind, id })
    }

    /// As records and the store name it.
    fn short(&self) -> String {
        match self.kind {
            Kind::Account => owners::account_object(&self.id),
            Kind::Entitlement => owners::entitlement_object(&self.id),
        }
    }
}

pub(super) async fn set_owner(
    api: &Api,
    caller: &Caller,
    request: SetOwnerRequest,
) -> Result<SetOwnerResponse, ApiError> {
    let object = Object::parse(&request.object)?;
    caller.require_tenant(&object.tenant)?;
    let owner = PrincipalName::parse_field("owner", &request.owner)?;
    if owner.tenant != object.tenant {
        return Err(ApiError::invalid("owner", "is of another tenant"));
    }
    api.tenants.require_active(&object.tenant).await?;
    if caller.operator().is_some() {
        let environment = listing::environment(&api.db, &object.tenant, object.kind, &object.id);
        let environment = environment.await?.ok_or_else(ApiError::not_found)?;
        places::require_reach(api, caller, &environment).await?;
    }
    let owner_key = owner_key(api, &owner).await?;
    let mut tx = api.db.write_tx(&object.tenant).await?;
    let id = &request.request_id;
    let fresh = match idempotency::begin(&mut tx, caller, "SetOwner", id, &request).await? {
        Begun::Replay(answer) => return settled(api, &object.tenant, answer).await,
        Begun::Fresh(fresh) => fresh,
    };
    if !listing::is_there(&mut tx, object.kind, &object.id).await? {
        return Err(ApiError::not_found());
    }
    let now_ms = api.clock.now_ms();
    let short = object.short();
    owners::set(&mut tx, &short, &owner.principal, &owner_key, now_ms).await?;
    let payload = v1::OwnershipSet {
        object: short.clone(),
        role: v1::OwnershipRole::Accountable.into(),
        owner: format!("principals/{}", owner.principal),
    };
    let draft = RecordDraft::new(&payload, caller.actor(), now_ms)
        .subject(short)
        .subject(payload.owner.clone());
    let emitted = api.outbox.emit(&mut tx, draft).await?;
    let answer = SetOwnerResponse {
        receipt: Some(emitted.pending_receipt()),
    };
    fresh.store(&mut tx, &answer, now_ms).await?;
    // If we crash here: owner, record and answer are there together, or none of them is.
    tx.commit().await?;
    settled(api, &object.tenant, answer).await
}

/// The key by which sources know the owner; a principal that no source knows counts by its own name.
async fn owner_key(api: &Api, owner: &PrincipalName) -> Result<String, ApiError> {
    let request = GetPrincipalRequest {
        name: owner.to_string(),
    };
    let found: Principal = match api.principals.clone().get_principal(request).await {
        Ok(answer) => answer.into_inner().principal.unwrap_or_default(),
        // What authority calls no name is the name of nobody.
        Err(status) if [Code::NotFound, Code::InvalidArgument].contains(&status.code()) => {
            return Err(ApiError::invalid(
                "owner",
                "is not a principal of the tenant",
            ));
        }
        Err(status) => return Err(ApiError::from_peer("authority", status)),
    };
    if found.end_time.is_some() {
        let message = "the owner's principal has ended";
        return Err(ApiError::failed_precondition("PRINCIPAL_ENDED", message));
    }
    if found.identity_key.is_empty() {
        return Ok(format!("principals/{}", owner.principal));
    }
    Ok(canonical_identity_key(&found.identity_key))
}

async fn settled(
    api: &Api,
    tenant: &str,
    mut answer: SetOwnerResponse,
) -> Result<SetOwnerResponse, ApiError> {
    api.outbox
        .settle(tenant, &mut answer.receipt, EVIDENCE_PATIENCE)
        .await?;
    Ok(answer)
}
