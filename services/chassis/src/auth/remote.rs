//! Asking authority who presents a token.

use async_trait::async_trait;
use counterfoil_proto::authority::{
    IntrospectTokenRequest, RolePermissions, principal_service_client::PrincipalServiceClient,
};
use tonic::Code;

use super::{Bearer, Caller, Introspection, Introspector};
use crate::{client::ServiceChannel, clock, error::ApiError, names::PrincipalName};

/// Asks authority.
#[derive(Debug, Clone)]
pub struct RemoteTokens {
    authority: PrincipalServiceClient<ServiceChannel>,
}

impl RemoteTokens {
    /// Asks authority behind `channel`.
    #[must_use]
    pub fn new(channel: ServiceChannel) -> Self {
        Self {
            authority: PrincipalServiceClient::new(channel),
        }
    }
}

#[async_trait]
impl Introspector for RemoteTokens {
    async fn introspect(&self, bearer: &Bearer) -> Result<Option<Introspection>, ApiError> {
        let request = IntrospectTokenRequest {
            token: bearer.expose().to_owned(),
        };
        let found = match self.authority.clone().introspect_token(request).await {
            Ok(answer) => answer.into_inner(),
            // Authority does not know it. Our own token being refused looks the same, and is logged there.
            Err(status) if status.code() == Code::Unauthenticated => return Ok(None),
            Err(status) => return Err(ApiError::from_peer("authority", status)),
        };
        let name = PrincipalName::parse(&found.principal)
            .map_err(|error| ApiError::internal(format!("authority: principal {error}")))?;
        let roles = found.roles.iter().map(String::as_str);
        let bound_to = match found.certificate_sha256.len() {
            0 => None,
            _ => Some(
                <[u8; 32]>::try_from(found.certificate_sha256.as_slice())
                    .map_err(|_| ApiError::internal("authority: certificate_sha256"))?,
            ),
        };
        Ok(Some(Introspection {
            caller: Caller::of_tenant(&name.tenant, &name.principal, roles)
                .limited_to(found.scopes)
                .narrowed_to(found.role_permissions.iter().map(kept)),
            expires_at_ms: found.expire_time.as_ref().and_then(clock::millis),
            bound_to,
        }))
    }
}

fn kept(of_policy: &RolePermissions) -> (&str, Vec<String>) {
    (&of_policy.role, of_policy.permissions.clone())
}
