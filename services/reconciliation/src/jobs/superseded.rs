//! What a newer decision says counts: whatever was planned on an older one is not sent, and its finding is open again, so
//! that the next run judges it by what is decided now.

use std::collections::BTreeMap;

use counterfoil_chassis::db::WriteTx;
use counterfoil_evidence::{leaf::GrantKey, v1::FindingState};

use super::remediate::Job;
use crate::{
    context::Context,
    error::JobError,
    model::{
        entities::{Action, Digest},
        ids::RemediationKey,
        state::RemediationState,
    },
    records::{self, Stamp},
    store,
};

/// Sets the actions apart whose decisions are not the newest any more; answers the others.
pub(super) async fn set_apart(
    job: &Job<'_>,
    actions: Vec<Action>,
) -> Result<Vec<Action>, JobError> {
    let keys: Vec<GrantKey> = actions.iter().map(|action| action.key).collect();
    let (recertification, tenant) = (&job.context.recertification, &job.key.tenant);
    let newest = job
        .patiently(|| recertification.newest(tenant, &keys))
        .await?;
    let (standing, superseded) = newest.split(actions);
    if !superseded.is_empty() {
        let mut tx = job.write(RemediationState::Dispatched).await?;
        record(job.context, &mut tx, &job.key, &job.stamp(), &superseded).await?;
        // If we crash here: nothing is superseded yet, and it is asked again before anything goes out.
        tx.commit().await?;
        tracing::warn!(remediation = %job.key, count = superseded.len(), "newer decisions have superseded actions");
    }
    Ok(standing)
}

/// Writes superseded actions down; R45 for each finding that this remediation dealt with.
pub(crate) async fn record(
    context: &Context,
    tx: &mut WriteTx,
    key: &RemediationKey,
    stamp: &Stamp,
    superseded: &[Action],
) -> Result<(), JobError> {
    let by: BTreeMap<&str, Option<Digest>> = superseded
        .iter()
        .map(|action| (action.finding.as_str(), action.superseded_by))
        .collect();
    let mut findings = store::findings::many(tx, by.keys().map(|&id| id.to_owned())).await?;
    findings.retain(|finding| {
        finding.state == FindingState::Remediating && finding.remediation == key.remediation
    });
    let state = FindingState::Open;
    let drafts = findings.iter().map(|finding| {
        let evidence = by.get(finding.id.as_str()).copied().flatten();
        records::finding_changed(stamp, &finding.id, state, 0, evidence)
    });
    context
        .outbox
        .emit_many(tx, drafts.collect::<Vec<_>>())
        .await?;
    let change = store::findings::Change {
        state,
        until_ms: 0,
        now_ms: stamp.now_ms,
        remediation: "",
    };
    store::findings::change(tx, findings.into_iter().map(|finding| finding.id), change).await?;
    store::actions::update(tx, &key.remediation, superseded).await?;
    Ok(())
}
