//! The service with the real authority, inventory, recertification and ledger beside it, over directories of CSV files that
//! are really rewritten. All read one clock, which the test owns; every test ends with the verifier's replay of the log.

mod agents;
mod audit;
mod crash;
mod cycle;
mod paused;
mod places;
mod plans;
mod replicas;
mod rereads;
mod superseded;
mod targets;
mod tenant;
mod world;

use world::{Account, DAY_MS, TENANT, World, reason, revoke_root};
