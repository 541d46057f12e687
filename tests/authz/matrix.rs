//! Every rpc by every caller through every carrier: what is expected, and whether it came so.

use std::{collections::BTreeSet, io::Write as _, time::Instant};

use counterfoil_evidence::engagement::ALWAYS;
use futures::StreamExt as _;
use tonic::Code;

use crate::{
    agents,
    api::{self, Rpc},
    carriers::{self, Carrier, Outcome},
    digest,
    identities::{Identity, Who},
    suite::Governed,
    wire::{Answer, Headers},
};

/// Calls at once.
const CALLS_AT_ONCE: usize = 24;

/// One call of the matrix.
struct Trial<'a> {
    rpc: &'a Rpc,
    identity: &'a Identity,
    carrier: &'a Carrier,
    expected: Expected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// This code: the gate refuses.
    Gate(Code),
    /// The handler decides.
    Handler(Outcome),
    /// It may: a control.
    Allowed,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    pub unexpected: Vec<String>,
    pub leaks: Vec<String>,
    pub changes: Vec<String>,
}

impl Findings {
    /// Fails with all that was found.
    pub fn none(&self) {
        let all = [&self.unexpected, &self.leaks, &self.changes].map(|list| list.join("\n  "));
        assert!(
            all.iter().all(String::is_empty),
            "unexpected answers:\n  {}\nleaks:\n  {}\nchanged rows of the victim:\n  {}",
            all[0],
            all[1],
            all[2]
        );
    }
}

/// What stands between the tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walls {
    /// All of it.
    All,
    /// Handlers let everybody through; the database alone is left.
    SecondAlone,
}

/// Runs the whole matrix.
pub async fn run(governed: &Governed, identities: &[Identity], walls: Walls) -> Findings {
    governed.databases.settled().await;
    let before = governed.databases.of(&governed.victim.id).await;
    let started = Instant::now();
    let carriers: Vec<(&Rpc, Vec<Carrier>)> = governed
        .rpcs
        .iter()
        .map(|rpc| (rpc, carriers::all(governed, rpc)))
        .collect();
    let trials = trials(&carriers, identities, walls);
    let secrets = governed.victim.secrets(&governed.attacker);
    let secrets: Vec<String> = secrets.iter().map(|secret| searchable(secret)).collect();
    // First what reads: what attackers write into their own tenant, they may read there.
    let (reads, writes): (Vec<&Trial<'_>>, Vec<_>) =
        trials.iter().partition(|trial| trial.rpc.reads());
    let mut outcomes: Vec<(u64, Findings)> = Vec::new();
    for trials in [reads, writes] {
        let calls = futures::stream::iter(trials)
            .map(|trial| trial.run(governed, &secrets))
            .buffer_unordered(CALLS_AT_ONCE);
        outcomes.extend(calls.collect::<Vec<_>>().await);
    }
    governed.databases.settled().await;
    let after = governed.databases.of(&governed.victim.id).await;
    let mut findings = Findings {
        changes: digest::changes(&before, &after),
        ..Findings::default()
    };
    let mut calls = 0;
    for (made, found) in outcomes {
        calls += made;
        findings.unexpected.extend(found.unexpected);
        findings.leaks.extend(found.leaks);
    }
    let names: BTreeSet<&str> = carriers
        .iter()
        .flat_map(|(_, carriers)| carriers.iter().map(|carrier| carrier.name.as_str()))
        .collect();
    // Past the test harness, which keeps what a test that passes prints.
    let _ = writeln!(
        std::io::stdout().lock(),
        "authz: {calls} calls on {}{}, {} rpcs, {} identities, {} carriers, {} unexpected, {} leaks, {} rows changed, {} ms",
        governed.engine(),
        match walls {
            Walls::All => "",
            Walls::SecondAlone => " without the filter",
        },
        governed.rpcs.len(),
        identities.len(),
        names.len(),
        findings.unexpected.len(),
        findings.leaks.len(),
        findings.changes.len(),
        started.elapsed().as_millis(),
    );
    findings
}

/// Every carrier of every rpc by every caller.
fn trials<'a>(
    carriers: &'a [(&'a Rpc, Vec<Carrier>)],
    identities: &'a [Identity],
    walls: Walls,
) -> Vec<Trial<'a>> {
    let table = api::table();
    let mut trials = Vec::new();
    for (rpc, carriers) in carriers {
        for identity in identities {
            let mut allowed = rpc.allows(&table, identity.who.roles());
            if let Who::AttackerAgent(_) | Who::VictimAgent(_) = identity.who {
                allowed &= agents::may_observe(&rpc.permission);
            }
            for (position, carrier) in carriers.iter().enumerate() {
                let expected = expected(rpc, identity, allowed, position, carrier);
                // Without the filter a handler may answer as it likes, with nothing of the victim in it.
                let expected = expected.map(|expected| match (expected, walls) {
                    (Expected::Handler(_), Walls::SecondAlone) => {
                        Expected::Handler(Outcome::NoLeak)
                    }
                    _ => expected,
                });
                trials.extend(expected.map(|expected| Trial {
                    rpc,
                    identity,
                    carrier,
                    expected,
                }));
            }
        }
    }
    trials
}

/// What must come of a call; `None`: it is not made.
fn expected(
    rpc: &Rpc,
    identity: &Identity,
    allowed: bool,
    position: usize,
    carrier: &Carrier,
) -> Option<Expected> {
    match identity.who {
        Who::Nobody => Some(Expected::Gate(Code::Unauthenticated)),
        // The ledger lets nobody act for another, whomever they name.
        Who::Outsider if rpc.service == "ledger" => Some(Expected::Gate(Code::PermissionDenied)),
        Who::Outsider => Some(Expected::Gate(Code::NotFound)),
        // What they may always do is theirs to do: to show what they can.
        Who::Unqualified(_) if allowed && ALWAYS.contains(&rpc.permission.as_str()) => None,
        Who::Unqualified(_) => Some(Expected::Gate(Code::PermissionDenied)),
        _ if !allowed => Some(Expected::Gate(Code::PermissionDenied)),
        Who::Attacker(_) | Who::AttackerAgent(_) => Some(Expected::Handler(carrier.outcome)),
        // Those who may read their own: once. What they may change is not for this test.
        Who::Victim(_) | Who::VictimAgent(_) | Who::Deployment(_) => {
            (rpc.reads() && position == 0).then_some(Expected::Allowed)
        }
    }
}

impl Trial<'_> {
    fn name(&self) -> String {
        format!(
            "{} by {} through {}",
            self.rpc.name(),
            self.identity.name,
            self.carrier.name
        )
    }

    /// The calls made, and what was found.
    async fn run(&self, governed: &Governed, secrets: &[String]) -> (u64, Findings) {
        let mut findings = Findings::default();
        let headers: Headers = [&self.identity.headers[..], &self.carrier.headers].concat();
        let call = async |messages: &Vec<bytes::Bytes>| {
            governed.call(self.rpc, &headers, messages.clone()).await
        };
        let Some(answer) = call(&self.carrier.messages).await else {
            findings
                .unexpected
                .push(format!("{}: no answer", self.name()));
            return (1, findings);
        };
        let mut calls = 1;
        let mut unexpected = |why: String| {
            let message = format!(
                "{}: {:?} {:?}: {why}",
                self.name(),
                answer.code,
                answer.message
            );
            findings.unexpected.push(message);
        };
        if answer.code == Code::Internal {
            unexpected("internal".to_owned());
        }
        match self.expected {
            Expected::Gate(code) if answer.code != code => unexpected(format!("expected {code:?}")),
            Expected::Allowed if [Code::Unauthenticated, Code::NotFound].contains(&answer.code) => {
                unexpected("a control was refused".to_owned());
            }
            Expected::Handler(Outcome::Refused | Outcome::AsMissing) if answer.code == Code::Ok => {
                unexpected("expected a refusal".to_owned());
            }
            _ => {}
        }
        if let (Expected::Handler(outcome), Some(twin)) = (self.expected, &self.carrier.twin)
            && outcome != Outcome::NoLeak
        {
            calls += 1;
            let missing = call(twin).await;
            if !self.as_missing(outcome, &answer, missing.as_ref()) {
                let missing = missing.map(|missing| (missing.code, missing.message));
                unexpected(format!("what does not exist answers {missing:?}"));
            }
        }
        if self.expected != Expected::Allowed {
            findings.leaks = self.leaks(&answer, secrets);
        }
        (calls, findings)
    }

    /// Whether what is not the caller's is told from what does not exist by nothing at all.
    fn as_missing(&self, outcome: Outcome, answer: &Answer, missing: Option<&Answer>) -> bool {
        let Some(missing) = missing else {
            return false;
        };
        if outcome != Outcome::LikeMissing {
            return missing == answer;
        }
        let (instead, of) = &self.carrier.instead;
        let echoed = replaced(&missing.bytes(), instead.as_bytes(), of.as_bytes());
        // A change that is taken answers with what is new about it, such as its time.
        let taken = answer.code == Code::Ok && !self.rpc.reads();
        missing.code == answer.code && (taken || echoed == answer.bytes())
    }

    /// Secrets in the answer that were not in the request.
    fn leaks(&self, answer: &Answer, secrets: &[String]) -> Vec<String> {
        let answer = searchable(&answer.bytes());
        let mut asked = self.carrier.messages.concat();
        // A key may come back in the name that is made of it.
        asked.extend(hex::encode(&asked).into_bytes());
        let asked = searchable(&asked);
        let found = secrets
            .iter()
            .filter(|secret| answer.contains(*secret) && !asked.contains(*secret));
        found
            .map(|secret| format!("{}: {secret:?}", self.name()))
            .collect()
    }
}

/// `bytes` with one text for another of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for start in 0..bytes.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + from.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// Bytes as a text with one character each, because texts are searched fast.
pub fn searchable(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
