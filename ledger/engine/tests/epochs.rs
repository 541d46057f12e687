//! What is kept of the epochs of an anchor log: each is made once, has the heads that it was opened with, and a log is held to them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use counterfoil_engine::{AnchorEpoch, AnchoredHead, Engine, EngineError, LogHead};
use support::{ORIGIN, TENANT, databases, fixture, ownership, receipts, sqlite};

fn epoch(number: u64) -> AnchorEpoch {
    let byte = u8::try_from(number).unwrap();
    AnchorEpoch {
        number,
        secret: [byte; 32],
        payload: vec![byte; 9],
        index: None,
    }
}

fn anchored(head: &LogHead) -> AnchoredHead {
    AnchoredHead {
        log: head.log,
        origin: head.origin.clone(),
        size: head.size,
        root: head.root,
    }
}

async fn heads(engine: &Engine) -> Vec<AnchoredHead> {
    let heads = engine.heads().await.unwrap();
    heads.read.iter().map(anchored).collect()
}

#[tokio::test]
async fn an_epoch_is_opened_once_and_has_the_newest_heads_up_to_it() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        let (engine, log) = (fixture.engine.clone(), fixture.log.clone());
        let registrar = &fixture.registrar.vkey;
        let other = engine.create_log("beta", "ledger.example/t/beta", registrar);
        let other = other.await.unwrap();
        assert_eq!(engine.newest_anchor_epoch().await.unwrap(), None);
        let first = heads(&engine).await;
        assert_eq!(first.len(), 2);
        assert!(engine.open_anchor_epoch(&epoch(1), &first).await.unwrap());
        let late = AnchorEpoch {
            secret: [9; 32],
            ..epoch(1)
        };
        assert!(!engine.open_anchor_epoch(&late, &first[..1]).await.unwrap());
        assert_eq!(engine.newest_anchor_epoch().await.unwrap(), Some(epoch(1)));
        assert_eq!(
            engine.closed_anchor_epoch(9).await.unwrap(),
            None,
            "it is open"
        );
        engine.close_anchor_epoch(1, 4).await.unwrap();
        let closed = AnchorEpoch {
            index: Some(4),
            ..epoch(1)
        };
        assert_eq!(
            engine.closed_anchor_epoch(u64::MAX).await.unwrap(),
            Some(closed.clone())
        );
        let records = vec![fixture.inventory.next(&ownership(1), &[])];
        receipts(log.append(records).await.unwrap());
        let second = heads(&engine).await;
        assert!(
            engine
                .open_anchor_epoch(&epoch(2), &second[..1])
                .await
                .unwrap()
        );
        assert_eq!(engine.anchored_heads(1).await.unwrap(), first);
        assert_eq!(engine.anchored_heads(2).await.unwrap(), second);
        assert_eq!(engine.anchored_heads(7).await.unwrap(), second);
        assert_eq!(
            other.anchored_head(2).await.unwrap(),
            Some(first[1].clone())
        );
        assert_eq!(log.anchored_head(0).await.unwrap(), None);
        let size = second[0].size;
        assert_eq!(log.anchored_epochs(size).await.unwrap(), Some(1..=u64::MAX));
        assert_eq!(log.anchored_epochs(size - 1).await.unwrap(), Some(1..=1));
        assert_eq!(log.anchored_epochs(1).await.unwrap(), None);
        engine.void_anchor_epoch(1).await.unwrap();
        engine.void_anchor_epoch(2).await.unwrap();
        assert_eq!(
            engine.newest_anchor_epoch().await.unwrap(),
            Some(closed),
            "a closed one stays"
        );
        engine.close().await;
    }
}

#[tokio::test]
async fn a_log_that_lost_what_was_anchored_is_not_written() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        fixture.engine.close().await;
        database
            .tamper("CREATE TABLE kept AS SELECT * FROM log_heads")
            .await;
        let engine = database.open().await;
        let log = engine.log(TENANT).await.unwrap();
        let record = fixture.inventory.next(&ownership(1), &[]);
        receipts(log.append(vec![record.clone()]).await.unwrap());
        let anchored = heads(&engine).await;
        assert!(
            engine
                .open_anchor_epoch(&epoch(1), &anchored)
                .await
                .unwrap()
        );
        engine.close().await;
        database
            .tamper("DELETE FROM log_heads; INSERT INTO log_heads SELECT * FROM kept;")
            .await;
        let engine = database.open().await;
        let log = engine.log(TENANT).await.unwrap();
        let refused = log.append(vec![record]).await.unwrap_err();
        assert!(matches!(refused, EngineError::Damaged { .. }), "{refused}");
        assert!(
            refused
                .to_string()
                .contains("the anchor log: its head fell back"),
            "{refused}"
        );
        engine.close().await;
    }
}

#[tokio::test]
async fn a_head_of_an_epoch_that_the_log_never_had_is_found() {
    for database in databases() {
        let mut fixture = fixture(&database).await;
        let (engine, log) = (fixture.engine.clone(), fixture.log.clone());
        for number in 1..=2 {
            let heads = heads(&engine).await;
            assert!(
                engine
                    .open_anchor_epoch(&epoch(number), &heads)
                    .await
                    .unwrap()
            );
            let records = vec![fixture.inventory.next(&ownership(number), &[])];
            receipts(log.append(records).await.unwrap());
        }
        assert!(log.fsck().await.unwrap().is_clean());
        for (change, back, words) in [
            (
                "UPDATE log_anchored_heads SET size = size - 1 WHERE epoch = 2",
                "UPDATE log_anchored_heads SET size = size + 1 WHERE epoch = 2",
                "epoch 2 has a head of 3 entries",
            ),
            (
                "UPDATE log_anchored_heads SET size = size + 90 WHERE epoch = 1",
                "UPDATE log_anchored_heads SET size = size - 90 WHERE epoch = 1",
                "epoch 1 has a head of 93 entries",
            ),
        ] {
            database.tamper(change).await;
            let found = log.fsck().await.unwrap().problems;
            assert!(
                found.iter().any(|found| found.what.contains(words)),
                "{found:?}"
            );
            database.tamper(back).await;
        }
        assert!(log.fsck().await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_a_matter_of_its_log_alone() {
    // Of the one engine that lets any column have any type.
    let database = sqlite();
    let fixture = fixture(&database).await;
    let (engine, log) = (&fixture.engine, &fixture.log);
    let origin = "ledger.example/t/beta";
    let other = engine.create_log("beta", origin, &fixture.registrar.vkey);
    other.await.unwrap();
    let keep = "CREATE TABLE kept AS SELECT * FROM log_heads";
    database.tamper(keep).await;
    let all = engine.heads().await.unwrap();
    for (change, is_sized) in [
        ("UPDATE log_heads SET size = 'many' WHERE log_id = 1", false),
        ("UPDATE log_heads SET root = x'00' WHERE log_id = 1", true),
        (
            "UPDATE log_heads SET checkpoint = x'00' WHERE log_id = 1",
            true,
        ),
        (
            "UPDATE log_heads SET checkpoint = CAST(x'ff' AS TEXT) WHERE log_id = 1",
            true,
        ),
        ("DELETE FROM log_heads WHERE log_id = 1", false),
    ] {
        database.tamper(change).await;
        let heads = engine.heads().await.unwrap();
        assert_eq!(heads.read, all.read[1..], "{change}");
        let [unreadable] = heads.unreadable.as_slice() else {
            panic!("{change}: {heads:?}");
        };
        assert_eq!(
            (unreadable.log, unreadable.origin.as_str()),
            (log.info().id, ORIGIN)
        );
        let sizes = engine.sizes().await.unwrap();
        let tenants: Vec<&str> = sizes.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let expected: &[&str] = if is_sized {
            &[TENANT, "beta"]
        } else {
            &["beta"]
        };
        assert_eq!(tenants, expected, "{change}");
        let troubles = engine.troubles();
        assert!(
            troubles.iter().all(|trouble| trouble.contains(ORIGIN)) && !troubles.is_empty(),
            "{change}: {troubles:?}"
        );
        database
            .tamper("DELETE FROM log_heads; INSERT INTO log_heads SELECT * FROM kept;")
            .await;
        assert_eq!(engine.heads().await.unwrap(), all);
        engine.sizes().await.unwrap();
        assert_eq!(engine.troubles(), [""; 0]);
    }
    engine.close().await;
}
