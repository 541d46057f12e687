//! AI agents, one at each level, under mandates of the customer: what they were let do, and what they did.

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::v1::{self, AgentAutonomy, DecisionAction, OrganizationKind};

use super::authority::{ALICE, BOB, CAROL, DAY_MS, credential, register, right_by};
use super::cycle::{By, Cycle};
use super::log::{Draft, LogBuilder};

/// Reads.
pub const WATCHER: &str = "principals/agent-watcher";
/// Plans what humans let go on.
pub const PLANNER: &str = "principals/agent-planner";
/// Starts what humans let go on.
pub const STARTER: &str = "principals/agent-starter";
/// Decides and carries out.
pub const DECIDER: &str = "principals/agent-decider";
/// Has been stopped, let go on, stopped for good, and was granted another mandate.
pub const STOPPED: &str = "principals/agent-stopped";

fn by(actor: &str) -> Draft<'_> {
    Draft {
        actor,
        ..Draft::default()
    }
}

/// The agents come, the day before anything is reviewed, and it is they who do what is not a review.
pub fn arrive(cycle: &mut Cycle) {
    use DecisionAction::{Certify, Except, Remediate};
    let log = &mut cycle.log;
    let agents = [
        (WATCHER, AgentAutonomy::Observe, &[][..]),
        (PLANNER, AgentAutonomy::Propose, &[Remediate][..]),
        (STARTER, AgentAutonomy::ExecuteWithApproval, &[Remediate]),
        (
            DECIDER,
            AgentAutonomy::ExecuteBounded,
            &[Remediate, Except, Certify],
        ),
        (STOPPED, AgentAutonomy::Propose, &[Remediate]),
    ];
    for (agent, autonomy, actions) in agents {
        let ai = v1::PrincipalKind::AiAgent;
        register(log, agent, (ai, OrganizationKind::Customer), Vec::new());
        let terms = terms(log, agent, autonomy, actions);
        mandate(log, &mandate_of(agent), terms);
    }
    let everywhere = &["*"][..];
    let mut right = |agent, action| right_by(log, (agent, action, everywhere), by(CAROL));
    cycle.rights.plan = right(PLANNER, Remediate);
    cycle.rights.certify = right(DECIDER, Certify);
    cycle.rights.agent_plan = right(DECIDER, Remediate);
    cycle.rights.agent_except = right(DECIDER, Except);
    stop(log);
    let certified = v1::AgentMandateCertified {
        mandate: mandate_of(DECIDER),
        due_ms: log.now_ms + 30 * DAY_MS,
    };
    log.append(&Payload::AgentMandateCertified(certified), by(ALICE));
    log.tick(DAY_MS);
    cycle.by = By {
        certifies: DECIDER,
        runs: PLANNER,
        plans: PLANNER,
        starts: STARTER,
    };
}

/// The name of an agent's first mandate.
pub fn mandate_of(agent: &str) -> String {
    agent.replace("principals/agent-", "mandate-of-")
}

fn terms(
    log: &LogBuilder,
    agent: &str,
    autonomy: AgentAutonomy,
    actions: &[DecisionAction],
) -> v1::AgentMandateTerms {
    v1::AgentMandateTerms {
        agent: agent.to_owned(),
        owner: ALICE.to_owned(),
        autonomy: autonomy.into(),
        actions: actions.iter().map(|action| (*action).into()).collect(),
        scope: vec!["*".to_owned()],
        acts_per_hour_max: 3,
        removals_per_day_max: 1_000,
        removals_max: 10_000,
        model: "vendor/model-4".to_owned(),
        build: "sha256:0123456789ab".to_owned(),
        // Put forward before it is granted, it begins with that.
        valid_from_ms: log.now_ms,
        valid_to_ms: log.now_ms + 200 * DAY_MS,
        review_interval_ms: 30 * DAY_MS,
        ..v1::AgentMandateTerms::default()
    }
}

fn mandate(log: &mut LogBuilder, id: &str, terms: v1::AgentMandateTerms) {
    let proposed = v1::AgentMandateProposed {
        mandate: id.to_owned(),
        terms: Some(terms.clone()),
    };
    let draft = Draft {
        commitments: vec![("kill_path", b"stop the pod".to_vec())],
        ..by(CAROL)
    };
    let proposal = log.append(&Payload::AgentMandateProposed(proposed), draft);
    let granted = v1::AgentMandateGranted {
        mandate: id.to_owned(),
        proposal_record_hash: proposal.to_vec(),
        terms: Some(v1::AgentMandateTerms {
            valid_from_ms: log.now_ms + 5,
            ..terms
        }),
    };
    log.append(&Payload::AgentMandateGranted(granted), by(BOB));
}

/// One is stopped and let go on, loses its mandate with its token, and is granted another.
fn stop(log: &mut LogBuilder) {
    credential(log, "agent-1", STOPPED, ALICE, "second");
    let (mandate_id, agent) = (mandate_of(STOPPED), STOPPED.to_owned());
    let suspended = v1::AgentSuspended {
        mandate: mandate_id.clone(),
        agent: agent.clone(),
        effective_ms: log.now_ms + 5,
        reason_code: "unexpected-volume".to_owned(),
    };
    log.append(&Payload::AgentSuspended(suspended), by(CAROL));
    let resumed = v1::AgentResumed {
        mandate: mandate_id.clone(),
        agent: agent.clone(),
        effective_ms: log.now_ms + 5,
    };
    log.append(&Payload::AgentResumed(resumed), by(BOB));
    // Of one moment: the clock stands still between them.
    let now_ms = log.now_ms;
    let revoked = v1::AgentRevoked {
        mandate: mandate_id,
        agent,
        effective_ms: now_ms + 5,
        reason_code: "misused".to_owned(),
        credentials: vec!["agent-1".to_owned()],
    };
    log.append(&Payload::AgentRevoked(revoked), by(ALICE));
    log.now_ms = now_ms;
    let ended = v1::CredentialRevoked {
        credential: "agent-1".to_owned(),
        effective_ms: now_ms + 5,
    };
    log.append(&Payload::CredentialRevoked(ended), by(ALICE));
    let actions = &[DecisionAction::Remediate];
    let terms = terms(log, STOPPED, AgentAutonomy::Observe, actions);
    mandate(log, "mandate-of-stopped-2", terms);
    credential(log, "agent-2", STOPPED, ALICE, "second");
}
