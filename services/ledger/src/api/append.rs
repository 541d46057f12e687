//! Appending records: one result each.

use counterfoil_chassis::{ApiError, Caller, clock::timestamp};
use counterfoil_engine::{Outcome, Receipt, Refusal, SignedRecord};
use counterfoil_proto::{
    common::{self, EvidenceState},
    ledger::{AppendBatchRequest, AppendBatchResponse, AppendRefusal, AppendResult, append_result},
};
use tonic::Code;

use super::{Api, told};

/// Most records of one call.
const RECORDS_MAX: usize = 4096;
/// Most bytes of records of one call.
const BYTES_MAX: usize = 3 << 20;

impl Api {
    pub(super) async fn append(
        &self,
        caller: &Caller,
        request: AppendBatchRequest,
    ) -> Result<AppendBatchResponse, ApiError> {
        let log = self.log(caller, &request.tenant).await?;
        let count = request.records.len();
        if count == 0 || count > RECORDS_MAX {
            return Err(ApiError::invalid("records", "must be 1 to 4,096"));
        }
        let bytes: usize = request
            .records
            .iter()
            .map(|record| record.record.len())
            .sum();
        if bytes > BYTES_MAX {
            return Err(ApiError::invalid("records", "must be at most 3 MiB in all"));
        }
        let records = request
            .records
            .into_iter()
            .map(|record| SignedRecord {
                record: record.record,
                key_id: record.key_id,
                signature: record.signature,
            })
            .collect();
        let outcomes = log.append(records).await.map_err(told)?;
        Ok(AppendBatchResponse {
            results: outcomes.into_iter().map(result_of).collect(),
        })
    }
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
        Refusal::RecordIdTaken(_) => (Code::AlreadyExists, "RECORD_ID_TAKEN"),
        Refusal::SequenceGap { .. } => (Code::FailedPrecondition, "SEQUENCE_GAP"),
        Refusal::PrevHashMismatch { .. } => (Code::FailedPrecondition, "PREV_HASH_MISMATCH"),
    };
    let expected_stream_seq = match refusal {
        Refusal::SequenceGap { expected } | Refusal::PrevHashMismatch { expected } => *expected,
        _ => 0,
    };
    AppendRefusal {
        code: code.into(),
        reason: reason.to_owned(),
        expected_stream_seq,
        message: refusal.to_string(),
    }
}
