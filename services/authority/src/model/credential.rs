//! With what somebody may act as a principal, and who may give it to them.

use super::{
    Faults,
    principal::{OrganizationKind, Principal, PrincipalKind},
    tenant::TenantKind,
};

pub(crate) use counterfoil_evidence::v1::CredentialKind;

/// Life of a token in seconds.
const TTL_SECONDS: std::ops::RangeInclusive<i64> = 60..=31_536_000;
const TTL_SECONDS_DEFAULT: i64 = 86_400;
/// Most scopes of one token.
const SCOPES_MAX: usize = 64;
/// How long after the activation of a tenant what the deployment issued in it ends, milliseconds. I-81 counts the same.
pub(crate) const HAND_OVER_MS: i64 = 86_400_000;
/// A login has no end: what makes one was to live this long at least, milliseconds.
const TERM_OF_LINKER_MIN_MS: i64 = 86_400_000;
/// Longest subject in bytes: OpenID Connect's own limit.
const SUBJECT_BYTES_MAX: usize = 255;

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenTerms {
    pub(crate) ttl_ms: i64,
    /// Ascending, each a permission; empty: all of the roles.
    pub(crate) scopes: Vec<String>,
    pub(crate) certificate_sha256: Option<[u8; 32]>,
}

impl TokenTerms {
    /// Reads what is asked for. `known`: whether there is such a permission.
    pub(crate) fn read(
        ttl_seconds: i64,
        scopes: &[String],
        certificate_sha256: &[u8],
        known: impl Fn(&str) -> bool,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let ttl_seconds = match ttl_seconds {
            0 => TTL_SECONDS_DEFAULT,
            seconds => seconds,
        };
        faults.require(
            TTL_SECONDS.contains(&ttl_seconds),
            "ttl_seconds",
            "must be 60 to 31,536,000, or 0",
        );
        faults.require(
            scopes.len() <= SCOPES_MAX,
            "scopes",
            "has at most 64 entries",
        );
        for scope in scopes.iter().take(SCOPES_MAX).filter(|scope| !known(scope)) {
            faults.add("scopes", format!("{scope:?} is no permission"));
        }
        let certificate_sha256 = match certificate_sha256.len() {
            0 => None,
            _ => {
                let hash = <[u8; 32]>::try_from(certificate_sha256).ok();
                faults.require(
                    hash.is_some(),
                    "certificate_sha256",
                    "must have 32 bytes, or none",
                );
                hash
            }
        };
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        faults.or(Self {
            ttl_ms: ttl_seconds.saturating_mul(1_000),
            scopes,
            certificate_sha256,
        })
    }
}

/// The credential that whoever issues another has presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) id: String,
    /// How long it was to live when it was issued; `None`: it is a login, and has no end.
    pub(crate) term_ms: Option<i64>,
    /// What it is limited to; empty: all of the roles.
    pub(crate) scopes: Vec<String>,
    /// Whether a certificate must come with it.
    pub(crate) bound: bool,
}

/// By what another credential would be stronger than the one that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stronger {
    /// It may do more.
    Scopes,
    /// It needs no certificate.
    Unbound,
    /// It lives longer.
    Term,
}

impl Own {
    /// A credential makes no token that is stronger than it is. How long it still lives does not count, or nobody could ever
    /// follow upon what ends.
    pub(crate) fn may_issue(&self, terms: &TokenTerms) -> Result<(), Stronger> {
        let own = &self.scopes;
        let within = own.is_empty()
            || (!terms.scopes.is_empty() && terms.scopes.iter().all(|scope| own.contains(scope)));
        if !within {
            return Err(Stronger::Scopes);
        }
        if self.bound && terms.certificate_sha256.is_none() {
            return Err(Stronger::Unbound);
        }
        match self.term_ms {
            Some(term_ms) if term_ms < terms.ttl_ms => Err(Stronger::Term),
            _ => Ok(()),
        }
    }

    /// A login has all that the roles hold, no end, and comes without a certificate of ours.
    pub(crate) fn may_link(&self) -> Result<(), Stronger> {
        if !self.scopes.is_empty() {
            return Err(Stronger::Scopes);
        }
        if self.bound {
            return Err(Stronger::Unbound);
        }
        match self.term_ms {
            Some(term_ms) if term_ms < TERM_OF_LINKER_MIN_MS => Err(Stronger::Term),
            _ => Ok(()),
        }
    }
}

/// Whether a text can be a subject at an identity provider.
pub(crate) fn is_subject(text: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether someone of a tenant has a say in the credentials of this principal: the customer in all (in its own tenant the
/// provider), others in those of their own organisation. Who operates the process must not be able to decide in the customer's
/// name.
pub(crate) fn has_say(kind: TenantKind, issuer: &Principal, principal: &Principal) -> bool {
    let governs = match kind {
        TenantKind::Provider => OrganizationKind::Provider,
        TenantKind::Customer | TenantKind::Unspecified => OrganizationKind::Customer,
    };
    issuer.is_active()
        && (issuer.organization_kind == governs || issuer.organization == principal.organization)
}

/// Whether a machine would let somebody act as a human.
pub(crate) fn is_machine_for_human(issuer: &Principal, principal: &Principal) -> bool {
    principal.kind == PrincipalKind::Human && issuer.kind != PrincipalKind::Human
}

/// Whether somebody has credentials in another tenant than this: people of providers only in their own, where they are looked at
/// before they act for a customer.
pub(crate) fn calls_from_elsewhere(kind: TenantKind, principal: &Principal) -> bool {
    kind != TenantKind::Provider && principal.is_of_a_provider()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ids::OrganizationId, principal::tests::customer_human};

    fn read(scopes: &[&str]) -> Result<TokenTerms, Faults> {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        TokenTerms::read(0, &scopes, &[], |scope| ["a.get", "b.get"].contains(&scope))
    }

    #[test]
    fn unknown_scopes_lives_and_certificates_are_refused_by_field() {
        assert_eq!(
            read(&["b.get", "a.get", "b.get"]).unwrap().scopes,
            ["a.get", "b.get"]
        );
        assert_eq!(read(&[]).unwrap().ttl_ms, 86_400_000);
        let faults = TokenTerms::read(59, &["c.get".to_owned()], &[1; 31], |_| false);
        let fields: Vec<String> = faults
            .unwrap_err()
            .into_pairs()
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        assert_eq!(fields, ["ttl_seconds", "scopes", "certificate_sha256"]);
        assert!(read(&["a.get"; 65]).is_err());
    }

    #[test]
    fn a_limited_credential_gives_away_no_more_than_it_has() {
        let own = |scopes: &[&str]| Own {
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..own(None)
        };
        let may = |own: Own, scopes| own.may_issue(&read(scopes).unwrap());
        assert_eq!(may(own(&["a.get", "b.get"]), &["a.get"]), Ok(()));
        assert_eq!(may(own(&["a.get", "b.get"]), &["a.get", "b.get"]), Ok(()));
        assert_eq!(may(own(&[]), &[]), Ok(()));
        let more = Err(Stronger::Scopes);
        assert_eq!(may(own(&["a.get"]), &["a.get", "b.get"]), more);
        assert_eq!(may(own(&["a.get"]), &[]), more);
        assert_eq!(own(&["a.get"]).may_link(), more);
    }

    fn own(term_ms: Option<i64>) -> Own {
        Own {
            id: "own".to_owned(),
            term_ms,
            scopes: Vec::new(),
            bound: false,
        }
    }

    #[test]
    fn a_credential_makes_none_that_lives_longer_or_needs_no_certificate_where_it_does() {
        let day = read(&[]).unwrap();
        assert_eq!(own(Some(day.ttl_ms)).may_issue(&day), Ok(()));
        let short = own(Some(day.ttl_ms - 1));
        assert_eq!(short.may_issue(&day), Err(Stronger::Term));
        assert_eq!(short.may_link(), Err(Stronger::Term));
        assert_eq!(own(Some(day.ttl_ms)).may_link(), Ok(()));
        assert_eq!(
            (own(None).may_issue(&day), own(None).may_link()),
            (Ok(()), Ok(()))
        );
        let bound = Own {
            bound: true,
            ..own(None)
        };
        assert_eq!(bound.may_issue(&day), Err(Stronger::Unbound));
        assert_eq!(bound.may_link(), Err(Stronger::Unbound));
        let with = TokenTerms {
            certificate_sha256: Some([1; 32]),
            ..day
        };
        assert_eq!(bound.may_issue(&with), Ok(()));
    }

    #[test]
    fn a_machine_gives_no_human_away() {
        let ada = customer_human("ada");
        let agent = Principal {
            kind: PrincipalKind::AiAgent,
            ..ada.clone()
        };
        assert!(is_machine_for_human(&agent, &ada));
        assert!(!is_machine_for_human(&ada, &agent) && !is_machine_for_human(&agent, &agent));
    }

    #[test]
    fn a12_a_provider_gives_nobody_the_means_to_act_as_the_customer() {
        let ada = customer_human("ada");
        let mut msp = customer_human("msp");
        msp.organization = OrganizationId::parse("provider").unwrap();
        msp.organization_kind = OrganizationKind::Provider;
        let may = |issuer, principal| has_say(TenantKind::Customer, issuer, principal);
        assert!(may(&ada, &msp) && may(&ada, &ada) && may(&msp, &msp));
        assert!(!may(&msp, &ada) && has_say(TenantKind::Provider, &msp, &ada));
        let left = Principal {
            ended_at_ms: Some(1),
            ..ada.clone()
        };
        assert!(!may(&left, &ada));
    }

    #[test]
    fn b17_people_of_a_provider_have_credentials_in_their_own_tenant_only() {
        let ada = customer_human("ada");
        for kind in [OrganizationKind::Provider, OrganizationKind::Subcontractor] {
            let mut otto = customer_human("otto");
            otto.organization_kind = kind;
            assert!(calls_from_elsewhere(TenantKind::Customer, &otto));
            assert!(!calls_from_elsewhere(TenantKind::Provider, &otto));
        }
        assert!(!calls_from_elsewhere(TenantKind::Customer, &ada));
    }

    #[test]
    fn a_subject_is_short_and_printable() {
        assert!(is_subject("auth0|1") && is_subject(&"x".repeat(255)));
        assert!(!is_subject("") && !is_subject(&"x".repeat(256)) && !is_subject("a\nb"));
    }
}
