//! Background work.

mod uses;

pub(crate) use uses::Uses;
