//! Tests: another tenant's log does not exist for a tenant's principal, over gRPC and over HTTP, to the byte.

use axum::{Extension, body::Body};
use counterfoil_chassis::{
    ApiError, Caller, CancellationToken, Role, TestClock, both_engines, testing,
    testing::TestDatabase,
};
use counterfoil_proto::common::StreamDisclosuresRequest;
use counterfoil_proto::ledger::{
    CreateLogRequest, ExplainAccessRequest, ExportLogRequest, GetCheckpointRequest,
    GetEntryRequest, ListEntriesRequest, ProveAnchoredRequest, ProveConsistencyRequest,
    SealEpochRequest, StreamEntriesRequest, get_entry_request::Selector,
};
use futures::StreamExt as _;
use http::{Request, StatusCode};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::{Api, Waits};
use crate::anchored::Epochs;
use crate::anchorer::Anchorer;
use crate::serving::Serving;

/// The service's api with logs of two tenants, without a network around it.
async fn api(db: &TestDatabase) -> (Api, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = testing::config("ledger", db, folder.path());
    let config = config.into();
    let clock = TestClock::new(1_800_000_000_000).clock();
    let options = crate::engine_options(&config, Vec::new(), None);
    let opened = crate::open(config, clock, None, CancellationToken::new(), options);
    let (chassis, logs) = opened.await.unwrap();
    let serving = Serving::new(logs.clone(), chassis.health.clone());
    let epochs = Epochs::new(logs.clone(), None);
    let waits = Waits {
        epochs: Some(epochs.clone()),
        ..Waits::default()
    };
    let api = Api::new(logs.clone(), waits, serving, None, &chassis);
    let authority = Caller::of_deployment("services/authority", [Role::Service]);
    for tenant in ["tenants/acme", "tenants/beta"] {
        let tenant = tenant.to_owned();
        api.create(&authority, CreateLogRequest { tenant })
            .await
            .unwrap();
    }
    let anchorer = Anchorer::new(logs, epochs, chassis.clock.clone(), None);
    assert_eq!(anchorer.run_once().await.unwrap(), Some(1));
    (api, folder)
}

/// Every call that names a tenant, with what it answers.
async fn calls(
    api: &Api,
    caller: &Caller,
    tenant: &str,
) -> Vec<(&'static str, Result<(), ApiError>)> {
    let tenant = || format!("tenants/{tenant}");
    let grant = format!("{}/grants/{}", tenant(), "00".repeat(40));
    let entry = GetEntryRequest {
        tenant: tenant(),
        selector: Some(Selector::Index(0)),
    };
    let list = ListEntriesRequest {
        tenant: tenant(),
        ..Default::default()
    };
    let prove = ProveConsistencyRequest {
        tenant: tenant(),
        ..Default::default()
    };
    let anchored = ProveAnchoredRequest {
        tenant: tenant(),
        ..Default::default()
    };
    let tail = StreamEntriesRequest {
        tenant: tenant(),
        ..Default::default()
    };
    let export = ExportLogRequest {
        tenant: tenant(),
        ..Default::default()
    };
    let explain = ExplainAccessRequest {
        grant,
        at_time: None,
    };
    let checkpoint = GetCheckpointRequest { tenant: tenant() };
    let seal = SealEpochRequest { tenant: tenant() };
    let disclose = StreamDisclosuresRequest { tenant: tenant() };
    vec![
        (
            "GetCheckpoint",
            api.checkpoint(caller, checkpoint).await.map(drop),
        ),
        ("GetEntry", api.entry(caller, entry).await.map(drop)),
        ("ListEntries", api.list(caller, list).await.map(drop)),
        (
            "ProveConsistency",
            api.consistency(caller, prove).await.map(drop),
        ),
        (
            "ProveAnchored",
            api.prove_anchored(caller, anchored).await.map(drop),
        ),
        ("StreamEntries", api.stream(caller, tail).await.map(drop)),
        ("ExportLog", api.export(caller, export).await.map(drop)),
        ("SealEpoch", api.seal(caller, seal).await.map(drop)),
        (
            "StreamDisclosures",
            api.disclose(caller, disclose).await.map(drop),
        ),
        (
            "ExplainAccess",
            api.explain(caller, explain).await.map(drop),
        ),
    ]
}

async fn get(api: &Api, caller: &Caller, path: &str) -> (StatusCode, String, Vec<u8>) {
    let router = api.tiles().layer(Extension(caller.clone()));
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let mut content = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(part) = stream.next().await {
        content.extend(part.unwrap());
    }
    (parts.status, format!("{:?}", parts.headers), content)
}

both_engines! {
    async fn another_tenants_log_looks_like_one_that_is_not_there(db: TestDatabase) {
        let (api, _folder) = api(&db).await;
        let caller = Caller::of_tenant("beta", "p1", ["auditor", "operator"]);
        let missing = Status::from(ApiError::not_found());
        for (own, name) in [("acme", "foreign"), ("nobody", "missing")] {
            for (call, answer) in calls(&api, &caller, own).await {
                let refused = Status::from(answer.expect_err(call));
                assert_eq!(refused.code(), Code::NotFound, "{call} {name}");
                assert_eq!(refused.message(), missing.message(), "{call} {name}");
                assert_eq!(refused.details(), missing.details(), "{call} {name}");
            }
        }
        for (call, answer) in calls(&api, &caller, "beta").await {
            // No record speaks of a grant yet.
            assert_eq!(answer.is_ok(), call != "ExplainAccess", "{call}");
        }
    }

    async fn another_tenants_tiles_look_like_ones_that_are_not_there(db: TestDatabase) {
        let (api, _folder) = api(&db).await;
        let caller = Caller::of_tenant("beta", "p1", ["auditor"]);
        for path in ["checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"] {
            let (status, _, content) = get(&api, &caller, &format!("/logs/beta/{path}")).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(!content.is_empty());
            let foreign = get(&api, &caller, &format!("/logs/acme/{path}")).await;
            let missing = get(&api, &caller, &format!("/logs/nobody/{path}")).await;
            assert_eq!(foreign, missing, "{path}");
            // The anchor log is of the deployment.
            assert_eq!(missing, get(&api, &caller, &format!("/logs/_anchor/{path}")).await);
            let operator = Caller::of_deployment("operators/admin", [Role::Administrator]);
            let anchor = get(&api, &operator, &format!("/logs/_anchor/{path}")).await;
            assert_eq!(anchor.0, StatusCode::OK, "{path}");
            assert_eq!((foreign.0, foreign.2), (StatusCode::NOT_FOUND, Vec::new()));
        }
    }
}
