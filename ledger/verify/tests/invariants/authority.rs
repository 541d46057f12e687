//! Owners, rights, policies and keys, forged.

use crate::prelude::*;

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
    all_fail(FORGERIES);
}
