//! Logs over gRPC: creating them, who may write, appending, heads, epochs. On both engines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::catalogue::stream;
use counterfoil_evidence::record::{decode_entry, decode_record, record_hash};
use counterfoil_evidence::v1::{
    ActorKeyRegistered, EpochSealed, ObligationBreached, ObligationDischarged, ObligationOpened,
    OwnershipSet, SchemaRegistered,
};
use counterfoil_proto::common::EvidenceState;
use counterfoil_proto::common::StreamDisclosuresRequest;
use counterfoil_proto::common::stream_disclosures_response::Disclosure;
use counterfoil_proto::ledger::{
    AppendBatchRequest, CreateLogRequest, GetCheckpointRequest, ListEntriesRequest, LogEntry,
    SealEpochRequest,
};
use counterfoil_tlog::sorted_set::SortedSetBuilder;
use counterfoil_tlog::{VerifierKey, proof};
use prost::{Message, Name};
use sha2::{Digest, Sha256};
use support::{Client, Ledger, append, try_append};
use tonic::Code;

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

async fn entries_of<P: Name>(client: &mut Client, tenant: &str) -> Vec<LogEntry> {
    let request = ListEntriesRequest {
        tenant: format!("tenants/{tenant}"),
        r#type: P::full_name(),
        page_size: 1000,
        ..Default::default()
    };
    client
        .list_entries(request)
        .await
        .unwrap()
        .into_inner()
        .entries
}

fn payload_of<P: Message + Default>(entry: &LogEntry) -> P {
    let record = decode_record(&decode_entry(&entry.entry).unwrap().record).unwrap();
    P::decode(record.payload.as_slice()).unwrap()
}

async fn keys_of(client: &mut Client, tenant: &str) -> Vec<String> {
    let entries = entries_of::<ActorKeyRegistered>(client, tenant).await;
    let keys = entries.iter().map(payload_of::<ActorKeyRegistered>);
    keys.map(|key| key.principal).collect()
}

both_engines! {
    async fn every_log_states_its_schema_and_every_producer_once(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        let mut client = ledger.client("services/authority");
        let acme = ledger.create("acme").await;
        assert_eq!(acme.origin, "counterfoil.local/t/acme");
        assert_eq!(VerifierKey::parse(&acme.vkey).unwrap().name(), acme.origin);
        assert_eq!(keys_of(&mut client, "acme").await, ["services/ledger"]);
        // Known before the second log is there, and after the first one.
        let inventory = ledger.producer("inventory", "acme").await;
        let beta = ledger.create("beta").await;
        assert_ne!(acme.vkey, beta.vkey);
        assert_eq!(acme.registrar_vkey, beta.registrar_vkey);
        for tenant in ["acme", "beta"] {
            let keys = keys_of(&mut client, tenant).await;
            assert_eq!(keys, ["services/ledger", "services/inventory"]);
        }
        // Again, in every way.
        assert_eq!(ledger.create("acme").await, acme);
        let mut as_inventory = ledger.client("services/inventory");
        as_inventory.register_producer(inventory.registration()).await.unwrap();
        let ledger = ledger.restart().await;
        assert_eq!(ledger.create("acme").await, acme);
        let mut client = ledger.client("services/authority");
        for tenant in ["acme", "beta"] {
            assert_eq!(keys_of(&mut client, tenant).await.len(), 2);
            let schemas = entries_of::<SchemaRegistered>(&mut client, tenant).await;
            let [schema] = schemas.as_slice() else { panic!("{schemas:?}") };
            let schema: SchemaRegistered = payload_of(schema);
            assert_eq!(schema.schema_hash, counterfoil_evidence::schema_hash());
        }
        // The set that R86 names can be had.
        let request = StreamDisclosuresRequest { tenant: "tenants/acme".to_owned() };
        let mut stream = ledger.disclosures().stream_disclosures(request).await.unwrap().into_inner();
        let mut set = Vec::new();
        while let Some(answer) = stream.message().await.unwrap() {
            let Some(Disclosure::Blob(part)) = answer.disclosure else { panic!("{answer:?}") };
            set.extend(part.content);
        }
        assert_eq!(Sha256::digest(&set).as_slice(), counterfoil_evidence::schema_hash());
    }

    async fn two_replicas_state_everything_once(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        ledger.create("acme").await;
        let other = ledger.replica().await;
        let mut tasks = tokio::task::JoinSet::new();
        for url in [ledger.running.url(), other.url()] {
            let mut client = ledger.client_at(&url, "services/authority");
            tasks.spawn(async move {
                for tenant in ["acme", "beta", "gamma"] {
                    let request = CreateLogRequest { tenant: format!("tenants/{tenant}") };
                    client.create_log(request).await.unwrap();
                }
            });
            for service in ["inventory", "recertification", "reconciliation"] {
                let registration = ledger.producer(service, "acme").await.registration();
                let mut client = ledger.client_at(&url, &registration.principal);
                tasks.spawn(async move {
                    client.register_producer(registration).await.unwrap();
                });
            }
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let mut client = ledger.client("services/authority");
        for tenant in ["acme", "beta", "gamma"] {
            let mut keys = keys_of(&mut client, tenant).await;
            keys.sort();
            let expected = ["inventory", "ledger", "recertification", "reconciliation"];
            assert_eq!(keys, expected.map(|service| format!("services/{service}")));
            assert_eq!(entries_of::<SchemaRegistered>(&mut client, tenant).await.len(), 1);
        }
        other.stop().await.unwrap();
    }

    async fn appended_records_get_receipts_that_verify_and_refusals_say_why(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        let acme = ledger.create("acme").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let records: Vec<_> = (0..300).map(|n| inventory.next(&ownership(n), &[])).collect();
        let receipts = append(&mut client, "acme", records.clone()).await;
        let key = VerifierKey::parse(&acme.vkey).unwrap();
        for (receipt, record) in receipts.iter().zip(&records) {
            assert_eq!(receipt.state(), EvidenceState::Logged);
            assert_eq!(receipt.record_hash, record_hash(&record.record));
            let text = std::str::from_utf8(&receipt.tlog_proof).unwrap();
            let leaf = receipt.leaf_hash.as_slice().try_into().unwrap();
            assert_eq!(proof::verify(text, &leaf, &key).unwrap().0, receipt.index);
        }
        // After a restart the same records get the same places.
        let ledger = ledger.restart().await;
        let mut client = ledger.client("services/inventory");
        let again = append(&mut client, "acme", records[..3].to_vec()).await;
        for (again, first) in again.iter().zip(&receipts) {
            assert_eq!((again.index, &again.leaf_hash), (first.index, &first.leaf_hash));
        }
        let mut other = inventory.draft(&ownership(1000), &[]);
        other.record_id = receipts[0].record_id.clone();
        let mut gap = inventory.draft(&ownership(1001), &[]);
        gap.stream_seq += 5;
        let mut wrong_link = inventory.draft(&ownership(1002), &[]);
        wrong_link.prev_record_hash = vec![1; 32];
        let mut unknown = inventory.draft(&ownership(1003), &[]);
        unknown.r#type = "counterfoil.evidence.v1.Nothing".to_owned();
        let mut elsewhere = inventory.draft(&ownership(1004), &[]);
        elsewhere.log_origin = "counterfoil.local/t/beta".to_owned();
        let mut batch: Vec<_> = [other, gap, wrong_link, unknown, elsewhere]
            .iter()
            .map(|draft| inventory.sign(draft))
            .collect();
        let draft = inventory.draft(&ownership(1005), &[]);
        let mut unsigned = inventory.sign(&draft);
        unsigned.signature = vec![0; 64];
        batch.push(unsigned);
        batch.push(inventory.next(&ownership(1006), &[]));
        let results = try_append(&mut client, "acme", batch).await.unwrap();
        let refusals: Vec<_> = results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .map(|refusal| (Code::from(refusal.code), refusal.reason.as_str(), refusal.expected_stream_seq))
            .collect();
        assert_eq!(refusals, [
            (Code::AlreadyExists, "RECORD_ID_TAKEN", 0),
            (Code::FailedPrecondition, "SEQUENCE_GAP", 301),
            (Code::FailedPrecondition, "PREV_HASH_MISMATCH", 301),
            (Code::InvalidArgument, "UNKNOWN_TYPE", 0),
            (Code::InvalidArgument, "OTHER_LOG", 0),
            (Code::PermissionDenied, "BAD_SIGNATURE", 0),
        ]);
        assert_eq!(results[6].as_ref().unwrap().index, receipts[299].index + 1);
    }

    async fn calls_that_cannot_be_answered_say_why(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        ledger.create("acme").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let code = |result: Result<_, tonic::Status>| result.map(|_: Vec<_>| ()).unwrap_err().code();
        let record = inventory.next(&ownership(1), &[]);
        assert_eq!(code(try_append(&mut client, "nobody", vec![record.clone()]).await), Code::NotFound);
        assert_eq!(code(try_append(&mut client, "acme", vec![]).await), Code::InvalidArgument);
        assert_eq!(code(try_append(&mut client, "no/name", vec![]).await), Code::InvalidArgument);
        let many = vec![record.clone(); 4097];
        assert_eq!(code(try_append(&mut client, "acme", many).await), Code::InvalidArgument);
        let mut long = record.clone();
        long.record = vec![0; 65_000];
        let too_much = vec![long; 50];
        assert_eq!(code(try_append(&mut client, "acme", too_much).await), Code::InvalidArgument);
        // Who may what.
        let mut admin = ledger.client("operators/admin");
        assert_eq!(code(try_append(&mut admin, "acme", vec![record]).await), Code::PermissionDenied);
        let create = CreateLogRequest { tenant: "tenants/x".to_owned() };
        assert_eq!(admin.create_log(create).await.unwrap_err().code(), Code::PermissionDenied);
        let request = GetCheckpointRequest { tenant: "tenants/acme".to_owned() };
        assert_eq!(admin.get_checkpoint(request.clone()).await.unwrap_err().code(), Code::PermissionDenied);
        assert!(client.get_checkpoint(request).await.unwrap().into_inner().size > 0);
        // A service registers itself, with a key that it holds.
        let mut registration = inventory.registration();
        registration.proof_of_possession[3] ^= 1;
        let refused = client.register_producer(registration).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let mut as_authority = ledger.client("services/authority");
        let refused = as_authority.register_producer(inventory.registration()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }

    async fn epochs_tile_the_log_and_count_what_it_holds(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        ledger.create("acme").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut reconciliation = ledger.producer("reconciliation", "acme").await;
        let mut client = ledger.client("services/inventory");
        let opened = |id: u8| ObligationOpened { obligation: vec![id; 16], ..Default::default() };
        let first = [opened(3), opened(1), opened(2)].map(|payload| reconciliation.next(&payload, &[]));
        append(&mut client, "acme", first.to_vec()).await;
        let discharged = ObligationDischarged { obligation: vec![1; 16], ..Default::default() };
        append(&mut client, "acme", vec![
            reconciliation.next(&discharged, &[]),
            inventory.next(&ownership(1), &[]),
        ]).await;
        let mut seal = async || {
            let request = SealEpochRequest { tenant: "tenants/acme".to_owned() };
            client.seal_epoch(request).await.unwrap().into_inner()
        };
        let sealed = seal().await;
        assert_eq!(sealed.epoch, 1);
        assert_eq!(sealed.receipt.unwrap().state(), EvidenceState::Logged);
        let breached = ObligationBreached { obligation: vec![2; 16], ..Default::default() };
        let breached = reconciliation.next(&breached, &[]);
        append(&mut ledger.client("services/inventory"), "acme", vec![breached]).await;
        assert_eq!(seal().await.epoch, 2);
        assert_eq!(seal().await.epoch, 3);

        let mut client = ledger.client("services/authority");
        let epochs: Vec<EpochSealed> = entries_of::<EpochSealed>(&mut client, "acme")
            .await
            .iter()
            .map(payload_of)
            .collect();
        // Registrar, schema, two producers; three opened, one discharged, one owner.
        let bounds: Vec<_> = epochs.iter().map(|epoch| (epoch.from_index, epoch.to_index)).collect();
        assert_eq!(bounds, [(0, 9), (9, 11), (11, 12)]);
        let counts: Vec<_> = epochs[0]
            .type_counts
            .iter()
            .map(|count| (count.r#type.rsplit('.').next().unwrap(), count.count))
            .collect();
        assert_eq!(counts, [
            ("ActorKeyRegistered", 3),
            ("ObligationDischarged", 1),
            ("ObligationOpened", 3),
            ("OwnershipSet", 1),
            ("SchemaRegistered", 1),
        ]);
        for epoch in &epochs {
            let sum: u64 = epoch.type_counts.iter().map(|count| count.count).sum();
            assert_eq!(sum, epoch.to_index - epoch.from_index);
        }
        let marks: Vec<_> = epochs[0].streams.iter().map(|mark| (mark.stream.as_str(), mark.last_seq)).collect();
        assert_eq!(marks, [(stream::INVENTORY, 1), (stream::LEDGER, 4), (stream::RECONCILIATION, 4)]);
        // Open at the end of the first epoch: 2 and 3, by id.
        let mut open = SortedSetBuilder::new(16, 48).unwrap();
        for (id, record) in [(2_u8, &first[2]), (3, &first[0])] {
            open.push(&[[id; 16].as_slice(), &record_hash(&record.record)].concat()).unwrap();
        }
        let open = open.finish();
        assert_eq!(epochs[0].open_obligations_root, open.root.as_bytes());
        assert_eq!(epochs.iter().map(|epoch| epoch.open_obligations_count).collect::<Vec<_>>(), [2, 1, 1]);
    }

    async fn too_much_at_once_comes_back_with_a_retry_hint(db: TestDatabase) {
        let ledger = Ledger::start_with(&db, |settings| settings.queue_bytes_max = Some(40_000)).await;
        ledger.create("acme").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let records: Vec<_> = (0..100).map(|n| inventory.next(&ownership(n), &[])).collect();
        let mut client = ledger.client("services/inventory");
        let request = AppendBatchRequest { tenant: "tenants/acme".to_owned(), records: records.clone() };
        let status = client.append_batch(request).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = tonic_types::StatusExt::get_error_details(&status);
        assert!(details.retry_info().unwrap().retry_delay.unwrap().as_millis() > 0);
        assert_eq!(append(&mut client, "acme", records[..20].to_vec()).await.len(), 20);
    }
}
