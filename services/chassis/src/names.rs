//! Resource names: `tenants/{tenant}/campaigns/{campaign}`.
//!
//! Invariant: a name that parses prints as the same text. Ids hold nothing that needs escaping in a URL, a path or a log line.

use std::fmt;

use crate::error::ApiError;

/// Longest id in characters.
pub const ID_CHARS_MAX: usize = 128;

/// Why a text is not the name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The collections are not the ones expected.
    #[error("must look like {0}")]
    Pattern(&'static str),
    /// An id is empty, too long or has a character that ids do not have.
    #[error(
        "has a malformed id {0:?}: 1 to 128 of A-Z, a-z, 0-9, '.', '_', '~' and '-' are allowed"
    )]
    Id(String),
    /// The id of a tenant is malformed.
    #[error("has a malformed tenant id {0:?}: 1 to 63 of a-z, 0-9 and inner '-' are allowed")]
    TenantId(String),
}

impl NameError {
    /// The error as the caller of the API gets it.
    #[must_use]
    pub fn in_field(&self, field: &str) -> ApiError {
        ApiError::invalid(field, self.to_string())
    }
}

/// Checks an id of anything but a tenant.
///
/// # Errors
/// [`NameError::Id`].
pub fn check_id(id: &str) -> Result<(), NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    // "." and ".." would change meaning in a path.
    if id.is_empty()
        || id.len() > ID_CHARS_MAX
        || !id.bytes().all(allowed)
        || id.bytes().all(|byte| byte == b'.')
    {
        return Err(NameError::Id(id.chars().take(ID_CHARS_MAX).collect()));
    }
    Ok(())
}

/// Checks the id of a tenant: 1 to 63 of a-z, 0-9 and '-', not at an end.
///
/// # Errors
/// [`NameError::TenantId`].
pub fn check_tenant_id(id: &str) -> Result<(), NameError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.is_empty()
        || id.len() > 63
        || !id.bytes().all(allowed)
        || id.starts_with('-')
        || id.ends_with('-')
    {
        return Err(NameError::TenantId(id.chars().take(63).collect()));
    }
    Ok(())
}

/// Splits `name` into the ids of `collections`, the first of which is "tenants" in every name of the API.
///
/// # Errors
/// [`NameError`]; `pattern` is what a good name looks like.
pub fn split<const N: usize>(
    name: &str,
    collections: [&str; N],
    pattern: &'static str,
) -> Result<[String; N], NameError> {
    let mut parts = name.split('/');
    let mut ids = [const { String::new() }; N];
    for (collection, id) in collections.iter().zip(&mut ids) {
        if parts.next() != Some(collection) {
            return Err(NameError::Pattern(pattern));
        }
        let found = parts.next().ok_or(NameError::Pattern(pattern))?;
        if *collection == "tenants" {
            check_tenant_id(found)?;
        } else {
            check_id(found)?;
        }
        *id = found.to_owned();
    }
    match parts.next() {
        None => Ok(ids),
        Some(_) => Err(NameError::Pattern(pattern)),
    }
}

/// Defines the typed name of a resource.
///
/// ```
/// counterfoil_chassis::resource_name! {
///     /// "tenants/{tenant}/campaigns/{campaign}".
///     pub struct CampaignName { tenant: "tenants", campaign: "campaigns" }
/// }
/// let name = CampaignName::parse("tenants/acme/campaigns/2026-q4").unwrap();
/// assert_eq!((name.tenant.as_str(), name.campaign.as_str()), ("acme", "2026-q4"));
/// assert_eq!(name.to_string(), "tenants/acme/campaigns/2026-q4");
/// // In an api method: `CampaignName::parse_field("name", &request.name)?` answers INVALID_ARGUMENT for the field.
/// ```
#[macro_export]
macro_rules! resource_name {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($field:ident : $collection:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name {
            $(#[doc = concat!("Id in \"", $collection, "\".")] pub $field: String,)+
        }

        #[allow(dead_code, reason = "not every name needs every way in")]
        impl $name {
            /// What a good name looks like.
            pub const PATTERN: &'static str =
                $crate::resource_name!(@join "" $($collection "/{" stringify!($field) "}")+);

            /// Reads a name.
            ///
            /// # Errors
            /// When the text is not such a name.
            pub fn parse(name: &str) -> Result<Self, $crate::names::NameError> {
                let [$($field),+] =
                    $crate::names::split(name, [$($collection),+], Self::PATTERN)?;
                Ok(Self { $($field),+ })
            }

            /// Reads a name that stands in `field` of a request.
            ///
            /// # Errors
            /// INVALID_ARGUMENT for the field.
            pub fn parse_field(field: &str, name: &str) -> Result<Self, $crate::error::ApiError> {
                Self::parse(name).map_err(|error| error.in_field(field))
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let mut separator = "";
                $(
                    write!(f, "{separator}{}/{}", $collection, self.$field)?;
                    separator = "/";
                )+
                let _ = separator;
                Ok(())
            }
        }
    };
    (@join $lead:literal $first:literal $open:literal stringify!($field:ident) $close:literal $($rest:tt)*) => {
        concat!($lead, $first, $open, stringify!($field), $close, $crate::resource_name!(@tail $($rest)*))
    };
    (@tail) => { "" };
    (@tail $($rest:tt)+) => { $crate::resource_name!(@join "/" $($rest)+) };
}

resource_name! {
    /// "tenants/{tenant}".
    pub struct TenantName { tenant: "tenants" }
}

resource_name! {
    /// "tenants/{tenant}/principals/{principal}".
    pub struct PrincipalName { tenant: "tenants", principal: "principals" }
}

/// Reads the tenant id out of a `tenant` field.
///
/// # Errors
/// INVALID_ARGUMENT for the field "tenant".
pub fn tenant_field(name: &str) -> Result<String, ApiError> {
    TenantName::parse_field("tenant", name).map(|name| name.tenant)
}

/// A new id: a UUIDv7, whose text sorts by time.
#[must_use]
pub fn new_id(now_ms: i64) -> String {
    uuid_v7(now_ms).as_hyphenated().to_string()
}

/// A UUIDv7 at a time of the caller's clock.
#[must_use]
pub fn uuid_v7(now_ms: i64) -> uuid::Uuid {
    let [a, b, c, d, e, f, g, h, i, j, ..] = *uuid::Uuid::new_v4().as_bytes();
    let random = [a, b, c, d, e, f, g, h, i, j];
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now_ms).unwrap_or(0), &random)
        .into_uuid()
}

/// Shows `tenants/{tenant}`.
#[must_use]
pub fn tenant_name(tenant: &str) -> impl fmt::Display + use<'_> {
    fmt::from_fn(move |f| write!(f, "tenants/{tenant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_prints_as_it_was_read() {
        let text = "tenants/acme/principals/0190b6f4-7c1e-7000-8000-000000000000";
        let name = PrincipalName::parse(text).unwrap();
        assert_eq!(name.tenant, "acme");
        assert_eq!(name.to_string(), text);
        assert_eq!(
            PrincipalName::PATTERN,
            "tenants/{tenant}/principals/{principal}"
        );
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in [
            "",
            "tenants",
            "tenants/",
            "tenants/acme",
            "tenants/acme/principals",
            "tenants/acme/principals/",
            "tenants/acme/principals/..",
            "tenants/acme/principals/a b",
            "tenants/acme/principals/a/b",
            "tenants/acme/campaigns/a",
            "tenants/Acme/principals/a",
            "tenants/-acme/principals/a",
            "/tenants/acme/principals/a",
            "tenants/acme/principals/\u{fc}",
        ] {
            assert!(PrincipalName::parse(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn ids_sort_by_their_time() {
        assert!(new_id(1_700_000_000_000) < new_id(1_700_000_000_001));
    }
}
