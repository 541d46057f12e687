//! The tenant-crossing matrix: every rpc of the descriptor set, by every wrong or limited caller, through every carrier of a
//! tenant. Nothing of the victim may be answered, and no row of it may change.
//!
//! - [`api`]: the rpcs, where they are served, and who may call them.
//! - [`estate`], [`world`]: two tenants that are governed whole, each with a canary in every text; what they are made of.
//! - [`synth`]: a valid request to an rpc, made from the proto's comments and `seeds.toml`.
//! - [`identities`]: who calls. [`carriers`]: where a foreign tenant is named.
//! - [`wire`]: calls as bytes, and all that comes back. [`digest`]: all that a tenant has in the databases.
//! - [`matrix`]: what is expected of each call, and whether it came so.
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

mod api;
mod carriers;
mod digest;
mod estate;
mod identities;
mod matrix;
mod suite;
mod synth;
mod wire;
mod world;

use suite::Governed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_crosses_from_one_tenant_to_another() {
    let governed = Governed::on_sqlite().await;
    let findings = matrix::run(&governed).await;
    governed.stop().await;
    findings.none();
}
