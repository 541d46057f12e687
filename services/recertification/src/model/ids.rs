//! Names within one tenant, as records carry them: "principals/{principal}", "sources/{source}", "campaigns/{campaign}".
//!
//! Invariant: a name here never carries the tenant; the API adds `tenants/{tenant}/` on the way out and takes it off on the
//! way in, and refuses a name of another tenant there.

use std::fmt;

macro_rules! local_name {
    ($(#[$doc:meta])* $name:ident $collection:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(String);

        #[allow(dead_code, reason = "not every name needs every way in and out")]
        impl $name {
            /// The name of the resource with this id.
            pub(crate) fn of_id(id: &str) -> Self {
                Self(format!(concat!($collection, "/{}"), id))
            }

            /// Takes a name that was made by [`Self::of_id`] and stored.
            pub(crate) fn stored(name: String) -> Self {
                Self(name)
            }

            /// Reads "tenants/{tenant}/..." of this tenant; `None` for anything else.
            pub(crate) fn of_tenant(tenant: &str, full: &str) -> Option<Self> {
                let id = full
                    .strip_prefix("tenants/")?
                    .strip_prefix(tenant)?
                    .strip_prefix(concat!("/", $collection, "/"))?;
                (!id.is_empty() && !id.contains('/')).then(|| Self::of_id(id))
            }

            /// The name with its tenant.
            pub(crate) fn full(&self, tenant: &str) -> String {
                format!("tenants/{tenant}/{}", self.0)
            }

            /// The name as records carry it.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

local_name! {
    /// "principals/{principal}".
    Principal "principals"
}
local_name! {
    /// "sources/{source}".
    Source "sources"
}
local_name! {
    /// "snapshots/{snapshot}".
    Snapshot "snapshots"
}
local_name! {
    /// "syncs/{sync}".
    Sync "syncs"
}

/// A campaign of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CampaignKey {
    /// Id of the tenant.
    pub(crate) tenant: String,
    /// Id of the campaign.
    pub(crate) campaign: String,
}

impl CampaignKey {
    /// "campaigns/{campaign}", as records carry it.
    pub(crate) fn local(&self) -> String {
        format!("campaigns/{}", self.campaign)
    }

    /// "tenants/{tenant}/campaigns/{campaign}".
    pub(crate) fn full(&self) -> String {
        format!("tenants/{}/campaigns/{}", self.tenant, self.campaign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_tenant_is_none_of_ours() {
        let ours = "tenants/acme/principals/ann";
        assert_eq!(
            Principal::of_tenant("acme", ours).map(|name| name.full("acme")),
            Some(ours.to_owned())
        );
        for other in [
            "tenants/acme2/principals/ann",
            "tenants/acm/principals/ann",
            "tenants/acme/principals/",
            "tenants/acme/principals/ann/x",
            "tenants/acme/sources/ann",
            "principals/ann",
            "",
        ] {
            assert_eq!(Principal::of_tenant("acme", other), None, "{other}");
        }
    }
}
