//! What tests of the whole suite share: real data, estates to govern, real processes, real directory servers.
//!
//! - [`repository`]: where the checkout, the shared data and the built executables are.
//! - [`decisions`]: a file of decisions, as in `deploy/sample-estate`.
//! - [`kubernetes`]: the GitHub organisations of Kubernetes, 6,281 real grants, as an estate.
//! - [`ldap`]: real directory servers as estates.
//! - [`process`]: the real executables as processes that are listened to and killed.
//! - [`source`]: what a target system really holds, read past the suite.
//! - [`tools`]: other people's implementations that `tests/run` installs.
//!
//! The tests themselves are targets of their own, one folder each. Nothing here sleeps, and nothing talks beyond loopback.

pub mod decisions;
pub mod kubernetes;
pub mod ldap;
pub mod process;
pub mod repository;
#[cfg(test)]
mod sample;
pub mod source;
pub mod tools;
