//! Owners, rights, policies and keys, forged.

use counterfoil_tlog::hash::sha256;
use prost::Message as _;

use crate::prelude::*;

/// Ends a principal so long after it was registered.
fn leaves(scene: &Scene<'_>, principal: &str, after_ms: i64) -> Edit {
    match &*scene.payload {
        Payload::PrincipalRegistered(p) if p.principal == principal => {
            let ended = v1::PrincipalEnded {
                principal: p.principal.clone(),
                effective_ms: scene.record.occurred_at_ms + after_ms,
            };
            followed_by(scene, Payload::PrincipalEnded(ended))
        }
        _ => Edit::Keep,
    }
}

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
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
        leaves(scene, CAROL, 1_000)
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
        "a decider whom nobody registered",
        drop_if!(PrincipalRegistered, |p| p.principal == BOB),
    ),
    ("I-13", "a decider who had left", |scene| {
        leaves(scene, BOB, 1)
    }),
    (
        "I-13",
        "a decider who was registered afterwards",
        on!(PrincipalRegistered, |r, p| if p.principal == BOB {
            r.occurred_at_ms += 600_000
        }),
    ),
    ("I-13", "the service decides by itself", |scene| {
        let service = "services/recertification";
        match &mut *scene.payload {
            Payload::DecisionRightGranted(p) if p.grantee == BOB => p.grantee = service.to_owned(),
            Payload::ReviewItemRouted(p) if p.to == BOB => p.to = service.to_owned(),
            Payload::ReviewDecided(_) if scene.record.actor == BOB => {
                scene.record.actor = service.to_owned();
            }
            _ => {}
        }
        Edit::Keep
    }),
    (
        "I-13",
        "a machine decides",
        on!(PrincipalRegistered, |_r, p| if p.principal == BOB {
            p.kind = v1::PrincipalKind::Service.into()
        }),
    ),
    (
        "I-13",
        "an AI agent decides",
        on!(PrincipalRegistered, |_r, p| if p.principal == BOB {
            p.kind = v1::PrincipalKind::AiAgent.into()
        }),
    ),
    ("I-13", "a right that was granted afterwards", |scene| {
        match &mut *scene.payload {
            Payload::DecisionRightGranted(p) => p.valid_from_ms -= DAY_MS,
            Payload::ReviewDecided(_) => scene.record.occurred_at_ms -= 600_000,
            _ => {}
        }
        Edit::Keep
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
        "I-18",
        "a policy in force from before it was published",
        on!(PolicyBundlePublished, |_r, p| p.effective_from_ms -= DAY_MS),
    ),
    (
        "I-18",
        "a stricter policy that nobody heeds",
        |scene| match &mut *scene.payload {
            Payload::PolicyBundlePublished(p) => {
                p.effective_from_ms -= DAY_MS;
                scene.record.occurred_at_ms -= DAY_MS;
                let mut rules = p.rules.clone().unwrap();
                rules.exception_max_ms = DAY_MS;
                let stricter = v1::PolicyBundlePublished {
                    bundle_hash: sha256(&rules.encode_to_vec()).0.to_vec(),
                    version: p.version + 1,
                    effective_from_ms: p.effective_from_ms + 1,
                    rules: Some(rules),
                };
                followed_by(scene, Payload::PolicyBundlePublished(stricter))
            }
            _ => Edit::Keep,
        },
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
    all_fail(FORGERIES);
}
