//! Decisions, populations and closes, forged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use counterfoil_tlog::commitment::commit;

use crate::prelude::*;
use crate::support::review::CHANGED_ITEM;
use crate::{Forger, Golden, Verdict, fails};

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
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
        "I-26",
        "nobody says whose access it is",
        on!(ReviewItemRouted, |_r, p| p.subject_identity_tag.clear()),
    ),
    (
        "I-26",
        "a decider whom nobody can tell from the subject",
        on!(PrincipalRegistered, |_r, p| p.identity_tag.clear()),
    ),
    (
        "I-26",
        "the decider's own access, shown again as another's",
        |scene| match &mut *scene.payload {
            Payload::ReviewItemRouted(p)
                if p.item == CHANGED_ITEM && p.cause() == v1::RoutingCause::Assigned =>
            {
                p.subject_identity_tag = tag_of(ALICE);
                Edit::Keep
            }
            Payload::ReviewDecided(p)
                if p.item == CHANGED_ITEM && !p.observed_leaf.ends_with(&seed("changed")) =>
            {
                Edit::Drop
            }
            _ => Edit::Keep,
        },
    ),
    ("I-27", "a change that inventory never saw", |scene| {
        match &mut *scene.payload {
            Payload::ReviewItemRouted(p) if p.item == "items/3" => {
                p.cause = v1::RoutingCause::Represented.into();
                p.leaf[73] ^= 1;
            }
            Payload::ReviewDecided(p) if p.item == "items/3" => p.observed_leaf[73] ^= 1,
            _ => {}
        }
        Edit::Keep
    }),
    (
        "I-27",
        "a change that inventory saw later",
        on!(
            ReviewItemRouted,
            |r, p| if p.cause() == v1::RoutingCause::Represented {
                r.occurred_at_ms -= 600_000
            }
        ),
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
        "gone in a sync that a newer one had replaced",
        |scene| match &*scene.payload {
            Payload::SourceSyncSealed(p) => {
                let again = v1::SourceSyncSealed {
                    sync: format!("{}-again", p.sync),
                    ..p.clone()
                };
                followed_by(scene, Payload::SourceSyncSealed(again))
            }
            Payload::ReviewItemVoided(_) => {
                scene.record.occurred_at_ms += 600_000;
                Edit::Keep
            }
            _ => Edit::Keep,
        },
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
    (
        "I-32",
        "cancelled after it was decided",
        on!(CampaignClosed, |_r, p| p.outcome =
            CampaignOutcome::Cancelled.into()),
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
    all_fail(FORGERIES);
}

/// Opens every commitment with a label to this value, and has the records commit to it.
fn reopened(golden: &Golden, label: &str, value: &str) -> std::path::PathBuf {
    let (root, files) = golden.copy(&format!("{label} {value:?}"));
    let salt = [7; 32];
    let digest = commit(label, &salt, value.as_bytes()).0.to_vec();
    let mut ids = Vec::new();
    Forger::new(&files, &golden.keys)
        .rewrite(|scene| {
            for commitment in &mut scene.record.commitment {
                if commitment.label == label {
                    commitment.digest.clone_from(&digest);
                    ids.push(hex::encode(&scene.record.record_id));
                }
            }
            Ok(Edit::Keep)
        })
        .unwrap();
    assert!(!ids.is_empty());
    let file = "disclosures/recertification.jsonl";
    let text = String::from_utf8(files.read(file).unwrap()).unwrap();
    let of_label = format!("\"label\":\"{label}\"");
    let kept = text.lines().filter(|line| !line.contains(&of_label));
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    lines.extend(ids.iter().map(|id| {
        let (salt, value) = (hex::encode(salt), STANDARD.encode(value));
        format!(r#"{{"record_id":"{id}","label":"{label}","salt":"{salt}","value":"{value}"}}"#)
    }));
    files
        .write(file, (lines.join("\n") + "\n").as_bytes())
        .unwrap();
    files.seal().unwrap();
    root
}

#[test]
fn a_reason_that_is_opened_says_something() {
    let golden = Golden::new();
    for (label, value) in [
        ("justification", ""),
        ("justification", " \n\u{2003}"),
        ("exception_basis", ""),
    ] {
        let root = reopened(&golden, label, value);
        fails(&golden, &root, "I-25", &format!("{label} {value:?}"));
    }
    let said = reopened(&golden, "justification", "needed on call");
    assert_eq!(golden.verify(&said).verdict, Verdict::Ok);
}
