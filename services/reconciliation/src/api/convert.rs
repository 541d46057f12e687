//! Model to proto.

use counterfoil_chassis::clock::timestamp;
use counterfoil_proto::{
    common::{EvidenceState, Receipt},
    reconciliation as proto,
};

use crate::model::entities::{Action, Finding, Obligation, Remediation, Run};

/// A run, with its receipt as far as it is.
pub(super) fn run(tenant: &str, run: &Run, receipt: Option<Receipt>) -> proto::ReconRun {
    proto::ReconRun {
        name: format!("tenants/{tenant}/recon-runs/{}", run.id),
        snapshot: format!("tenants/{tenant}/snapshots/{}", run.snapshot),
        situations: run
            .situations
            .iter()
            .map(|(situation, count)| proto::SituationCount {
                situation: *situation,
                count: *count,
            })
            .collect(),
        observed_count: run.observed_count,
        authorized_count: run.authorized_count,
        findings_count: run.findings_count,
        findings_root: run.findings_root.to_vec(),
        gap_count: run.gap_count,
        create_time: Some(timestamp(run.created_ms)),
        receipt: Some(receipt.unwrap_or_else(|| pending(run))),
    }
}

fn pending(run: &Run) -> Receipt {
    Receipt {
        record_id: run.record_id.clone(),
        record_hash: run.record_hash.to_vec(),
        state: EvidenceState::Pending.into(),
        ..Receipt::default()
    }
}

/// A finding.
pub(super) fn finding(tenant: &str, finding: &Finding) -> proto::Finding {
    let remediation = match finding.remediation.as_str() {
        "" => String::new(),
        id => format!("tenants/{tenant}/remediations/{id}"),
    };
    proto::Finding {
        name: format!("tenants/{tenant}/{}", finding.local()),
        situation: finding.situation as i32,
        state: finding.state as i32,
        grant: format!("tenants/{tenant}/grants/{}", hex::encode(finding.key.0)),
        account_display_name: finding.account_name.clone(),
        entitlement_display_name: finding.entitlement_name.clone(),
        severity: finding.severity,
        due_time: Some(timestamp(finding.due_ms)),
        recon_run: format!("tenants/{tenant}/recon-runs/{}", finding.run),
        remediation,
        create_time: Some(timestamp(finding.created_ms)),
    }
}

/// A remediation.
pub(super) fn remediation(
    tenant: &str,
    remediation: &Remediation,
    verified_count: u64,
) -> proto::Remediation {
    let open = remediation.actions_count.saturating_sub(verified_count);
    proto::Remediation {
        name: format!("tenants/{tenant}/remediations/{}", remediation.id),
        // The numbers of the model are the API's.
        state: i32::try_from(remediation.state as i64).unwrap_or_default(),
        recon_run: format!("tenants/{tenant}/recon-runs/{}", remediation.run),
        actions_count: remediation.actions_count,
        verified_count,
        open_count: open,
        threshold_metric: remediation.threshold_metric.clone(),
        threshold_limit: remediation.threshold_limit,
        val_required: remediation.val_required,
        approver: remediation.approver.full(tenant),
        decided_to_verified_p50_ms: remediation.p50_ms,
        decided_to_verified_max_ms: remediation.max_ms,
        create_time: Some(timestamp(remediation.created_ms)),
    }
}

/// An action.
pub(super) fn action(tenant: &str, remediation: &str, action: &Action) -> proto::Action {
    proto::Action {
        name: format!(
            "tenants/{tenant}/remediations/{remediation}/{}",
            action.local()
        ),
        grant: format!("tenants/{tenant}/grants/{}", hex::encode(action.key.0)),
        state: i32::try_from(action.state as i64).unwrap_or_default(),
        account_display_name: action.account_name.clone(),
        entitlement_display_name: action.entitlement_name.clone(),
        failure_message: action.failure.clone(),
        attempts: action.attempts,
        verify_time: (action.verified_ms > 0).then(|| timestamp(action.verified_ms)),
    }
}

/// An obligation.
pub(super) fn obligation(owed: &Obligation) -> proto::Obligation {
    proto::Obligation {
        id: hex::encode(owed.id),
        kind: owed.kind.clone(),
        owner: format!("tenants/{}/{}", owed.tenant, owed.owner),
        due_time: Some(timestamp(owed.due_ms)),
        object: format!("tenants/{}/remediations/{}", owed.tenant, owed.remediation),
    }
}

#[cfg(test)]
mod tests {
    use counterfoil_evidence::v1;

    use super::*;
    use crate::model::state::{ActionState, RemediationState};

    #[test]
    fn numbers_of_records_tables_and_api_are_the_same() {
        for number in 1..=13 {
            let situation = v1::Situation::try_from(number).unwrap();
            let own = proto::Situation::try_from(number).unwrap();
            assert_eq!(situation.as_str_name(), own.as_str_name());
        }
        for number in 1..=5 {
            let state = v1::FindingState::try_from(number).unwrap();
            let own = proto::FindingState::try_from(number).unwrap();
            assert_eq!(state.as_str_name(), own.as_str_name());
        }
        for number in 1..=10 {
            let state = RemediationState::from_number(number.into()).unwrap();
            let own = proto::RemediationState::try_from(number).unwrap();
            assert_eq!(
                format!("REMEDIATION_STATE_{}", state.shown()),
                own.as_str_name()
            );
        }
        for number in 1..=10 {
            let state = format!("{:?}", ActionState::from_number(number.into()).unwrap());
            let own = proto::ActionState::try_from(number).unwrap();
            let shown = own
                .as_str_name()
                .replace("ACTION_STATE_", "")
                .replace('_', "");
            assert_eq!(state.to_uppercase(), shown);
        }
    }
}
