//! Every invariant of the replay has a forgery that breaks it: by somebody with every key, so that nothing else gives it away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::media_type;
use counterfoil_evidence::replay::check::CHECKS;
use counterfoil_evidence::v1::{
    self, CampaignOutcome, Decision, Disposition, EffectClaim, VerificationMethod,
};
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::{BundleFiles, Edit, Forger, MUTATORS, Scene, StolenKeys};
use counterfoil_verify::{Options, Status, Trust, Verdict, report, verify};
use support::authority::{ALICE, BOB, CAROL, DAY_MS, PROVIDER};
use support::cycle::writer;
use support::estate::{HR, LDAP};

/// Breaks the check with this id; answers what becomes of the record.
type Forgery = fn(&mut Scene<'_>) -> Edit;

/// Changes records of one type, and no others.
macro_rules! on {
    ($kind:ident, |$record:ident, $payload:ident| $change:expr) => {
        |scene| {
            let $record = &mut *scene.record;
            if let Payload::$kind($payload) = &mut *scene.payload {
                $change;
            }
            let _ = $record;
            Edit::Keep
        }
    };
}

/// Takes records of one type out where a condition holds.
macro_rules! drop_if {
    ($kind:ident, |$payload:ident| $condition:expr) => {
        |scene| match &*scene.payload {
            Payload::$kind($payload) if $condition => Edit::Drop,
            _ => Edit::Keep,
        }
    };
}

fn accountability(record: &mut v1::Record) -> &mut v1::Accountability {
    record.accountability.get_or_insert_default()
}

/// Puts a record of the same producer and time after records of a type.
fn followed_by(scene: &Scene<'_>, payload: Payload) -> Edit {
    Edit::Follow(vec![(scene.record.clone(), payload)])
}

struct Golden {
    dir: tempfile::TempDir,
    keys: StolenKeys,
    trust: Trust,
}

impl Golden {
    fn new() -> Self {
        let log = support::cycle::build(60);
        let dir = tempfile::tempdir().unwrap();
        log.write(&dir.path().join("golden"));
        Self {
            keys: log.stolen(),
            trust: Trust::parse(log.trust(&[]).as_bytes()).unwrap(),
            dir,
        }
    }

    fn copy(&self, name: &str) -> (PathBuf, BundleFiles) {
        let target = self.dir.path().join(name);
        let files = BundleFiles::copy(&self.dir.path().join("golden"), &target).unwrap();
        (target, files)
    }
}

fn fails(golden: &Golden, root: &Path, id: &str, what: &str) {
    let bundle = BundleReader::open(root, &Limits::default()).unwrap();
    let found = verify(&bundle, &golden.trust, &Options::default()).unwrap();
    let failed: Vec<String> = found
        .checks
        .iter()
        .filter(|check| check.status == Status::Fail)
        .map(report::check_line)
        .collect();
    let caught = found
        .checks
        .iter()
        .any(|check| check.is(id) && check.status == Status::Fail);
    assert!(
        caught,
        "{what}: {id} did not fail, but\n{}",
        failed.join("\n")
    );
    // Only what records say may give it away: signatures, chain and tree were made to fit.
    for check in &found.checks {
        let below = ["S", "C", "K"]
            .iter()
            .any(|layer| check.id.starts_with(layer));
        assert!(
            !below || check.status == Status::Pass,
            "{what}: the forgery itself is bad: {}",
            report::check_line(check)
        );
    }
    assert_eq!(found.verdict, Verdict::Failed, "{what}");
}

fn all_fail(forgeries: &[(&str, &str, Forgery)]) {
    let golden = Golden::new();
    for (number, (id, what, forgery)) in forgeries.iter().enumerate() {
        let (root, files) = golden.copy(&number.to_string());
        Forger::new(&files, &golden.keys)
            .rewrite(|scene| Ok(forgery(scene)))
            .unwrap();
        fails(&golden, &root, id, what);
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn a_forger_who_changes_nothing_leaves_a_good_bundle() {
    let golden = Golden::new();
    let (root, files) = golden.copy("same");
    Forger::new(&files, &golden.keys)
        .rewrite(|_| Ok(Edit::Keep))
        .unwrap();
    let before = std::fs::read(golden.dir.path().join("golden/log/checkpoint")).unwrap();
    assert_eq!(std::fs::read(root.join("log/checkpoint")).unwrap(), before);
}

const LEDGER: &[(&str, &str, Forgery)] = &[
    (
        "I-04",
        "a fact from the future",
        on!(SourceRegistered, |r, _p| r.occurred_at_ms += 600_000),
    ),
    (
        "I-05",
        "an unregistered schema",
        drop_if!(SchemaRegistered, |_p| true),
    ),
    (
        "I-07",
        "an epoch is left out",
        drop_if!(EpochSealed, |p| p.epoch == 2),
    ),
    (
        "I-07",
        "an epoch is numbered otherwise",
        on!(EpochSealed, |_r, p| p.epoch += 1),
    ),
    (
        "I-07",
        "an epoch counts less",
        on!(EpochSealed, |_r, p| p.type_counts[0].count += 1),
    ),
    (
        "I-07",
        "a stream is marked elsewhere",
        on!(EpochSealed, |_r, p| p.streams[0].last_seq += 1),
    ),
    (
        "I-07",
        "an epoch leaves entries out",
        on!(EpochSealed, |_r, p| p.from_index += 1),
    ),
    (
        "I-08",
        "an open obligation is not listed",
        on!(EpochSealed, |_r, p| p.open_obligations_count += 1),
    ),
    (
        "I-08",
        "the list has another root",
        on!(EpochSealed, |_r, p| p.open_obligations_root = vec![7; 32]),
    ),
    (
        "I-08",
        "an obligation is discharged twice",
        |scene| match &*scene.payload {
            Payload::ObligationDischarged(p) => {
                followed_by(scene, Payload::ObligationDischarged(p.clone()))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-08",
        "what was never owed is discharged",
        on!(ObligationDischarged, |_r, p| p.obligation[0] ^= 1),
    ),
    (
        "I-08",
        "something else is overdue",
        on!(ObligationOpened, |_r, p| {
            p.kind = "verify_removal".to_owned();
            p.due_ms -= 8 * DAY_MS;
        }),
    ),
    (
        "W2",
        "the last seal leaves an entry out",
        |scene| match &*scene.payload {
            Payload::EpochSealed(p) if p.epoch > 2 => followed_by(
                scene,
                Payload::EpochSealed(v1::EpochSealed {
                    epoch: 9,
                    ..p.clone()
                }),
            ),
            _ => Edit::Keep,
        },
    ),
];

#[test]
fn forged_clocks_schemas_epochs_and_obligations_are_seen() {
    all_fail(LEDGER);
}

const AUTHORITY: &[(&str, &str, Forgery)] = &[
    (
        "I-11",
        "nobody answers",
        on!(ReviewDecided, |r, _p| accountability(r)
            .accountable_owner
            .clear()),
    ),
    (
        "I-11",
        "the provider answers",
        on!(GrantEnded, |r, _p| accountability(r).accountable_owner =
            PROVIDER.to_owned()),
    ),
    (
        "I-11",
        "a service answers",
        on!(PrincipalRegistered, |_r, p| if p.principal == CAROL {
            p.kind = v1::PrincipalKind::Service.into()
        }),
    ),
    ("I-11", "the owner had left", |scene| {
        match &*scene.payload {
            Payload::PrincipalRegistered(p) if p.principal == CAROL => {
                let ended = v1::PrincipalEnded {
                    principal: p.principal.clone(),
                    effective_ms: scene.record.occurred_at_ms + 1_000,
                };
                followed_by(scene, Payload::PrincipalEnded(ended))
            }
            _ => Edit::Keep,
        }
    }),
    (
        "I-13",
        "no right is cited",
        on!(ReviewDecided, |r, _p| accountability(r).authority.clear()),
    ),
    (
        "I-13",
        "a right that never was",
        on!(ReviewDecided, |r, _p| accountability(r).authority =
            vec![7; 32]),
    ),
    (
        "I-13",
        "another's right",
        on!(DecisionRightGranted, |_r, p| if p.grantee == ALICE {
            p.grantee = BOB.to_owned()
        }),
    ),
    (
        "I-13",
        "a right to something else",
        on!(DecisionRightGranted, |_r, p| p.action =
            v1::DecisionAction::Export.into()),
    ),
    (
        "I-13",
        "an exception under a right to review",
        on!(
            DecisionRightGranted,
            |_r, p| if p.action() == v1::DecisionAction::Except {
                p.action = v1::DecisionAction::Review.into()
            }
        ),
    ),
    (
        "I-13",
        "another source's right",
        on!(DecisionRightGranted, |_r, p| if p.grantee == BOB {
            p.scope = vec![HR.to_owned()]
        }),
    ),
    (
        "I-13",
        "a right granted by the provider",
        on!(DecisionRightGranted, |_r, p| p.grantor =
            PROVIDER.to_owned()),
    ),
    ("I-13", "a revoked right", |scene| match &*scene.payload {
        Payload::DecisionRightGranted(p) => {
            let revoked = v1::DecisionRightRevoked {
                right: p.right.clone(),
                effective_ms: scene.record.occurred_at_ms,
            };
            followed_by(scene, Payload::DecisionRightRevoked(revoked))
        }
        _ => Edit::Keep,
    }),
    (
        "I-13",
        "a campaign without a right",
        on!(CampaignDefined, |r, _p| accountability(r).authority.clear()),
    ),
    (
        "I-13",
        "a staging without a right",
        on!(CampaignStaged, |r, _p| accountability(r).authority.clear()),
    ),
    (
        "I-13",
        "a stage closed without a right",
        on!(StageClosed, |r, _p| accountability(r).authority.clear()),
    ),
    (
        "I-13",
        "a close without a right",
        on!(CampaignClosed, |r, _p| accountability(r).authority.clear()),
    ),
    (
        "I-13",
        "a plan without a right",
        on!(RemediationPlanned, |r, _p| accountability(r)
            .authority
            .clear()),
    ),
    (
        "I-13",
        "a threshold resolved without a right",
        on!(ThresholdResolved, |r, _p| accountability(r)
            .authority
            .clear()),
    ),
    (
        "I-13",
        "a risk accepted without a right",
        on!(FindingDispositioned, |_r, p| p.state =
            v1::FindingState::AcceptedRisk.into()),
    ),
    (
        "I-18",
        "rules that are not those of the hash",
        on!(PolicyBundlePublished, |_r, p| p
            .rules
            .as_mut()
            .unwrap()
            .exception_max_ms += 1),
    ),
    (
        "I-18",
        "a policy that was never published",
        on!(ReviewDecided, |r, _p| accountability(r).policy =
            vec![7; 32]),
    ),
    (
        "P4",
        "a key registered for another stream",
        on!(
            ActorKeyRegistered,
            |_r, p| if p.principal.ends_with("inventory") {
                p.streams = vec!["authority".to_owned()]
            }
        ),
    ),
    ("P4", "a revoked key", |scene| match &*scene.payload {
        Payload::ActorKeyRegistered(p) if p.principal.ends_with("inventory") => {
            let revoked = v1::ActorKeyRevoked {
                key_id: p.key_id.clone(),
                effective_ms: scene.record.occurred_at_ms,
            };
            followed_by(scene, Payload::ActorKeyRevoked(revoked))
        }
        _ => Edit::Keep,
    }),
    (
        "P5",
        "an attachment of another size",
        on!(
            SourceSyncSealed,
            |r, _p| if let Some(blob) = r.blob.first_mut() {
                blob.size += 1
            }
        ),
    ),
];

#[test]
fn forged_owners_rights_policies_and_keys_are_seen() {
    all_fail(AUTHORITY);
}

const INVENTORY: &[(&str, &str, Forgery)] = &[
    (
        "I-19",
        "COMPLETE in spite of an error",
        on!(SourceSyncSealed, |_r, p| p.errors += 1),
    ),
    (
        "I-19",
        "the source says it has more",
        on!(
            SourceSyncSealed,
            |_r, p| if let Some(t) = &mut p.control_totals {
                t.accounts += 1
            }
        ),
    ),
    (
        "I-19",
        "no totals at all",
        on!(SourceSyncSealed, |_r, p| p.control_totals = None),
    ),
    (
        "I-19",
        "another count than the set",
        on!(SourceSyncSealed, |_r, p| p.set_count += 1),
    ),
    (
        "I-19",
        "another root than the set",
        on!(SourceSyncSealed, |_r, p| p.set_root = vec![7; 32]),
    ),
    (
        "I-19",
        "inherited grants counted as direct",
        on!(SourceSyncSealed, |_r, p| if let Some(c) = &mut p.counts {
            c.grants_inherited -= c.grants_inherited.min(1);
            c.grants_direct += 1;
        }),
    ),
    (
        "I-19",
        "another reader",
        on!(SourceSyncSealed, |_r, p| p.reader_principal = writer(HR)),
    ),
    (
        "I-19",
        "PARTIAL without a reason",
        on!(SourceSyncSealed, |_r, p| p.partial_reasons.clear()),
    ),
    (
        "I-19",
        "a source under another tag",
        on!(SourceRegistered, |_r, p| p.source_tag[0] ^= 1),
    ),
    (
        "I-20",
        "a source that nobody mentions",
        on!(SnapshotSealed, |_r, p| p.missing_sources.clear()),
    ),
    (
        "I-20",
        "a source that was not read to its end",
        on!(SourceSyncSealed, |_r, p| {
            p.state = v1::SyncState::Partial.into();
            p.partial_reasons = vec!["row_error".to_owned()];
        }),
    ),
    (
        "I-20",
        "another root",
        on!(SnapshotSealed, |_r, p| p.snapshot_root = vec![7; 32]),
    ),
    (
        "I-20",
        "another time of reading",
        on!(SnapshotSealed, |_r, p| p.sources[0].synced_ms += 1),
    ),
    (
        "I-20",
        "another count",
        on!(SnapshotSealed, |_r, p| p.grant_count += 1),
    ),
    (
        "I-20",
        "data younger than it was",
        on!(CampaignStaged, |_r, p| p.freshness[0].age_ms -= DAY_MS),
    ),
    (
        "I-20",
        "another limit of age",
        on!(CampaignStaged, |_r, p| p.freshness[0].age_max_ms *= 2),
    ),
    (
        "I-20",
        "the age of a source is not told",
        on!(CampaignStaged, |_r, p| {
            p.freshness.pop();
        }),
    ),
    (
        "I-20",
        "data older than allowed",
        on!(CampaignStaged, |r, p| {
            p.staged_ms += 3 * DAY_MS;
            r.occurred_at_ms += 3 * DAY_MS;
            for f in &mut p.freshness {
                f.age_ms += 3 * DAY_MS;
            }
        }),
    ),
];

#[test]
fn forged_syncs_snapshots_and_stagings_are_seen() {
    all_fail(INVENTORY);
}

const REVIEW: &[(&str, &str, Forgery)] = &[
    (
        "I-25",
        "no justification",
        on!(ReviewDecided, |r, _p| r
            .commitment
            .retain(|c| c.label != "justification")),
    ),
    (
        "I-25",
        "no evidence",
        on!(ReviewDecided, |_r, p| p.evidence.clear()),
    ),
    (
        "I-25",
        "reviewed again in ten years",
        on!(ReviewDecided, |_r, p| p.review_by_ms += 3650 * DAY_MS),
    ),
    (
        "I-25",
        "never reviewed again",
        on!(ReviewDecided, |_r, p| p.review_by_ms = 0),
    ),
    (
        "I-25",
        "an exception without a basis",
        on!(ReviewDecided, |r, _p| r
            .commitment
            .retain(|c| c.label != "exception_basis")),
    ),
    (
        "I-25",
        "an exception without an end",
        on!(ReviewDecided, |_r, p| p.exception_expires_ms = 0),
    ),
    (
        "I-25",
        "an exception that is too long",
        on!(ReviewDecided, |_r, p| if p.exception_expires_ms > 0 {
            p.exception_expires_ms += 365 * DAY_MS
        }),
    ),
    (
        "I-25",
        "an exception of the provider's",
        on!(ReviewDecided, |_r, p| p.exception_owner =
            PROVIDER.to_owned()),
    ),
    (
        "I-25",
        "an exception longer than decided",
        on!(ExceptionGranted, |_r, p| p.expires_ms += 1),
    ),
    (
        "I-25",
        "a reduction to nothing",
        on!(ReviewDecided, |_r, p| p.reduce_to_grant_key.clear()),
    ),
    (
        "I-26",
        "an item that nobody was given",
        drop_if!(ReviewItemRouted, |p| p.item == "items/3"),
    ),
    (
        "I-27",
        "a decision on another state of the grant",
        on!(ReviewDecided, |_r, p| p.observed_leaf[73] ^= 1),
    ),
    (
        "I-27",
        "a decision on another page",
        on!(ReviewDecided, |_r, p| p.presentation_hash[0] ^= 1),
    ),
    (
        "I-27",
        "something else is shown than inventory has",
        on!(ReviewItemRouted, |_r, p| if p.item == "items/3" {
            p.leaf[73] ^= 1
        }),
    ),
    (
        "I-27",
        "what is shown is not committed to",
        on!(ReviewItemRouted, |r, _p| r.commitment.clear()),
    ),
    (
        "I-27",
        "the scope says otherwise",
        on!(CampaignDefined, |_r, p| p.privileged_only = true),
    ),
    (
        "I-27",
        "the scope leaves a source out",
        on!(CampaignDefined, |_r, p| p.sources = vec![LDAP.to_owned()]),
    ),
    (
        "I-27",
        "another root of the population",
        on!(CampaignStaged, |_r, p| p.population_root = vec![7; 32]),
    ),
    (
        "I-27",
        "another root of the exclusions",
        on!(CampaignStaged, |_r, p| p.exclusions_root = vec![7; 32]),
    ),
    (
        "I-27",
        "the population is fixed twice",
        |scene| match &*scene.payload {
            Payload::CampaignStaged(p) => followed_by(scene, Payload::CampaignStaged(p.clone())),
            _ => Edit::Keep,
        },
    ),
    ("I-27", "no population", drop_if!(CampaignStaged, |_p| true)),
    (
        "I-28",
        "other counts of a stage",
        on!(StageClosed, |_r, p| p.counts.as_mut().unwrap().accepted +=
            1),
    ),
    (
        "I-28",
        "another root of the ends",
        on!(StageClosed, |_r, p| p.outcomes_root = vec![7; 32]),
    ),
    (
        "I-28",
        "another population at the close",
        on!(CampaignClosed, |_r, p| p.population_count -= 1),
    ),
    (
        "I-28",
        "gone without proof",
        on!(ReviewItemVoided, |_r, p| p.absence_proof.truncate(20)),
    ),
    (
        "I-28",
        "a lapse against the rule",
        on!(CampaignDefined, |_r, p| p.lapse_rule =
            v1::LapseRule::Revoke.into()),
    ),
    (
        "I-28",
        "a lapse that is told as removal",
        on!(ReviewItemLapsed, |_r, p| p.disposition =
            Disposition::LapsedRevoke.into()),
    ),
    ("I-28", "another decision than was taken", |scene| {
        if let Payload::ReviewDecided(p) = &mut *scene.payload
            && p.decision() == Decision::Revoke
        {
            p.decision = Decision::Accept.into();
            p.review_by_ms = scene.record.occurred_at_ms + DAY_MS;
        }
        Edit::Keep
    }),
    (
        "I-32",
        "CLOSED with debt",
        on!(CampaignClosed, |_r, p| p.outcome =
            CampaignOutcome::Closed.into()),
    ),
    ("I-32", "debt that is hidden", |scene| {
        if let Payload::CampaignClosed(mut p) = scene.payload.clone() {
            p.debt_root = scene.set_blob(media_type::DEBT, &[], 41).unwrap();
            p.debt_count = 0;
            p.outcome = CampaignOutcome::Closed.into();
            *scene.payload = Payload::CampaignClosed(p);
        }
        Edit::Keep
    }),
    ("I-32", "debt that is halved", |scene| {
        if let Payload::CampaignClosed(mut p) = scene.payload.clone() {
            let debt = scene.blob(media_type::DEBT).unwrap();
            p.debt_root = scene.set_blob(media_type::DEBT, &debt[41..], 41).unwrap();
            p.debt_count -= 1;
            *scene.payload = Payload::CampaignClosed(p);
        }
        Edit::Keep
    }),
];

#[test]
fn forged_decisions_populations_and_closes_are_seen() {
    all_fail(REVIEW);
}

const REMEDIATION: &[(&str, &str, Forgery)] = &[
    (
        "I-33",
        "closed at a lower level",
        on!(EffectVerified, |_r, p| p.val = 2),
    ),
    (
        "I-33",
        "closed on what is still there",
        on!(EffectVerified, |_r, p| p.claim =
            EffectClaim::Present.into()),
    ),
    (
        "I-33",
        "one more counted as verified",
        on!(RemediationClosed, |_r, p| {
            p.verified_count += 1;
            p.open_count -= 1;
        }),
    ),
    (
        "I-33",
        "CLOSED with something open",
        on!(RemediationClosed, |_r, p| p.outcome =
            v1::RemediationOutcome::Closed.into()),
    ),
    (
        "I-33",
        "a grant ended on nothing",
        on!(GrantEnded, |_r, p| p.verified_record_hash = vec![7; 32]),
    ),
    (
        "I-33",
        "a grant ended by another decision",
        on!(GrantEnded, |_r, p| p.decision_record_hash = vec![7; 32]),
    ),
    (
        "I-33",
        "a finding resolved by nothing",
        on!(FindingDispositioned, |_r, p| p.evidence_record_hash =
            vec![7; 32]),
    ),
    (
        "I-34",
        "a broken proof",
        on!(EffectVerified, |_r, p| {
            let last = p.proof.len() - 1;
            p.proof[last] ^= 1;
        }),
    ),
    (
        "I-34",
        "no proof",
        on!(EffectVerified, |_r, p| p.proof.clear()),
    ),
    (
        "I-34",
        "another set than the sync sealed",
        on!(EffectVerified, |_r, p| p.set_count += 1),
    ),
    (
        "I-34",
        "no sync",
        on!(EffectVerified, |_r, p| p.sync_record_hash = vec![7; 32]),
    ),
    (
        "I-34",
        "another time of reading",
        on!(EffectVerified, |_r, p| p.observed_ms += 1),
    ),
    (
        "I-34",
        "verified without an action",
        drop_if!(ActionIntended, |p| p.action == "actions/1"),
    ),
    ("I-36", "the writer reads its own work", |scene| {
        match &mut *scene.payload {
            Payload::SourceRegistered(p) => p.reader_principal = writer(&p.source),
            Payload::SourceSyncSealed(p) => p.reader_principal = writer(&p.source),
            Payload::EffectVerified(p) => {
                p.reader_principal = p.reader_principal.replace("reader", "writer")
            }
            _ => {}
        }
        Edit::Keep
    }),
    (
        "I-36",
        "an unknown writer",
        on!(SourceRegistered, |_r, p| p.writer_principal.clear()),
    ),
    (
        "I-37",
        "a re-read that is not owed",
        drop_if!(ObligationOpened, |p| p.obligation[0].is_multiple_of(2)),
    ),
    (
        "I-37",
        "a re-read before it was due",
        on!(ObligationOpened, |_r, p| p.due_ms += DAY_MS / 2),
    ),
    (
        "I-37",
        "a re-read that is due too early",
        on!(ObligationOpened, |_r, p| p.due_ms -= DAY_MS / 24),
    ),
    (
        "I-37",
        "a re-read of nothing",
        on!(ObligationDischarged, |_r, p| p.evidence_record_hash =
            vec![7; 32]),
    ),
    (
        "I-37",
        "a regression without proof",
        on!(RegressionDetected, |_r, p| p.proof.clear()),
    ),
    (
        "I-37",
        "a regression of nothing",
        on!(RegressionDetected, |_r, p| p.closed_record_hash =
            vec![7; 32]),
    ),
    (
        "I-37",
        "an overdue re-read",
        on!(ObligationOpened, |_r, p| if p.due_ms > 0 {
            p.due_ms -= 7 * DAY_MS
        }),
    ),
    (
        "I-38",
        "a level that reading cannot reach",
        on!(EffectVerified, |_r, p| p.val = 4),
    ),
    (
        "I-38",
        "a ticket counts as a read-back",
        on!(EffectVerified, |_r, p| p.method =
            VerificationMethod::Acknowledged.into()),
    ),
    (
        "I-39",
        "started before its intent",
        on!(ActionAttempted, |_r, p| p.started_ms -= 60_000),
    ),
    (
        "I-39",
        "another operation than planned",
        on!(ActionIntended, |_r, p| p.operation = 3 - p.operation),
    ),
    (
        "I-39",
        "another plan",
        on!(ActionIntended, |_r, p| p.plan_record_hash = vec![7; 32]),
    ),
    ("I-39", "no plan", drop_if!(RemediationPlanned, |_p| true)),
    (
        "I-39",
        "held and nobody resolved it",
        drop_if!(ThresholdResolved, |_p| true),
    ),
    (
        "I-39",
        "cancelled and carried out",
        on!(ThresholdResolved, |_r, p| p.resume = false),
    ),
    (
        "I-39",
        "no intent",
        drop_if!(ActionIntended, |p| p.action == "actions/2"),
    ),
    (
        "I-39",
        "another root of the actions",
        on!(RemediationPlanned, |_r, p| p.actions_root = vec![7; 32]),
    ),
    ("I-40", "an idempotency key used twice", |scene| {
        match &mut *scene.payload {
            Payload::ActionIntended(p) => p.idempotency_key = "same".to_owned(),
            Payload::ActionAttempted(p) => p.idempotency_key = "same".to_owned(),
            _ => {}
        }
        Edit::Keep
    }),
    (
        "I-40",
        "an attempt that is skipped",
        on!(ActionIntended, |_r, p| p.attempt += 1),
    ),
    ("I-40", "two answers", |scene| match &*scene.payload {
        Payload::ActionAttempted(p) => followed_by(scene, Payload::ActionAttempted(p.clone())),
        _ => Edit::Keep,
    }),
    (
        "I-40",
        "tried again without looking",
        on!(ActionIntended, |_r, p| p
            .read_before_retry_record_hash
            .clear()),
    ),
    (
        "I-40",
        "no result",
        on!(ActionAttempted, |_r, p| p.result = 0),
    ),
    (
        "I-58",
        "another authorised set",
        on!(ReconRunSealed, |_r, p| p.authorized_root = vec![7; 32]),
    ),
    (
        "I-58",
        "other counts",
        on!(ReconRunSealed, |_r, p| p.situations[0].count += 1),
    ),
    (
        "I-58",
        "fewer observed",
        on!(ReconRunSealed, |_r, p| p.observed_count -= 1),
    ),
    (
        "I-58",
        "fewer findings",
        on!(ReconRunSealed, |_r, p| {
            p.findings_count = 0;
            p.findings_root = counterfoil_tlog::hash::empty_root().0.to_vec();
        }),
    ),
    (
        "I-58",
        "judged by another day",
        on!(ReconRunSealed, |_r, p| p.as_of_ms += 400 * DAY_MS),
    ),
    (
        "I-58",
        "a finding of another kind",
        on!(FindingOpened, |_r, p| p.situation =
            v1::Situation::Dormant.into()),
    ),
    (
        "I-58",
        "a finding of no run",
        on!(FindingOpened, |_r, p| p.recon_run.push('x')),
    ),
    ("I-58", "an approval that nobody gave", |scene| {
        if let Payload::ReconRunSealed(mut p) = scene.payload.clone() {
            let mut set = scene.blob(media_type::AUTHORIZED_SET).unwrap();
            let revoked = set.chunks_exact_mut(81).find(|leaf| leaf[40] == 2).unwrap();
            revoked[40] = 1;
            revoked[41..49].copy_from_slice(&u64::MAX.to_be_bytes());
            p.authorized_root = scene
                .set_blob(media_type::AUTHORIZED_SET, &set, 81)
                .unwrap();
            *scene.payload = Payload::ReconRunSealed(p);
        }
        Edit::Keep
    }),
    (
        "G13",
        "a longest time that is shorter",
        on!(RemediationClosed, |_r, p| p.decided_to_verified_max_ms -= 1),
    ),
];

#[test]
fn forged_plans_attempts_read_backs_and_findings_are_seen() {
    all_fail(REMEDIATION);
}

#[test]
fn every_check_of_the_replay_has_a_forgery_that_breaks_it() {
    let forged = [LEDGER, AUTHORITY, INVENTORY, REVIEW, REMEDIATION]
        .into_iter()
        .flatten()
        .map(|(id, ..)| *id);
    let mutated = MUTATORS.iter().flat_map(|mutator| mutator.caught_by);
    let covered: BTreeSet<&str> = forged.chain(mutated.copied()).collect();
    for check in CHECKS {
        let known =
            covered.contains(check.id) || check.aliases.iter().any(|alias| covered.contains(alias));
        assert!(known, "{} has no forgery", check.id);
    }
}
