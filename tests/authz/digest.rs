//! All that a tenant has, in the databases of all services, read past them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use counterfoil::client::SERVICES;
use sqlx::{AnyPool, AssertSqlSafe, Connection as _, Executor as _, Row as _, any::AnyPoolOptions};

/// So long a service may take for what it does in the background.
const PATIENCE: Duration = Duration::from_secs(60);

/// A row of PostgreSQL as a text, without what is noted at leisure: when a token was last used.
pub const POSTGRES_ROW: &str = "(to_jsonb(t) - 'last_used_at_ms')::text";

/// "authority.tokens" -> its rows, each as one text, sorted.
pub type Digest = BTreeMap<String, Vec<String>>;

/// The databases of the services.
#[derive(Debug)]
pub struct Databases {
    pools: Vec<(&'static str, AnyPool)>,
    postgres: bool,
}

/// What the ledger does by itself: it anchors whenever the head of any log has changed, and takes each log in to be hashed again.
const BY_ITSELF: [&str; 3] = ["log_anchor_epochs", "log_anchored_heads", "scrubs"];

impl Databases {
    /// One file a service in `data_dir`, or one schema a service at `url`.
    pub async fn open(data_dir: &Path, url: Option<&str>) -> Self {
        sqlx::any::install_default_drivers();
        let mut pools = Vec::new();
        for service in SERVICES {
            let file = format!("sqlite://{}/{service}.sqlite", data_dir.display());
            let setup = match url {
                Some(_) => format!("SET search_path TO {service}"),
                None => "PRAGMA busy_timeout = 10000".to_owned(),
            };
            let options =
                AnyPoolOptions::new()
                    .max_connections(2)
                    .after_connect(move |connection, _| {
                        let setup = AssertSqlSafe(setup.clone());
                        Box::pin(async move {
                            connection.execute(sqlx::raw_sql(setup)).await?;
                            Ok(())
                        })
                    });
            let pool = options.connect(url.unwrap_or(&file)).await.unwrap();
            pools.push((service, pool));
        }
        Self {
            pools,
            postgres: url.is_some(),
        }
    }

    pub async fn close(&self) {
        for (_, pool) in &self.pools {
            pool.close().await;
        }
    }

    pub fn pool(&self, service: &str) -> &AnyPool {
        let found = self.pools.iter().find(|(name, _)| *name == service);
        &found.expect("a service").1
    }

    /// Ends the life of a token now.
    pub async fn expire_token(&self, token_id: &str) {
        sqlx::query("UPDATE tokens SET expires_at_ms = 1 WHERE token_id = $1")
            .bind(token_id)
            .execute(self.pool("authority"))
            .await
            .unwrap();
    }

    /// Waits until every record is in the ledger, every access in its provider's log, and no sync runs.
    pub async fn settled(&self) {
        const UNDELIVERED: &str = "SELECT COUNT(*) FROM outbox_streams s LEFT JOIN outbox_relay d \
            ON d.tenant = s.tenant AND d.stream = s.stream WHERE s.last_seq > COALESCE(d.delivered_seq, 0)";
        const UNTOLD: &str = "SELECT COUNT(*) FROM operator_accesses WHERE mirrored_at_ms IS NULL";
        const RUNNING: &str = "SELECT COUNT(*) FROM syncs WHERE state < 3";
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let settled = async {
            loop {
                ticks.tick().await;
                let mut open = self.count("inventory", RUNNING).await;
                for service in SERVICES {
                    open += self.count(service, UNDELIVERED).await;
                    open += self.count(service, UNTOLD).await;
                }
                if open == 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, settled)
            .await
            .expect("the services come to rest");
    }

    async fn count(&self, service: &str, sql: &'static str) -> i64 {
        let row = sqlx::query(sql).fetch_one(self.pool(service)).await;
        row.unwrap().get(0)
    }

    /// All rows of a tenant, and those that belong to nobody.
    pub async fn of(&self, tenant: &str) -> Digest {
        let mut digest = Digest::new();
        for (service, pool) in &self.pools {
            for table in self.compared(service).await {
                let columns = self.columns(service, &table).await;
                let rows = self.rows(pool, &table, &columns, tenant).await;
                digest.insert(format!("{service}.{table}"), rows);
            }
        }
        digest
    }

    /// All rows of all tables.
    pub async fn everything(&self) -> Digest {
        let mut digest = Digest::new();
        for (service, pool) in &self.pools {
            for table in self.compared(service).await {
                let columns = self.columns(service, &table).await;
                let rows = self.selected(pool, &table, &columns, "").await;
                digest.insert(format!("{service}.{table}"), rows);
            }
        }
        digest
    }

    /// The tables of a service that calls alone change.
    async fn compared(&self, service: &str) -> Vec<String> {
        let mut tables = self.tables(service).await;
        tables.retain(|table| !BY_ITSELF.contains(&table.as_str()));
        tables
    }

    /// The tables of a service.
    pub async fn tables(&self, service: &str) -> Vec<String> {
        let sql = if self.postgres {
            format!(
                "SELECT tablename::text FROM pg_tables WHERE schemaname = '{service}' ORDER BY 1"
            )
        } else {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
                .to_owned()
        };
        self.texts(self.pool(service), sql).await
    }

    async fn columns(&self, service: &str, table: &str) -> Vec<String> {
        let sql = if self.postgres {
            format!(
                "SELECT column_name::text FROM information_schema.columns \
                 WHERE table_schema = '{service}' AND table_name = '{table}'"
            )
        } else {
            format!("SELECT name FROM pragma_table_info('{table}')")
        };
        self.texts(self.pool(service), sql).await
    }

    async fn rows(
        &self,
        pool: &AnyPool,
        table: &str,
        columns: &[String],
        tenant: &str,
    ) -> Vec<String> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        let whose = if has("tenant") {
            format!("WHERE tenant = '{tenant}'")
        } else if has("source_no") {
            format!("WHERE source_no IN (SELECT source_no FROM sources WHERE tenant = '{tenant}')")
        } else if has("log_id") {
            format!("WHERE log_id IN (SELECT log_id FROM logs WHERE tenant = '{tenant}')")
        } else {
            String::new()
        };
        self.selected(pool, table, columns, &whose).await
    }

    /// Rows of a table, each as one text, sorted.
    async fn selected(
        &self,
        pool: &AnyPool,
        table: &str,
        columns: &[String],
        whose: &str,
    ) -> Vec<String> {
        let row = if self.postgres {
            POSTGRES_ROW.to_owned()
        } else {
            let quoted: Vec<String> = columns
                .iter()
                .filter(|name| *name != "last_used_at_ms")
                .map(|name| format!("quote({name})"))
                .collect();
            quoted.join(" || ',' || ")
        };
        let sql = format!("SELECT {row} FROM {table} AS t {whose} ORDER BY 1");
        self.texts(pool, sql).await
    }

    async fn texts(&self, pool: &AnyPool, sql: String) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(pool)
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Runs statements on a database.
pub async fn run(url: &str, statements: &'static str) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let done = connection.execute(sqlx::raw_sql(statements)).await;
    done.unwrap();
    connection.close().await.unwrap();
}

/// The tables that differ, with what differs.
pub fn changes(before: &Digest, after: &Digest) -> Vec<String> {
    let mut changed = Vec::new();
    for (table, rows) in before {
        let now = after.get(table).map_or(&[] as &[String], Vec::as_slice);
        let gone = rows.iter().filter(|row| !now.contains(row));
        changed.extend(gone.map(|row| format!("{table} lost {row:.300}")));
        let new = now.iter().filter(|row| !rows.contains(row));
        changed.extend(new.map(|row| format!("{table} gained {row:.300}")));
    }
    changed
}
