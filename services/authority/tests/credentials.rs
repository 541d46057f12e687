//! Tokens with scopes, their record, who may issue them, and their last use, over gRPC.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::{catalogue::Payload, v1};
use counterfoil_proto::{authority::*, common::EvidenceState};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

fn token_for(principal: &str, scopes: &[&str]) -> IssueTokenRequest {
    IssueTokenRequest {
        principal: name_of(principal),
        ttl_seconds: 3_600,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..IssueTokenRequest::default()
    }
}

fn year_for(principal: &str) -> IssueTokenRequest {
    IssueTokenRequest {
        ttl_seconds: 31_536_000,
        ..token_for(principal, &[])
    }
}

async fn issue(
    clients: &Clients,
    request: IssueTokenRequest,
) -> Result<IssueTokenResponse, Status> {
    let answer = clients.principals.clone().issue_token(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn tokens(clients: &Clients) -> Vec<ApiToken> {
    let request = ListTokensRequest {
        tenant: "tenants/acme".into(),
        ..ListTokensRequest::default()
    };
    let mut credentials = clients.credentials.clone();
    credentials
        .list_tokens(request)
        .await
        .unwrap()
        .into_inner()
        .tokens
}

async fn revoke(clients: &Clients, token_id: &str) -> Result<RevokeTokenResponse, Status> {
    let request = RevokeTokenRequest {
        tenant: "tenants/acme".into(),
        token_id: token_id.to_owned(),
    };
    let answer = clients.principals.clone().revoke_token(request).await;
    answer.map(tonic::Response::into_inner)
}

fn denied(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

both_engines! {
    async fn issuing_and_revoking_a_token_are_on_record_without_the_secret(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let issued = issue(&ada, token_for("ben", &["items.get", "findings.get", "items.get"])).await.unwrap();
        assert_eq!(issued.receipt.as_ref().unwrap().state(), EvidenceState::Logged);
        let revoked = revoke(&ada, &issued.token_id).await.unwrap();
        assert_eq!(revoked.receipt.unwrap().state(), EvidenceState::Logged);
        assert_eq!(revoke(&ada, &issued.token_id).await.unwrap().receipt, None);
        let logged = deployment.logged("acme").await;
        let ours: Vec<_> = logged.iter().filter_map(|(record, payload, _)| match payload {
            Payload::CredentialIssued(one) => Some((record, one)),
            _ => None,
        }).collect();
        // The first one is ada's own, from before the activation, by the deployment; with it she made herself the second.
        let actors = ["operators/admin", "principals/ada", "principals/ada"];
        assert_eq!(ours.iter().map(|(record, _)| record.actor.as_str()).collect::<Vec<_>>(), actors);
        let with: Vec<&str> = ours.iter().map(|(_, one)| one.issued_with.as_str()).collect();
        assert_eq!(with, ["", &ours[0].1.credential, &ours[1].1.credential]);
        let (_, last) = ours[2];
        let kept = Sha256::digest(issued.token.as_bytes());
        assert_eq!((last.secret_tag.as_slice(), last.certificate_sha256.len()), (Sha256::digest(kept).as_slice(), 0));
        assert_eq!((last.credential.as_str(), last.principal.as_str()), (issued.token_id.as_str(), "principals/ben"));
        assert_eq!((last.kind(), last.valid_to_ms), (v1::CredentialKind::ApiToken, NOW_MS + 3_600_000));
        assert_eq!(last.scopes, ["findings.get", "items.get"]);
        assert!(logged.iter().any(|(_, payload, _)| matches!(payload, Payload::CredentialRevoked(one) if one.credential == issued.token_id)));
        let secret = &issued.token[21..85];
        for (record, _, _) in &logged {
            assert!(!format!("{record:?}").contains(secret));
        }
    }

    async fn who_runs_the_deployment_issues_nothing_once_the_tenant_governs_itself(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        for principal in ["ada", "ben", "msp"] {
            let refused = issue(&deployment.admin, token_for(principal, &[])).await.unwrap_err();
            assert_eq!(denied(&refused), (Code::PermissionDenied, "TENANT_GOVERNS_ITSELF".into()));
        }
        // Nor does the customer for the provider's people, who call as themselves, under an engagement.
        let refused = issue(&ada, token_for("msp", &[])).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::FailedPrecondition, "TOKEN_OF_OWN_TENANT".into()));
        let theirs = issue(&ada, token_for("auditor", &[])).await.unwrap();
        let auditor = deployment.clients_with(&theirs.token);
        let refused = issue(&auditor, token_for("ada", &[])).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        // What takes a say away may be done by whoever sees the leak first.
        revoke(&deployment.admin, &theirs.token_id).await.unwrap();
        // Gates remember an answer for a second.
        deployment.clock.advance_ms(1_000);
        let refused = auditor.principals.clone().get_principal(GetPrincipalRequest { name: name_of("auditor") }).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    async fn a_token_does_no_more_than_its_scopes_and_makes_none_that_does(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let unknown = issue(&ada, token_for("ada", &["items.get", "items.*"])).await.unwrap_err();
        assert_eq!((unknown.code(), fields(&unknown)), (Code::InvalidArgument, vec!["scopes".to_owned()]));
        let limited = issue(&ada, token_for("ada", &["tokens.issue", "principals.get"])).await.unwrap();
        let limited = deployment.clients_with(&limited.token);
        limited.principals.clone().get_principal(GetPrincipalRequest { name: name_of("ben") }).await.unwrap();
        let refused = limited.principals.clone().create_principal(create_principal("x", "customer", "auditor")).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::PermissionDenied, "PERMISSION_MISSING".into()));
        for scopes in [&[][..], &["items.get"], &["principals.get", "principals.end"]] {
            let refused = issue(&limited, token_for("ada", scopes)).await.unwrap_err();
            assert_eq!(denied(&refused), (Code::PermissionDenied, "SCOPE_EXCEEDED".into()));
        }
        issue(&limited, token_for("ada", &["principals.get"])).await.unwrap();
        // Scopes narrow the roles: an auditor with a wide token is an auditor.
        let wide = issue(&ada, token_for("auditor", &["principals.create", "principals.get"])).await.unwrap();
        let wide = deployment.clients_with(&wide.token);
        let refused = wide.principals.clone().create_principal(create_principal("x", "customer", "auditor")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }

    async fn tokens_are_listed_with_their_last_use_and_never_their_secret(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let mut request = token_for("ben", &["items.get"]);
        request.certificate_sha256 = vec![7; 32];
        let issued = issue(&ada, request).await.unwrap();
        let listed = tokens(&ada).await;
        assert!(listed.windows(2).all(|pair| pair[0].token_id < pair[1].token_id));
        let ben = listed.iter().find(|one| one.token_id == issued.token_id).unwrap();
        assert_eq!((ben.principal.clone(), ben.issuer.as_str()), (name_of("ben"), "principals/ada"));
        assert_eq!((ben.scopes.as_slice(), ben.expire_time), (&["items.get".to_owned()][..], issued.expire_time));
        assert_eq!((ben.last_used_time, ben.revoke_time, ben.certificate_sha256.len()), (None, None, 32));
        assert!(!format!("{listed:?}").contains(&issued.token[21..85]));
        // Used now, and written down when the minute is over.
        let introspect = IntrospectTokenRequest { token: issued.token.clone() };
        let known = deployment.service.principals.clone().introspect_token(introspect).await.unwrap().into_inner();
        assert_eq!((known.scopes.as_slice(), known.certificate_sha256.len()), (&["items.get".to_owned()][..], 32));
        let stamped = async {
            loop {
                deployment.clock.advance_ms(60_000);
                let listed = tokens(&ada).await;
                let ben = listed.iter().find(|one| one.token_id == issued.token_id).unwrap();
                if let Some(used) = ben.last_used_time {
                    break used;
                }
            }
        };
        let used = tokio::time::timeout(std::time::Duration::from_secs(30), stamped).await.expect("it is written down");
        assert_eq!(counterfoil_chassis::clock::millis(&used), Some(NOW_MS));
        let refused = deployment.admin.credentials.clone()
            .list_tokens(ListTokensRequest { tenant: "tenants/acme".into(), ..Default::default() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }

    async fn a_bound_token_is_nothing_on_a_connection_without_its_certificate(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let mut request = token_for("ben", &[]);
        request.certificate_sha256 = vec![7; 32];
        let bound = issue(&ada, request.clone()).await.unwrap();
        let ben = deployment.clients_with(&bound.token);
        let refused = ben.principals.clone().get_principal(GetPrincipalRequest { name: name_of("ben") }).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        request.certificate_sha256 = vec![7; 31];
        assert_eq!(fields(&issue(&ada, request).await.unwrap_err()), ["certificate_sha256"]);
    }

    async fn a_weak_credential_makes_no_strong_one(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let short = deployment.clients_with(&issue(&ada, token_for("ada", &[])).await.unwrap().token);
        let mut longer = token_for("ada", &[]);
        longer.ttl_seconds = 3_601;
        let refused = issue(&short, longer.clone()).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::PermissionDenied, "CREDENTIAL_EXCEEDED".into()));
        issue(&short, token_for("ben", &[])).await.unwrap();
        issue(&ada, longer).await.unwrap();
        // A login never ends.
        let link = LinkLoginRequest { principal: name_of("ada"), subject: "x".into(), ..LinkLoginRequest::default() };
        let refused = short.credentials.clone().link_login(link).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::PermissionDenied, "CREDENTIAL_EXCEEDED".into()));
    }

    async fn a_machine_lets_nobody_act_as_a_human(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let mut bot = create_principal("bot", "customer", "tenant-administrator");
        bot.principal.as_mut().unwrap().kind = PrincipalKind::Service.into();
        ada.principals.clone().create_principal(bot).await.unwrap();
        let token = issue(&ada, token_for("bot", &[])).await.unwrap();
        let bot = deployment.clients_with(&token.token);
        let refused = issue(&bot, token_for("ada", &[])).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::FailedPrecondition, "HUMAN_REQUIRED".into()));
        let link = LinkLoginRequest { principal: name_of("ada"), subject: "x".into(), ..LinkLoginRequest::default() };
        let refused = bot.credentials.clone().link_login(link).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::FailedPrecondition, "HUMAN_REQUIRED".into()));
        issue(&bot, token_for("bot", &[])).await.unwrap();
    }

    async fn a_token_that_was_revoked_issues_none_even_while_gates_remember_it(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let leaked = issue(&ada, token_for("ada", &[])).await.unwrap();
        let thief = deployment.clients_with(&leaked.token);
        issue(&thief, token_for("ben", &[])).await.unwrap();
        revoke(&ada, &leaked.token_id).await.unwrap();
        let refused = issue(&thief, token_for("ben", &[])).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let refused = revoke(&thief, &leaked.token_id).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    async fn what_the_deployment_issued_ends_a_day_after_the_activation(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        people(&mut deployment.admin.clone()).await;
        let link = LinkLoginRequest { principal: name_of("ada"), subject: "x".into(), ..LinkLoginRequest::default() };
        let refused = deployment.admin.credentials.clone().link_login(link).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::FailedPrecondition, "PRINCIPAL_REQUIRED".into()));
        deployment.complete().await;
        let get = GetPrincipalRequest { name: name_of("ada") };
        let first = issue(&deployment.admin, year_for("ada")).await.unwrap();
        let early = deployment.clients_with(&first.token);
        // Nor does what was made with it while the tenant was set up last longer.
        let made = deployment.clients_with(&issue(&early, year_for("ada")).await.unwrap().token);
        let link = LinkLoginRequest { principal: name_of("ada"), subject: "x".into(), ..LinkLoginRequest::default() };
        let refused = early.credentials.clone().link_login(link).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::FailedPrecondition, "TENANT_STATE".into()));
        deployment.clock.advance_ms(3 * DAY_MS);
        early.principals.clone().get_principal(get.clone()).await.unwrap();
        early.tenants.clone().activate_tenant(activate()).await.unwrap();
        let lasting = issue(&early, year_for("ada")).await.unwrap();
        let ada = deployment.clients_with(&lasting.token);
        let end = tokens(&ada).await.into_iter().find(|one| one.token_id == first.token_id).unwrap().expire_time;
        assert_eq!(end.as_ref().and_then(counterfoil_chassis::clock::millis), Some(NOW_MS + 4 * DAY_MS));
        deployment.clock.advance_ms(DAY_MS - 1);
        early.principals.clone().get_principal(get.clone()).await.unwrap();
        deployment.clock.advance_ms(1);
        for one in [&early, &made] {
            let refused = one.principals.clone().get_principal(get.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
        }
        deployment.clock.advance_ms(300 * DAY_MS);
        ada.principals.clone().get_principal(get).await.unwrap();
    }

    async fn a_tenant_becomes_active_by_a_human_of_its_own_who_can_let_others_in(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        people(&mut deployment.admin.clone()).await;
        deployment.complete().await;
        let mut bot = create_principal("bot", "customer", "tenant-administrator");
        bot.principal.as_mut().unwrap().kind = PrincipalKind::Service.into();
        deployment.admin.principals.clone().create_principal(bot).await.unwrap();
        let bot = deployment.clients_of(&name_of("bot")).await;
        for nobody in [&deployment.admin, &bot] {
            let refused = nobody.tenants.clone().activate_tenant(activate()).await.unwrap_err();
            assert_eq!(denied(&refused), (Code::PermissionDenied, "CALLER_NOT_CUSTOMER".into()));
        }
        let ada = deployment.clients_of(&name_of("ada")).await;
        ada.tenants.clone().activate_tenant(activate()).await.unwrap();
        // Whoever set it up is answered as before: it is active.
        deployment.admin.tenants.clone().activate_tenant(activate()).await.unwrap();
    }

    async fn a_login_is_linked_only_to_an_issuer_that_speaks_for_the_tenant(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let request = LinkLoginRequest {
            principal: name_of("ben"),
            issuer: "https://idp.example".into(),
            subject: "ben".into(),
            request_id: String::new(),
        };
        let refused = ada.credentials.clone().link_login(request.clone()).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::FailedPrecondition, "ISSUER_UNKNOWN".into()));
        let refused = deployment.admin.credentials.clone().link_login(request).await.unwrap_err();
        assert_eq!(denied(&refused), (Code::PermissionDenied, "TENANT_GOVERNS_ITSELF".into()));
    }
}
