//! RunReconciliation: both sides are read, compared and sealed, and the findings brought up to it.
//!
//! Invariants: what is not found any more is resolved only by a snapshot that could show it and is not older than the one in
//! which it was found; a finding that a remediation deals with is resolved by the remediation's proof and by nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use counterfoil_chassis::{
    auth::Caller,
    db::WriteTx,
    error::ApiError,
    idempotency::{self, Begun},
    names::new_id,
};
use counterfoil_evidence::{
    leaf::{GrantKey, SourceTag},
    v1::{FindingState, Situation},
};
use counterfoil_proto::reconciliation::{RunReconciliationRequest, RunReconciliationResponse};

use super::{Api, SnapshotName, convert};
use crate::{
    model::{
        compare::{Blobs, Comparer, Comparison, Decided, Found},
        entities::{Decision, Finding, Run},
        plan::{severity, time_to_act_ms},
        target::{GrantFacts, Snapshot},
    },
    records::{self, Stamp},
    store::{self, findings::Live},
};

const METHOD: &str = "RunReconciliation";

/// New findings written in one transaction.
const FINDINGS_BATCH: usize = 5_000;

/// Both sides, compared.
struct Picture {
    snapshot: Snapshot,
    decided: Vec<Decided>,
    comparison: Comparison,
    /// Grants with a live finding that the snapshot shows.
    present: HashSet<GrantKey>,
    /// Live findings, by grant and situation, before the comparison.
    live: HashSet<(GrantKey, Situation)>,
}

impl Api {
    pub(super) async fn reconcile(
        &self,
        caller: &Caller,
        request: RunReconciliationRequest,
    ) -> Result<RunReconciliationResponse, ApiError> {
        let name = SnapshotName::parse_field("snapshot", &request.snapshot)?;
        caller.require_tenant(&name.tenant)?;
        let tenant = self.context.tenants.require_active(&name.tenant).await?;
        // A comparison is long: a request that was done is answered before, not after it.
        let mut tx = self.context.db.write_tx(&tenant.id).await?;
        if let Begun::Replay(answer) =
            idempotency::begin(&mut tx, caller, METHOD, &request.request_id, &request).await?
        {
            tx.rollback().await?;
            return self.settled_run(&tenant.id, answer).await;
        }
        tx.rollback().await?;
        let stamp = self.context.fact(&tenant.id, caller).await?;
        let mut picture = self.picture(&tenant.id, &name, &stamp).await?;
        let blobs = picture.comparison.take_blobs();
        let fresh = fresh_findings(&picture);
        let (first, rest) = fresh.split_at(fresh.len().min(FINDINGS_BATCH));
        let first = self.describe(&tenant.id, &picture, first, &stamp).await?;

        let mut tx = self.context.db.write_tx(&tenant.id).await?;
        let begun =
            idempotency::begin(&mut tx, caller, METHOD, &request.request_id, &request).await?;
        let request_done = match begun {
            Begun::Replay(answer) => return self.settled_run(&tenant.id, answer).await,
            Begun::Fresh(fresh) => fresh,
        };
        let run = self
            .seal(&mut tx, &name.snapshot, &picture, blobs, &stamp)
            .await?;
        self.bring_up(&mut tx, &run, &picture, &stamp).await?;
        self.open_findings(&mut tx, &run, first, &stamp).await?;
        let answer = RunReconciliationResponse {
            recon_run: Some(convert::run(&tenant.id, &run, None)),
        };
        request_done.store(&mut tx, &answer, stamp.now_ms).await?;
        // If we crash here: nothing has happened, or the run stands with its first findings. Those that are still missing are
        // opened by the next run, which finds them again.
        tx.commit().await?;
        for batch in rest.chunks(FINDINGS_BATCH) {
            let findings = self.describe(&tenant.id, &picture, batch, &stamp).await?;
            let mut tx = self.context.db.write_tx(&tenant.id).await?;
            self.open_findings(&mut tx, &run, findings, &stamp).await?;
            tx.commit().await?;
        }
        self.settled_run(&tenant.id, answer).await
    }

    async fn settled_run(
        &self,
        tenant: &str,
        mut answer: RunReconciliationResponse,
    ) -> Result<RunReconciliationResponse, ApiError> {
        if let Some(run) = &mut answer.recon_run {
            self.settle(tenant, &mut run.receipt).await?;
        }
        Ok(answer)
    }

    async fn picture(
        &self,
        tenant: &str,
        name: &SnapshotName,
        stamp: &Stamp,
    ) -> Result<Picture, ApiError> {
        let context = &self.context;
        let full_name = name.to_string();
        let snapshot = context.inventory.snapshot(&full_name).await?;
        let decided = context.recertification.decided(tenant).await?;
        let live = {
            let mut connection = context.db.read(tenant).await?;
            store::findings::live(&mut connection, tenant).await?
        };
        let watched: HashSet<GrantKey> = live.iter().map(|finding| finding.key).collect();
        let shown: BTreeSet<SourceTag> = snapshot.sources.keys().copied().collect();
        let as_of_ms = u64::try_from(stamp.now_ms).unwrap_or(0);
        let mut present = HashSet::new();
        let mut comparer = Comparer::new(&decided, &shown, as_of_ms);
        context
            .inventory
            .each_leaf(&full_name, |leaf| {
                if watched.contains(&leaf.key) {
                    present.insert(leaf.key);
                }
                comparer.observe(leaf);
            })
            .await?;
        let comparison = comparer.finish().map_err(ApiError::internal)?;
        Ok(Picture {
            snapshot,
            comparison,
            present,
            live: live
                .iter()
                .map(|finding| (finding.key, finding.situation))
                .collect(),
            decided,
        })
    }

    /// R43 and the run.
    async fn seal(
        &self,
        tx: &mut WriteTx,
        snapshot: &str,
        picture: &Picture,
        blobs: Blobs,
        stamp: &Stamp,
    ) -> Result<Run, ApiError> {
        let id = new_id(stamp.now_ms);
        let comparison = &picture.comparison;
        let draft = records::run_sealed(stamp, &id, &picture.snapshot, comparison, blobs);
        let emitted = self.context.outbox.emit(tx, draft).await?;
        let run = Run {
            id,
            snapshot: snapshot.to_owned(),
            record_id: emitted.record_id.to_vec(),
            record_hash: emitted.record_hash,
            situations: comparison.situations().collect(),
            observed_count: comparison.observed_count,
            authorized_count: comparison.authorized.count,
            findings_count: comparison.findings_root.count,
            findings_root: comparison.findings_root.root.0,
            gap_count: comparison.gap_count,
            created_ms: stamp.now_ms,
        };
        store::runs::insert(tx, &run).await?;
        Ok(run)
    }

    /// Live findings that the run found again are noted, those it can tell are over are resolved, accepted risks that have
    /// run out are open again.
    async fn bring_up(
        &self,
        tx: &mut WriteTx,
        run: &Run,
        picture: &Picture,
        stamp: &Stamp,
    ) -> Result<(), ApiError> {
        let found: HashMap<(GrantKey, Situation), &Found> = picture
            .comparison
            .findings
            .iter()
            .map(|found| ((found.key, found.situation), found))
            .collect();
        let tenant = tx.tenant().to_owned();
        let live = store::findings::live(tx.conn(), &tenant).await?;
        let (mut again, mut resolved, mut run_out) = (Vec::new(), Vec::new(), Vec::new());
        for finding in live {
            match found.get(&(finding.key, finding.situation)) {
                Some(found) => {
                    if finding.state == FindingState::AcceptedRisk
                        && finding.until_ms <= stamp.now_ms
                    {
                        run_out.push(finding.id.clone());
                    }
                    let decision = found.decided.and_then(|at| decision(&picture.decided, at));
                    again.push((finding.id, decision));
                }
                None if is_over(&finding, run, picture) => resolved.push(finding.id),
                None => {}
            }
        }
        store::findings::found_again(tx, &run.id, again).await?;
        for (state, ids) in [
            (FindingState::ResolvedVerified, resolved),
            (FindingState::Open, run_out),
        ] {
            let evidence = Some(run.record_hash);
            let drafts: Vec<_> = ids
                .iter()
                .map(|id| records::finding_changed(stamp, id, state, 0, evidence))
                .collect();
            if !drafts.is_empty() {
                self.context.outbox.emit_many(tx, drafts).await?;
            }
            let change = store::findings::Change {
                state,
                until_ms: 0,
                now_ms: stamp.now_ms,
                remediation: "",
            };
            store::findings::change(tx, ids, change).await?;
        }
        Ok(())
    }

    /// New findings with the names of what they are about.
    async fn describe(
        &self,
        tenant: &str,
        picture: &Picture,
        fresh: &[&Found],
        stamp: &Stamp,
    ) -> Result<Vec<Finding>, ApiError> {
        let keys: Vec<GrantKey> = fresh.iter().map(|found| found.key).collect();
        let facts = self.context.inventory.grants(tenant, &keys).await?;
        let names: BTreeMap<GrantKey, GrantFacts> =
            facts.into_iter().map(|facts| (facts.key, facts)).collect();
        let describe = |found: &&Found| {
            let facts = names.get(&found.key);
            let severity = severity(found.situation);
            Finding {
                id: new_id(stamp.now_ms),
                key: found.key,
                situation: found.situation,
                severity,
                run: String::new(),
                due_ms: stamp.now_ms + time_to_act_ms(severity),
                created_ms: stamp.now_ms,
                account_name: facts
                    .map(|facts| facts.account_name.clone())
                    .unwrap_or_default(),
                entitlement_name: facts
                    .map(|facts| facts.entitlement_name.clone())
                    .unwrap_or_default(),
                decision: found.decided.and_then(|at| decision(&picture.decided, at)),
                owner: stamp.owner.clone(),
                state: FindingState::Open,
                until_ms: 0,
                changed_ms: stamp.now_ms,
                remediation: String::new(),
            }
        };
        Ok(fresh.iter().map(describe).collect())
    }

    /// R44 for each that is not live by now.
    async fn open_findings(
        &self,
        tx: &mut WriteTx,
        run: &Run,
        mut findings: Vec<Finding>,
        stamp: &Stamp,
    ) -> Result<(), ApiError> {
        let keys: Vec<GrantKey> = findings.iter().map(|finding| finding.key).collect();
        let live: HashSet<_> = store::findings::live_keys(tx, keys)
            .await?
            .into_iter()
            .collect();
        findings.retain(|finding| !live.contains(&(finding.key, finding.situation)));
        for finding in &mut findings {
            finding.run.clone_from(&run.id);
        }
        let drafts: Vec<_> = findings
            .iter()
            .map(|finding| records::finding_opened(stamp, finding, run))
            .collect();
        if !drafts.is_empty() {
            self.context.outbox.emit_many(tx, drafts).await?;
            store::findings::insert(tx, &findings).await?;
        }
        Ok(())
    }
}

/// Findings that were not live before.
fn fresh_findings(picture: &Picture) -> Vec<&Found> {
    picture
        .comparison
        .findings
        .iter()
        .filter(|found| !picture.live.contains(&(found.key, found.situation)))
        .collect()
}

/// Whether the picture shows that a live finding which was not found again is over.
fn is_over(finding: &Live, run: &Run, picture: &Picture) -> bool {
    let Some(read_ms) = picture.snapshot.sources.get(&finding.key.source_tag()) else {
        return false;
    };
    // Ids of snapshots sort by time.
    if finding.state == FindingState::Remediating || run.snapshot < finding.snapshot {
        return false;
    }
    // The grant is there and in another situation; or it is not there, which an older picture cannot tell.
    picture.present.contains(&finding.key) || *read_ms >= finding.changed_ms
}

fn decision(decided: &[Decided], at: usize) -> Option<Decision> {
    let side = decided.get(at)?;
    Some(Decision {
        record_hash: side.leaf.record_hash,
        decided_ms: side.decided_ms,
        decided_by: side.decided_by.to_string(),
        kept: side.kept,
        campaign: side.campaign.to_string(),
    })
}
