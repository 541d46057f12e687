//! How the tenant governs itself: its activation, a right that two people granted, one passed on, and an emergency.

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::v1::{self, DecisionAction};

use super::authority::{ALICE, BOB, CAROL, DAVE, DAY_MS, HOUR_MS, Rights, tag_of};
use super::log::{Draft, LogBuilder};

fn by(actor: &str) -> Draft<'_> {
    Draft {
        actor,
        ..Draft::default()
    }
}

/// What else activation rests on, the activation, and what follows it.
pub fn activate(log: &mut LogBuilder, rights: &Rights, policy: Vec<u8>) {
    let unit = v1::BusinessUnitOwnerSet {
        business_unit: "business-units/all".to_owned(),
        owner: CAROL.to_owned(),
        deputy: BOB.to_owned(),
        effective_from_ms: log.now_ms,
    };
    let unit = log.append(&Payload::BusinessUnitOwnerSet(unit), Draft::default());
    let path = v1::EscalationPathSet {
        scope: "*".to_owned(),
        levels: Vec::new(),
        last_resort: CAROL.to_owned(),
    };
    let path = log.append(&Payload::EscalationPathSet(path), Draft::default());
    let retention = v1::RetentionPolicySet::default();
    let retention = log.append(&Payload::RetentionPolicySet(retention), Draft::default());
    let results = [
        ("business_unit_owner", unit.to_vec()),
        ("decision_rights.review", rights.alice_review.clone()),
        ("decision_rights.remediate", rights.remediate.clone()),
        ("decision_rights.certify", rights.certify.clone()),
        ("escalation_path", path.to_vec()),
        ("retention_policy", retention.to_vec()),
        ("policy_bundle", policy),
    ];
    let activated = v1::TenantLifecycleChanged {
        from: v1::TenantState::Onboarding.into(),
        to: v1::TenantState::Active.into(),
        gate_results: results
            .map(|(requirement, record_hash)| v1::GateResult {
                requirement: requirement.to_owned(),
                record_hash,
            })
            .to_vec(),
        ..v1::TenantLifecycleChanged::default()
    };
    log.append(&Payload::TenantLifecycleChanged(activated), by(CAROL));
    super::authority::hand_over(log);
    two_people(log);
    passed_on(log, rights);
    emergency(log);
    hold(log);
}

/// The customer leaves with its evidence, and is closed.
pub fn leave(log: &mut LogBuilder) {
    let exiting = v1::TenantLifecycleChanged {
        from: v1::TenantState::Active.into(),
        to: v1::TenantState::Exiting.into(),
        reason_code: "contract-ended".to_owned(),
        ..v1::TenantLifecycleChanged::default()
    };
    log.append(&Payload::TenantLifecycleChanged(exiting), by(CAROL));
    hold_of_who_leaves(log);
    let pack = v1::EvidencePackIssued {
        pack: "last".to_owned(),
        tree_size: log.size(),
        root_hash: log.root().to_vec(),
        format_code: "bundle".to_owned(),
        recipient: CAROL.to_owned(),
    };
    let pack = log.append(&Payload::EvidencePackIssued(pack), by(CAROL));
    let closed = v1::TenantLifecycleChanged {
        from: v1::TenantState::Exiting.into(),
        to: v1::TenantState::Closed.into(),
        evidence_record_hash: pack.to_vec(),
        ..v1::TenantLifecycleChanged::default()
    };
    log.append(
        &Payload::TenantLifecycleChanged(closed),
        by("operators/admin"),
    );
}

/// Evidence is held while the tenant leaves, and released by a human who is called for it.
fn hold_of_who_leaves(log: &mut LogBuilder) {
    let placed = v1::LegalHoldPlaced {
        hold: "case-8".to_owned(),
        basis: "FRCP-37E".to_owned(),
        reason_code: "litigation".to_owned(),
        ..v1::LegalHoldPlaced::default()
    };
    let placed = log.append(&Payload::LegalHoldPlaced(placed), by(CAROL));
    let second = v1::PrincipalRegistered {
        principal: DAVE.to_owned(),
        kind: v1::PrincipalKind::Human.into(),
        organization: "organizations/o".to_owned(),
        organization_kind: v1::OrganizationKind::Customer.into(),
        identity_tag: tag_of(DAVE),
    };
    let named = Draft {
        commitments: vec![("display_name", DAVE.as_bytes().to_vec())],
        ..by(CAROL)
    };
    log.append(&Payload::PrincipalRegistered(second), named);
    let released = v1::LegalHoldReleased {
        hold: "case-8".to_owned(),
        placed_record_hash: placed.to_vec(),
        reason_code: "settled".to_owned(),
    };
    log.append(&Payload::LegalHoldReleased(released), by(DAVE));
}

fn two_people(log: &mut LogBuilder) {
    let proposed = v1::DecisionRightProposed {
        right: "export".to_owned(),
        grantee: ALICE.to_owned(),
        action: DecisionAction::Export.into(),
        scope: vec!["*".to_owned()],
        valid_from_ms: log.now_ms,
        valid_to_ms: log.now_ms + 30 * DAY_MS,
        grantor: CAROL.to_owned(),
        ..v1::DecisionRightProposed::default()
    };
    let granted = v1::DecisionRightGranted {
        right: proposed.right.clone(),
        grantee: proposed.grantee.clone(),
        action: proposed.action,
        scope: proposed.scope.clone(),
        valid_from_ms: proposed.valid_from_ms,
        valid_to_ms: proposed.valid_to_ms,
        grantor: proposed.grantor.clone(),
        ..v1::DecisionRightGranted::default()
    };
    let proposal = log.append(&Payload::DecisionRightProposed(proposed), by(CAROL));
    let granted = v1::DecisionRightGranted {
        proposal_record_hash: proposal.to_vec(),
        ..granted
    };
    log.append(&Payload::DecisionRightGranted(granted), by(BOB));
}

fn passed_on(log: &mut LogBuilder, rights: &Rights) {
    let delegation = v1::DelegationGranted {
        delegation: "absence".to_owned(),
        delegator: CAROL.to_owned(),
        delegate: ALICE.to_owned(),
        source_record_hash: rights.remediate.clone(),
        action: DecisionAction::Remediate.into(),
        scope: vec!["*".to_owned()],
        valid_from_ms: log.now_ms,
        valid_to_ms: log.now_ms + 30 * DAY_MS,
        reason_code: "absence".to_owned(),
        ..v1::DelegationGranted::default()
    };
    log.append(&Payload::DelegationGranted(delegation), by(CAROL));
}

fn emergency(log: &mut LogBuilder) {
    let requested = v1::EmergencyAccessRequested {
        access: "night".to_owned(),
        requester: ALICE.to_owned(),
        roles: vec!["operator".to_owned()],
        actions: vec![DecisionAction::Remediate.into()],
        scope: vec!["*".to_owned()],
        duration_ms: HOUR_MS,
    };
    let request = log.append(
        &Payload::EmergencyAccessRequested(requested.clone()),
        by(ALICE),
    );
    let activated = v1::EmergencyAccessActivated {
        access: requested.access,
        request_record_hash: request.to_vec(),
        requester: requested.requester,
        approver: CAROL.to_owned(),
        roles: requested.roles,
        actions: requested.actions,
        scope: requested.scope,
        valid_from_ms: log.now_ms + 5,
        valid_to_ms: log.now_ms + 5 + HOUR_MS,
    };
    let activation = log.append(&Payload::EmergencyAccessActivated(activated), by(CAROL));
    let ended = v1::EmergencyAccessEnded {
        access: "night".to_owned(),
        effective_ms: log.now_ms + 5,
    };
    log.append(&Payload::EmergencyAccessEnded(ended), by(CAROL));
    let reviewed = v1::EmergencyUseReviewed {
        access: "night".to_owned(),
        activation_record_hash: activation.to_vec(),
        reviewer: BOB.to_owned(),
        outcome_code: "justified".to_owned(),
    };
    log.append(&Payload::EmergencyUseReviewed(reviewed), by(BOB));
}

/// Evidence is held, kept for longer meanwhile, and released by another human; then it may go sooner.
fn hold(log: &mut LogBuilder) {
    let rules = |governance, operations| {
        let rule = |class: &str, duration_days| v1::RetentionRule {
            retention_class: class.to_owned(),
            duration_days,
            basis: "SOX-404".to_owned(),
            jurisdiction: "*".to_owned(),
        };
        let rules = vec![
            rule("governance", governance),
            rule("operations", operations),
        ];
        Payload::RetentionPolicySet(v1::RetentionPolicySet { rules })
    };
    log.append(&rules(3_650, 365), by(CAROL));
    let placed = v1::LegalHoldPlaced {
        hold: "case-7".to_owned(),
        retention_classes: vec!["governance".to_owned()],
        basis: "FRCP-37E".to_owned(),
        reason_code: "litigation".to_owned(),
    };
    let placed = log.append(&Payload::LegalHoldPlaced(placed), by(CAROL));
    // What no hold covers may go sooner.
    log.append(&rules(4_000, 30), by(CAROL));
    let released = v1::LegalHoldReleased {
        hold: "case-7".to_owned(),
        placed_record_hash: placed.to_vec(),
        reason_code: "settled".to_owned(),
    };
    log.append(&Payload::LegalHoldReleased(released), by(BOB));
    log.append(&rules(3_650, 30), by(CAROL));
}
