//! counterfoil-verify.
