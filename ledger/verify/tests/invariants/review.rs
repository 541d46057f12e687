//! Decisions, populations and closes, forged.

use crate::prelude::*;

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
    all_fail(FORGERIES);
}
