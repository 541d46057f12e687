//! An item: one grant that somebody must decide.
//!
//! Invariant: an item ends once. A decision may be taken anew while the review is open (the later one counts); a lapse, a
//! void and a verified removal are final.

use std::iter;

use counterfoil_evidence::leaf::GrantKey;

use super::{
    disposition::Disposition,
    identity::{self, Barred},
    ids::Principal,
};

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ItemState {
    /// In the population, with nobody yet.
    Unrouted,
    /// With a reviewer.
    Routed,
    /// Decided.
    Decided,
    /// Nobody decided in time.
    Lapsed,
    /// The grant was gone before.
    Voided,
    /// Its removal is verified.
    Verified,
}

/// What moves an item, but for the proof that its grant is gone: see `store::removals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemEvent {
    /// It came to a reviewer, for the first time or again.
    Routed,
    /// It was decided.
    Decided,
    /// It lapsed.
    Lapsed,
    /// Its grant is proved gone.
    Voided,
}

impl ItemState {
    /// All states, by their codes.
    pub(crate) const ALL: [Self; 6] = [
        Self::Unrouted,
        Self::Routed,
        Self::Decided,
        Self::Lapsed,
        Self::Voided,
        Self::Verified,
    ];

    /// The state after `event`; `None` when that cannot happen here. A decided item that is shown again stays decided until
    /// it is decided anew.
    pub(crate) fn after(self, event: ItemEvent) -> Option<Self> {
        match (self, event) {
            (Self::Unrouted | Self::Routed, ItemEvent::Routed) => Some(Self::Routed),
            (Self::Decided, ItemEvent::Routed)
            | (Self::Routed | Self::Decided, ItemEvent::Decided) => Some(Self::Decided),
            (Self::Routed, ItemEvent::Lapsed) => Some(Self::Lapsed),
            (Self::Routed, ItemEvent::Voided) => Some(Self::Voided),
            _ => None,
        }
    }

    /// Number under which it is stored.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Unrouted => 0,
            Self::Routed => 1,
            Self::Decided => 2,
            Self::Lapsed => 3,
            Self::Voided => 4,
            Self::Verified => 5,
        }
    }

    /// The state with this number.
    pub(crate) fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// An item as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// The grant; the item's id is this in hex.
    pub(crate) key: GrantKey,
    /// The grant as shown: 74 bytes.
    pub(crate) leaf: Vec<u8>,
    /// Key of the identity whose access it is; empty for an account without one.
    pub(crate) subject_key: String,
    /// Keys of the identities whose access it was when it was shown before.
    pub(crate) former_subjects: Vec<String>,
    /// Key of the identity that owns the entitlement; empty when nobody does.
    pub(crate) owner_key: String,
    /// Commitment to what is shown; `None` until it is routed.
    pub(crate) presentation_hash: Option<[u8; 32]>,
    /// Where it stands.
    pub(crate) state: ItemState,
    /// With whom; `None` until it is routed.
    pub(crate) reviewer: Option<Principal>,
    /// How it ended, or how it is decided for now.
    pub(crate) disposition: Option<Disposition>,
    /// When, milliseconds; 0 while open.
    pub(crate) decide_ms: i64,
    /// SHA-256 of the record that decided or ended it.
    pub(crate) record_hash: Option<[u8; 32]>,
}

/// An item with what its reviewer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresentedItem {
    /// The item.
    pub(crate) item: Item,
    /// What is shown, as canonical bytes.
    pub(crate) presentation: Vec<u8>,
}

/// A grant as an item shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShownGrant {
    /// The grant.
    pub(crate) key: GrantKey,
    /// 74 bytes.
    pub(crate) leaf: Vec<u8>,
    /// Key of the identity whose access it is; empty for an account without one.
    pub(crate) subject_key: String,
    /// Key of the identity that owns the entitlement; empty when nobody does.
    pub(crate) owner_key: String,
    /// What is shown, as canonical bytes.
    pub(crate) presentation: Vec<u8>,
}

impl Item {
    /// What keeps somebody with this identity key from reviewing it: an access that was somebody's own is not theirs to judge
    /// later in the same review (I-26).
    pub(crate) fn bars(&self, reviewer_key: &str) -> Option<Barred> {
        let subjects = iter::once(&self.subject_key).chain(&self.former_subjects);
        subjects
            .filter_map(|subject| identity::barred(reviewer_key, subject))
            .next()
    }

    /// "items/{item}", as records carry it.
    pub(crate) fn local(&self) -> String {
        local(&self.key)
    }
}

/// "items/{item}" of a grant: the id is the grant's key in hex.
pub(crate) fn local(key: &GrantKey) -> String {
    format!("items/{}", hex::encode(key.0))
}

/// The grant of an item's id.
pub(crate) fn key_of_id(id: &str) -> Option<GrantKey> {
    // Upper-case hex would give one item two names.
    if id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut key = [0; 40];
    hex::decode_to_slice(id, &mut key).ok()?;
    Some(GrantKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_items_id_is_its_grants_key_and_has_one_form() {
        let key = GrantKey([0xab; 40]);
        let id = hex::encode(key.0);
        assert_eq!(local(&key), format!("items/{id}"));
        assert_eq!(key_of_id(&id), Some(key));
        assert_eq!(key_of_id(&id.to_uppercase()), None);
        assert_eq!(key_of_id("ab"), None);
    }
}
