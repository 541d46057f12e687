//! The rules in force: their defaults, their bounds, and the hash that every record cites.

use counterfoil_evidence::record::decode_canonical;
pub(crate) use counterfoil_evidence::v1::{LapseRule, PolicyRules, RolePermissions};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Faults, RecordHash, conditions::Conditions, principal::ROLES, right::DecisionAction};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Longest time that any rule may name, seconds: 100 years, so that no sum of times overflows.
pub(crate) const SECONDS_MAX: i64 = 36_500 * DAY;
/// Most times at which an absence is read again.
const OFFSETS_MAX: usize = 16;

const REVIEW_INTERVAL: i64 = 365 * DAY;
const EXCEPTION: i64 = 90 * DAY;
const SNAPSHOT_AGE: i64 = 2 * DAY;
const OFFSETS: [i64; 3] = [HOUR, DAY, 7 * DAY];
const DORMANT_AFTER: i64 = 90 * DAY;
const VAL: u32 = 3;
/// How far ahead a bundle may be published.
const AHEAD_MS_MAX: i64 = 366 * DAY * 1000;

/// What a policy asks for, in seconds; 0 (or nothing) takes the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) review_interval_max: i64,
    pub(crate) exception_max: i64,
    pub(crate) snapshot_age_max: i64,
    pub(crate) lapse_rule: Option<LapseRule>,
    /// 0 = no limit.
    pub(crate) threshold_count: u32,
    /// 0 = no limit.
    pub(crate) threshold_permille: u32,
    pub(crate) val_required: u32,
    pub(crate) persistence_offsets: Vec<i64>,
    /// -1 = never.
    pub(crate) dormant_after: i64,
    /// Roles that may do less than the deployment's table says.
    pub(crate) role_permissions: Vec<RolePermissions>,
    /// Conditions in Cedar.
    pub(crate) conditions: String,
    /// Numbers of actions of decision rights.
    pub(crate) four_eyes_actions: Vec<i32>,
}

/// The deployment's table: whether a role holds a permission.
pub(crate) type Holds<'t> = &'t dyn Fn(&str, &str) -> bool;

/// Fills in the defaults and checks the bounds.
pub(crate) fn rules(wanted: &Wanted, holds: Holds<'_>) -> Result<PolicyRules, Faults> {
    let mut faults = Faults::default();
    let mut millis = |field: &str, seconds: i64, default: i64| {
        let seconds = if seconds == 0 { default } else { seconds };
        let good = (1..=SECONDS_MAX).contains(&seconds);
        faults.require(
            good,
            field,
            "must be 1 to 3,153,600,000 seconds, or 0 for the default",
        );
        seconds.saturating_mul(1000)
    };
    let review_interval_max_ms = millis(
        "review_interval_max_seconds",
        wanted.review_interval_max,
        REVIEW_INTERVAL,
    );
    let exception_max_ms = millis("exception_max_seconds", wanted.exception_max, EXCEPTION);
    let snapshot_age_max_ms = millis(
        "snapshot_age_max_seconds",
        wanted.snapshot_age_max,
        SNAPSHOT_AGE,
    );
    let dormant_after_ms = match wanted.dormant_after {
        -1 => 0,
        seconds => millis("dormant_after_seconds", seconds, DORMANT_AFTER),
    };
    let permille = wanted.threshold_permille;
    faults.require(
        permille <= 1000,
        "threshold_permille",
        "must be at most 1000",
    );
    let val_required = if wanted.val_required == 0 {
        VAL
    } else {
        wanted.val_required
    };
    let reachable = (2..=3).contains(&val_required);
    faults.require(
        reachable,
        "val_required",
        "must be 2 or 3, or 0 for the default",
    );
    let persistence_offsets_ms = match offsets(&wanted.persistence_offsets) {
        Some(offsets) => offsets,
        None => {
            let what = "must be at most 16 times of 1 to 3,153,600,000 seconds, ascending";
            faults.add("persistence_offsets_seconds", what);
            Vec::new()
        }
    };
    let role_permissions = role_permissions(&mut faults, &wanted.role_permissions, holds);
    let conditions = conditions(&mut faults, &wanted.conditions);
    let four_eyes_actions = four_eyes_actions(&mut faults, &wanted.four_eyes_actions);
    faults.or(PolicyRules {
        review_interval_max_ms,
        exception_max_ms,
        snapshot_age_max_ms,
        lapse_rule: wanted.lapse_rule.unwrap_or(LapseRule::RetainAsDebt).into(),
        threshold_count: wanted.threshold_count,
        threshold_permille: permille,
        val_required,
        persistence_offsets_ms,
        dormant_after_ms,
        role_permissions,
        conditions,
        four_eyes_actions,
    })
}

/// The actions that need two people, ascending.
fn four_eyes_actions(faults: &mut Faults, wanted: &[i32]) -> Vec<i32> {
    let mut actions = wanted.to_vec();
    actions.sort_unstable();
    actions.dedup();
    let known = actions.iter().all(|number| {
        DecisionAction::try_from(*number).is_ok_and(|action| action != DecisionAction::Unspecified)
    });
    let what = "must be actions of decision rights";
    faults.require(known, "four_eyes_actions", what);
    actions
}

/// Conditions in their canonical text.
fn conditions(faults: &mut Faults, wanted: &str) -> String {
    match Conditions::parse(wanted) {
        Ok(conditions) => conditions.text().to_owned(),
        Err(why) => {
            faults.add("conditions", why);
            String::new()
        }
    }
}

/// The role that takes a policy back, and what it needs for that.
const UNDOES: &str = "tenant-administrator";
const NEEDED_TO_UNDO: [&str; 2] = ["policies.get", "policies.publish"];

/// Roles and permissions in their order; each must be the table's to take away from.
fn role_permissions(
    faults: &mut Faults,
    wanted: &[RolePermissions],
    holds: Holds<'_>,
) -> Vec<RolePermissions> {
    let mut all: Vec<RolePermissions> = wanted.to_vec();
    all.sort_unstable_by(|a, b| a.role.cmp(&b.role));
    let once = all.windows(2).all(|pair| pair[0].role != pair[1].role);
    faults.require(once, "role_permissions", "must name each role once");
    for one in &mut all {
        one.permissions.sort_unstable();
        one.permissions.dedup();
        let role = &one.role;
        if !ROLES.contains(&role.as_str()) {
            let allowed = ROLES.join(", ");
            faults.add(
                "role_permissions.role",
                format!("{role:?} is not one of {allowed}"),
            );
            continue;
        }
        for permission in one.permissions.iter().filter(|name| !holds(role, name)) {
            let why = format!("the permission table does not give {permission:?} to {role}");
            faults.add("role_permissions.permissions", why);
        }
        let kept = |needed: &&str| one.permissions.iter().any(|kept| kept == needed);
        if role == UNDOES && !NEEDED_TO_UNDO.iter().all(kept) {
            let needed = NEEDED_TO_UNDO.join(", ");
            let why = format!("must leave {needed} to {role}: nobody could take the policy back");
            faults.add("role_permissions.permissions", why);
        }
    }
    all
}

/// The times in milliseconds. `None`: too many, out of bounds, or not ascending.
fn offsets(wanted: &[i64]) -> Option<Vec<i64>> {
    let seconds = if wanted.is_empty() { &OFFSETS } else { wanted };
    let good = seconds.len() <= OFFSETS_MAX
        && seconds.iter().all(|one| (1..=SECONDS_MAX).contains(one))
        && seconds.windows(2).all(|pair| pair[0] < pair[1]);
    good.then(|| seconds.iter().map(|one| one * 1000).collect())
}

/// Rules with their canonical bytes' hash.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bundle {
    pub(crate) version: u64,
    pub(crate) rules: PolicyRules,
    pub(crate) effective_from_ms: i64,
    /// Of the record that published it.
    pub(crate) record_hash: RecordHash,
}

impl Bundle {
    /// SHA-256 of the canonical rules.
    pub(crate) fn hash(&self) -> [u8; 32] {
        bundle_hash(&self.rules)
    }
}

/// SHA-256 of the canonical rules.
pub(crate) fn bundle_hash(rules: &PolicyRules) -> [u8; 32] {
    Sha256::digest(rules.encode_to_vec()).into()
}

/// Reads rules back from their canonical bytes. `None`: they are damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<PolicyRules> {
    decode_canonical(bytes, "policy rules").ok()
}

/// From when a bundle is in force that is published now: when it is asked for, or now. One moment has one policy: a bundle that
/// replaces the one in force begins after it began, whatever the clock did.
pub(crate) fn effective_from_ms(
    in_force: Option<&Bundle>,
    asked_ms: Option<i64>,
    now_ms: i64,
) -> Result<i64, Faults> {
    let good = asked_ms
        .is_none_or(|asked| asked >= now_ms && asked.saturating_sub(now_ms) <= AHEAD_MS_MAX);
    if !good {
        let what = "must not be in the past, and at most 366 days ahead";
        return Err(Faults::one("effective_time", what));
    }
    let from_ms = asked_ms.unwrap_or(now_ms);
    Ok(in_force.map_or(from_ms, |bundle| {
        from_ms.max(bundle.effective_from_ms.saturating_add(1))
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table that gives everything to everybody.
    fn all(_: &str, _: &str) -> bool {
        true
    }

    #[test]
    fn a_bundle_begins_when_asked_and_after_the_one_it_replaces() {
        let bundle = |effective_from_ms| Bundle {
            version: 1,
            rules: PolicyRules::default(),
            effective_from_ms,
            record_hash: [0; 32],
        };
        assert_eq!(effective_from_ms(None, None, 1_000), Ok(1_000));
        assert_eq!(
            effective_from_ms(Some(&bundle(1_500)), None, 1_000),
            Ok(1_501)
        );
        assert_eq!(
            effective_from_ms(Some(&bundle(500)), Some(9_000), 1_000),
            Ok(9_000)
        );
        assert!(effective_from_ms(None, Some(999), 1_000).is_err());
        assert!(effective_from_ms(None, Some(1_001 + AHEAD_MS_MAX), 1_000).is_err());
    }

    #[test]
    fn a_role_only_keeps_what_the_table_gives_it() {
        let table =
            |role: &str, permission: &str| role == "auditor" && permission.ends_with(".get");
        let of = |role: &str, permissions: &[&str]| RolePermissions {
            role: role.to_owned(),
            permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
        };
        let wanted = |role_permissions| Wanted {
            role_permissions,
            ..Wanted::default()
        };
        let kept = rules(
            &wanted(vec![of("auditor", &["b.get", "a.get", "b.get"])]),
            &table,
        )
        .unwrap();
        assert_eq!(kept.role_permissions, [of("auditor", &["a.get", "b.get"])]);
        for refused in [
            vec![of("auditor", &["a.set"])],
            vec![of("service", &[])],
            vec![of("auditor", &[]), of("auditor", &[])],
            // Nobody could take it back.
            vec![of("tenant-administrator", &["policies.get"])],
        ] {
            assert!(rules(&wanted(refused), &table).is_err());
        }
    }

    #[test]
    fn what_is_not_said_takes_its_default() {
        let rules = rules(&Wanted::default(), &all).unwrap();
        assert_eq!(rules.review_interval_max_ms, 31_536_000_000);
        assert_eq!(rules.exception_max_ms, 7_776_000_000);
        assert_eq!(rules.snapshot_age_max_ms, 172_800_000);
        assert_eq!(rules.lapse_rule(), LapseRule::RetainAsDebt);
        assert_eq!((rules.threshold_count, rules.threshold_permille), (0, 0));
        assert_eq!(rules.val_required, 3);
        assert_eq!(
            rules.persistence_offsets_ms,
            [3_600_000, 86_400_000, 604_800_000]
        );
        assert_eq!(rules.dormant_after_ms, 7_776_000_000);
    }

    #[test]
    fn never_dormant_is_said_and_not_defaulted() {
        let wanted = Wanted {
            dormant_after: -1,
            ..Wanted::default()
        };
        assert_eq!(rules(&wanted, &all).unwrap().dormant_after_ms, 0);
        let wanted = Wanted {
            dormant_after: -2,
            ..Wanted::default()
        };
        assert!(rules(&wanted, &all).is_err());
    }

    #[test]
    fn every_field_out_of_bounds_is_named() {
        let wanted = Wanted {
            review_interval_max: -1,
            exception_max: SECONDS_MAX + 1,
            snapshot_age_max: i64::MAX,
            threshold_permille: 1001,
            val_required: 4,
            persistence_offsets: vec![5, 5],
            dormant_after: i64::MIN,
            ..Wanted::default()
        };
        let faults = rules(&wanted, &all).unwrap_err().into_pairs();
        let mut fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
        fields.sort_unstable();
        let all = [
            "dormant_after_seconds",
            "exception_max_seconds",
            "persistence_offsets_seconds",
            "review_interval_max_seconds",
            "snapshot_age_max_seconds",
            "threshold_permille",
            "val_required",
        ];
        assert_eq!(fields, all);
    }

    proptest! {
        #[test]
        fn accepted_rules_come_back_from_their_bytes_under_the_same_hash(
            review_interval_max in 0..=SECONDS_MAX,
            threshold_count in any::<u32>(),
            threshold_permille in 0_u32..=1000,
            val_required in prop_oneof![Just(0_u32), 2_u32..=3],
            offsets in prop::collection::btree_set(1..=SECONDS_MAX, 0..=16),
        ) {
            let wanted = Wanted {
                review_interval_max,
                threshold_count,
                threshold_permille,
                val_required,
                persistence_offsets: offsets.into_iter().collect(),
                ..Wanted::default()
            };
            let rules = rules(&wanted, &all).unwrap();
            let read = decode(&rules.encode_to_vec()).unwrap();
            prop_assert_eq!(bundle_hash(&read), bundle_hash(&rules));
            prop_assert!(rules.persistence_offsets_ms.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
