//! Appending records: one result each.

use std::sync::PoisonError;
use std::time::Duration;

use counterfoil_chassis::{ApiError, Caller, clock::timestamp, db::scope};
use counterfoil_engine::{EngineError, Log, Outcome, Pending, Receipt, Refusal, SignedRecord};
use counterfoil_proto::{
    common::{self, EvidenceState},
    ledger::{
        self, AppendBatchRequest, AppendBatchResponse, AppendRefusal, AppendRequest,
        AppendResponse, AppendResult, AppendStreamRequest, AppendStreamResponse, append_result,
    },
};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::{Api, told};
use crate::model::quota::RECORDS_MAX;

/// Most bytes of records of one call.
const BYTES_MAX: usize = 3 << 20;

/// Batches of a stream that may be on their way.
const IN_FLIGHT_MAX: usize = 64;

impl Api {
    pub(super) async fn append_one(
        &self,
        caller: &Caller,
        request: AppendRequest,
    ) -> Result<AppendResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let record = request
            .record
            .ok_or_else(|| ApiError::invalid("record", "is required"))?;
        let records = checked(vec![record])?;
        self.take_room(&log, &records)?;
        let mut outcomes = log.append(records).await.map_err(told)?;
        match outcomes.pop() {
            Some(Ok(receipt)) => Ok(AppendResponse {
                receipt: Some(receipt_of(receipt)),
            }),
            Some(Err(refusal)) => Err(error_of(&refusal)),
            None => Err(told(EngineError::Closed)),
        }
    }

    pub(super) async fn append(
        &self,
        caller: &Caller,
        request: AppendBatchRequest,
    ) -> Result<AppendBatchResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let records = checked(request.records)?;
        self.take_room(&log, &records)?;
        let outcomes = log.append(records).await.map_err(told)?;
        Ok(AppendBatchResponse {
            results: outcomes.into_iter().map(result_of).collect(),
        })
    }

    pub(super) async fn append_stream(
        &self,
        caller: &Caller,
        mut requests: Streaming<AppendStreamRequest>,
    ) -> Result<mpsc::Receiver<Result<AppendStreamResponse, Status>>, ApiError> {
        let (sender, receiver) = mpsc::channel(1);
        let shutdown = self.shutdown.clone();
        let first = shutdown.run_until_cancelled(requests.message()).await;
        let Some(first) = first.transpose().map_err(left)?.flatten() else {
            return Ok(receiver);
        };
        let log = self.log(caller, &first.tenant).await?;
        let tenant = first.tenant.clone();
        // What is begun here is sequenced in this order; the other task answers in it.
        let (begun, pending) = mpsc::channel(IN_FLIGHT_MAX);
        let api = self.clone();
        scope::spawn(async move {
            let mut next = Some(first);
            while let Some(request) = next {
                let batch = api.begin(&log, &tenant, request).await;
                let failed = batch.is_err();
                if begun.send(batch).await.is_err() || failed {
                    return;
                }
                // A client that breaks off has seen what it was answered; the rest it sends again.
                let more = shutdown.run_until_cancelled(requests.message()).await;
                next = more.and_then(|more| more.unwrap_or_default());
            }
        });
        scope::spawn(answer(pending, sender));
        Ok(receiver)
    }

    async fn begin(
        &self,
        log: &Log,
        tenant: &str,
        request: AppendStreamRequest,
    ) -> Result<Pending, ApiError> {
        if !request.tenant.is_empty() && request.tenant != tenant {
            return Err(ApiError::invalid("tenant", "must not change in a stream"));
        }
        let records = checked(request.records)?;
        while let Err(wait) = self.room(log, &records) {
            // Looked at again every second, because the clock may be set.
            let waiting = tokio::time::sleep(wait.min(Duration::from_secs(1)));
            let waited = self.shutdown.run_until_cancelled(waiting).await;
            waited.ok_or_else(|| told(EngineError::Closed))?;
        }
        log.begin_append(records).await.map_err(told)
    }

    /// Takes the room of these records out of the tenant's quota.
    fn take_room(&self, log: &Log, records: &[SignedRecord]) -> Result<(), ApiError> {
        self.room(log, records).map_err(|wait| {
            let message = "the tenant appends more than its quota";
            ApiError::resource_exhausted("TENANT_QUOTA", message, wait)
        })
    }

    /// The same; where there is none, after what time there is.
    fn room(&self, log: &Log, records: &[SignedRecord]) -> Result<(), Duration> {
        let Some(quota) = &self.quota else {
            return Ok(());
        };
        let mut quota = quota.lock().unwrap_or_else(PoisonError::into_inner);
        quota.take(&log.info().tenant, records.len(), self.clock.now_ms())
    }
}

/// A client's stream that broke before its first request.
fn left(status: Status) -> ApiError {
    ApiError::invalid("tenant", format!("the stream ended: {}", status.message()))
}

/// Answers the batches of a stream in their order, until one fails as a whole or the client leaves.
async fn answer(
    mut pending: mpsc::Receiver<Result<Pending, ApiError>>,
    sender: mpsc::Sender<Result<AppendStreamResponse, Status>>,
) {
    while let Some(batch) = pending.recv().await {
        let outcomes = match batch {
            Ok(batch) => batch.outcomes().await.map_err(told),
            Err(error) => Err(error),
        };
        let failed = outcomes.is_err();
        let response = outcomes
            .map_err(Status::from)
            .map(|outcomes| AppendStreamResponse {
                results: outcomes.into_iter().map(result_of).collect(),
            });
        if sender.send(response).await.is_err() || failed {
            return;
        }
    }
}

/// The records of one call, if they are not too many.
fn checked(records: Vec<ledger::SignedRecord>) -> Result<Vec<SignedRecord>, ApiError> {
    if records.is_empty() || records.len() > RECORDS_MAX {
        return Err(ApiError::invalid("records", "must be 1 to 4,096"));
    }
    let bytes: usize = records.iter().map(|record| record.record.len()).sum();
    if bytes > BYTES_MAX {
        return Err(ApiError::invalid("records", "must be at most 3 MiB in all"));
    }
    let records = records.into_iter().map(|record| SignedRecord {
        record: record.record,
        key_id: record.key_id,
        signature: record.signature,
    });
    Ok(records.collect())
}

fn result_of(outcome: Outcome) -> AppendResult {
    let result = match outcome {
        Ok(receipt) => append_result::Result::Receipt(receipt_of(receipt)),
        Err(refusal) => append_result::Result::Refusal(refusal_of(&refusal)),
    };
    AppendResult {
        result: Some(result),
    }
}

/// A receipt, as the API gives it.
pub(super) fn receipt_of(receipt: Receipt) -> common::Receipt {
    common::Receipt {
        record_id: receipt.record_id.to_vec(),
        record_hash: receipt.record_hash.to_vec(),
        state: EvidenceState::Logged.into(),
        index: receipt.index,
        leaf_hash: receipt.leaf_hash.as_bytes().to_vec(),
        tlog_proof: receipt.tlog_proof.into_bytes(),
        checkpoint_time: Some(timestamp(receipt.checkpoint_ms)),
        anchor_proof: Vec::new(),
    }
}

fn refusal_of(refusal: &Refusal) -> AppendRefusal {
    let (code, reason) = match refusal {
        Refusal::Malformed(_) => (Code::InvalidArgument, "RECORD_MALFORMED"),
        Refusal::TooLarge(_) => (Code::InvalidArgument, "RECORD_TOO_LARGE"),
        Refusal::TooManySubjects(_) => (Code::InvalidArgument, "TOO_MANY_SUBJECTS"),
        Refusal::OtherLog(_) => (Code::InvalidArgument, "OTHER_LOG"),
        Refusal::UnknownType(_) => (Code::InvalidArgument, "UNKNOWN_TYPE"),
        Refusal::OtherStream(_) => (Code::InvalidArgument, "OTHER_STREAM"),
        Refusal::BadRegistration(_) => (Code::InvalidArgument, "BAD_REGISTRATION"),
        Refusal::KeyNotAllowed(_) => (Code::PermissionDenied, "KEY_NOT_ALLOWED"),
        Refusal::KeyRevoked(_) => (Code::PermissionDenied, "KEY_REVOKED"),
        Refusal::BadSignature => (Code::PermissionDenied, "BAD_SIGNATURE"),
        Refusal::RecordIdTaken { .. } => (Code::AlreadyExists, "RECORD_ID_TAKEN"),
        Refusal::SequenceGap { .. } => (Code::FailedPrecondition, "SEQUENCE_GAP"),
        Refusal::PrevHashMismatch { .. } => (Code::FailedPrecondition, "PREV_HASH_MISMATCH"),
    };
    let expected_stream_seq = match refusal {
        Refusal::SequenceGap { expected } | Refusal::PrevHashMismatch { expected } => *expected,
        _ => 0,
    };
    let (logged_record_hash, record_hash) = match refusal {
        Refusal::RecordIdTaken { logged, sent, .. } => (logged.to_vec(), sent.to_vec()),
        _ => (Vec::new(), Vec::new()),
    };
    AppendRefusal {
        code: code.into(),
        reason: reason.to_owned(),
        expected_stream_seq,
        message: refusal.to_string(),
        logged_record_hash,
        record_hash,
    }
}

/// A refusal as the error of a call with one record.
fn error_of(refusal: &Refusal) -> ApiError {
    let AppendRefusal {
        code,
        reason,
        expected_stream_seq,
        message,
        logged_record_hash,
        record_hash,
    } = refusal_of(refusal);
    let error = match Code::from(code) {
        Code::PermissionDenied => ApiError::permission_denied(&reason, message),
        Code::AlreadyExists => ApiError::already_exists(&reason, message),
        Code::FailedPrecondition => ApiError::failed_precondition(&reason, message),
        _ => ApiError::invalid("record", message),
    };
    if expected_stream_seq > 0 {
        return error.with_metadata("expected_stream_seq", expected_stream_seq.to_string());
    }
    if logged_record_hash.is_empty() {
        return error;
    }
    error
        .with_metadata("logged_record_hash", hex::encode(logged_record_hash))
        .with_metadata("record_hash", hex::encode(record_hash))
}
