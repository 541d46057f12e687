//! What a tenant needs before anything is governed (A13, I-17).
//!
//! Invariant: a requirement is met by a record, and the activation cites that record. What leaves no record of its own (an
//! organisation) counts by the record of who acts for it.

use std::collections::{BTreeMap, BTreeSet};

use counterfoil_evidence::v1::GateResult;

use super::{RecordHash, tenant::TenantKind};

/// One requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Requirement {
    CustomerOrganization,
    ProviderOrganization,
    BusinessUnitOwner,
    RightToReview,
    RightToRemediate,
    RightToCertify,
    EscalationPath,
    RetentionPolicy,
    PolicyBundle,
    ResponsibilityOnboarding,
    ResponsibilityAccessDesign,
    ResponsibilityOffboarding,
    ProviderAdministrator,
}

impl Requirement {
    /// Those of every customer, in the order of onboarding.
    pub(crate) const ALL: [Self; 9] = [
        Self::CustomerOrganization,
        Self::ProviderOrganization,
        Self::BusinessUnitOwner,
        Self::RightToReview,
        Self::RightToRemediate,
        Self::RightToCertify,
        Self::EscalationPath,
        Self::RetentionPolicy,
        Self::PolicyBundle,
    ];
    /// Those of a customer with a live engagement, beside [`Self::ALL`] (B16).
    pub(crate) const ENGAGED: [Self; 3] = [
        Self::ResponsibilityOnboarding,
        Self::ResponsibilityAccessDesign,
        Self::ResponsibilityOffboarding,
    ];
    /// That of a provider's own tenant, which governs nothing.
    pub(crate) const PROVIDER: [Self; 1] = [Self::ProviderAdministrator];

    /// Those of a tenant that is new.
    pub(crate) const fn of(kind: TenantKind) -> &'static [Self] {
        match kind {
            TenantKind::Provider => &Self::PROVIDER,
            TenantKind::Customer | TenantKind::Unspecified => &Self::ALL,
        }
    }

    /// Its name in records and answers.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::CustomerOrganization => "customer_organization",
            Self::ProviderOrganization => "provider_organization",
            Self::BusinessUnitOwner => "business_unit_owner",
            Self::RightToReview => "decision_rights.review",
            Self::RightToRemediate => "decision_rights.remediate",
            Self::RightToCertify => "decision_rights.certify",
            Self::EscalationPath => "escalation_path",
            Self::RetentionPolicy => "retention_policy",
            Self::PolicyBundle => "policy_bundle",
            Self::ResponsibilityOnboarding => "responsibilities.onboarding",
            Self::ResponsibilityAccessDesign => "responsibilities.access_design",
            Self::ResponsibilityOffboarding => "responsibilities.offboarding",
            Self::ProviderAdministrator => "provider_administrator",
        }
    }

    /// What is said while it is missing.
    pub(crate) const fn missing(self) -> &'static str {
        match self {
            Self::CustomerOrganization => "no active principal of a customer organisation",
            Self::ProviderOrganization => "no active principal of a provider organisation",
            Self::BusinessUnitOwner => {
                "no business unit, or one without an accountable owner and a deputy"
            }
            Self::RightToReview => "nobody has a decision right to REVIEW that is valid now",
            Self::RightToRemediate => "nobody has a decision right to REMEDIATE that is valid now",
            Self::RightToCertify => "nobody has a decision right to CERTIFY that is valid now",
            Self::EscalationPath => "no escalation path whose last resort is active",
            Self::RetentionPolicy => "no retention policy for the class \"governance\"",
            Self::PolicyBundle => "no policy bundle is in force",
            Self::ResponsibilityOnboarding => "nobody answers for onboarding",
            Self::ResponsibilityAccessDesign => "nobody answers for access_design",
            Self::ResponsibilityOffboarding => "nobody answers for offboarding",
            Self::ProviderAdministrator => {
                "no active human of a provider organisation administers the tenant"
            }
        }
    }
}

/// The requirements of a tenant, and which of them are met, each by a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Met {
    required: BTreeSet<Requirement>,
    by: BTreeMap<Requirement, RecordHash>,
}

impl Default for Met {
    fn default() -> Self {
        Self::requiring(&Requirement::ALL)
    }
}

impl Met {
    /// Nothing is met yet.
    pub(crate) fn requiring(required: &[Requirement]) -> Self {
        Self {
            required: required.iter().copied().collect(),
            by: BTreeMap::new(),
        }
    }

    /// Asks for these too.
    pub(crate) fn require(&mut self, more: &[Requirement]) {
        self.required.extend(more);
    }

    /// Notes the record that meets a requirement, if there is one.
    pub(crate) fn by(&mut self, requirement: Requirement, record: Option<RecordHash>) {
        if let Some(record) = record {
            self.by.insert(requirement, record);
        }
    }

    /// What is missing, in the order of onboarding.
    pub(crate) fn missing(&self) -> Vec<Requirement> {
        let all = self.required.iter().copied();
        all.filter(|one| !self.by.contains_key(one)).collect()
    }

    /// What the activation cites; `Err`: what is missing.
    pub(crate) fn results(&self) -> Result<Vec<GateResult>, Vec<Requirement>> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(missing);
        }
        let results = self.by.iter().map(|(requirement, record)| GateResult {
            requirement: requirement.code().to_owned(),
            record_hash: record.to_vec(),
        });
        Ok(results.collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a13_the_gate_opens_only_with_everything_and_lists_all_that_is_missing(
            there in prop::collection::vec(any::<bool>(), 9),
        ) {
            let mut met = Met::default();
            for (requirement, there) in Requirement::ALL.into_iter().zip(&there) {
                met.by(requirement, there.then_some([7; 32]));
            }
            let absent: Vec<Requirement> = Requirement::ALL
                .into_iter()
                .zip(&there)
                .filter_map(|(requirement, there)| (!there).then_some(requirement))
                .collect();
            match met.results() {
                Ok(results) => {
                    prop_assert!(absent.is_empty());
                    prop_assert_eq!(results.len(), Requirement::ALL.len());
                }
                Err(missing) => prop_assert_eq!(missing, absent),
            }
        }
    }

    #[test]
    fn every_requirement_has_a_name_of_its_own() {
        let all = [
            &Requirement::ALL[..],
            &Requirement::ENGAGED,
            &Requirement::PROVIDER,
        ]
        .concat();
        let mut codes: Vec<&str> = all.iter().map(|one| one.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all.len());
    }
}
