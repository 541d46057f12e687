//! PlanRemediation: what a run's findings ask for becomes actions, under the approver's right and the policy's threshold.

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_chassis::{
    auth::Caller,
    db::WriteTx,
    error::ApiError,
    idempotency::{self, Begun},
    names::new_id,
};
use counterfoil_evidence::{
    leaf::{ACTION_LEAF_LEN, ActionLeaf, GRANT_KEY_LEN, GrantKey},
    v1::{FindingState, Operation},
};
use counterfoil_proto::reconciliation::{PlanRemediationRequest, PlanRemediationResponse};
use counterfoil_tlog::sorted_set::SortedSetBuilder;

use super::{
    Api, ReconRunName, convert,
    execute::plan_act,
    peers::authority::{Agent, Duty, Right},
};
use crate::{
    context::{Asked, Context, cite},
    model::{
        entities::{Action, Finding, Remediation, Run},
        ids::Principal,
        plan::{Newest, REMOVABLE, Tripped, four_eyes, threshold},
        state::{ActionState, RemediationState},
        target::GrantFacts,
    },
    records::{self, PlannedActions, Rules, Stamp},
    store,
};

impl Api {
    pub(super) async fn plan(
        &self,
        caller: &Caller,
        request: PlanRemediationRequest,
    ) -> Result<PlanRemediationResponse, ApiError> {
        let name = ReconRunName::parse_field("recon_run", &request.recon_run)?;
        caller.require_tenant(&name.tenant)?;
        let tenant = self.context.tenants.require_active(&name.tenant).await?;
        let approver = Context::principal(&tenant.id, caller)?;
        let asked = self.context.decision(&tenant.id, caller, Duty::Remediate);
        let Asked {
            stamp,
            rights,
            agent,
        } = asked.await?;
        // It is not counted again.
        let method = "PlanRemediation";
        if agent.is_some() {
            let (whose, id) = ((tenant.id.as_str(), caller), &request.request_id);
            let db = &self.context.db;
            let done = idempotency::answered(db, whose, method, id, &request).await?;
            if let Some(answer) = done {
                return self.settled_plan(&tenant.id, answer).await;
            }
        }
        let (rules, stamp) = self.ruled(&tenant.id, stamp, agent.as_ref()).await?;
        let run = self.run(&name).await?;
        // What is planned now is checked again in the transaction; what appears in between is left for the next plan.
        let (findings, facts) = self.removable_facts(&tenant.id, &run).await?;
        let newest = self.newest_decisions(&tenant.id, &facts).await?;
        let id = new_id(stamp.now_ms);
        // Of two people, each acts in their own name, or one could be both.
        let covers = |right: &Right, sources: &BTreeSet<String>| {
            right.covers(sources) && (right.on_behalf_of.is_empty() || !rules.four_eyes)
        };
        let mut counted = usize::MAX;
        if let Some(agent) = &agent {
            let (now, _) = newest.split(actions(&findings, &facts, stamp.now_ms));
            let sources = sources_of(&now);
            cite(stamp.clone(), &rights, Duty::Remediate, |right| {
                covers(right, &sources)
            })?;
            let by = (caller, agent);
            counted = self.counted(&tenant.id, by, &id, now.len()).await?;
        }

        let mut tx = self.context.db.write_tx(&tenant.id).await?;
        let request_id = &request.request_id;
        let begun = idempotency::begin(&mut tx, caller, method, request_id, &request).await?;
        let fresh = match begun {
            Begun::Replay(answer) => return self.settled_plan(&tenant.id, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let findings =
            store::findings::removable(tx.conn(), &tenant.id, &run.id, REMOVABLE).await?;
        let found = actions(&findings, &facts, stamp.now_ms);
        let (actions, superseded) = newest.split(found);
        require_plannable(&actions, &superseded, counted)?;
        let sources = sources_of(&actions);
        let stamp = cite(stamp, &rights, Duty::Remediate, |right| {
            covers(right, &sources)
        })?;
        let (remediation, plan_receipt) = self
            .record_plan(&mut tx, (id, &run), &actions, approver, &rules, &stamp)
            .await?;
        let answer = PlanRemediationResponse {
            remediation: Some(convert::remediation(&tenant.id, &remediation, 0)),
            receipt: Some(plan_receipt),
        };
        fresh.store(&mut tx, &answer, stamp.now_ms).await?;
        self.context.ring_on_commit(&mut tx);
        // If we crash here: there is no plan, and the findings are as open as before.
        tx.commit().await?;
        self.settled_plan(&tenant.id, answer).await
    }

    async fn settled_plan(
        &self,
        tenant: &str,
        mut answer: PlanRemediationResponse,
    ) -> Result<PlanRemediationResponse, ApiError> {
        self.settle(tenant, &mut answer.receipt).await?;
        Ok(answer)
    }

    /// The rules in force, which the plan cites, also when they came into force after the rights were asked for.
    async fn ruled(
        &self,
        tenant: &str,
        stamp: Stamp,
        agent: Option<&Agent>,
    ) -> Result<(Rules, Stamp), ApiError> {
        let (mut rules, policy_hash) = self.context.authority.policy(tenant).await?;
        // What an agent plans that does not go on alone waits for a human, as what one of two people plans.
        rules.four_eyes |= agent.is_some_and(|agent| !agent.decides_alone);
        Ok((
            rules,
            Stamp {
                policy_hash,
                ..stamp
            },
        ))
    }

    /// Counts a plan of an agent with so many removals; one that has none is refused later, and is no act.
    async fn counted(
        &self,
        tenant: &str,
        by: (&Caller, &Agent),
        id: &str,
        removals: usize,
    ) -> Result<usize, ApiError> {
        if removals > 0 {
            let act = plan_act(id);
            let act = (act.as_str(), removals as u64);
            let duty = Duty::Remediate;
            self.context.count(tenant, by, duty, act).await?;
        }
        Ok(removals)
    }

    /// The findings that ask for a removal, and what inventory knows of the grants that could be removed, in sources that can be written to.
    async fn removable_facts(
        &self,
        tenant: &str,
        run: &Run,
    ) -> Result<(Vec<Finding>, BTreeMap<GrantKey, GrantFacts>), ApiError> {
        let findings = {
            let mut connection = self.context.db.read(tenant).await?;
            store::findings::removable(&mut connection, tenant, &run.id, REMOVABLE).await?
        };
        let keys: Vec<GrantKey> = findings.iter().map(|finding| finding.key).collect();
        let facts = self.context.inventory.grants(tenant, &keys).await?;
        let mut facts: BTreeMap<GrantKey, GrantFacts> = facts
            .into_iter()
            .filter(|facts| facts.present && facts.direct)
            .map(|facts| (facts.key, facts))
            .collect();
        let sources: BTreeSet<String> = facts.values().map(|facts| facts.source.clone()).collect();
        let read_only = self.read_only_sources(tenant, &sources).await?;
        facts.retain(|_, facts| !read_only.contains(&facts.source));
        Ok((findings, facts))
    }

    /// What is decided by now on the grants that could be removed.
    async fn newest_decisions(
        &self,
        tenant: &str,
        facts: &BTreeMap<GrantKey, GrantFacts>,
    ) -> Result<Newest, ApiError> {
        let keys: Vec<GrantKey> = facts.keys().copied().collect();
        self.context.recertification.newest(tenant, &keys).await
    }

    /// The sources that nobody writes to. One whose writer is its reader is refused: who acts must not confirm (I-36).
    pub(super) async fn read_only_sources(
        &self,
        tenant: &str,
        sources: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, ApiError> {
        let mut read_only = BTreeSet::new();
        for source in sources {
            let principals = self.context.inventory.principals(tenant, source).await?;
            if principals.writer.is_empty() {
                read_only.insert(source.clone());
            } else if !principals.are_independent() {
                return Err(ApiError::failed_precondition(
                    "PRINCIPALS_NOT_INDEPENDENT",
                    "a source is read and written by the same principal: nothing it shows could be believed",
                )
                .with_metadata("source", format!("tenants/{tenant}/sources/{source}")));
            }
        }
        Ok(read_only)
    }

    /// R46, R47 when a limit is tripped, R45 for each finding; and all of it in the tables.
    async fn record_plan(
        &self,
        tx: &mut WriteTx,
        (id, run): (String, &Run),
        actions: &[Action],
        approver: Principal,
        rules: &Rules,
        stamp: &Stamp,
    ) -> Result<(Remediation, counterfoil_proto::common::Receipt), ApiError> {
        let mut plan = planned(actions)?;
        let (root, count) = (plan.root, plan.count);
        // Two people before any limit: whoever resolves it then is not who planned it.
        let tripped = if rules.four_eyes {
            Some(four_eyes())
        } else {
            let (count_max, permille_max) = (rules.count_max, rules.permille_max);
            threshold(count, run.observed_count, count_max, permille_max)
        };
        let mut emission = self.context.outbox.begin(tx).await?;
        let emitted = emission.add(records::planned(stamp, &id, run, &mut plan, rules))?;
        if let Some(tripped) = &tripped {
            emission.add(records::tripped(
                stamp,
                &id,
                tripped,
                root,
                emitted.record_hash,
            ))?;
        }
        for action in actions {
            let (state, evidence) = (FindingState::Remediating, Some(emitted.record_hash));
            emission.add(records::finding_changed(
                stamp,
                &action.finding,
                state,
                0,
                evidence,
            ))?;
        }
        emission.finish(tx).await?;
        let remediation = Remediation {
            id,
            plan_record_hash: emitted.record_hash,
            actions_count: count,
            approver,
            ..approved(run, tripped.as_ref(), rules, stamp)
        };
        store::remediations::insert(tx, &remediation).await?;
        store::actions::insert(tx, &remediation.id, actions).await?;
        let change = store::findings::Change {
            state: FindingState::Remediating,
            until_ms: 0,
            now_ms: stamp.now_ms,
            remediation: &remediation.id,
        };
        store::findings::change(
            tx,
            actions.iter().map(|action| action.finding.clone()),
            change,
        )
        .await?;
        Ok((remediation, emitted.pending_receipt()))
    }
}

fn sources_of(actions: &[Action]) -> BTreeSet<String> {
    let sources = actions.iter().map(|action| action.source.clone());
    sources.collect()
}

/// Refuses a plan without actions, and one with more than were counted for its agent.
fn require_plannable(
    actions: &[Action],
    superseded: &[Action],
    counted: usize,
) -> Result<(), ApiError> {
    let (reason, message) = if actions.len() > counted {
        (
            "FINDINGS_CHANGED",
            "the run has more to remove than when it was counted: plan again",
        )
    } else if !actions.is_empty() {
        return Ok(());
    } else if superseded.is_empty() {
        (
            "NOTHING_TO_DO",
            "the run has no open finding on a direct grant of a source that can be written to",
        )
    } else {
        (
            "DECISIONS_SUPERSEDED",
            "newer decisions stand on all grants that could be removed: run the reconciliation again",
        )
    };
    Err(ApiError::failed_precondition(reason, message))
}

/// A plan that may be carried out, or is held; `..` of its own columns.
fn approved(run: &Run, tripped: Option<&Tripped>, rules: &Rules, stamp: &Stamp) -> Remediation {
    Remediation {
        id: String::new(),
        run: run.id.clone(),
        plan_record_hash: [0; 32],
        actions_count: 0,
        val_required: rules.val_required,
        offsets_ms: rules.offsets_ms.clone(),
        approver: stamp.owner.clone(),
        owner: stamp.owner.clone(),
        policy_hash: stamp.policy_hash.clone(),
        threshold_metric: tripped.map_or(String::new(), |tripped| tripped.metric.to_owned()),
        threshold_limit: tripped.map_or(0, |tripped| tripped.limit),
        created_ms: stamp.now_ms,
        state: match tripped {
            Some(_) => RemediationState::Held,
            None => RemediationState::Approved,
        },
        agent: None,
        runner: String::new(),
        p50_ms: 0,
        max_ms: 0,
        reported: true,
    }
}

/// One action a finding that somebody or a rule decided on and whose grant can be taken away, ascending by key.
fn actions(
    findings: &[Finding],
    facts: &BTreeMap<GrantKey, GrantFacts>,
    now_ms: i64,
) -> Vec<Action> {
    let action = |finding: &Finding| {
        let facts = facts.get(&finding.key)?;
        let decision = finding.decision.clone()?;
        Some(Action {
            id: new_id(now_ms),
            key: finding.key,
            source: facts.source.clone(),
            operation: match decision.kept {
                Some(_) => Operation::Reduce,
                None => Operation::Revoke,
            },
            finding: finding.id.clone(),
            decision,
            account_native: facts.account_native.clone(),
            entitlement_native: facts.entitlement_native.clone(),
            account_name: facts.account_name.clone(),
            entitlement_name: facts.entitlement_name.clone(),
            state: ActionState::Planned,
            attempts: 0,
            tries: 0,
            idempotency_key: String::new(),
            intent_record_id: None,
            intent_record_hash: None,
            executor: String::new(),
            first_started_ms: 0,
            started_ms: 0,
            ended_ms: 0,
            failure: String::new(),
            read_record_hash: None,
            verified_record_hash: None,
            verified_ms: 0,
            watched: false,
            superseded_by: None,
        })
    };
    let mut actions: Vec<Action> = findings.iter().filter_map(action).collect();
    // A grant has one situation at a time; two live findings of it are one action.
    actions.sort_by_key(|action| action.key);
    actions.dedup_by_key(|action| action.key);
    actions
}

fn planned(actions: &[Action]) -> Result<PlannedActions, ApiError> {
    let mut set =
        SortedSetBuilder::new(GRANT_KEY_LEN, ACTION_LEAF_LEN).map_err(ApiError::internal)?;
    let mut blob = Vec::with_capacity(actions.len() * ACTION_LEAF_LEN);
    for action in actions {
        let leaf = ActionLeaf {
            key: action.key,
            operation: action.operation,
            record_hash: action.decision.record_hash,
        };
        let leaf = leaf.to_bytes();
        set.push(&leaf).map_err(ApiError::internal)?;
        blob.extend_from_slice(&leaf);
    }
    let set = set.finish();
    let campaigns: BTreeSet<&str> = actions
        .iter()
        .map(|action| action.decision.campaign.as_str())
        .collect();
    let one = campaigns.first().filter(|_| campaigns.len() == 1);
    Ok(PlannedActions {
        root: set.root.0,
        count: set.count,
        blob,
        campaign: one.copied().unwrap_or_default().to_owned(),
    })
}
