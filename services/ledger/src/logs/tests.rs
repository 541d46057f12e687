//! Tests: what a log was not told it is told at the next start, and obligations are counted alike however often reading them was taken up.

use counterfoil_chassis::{
    CancellationToken, TestClock, both_engines, testing, testing::TestDatabase,
};
use counterfoil_engine::{EntryFilter, SignedRecord, key_id_of};
use counterfoil_evidence::catalogue::stream;
use counterfoil_evidence::record::signed_message;
use counterfoil_evidence::v1::{ObligationDischarged, ObligationOpened};
use counterfoil_tlog::NoteSigner;
use counterfoil_tlog::signature::RecordSigner;
use prost::Message;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;
const SEED: [u8; 32] = [7; 32];

/// The service's logs, without a network around them.
async fn open(db: &TestDatabase, folder: &std::path::Path) -> Logs {
    let config = testing::config("ledger", db, folder).into();
    let options = crate::engine_options(&config, Vec::new(), None);
    let clock = TestClock::new(NOW_MS).clock();
    let opened = crate::open(config, clock, None, CancellationToken::new(), options).await;
    opened.unwrap().1
}

/// The key of a service that writes the stream of its name.
fn producer(service: &str) -> Producer {
    let name = format!("counterfoil.local/services/{service}");
    let key = NoteSigner::from_seed(&name, &SEED).unwrap();
    Producer {
        key_id: key_id_of(key.verifier_key()),
        principal: format!("services/{service}"),
        stream: service.to_owned(),
        vkey: key.vkey(),
    }
}

/// The records of a service in one log.
struct Stream<'a> {
    log: &'a Log,
    last: StreamHead,
}

impl Stream<'_> {
    async fn append<P: Message + Name>(&mut self, payload: &P) {
        let mut record_id = [1; 16];
        record_id[0] = u8::try_from(self.last.last_seq).unwrap();
        let record = Record {
            version: 1,
            log_origin: self.log.info().origin.clone(),
            record_id: record_id.to_vec(),
            r#type: P::full_name(),
            schema_hash: counterfoil_evidence::schema_hash().to_vec(),
            stream: stream::RECONCILIATION.to_owned(),
            stream_seq: self.last.last_seq + 1,
            prev_record_hash: self.last.last_record_hash.to_vec(),
            occurred_at_ms: NOW_MS,
            actor: "services/reconciliation".to_owned(),
            retention_class: "governance".to_owned(),
            payload: payload.encode_to_vec(),
            ..Record::default()
        };
        let record = record.encode_to_vec();
        self.last = StreamHead {
            last_seq: self.last.last_seq + 1,
            last_record_hash: record_hash(&record),
        };
        let record = SignedRecord {
            signature: RecordSigner::from_seed(&SEED)
                .sign(&signed_message(&record))
                .to_vec(),
            key_id: producer(stream::RECONCILIATION).key_id,
            record,
        };
        let outcomes = self.log.append(vec![record]).await.unwrap();
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
    }
}

/// What a log states of keys: their ids.
async fn keys(log: &Log) -> Vec<String> {
    let filter = EntryFilter {
        record_type: Some(counterfoil_evidence::v1::ActorKeyRegistered::full_name()),
        ..EntryFilter::default()
    };
    let entries = log.list(&filter, 0, u64::MAX, PAGE).await.unwrap();
    let keys = entries.iter().map(|entry| match read(entry).unwrap().1 {
        Payload::ActorKeyRegistered(registered) => registered.key_id,
        other => panic!("{other:?}"),
    });
    keys.collect()
}

both_engines! {
    async fn what_a_log_was_not_told_it_is_told_at_the_next_start(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let logs = open(&db, folder.path()).await;
        for tenant in ["acme", "beta", ANCHOR] {
            logs.create(tenant).await.unwrap();
        }
        let own = logs.inner.own.key_id.clone();
        // A registration that was cut off when the first log was told.
        let cut_off = producer(stream::RECONCILIATION);
        store::insert_producer(logs.db(), &cut_off, NOW_MS).await.unwrap();
        let acme = logs.get("acme").await.unwrap();
        logs.tell(&acme).await.unwrap();
        for _ in 0..2 {
            logs.catch_up().await.unwrap();
            for tenant in ["acme", "beta"] {
                let log = logs.get(tenant).await.unwrap();
                assert_eq!(keys(&log).await, [own.clone(), cut_off.key_id.clone()], "{tenant}");
            }
            // Nobody else writes there.
            assert_eq!(keys(&logs.get(ANCHOR).await.unwrap()).await, std::slice::from_ref(&own));
        }
        logs.close().await;
    }

    async fn obligations_are_counted_alike_however_often_reading_them_was_taken_up(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let logs = open(&db, folder.path()).await;
        let log = logs.create("acme").await.unwrap();
        logs.register(&producer(stream::RECONCILIATION)).await.unwrap();
        let mut stream = Stream { log: &log, last: StreamHead::EMPTY };
        let opened = |id: u8| ObligationOpened { obligation: vec![id; 16], ..Default::default() };
        let discharged = |id: u8| ObligationDischarged { obligation: vec![id; 16], ..Default::default() };
        for id in 1..5 {
            stream.append(&opened(id)).await;
        }
        stream.append(&discharged(2)).await;
        stream.append(&opened(5)).await;
        stream.append(&discharged(5)).await;
        stream.append(&discharged(1)).await;
        let size = log.head().await.unwrap().size;
        let mut whole = Open::default();
        whole.read_on(&log, size).await.unwrap();
        let whole = whole.obligations.seal().unwrap();
        assert_eq!(whole.count, 2);
        for at in 0..=size {
            let mut parts = Open::default();
            parts.read_on(&log, at).await.unwrap();
            parts.read_on(&log, size).await.unwrap();
            assert_eq!(parts.obligations.seal().unwrap().root, whole.root, "at {at}");
        }
        logs.close().await;
    }

    async fn the_next_epoch_goes_on_from_what_was_open_at_the_last(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let logs = open(&db, folder.path()).await;
        let log = logs.create("acme").await.unwrap();
        logs.register(&producer(stream::RECONCILIATION)).await.unwrap();
        let mut stream = Stream { log: &log, last: StreamHead::EMPTY };
        let counted = async || {
            let (number, _) = logs.seal_epoch(&log).await.unwrap();
            let sealed = log.last_of_type(&EpochSealed::full_name(), log.head().await.unwrap().size).await.unwrap().unwrap();
            match read(&sealed).unwrap().1 {
                Payload::EpochSealed(sealed) if sealed.epoch == number => sealed.open_obligations_count,
                other => panic!("{other:?}"),
            }
        };
        for id in 1..4 {
            stream.append(&ObligationOpened { obligation: vec![id; 16], ..Default::default() }).await;
        }
        assert_eq!(counted().await, 3);
        stream.append(&ObligationDischarged { obligation: vec![1; 16], ..Default::default() }).await;
        stream.append(&ObligationOpened { obligation: vec![4; 16], ..Default::default() }).await;
        assert_eq!(counted().await, 3);
        // What is known is not read again: one that nobody opened shows it.
        let invented = ObligationOpened { obligation: vec![9; 16], ..Default::default() };
        let payload = Payload::ObligationOpened(invented);
        let mut known = logs.open().take("acme").unwrap();
        known.obligations.take(&payload, [9; 32]);
        logs.open().keep("acme", known);
        assert_eq!(counted().await, 4);
        // What was read of a log that was longer is not of this one.
        let mut known = logs.open().take("acme").unwrap();
        known.size = log.head().await.unwrap().size + 1;
        logs.open().keep("acme", known);
        assert_eq!(counted().await, 3);
        logs.close().await;
    }
}
