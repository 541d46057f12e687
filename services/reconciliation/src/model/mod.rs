//! The rules: comparing both sides, planning, and what an action's state means. No async, no I/O, no clock.

pub(crate) mod compare;
pub(crate) mod entities;
pub(crate) mod ids;
pub(crate) mod plan;
pub(crate) mod read_back;
pub(crate) mod state;
pub(crate) mod target;
