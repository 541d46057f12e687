//! counterfoil-verify: what an auditor runs offline over an evidence bundle, as a library and as a command.

pub mod bundle;
