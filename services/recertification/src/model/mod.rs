//! The rules of a review: states, scope, gate, routing, decisions, lapse, debt.
//!
//! Pure: no async, no I/O, no clock, no message of a service's API. What the verifier replays from the records is decided
//! here and nowhere else, so each rule names the invariant it serves.

pub(crate) mod campaign;
pub(crate) mod decided;
pub(crate) mod decision;
pub(crate) mod disposition;
pub(crate) mod gate;
pub(crate) mod identity;
pub(crate) mod ids;
pub(crate) mod item;
pub(crate) mod rights;
pub(crate) mod routing;

#[cfg(test)]
mod properties;
