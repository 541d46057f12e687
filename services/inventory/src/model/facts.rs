//! What is known of accounts, entitlements and grants: digests that change when it changes, and flags that judge it.
//!
//! Invariants: a grant's value covers everything a reviewer is shown of it, except when something was last used, which
//! changes daily and decides nothing but the DORMANT flag. Identity keys enter a digest only as salted tags.

use counterfoil_connectors::{
    AccountRecord, AccountStatus, EntitlementRecord, IdentityClass, Lifecycle,
};
use counterfoil_evidence::leaf::{GrantFlags, domain_hash, identity_tag};

/// An opaque id, a UUID.
pub type Id = [u8; 16];

/// Days that the rules of a tenant give, as the sync needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Salt of the tenant's identity tags.
    pub salt: [u8; 32],
    /// Unused for longer is dormant, milliseconds; 0 = never.
    pub dormant_after_ms: i64,
}

/// The stable number of a class, as stored and hashed; the API's numbers are the same.
#[must_use]
pub const fn class_number(class: IdentityClass) -> i32 {
    match class {
        IdentityClass::Workforce => 1,
        IdentityClass::Privileged => 2,
        IdentityClass::Customer => 3,
        IdentityClass::NonHuman => 4,
        IdentityClass::Agent => 5,
        IdentityClass::Partner => 6,
    }
}

/// The word of a lifecycle state, as stored, hashed and shown.
#[must_use]
pub const fn lifecycle_word(lifecycle: Option<Lifecycle>) -> &'static str {
    match lifecycle {
        None => "",
        Some(Lifecycle::Draft) => "draft",
        Some(Lifecycle::Proposed) => "proposed",
        Some(Lifecycle::Active) => "active",
        Some(Lifecycle::Suspended) => "suspended",
        Some(Lifecycle::Deprecated) => "deprecated",
        Some(Lifecycle::Archived) => "archived",
        Some(Lifecycle::Failed) => "failed",
    }
}

/// States in which an identity has ended.
pub const ENDED_STATES: [&str; 2] = ["deprecated", "archived"];

/// Whether a class is a service account, a workload or an AI agent.
#[must_use]
pub const fn is_non_human(class: IdentityClass) -> bool {
    matches!(class, IdentityClass::NonHuman | IdentityClass::Agent)
}

/// The stated life of an identity of which several accounts state one: what is most final counts, for a leaver is a leaver
/// whatever an application that was not told still says.
#[must_use]
pub fn most_final<'a>(states: impl Iterator<Item = &'a str>) -> &'a str {
    const FINAL_FIRST: [&str; 7] = [
        "archived",
        "deprecated",
        "suspended",
        "failed",
        "active",
        "proposed",
        "draft",
    ];
    let rank = |state: &str| FINAL_FIRST.iter().position(|&known| known == state);
    states
        .filter_map(|state| Some((rank(state)?, state)))
        .min()
        .map_or("active", |(_, state)| state)
}

/// Absent and empty are different facts.
fn optional(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or_else(Vec::new, |bytes| [&[1], bytes].concat())
}

fn optional_ms(value: Option<i64>) -> Vec<u8> {
    optional(
        value
            .map(i64::to_be_bytes)
            .as_ref()
            .map(<[u8; 8]>::as_slice),
    )
}

fn tagged(salt: &[u8; 32], key: Option<&str>) -> Vec<u8> {
    optional(
        key.map(|key| identity_tag(salt, key))
            .as_ref()
            .map(<[u8; 32]>::as_slice),
    )
}

/// Digest over an account, all but when it was last seen. `owner_key` is the owner that counts.
#[must_use]
pub fn account_digest(
    id: &Id,
    record: &AccountRecord,
    owner_key: Option<&str>,
    salt: &[u8; 32],
) -> [u8; 32] {
    let enabled = record.status == AccountStatus::Active;
    domain_hash(
        b"counterfoil-account-facts/v1",
        &[
            id,
            record.native_id.as_bytes(),
            record.display_name.as_bytes(),
            &tagged(salt, record.identity_key.as_deref()),
            &class_number(record.identity_class).to_be_bytes(),
            &[u8::from(enabled)],
            &tagged(salt, owner_key),
            &optional_ms(record.expires_ms),
            &optional(record.purpose.as_deref().map(str::as_bytes)),
            lifecycle_word(record.lifecycle).as_bytes(),
        ],
    )
}

/// Flags that all grants of an account carry.
#[must_use]
pub fn account_flags(
    record: &AccountRecord,
    owner_key: Option<&str>,
    ended_elsewhere: bool,
) -> GrantFlags {
    let non_human = is_non_human(record.identity_class);
    let ended = ENDED_STATES.contains(&lifecycle_word(record.lifecycle)) || ended_elsewhere;
    flags_where(&[
        (record.identity_key.is_none(), GrantFlags::ORPHANED),
        (ended, GrantFlags::IDENTITY_ENDED),
        (non_human && owner_key.is_none(), GrantFlags::OWNERLESS),
        (
            non_human && record.expires_ms.is_none(),
            GrantFlags::NO_EXPIRY,
        ),
    ])
}

/// Digest over an entitlement. `owner_key` is the owner that counts.
#[must_use]
pub fn entitlement_digest(
    id: &Id,
    record: &EntitlementRecord,
    owner_key: Option<&str>,
    salt: &[u8; 32],
) -> [u8; 32] {
    domain_hash(
        b"counterfoil-entitlement-facts/v1",
        &[
            id,
            record.native_id.as_bytes(),
            record.display_name.as_bytes(),
            record.kind.as_bytes(),
            &[u8::from(record.privileged)],
            &tagged(salt, owner_key),
            &optional(record.purpose.as_deref().map(str::as_bytes)),
        ],
    )
}

/// Flags that all grants of an entitlement carry.
#[must_use]
pub fn entitlement_flags(record: &EntitlementRecord, owner_key: Option<&str>) -> GrantFlags {
    flags_where(&[
        (record.privileged, GrantFlags::PRIVILEGED),
        (
            record.privileged && owner_key.is_none(),
            GrantFlags::OWNERLESS,
        ),
    ])
}

fn flags_where(judged: &[(bool, GrantFlags)]) -> GrantFlags {
    judged
        .iter()
        .filter(|(holds, _)| *holds)
        .fold(GrantFlags::default(), |all, (_, flag)| all.with(*flag))
}

/// What a grant states of itself, beside its two ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrantTerms<'a> {
    /// Since when.
    pub granted_ms: Option<i64>,
    /// Until when.
    pub expires_ms: Option<i64>,
    /// What for.
    pub purpose: &'a str,
    /// How many entitlements follow from it.
    pub inherited_count: u32,
}

/// The value of a grant's leaf: changes when anything changes that a reviewer is shown.
#[must_use]
pub fn grant_value(
    account_digest: &[u8; 32],
    entitlement_digest: &[u8; 32],
    path_digest: &[u8; 32],
    terms: &GrantTerms<'_>,
) -> [u8; 32] {
    let time = |value: Option<i64>| {
        let mut bytes = [0; 9];
        if let Some(ms) = value {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(&ms.to_be_bytes());
        }
        bytes
    };
    domain_hash(
        b"counterfoil-grant-facts/v1",
        &[
            account_digest,
            entitlement_digest,
            path_digest,
            &time(terms.granted_ms),
            &time(terms.expires_ms),
            terms.purpose.as_bytes(),
            &terms.inherited_count.to_be_bytes(),
        ],
    )
}

/// Whether something last used at `last_used_ms` is dormant for a sync that began at `started_ms`. What nobody saw used or
/// unused is not called dormant: the source does not tell.
#[must_use]
pub fn is_dormant(last_used_ms: Option<i64>, started_ms: i64, dormant_after_ms: i64) -> bool {
    dormant_after_ms > 0
        && last_used_ms.is_some_and(|used| started_ms.saturating_sub(used) > dormant_after_ms)
}

/// The flags by name, as the API has them.
pub const FLAG_NAMES: [(&str, GrantFlags); 7] = [
    ("INHERITED", GrantFlags::INHERITED),
    ("PRIVILEGED", GrantFlags::PRIVILEGED),
    ("ORPHANED", GrantFlags::ORPHANED),
    ("OWNERLESS", GrantFlags::OWNERLESS),
    ("DORMANT", GrantFlags::DORMANT),
    ("IDENTITY_ENDED", GrantFlags::IDENTITY_ENDED),
    ("NO_EXPIRY", GrantFlags::NO_EXPIRY),
];

/// Names of the flags that are set.
#[must_use]
pub fn flag_names(flags: GrantFlags) -> Vec<String> {
    FLAG_NAMES
        .iter()
        .filter(|(_, flag)| flags.contains(*flag))
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

/// The flag of a name.
#[must_use]
pub fn flag_named(name: &str) -> Option<GrantFlags> {
    FLAG_NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, flag)| *flag)
}

#[cfg(test)]
mod tests {
    use counterfoil_connectors::Sensitivity;

    use super::*;

    fn account() -> AccountRecord {
        AccountRecord {
            native_id: "ada".into(),
            display_name: "Ada".into(),
            email: Some("ada@example.org".into()),
            identity_key: Some("ada@example.org".into()),
            identity_class: IdentityClass::Workforce,
            status: AccountStatus::Active,
            owner_key: None,
            last_seen_ms: Some(1),
            expires_ms: None,
            purpose: None,
            lifecycle: None,
        }
    }

    fn entitlement() -> EntitlementRecord {
        EntitlementRecord {
            native_id: "admins".into(),
            display_name: "Admins".into(),
            kind: "group".into(),
            privileged: true,
            owner_key: None,
            purpose: None,
            sensitivity: Sensitivity::High,
        }
    }

    #[test]
    fn last_use_is_not_part_of_the_facts_and_everything_else_is() {
        let digest =
            |record: &AccountRecord, owner| account_digest(&[1; 16], record, owner, &[9; 32]);
        let base = digest(&account(), None);
        let mut seen = account();
        seen.last_seen_ms = Some(2);
        assert_eq!(digest(&seen, None), base);
        let changes: [fn(&mut AccountRecord); 7] = [
            |record| record.display_name = "Ada L.".into(),
            |record| record.identity_key = None,
            |record| record.identity_class = IdentityClass::Privileged,
            |record| record.status = AccountStatus::Disabled,
            |record| record.expires_ms = Some(0),
            |record| record.purpose = Some(String::new()),
            |record| record.lifecycle = Some(Lifecycle::Deprecated),
        ];
        for change in changes {
            let mut record = account();
            change(&mut record);
            assert_ne!(digest(&record, None), base);
        }
        assert_ne!(digest(&account(), Some("boss")), base);
    }

    #[test]
    fn an_account_without_identity_is_orphaned_and_a_leaver_has_ended() {
        let mut record = account();
        assert_eq!(account_flags(&record, None, false), GrantFlags::default());
        record.lifecycle = Some(Lifecycle::Deprecated);
        assert!(account_flags(&record, None, false).contains(GrantFlags::IDENTITY_ENDED));
        assert!(account_flags(&account(), None, true).contains(GrantFlags::IDENTITY_ENDED));
        record.identity_key = None;
        assert!(account_flags(&record, None, false).contains(GrantFlags::ORPHANED));
    }

    #[test]
    fn a_non_human_account_needs_an_owner_and_an_expiry() {
        let mut record = account();
        record.identity_class = IdentityClass::Agent;
        let bare = account_flags(&record, None, false);
        assert!(bare.contains(GrantFlags::OWNERLESS.with(GrantFlags::NO_EXPIRY)));
        record.expires_ms = Some(5);
        assert_eq!(
            account_flags(&record, Some("boss"), false),
            GrantFlags::default()
        );
    }

    #[test]
    fn a_privileged_entitlement_needs_an_owner() {
        let bare = entitlement_flags(&entitlement(), None);
        assert!(bare.contains(GrantFlags::PRIVILEGED.with(GrantFlags::OWNERLESS)));
        assert_eq!(
            entitlement_flags(&entitlement(), Some("boss")),
            GrantFlags::PRIVILEGED
        );
    }

    #[test]
    fn dormant_is_what_was_used_long_ago_not_what_nobody_watched() {
        assert!(is_dormant(Some(0), 101, 100));
        assert!(!is_dormant(Some(1), 101, 100));
        assert!(!is_dormant(None, 101, 100));
        assert!(!is_dormant(Some(0), 101, 0));
    }

    #[test]
    fn a_leaver_in_one_source_is_a_leaver() {
        assert_eq!(
            most_final(["active", "deprecated", ""].into_iter()),
            "deprecated"
        );
        assert_eq!(most_final([""].into_iter()), "active");
        assert_eq!(most_final(["suspended", "active"].into_iter()), "suspended");
    }

    #[test]
    fn every_flag_has_a_name_and_back() {
        let all = flag_names(GrantFlags(GrantFlags::ALL));
        assert_eq!(all.len(), 7);
        for name in all {
            assert!(flag_named(&name).is_some());
        }
        assert_eq!(flag_named("RED"), None);
    }
}
