//! How a source is reached: its connector's settings, probed before they are taken.

use std::path::Path;

use counterfoil_chassis::{ApiError, Caller, Role};
use counterfoil_connectors::{ConnectorError, SourceConfig, reader, writer};
use counterfoil_proto::inventory::{GetSourceConnectionRequest, GetSourceConnectionResponse};
use serde_json::Value;

use super::{Api, names::SourceName};

/// Reason of the refusal of a path.
const PATH_NOT_ALLOWED: &str = "SOURCE_PATH_NOT_ALLOWED";

/// Settings of a source.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) config: SourceConfig,
    /// Nothing is ever written to it: its writer is neither probed nor handed out.
    read_only: bool,
}

impl Connection {
    /// Reads the settings. `read_only` is ours, all other keys are the connector's.
    pub(super) fn parse(config_json: &str) -> Result<Self, ApiError> {
        let invalid = |reason: String| ApiError::invalid("source.config_json", reason);
        let mut settings: Value =
            serde_json::from_str(config_json).map_err(|error| invalid(error.to_string()))?;
        let read_only = match settings
            .as_object_mut()
            .and_then(|object| object.remove("read_only"))
        {
            None => false,
            Some(Value::Bool(read_only)) => read_only,
            Some(_) => return Err(invalid("read_only must be true or false".into())),
        };
        let config: SourceConfig =
            serde_json::from_value(settings).map_err(|error| invalid(error.to_string()))?;
        config.validate().map_err(refused)?;
        Ok(Self { config, read_only })
    }

    /// Holds what a tenant's own caller names on this machine to the tenant's own directory. The process reads more than
    /// they may: other tenants' files, its own keys. An administrator of the deployment owns the machine anyway.
    ///
    /// The refusal is the same wherever a path leads, so that it tells nothing of what is there.
    pub(super) async fn confine(
        mut self,
        caller: &Caller,
        tenant: &str,
        source_root: Option<&Path>,
    ) -> Result<Self, ApiError> {
        if caller.has(Role::Administrator) {
            return Ok(self);
        }
        let Some(source_root) = source_root else {
            let why = "this deployment has no source_root, so only its administrator may register sources";
            return Err(ApiError::permission_denied(PATH_NOT_ALLOWED, why));
        };
        let own = source_root.join(tenant);
        let confined = tokio::task::spawn_blocking(move || {
            self.config.confine(&own)?;
            Ok(self)
        });
        confined.await.map_err(ApiError::internal)?.map_err(|error| match error {
            ConnectorError::InvalidConfig { field, .. } => ApiError::permission_denied(
                PATH_NOT_ALLOWED,
                format!("source.config_json.{field} must be in the tenant's own directory of this deployment"),
            ),
            other => refused(other),
        })
    }

    /// The settings as they are kept.
    pub(super) fn to_json(&self) -> Result<String, ApiError> {
        serde_json::to_string(&self.config).map_err(ApiError::internal)
    }

    pub(super) fn writer_principal(&self, source: &str) -> String {
        if self.read_only {
            String::new()
        } else {
            format!("connectors/{source}/writer")
        }
    }

    /// Asks the target as reader and, unless it is read-only, as writer.
    pub(super) async fn probe(&self) -> Result<(), ApiError> {
        let mut reads = reader(&self.config).map_err(refused)?;
        reads.probe().await.map_err(refused)?;
        if !self.read_only {
            let mut writes = writer(&self.config).map_err(refused)?;
            writes.probe().await.map_err(refused)?;
        }
        Ok(())
    }
}

fn refused(error: ConnectorError) -> ApiError {
    match error {
        ConnectorError::InvalidConfig { field, reason } => {
            ApiError::invalid(format!("source.config_json.{field}"), reason)
        }
        other => ApiError::failed_precondition("SOURCE_UNREACHABLE", other.to_string()),
    }
}

pub(super) async fn get_source_connection(
    api: &Api,
    caller: &Caller,
    request: GetSourceConnectionRequest,
) -> Result<GetSourceConnectionResponse, ApiError> {
    let name = SourceName::parse_field("name", &request.name)?;
    caller.require_tenant(&name.tenant)?;
    let found = api.source(&name.tenant, &name.source).await?;
    Ok(GetSourceConnectionResponse {
        config_json: found.config_json,
        writer_principal: found.writer_principal,
        reader_principal: found.reader_principal,
    })
}
