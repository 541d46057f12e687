//! Authority: who may decide what, and the policy in force.

use std::collections::HashMap;

use counterfoil_chassis::{
    agents::{Act, Mandates},
    client::{MESSAGE_BYTES_MAX, ServiceChannel},
    clock::millis,
    error::ApiError,
};
pub(crate) use counterfoil_proto::authority::DecisionAction;
use counterfoil_proto::authority::{
    CheckDecisionRightRequest, DecisionRight, DecisionRightState, GetPolicyRequest,
    GetPrincipalRequest, LapseRule as ApiLapseRule, ListDecisionRightsRequest,
    ListPrincipalsRequest, OrganizationKind, Principal as ApiPrincipal, PrincipalKind,
    decision_right_service_client::DecisionRightServiceClient,
    policy_service_client::PolicyServiceClient, principal_service_client::PrincipalServiceClient,
};
use tonic::{Code, Status};

use crate::model::{
    campaign::LapseRule,
    decision::Limits,
    ids::{Principal, Source},
    rights::Right,
    routing::{Directory, Person},
};

const PAGE_SIZE: i32 = 1000;

/// Asks the authority service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    policies: PolicyServiceClient<ServiceChannel>,
    principals: PrincipalServiceClient<ServiceChannel>,
    rights: DecisionRightServiceClient<ServiceChannel>,
    mandates: Mandates,
}

/// What a principal may do now, and who answers for it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The identity the principal is; empty when none.
    pub(crate) identity_key: String,
    /// The rights asked for that hold now.
    pub(crate) rights: Vec<Right>,
    /// Environments that it gets to at all; `None`: all.
    pub(crate) reach: Option<Vec<String>>,
    /// The mandate of an AI agent, whose acts are counted under it; empty: it has none in force. `None`: it is no agent.
    pub(crate) mandate: Option<String>,
    /// The tenant's accountable owner.
    pub(crate) accountable_owner: Principal,
    /// Hash of the policy in force.
    pub(crate) policy_hash: Vec<u8>,
}

/// The rules in force, as far as reviews go.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Limits of decisions.
    pub(crate) limits: Limits,
    /// Oldest sync a campaign may be staged on, milliseconds.
    pub(crate) snapshot_age_max_ms: i64,
    /// What happens to an item nobody decided, unless the campaign says otherwise.
    pub(crate) lapse_rule: LapseRule,
}

impl Authority {
    /// Asks the service behind `channel`.
    pub(crate) fn new(channel: ServiceChannel) -> Self {
        Self {
            policies: PolicyServiceClient::new(channel.clone()),
            principals: PrincipalServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            mandates: Mandates::new(channel.clone()),
            rights: DecisionRightServiceClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    /// Counts what an AI agent ("tenants/{tenant}/principals/{principal}") is about to do to a campaign.
    pub(crate) async fn count(
        &self,
        agent: &str,
        mandate: &str,
        act: &str,
    ) -> Result<(), ApiError> {
        let act = Act {
            agent,
            mandate,
            action: DecisionAction::Certify,
            name: act,
            removals: 0,
        };
        self.mandates.count(act).await
    }

    /// What a principal may do now. Where sources lie is not asked here.
    pub(crate) async fn standing(
        &self,
        tenant: &str,
        principal: &Principal,
        action: DecisionAction,
    ) -> Result<Standing, ApiError> {
        let request = CheckDecisionRightRequest {
            principal: principal.full(tenant),
            action: action.into(),
        };
        let answer = self
            .rights
            .clone()
            .check_decision_right(request)
            .await
            .map_err(refused)?
            .into_inner();
        let rights = answer
            .decision_rights
            .iter()
            .map(|granted| right(tenant, granted))
            .collect::<Result<_, _>>()?;
        let accountable_owner = Principal::of_tenant(tenant, &answer.accountable_owner)
            .ok_or_else(|| {
                ApiError::failed_precondition(
                    "NO_ACCOUNTABLE_OWNER",
                    "the tenant has no business unit with an accountable owner",
                )
            })?;
        Ok(Standing {
            identity_key: answer.identity_key,
            rights,
            reach: answer.reach.map(|reach| reach.environments),
            mandate: answer.agent.map(|agent| agent.mandate),
            accountable_owner,
            policy_hash: answer.policy_hash,
        })
    }

    /// The rules in force.
    pub(crate) async fn policy(&self, tenant: &str) -> Result<Policy, ApiError> {
        let request = GetPolicyRequest {
            tenant: format!("tenants/{tenant}"),
            at_time: None,
        };
        let policy = self
            .policies
            .clone()
            .get_policy(request)
            .await
            .map_err(|status| match status.code() {
                Code::NotFound => {
                    ApiError::failed_precondition("NO_POLICY", "the tenant has no policy in force")
                }
                _ => refused(status),
            })?
            .into_inner()
            .policy
            .unwrap_or_default();
        Ok(Policy {
            limits: Limits {
                review_interval_max_ms: policy.review_interval_max_seconds.saturating_mul(1000),
                exception_max_ms: policy.exception_max_seconds.saturating_mul(1000),
            },
            snapshot_age_max_ms: policy.snapshot_age_max_seconds.saturating_mul(1000),
            lapse_rule: match policy.lapse_rule() {
                ApiLapseRule::Revoke => LapseRule::Revoke,
                _ => LapseRule::RetainAsDebt,
            },
        })
    }

    /// One principal; `None`: there is none of that name.
    pub(crate) async fn person(
        &self,
        tenant: &str,
        principal: &Principal,
    ) -> Result<Option<Person>, ApiError> {
        let request = GetPrincipalRequest {
            name: principal.full(tenant),
        };
        match self.principals.clone().get_principal(request).await {
            Ok(answer) => Ok(answer
                .into_inner()
                .principal
                .and_then(|found| person(tenant, &found))),
            // What authority calls no name is the name of nobody.
            Err(status) if [Code::NotFound, Code::InvalidArgument].contains(&status.code()) => {
                Ok(None)
            }
            Err(status) => Err(refused(status)),
        }
    }

    /// All principals with their rights REVIEW: two lists, whatever the number of items. Where sources lie is not asked here.
    pub(crate) async fn directory(&self, tenant: &str) -> Result<Directory, ApiError> {
        let people = self.people(tenant).await?;
        let mut review: HashMap<Principal, Vec<Right>> = HashMap::new();
        let mut page_token = String::new();
        loop {
            let request = ListDecisionRightsRequest {
                tenant: format!("tenants/{tenant}"),
                page_size: PAGE_SIZE,
                page_token,
            };
            let answer = self
                .rights
                .clone()
                .list_decision_rights(request)
                .await
                .map_err(refused)?
                .into_inner();
            for granted in &answer.decision_rights {
                let grantee = Principal::of_tenant(tenant, &granted.grantee);
                let holds = granted.state() == DecisionRightState::Granted;
                if let (true, DecisionAction::Review, Some(grantee)) =
                    (holds, granted.action(), grantee)
                {
                    review
                        .entry(grantee)
                        .or_default()
                        .push(right(tenant, granted)?);
                }
            }
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(Directory::new(people, review));
            }
        }
    }

    async fn people(&self, tenant: &str) -> Result<Vec<Person>, ApiError> {
        let mut people = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListPrincipalsRequest {
                tenant: format!("tenants/{tenant}"),
                page_size: PAGE_SIZE,
                page_token,
            };
            let answer = self
                .principals
                .clone()
                .list_principals(request)
                .await
                .map_err(refused)?
                .into_inner();
            people.extend(
                answer
                    .principals
                    .iter()
                    .filter_map(|found| person(tenant, found)),
            );
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(people);
            }
        }
    }
}

fn refused(status: Status) -> ApiError {
    ApiError::from_peer("authority", status)
}

fn person(tenant: &str, found: &ApiPrincipal) -> Option<Person> {
    Some(Person {
        principal: Principal::of_tenant(tenant, &found.name)?,
        identity_key: found.identity_key.clone(),
        human: found.kind() == PrincipalKind::Human,
        of_customer: found.organization_kind() == OrganizationKind::Customer,
        end_ms: found.end_time.as_ref().and_then(millis),
    })
}

/// A right with no end, or one that is malformed, holds at no time.
fn right(tenant: &str, granted: &DecisionRight) -> Result<Right, ApiError> {
    let everywhere = granted.scope.is_empty() || granted.scope.iter().any(|scope| scope == "*");
    let sources = (!everywhere).then(|| {
        granted
            .scope
            .iter()
            .filter_map(|scope| Source::of_tenant(tenant, scope))
            .collect()
    });
    let end = granted.valid_to_time.as_ref().and_then(millis).unwrap_or(0);
    let revoked = granted.revoke_time.as_ref().and_then(millis);
    Ok(Right {
        sources,
        excluded: granted
            .excluded_sources
            .iter()
            .filter_map(|source| Source::of_tenant(tenant, source))
            .collect(),
        tiers: granted.tiers.clone(),
        environments: granted.environments.clone(),
        valid_from_ms: granted
            .valid_from_time
            .as_ref()
            .and_then(millis)
            .unwrap_or(0),
        valid_to_ms: revoked.map_or(end, |at| at.min(end)),
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
        record_hash: granted
            .record_hash
            .as_slice()
            .try_into()
            .map_err(|_| ApiError::internal("authority answered a right without its record"))?,
    })
}
