//! The second wall, as PostgreSQL's catalogue describes it and as a careless statement meets it.

use counterfoil::client::SERVICES;
use counterfoil_chassis::testing::postgres;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

use crate::{digest::POSTGRES_ROW, suite::Governed};

/// Tables of the deployment, which belong to no tenant: (table, what it holds).
const OF_THE_DEPLOYMENT: [(&str, &str); 4] = [
    ("schema_migrations", "which migrations ran"),
    ("log_migrations", "which migrations of the logs ran"),
    (
        "producers",
        "public keys of the services, the same in every log",
    ),
    ("schemas", "descriptor sets, the same for everybody"),
];

/// Keys that do not begin with the tenant, and why.
const OTHER_KEYS: [(&str, &str); 15] = [
    (
        "authority.tokens_pkey",
        "a token says by its random id whose it is",
    ),
    (
        "inventory.sources_pkey",
        "the number that stands for (tenant, source) in the large tables",
    ),
    ("inventory.syncs_waiting", "of a source, by its number"),
    ("inventory.syncs_running", "of a source, by its number"),
    (
        "inventory.grants_pkey",
        "of a source, by its number: 40 bytes less a row",
    ),
    ("inventory.staged_chunks_pkey", "of a source, by its number"),
    (
        "inventory.syncs_source_no_fkey",
        "to a source, by its number",
    ),
    (
        "ledger.logs_pkey",
        "the number that stands for the tenant in the log's tables",
    ),
    (
        "ledger.logs_origin_key",
        "two logs of one name could not be told apart",
    ),
    ("ledger.log_heads_pkey", "of a log, by its number"),
    ("ledger.log_heads_log_id_fkey", "to a log, by its number"),
    ("ledger.log_entries_pkey", "of a log, by its number"),
    ("ledger.log_entries_by_record_id", "of a log, by its number"),
    ("ledger.log_labels_pkey", "of a log, by its number"),
    ("ledger.log_streams_pkey", "of a log, by its number"),
];
const MORE_KEYS: [(&str, &str); 5] = [
    ("ledger.log_producer_keys_pkey", "of a log, by its number"),
    ("ledger.log_tiles_pkey", "of a log, by its number"),
    (
        "ledger.log_anchor_epochs_pkey",
        "of the deployment, and seen by nobody who works for one tenant",
    ),
    ("ledger.log_anchored_heads_pkey", "of a log, by its number"),
    ("ledger.log_cosignatures_pkey", "of a log, by its number"),
];

async fn rows(governed: &Governed, sql: &str) -> Vec<Vec<String>> {
    let sql = AssertSqlSafe(sql.to_owned());
    let pool = governed.databases.pool("authority");
    let rows = sqlx::query(sql).fetch_all(pool).await.unwrap();
    let row = |row: &sqlx::any::AnyRow| (0..row.len()).map(|column| row.get(column)).collect();
    rows.iter().map(row).collect()
}

/// "'authority', 'inventory', ..."
fn schemas() -> String {
    SERVICES.map(|service| format!("'{service}'")).join(", ")
}

/// Every table of a tenant hides other tenants' rows, from its owner too; and services work as a role that owns nothing.
pub async fn every_table_is_walled_in(governed: &Governed) {
    let tables = rows(
        governed,
        &format!(
            "SELECT n.nspname::text, c.relname::text, (c.relrowsecurity AND c.relforcerowsecurity)::text, \
             (SELECT COUNT(*) FROM pg_policy p WHERE p.polrelid = c.oid)::text, \
             pg_get_userbyid(c.relowner)::text \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname IN ({}) AND c.relkind IN ('r', 'p', 'v', 'm')",
            schemas()
        ),
    )
    .await;
    assert!(tables.len() > 50, "{}", tables.len());
    for row in tables {
        let [schema, table, walled, policies, owner] = &row[..] else {
            panic!("{row:?}");
        };
        assert_eq!(owner, "counterfoil_owner", "{schema}.{table}");
        let shared = OF_THE_DEPLOYMENT.iter().any(|(name, _)| name == table);
        let is_walled = walled == "true" && policies != "0";
        assert_eq!(
            is_walled, !shared,
            "{schema}.{table}: {walled}, {policies} policies"
        );
    }
    let role = rows(
        governed,
        "SELECT rolsuper::text, rolbypassrls::text, rolcreaterole::text, \
         (SELECT COUNT(*) FROM pg_class WHERE relowner = r.oid)::text, \
         (SELECT COUNT(*) FROM pg_auth_members WHERE member = r.oid)::text \
         FROM pg_roles r WHERE rolname = 'counterfoil_app'",
    )
    .await;
    assert_eq!(role, [["false", "false", "false", "0", "0"]]);
}

/// Unique and foreign keys are checked past row-level security: one without the tenant could tell that a row is there.
pub async fn every_key_begins_with_the_tenant(governed: &Governed) {
    let keys = rows(
        governed,
        &format!(
            "SELECT n.nspname || '.' || i.relname, t.relname::text, a.attname::text \
             FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid \
             JOIN pg_namespace n ON n.oid = t.relnamespace \
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0] \
             WHERE x.indisunique AND n.nspname IN ({schemas}) \
             UNION ALL SELECT n.nspname || '.' || c.conname, t.relname::text, a.attname::text \
             FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1] \
             WHERE c.contype = 'f' AND n.nspname IN ({schemas})",
            schemas = schemas()
        ),
    )
    .await;
    let explained = || OTHER_KEYS.iter().chain(&MORE_KEYS).map(|(name, _)| *name);
    let mut others: Vec<&str> = Vec::new();
    for row in &keys {
        let [key, table, first] = &row[..] else {
            panic!("{row:?}");
        };
        if first != "tenant" && !OF_THE_DEPLOYMENT.iter().any(|(name, _)| name == table) {
            others.push(key);
        }
    }
    others.sort_unstable();
    let mut known: Vec<&str> = explained().collect();
    known.sort_unstable();
    assert_eq!(
        others, known,
        "a key that begins with something else needs a reason here"
    );
}

/// Every table of a tenant, read, changed and emptied without any condition, as the role that services work as.
pub async fn a_statement_without_a_condition_sees_one_tenant(governed: &Governed) {
    let url = governed.database_url.as_deref().unwrap();
    let mut app = AnyConnection::connect(&postgres::as_role(url, "counterfoil_app"))
        .await
        .unwrap();
    let (own, foreign) = (&governed.attacker.id, &governed.victim.id);
    let mine = governed.databases.of(own).await;
    let theirs = governed.databases.of(foreign).await;
    let log = rows(
        governed,
        &format!("SELECT log_id::text FROM ledger.logs WHERE tenant = '{own}'"),
    )
    .await;
    let log = &log[0][0];
    let mut tables = 0;
    for (table, rows) in &theirs {
        let name = table.split('.').nth(1).unwrap_or_default();
        if OF_THE_DEPLOYMENT.iter().any(|(shared, _)| *shared == name) {
            continue;
        }
        tables += 1;
        // Row by row what is seen is one's own, and nothing else.
        let schema = table.split('.').next().unwrap_or_default();
        let path = format!("SET LOCAL search_path TO {schema};");
        let named = format!(
            "BEGIN; {path} SET LOCAL counterfoil.tenant = '{own}'; SET LOCAL counterfoil.logs = '{log}'"
        );
        let seen = read(&mut app, &named, table).await.unwrap();
        assert_eq!(&seen, &mine[table], "{table}");
        assert!(rows.iter().all(|row| !seen.contains(row)), "{table}");
        let gone = change(&mut app, &named, &format!("DELETE FROM {table}")).await;
        // Some tables refuse to lose rows at all, by a trigger or a key.
        if let Some(gone) = gone {
            assert_eq!(gone, u64::try_from(seen.len()).unwrap(), "{table}");
        }
        // Who reads everything changes nothing.
        let everything = format!(
            "BEGIN; {path} SET LOCAL counterfoil.tenant = '*'; SET LOCAL counterfoil.logs = ''"
        );
        let gone = change(&mut app, &everything, &format!("DELETE FROM {table}")).await;
        assert_eq!(gone.unwrap_or(0), 0, "{table}");
        // Who forgets to say whose rows it wants gets none.
        let forgotten = read(&mut app, &format!("BEGIN; {path}"), table).await;
        assert!(
            forgotten.is_err() || forgotten.is_ok_and(|rows| rows.is_empty()),
            "{table}"
        );
    }
    assert!(tables > 45, "{tables}");
    app.close().await.unwrap();
    // On a connection that never said it, forgetting is an error.
    let mut fresh = AnyConnection::connect(&postgres::as_role(url, "counterfoil_app"))
        .await
        .unwrap();
    assert!(
        read(&mut fresh, "BEGIN", "authority.tenants")
            .await
            .is_err()
    );
    fresh.close().await.unwrap();
}

/// The rows of a table in a transaction that begins so, sorted.
async fn read(
    app: &mut AnyConnection,
    begin: &str,
    table: &str,
) -> Result<Vec<String>, sqlx::Error> {
    app.execute(sqlx::raw_sql(AssertSqlSafe(begin.to_owned())))
        .await?;
    let sql = format!("SELECT {POSTGRES_ROW} FROM {table} AS t ORDER BY 1");
    let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *app).await;
    app.execute(sqlx::raw_sql("ROLLBACK")).await?;
    Ok(found?.iter().map(|row| row.get(0)).collect())
}

/// How many rows a statement changes, taken back at once; `None`: it is refused.
async fn change(app: &mut AnyConnection, begin: &str, sql: &str) -> Option<u64> {
    app.execute(sqlx::raw_sql(AssertSqlSafe(begin.to_owned())))
        .await
        .unwrap();
    let changed = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(&mut *app)
        .await;
    app.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    changed.ok().map(|changed| changed.rows_affected())
}
