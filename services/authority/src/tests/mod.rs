//! Random sequences of commands by the people of two tenants: what must never happen does not, in the model; and the service
//! does what the model does.
//!
//! `COUNTERFOIL_SEQUENCES` says how many sequences the model is put through; 100,000 are the full run.

mod apt;
mod apt_mandates;
mod command;
mod command_holds;
mod command_mandates;
#[path = "../../tests/common/mod.rs"]
mod common;
mod onboard;
mod service;
mod service_holds;
mod service_mandates;
mod turn;
mod turn_holds;
mod turn_mandates;
mod watch;
mod watch_holds;
mod watch_mandates;
mod world;
mod world_mandates;

use std::{cell::RefCell, collections::BTreeMap};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestError, TestRunner},
};

use command::{Act, Command, commands};
use command_mandates::agents;
use watch::Watch;
use world::World;

/// Sequences in every run of the tests.
const SEQUENCES: u32 = 2_000;
/// Commands in one.
const LENGTH: std::ops::RangeInclusive<usize> = 10..=60;
/// 2026-11-21T12:00:00Z.
const NOW_MS: i64 = 1_795_262_400_000;

/// How often what was asked, and accepted.
type Counts = BTreeMap<&'static str, (u64, u64)>;

fn name(command: &Command) -> &'static str {
    match &command.act {
        Act::Grant { .. } => "grant",
        Act::ApproveRight(_) => "approve a right",
        Act::RevokeRight(_) => "revoke a right",
        Act::Delegate { .. } => "delegate",
        Act::RevokeDelegation(_) => "revoke a delegation",
        Act::Absence { .. } => "absence",
        Act::AskEmergency { .. } => "ask for an emergency",
        Act::ApproveEmergency(_) => "approve an emergency",
        Act::EndEmergency(_) => "end an emergency",
        Act::ReviewEmergency(_) => "review an emergency",
        Act::Publish(_) => "publish",
        Act::EndPrincipal(_) => "end a principal",
        Act::Suspend => "suspend",
        Act::Resume => "resume",
        Act::BeginExit => "begin exit",
        Act::TakeEvidence => "take evidence",
        Act::Close => "close",
        Act::Decide(..) if agents().any(|agent| agent == command.caller.1) => "decide as an agent",
        Act::Decide(..) => "decide",
        Act::Mandate(one) => one.name(),
        Act::Hold(one) => one.name(),
        Act::IssueToken(_) => "issue a token",
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

/// Puts the model through a sequence.
fn run(sequence: &[Command], counts: &mut Counts) -> Result<(), String> {
    let (mut world, mut watch) = (World::new(NOW_MS), Watch::new());
    for command in sequence {
        let command = &apt::by_who_may(command, &world);
        let before = world.clone();
        let answer = world.apply(command);
        let count = counts.entry(name(command)).or_default();
        count.0 += 1;
        match answer {
            Ok(()) => {
                count.1 += 1;
                watch.accepted(command, &before, &world)?;
            }
            Err(_) if before.realms == world.realms => {}
            Err(reason) => return Err(format!("{reason} was answered, and something changed")),
        }
        watch.look(&world)?;
    }
    Ok(())
}

#[test]
fn no_sequence_of_commands_approves_itself_skips_a_stage_or_outgrows_its_grantor() {
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a test runs is no configuration"
    )]
    let asked = std::env::var("COUNTERFOIL_SEQUENCES").ok();
    let sequences = asked.map_or(SEQUENCES, |count| count.parse().unwrap());
    let counts = RefCell::new(Counts::new());
    let judged = runner(sequences).run(&commands(LENGTH), |sequence| {
        let judged = run(&sequence, &mut counts.borrow_mut());
        judged.map_err(TestCaseError::fail)
    });
    if let Err(TestError::Fail(why, sequence)) = judged {
        panic!("{why} after {sequence:#?}");
    }
    judged.unwrap();
    let counts = counts.into_inner();
    let total = counts
        .values()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "{sequences} sequences, {} commands, {} accepted: {counts:?}",
        total.0, total.1
    );
    let never: Vec<_> = counts.iter().filter(|(_, count)| count.1 == 0).collect();
    assert!(
        never.is_empty() && counts.len() == 31,
        "never accepted: {never:?}"
    );
}
