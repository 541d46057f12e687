//! Every rpc of the service and the function that answers it.

use std::pin::Pin;

use async_trait::async_trait;
use counterfoil_chassis::Caller;
use counterfoil_proto::{
    common::{
        StreamDisclosuresRequest, StreamDisclosuresResponse,
        disclosure_service_server::DisclosureService,
    },
    ledger::{
        AppendBatchRequest, AppendBatchResponse, AppendRequest, AppendResponse,
        AppendStreamRequest, AppendStreamResponse, CreateLogRequest, CreateLogResponse,
        ExplainAccessRequest, ExplainAccessResponse, ExportLogRequest, ExportLogResponse,
        GetCheckpointRequest, GetCheckpointResponse, GetEntryRequest, GetEntryResponse,
        GetReceiptRequest, GetReceiptResponse, ListEntriesRequest, ListEntriesResponse,
        ProveAnchoredRequest, ProveAnchoredResponse, ProveConsistencyRequest,
        ProveConsistencyResponse, RegisterProducerRequest, RegisterProducerResponse,
        SealEpochRequest, SealEpochResponse, StreamEntriesRequest, StreamEntriesResponse,
        ledger_service_server::LedgerService,
    },
};
use futures::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Api;

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

macro_rules! unary {
    ($self:ident, $request:ident => $function:ident) => {{
        let caller = Caller::of(&$request)?.clone();
        Ok(Response::new(
            $self.$function(&caller, $request.into_inner()).await?,
        ))
    }};
}

macro_rules! streaming {
    ($self:ident, $request:ident => $function:ident) => {{
        let caller = Caller::of(&$request)?.clone();
        let receiver = $self.$function(&caller, $request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }};
}

#[async_trait]
impl LedgerService for Api {
    type AppendStreamStream = Answers<AppendStreamResponse>;
    type StreamEntriesStream = Answers<StreamEntriesResponse>;
    type ExportLogStream = Answers<ExportLogResponse>;

    async fn create_log(
        &self,
        request: Request<CreateLogRequest>,
    ) -> Result<Response<CreateLogResponse>, Status> {
        unary!(self, request => create)
    }

    async fn register_producer(
        &self,
        request: Request<RegisterProducerRequest>,
    ) -> Result<Response<RegisterProducerResponse>, Status> {
        unary!(self, request => register)
    }

    async fn append(
        &self,
        request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        unary!(self, request => append_one)
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        streaming!(self, request => append_stream)
    }

    async fn append_batch(
        &self,
        request: Request<AppendBatchRequest>,
    ) -> Result<Response<AppendBatchResponse>, Status> {
        unary!(self, request => append)
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        unary!(self, request => checkpoint)
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<GetEntryResponse>, Status> {
        unary!(self, request => entry)
    }

    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        unary!(self, request => receipt)
    }

    async fn prove_anchored(
        &self,
        request: Request<ProveAnchoredRequest>,
    ) -> Result<Response<ProveAnchoredResponse>, Status> {
        unary!(self, request => prove_anchored)
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        unary!(self, request => list)
    }

    async fn prove_consistency(
        &self,
        request: Request<ProveConsistencyRequest>,
    ) -> Result<Response<ProveConsistencyResponse>, Status> {
        unary!(self, request => consistency)
    }

    async fn stream_entries(
        &self,
        request: Request<StreamEntriesRequest>,
    ) -> Result<Response<Self::StreamEntriesStream>, Status> {
        streaming!(self, request => stream)
    }

    async fn seal_epoch(
        &self,
        request: Request<SealEpochRequest>,
    ) -> Result<Response<SealEpochResponse>, Status> {
        unary!(self, request => seal)
    }

    async fn export_log(
        &self,
        request: Request<ExportLogRequest>,
    ) -> Result<Response<Self::ExportLogStream>, Status> {
        streaming!(self, request => export)
    }

    async fn explain_access(
        &self,
        request: Request<ExplainAccessRequest>,
    ) -> Result<Response<ExplainAccessResponse>, Status> {
        unary!(self, request => explain)
    }
}

#[async_trait]
impl DisclosureService for Api {
    type StreamDisclosuresStream = Answers<StreamDisclosuresResponse>;

    async fn stream_disclosures(
        &self,
        request: Request<StreamDisclosuresRequest>,
    ) -> Result<Response<Self::StreamDisclosuresStream>, Status> {
        streaming!(self, request => disclose)
    }
}
