//! The rules of the service. No I/O, no API types, no clock.

pub(crate) mod access;
pub(crate) mod anchoring;
pub(crate) mod epoch;
pub(crate) mod producer;
pub(crate) mod quota;
pub(crate) mod rest;
