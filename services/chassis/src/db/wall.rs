//! The second wall of PostgreSQL: row-level security on every table of a tenant.
//!
//! Every transaction names its tenant in the setting `counterfoil.tenant`; a row is there for it when it is that tenant's. A
//! statement outside of a transaction of ours has no setting: it fails on a connection that never had one, and sees nothing on
//! one that had (PostgreSQL keeps an empty text there).
//! `*` reads everything and writes nothing ([`super::Database::read_everything`]).
//!
//! It is put up after the migrations, by the owner of the tables, and is forced on the owner too. A superuser walks through
//! it: services must not run as one, and say so when they do.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::DatabaseError;

/// The tables of a schema that are not walled in yet: "name", and the condition that a row must meet.
///
/// A table with policies of its own is its maker's ([`FORCE`]).
///
/// A table without a `tenant` column belongs to whom its parent belongs to: the tenant's table whose one-column primary key
/// it has. Parents never change hands, so the look-up cannot race. A table with neither is the deployment's. One with the keys of
/// several parents has several rows here.
const OPEN: &str = "
    WITH tables AS (
        SELECT c.oid, c.relname::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS walled,
               EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped)
                   AS own,
               EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid
                   AND p.polname NOT IN ('counterfoil_tenant', 'counterfoil_everything')) AS apart
        FROM pg_class c WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
    ), keys AS (
        SELECT t.name AS parent, a.attname::text AS key
        FROM tables t JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary AND i.indnkeyatts = 1
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
        WHERE t.own AND a.attname <> 'tenant'
    )
    SELECT t.name, CASE WHEN t.own THEN '' ELSE k.parent END, COALESCE(k.key, '')
    FROM tables t LEFT JOIN keys k ON NOT t.own AND EXISTS
        (SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname::text = k.key AND NOT a.attisdropped)
    WHERE NOT t.walled AND NOT t.apart AND (t.own OR k.parent IS NOT NULL)
    ORDER BY 1, 2";

/// Forces row-level security again, after [`lower`], on the tables that have policies of their own, such as the ledger's logs, and takes
/// away ours: policies add up, and one that names the tenant fails where no tenant is named.
const FORCE: &str = "
    DO $$
    DECLARE
        part RECORD;
    BEGIN
        FOR part IN
            SELECT c.oid::regclass AS name FROM pg_class c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
            AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid
                AND p.polname NOT IN ('counterfoil_tenant', 'counterfoil_everything'))
            AND (NOT c.relforcerowsecurity OR EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid
                AND p.polname IN ('counterfoil_tenant', 'counterfoil_everything')))
        LOOP
            EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', part.name);
            EXECUTE format('DROP POLICY IF EXISTS counterfoil_tenant ON %s', part.name);
            EXECUTE format('DROP POLICY IF EXISTS counterfoil_everything ON %s', part.name);
        END LOOP;
    END $$";

/// Refuses a table that could belong to whom either of two parents belongs to.
fn require_one_parent(open: &[(String, String, String)]) -> Result<(), DatabaseError> {
    let several = open.windows(2).find_map(|pair| match pair {
        [(table, one, _), (same, other, _)] if table == same => Some((table, one, other)),
        _ => None,
    });
    let Some((table, one, other)) = several else {
        return Ok(());
    };
    Err(DatabaseError::Wall {
        table: table.clone(),
        parents: [one.clone(), other.clone()],
    })
}

/// Walls in every table of a tenant that is not. The caller owns the tables.
pub(super) async fn raise(
    connection: &mut AnyConnection,
    schema: &str,
) -> Result<(), DatabaseError> {
    sqlx::raw_sql(FORCE).execute(&mut *connection).await?;
    let open: Vec<(String, String, String)> = sqlx::query_as(OPEN)
        .bind(schema)
        .fetch_all(&mut *connection)
        .await?;
    require_one_parent(&open)?;
    for (table, parent, key) in open {
        const IS_OWN: &str = "tenant = current_setting('counterfoil.tenant')";
        let condition = if parent.is_empty() {
            IS_OWN.to_owned()
        } else {
            format!("{key} IN (SELECT {key} FROM {parent} WHERE {IS_OWN})")
        };
        let wall = format!(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
             DROP POLICY IF EXISTS counterfoil_tenant ON {table};
             CREATE POLICY counterfoil_tenant ON {table} USING ({condition}) WITH CHECK ({condition});
             DROP POLICY IF EXISTS counterfoil_everything ON {table};
             CREATE POLICY counterfoil_everything ON {table} FOR SELECT
                 USING (current_setting('counterfoil.tenant') = '*');"
        );
        sqlx::raw_sql(AssertSqlSafe(wall))
            .execute(&mut *connection)
            .await?;
        tracing::info!(schema, table, "row-level security is forced");
    }
    Ok(())
}

/// Lets the owner of the tables through until [`raise`], for migrations that change rows of all tenants. Both are in the
/// transaction of the migrations: nobody else sees it open.
pub(super) async fn lower(
    connection: &mut AnyConnection,
    schema: &str,
) -> Result<(), DatabaseError> {
    let walled: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class \
         WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'p') AND relforcerowsecurity",
    )
    .bind(schema)
    .fetch_all(&mut *connection)
    .await?;
    for table in walled {
        let open = format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY");
        sqlx::raw_sql(AssertSqlSafe(open))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Whether the wall stands in the way of the role that is connected.
pub(super) async fn holds(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let through: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)",
    )
    .fetch_one(connection)
    .await?;
    Ok(through == 0)
}
