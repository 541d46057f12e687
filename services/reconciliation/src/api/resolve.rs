//! Resolving a tripped threshold: a human lets a plan go on, or cancels it.

use counterfoil_chassis::{
    auth::Caller,
    db::WriteTx,
    error::ApiError,
    idempotency::{self, Begun},
};
use counterfoil_evidence::{
    leaf::{GrantKey, is_same_identity},
    v1::{FindingState, RemediationOutcome},
};
use counterfoil_proto::reconciliation::{ResolveThresholdRequest, ResolveThresholdResponse};

use super::{
    Api, convert,
    peers::authority::{Duty, Right},
    require_reason,
};
use crate::{
    context::{Asked, Context, cite},
    error::wrong_state,
    jobs,
    model::{
        entities::{Action, Remediation},
        ids::{Principal, RemediationKey},
        plan::FOUR_EYES,
        state::RemediationState,
    },
    records::{self, End, Stamp},
    store,
};

/// Refuses whoever is the human that planned it, by themselves or in whose name another asks, where two people are needed.
fn require_second(
    remediation: &Remediation,
    planners: &[Principal],
    principal: &Principal,
    stamp: &Stamp,
) -> Result<(), ApiError> {
    let mut who = stamp.on_behalf_of.iter().chain([principal]);
    let same = who.any(|one| planners.contains(one));
    if remediation.threshold_metric == FOUR_EYES && same {
        return Err(ApiError::permission_denied(
            "SECOND_HUMAN_REQUIRED",
            "another human than who planned it must let it go on",
        ));
    }
    Ok(())
}

impl Api {
    pub(super) async fn resolve(
        &self,
        caller: &Caller,
        request: ResolveThresholdRequest,
    ) -> Result<ResolveThresholdResponse, ApiError> {
        let key = Self::remediation_key(caller, "name", &request.name)?;
        require_reason(&request.reason)?;
        let tenants = &self.context.tenants;
        let tenant = match request.resume {
            true => tenants.require_active(&key.tenant).await?,
            false => tenants.require_under_way(&key.tenant).await?,
        };
        let Asked { stamp, rights, .. } = self
            .context
            .decision(&tenant.id, caller, Duty::Remediate)
            .await?;
        let principal = Context::principal(&tenant.id, caller)?;
        let human = self.human(&tenant.id, &principal).await?;
        let (superseded, planners) = match request.resume {
            true => tokio::try_join!(self.superseded(&key), self.planners(&key, human, &rights))?,
            false => (Vec::new(), Vec::new()),
        };

        let mut tx = self.context.db.write_tx(&tenant.id).await?;
        let (method, id) = ("ResolveThreshold", &request.request_id);
        let begun = idempotency::begin(&mut tx, caller, method, id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.settled_threshold(&tenant.id, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let mut remediation = locked(&mut tx, &key).await?;
        if remediation.state != RemediationState::Held {
            return Err(wrong_state(remediation.state));
        }
        let sources = store::actions::sources(tx.conn(), &key).await?;
        let stamp = cite(stamp, &rights, Duty::Remediate, |right| {
            right.covers(&sources)
        })?;
        if request.resume {
            require_second(&remediation, &planners, &principal, &stamp)?;
        }
        let draft = records::resolved(&stamp, &remediation, request.resume, &request.reason);
        let emitted = self.context.outbox.emit(&mut tx, draft).await?;
        let next = match request.resume {
            true => RemediationState::Approved,
            false => RemediationState::Cancelled,
        };
        store::remediations::advance(&mut tx, &key.remediation, RemediationState::Held, next)
            .await?;
        if request.resume {
            jobs::superseded::record(&self.context, &mut tx, &key, &stamp, &superseded).await?;
        } else {
            self.cancel(&mut tx, &key, &remediation, &stamp, emitted.record_hash)
                .await?;
        }
        remediation.state = next;
        let answer = ResolveThresholdResponse {
            remediation: Some(convert::remediation(&tenant.id, &remediation, 0)),
            receipt: Some(emitted.pending_receipt()),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        self.context.ring_on_commit(&mut tx);
        tx.commit().await?;
        self.settled_threshold(&tenant.id, answer).await
    }

    /// The actions of a held plan on which somebody has decided anew since it was made.
    async fn superseded(&self, key: &RemediationKey) -> Result<Vec<Action>, ApiError> {
        let actions = {
            let mut connection = self.context.db.read(&key.tenant).await?;
            store::actions::all(&mut connection, key).await?
        };
        let keys: Vec<GrantKey> = actions.iter().map(|action| action.key).collect();
        let recertification = &self.context.recertification;
        let newest = recertification.newest(&key.tenant, &keys).await?;
        Ok(newest.split(actions).1)
    }

    /// A principal that must be human, with its identity key.
    async fn human(
        &self,
        tenant: &str,
        principal: &Principal,
    ) -> Result<(Principal, String), ApiError> {
        let person = self.context.authority.person(tenant, principal).await?;
        if !person.human {
            return Err(ApiError::permission_denied(
                "HUMAN_REQUIRED",
                "only a human resolves a tripped threshold",
            ));
        }
        Ok((principal.clone(), person.identity_key))
    }

    /// Of somebody and those in whose names they may act, all who are the human that planned a remediation.
    async fn planners(
        &self,
        key: &RemediationKey,
        human: (Principal, String),
        rights: &[Right],
    ) -> Result<Vec<Principal>, ApiError> {
        let found = {
            let mut connection = self.context.db.read(&key.tenant).await?;
            store::remediations::get(&mut connection, key).await?
        };
        let planner = found.ok_or_else(ApiError::not_found)?.approver;
        let person = self.context.authority.person(&key.tenant, &planner).await?;
        let names = rights.iter().flat_map(|right| right.on_behalf_of.clone());
        let mut who: Vec<(Principal, String)> = names.chain([human]).collect();
        who.retain(|(one, identity_key)| {
            *one == planner || is_same_identity(identity_key, &person.identity_key)
        });
        Ok(who.into_iter().map(|(one, _)| one).collect())
    }

    async fn settled_threshold(
        &self,
        tenant: &str,
        mut answer: ResolveThresholdResponse,
    ) -> Result<ResolveThresholdResponse, ApiError> {
        self.settle(tenant, &mut answer.receipt).await?;
        Ok(answer)
    }

    /// R49, and the findings are open again.
    async fn cancel(
        &self,
        tx: &mut WriteTx,
        key: &RemediationKey,
        remediation: &Remediation,
        stamp: &Stamp,
        resolved: [u8; 32],
    ) -> Result<(), ApiError> {
        let actions = store::actions::all(tx.conn(), key).await?;
        let end = End {
            outcome: RemediationOutcome::Cancelled,
            verified_count: 0,
            open_count: remediation.actions_count,
            p50_ms: 0,
            max_ms: 0,
        };
        let reopened = actions.iter().map(|action| {
            let (state, evidence) = (FindingState::Open, Some(resolved));
            records::finding_changed(stamp, &action.finding, state, 0, evidence)
        });
        let drafts: Vec<_> = std::iter::once(records::closed(stamp, remediation, end))
            .chain(reopened)
            .collect();
        self.context.outbox.emit_many(tx, drafts).await?;
        let change = store::findings::Change {
            state: FindingState::Open,
            until_ms: 0,
            now_ms: stamp.now_ms,
            remediation: "",
        };
        store::findings::change(tx, actions.into_iter().map(|action| action.finding), change)
            .await?;
        Ok(())
    }
}

pub(super) async fn locked(
    tx: &mut WriteTx,
    key: &RemediationKey,
) -> Result<Remediation, ApiError> {
    let found = store::remediations::get(tx.conn(), key).await?;
    found.ok_or_else(ApiError::not_found)
}
