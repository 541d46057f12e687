//! AI agents and their mandates, forged.

use counterfoil_evidence::v1::{AgentAutonomy, AgentMandateTerms, DecisionAction};

use crate::prelude::*;
use crate::support::agents::{DECIDER, PLANNER, STARTER, WATCHER, mandate_of};
use crate::support::cycle;
use crate::support::remediation::SECOND;

const HOUR_MS: i64 = DAY_MS / 24;

/// Changes what the mandates of an agent say, as they were put forward and as they were granted.
pub(crate) fn terms(
    scene: &mut Scene<'_>,
    of: &str,
    change: impl Fn(&mut AgentMandateTerms),
) -> Edit {
    let terms = match &mut *scene.payload {
        Payload::AgentMandateProposed(p) => p.terms.as_mut(),
        Payload::AgentMandateGranted(p) => p.terms.as_mut(),
        _ => None,
    };
    if let Some(terms) = terms.filter(|terms| terms.agent == of) {
        change(terms);
    }
    Edit::Keep
}

/// When a mandate that was put forward for 200 days would have lasted a year from its grant.
pub(crate) fn a_year(terms: &AgentMandateTerms) -> i64 {
    // Granted after two ticks of the log's clock, as `agents::mandate` does.
    terms.valid_to_ms + 165 * DAY_MS + 10
}

/// Changes the grant of an agent's mandate.
macro_rules! granted {
    ($agent:expr, |$record:ident, $payload:ident, $terms:ident| $change:expr) => {
        |scene| {
            let $record = &mut *scene.record;
            if let Payload::AgentMandateGranted($payload) = &mut *scene.payload
                && $payload
                    .terms
                    .as_ref()
                    .is_some_and(|terms| terms.agent == $agent)
            {
                let $terms = $payload.terms.get_or_insert_default();
                $change;
                let _ = $terms;
            }
            let _ = $record;
            Edit::Keep
        }
    };
}

pub(crate) fn is_grant(scene: &Scene<'_>, agent: &str) -> bool {
    let Payload::AgentMandateGranted(p) = &*scene.payload else {
        return false;
    };
    p.terms.as_ref().is_some_and(|terms| terms.agent == agent)
}

/// Puts a record of authority's, of the same time, after the grant of an agent's mandate.
pub(crate) fn after_the_grant(
    scene: &Scene<'_>,
    agent: &str,
    actor: &str,
    payload: Payload,
) -> Edit {
    if !is_grant(scene, agent) {
        return Edit::Keep;
    }
    let mut record = scene.record.clone();
    record.actor = actor.to_owned();
    Edit::Follow(vec![(record, payload)])
}

pub(crate) fn suspended(agent: &str, effective_ms: i64) -> Payload {
    Payload::AgentSuspended(v1::AgentSuspended {
        mandate: mandate_of(agent),
        agent: agent.to_owned(),
        effective_ms,
        reason_code: "unexpected-volume".to_owned(),
    })
}

/// Registers a principal once more, as another kind.
fn again(scene: &Scene<'_>, principal: &str, kind: v1::PrincipalKind) -> Edit {
    match &*scene.payload {
        Payload::PrincipalRegistered(p) if p.principal == principal => {
            let kind = kind.into();
            let other = v1::PrincipalRegistered { kind, ..p.clone() };
            followed_by(scene, Payload::PrincipalRegistered(other))
        }
        _ => Edit::Keep,
    }
}

const UNDER_NO_MANDATE: &[(&str, &str, Forgery)] = &[
    (
        "I-65",
        "an agent without a mandate",
        |scene| match is_grant(scene, PLANNER) {
            true => Edit::Drop,
            false => Edit::Keep,
        },
    ),
    (
        "I-65",
        "a mandate that nobody put forward",
        drop_if!(AgentMandateProposed, |p| p.mandate == mandate_of(PLANNER)),
    ),
    (
        "I-65",
        "a mandate by one human alone",
        granted!(PLANNER, |r, _p, _t| r.actor = CAROL.to_owned()),
    ),
    (
        "I-65",
        "a mandate by one human under two names",
        on!(PrincipalRegistered, |_r, p| if p.principal == BOB {
            p.identity_tag = tag_of(CAROL)
        }),
    ),
    (
        "I-65",
        "a mandate that the provider grants",
        granted!(PLANNER, |r, _p, _t| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-65",
        "a mandate that a service grants",
        granted!(PLANNER, |r, _p, _t| r.actor =
            "services/authority".to_owned()),
    ),
    (
        "I-65",
        "a mandate that somebody unknown put forward",
        on!(AgentMandateProposed, |r, _p| r.actor =
            "principals/nobody".to_owned()),
    ),
    (
        "I-65",
        "a mandate that a machine put forward",
        |scene| match &*scene.payload {
            Payload::PrincipalRegistered(p) if p.principal == PLANNER => {
                let machine = v1::PrincipalRegistered {
                    principal: "principals/machine".to_owned(),
                    kind: v1::PrincipalKind::Service.into(),
                    identity_tag: tag_of("principals/machine"),
                    ..p.clone()
                };
                followed_by(scene, Payload::PrincipalRegistered(machine))
            }
            Payload::AgentMandateProposed(p) if p.mandate == mandate_of(PLANNER) => {
                scene.record.actor = "principals/machine".to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-65",
        "a mandate that gives more than was put forward",
        granted!(PLANNER, |_r, _p, t| t.removals_max += 1),
    ),
    (
        "I-65",
        "a mandate from before it was granted",
        granted!(PLANNER, |_r, _p, t| t.valid_from_ms -= 1),
    ),
    (
        "I-65",
        "a mandate on what was put forward for another",
        granted!(PLANNER, |_r, p, _t| p.proposal_record_hash = vec![7; 32]),
    ),
    ("I-65", "a mandate granted twice", |scene| {
        match is_grant(scene, PLANNER) {
            true => followed_by(scene, scene.payload.clone()),
            false => Edit::Keep,
        }
    }),
    (
        "I-65",
        "a mandate put forward twice",
        |scene| match &*scene.payload {
            Payload::AgentMandateProposed(_) => followed_by(scene, scene.payload.clone()),
            _ => Edit::Keep,
        },
    ),
    ("I-65", "a mandate that an agent answers for", |scene| {
        terms(scene, PLANNER, |terms| terms.owner = WATCHER.to_owned())
    }),
    ("I-65", "a mandate that the provider answers for", |scene| {
        terms(scene, PLANNER, |terms| terms.owner = PROVIDER.to_owned())
    }),
    ("I-65", "an agent whose owner had left", |scene| {
        let end = v1::PrincipalEnded {
            principal: ALICE.to_owned(),
            effective_ms: scene.record.occurred_at_ms,
        };
        after_the_grant(scene, PLANNER, CAROL, Payload::PrincipalEnded(end))
    }),
    ("I-65", "an agent that had ended", |scene| {
        let end = v1::PrincipalEnded {
            principal: PLANNER.to_owned(),
            effective_ms: scene.record.occurred_at_ms,
        };
        after_the_grant(scene, PLANNER, CAROL, Payload::PrincipalEnded(end))
    }),
    (
        "I-65",
        "an agent that is called a service",
        on!(PrincipalRegistered, |_r, p| if p.principal == PLANNER {
            p.kind = v1::PrincipalKind::Service.into()
        }),
    ),
    (
        "I-65",
        "an agent that is called a service afterwards",
        |scene| again(scene, PLANNER, v1::PrincipalKind::Service),
    ),
    (
        "I-65",
        "a human that is called an agent afterwards",
        |scene| again(scene, ALICE, v1::PrincipalKind::AiAgent),
    ),
    ("I-65", "a mandate longer than 365 days", |scene| {
        terms(scene, WATCHER, |terms| {
            terms.valid_to_ms = a_year(terms) + 1
        })
    }),
    ("I-65", "a mandate that is over before it begins", |scene| {
        terms(scene, WATCHER, |terms| terms.valid_to_ms = 1)
    }),
    ("I-65", "a mandate that was over", |scene| {
        terms(scene, PLANNER, |terms| {
            terms.valid_to_ms -= 200 * DAY_MS - HOUR_MS
        })
    }),
    ("I-65", "a mandate that had not begun", |scene| {
        terms(scene, PLANNER, |terms| {
            terms.valid_from_ms = terms.valid_to_ms - 198 * DAY_MS
        })
    }),
    ("I-65", "a mandate that says no level", |scene| {
        terms(scene, WATCHER, |terms| terms.autonomy = 0)
    }),
    ("I-65", "a mandate never looked at", |scene| {
        terms(scene, WATCHER, |terms| {
            terms.review_interval_ms = 90 * DAY_MS + 1
        })
    }),
    ("I-65", "a mandate that was due to be looked at", |scene| {
        terms(scene, PLANNER, |terms| terms.review_interval_ms = HOUR_MS)
    }),
    (
        "I-65",
        "a mandate that was due earlier than its terms say",
        on!(AgentMandateCertified, |r, p| p.due_ms =
            r.occurred_at_ms + HOUR_MS),
    ),
    (
        "I-65",
        "a mandate certified for longer than it may be",
        on!(AgentMandateCertified, |r, p| p.due_ms =
            r.occurred_at_ms + 30 * DAY_MS + 1),
    ),
    (
        "I-65",
        "a mandate that the provider certifies",
        on!(AgentMandateCertified, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-65",
        "a certificate of nothing",
        on!(AgentMandateCertified, |_r, p| p.mandate = "none".to_owned()),
    ),
    ("I-65", "a mandate of a tenant that was paused", |scene| {
        let change = v1::TenantLifecycleChanged {
            from: v1::TenantState::Active.into(),
            to: v1::TenantState::Suspended.into(),
            reason_code: "contract".to_owned(),
            ..v1::TenantLifecycleChanged::default()
        };
        after_the_grant(
            scene,
            PLANNER,
            CAROL,
            Payload::TenantLifecycleChanged(change),
        )
    }),
];

const BEYOND_THE_MANDATE: &[(&str, &str, Forgery)] = &[
    ("I-66", "a plan of an agent that observes", |scene| {
        terms(scene, PLANNER, |terms| {
            terms.autonomy = AgentAutonomy::Observe.into()
        })
    }),
    (
        "I-66",
        "a plan under a mandate that another had replaced",
        |scene| {
            let Payload::AgentMandateGranted(p) = &*scene.payload else {
                return Edit::Keep;
            };
            let mut less = p.clone();
            less.mandate = "less".to_owned();
            less.terms.get_or_insert_default().autonomy = AgentAutonomy::Observe.into();
            after_the_grant(scene, PLANNER, BOB, Payload::AgentMandateGranted(less))
        },
    ),
    (
        "I-66",
        "a run by an agent that observes",
        on!(ReconRunSealed, |r, _p| r.actor = WATCHER.to_owned()),
    ),
    (
        "I-66",
        "a snapshot by an agent that observes",
        on!(SnapshotSealed, |r, _p| r.actor = WATCHER.to_owned()),
    ),
    (
        "I-66",
        "items laid before reviewers by an agent that plans",
        on!(ReviewItemRouted, |r, _p| r.actor = PLANNER.to_owned()),
    ),
    ("I-66", "a start by an agent that proposes", |scene| {
        terms(scene, STARTER, |terms| {
            terms.autonomy = AgentAutonomy::Propose.into()
        })
    }),
    ("I-66", "decisions of an agent that carries out", |scene| {
        terms(scene, DECIDER, |terms| {
            terms.autonomy = AgentAutonomy::ExecuteWithApproval.into()
        })
    }),
    ("I-66", "campaigns without CERTIFY", |scene| {
        terms(scene, DECIDER, |terms| {
            terms.actions = vec![
                DecisionAction::Remediate.into(),
                DecisionAction::Except.into(),
            ]
        })
    }),
    ("I-66", "an accepted risk without EXCEPT", |scene| {
        terms(scene, DECIDER, |terms| {
            terms.actions = vec![
                DecisionAction::Remediate.into(),
                DecisionAction::Certify.into(),
            ]
        })
    }),
    ("I-66", "a plan without REMEDIATE", |scene| {
        terms(scene, PLANNER, |terms| terms.actions.clear())
    }),
    ("I-66", "a start without REMEDIATE", |scene| {
        terms(scene, STARTER, |terms| terms.actions.clear())
    }),
    ("I-66", "a plan on another source", |scene| {
        terms(scene, PLANNER, |terms| terms.scope = vec![HR.to_owned()])
    }),
    ("I-66", "a start on another source", |scene| {
        terms(scene, STARTER, |terms| terms.scope = vec![LDAP.to_owned()])
    }),
    ("I-66", "a campaign on another source", |scene| {
        terms(scene, DECIDER, |terms| terms.scope = vec![LDAP.to_owned()])
    }),
    ("I-66", "a plan in another environment", |scene| {
        terms(scene, PLANNER, |terms| {
            terms.environments = vec!["test".to_owned()]
        })
    }),
    ("I-66", "a plan in another tier", |scene| {
        terms(scene, PLANNER, |terms| {
            terms.tiers = vec!["gold".to_owned()]
        })
    }),
    ("I-66", "more acts within an hour", |scene| {
        terms(scene, DECIDER, |terms| terms.acts_per_hour_max = 2)
    }),
    ("I-66", "no acts at all", |scene| {
        terms(scene, STARTER, |terms| terms.acts_per_hour_max = 0)
    }),
    ("I-66", "more removals within a day", |scene| {
        terms(scene, PLANNER, |terms| terms.removals_per_day_max = 5)
    }),
    ("I-66", "more removals started within a day", |scene| {
        terms(scene, STARTER, |terms| terms.removals_per_day_max = 5)
    }),
    ("I-66", "more removals in all", |scene| {
        terms(scene, PLANNER, |terms| terms.removals_max = 5)
    }),
];

const WITHOUT_A_HUMAN: &[(&str, &str, Forgery)] = &[
    (
        "I-67",
        "a plan that nobody started",
        drop_if!(RemediationStarted, |_p| true),
    ),
    (
        "I-67",
        "a start of something else",
        on!(RemediationStarted, |_r, p| p.plan_record_hash = vec![7; 32]),
    ),
    (
        "I-67",
        "a start of no plan",
        on!(RemediationStarted, |_r, p| p.remediation =
            "remediations/none".to_owned()),
    ),
    (
        "I-67",
        "a start by a service",
        on!(RemediationStarted, |r, _p| r.actor =
            "services/reconciliation".to_owned()),
    ),
    (
        "I-67",
        "an agent's plan that was not held",
        drop_if!(ThresholdTripped, |_p| true),
    ),
    (
        "I-67",
        "an agent's plan that nobody let",
        drop_if!(ThresholdResolved, |_p| true),
    ),
    (
        "I-67",
        "an agent's plan that a human cancelled",
        on!(ThresholdResolved, |_r, p| p.resume = false),
    ),
    (
        "I-67",
        "an agent's plan that an agent let",
        on!(ThresholdResolved, |r, _p| r.actor = DECIDER.to_owned()),
    ),
    ("I-67", "an agent's small plan that nobody let", |scene| {
        terms(scene, DECIDER, |terms| {
            terms.autonomy = AgentAutonomy::ExecuteWithApproval.into()
        })
    }),
    (
        "I-67",
        "a start of what no human planned or let",
        on!(RemediationStarted, |r, p| if p.remediation == SECOND {
            r.actor = STARTER.to_owned()
        }),
    ),
];

pub(crate) const FORGERIES: [&[(&str, &str, Forgery)]; 3] =
    [UNDER_NO_MANDATE, BEYOND_THE_MANDATE, WITHOUT_A_HUMAN];

pub(crate) fn golden() -> Golden {
    Golden::of(cycle::build_with_agents(60))
}

#[test]
fn agents_within_their_mandates_are_good() {
    golden().is_good();
}

#[test]
fn i65_agents_without_a_mandate_are_seen() {
    all_fail_in(&golden(), UNDER_NO_MANDATE);
}

#[test]
fn i66_what_is_beyond_a_mandate_is_seen() {
    all_fail_in(&golden(), BEYOND_THE_MANDATE);
}

#[test]
fn i67_plans_that_went_out_without_a_human_are_seen() {
    all_fail_in(&golden(), WITHOUT_A_HUMAN);
}
