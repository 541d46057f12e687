//! What tests of the whole suite share: real data, estates to govern, real processes, real directory servers.
//!
//! - [`repository`], [`folder`]: where the checkout, the shared data, the target directory and what tests leave are.
//! - [`decisions`], [`governance`]: a file of decisions and the rest of an estate, as in `deploy/sample-estate`.
//! - [`kubernetes`]: the GitHub organisations of Kubernetes, 6,281 real grants, as an estate.
//! - [`ldap`], [`small`]: real directory servers, and a few rows of CSV, as estates.
//! - [`process`], [`proxy`]: the real executables as processes that are listened to and killed; connections that are cut.
//! - [`cycle`], [`steps`]: a governance cycle, played whole by `quickstart` or step by step by the client.
//! - [`report`], [`evidence`]: what the verifier says of a bundle, and what the bundle holds.
//! - [`source`]: what a target system really holds, read past the suite.
//! - [`s3`]: a real object store to publish to.
//! - [`tools`], [`foreign`]: other people's implementations that `tests/run` installs.
//!
//! The tests themselves are targets of their own, one folder each. Nothing here sleeps, and nothing talks beyond loopback.

pub mod cycle;
pub mod decisions;
pub mod evidence;
pub mod folder;
pub mod foreign;
pub mod governance;
pub mod kubernetes;
pub mod ldap;
pub mod process;
pub mod proxy;
pub mod report;
pub mod repository;
pub mod s3;
#[cfg(test)]
mod sample;
pub mod small;
pub mod source;
pub mod steps;
pub mod tools;
