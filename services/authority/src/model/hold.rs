//! Legal holds: evidence that must not go (I-70). Whoever places one keeps something; to let it go again takes another human.

use counterfoil_evidence::{hold, v1::RetentionRule};

use super::{
    Faults, RecordHash,
    ids::{HoldId, PrincipalId},
    principal::{OrganizationKind, Principal},
    text,
};

/// The role that may release holds (`permissions.txt` of the chassis).
const RELEASES: &str = "tenant-administrator";
/// Most classes that a hold names.
const CLASSES_MAX: usize = 100;
/// Most holds that are in force at once.
pub(crate) const IN_FORCE_MAX: u8 = 100;

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) id: HoldId,
    /// Ascending; empty: the whole log.
    pub(crate) retention_classes: Vec<String>,
    pub(crate) basis: String,
    pub(crate) reason_code: String,
    pub(crate) placed_by: PrincipalId,
    pub(crate) placed_at_ms: i64,
    /// Of the record that placed it.
    pub(crate) record_hash: RecordHash,
    /// `None`: it is in force.
    pub(crate) release: Option<Release>,
}

/// Who let go what a hold kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) by: PrincipalId,
    pub(crate) at_ms: i64,
    pub(crate) reason_code: String,
}

/// Checks what a hold is said to be, and sorts its classes.
pub(crate) fn check_new(
    classes: &[String],
    basis: &str,
    reason_code: &str,
) -> Result<Vec<String>, Faults> {
    let mut faults = Faults::default();
    let few = classes.len() <= CLASSES_MAX;
    faults.require(few, "hold.retention_classes", "has at most 100 entries");
    let codes = classes.iter().all(|class| text::is_code(class));
    faults.require(codes, "hold.retention_classes", text::CODE);
    faults.require(text::is_code(basis), "hold.basis", text::CODE);
    faults.require(text::is_code(reason_code), "hold.reason_code", text::CODE);
    let mut classes = classes.to_vec();
    classes.sort_unstable();
    classes.dedup();
    faults.or(classes)
}

/// Whether this human may release what that one placed.
pub(crate) fn may_release(placed_by: &Principal, released_by: &Principal) -> bool {
    !placed_by.is_same(released_by)
}

/// Whether somebody is of those who can release holds, where an organisation of this kind governs the tenant.
pub(crate) fn can_release(principal: &Principal, governing: OrganizationKind) -> bool {
    principal.is_active_human_of(governing) && principal.has_role(RELEASES)
}

/// The first class that new rules keep for less time although a hold in force covers it.
pub(crate) fn shortened<'r>(
    in_force: &[Hold],
    old: &'r [RetentionRule],
    new: &'r [RetentionRule],
) -> Option<&'r str> {
    hold::shortened(old, new, |class| {
        let mut in_force = in_force.iter();
        in_force.any(|one| hold::covers(&one.retention_classes, class))
    })
}

#[cfg(test)]
mod tests {
    use counterfoil_chassis::{Role, auth::PermissionTable};

    use super::*;
    use crate::model::principal::{PrincipalKind, ROLES, tests::customer_human};

    fn on(classes: &[&str]) -> Hold {
        Hold {
            id: HoldId::parse("case-7").unwrap(),
            retention_classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            basis: "FRCP-37E".to_owned(),
            reason_code: "litigation".to_owned(),
            placed_by: PrincipalId::parse("ada").unwrap(),
            placed_at_ms: 1,
            record_hash: [1; 32],
            release: None,
        }
    }

    fn rules(class: &str, duration_days: u32) -> Vec<RetentionRule> {
        vec![RetentionRule {
            retention_class: class.to_owned(),
            duration_days,
            basis: "SOX-404".to_owned(),
            jurisdiction: "*".to_owned(),
        }]
    }

    #[test]
    fn i70_what_a_hold_in_force_covers_is_not_kept_for_less_time() {
        let (old, new) = (rules("governance", 100), rules("governance", 99));
        let of = |holds: &[Hold]| shortened(holds, &old, &new).is_some();
        assert!(of(&[on(&[])]) && of(&[on(&["operations"]), on(&["governance"])]));
        assert!(!of(&[]) && !of(&[on(&["operations"])]));
    }

    #[test]
    fn i70_whoever_placed_a_hold_releases_it_under_no_name() {
        let twin = |id: &str| Principal {
            identity_key: "ada@corp.example".to_owned(),
            ..customer_human(id)
        };
        let ada = twin("ada");
        assert!(!may_release(&ada, &ada) && !may_release(&ada, &twin("ada-again")));
        assert!(may_release(&ada, &customer_human("ben")));
    }

    #[test]
    fn i70_who_can_release_a_hold_is_a_human_with_the_role_that_may() {
        let table = PermissionTable::of_api().unwrap();
        for role in ROLES {
            let may = table.holds(Role::named(role).unwrap(), "holds.release");
            let ben = Principal {
                roles: vec![role.to_owned()],
                ..customer_human("ben")
            };
            assert_eq!(can_release(&ben, OrganizationKind::Customer), may, "{role}");
            assert!(!can_release(&ben, OrganizationKind::Provider), "{role}");
            let machine = Principal {
                kind: PrincipalKind::Service,
                ..ben
            };
            assert!(!can_release(&machine, OrganizationKind::Customer), "{role}");
        }
    }

    #[test]
    fn a_hold_says_on_what_basis_and_why() {
        let class = |name: &str| [name.to_owned()];
        assert!(check_new(&[], "FRCP-37E", "litigation").is_ok());
        assert!(check_new(&class("no code"), "FRCP-37E", "litigation").is_err());
        assert!(check_new(&vec!["a".to_owned(); 101], "FRCP-37E", "litigation").is_err());
        let faults = check_new(&[], "because", "").map_err(Faults::into_pairs);
        let fields: Vec<String> = faults.unwrap_err().into_iter().map(|one| one.0).collect();
        assert_eq!(fields, ["hold.reason_code"]);
        let twice = [class("b"), class("a"), class("b")].concat();
        assert_eq!(check_new(&twice, "x", "y").unwrap(), ["a", "b"]);
    }
}
