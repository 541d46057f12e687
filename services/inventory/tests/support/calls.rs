//! Calls that the tests of the API make again and again.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses its own part"
)]

use counterfoil_evidence::{
    catalogue::{Payload, decode_payload},
    leaf::GrantLeaf,
    record::{decode_entry, decode_record},
};
use counterfoil_proto::{inventory::*, ledger::ListEntriesRequest};
use tonic::Status;

use super::deployment::Clients;

pub const TENANT: &str = "tenants/acme";

pub fn source(id: &str) -> String {
    format!("{TENANT}/sources/{id}")
}

pub async fn snapshot(clients: &Clients) -> Snapshot {
    let request = CreateSnapshotRequest {
        tenant: TENANT.into(),
        request_id: String::new(),
    };
    let created = clients.sources.clone().create_snapshot(request).await;
    created.unwrap().into_inner().snapshot.unwrap()
}

pub async fn all_grants(clients: &Clients, flags: &[&str], page_size: i32) -> Vec<Grant> {
    let mut request = ListGrantsRequest {
        tenant: TENANT.into(),
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        page_size,
        ..ListGrantsRequest::default()
    };
    let mut all = Vec::new();
    loop {
        let page = clients.inventory.clone().list_grants(request.clone()).await;
        let page = page.unwrap().into_inner();
        all.extend(page.grants);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

pub async fn streamed(
    clients: &Clients,
    snapshot: &str,
    leaves_only: bool,
) -> (Vec<Grant>, Vec<u8>) {
    let request = StreamSnapshotGrantsRequest {
        snapshot: snapshot.into(),
        leaves_only,
    };
    let mut stream = clients
        .inventory
        .clone()
        .stream_snapshot_grants(request)
        .await
        .unwrap()
        .into_inner();
    let (mut grants, mut leaves) = (Vec::new(), Vec::new());
    while let Some(part) = stream.message().await.unwrap() {
        grants.extend(part.grants);
        leaves.extend(part.leaves);
    }
    (grants, leaves)
}

pub async fn changes(
    clients: &Clients,
    resume_token: &str,
) -> Result<(Vec<(Change, String)>, String), Status> {
    let request = WatchChangesRequest {
        tenant: TENANT.into(),
        resume_token: resume_token.into(),
        until_caught_up: true,
    };
    let mut stream = clients
        .inventory
        .clone()
        .watch_changes(request)
        .await?
        .into_inner();
    let (mut all, mut last) = (Vec::new(), String::new());
    while let Some(answer) = stream.message().await? {
        last.clone_from(&answer.resume_token);
        all.extend(answer.change.map(|change| (change, answer.resume_token)));
    }
    Ok((all, last))
}

pub async fn logged(clients: &Clients) -> Vec<(String, Payload)> {
    let request = ListEntriesRequest {
        tenant: TENANT.into(),
        stream: "inventory".into(),
        page_size: 1_000,
        ..ListEntriesRequest::default()
    };
    let page = clients
        .ledger
        .clone()
        .list_entries(request)
        .await
        .unwrap()
        .into_inner();
    let record = |entry: &[u8]| {
        let entry = decode_entry(entry).unwrap();
        let record = decode_record(&entry.record).unwrap();
        let payload = decode_payload(&record.r#type, &record.payload)
            .unwrap()
            .unwrap();
        (record.actor, payload)
    };
    page.entries
        .iter()
        .map(|entry| record(&entry.entry))
        .collect()
}

pub fn leaf(grant: &Grant) -> GrantLeaf {
    GrantLeaf::try_from(grant.leaf.as_slice()).unwrap()
}
