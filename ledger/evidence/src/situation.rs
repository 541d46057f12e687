//! What comparing the approved side with the observed side shows for one grant: one pure function, the same for the
//! service that acts on it and for the verifier that recomputes it (I-58).

use crate::{
    leaf::{AuthorizedLeaf, AuthorizedStatus, GrantFlags},
    v1::Situation,
};

/// What is known of the grant on the target's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// There, with these flags.
    Present(GrantFlags),
    /// Not there, in a COMPLETE sync.
    Absent,
    /// The source is missing from the snapshot.
    Unobservable,
}

/// The situation of one grant at `as_of_ms`. At least one side must know the grant.
///
/// Order of judgement: what the source cannot tell is never judged; a decision that access goes outranks everything else
/// that may be said of it; what nobody approved outranks defects of ownership and use.
#[must_use]
pub fn classify(
    authorized: Option<&AuthorizedLeaf>,
    observed: Observed,
    as_of_ms: u64,
) -> Situation {
    let flags = match (observed, authorized) {
        (Observed::Unobservable, _) => return Situation::Unobservable,
        (Observed::Absent, Some(leaf)) if leaf.status == AuthorizedStatus::Revoked => {
            return Situation::Removed;
        }
        (Observed::Absent, _) => return Situation::UnderProvisioned,
        (Observed::Present(flags), _) => flags,
    };
    match authorized {
        Some(leaf) if leaf.status == AuthorizedStatus::Revoked => Situation::Residual,
        Some(leaf) if leaf.not_after_ms <= as_of_ms => Situation::ExpiredPresent,
        None if flags.contains(GrantFlags::INHERITED) => Situation::Inherited,
        None if flags.contains(GrantFlags::PRIVILEGED) => Situation::PrivilegedUncertified,
        None if flags.contains(GrantFlags::IDENTITY_ENDED) => Situation::Survivor,
        None if flags.contains(GrantFlags::ORPHANED) => Situation::Orphaned,
        None => Situation::UnapprovedPresent,
        Some(_) if flags.contains(GrantFlags::IDENTITY_ENDED) => Situation::Survivor,
        Some(_) if flags.contains(GrantFlags::ORPHANED) => Situation::Orphaned,
        Some(_) if flags.contains(GrantFlags::OWNERLESS) => Situation::Ownerless,
        Some(_) if flags.contains(GrantFlags::DORMANT) => Situation::Dormant,
        Some(_) => Situation::Confirmed,
    }
}

/// Whether a situation is a finding: something must be done or watched.
#[must_use]
pub const fn requires_action(situation: Situation) -> bool {
    !matches!(
        situation,
        Situation::Confirmed | Situation::Removed | Situation::Inherited
    )
}
