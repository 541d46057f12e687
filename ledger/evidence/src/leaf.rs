//! Leaves of the sealed sets. Every leaf starts with its key; sets are sorted by it, so absence can be proved.
//!
//! Nothing here identifies a person: keys are hashes over opaque ids.

use sha2::{Digest, Sha256};

use crate::v1::{Disposition, Operation, Situation};

/// Media types of the blobs that hold a set's leaves.
pub mod media_type {
    /// Grants of one source ([`super::GrantLeaf`]).
    pub const GRANT_SET: &str = "application/vnd.counterfoil.grant-set";
    /// Population of a campaign ([`super::GrantLeaf`]).
    pub const POPULATION: &str = "application/vnd.counterfoil.population";
    /// What a campaign's scope leaves out ([`super::GrantLeaf`]).
    pub const EXCLUSIONS: &str = "application/vnd.counterfoil.exclusions";
    /// How items ended ([`super::DispositionLeaf`]).
    pub const DISPOSITIONS: &str = "application/vnd.counterfoil.dispositions";
    /// What is open at close ([`super::DebtLeaf`]).
    pub const DEBT: &str = "application/vnd.counterfoil.debt";
    /// Decided grants ([`super::AuthorizedLeaf`]).
    pub const AUTHORIZED_SET: &str = "application/vnd.counterfoil.authorized-set";
    /// Findings of a reconciliation run ([`super::FindingLeaf`]).
    pub const FINDINGS: &str = "application/vnd.counterfoil.findings";
    /// Actions of a remediation ([`super::ActionLeaf`]).
    pub const ACTIONS: &str = "application/vnd.counterfoil.actions";
}

/// Length of a grant key in bytes.
pub const GRANT_KEY_LEN: usize = 40;
/// Length of a [`GrantLeaf`] in bytes.
pub const GRANT_LEAF_LEN: usize = 74;
/// Length of a [`DispositionLeaf`] in bytes.
pub const DISPOSITION_LEAF_LEN: usize = 73;
/// Length of a [`DebtLeaf`] in bytes.
pub const DEBT_LEAF_LEN: usize = 41;
/// Length of an [`AuthorizedLeaf`] in bytes.
pub const AUTHORIZED_LEAF_LEN: usize = 81;
/// Length of a [`FindingLeaf`] in bytes.
pub const FINDING_LEAF_LEN: usize = 41;
/// Length of an [`ActionLeaf`] in bytes.
pub const ACTION_LEAF_LEN: usize = 73;
/// Length of an obligation's key in bytes.
pub const OBLIGATION_KEY_LEN: usize = 16;
/// Length of an obligation's leaf in bytes: id || hash of the opening record.
pub const OBLIGATION_LEAF_LEN: usize = 48;

/// First 8 bytes of every grant key of one source, so that a snapshot is the concatenation of its sources' sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceTag(pub [u8; 8]);

impl SourceTag {
    /// Tag of "sources/{source}".
    #[must_use]
    pub fn of(source: &str) -> Self {
        let digest = domain_hash(b"counterfoil-source/v1", &[source.as_bytes()]);
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        Self(tag)
    }
}

/// Key of a grant: source tag[8] || SHA-256 over account, entitlement and path[32].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantKey(pub [u8; GRANT_KEY_LEN]);

impl GrantKey {
    /// Key of the grant that `account` has `entitlement`, directly (`path` empty) or through the entitlements in `path`,
    /// outermost (the one held directly) first. All are opaque ids, such as "accounts/{account}".
    #[must_use]
    pub fn new(source: SourceTag, account: &str, entitlement: &str, path: &[&str]) -> Self {
        let mut parts = vec![account.as_bytes(), entitlement.as_bytes()];
        parts.extend(path.iter().map(|step| step.as_bytes()));
        let mut key = [0; GRANT_KEY_LEN];
        key[..8].copy_from_slice(&source.0);
        key[8..].copy_from_slice(&domain_hash(b"counterfoil-grant/v1", &parts));
        Self(key)
    }

    /// The source the grant is of.
    #[must_use]
    pub fn source_tag(&self) -> SourceTag {
        let mut tag = [0; 8];
        tag.copy_from_slice(&self.0[..8]);
        SourceTag(tag)
    }
}

impl TryFrom<&[u8]> for GrantKey {
    type Error = LeafError;

    fn try_from(bytes: &[u8]) -> Result<Self, LeafError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| LeafError("grant key"))
    }
}

/// What is publicly stated of a grant in its leaf: enough to judge it, nothing that names anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct GrantFlags(pub u16);

impl GrantFlags {
    /// Follows from another grant.
    pub const INHERITED: Self = Self(1);
    /// The entitlement is privileged.
    pub const PRIVILEGED: Self = Self(1 << 1);
    /// The account belongs to no identity.
    pub const ORPHANED: Self = Self(1 << 2);
    /// Nobody owns the entitlement, or nobody owns the non-human account.
    pub const OWNERLESS: Self = Self(1 << 3);
    /// Unused for longer than the policy allows.
    pub const DORMANT: Self = Self(1 << 4);
    /// The identity has ended (leaver, retired workload).
    pub const IDENTITY_ENDED: Self = Self(1 << 5);
    /// A non-human account without an expiry.
    pub const NO_EXPIRY: Self = Self(1 << 6);
    /// All flags that have a meaning.
    pub const ALL: u16 = (1 << 7) - 1;

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One grant in a sealed set: key || flags u16 big endian || value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantLeaf {
    /// Which grant.
    pub key: GrantKey,
    /// What is publicly stated of it.
    pub flags: GrantFlags,
    /// SHA-256 over all that inventory knows of it and a reviewer is shown; changes when the grant changes.
    pub value: [u8; 32],
}

impl GrantLeaf {
    /// The leaf's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; GRANT_LEAF_LEN] {
        let mut bytes = [0; GRANT_LEAF_LEN];
        bytes[..40].copy_from_slice(&self.key.0);
        bytes[40..42].copy_from_slice(&self.flags.0.to_be_bytes());
        bytes[42..].copy_from_slice(&self.value);
        bytes
    }
}

impl TryFrom<&[u8]> for GrantLeaf {
    type Error = LeafError;

    fn try_from(bytes: &[u8]) -> Result<Self, LeafError> {
        let bytes: &[u8; GRANT_LEAF_LEN] = bytes.try_into().map_err(|_| LeafError("grant leaf"))?;
        let flags = u16::from_be_bytes([bytes[40], bytes[41]]);
        if flags & !GrantFlags::ALL != 0 {
            return Err(LeafError("grant leaf flags"));
        }
        let mut value = [0; 32];
        value.copy_from_slice(&bytes[42..]);
        Ok(Self {
            key: GrantKey::try_from(&bytes[..40])?,
            flags: GrantFlags(flags),
            value,
        })
    }
}

/// How one item ended: key || disposition u8 || hash of the record that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispositionLeaf {
    /// Which grant.
    pub key: GrantKey,
    /// How it ended.
    pub disposition: Disposition,
    /// SHA-256 of the record that ended it.
    pub record_hash: [u8; 32],
}

impl DispositionLeaf {
    /// The leaf's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; DISPOSITION_LEAF_LEN] {
        keyed(&self.key, code(self.disposition as i32), &self.record_hash)
    }
}

/// What is open when a campaign closes: key || disposition u8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebtLeaf {
    /// Which grant.
    pub key: GrantKey,
    /// How its item ended.
    pub disposition: Disposition,
}

impl DebtLeaf {
    /// The leaf's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; DEBT_LEAF_LEN] {
        keyed(&self.key, code(self.disposition as i32), &[])
    }
}

/// What was decided on a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AuthorizedStatus {
    /// It may be there until `not_after_ms`.
    Authorized = 1,
    /// It must not be there.
    Revoked = 2,
}

/// A decided grant: key || status u8 || not_after_ms u64 big endian || hash of the deciding record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizedLeaf {
    /// Which grant.
    pub key: GrantKey,
    /// What was decided.
    pub status: AuthorizedStatus,
    /// Until when it may be there, milliseconds; 0 when revoked.
    pub not_after_ms: u64,
    /// SHA-256 of the ReviewDecided or ReviewItemLapsed record.
    pub record_hash: [u8; 32],
}

impl AuthorizedLeaf {
    /// The leaf's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; AUTHORIZED_LEAF_LEN] {
        let mut bytes = [0; AUTHORIZED_LEAF_LEN];
        bytes[..40].copy_from_slice(&self.key.0);
        bytes[40] = self.status as u8;
        bytes[41..49].copy_from_slice(&self.not_after_ms.to_be_bytes());
        bytes[49..].copy_from_slice(&self.record_hash);
        bytes
    }
}

impl TryFrom<&[u8]> for AuthorizedLeaf {
    type Error = LeafError;

    fn try_from(bytes: &[u8]) -> Result<Self, LeafError> {
        let bytes: &[u8; AUTHORIZED_LEAF_LEN] =
            bytes.try_into().map_err(|_| LeafError("authorized leaf"))?;
        let status = match bytes[40] {
            1 => AuthorizedStatus::Authorized,
            2 => AuthorizedStatus::Revoked,
            _ => return Err(LeafError("authorized status")),
        };
        let mut not_after = [0; 8];
        not_after.copy_from_slice(&bytes[41..49]);
        let mut record_hash = [0; 32];
        record_hash.copy_from_slice(&bytes[49..]);
        Ok(Self {
            key: GrantKey::try_from(&bytes[..40])?,
            status,
            not_after_ms: u64::from_be_bytes(not_after),
            record_hash,
        })
    }
}

/// A finding of a reconciliation run: key || situation u8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindingLeaf {
    /// Which grant.
    pub key: GrantKey,
    /// What was found.
    pub situation: Situation,
}

impl FindingLeaf {
    /// The leaf's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; FINDING_LEAF_LEN] {
        keyed(&self.key, code(self.situation as i32), &[])
    }
}

/// An action of a remediation: key || operation u8 || hash of the record that decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionLeaf {
    /// Which grant.
    pub key: GrantKey,
    /// What is done.
    pub operation: Operation,
    /// SHA-256 of the record that decided it.
    pub record_hash: [u8; 32],
}

impl ActionLeaf {
    /// The leaf's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ACTION_LEAF_LEN] {
        keyed(&self.key, code(self.operation as i32), &self.record_hash)
    }
}

/// Bytes are not a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct LeafError(pub &'static str);

/// SHA-256(domain || 0x00 || for each part: u32 length big endian || part).
#[must_use]
pub fn domain_hash(domain: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(domain);
    hasher.update([0]);
    for part in parts {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        hasher.update(length.to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The one way to write an identity key: systems that know the same person spell an address or a handle as they like, and
/// mean no difference by capitals or by white space at the ends. Unicode lower case; the same again when applied again.
#[must_use]
pub fn canonical_identity_key(identity_key: &str) -> String {
    identity_key.trim().to_lowercase()
}

/// Whether two keys name one identity, however either is written. No key names none: two without an identity are not one.
#[must_use]
pub fn is_same_identity(one: &str, other: &str) -> bool {
    let one = canonical_identity_key(one);
    !one.is_empty() && one == canonical_identity_key(other)
}

/// Tag that two services compute alike for one identity key of a tenant, however they spell it, without either naming it in a
/// record.
#[must_use]
pub fn identity_tag(tenant_salt: &[u8; 32], identity_key: &str) -> [u8; 32] {
    let key = canonical_identity_key(identity_key);
    domain_hash(
        b"counterfoil-correlation/v1",
        &[tenant_salt, key.as_bytes()],
    )
}

fn code(value: i32) -> u8 {
    u8::try_from(value).unwrap_or(0)
}

fn keyed<const N: usize>(key: &GrantKey, code: u8, rest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..40].copy_from_slice(&key.0);
    bytes[40] = code;
    bytes[41..].copy_from_slice(rest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_key_and_one_tag_however_it_is_written() {
        for (written, key) in [
            ("fry@planetexpress.com", "fry@planetexpress.com"),
            ("Fry@PlanetExpress.com", "fry@planetexpress.com"),
            (" \tFRY@planetexpress.com\u{a0}\n", "fry@planetexpress.com"),
            ("ZO\u{cb}@planetexpress.com", "zo\u{eb}@planetexpress.com"),
            ("\u{17d}i\u{17e}ek", "\u{17e}i\u{17e}ek"),
            ("  ", ""),
        ] {
            assert_eq!(canonical_identity_key(written), key, "{written:?}");
            assert_eq!(canonical_identity_key(key), key);
            assert_eq!(is_same_identity(written, key), !key.is_empty());
            let salt = [7; 32];
            assert_eq!(identity_tag(&salt, written), identity_tag(&salt, key));
        }
        assert_ne!(
            identity_tag(&[7; 32], "fry@planetexpress.com"),
            identity_tag(&[7; 32], "fry@planet-express.com")
        );
        assert!(!is_same_identity(
            "fry@planetexpress.com",
            "fry@planet-express.com"
        ));
        assert!(!is_same_identity("", "fry@planetexpress.com") && !is_same_identity("", " "));
    }
}
