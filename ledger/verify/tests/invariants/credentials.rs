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
];

#[test]
fn forged_credentials_are_seen() {
    all_fail(FORGERIES);
}
