//! What the tables do, the same on both engines.

use counterfoil_chassis::{both_engines, testing::TestDatabase};

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

    async fn a_schema_is_found_by_its_hash(db: TestDatabase) {
        db.migrate(&[MIGRATIONS]).await;
        insert_schema(&db, &[1; 32], b"set").await.unwrap();
        insert_schema(&db, &[1; 32], b"set").await.unwrap();
        assert_eq!(schema(&db, &[1; 32]).await.unwrap().as_deref(), Some(b"set".as_slice()));
        assert_eq!(schema(&db, &[2; 32]).await.unwrap(), None);
    }
}
