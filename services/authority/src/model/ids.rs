//! Ids of this service's things. Opaque: they stand in records.

use std::fmt;

/// What an id looks like.
pub(crate) const ID: &str = "must be 1 to 63 of a-z, 0-9 and inner '-'";

/// Whether a text is an id: as for tenants, 1 to 63 of a-z, 0-9 and inner '-'.
fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $collection:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(String);

        #[allow(dead_code, reason = "not every id needs every way in and out")]
        impl $name {
            /// Reads an id. `None`: it is none.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                is_id(text).then(|| Self(text.to_owned()))
            }

            /// An id that was read before and comes back from the database.
            pub(crate) fn stored(text: String) -> Self {
                Self(text)
            }

            /// The id alone.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }

            /// How records name it: without the tenant.
            pub(crate) fn in_records(&self) -> String {
                format!(concat!($collection, "/{}"), self.0)
            }

            /// Its name in the API.
            pub(crate) fn name(&self, tenant: &str) -> String {
                format!(concat!("tenants/{}/", $collection, "/{}"), tenant, self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// An organisation.
    OrganizationId "organizations";
    /// A principal.
    PrincipalId "principals";
    /// A business unit.
    BusinessUnitId "business-units";
    /// A decision right.
    RightId "decision-rights";
    /// An engagement of a customer with a provider.
    EngagementId "engagements";
    /// Evidence of competency.
    CompetencyId "competencies";
    /// A delegation.
    DelegationId "delegations";
    /// An access in an emergency.
    EmergencyId "emergencies";
    /// A mandate of an AI agent.
    MandateId "mandates";
    /// A legal hold.
    HoldId "legal-holds";
    /// A source, which inventory knows; its ids may have more characters.
    SourceId "sources";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_lower_case_and_clean() {
        for id in [
            "a",
            "acme",
            "0-9",
            &"x".repeat(63),
            "0190b6f4-7c1e-7000-8000-000000000000",
        ] {
            assert!(PrincipalId::parse(id).is_some(), "{id}");
        }
        for text in [
            "",
            "-a",
            "a-",
            "Acme",
            "a_b",
            "a/b",
            "\u{e4}",
            &"x".repeat(64),
        ] {
            assert!(PrincipalId::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn records_name_it_without_its_tenant() {
        let owner = PrincipalId::parse("ada").unwrap();
        assert_eq!(owner.in_records(), "principals/ada");
        assert_eq!(owner.name("acme"), "tenants/acme/principals/ada");
    }
}
