//! Who acts on Counterfoil, and who of them may be accountable.

use counterfoil_evidence::leaf::is_same_identity;
pub(crate) use counterfoil_evidence::v1::{OrganizationKind, PrincipalKind};

use super::{
    Faults, RecordHash,
    ids::{OrganizationId, PrincipalId},
    text,
};

/// Roles that a principal of a tenant may have. None of them is a role of the deployment.
pub(crate) const ROLES: [&str; 4] = ["tenant-administrator", "reviewer", "operator", "auditor"];

/// An organisation that takes part in governing a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Organization {
    pub(crate) id: OrganizationId,
    pub(crate) kind: OrganizationKind,
    pub(crate) display_name: String,
}

/// Someone or something that acts on Counterfoil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) id: PrincipalId,
    pub(crate) kind: PrincipalKind,
    pub(crate) organization: OrganizationId,
    pub(crate) organization_kind: OrganizationKind,
    /// As sources know the identity; empty: it is no identity there.
    pub(crate) identity_key: String,
    /// Ascending, each of [`ROLES`].
    pub(crate) roles: Vec<String>,
    pub(crate) display_name: String,
    pub(crate) ended_at_ms: Option<i64>,
    /// Of the record that registered it.
    pub(crate) record_hash: RecordHash,
}

/// Why a principal cannot answer for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAccountable {
    /// There is none of that id.
    #[error("is unknown")]
    Unknown,
    /// It ended.
    #[error("has ended")]
    Ended,
    /// A service or an AI agent.
    #[error("is not a human")]
    NotHuman,
    /// Of a provider, a subcontractor, a vendor or an auditor.
    #[error("is not of the customer organisation")]
    NotCustomer,
}

impl Principal {
    /// Whether it has not ended.
    pub(crate) fn is_active(&self) -> bool {
        self.ended_at_ms.is_none()
    }

    /// Whether it was given this role.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|one| one == role)
    }

    /// Whether it is an active human of an organisation of this kind.
    pub(crate) fn is_active_human_of(&self, kind: OrganizationKind) -> bool {
        self.is_active() && self.kind == PrincipalKind::Human && self.organization_kind == kind
    }

    /// Whether both are the same human, or the same machine: two principals with one identity are no second pair of eyes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id || is_same_identity(&self.identity_key, &other.identity_key)
    }

    /// Whether it belongs to who works for the customer for hire.
    pub(crate) fn is_of_a_provider(&self) -> bool {
        matches!(
            self.organization_kind,
            OrganizationKind::Provider | OrganizationKind::Subcontractor
        )
    }

    /// Whether it may own outcomes and grant rights: an active human of the customer organisation (I-11, I-13).
    /// A provider may run the process; the customer stays accountable.
    pub(crate) fn require_accountable(&self) -> Result<(), NotAccountable> {
        if !self.is_active() {
            Err(NotAccountable::Ended)
        } else if self.kind != PrincipalKind::Human {
            Err(NotAccountable::NotHuman)
        } else if self.organization_kind != OrganizationKind::Customer {
            Err(NotAccountable::NotCustomer)
        } else {
            Ok(())
        }
    }
}

/// As [`Principal::require_accountable`], for a principal that may not be there.
pub(crate) fn require_accountable(principal: Option<&Principal>) -> Result<(), NotAccountable> {
    principal
        .ok_or(NotAccountable::Unknown)?
        .require_accountable()
}

/// Checks what a new principal is said to be, and sorts its roles.
pub(crate) fn check_new(
    kind: PrincipalKind,
    display_name: &str,
    identity_key: &str,
    roles: &[String],
) -> Result<Vec<String>, Faults> {
    let mut faults = Faults::default();
    let known = matches!(
        kind,
        PrincipalKind::Human | PrincipalKind::Service | PrincipalKind::AiAgent
    );
    faults.require(known, "kind", "must be HUMAN, SERVICE or AI_AGENT");
    faults.require(text::is_name(display_name), "display_name", text::NAME);
    faults.require(
        text::is_identity_key(identity_key),
        "identity_key",
        text::IDENTITY_KEY,
    );
    for role in roles {
        if !ROLES.contains(&role.as_str()) {
            let allowed = ROLES.join(", ");
            faults.add("roles", format!("{role:?} is not one of {allowed}"));
        }
    }
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    roles.dedup();
    faults.or(roles)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn customer_human(id: &str) -> Principal {
        Principal {
            id: PrincipalId::parse(id).unwrap(),
            kind: PrincipalKind::Human,
            organization: OrganizationId::parse("customer").unwrap(),
            organization_kind: OrganizationKind::Customer,
            identity_key: String::new(),
            roles: Vec::new(),
            display_name: id.to_owned(),
            ended_at_ms: None,
            record_hash: [1; 32],
        }
    }

    #[test]
    fn two_principals_of_one_identity_are_one_human() {
        let with = |id: &str, key: &str| Principal {
            identity_key: key.to_owned(),
            ..customer_human(id)
        };
        let ada = with("ada", "ada@corp.example");
        assert!(ada.is_same(&with("ada-again", "ada@corp.example")));
        assert!(ada.is_same(&with("ada", "ada.new@corp.example")));
        assert!(!ada.is_same(&with("ben", "ben@corp.example")));
        assert!(!with("ben", "").is_same(&with("cleo", "")), "who has none");
    }

    #[test]
    fn a12_only_an_active_human_of_the_customer_is_accountable() {
        assert_eq!(customer_human("ada").require_accountable(), Ok(()));
        for kind in [
            PrincipalKind::Service,
            PrincipalKind::AiAgent,
            PrincipalKind::System,
        ] {
            let other = Principal {
                kind,
                ..customer_human("bot")
            };
            assert_eq!(other.require_accountable(), Err(NotAccountable::NotHuman));
        }
        for organization_kind in [
            OrganizationKind::Provider,
            OrganizationKind::Subcontractor,
            OrganizationKind::Vendor,
            OrganizationKind::Auditor,
            OrganizationKind::Unspecified,
        ] {
            let other = Principal {
                organization_kind,
                ..customer_human("msp")
            };
            assert_eq!(
                other.require_accountable(),
                Err(NotAccountable::NotCustomer)
            );
        }
        let ended = Principal {
            ended_at_ms: Some(1),
            ..customer_human("ada")
        };
        assert_eq!(ended.require_accountable(), Err(NotAccountable::Ended));
    }

    #[test]
    fn a_role_of_the_deployment_is_none_of_a_tenant() {
        let roles = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            check_new(PrincipalKind::Human, "Ada", "", &names)
        };
        assert_eq!(
            roles(&["reviewer", "auditor", "reviewer"]).unwrap(),
            ["auditor", "reviewer"]
        );
        assert_eq!(roles(&[]).unwrap(), [""; 0]);
        for role in ["service", "administrator", "Reviewer", "root", ""] {
            assert!(roles(&["reviewer", role]).is_err(), "{role}");
        }
    }

    #[test]
    fn every_fault_of_a_new_principal_is_named() {
        let faults = check_new(PrincipalKind::System, "", " x", &["service".to_owned()]);
        let fields: Vec<String> = faults
            .unwrap_err()
            .into_pairs()
            .into_iter()
            .map(|(f, _)| f)
            .collect();
        assert_eq!(fields, ["kind", "display_name", "identity_key", "roles"]);
    }
}
