//! The logs as a whole: creating them, who may write, heads, consistency, epochs.

use counterfoil_chassis::{ApiError, Caller, names::tenant_field};
use counterfoil_proto::ledger::{
    CreateLogRequest, CreateLogResponse, GetCheckpointRequest, GetCheckpointResponse,
    ProveConsistencyRequest, ProveConsistencyResponse, RegisterProducerRequest,
    RegisterProducerResponse, SealEpochRequest, SealEpochResponse,
};

use super::append::receipt_of;
use super::{Api, told};
use crate::model::producer::Producer;

impl Api {
    pub(super) async fn create(
        &self,
        caller: &Caller,
        request: CreateLogRequest,
    ) -> Result<CreateLogResponse, ApiError> {
        let tenant = tenant_field(&request.tenant)?;
        caller.require_tenant(&tenant)?;
        let log = self.logs.create(&tenant).await?;
        Ok(CreateLogResponse {
            origin: log.info().origin.clone(),
            vkey: log.info().vkey.to_string(),
            registrar_vkey: self.logs.registrar().to_string(),
        })
    }

    pub(super) async fn register(
        &self,
        caller: &Caller,
        request: RegisterProducerRequest,
    ) -> Result<RegisterProducerResponse, ApiError> {
        let producer = Producer::register(
            caller.principal(),
            &request.principal,
            &request.stream,
            &request.vkey,
            &request.proof_of_possession,
        )?;
        self.logs.register(&producer).await?;
        Ok(RegisterProducerResponse {})
    }

    pub(super) async fn checkpoint(
        &self,
        caller: &Caller,
        request: GetCheckpointRequest,
    ) -> Result<GetCheckpointResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let head = log.head().await.map_err(told)?;
        Ok(GetCheckpointResponse {
            checkpoint: head.checkpoint.into_bytes(),
            size: head.size,
            vkey: log.info().vkey.to_string(),
        })
    }

    pub(super) async fn consistency(
        &self,
        caller: &Caller,
        request: ProveConsistencyRequest,
    ) -> Result<ProveConsistencyResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let new_size = match request.new_size {
            0 => log.head().await.map_err(told)?.size,
            size => size,
        };
        let hashes = log
            .consistency(request.old_size, new_size)
            .await
            .map_err(told)?;
        let checkpoint = log.checkpoint_at(new_size).await.map_err(told)?;
        Ok(ProveConsistencyResponse {
            hashes: hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
            checkpoint: checkpoint.into_bytes(),
        })
    }

    pub(super) async fn seal(
        &self,
        caller: &Caller,
        request: SealEpochRequest,
    ) -> Result<SealEpochResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let (epoch, receipt) = self.logs.seal_epoch(&log).await?;
        Ok(SealEpochResponse {
            epoch,
            receipt: Some(receipt_of(receipt)),
        })
    }
}
