//! Two bundles held together: what a customer's log and its provider's log say of the provider's people (I-53, R72, R84).

use std::collections::HashMap;

use counterfoil_evidence::replay::{AccessFacts, CLOCK_SKEW_MS};

use crate::check::{Finder, Verdict};
use crate::verify::Verification;

/// Adds to a verification what the bundle of the other side, verified too, says of the same accesses.
#[must_use]
pub fn cross(mut found: Verification, other: &Verification) -> Verification {
    let title = "every access of the provider's people stands in both logs, and the hashes match";
    let mut finder = Finder::new("X1", &[], title);
    match (found.facts.of_provider, other.facts.of_provider) {
        (false, true) => compare(&mut finder, &found, other),
        (true, false) => compare(&mut finder, other, &found),
        _ => finder.fail("one bundle must be a customer's and the other a provider's"),
    }
    if !matches!(other.verdict, Verdict::Ok | Verdict::Incomplete) {
        finder.fail(format!(
            "the other bundle, of {}, is {}",
            other.info.tenant,
            other.verdict.as_str()
        ));
    }
    found.checks.push(finder.finish());
    found.verdict = Verdict::of(&found.checks);
    found
}

fn compare(finder: &mut Finder, customer: &Verification, provider: &Verification) {
    let prefix = format!("{}/", provider.info.tenant);
    let used = customer.facts.accesses.iter();
    let used = by_id(used.filter(|used| used.operator.starts_with(&prefix)));
    let links = provider.facts.accesses.iter();
    let links = by_id(links.filter(|link| link.customer_log_origin == customer.info.origin));
    finder.note(format!("{} accesses stand in both", used.len()));
    for (id, used) in &used {
        let Some(link) = links.get(id) else {
            missing(
                finder,
                "the provider's",
                used,
                provider.facts.last_recorded_ms,
            );
            continue;
        };
        let named = used.operator.strip_prefix(&prefix) == Some(&link.operator);
        let same = link.access_hash == used.access_hash && link.method == used.method;
        finder.expect(named && same, || {
            let id = hex::encode(id);
            format!("access {id} is told otherwise in the provider's log")
        });
    }
    for (id, link) in &links {
        if !used.contains_key(id) {
            missing(
                finder,
                "the customer's",
                link,
                customer.facts.last_recorded_ms,
            );
        }
    }
}

fn by_id<'a>(
    accesses: impl Iterator<Item = &'a AccessFacts>,
) -> HashMap<&'a [u8], &'a AccessFacts> {
    accesses
        .map(|access| (access.access_id.as_slice(), access))
        .collect()
}

/// One log does not have an access: wrong, unless it ends so early that it may not have had it yet.
fn missing(finder: &mut Finder, whose: &str, access: &AccessFacts, last_ms: i64) {
    let id = hex::encode(&access.access_id);
    if access.recorded_ms.saturating_add(CLOCK_SKEW_MS) >= last_ms {
        finder.skip(format!("{whose} log ends too early for access {id}"));
    } else {
        finder.fail(format!("access {id} is not in {whose} log"));
    }
}
