//! Who calls, and whether the role allows the method.
//!
//! Invariants:
//! - Every method has a permission as an option in its proto; one without, or one that no row of `permissions.txt` names,
//!   keeps the server from starting.
//! - Unknown methods and unknown permissions are denied.
//! - A principal of a tenant never acts outside of it, whatever roles it has. An api method checks that with
//!   [`Caller::require_tenant`]; what is not the caller's answers with the same bytes as what does not exist.

mod authenticator;
mod caller;
mod gate;
mod permissions;
mod token;

pub use authenticator::{Authenticator, Introspection, Introspector, RemoteTokens, StaticToken};
pub use caller::{Caller, Role};
pub use gate::{Gate, GateLayer, GateService, HttpRoute, RequestContext};
pub use permissions::{PermissionError, PermissionTable};
pub use token::Token;
