//! AI agents in a human's stead, and once they were stopped: forged.

use crate::agents::{after_the_grant, golden, suspended, terms};
use crate::prelude::*;
use crate::support::agents::{DECIDER, PLANNER, STOPPED, WATCHER, mandate_of};

fn revoked(agent: &str, effective_ms: i64) -> Payload {
    Payload::AgentRevoked(v1::AgentRevoked {
        mandate: mandate_of(agent),
        agent: agent.to_owned(),
        effective_ms,
        reason_code: "retired".to_owned(),
        credentials: Vec::new(),
    })
}

/// Whose records of a kind these are now.
macro_rules! by_agent {
    ($kind:ident) => {
        on!($kind, |r, _p| r.actor = DECIDER.to_owned())
    };
}

const IN_A_HUMANS_STEAD: &[(&str, &str, Forgery)] = &[
    (
        "I-68",
        "an agent grants a mandate",
        by_agent!(AgentMandateGranted),
    ),
    (
        "I-68",
        "an agent certifies a mandate",
        by_agent!(AgentMandateCertified),
    ),
    (
        "I-68",
        "an agent lets an agent go on",
        by_agent!(AgentResumed),
    ),
    (
        "I-68",
        "an agent grants a right",
        by_agent!(DecisionRightGranted),
    ),
    (
        "I-68",
        "an agent passes a right on",
        by_agent!(DelegationGranted),
    ),
    (
        "I-68",
        "an agent lets an emergency begin",
        by_agent!(EmergencyAccessActivated),
    ),
    (
        "I-68",
        "an agent reviews an emergency",
        by_agent!(EmergencyUseReviewed),
    ),
    (
        "I-68",
        "an agent approves a provider",
        by_agent!(EngagementApproved),
    ),
    ("I-68", "an agent extends it", by_agent!(EngagementExtended)),
    (
        "I-68",
        "an agent accepts a competency",
        by_agent!(CompetencyEvidenceAccepted),
    ),
    ("I-68", "an agent gives a tier", by_agent!(PartnerTierSet)),
    (
        "I-68",
        "an agent reassesses a provider",
        by_agent!(ReassessmentCompleted),
    ),
    (
        "I-68",
        "an agent issues a token",
        by_agent!(CredentialIssued),
    ),
    (
        "I-68",
        "an agent publishes the rules",
        by_agent!(PolicyBundlePublished),
    ),
    (
        "I-68",
        "an agent activates the tenant",
        by_agent!(TenantLifecycleChanged),
    ),
    (
        "I-68",
        "an agent registers people",
        by_agent!(PrincipalRegistered),
    ),
    (
        "I-68",
        "an agent registers sources where it may act",
        by_agent!(SourceRegistered),
    ),
    ("I-68", "an agent reviews", by_agent!(ReviewDecided)),
    (
        "I-68",
        "an agent lets a plan go on",
        by_agent!(ThresholdResolved),
    ),
    (
        "I-68",
        "an agent puts a mandate forward",
        by_agent!(AgentMandateProposed),
    ),
    (
        "I-68",
        "an agent carries out by itself",
        by_agent!(ActionIntended),
    ),
    (
        "I-68",
        "an agent says what a source shows",
        by_agent!(SourceSyncSealed),
    ),
    ("I-68", "an agent answers for itself", |scene| {
        terms(scene, PLANNER, |terms| terms.owner = PLANNER.to_owned())
    }),
    (
        "I-68",
        "an agent grants its mandate under another name",
        on!(PrincipalRegistered, |_r, p| if p.principal == PLANNER {
            p.identity_tag = tag_of(BOB)
        }),
    ),
];

const ONCE_STOPPED: &[(&str, &str, Forgery)] = &[
    ("I-69", "an agent that was suspended", |scene| {
        let payload = suspended(PLANNER, scene.record.occurred_at_ms);
        after_the_grant(scene, PLANNER, CAROL, payload)
    }),
    ("I-69", "an agent that was stopped for good", |scene| {
        let payload = revoked(PLANNER, scene.record.occurred_at_ms);
        after_the_grant(scene, PLANNER, CAROL, payload)
    }),
    (
        "I-69",
        "a stop from another time on",
        on!(AgentSuspended, |_r, p| p.effective_ms += 1),
    ),
    (
        "I-69",
        "an end from another time on",
        on!(AgentRevoked, |_r, p| p.effective_ms -= 1),
    ),
    (
        "I-69",
        "a resumption from an earlier time on",
        on!(AgentResumed, |_r, p| p.effective_ms -= 1),
    ),
    (
        "I-69",
        "a stop by a service",
        on!(AgentSuspended, |r, _p| r.actor =
            "services/authority".to_owned()),
    ),
    (
        "I-69",
        "a resumption by the provider",
        on!(AgentResumed, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-69",
        "a resumption of what was not stopped",
        drop_if!(AgentSuspended, |_p| true),
    ),
    (
        "I-69",
        "a stop of another agent",
        on!(AgentSuspended, |_r, p| p.agent = PLANNER.to_owned()),
    ),
    (
        "I-69",
        "a stop of no mandate",
        on!(AgentSuspended, |_r, p| p.mandate = "none".to_owned()),
    ),
    (
        "I-69",
        "an end by the provider",
        on!(AgentRevoked, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-69",
        "an end by a machine",
        on!(AgentRevoked, |r, _p| r.actor = WATCHER.to_owned()),
    ),
    (
        "I-69",
        "a token that was left in force",
        on!(AgentRevoked, |_r, p| p.credentials.clear()),
    ),
    (
        "I-69",
        "a token that is only said to be revoked",
        drop_if!(CredentialRevoked, |p| p.credential == "agent-1"),
    ),
    (
        "I-69",
        "a token that was revoked at another time",
        on!(CredentialRevoked, |r, p| if p.credential == "agent-1" {
            r.occurred_at_ms += 1;
            p.effective_ms += 1
        }),
    ),
    (
        "I-69",
        "a token of another",
        on!(AgentRevoked, |_r, p| p.credentials =
            vec!["agent-1".to_owned(), "second".to_owned()]),
    ),
    (
        "I-69",
        "tokens in another order",
        on!(AgentRevoked, |_r, p| p.credentials =
            vec!["agent-1".to_owned(); 2]),
    ),
    (
        "I-69",
        "a token for whom no mandate was granted again",
        |scene| match &*scene.payload {
            Payload::AgentMandateGranted(p) if p.mandate == "mandate-of-stopped-2" => Edit::Drop,
            _ => Edit::Keep,
        },
    ),
    (
        "I-69",
        "an end that comes a second time",
        |scene| match &*scene.payload {
            Payload::AgentRevoked(_) => followed_by(scene, scene.payload.clone()),
            _ => Edit::Keep,
        },
    ),
    ("I-69", "a resumption after the end", |scene| {
        let Payload::CredentialRevoked(_) = &*scene.payload else {
            return Edit::Keep;
        };
        let resumed = v1::AgentResumed {
            mandate: mandate_of(STOPPED),
            agent: STOPPED.to_owned(),
            effective_ms: scene.record.occurred_at_ms,
        };
        followed_by(scene, Payload::AgentResumed(resumed))
    }),
];

pub(crate) const FORGERIES: [&[(&str, &str, Forgery)]; 2] = [IN_A_HUMANS_STEAD, ONCE_STOPPED];

#[test]
fn i68_agents_in_a_humans_stead_are_seen() {
    all_fail_in(&golden(), IN_A_HUMANS_STEAD);
}

#[test]
fn i69_agents_that_go_on_once_they_were_stopped_are_seen() {
    all_fail_in(&golden(), ONCE_STOPPED);
}
