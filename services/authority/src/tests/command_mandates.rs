//! What may be asked about mandates of AI agents, and how that is made up: small limits and short terms, so that they are reached.

use proptest::prelude::*;

use super::command::{ACTIONS, Nth, PEOPLE, nth, scope};
use crate::model::{
    mandate::{Autonomy, Limits},
    principal::PrincipalKind,
    right::{DecisionAction, Scope},
};

/// Names of acts: few, so that the same one is counted again now and then.
const ACTS: usize = 12;

/// A mandate as it is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) agent: usize,
    pub(super) owner: usize,
    pub(super) autonomy: Autonomy,
    pub(super) actions: Vec<DecisionAction>,
    pub(super) scope: Scope,
    pub(super) limits: Limits,
    /// From (`None`: at once) and to, hours from now.
    pub(super) term: (Option<i64>, i64),
    pub(super) review_days: u32,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) enum MandateAct {
    Propose(Box<Wish>),
    Grant(Nth),
    Certify(Nth),
    Suspend(Nth),
    Resume(Nth),
    Revoke(Nth),
    Get(Nth),
    /// A service counts what an agent is about to do.
    Use {
        agent: usize,
        action: DecisionAction,
        /// Its name.
        act: usize,
        removals: u32,
    },
}

impl MandateAct {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Propose(_) => "propose a mandate",
            Self::Grant(_) => "grant a mandate",
            Self::Certify(_) => "certify a mandate",
            Self::Suspend(_) => "suspend a mandate",
            Self::Resume(_) => "resume a mandate",
            Self::Revoke(_) => "revoke a mandate",
            Self::Get(_) => "read a mandate",
            Self::Use { .. } => "use a mandate",
        }
    }
}

/// The agents among the people.
pub(super) fn agents() -> impl Iterator<Item = usize> {
    (0..PEOPLE.len()).filter(|who| PEOPLE[*who].kind == PrincipalKind::AiAgent)
}

/// Mostly an agent.
fn agent() -> impl Strategy<Value = usize> {
    prop_oneof![
        9 => prop::sample::select(agents().collect::<Vec<_>>()),
        1 => 0..PEOPLE.len(),
    ]
}

/// How far it goes, and what it may decide: mostly what goes together.
fn powers() -> impl Strategy<Value = (Autonomy, Vec<DecisionAction>)> {
    let some = || prop::sample::subsequence(&ACTIONS[1..], 1..=2);
    let any = prop::sample::subsequence(&ACTIONS[..], 0..=ACTIONS.len());
    let levels = vec![
        Autonomy::Unspecified,
        Autonomy::Observe,
        Autonomy::Propose,
        Autonomy::ExecuteWithApproval,
        Autonomy::ExecuteBounded,
    ];
    prop_oneof![
        2 => Just((Autonomy::Observe, Vec::new())),
        3 => some().prop_map(|actions| (Autonomy::Propose, actions)),
        2 => some().prop_map(|actions| (Autonomy::ExecuteWithApproval, actions)),
        8 => some().prop_map(|actions| (Autonomy::ExecuteBounded, actions)),
        1 => (prop::sample::select(levels), any),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let acts = prop_oneof![40 => 1..4_u32, 1 => Just(0), 1 => Just(10_001)];
    let a_day = prop_oneof![40 => 0..5_u32, 1 => Just(1_000_001)];
    let in_all = prop_oneof![40 => 0..7_u32, 1 => Just(1_000_000_001)];
    (acts, a_day, in_all).prop_map(|(acts_per_hour, removals_per_day, removals)| Limits {
        acts_per_hour,
        removals_per_day,
        removals,
    })
}

fn propose() -> impl Strategy<Value = MandateAct> {
    let owner = prop_oneof![12 => 0..4_usize, 1 => 0..PEOPLE.len()];
    let from = prop_oneof![8 => Just(None), 1 => Just(Some(-2)), 1 => Just(Some(3))];
    let to = prop_oneof![16 => 5..80_i64, 8 => Just(24 * 100), 1 => Just(0), 1 => Just(24 * 366)];
    let review_days = prop_oneof![30 => 1..3_u32, 1 => Just(0), 1 => Just(91)];
    let said = (agent(), owner, powers(), scope());
    (said, limits(), (from, to), review_days).prop_map(|(said, limits, term, review_days)| {
        let (agent, owner, (autonomy, actions), scope) = said;
        MandateAct::Propose(Box::new(Wish {
            agent,
            owner,
            autonomy,
            actions,
            scope,
            limits,
            term,
            review_days,
        }))
    })
}

fn use_one() -> impl Strategy<Value = MandateAct> {
    let action = prop::sample::select(&ACTIONS[..]);
    (agent(), action, 0..ACTS, 0..4_u32).prop_map(|(agent, action, act, removals)| {
        MandateAct::Use {
            agent,
            action,
            act,
            removals,
        }
    })
}

/// Something about a mandate.
pub(super) fn mandate_act() -> impl Strategy<Value = MandateAct> {
    prop_oneof![
        8 => propose(),
        9 => nth().prop_map(MandateAct::Grant),
        3 => nth().prop_map(MandateAct::Certify),
        2 => nth().prop_map(MandateAct::Suspend),
        2 => nth().prop_map(MandateAct::Resume),
        1 => nth().prop_map(MandateAct::Revoke),
        5 => nth().prop_map(MandateAct::Get),
        16 => use_one(),
    ]
}
