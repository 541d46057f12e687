//! Distinguished names, RFC 4514, brought to one form so that two spellings of the same name compare equal.
//!
//! Attribute types in lower case with their usual short names, values in lower case with single spaces (the matching rule
//! of nearly every naming attribute, RFC 4518), parts of a multi-valued RDN sorted, one way of escaping. The form is for
//! comparing and for naming entries that have no id of their own; what goes to the server is always the server's own text.

use std::fmt::Write as _;

/// Brings a distinguished name to its one form.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn normalize(text: &str) -> Result<String, String> {
    let mut parser = Parser {
        rest: text.as_bytes(),
    };
    parser.skip_spaces();
    let mut normal = String::with_capacity(text.len());
    if parser.rest.is_empty() {
        return Ok(normal);
    }
    loop {
        let mut parts = vec![parser.part()?];
        while parser.eat(b'+') {
            parts.push(parser.part()?);
        }
        parts.sort_unstable();
        parts.dedup();
        normal.push_str(&parts.join("+"));
        if parser.rest.is_empty() {
            return Ok(normal);
        }
        // RFC 2253 servers may separate by semicolon.
        if !parser.eat(b',') && !parser.eat(b';') {
            return Err("not a distinguished name: expected a comma".to_owned());
        }
        normal.push(',');
    }
}

/// Removes the optional bit string of a uniqueMember value (RFC 4517, 3.3.21): `dn#'0101'B`.
pub(crate) fn without_unique_id(value: &str) -> &str {
    let Some(rest) = value.strip_suffix("'B") else {
        return value;
    };
    match rest.rsplit_once("#'") {
        Some((name, bits)) if bits.bytes().all(|bit| matches!(bit, b'0' | b'1')) => name,
        _ => value,
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn skip_spaces(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// One `type=value`.
    fn part(&mut self) -> Result<String, String> {
        self.skip_spaces();
        let length = self
            .rest
            .iter()
            .take_while(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b';' | b'_')
            })
            .count();
        let (name, rest) = self.rest.split_at(length);
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        self.rest = rest;
        self.skip_spaces();
        if name.is_empty() || !self.eat(b'=') {
            return Err("not a distinguished name: expected type=value".to_owned());
        }
        self.skip_spaces();
        let name = short_name(name.strip_prefix("oid.").unwrap_or(&name));
        let value = match self.rest.first() {
            Some(b'#') => self.hex_value()?,
            Some(b'"') => escape(&fold(&self.quoted_value()?)),
            _ => escape(&fold(&self.plain_value()?)),
        };
        self.skip_spaces();
        Ok(format!("{name}={value}"))
    }

    fn hex_value(&mut self) -> Result<String, String> {
        let length = 1 + self.rest[1..]
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        if length < 3 || length.is_multiple_of(2) {
            return Err("not a distinguished name: broken #hex value".to_owned());
        }
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(String::from_utf8_lossy(value).to_ascii_lowercase())
    }

    fn quoted_value(&mut self) -> Result<Vec<u8>, String> {
        self.rest = &self.rest[1..];
        let mut value = Vec::new();
        loop {
            match self.next() {
                Some(b'"') => return Ok(value),
                Some(b'\\') => value.push(self.escaped()?),
                Some(byte) => value.push(byte),
                None => return Err("not a distinguished name: unclosed quote".to_owned()),
            }
        }
    }

    fn plain_value(&mut self) -> Result<Vec<u8>, String> {
        let mut value = Vec::new();
        // Spaces at the end do not count unless they were escaped.
        let mut significant = 0;
        while let Some(&byte) = self.rest.first() {
            if matches!(byte, b',' | b';' | b'+') {
                break;
            }
            self.rest = &self.rest[1..];
            match byte {
                b'\\' => {
                    value.push(self.escaped()?);
                    significant = value.len();
                }
                b'"' | b'<' | b'>' | 0 => {
                    return Err(format!(
                        "not a distinguished name: {:?} must be escaped",
                        char::from(byte)
                    ));
                }
                _ => {
                    value.push(byte);
                    if byte != b' ' {
                        significant = value.len();
                    }
                }
            }
        }
        value.truncate(significant);
        Ok(value)
    }

    fn escaped(&mut self) -> Result<u8, String> {
        let broken = || "not a distinguished name: broken escape".to_owned();
        let first = self.next().ok_or_else(broken)?;
        let Some(high) = hex_digit(first) else {
            return if b" \"#+,;<=>\\".contains(&first) {
                Ok(first)
            } else {
                Err(broken())
            };
        };
        let low = self.next().and_then(hex_digit).ok_or_else(broken)?;
        Ok(high * 16 + low)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The short names of RFC 4519 that servers use for these types whatever was typed in.
fn short_name(name: &str) -> &str {
    match name {
        "commonname" | "2.5.4.3" => "cn",
        "surname" | "2.5.4.4" => "sn",
        "countryname" | "2.5.4.6" => "c",
        "localityname" | "2.5.4.7" => "l",
        "stateorprovincename" | "2.5.4.8" => "st",
        "organizationname" | "2.5.4.10" => "o",
        "organizationalunitname" | "2.5.4.11" => "ou",
        "userid" | "0.9.2342.19200300.100.1.1" => "uid",
        "domaincomponent" | "0.9.2342.19200300.100.1.25" => "dc",
        other => other,
    }
}

/// Lower case, single spaces. Bytes that are no UTF-8 stay as they are.
fn fold(value: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(value) else {
        return value.to_vec();
    };
    let mut folded = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(&word.to_lowercase());
    }
    folded.into_bytes()
}

fn escape(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let (text, broken) = match std::str::from_utf8(value) {
        Ok(text) => (text, &[][..]),
        Err(_) => ("", value),
    };
    for (index, character) in text.chars().enumerate() {
        if ",+\"\\<>;=".contains(character) || (index == 0 && character == '#') {
            out.push('\\');
            out.push(character);
        } else if character == '\0' {
            out.push_str("\\00");
        } else {
            out.push(character);
        }
    }
    for byte in broken {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_become_equal() {
        let one = normalize("cn=Amy Wong+sn=Kroker,ou=people,dc=planetexpress,dc=com").unwrap();
        for other in [
            "sn=Kroker+cn=Amy Wong,ou=people,dc=planetexpress,dc=com",
            "CN=amy  wong + SN=KROKER , OU=People , DC=planetexpress;dc=com",
            "commonName=Amy\\20Wong+2.5.4.4=Kroker,ou=people,dc=planetexpress,dc=com",
            "cn=\"Amy Wong\"+sn=Kroker,ou=people,dc=planetexpress,dc=com",
        ] {
            assert_eq!(normalize(other).unwrap(), one, "{other}");
        }
        assert_eq!(
            one,
            "cn=amy wong+sn=kroker,ou=people,dc=planetexpress,dc=com"
        );
    }

    #[test]
    fn escaped_separators_stay_part_of_the_value() {
        assert_eq!(
            normalize("cn=Doe\\, Jane,dc=x").unwrap(),
            "cn=doe\\, jane,dc=x"
        );
        assert_eq!(
            normalize("cn=Doe\\2C Jane,dc=x").unwrap(),
            "cn=doe\\, jane,dc=x"
        );
        assert_ne!(
            normalize("cn=a\\+b=c,dc=x").unwrap(),
            normalize("cn=a+b=c,dc=x").unwrap()
        );
        assert_eq!(normalize("cn=\\#1,dc=x").unwrap(), "cn=\\#1,dc=x");
        assert_eq!(normalize("cn=Z\\C3\\AB,dc=x").unwrap(), "cn=zë,dc=x");
    }

    #[test]
    fn different_names_stay_different() {
        assert_ne!(
            normalize("cn=ab,dc=x").unwrap(),
            normalize("cn=a b,dc=x").unwrap()
        );
        assert_ne!(
            normalize("cn=a,dc=x").unwrap(),
            normalize("sn=a,dc=x").unwrap()
        );
        assert_ne!(
            normalize("cn=#0401ff,dc=x").unwrap(),
            normalize("cn=\\#0401ff,dc=x").unwrap()
        );
    }

    #[test]
    fn what_is_no_distinguished_name_is_refused() {
        for text in [
            "amy",
            "cn",
            "=x",
            "cn=a,,dc=b",
            "cn=a,",
            "cn=a\\",
            "cn=a\\zz",
            "cn=\"a",
            "cn=#0",
            "cn=a<b",
        ] {
            assert!(normalize(text).is_err(), "{text}");
        }
        assert_eq!(normalize("  ").unwrap(), "");
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        for text in [
            "cn=Doe\\, Jane+uid=a\\=b,dc=x",
            "cn=\\ spaced\\ ,dc=x",
            "cn=#04024869,dc=x",
            "cn=\\C3\\28,dc=x",
        ] {
            let once = normalize(text).unwrap();
            assert_eq!(normalize(&once).unwrap(), once, "{text}");
        }
    }

    #[test]
    fn the_bit_string_of_a_unique_member_is_removed() {
        assert_eq!(without_unique_id("cn=a,dc=b#'0101'B"), "cn=a,dc=b");
        assert_eq!(without_unique_id("cn=a,dc=b"), "cn=a,dc=b");
        assert_eq!(without_unique_id("cn=a#'x'B,dc=b"), "cn=a#'x'B,dc=b");
    }
}
