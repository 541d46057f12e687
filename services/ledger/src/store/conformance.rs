//! What the tables do, the same on both engines.

use counterfoil_chassis::{both_engines, db::Engine, testing::TestDatabase};

use super::scrubs::{Scrub, Scrubs};
use super::*;

fn producer(key_id: &str, stream: &str) -> Producer {
    Producer {
        key_id: key_id.to_owned(),
        principal: format!("services/{stream}"),
        stream: stream.to_owned(),
        vkey: format!("{key_id}+vkey"),
    }
}

both_engines! {
    async fn a_key_id_keeps_its_first_producer(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        let first = producer("a+00000001", "inventory");
        assert_eq!(insert_producer(&db, &first, 5).await.unwrap(), first);
        assert_eq!(insert_producer(&db, &first, 6).await.unwrap(), first);
        let other = producer("a+00000001", "authority");
        assert_eq!(insert_producer(&db, &other, 7).await.unwrap(), first);
        let second = producer("b+00000002", "authority");
        insert_producer(&db, &second, 4).await.unwrap();
        assert_eq!(producers(&db).await.unwrap(), [second, first]);
    }

    async fn statements_are_remembered_for_their_tenant(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        let both = ["key:a".to_owned(), "key:b".to_owned()];
        insert_statements(&db, "acme", &both).await.unwrap();
        insert_statements(&db, "acme", &both).await.unwrap();
        insert_statements(&db, "beta", &both[..1]).await.unwrap();
        assert_eq!(statements(&db, "acme").await.unwrap().len(), 2);
        assert_eq!(statements(&db, "beta").await.unwrap().len(), 1);
        assert!(statements(&db, "nobody").await.unwrap().is_empty());
        assert_eq!(tenants_told(&db, "key:a").await.unwrap().len(), 2);
        assert_eq!(tenants_told(&db, "key:b").await.unwrap().len(), 1);
    }

    async fn of_two_who_took_a_step_of_a_round_one_keeps_it(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        assert_eq!(scrubs::summary(&db).await.unwrap(), Scrubs::default());
        for (tenant, due_at_ms) in [("beta", 90), ("acme", 80), ("acme", 10)] {
            scrubs::enroll(&db, tenant, 5, due_at_ms).await.unwrap();
        }
        assert_eq!(scrubs::tenants(&db).await.unwrap().len(), 2);
        assert_eq!(scrubs::due(&db, 79).await.unwrap(), None);
        let acme = scrubs::due(&db, 100).await.unwrap().unwrap();
        let first = Scrub { tenant: "acme".to_owned(), due_at_ms: 80, whole_at_ms: 5, ..Scrub::default() };
        assert_eq!(acme, first);
        let step = Scrub {
            due_at_ms: 95,
            whole_at_ms: 60,
            started_at_ms: Some(85),
            place: Some(vec![1]),
            unstated: Some(vec![2]),
            problem: Some("rot".to_owned()),
            ..acme.clone()
        };
        assert!(scrubs::keep(&db, &step).await.unwrap());
        assert!(!scrubs::keep(&db, &Scrub { place: None, ..acme }).await.unwrap());
        let kept = scrubs::find(&db, "acme").await.unwrap().unwrap();
        assert_eq!(kept, Scrub { step: 1, ..step });
        assert_eq!(scrubs::due(&db, 100).await.unwrap().unwrap().tenant, "beta");
        let all = Scrubs { oldest_whole_at_ms: Some(5), problems: 1 };
        assert_eq!(scrubs::summary(&db).await.unwrap(), all);
        assert_eq!(scrubs::find(&db, "nobody").await.unwrap(), None);
    }

    async fn a_schema_is_found_by_its_hash(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        insert_schema(&db, &[1; 32], b"set").await.unwrap();
        insert_schema(&db, &[1; 32], b"set").await.unwrap();
        assert_eq!(schema(&db, &[1; 32]).await.unwrap().as_deref(), Some(b"set".as_slice()));
        assert_eq!(schema(&db, &[2; 32]).await.unwrap(), None);
    }
}

/// Changes what the database has, past everything that watches over it.
pub(crate) async fn tamper(db: &Database, sql: &'static str) {
    let mut tx = db.write_tx("acme").await.unwrap();
    if db.engine() == Engine::Postgres {
        let all = "SELECT set_config('counterfoil.logs', '1,2,3', true), set_config('counterfoil.tenant', '*', true)";
        sqlx::query(all).execute(tx.conn()).await.unwrap();
    }
    let changed = sqlx::query(sql).execute(tx.conn()).await.unwrap();
    assert!(changed.rows_affected() > 0);
    tx.commit().await.unwrap();
}
