//! Where a source lies: the same for who decides on it and for who verifies that they might.

use std::collections::BTreeMap;

pub use crate::engagement::ENVIRONMENT;

/// Where each source lies: environment and tier, either empty where none was named.
pub type Places<S> = BTreeMap<S, (String, String)>;

/// The sources that lie where a right that is limited to these tiers and environments holds.
pub fn within<'p, S>(
    places: &'p Places<S>,
    tiers: &'p [String],
    environments: &'p [String],
) -> impl Iterator<Item = &'p S> {
    let here = places.iter().filter(|(_, (environment, tier))| {
        let place = Place { environment, tier };
        place.is_within(tiers, environments)
    });
    here.map(|(source, _)| source)
}

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

    /// Whether somebody gets here who gets to these environments and to no others, not even where there are none.
    #[must_use]
    pub fn is_reached(&self, environments: &[String]) -> bool {
        let environment = self.environment();
        environments.iter().any(|one| one == environment)
    }

    /// Whether a right that is limited to these tiers and environments, where there are any, holds here.
    #[must_use]
    pub fn is_within(&self, tiers: &[String], environments: &[String]) -> bool {
        let of_tier = || !self.tier.is_empty() && tiers.iter().any(|one| one == self.tier);
        (tiers.is_empty() || of_tier())
            && (environments.is_empty() || self.is_reached(environments))
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
        assert!(unnamed.is_reached(&codes(&["default"])) && prod.is_reached(&codes(&["prod"])));
        assert!(!prod.is_reached(&codes(&["default"])) && !unnamed.is_reached(&[]));
        let place = |environment: &str, tier: &str| (environment.to_owned(), tier.to_owned());
        let places = BTreeMap::from([("hr", place("", "")), ("pay", place("prod", "gold"))]);
        let here = |tiers: &[&str], environments: &[&str]| {
            let (tiers, environments) = (codes(tiers), codes(environments));
            within(&places, &tiers, &environments)
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(here(&["gold"], &[]), ["pay"]);
        assert_eq!(here(&[], &["default"]), ["hr"]);
        assert_eq!(here(&[], &[]), ["hr", "pay"]);
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
