//! Sources of different environments and tiers: what may be decided there under limited rights, and by a provider, forged.

use std::collections::BTreeMap;

use counterfoil_evidence::leaf::SourceTag;
use counterfoil_verify::{Verdict, Verification, report};

use crate::prelude::*;
use crate::support::cycle;

/// The same log where one source is of "prod" and the other of "test", as the customer says, and all rights are for both.
fn placed(scene: &mut Scene<'_>) -> Edit {
    match &mut *scene.payload {
        Payload::PrincipalRegistered(p) if p.principal == CAROL => {
            scene.record.occurred_at_ms -= 2 * DAY_MS;
            Edit::Keep
        }
        Payload::SourceRegistered(p) if p.source != OLD => {
            // Long enough before all that is decided there.
            scene.record.occurred_at_ms -= DAY_MS;
            scene.record.actor = CAROL.to_owned();
            scene.record.accountability = None;
            let prod = p.source == HR;
            let (environment, tier) = if prod {
                ("prod", "gold")
            } else {
                ("test", "silver")
            };
            p.environment = environment.to_owned();
            p.tier = tier.to_owned();
            Edit::Keep
        }
        Payload::DecisionRightGranted(p) => {
            p.environments = codes(&["prod", "test"]);
            p.tiers = codes(&["gold", "silver"]);
            Edit::Keep
        }
        Payload::DecisionRightProposed(p) => {
            p.environments = codes(&["prod", "test"]);
            p.tiers = codes(&["gold", "silver"]);
            Edit::Keep
        }
        Payload::DelegationGranted(p) => {
            p.environments = codes(&["prod", "test"]);
            p.tiers = codes(&["gold", "silver"]);
            Edit::Keep
        }
        Payload::EnvironmentSensitivitySet(_) => levels(scene, 2),
        _ => Edit::Keep,
    }
}

fn codes(codes: &[&str]) -> Vec<String> {
    codes.iter().map(|code| (*code).to_owned()).collect()
}

/// How sensitive the two environments are.
fn levels(scene: &Scene<'_>, level: u32) -> Edit {
    let set = |environment: &str| {
        let environment = environment.to_owned();
        let set = v1::EnvironmentSensitivitySet { environment, level };
        let payload = Payload::EnvironmentSensitivitySet(set);
        (scene.record.clone(), payload)
    };
    Edit::Follow(vec![set("prod"), set("test")])
}

/// Says anew where a source is, half a day after it was registered.
fn classified(scene: &Scene<'_>, object: &str, (environment, tier): (&str, &str)) -> Edit {
    let what = v1::ObjectClassified {
        object: object.to_owned(),
        environment: environment.to_owned(),
        tier: tier.to_owned(),
    };
    let mut record = scene.record.clone();
    record.occurred_at_ms += DAY_MS / 2;
    Edit::Follow(vec![(record, Payload::ObjectClassified(what))])
}

/// Changes records of one type in the log with places.
macro_rules! moved {
    ($kind:ident, |$record:ident, $payload:ident| $change:expr) => {
        |scene| {
            let edit = placed(scene);
            let $record = &mut *scene.record;
            if let Payload::$kind($payload) = &mut *scene.payload {
                $change;
            }
            let _ = $record;
            edit
        }
    };
}

fn reclassified(scene: &mut Scene<'_>, source: &str, place: (&str, &str)) -> Edit {
    let edit = placed(scene);
    match &*scene.payload {
        Payload::SourceRegistered(p) if p.source == source => classified(scene, source, place),
        _ => edit,
    }
}

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-13",
        "decisions under a right for one environment in another",
        moved!(DecisionRightGranted, |_r, p| p.environments =
            codes(&["prod"])),
    ),
    (
        "I-13",
        "decisions under a right for one tier in another",
        moved!(DecisionRightGranted, |_r, p| p.tiers = codes(&["gold"])),
    ),
    (
        "I-13",
        "decisions under a right for tiers where there is none",
        moved!(SourceRegistered, |_r, p| p.tier.clear()),
    ),
    (
        "I-13",
        "decisions under a right for environments where none was named",
        moved!(SourceRegistered, |_r, p| p.environment.clear()),
    ),
    (
        "I-13",
        "decisions under a right for where the source had been",
        |scene| reclassified(scene, LDAP, ("dev", "silver")),
    ),
    (
        "I-13",
        "a source that is registered again, elsewhere",
        |scene| {
            let edit = reclassified(scene, LDAP, ("dev", "silver"));
            match (edit, &*scene.payload) {
                (Edit::Follow(mut more), Payload::SourceRegistered(p)) => {
                    let record = scene.record.clone();
                    more.push((record, Payload::SourceRegistered(p.clone())));
                    Edit::Follow(more)
                }
                (edit, _) => edit,
            }
        },
    ),
    (
        "I-46",
        "a provider where its tier does not reach",
        |scene| {
            let edit = placed(scene);
            match &*scene.payload {
                Payload::EnvironmentSensitivitySet(_) => levels(scene, 3),
                _ => edit,
            }
        },
    ),
    (
        "I-46",
        "a provider where nobody said how sensitive it is",
        |scene| {
            let edit = placed(scene);
            match &*scene.payload {
                Payload::EnvironmentSensitivitySet(_) => Edit::Keep,
                _ => edit,
            }
        },
    ),
    (
        "I-46",
        "a source that the deployment says is for tests",
        moved!(SourceRegistered, |r, _p| r.actor =
            "operators/admin".to_owned()),
    ),
    (
        "I-46",
        "a source that the provider says is for tests",
        moved!(SourceRegistered, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-46",
        "a source that the provider registers, where every tier reaches",
        on!(SourceRegistered, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-46",
        "a source that nobody registered is for tests",
        |scene| {
            let edit = placed(scene);
            match &*scene.payload {
                Payload::SourceRegistered(p) if p.source == LDAP => {
                    classified(scene, "sources/none", ("test", ""))
                }
                _ => edit,
            }
        },
    ),
    (
        "I-46",
        "a word before its registration that hides where a source is",
        |scene| {
            let edit = placed(scene);
            match &*scene.payload {
                Payload::SourceRegistered(p) if p.source == HR => {
                    let what = v1::ObjectClassified {
                        object: LDAP.to_owned(),
                        ..v1::ObjectClassified::default()
                    };
                    followed_by(scene, Payload::ObjectClassified(what))
                }
                _ => edit,
            }
        },
    ),
    (
        "I-46",
        "an empty registration before that which says where a source is",
        |scene| {
            let edit = placed(scene);
            match &mut *scene.payload {
                Payload::SourceRegistered(p) if p.source == LDAP => {
                    let said = p.clone();
                    p.environment.clear();
                    p.tier.clear();
                    followed_by(scene, Payload::SourceRegistered(said))
                }
                _ => edit,
            }
        },
    ),
    (
        "I-46",
        "an environment that says more than a code",
        |scene| reclassified(scene, LDAP, ("for Mara Lind", "")),
    ),
];

#[test]
fn decisions_where_a_right_or_a_tier_does_not_reach_are_seen() {
    all_fail(FORGERIES);
}

#[test]
fn decisions_where_the_customer_lets_them_be_taken_are_good() {
    let golden = Golden::new();
    let honest: [(&str, Forgery); 2] = [
        ("placed", placed),
        ("moved", |scene| reclassified(scene, LDAP, ("prod", "gold"))),
    ];
    for (name, story) in honest {
        let (root, files) = golden.copy(name);
        let forger = Forger::new(&files, &golden.keys);
        forger.rewrite(|scene| Ok(story(scene))).unwrap();
        let found = golden.verify(&root);
        assert_eq!(
            found.verdict,
            Verdict::Ok,
            "{name}: {}",
            report::text(&found)
        );
    }
}

#[test]
fn a_provider_may_review_all_sources_also_those_that_are_registered_after_it_was_asked() {
    Golden::of(cycle::build_with_a_later_source(60)).is_good();
}

/// Two findings are opened in the log with places, and one more under another name, first of one source and then of others; after the
/// first, the risk is accepted under a right for "prod".
fn risk_accepted(golden: &Golden, name: &str, opened_of: &[&str]) -> Verification {
    let (root, files) = golden.copy(name);
    let (mut right, mut known) = (Vec::new(), BTreeMap::new());
    let mut limited = |scene: &mut Scene<'_>| {
        let edit = placed(scene);
        match &mut *scene.payload {
            Payload::DecisionRightProposed(p) => {
                p.action = v1::DecisionAction::Except.into();
                p.environments = codes(&["prod"]);
            }
            Payload::DecisionRightGranted(p) if !p.proposal_record_hash.is_empty() => {
                p.action = v1::DecisionAction::Except.into();
                p.environments = codes(&["prod"]);
            }
            // Comes right after that right.
            Payload::DelegationGranted(_) => right.clone_from(&scene.record.prev_record_hash),
            Payload::FindingOpened(p) if p.situation() != v1::Situation::Residual => {
                let source = [HR, LDAP].into_iter();
                let mut source =
                    source.filter(|source| p.grant_key.starts_with(&tag_of_source(source)));
                let source = source.next().unwrap();
                let moved = v1::FindingOpened {
                    finding: "findings/moved".to_owned(),
                    ..p.clone()
                };
                let new = known.insert(source, moved).is_none();
                if new && known.len() == 2 {
                    return Edit::Follow(accepted_once(scene, &known, &right, opened_of));
                }
            }
            _ => {}
        }
        edit
    };
    let forger = Forger::new(&files, &golden.keys);
    forger.rewrite(|scene| Ok(limited(scene))).unwrap();
    golden.verify(&root)
}

fn tag_of_source(source: &str) -> [u8; 8] {
    SourceTag::of(source).0
}

fn accepted_once(
    scene: &Scene<'_>,
    known: &BTreeMap<&str, v1::FindingOpened>,
    right: &[u8],
    opened_of: &[&str],
) -> Vec<(v1::Record, Payload)> {
    let opened = opened_of.iter().map(|source| known[source].clone());
    let opened = opened.map(|opened| (scene.record.clone(), Payload::FindingOpened(opened)));
    let mut more: Vec<_> = opened.collect();
    let mut record = scene.record.clone();
    record.actor = ALICE.to_owned();
    accountability(&mut record).authority = right.to_vec();
    let accepted = v1::FindingDispositioned {
        finding: "findings/moved".to_owned(),
        state: v1::FindingState::AcceptedRisk.into(),
        until_ms: record.occurred_at_ms + DAY_MS,
        evidence_record_hash: Vec::new(),
    };
    more.insert(1, (record, Payload::FindingDispositioned(accepted)));
    more
}

#[test]
fn a_risk_is_accepted_where_its_finding_was_opened_first() {
    let golden = Golden::new();
    let found = risk_accepted(&golden, "within", &[HR]);
    assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
    for (name, opened_of) in [("beyond", &[LDAP][..]), ("moved", &[LDAP, HR])] {
        let found = risk_accepted(&golden, name, opened_of);
        let caught = found.failed().any(|check| check.is("I-13"));
        assert!(caught, "{name}: {}", report::text(&found));
    }
}

/// The log with places, whose environments are so sensitive; where somebody of the provider, who has come in for it, may start the
/// remediation of both sources.
fn started(golden: &Golden, name: &str, (prod, test): (u32, u32), by: &str) -> Verification {
    let (root, files) = golden.copy(name);
    let mut access = None;
    let mut story = |scene: &mut Scene<'_>| {
        let edit = placed(scene);
        match &mut *scene.payload {
            Payload::EnvironmentSensitivitySet(_) => {
                let mut set = levels(scene, prod);
                if let Edit::Follow(both) = &mut set
                    && let Some((_, Payload::EnvironmentSensitivitySet(last))) = both.last_mut()
                {
                    last.level = test;
                }
                return set;
            }
            Payload::OperatorAccessUsed(p) => access = Some(p.clone()),
            Payload::ThresholdResolved(_) if by == PROVIDER => {
                let mut record = scene.record.clone();
                record.actor = by.to_owned();
                let access = access.clone().unwrap();
                return Edit::Follow(vec![(record, Payload::OperatorAccessUsed(access))]);
            }
            Payload::RemediationStarted(_) => scene.record.actor = by.to_owned(),
            _ => {}
        }
        edit
    };
    let forger = Forger::new(&files, &golden.keys);
    forger.rewrite(|scene| Ok(story(scene))).unwrap();
    golden.verify(&root)
}

#[test]
fn i46_a_remediation_that_a_provider_starts_beyond_its_tier_is_seen() {
    let golden = Golden::new();
    let found = started(&golden, "within", (2, 2), PROVIDER);
    assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
    // Its people have decided on a grant of one of the two, which their tier reaches: of the other they start something.
    let reached = [(2, 3), (3, 2)].into_iter().filter(|levels| {
        let name = format!("by another {levels:?}");
        started(&golden, &name, *levels, CAROL).verdict == Verdict::Ok
    });
    let reached: Vec<_> = reached.collect();
    assert_eq!(reached.len(), 1);
    let found = started(&golden, "beyond", reached[0], PROVIDER);
    let caught = found.failed().any(|check| check.is("I-46"));
    assert!(caught, "{}", report::text(&found));
}
