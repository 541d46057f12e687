//! A provider that works for the customer: the engagement, the evidence, and one access.

use std::collections::BTreeMap;

use counterfoil_evidence::catalogue::{Payload, decode_payload};
use counterfoil_evidence::record::record_hash;
use counterfoil_evidence::v1::{self, EngagementProfile, OrganizationKind, ReassessmentResult};
use counterfoil_tlog::merkle;
use prost::Message as _;

use super::authority::{CAROL, DAY_MS, PROVIDER, credential, keys_and_schema, provider_principal};
use super::log::{Draft, LogBuilder, seed};

pub const ENGAGEMENT: &str = "engagements/e1";
pub const SUB: &str = "engagements/e2";
pub const MSP: &str = "tenants/msp";
pub const OTTO: &str = "tenants/msp/principals/otto";
pub const PETRA: &str = "tenants/msp/principals/petra";
const TOPICS: [&str; 3] = ["onboarding", "access_reviews", "incident_response"];

fn by<'d>(actor: &'d str) -> Draft<'d> {
    Draft {
        actor,
        ..Draft::default()
    }
}

/// Who answers for what; a provider that is engaged, rated, attested, reassessed; its operator, who has shown what they can.
pub fn engage(log: &mut LogBuilder) -> [u8; 32] {
    for activity in ["onboarding", "access_design", "offboarding"] {
        responsible(log, activity, OrganizationKind::Provider);
    }
    for duty in ["secrets", "approvals", "logging"] {
        responsible(log, duty, OrganizationKind::Customer);
    }
    ask_and_approve(log, ENGAGEMENT, None);
    ask_and_approve(log, SUB, Some(ENGAGEMENT));
    let level = v1::EnvironmentSensitivitySet {
        environment: "default".to_owned(),
        level: 2,
    };
    log.append(&Payload::EnvironmentSensitivitySet(level), by(CAROL));
    let tier = v1::PartnerTierSet {
        engagement: ENGAGEMENT.to_owned(),
        tier: 2,
        basis: "ISO-27001".to_owned(),
    };
    log.append(&Payload::PartnerTierSet(tier), by(CAROL));
    let attested = v1::ControlAttested {
        engagement: ENGAGEMENT.to_owned(),
        control: "access_control".to_owned(),
        statement_sha256: seed("statement").to_vec(),
        evidence_sha256: seed("evidence").to_vec(),
        valid_to_ms: log.now_ms + 60 * DAY_MS,
        attester: PETRA.to_owned(),
    };
    log.append(&Payload::ControlAttested(attested), by(PETRA));
    let reassessed = v1::ReassessmentCompleted {
        engagement: ENGAGEMENT.to_owned(),
        result: ReassessmentResult::Passed.into(),
        next_due_ms: log.now_ms + 60 * DAY_MS,
        assessor: CAROL.to_owned(),
    };
    log.append(&Payload::ReassessmentCompleted(reassessed), by(CAROL));
    provider_principal(log);
    let assigned = v1::OperatorAssigned {
        engagement: ENGAGEMENT.to_owned(),
        operator: OTTO.to_owned(),
        principal: PROVIDER.to_owned(),
        roles: vec!["operator".to_owned()],
    };
    let assigned = log.append(&Payload::OperatorAssigned(assigned), by(PETRA));
    access(log, "authority", assigned, SUBMIT);
    for topic in TOPICS {
        competent(log, topic);
    }
    assigned
}

fn responsible(log: &mut LogBuilder, activity: &str, kind: OrganizationKind) {
    let row = v1::ResponsibilityAssigned {
        activity: activity.to_owned(),
        operator_organization: "organizations/o".to_owned(),
        operator_kind: kind.into(),
        risk_owner: CAROL.to_owned(),
    };
    log.append(&Payload::ResponsibilityAssigned(row), by(CAROL));
}

fn ask_and_approve(log: &mut LogBuilder, engagement: &str, parent: Option<&str>) {
    let roles = vec!["operator".to_owned()];
    let asked = v1::EngagementRequested {
        engagement: engagement.to_owned(),
        provider: MSP.to_owned(),
        customer: "tenants/acme".to_owned(),
        roles: roles.clone(),
        purpose: "ACCESS-REVIEWS".to_owned(),
        profile: EngagementProfile::Standard.into(),
        term_days: 80,
        approvable_until_ms: log.now_ms + 90 * DAY_MS,
        parent: parent.unwrap_or_default().to_owned(),
    };
    let asked = log.append(&Payload::EngagementRequested(asked), by(PETRA));
    let valid_from_ms = log.now_ms + 5;
    let days = if parent.is_some() { 70 } else { 80 };
    let approved = v1::EngagementApproved {
        engagement: engagement.to_owned(),
        request_hash: asked.to_vec(),
        organization: "organizations/o".to_owned(),
        roles,
        profile: EngagementProfile::Standard.into(),
        valid_from_ms,
        valid_to_ms: valid_from_ms + days * DAY_MS,
        approver: CAROL.to_owned(),
    };
    let payload = match parent {
        None => Payload::EngagementApproved(approved),
        Some(parent) => Payload::SubcontractorEngaged(v1::SubcontractorEngaged {
            approved: Some(approved),
            parent: parent.to_owned(),
        }),
    };
    log.append(&payload, by(CAROL));
    if parent.is_none() {
        let extended = v1::EngagementExtended {
            engagement: engagement.to_owned(),
            from_valid_to_ms: valid_from_ms + days * DAY_MS,
            valid_to_ms: valid_from_ms + (days + 10) * DAY_MS,
            approver: CAROL.to_owned(),
        };
        log.append(&Payload::EngagementExtended(extended), by(CAROL));
    }
}

fn competent(log: &mut LogBuilder, topic: &str) {
    let submitted = v1::CompetencyEvidenceSubmitted {
        competency: format!("competencies/{topic}"),
        operator: OTTO.to_owned(),
        topic: topic.to_owned(),
        issuer: "ISC2".to_owned(),
        evidence_sha256: seed(topic).to_vec(),
        valid_to_ms: log.now_ms + 50 * DAY_MS,
    };
    let submission = log.append(
        &Payload::CompetencyEvidenceSubmitted(submitted.clone()),
        by(PROVIDER),
    );
    let accepted = v1::CompetencyEvidenceAccepted {
        competency: submitted.competency,
        submission_hash: submission.to_vec(),
        valid_to_ms: submitted.valid_to_ms,
        accepted_by: CAROL.to_owned(),
    };
    log.append(&Payload::CompetencyEvidenceAccepted(accepted), by(CAROL));
}

/// Methods that are called, by what they need.
pub const SUBMIT: (&str, &str) = (
    "competencies.submit",
    "/counterfoil.authority.v1.QualificationService/SubmitCompetency",
);
const START_SYNC: (&str, &str) = (
    "syncs.start",
    "/counterfoil.inventory.v1.SourceService/StartSync",
);
const GET_RUN: (&str, &str) = (
    "recon.get",
    "/counterfoil.reconciliation.v1.ReconService/GetReconRun",
);
const LIST_ITEMS: (&str, &str) = (
    "items.get",
    "/counterfoil.recertification.v1.ReviewService/ListItems",
);
const CREATE_CAMPAIGN: (&str, &str) = (
    "campaigns.create",
    "/counterfoil.recertification.v1.CampaignService/CreateCampaign",
);
const DECIDE: (&str, &str) = (
    "items.decide",
    "/counterfoil.recertification.v1.ReviewService/DecideItem",
);

/// An access to a service.
fn access(
    log: &mut LogBuilder,
    stream: &'static str,
    assigned: [u8; 32],
    (permission, method): (&str, &str),
) {
    let used = v1::OperatorAccessUsed {
        operator: OTTO.to_owned(),
        engagement: ENGAGEMENT.to_owned(),
        assignment_hash: assigned.to_vec(),
        method: method.to_owned(),
        permission: permission.to_owned(),
        ticket: String::new(),
    };
    log.append_on(stream, &Payload::OperatorAccessUsed(used), by(PROVIDER));
}

/// An access to recertification, before anything else is done there.
pub fn look_in(log: &mut LogBuilder, assigned: [u8; 32]) {
    access(log, "recertification", assigned, LIST_ITEMS);
}

/// An access for one decision.
pub fn decide(log: &mut LogBuilder, assigned: [u8; 32]) {
    access(log, "recertification", assigned, DECIDE);
}

/// An access to define a campaign.
pub fn define(log: &mut LogBuilder, assigned: [u8; 32]) {
    access(log, "recertification", assigned, CREATE_CAMPAIGN);
}

/// An access to other services, an hour after everything was said.
pub fn work(log: &mut LogBuilder, assigned: [u8; 32]) {
    log.tick(3_600_000);
    access(log, "inventory", assigned, START_SYNC);
    // One more, with nothing else to tell of it than that they were there.
    access(log, "reconciliation", assigned, GET_RUN);
}

/// The log of the provider itself, which tells of every access in the customer's log.
pub fn own_log(customer: &LogBuilder) -> LogBuilder {
    let mut log = LogBuilder::of("ledger.example/t/msp", MSP);
    keys_and_schema(&mut log);
    let created = v1::TenantLifecycleChanged {
        to: v1::TenantState::Onboarding.into(),
        kind: v1::TenantKind::Provider.into(),
        ..v1::TenantLifecycleChanged::default()
    };
    log.append(
        &Payload::TenantLifecycleChanged(created),
        by("operators/admin"),
    );
    let mut administrator = [0; 32];
    for person in ["principals/otto", "principals/petra"] {
        let registered = v1::PrincipalRegistered {
            principal: person.to_owned(),
            kind: v1::PrincipalKind::Human.into(),
            organization: "organizations/own".to_owned(),
            organization_kind: OrganizationKind::Provider.into(),
            identity_tag: Vec::new(),
        };
        administrator = log.append(&Payload::PrincipalRegistered(registered), Draft::default());
    }
    let petra = "principals/petra";
    credential(&mut log, "first", petra, "operators/admin", "");
    let activated = v1::TenantLifecycleChanged {
        from: v1::TenantState::Onboarding.into(),
        to: v1::TenantState::Active.into(),
        kind: v1::TenantKind::Provider.into(),
        gate_results: vec![v1::GateResult {
            requirement: "provider_administrator".to_owned(),
            record_hash: administrator.to_vec(),
        }],
        ..v1::TenantLifecycleChanged::default()
    };
    log.append(&Payload::TenantLifecycleChanged(activated), by(petra));
    credential(&mut log, "second", "principals/otto", petra, "first");
    log.now_ms = log.now_ms.max(customer.now_ms);
    for entry in &customer.entries {
        let entry = v1::Entry::decode(entry.as_slice()).unwrap();
        let record = v1::Record::decode(entry.record.as_slice()).unwrap();
        if let Some(Ok(Payload::OperatorAccessUsed(used))) =
            decode_payload(&record.r#type, &record.payload)
        {
            let link = v1::OperatorLogCrossLinked {
                operator: "principals/otto".to_owned(),
                customer: customer.tenant.clone(),
                customer_log_origin: customer.origin.clone(),
                access_hash: record_hash(&entry.record).to_vec(),
                method: used.method,
            };
            let draft = Draft {
                record_id: Some(record.record_id),
                ..Draft::default()
            };
            log.append_on("authority", &Payload::OperatorLogCrossLinked(link), draft);
        }
    }
    log.tick(DAY_MS);
    seal(&mut log);
    log
}

/// The one epoch of a log.
fn seal(log: &mut LogBuilder) {
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    let mut streams = BTreeMap::new();
    for (type_name, stream, seq, hash) in &log.metas {
        *types.entry(type_name.clone()).or_default() += 1;
        streams.insert((*stream).to_owned(), (*seq, hash.to_vec()));
    }
    let counts = types.into_iter();
    let marks = streams.into_iter();
    let sealed = v1::EpochSealed {
        epoch: 1,
        from_index: 0,
        to_index: log.size(),
        type_counts: counts
            .map(|(r#type, count)| v1::EntryTypeCount { r#type, count })
            .collect(),
        streams: marks
            .map(|(stream, (last_seq, last_record_hash))| v1::StreamMark {
                stream,
                last_seq,
                last_record_hash,
            })
            .collect(),
        open_obligations_root: merkle::root(&[]).0.to_vec(),
        open_obligations_count: 0,
    };
    log.append(&Payload::EpochSealed(sealed), Draft::default());
}
