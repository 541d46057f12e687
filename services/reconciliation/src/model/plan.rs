//! Planning: which findings become actions, whether the plan waits for a human, and how severe a finding is.

use std::{collections::BTreeMap, sync::Arc};

use counterfoil_evidence::{leaf::GrantKey, v1::Situation};

use super::{
    entities::{Action, Decision, Digest},
    state::ActionState,
};

/// Situations that a remediation removes.
pub(crate) const REMOVABLE: [Situation; 2] = [Situation::Residual, Situation::ExpiredPresent];

const DAY_MS: i64 = 86_400_000;

/// 1 low to 4 critical.
pub(crate) fn severity(situation: Situation) -> u32 {
    match situation {
        Situation::PrivilegedUncertified => 4,
        Situation::Residual | Situation::Survivor => 3,
        Situation::UnapprovedPresent
        | Situation::ExpiredPresent
        | Situation::Orphaned
        | Situation::Unobservable => 2,
        _ => 1,
    }
}

/// How long a finding may stay, milliseconds: a day when critical, 30 days when low.
pub(crate) fn time_to_act_ms(severity: u32) -> i64 {
    match severity {
        4 => DAY_MS,
        3 => 3 * DAY_MS,
        2 => 14 * DAY_MS,
        _ => 30 * DAY_MS,
    }
}

/// The newest decisions on some grants: SHA-256 of the record, and "campaigns/{campaign}".
#[derive(Debug, Default)]
pub(crate) struct Newest(pub(crate) BTreeMap<GrantKey, (Digest, Arc<str>)>);

impl Newest {
    /// Whether nobody decided otherwise, or the same again, on the grant since.
    pub(crate) fn stands(&self, key: &GrantKey, decision: &Decision) -> bool {
        let newest = self.0.get(key);
        newest.is_some_and(|(record_hash, _)| *record_hash == decision.record_hash)
    }

    /// The actions whose decisions still stand, and those that are SUPERSEDED by now.
    pub(crate) fn split(&self, actions: Vec<Action>) -> (Vec<Action>, Vec<Action>) {
        let (standing, mut superseded): (Vec<_>, Vec<_>) = actions
            .into_iter()
            .partition(|action| self.stands(&action.key, &action.decision));
        for action in &mut superseded {
            action.state = ActionState::Superseded;
            action.failure = match self.0.get(&action.key) {
                Some((record_hash, campaign)) => {
                    action.superseded_by = Some(*record_hash);
                    format!(
                        "a newer decision, of {campaign}, has superseded the one that was planned"
                    )
                }
                None => "the decision that was planned does not stand any more".to_owned(),
            };
        }
        (standing, superseded)
    }
}

/// A limit that a plan exceeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tripped {
    /// "four_eyes", "count" or "permille".
    pub(crate) metric: &'static str,
    /// The policy's limit.
    pub(crate) limit: u64,
    /// What the plan has.
    pub(crate) observed: u64,
}

/// Whether a plan waits for a human. 0 means no limit.
pub(crate) fn threshold(
    actions: u64,
    observed_grants: u64,
    count_max: u32,
    permille_max: u32,
) -> Option<Tripped> {
    if count_max > 0 && actions > u64::from(count_max) {
        return Some(Tripped {
            metric: "count",
            limit: count_max.into(),
            observed: actions,
        });
    }
    // Rounded up: a plan a little above the limit is above it.
    let permille = (actions * 1_000).div_ceil(observed_grants.max(1));
    if permille_max > 0 && permille > u64::from(permille_max) {
        return Some(Tripped {
            metric: "permille",
            limit: permille_max.into(),
            observed: permille,
        });
    }
    None
}

/// Metric of a plan that waits for a second human.
pub(crate) const FOUR_EYES: &str = "four_eyes";

/// What holds every plan where the policy reserves removals for two people: one has planned it.
pub(crate) fn four_eyes() -> Tripped {
    Tripped {
        metric: FOUR_EYES,
        limit: 2,
        observed: 1,
    }
}

/// Median (the lower of two) and maximum of durations, milliseconds; 0 for none.
pub(crate) fn median_and_max(mut durations: Vec<i64>) -> (i64, i64) {
    durations.sort_unstable();
    let median = durations.get(durations.len().saturating_sub(1) / 2);
    (
        median.copied().unwrap_or(0),
        durations.last().copied().unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_just_above_a_limit_is_held() {
        assert_eq!(threshold(10, 1_000, 10, 0), None);
        assert_eq!(threshold(11, 1_000, 10, 0).unwrap().metric, "count");
        assert_eq!(threshold(100, 1_000, 0, 100), None);
        let tripped = threshold(101, 1_000, 0, 100).unwrap();
        assert_eq!((tripped.metric, tripped.observed), ("permille", 101));
        assert_eq!(threshold(1_000_000, 1, 0, 0), None);
    }

    #[test]
    fn a_small_excess_is_not_rounded_away() {
        assert_eq!(threshold(1_001, 10_000, 0, 100).unwrap().observed, 101);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median_and_max(vec![]), (0, 0));
        assert_eq!(median_and_max(vec![3, 1, 2]), (2, 3));
        assert_eq!(median_and_max(vec![4, 1, 2, 3]), (2, 4));
    }
}
