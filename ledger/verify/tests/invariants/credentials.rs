//! Credentials, forged: who can issue one can act as somebody.

use crate::prelude::*;

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-81",
        "the deployment issues a token of the customer's after the activation",
        on!(CredentialIssued, |r, p| if p.credential == "second" {
            r.actor = "operators/admin".to_owned()
        }),
    ),
    (
        "I-81",
        "the provider issues a token of the customer's",
        on!(CredentialIssued, |r, p| if p.credential == "second" {
            r.actor = PROVIDER.to_owned()
        }),
    ),
    (
        "I-81",
        "the provider issues a login of the customer's before the activation",
        on!(CredentialIssued, |r, p| if p.credential == "first" {
            p.kind = v1::CredentialKind::OidcLogin.into();
            r.actor = PROVIDER.to_owned()
        }),
    ),
    (
        "I-81",
        "a service issues a token of the customer's",
        on!(CredentialIssued, |r, p| if p.credential == "second" {
            r.actor = "services/recertification".to_owned()
        }),
    ),
    (
        "I-81",
        "the customer gives somebody of the provider a token of its own tenant",
        on!(CredentialIssued, |_r, p| if p.credential == "second" {
            p.principal = PROVIDER.to_owned()
        }),
    ),
    (
        "I-81",
        "a token for nobody who is known",
        on!(CredentialIssued, |_r, p| if p.credential == "first" {
            p.principal = "principals/nobody".to_owned()
        }),
    ),
    (
        "I-81",
        "a token for somebody who had left",
        |scene| match &*scene.payload {
            Payload::PrincipalRegistered(p) if p.principal == ALICE => {
                let ended = v1::PrincipalEnded {
                    principal: p.principal.clone(),
                    effective_ms: scene.record.occurred_at_ms,
                };
                followed_by(scene, Payload::PrincipalEnded(ended))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-81",
        "a token that never ends",
        on!(CredentialIssued, |_r, p| p.valid_to_ms = 0),
    ),
    (
        "I-81",
        "a credential of no kind",
        on!(CredentialIssued, |_r, p| p.kind = 0),
    ),
    (
        "I-81",
        "one credential issued twice",
        on!(CredentialIssued, |_r, p| p.credential = "first".to_owned()),
    ),
    (
        "I-81",
        "a credential revoked that never was",
        on!(CredentialRevoked, |_r, p| p.credential = "other".to_owned()),
    ),
    (
        "I-81",
        "a credential revoked twice",
        |scene| match &*scene.payload {
            Payload::CredentialRevoked(_) => followed_by(scene, scene.payload.clone()),
            _ => Edit::Keep,
        },
    ),
    (
        "I-81",
        "a token that outlives everybody",
        on!(CredentialIssued, |_r, p| p.valid_to_ms = i64::MAX),
    ),
    (
        "I-81",
        "a token of a year and a millisecond",
        on!(CredentialIssued, |r, p| if p.credential == "first" {
            p.valid_to_ms = r.occurred_at_ms + 365 * DAY_MS + 1
        }),
    ),
    (
        "I-81",
        "one's own first credential, issued by oneself",
        on!(CredentialIssued, |r, p| if p.credential == "second" {
            r.actor = ALICE.to_owned()
        }),
    ),
    (
        "I-81",
        "a token issued with the one that it is",
        on!(CredentialIssued, |r, p| if p.credential == "second" {
            r.actor = ALICE.to_owned();
            p.issued_with = "second".to_owned()
        }),
    ),
    (
        "I-81",
        "a token issued with none",
        on!(CredentialIssued, |_r, p| p.issued_with.clear()),
    ),
    (
        "I-81",
        "a token issued more than a day after the activation with one of the deployment's",
        on!(CredentialIssued, |r, p| match p.credential.as_str() {
            "first" => p.valid_to_ms = r.occurred_at_ms + 30 * DAY_MS,
            _ => {
                r.occurred_at_ms += DAY_MS;
                p.valid_to_ms += DAY_MS
            }
        }),
    ),
    (
        "I-81",
        "a token made of the deployment's before the activation, used more than a day after it",
        |scene| match &mut *scene.payload {
            Payload::CredentialIssued(p) if p.credential == "first" => {
                p.valid_to_ms = scene.record.occurred_at_ms + 30 * DAY_MS;
                let own = v1::CredentialIssued {
                    credential: "own".to_owned(),
                    issued_with: p.credential.clone(),
                    ..p.clone()
                };
                let mut record = scene.record.clone();
                record.actor = CAROL.to_owned();
                Edit::Follow(vec![(record, Payload::CredentialIssued(own))])
            }
            Payload::CredentialIssued(p) => {
                scene.record.occurred_at_ms += DAY_MS;
                p.valid_to_ms += DAY_MS;
                p.issued_with = "own".to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-81",
        "a token issued with one that was revoked",
        |scene| match &*scene.payload {
            Payload::CredentialIssued(p) if p.credential == "first" => {
                let mut record = scene.record.clone();
                record.actor = "operators/admin".to_owned();
                let revoked = v1::CredentialRevoked {
                    credential: p.credential.clone(),
                    effective_ms: record.occurred_at_ms,
                };
                Edit::Follow(vec![(record, Payload::CredentialRevoked(revoked))])
            }
            Payload::CredentialRevoked(_) => Edit::Drop,
            _ => Edit::Keep,
        },
    ),
    (
        "I-81",
        "a token that lives longer than the one it was issued with",
        on!(CredentialIssued, |_r, p| if p.credential == "second" {
            p.valid_to_ms += 1
        }),
    ),
    (
        "I-81",
        "a token with more scopes than the one it was issued with",
        on!(CredentialIssued, |_r, p| match p.credential.as_str() {
            "first" => p.scopes = vec!["tokens.issue".to_owned()],
            _ => p.scopes = vec!["items.get".to_owned(), "tokens.issue".to_owned()],
        }),
    ),
    (
        "I-81",
        "a token bound to nothing, issued with one that is bound to a certificate",
        on!(CredentialIssued, |_r, p| if p.credential == "first" {
            p.certificate_sha256 = vec![7; 32]
        }),
    ),
    (
        "I-81",
        "a login issued with a token of less than a day",
        on!(CredentialIssued, |_r, p| if p.credential == "second" {
            p.kind = v1::CredentialKind::OidcLogin.into();
            p.valid_to_ms = 0;
            p.secret_tag.clear()
        }),
    ),
    (
        "I-81",
        "a login without an end by the deployment, before the activation",
        on!(CredentialIssued, |_r, p| if p.credential == "first" {
            p.kind = v1::CredentialKind::OidcLogin.into();
            p.valid_to_ms = 0;
            p.secret_tag.clear()
        }),
    ),
    (
        "I-81",
        "a machine issues a token for a human",
        on!(PrincipalRegistered, |_r, p| if p.principal == CAROL {
            p.kind = v1::PrincipalKind::AiAgent.into()
        }),
    ),
    (
        "I-81",
        "the deployment issues a token for an auditor after the activation",
        |scene| match &mut *scene.payload {
            Payload::PrincipalRegistered(p) if p.principal == ALICE => {
                p.organization = "organizations/audit".to_owned();
                p.organization_kind = v1::OrganizationKind::Auditor.into();
                Edit::Keep
            }
            Payload::CredentialIssued(p) if p.credential == "second" => {
                p.issued_with.clear();
                scene.record.actor = "operators/admin".to_owned();
                Edit::Keep
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-81",
        "a credential without an id",
        on!(CredentialIssued, |_r, p| if p.credential == "second" {
            p.credential.clear()
        }),
    ),
    (
        "I-81",
        "scopes that are no permissions",
        on!(CredentialIssued, |_r, p| p.scopes = vec!["*".to_owned()]),
    ),
    (
        "I-81",
        "one scope twice",
        on!(CredentialIssued, |_r, p| p.scopes =
            vec!["items.get".to_owned(); 2]),
    ),
    (
        "I-81",
        "scopes in another order",
        on!(CredentialIssued, |_r, p| p.scopes =
            vec!["tokens.issue".to_owned(), "items.get".to_owned()]),
    ),
    (
        "I-81",
        "a token that commits to no secret",
        on!(CredentialIssued, |_r, p| p.secret_tag.clear()),
    ),
    (
        "I-81",
        "a certificate's hash that is none",
        on!(CredentialIssued, |_r, p| if p.credential == "second" {
            p.certificate_sha256 = vec![7; 31]
        }),
    ),
    (
        "I-81",
        "a credential revoked at no time that will come",
        on!(CredentialRevoked, |_r, p| p.effective_ms = i64::MAX),
    ),
    (
        "I-81",
        "a credential revoked before all time",
        on!(CredentialRevoked, |_r, p| p.effective_ms = 1),
    ),
    (
        "I-81",
        "the provider revokes a credential of the customer's",
        on!(CredentialRevoked, |r, _p| r.actor = PROVIDER.to_owned()),
    ),
    (
        "I-81",
        "a service revokes a credential",
        on!(CredentialRevoked, |r, _p| r.actor =
            "services/inventory".to_owned()),
    ),
    (
        "I-81",
        "somebody without a credential revokes one",
        on!(CredentialRevoked, |r, _p| r.actor = BOB.to_owned()),
    ),
];

/// In the own log of a provider.
const OF_A_PROVIDER: &[(&str, &str, Forgery)] = &[
    (
        "I-81",
        "the deployment issues a token of the provider's after the activation",
        on!(CredentialIssued, |r, p| if p.credential == "second" {
            p.issued_with.clear();
            r.actor = "operators/admin".to_owned()
        }),
    ),
    (
        "I-81",
        "a token issued more than a day after the activation with one of the deployment's",
        on!(CredentialIssued, |r, p| match p.credential.as_str() {
            "first" => p.valid_to_ms = r.occurred_at_ms + 30 * DAY_MS,
            _ => {
                r.occurred_at_ms += DAY_MS;
                p.valid_to_ms += DAY_MS
            }
        }),
    ),
];

#[test]
fn forged_credentials_are_seen() {
    all_fail(FORGERIES);
}

#[test]
fn i81_forged_credentials_of_a_provider_are_seen() {
    let customer = crate::support::cycle::build(60);
    let golden = Golden::of(crate::support::provider::own_log(&customer));
    golden.is_good();
    all_fail_in(&golden, OF_A_PROVIDER);
}
