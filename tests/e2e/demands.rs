//! Rows of the demands that only a whole cycle can show. Each test is named by its row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use counterfoil_evidence::catalogue::RECORD_TYPES;
use counterfoil_evidence::leaf::{GrantKey, media_type};
use counterfoil_evidence::v1;
use counterfoil_proto::recertification::Presentation;
use counterfoil_tests::evidence::{Evidence, Logged, key};
use counterfoil_tests::folder;
use counterfoil_tests::process::Suite;
use counterfoil_tests::process::executable;
use counterfoil_tests::steps::{Steps, list, text};
use counterfoil_tlog::Hash;
use counterfoil_tlog::sorted_set::{SetProof, SortedSet, verify_non_membership};
use prost::Message;

use crate::golden::{TENANT, decisions, golden, services};

/// What the reviewers were shown, by grant.
fn shown(evidence: &Evidence) -> BTreeMap<GrantKey, Presentation> {
    let mut shown = BTreeMap::new();
    for (logged, routed) in evidence.of::<v1::ReviewItemRouted>().unwrap() {
        let presentation = evidence.opening(logged, "presentation").unwrap();
        let presentation = Presentation::decode(presentation).unwrap();
        shown.insert(key(&routed.leaf).unwrap(), presentation);
    }
    shown
}

/// The grant that this account has this entitlement.
fn grant(evidence: &Evidence, account: &str, entitlement: &str) -> GrantKey {
    let shown = shown(evidence);
    let mut found = shown.iter().filter(|(_, shown)| {
        (
            shown.account_native_id.as_str(),
            shown.entitlement_native_id.as_str(),
        ) == (account, entitlement)
    });
    *found.next().unwrap().0
}

/// The one record of a type about a grant.
fn only<M: Message + prost::Name + Default>(
    evidence: &Evidence,
    grant: GrantKey,
    key_of: fn(&M) -> &[u8],
) -> (&Logged, M) {
    let mut found = evidence
        .of::<M>()
        .unwrap()
        .into_iter()
        .filter(|(_, payload)| key_of(payload).get(..40) == Some(&grant.0));
    let one = found.next().unwrap_or_else(|| panic!("no {}", M::NAME));
    assert!(found.next().is_none(), "two {}", M::NAME);
    one
}

fn holds(evidence: &Evidence, logged: &Logged, media_type: &str, start: &[u8]) -> bool {
    let blob = evidence.blob(logged, media_type).unwrap();
    let width = match media_type {
        media_type::POPULATION => 74,
        _ => 73,
    };
    blob.chunks(width).any(|leaf| leaf.starts_with(start))
}

/// Follows a removal from the sealed population to its verified end, record by record, by nothing but what the records
/// themselves refer to.
fn trace(evidence: &Evidence, grant: GrantKey) {
    let staged = &evidence.of::<v1::CampaignStaged>().unwrap()[0];
    assert!(holds(evidence, staged.0, media_type::POPULATION, &grant.0));
    let snapshot = evidence.by_hash(&staged.1.snapshot_record_hash).unwrap();
    assert!(snapshot.record.r#type.ends_with("SnapshotSealed"));
    let (routed, _) = only::<v1::ReviewItemRouted>(evidence, grant, |routed| &routed.leaf);
    let (decided, decision) =
        only::<v1::ReviewDecided>(evidence, grant, |decided| &decided.grant_key);
    let presentation = routed
        .record
        .commitment
        .iter()
        .find(|one| one.label == "presentation")
        .unwrap();
    assert_eq!(decision.presentation_hash, presentation.digest);
    let (intended, intent) =
        only::<v1::ActionIntended>(evidence, grant, |intent| &intent.grant_key);
    let planned = evidence.by_hash(&intent.plan_record_hash).unwrap();
    let action = [
        &grant.0[..],
        &[u8::try_from(intent.operation).unwrap()],
        &decided.hash,
    ]
    .concat();
    assert!(holds(evidence, planned, media_type::ACTIONS, &action));
    let attempted = evidence.of::<v1::ActionAttempted>().unwrap();
    let (attempted, attempt) = attempted
        .iter()
        .find(|(_, attempt)| attempt.intent_record_hash == intended.hash)
        .unwrap();
    assert_eq!(attempt.result(), v1::AttemptResult::Ok);
    let (verified, effect) =
        only::<v1::EffectVerified>(evidence, grant, |effect| &effect.grant_key);
    assert_eq!((&effect.action, effect.val), (&intent.action, 3));
    let read_back = evidence.by_hash(&effect.sync_record_hash).unwrap();
    let (ended, end) = only::<v1::GrantEnded>(evidence, grant, |end| &end.grant_key);
    assert_eq!(end.decision_record_hash, decided.hash);
    assert_eq!(end.verified_record_hash, verified.hash);
    assert_ne!(effect.reader_principal, attempt.executor);
    let order = [
        snapshot.index,
        staged.0.index,
        routed.index,
        decided.index,
        planned.index,
        intended.index,
        attempted.index,
        read_back.index,
        verified.index,
        ended.index,
    ];
    assert!(order.is_sorted(), "{order:?}");
    // And whoever asks for the grant finds every step.
    let subject = format!("grants/{}", hex::encode(grant.0));
    for logged in [routed, decided, intended, *attempted, verified, ended] {
        let kind = &logged.record.r#type;
        assert!(logged.record.subject.contains(&subject), "{kind}");
    }
}

#[test]
fn d6_a_decision_is_traced_from_the_sealed_population_to_its_verified_end() {
    let evidence = &golden().evidence;
    trace(evidence, grant(evidence, "sofia_rossi", "pg_superuser"));
    trace(evidence, grant(evidence, "peter.novak", "hr-admin"));
}

#[test]
fn e6_the_path_is_on_record_for_people_and_for_machines_alike() {
    let evidence = &golden().evidence;
    trace(evidence, grant(evidence, "greta_holm", "pay_readwrite"));
    trace(evidence, grant(evidence, "old_import", "pay_readonly"));
    let agent = grant(evidence, "agent-onboarding", "people-write");
    let (_, decision) = only::<v1::ReviewDecided>(evidence, agent, |decided| &decided.grant_key);
    assert_eq!(decision.decision(), v1::Decision::Exception);
}

#[test]
fn e7_every_outcome_has_a_named_human_owner_of_the_customer() {
    let evidence = &golden().evidence;
    let people: BTreeSet<String> = evidence
        .of::<v1::PrincipalRegistered>()
        .unwrap()
        .into_iter()
        .filter(|(_, principal)| {
            principal.kind() == v1::PrincipalKind::Human
                && principal.organization_kind() == v1::OrganizationKind::Customer
        })
        .map(|(_, principal)| principal.principal)
        .collect();
    assert_eq!(people.len(), 5);
    let outcomes: BTreeSet<String> = RECORD_TYPES
        .iter()
        .filter(|kind| kind.outcome)
        .map(|kind| format!("counterfoil.evidence.v1.{}", kind.name))
        .collect();
    let mut seen = BTreeSet::new();
    for logged in &evidence.log {
        if outcomes.contains(&logged.record.r#type) {
            let owner = logged.accountability().accountable_owner;
            assert!(
                people.contains(&owner),
                "{}: {owner:?}",
                logged.record.r#type
            );
            seen.insert(logged.record.r#type.clone());
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn a43_every_decision_has_approver_justification_review_date_and_exception_basis() {
    let evidence = &golden().evidence;
    let shown = shown(evidence);
    let decided = evidence.of::<v1::ReviewDecided>().unwrap();
    assert_eq!(decided.len(), decisions().len());
    for (logged, decision) in decided {
        let about = &shown[&key(&decision.grant_key).unwrap()];
        let row = decisions()
            .into_iter()
            .find(|row| {
                row.account == about.account_native_id
                    && row.entitlement == about.entitlement_native_id
            })
            .unwrap();
        assert_eq!(logged.record.actor, format!("principals/{}", row.reviewer));
        let opened = |label| evidence.opening(logged, label).map(String::from_utf8_lossy);
        assert_eq!(opened("justification").unwrap(), row.justification);
        let stays = matches!(
            decision.decision(),
            v1::Decision::Accept | v1::Decision::Exception
        );
        assert_eq!(decision.review_by_ms > logged.record.occurred_at_ms, stays);
        let excepted = decision.decision() == v1::Decision::Exception;
        assert_eq!(opened("exception_basis").is_some(), excepted);
        if excepted {
            assert_eq!(opened("exception_basis").unwrap(), row.exception_basis);
            assert!(decision.exception_expires_ms > logged.record.occurred_at_ms);
            assert!(!decision.exception_owner.is_empty());
        }
    }
}

#[test]
fn d21_one_record_says_why_who_and_another_whether_it_was_removed() {
    let evidence = &golden().evidence;
    let mut removed = 0;
    for (logged, decision) in evidence.of::<v1::ReviewDecided>().unwrap() {
        assert!(evidence.opening(logged, "justification").is_some());
        assert!(logged.record.actor.starts_with("principals/"));
        let authority = evidence
            .by_hash(&logged.accountability().authority)
            .unwrap();
        assert!(authority.record.r#type.ends_with("DecisionRightGranted"));
        if matches!(
            decision.decision(),
            v1::Decision::Revoke | v1::Decision::Reduce
        ) {
            let grant = key(&decision.grant_key).unwrap();
            let (_, end) = only::<v1::GrantEnded>(evidence, grant, |end| &end.grant_key);
            assert_eq!(end.decision_record_hash, logged.hash);
            removed += 1;
        }
    }
    assert_eq!(removed, 12);
}

#[test]
fn c34_every_removal_is_proved_absent_in_a_sealed_set_and_not_merely_approved() {
    let evidence = &golden().evidence;
    let effects = evidence.of::<v1::EffectVerified>().unwrap();
    assert_eq!(effects.len(), 15);
    for (_, effect) in effects {
        let sync = evidence.by_hash(&effect.sync_record_hash).unwrap();
        let sealed = v1::SourceSyncSealed::decode(sync.record.payload.as_slice()).unwrap();
        assert_eq!(sealed.state(), v1::SyncState::Complete);
        assert_eq!(sealed.reader_principal, effect.reader_principal);
        let leaves = evidence.blob(sync, media_type::GRANT_SET).unwrap();
        let set = SortedSet::from_leaves(leaves, 40, 74).unwrap();
        assert_eq!(set.root().root.0.as_slice(), effect.set_root);
        let proof = SetProof::from_bytes(&effect.proof).unwrap();
        let root = Hash(effect.set_root.as_slice().try_into().unwrap());
        verify_non_membership(&root, effect.set_count, &effect.grant_key, &proof).unwrap();
        if effect.claim() == v1::EffectClaim::Narrowed {
            assert!(SetProof::from_bytes(&effect.kept_proof).is_ok());
        } else {
            assert_eq!(effect.claim(), v1::EffectClaim::Absent);
        }
    }
}

#[test]
fn c1_the_gap_between_decision_and_reality_is_a_number_and_closes() {
    let evidence = Evidence::open(&golden().second.outcome.bundle).unwrap();
    let (suite, _folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let runs = steps.ask(&["recon", "list"]).unwrap();
    let mut runs: Vec<_> = list(&runs, "/recon_runs").unwrap().to_vec();
    runs.sort_by_key(|run| text(run, "/create_time").unwrap());
    assert_eq!(
        runs.len(),
        evidence.of::<v1::ReconRunSealed>().unwrap().len()
    );
    let residual = |run: &serde_json::Value| {
        list(run, "/situations")
            .unwrap()
            .iter()
            .filter(|count| count["situation"] == "SITUATION_RESIDUAL")
            .map(|count| count["count"].as_u64().unwrap())
            .sum::<u64>()
    };
    let (first, last) = (runs.first().unwrap(), runs.last().unwrap());
    assert_eq!(residual(first), 15);
    assert_eq!(residual(last), 0);
    let gap = |run: &serde_json::Value| run["gap_count"].as_u64().unwrap();
    assert!(gap(first) > gap(last), "{first} {last}");
}

#[test]
fn d7_one_identity_is_found_behind_accounts_of_different_tools() {
    let (suite, _folder) = services();
    let steps = Steps::new(&suite, TENANT).unwrap();
    let identities = steps.ask(&["identity", "list"]).unwrap();
    let ines: Vec<_> = list(&identities, "/identities")
        .unwrap()
        .iter()
        .filter(|identity| identity["identity_key"] == "ines.costa@bluebell.example")
        .collect();
    let [ines] = ines.as_slice() else {
        panic!("{ines:?}")
    };
    let accounts = steps.ask(&["account", "list"]).unwrap();
    let hers: BTreeSet<&str> = list(&accounts, "/accounts")
        .unwrap()
        .iter()
        .filter(|account| account["identity"] == ines["name"])
        .filter_map(|account| account["native_id"].as_str())
        .collect();
    assert_eq!(hers, BTreeSet::from(["ines.costa", "ines_costa_adm"]));
    let entitlements = steps.ask(&["entitlement", "list", "--ownerless"]).unwrap();
    let ownerless = list(&entitlements, "/entitlements").unwrap();
    assert_eq!(ownerless.len(), 1);
    assert_eq!(ownerless[0]["native_id"], "pg_superuser");
}

/// The bundle is all that is needed: no service, no data folder, no network.
#[test]
fn d9_a_bundle_verifies_where_there_is_no_network_and_nothing_else() {
    let golden = golden();
    let away = tempfile::tempdir().unwrap();
    let bundle = away.path().join("bundle");
    folder::copy(&golden.first.outcome.bundle, &bundle).unwrap();
    let trust = away.path().join("trust.json");
    fs::copy(&golden.second.outcome.trust, &trust).unwrap();
    let later = away.path().join("later");
    folder::copy(&golden.second.outcome.bundle, &later).unwrap();
    let status = Command::new("unshare")
        .args(["--map-root-user", "--net", "--"])
        .arg(executable("counterfoil-verify").unwrap())
        .arg(&later)
        .arg("--trust")
        .arg(&trust)
        .current_dir(away.path())
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout);
    assert_eq!(
        status.status.code(),
        Some(0),
        "{said}\n{}",
        String::from_utf8_lossy(&status.stderr)
    );
}

#[test]
fn a13_a_tenant_is_not_active_before_rights_escalation_retention_and_owner_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::start(folder.path()).unwrap();
    let steps = Steps::new(&suite, "acme").unwrap();
    steps
        .ask(&["tenant", "create", "acme", "--display-name", "Acme"])
        .unwrap();
    let refused = steps.attempt(&["tenant", "activate", "acme"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.errors.contains("FailedPrecondition"));
    let tenant = steps.ask(&["tenant", "get", "acme"]).unwrap();
    let missing: BTreeSet<&str> = list(&tenant, "/tenant/missing_requirements")
        .unwrap()
        .iter()
        .filter_map(|one| one.as_str())
        .collect();
    for requirement in &missing {
        assert!(refused.errors.contains(requirement), "{}", refused.errors);
    }
    for part in ["decision_right", "escalation", "retention", "owner"] {
        assert!(
            missing.iter().any(|requirement| requirement.contains(part)),
            "{part}: {missing:?}"
        );
    }
    suite.stop().unwrap().success().unwrap();
}
