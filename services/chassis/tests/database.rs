//! The database on both engines: transactions, migrations, bulk statements.

#![cfg(test)]

use counterfoil_chassis::{
    BulkValue, both_engines,
    db::{self, Engine, MigrationFile, Migrations, bulk_execute, bulk_insert, select_in},
    testing::TestDatabase,
};
use sqlx::Row;

const SQLITE: &str = "CREATE TABLE items (tenant TEXT NOT NULL, id BIGINT NOT NULL, name TEXT, body BLOB, PRIMARY KEY (tenant, id))";
const POSTGRES: &str = "CREATE TABLE items (tenant TEXT NOT NULL, id BIGINT NOT NULL, name TEXT, body BYTEA, PRIMARY KEY (tenant, id))";
const FIRST: MigrationFile = MigrationFile {
    name: "0001_items.sql",
    sqlite: SQLITE,
    postgres: POSTGRES,
};
const SECOND: MigrationFile = MigrationFile {
    name: "0002_more.sql",
    sqlite: "CREATE TABLE more (tenant TEXT); CREATE INDEX more_tenant ON more (tenant);",
    postgres: "CREATE TABLE more (tenant TEXT); CREATE INDEX more_tenant ON more (tenant);",
};
const ITEMS: Migrations = Migrations {
    set: "items",
    files: &[FIRST],
};

fn item(id: i64) -> [BulkValue; 4] {
    let body = if id % 3 == 0 {
        BulkValue::Bytes(None)
    } else {
        vec![7_u8; 10].into()
    };
    ["acme".into(), id.into(), format!("item {id}").into(), body]
}

const COLUMNS: [&str; 4] = ["tenant", "id", "name", "body"];

async fn count(db: &TestDatabase) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM items")
        .fetch_one(db.read("acme").await.unwrap().conn())
        .await
        .unwrap()
}

both_engines! {
    async fn what_is_not_committed_leaves_nothing(db: TestDatabase) {
        db.migrate(&[ITEMS]).await;
        let mut dropped = db.write_tx("acme").await.unwrap();
        bulk_insert(&mut dropped, "items", COLUMNS, "", [item(1)]).await.unwrap();
        drop(dropped);
        let mut rolled_back = db.write_tx("acme").await.unwrap();
        bulk_insert(&mut rolled_back, "items", COLUMNS, "", [item(1)]).await.unwrap();
        rolled_back.rollback().await.unwrap();
        assert_eq!(count(&db).await, 0);
        let mut tx = db.write_tx("acme").await.unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        tx.on_commit(move || told.send("committed").unwrap());
        bulk_insert(&mut tx, "items", COLUMNS, "", [item(1)]).await.unwrap();
        assert!(heard.try_recv().is_err());
        tx.commit().await.unwrap();
        assert_eq!(heard.try_recv(), Ok("committed"));
        assert_eq!(count(&db).await, 1);
    }

    /// Both read the number before either writes it, unless the lock keeps one of them waiting.
    async fn writers_of_one_tenant_take_turns(db: TestDatabase) {
        db.migrate(&[ITEMS]).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        bulk_insert(&mut tx, "items", COLUMNS, "", [item(0)]).await.unwrap();
        tx.commit().await.unwrap();
        let add_one = async |db: counterfoil_chassis::Database| {
            for _ in 0..20 {
                let mut tx = db.write_tx("acme").await.unwrap();
                let last: i64 = sqlx::query_scalar("SELECT MAX(id) FROM items WHERE tenant = $1")
                    .bind("acme").fetch_one(tx.conn()).await.unwrap();
                bulk_insert(&mut tx, "items", COLUMNS, "", [item(last + 1)]).await.unwrap();
                tx.commit().await.unwrap();
            }
        };
        tokio::join!(add_one(db.clone()), add_one(db.clone()), add_one(db.clone()));
        assert_eq!(count(&db).await, 61);
    }

    async fn thousands_of_rows_go_in_change_and_come_out(db: TestDatabase) {
        db.migrate(&[ITEMS]).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        let inserted = bulk_insert(&mut tx, "items", COLUMNS, "", (0..2500).map(item)).await.unwrap();
        assert_eq!(inserted, 2500);
        let conflict = "ON CONFLICT (tenant, id) DO NOTHING";
        let again = bulk_insert(&mut tx, "items", COLUMNS, conflict, (2499..2501).map(item)).await.unwrap();
        assert_eq!(again, 1);
        let renamed = (0..1500_i64).map(|id| [id.into(), format!("renamed {id}").into()]);
        let template = "UPDATE items SET name = v.column2 FROM (VALUES {rows}) AS v \
            WHERE items.tenant = ? AND items.id = v.column1";
        let changed = bulk_execute(&mut tx, template, &[], renamed, &["acme".into()]).await.unwrap();
        assert_eq!(changed, 1500);
        let template = "SELECT id, name, body FROM items WHERE tenant = ? AND id IN ({list})";
        let engine = tx.engine();
        let rows = select_in(tx.conn(), engine, template, &["acme".into()], 1000..3000_i64).await.unwrap();
        assert_eq!(rows.len(), 1501);
        for row in rows {
            let id: i64 = row.try_get("id").unwrap();
            let name = if id < 1500 { format!("renamed {id}") } else { format!("item {id}") };
            assert_eq!(row.try_get::<String, _>("name").unwrap(), name);
            let body: Option<Vec<u8>> = row.try_get("body").unwrap();
            assert_eq!(body.is_none(), id % 3 == 0);
        }
        tx.commit().await.unwrap();
    }

    async fn a_read_transaction_sees_one_state(db: TestDatabase) {
        db.migrate(&[ITEMS]).await;
        let mut read = db.read_tx("acme").await.unwrap();
        let count = "SELECT COUNT(*) FROM items";
        let before: i64 = sqlx::query_scalar(count).fetch_one(read.conn()).await.unwrap();
        let mut tx = db.write_tx("acme").await.unwrap();
        bulk_insert(&mut tx, "items", COLUMNS, "", [item(1)]).await.unwrap();
        tx.commit().await.unwrap();
        let after: i64 = sqlx::query_scalar(count).fetch_one(read.conn()).await.unwrap();
        assert_eq!((before, after), (0, 0));
    }

    async fn migrations_run_once_and_go_on(db: TestDatabase) {
        db.migrate(&[ITEMS]).await;
        db.migrate(&[ITEMS]).await;
        db.migrate(&[Migrations { set: "items", files: &[FIRST, SECOND] }]).await;
        let mut tx = db.write_tx("acme").await.unwrap();
        sqlx::query("INSERT INTO more (tenant) VALUES ($1)").bind("acme").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn a_migration_that_changed_or_is_unknown_is_refused(db: TestDatabase) {
        db.migrate(&[Migrations { set: "items", files: &[FIRST, SECOND] }]).await;
        let older = db.db_migrate(ITEMS).await.unwrap_err();
        assert!(older.contains("0002_more.sql") && older.contains("unknown to this program"), "{older}");
        let changed = MigrationFile { sqlite: "SELECT 1", postgres: "SELECT 1", ..FIRST };
        let files: &'static [MigrationFile] = Box::leak(Box::new([changed, SECOND]));
        let edited = db.db_migrate(Migrations { set: "items", files }).await.unwrap_err();
        assert!(edited.contains("0001_items.sql") && edited.contains("has changed"), "{edited}");
    }

    async fn a_migration_that_fails_leaves_nothing(db: TestDatabase) {
        let broken = MigrationFile { name: "0002_broken.sql", sqlite: "CREATE NONSENSE", postgres: "CREATE NONSENSE" };
        let files: &'static [MigrationFile] = Box::leak(Box::new([FIRST, broken]));
        let error = db.db_migrate(Migrations { set: "items", files }).await.unwrap_err();
        assert!(error.contains("items/0002_broken.sql"), "{error}");
        db.migrate(&[ITEMS]).await;
    }
}

trait Migrate {
    async fn db_migrate(&self, set: Migrations) -> Result<(), String>;
}

impl Migrate for TestDatabase {
    async fn db_migrate(&self, set: Migrations) -> Result<(), String> {
        let db: &counterfoil_chassis::Database = self;
        db.migrate(&[set], 0)
            .await
            .map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_database_in_memory_or_of_an_unknown_engine_is_refused() {
    for url in ["sqlite::memory:", "mysql://x/y", "x"] {
        let error = counterfoil_chassis::Database::connect(url, "test")
            .await
            .unwrap_err();
        assert!(matches!(error, db::DatabaseError::Url), "{url}");
    }
    let error = counterfoil_chassis::Database::connect("sqlite:///x", "a; drop")
        .await
        .unwrap_err();
    assert!(matches!(error, db::DatabaseError::Schema(_)));
}

#[tokio::test]
async fn a_table_with_the_keys_of_two_parents_is_refused() {
    const PARENTS: &str = "CREATE TABLE plans (plan_no BIGINT PRIMARY KEY, tenant TEXT NOT NULL);
        CREATE TABLE runs (run_no BIGINT PRIMARY KEY, tenant TEXT NOT NULL);
        CREATE TABLE steps (plan_no BIGINT, step BIGINT, PRIMARY KEY (plan_no, step));";
    const BOTH: &str = "CREATE TABLE links (plan_no BIGINT, run_no BIGINT);";
    let set = |sql: &'static str| {
        let file = MigrationFile {
            name: "0001_plans.sql",
            sqlite: sql,
            postgres: sql,
        };
        let files: &'static [MigrationFile] = Box::leak(Box::new([file]));
        Migrations {
            set: "plans",
            files,
        }
    };
    let db = TestDatabase::new(Engine::Postgres).await;
    let both: &'static str = Box::leak(format!("{PARENTS}{BOTH}").into_boxed_str());
    let refused = db.db_migrate(set(both)).await.unwrap_err();
    assert!(
        refused.contains("table links has the keys of plans and runs"),
        "{refused}"
    );
    // With one parent it is walled in as that one is.
    db.db_migrate(set(PARENTS)).await.unwrap();
}

#[tokio::test]
async fn two_schemas_of_one_postgresql_do_not_see_each_other() {
    let db = TestDatabase::new(Engine::Postgres).await;
    db.migrate(&[ITEMS]).await;
    let other = counterfoil_chassis::Database::connect(&db.url("other"), "other")
        .await
        .unwrap();
    other.migrate(&[], 0).await.unwrap();
    let missing = sqlx::query("SELECT 1 FROM items")
        .fetch_optional(other.read("acme").await.unwrap().conn())
        .await;
    assert!(missing.is_err());
}

/// As the ledger's engine makes its tables: with a policy that knows no tenant.
const APART: &str = "CREATE TABLE plans (plan_no BIGINT PRIMARY KEY, tenant TEXT NOT NULL);
    ALTER TABLE plans ENABLE ROW LEVEL SECURITY;
    ALTER TABLE plans FORCE ROW LEVEL SECURITY;
    CREATE POLICY plan_numbered ON plans USING (plan_no = 7);";

#[tokio::test]
async fn a_table_with_policies_of_its_own_keeps_those_alone() {
    let db = TestDatabase::new(Engine::Postgres).await;
    let make = async |sql: &'static str| {
        let mut tx = db.write_tx("acme").await.unwrap();
        sqlx::raw_sql(sql).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    };
    make(APART).await;
    // Also where an older version added its own: a statement that names no tenant would fail on them.
    make("CREATE POLICY counterfoil_tenant ON plans USING (tenant = current_setting('counterfoil.tenant'));").await;
    // A migration opens the wall and puts it up again.
    db.migrate(&[ITEMS]).await;
    let sql = "SELECT polname::text FROM pg_policy WHERE polrelid = 'plans'::regclass";
    let mut tx = db.write_tx("acme").await.unwrap();
    let policies: Vec<String> = sqlx::query_scalar(sql).fetch_all(tx.conn()).await.unwrap();
    assert_eq!(policies, ["plan_numbered"]);
    let sql = "SELECT COUNT(*) FROM pg_class WHERE oid = 'plans'::regclass AND relforcerowsecurity";
    let forced: i64 = sqlx::query_scalar(sql).fetch_one(tx.conn()).await.unwrap();
    assert_eq!(forced, 1);
}
