//! What a legal hold keeps: the same for who refuses to shorten it and for who verifies that nobody did.

use std::collections::BTreeMap;

use crate::v1::RetentionRule;

/// The jurisdiction of a rule that holds where no other does.
const EVERYWHERE: &str = "*";

/// Whether a hold on these retention classes covers a class; a hold on none covers the whole log.
#[must_use]
pub fn covers(classes: &[String], class: &str) -> bool {
    classes.is_empty() || classes.iter().any(|one| one == class)
}

/// The first class held that new rules keep for less time than the old ones did, in any jurisdiction, or name no longer. What
/// nobody stated before cannot become shorter.
#[must_use]
pub fn shortened<'r>(
    old: &'r [RetentionRule],
    new: &'r [RetentionRule],
    is_held: impl Fn(&str) -> bool,
) -> Option<&'r str> {
    let (before, after) = (days(old), days(new));
    let mut held = before
        .keys()
        .chain(after.keys())
        .filter(|(class, _)| is_held(class));
    let shorter = held.find(|place| kept(&after, place) < kept(&before, place));
    shorter.map(|(class, _)| *class)
}

/// How long a class is kept in a jurisdiction, days; of two rules for the same the shorter one.
type Days<'r> = BTreeMap<(&'r str, &'r str), u32>;

fn days(rules: &[RetentionRule]) -> Days<'_> {
    let mut days = Days::new();
    for rule in rules {
        let place = (rule.retention_class.as_str(), rule.jurisdiction.as_str());
        let known = days.entry(place).or_insert(rule.duration_days);
        *known = rule.duration_days.min(*known);
    }
    days
}

fn kept(days: &Days<'_>, place: &(&str, &str)) -> Option<u32> {
    let own = days.get(place);
    own.or_else(|| days.get(&(place.0, EVERYWHERE))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(class: &str, jurisdiction: &str, duration_days: u32) -> RetentionRule {
        RetentionRule {
            retention_class: class.to_owned(),
            duration_days,
            basis: "SOX-404".to_owned(),
            jurisdiction: jurisdiction.to_owned(),
        }
    }

    #[test]
    fn a_hold_on_no_class_is_on_the_whole_log() {
        let some = ["governance".to_owned()];
        assert!(covers(&[], "operations") && covers(&some, "governance"));
        assert!(!covers(&some, "operations"));
    }

    #[test]
    fn what_is_held_is_kept_as_long_as_before_wherever_it_is() {
        let old = [rule("governance", "*", 100), rule("governance", "DE", 200)];
        let shorter = |new: &[RetentionRule]| shortened(&old, new, |_| true).is_some();
        assert!(!shorter(&old));
        assert!(!shorter(&[rule("governance", "*", 200)]), "DE by *");
        assert!(shorter(&[rule("governance", "*", 199)]), "DE by *");
        assert!(shorter(&[rule("governance", "DE", 200)]), "no longer *");
        let more = |new| [&old[..], &[new]].concat();
        assert!(shorter(&more(rule("governance", "FR", 99))), "FR was *");
        assert!(!shorter(&more(rule("governance", "FR", 100))));
        assert!(!shorter(&more(rule("operations", "*", 1))), "nobody said");
        assert!(shorter(&more(rule("governance", "DE", 1))), "two for DE");
        assert!(shorter(&[]));
    }

    #[test]
    fn what_is_not_held_may_go_sooner() {
        let old = [rule("governance", "*", 100), rule("operations", "*", 100)];
        let new = [rule("governance", "*", 10), rule("operations", "*", 10)];
        let held = |class: &str| class == "operations";
        assert_eq!(shortened(&old, &new, held), Some("operations"));
        assert_eq!(shortened(&old, &new, |_| false), None);
    }
}
