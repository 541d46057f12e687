//! Bearer tokens: `cft_{id}_{secret}{checksum}`, or the JWT of an identity provider.
//!
//! The API tokens that authority issues:
//!
//! The id (16 hex digits) is public, for look-up and revocation. The secret (64 hex digits) is 32 random bytes. The checksum
//! (8 hex digits) is the CRC-32 of all before it, so that a typing error or a scanner's false hit is told without a look-up.
//! Whoever checks tokens keeps [`Token::sha256`], never the token.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::secrets::{self, SecretError};

const PREFIX: &str = "cft_";
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;
const CHECKSUM_DIGITS: usize = 8;

/// A well-formed token. It shows its id, never its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
}

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn generate() -> Result<Self, SecretError> {
        let id = hex::encode(secrets::random::<{ ID_DIGITS / 2 }>()?);
        let secret = hex::encode(secrets::random::<{ SECRET_DIGITS / 2 }>()?);
        let body = format!("{PREFIX}{id}_{secret}");
        let checksum = crc32(body.as_bytes());
        Ok(Self {
            text: format!("{body}{checksum:08x}"),
        })
    }

    /// Reads a token. `None`: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let (id, secret) = rest.split_once('_')?;
        let is_hex = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if id.len() != ID_DIGITS
            || secret.len() != SECRET_DIGITS + CHECKSUM_DIGITS
            || !is_hex(id)
            || !is_hex(secret)
        {
            return None;
        }
        let (body, checksum) = text.split_at(text.len() - CHECKSUM_DIGITS);
        let expected = format!("{:08x}", crc32(body.as_bytes()));
        (checksum == expected).then(|| Self {
            text: text.to_owned(),
        })
    }

    /// Reads the token in a secret file, or makes one.
    ///
    /// # Errors
    /// When the file cannot be used; see [`crate::secrets`].
    pub fn load_or_create(path: &std::path::Path) -> Result<Self, SecretError> {
        let text = secrets::load_or_create(path, || Ok(Self::generate()?.text))?;
        Self::in_file(&text, path)
    }

    /// Reads the token in a secret file.
    ///
    /// # Errors
    /// When the file cannot be used; see [`crate::secrets`].
    pub fn load(path: &std::path::Path) -> Result<Self, SecretError> {
        Self::in_file(&secrets::read(path)?, path)
    }

    fn in_file(text: &str, path: &std::path::Path) -> Result<Self, SecretError> {
        Self::parse(text).ok_or_else(|| SecretError::Content {
            path: path.to_owned(),
            reason: "holds no token".into(),
        })
    }

    /// Its public id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.text[PREFIX.len()..PREFIX.len() + ID_DIGITS]
    }

    /// The whole token: show it once, keep it in files of mode 0600 only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What to keep of it.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

/// Longest JWT that is looked at.
const JWT_BYTES_MAX: usize = 8 << 10;

/// What stands behind "Bearer " in an `authorization` header.
#[derive(Clone, PartialEq, Eq)]
pub enum Bearer {
    /// An API token of this deployment.
    Token(Token),
    /// Three parts in base64url between dots: authority judges what is in them.
    Jwt(String),
}

impl Bearer {
    /// Reads a bearer's text. `None`: it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(PREFIX) {
            return Token::parse(text).map(Self::Token);
        }
        let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let parts = text.split('.');
        let well_formed = text.len() <= JWT_BYTES_MAX
            && parts.clone().count() == 3
            && parts
                .into_iter()
                .all(|part| !part.is_empty() && part.bytes().all(base64url));
        well_formed.then(|| Self::Jwt(text.to_owned()))
    }

    /// The whole text: hand it to authority and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Token(token) => token.expose(),
            Self::Jwt(text) => text,
        }
    }

    /// What to remember it by.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.expose()).into()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => token.fmt(f),
            Self::Jwt(_) => f.write_str("Jwt"),
        }
    }
}

/// CRC-32 of IEEE 802.3, bit by bit: tokens are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_token_is_read_back_and_shows_no_secret() {
        let token = Token::generate().unwrap();
        let read = Token::parse(token.expose()).unwrap();
        assert_eq!(read, token);
        assert_eq!(read.id().len(), 16);
        let secret = &token.expose()[21..85];
        assert!(!format!("{token:?}").contains(secret));
    }

    #[test]
    fn a_bearer_is_a_token_or_three_parts_and_no_larger_than_it_may_be() {
        let token = Token::generate().unwrap();
        assert_eq!(
            Bearer::parse(token.expose()),
            Some(Bearer::Token(token.clone()))
        );
        let jwt = Bearer::parse("eyJh.eyJz.c2ln").unwrap();
        assert_eq!(format!("{jwt:?}"), "Jwt");
        let huge = format!("a.{}.c", "b".repeat(JWT_BYTES_MAX));
        let forged = token.expose().replace('_', ".");
        for text in [
            "", "a", "a.b", "a.b.c.d", "a..c", "a.b.", "a.b=.c", "a.b c.d", &huge, &forged,
        ] {
            assert!(
                !matches!(Bearer::parse(text), Some(Bearer::Token(_))),
                "{text}"
            );
        }
        assert_eq!(Bearer::parse(&huge), None);
        assert_eq!(Bearer::parse("a..c"), None);
        assert_eq!(Bearer::parse("a.b=.c"), None);
    }

    #[test]
    fn a_token_with_one_changed_character_is_none() {
        let token = Token::generate().unwrap();
        for position in 0..token.expose().len() {
            let mut changed = token.expose().as_bytes().to_vec();
            changed[position] = if changed[position] == b'0' {
                b'1'
            } else {
                b'0'
            };
            assert_eq!(Token::parse(std::str::from_utf8(&changed).unwrap()), None);
        }
        assert_eq!(Token::parse(""), None);
        assert_eq!(Token::parse(&token.expose().to_uppercase()), None);
    }
}
