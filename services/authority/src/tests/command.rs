//! What may be asked, by whom, and how such commands are made up.

use proptest::prelude::*;

use super::{
    command_holds::{HoldAct, hold_act},
    command_mandates::{MandateAct, mandate_act},
};
use crate::model::{
    ids::{PrincipalId, SourceId},
    principal::{OrganizationKind, Principal, PrincipalKind},
    right::{DecisionAction, Scope},
};

pub(super) const HOUR_MS: i64 = 3_600_000;
/// Every command takes a little more than the second for which the gate remembers who calls.
pub(super) const STEP_MS: i64 = 1_001;
/// Two tenants with the same people: nothing but the tenant tells them apart.
pub(super) const TENANTS: usize = 2;
/// The actions that rights are given for.
pub(super) const ACTIONS: [DecisionAction; 3] = [
    DecisionAction::Review,
    DecisionAction::Remediate,
    DecisionAction::Except,
];
/// The sources there are.
pub(super) const SOURCES: [&str; 2] = ["hr", "vault"];

/// One of the people of a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) id: &'static str,
    pub(super) kind: PrincipalKind,
    pub(super) of: OrganizationKind,
    pub(super) role: &'static str,
}

const fn human(id: &'static str, of: OrganizationKind, role: &'static str) -> Person {
    Person {
        id,
        kind: PrincipalKind::Human,
        of,
        role,
    }
}

const fn machine(id: &'static str, kind: PrincipalKind, role: &'static str) -> Person {
    Person {
        id,
        kind,
        of: OrganizationKind::Customer,
        role,
    }
}

/// The people of each tenant. The first two answer for it; the last one has no token: providers come in another way. Somebody of
/// an auditor and an AI agent have the role of who governs: it gives neither of them a say.
pub(super) const PEOPLE: [Person; 9] = [
    human("ada", OrganizationKind::Customer, "tenant-administrator"),
    human("ben", OrganizationKind::Customer, "reviewer"),
    human("cleo", OrganizationKind::Customer, "tenant-administrator"),
    human("dora", OrganizationKind::Customer, "operator"),
    human("otto", OrganizationKind::Auditor, "tenant-administrator"),
    machine("agent", PrincipalKind::AiAgent, "operator"),
    machine("aida", PrincipalKind::AiAgent, "tenant-administrator"),
    machine("bot", PrincipalKind::Service, "operator"),
    human("msp", OrganizationKind::Provider, "operator"),
];
/// Who calls: all but the provider.
pub(super) const CALLERS: usize = PEOPLE.len() - 1;
/// The owner and the deputy of the only unit cannot be ended.
pub(super) const ACCOUNTABLE: usize = 2;

impl Person {
    /// As sources know them. Two of them are one human.
    pub(super) fn identity(self) -> String {
        let human = match self.id {
            "dora" => "cleo",
            id => id,
        };
        format!("{human}@zebra.example")
    }

    /// As the model knows them.
    pub(super) fn principal(self) -> Principal {
        use crate::model::ids::OrganizationId;
        Principal {
            id: PrincipalId::stored(self.id.to_owned()),
            kind: self.kind,
            organization: OrganizationId::stored(organization(self.of).to_owned()),
            organization_kind: self.of,
            identity_key: self.identity(),
            roles: vec![self.role.to_owned()],
            display_name: self.id.to_owned(),
            ended_at_ms: None,
            record_hash: [0; 32],
        }
    }
}

/// Id of the only organisation of a kind.
pub(super) fn organization(kind: OrganizationKind) -> &'static str {
    match kind {
        OrganizationKind::Auditor => "auditors",
        OrganizationKind::Provider => "provider",
        _ => "customer",
    }
}

/// A thing that was made before, counted from the newest; taken round what there is.
pub(super) type Nth = usize;

/// What is passed on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Right(Nth),
    Delegation(Nth),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Grant {
        grantee: usize,
        action: DecisionAction,
        scope: Scope,
        /// From and to, hours from now.
        term: (i64, i64),
        /// In whose name; `None`: the caller's.
        grantor: Option<usize>,
    },
    ApproveRight(Nth),
    RevokeRight(Nth),
    Delegate {
        source: Source,
        delegate: usize,
        /// `None`: all of it.
        scope: Option<Scope>,
        hours: i64,
        transitive: bool,
    },
    RevokeDelegation(Nth),
    Absence {
        deputy: usize,
        hours: i64,
    },
    AskEmergency {
        role: Option<&'static str>,
        action: Option<DecisionAction>,
        minutes: i64,
    },
    ApproveEmergency(Nth),
    EndEmergency(Nth),
    ReviewEmergency(Nth),
    /// A policy that reserves these actions for two people.
    Publish(Vec<DecisionAction>),
    EndPrincipal(usize),
    Suspend,
    Resume,
    BeginExit,
    TakeEvidence,
    Close,
    /// Somebody decides on something of a source.
    Decide(DecisionAction, &'static str),
    Mandate(MandateAct),
    Hold(HoldAct),
    /// Somebody is given a token, beside those that they have.
    IssueToken(usize),
}

impl Act {
    /// Whether a service asks, and none of the people.
    pub(super) const fn is_by_a_service(&self) -> bool {
        matches!(self, Self::Mandate(MandateAct::Use { .. }))
    }
}

/// Who asks for what, and how long after what was before. What is `apt` is asked by somebody who may, as far as the world tells
/// ([`super::apt`]); the rest by anybody.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// Tenant and person.
    pub(super) caller: (usize, usize),
    /// Whose things it is about.
    pub(super) tenant: usize,
    pub(super) act: Act,
    pub(super) after_ms: i64,
    pub(super) apt: bool,
}

fn action() -> impl Strategy<Value = DecisionAction> {
    prop::sample::select(&ACTIONS[..])
}

pub(super) fn scope() -> impl Strategy<Value = Scope> {
    let some = prop::sample::subsequence(&SOURCES[..], 0..=SOURCES.len());
    some.prop_map(|ids| {
        let sources = ids.iter().map(|id| SourceId::stored((*id).to_owned()));
        Scope::of(sources.collect(), false)
    })
}

/// Mostly the newest.
pub(super) fn nth() -> impl Strategy<Value = Nth> {
    prop_oneof![3 => Just(0_usize), 2 => 1..4_usize]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        nth().prop_map(Source::Right),
        nth().prop_map(Source::Delegation)
    ]
}

fn hours() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 1..40_i64, 2 => Just(24 * 80), 1 => Just(0), 1 => Just(24 * 91)]
}

fn grant() -> impl Strategy<Value = Act> {
    let from = prop_oneof![8 => Just(0_i64), 1 => Just(-2), 1 => Just(3)];
    let to = prop_oneof![5 => 1..80_i64, 4 => Just(24 * 100), 1 => Just(24 * 731)];
    let grantor = prop_oneof![19 => Just(None), 1 => (0..PEOPLE.len()).prop_map(Some)];
    (0..PEOPLE.len(), action(), scope(), (from, to), grantor).prop_map(
        |(grantee, action, scope, term, grantor)| Act::Grant {
            grantee,
            action,
            scope,
            term,
            grantor,
        },
    )
}

fn delegate() -> impl Strategy<Value = Act> {
    let part = prop::option::of(scope());
    (source(), 0..PEOPLE.len(), part, hours(), any::<bool>()).prop_map(
        |(source, delegate, scope, hours, transitive)| Act::Delegate {
            source,
            delegate,
            scope,
            hours,
            transitive,
        },
    )
}

fn ask_emergency() -> impl Strategy<Value = Act> {
    let roles = vec!["tenant-administrator", "operator", "administrator"];
    let minutes = prop_oneof![8 => 20..=240_i64, 1 => Just(0), 1 => Just(241)];
    (
        prop::option::of(prop::sample::select(roles)),
        prop::option::of(action()),
        minutes,
    )
        .prop_map(|(role, action, minutes)| Act::AskEmergency {
            role,
            action,
            minutes,
        })
}

fn life() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Suspend),
        4 => Just(Act::Resume),
        2 => Just(Act::BeginExit),
        2 => Just(Act::TakeEvidence),
        2 => Just(Act::Close),
    ]
}

/// `mandates`: how often something is about mandates of agents, of so many and 88.
fn act(mandates: u32) -> impl Strategy<Value = Act> {
    let reserved = prop::sample::subsequence(&ACTIONS[..], 0..=ACTIONS.len());
    let absence = (0..PEOPLE.len(), hours());
    let decision = (action(), prop::sample::select(&SOURCES[..]));
    prop_oneof![
        12 => grant(),
        8 => nth().prop_map(Act::ApproveRight),
        1 => nth().prop_map(Act::RevokeRight),
        12 => delegate(),
        1 => nth().prop_map(Act::RevokeDelegation),
        4 => absence.prop_map(|(deputy, hours)| Act::Absence { deputy, hours }),
        5 => ask_emergency(),
        6 => nth().prop_map(Act::ApproveEmergency),
        3 => nth().prop_map(Act::EndEmergency),
        5 => nth().prop_map(Act::ReviewEmergency),
        3 => reserved.prop_map(Act::Publish),
        1 => (0..PEOPLE.len()).prop_map(Act::EndPrincipal),
        4 => life(),
        16 => decision.prop_map(|(action, source)| Act::Decide(action, source)),
        5 => hold_act().prop_map(Act::Hold),
        mandates => mandate_act().prop_map(Act::Mandate),
        2 => (0..PEOPLE.len()).prop_map(Act::IssueToken),
    ]
}

fn command(mandates: u32) -> impl Strategy<Value = Command> {
    let usual = |often| prop_oneof![often => Just(true), 1 => Just(false)];
    let waits = prop_oneof![
        20 => Just(0),
        3 => 0..HOUR_MS,
        2 => HOUR_MS..5 * HOUR_MS,
        1 => Just(30 * HOUR_MS),
    ];
    (
        0..TENANTS,
        0..CALLERS,
        usual(9),
        act(mandates),
        waits,
        usual(2),
    )
        .prop_map(|(of, who, own, act, wait_ms, apt)| Command {
            caller: (of, who),
            tenant: if own { of } else { TENANTS - 1 - of },
            act,
            after_ms: STEP_MS + wait_ms,
            apt,
        })
}

/// A sequence of commands; every other one is mostly about mandates of agents.
pub(super) fn commands(
    length: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = Vec<Command>> {
    prop_oneof![
        prop::collection::vec(command(8), length.clone()),
        prop::collection::vec(command(150), length),
    ]
}
