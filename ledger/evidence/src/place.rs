//! Where a source lies: the same for who decides on it and for who verifies that they might.

pub use crate::engagement::ENVIRONMENT;

/// Longest code, in characters.
const CODE_CHARS_MAX: usize = 64;

/// Environment and tier of a source, as codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place<'p> {
    /// Empty: [`ENVIRONMENT`].
    pub environment: &'p str,
    /// Empty: of no tier.
    pub tier: &'p str,
}

impl<'p> Place<'p> {
    /// The environment, also where none was named.
    #[must_use]
    pub fn environment(&self) -> &'p str {
        match self.environment {
            "" => ENVIRONMENT,
            named => named,
        }
    }

    /// Whether a right that is limited to these tiers and environments, where there are any, holds here.
    #[must_use]
    pub fn is_within(&self, tiers: &[String], environments: &[String]) -> bool {
        let of = |codes: &[String], code: &str| codes.iter().any(|one| one == code);
        (tiers.is_empty() || (!self.tier.is_empty() && of(tiers, self.tier)))
            && (environments.is_empty() || of(environments, self.environment()))
    }
}

/// What a code looks like.
pub const CODE: &str = "must be a code of 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', '/' and ':': records hold no free text";

/// Whether a text is a code, which may stand in a record.
#[must_use]
pub fn is_code(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    !text.is_empty() && text.len() <= CODE_CHARS_MAX && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_names_no_tier_is_in_none_and_one_without_environment_in_default() {
        let codes = |codes: &[&str]| {
            codes
                .iter()
                .map(|one| (*one).to_owned())
                .collect::<Vec<_>>()
        };
        let (unnamed, prod) = (
            Place::default(),
            Place {
                environment: "prod",
                tier: "gold",
            },
        );
        assert!(unnamed.is_within(&[], &[]) && prod.is_within(&[], &[]));
        assert!(unnamed.is_within(&[], &codes(&["default"])));
        assert!(!unnamed.is_within(&[], &codes(&["prod"])));
        assert!(!unnamed.is_within(&codes(&["gold", ""]), &[]));
        assert!(prod.is_within(&codes(&["gold"]), &codes(&["test", "prod"])));
        assert!(!prod.is_within(&codes(&["gold"]), &codes(&["test"])));
        assert!(!prod.is_within(&codes(&["silver"]), &codes(&["prod"])));
    }

    #[test]
    fn a_code_has_no_room_for_free_text() {
        for code in ["SOX-404", "HGB:257", "GDPR/5.1.e", "governance"] {
            assert!(is_code(code), "{code}");
        }
        let long = "x".repeat(65);
        for text in ["", "Commercial law", "a@b.example\n", "caf\u{e9}", &long] {
            assert!(!is_code(text), "{text}");
        }
    }
}
