//! What tests of services need: databases of both engines, configurations, credentials.
//!
//! PostgreSQL is a real one, started once a test process ([`postgres`]). Nothing here stands in for another service.

pub mod postgres;

use std::{
    ops::Deref,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use tempfile::TempDir;

use crate::{
    auth::Token,
    config::{ServiceConfig, StaticCredential},
    db::{Database, Engine, Migrations},
};

/// An empty database of its own, gone with the test. It derefs to a [`Database`] of schema "test".
#[derive(Debug)]
pub struct TestDatabase {
    db: Database,
    location: Location,
}

#[derive(Debug)]
enum Location {
    Folder(TempDir),
    Postgres(String),
}

impl TestDatabase {
    /// On this engine, with the chassis' tables.
    ///
    /// # Panics
    /// When there is no such database: the test cannot run.
    pub async fn new(engine: Engine) -> Self {
        let location = match engine {
            Engine::Sqlite => Location::Folder(tempfile::tempdir().expect("a temporary folder")),
            Engine::Postgres => Location::Postgres(postgres::create_database().await),
        };
        let db = Database::connect(&location.url("test"), "test")
            .await
            .expect("a database");
        let database = Self { db, location };
        database.migrate(&[]).await;
        database
    }

    /// Another one on the same engine, with nothing of this one.
    ///
    /// # Panics
    /// As [`TestDatabase::new`].
    pub async fn another(&self) -> Self {
        Self::new(match self.location {
            Location::Folder(_) => Engine::Sqlite,
            Location::Postgres(_) => Engine::Postgres,
        })
        .await
    }

    /// Runs migrations of a service.
    ///
    /// # Panics
    /// When one fails.
    pub async fn migrate(&self, sets: &[Migrations]) {
        self.db.migrate(sets, 0).await.expect("migrations that run");
    }

    /// The address that a service of this name gets in its configuration: a file of its own, or the same database.
    #[must_use]
    pub fn url(&self, service: &str) -> String {
        self.location.url(service)
    }
}

impl Location {
    fn url(&self, service: &str) -> String {
        match self {
            Self::Folder(folder) => {
                let path = folder.path().join(format!("{service}.sqlite"));
                format!("sqlite://{}?mode=rwc", path.display())
            }
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl Deref for TestDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.db
    }
}

/// The configuration of a service on this database, with its keys in `folder` and no peers yet.
#[must_use]
pub fn config(service: &str, database: &TestDatabase, folder: &Path) -> ServiceConfig {
    ServiceConfig {
        database_url: database.url(service),
        ..ServiceConfig::embedded(service, folder)
    }
}

/// A token in a file of `folder`, and the credential that makes a service know it. `principal` is "services/{service}" or
/// "operators/{operator}", `role` one of `permissions.txt`. The same principal gets the same token.
///
/// # Panics
/// When the file cannot be written.
#[must_use]
pub fn credential(folder: &Path, principal: &str, role: &str) -> (Token, StaticCredential) {
    let token_file = folder
        .join("keys")
        .join(format!("{}.token", principal.replace('/', "-")));
    let token = Token::load_or_create(&token_file).expect("a token file");
    let credential = StaticCredential {
        principal: principal.to_owned(),
        roles: vec![role.to_owned()],
        token_file,
    };
    (token, credential)
}

static TENANT_FILTER_OFF: AtomicBool = AtomicBool::new(false);

/// Until it is dropped, [`crate::Caller::require_tenant`] lets everybody through in the whole process: as if every handler had
/// forgotten it. What still keeps tenants apart is the second wall.
#[derive(Debug)]
pub struct WithoutTenantFilter(());

impl WithoutTenantFilter {
    /// Switches the filter off.
    #[must_use]
    pub fn begin() -> Self {
        TENANT_FILTER_OFF.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for WithoutTenantFilter {
    fn drop(&mut self) {
        TENANT_FILTER_OFF.store(false, Ordering::SeqCst);
    }
}

pub(crate) fn tenant_filter_is_off() -> bool {
    TENANT_FILTER_OFF.load(Ordering::SeqCst)
}

/// Tests that run once on SQLite and once on PostgreSQL: `name::sqlite` and `name::postgres`.
///
/// ```text
/// both_engines! {
///     async fn a_decision_is_found_again(db: TestDatabase) {
///         db.migrate(&[MIGRATIONS]).await;
///     }
/// }
/// ```
#[macro_export]
macro_rules! both_engines {
    ($($(#[$doc:meta])* async fn $name:ident($($parameter:tt)*) $body:block)+) => {
        $($(#[$doc])*
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "what the test needs stands above it")]
            use super::*;

            async fn run($($parameter)*) $body

            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run($crate::testing::TestDatabase::new($crate::db::Engine::Sqlite).await).await;
            }

            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run($crate::testing::TestDatabase::new($crate::db::Engine::Postgres).await).await;
            }
        })+
    };
}
