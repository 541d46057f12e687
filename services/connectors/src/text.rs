//! What a name may consist of. Reviewers decide by reading names, so a name that can mislead the eye, or run as a formula
//! in a spreadsheet, is refused with a reason. It is never rewritten: a changed name would be somebody else's name.

/// Says why `text` cannot be shown as it is, or nothing.
pub(crate) fn misleading(text: &str) -> Option<String> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return None;
    }
    text.chars()
        .find_map(|character| forbidden(character).map(|kind| (character, kind)))
        .map(|(character, kind)| format!("contains {kind} U+{:04X}", u32::from(character)))
}

/// Says why `text` would be dangerous in a spreadsheet, or nothing (OWASP, CSV injection).
pub(crate) fn formula_like(text: &str) -> Option<String> {
    match text.as_bytes().first() {
        Some(&byte @ (b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r')) => Some(format!(
            "starts with {}, which a spreadsheet runs as a formula",
            char::from(byte).escape_default()
        )),
        _ => None,
    }
}

/// `text` with everything that misleads the eye spelled out, for showing in an error.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match forbidden(character) {
            None => out.push(character),
            Some(_) => out.push_str(&format!("<U+{:04X}>", u32::from(character))),
        }
    }
    out
}

fn forbidden(character: char) -> Option<&'static str> {
    match character {
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => Some("the text-direction character"),
        '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2064}'
        | '\u{feff}'
        | '\u{00ad}'
        | '\u{180e}' => Some("the invisible character"),
        '\u{2028}' | '\u{2029}' => Some("the line separator"),
        '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10fffd}' => Some("the private-use character"),
        '\u{e0000}'..='\u{e007f}' => Some("the invisible tag character"),
        _ if character.is_control() => Some("the control character"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_of_many_scripts_pass() {
        for name in [
            "Amy Wong",
            "Zoë",
            "Łukasz",
            "李雷",
            "محمد",
            "org:etcd-io:admin",
        ] {
            assert_eq!(misleading(name), None, "{name}");
        }
    }

    #[test]
    fn what_misleads_the_eye_is_named_with_its_code_point() {
        for (name, code) in [
            ("ad\u{202e}nim", "U+202E"),
            ("admin\u{200b}", "U+200B"),
            ("a\tb", "U+0009"),
            ("a\u{0}b", "U+0000"),
            ("a\u{2028}b", "U+2028"),
            ("\u{e001}", "U+E001"),
        ] {
            let reason = misleading(name).unwrap();
            assert!(reason.contains(code), "{reason}");
        }
    }

    #[test]
    fn formula_starts_are_found_and_only_at_the_start() {
        for value in ["=1+1", "+49", "-2", "@SUM", "\tx", "\rx"] {
            assert!(formula_like(value).is_some(), "{value}");
        }
        for value in ["a=1", "u00001", "", "org:x-y"] {
            assert_eq!(formula_like(value), None, "{value}");
        }
    }
}
