//! The whole service with a real authority and a real ledger, on both engines.

#![cfg(test)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/deployment.rs"]
mod deployment;
#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeSet, fs, time::Duration};

use calls::{TENANT, all_grants, changes, leaf, logged, snapshot, source, streamed};
use counterfoil_chassis::{both_engines, clock::timestamp, testing::TestDatabase};
use counterfoil_evidence::{
    catalogue::Payload,
    leaf::{GRANT_LEAF_LEN, GrantKey, SourceTag},
};
use counterfoil_inventory::config::InventoryConfig;
use counterfoil_proto::{
    common::{EvidenceState, StreamDisclosuresRequest, stream_disclosures_response::Disclosure},
    inventory::*,
};
use counterfoil_tlog::{
    Hash,
    hash::{leaf_hash, sha256},
    merkle::MerkleTree,
    sorted_set::{SetProof, SortedSet, verify_membership, verify_non_membership},
};
use deployment::{Deployment, create_tenant, name_of, reason};
use support::{DAY_MS, Estate, NOW_MS};
use tonic::Code;

both_engines! {
    /// Registered with its two principals, once, and with evidence.
    async fn a_source_is_registered_once_with_evidence(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut ada = deployment.clients_of(&name_of("ada")).await;
        let mut request = deployment.create_source("hr", &Estate::small());
        request.request_id = "one".into();
        let created = ada.sources.create_source(request.clone()).await.unwrap().into_inner();
        let row = created.source.clone().unwrap();
        assert_eq!(row.name, source("hr"));
        assert_eq!((row.reader_principal.as_str(), row.writer_principal.as_str()), ("connectors/hr/reader", "connectors/hr/writer"));
        assert_eq!(row.source_tag, SourceTag::of("sources/hr").0);
        assert_eq!(row.config_json, "");
        assert_eq!(created.receipt.as_ref().unwrap().state(), EvidenceState::Logged);
        let again = ada.sources.create_source(request.clone()).await.unwrap().into_inner();
        assert_eq!(again, created);
        request.request_id = "two".into();
        let taken = ada.sources.create_source(request).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "SOURCE_EXISTS"));
        let records = logged(&deployment.service).await;
        let [(actor, Payload::SourceRegistered(record))] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(actor, "principals/ada");
        assert_eq!((record.source.as_str(), record.config_hash.len()), ("sources/hr", 32));
        assert!(record.capabilities.contains(&"revoke".to_owned()));
    }

    /// What cannot work is refused before it is registered, and says why.
    async fn a_source_that_cannot_work_is_refused(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut admin = deployment.admin.clone();
        let mut refused = async |config_json: &str, id: &str| {
            let mut request = deployment.create_source("hr", &Estate::small());
            request.source_id = id.into();
            request.source.as_mut().unwrap().config_json = config_json.into();
            admin.sources.create_source(request).await.unwrap_err()
        };
        let folder = deployment.files("hr");
        let good = serde_json::json!({"kind": "csv", "directory": folder}).to_string();
        for (config, field) in [
            ("", "source.config_json"),
            (r#"{"kind":"excel"}"#, "source.config_json"),
            (r#"{"kind":"csv","directory":"/x","colour":1}"#, "source.config_json"),
            (r#"{"kind":"csv","directory":""}"#, "source.config_json.directory"),
            (r#"{"kind":"csv","directory":"/x","read_only":"yes"}"#, "source.config_json"),
        ] {
            let status = refused(config, "hr").await;
            assert_eq!(status.code(), Code::InvalidArgument, "{config}");
            assert!(status.message().starts_with(field), "{config}: {}", status.message());
        }
        assert_eq!(refused(&good, "HR").await.code(), Code::InvalidArgument);
        let away = refused(r#"{"kind":"csv","directory":"/nowhere/at/all"}"#, "hr").await;
        assert_eq!((away.code(), reason(&away).as_str()), (Code::FailedPrecondition, "SOURCE_UNREACHABLE"));
        fs::write(folder.join("grants.csv"), "who,what\n").unwrap();
        let mut request = deployment.create_source("other", &Estate::small());
        request.source.as_mut().unwrap().config_json = good;
        let header = deployment.admin.clone().sources.create_source(request).await.unwrap_err();
        assert!(header.message().contains("grants.csv"), "{}", header.message());
        let listed = deployment.admin.clone().sources.list_sources(ListSourcesRequest { tenant: TENANT.into(), ..Default::default() }).await;
        assert_eq!(listed.unwrap().into_inner().sources, []);
    }

    async fn a_tenant_that_is_not_active_gets_no_source(db: TestDatabase) {
        let mut deployment = Deployment::without_tenant(db).await;
        create_tenant(&mut deployment.admin).await;
        let request = deployment.create_source("hr", &Estate::small());
        let refused = deployment.admin.sources.create_source(request).await.unwrap_err();
        assert_eq!(reason(&refused), "TENANT_NOT_ACTIVE");
    }

    /// A24: Counterfoil works on what it may only read.
    async fn a24_a_read_only_source_needs_no_writer(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut request = deployment.create_source("hr", &Estate::small());
        let settings = serde_json::json!({
            "kind": "csv", "directory": deployment.files("hr"), "writer_directory": "/nowhere/at/all", "read_only": true,
        });
        request.source.as_mut().unwrap().config_json = settings.to_string();
        let created = deployment.admin.clone().sources.create_source(request).await.unwrap().into_inner();
        assert_eq!(created.source.unwrap().writer_principal, "");
        assert_eq!(deployment.sync("hr").await.state(), SyncState::Complete);
        let records = logged(&deployment.service).await;
        let Payload::SourceRegistered(record) = &records[0].1 else { panic!("{records:?}") };
        assert!(!record.capabilities.contains(&"revoke".to_owned()));
        let request = GetSourceConnectionRequest { name: source("hr") };
        let connection = deployment.service.clone().sources.get_source_connection(request).await.unwrap().into_inner();
        assert_eq!(connection.writer_principal, "");
    }

    /// Settings go to services only; a tenant sees nothing of another; an auditor starts nothing.
    async fn callers_get_what_they_may(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        let mut ada = deployment.clients_of(&name_of("ada")).await;
        let mut auditor = deployment.clients_of(&name_of("aud")).await;
        let connection = GetSourceConnectionRequest { name: source("hr") };
        assert_eq!(ada.sources.get_source_connection(connection.clone()).await.unwrap_err().code(), Code::PermissionDenied);
        let settings = deployment.service.clone().sources.get_source_connection(connection).await.unwrap().into_inner();
        assert!(settings.config_json.contains("directory"));
        let start = StartSyncRequest { source: source("hr"), ..Default::default() };
        assert_eq!(auditor.sources.start_sync(start).await.unwrap_err().code(), Code::PermissionDenied);
        let foreign = GetSourceRequest { name: "tenants/beta/sources/hr".into() };
        let missing = GetSourceRequest { name: source("none") };
        let foreign = ada.sources.get_source(foreign).await.unwrap_err();
        let missing = ada.sources.get_source(missing).await.unwrap_err();
        assert_eq!((foreign.code(), foreign.message(), foreign.details()), (missing.code(), missing.message(), missing.details()));
        assert_eq!(foreign.code(), Code::NotFound);
    }

    /// A sync is watched to its seal and answered with its receipt.
    async fn a_sync_is_watched_to_its_seal(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        let sync = deployment.sync("hr").await;
        assert_eq!(sync.state(), SyncState::Complete);
        assert_eq!((sync.set_count, sync.counts.as_ref().unwrap().grants_direct), (6, 3));
        assert_eq!(sync.record_hash.len(), 32);
        let receipt = sync.receipt.clone().unwrap();
        assert_eq!(receipt.record_hash, sync.record_hash);
        let request = GetSourceRequest { name: source("hr") };
        let read = deployment.ada.clone().sources.get_source(request).await.unwrap().into_inner().source.unwrap();
        assert_eq!((&read.latest_sync, &read.last_attempted_sync), (&sync.name, &sync.name));
        fs::write(deployment.files("hr").join("grants.csv"), "account_native_id,entitlement_native_id\nada\n").unwrap();
        let bad = deployment.sync("hr").await;
        assert_eq!(bad.state(), SyncState::Partial);
        assert!(bad.error_messages.iter().any(|message| message.contains("grants.csv, line 2")), "{:?}", bad.error_messages);
        let request = GetSourceRequest { name: source("hr") };
        let read = deployment.ada.clone().sources.get_source(request).await.unwrap().into_inner().source.unwrap();
        assert_eq!((read.latest_sync, read.last_attempted_sync), (sync.name.clone(), bad.name.clone()));
        let request = ListSyncsRequest { tenant: TENANT.into(), source: source("hr"), page_size: 1, ..Default::default() };
        let page = deployment.ada.clone().sources.list_syncs(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.syncs[0].name, bad.name);
        let request = ListSyncsRequest { page_token: page.next_page_token, ..request };
        let page = deployment.ada.clone().sources.list_syncs(request).await.unwrap().into_inner();
        assert_eq!((page.syncs[0].name.as_str(), page.next_page_token.as_str()), (sync.name.as_str(), ""));
    }

    /// Whoever needs a reading after a moment gets one; all others share the one that runs or waits.
    async fn a_sync_begins_not_before_the_moment_asked_for(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        let start = async |ahead_ms: Option<i64>| {
            let request = StartSyncRequest {
                source: source("hr"),
                purpose: SyncPurpose::ReadBack.into(),
                not_before_time: ahead_ms.map(|ms| timestamp(NOW_MS + ms)),
                ..Default::default()
            };
            let started = deployment.ada.clone().sources.start_sync(request).await;
            started.map(|answer| answer.into_inner().sync.unwrap())
        };
        let first = start(Some(60_000)).await.unwrap();
        assert_eq!((first.state(), first.start_time), (SyncState::Running, None));
        assert_eq!(start(None).await.unwrap().name, first.name);
        assert_eq!(start(Some(120_000)).await.unwrap().name, first.name);
        deployment.clock.set_ms(NOW_MS + 120_000);
        let sealed = deployment.watch(&first.name).await;
        assert_eq!(sealed.start_time, Some(timestamp(NOW_MS + 120_000)));
        assert_eq!(sealed.purpose(), SyncPurpose::ReadBack);
        let far = start(Some(120_000 + 300_001)).await.unwrap_err();
        assert_eq!(far.code(), Code::InvalidArgument);
    }

    /// The same request id starts one sync.
    async fn a_repeated_start_is_answered_with_the_same_sync(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        let request = StartSyncRequest { source: source("hr"), request_id: "r1".into(), ..Default::default() };
        let mut sources = deployment.ada.clone().sources;
        let first = sources.start_sync(request.clone()).await.unwrap().into_inner().sync.unwrap();
        deployment.watch(&first.name).await;
        let second = sources.start_sync(request).await.unwrap().into_inner().sync.unwrap();
        assert_eq!(first.name, second.name);
    }

    /// A service that stops in the middle of a sync begins it again when it starts.
    async fn a_sync_outlives_the_service(db: TestDatabase) {
        let mut deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        let request = StartSyncRequest { source: source("hr"), ..Default::default() };
        let started = deployment.ada.clone().sources.start_sync(request).await.unwrap().into_inner().sync.unwrap();
        deployment.restart().await;
        assert_eq!(deployment.watch(&started.name).await.state(), SyncState::Complete);
    }

    /// D7: one inventory over sources of any kind: pages over all of them, filters, owners, orphans.
    async fn d7_one_inventory_over_all_sources(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut wiki = Estate::small();
        wiki.accounts.entry("ghost".into()).or_default();
        wiki.grant("ghost", "crew");
        deployment.add_source("hr", &Estate::small()).await;
        deployment.add_source("wiki", &wiki).await;
        assert_eq!(all_grants(&deployment.ada, &[], 0).await, []);
        deployment.sync("hr").await;
        deployment.sync("wiki").await;
        let all = all_grants(&deployment.ada, &[], 1_000).await;
        assert_eq!(all.len(), 6 + 9);
        assert!(all.is_sorted_by_key(|grant| leaf(grant).key));
        for page_size in [1, 4] {
            assert_eq!(all_grants(&deployment.ada, &[], page_size).await, all);
        }
        let orphaned = all_grants(&deployment.ada, &["ORPHANED", "INHERITED"], 1).await;
        let names: BTreeSet<String> = orphaned.iter().map(|grant| grant.entitlement.clone().unwrap().native_id).collect();
        assert_eq!(names, ["everyone", "staff"].map(str::to_owned).into());
        assert!(orphaned.iter().all(|grant| grant.path.len() == grant.entitlement.as_ref().map_or(0, |one| if one.native_id == "staff" { 1 } else { 2 })));
        let mut inventory = deployment.ada.clone().inventory;
        let wrong = ListGrantsRequest { tenant: TENANT.into(), flags: vec!["RED".into()], ..Default::default() };
        assert_eq!(inventory.list_grants(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        let request = ListIdentitiesRequest { tenant: TENANT.into(), ..Default::default() };
        let identities = inventory.list_identities(request).await.unwrap().into_inner().identities;
        assert_eq!(identities.len(), 3);
        assert!(identities.iter().all(|one| one.lifecycle_state == "active" && one.identity_class() == IdentityClass::Workforce));
        let request = ListAccountsRequest { tenant: TENANT.into(), orphaned: true, ..Default::default() };
        let accounts = inventory.list_accounts(request).await.unwrap().into_inner().accounts;
        assert_eq!(accounts.len(), 1);
        assert_eq!((accounts[0].native_id.as_str(), accounts[0].identity.as_str(), &accounts[0].source), ("ghost", "", &source("wiki")));
        let request = ListAccountsRequest { tenant: TENANT.into(), page_size: 5, ..Default::default() };
        let page = inventory.list_accounts(request.clone()).await.unwrap().into_inner();
        let request = ListAccountsRequest { page_token: page.next_page_token, ..request };
        let rest = inventory.list_accounts(request).await.unwrap().into_inner();
        assert_eq!((page.accounts.len(), rest.accounts.len(), rest.next_page_token.as_str()), (5, 2, ""));
        let request = ListEntitlementsRequest { tenant: TENANT.into(), source: source("hr"), ownerless: true, ..Default::default() };
        assert_eq!(inventory.list_entitlements(request).await.unwrap().into_inner().entitlements.len(), 4);
    }

    /// A26, A29: a snapshot names every source: as sealed, or as missing with the reason.
    async fn a26_a29_a_snapshot_lists_every_source_or_says_why_it_is_missing(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        for id in ["hr", "wiki", "mail", "crm"] {
            deployment.add_source(id, &Estate::small()).await;
        }
        let hr = deployment.sync("hr").await;
        deployment.sync("wiki").await;
        fs::remove_dir_all(deployment.files("mail")).unwrap();
        deployment.sync("mail").await;
        deployment.clock.advance_ms(3 * DAY_MS);
        let hr_again = deployment.sync("hr").await;
        assert_eq!(hr.set_root, hr_again.set_root);
        let sealed = snapshot(&deployment.ada).await;
        assert_eq!(sealed.receipt.as_ref().unwrap().state(), EvidenceState::Logged);
        let [only] = sealed.sources.as_slice() else { panic!("{sealed:?}") };
        assert_eq!((&only.source, &only.sync, only.set_count), (&source("hr"), &hr_again.name, 6));
        let missing: BTreeSet<(String, String)> = sealed.missing_sources.iter().map(|one| (one.source.clone(), one.reason.clone())).collect();
        let expected = [("crm", "never_synced"), ("mail", "unreachable"), ("wiki", "too_old")];
        assert_eq!(missing, expected.map(|(id, reason)| (source(id), reason.to_owned())).into());
        let part = [only.source_tag.as_slice(), &only.sync_record_hash, &only.set_root].concat();
        assert_eq!(sealed.snapshot_root, leaf_hash(&part).0);
        assert_eq!(only.sync_record_hash, hr_again.record_hash);
        deployment.sync("wiki").await;
        let both = snapshot(&deployment.ada).await;
        assert_eq!((both.sources.len(), both.grant_count), (2, 12));
        assert!(both.sources.is_sorted_by_key(|one| one.source_tag.clone()));
        let leaves = both.sources.iter().map(|one| leaf_hash(&[one.source_tag.as_slice(), &one.sync_record_hash, &one.set_root].concat()));
        assert_eq!(both.snapshot_root, MerkleTree::from_leaves(leaves.collect()).root().0);
        let request = GetSnapshotRequest { name: both.name.clone() };
        let read = deployment.ada.clone().sources.get_snapshot(request).await.unwrap().into_inner().snapshot.unwrap();
        assert_eq!(read, both);
        let request = ListSnapshotsRequest { tenant: TENANT.into(), ..Default::default() };
        let listed = deployment.ada.clone().sources.list_snapshots(request).await.unwrap().into_inner().snapshots;
        assert_eq!(listed.iter().map(|one| &one.name).collect::<Vec<_>>(), [&both.name, &sealed.name]);
    }

    /// What a snapshot sealed can be streamed when the inventory has moved on, as it was then.
    async fn a_snapshot_streams_what_it_sealed(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        deployment.add_source("wiki", &Estate::small()).await;
        deployment.sync("hr").await;
        deployment.sync("wiki").await;
        let sealed = snapshot(&deployment.ada).await;
        let then = all_grants(&deployment.ada, &[], 1_000).await;
        let mut later = Estate::small();
        later.grants.clear();
        later.grant("cid", "crew");
        later.person("ada").class = "privileged";
        later.write(&deployment.files("hr"));
        deployment.sync("hr").await;
        assert_ne!(all_grants(&deployment.ada, &[], 1_000).await, then);
        let (grants, none) = streamed(&deployment.ada, &sealed.name, false).await;
        assert_eq!(grants, then);
        assert!(none.is_empty());
        let (none, leaves) = streamed(&deployment.ada, &sealed.name, true).await;
        assert!(none.is_empty());
        assert_eq!(leaves, then.iter().flat_map(|grant| grant.leaf.clone()).collect::<Vec<_>>());
        for one in &sealed.sources {
            let own: Vec<u8> = leaves.chunks(GRANT_LEAF_LEN).filter(|leaf| leaf.starts_with(&one.source_tag)).flatten().copied().collect();
            assert_eq!(SortedSet::from_leaves(own, 40, GRANT_LEAF_LEN).unwrap().root().root.0.to_vec(), one.set_root);
        }
        let gone = then.iter().find(|grant| grant.account.as_ref().unwrap().native_id == "bob").unwrap();
        let request = BatchGetGrantsRequest {
            tenant: TENANT.into(),
            grant_keys: then.iter().map(|grant| grant.leaf[..40].to_vec()).collect(),
        };
        let now = deployment.ada.clone().inventory.batch_get_grants(request).await.unwrap().into_inner().grants;
        assert_eq!(now.len(), then.len());
        for (now, then) in now.iter().zip(&then) {
            assert_eq!(now.name, then.name);
            let stays = then.account.as_ref().unwrap().source == source("wiki");
            assert_eq!(now.leaf == then.leaf, stays);
        }
        assert!(now.iter().any(|grant| grant.name == gone.name && grant.leaf.is_empty() && grant.account.is_none()));
    }

    /// C1: what is there and what is not is proved against the sealed root.
    async fn c1_presence_and_absence_are_proved_against_the_sealed_root(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut estate = Estate::small();
        deployment.add_source("hr", &estate).await;
        let before = deployment.sync("hr").await;
        let all: Vec<GrantKey> = all_grants(&deployment.ada, &[], 0).await.iter().map(|grant| leaf(grant).key).collect();
        estate.grants.remove(&("cid".into(), "root".into()));
        estate.write(&deployment.files("hr"));
        let after = deployment.sync("hr").await;
        let prove = async |sync: &str, keys: &[GrantKey]| {
            let request = ProveGrantsRequest { sync: sync.into(), grant_keys: keys.iter().map(|key| key.0.to_vec()).collect() };
            deployment.service.clone().inventory.prove_grants(request).await.map(|answer| answer.into_inner())
        };
        let mut absent = 0;
        for (sync, expected) in [(&before, 0), (&after, 1)] {
            let proved = prove(&sync.name, &all).await.unwrap();
            assert_eq!((&proved.set_root, proved.set_count, &proved.sync_record_hash), (&sync.set_root, sync.set_count, &sync.record_hash));
            assert_eq!((proved.reader_principal.as_str(), proved.completeness()), ("connectors/hr/reader", SyncCompleteness::Complete));
            assert_eq!((&proved.start_time, &proved.end_time), (&sync.start_time, &sync.end_time));
            let root = Hash(proved.set_root.clone().try_into().unwrap());
            for proof in &proved.proofs {
                let read = SetProof::from_bytes(&proof.proof).unwrap();
                if proof.present {
                    verify_membership(&root, proved.set_count, &proof.grant_key, &read).unwrap();
                } else {
                    verify_non_membership(&root, proved.set_count, &proof.grant_key, &read).unwrap();
                    absent += 1;
                }
            }
            assert_eq!(absent, expected);
        }
        fs::write(deployment.files("hr").join("grants.csv"), "account_native_id,entitlement_native_id\nada\n").unwrap();
        let partial = deployment.sync("hr").await;
        let refused = prove(&partial.name, &all).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SYNC_PARTIAL"));
        assert_eq!(prove(&before.name, &[]).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(prove("tenants/acme/syncs/none", &all).await.unwrap_err().code(), Code::NotFound);
    }

    /// An owner is set with evidence and counts from the next sync on.
    async fn an_owner_is_set_with_evidence(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        deployment.add_source("hr", &Estate::small()).await;
        deployment.sync("hr").await;
        let mut ada = deployment.clients_of(&name_of("ada")).await;
        let ownerless = all_grants(&deployment.ada, &["OWNERLESS"], 0).await;
        let root = ownerless[0].entitlement.clone().unwrap();
        let set = |object: &str, owner: &str| SetOwnerRequest { object: object.into(), owner: owner.into(), request_id: "r".into() };
        let answer = ada.inventory.set_owner(set(&root.name, &name_of("ada"))).await.unwrap().into_inner();
        assert_eq!(answer.receipt.as_ref().unwrap().state(), EvidenceState::Logged);
        assert_eq!(ada.inventory.set_owner(set(&root.name, &name_of("ada"))).await.unwrap().into_inner(), answer);
        let refused = async |object: &str, owner: &str| {
            let request = SetOwnerRequest { request_id: String::new(), ..set(object, owner) };
            ada.inventory.clone().set_owner(request).await.unwrap_err().code()
        };
        assert_eq!(refused(&root.name, &name_of("nobody")).await, Code::InvalidArgument);
        assert_eq!(refused("tenants/acme/grants/x", &name_of("ada")).await, Code::InvalidArgument);
        let unknown = "tenants/acme/accounts/01890000-0000-7000-8000-000000000000";
        assert_eq!(refused(unknown, &name_of("ada")).await, Code::NotFound);
        deployment.sync("hr").await;
        assert_eq!(all_grants(&deployment.ada, &["OWNERLESS"], 0).await, []);
        let privileged = all_grants(&deployment.ada, &["PRIVILEGED"], 0).await;
        assert_eq!(privileged[0].entitlement.as_ref().unwrap().owner_key, "ada@example.org");
        let records = logged(&deployment.service).await;
        let owned = records.iter().find_map(|(_, payload)| match payload {
            Payload::OwnershipSet(record) => Some(record.clone()),
            _ => None,
        });
        let owned = owned.unwrap();
        assert_eq!(owned.owner, "principals/ada");
        assert!(root.name.ends_with(&owned.object));
    }

    /// A watcher sees every change once, also when it comes back, and knows when its token is too old.
    async fn changes_are_watched_and_resumed(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut estate = Estate::small();
        deployment.add_source("hr", &estate).await;
        let (none, start) = changes(&deployment.ada, "").await.unwrap();
        assert_eq!(none, []);
        let first = deployment.sync("hr").await;
        let (added, _) = changes(&deployment.ada, &start).await.unwrap();
        assert_eq!(added.len(), 6);
        assert!(added.iter().all(|(change, _)| change.kind() == ChangeKind::Added && change.leaf_before.is_empty() && change.sync == first.name));
        // From the middle on, the rest comes and nothing twice.
        let (rest, end) = changes(&deployment.ada, &added[2].1).await.unwrap();
        assert_eq!(rest, added[3..]);
        estate.grants.remove(&("cid".into(), "root".into()));
        estate.grant("bob", "staff").purpose = "other".into();
        estate.write(&deployment.files("hr"));
        deployment.sync("hr").await;
        let (later, _) = changes(&deployment.ada, &end).await.unwrap();
        let kinds: BTreeSet<i32> = later.iter().map(|(change, _)| change.kind).collect();
        assert_eq!((later.len(), kinds), (2, [ChangeKind::Changed.into(), ChangeKind::Removed.into()].into()));
        let refused = changes(&deployment.ada, "AAAA").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        // Who stays is woken by the seal.
        let request = WatchChangesRequest { tenant: TENANT.into(), resume_token: end, until_caught_up: false };
        let mut stream = deployment.ada.clone().inventory.watch_changes(request).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(change) = stream.message().await.unwrap().unwrap().change {
            seen.push(change);
        }
        assert_eq!(seen.len(), 2);
        estate.grant("cid", "crew");
        estate.write(&deployment.files("hr"));
        deployment.sync("hr").await;
        let woken = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        assert_eq!(woken.unwrap().unwrap().unwrap().change.unwrap().kind(), ChangeKind::Added);
    }

    /// A token from before what is kept is told from a wrong one.
    async fn a_token_older_than_what_is_kept_is_out_of_range(db: TestDatabase) {
        let settings = InventoryConfig { change_feed_syncs: 1, ..InventoryConfig::default() };
        let deployment = Deployment::start_with(db, settings).await;
        deployment.add_source("hr", &Estate::small()).await;
        let (_, start) = changes(&deployment.ada, "").await.unwrap();
        deployment.sync("hr").await;
        assert_eq!(changes(&deployment.ada, &start).await.unwrap().0.len(), 6);
        deployment.sync("hr").await;
        let expired = changes(&deployment.ada, &start).await.unwrap_err();
        assert_eq!((expired.code(), reason(&expired).as_str()), (Code::OutOfRange, "RESUME_TOKEN_EXPIRED"));
        assert_eq!(changes(&deployment.ada, "").await.unwrap().0, []);
    }

    /// A bundle gets the leaves of every COMPLETE sync, as they were sealed, and the name of the source.
    async fn every_sealed_set_and_every_commitment_is_disclosed(db: TestDatabase) {
        let deployment = Deployment::start(db).await;
        let mut estate = Estate::small();
        deployment.add_source("hr", &estate).await;
        let mut sealed = vec![deployment.sync("hr").await];
        estate.grant("cid", "crew");
        estate.write(&deployment.files("hr"));
        sealed.push(deployment.sync("hr").await);
        // Only what is in the ledger is disclosed.
        let mut sources = deployment.ada.clone().sources;
        loop {
            let request = GetSyncRequest { name: sealed[1].name.clone() };
            let sync = sources.get_sync(request).await.unwrap().into_inner().sync.unwrap();
            if sync.receipt.unwrap().state() == EvidenceState::Logged {
                break;
            }
            tokio::task::yield_now().await;
        }
        let request = StreamDisclosuresRequest { tenant: TENANT.into() };
        let mut stream = deployment.ada.clone().disclosures.stream_disclosures(request).await.unwrap().into_inner();
        let (mut names, mut blobs) = (Vec::new(), Vec::new());
        while let Some(part) = stream.message().await.unwrap() {
            match part.disclosure.unwrap() {
                Disclosure::Opening(opening) => names.push(String::from_utf8(opening.value).unwrap()),
                Disclosure::Blob(part) => {
                    assert!(part.last);
                    assert_eq!(part.sha256, sha256(&part.content).0);
                    blobs.push(part.content);
                }
            }
        }
        assert_eq!(names, ["The hr of Zebra"]);
        let roots: Vec<Vec<u8>> = blobs.into_iter().map(|blob| {
            SortedSet::from_leaves(blob, 40, GRANT_LEAF_LEN).unwrap().root().root.0.to_vec()
        }).collect();
        assert_eq!(roots, sealed.iter().map(|sync| sync.set_root.clone()).collect::<Vec<_>>());
    }
}
