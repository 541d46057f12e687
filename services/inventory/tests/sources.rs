//! Which files of this machine a source may be made of, by who registers it, with a real authority and a real ledger.

#![cfg(test)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/deployment.rs"]
mod deployment;
#[path = "support/mod.rs"]
mod support;

use std::{fs, os::unix::fs::symlink, path::Path};

use calls::{TENANT, source};
use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_inventory::config::InventoryConfig;
use counterfoil_proto::inventory::*;
use deployment::{Clients, Deployment, name_of, reason};
use serde_json::{Value, json};
use support::Estate;
use tonic::{Code, Status};

async fn create(clients: &Clients, id: &str, config: &Value) -> Result<Source, Status> {
    let request = CreateSourceRequest {
        tenant: TENANT.into(),
        source_id: id.into(),
        source: Some(Source {
            config_json: config.to_string(),
            ..Source::default()
        }),
        request_id: String::new(),
    };
    let created = clients.sources.clone().create_source(request).await?;
    Ok(created.into_inner().source.unwrap())
}

fn csv(directory: &Path) -> Value {
    json!({"kind": "csv", "directory": directory})
}

/// A directory server that is an attacker's own: whatever file is named is sent to it as the password.
fn ldap(listener: &std::net::TcpListener, reader: &Path, writer: &Path) -> Value {
    json!({
        "kind": "ldap",
        "url": format!("ldap://{}", listener.local_addr().unwrap()),
        "base_dn": "dc=evil",
        "allow_plaintext": true,
        "reader": {"dn": "cn=a,dc=evil", "password_file": reader},
        "writer": {"dn": "cn=b,dc=evil", "password_file": writer},
    })
}

fn assert_not_allowed(refused: &Status, field: &str) {
    assert_eq!(
        (refused.code(), reason(refused).as_str()),
        (Code::PermissionDenied, "SOURCE_PATH_NOT_ALLOWED")
    );
    let expected = format!(
        "source.config_json.{field} must be in the tenant's own directory of this deployment"
    );
    assert_eq!(refused.message(), expected);
}

both_engines! {
    /// The service reads its own keys; a tenant's operator may not have them sent to a server of their choice.
    async fn an_operator_cannot_have_a_file_of_the_service_sent_as_a_password(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        let evil = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        evil.set_nonblocking(true).unwrap();
        let own = deployment.files("secrets").join("password");
        fs::write(&own, "mine").unwrap();
        let token = deployment.admin_token();
        assert!(token.exists());
        let refused = create(&ada, "evil", &ldap(&evil, &token, &own)).await.unwrap_err();
        assert_not_allowed(&refused, "reader.password_file");
        let refused = create(&ada, "evil", &ldap(&evil, &own, &token)).await.unwrap_err();
        assert_not_allowed(&refused, "writer.password_file");
        let mut quiet = ldap(&evil, &own, &token);
        quiet["read_only"] = json!(true);
        assert_not_allowed(&create(&ada, "evil", &quiet).await.unwrap_err(), "writer.password_file");
        let nobody = evil.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "the server was asked");
    }

    /// What is another tenant's, what a link or `..` leads to and what is not there at all are refused with the same words.
    async fn an_operator_stays_in_the_directory_of_the_tenant(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        let own = deployment.files("hr");
        Estate::small().write(&own);
        let foreign = deployment.source_root().join("beta").join("hr");
        fs::create_dir_all(&foreign).unwrap();
        Estate::small().write(&foreign);
        let link = own.parent().unwrap().join("link");
        symlink(&foreign, &link).unwrap();
        let inside = deployment.files("linked");
        Estate::small().write(&inside);
        fs::remove_file(inside.join("accounts.csv")).unwrap();
        symlink(deployment.admin_token(), inside.join("accounts.csv")).unwrap();
        let up = own.join("..").join("..").join("beta").join("hr");
        let missing = own.join("nothing");
        for directory in [&foreign, &link, &inside, &up, &missing, Path::new("/nowhere/at/all")] {
            let refused = create(&ada, "hr", &csv(directory)).await.unwrap_err();
            assert_not_allowed(&refused, "directory");
            let mut writes = csv(&own);
            writes["writer_directory"] = json!(directory);
            // Links among the files are told of the directory that is read, whichever has them.
            if directory != inside {
                assert_not_allowed(&create(&ada, "hr", &writes).await.unwrap_err(), "writer_directory");
            }
        }
        let spelt = own.join("..").join("hr");
        create(&ada, "hr", &csv(&spelt)).await.unwrap();
        assert_eq!(deployment.sync("hr").await.state(), SyncState::Complete);
        let request = GetSourceConnectionRequest { name: source("hr") };
        let kept = deployment.service.clone().sources.get_source_connection(request).await.unwrap().into_inner();
        let kept: Value = serde_json::from_str(&kept.config_json).unwrap();
        assert_eq!(kept["directory"], json!(own.canonicalize().unwrap()));
    }

    /// A link that is put there later leads nowhere either.
    async fn a_source_of_an_operator_is_held_to_the_directory_when_it_is_read_too(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        let own = deployment.files("hr");
        Estate::small().write(&own);
        create(&ada, "hr", &csv(&own)).await.unwrap();
        let foreign = deployment.source_root().join("beta");
        fs::create_dir_all(&foreign).unwrap();
        Estate::small().write(&foreign);
        fs::remove_dir_all(&own).unwrap();
        symlink(&foreign, &own).unwrap();
        let sync = deployment.sync("hr").await;
        assert_eq!(sync.state(), SyncState::Partial);
        assert_eq!(sync.partial_reasons, ["invalid_config"], "{:?}", sync.error_messages);
        assert_eq!(sync.counts.unwrap().accounts, 0);
    }

    /// Who owns the machine may name any path of it.
    async fn the_administrator_of_the_deployment_may_name_any_path(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let elsewhere = tempfile::tempdir().unwrap();
        Estate::small().write(elsewhere.path());
        create(&deployment.admin, "hr", &csv(elsewhere.path())).await.unwrap();
        assert_eq!(deployment.sync("hr").await.state(), SyncState::Complete);
    }

    /// Without a setting there is no path that a tenant's own caller may name.
    async fn without_a_root_only_the_administrator_registers_sources(db: TestDatabase) {
        let mut deployment = Deployment::start(db).await;
        deployment.configure(InventoryConfig::default()).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        let own = deployment.files("hr");
        Estate::small().write(&own);
        let refused = create(&ada, "hr", &csv(&own)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SOURCE_PATH_NOT_ALLOWED"));
        assert!(refused.message().contains("source_root"), "{}", refused.message());
        create(&deployment.admin, "hr", &csv(&own)).await.unwrap();
    }

    /// A first line is not shown: the file may be one of another kind.
    async fn a_refused_file_is_not_shown(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        let own = deployment.files("hr");
        Estate::small().write(&own);
        fs::write(own.join("accounts.csv"), "hunter2\n").unwrap();
        let refused = create(&ada, "hr", &csv(&own)).await.unwrap_err();
        assert!(refused.message().contains("accounts.csv: wrong header"), "{}", refused.message());
        assert!(!refused.message().contains("hunter2"), "{}", refused.message());
    }

    /// Whoever could name the place of a source could move it to where their own rights reach.
    async fn only_the_customer_says_where_a_source_lies(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let ada = deployment.clients_of(&name_of("ada")).await;
        let mut request = deployment.create_source("hr", &Estate::small());
        let asked = request.source.as_mut().unwrap();
        (asked.environment, asked.tier) = ("prod".into(), "gold".into());
        let refused = deployment.admin.sources.clone().create_source(request.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "CALLER_NOT_CUSTOMER"));
        let mut free = request.clone();
        free.source.as_mut().unwrap().tier = "for Mara Lind".into();
        let refused = ada.sources.clone().create_source(free).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("source.tier"), "{}", refused.message());
        // Whoever works the process registers none: a second source of one target would lie wherever they say, or in "default".
        let operator = deployment.clients_of(&name_of("olga")).await;
        let again = deployment.create_source("hr-again", &Estate::small());
        let refused = operator.sources.clone().create_source(again).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let created = ada.sources.clone().create_source(request).await.unwrap().into_inner().source.unwrap();
        assert_eq!((created.environment.as_str(), created.tier.as_str()), ("prod", "gold"));

        let request = ClassifySourceRequest {
            name: source("hr"),
            environment: Some("test".into()),
            tier: Some(String::new()),
            request_id: "0195b1f0-0000-7000-8000-000000000001".into(),
        };
        // Neither whoever runs the deployment nor an operator holds the permission.
        let refused = deployment.admin.sources.clone().classify_source(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let none = ClassifySourceRequest { name: source("none"), request_id: String::new(), ..request.clone() };
        assert_eq!(ada.sources.clone().classify_source(none).await.unwrap_err().code(), Code::NotFound);
        let first = ada.sources.clone().classify_source(request.clone()).await.unwrap().into_inner();
        let again = ada.sources.clone().classify_source(request.clone()).await.unwrap().into_inner();
        assert_eq!(first.receipt.as_ref().map(|one| &one.record_id), again.receipt.as_ref().map(|one| &one.record_id));
        let other = ClassifySourceRequest { environment: Some("dev".into()), ..request };
        assert_eq!(ada.sources.clone().classify_source(other).await.unwrap_err().code(), Code::InvalidArgument);
        let read = GetSourceRequest { name: source("hr") };
        let found = ada.sources.clone().get_source(read).await.unwrap().into_inner().source.unwrap();
        assert_eq!((found.environment.as_str(), found.tier.as_str()), ("test", ""));
        // What is not spoken of stays.
        let request = ClassifySourceRequest { name: source("hr"), tier: Some("silver".into()), ..Default::default() };
        let found = ada.sources.clone().classify_source(request).await.unwrap().into_inner().source.unwrap();
        assert_eq!((found.environment.as_str(), found.tier.as_str()), ("test", "silver"));
        let logged = calls::logged(&deployment.service).await;
        let said: Vec<_> = logged.iter().filter_map(|(_, payload)| match payload {
            Payload::SourceRegistered(one) => Some((one.environment.as_str(), one.tier.as_str())),
            Payload::ObjectClassified(one) => Some((one.environment.as_str(), one.tier.as_str())),
            _ => None,
        }).collect();
        assert_eq!(said, [("prod", "gold"), ("test", ""), ("test", "silver")]);
    }

    /// No removal from a source with totals of its own could ever be verified, so its writer is refused from the start.
    async fn a_source_with_totals_of_its_own_is_registered_as_read_only_or_not_at_all(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let own = deployment.files("hr");
        Estate::small().write(&own);
        fs::write(own.join("control.csv"), "type,count\naccounts,3\nentitlements,4\nedges,2\ngrants,3\n").unwrap();
        let refused = create(&deployment.admin, "hr", &csv(&own)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("control.csv") && refused.message().contains("read-only"), "{}", refused.message());
        assert!(!own.join(".counterfoil.lock").exists());
        let mut read_only = csv(&own);
        read_only["read_only"] = json!(true);
        create(&deployment.admin, "hr", &read_only).await.unwrap();
        assert_eq!(deployment.sync("hr").await.state(), SyncState::Complete);
    }
}
