//! Calls to other services: proto to model, and what their errors mean here.

pub(crate) mod authority;
pub(crate) mod inventory;
pub(crate) mod recertification;

use counterfoil_chassis::error::ApiError;
use tonic::{Code, Status};

use crate::model::entities::Digest;

/// A hash of another service.
fn digest(peer: &'static str, bytes: &[u8]) -> Result<Digest, ApiError> {
    bytes
        .try_into()
        .map_err(|_| ApiError::internal(format!("{peer} answered a hash of {} bytes", bytes.len())))
}

/// What is not there for the caller is not there; all else as any peer's failure.
fn refused(peer: &'static str) -> impl FnOnce(Status) -> ApiError {
    move |status| match status.code() {
        Code::NotFound => ApiError::not_found(),
        _ => ApiError::from_peer(peer, status),
    }
}
