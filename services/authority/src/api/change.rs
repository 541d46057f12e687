//! What every change of a tenant has in common: the tenant's lock, the same answer to the same request id, the records in
//! the same transaction, and receipts in the answer.

use counterfoil_chassis::{
    ApiError, Caller, EmittedRecord, RecordDraft, Role, WriteTx,
    idempotency::{self, Begun, Fresh},
};
use counterfoil_evidence::v1::Accountability;
use counterfoil_proto::{authority as proto, common::Receipt};
use prost::{Message, Name};

use super::{
    Api, EVIDENCE_PATIENCE,
    mandates::{REVOKE_MANDATE, SUSPEND_MANDATE},
    operators, tokens,
};
use crate::{
    error::Refusal,
    model::{
        ids::PrincipalId,
        principal::{OrganizationKind, Principal},
        tenant::{Step, Tenant, TenantKind, TenantState, allows, is_set_up_by_deployment},
    },
    store,
};

/// Short name of the rpc that ends the set-up of a tenant.
pub(super) const ACTIVATE_TENANT: &str = "ActivateTenant";

/// Short names of the rpcs that take a credential away: whoever runs the deployment may do that at any time, since it gives
/// nobody a say.
pub(super) const REVOKE_TOKEN: &str = "RevokeToken";
/// See [`REVOKE_TOKEN`].
pub(super) const UNLINK_LOGIN: &str = "UnlinkLogin";
/// What an rpc asks of the tenant.
fn step_of(method: &str) -> Step {
    match method {
        "SuspendTenant" => Step::Suspend,
        "ResumeTenant" => Step::Resume,
        "BeginExit" => Step::BeginExit,
        "RecordEvidencePack" => Step::TakeEvidence,
        "CloseTenant" => Step::Close,
        "RevokeDecisionRight"
        | "RevokeDelegation"
        | "EndPrincipal"
        | "EndEmergencyAccess"
        | "ReviewEmergencyUse"
        | "EndEngagement"
        | "UnassignOperator"
        | "RevokeCompetency"
        | SUSPEND_MANDATE
        | REVOKE_MANDATE => Step::Wind,
        // Who owns something and must go is replaced first: nobody is ended who leaves it without an answerable human.
        "SetBusinessUnitOwner" | "SetEscalationPath" | "AssignResponsibility" => Step::Wind,
        // What must be kept must be kept of whoever leaves, too, and nothing else lets a tenant be closed under a hold.
        "PlaceLegalHold" | "ReleaseLegalHold" => Step::Wind,
        "CreatePrincipal" => Step::Join,
        // Whoever is to take the evidence along, or to let it go on, must be able to come in.
        "IssueToken" | REVOKE_TOKEN | "LinkLogin" | UNLINK_LOGIN => Step::Wind,
        _ => Step::Govern,
    }
}

/// Refuses the deployment's administrator where a tenant governs itself: after its onboarding its governance is neither theirs
/// to change nor to read.
pub(super) fn require_governing(caller: &Caller, tenant: &Tenant) -> Result<(), ApiError> {
    let of_deployment = caller.tenant().is_none() && caller.has(Role::Administrator);
    if of_deployment && !is_set_up_by_deployment(tenant.state) {
        return Err(Refusal::TenantGovernsItself.into());
    }
    Ok(())
}

/// A change in the making. Dropped without [`Api::finish`], it leaves nothing.
pub(crate) struct Change {
    pub(crate) tx: WriteTx,
    /// As it was before the change.
    pub(crate) tenant: Tenant,
    /// When the change happens.
    pub(crate) now_ms: i64,
    actor: String,
    /// Principal of the tenant that asks; `None`: someone of the deployment.
    caller: Option<PrincipalId>,
    /// Whether somebody of another tenant asks.
    foreign: bool,
    accountability: Option<Accountability>,
    fresh: Fresh,
}

/// A change, or the answer to the request when it was done before.
pub(crate) enum Asked<R> {
    /// It is new.
    New(Box<Change>),
    /// It was done: this is its answer.
    Done(R),
}

/// An answer that has receipts.
pub(crate) trait Answer: Message + Default {
    /// Its receipts.
    fn receipts(&mut self) -> Vec<&mut Receipt>;
}

macro_rules! answer_with_one_receipt {
    ($($answer:ident)*) => {$(
        impl Answer for proto::$answer {
            fn receipts(&mut self) -> Vec<&mut Receipt> {
                self.receipt.iter_mut().collect()
            }
        }
    )*};
}

answer_with_one_receipt! {
    CreateTenantResponse ActivateTenantResponse PublishPolicyResponse SetEscalationPathResponse
    SetRetentionPolicyResponse CreatePrincipalResponse EndPrincipalResponse SetBusinessUnitOwnerResponse
    RevokeDecisionRightResponse IssueTokenResponse RevokeTokenResponse LinkLoginResponse UnlinkLoginResponse
    RequestEngagementResponse ApproveEngagementResponse ExtendEngagementResponse EndEngagementResponse
    AssignOperatorResponse UnassignOperatorResponse AssignResponsibilityResponse SetEnvironmentSensitivityResponse
    SetPartnerTierResponse CompleteReassessmentResponse AttestControlResponse SubmitCompetencyResponse
    AcceptCompetencyResponse RevokeCompetencyResponse
    ApproveDecisionRightResponse GrantDelegationResponse RevokeDelegationResponse
    RequestEmergencyAccessResponse ApproveEmergencyAccessResponse EndEmergencyAccessResponse ReviewEmergencyUseResponse
    ProposeMandateResponse GrantMandateResponse CertifyMandateResponse SuspendMandateResponse ResumeMandateResponse
    RevokeMandateResponse PlaceLegalHoldResponse ReleaseLegalHoldResponse
    SuspendTenantResponse ResumeTenantResponse BeginExitResponse RecordEvidencePackResponse CloseTenantResponse
}

impl Answer for proto::SetAbsenceResponse {
    fn receipts(&mut self) -> Vec<&mut Receipt> {
        self.receipts.iter_mut().collect()
    }
}

impl Answer for proto::BatchCreatePrincipalsResponse {
    fn receipts(&mut self) -> Vec<&mut Receipt> {
        self.responses
            .iter_mut()
            .flat_map(|one| &mut one.receipt)
            .collect()
    }
}

impl Answer for proto::GrantDecisionRightsResponse {
    fn receipts(&mut self) -> Vec<&mut Receipt> {
        self.receipts.iter_mut().collect()
    }
}

/// What a job changes, nobody waits for.
impl Answer for () {
    fn receipts(&mut self) -> Vec<&mut Receipt> {
        Vec::new()
    }
}

impl Answer for proto::CreateOrganizationResponse {
    fn receipts(&mut self) -> Vec<&mut Receipt> {
        Vec::new()
    }
}

impl Api {
    /// Begins a change of a tenant. `method` is the rpc's short name.
    ///
    /// # Errors
    /// NOT_FOUND when there is no such tenant for the caller; PERMISSION_DENIED when it governs itself and the caller is the
    /// deployment's administrator; UNAUTHENTICATED when the caller, or the credential that they presented, has ended since they were let in.
    pub(crate) async fn begin<R: Answer>(
        &self,
        caller: &Caller,
        tenant: &str,
        method: &'static str,
        request_id: &str,
        request: &impl Message,
    ) -> Result<Asked<R>, ApiError> {
        caller.require_tenant(tenant)?;
        self.begin_in(caller, tenant, method, request_id, request)
            .await
    }

    /// Begins to bring an engagement to its end, where there is anybody to tell: `None` in a tenant that is closed.
    pub(crate) async fn begin_to_end(
        &self,
        caller: &Caller,
        tenant: &str,
    ) -> Result<Option<Box<Change>>, ApiError> {
        match self
            .begin_in(caller, tenant, "EndEngagement", "", &())
            .await
        {
            Ok(Asked::New(change)) => Ok(Some(change)),
            Ok(Asked::Done(())) => Ok(None),
            Err(error) if error.reason() == "TENANT_STATE" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for whoever has been let into the tenant: also somebody of a provider, whom the records name in full.
    pub(crate) async fn begin_in<R: Answer>(
        &self,
        caller: &Caller,
        tenant: &str,
        method: &'static str,
        request_id: &str,
        request: &impl Message,
    ) -> Result<Asked<R>, ApiError> {
        let mut tx = self.db.write_tx(tenant).await?;
        let found = store::tenants::get(tx.conn(), tenant).await?;
        let tenant = found.ok_or_else(ApiError::not_found)?;
        let own = self.own_caller(&mut tx, caller).await?;
        let fresh = match idempotency::begin(&mut tx, caller, method, request_id, request).await? {
            Begun::Fresh(fresh) => fresh,
            Begun::Replay(answer) => {
                tx.rollback().await?;
                return Ok(Asked::Done(self.settled(&tenant.id, answer).await?));
            }
        };
        // Activating again what is active answers with the activation that happened.
        if method != ACTIVATE_TENANT {
            let step = step_of(method);
            let of_anybody = [REVOKE_TOKEN, UNLINK_LOGIN].contains(&method)
                || matches!(step, Step::Suspend | Step::Resume | Step::Close);
            if !of_anybody {
                require_governing(caller, &tenant)?;
            }
            if !allows(tenant.state, step) {
                return Err(Refusal::TenantState(tenant.state).into());
            }
        }
        let now_ms = self.clock.now_ms();
        let accountability = accountability(&mut tx, &tenant.id, now_ms).await?;
        let foreign = caller.tenant().is_some() && own.is_none();
        Ok(Asked::New(Box::new(Change {
            tx,
            now_ms,
            actor: match foreign {
                true => caller.principal().to_owned(),
                false => caller.actor().to_owned(),
            },
            caller: own,
            foreign,
            accountability,
            fresh,
            tenant,
        })))
    }

    /// The caller, if they are a principal of the tenant, whose lock is held: while they waited for it, they may have ended, or
    /// the credential that they presented, or what they act on as an operator.
    async fn own_caller(
        &self,
        tx: &mut WriteTx,
        caller: &Caller,
    ) -> Result<Option<PrincipalId>, ApiError> {
        let tenant = tx.tenant().to_owned();
        if caller.tenant() != Some(&tenant) {
            return Ok(None);
        }
        operators::look_again(self, tx, caller).await?;
        let id = caller.principal().rsplit('/').next().unwrap_or_default();
        let id = PrincipalId::stored(id.to_owned());
        let found = store::principals::get(tx.conn(), &tenant, &id).await?;
        if found.is_some_and(|one| !one.is_active()) {
            return Err(ApiError::unauthenticated());
        }
        // Whoever acts as an operator has presented a credential of their own tenant, which was looked at when they were let in.
        if let Some(credential) = caller.credential() {
            let now_ms = self.clock.now_ms();
            let own = tokens::in_force(tx.conn(), (&tenant, &id), credential, now_ms).await?;
            own.ok_or_else(ApiError::unauthenticated)?;
        }
        Ok(Some(id))
    }

    /// Makes a change durable, with its records and its answer, and waits a little for the receipts.
    pub(crate) async fn finish<R: Answer>(&self, change: Change, answer: R) -> Result<R, ApiError> {
        let Change {
            mut tx,
            tenant,
            now_ms,
            fresh,
            ..
        } = change;
        fresh.store(&mut tx, &answer, now_ms).await?;
        // If we crash here: nothing has happened. After the commit the same request id gets the stored answer, and the
        // relay finds the records.
        tx.commit().await?;
        self.settled(&tenant.id, answer).await
    }

    /// An answer whose receipts are LOGGED as far as they come in time.
    pub(crate) async fn settled<R: Answer>(
        &self,
        tenant: &str,
        mut answer: R,
    ) -> Result<R, ApiError> {
        let receipts = answer.receipts();
        self.outbox
            .settle(tenant, receipts, EVIDENCE_PATIENCE)
            .await?;
        Ok(answer)
    }

    /// Writes a record of a change.
    pub(crate) async fn emit(
        &self,
        change: &mut Change,
        draft: RecordDraft,
    ) -> Result<EmittedRecord, ApiError> {
        Ok(self.outbox.emit(&mut change.tx, draft).await?)
    }

    /// Writes many records of a change.
    pub(crate) async fn emit_many(
        &self,
        change: &mut Change,
        drafts: Vec<RecordDraft>,
    ) -> Result<Vec<EmittedRecord>, ApiError> {
        Ok(self.outbox.emit_many(&mut change.tx, drafts).await?)
    }
}

impl Change {
    /// Principal of the tenant that asks; `None`: someone of the deployment.
    pub(super) fn caller(&self) -> Option<&PrincipalId> {
        self.caller.as_ref()
    }

    /// A record by whoever asks, about `subject`.
    pub(crate) fn draft<P: Message + Name>(
        &self,
        payload: &P,
        subject: impl Into<String>,
    ) -> RecordDraft {
        let draft = RecordDraft::new(payload, &self.actor, self.now_ms).subject(subject);
        match &self.accountability {
            Some(accountability) => draft.accountability(accountability.clone()),
            None => draft,
        }
    }

    /// Records of this change cite this policy as the one in force.
    pub(crate) fn cite_policy(&mut self, bundle_hash: [u8; 32]) {
        self.accountability.get_or_insert_default().policy = bundle_hash.to_vec();
    }

    /// Refuses what only an active tenant does.
    pub(super) fn require_active(&self) -> Result<(), ApiError> {
        match self.tenant.state {
            TenantState::Active => Ok(()),
            other => Err(Refusal::TenantState(other).into()),
        }
    }

    /// The caller, who must be a principal of the tenant.
    pub(super) fn require_principal(&self) -> Result<PrincipalId, ApiError> {
        let caller = self.caller.clone();
        caller.ok_or_else(|| Refusal::PrincipalRequired.into())
    }

    /// Refuses who does not administer the tenant for the customer.
    pub(super) async fn require_customer_administrator(
        &mut self,
        caller: &Caller,
    ) -> Result<(), ApiError> {
        if !caller.has(Role::TenantAdministrator) {
            return Err(Refusal::CallerNotCustomer.into());
        }
        self.require_customer_caller().await
    }

    /// Refuses callers of a tenant who do not act for the customer: who operates the process does not govern it (A12).
    /// Someone of the deployment onboards for the customer; the record names them.
    pub(crate) async fn require_customer_caller(&mut self) -> Result<(), ApiError> {
        self.require_caller_of(OrganizationKind::Customer).await
    }

    /// The same, where a provider's own tenant is governed by the provider.
    pub(crate) async fn require_governing_caller(&mut self) -> Result<(), ApiError> {
        self.require_caller_of(self.governing_kind()).await
    }

    /// Whose people govern the tenant.
    pub(super) fn governing_kind(&self) -> OrganizationKind {
        match self.tenant.kind {
            TenantKind::Provider => OrganizationKind::Provider,
            TenantKind::Customer | TenantKind::Unspecified => OrganizationKind::Customer,
        }
    }

    /// The caller, if they are a human of whoever governs the tenant.
    async fn governing_human(&mut self) -> Result<Option<Principal>, ApiError> {
        let kind = self.governing_kind();
        let Some(caller) = &self.caller else {
            return Ok(None);
        };
        let found = store::principals::get(self.tx.conn(), &self.tenant.id, caller).await?;
        Ok(found.filter(|one| one.is_active_human_of(kind)))
    }

    /// Whether a human calls who is one of whoever governs the tenant.
    pub(super) async fn is_of_governing_human(&mut self) -> Result<bool, ApiError> {
        Ok(self.governing_human().await?.is_some())
    }

    /// The human of whoever governs the tenant who calls.
    pub(super) async fn require_governing_human(&mut self) -> Result<Principal, ApiError> {
        let found = self.governing_human().await?;
        found.ok_or_else(|| Refusal::CallerNotCustomer.into())
    }

    async fn require_caller_of(&mut self, kind: OrganizationKind) -> Result<(), ApiError> {
        if self.foreign {
            return Err(Refusal::CallerNotCustomer.into());
        }
        let Some(caller) = &self.caller else {
            return Ok(());
        };
        let found = store::principals::get(self.tx.conn(), &self.tenant.id, caller).await?;
        match found {
            Some(caller) if caller.organization_kind == kind => Ok(()),
            _ => Err(Refusal::CallerNotCustomer.into()),
        }
    }

    /// The human of the customer who calls: what a provider may do is nobody else's to say (I-13).
    pub(crate) async fn require_customer_human(&mut self) -> Result<Principal, ApiError> {
        let caller = self.caller.clone().ok_or(Refusal::CallerNotCustomer)?;
        let found = store::principals::get(self.tx.conn(), &self.tenant.id, &caller).await?;
        let found = found.filter(|one| one.is_active_human_of(OrganizationKind::Customer));
        found.ok_or_else(|| Refusal::CallerNotCustomer.into())
    }

    /// The caller, who must be a principal of the tenant.
    pub(crate) async fn require_known(&mut self) -> Result<Principal, ApiError> {
        let id = self.require_principal()?;
        let found = store::principals::get(self.tx.conn(), &self.tenant.id, &id).await?;
        found.ok_or_else(ApiError::not_found)
    }
}

/// Who answers for what is changed, and the policy in force, as far as they are known. `None`: neither is.
pub(super) async fn accountability(
    tx: &mut WriteTx,
    tenant: &str,
    now_ms: i64,
) -> Result<Option<Accountability>, ApiError> {
    let owner = store::tenures::first(tx.conn(), tenant).await?;
    let policy = store::policies::in_force(tx.conn(), tenant, now_ms).await?;
    if owner.is_none() && policy.is_none() {
        return Ok(None);
    }
    Ok(Some(Accountability {
        accountable_owner: owner
            .map(|tenure| tenure.owner.in_records())
            .unwrap_or_default(),
        policy: policy
            .map(|bundle| bundle.hash().to_vec())
            .unwrap_or_default(),
        ..Accountability::default()
    }))
}
