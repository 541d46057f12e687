//! What the service's own records name by hash: the descriptor sets of R86. Its records commit to nothing else.

use counterfoil_chassis::{ApiError, Caller, db::scope};
use counterfoil_engine::{EntryFilter, Log};
use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::v1::SchemaRegistered;
use counterfoil_proto::common::{
    BlobPart, StreamDisclosuresRequest, StreamDisclosuresResponse,
    stream_disclosures_response::Disclosure,
};
use prost::Name;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Api, told};
use crate::error::LedgerError;
use crate::logs::read;
use crate::store;

/// Largest part of an attachment.
const PART_BYTES: usize = 1 << 20;
/// A log has one schema a release.
const SCHEMAS_MAX: u32 = 10_000;

impl Api {
    pub(super) async fn disclose(
        &self,
        caller: &Caller,
        request: StreamDisclosuresRequest,
    ) -> Result<mpsc::Receiver<Result<StreamDisclosuresResponse, Status>>, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let (sender, receiver) = mpsc::channel(2);
        let api = self.clone();
        let shutdown = self.shutdown.clone();
        scope::spawn(async move {
            let sending = api.send_schemas(&log, &sender);
            if let Some(Err(error)) = shutdown.run_until_cancelled(sending).await {
                // The reader may have left in the meantime.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(receiver)
    }

    async fn send_schemas(
        &self,
        log: &Log,
        sender: &mpsc::Sender<Result<StreamDisclosuresResponse, Status>>,
    ) -> Result<(), ApiError> {
        let filter = EntryFilter {
            record_type: Some(SchemaRegistered::full_name()),
            ..EntryFilter::default()
        };
        let registered = log
            .list(&filter, 0, u64::MAX, SCHEMAS_MAX)
            .await
            .map_err(told)?;
        for entry in registered {
            let (_, payload) = read(&entry)?;
            let Payload::SchemaRegistered(schema) = payload else {
                continue;
            };
            let set = store::schema(self.logs.db(), &schema.schema_hash)
                .await
                .map_err(LedgerError::from)?
                .filter(|set| Sha256::digest(set).as_slice() == schema.schema_hash)
                .ok_or_else(|| {
                    let hash = hex::encode(&schema.schema_hash);
                    ApiError::data_loss("SCHEMA_LOST", format!("descriptor set {hash}"))
                })?;
            let parts = set.chunks(PART_BYTES);
            let last = parts.len();
            for (number, part) in (1..).zip(parts) {
                let part = BlobPart {
                    sha256: schema.schema_hash.clone(),
                    content: part.to_vec(),
                    last: number == last,
                };
                let answer = StreamDisclosuresResponse {
                    disclosure: Some(Disclosure::Blob(part)),
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
