//! Whether two principals are one human, by the identities of both (I-82).

use counterfoil_evidence::leaf::canonical_identity_key as canonical;

/// Whether two keys name one identity, however they are written; no key names none.
pub(crate) fn same(one: &str, other: &str) -> bool {
    let one = canonical(one);
    !one.is_empty() && one == canonical(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_is_one_human_and_none_is_nobody() {
        assert!(same("ada@acme", "ada@acme") && same(" Ada@Acme", "ADA@acme\n"));
        assert!(!same("ada@acme", "adam@acme"));
        assert!(!same("", "ada@acme") && !same("", "") && !same(" ", ""));
    }
}
