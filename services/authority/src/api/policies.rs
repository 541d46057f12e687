//! The rules in force: published, read, tried out.

use std::collections::{BTreeSet, HashMap};

use counterfoil_chassis::{ApiError, Caller, Role, names::tenant_field};
use counterfoil_evidence::v1::{PolicyBundlePublished, RolePermissions};
use counterfoil_proto::authority as proto;

use super::{Api, change::Asked, convert};
use crate::{
    error::Refusal,
    model::{
        Faults,
        conditions::{Act, Place},
        ids::PrincipalId,
        policy::{self, Bundle, PolicyRules},
        principal::{Principal, ROLES},
        right::DecisionAction,
        simulation::{self, Acting, CHANGES_MAX, Working},
    },
    store::{self, From, Reader},
};

/// Rows of one read while a policy is tried out.
const PAGE_ROWS: i64 = 1_000;

/// Roles to which the policy in force now leaves less than the permission table; asked for at every credential, so that a policy
/// takes effect with the next call.
pub(super) async fn kept_by_roles(
    reader: &mut Reader,
    tenant: &str,
    now_ms: i64,
) -> Result<Vec<RolePermissions>, ApiError> {
    let bundle = store::policies::in_force(reader, tenant, now_ms).await?;
    Ok(bundle.map_or_else(Vec::new, |bundle| bundle.rules.role_permissions))
}

pub(super) async fn publish_policy(
    api: &Api,
    caller: &Caller,
    request: proto::PublishPolicyRequest,
) -> Result<proto::PublishPolicyResponse, ApiError> {
    let tenant = tenant_field(&request.tenant)?;
    let method = "PublishPolicy";
    let mut change = match api
        .begin(caller, &tenant, method, &request.request_id, &request)
        .await?
    {
        Asked::Done(answer) => return Ok(answer),
        Asked::New(change) => *change,
    };
    change.require_governing_caller().await?;
    let (rules, asked_ms) = api.asked_rules(request.policy.as_ref())?;
    let now_ms = change.now_ms;
    let before = store::policies::in_force(change.tx.conn(), &tenant, now_ms).await?;
    let effective_from_ms = policy::effective_from_ms(before.as_ref(), asked_ms, now_ms)
        .map_err(|wrong| in_policy(&wrong))?;
    let bundle_hash = policy::bundle_hash(&rules);
    // The record that publishes a policy is the first under it, unless it is in force only later.
    if effective_from_ms <= now_ms
        || before.is_some_and(|bundle| bundle.effective_from_ms >= now_ms)
    {
        change.cite_policy(bundle_hash);
    }
    let version = store::policies::last_version(change.tx.conn(), &tenant).await? + 1;
    let payload = PolicyBundlePublished {
        bundle_hash: bundle_hash.to_vec(),
        version,
        effective_from_ms,
        rules: Some(rules.clone()),
    };
    let draft = change.draft(&payload, format!("policies/{version}"));
    let emitted = api.emit(&mut change, draft).await?;
    let bundle = Bundle {
        version,
        rules,
        effective_from_ms,
        record_hash: emitted.record_hash,
    };
    store::policies::insert(change.tx.conn(), &tenant, &bundle).await?;
    let answer = proto::PublishPolicyResponse {
        policy: Some(convert::policy(&bundle)),
        receipt: Some(emitted.pending_receipt()),
    };
    api.finish(change, answer).await
}

pub(super) async fn get_policy(
    api: &Api,
    caller: &Caller,
    request: proto::GetPolicyRequest,
) -> Result<proto::GetPolicyResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let at_ms = convert::moment("at_time", request.at_time.as_ref())?;
    let at_ms = at_ms.unwrap_or_else(|| api.clock.now_ms());
    let mut reader = api.db.read(&tenant).await?;
    let bundle = store::policies::in_force(&mut reader, &tenant, at_ms).await?;
    let bundle = bundle.ok_or_else(ApiError::not_found)?;
    Ok(proto::GetPolicyResponse {
        policy: Some(convert::policy(&bundle)),
    })
}

pub(super) async fn list_policies(
    api: &Api,
    caller: &Caller,
    request: proto::ListPoliciesRequest,
) -> Result<proto::ListPoliciesResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let scope = ["ListPolicies", &tenant];
    let page = api
        .pages
        .open(request.page_size, &request.page_token, &scope)?;
    let after = page.after_text()?.unwrap_or("0").parse();
    let after =
        after.map_err(|_| ApiError::invalid("page_token", "is not a token of this list"))?;
    let limit = i64::from(page.size) + 1;
    let mut reader = api.db.read(&tenant).await?;
    let mut rows = store::policies::list(&mut reader, &tenant, after, limit).await?;
    let next_page_token = page.cut(&mut rows, |row| row.version.to_string().into_bytes());
    Ok(proto::ListPoliciesResponse {
        policies: rows.iter().map(convert::policy).collect(),
        next_page_token,
    })
}

pub(super) async fn simulate_policy(
    api: &Api,
    caller: &Caller,
    request: proto::SimulatePolicyRequest,
) -> Result<proto::SimulatePolicyResponse, ApiError> {
    let tenant = api.known_tenant(caller, "tenant", &request.tenant).await?;
    let (rules, asked_ms) = api.asked_rules(request.policy.as_ref())?;
    let now_ms = api.clock.now_ms();
    let mut reader = api.db.read(&tenant).await?;
    let now = store::policies::in_force(&mut reader, &tenant, now_ms).await?;
    let effective_from_ms = policy::effective_from_ms(now.as_ref(), asked_ms, now_ms)
        .map_err(|wrong| in_policy(&wrong))?;
    // What it replaces is what would be in force then: another bundle may begin before it.
    let before = store::policies::in_force(&mut reader, &tenant, effective_from_ms).await?;
    let withdrawn_versions =
        store::policies::waiting(&mut reader, &tenant, effective_from_ms).await?;
    let broken = |why: String| ApiError::internal(format!("conditions that were accepted: {why}"));
    let trial = Trial {
        tenant: &tenant,
        // Conditions may speak of the time: rights are asked as of the moment at which the bundle would begin.
        at_ms: effective_from_ms,
        before: before
            .map(|bundle| Working::of(bundle.rules))
            .transpose()
            .map_err(broken)?,
        after: Working::of(rules.clone()).map_err(broken)?,
    };
    let version = store::policies::last_version(&mut reader, &tenant).await? + 1;
    let mut answer = proto::SimulatePolicyResponse {
        policy: Some(convert::policy(&Bundle {
            version,
            rules,
            effective_from_ms,
            record_hash: [0; 32],
        })),
        rules: trial.rules(),
        withdrawn_versions,
        ..Default::default()
    };
    let table = api.table();
    let principals = trial.principals(&mut reader, &table, &mut answer).await?;
    trial.rights(&mut reader, &principals, &mut answer).await?;
    Ok(answer)
}

/// Names the fields of a policy as the request has them.
fn in_policy(wrong: &Faults) -> Refusal {
    let mut faults = Faults::default();
    faults.add_all("policy.", wrong.clone());
    Refusal::Invalid(faults)
}

impl Api {
    /// The rules that a request asks for, with their defaults, and from when.
    fn asked_rules(
        &self,
        wanted: Option<&proto::Policy>,
    ) -> Result<(PolicyRules, Option<i64>), ApiError> {
        let wanted = wanted.ok_or_else(|| ApiError::invalid("policy", "is required"))?;
        let holds = |role: &str, permission: &str| {
            Role::of_tenant(role).is_some_and(|role| self.permissions.holds(role, permission))
        };
        let rules = policy::rules(&convert::wanted(wanted), &holds);
        let rules = rules.map_err(|wrong| in_policy(&wrong))?;
        let asked = convert::moment("policy.effective_time", wanted.effective_time.as_ref())?;
        Ok((rules, asked))
    }

    /// What the deployment's table gives to each role of a tenant.
    fn table(&self) -> HashMap<String, BTreeSet<&str>> {
        let roles = ROLES
            .iter()
            .filter_map(|name| Some((name, Role::of_tenant(name)?)));
        let rows = roles
            .map(|(name, role)| ((*name).to_owned(), self.permissions.of_role(role).collect()));
        rows.collect()
    }
}

/// A policy that is tried out.
struct Trial<'t> {
    tenant: &'t str,
    at_ms: i64,
    before: Option<Working>,
    after: Working,
}

impl Trial<'_> {
    fn rules(&self) -> Vec<proto::RuleChange> {
        let before = self.before.as_ref().map(|working| &working.rules);
        let changed = simulation::rules(before, &self.after.rules).into_iter();
        let changed = changed.map(|change| proto::RuleChange {
            field: change.field.to_owned(),
            before: change.before,
            after: change.after,
        });
        changed.collect()
    }

    /// Tells what active principals lose and gain, and answers them.
    async fn principals(
        &self,
        reader: &mut Reader,
        table: &HashMap<String, BTreeSet<&str>>,
        answer: &mut proto::SimulatePolicyResponse,
    ) -> Result<HashMap<PrincipalId, Principal>, ApiError> {
        let mut all = HashMap::new();
        let mut after = String::new();
        loop {
            let from = From {
                after: &after,
                limit: PAGE_ROWS,
            };
            let page = store::principals::list(reader, self.tenant, from).await?;
            let Some(last) = page.last() else { break };
            after = last.id.as_str().to_owned();
            for principal in page.into_iter().filter(Principal::is_active) {
                let changed =
                    simulation::permissions(self.before.as_ref(), &self.after, &principal, table);
                if let Some(change) = changed {
                    let change = proto::PermissionChange {
                        principal: change.principal.name(self.tenant),
                        lost: change.lost,
                        gained: change.gained,
                    };
                    answer.truncated |= !push(&mut answer.permissions, change);
                }
                all.insert(principal.id.clone(), principal);
            }
        }
        Ok(all)
    }

    /// Tells what the rights that hold would no longer give, or give again.
    async fn rights(
        &self,
        reader: &mut Reader,
        principals: &HashMap<PrincipalId, Principal>,
        answer: &mut proto::SimulatePolicyResponse,
    ) -> Result<(), ApiError> {
        let mut after = String::new();
        let mut acting: HashMap<(&PrincipalId, DecisionAction), Acting<'_>> = HashMap::new();
        loop {
            let from = From {
                after: &after,
                limit: PAGE_ROWS,
            };
            let page = store::rights::list(reader, self.tenant, from).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id.as_str().to_owned();
            for right in page.iter().filter(|right| right.holds(self.at_ms)) {
                let Some(principal) = principals.get(&right.grantee) else {
                    continue;
                };
                let act = Act {
                    tenant: self.tenant,
                    principal,
                    action: right.action,
                    now_ms: self.at_ms,
                };
                let acting = acting
                    .entry((&principal.id, right.action))
                    .or_insert_with(|| Acting::new(self.before.as_ref(), &self.after, act));
                // Conditions take time; other calls of this thread are let in between.
                tokio::task::yield_now().await;
                for change in acting.right(right) {
                    let change = proto::RightChange {
                        decision_right: change.right.name(self.tenant),
                        grantee: change.grantee.name(self.tenant),
                        resource: match &change.place {
                            Place::Everywhere => format!("tenants/{}", self.tenant),
                            Place::Source(source) => source.name(self.tenant),
                        },
                        forbidden: change.forbidden,
                        conditions: change.conditions,
                    };
                    answer.truncated |= !push(&mut answer.rights, change);
                }
            }
        }
    }
}

/// Adds an entry while there is room; false: there was none.
fn push<T>(list: &mut Vec<T>, entry: T) -> bool {
    let room = list.len() < CHANGES_MAX;
    if room {
        list.push(entry);
    }
    room
}
