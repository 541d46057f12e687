//! Transactions.

use std::{
    collections::BTreeSet,
    fmt,
    ops::{Deref, DerefMut},
};

use sqlx::{Any, AnyConnection, Transaction, pool::PoolConnection};

use super::{Database, Engine, bulk::StatementCache};

/// Reads of one tenant.
#[derive(Debug)]
pub struct ReadTx {
    from: From,
    db: Database,
}

#[derive(Debug)]
enum From {
    /// Each statement reads the newest state.
    Connection(PoolConnection<Any>),
    Transaction(Transaction<'static, Any>),
}

impl ReadTx {
    pub(super) fn of_connection(connection: PoolConnection<Any>, db: Database) -> Self {
        let from = From::Connection(connection);
        Self { from, db }
    }

    pub(super) fn of_state(tx: Transaction<'static, Any>, db: Database) -> Self {
        let from = From::Transaction(tx);
        Self { from, db }
    }

    /// Where to run statements: `query.fetch_all(tx.conn())`.
    pub fn conn(&mut self) -> &mut AnyConnection {
        match &mut self.from {
            From::Connection(connection) => connection,
            From::Transaction(tx) => tx,
        }
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.db.engine()
    }
}

impl Deref for ReadTx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match &self.from {
            From::Connection(connection) => connection,
            From::Transaction(tx) => tx,
        }
    }
}

impl DerefMut for ReadTx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.conn()
    }
}

/// A write transaction of one tenant. Dropped without [`WriteTx::commit`], it leaves nothing.
pub struct WriteTx {
    tx: Transaction<'static, Any>,
    db: Database,
    tenant: String,
    on_commit: Vec<Box<dyn FnOnce() + Send>>,
    /// Streams whose records are being written and not finished: a commit now would lose evidence.
    emitting: BTreeSet<String>,
}

impl WriteTx {
    pub(super) fn new(tx: Transaction<'static, Any>, db: Database, tenant: &str) -> Self {
        Self {
            tx,
            db,
            tenant: tenant.to_owned(),
            on_commit: Vec::new(),
            emitting: BTreeSet::new(),
        }
    }

    /// Where to run statements: `query.execute(tx.conn())`.
    pub fn conn(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.db.engine()
    }

    /// Runs `then` after the commit, and never when there is none.
    pub fn on_commit(&mut self, then: impl FnOnce() + Send + 'static) {
        self.on_commit.push(Box::new(then));
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// When the database refuses, and when an emission was opened and not finished: no change without its evidence.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        if let Some(stream) = self.emitting.first() {
            return Err(sqlx::Error::Protocol(format!(
                "records of stream {stream} were not finished"
            )));
        }
        self.tx.commit().await?;
        // If we crash here: the change and its records are durable, the answer is lost. The caller asks again with the same
        // request_id and gets the stored answer; the relay finds the records when it starts.
        for then in self.on_commit {
            then();
        }
        Ok(())
    }

    /// Gives it up. The same as dropping it, but the connection is free when this returns.
    ///
    /// # Errors
    /// When the connection is lost; nothing was written then either.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.tx.rollback().await
    }

    /// Notes that records are being written; false when they already are.
    pub(crate) fn start_emission(&mut self, stream: &str) -> bool {
        self.emitting.insert(stream.to_owned())
    }

    pub(crate) fn finish_emission(&mut self, stream: &str) {
        self.emitting.remove(stream);
    }

    pub(super) fn parts(&mut self) -> (&mut AnyConnection, Engine, &StatementCache) {
        (&mut self.tx, self.db.engine(), self.db.statements())
    }
}

impl fmt::Debug for WriteTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteTx({})", self.tenant)
    }
}
