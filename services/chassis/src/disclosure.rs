//! Hands out what the records of this service commit to: openings of commitments, and attachments.
//!
//! Invariants: only records that are in the ledger are disclosed, in the order of the stream; every attachment is hashed
//! while it is sent, and one that does not hash to its name ends the stream with DATA_LOSS.

use std::{collections::HashSet, fmt, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use counterfoil_evidence::v1::{BlobRef, Record};
use counterfoil_proto::common::{
    BlobPart, Opening, StreamDisclosuresRequest, StreamDisclosuresResponse,
    disclosure_service_server::{DisclosureService, DisclosureServiceServer},
    stream_disclosures_response::Disclosure,
};
use futures::{Stream, StreamExt, stream::BoxStream};
use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::Row;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    auth::Caller, db::scope, error::ApiError, names::tenant_field, outbox::Outbox,
    server::MESSAGE_BYTES_MAX,
};

/// Largest part of an attachment on the wire.
const PART_BYTES: usize = 1 << 20;
/// Records read at once.
const PAGE_RECORDS: i64 = 500;

/// Attachments that a service derives on demand from its tables instead of keeping them.
#[async_trait]
pub trait BlobSource: Send + Sync + 'static {
    /// The bytes of an attachment of this tenant, in parts of any size. `None`: it is not one of these.
    async fn open(
        &self,
        tenant: &str,
        blob: &BlobRef,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, ApiError>>>, ApiError>;
}

/// The [`DisclosureService`] of a service.
#[derive(Clone)]
pub struct Disclosures {
    outbox: Outbox,
    source: Option<Arc<dyn BlobSource>>,
}

impl Disclosures {
    /// Discloses what the chassis keeps.
    #[must_use]
    pub fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            source: None,
        }
    }

    /// Discloses also what the service derives on demand.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn BlobSource>) -> Self {
        self.source = Some(source);
        self
    }

    /// The gRPC service, for `Routes::add_service`.
    #[must_use]
    pub fn into_server(self) -> DisclosureServiceServer<Self> {
        DisclosureServiceServer::new(self).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl fmt::Debug for Disclosures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disclosures({:?})", self.outbox)
    }
}

type Answers = mpsc::Sender<Result<StreamDisclosuresResponse, Status>>;

#[async_trait]
impl DisclosureService for Disclosures {
    type StreamDisclosuresStream =
        Pin<Box<dyn Stream<Item = Result<StreamDisclosuresResponse, Status>> + Send>>;

    async fn stream_disclosures(
        &self,
        request: Request<StreamDisclosuresRequest>,
    ) -> Result<Response<Self::StreamDisclosuresStream>, Status> {
        let tenant = tenant_field(&request.get_ref().tenant)?;
        Caller::of(&request)?.require_tenant(&tenant)?;
        self.require_known(&tenant).await?;
        // Small, so that a slow reader holds little; dropped by the reader, it ends the task at its next part.
        let (answers, receiver) = mpsc::channel(4);
        let disclosures = self.clone();
        scope::spawn(async move {
            let told = answers.clone();
            match disclosures.send_all(&tenant, answers).await {
                Ok(()) | Err(Ended::Reader) => {}
                Err(Ended::Failed(error)) => {
                    // The reader may have left in the meantime.
                    let _ = told.send(Err(error.into())).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }
}

/// Why the stream ends early.
enum Ended {
    /// Nobody listens any more.
    Reader,
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Disclosures {
    async fn require_known(&self, tenant: &str) -> Result<(), ApiError> {
        let known = sqlx::query("SELECT 1 FROM tenant_logs WHERE tenant = $1")
            .bind(tenant)
            .fetch_optional(self.outbox.db().read(tenant).await?.conn())
            .await?;
        known.map(|_| ()).ok_or_else(ApiError::not_found)
    }

    async fn send_all(&self, tenant: &str, answers: Answers) -> Result<(), Ended> {
        let delivered: Option<i64> = sqlx::query_scalar(
            "SELECT delivered_seq FROM outbox_relay WHERE tenant = $1 AND stream = $2",
        )
        .bind(tenant)
        .bind(self.outbox.stream())
        .fetch_optional(self.outbox.db().read(tenant).await?.conn())
        .await?;
        let last = delivered.unwrap_or(0);
        let mut sent: HashSet<Vec<u8>> = HashSet::new();
        let mut after = 0;
        while after < last {
            let through = last.min(after + PAGE_RECORDS);
            self.send_openings(tenant, after, through, &answers).await?;
            for blob in self.blobs(tenant, after, through).await? {
                if sent.insert(blob.sha256.clone()) {
                    self.send_blob(tenant, &blob, &answers).await?;
                }
            }
            after = through;
        }
        Ok(())
    }

    async fn send_openings(
        &self,
        tenant: &str,
        after: i64,
        through: i64,
        answers: &Answers,
    ) -> Result<(), Ended> {
        let rows = sqlx::query(
            "SELECT record_id, label, salt, value FROM disclosures \
             WHERE tenant = $1 AND stream_seq > $2 AND stream_seq <= $3 ORDER BY stream_seq, label",
        )
        .bind(tenant)
        .bind(after)
        .bind(through)
        .fetch_all(self.outbox.db().read(tenant).await?.conn())
        .await?;
        for row in rows {
            let opening = Opening {
                record_id: row.try_get("record_id")?,
                label: row.try_get("label")?,
                salt: row.try_get("salt")?,
                value: row.try_get("value")?,
            };
            send(answers, Disclosure::Opening(opening)).await?;
        }
        Ok(())
    }

    /// The attachments that records of this part of the stream name.
    async fn blobs(
        &self,
        tenant: &str,
        after: i64,
        through: i64,
    ) -> Result<Vec<BlobRef>, ApiError> {
        let rows = sqlx::query(
            "SELECT record FROM outbox_records \
             WHERE tenant = $1 AND stream = $2 AND seq > $3 AND seq <= $4 ORDER BY seq",
        )
        .bind(tenant)
        .bind(self.outbox.stream())
        .bind(after)
        .bind(through)
        .fetch_all(self.outbox.db().read(tenant).await?.conn())
        .await?;
        let mut blobs = Vec::new();
        for row in rows {
            let bytes: Vec<u8> = row.try_get(0)?;
            let damaged = |error| ApiError::data_loss("RECORD_DAMAGED", error);
            blobs.extend(Record::decode(bytes.as_slice()).map_err(damaged)?.blob);
        }
        Ok(blobs)
    }

    async fn send_blob(
        &self,
        tenant: &str,
        blob: &BlobRef,
        answers: &Answers,
    ) -> Result<(), Ended> {
        let mut sender = BlobSender {
            answers,
            sha256: &blob.sha256,
            pending: Vec::new(),
            hash: Sha256::new(),
        };
        if !self.send_kept(tenant, &blob.sha256, &mut sender).await? {
            let derived = match &self.source {
                Some(source) => source.open(tenant, blob).await?,
                None => None,
            };
            let missing = || ApiError::data_loss("BLOB_MISSING", hex::encode(&blob.sha256));
            let mut derived = derived.ok_or_else(missing)?;
            while let Some(part) = derived.next().await {
                sender.push(&part?).await?;
            }
        }
        sender.finish().await
    }

    /// Sends the attachment from the chassis' table; false: it is not there.
    async fn send_kept(
        &self,
        tenant: &str,
        sha256: &[u8],
        sender: &mut BlobSender<'_>,
    ) -> Result<bool, Ended> {
        for number in 0_i64.. {
            let part: Option<Vec<u8>> = sqlx::query_scalar(
                "SELECT content FROM blobs WHERE tenant = $1 AND sha256 = $2 AND chunk_no = $3",
            )
            .bind(tenant)
            .bind(sha256)
            .bind(number)
            .fetch_optional(self.outbox.db().read(tenant).await?.conn())
            .await?;
            match part {
                Some(part) => sender.push(&part).await?,
                // An empty attachment has no part at all.
                None => return Ok(number > 0 || Sha256::digest(b"").as_slice() == sha256),
            }
        }
        Ok(true)
    }
}

/// Cuts an attachment into parts, marks the last and checks the whole.
struct BlobSender<'a> {
    answers: &'a Answers,
    sha256: &'a [u8],
    pending: Vec<u8>,
    hash: Sha256,
}

impl BlobSender<'_> {
    async fn push(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.hash.update(bytes);
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > PART_BYTES {
            let rest = self.pending.split_off(PART_BYTES);
            let full = std::mem::replace(&mut self.pending, rest);
            self.part(full, false).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Ended> {
        if self.hash.finalize_reset().as_slice() != self.sha256 {
            let name = hex::encode(self.sha256);
            return Err(ApiError::data_loss("BLOB_DAMAGED", name).into());
        }
        let last = std::mem::take(&mut self.pending);
        self.part(last, true).await
    }

    async fn part(&self, content: Vec<u8>, last: bool) -> Result<(), Ended> {
        let part = BlobPart {
            sha256: self.sha256.to_vec(),
            content,
            last,
        };
        send(self.answers, Disclosure::Blob(part)).await
    }
}

async fn send(answers: &Answers, disclosure: Disclosure) -> Result<(), Ended> {
    let answer = StreamDisclosuresResponse {
        disclosure: Some(disclosure),
    };
    answers.send(Ok(answer)).await.map_err(|_| Ended::Reader)
}
