//! Appending: what is taken, what is refused, and what the receipts prove. On both engines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use counterfoil_engine::{EngineError, EngineOptions, Refusal, SignedRecord};
use counterfoil_evidence::record::{decode_entry, record_hash};
use counterfoil_evidence::v1::OwnershipSet;
use counterfoil_tlog::proof;
use prost::Message as _;
use support::foreign::Exported;
use support::{
    Fixture, ORIGIN, Producer, REGISTRATIONS, TENANT, databases, fixture, fixture_on, lifecycle,
    ownership, receipts, sqlite,
};

#[tokio::test]
async fn every_appended_record_has_a_receipt_that_verifies() {
    for database in databases() {
        let Fixture {
            log, mut inventory, ..
        } = fixture(&database).await;
        for count in [1, 2, 300, 255, 1] {
            let records: Vec<_> = (0..count)
                .map(|number| inventory.next(&ownership(number), &["accounts/1"]))
                .collect();
            let hashes: Vec<_> = records
                .iter()
                .map(|signed| record_hash(&signed.record))
                .collect();
            let receipts = receipts(log.append(records).await.unwrap());
            let head = log.head().await.unwrap();
            for (receipt, hash) in receipts.iter().zip(hashes) {
                let (index, checkpoint) =
                    proof::verify(&receipt.tlog_proof, &receipt.leaf_hash, &log.info().vkey)
                        .unwrap();
                assert_eq!((index, checkpoint.size), (receipt.index, head.size));
                assert_eq!(receipt.record_hash, hash);
                assert_eq!(receipt.checkpoint_ms, head.recorded_at_ms);
                let stored = log.entry(index).await.unwrap().unwrap();
                assert_eq!(stored.leaf_hash, receipt.leaf_hash);
                let by_record = log.entry_by_record(&receipt.record_id).await.unwrap();
                assert_eq!(by_record, Some(stored));
            }
        }
        let head = log.head().await.unwrap();
        assert_eq!(head.size, REGISTRATIONS + 559, "{}", database.name);
        let exported = Exported::take(&log, head.size).await;
        exported.verify(&log.info().vkey.to_string());
        let report = log.fsck().await.unwrap();
        assert!(report.is_clean(), "{:?}", report.problems);
    }
}

#[tokio::test]
async fn a_record_sent_again_gets_its_original_position() {
    for database in databases() {
        let Fixture {
            log, mut inventory, ..
        } = fixture(&database).await;
        let records: Vec<_> = (0..40)
            .map(|number| inventory.next(&ownership(number), &[]))
            .collect();
        let first = receipts(log.append(records.clone()).await.unwrap());
        let more = inventory.next(&ownership(40), &[]);
        receipts(log.append(vec![more.clone()]).await.unwrap());
        let again = receipts(log.append(records).await.unwrap());
        for (first, again) in first.iter().zip(&again) {
            assert_eq!(first.index, again.index);
            assert_eq!(first.leaf_hash, again.leaf_hash);
            assert!(first.checkpoint_ms > 0 && first.checkpoint_ms <= again.checkpoint_ms);
            let key = &log.info().vkey;
            let (index, checkpoint) =
                proof::verify(&again.tlog_proof, &first.leaf_hash, key).unwrap();
            assert_eq!((index, checkpoint.size), (first.index, REGISTRATIONS + 41));
        }
        // Twice in one batch, the second time before anything of it is committed.
        let next = inventory.next(&ownership(41), &[]);
        let twice = log
            .append(vec![next.clone(), more, next.clone()])
            .await
            .unwrap();
        let indexes: Vec<u64> = receipts(twice)
            .iter()
            .map(|receipt| receipt.index)
            .collect();
        assert_eq!(
            indexes,
            [REGISTRATIONS + 41, REGISTRATIONS + 40, REGISTRATIONS + 41]
        );
        assert_eq!(log.head().await.unwrap().size, REGISTRATIONS + 42);
    }
}

#[tokio::test]
async fn a_record_id_with_other_bytes_is_refused() {
    for database in databases() {
        let Fixture {
            log,
            mut inventory,
            mut authority,
            ..
        } = fixture(&database).await;
        let first = inventory.next(&ownership(1), &[]);
        let first_receipt = receipts(log.append(vec![first.clone()]).await.unwrap());
        let taken = |sent: &SignedRecord| {
            Err(Refusal::RecordIdTaken {
                index: first_receipt[0].index,
                logged: record_hash(&first.record),
                sent: record_hash(&sent.record),
            })
        };
        // The same id as the next record of its stream: found only by the database.
        let id = first_receipt[0].record_id.to_vec();
        let mut draft = inventory.draft(&ownership(2), &[]);
        draft.record_id = id.clone();
        let in_sequence = inventory.sign(&draft);
        let refused = taken(&in_sequence);
        assert_eq!(log.append(vec![in_sequence]).await.unwrap(), [refused]);
        // The same id at its old place, and in another stream; the stream goes on beside them.
        draft.stream_seq = 1;
        draft.prev_record_hash = vec![0; 32];
        let old_place = inventory.sign(&draft);
        let mut other = authority.draft(&lifecycle(), &[]);
        other.record_id = id;
        let elsewhere = authority.sign(&other);
        let good = authority.next(&lifecycle(), &[]);
        let refused = [taken(&old_place), taken(&elsewhere)];
        let outcomes = log.append(vec![old_place, elsewhere, good]).await.unwrap();
        assert_eq!(outcomes[..2], refused);
        assert_eq!(outcomes[2].as_ref().unwrap().index, REGISTRATIONS + 1);
    }
}

#[tokio::test]
async fn a_gap_is_refused_with_the_number_expected_and_other_streams_go_on() {
    for database in databases() {
        let Fixture {
            log,
            mut inventory,
            mut authority,
            ..
        } = fixture(&database).await;
        let _lost = inventory.next(&ownership(1), &[]);
        let second = inventory.next(&ownership(2), &[]);
        let third = inventory.next(&ownership(3), &[]);
        let other = authority.next(&lifecycle(), &[]);
        let outcomes = log.append(vec![second, other, third]).await.unwrap();
        let gap = Err(Refusal::SequenceGap { expected: 1 });
        assert_eq!((&outcomes[0], &outcomes[2]), (&gap, &gap));
        assert!(outcomes[1].is_ok());
        // The right number after another record.
        let mut stranger = Producer::new("inventory", 2);
        let first = stranger.next(&ownership(7), &[]);
        receipts(log.append(vec![first]).await.unwrap());
        let mut draft = stranger.draft(&ownership(8), &[]);
        draft.prev_record_hash = vec![7; 32];
        let outcomes = log.append(vec![stranger.sign(&draft)]).await.unwrap();
        assert_eq!(outcomes, [Err(Refusal::PrevHashMismatch { expected: 2 })]);
    }
}

#[tokio::test]
async fn a_bad_signature_takes_nothing_else_with_it() {
    for database in databases() {
        let Fixture {
            log,
            mut inventory,
            mut authority,
            ..
        } = fixture(&database).await;
        // Enough to be verified before sequencing, then few enough to be verified with others.
        for count in [200, 3] {
            let mut records: Vec<_> = (0..count)
                .map(|number| inventory.next(&ownership(number), &[]))
                .collect();
            let mut forged = authority.draft(&lifecycle(), &[]);
            forged.occurred_at_ms = 1;
            let mut forged = authority.sign(&forged);
            forged.signature[40] ^= 1;
            records.insert(1, forged);
            records.push(authority.next(&lifecycle(), &[]));
            let outcomes = log.append(records).await.unwrap();
            assert_eq!(outcomes[1], Err(Refusal::BadSignature));
            let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert_eq!(good as u64, count + 1);
        }
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn a_key_writes_only_what_the_log_has_registered_it_for() {
    for database in databases() {
        let Fixture {
            log,
            mut registrar,
            inventory,
            authority,
            ..
        } = fixture(&database).await;
        // Signed by a key of another stream.
        let draft = inventory.draft(&ownership(1), &[]);
        let outcomes = log.append(vec![authority.sign(&draft)]).await.unwrap();
        assert_eq!(
            outcomes,
            [Err(Refusal::KeyNotAllowed(authority.key_id.clone()))]
        );
        // Not registered; then registered and used in the same batch.
        let mut new = Producer::new("recertification", 9);
        let draft = new.draft(&stage_closed(), &[]);
        let outcomes = log.append(vec![new.sign(&draft)]).await.unwrap();
        assert_eq!(outcomes, [Err(Refusal::KeyNotAllowed(new.key_id.clone()))]);
        let registration = registrar.next(&new.registration(), &[]);
        let batch = vec![registration, new.next(&stage_closed(), &[])];
        receipts(log.append(batch).await.unwrap());
        // Revoked from the next millisecond on.
        let now = 1_800_000_000_000;
        let revocation = registrar.next(&new.revocation(now), &[]);
        let still = new.next(&stage_closed(), &[]);
        receipts(log.append(vec![revocation, still]).await.unwrap());
        database
            .clock
            .0
            .store(now + 1, std::sync::atomic::Ordering::SeqCst);
        let late = new.next(&stage_closed(), &[]);
        let outcomes = log.append(vec![late]).await.unwrap();
        assert_eq!(outcomes, [Err(Refusal::KeyRevoked(new.key_id.clone()))]);
        // Only the registrar registers.
        let draft = {
            let mut draft = registrar.draft(&inventory.registration(), &[]);
            draft.occurred_at_ms += 1;
            draft
        };
        let outcomes = log.append(vec![inventory.sign(&draft)]).await.unwrap();
        assert_eq!(
            outcomes,
            [Err(Refusal::KeyNotAllowed(inventory.key_id.clone()))]
        );
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

fn stage_closed() -> counterfoil_evidence::v1::StageClosed {
    counterfoil_evidence::v1::StageClosed {
        campaign: "campaigns/1".to_owned(),
        stage: 1,
        ..Default::default()
    }
}

#[tokio::test]
async fn malformed_and_misplaced_records_are_refused_one_by_one() {
    let database = sqlite();
    let Fixture {
        log, mut inventory, ..
    } = fixture(&database).await;
    let draft = |change: fn(&mut counterfoil_evidence::v1::Record)| {
        let mut draft = inventory.draft(&ownership(1), &[]);
        change(&mut draft);
        inventory.sign(&draft)
    };
    let mut records = vec![
        draft(|record| record.log_origin = "ledger.example/t/other".to_owned()),
        draft(|record| record.r#type = "counterfoil.evidence.v1.Nothing".to_owned()),
        draft(|record| record.stream = "authority".to_owned()),
        draft(|record| record.payload.extend([0x0a, 0x01, b'x'])),
        draft(|record| record.version = 2),
        draft(|record| record.subject = (0..65).map(|number| number.to_string()).collect()),
        draft(|record| record.payload = vec![0; 64_001]),
    ];
    // An unknown field, behind which something could hide.
    let mut hidden = inventory.draft(&ownership(1), &[]).encode_to_vec();
    hidden.extend([0xf8, 0x07, 0x01]);
    records.push(counterfoil_engine::SignedRecord {
        record: hidden,
        ..records[0].clone()
    });
    let good = inventory.next(&ownership(1), &[]);
    records.push(good);
    let outcomes = log.append(records).await.unwrap();
    assert!(matches!(outcomes[0], Err(Refusal::OtherLog(_))));
    assert!(matches!(outcomes[1], Err(Refusal::UnknownType(_))));
    assert!(matches!(
        outcomes[2],
        Err(Refusal::OtherStream("inventory"))
    ));
    assert!(matches!(outcomes[3], Err(Refusal::Malformed(_))));
    assert!(matches!(outcomes[4], Err(Refusal::Malformed(_))));
    assert!(matches!(outcomes[5], Err(Refusal::TooManySubjects(65))));
    assert!(matches!(outcomes[6], Err(Refusal::Malformed(_))));
    assert!(matches!(outcomes[7], Err(Refusal::Malformed(_))));
    assert_eq!(outcomes[8].as_ref().unwrap().index, REGISTRATIONS);
}

#[tokio::test]
async fn the_largest_record_makes_an_entry_that_fits_a_bundle() {
    let database = sqlite();
    let Fixture {
        log, mut inventory, ..
    } = fixture(&database).await;
    let record_of = |object_bytes: usize| {
        let payload = OwnershipSet {
            object: "x".repeat(object_bytes),
            ..ownership(1)
        };
        inventory.draft(&payload, &[])
    };
    let overhead = record_of(60_000).encoded_len() - 60_000;
    let largest = record_of(64_000 - overhead);
    assert_eq!(largest.encoded_len(), 64_000);
    let signed = inventory.sign(&largest);
    let receipt = log.append(vec![signed]).await.unwrap().remove(0).unwrap();
    let size = receipt.index + 1;
    Exported::take(&log, size)
        .await
        .verify(&log.info().vkey.to_string());
    let _ = inventory.next(&ownership(1), &[]);
}

#[tokio::test]
async fn time_never_goes_back_within_a_log() {
    for database in databases() {
        let Fixture {
            log, mut inventory, ..
        } = fixture(&database).await;
        let mut last = 0;
        for now in [1_900_000_000_000, 5, 1_900_000_000_001, -1] {
            database
                .clock
                .0
                .store(now, std::sync::atomic::Ordering::SeqCst);
            let record = inventory.next(&ownership(1), &[]);
            let receipt = log.append(vec![record]).await.unwrap().remove(0).unwrap();
            let stored = log.entry(receipt.index).await.unwrap().unwrap();
            let recorded = decode_entry(&stored.bytes).unwrap().recorded_at_ms;
            assert!(recorded >= last);
            last = recorded;
        }
        assert_eq!(last, 1_900_000_000_001);
    }
}

#[tokio::test]
async fn too_much_at_once_is_refused_and_leaves_nothing_behind() {
    let database = sqlite();
    let engine = database.open_with(EngineOptions {
        queue_bytes_max: 16_384,
        batch_records_max: 64,
        ..EngineOptions::default()
    });
    let Fixture {
        log, mut inventory, ..
    } = fixture_on(engine.await).await;
    let mut attempt = inventory.clone();
    let many: Vec<_> = (0..64)
        .map(|number| attempt.next(&ownership(number), &[]))
        .collect();
    assert!(matches!(
        log.append(many).await,
        Err(EngineError::Overloaded {
            retry_after_ms: 1..
        })
    ));
    let more: Vec<_> = (0..65)
        .map(|number| attempt.next(&ownership(number), &[]))
        .collect();
    assert!(matches!(
        log.append(more).await,
        Err(EngineError::SubmissionTooLarge { .. })
    ));
    let few: Vec<_> = (0..10)
        .map(|number| inventory.next(&ownership(number), &[]))
        .collect();
    assert_eq!(receipts(log.append(few).await.unwrap()).len(), 10);
    assert_eq!(log.head().await.unwrap().size, REGISTRATIONS + 10);
}

#[tokio::test]
async fn many_callers_share_commits_and_each_record_is_logged_once() {
    for database in databases() {
        let Fixture {
            engine,
            log,
            mut registrar,
            ..
        } = fixture(&database).await;
        let mut other_tenants = Vec::new();
        for tenant in ["globex", "initech"] {
            let origin = format!("ledger.example/t/{tenant}");
            let log = engine
                .create_log(tenant, &origin, &registrar.vkey)
                .await
                .unwrap();
            other_tenants.push((log, origin));
        }
        let recertification = Producer::new("recertification", 4);
        let registration = registrar.next(&recertification.registration(), &[]);
        receipts(log.append(vec![registration]).await.unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for (log, origin) in other_tenants.iter().cloned() {
            tasks.spawn(async move {
                let mut registrar = Producer {
                    origin,
                    ..Producer::new("ledger", 1)
                };
                let mut inventory = Producer {
                    origin: registrar.origin.clone(),
                    ..Producer::new("inventory", 2)
                };
                let registration = registrar.registration();
                let mut records = vec![registrar.next(&registration, &[])];
                records.push(registrar.next(&inventory.registration(), &[]));
                receipts(log.append(records).await.unwrap());
                for number in 0..30 {
                    let record = inventory.next(&ownership(number), &[]);
                    receipts(log.append(vec![record]).await.unwrap());
                }
            });
        }
        let mut producer = recertification.clone();
        let mut pending = Vec::new();
        for _ in 0..120 {
            pending.push(producer.next(&stage_closed(), &[]));
        }
        // Twice each, as after lost answers, and all at the same time: what comes too early is sent again.
        let twice = [pending.clone(), pending].concat();
        for record in twice {
            let log = log.clone();
            tasks.spawn(async move {
                loop {
                    match log.append(vec![record.clone()]).await.unwrap().remove(0) {
                        Ok(_) => break,
                        Err(Refusal::SequenceGap { .. }) => tokio::task::yield_now().await,
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(log.head().await.unwrap().size, REGISTRATIONS + 1 + 120);
        for (log, _) in &other_tenants {
            assert_eq!(log.head().await.unwrap().size, 32);
            assert!(log.fsck().await.unwrap().is_clean());
        }
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn creating_a_log_twice_gives_the_same_log_and_never_another() {
    for database in databases() {
        let Fixture {
            engine,
            log,
            inventory,
            registrar,
            ..
        } = fixture(&database).await;
        let again = engine
            .create_log(TENANT, ORIGIN, &registrar.vkey)
            .await
            .unwrap();
        assert_eq!(again.info(), log.info());
        let differs =
            |result: Result<_, EngineError>| matches!(result, Err(EngineError::LogDiffers { .. }));
        assert!(differs(
            engine
                .create_log(TENANT, "elsewhere", &registrar.vkey)
                .await
        ));
        assert!(differs(
            engine.create_log(TENANT, ORIGIN, &inventory.vkey).await
        ));
        assert!(differs(
            engine.create_log("other", ORIGIN, &registrar.vkey).await
        ));
        assert!(matches!(
            engine.log("other").await,
            Err(EngineError::NoSuchLog(_))
        ));
        assert_eq!(engine.tenants().await.unwrap(), [TENANT]);
        engine.close().await;
        assert_eq!(log.append(vec![]).await.unwrap(), []);
        let mut inventory = inventory.clone();
        let record = inventory.next(&ownership(1), &[]);
        assert_eq!(log.append(vec![record]).await, Err(EngineError::Closed));
    }
}
