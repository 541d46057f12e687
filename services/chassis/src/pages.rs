//! Keyset pages: `page_size` and `page_token` in, `next_page_token` out.
//!
//! Invariant: a token is good for the method, the tenant and the arguments it was made for, and for nothing else. What it
//! holds is only a position: the tenant always comes from the request that was authorised, never from a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::ApiError;

/// Page size when the caller names none.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// Largest page.
pub const PAGE_SIZE_MAX: u32 = 1000;

const TAG_BYTES: usize = 16;

/// Makes and reads page tokens with a key of the service, the same in all its replicas.
#[derive(Clone)]
pub struct Pages {
    key: [u8; 32],
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

/// Which page is asked for.
#[derive(Debug, Clone)]
pub struct Page {
    /// How many rows to answer, 1 to 1,000. Read one more to know whether there is a next page.
    pub size: u32,
    /// Answer what comes after this position; `None` = from the start.
    pub after: Option<Vec<u8>>,
    pages: Pages,
    binding: [u8; 32],
}

impl Pages {
    /// From a secret of the service.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let key = Sha256::new()
            .chain_update(b"counterfoil-page/v1\0")
            .chain_update(secret)
            .finalize()
            .into();
        Self { key }
    }

    /// Reads the page fields of a request. `scope` is all that the list depends on: method, tenant, filters, order.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a negative size, or for a token that was not made by this list.
    pub fn open(&self, page_size: i32, page_token: &str, scope: &[&str]) -> Result<Page, ApiError> {
        let asked = u32::try_from(page_size)
            .map_err(|_| ApiError::invalid("page_size", "must not be negative"))?;
        let size = if asked == 0 {
            PAGE_SIZE_DEFAULT
        } else {
            asked.min(PAGE_SIZE_MAX)
        };
        let binding = binding(scope);
        let after = if page_token.is_empty() {
            None
        } else {
            let refused = || ApiError::invalid("page_token", "is not a token of this list");
            Some(self.read(page_token, &binding).ok_or_else(refused)?)
        };
        Ok(Page {
            size,
            after,
            pages: self.clone(),
            binding,
        })
    }

    fn read(&self, token: &str, binding: &[u8; 32]) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, position) = bytes.split_at_checked(TAG_BYTES)?;
        let good: bool = self.tag(binding, position).ct_eq(tag).into();
        good.then(|| position.to_vec())
    }

    fn tag(&self, binding: &[u8; 32], position: &[u8]) -> [u8; TAG_BYTES] {
        // The inner hash has a fixed length, so the keyed outer one cannot be extended.
        let inner = Sha256::new()
            .chain_update(binding)
            .chain_update(position)
            .finalize();
        let outer = Sha256::new()
            .chain_update(self.key)
            .chain_update(inner)
            .finalize();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&outer[..TAG_BYTES]);
        tag
    }
}

impl Page {
    /// The token of the page after `position`, the key of the last row answered.
    #[must_use]
    pub fn next_token(&self, position: &[u8]) -> String {
        let tag = self.pages.tag(&self.binding, position);
        URL_SAFE_NO_PAD.encode([&tag, position].concat())
    }

    /// [`Self::after`] as text.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when it is not text.
    pub fn after_text(&self) -> Result<Option<&str>, ApiError> {
        self.after
            .as_deref()
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|_| ApiError::invalid("page_token", "is not a token of this list"))
    }

    /// Cuts `rows`, of which one more than [`Self::size`] was read, and tells the next token; `position` is a row's key.
    #[must_use]
    pub fn cut<T>(&self, rows: &mut Vec<T>, position: impl FnOnce(&T) -> Vec<u8>) -> String {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last()
            .map(|last| self.next_token(&position(last)))
            .unwrap_or_default()
    }
}

fn binding(scope: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in scope {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &[&str] = &["ListGrants", "acme", "source=hr"];

    #[test]
    fn a_token_brings_back_its_position() {
        let pages = Pages::new(b"secret");
        let first = pages.open(0, "", SCOPE).unwrap();
        assert_eq!((first.size, first.after.clone()), (50, None));
        let mut rows: Vec<u8> = (0..51).collect();
        let token = first.cut(&mut rows, |row| vec![*row]);
        assert_eq!(rows.len(), 50);
        let second = pages.open(5000, &token, SCOPE).unwrap();
        assert_eq!((second.size, second.after.clone()), (1000, Some(vec![49])));
        assert_eq!(second.cut(&mut vec![1, 2], |row| vec![*row]), "");
    }

    #[test]
    fn a_token_is_refused_for_any_other_list_and_after_any_change() {
        let pages = Pages::new(b"secret");
        let token = pages.open(0, "", SCOPE).unwrap().next_token(b"row 7");
        let refused = |pages: &Pages, token: &str, scope: &[&str]| {
            pages.open(0, token, scope).unwrap_err().code() == tonic::Code::InvalidArgument
        };
        assert!(refused(
            &pages,
            &token,
            &["ListGrants", "beta", "source=hr"]
        ));
        assert!(refused(
            &pages,
            &token,
            &["ListGrants", "acmesource=hr", ""]
        ));
        assert!(refused(&Pages::new(b"other"), &token, SCOPE));
        assert!(refused(&pages, "AAAA", SCOPE));
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' {
                b'B'
            } else {
                b'A'
            };
            assert!(refused(
                &pages,
                std::str::from_utf8(&changed).unwrap(),
                SCOPE
            ));
        }
    }

    #[test]
    fn a_negative_page_size_is_refused() {
        assert!(Pages::new(b"secret").open(-1, "", SCOPE).is_err());
    }
}
