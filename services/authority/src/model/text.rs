//! What people may write: names for people, and codes that may stand in a record.

pub(crate) use counterfoil_evidence::place::{CODE, is_code};

/// Longest name for people, in characters.
const NAME_CHARS_MAX: usize = 200;
/// Longest identity key, in bytes.
const IDENTITY_KEY_BYTES_MAX: usize = 512;

/// What a name for people looks like.
pub(crate) const NAME: &str = "must have 1 to 200 characters, none of them a control character";
/// What an identity key looks like.
pub(crate) const IDENTITY_KEY: &str =
    "must have at most 512 bytes, no control character, and no white space at its ends";

/// Whether a text is a name for people.
pub(crate) fn is_name(text: &str) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= NAME_CHARS_MAX
        && !text.chars().any(char::is_control)
}

/// Whether a text is an identity key as sources know it; empty: none. It is kept as
/// [`counterfoil_evidence::leaf::canonical_identity_key`] writes it.
pub(crate) fn is_identity_key(text: &str) -> bool {
    text.len() <= IDENTITY_KEY_BYTES_MAX
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

/// Whether a text is the code of a country (ISO 3166-1 alpha-2) or "*".
pub(crate) fn is_jurisdiction(text: &str) -> bool {
    text == "*" || (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_for_people_and_an_identity_key_for_sources() {
        assert!(is_name("J\u{fc}rgen O'Neil") && !is_name("  ") && !is_name("a\tb"));
        assert!(!is_name(&"x".repeat(201)));
        assert!(is_identity_key("") && is_identity_key("ada@corp.example"));
        assert!(!is_identity_key(" ada") && !is_identity_key("a\0"));
    }

    #[test]
    fn a_jurisdiction_is_a_country_or_everywhere() {
        assert!(is_jurisdiction("*") && is_jurisdiction("DE"));
        assert!(!is_jurisdiction("") && !is_jurisdiction("de") && !is_jurisdiction("DEU"));
    }
}
