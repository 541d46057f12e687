//! What a tenant needs before anything is governed (A13, I-17).
//!
//! Invariant: a requirement is met by a record, and the activation cites that record. What leaves no record of its own (an
//! organisation) counts by the record of who acts for it.

use std::collections::BTreeMap;

use counterfoil_evidence::v1::GateResult;

use super::RecordHash;

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
}

impl Requirement {
    /// All of them, in the order of onboarding.
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
        }
    }

    /// What is said while it is missing.
    pub(crate) const fn missing(self) -> &'static str {
        match self {
            Self::CustomerOrganization => "no active principal of a customer organisation",
            Self::ProviderOrganization => "no active principal of a provider organisation",
            Self::BusinessUnitOwner => "no business unit with an accountable owner",
            Self::RightToReview => "nobody has a decision right to REVIEW that is valid now",
            Self::RightToRemediate => "nobody has a decision right to REMEDIATE that is valid now",
            Self::RightToCertify => "nobody has a decision right to CERTIFY that is valid now",
            Self::EscalationPath => "no escalation path whose last resort is active",
            Self::RetentionPolicy => "no retention policy for the class \"governance\"",
            Self::PolicyBundle => "no policy bundle is in force",
        }
    }
}

/// The requirements that are met, each by a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Met(BTreeMap<Requirement, RecordHash>);

impl Met {
    /// Notes the record that meets a requirement, if there is one.
    pub(crate) fn by(&mut self, requirement: Requirement, record: Option<RecordHash>) {
        if let Some(record) = record {
            self.0.insert(requirement, record);
        }
    }

    /// What is missing, in the order of onboarding.
    pub(crate) fn missing(&self) -> Vec<Requirement> {
        let all = Requirement::ALL.into_iter();
        all.filter(|one| !self.0.contains_key(one)).collect()
    }

    /// What the activation cites; `Err`: what is missing.
    pub(crate) fn results(&self) -> Result<Vec<GateResult>, Vec<Requirement>> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(missing);
        }
        let results = self.0.iter().map(|(requirement, record)| GateResult {
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
        let mut codes: Vec<&str> = Requirement::ALL.map(Requirement::code).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Requirement::ALL.len());
    }
}
