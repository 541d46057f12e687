//! Whether somebody may review an access, by the identities of both (I-26).
//!
//! Invariant: identities are compared as the systems mean them, not byte by byte; and whoever has no identity cannot be told from the
//! subject, so they review nothing of anybody.

/// Why somebody may not review an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It is their own.
    Subject,
    /// Nobody knows who they are, and the access is somebody's.
    NoIdentity,
}

/// An identity key without what says nothing: space around it, and the case of its letters. The tags that the verifier compares are
/// made of the same form.
pub(crate) use counterfoil_evidence::leaf::{
    canonical_identity_key as canonical, is_same_identity as same,
};

/// What keeps a reviewer with this identity key from reviewing the access of that one; either key is empty when there is none.
pub(crate) fn barred(reviewer_key: &str, subject_key: &str) -> Option<Barred> {
    if canonical(subject_key).is_empty() {
        return None;
    }
    if canonical(reviewer_key).is_empty() {
        return Some(Barred::NoIdentity);
    }
    same(reviewer_key, subject_key).then_some(Barred::Subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_written_in_two_ways_is_one() {
        for (reviewer, subject) in [
            ("ada@acme", "ada@acme"),
            ("Ada@Acme", "ada@acme"),
            (" ada@acme\n", "ADA@ACME"),
            ("ÉVA@acme", "éva@acme"),
        ] {
            assert_eq!(
                barred(reviewer, subject),
                Some(Barred::Subject),
                "{reviewer:?} {subject:?}"
            );
        }
        assert_eq!(barred("ada@acme", "adam@acme"), None);
    }

    #[test]
    fn whoever_has_no_identity_reviews_only_what_is_nobodys() {
        assert_eq!(barred(" ", "ada@acme"), Some(Barred::NoIdentity));
        assert_eq!(barred("", ""), None);
        assert_eq!(barred("ada@acme", " "), None);
    }
}
