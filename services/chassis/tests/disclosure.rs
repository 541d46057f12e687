//! What a bundle gets beside the log: openings and attachments, in the order of the stream.

#![cfg(test)]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use common::{RelayTask, Served, SmallLedger, draft, outbox, serve_ledger};
use counterfoil_chassis::{
    ApiError, Caller, Outbox, RecordDraft, Role,
    auth::Token,
    both_engines,
    config::Limits,
    disclosure::{BlobSource, Disclosures},
    testing::TestDatabase,
};
use counterfoil_evidence::v1::BlobRef;
use counterfoil_proto::common::{
    Opening, StreamDisclosuresRequest, disclosure_service_client::DisclosureServiceClient,
    stream_disclosures_response::Disclosure,
};
use futures::{StreamExt, stream::BoxStream};
use sha2::{Digest, Sha256};
use tonic::{Code, Status, service::Routes};

const DERIVED: &[u8] = &[9; 2_500_000];

/// Derives one attachment; `damaged` changes its last byte.
struct Derived {
    damaged: bool,
}

#[async_trait]
impl BlobSource for Derived {
    async fn open(
        &self,
        tenant: &str,
        blob: &BlobRef,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, ApiError>>>, ApiError> {
        let wanted = Sha256::digest(DERIVED).as_slice() == blob.sha256;
        if tenant != "acme" || !wanted {
            return Ok(None);
        }
        let mut bytes = DERIVED.to_vec();
        if self.damaged {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let parts: Vec<_> = bytes
            .chunks(700_000)
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        Ok(Some(futures::stream::iter(parts).boxed()))
    }
}

struct Received {
    openings: Vec<Opening>,
    blobs: Vec<(Vec<u8>, Vec<u8>)>,
}

async fn receive(served: &Served, tenant: &str) -> Result<Received, Status> {
    let mut client = DisclosureServiceClient::new(served.channel());
    let request = StreamDisclosuresRequest {
        tenant: format!("tenants/{tenant}"),
    };
    let mut stream = client.stream_disclosures(request).await?.into_inner();
    let (mut openings, mut blobs) = (Vec::new(), Vec::<(Vec<u8>, Vec<u8>)>::new());
    let mut open = false;
    while let Some(message) = stream.message().await? {
        match message.disclosure.unwrap() {
            Disclosure::Opening(opening) => openings.push(opening),
            Disclosure::Blob(part) => {
                assert!(part.content.len() <= 1 << 20);
                if !open {
                    blobs.push((part.sha256.clone(), Vec::new()));
                }
                let (sha256, content) = blobs.last_mut().unwrap();
                assert_eq!(*sha256, part.sha256);
                content.extend(part.content);
                open = !part.last;
            }
        }
    }
    assert!(!open);
    Ok(Received { openings, blobs })
}

async fn log(db: &TestDatabase, outbox: &Outbox, drafts: Vec<RecordDraft>) {
    let served = serve_ledger(&SmallLedger::default()).await;
    let mut tx = db.write_tx("acme").await.unwrap();
    let emitted = outbox.emit_many(&mut tx, drafts).await.unwrap();
    tx.commit().await.unwrap();
    let relay = RelayTask::start(outbox, served.channel());
    let ids: Vec<_> = emitted.iter().map(|record| record.record_id).collect();
    outbox
        .await_receipts("acme", &ids, Duration::from_secs(30))
        .await
        .unwrap();
    relay.stop().await;
}

fn with_derived(draft: RecordDraft) -> RecordDraft {
    draft.blob(
        Sha256::digest(DERIVED).into(),
        DERIVED.len() as u64,
        "application/x-derived",
    )
}

async fn serve(outbox: &Outbox, damaged: bool) -> Served {
    let disclosures = Disclosures::new(outbox.clone()).with_source(Arc::new(Derived { damaged }));
    Served::start(
        Routes::new(disclosures.into_server()),
        Role::Service,
        Limits::default(),
    )
    .await
}

both_engines! {
    async fn everything_logged_is_disclosed_in_order_and_each_attachment_once(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let kept = vec![3_u8; (1 << 20) + 5];
        let mut drafts: Vec<_> = (0..1100).map(draft).collect();
        drafts[10] = draft(10).attach("application/x-kept", kept.clone());
        drafts[20] = draft(20).attach("application/x-empty", Vec::new());
        drafts[30] = with_derived(draft(30));
        drafts[40] = with_derived(draft(40)).attach("application/x-kept", kept.clone());
        log(&db, &outbox, drafts).await;
        // Durable and not in the ledger: no bundle can hold its record.
        let mut tx = db.write_tx("acme").await.unwrap();
        outbox.emit(&mut tx, draft(5000)).await.unwrap();
        tx.commit().await.unwrap();
        let received = receive(&serve(&outbox, false).await, "acme").await.unwrap();
        let values: Vec<_> = received.openings.iter().map(|opening| opening.value.clone()).collect();
        let expected: Vec<_> = (0..1100).map(|n| format!("because of {n}").into_bytes()).collect();
        assert_eq!(values, expected);
        let contents: Vec<_> = received.blobs.iter().map(|(_, content)| content.as_slice()).collect();
        assert_eq!(contents, [kept.as_slice(), &[], DERIVED]);
        for (sha256, content) in &received.blobs {
            assert_eq!(Sha256::digest(content).as_slice(), sha256);
        }
    }

    async fn a_damaged_or_missing_attachment_ends_the_stream_with_data_loss(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        log(&db, &outbox, vec![with_derived(draft(1))]).await;
        let damaged = receive(&serve(&outbox, true).await, "acme").await;
        assert_eq!(damaged.map(|_| ()).unwrap_err().code(), Code::DataLoss);
        let routes = Routes::new(Disclosures::new(outbox.clone()).into_server());
        let served = Served::start(routes, Role::Service, Limits::default()).await;
        let missing = receive(&served, "acme").await.map(|_| ()).unwrap_err();
        assert_eq!(missing.code(), Code::DataLoss);
    }

    async fn another_tenants_disclosures_are_not_there(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let routes = Routes::new(Disclosures::new(outbox.clone()).into_server());
        let auditor = Caller::of_tenant("beta", "p1", ["auditor"]);
        let token = Token::generate().unwrap();
        let served = Served::start_as(routes, token, auditor, Limits::default(), "127.0.0.1:0").await;
        let foreign = receive(&served, "acme").await.map(|_| ()).unwrap_err();
        let missing = receive(&served, "beta").await.map(|_| ()).unwrap_err();
        assert_eq!(foreign.code(), Code::NotFound);
        assert_eq!((foreign.message(), foreign.details()), (missing.message(), missing.details()));
    }
}
