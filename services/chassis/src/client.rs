//! Calling other services: with this service's certificate or token, and the id of the request that is being served.

use std::{sync::Arc, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    auth::Token,
    db::scope,
    telemetry,
    tls::{Connector, Holder, SpiffeId, Tls},
};

/// Largest message that clients take and give: `SomeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)`.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Header with the tenant that a service acts for. It takes rights away and gives none: a service may see every tenant, and
/// for this call only the named one. From callers who are bound to a tenant it is not read.
pub const TENANT_HEADER: &str = "x-counterfoil-tenant";

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
        // What a caller of a tenant asks of one service, that service asks of another for this tenant only.
        if let Some(tenant) = scope::caller_tenant()
            && let Ok(tenant) = tenant.parse()
        {
            request.metadata_mut().insert(TENANT_HEADER, tenant);
        }
        Ok(request)
    }
}

/// The address of a peer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is malformed.
    #[error("peer address {address:?}: {source}")]
    Malformed {
        /// As it was given.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// Without TLS nothing tells who answers there.
    #[error("peer address {0:?}: an https:// address needs [service.tls]")]
    NoTls(String),
    /// With TLS a call would go out where everybody can read it.
    #[error("peer address {0:?}: with [service.tls] peers have https:// addresses")]
    NotTls(String),
}

/// A connection to the service at `address`, such as "http://127.0.0.1:7441". It is made when first used.
///
/// # Errors
/// When the address is malformed, or wants TLS.
pub fn connect(address: &str, token: Option<&Token>) -> Result<ServiceChannel, AddressError> {
    if address.starts_with("https:") {
        return Err(AddressError::NoTls(address.to_owned()));
    }
    let channel = endpoint(address)?.connect_lazy();
    Ok(InterceptedService::new(channel, Credentials::new(token)))
}

/// A connection to `service` at `address`, such as "https://ledger.example:7445". This service's certificate says who calls;
/// whoever answers there must have the certificate of that service.
///
/// # Errors
/// When the address is malformed, or is none of TLS.
pub fn connect_tls(
    address: &str,
    service: &str,
    tls: &Arc<Tls>,
) -> Result<ServiceChannel, AddressError> {
    let expected = SpiffeId::new(tls.deployment(), Holder::Service, service);
    let (Some(rest), Some(expected)) = (address.strip_prefix("https://"), expected) else {
        return Err(AddressError::NotTls(address.to_owned()));
    };
    // tonic would refuse "https" without a TLS set-up of its own; the connector has ours, with certificates that change.
    let endpoint = endpoint(&format!("http://{rest}"))?;
    let connector = Connector::new(Arc::clone(tls), expected);
    let channel = endpoint.connect_with_connector_lazy(connector);
    Ok(InterceptedService::new(channel, Credentials::new(None)))
}

fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let malformed = |source| AddressError::Malformed {
        address: address.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(malformed)?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20))
}
