//! Calling other services: with this service's token, and the id of the request that is being served.

use std::time::Duration;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{auth::Token, telemetry};

/// Largest message that clients take and give: `SomeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)`.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Header with the id of the request that a call belongs to.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// A connection to another service: give it to the generated client. Cheap to clone; it connects when first used and again
/// whenever the connection is lost.
pub type ServiceChannel = InterceptedService<Channel, Credentials>;

/// Adds the token and the request id to every call.
#[derive(Clone)]
pub struct Credentials {
    bearer: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// Calls with this token; without one, calls are anonymous.
    #[must_use]
    pub fn new(token: Option<&Token>) -> Self {
        let bearer = token.and_then(|token| {
            // A token is ASCII by its format.
            let mut value: MetadataValue<Ascii> =
                format!("Bearer {}", token.expose()).parse().ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { bearer }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.bearer {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
        }
        if let Ok(id) = telemetry::request_id().parse() {
            request.metadata_mut().insert(REQUEST_ID_HEADER, id);
        }
        Ok(request)
    }
}

/// The address of a peer is malformed.
#[derive(Debug, thiserror::Error)]
#[error("peer address {address:?}: {source}")]
pub struct AddressError {
    address: String,
    source: tonic::transport::Error,
}

/// A connection to the service at `address`, such as "http://127.0.0.1:7441". It is made when first used.
///
/// # Errors
/// When the address is malformed.
pub fn connect(address: &str, token: Option<&Token>) -> Result<ServiceChannel, AddressError> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|source| AddressError {
        address: address.to_owned(),
        source,
    })?;
    let channel = endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_lazy();
    Ok(InterceptedService::new(channel, Credentials::new(token)))
}
