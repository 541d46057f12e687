//! Onboarding: keys, schema, principals, policy, rights.

use counterfoil_evidence::catalogue::{Payload, stream};
use counterfoil_evidence::v1::{self, DecisionAction, OrganizationKind, PrincipalKind};
use counterfoil_evidence::{DESCRIPTOR_SET, schema_hash};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::governance;
use super::log::{Draft, LogBuilder, STREAMS, seed};

pub const ALICE: &str = "principals/alice";
pub const BOB: &str = "principals/bob";
pub const CAROL: &str = "principals/carol";
/// Who is called for to release a hold while the tenant leaves.
pub const DAVE: &str = "principals/dave";
pub const PROVIDER: &str = "principals/operator";
pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// Hashes of the decision rights.
pub struct Rights {
    pub alice_review: Vec<u8>,
    pub alice_except: Vec<u8>,
    pub bob_review: Vec<u8>,
    pub provider_review: Vec<u8>,
    pub certify: Vec<u8>,
    pub remediate: Vec<u8>,
    /// Of whoever plans.
    pub plan: Vec<u8>,
    /// Of an AI agent, for what it plans and accepts by itself; empty: there is none.
    pub agent_plan: Vec<u8>,
    pub agent_except: Vec<u8>,
    /// Of the assignment of the provider's operator.
    pub assigned: [u8; 32],
}

pub fn tag_of(principal: &str) -> Vec<u8> {
    seed(&format!("identity of {principal}")).to_vec()
}

pub fn onboard(log: &mut LogBuilder) -> Rights {
    keys_and_schema(log);
    for (principal, organization_kind) in [
        (ALICE, OrganizationKind::Customer),
        (BOB, OrganizationKind::Customer),
        (CAROL, OrganizationKind::Customer),
    ] {
        human(log, principal, organization_kind);
    }
    begin(log);
    let policy = policy(log);
    let remediate = right(log, CAROL, DecisionAction::Remediate, &["*"]);
    let mut rights = Rights {
        alice_review: right(log, ALICE, DecisionAction::Review, &["*"]),
        alice_except: right(log, ALICE, DecisionAction::Except, &["*"]),
        bob_review: right(
            log,
            BOB,
            DecisionAction::Review,
            &[super::estate::HR, super::estate::LDAP],
        ),
        provider_review: Vec::new(),
        certify: right(log, CAROL, DecisionAction::Certify, &["*"]),
        plan: remediate.clone(),
        remediate,
        agent_plan: Vec::new(),
        agent_except: Vec::new(),
        assigned: [0; 32],
    };
    credential(log, "first", CAROL, "operators/admin", "");
    rights.assigned = super::provider::engage(log);
    rights.provider_review = right(log, PROVIDER, DecisionAction::Review, &["*"]);
    governance::activate(log, &rights, policy);
    assert_eq!(log.metas[0].1, stream::LEDGER);
    rights
}

/// The customer goes on by itself: what the deployment issued makes another credential, and is given back.
pub fn hand_over(log: &mut LogBuilder) {
    credential(log, "second", ALICE, CAROL, "first");
    let revoked = v1::CredentialRevoked {
        credential: "first".to_owned(),
        effective_ms: log.now_ms + 5,
    };
    let draft = Draft {
        actor: CAROL,
        ..Draft::default()
    };
    log.append(&Payload::CredentialRevoked(revoked), draft);
}

pub fn credential(
    log: &mut LogBuilder,
    id: &str,
    principal: &str,
    issuer: &'static str,
    issued_with: &str,
) {
    // Those that are made of another credential are for some calls alone.
    let scopes = match issued_with {
        "" => Vec::new(),
        _ => vec!["decision_rights.get".to_owned(), "items.get".to_owned()],
    };
    let issued = v1::CredentialIssued {
        credential: id.to_owned(),
        kind: v1::CredentialKind::ApiToken.into(),
        principal: principal.to_owned(),
        scopes,
        valid_to_ms: log.now_ms + DAY_MS,
        issued_with: issued_with.to_owned(),
        secret_tag: seed(&format!("tag of {id}")).to_vec(),
        certificate_sha256: Vec::new(),
    };
    let draft = Draft {
        actor: issuer,
        ..Draft::default()
    };
    log.append(&Payload::CredentialIssued(issued), draft);
}

/// Whom somebody of the provider acts as.
pub fn provider_principal(log: &mut LogBuilder) {
    human(log, PROVIDER, OrganizationKind::Provider);
}

fn human(log: &mut LogBuilder, principal: &str, organization_kind: OrganizationKind) {
    let kinds = (PrincipalKind::Human, organization_kind);
    register(log, principal, kinds, tag_of(principal));
}

pub fn register(
    log: &mut LogBuilder,
    principal: &str,
    (kind, organization_kind): (PrincipalKind, OrganizationKind),
    identity_tag: Vec<u8>,
) {
    let registered = v1::PrincipalRegistered {
        principal: principal.to_owned(),
        kind: kind.into(),
        organization: "organizations/o".to_owned(),
        organization_kind: organization_kind.into(),
        identity_tag,
    };
    log.append(
        &Payload::PrincipalRegistered(registered),
        Draft {
            commitments: vec![("display_name", principal.as_bytes().to_vec())],
            ..Draft::default()
        },
    );
}

fn begin(log: &mut LogBuilder) {
    let created = v1::TenantLifecycleChanged {
        to: v1::TenantState::Onboarding.into(),
        ..v1::TenantLifecycleChanged::default()
    };
    let draft = Draft {
        actor: "operators/admin",
        ..Draft::default()
    };
    log.append(&Payload::TenantLifecycleChanged(created), draft);
}

fn policy(log: &mut LogBuilder) -> Vec<u8> {
    let rules = v1::PolicyRules {
        review_interval_max_ms: 365 * DAY_MS,
        exception_max_ms: 90 * DAY_MS,
        snapshot_age_max_ms: 2 * DAY_MS,
        lapse_rule: v1::LapseRule::RetainAsDebt.into(),
        threshold_count: 5,
        threshold_permille: 500,
        val_required: 3,
        persistence_offsets_ms: vec![HOUR_MS, 7 * DAY_MS],
        dormant_after_ms: 90 * DAY_MS,
        four_eyes_actions: vec![DecisionAction::Export.into()],
        ..v1::PolicyRules::default()
    };
    let bundle_hash = Sha256::digest(rules.encode_to_vec()).to_vec();
    let published = v1::PolicyBundlePublished {
        bundle_hash: bundle_hash.clone(),
        version: 1,
        effective_from_ms: log.now_ms,
        rules: Some(rules),
    };
    let hash = log.append(&Payload::PolicyBundlePublished(published), Draft::default());
    log.policy = bundle_hash;
    hash.to_vec()
}

/// A right to certify whatever there is, once the tenant is active.
pub fn right_to_certify(log: &mut LogBuilder, grantee: &str) -> Vec<u8> {
    let by = Draft {
        actor: CAROL,
        ..Draft::default()
    };
    right_by(log, (grantee, DecisionAction::Certify, &["*"]), by)
}

fn right(log: &mut LogBuilder, grantee: &str, action: DecisionAction, scope: &[&str]) -> Vec<u8> {
    right_by(log, (grantee, action, scope), Draft::default())
}

pub fn right_by(
    log: &mut LogBuilder,
    (grantee, action, scope): (&str, DecisionAction, &[&str]),
    by: Draft<'_>,
) -> Vec<u8> {
    let granted = v1::DecisionRightGranted {
        right: format!("{grantee}-{action:?}"),
        grantee: grantee.to_owned(),
        action: action.into(),
        scope: scope.iter().map(|scope| (*scope).to_owned()).collect(),
        valid_from_ms: log.now_ms,
        valid_to_ms: log.now_ms + 365 * DAY_MS,
        grantor: CAROL.to_owned(),
        ..v1::DecisionRightGranted::default()
    };
    log.append(&Payload::DecisionRightGranted(granted), by)
        .to_vec()
}

/// What the ledger states in every log: the producers' keys and the schema.
pub fn keys_and_schema(log: &mut LogBuilder) {
    let keys: Vec<(String, String, &str)> = STREAMS
        .iter()
        .map(|name| {
            let producer = &log.producers[name];
            (producer.key_id.clone(), producer.key.to_string(), *name)
        })
        .collect();
    for (key_id, vkey, stream_name) in keys {
        let registered = v1::ActorKeyRegistered {
            principal: format!("services/{stream_name}"),
            key_id,
            vkey,
            streams: vec![stream_name.to_owned()],
            valid_from_ms: log.now_ms,
        };
        log.append(&Payload::ActorKeyRegistered(registered), Draft::default());
    }
    let schema = v1::SchemaRegistered {
        schema_hash: schema_hash().to_vec(),
        size_bytes: DESCRIPTOR_SET.len() as u64,
    };
    log.append(
        &Payload::SchemaRegistered(schema),
        Draft {
            blobs: vec![("application/x-protobuf", DESCRIPTOR_SET.to_vec())],
            ..Draft::default()
        },
    );
}
