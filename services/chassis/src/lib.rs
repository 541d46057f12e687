//! What every service needs and is not its business.
//!
//! | Module | What |
//! | --- | --- |
//! | [`service`] | one service from its configuration to its listener |
//! | [`config`], [`secrets`], [`telemetry`], [`clock`] | settings, keys and tokens in files, logs, the time |
//! | [`auth`] | tokens, callers, roles, permissions; the gate in front of all routes |
//! | [`server`], [`client`], [`tls`] | limits, health, shutdown; calls to other services; certificates as identities |
//! | [`db`] | SQLite and PostgreSQL behind one API; migrations; bulk statements |
//! | [`outbox`], [`relay`] | a change and its record in one transaction; the way to the ledger; receipts |
//! | [`operators`] | people of providers who act for customers, and a record of each of their calls in both logs |
//! | [`agents`] | what AI agents decide and start is counted by authority first |
//! | [`tenants`], [`disclosure`] | what authority says of a tenant; what a bundle needs beside the log |
//! | [`error`], [`names`], [`pages`], [`idempotency`] | what api methods are made of |
//! | `testing` | databases of both engines, a server on loopback (feature `testing`) |
//!
//! Not here: anything of one service's business, and anything that only one service needs. `README.md` is a how-to.

pub mod agents;
pub mod auth;
pub mod client;
pub mod clock;
pub mod config;
pub mod db;
pub mod disclosure;
pub mod error;
pub mod idempotency;
pub mod names;
pub mod operators;
pub mod outbox;
pub mod pages;
mod rates;
pub mod relay;
pub mod secrets;
pub mod server;
pub mod service;
mod sync;
pub mod telemetry;
pub mod tenants;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;

pub use auth::{Caller, Role};
pub use clock::{Clock, TestClock};
pub use db::{BulkValue, Database, Engine, Migrations, ReadTx, WriteTx};
pub use error::ApiError;
pub use outbox::{EmittedRecord, Outbox, ProducerKey, RecordDraft};
pub use service::{Chassis, Face, Setup, StartError};
pub use tokio_util::sync::CancellationToken;
