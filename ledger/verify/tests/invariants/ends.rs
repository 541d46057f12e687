//! What rests on somebody of a provider when what they rest on has ended: decided by them, planned by them, or in their name.

use std::path::Path;

use counterfoil_evidence::catalogue::decode_payload;
use counterfoil_evidence::record::record_hash;
use counterfoil_verify::testing::BundleFiles;
use prost::Message as _;

use crate::prelude::*;
use crate::support::provider::ENGAGEMENT;

/// The hash of the first record that fits.
fn hash_of(files: &BundleFiles, fits: impl Fn(&v1::Record, &Payload) -> bool) -> Vec<u8> {
    let entries = files.entries().unwrap();
    let mut hashes = entries.iter().filter_map(|bytes| {
        let entry = v1::Entry::decode(bytes.as_slice()).unwrap();
        let record = v1::Record::decode(entry.record.as_slice()).unwrap();
        let payload = decode_payload(&record.r#type, &record.payload)?.unwrap();
        fits(&record, &payload).then(|| record_hash(&entry.record).to_vec())
    });
    hashes.next().unwrap()
}

/// Whether a check with this id fails.
fn is_seen(golden: &Golden, root: &Path, id: &str) -> bool {
    golden.verify(root).failed().any(|check| check.is(id))
}

#[test]
fn i13_a_decision_that_comes_long_after_the_engagement_was_over_is_seen() {
    let golden = Golden::new();
    let (root, files) = golden.copy("late");
    let mut over = false;
    Forger::new(&files, &golden.keys)
        .rewrite(|scene| {
            // Nobody says otherwise of when it was decided than before; the log has it a day later.
            if over {
                *scene.recorded_at_ms += DAY_MS;
            }
            if !matches!(&*scene.payload, Payload::EmergencyUseReviewed(_)) {
                return Ok(Edit::Keep);
            }
            over = true;
            let ended = v1::EngagementEnded {
                engagement: ENGAGEMENT.to_owned(),
                ended_by: v1::EngagementEnd::Customer.into(),
                effective_ms: scene.record.occurred_at_ms,
                reason: "DONE".to_owned(),
            };
            Ok(followed_by(scene, Payload::EngagementEnded(ended)))
        })
        .unwrap();
    fails(&golden, &root, "I-13", "a decision of who was let go");
}

#[test]
fn i13_a_plan_that_comes_long_after_the_engagement_was_over_is_seen() {
    let golden = Golden::new();
    for ends in [false, true] {
        let (root, files) = golden.copy(if ends { "over" } else { "under" });
        let mut over = false;
        Forger::new(&files, &golden.keys)
            .rewrite(|scene| {
                if over {
                    *scene.recorded_at_ms += DAY_MS;
                }
                Ok(match &mut *scene.payload {
                    Payload::DecisionRightGranted(p) if p.right.ends_with("Remediate") => {
                        p.grantee = PROVIDER.to_owned();
                        Edit::Keep
                    }
                    Payload::RemediationPlanned(_) => {
                        scene.record.actor = PROVIDER.to_owned();
                        Edit::Keep
                    }
                    Payload::ThresholdResolved(_) => Edit::Drop,
                    Payload::ReconRunSealed(_) if ends => {
                        over = true;
                        let ended = v1::EngagementEnded {
                            engagement: ENGAGEMENT.to_owned(),
                            ended_by: v1::EngagementEnd::Customer.into(),
                            effective_ms: scene.record.occurred_at_ms,
                            reason: "DONE".to_owned(),
                        };
                        followed_by(scene, Payload::EngagementEnded(ended))
                    }
                    _ => Edit::Keep,
                })
            })
            .unwrap();
        assert_eq!(is_seen(&golden, &root, "I-13"), ends);
    }
}

#[test]
fn i13_a_decision_in_the_name_of_somebody_whose_evidence_was_revoked_is_seen() {
    let golden = Golden::new();
    for revoked in [false, true] {
        let (root, files) = golden.copy(if revoked { "revoked" } else { "good" });
        let rewrite = |change: &mut dyn FnMut(&mut Scene<'_>) -> Edit| {
            let forger = Forger::new(&files, &golden.keys);
            forger.rewrite(|scene| Ok(change(scene))).unwrap();
        };
        rewrite(&mut |scene| match &*scene.payload {
            Payload::CompetencyEvidenceAccepted(p) if revoked => {
                let mut record = scene.record.clone();
                record.occurred_at_ms -= 3_600_000;
                let ended = v1::CompetencyEvidenceRevoked {
                    competency: p.competency.clone(),
                    effective_ms: record.occurred_at_ms,
                };
                Edit::Follow(vec![(record, Payload::CompetencyEvidenceRevoked(ended))])
            }
            _ => Edit::Keep,
        });
        let right = hash_of(
            &files,
            |_, payload| matches!(payload, Payload::DecisionRightGranted(p) if p.grantee == PROVIDER),
        );
        rewrite(&mut |scene| {
            if let Payload::DelegationGranted(p) = &mut *scene.payload {
                scene.record.actor = PROVIDER.to_owned();
                p.delegator = PROVIDER.to_owned();
                p.delegate = BOB.to_owned();
                p.source_record_hash.clone_from(&right);
                p.action = v1::DecisionAction::Review.into();
            }
            Edit::Keep
        });
        let delegation = hash_of(&files, |_, payload| {
            matches!(payload, Payload::DelegationGranted(_))
        });
        rewrite(&mut |scene| {
            if matches!(&*scene.payload, Payload::ReviewDecided(_))
                && scene.record.actor == PROVIDER
            {
                scene.record.actor = BOB.to_owned();
                let accountability = accountability(scene.record);
                accountability.authority.clone_from(&delegation);
                accountability.on_behalf_of = vec![PROVIDER.to_owned()];
            }
            Edit::Keep
        });
        assert_eq!(is_seen(&golden, &root, "I-13"), revoked);
    }
}
