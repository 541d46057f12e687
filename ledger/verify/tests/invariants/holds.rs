//! Legal holds, forged.

use counterfoil_verify::{Verdict, report};

use crate::prelude::*;

/// Days for which the golden log's held policy keeps what is held.
const HELD_DAYS: u32 = 4_000;

/// Changes the policy that is set while the hold is in force.
fn while_held(scene: &mut Scene<'_>, change: fn(&mut Vec<v1::RetentionRule>)) -> Edit {
    if let Payload::RetentionPolicySet(p) = &mut *scene.payload
        && p.rules.iter().any(|rule| rule.duration_days == HELD_DAYS)
    {
        change(&mut p.rules);
    }
    Edit::Keep
}

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-70",
        "a class that is held and kept for less time",
        |scene| {
            while_held(scene, |rules| {
                rules.iter_mut().for_each(|rule| rule.duration_days = 30)
            })
        },
    ),
    (
        "I-70",
        "a class that is held and named no longer",
        |scene| {
            while_held(scene, |rules| {
                rules.retain(|rule| rule.retention_class != "governance")
            })
        },
    ),
    (
        "I-70",
        "a class that is held and kept for less time in one country",
        |scene| {
            while_held(scene, |rules| {
                let shorter = rules.first().map(|rule| v1::RetentionRule {
                    jurisdiction: "DE".to_owned(),
                    duration_days: 1,
                    ..rule.clone()
                });
                rules.extend(shorter);
            })
        },
    ),
    (
        "I-70",
        "a log that is held as a whole, of which a part is kept for less time",
        on!(LegalHoldPlaced, |_r, p| p.retention_classes.clear()),
    ),
    (
        "I-70",
        "a hold that is taken out of its release",
        drop_if!(LegalHoldPlaced, |_p| true),
    ),
    (
        "I-70",
        "a hold that its own human released",
        on!(LegalHoldReleased, |r, _p| r.actor = CAROL.to_owned()),
    ),
    (
        "I-70",
        "a hold that the same human released under another name",
        on!(
            PrincipalRegistered,
            |_r, p| if [BOB, CAROL].contains(&p.principal.as_str()) {
                p.identity_tag = tag_of(CAROL)
            }
        ),
    ),
    (
        "I-70",
        "a hold that a provider released",
        on!(LegalHoldReleased, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-70",
        "a hold that a provider placed",
        on!(LegalHoldPlaced, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-70",
        "a hold that the deployment placed",
        on!(LegalHoldPlaced, |r, _p| r.actor =
            "operators/admin".to_owned()),
    ),
    (
        "I-70",
        "a hold without a basis",
        on!(LegalHoldPlaced, |_r, p| p.basis.clear()),
    ),
    (
        "I-70",
        "a release without a reason",
        on!(LegalHoldReleased, |_r, p| p.reason_code.clear()),
    ),
    (
        "I-70",
        "a release of another hold",
        on!(LegalHoldReleased, |_r, p| p.hold = "case-8".to_owned()),
    ),
    (
        "I-70",
        "a hold that is released twice",
        |scene| match &*scene.payload {
            Payload::LegalHoldReleased(_) => followed_by(scene, scene.payload.clone()),
            _ => Edit::Keep,
        },
    ),
    (
        "I-70",
        "a hold that is placed twice",
        |scene| match &*scene.payload {
            Payload::LegalHoldPlaced(_) => followed_by(scene, scene.payload.clone()),
            _ => Edit::Keep,
        },
    ),
];

/// What is held while the customer leaves.
pub(crate) const OF_WHO_LEAVES: &str = "case-8";

/// Where the customer left, and called somebody to release what was held.
const OF_AN_EXIT: &[(&str, &str, Forgery)] = &[
    (
        "I-70",
        "a tenant closed under a hold that nobody released",
        drop_if!(LegalHoldReleased, |_p| true),
    ),
    (
        "I-17",
        "a human who is called while nothing is held",
        drop_if!(LegalHoldPlaced, |p| p.hold == OF_WHO_LEAVES),
    ),
    (
        "I-17",
        "a human who is called once nothing is held any more",
        |scene| match &*scene.payload {
            Payload::LegalHoldReleased(p) if p.hold == OF_WHO_LEAVES => {
                let late = v1::PrincipalRegistered {
                    principal: "principals/erin".to_owned(),
                    kind: v1::PrincipalKind::Human.into(),
                    organization: "organizations/o".to_owned(),
                    organization_kind: v1::OrganizationKind::Customer.into(),
                    identity_tag: Vec::new(),
                };
                followed_by(scene, Payload::PrincipalRegistered(late))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-17",
        "a machine that is called to release a hold",
        on!(PrincipalRegistered, |_r, p| if p.principal == DAVE {
            p.kind = v1::PrincipalKind::Service.into()
        }),
    ),
    (
        "I-17",
        "a human who is called to release a hold and could be who placed it",
        on!(PrincipalRegistered, |_r, p| if p.principal == DAVE {
            p.identity_tag.clear()
        }),
    ),
    (
        "I-17",
        "somebody of a provider who is called to release a hold",
        on!(PrincipalRegistered, |_r, p| if p.principal == DAVE {
            p.organization_kind = v1::OrganizationKind::Provider.into()
        }),
    ),
    (
        "I-17",
        "a human whom the deployment calls to release a hold",
        on!(PrincipalRegistered, |r, p| if p.principal == DAVE {
            r.actor = "operators/admin".to_owned()
        }),
    ),
    (
        "I-17",
        "a human whom a provider calls to release a hold",
        on!(PrincipalRegistered, |r, p| if p.principal == DAVE {
            r.actor = PROVIDER.to_owned()
        }),
    ),
];

/// Lets DAVE place one hold more instead of closing the tenant, and ends him on another replica, before or behind it in the log.
fn placed_by_who_ends(scene: &Scene<'_>, ends_before: bool, ahead_ms: i64) -> Edit {
    match &*scene.payload {
        Payload::LegalHoldReleased(p) if p.hold == OF_WHO_LEAVES => {
            let placed = v1::LegalHoldPlaced {
                hold: "case-9".to_owned(),
                basis: "FRCP-37E".to_owned(),
                reason_code: "litigation".to_owned(),
                ..v1::LegalHoldPlaced::default()
            };
            let placed = (scene.record.clone(), Payload::LegalHoldPlaced(placed));
            let end = ended(scene.record, DAVE, ahead_ms);
            Edit::Follow(match ends_before {
                true => vec![end, placed],
                false => vec![placed, end],
            })
        }
        Payload::TenantLifecycleChanged(p) if p.to() == v1::TenantState::Closed => Edit::Drop,
        _ => Edit::Keep,
    }
}

#[test]
fn i70_the_log_tells_who_had_ended_whatever_the_clocks_of_two_replicas_say() {
    let golden = Golden::of(crate::support::cycle::build_until_it_left(60));
    let (root, files) = golden.copy("behind");
    let rewrite = |files, ends_before, ahead_ms| {
        Forger::new(files, &golden.keys)
            .rewrite(|scene| Ok(placed_by_who_ends(scene, ends_before, ahead_ms)))
            .unwrap();
    };
    rewrite(&files, false, -1_000);
    let found = golden.verify(&root);
    assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
    let (root, files) = golden.copy("ahead");
    rewrite(&files, true, 1_000);
    fails(&golden, &root, "I-70", "a hold of somebody who had ended");
    // Clocks do not differ by an hour.
    let (root, files) = golden.copy("back");
    rewrite(&files, false, -3_600_000);
    fails(
        &golden,
        &root,
        "I-70",
        "a hold before an end that is dated back",
    );
}

#[test]
fn forged_holds_are_seen() {
    all_fail(FORGERIES);
}

#[test]
fn i70_a_tenant_under_a_hold_is_not_closed() {
    let golden = Golden::of(crate::support::cycle::build_until_it_left(60));
    golden.is_good();
    all_fail_in(&golden, OF_AN_EXIT);
}

#[test]
fn the_report_names_holds_in_force_and_counts_released_ones() {
    let golden = Golden::new();
    let told = |root: &std::path::Path| {
        let found = golden.verify(root);
        (report::text(&found), report::json(&found))
    };
    let (text, _) = told(&golden.dir.path().join("golden"));
    assert!(
        text.contains("Legal holds: 0 in force, 1 released"),
        "{text}"
    );
    let (root, files) = golden.copy("held");
    Forger::new(&files, &golden.keys)
        .rewrite(|scene| match &*scene.payload {
            Payload::LegalHoldReleased(_) => Ok(Edit::Drop),
            _ => Ok(Edit::Keep),
        })
        .unwrap();
    let (text, json) = told(&root);
    let line = "legal-holds/case-7 on governance (FRCP-37E), placed by principals/carol at";
    assert!(text.contains(line), "{text}");
    assert_eq!(
        json["report"]["legal_holds"][0]["released_by"],
        serde_json::Value::Null
    );
}
