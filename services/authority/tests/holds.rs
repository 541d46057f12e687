//! Legal holds, over gRPC: what they keep, who places and who releases them.

#![cfg(test)]

mod common;

use common::*;
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_proto::{authority::*, common::EvidenceState, ledger::ListEntriesRequest};
use tonic::{Code, Status};

const TENANT: &str = "tenants/acme";

fn place(classes: &[&str]) -> PlaceLegalHoldRequest {
    PlaceLegalHoldRequest {
        tenant: TENANT.to_owned(),
        hold: Some(LegalHold {
            retention_classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            basis: "FRCP-37E".to_owned(),
            reason_code: "litigation".to_owned(),
            ..LegalHold::default()
        }),
        request_id: String::new(),
    }
}

async fn placed(clients: &Clients, classes: &[&str]) -> LegalHold {
    let mut tenants = clients.tenants.clone();
    let answer = tenants.place_legal_hold(place(classes)).await.unwrap();
    answer.into_inner().hold.unwrap()
}

async fn release(clients: &Clients, hold: &LegalHold) -> Result<ReleaseLegalHoldResponse, Status> {
    let request = ReleaseLegalHoldRequest {
        name: hold.name.clone(),
        reason_code: "settled".to_owned(),
        request_id: String::new(),
    };
    let mut tenants = clients.tenants.clone();
    Ok(tenants.release_legal_hold(request).await?.into_inner())
}

async fn listed(clients: &Clients) -> Vec<LegalHold> {
    let request = ListLegalHoldsRequest {
        tenant: TENANT.to_owned(),
        ..ListLegalHoldsRequest::default()
    };
    let mut tenants = clients.tenants.clone();
    let answer = tenants.list_legal_holds(request).await.unwrap();
    answer.into_inner().holds
}

/// Says for how many days governance and operations are kept.
async fn keep(clients: &Clients, governance: u32, operations: u32) -> Result<(), Status> {
    let mut request = set_retention("governance");
    let mut other = request.rules[0].clone();
    request.rules[0].duration_days = governance;
    other.retention_class = "operations".to_owned();
    other.duration_days = operations;
    request.rules.push(other);
    let mut tenants = clients.tenants.clone();
    tenants.set_retention_policy(request).await.map(|_| ())
}

fn refused(answer: Result<impl std::fmt::Debug, Status>) -> String {
    let status = answer.unwrap_err();
    let reason = reason(&status);
    match status.code() {
        Code::FailedPrecondition | Code::PermissionDenied => reason,
        code => panic!("{code:?} {reason}"),
    }
}

/// Another administrator of the customer, and her clients.
async fn eve(deployment: &Deployment, ada: &Clients) -> Clients {
    let request = create_principal("eve", "customer", "tenant-administrator");
    ada.principals
        .clone()
        .create_principal(request)
        .await
        .unwrap();
    deployment.clients_of(&name_of("eve")).await
}

/// How many entries the tenant's log has.
async fn size(deployment: &Deployment) -> u64 {
    let request = ListEntriesRequest {
        tenant: TENANT.to_owned(),
        page_size: 1_000,
        ..ListEntriesRequest::default()
    };
    let mut ledger = deployment.service.ledger.clone();
    let page = ledger.list_entries(request).await.unwrap().into_inner();
    page.entries.len() as u64
}

async fn begin_to_leave(deployment: &Deployment, ada: &Clients) {
    let request = BeginExitRequest {
        name: TENANT.to_owned(),
        reason_code: "contract".to_owned(),
        request_id: String::new(),
    };
    ada.tenants.clone().begin_exit(request).await.unwrap();
    let request = RecordEvidencePackRequest {
        tenant: TENANT.to_owned(),
        tree_size: size(deployment).await,
        root_hash: vec![7; 32],
        format_code: "bundle".to_owned(),
        request_id: String::new(),
    };
    let mut tenants = ada.tenants.clone();
    tenants.record_evidence_pack(request).await.unwrap();
}

async fn close(clients: &Clients) -> Result<(), Status> {
    let request = CloseTenantRequest {
        name: TENANT.to_owned(),
        request_id: String::new(),
    };
    clients
        .tenants
        .clone()
        .close_tenant(request)
        .await
        .map(|_| ())
}

both_engines! {
    async fn i70_what_is_held_is_kept_until_a_second_human_releases_it(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let eve = eve(&deployment, &ada).await;
        keep(&ada, 3_650, 365).await.unwrap();
        let hold = placed(&ada, &["governance"]).await;
        assert_eq!(hold.placed_by, name_of("ada"));
        assert!(hold.release_time.is_none());
        // What is covered may be kept for longer, what is not for any time.
        keep(&ada, 4_000, 1).await.unwrap();
        assert_eq!(refused(keep(&ada, 3_999, 1).await), "HOLD_IN_FORCE");
        assert_eq!(refused(keep(&eve, 3_999, 1).await), "HOLD_IN_FORCE");
        let mut elsewhere = set_retention("governance");
        elsewhere.rules[0].duration_days = 4_000;
        elsewhere.rules[0].jurisdiction = "DE".to_owned();
        let answer = ada.tenants.clone().set_retention_policy(elsewhere).await;
        assert_eq!(refused(answer), "HOLD_IN_FORCE");

        assert_eq!(refused(release(&ada, &hold).await), "SECOND_HUMAN_REQUIRED");
        assert_eq!(listed(&ada).await, std::slice::from_ref(&hold));
        let answer = release(&eve, &hold).await.unwrap();
        assert_eq!(answer.receipt.unwrap().state(), EvidenceState::Logged);
        let released = answer.hold.unwrap();
        assert_eq!((released.released_by.as_str(), released.release_reason_code.as_str()), (name_of("eve").as_str(), "settled"));
        assert_eq!(listed(&ada).await, [released]);
        assert_eq!(refused(release(&eve, &hold).await), "HOLD_RELEASED");
        keep(&ada, 365, 1).await.unwrap();
        deployment.replayed("acme").await;

        let logged = deployment.logged("acme").await;
        let of_hold: Vec<_> = logged.iter().filter(|(record, ..)| {
            let id = hold.name.strip_prefix("tenants/acme/").unwrap();
            record.subject.iter().any(|one| one == id)
        }).collect();
        let [(placed, Payload::LegalHoldPlaced(_), hash), (released, Payload::LegalHoldReleased(end), _)] = &of_hold[..] else {
            panic!("{of_hold:?}");
        };
        assert_eq!((placed.actor.as_str(), released.actor.as_str()), ("principals/ada", "principals/eve"));
        assert_eq!((end.placed_record_hash.as_slice(), hold.record_hash.as_slice()), (&hash[..], &hash[..]));
    }

    async fn i70_a_tenant_under_a_hold_leaves_and_is_not_closed(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let eve = eve(&deployment, &ada).await;
        let hold = placed(&ada, &[]).await;
        begin_to_leave(&deployment, &ada).await;
        // Whoever asks: the customer, and whoever runs the deployment.
        assert_eq!(refused(close(&ada).await), "HOLD_IN_FORCE");
        assert_eq!(refused(close(&deployment.admin).await), "HOLD_IN_FORCE");
        // It can be held, and released, while it leaves.
        let another = placed(&eve, &["governance"]).await;
        release(&eve, &hold).await.unwrap();
        assert_eq!(refused(close(&ada).await), "HOLD_IN_FORCE");
        release(&ada, &another).await.unwrap();
        close(&ada).await.unwrap();
        let late = ada.tenants.clone().place_legal_hold(place(&[])).await;
        assert_eq!(late.unwrap_err().code(), Code::Unauthenticated);
    }

    async fn i70_who_is_alone_when_the_tenant_leaves_calls_a_second_human_to_release(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        begin_to_leave(&deployment, &ada).await;
        let join = async |clients: &Clients, id: &str, change: fn(&mut Principal)| {
            let mut request = create_principal(id, "customer", "tenant-administrator");
            change(request.principal.as_mut().unwrap());
            clients.principals.clone().create_principal(request).await
        };
        assert_eq!(refused(join(&ada, "eve", |_| {}).await), "TENANT_STATE");
        let hold = placed(&ada, &[]).await;
        assert_eq!(refused(release(&ada, &hold).await), "SECOND_HUMAN_REQUIRED");
        // Nobody but who can release it, one by one, and at the word of the tenant's own people.
        let of_no_use: [fn(&mut Principal); 5] = [
            // Who could be the one who placed it, or is.
            |one| one.identity_key.clear(),
            |one| one.identity_key = "ada@zebra.example".to_owned(),
            |one| one.roles = vec!["reviewer".to_owned()],
            |one| one.kind = PrincipalKind::Service.into(),
            |one| one.organization = one.organization.replace("customer", "provider"),
        ];
        for change in of_no_use {
            assert_eq!(refused(join(&ada, "eve", change).await), "TENANT_STATE");
        }
        let many = BatchCreatePrincipalsRequest {
            tenant: TENANT.to_owned(),
            requests: vec![create_principal("eve", "customer", "tenant-administrator")],
            request_id: String::new(),
        };
        assert_eq!(refused(ada.principals.clone().batch_create_principals(many).await), "TENANT_STATE");
        assert_eq!(refused(join(&deployment.admin, "eve", |_| {}).await), "TENANT_GOVERNS_ITSELF");
        join(&ada, "eve", |_| {}).await.unwrap();
        let eve = deployment.clients_of(&name_of("eve")).await;
        release(&eve, &hold).await.unwrap();
        assert_eq!(refused(join(&ada, "iris", |_| {}).await), "TENANT_STATE");
        close(&ada).await.unwrap();
        deployment.replayed("acme").await;
    }

    async fn i70_holds_are_the_customers_alone(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        people(&mut deployment.admin.clone()).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        // While the tenant is set up it is held by its own people already, and not by who sets it up.
        let hold = placed(&ada, &[]).await;
        for stranger in [&deployment.admin, &deployment.service] {
            let mut tenants = stranger.tenants.clone();
            assert_eq!(tenants.place_legal_hold(place(&[])).await.unwrap_err().code(), Code::PermissionDenied);
            assert_eq!(release(stranger, &hold).await.unwrap_err().code(), Code::PermissionDenied);
        }
        let machine = CreatePrincipalRequest {
            principal: create_principal("bot", "customer", "tenant-administrator").principal.map(|principal| Principal {
                kind: PrincipalKind::Service.into(),
                ..principal
            }),
            ..create_principal("bot", "customer", "tenant-administrator")
        };
        ada.principals.clone().create_principal(machine).await.unwrap();
        let bot = deployment.clients_of(&name_of("bot")).await;
        assert_eq!(refused(bot.tenants.clone().place_legal_hold(place(&[])).await), "CALLER_NOT_CUSTOMER");
        assert_eq!(refused(release(&bot, &hold).await), "CALLER_NOT_CUSTOMER");
        // Another name of the same human is no second human.
        let mut twin = create_principal("ada-again", "customer", "tenant-administrator");
        twin.principal.as_mut().unwrap().identity_key = "ada@zebra.example".to_owned();
        ada.principals.clone().create_principal(twin).await.unwrap();
        let twin = deployment.clients_of(&name_of("ada-again")).await;
        assert_eq!(refused(release(&twin, &hold).await), "SECOND_HUMAN_REQUIRED");

        let mut tenants = deployment.admin.tenants.clone();
        tenants.create_tenant(create_tenant("beta")).await.unwrap();
        let foreign = LegalHold { name: hold.name.replace("acme", "beta"), ..hold.clone() };
        let nowhere = LegalHold { name: hold.name.replace("acme", "gamma"), ..hold.clone() };
        let [foreign, nowhere] = [release(&ada, &foreign).await, release(&ada, &nowhere).await];
        let [foreign, nowhere] = [foreign.unwrap_err(), nowhere.unwrap_err()];
        assert_eq!(foreign.code(), Code::NotFound);
        assert_eq!((foreign.message(), foreign.details()), (nowhere.message(), nowhere.details()));
    }

    async fn a_hold_is_checked_counted_and_placed_once(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.active().await;
        let mut bad = place(&["no code"]);
        bad.hold.as_mut().unwrap().basis = "because".repeat(20);
        let mut tenants = ada.tenants.clone();
        let status = tenants.place_legal_hold(bad).await.unwrap_err();
        assert_eq!(fields(&status), ["hold.retention_classes", "hold.basis"]);
        let again = PlaceLegalHoldRequest { request_id: "one".to_owned(), ..place(&["b", "a"]) };
        let first = tenants.place_legal_hold(again.clone()).await.unwrap().into_inner();
        let second = tenants.place_legal_hold(again).await.unwrap().into_inner();
        assert_eq!(first.hold, second.hold);
        assert_eq!(first.hold.unwrap().retention_classes, ["a", "b"]);
        for _ in 1..100 {
            placed(&ada, &["operations"]).await;
        }
        assert_eq!(refused(tenants.place_legal_hold(place(&[])).await), "TOO_MANY_HOLDS");
        let request = ListLegalHoldsRequest { tenant: TENANT.to_owned(), page_size: 99, page_token: String::new() };
        let page = tenants.list_legal_holds(request.clone()).await.unwrap().into_inner();
        let request = ListLegalHoldsRequest { page_token: page.next_page_token, ..request };
        let rest = tenants.list_legal_holds(request).await.unwrap().into_inner();
        assert_eq!((page.holds.len(), rest.holds.len(), rest.next_page_token.as_str()), (99, 1, ""));
    }
}
