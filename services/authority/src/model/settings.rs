//! Escalation paths and retention policies.

use counterfoil_evidence::record::decode_canonical;
pub(crate) use counterfoil_evidence::v1::{EscalationPathSet, RetentionPolicySet, RetentionRule};

use super::{Faults, RecordHash, ids::PrincipalId, policy::SECONDS_MAX, text};

/// Most levels of an escalation path.
pub(crate) const LEVELS_MAX: usize = 10;
/// Most rules of a retention policy.
const RULES_MAX: usize = 100;
/// Longest time that evidence is kept, days.
const DAYS_MAX: u32 = 36_500;
/// The class of all records of governance: without a rule for it nothing may be governed.
pub(crate) const GOVERNANCE: &str = "governance";

/// Which setting it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingKind {
    EscalationPath,
    RetentionPolicy,
}

impl SettingKind {
    /// Its name in the database.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EscalationPath => "escalation_path",
            Self::RetentionPolicy => "retention_policy",
        }
    }

    /// Its collection in the subjects of records.
    pub(crate) const fn subject(self) -> &'static str {
        match self {
            Self::EscalationPath => "escalation-paths",
            Self::RetentionPolicy => "retention-policies",
        }
    }
}

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) version: i64,
    /// Canonical bytes of the record's payload.
    pub(crate) content: Vec<u8>,
    pub(crate) record_hash: RecordHash,
}

/// Who answers in the end, by the canonical bytes of an escalation path. `None`: they are damaged.
pub(crate) fn last_resort(content: &[u8]) -> Option<PrincipalId> {
    let path: EscalationPathSet = decode_canonical(content, "escalation path").ok()?;
    path.last_resort
        .strip_prefix("principals/")
        .and_then(PrincipalId::parse)
}

/// The rules of a retention policy, by its canonical bytes. `None`: they are damaged.
pub(crate) fn retention_rules(content: &[u8]) -> Option<Vec<RetentionRule>> {
    let policy: RetentionPolicySet = decode_canonical(content, "retention policy").ok()?;
    Some(policy.rules)
}

/// Checks the levels of an escalation path: who is asked, and after how many seconds.
pub(crate) fn check_levels(levels: &[(PrincipalId, i64)]) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let count = (1..=LEVELS_MAX).contains(&levels.len());
    faults.require(count, "levels", "must be 1 to 10");
    for (position, (_, after_seconds)) in levels.iter().enumerate() {
        let good = (1..=SECONDS_MAX).contains(after_seconds);
        let field = format!("levels[{position}].after_seconds");
        faults.require(good, &field, "must be 1 to 3,153,600,000");
    }
    faults.or(())
}

/// Checks the rules of a retention policy.
pub(crate) fn check_rules(rules: &[RetentionRule]) -> Result<(), Faults> {
    let mut faults = Faults::default();
    faults.require(
        (1..=RULES_MAX).contains(&rules.len()),
        "rules",
        "must be 1 to 100",
    );
    let governed = rules.iter().any(|rule| rule.retention_class == GOVERNANCE);
    faults.require(governed, "rules", "must have one of class \"governance\"");
    for (position, rule) in rules.iter().enumerate() {
        let mut one = Faults::default();
        one.require(
            text::is_code(&rule.retention_class),
            "retention_class",
            text::CODE,
        );
        let earlier = &rules[..position];
        let twice = earlier.iter().any(|other| {
            other.retention_class == rule.retention_class && other.jurisdiction == rule.jurisdiction
        });
        one.require(
            !twice,
            "retention_class",
            "has two rules for one jurisdiction",
        );
        let days = (1..=DAYS_MAX).contains(&rule.duration_days);
        one.require(days, "duration_days", "must be 1 to 36,500");
        one.require(text::is_code(&rule.basis), "basis", text::CODE);
        let place = text::is_jurisdiction(&rule.jurisdiction);
        one.require(
            place,
            "jurisdiction",
            "must be an ISO 3166-1 alpha-2 code or \"*\"",
        );
        faults.add_all(&format!("rules[{position}]."), one);
    }
    faults.or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(class: &str) -> RetentionRule {
        RetentionRule {
            retention_class: class.to_owned(),
            duration_days: 3650,
            basis: "SOX-404".to_owned(),
            jurisdiction: "*".to_owned(),
        }
    }

    #[test]
    fn a_retention_policy_says_how_long_governance_is_kept() {
        assert!(check_rules(&[rule(GOVERNANCE), rule("operations")]).is_ok());
        assert!(check_rules(&[rule("operations")]).is_err());
        assert!(check_rules(&[]).is_err());
    }

    #[test]
    fn every_fault_of_a_retention_policy_is_named_with_its_rule() {
        let bad = RetentionRule {
            retention_class: GOVERNANCE.to_owned(),
            duration_days: 0,
            basis: "because we may".to_owned(),
            jurisdiction: "Mars".to_owned(),
        };
        let faults = check_rules(&[rule(GOVERNANCE), bad, rule(GOVERNANCE)]).unwrap_err();
        let fields: Vec<String> = faults
            .into_pairs()
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        let all = [
            "rules[1].duration_days",
            "rules[1].basis",
            "rules[1].jurisdiction",
            "rules[2].retention_class",
        ];
        assert_eq!(fields, all);
    }

    #[test]
    fn an_escalation_path_has_levels_that_wait() {
        let level = |seconds| (PrincipalId::parse("ada").unwrap(), seconds);
        assert!(check_levels(&[level(1), level(SECONDS_MAX)]).is_ok());
        assert!(check_levels(&[]).is_err());
        assert!(check_levels(&[level(0)]).is_err());
        assert!(check_levels(&[level(SECONDS_MAX + 1)]).is_err());
        assert!(check_levels(&vec![level(1); 11]).is_err());
    }
}
