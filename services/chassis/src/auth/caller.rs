//! Who calls.

use std::sync::Arc;

use tonic::{Extensions, Request};

use crate::error::ApiError;

/// What a caller may be. `permissions.txt` says what each may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Another service of the deployment.
    Service,
    /// Administrator of the deployment: all tenants.
    Administrator,
    /// Administrator of one tenant.
    TenantAdministrator,
    /// Decides review items.
    Reviewer,
    /// Runs syncs, campaigns and remediation.
    Operator,
    /// Reads, and takes evidence away.
    Auditor,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 6] = [
        Self::Service,
        Self::Administrator,
        Self::TenantAdministrator,
        Self::Reviewer,
        Self::Operator,
        Self::Auditor,
    ];

    /// Its name in `permissions.txt` and in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Administrator => "administrator",
            Self::TenantAdministrator => "tenant-administrator",
            Self::Reviewer => "reviewer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The role that a principal of a tenant gets by this name: its "administrator" administers the tenant and no more, and
    /// none of them is a service. `None`: unknown, grants nothing.
    #[must_use]
    pub fn of_tenant(name: &str) -> Option<Self> {
        match name {
            "administrator" => Some(Self::TenantAdministrator),
            name => Self::named(name)
                .filter(|role| !matches!(role, Self::Service | Self::Administrator)),
        }
    }
}

/// On what somebody of a provider acts for a customer (see [`crate::operators`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActingOperator {
    /// Who: "tenants/{tenant}/principals/{principal}" of the provider's tenant.
    pub operator: String,
    /// "engagements/{engagement}".
    pub engagement: String,
    /// SHA-256 of the record of the assignment.
    pub assignment_hash: Vec<u8>,
    /// What they lack, as a code; empty: nothing.
    pub refusal: String,
    /// Until when this holds, milliseconds.
    pub until_ms: i64,
    /// When it was looked up, milliseconds.
    pub asked_at_ms: i64,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    principal: String,
    tenant: Option<String>,
    roles: Vec<Role>,
    /// Permissions that the credential is limited to; `None`: all that the roles hold.
    scopes: Option<Vec<String>>,
    operator: Option<Arc<ActingOperator>>,
    /// Roles to which the tenant's policy leaves these permissions only.
    narrowed: Vec<(Role, Vec<String>)>,
    /// Public id of the credential that was presented, and whether a certificate must come with it.
    credential: Option<(String, bool)>,
}

impl Caller {
    /// Someone of the deployment: "services/{service}" or "operators/{operator}". All tenants.
    #[must_use]
    pub fn of_deployment(principal: impl Into<String>, roles: impl Into<Vec<Role>>) -> Self {
        Self {
            principal: principal.into(),
            tenant: None,
            roles: roles.into(),
            scopes: None,
            operator: None,
            narrowed: Vec::new(),
            credential: None,
        }
    }

    /// A principal of a tenant, with the roles' names as authority gives them.
    #[must_use]
    pub fn of_tenant<'a>(
        tenant: &str,
        principal: &str,
        roles: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            principal: format!("tenants/{tenant}/principals/{principal}"),
            tenant: Some(tenant.to_owned()),
            roles: roles.into_iter().filter_map(Role::of_tenant).collect(),
            scopes: None,
            operator: None,
            narrowed: Vec::new(),
            credential: None,
        }
    }

    /// The same caller, with a credential that is limited to these permissions; with none, it is not limited.
    #[must_use]
    pub fn limited_to(mut self, scopes: Vec<String>) -> Self {
        self.scopes = (!scopes.is_empty()).then_some(scopes);
        self
    }

    /// The same caller, where the tenant's policy leaves only these permissions to these roles, by their names.
    #[must_use]
    pub fn narrowed_to<'a>(
        mut self,
        kept: impl IntoIterator<Item = (&'a str, Vec<String>)>,
    ) -> Self {
        let kept = kept.into_iter();
        self.narrowed = kept
            .filter_map(|(role, permissions)| Some((Role::of_tenant(role)?, permissions)))
            .collect();
        self
    }

    /// Whether the tenant's policy leaves the permission to the role. Whether the role holds it is another question.
    #[must_use]
    pub fn keeps(&self, role: Role, permission: &str) -> bool {
        let kept = self.narrowed.iter().find(|(narrowed, _)| *narrowed == role);
        kept.is_none_or(|(_, kept)| kept.iter().any(|one| one == permission))
    }

    /// The same caller, who has presented the credential with this public id; `bound`: a certificate must come with it.
    #[must_use]
    pub fn presenting(mut self, credential: impl Into<String>, bound: bool) -> Self {
        self.credential = Some((credential.into(), bound));
        self
    }

    /// Public id of the credential that a principal of a tenant has presented itself. Only authority knows it; `None`
    /// elsewhere, for the deployment, and for whoever acts for a customer.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_ref().map(|(id, _)| id.as_str())
    }

    /// Whether the credential is nothing without a certificate.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.credential.as_ref().is_some_and(|(_, bound)| *bound)
    }

    /// Permissions that the credential is limited to; `None`: it is not limited.
    #[must_use]
    pub fn scopes(&self) -> Option<&[String]> {
        self.scopes.as_deref()
    }

    /// Whether the credential covers the permission. What the roles hold is another question.
    #[must_use]
    pub fn covers(&self, permission: &str) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.iter().any(|scope| scope == permission))
    }

    /// As whom somebody of a provider acts who calls as this caller. What limits the credential limits it there too.
    #[must_use]
    pub fn acting_as<'a>(
        &self,
        tenant: &str,
        principal: &str,
        roles: impl IntoIterator<Item = &'a str>,
        operator: ActingOperator,
    ) -> Self {
        Self {
            scopes: self.scopes.clone(),
            operator: Some(Arc::new(operator)),
            ..Self::of_tenant(tenant, principal, roles)
        }
    }

    /// Who of a provider acts as this principal, and on what; `None`: the principal itself calls.
    #[must_use]
    pub fn operator(&self) -> Option<&ActingOperator> {
        self.operator.as_deref()
    }

    /// The caller of a request that came through the gate.
    ///
    /// # Errors
    /// UNAUTHENTICATED when it did not.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, ApiError> {
        Self::in_extensions(request.extensions())
    }

    /// As [`Self::of`], when the request has been taken apart.
    ///
    /// # Errors
    /// UNAUTHENTICATED when it did not come through the gate.
    pub fn in_extensions(extensions: &Extensions) -> Result<&Self, ApiError> {
        extensions.get().ok_or_else(ApiError::unauthenticated)
    }

    /// "services/{service}", "operators/{operator}" or "tenants/{tenant}/principals/{principal}".
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The tenant it is bound to; `None`: someone of the deployment.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Its roles.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Whether it has this role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// How records name it: "principals/{principal}", "services/{service}" or "operators/{operator}".
    #[must_use]
    pub fn actor(&self) -> &str {
        match &self.tenant {
            None => &self.principal,
            Some(tenant) => self
                .principal
                .strip_prefix("tenants/")
                .and_then(|rest| rest.strip_prefix(tenant.as_str()))
                .and_then(|rest| rest.strip_prefix('/'))
                .unwrap_or(&self.principal),
        }
    }

    /// Refuses what belongs to another tenant than the caller, as if it did not exist.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn require_tenant(&self, tenant: &str) -> Result<(), ApiError> {
        #[cfg(feature = "testing")]
        if crate::testing::tenant_filter_is_off() {
            return Ok(());
        }
        match &self.tenant {
            Some(own) if own != tenant => Err(ApiError::not_found()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_administrator_is_none_of_the_deployment() {
        let caller = Caller::of_tenant("acme", "p1", ["administrator", "service", "root"]);
        assert_eq!(caller.roles(), [Role::TenantAdministrator]);
        assert_eq!(caller.principal(), "tenants/acme/principals/p1");
        assert_eq!(caller.actor(), "principals/p1");
    }

    #[test]
    fn another_tenant_does_not_exist_for_a_tenants_principal() {
        let caller = Caller::of_tenant("acme", "p1", ["auditor"]);
        assert!(caller.require_tenant("acme").is_ok());
        let refused = tonic::Status::from(caller.require_tenant("beta").unwrap_err());
        let missing = tonic::Status::from(ApiError::not_found());
        assert_eq!(refused.details(), missing.details());
        let service = Caller::of_deployment("services/inventory", [Role::Service]);
        assert!(service.require_tenant("beta").is_ok());
        assert_eq!(service.actor(), "services/inventory");
    }
}
