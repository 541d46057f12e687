//! Appending one record, and batches over a stream. On both engines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::{record::record_hash, v1::OwnershipSet};
use counterfoil_proto::{
    common::EvidenceState,
    ledger::{
        AppendRequest, AppendStreamRequest, GetCheckpointRequest, SignedRecord,
        append_result::Result as Outcome,
    },
};
use support::{Ledger, Producer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;

fn ownership(number: u64) -> OwnershipSet {
    OwnershipSet {
        object: format!("accounts/{number}"),
        role: 1,
        owner: "principals/alice".to_owned(),
    }
}

both_engines! {
    async fn a_stream_answers_in_order_and_ends_at_what_is_wrong(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        ledger.create("acme").await;
        ledger.create("beta").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let batch = |inventory: &mut Producer, count: u64| AppendStreamRequest {
            tenant: String::new(),
            records: (0..count).map(|n| inventory.next(&ownership(n), &[])).collect(),
        };
        let (sender, requests) = mpsc::channel(100);
        let mut first = batch(&mut inventory, 1);
        first.tenant = "tenants/acme".to_owned();
        sender.send(first).await.unwrap();
        // Many are on their way before the first answer is read; large ones are checked elsewhere and keep their place.
        let mut expected = vec![1];
        for count in [200, 1, 1, 300, 2, 1] {
            sender.send(batch(&mut inventory, count)).await.unwrap();
            expected.push(usize::try_from(count).unwrap());
        }
        // A record that is refused ends nothing.
        let mut twice = inventory.draft(&ownership(1), &[]);
        twice.record_id = vec![0, 0, 0, 0, 0, 0, 0, 1, b'i', b'n', b'v', b'e', b'n', b't', b'o', b'r'];
        let twice = inventory.sign(&twice);
        let taken = AppendStreamRequest { records: vec![twice.clone()], ..AppendStreamRequest::default() };
        sender.send(taken).await.unwrap();
        sender.send(batch(&mut inventory, 1)).await.unwrap();
        let answers = client.append_stream(ReceiverStream::new(requests)).await.unwrap();
        let mut answers = answers.into_inner();
        let mut indexes = Vec::new();
        for count in expected {
            let results = answers.message().await.unwrap().unwrap().results;
            assert_eq!(results.len(), count);
            for result in results {
                let Some(Outcome::Receipt(receipt)) = result.result else { panic!("{result:?}") };
                indexes.push(receipt.index);
            }
        }
        assert!(indexes.is_sorted_by(|one, next| *next == one + 1), "{indexes:?}");
        let refused = answers.message().await.unwrap().unwrap().results.remove(0);
        let Some(Outcome::Refusal(refusal)) = refused.result else { panic!("{refused:?}") };
        assert_eq!(refusal.reason, "RECORD_ID_TAKEN");
        assert_eq!(refusal.record_hash, record_hash(&twice.record));
        assert_ne!(refusal.logged_record_hash, refusal.record_hash);
        assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
        // Another tenant in the middle ends it, and appends nothing there.
        let mut elsewhere = batch(&mut inventory, 1);
        elsewhere.tenant = "tenants/beta".to_owned();
        sender.send(elsewhere).await.unwrap();
        assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
        let request = GetCheckpointRequest { tenant: "tenants/acme".to_owned() };
        let size = client.get_checkpoint(request).await.unwrap().into_inner().size;
        assert_eq!(size, indexes.last().unwrap() + 2);
    }

    async fn a_tenant_beyond_its_quota_is_refused_for_a_while_and_waits_on_a_stream(db: TestDatabase) {
        let quota = std::num::NonZeroU32::new(1);
        let ledger = Ledger::start_with(&db, |config| config.tenant_records_per_second = quota).await;
        ledger.create("acme").await;
        ledger.create("beta").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let records = |inventory: &mut Producer, count: u64| -> Vec<SignedRecord> {
            (0..count).map(|n| inventory.next(&ownership(n), &[])).collect()
        };
        // Ten seconds' worth at once; what is refused is not in the log, so the next one does not follow it.
        support::append(&mut client, "acme", records(&mut inventory, 9)).await;
        support::append(&mut client, "acme", records(&mut inventory, 1)).await;
        let beyond = records(&mut inventory, 2);
        let refused = support::try_append(&mut client, "acme", beyond.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert_eq!(refused.get_details_error_info().unwrap().reason, "TENANT_QUOTA");
        let retry = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(retry, std::time::Duration::from_secs(2));
        let one = AppendRequest { tenant: "tenants/acme".to_owned(), record: Some(beyond[0].clone()) };
        assert_eq!(client.append(one).await.unwrap_err().code(), Code::ResourceExhausted);
        // Nobody else is meant.
        let mut other = ledger.producer("recertification", "beta").await;
        let mut others = ledger.client("services/recertification");
        let decided = other.next(&counterfoil_evidence::v1::ReviewDecided::default(), &[]);
        support::append(&mut others, "beta", vec![decided]).await;
        // On a stream they are answered when there is room again, and not before.
        let request = AppendStreamRequest { tenant: "tenants/acme".to_owned(), records: beyond };
        let answers = client.append_stream(futures::stream::iter([request])).await.unwrap();
        ledger.clock.advance_ms(2000);
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        for result in answer.results {
            let Some(Outcome::Receipt(receipt)) = result.result else { panic!("{result:?}") };
            let at = receipt.checkpoint_time.unwrap();
            assert_eq!(at.seconds * 1000, support::NOW_MS + 2000);
        }
    }

    async fn a_stream_that_says_nothing_useful_is_answered_so(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        ledger.create("acme").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let nothing = futures::stream::empty::<AppendStreamRequest>();
        let mut answers = client.append_stream(nothing).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_none());
        for (tenant, records, code) in [
            ("tenants/acme", 0, Code::InvalidArgument),
            ("tenants/nobody", 1, Code::NotFound),
            ("", 1, Code::InvalidArgument),
        ] {
            let request = AppendStreamRequest {
                tenant: tenant.to_owned(),
                records: (0..records)
                    .map(|n| {
                        let draft = inventory.draft(&ownership(n), &[]);
                        inventory.sign(&draft)
                    })
                    .collect(),
            };
            let refused = match client.append_stream(futures::stream::iter([request])).await {
                Ok(answers) => answers.into_inner().message().await.unwrap_err(),
                Err(refused) => refused,
            };
            assert_eq!(refused.code(), code, "{tenant}: {refused}");
        }
        let answers = client.append_stream(futures::stream::iter([AppendStreamRequest {
            tenant: "tenants/acme".to_owned(),
            records: vec![inventory.next(&ownership(1), &[])],
        }])).await.unwrap();
        assert!(answers.into_inner().message().await.unwrap().is_some());
    }

    async fn a_single_record_is_answered_with_its_receipt_or_the_reason(db: TestDatabase) {
        let ledger = Ledger::start(&db).await;
        ledger.create("acme").await;
        let mut inventory = ledger.producer("inventory", "acme").await;
        let mut client = ledger.client("services/inventory");
        let one = |record: Option<SignedRecord>| AppendRequest { tenant: "tenants/acme".to_owned(), record };
        let record = inventory.next(&ownership(1), &[]);
        let first = client.append(one(Some(record.clone()))).await.unwrap().into_inner().receipt.unwrap();
        assert_eq!(first.state(), EvidenceState::Logged);
        let again = client.append(one(Some(record.clone()))).await.unwrap().into_inner().receipt.unwrap();
        assert_eq!((again.index, again.leaf_hash), (first.index, first.leaf_hash));
        let mut twice = inventory.draft(&ownership(2), &[]);
        twice.record_id = first.record_id.clone();
        let twice = inventory.sign(&twice);
        let refused = client.append(one(Some(twice.clone()))).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
        let told = refused.get_error_details();
        let told = told.error_info().unwrap();
        assert_eq!(told.reason, "RECORD_ID_TAKEN");
        assert_eq!(told.metadata["logged_record_hash"], hex::encode(record_hash(&record.record)));
        assert_eq!(told.metadata["record_hash"], hex::encode(record_hash(&twice.record)));
        let _skipped = inventory.next(&ownership(3), &[]);
        let refused = client.append(one(Some(inventory.next(&ownership(4), &[])))).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(refused.get_error_details().error_info().unwrap().metadata["expected_stream_seq"], "2");
        assert_eq!(client.append(one(None)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
