//! Names as records have them: without the tenant, which the log itself stands for.

use std::fmt;

/// "principals/{principal}" of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Principal(String);

impl Principal {
    /// From "tenants/{tenant}/principals/{principal}"; `None`: it is no principal of that tenant.
    pub(crate) fn of_tenant(tenant: &str, name: &str) -> Option<Self> {
        let local = name
            .strip_prefix("tenants/")?
            .strip_prefix(tenant)?
            .strip_prefix('/')?;
        let id = local.strip_prefix("principals/")?;
        (!id.is_empty() && !id.contains('/')).then(|| Self(local.to_owned()))
    }

    /// From "principals/{principal}" as it is stored.
    pub(crate) fn stored(local: String) -> Self {
        Self(local)
    }

    /// "principals/{principal}".
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// "tenants/{tenant}/principals/{principal}".
    pub(crate) fn full(&self, tenant: &str) -> String {
        format!("tenants/{tenant}/{}", self.0)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A remediation of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RemediationKey {
    /// Bare id.
    pub(crate) tenant: String,
    /// Bare id.
    pub(crate) remediation: String,
}

impl fmt::Display for RemediationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tenants/{}/remediations/{}",
            self.tenant, self.remediation
        )
    }
}

/// What comes after "tenants/{tenant}/", when the name is of that tenant.
pub(crate) fn local_name(tenant: &str, name: &str) -> Option<String> {
    let local = name
        .strip_prefix("tenants/")?
        .strip_prefix(tenant)?
        .strip_prefix('/')?;
    Some(local.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_of_another_tenant_is_none() {
        let name = "tenants/acme/principals/amy";
        assert_eq!(
            Principal::of_tenant("acme", name).unwrap().full("acme"),
            name
        );
        assert!(Principal::of_tenant("ac", name).is_none());
        assert!(Principal::of_tenant("acme", "services/inventory").is_none());
        assert!(Principal::of_tenant("acme", "tenants/acme/principals/").is_none());
    }
}
