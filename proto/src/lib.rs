//! The gRPC API, compiled: one module a package, and the descriptor set with every method's permission.
//!
//! The record types (`counterfoil.evidence.v1`) are compiled in `counterfoil-evidence`, without an RPC stack.

macro_rules! package {
    ($(#[$doc:meta])* $module:ident $name:literal) => {
        $(#[$doc])*
        pub mod $module {
            /// Version 1.
            #[allow(
                missing_docs,
                unreachable_pub,
                missing_debug_implementations,
                clippy::all,
                clippy::allow_attributes_without_reason,
                clippy::too_many_lines,
                reason = "generated from protos whose comments are linted by buf"
            )]
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
            }
        }
    };
}

/// Package names as in the protos, so that generated code finds its neighbours.
pub mod counterfoil {
    package!(
        /// Messages that all services share.
        r#type "counterfoil.r#type.v1"
    );
    package!(
        /// Who may decide what for whom.
        authority "counterfoil.authority.v1"
    );
    package!(
        /// What exists.
        inventory "counterfoil.inventory.v1"
    );
    package!(
        /// What was decided.
        recertification "counterfoil.recertification.v1"
    );
    package!(
        /// Whether reality agrees.
        reconciliation "counterfoil.reconciliation.v1"
    );
    package!(
        /// The tenant's log.
        ledger "counterfoil.ledger.v1"
    );
}

pub use counterfoil::{
    authority::v1 as authority, inventory::v1 as inventory, ledger::v1 as ledger,
    recertification::v1 as recertification, reconciliation::v1 as reconciliation,
    r#type::v1 as common,
};

/// The FileDescriptorSet of the whole API, with options and comments.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.binpb"));
