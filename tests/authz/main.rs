//! The tenant-crossing matrix: every rpc of the descriptor set, by every wrong or limited caller, through every carrier of a
//! tenant. Nothing of the victim may be answered, and no row of it may change.
//!
//! - [`api`]: the rpcs, where they are served, and who may call them.
//! - [`estate`], [`world`]: two tenants that are governed whole, each with a canary in every text; what they are made of.
//! - [`partner`]: the provider of each, with somebody who acts for it.
//! - [`synth`]: a valid request to an rpc, made from the proto's comments and `seeds.toml`.
//! - [`identities`]: who calls; [`provider`]: where some of them have signed in; [`emergency`]: how some have more roles for a
//!   time. [`carriers`]: where a foreign tenant is named.
//! - [`malformed`], [`mutate`]: what no client of ours would send. [`logs`]: what services log.
//! - [`planted`]: secrets, and whether they come out anywhere.
//! - [`wire`]: calls as bytes, and all that comes back. [`digest`]: all that a tenant has in the databases.
//! - [`matrix`]: what is expected of each call, and whether it came so.
//! - [`wall`]: PostgreSQL's own word on which tables hide whose rows from whom.
//!
//! The whole matrix runs again with the handlers' tenant check switched off: on SQLite it must find holes then, on PostgreSQL
//! none, because row-level security stands behind it.
//!
//! It prints `authz: N calls, ...`. A new rpc is in the matrix by being in the protos; when a request to it cannot be made, the
//! test says what is missing in `seeds.toml`.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking, tell what they did, and their modules are their own"
)]

mod agents;
mod api;
mod carriers;
mod digest;
mod emergency;
mod estate;
mod identities;
mod logs;
mod malformed;
mod matrix;
mod mutate;
mod partner;
mod planted;
mod provider;
mod suite;
mod synth;
mod wall;
mod wire;
mod world;

use counterfoil_chassis::testing::WithoutTenantFilter;
use matrix::Walls;
use suite::Governed;

/// The filter is switched off for the whole process: one at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_crosses_from_one_tenant_to_another() {
    let _turn = TURN.lock().await;
    let governed = Governed::on_sqlite().await;
    let identities = identities::all(&governed).await;
    let findings = matrix::run(&governed, &identities, Walls::All).await;
    // Only a matrix that sees a hole proves that there is none.
    let mut attackers = identities;
    attackers.retain(|identity| identity.name == "another tenant's holder of every role");
    let without = WithoutTenantFilter::begin();
    let holes = matrix::run(&governed, &attackers, Walls::SecondAlone).await;
    drop(without);
    governed.stop().await;
    findings.none();
    assert!(!holes.leaks.is_empty() && !holes.changes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_the_second_wall_holds_alone() {
    let _turn = TURN.lock().await;
    let governed = Governed::on_postgres().await;
    wall::every_table_is_walled_in(&governed).await;
    wall::every_key_begins_with_the_tenant(&governed).await;
    wall::a_statement_without_a_condition_sees_one_tenant(&governed).await;
    let identities = identities::all(&governed).await;
    let without = WithoutTenantFilter::begin();
    let findings = matrix::run(&governed, &identities, Walls::SecondAlone).await;
    drop(without);
    governed.stop().await;
    findings.none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_input_is_answered_and_harms_nobody() {
    let _turn = TURN.lock().await;
    let governed = Governed::on_sqlite().await;
    malformed::run(&governed).await;
    governed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_malformed_input_is_answered_and_harms_nobody() {
    let _turn = TURN.lock().await;
    let governed = Governed::on_postgres().await;
    malformed::run(&governed).await;
    governed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_anywhere() {
    let _turn = TURN.lock().await;
    planted::run().await;
}
