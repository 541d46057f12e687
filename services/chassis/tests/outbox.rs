//! The outbox and its relay on both engines, against a ledger over a real connection.

#![cfg(test)]

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use common::{CHECKPOINT_MS, ORIGIN, RelayTask, SmallLedger, draft, outbox, serve_ledger};
use counterfoil_chassis::{
    Outbox, WriteTx, both_engines, clock::timestamp, outbox::OutboxError,
    tenants::record_log_origin, testing::TestDatabase,
};
use counterfoil_evidence::{record::decode_record, v1};
use counterfoil_proto::common::EvidenceState;
use counterfoil_tlog::commitment::commit;
use sqlx::Row;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

async fn emit_one(db: &TestDatabase, outbox: &Outbox, number: u64) -> [u8; 16] {
    let mut tx = db.write_tx("acme").await.unwrap();
    let emitted = outbox.emit(&mut tx, draft(number)).await.unwrap();
    tx.commit().await.unwrap();
    emitted.record_id
}

async fn count(tx: &mut WriteTx, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(tx.conn()).await.unwrap()
}

both_engines! {
    async fn a_thousand_records_reach_the_ledger_in_order_with_receipts(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let ledger = SmallLedger::default();
        let served = serve_ledger(&ledger).await;
        let relay = RelayTask::start(&outbox, served.channel());
        let mut tx = db.write_tx("acme").await.unwrap();
        let emitted = outbox.emit_many(&mut tx, (0..1500).map(draft)).await.unwrap();
        tx.commit().await.unwrap();
        let ids: Vec<_> = emitted.iter().map(|record| record.record_id).collect();
        let receipts = outbox.await_receipts("acme", &ids, PATIENCE).await.unwrap();
        for ((position, record), receipt) in emitted.iter().enumerate().zip(&receipts) {
            assert_eq!(record.stream_seq, position as u64 + 1);
            assert_eq!(receipt.index, position as u64);
            assert_eq!(receipt.state(), EvidenceState::Logged);
            assert_eq!(receipt.record_hash, record.record_hash);
        }
        {
            let log = ledger.log.lock().unwrap();
            assert_eq!(log.records[1499].subject, ["items/1499"]);
            assert_eq!(log.records[0].log_origin, ORIGIN);
        }
        relay.stop().await;
        let stored = outbox.receipt("acme", &ids[7]).await.unwrap().unwrap();
        assert_eq!(stored, receipts[7]);
        assert_eq!(outbox.receipt("beta", &ids[7]).await.unwrap(), None);
        assert_eq!(outbox.receipt("acme", &[0; 16]).await.unwrap(), None);
    }

    async fn a_change_that_is_given_up_leaves_no_record_and_no_gap(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        emit_one(&db, &outbox, 1).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        outbox.emit_many(&mut tx, (0..5).map(draft)).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = db.write_tx("acme").await.unwrap();
        assert_eq!(outbox.emit(&mut tx, draft(2)).await.unwrap().stream_seq, 2);
        assert_eq!(count(&mut tx, "SELECT COUNT(*) FROM outbox_records").await, 2);
        assert_eq!(count(&mut tx, "SELECT COUNT(*) FROM disclosures").await, 2);
    }

    async fn a_commit_with_unfinished_records_is_refused(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        let mut emission = outbox.begin(&mut tx).await.unwrap();
        assert!(matches!(outbox.begin(&mut tx).await, Err(OutboxError::Open)));
        emission.add(draft(1)).unwrap();
        assert!(tx.commit().await.is_err());
        let mut other = db.write_tx("beta").await.unwrap();
        assert!(matches!(emission.finish(&mut other).await, Err(OutboxError::Tenant)));
        drop(other);
        let mut tx = db.write_tx("acme").await.unwrap();
        assert_eq!(count(&mut tx, "SELECT COUNT(*) FROM outbox_records").await, 0);
    }

    async fn records_of_one_transaction_cite_each_other(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        let mut emission = outbox.begin(&mut tx).await.unwrap();
        let first = emission.add(draft(1)).unwrap();
        let accountability = v1::Accountability {
            causes: vec![first.record_hash.to_vec()],
            ..Default::default()
        };
        let second = emission.add(draft(2).accountability(accountability)).unwrap();
        assert_eq!(emission.last_hash(), second.record_hash);
        emission.finish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let bytes: Vec<u8> = sqlx::query_scalar("SELECT record FROM outbox_records WHERE seq = 2")
            .fetch_one(db.read("acme").await.unwrap().conn()).await.unwrap();
        let record = decode_record(&bytes).unwrap();
        assert_eq!(record.accountability.unwrap().causes, [first.record_hash.to_vec()]);
        assert_eq!(record.prev_record_hash, first.record_hash);
    }

    async fn only_the_commitment_enters_the_record_and_the_value_stays(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        emit_one(&db, &outbox, 77).await;
        let row = sqlx::query("SELECT record, salt, value FROM outbox_records r JOIN disclosures d \
            ON d.tenant = r.tenant AND d.record_id = r.record_id AND d.stream_seq = r.seq")
            .fetch_one(db.read("acme").await.unwrap().conn()).await.unwrap();
        let bytes: Vec<u8> = row.try_get("record").unwrap();
        let salt: [u8; 32] = row.try_get::<Vec<u8>, _>("salt").unwrap().try_into().unwrap();
        let value: Vec<u8> = row.try_get("value").unwrap();
        assert_eq!(value, b"because of 77");
        assert!(!bytes.windows(value.len()).any(|window| window == value));
        let record = decode_record(&bytes).unwrap();
        assert_eq!(record.commitment[0].digest, commit("justification", &salt, &value).0);
    }

    async fn what_does_not_belong_into_the_stream_is_refused(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let refuse = async |draft| {
            let mut tx = db.write_tx("acme").await.unwrap();
            outbox.emit(&mut tx, draft).await.unwrap_err()
        };
        let foreign = counterfoil_chassis::RecordDraft::new(&v1::SourceSyncSealed::default(), "services/x", 0);
        assert!(matches!(refuse(foreign).await, OutboxError::Type(..)));
        let twice = draft(1).commit("justification", "again");
        assert!(matches!(refuse(twice).await, OutboxError::Label(..)));
        let large = (0..4000).fold(draft(1), |draft, n| draft.subject(format!("items/{n:020}")));
        assert!(matches!(refuse(large).await, OutboxError::TooLarge(..)));
        let mut tx = db.write_tx("nobody").await.unwrap();
        let unknown = outbox.emit(&mut tx, draft(1)).await.unwrap_err();
        assert!(matches!(unknown, OutboxError::UnknownLog(tenant) if tenant == "nobody"));
    }

    /// The process dies after the ledger has stored the records and before the outbox has noted it.
    async fn a_lost_answer_gives_the_same_positions_on_retry(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let ledger = SmallLedger::default();
        ledger.lose_answers.store(3, Ordering::SeqCst);
        let served = serve_ledger(&ledger).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        let emitted = outbox.emit_many(&mut tx, (0..10).map(draft)).await.unwrap();
        tx.commit().await.unwrap();
        let relay = RelayTask::start(&outbox, served.channel());
        let ids: Vec<_> = emitted.iter().map(|record| record.record_id).collect();
        let receipts = outbox.await_receipts("acme", &ids, PATIENCE).await.unwrap();
        relay.stop().await;
        assert_eq!(ledger.appends.load(Ordering::SeqCst), 4);
        assert_eq!(ledger.len(), 10);
        let indexes: Vec<_> = receipts.iter().map(|receipt| receipt.index).collect();
        assert_eq!(indexes, (0..10).collect::<Vec<_>>());
    }

    /// The whole process is gone: another outbox and relay find the records in the tables.
    async fn records_of_a_process_that_died_are_sent_by_the_next(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let first = outbox(&db, folder.path()).await;
        let one = emit_one(&db, &first, 1).await;
        drop(first);
        let ledger = SmallLedger::default();
        let served = serve_ledger(&ledger).await;
        let second = outbox(&db, folder.path()).await;
        let relay = RelayTask::start(&second, served.channel());
        let receipts = second.await_receipts("acme", &[one], PATIENCE).await.unwrap();
        assert_eq!(receipts[0].index, 0);
        assert_eq!(receipts[0].checkpoint_time, Some(timestamp(CHECKPOINT_MS)));
        let stored = second.receipt("acme", &one).await.unwrap().unwrap();
        assert_eq!(stored, receipts[0]);
        let two = emit_one(&db, &second, 2).await;
        assert_eq!(second.await_receipts("acme", &[two], PATIENCE).await.unwrap()[0].index, 1);
        relay.stop().await;
    }

    /// More tenants than are sent for at once, whose ledger refuses everything: nobody else waits for them.
    async fn tenants_whose_evidence_is_refused_do_not_stop_the_others(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let stuck: Vec<String> = (0..20).map(|number| format!("stuck-{number}")).collect();
        for tenant in &stuck {
            let mut tx = db.write_tx(tenant).await.unwrap();
            record_log_origin(&mut tx, "counterfoil.local/t/of-nobody").await.unwrap();
            outbox.emit(&mut tx, draft(1)).await.unwrap();
            tx.commit().await.unwrap();
        }
        let ledger = SmallLedger::default();
        let served = serve_ledger(&ledger).await;
        let relay = RelayTask::start(&outbox, served.channel());
        let all_were_refused = async {
            while ledger.tenants.lock().unwrap().len() < stuck.len() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, all_were_refused).await.unwrap();
        let one = emit_one(&db, &outbox, 1).await;
        let receipts = outbox.await_receipts("acme", &[one], PATIENCE).await.unwrap();
        assert_eq!(receipts[0].index, 0);
        relay.stop().await;
    }

    async fn a_refusal_keeps_the_stream_waiting_and_skips_nothing(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let ledger = SmallLedger::default();
        ledger.refuse_everything.store(true, Ordering::SeqCst);
        let served = serve_ledger(&ledger).await;
        let relay = RelayTask::start(&outbox, served.channel());
        let one = emit_one(&db, &outbox, 1).await;
        let two = emit_one(&db, &outbox, 2).await;
        let error = outbox.await_receipts("acme", &[one], Duration::from_millis(300)).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Code::Unavailable, "EVIDENCE_PENDING"));
        let pending = outbox.receipt("acme", &one).await.unwrap().unwrap();
        assert_eq!(pending.state(), EvidenceState::Pending);
        ledger.refuse_everything.store(false, Ordering::SeqCst);
        let receipts = outbox.await_receipts("acme", &[one, two], PATIENCE).await.unwrap();
        assert_eq!((receipts[0].index, receipts[1].index), (0, 1));
        relay.stop().await;
    }

    async fn receipts_settle_as_far_as_they_come(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        let mut receipt = outbox.emit(&mut tx, draft(1)).await.unwrap().pending_receipt();
        tx.commit().await.unwrap();
        outbox.settle("acme", [&mut receipt], Duration::ZERO).await.unwrap();
        assert_eq!(receipt.state(), EvidenceState::Pending);
        let ledger = SmallLedger::default();
        let served = serve_ledger(&ledger).await;
        let relay = RelayTask::start(&outbox, served.channel());
        outbox.settle("acme", &mut Some(receipt.clone()), PATIENCE).await.unwrap();
        let mut answer = Some(receipt);
        outbox.settle("acme", &mut answer, PATIENCE).await.unwrap();
        assert_eq!(answer.unwrap().state(), EvidenceState::Logged);
        relay.stop().await;
    }

    /// Many callers at once: every one gets its own receipt, and the stream has no gap.
    async fn concurrent_changes_form_one_stream(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&db, folder.path()).await;
        let ledger = SmallLedger::default();
        let served = serve_ledger(&ledger).await;
        let relay = RelayTask::start(&outbox, served.channel());
        let work = (0..40).map(|number| {
            let (db, outbox) = (&db, &outbox);
            async move {
                let id = emit_one(db, outbox, number).await;
                outbox.await_receipts("acme", &[id], PATIENCE).await.unwrap()[0].index
            }
        });
        let mut indexes = futures::future::join_all(work).await;
        indexes.sort_unstable();
        assert_eq!(indexes, (0..40).collect::<Vec<_>>());
        relay.stop().await;
    }

    async fn a_log_never_changes_its_origin(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let _outbox = outbox(&db, folder.path()).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        let error = counterfoil_chassis::tenants::record_log_origin(&mut tx, "elsewhere/acme").await;
        assert_eq!(error.unwrap_err().code(), Code::Internal);
    }
}
