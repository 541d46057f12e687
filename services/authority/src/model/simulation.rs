//! What a policy bundle would change, told before it is published.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    conditions::{Act, Asking, Conditions, Place},
    ids::{PrincipalId, RightId, SourceId},
    policy::PolicyRules,
    principal::Principal,
    right::{Right, Scope},
};

/// Most entries in each list.
pub(crate) const CHANGES_MAX: usize = 1_000;

/// A bundle as it works.
#[derive(Debug, Clone)]
pub(crate) struct Working {
    pub(crate) rules: PolicyRules,
    pub(crate) conditions: Conditions,
}

impl Working {
    /// Of rules that were accepted. `Err`: why their conditions are none.
    pub(crate) fn of(rules: PolicyRules) -> Result<Self, String> {
        let conditions = Conditions::accepted(&rules.conditions)?;
        Ok(Self { rules, conditions })
    }

    /// What a principal may call, when `table` says what each role may.
    pub(crate) fn permissions<'t>(
        &'t self,
        principal: &Principal,
        table: &HashMap<String, BTreeSet<&'t str>>,
    ) -> BTreeSet<&'t str> {
        let mut all = BTreeSet::new();
        for role in &principal.roles {
            let kept = self
                .rules
                .role_permissions
                .iter()
                .find(|kept| kept.role == *role);
            let of_table = table.get(role).into_iter().flatten().copied();
            match kept {
                None => all.extend(of_table),
                Some(kept) => {
                    let kept: BTreeSet<&str> =
                        kept.permissions.iter().map(String::as_str).collect();
                    all.extend(of_table.filter(|permission| kept.contains(permission)));
                }
            }
        }
        all
    }
}

/// A rule that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleChange {
    pub(crate) field: &'static str,
    pub(crate) before: String,
    pub(crate) after: String,
}

/// What a right gives in one place, changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RightChange {
    pub(crate) right: RightId,
    pub(crate) grantee: PrincipalId,
    pub(crate) place: Place,
    pub(crate) forbidden: bool,
    pub(crate) conditions: Vec<String>,
}

/// What a principal may call, changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PermissionChange {
    pub(crate) principal: PrincipalId,
    pub(crate) lost: Vec<String>,
    pub(crate) gained: Vec<String>,
}

/// The rules that differ; `before`: none were in force.
pub(crate) fn rules(before: Option<&PolicyRules>, after: &PolicyRules) -> Vec<RuleChange> {
    let before = before.map(spelled).unwrap_or_default();
    let after = spelled(after);
    let of = |rules: &BTreeMap<&'static str, String>, field| rules.get(field).cloned();
    let changed = after.keys().filter_map(|&field| {
        let (before, after) = (of(&before, field).unwrap_or_default(), of(&after, field)?);
        (before != after).then_some(RuleChange {
            field,
            before,
            after,
        })
    });
    changed.collect()
}

/// The rules by the names of the API's fields.
fn spelled(rules: &PolicyRules) -> BTreeMap<&'static str, String> {
    let seconds = |ms: i64| (ms / 1000).to_string();
    let offsets: Vec<String> = rules
        .persistence_offsets_ms
        .iter()
        .map(|ms| seconds(*ms))
        .collect();
    let roles: Vec<String> = rules
        .role_permissions
        .iter()
        .map(|kept| format!("{}: {}", kept.role, kept.permissions.join(" ")))
        .collect();
    let lapse_rule = rules.lapse_rule().as_str_name();
    BTreeMap::from([
        (
            "review_interval_max_seconds",
            seconds(rules.review_interval_max_ms),
        ),
        ("exception_max_seconds", seconds(rules.exception_max_ms)),
        (
            "snapshot_age_max_seconds",
            seconds(rules.snapshot_age_max_ms),
        ),
        ("lapse_rule", lapse_rule.to_owned()),
        ("threshold_count", rules.threshold_count.to_string()),
        ("threshold_permille", rules.threshold_permille.to_string()),
        ("val_required", rules.val_required.to_string()),
        ("persistence_offsets_seconds", offsets.join(" ")),
        (
            "dormant_after_seconds",
            if rules.dormant_after_ms == 0 {
                "-1".to_owned()
            } else {
                seconds(rules.dormant_after_ms)
            },
        ),
        ("role_permissions", roles.join("; ")),
        ("conditions", rules.conditions.clone()),
    ])
}

/// What two bundles say to one act, however many rights give it.
#[derive(Debug)]
pub(crate) struct Acting<'w> {
    before: Option<Asking<'w>>,
    after: Asking<'w>,
    /// Sources that a condition of either names.
    named: BTreeSet<SourceId>,
}

impl<'w> Acting<'w> {
    /// Asks two bundles about an act; `before`: none was in force.
    pub(crate) fn new(before: Option<&'w Working>, after: &'w Working, act: Act<'w>) -> Self {
        let named = before.iter().flat_map(|one| one.conditions.sources());
        Self {
            named: named.chain(after.conditions.sources()).cloned().collect(),
            before: before.map(|one| one.conditions.asked(act)),
            after: after.conditions.asked(act),
        }
    }

    /// What a right to the act gives, changed: in each place of its scope and of the conditions.
    pub(crate) fn right(&mut self, right: &Right) -> Vec<RightChange> {
        let places: Vec<Place> = match &right.scope {
            Scope::Sources(sources) => sources.iter().cloned().map(Place::Source).collect(),
            Scope::Everywhere => {
                let sources = self.named.iter().cloned().map(Place::Source);
                std::iter::once(Place::Everywhere).chain(sources).collect()
            }
        };
        let changed = places.into_iter().filter_map(|place| {
            let was = self.before.as_mut().map(|one| one.forbid(&place));
            let (was, will) = (was.unwrap_or_default(), self.after.forbid(&place));
            (was.is_empty() != will.is_empty()).then(|| RightChange {
                right: right.id.clone(),
                grantee: right.grantee.clone(),
                place,
                forbidden: !will.is_empty(),
                conditions: if will.is_empty() { was } else { will },
            })
        });
        changed.collect()
    }
}

/// What a principal may call, changed.
pub(crate) fn permissions(
    before: Option<&Working>,
    after: &Working,
    principal: &Principal,
    table: &HashMap<String, BTreeSet<&str>>,
) -> Option<PermissionChange> {
    let all = || {
        let roles = principal.roles.iter().filter_map(|role| table.get(role));
        roles.flatten().copied().collect()
    };
    let was: BTreeSet<&str> = before.map_or_else(all, |one| one.permissions(principal, table));
    let will = after.permissions(principal, table);
    let only = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| -> Vec<String> {
        one.difference(other).map(|&name| name.to_owned()).collect()
    };
    let (lost, gained) = (only(&was, &will), only(&will, &was));
    (!lost.is_empty() || !gained.is_empty()).then(|| PermissionChange {
        principal: principal.id.clone(),
        lost,
        gained,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        policy::{self, RolePermissions, Wanted},
        principal::tests::customer_human,
        right::DecisionAction,
    };

    fn working(conditions: &str, role_permissions: Vec<RolePermissions>) -> Working {
        let wanted = Wanted {
            conditions: conditions.to_owned(),
            role_permissions,
            ..Wanted::default()
        };
        Working::of(policy::rules(&wanted, &|_, _| true).unwrap()).unwrap()
    }

    fn right_of(grantee: &Principal, scope: Scope) -> Right {
        Right {
            tiers: Vec::new(),
            environments: Vec::new(),
            proposed: false,
            id: RightId::stored("r1".to_owned()),
            grantee: grantee.id.clone(),
            action: DecisionAction::Review,
            scope,
            valid_from_ms: 0,
            valid_to_ms: i64::MAX,
            grantor: grantee.id.clone(),
            revoked_at_ms: None,
            record_hash: [0; 32],
        }
    }

    const NO_PAYROLL: &str =
        r#"forbid (principal, action, resource == Counterfoil::Source::"payroll");"#;

    #[test]
    fn a_right_everywhere_loses_what_a_condition_names_and_gets_it_back() {
        let ada = customer_human("ada");
        let act = Act {
            tenant: "acme",
            principal: &ada,
            action: DecisionAction::Review,
            now_ms: 0,
        };
        let everywhere = right_of(&ada, Scope::Everywhere);
        let (open, closed) = (working("", vec![]), working(NO_PAYROLL, vec![]));
        let right =
            |before, after, right: &Right| Acting::new(Some(before), after, act).right(right);
        let lost = right(&open, &closed, &everywhere);
        let payroll = Place::Source(SourceId::stored("payroll".to_owned()));
        let places: Vec<(&Place, bool)> =
            lost.iter().map(|one| (&one.place, one.forbidden)).collect();
        assert_eq!(places, [(&Place::Everywhere, true), (&payroll, true)]);
        let back = right(&closed, &open, &everywhere);
        assert!(back.len() == 2 && back.iter().all(|one| !one.forbidden));
        assert!(right(&closed, &closed, &everywhere).is_empty());
        let crm = Scope::Sources(vec![SourceId::stored("crm".to_owned())]);
        assert!(right(&open, &closed, &right_of(&ada, crm)).is_empty());
    }

    #[test]
    fn who_has_two_roles_loses_only_what_neither_keeps() {
        let table = HashMap::from([
            (
                "auditor".to_owned(),
                BTreeSet::from(["items.get", "evidence.export"]),
            ),
            (
                "reviewer".to_owned(),
                BTreeSet::from(["items.get", "items.decide"]),
            ),
        ]);
        let kept = RolePermissions {
            role: "auditor".into(),
            permissions: vec![],
        };
        let after = working("", vec![kept]);
        let mut ada = customer_human("ada");
        ada.roles = vec!["auditor".into(), "reviewer".into()];
        let change = permissions(None, &after, &ada, &table).unwrap();
        assert_eq!(
            (change.lost.as_slice(), change.gained.len()),
            (&["evidence.export".to_owned()][..], 0)
        );
        assert!(permissions(Some(&after), &after, &ada, &table).is_none());
    }

    #[test]
    fn only_rules_that_differ_are_told() {
        let (before, after) = (working("", vec![]).rules, working(NO_PAYROLL, vec![]).rules);
        let changed = rules(Some(&before), &after);
        assert_eq!(changed.len(), 1);
        assert_eq!(
            (changed[0].field, changed[0].before.as_str()),
            ("conditions", "")
        );
        assert!(rules(Some(&after), &after).is_empty());
        assert!(rules(None, &after).len() > 5);
    }
}
