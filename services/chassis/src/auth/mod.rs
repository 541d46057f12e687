//! Who calls, and whether the role allows the method.
//!
//! Invariants:
//! - Every method has a permission as an option in its proto; one without, or one that no row of `permissions.txt` names,
//!   keeps the server from starting.
//! - Unknown methods and unknown permissions are denied.
//! - A principal of a tenant never acts outside of it, whatever roles it has. An api method checks that with
//!   [`Caller::require_tenant`]; what is not the caller's answers with the same bytes as what does not exist.
//! - A call has one credential: a token, or the certificate of a service. A certificate and a token together are refused, so
//!   that no service acts for somebody with its own rights, nor lends them.
//! - A credential's end ends what is open under it: streams both ways are cut within a second of the service's clock, and a
//!   revocation is seen as soon.

mod authenticator;
mod caller;
mod credential;
mod cut;
mod gate;
mod permissions;
mod remote;
mod scoped;
mod token;

pub use authenticator::{
    Authenticator, Identified, Introspection, Introspector, Standing, StaticToken,
};
pub use caller::{ActingOperator, Caller, Role};
pub use credential::Credential;
pub use gate::{Gate, GateLayer, GateService, HttpRoute, RequestContext};
pub use permissions::{PermissionError, PermissionTable};
pub use remote::RemoteTokens;
pub use token::{Bearer, Token};
