//! Which rules were in force: published before they are cited, and newest when something is decided by them (I-18).

use std::collections::HashMap;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::CLOCK_SKEW_MS;
use super::check::{Check, Tallies};
use super::state::{At, Meta, Pos, State};
use crate::catalogue::RECORD_TYPES;
use crate::v1::{self, PolicyBundlePublished};

/// The rules that a record cites, or else those in force when it happened.
pub(super) fn rules_for(state: &State, pos: Pos) -> Option<&v1::PolicyRules> {
    let meta = state.meta(pos)?;
    let published = match state.digests.get(meta.policy) {
        Some(cited) => state
            .policies
            .iter()
            .find(|policy| policy.what.bundle_hash == cited),
        None => state
            .policies
            .iter()
            .rfind(|policy| policy.what.effective_from_ms <= meta.occurred_ms),
    };
    published?.what.rules.as_ref()
}

/// The rules that a service may have taken for those in force at a moment: around a change, the old and the new ones.
pub(super) fn in_force(state: &State, at_ms: i64) -> impl Iterator<Item = &v1::PolicyRules> {
    state
        .policies
        .iter()
        .enumerate()
        .filter(move |(version, policy)| {
            policy.what.effective_from_ms <= at_ms.saturating_add(CLOCK_SKEW_MS)
                && !superseded(state, *version, at_ms)
        })
        .filter_map(|(_, policy)| policy.what.rules.as_ref())
}

/// Whether a later version was in force at a moment, whatever clock it was read from.
fn superseded(state: &State, version: usize, at_ms: i64) -> bool {
    state
        .policies
        .iter()
        .skip(version.saturating_add(1))
        .any(|later| later.what.effective_from_ms.saturating_add(CLOCK_SKEW_MS) < at_ms)
}

/// Judges what was published, and who cites it.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    let mut version = 0;
    let mut published: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (place, policy) in state.policies.iter().enumerate() {
        tallies.checked(Check::I18);
        let mut expect = |holds: bool, what: &str| {
            tallies.expect(Check::I18, holds, || {
                format!("{} {what}", state.entry(policy.pos))
            });
        };
        let what = &policy.what;
        let recomputed = what
            .rules
            .as_ref()
            .map(|rules| Sha256::digest(rules.encode_to_vec()));
        expect(
            recomputed.is_some_and(|hash| hash.as_slice() == what.bundle_hash),
            "has another hash than its rules",
        );
        expect(
            what.version == u64::saturating_add(version, 1),
            &format!("is version {} after version {version}", what.version),
        );
        let own_ms = state.occurred_ms(policy.pos);
        expect(
            what.effective_from_ms.saturating_add(CLOCK_SKEW_MS) >= own_ms,
            "says that it was in force before it was published",
        );
        version = what.version;
        published.entry(&what.bundle_hash).or_default().push(place);
    }
    for (pos, meta) in (0..).zip(&state.metas) {
        let Some(cited) = state.digests.get(meta.policy) else {
            continue;
        };
        tallies.checked(Check::I18);
        let versions = published.get(cited).map_or(&[][..], Vec::as_slice);
        if let Err(why) = may_cite(state, meta, versions) {
            tallies.fail(Check::I18, format!("{} {why}", state.entry(pos)));
        }
    }
}

/// Rules that came back under a later version have one hash: it is enough that one of the versions may be cited.
fn may_cite(state: &State, meta: &Meta, versions: &[usize]) -> Result<(), &'static str> {
    let mut why = "cites a policy that was never published";
    for version in versions {
        let Some(policy) = state.policies.get(*version) else {
            continue;
        };
        if !on_record(state, policy, meta) {
            why = "cites a policy that was published later";
        } else if policy.what.effective_from_ms > meta.occurred_ms.saturating_add(CLOCK_SKEW_MS) {
            why = "cites a policy before it was in force";
        } else if rules_by(meta) && superseded(state, *version, meta.occurred_ms) {
            why = "cites a policy that another had replaced";
        } else {
            return Ok(());
        }
    }
    Err(why)
}

/// Whether a policy was there when it was cited: by its own time, and by that of the log.
fn on_record(state: &State, policy: &At<PolicyBundlePublished>, meta: &Meta) -> bool {
    state.meta(policy.pos).is_some_and(|published| {
        published.occurred_ms <= meta.occurred_ms.saturating_add(CLOCK_SKEW_MS)
            && published.recorded_ms <= meta.recorded_ms.saturating_add(CLOCK_SKEW_MS)
    })
}

/// Whether a record is judged by the limits of its policy, and not only made under it: what a job goes on with may cite the one
/// that it began under.
fn rules_by(meta: &Meta) -> bool {
    RECORD_TYPES
        .get(usize::from(meta.kind))
        .is_some_and(|known| {
            matches!(
                known.name,
                "ReviewDecided" | "CampaignStaged" | "RemediationPlanned"
            )
        })
}
