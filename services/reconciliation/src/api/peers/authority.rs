//! Authority: who may decide what, who answers for it, and the policy in force.

use counterfoil_chassis::{
    agents::{Act, Mandates},
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::millis,
    error::ApiError,
};
use counterfoil_evidence::{leaf::SourceTag, place};
use counterfoil_proto::authority::{
    CheckDecisionRightRequest, DecisionAction, DecisionRight, GetPolicyRequest,
    GetPrincipalRequest, ListBusinessUnitsRequest, PrincipalKind,
    decision_right_service_client::DecisionRightServiceClient,
    policy_service_client::PolicyServiceClient, principal_service_client::PrincipalServiceClient,
};
use tonic::Code;

use super::{digest, refused};
use crate::{
    model::{
        entities::Digest,
        ids::{Principal, local_name},
    },
    records::Rules,
};

const PEER: &str = "authority";

/// Asks the authority service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    policies: PolicyServiceClient<ServiceChannel>,
    principals: PrincipalServiceClient<ServiceChannel>,
    rights: DecisionRightServiceClient<ServiceChannel>,
    mandates: Mandates,
}

/// What somebody may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Approve remediation.
    Remediate,
    /// Grant an exception.
    Except,
}

impl Duty {
    const fn action(self) -> DecisionAction {
        match self {
            Self::Remediate => DecisionAction::Remediate,
            Self::Except => DecisionAction::Except,
        }
    }
}

/// A right to decide.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    /// "sources/{source}"; `None`: everywhere.
    sources: Option<Vec<String>>,
    /// What conditions of the policy take out of everywhere.
    excluded: Vec<String>,
    /// Tiers that it is limited to; none: all.
    tiers: Vec<String>,
    /// Environments that it is limited to; none: all.
    environments: Vec<String>,
    valid_from_ms: i64,
    valid_to_ms: i64,
    /// SHA-256 of its record.
    pub(crate) record_hash: Digest,
    /// In whose names its holder decides under it, outermost first, each with the identity key of that principal; none: in its own.
    pub(crate) on_behalf_of: Vec<(Principal, String)>,
}

/// Who a principal is.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// Whether it is a natural person.
    pub(crate) human: bool,
    /// The identity it is; empty when none.
    pub(crate) identity_key: String,
}

/// Where every source ("sources/{source}") lies now: environment and tier, as inventory has them.
pub(crate) type Places = place::Places<String>;

impl Right {
    /// Whether only the places of sources tell which of them it covers. Until they are known it covers none.
    pub(crate) fn is_limited(&self) -> bool {
        !(self.tiers.is_empty() && self.environments.is_empty())
    }

    /// The same right, limited to the sources that lie where it holds.
    pub(crate) fn placed(mut self, places: &Places) -> Self {
        if !self.is_limited() {
            return self;
        }
        let here = place::within(places, &self.tiers, &self.environments);
        let named = here.filter(|source| self.names(source));
        self.sources = Some(named.cloned().collect());
        self.tiers.clear();
        self.environments.clear();
        self
    }

    /// Whether a source ("sources/{source}") is in its scope.
    fn names(&self, source: &String) -> bool {
        match &self.sources {
            None => !self.excluded.contains(source),
            Some(known) => known.contains(source),
        }
    }

    /// Whether it is valid at a moment.
    pub(crate) fn holds_at(&self, now_ms: i64) -> bool {
        self.valid_from_ms <= now_ms && now_ms < self.valid_to_ms
    }

    /// Whether it covers all these sources (bare ids).
    pub(crate) fn covers<'s>(&self, sources: impl IntoIterator<Item = &'s String>) -> bool {
        let covered = |source: &String| self.names(&format!("sources/{source}"));
        !self.is_limited() && sources.into_iter().all(covered)
    }

    /// Whether it covers the source with this tag.
    pub(crate) fn covers_tag(&self, tag: SourceTag) -> bool {
        let named = |known: &Vec<String>| known.iter().any(|source| SourceTag::of(source) == tag);
        let covered = match &self.sources {
            None => !named(&self.excluded),
            Some(known) => named(known),
        };
        !self.is_limited() && covered
    }
}

/// An AI agent that acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Its mandate: "tenants/{tenant}/mandates/{mandate}"; empty: it has none in force.
    pub(crate) mandate: String,
    /// Whether it goes on without a human.
    pub(crate) decides_alone: bool,
}

/// What a principal may do now, and who answers for it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The rights asked for that hold now.
    pub(crate) rights: Vec<Right>,
    /// Environments that it gets to at all; `None`: all.
    pub(crate) reach: Option<Vec<String>>,
    /// Set for an AI agent, whose acts are counted.
    pub(crate) agent: Option<Agent>,
    /// The tenant's accountable owner.
    pub(crate) owner: Principal,
    /// Hash of the policy in force.
    pub(crate) policy_hash: Vec<u8>,
}

impl Authority {
    /// Asks the service behind `channel`.
    pub(crate) fn new(channel: ServiceChannel) -> Self {
        Self {
            policies: PolicyServiceClient::new(channel.clone()),
            principals: PrincipalServiceClient::new(channel.clone()),
            mandates: Mandates::new(channel.clone()),
            rights: DecisionRightServiceClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    /// Counts what an AI agent is about to decide or start, with so many removals.
    pub(crate) async fn count(
        &self,
        (tenant, principal): (&str, &Principal),
        agent: &Agent,
        duty: Duty,
        (act, removals): (&str, u64),
    ) -> Result<(), ApiError> {
        let act = Act {
            agent: &principal.full(tenant),
            mandate: &agent.mandate,
            action: duty.action(),
            name: act,
            removals,
        };
        self.mandates.count(act).await
    }

    /// What a principal may do now. Where sources lie is not asked here.
    pub(crate) async fn standing(
        &self,
        tenant: &str,
        principal: &Principal,
        duty: Duty,
    ) -> Result<Standing, ApiError> {
        let request = CheckDecisionRightRequest {
            principal: principal.full(tenant),
            action: duty.action().into(),
        };
        let mut rights = self.rights.clone();
        let answer = rights.check_decision_right(request).await;
        let answer = answer.map_err(refused(PEER))?.into_inner();
        Ok(Standing {
            rights: answer
                .decision_rights
                .iter()
                .map(|granted| right(tenant, granted))
                .collect::<Result<_, _>>()?,
            reach: answer.reach.map(|reach| reach.environments),
            agent: answer.agent.map(|agent| Agent {
                mandate: agent.mandate,
                decides_alone: agent.decides_alone,
            }),
            owner: owner(tenant, &answer.accountable_owner)?,
            policy_hash: answer.policy_hash,
        })
    }

    /// Who answers for what nobody of the tenant asked for: the owner of its first business unit.
    pub(crate) async fn default_standing(&self, tenant: &str) -> Result<Standing, ApiError> {
        let request = ListBusinessUnitsRequest {
            tenant: format!("tenants/{tenant}"),
            page_size: 1,
            page_token: String::new(),
        };
        let mut rights = self.rights.clone();
        let units = async {
            let answer = rights.list_business_units(request).await;
            answer.map_err(refused(PEER))
        };
        let (units, (_, policy_hash)) = tokio::try_join!(units, self.policy(tenant))?;
        let units = units.into_inner().business_units;
        let first = units.first().map_or("", |unit| unit.owner.as_str());
        Ok(Standing {
            rights: Vec::new(),
            reach: None,
            agent: None,
            owner: owner(tenant, first)?,
            policy_hash,
        })
    }

    /// The rules in force, and their hash.
    pub(crate) async fn policy(&self, tenant: &str) -> Result<(Rules, Vec<u8>), ApiError> {
        let request = GetPolicyRequest {
            tenant: format!("tenants/{tenant}"),
            at_time: None,
        };
        let mut policies = self.policies.clone();
        let answer = policies.get_policy(request).await;
        let answer = answer.map_err(|status| match status.code() {
            Code::NotFound => {
                ApiError::failed_precondition("NO_POLICY", "the tenant has no policy in force")
            }
            _ => ApiError::from_peer(PEER, status),
        })?;
        let policy = answer.into_inner().policy.unwrap_or_default();
        let offsets = policy.persistence_offsets_seconds.iter();
        let rules = Rules {
            val_required: policy.val_required,
            offsets_ms: offsets.map(|offset| offset.saturating_mul(1000)).collect(),
            count_max: policy.threshold_count,
            permille_max: policy.threshold_permille,
            four_eyes: policy
                .four_eyes_actions
                .contains(&DecisionAction::Remediate.into()),
            exception_max_ms: policy.exception_max_seconds.saturating_mul(1000),
        };
        Ok((rules, policy.bundle_hash))
    }

    /// Who a principal is.
    pub(crate) async fn person(
        &self,
        tenant: &str,
        principal: &Principal,
    ) -> Result<Person, ApiError> {
        let request = GetPrincipalRequest {
            name: principal.full(tenant),
        };
        let mut principals = self.principals.clone();
        let answer = principals.get_principal(request).await;
        let found = answer.map_err(refused(PEER))?.into_inner().principal;
        let found = found.unwrap_or_default();
        Ok(Person {
            human: found.kind() == PrincipalKind::Human,
            identity_key: found.identity_key,
        })
    }
}

fn owner(tenant: &str, name: &str) -> Result<Principal, ApiError> {
    Principal::of_tenant(tenant, name).ok_or_else(|| {
        ApiError::failed_precondition(
            "NO_ACCOUNTABLE_OWNER",
            "the tenant has no business unit with an accountable owner",
        )
    })
}

/// A right with a malformed time holds at no time.
fn right(tenant: &str, granted: &DecisionRight) -> Result<Right, ApiError> {
    let everywhere = granted.scope.is_empty() || granted.scope.iter().any(|scope| scope == "*");
    let named = granted.scope.iter();
    let from = granted.valid_from_time.as_ref();
    let to = granted.valid_to_time.as_ref();
    Ok(Right {
        sources: (!everywhere).then(|| {
            named
                .filter_map(|scope| local_name(tenant, scope))
                .collect()
        }),
        excluded: granted
            .excluded_sources
            .iter()
            .filter_map(|source| local_name(tenant, source))
            .collect(),
        tiers: granted.tiers.clone(),
        environments: granted.environments.clone(),
        valid_from_ms: from.map_or(Some(0), millis).unwrap_or(i64::MAX),
        valid_to_ms: to.and_then(millis).unwrap_or(0),
        record_hash: digest(PEER, &granted.record_hash)?,
        on_behalf_of: granted
            .on_behalf_of
            .iter()
            .map(|one| {
                let principal = Principal::of_tenant(tenant, &one.principal);
                let principal = principal.ok_or_else(|| {
                    ApiError::internal("authority answered a delegator that is no principal")
                })?;
                Ok((principal, one.identity_key.clone()))
            })
            .collect::<Result<_, ApiError>>()?,
    })
}
