//! The services this one calls, each answer turned into the model's words at once.
//!
//! Invariant: nothing of another service is remembered here. A decision is judged by what its authority and its inventory say
//! during the call.

pub(crate) mod authority;
pub(crate) mod inventory;
