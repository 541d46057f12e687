//! Tenants: who may look across them, and that nobody forgets whom it serves.

use std::collections::BTreeMap;

use crate::files::{File, none, rust};

/// Files that read all tenants' rows, how often, and why they must.
const READ_EVERYTHING: &[(&str, usize, &str)] = &[
    (
        "services/authority/src/jobs/emergencies.rs",
        1,
        "the job looks for reviews that were missed",
    ),
    (
        "services/chassis/src/relay.rs",
        1,
        "records wait for the ledger, whoever wrote them",
    ),
    (
        "services/chassis/src/outbox/kept.rs",
        1,
        "an operator recovers all logs, at the machine and past the services",
    ),
    (
        "services/authority/src/api/tokens.rs",
        1,
        "whose a token is, only the token says",
    ),
    (
        "services/authority/src/api/tenants.rs",
        1,
        "the deployment's own callers list its tenants",
    ),
    (
        "services/authority/src/jobs/engagements.rs",
        1,
        "engagements end, whoever approved them",
    ),
    (
        "services/chassis/src/operators.rs",
        1,
        "accesses wait for the providers' logs",
    ),
    (
        "services/inventory/src/store/syncs.rs",
        2,
        "the sync job looks for work",
    ),
    (
        "services/recertification/src/jobs/mod.rs",
        1,
        "the campaign job looks for work",
    ),
    (
        "services/reconciliation/src/store/remediations.rs",
        2,
        "the remediation jobs look for work",
    ),
    (
        "services/reconciliation/src/store/obligations.rs",
        2,
        "what is due is due in all tenants",
    ),
    (
        "services/ledger/src/store/mod.rs",
        1,
        "every log is told of a new key",
    ),
    (
        "services/ledger/src/store/scrubs.rs",
        3,
        "every log is hashed again, that which waits longest first",
    ),
];

/// Files whose handlers do the work of another tenant than the caller's, and why they must.
const ACROSS: &[(&str, &str)] = &[(
    "services/authority/src/api/engagements.rs",
    "an engagement is what a provider and its customer share",
)];

fn code(file: &File) -> String {
    file.code().map(|(_, line)| format!("{line}\n")).collect()
}

fn of_services() -> impl Iterator<Item = File> {
    let all = rust().into_iter();
    all.filter(|file| file.path.starts_with("services/") && !file.is_test())
}

#[test]
fn only_those_who_must_read_across_tenants() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for file in of_services().filter(|file| !file.path.ends_with("conformance.rs")) {
        let calls = code(&file).matches(".read_everything(").count();
        if calls > 0 {
            found.insert(file.path, calls);
        }
    }
    let known = READ_EVERYTHING.iter();
    let known = known.map(|(path, calls, _)| ((*path).to_owned(), *calls));
    assert_eq!(
        found,
        known.collect(),
        "a reader of all tenants needs a reason in this table"
    );
}

#[test]
fn a_task_that_serves_a_caller_knows_whose() {
    let served = of_services().filter(|file| file.path.contains("/src/api/"));
    let findings: Vec<String> = served
        .filter(|file| code(file).contains("tokio::spawn("))
        .map(|file| file.path)
        .collect();
    none(
        &findings,
        "what a handler starts, it starts with db::scope::spawn:",
    );
}

#[test]
fn only_what_two_tenants_share_is_done_across_them() {
    let found = of_services()
        .filter(|file| !file.path.starts_with("services/chassis/"))
        .filter(|file| code(file).contains("scope::across("))
        .map(|file| file.path);
    let known: Vec<String> = ACROSS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(
        found.collect::<Vec<_>>(),
        known,
        "work across tenants needs a reason in this table"
    );
}
