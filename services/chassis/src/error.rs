//! What a caller is told when a call fails, as `google.rpc.Status` with its details.
//!
//! Invariants: every error carries `ErrorInfo{reason, domain, metadata}`. INTERNAL tells the caller nothing but an id that
//! the log line carries too; it is logged here, once, where it stops travelling. "Not there" and "not yours" are the
//! same bytes: both are [`ApiError::not_found`], which takes no argument.

use std::{collections::HashMap, error::Error, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::telemetry;

/// `ErrorInfo.domain` of all errors.
pub const DOMAIN: &str = "counterfoil";

type Source = Box<dyn Error + Send + Sync>;

/// A failed call: what the caller is told, and what only the log is told.
pub struct ApiError(Box<Inner>);

struct Inner {
    code: Code,
    reason: String,
    message: String,
    metadata: HashMap<String, String>,
    fields: Vec<(String, String)>,
    preconditions: Vec<(String, String, String)>,
    retry: Option<Duration>,
    source: Option<Source>,
}

impl ApiError {
    fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            reason: reason.into(),
            message: message.into(),
            metadata: HashMap::new(),
            fields: Vec::new(),
            preconditions: Vec::new(),
            retry: None,
            source: None,
        }))
    }

    /// INVALID_ARGUMENT: one field is wrong. Add others with [`Self::and_invalid`].
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let mut error = Self::new(
            Code::InvalidArgument,
            "INVALID_FIELD",
            format!("{field}: {description}"),
        );
        error.0.fields.push((field, description));
        error
    }

    /// Names one more wrong field.
    #[must_use]
    pub fn and_invalid(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.fields.push((field.into(), description.into()));
        self
    }

    /// NOT_FOUND: not there, or not for this caller. Always the same bytes.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", "not found")
    }

    /// ALREADY_EXISTS.
    #[must_use]
    pub fn already_exists(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, reason, message)
    }

    /// FAILED_PRECONDITION: the resource's state does not allow the call. Add violations with [`Self::and_violation`].
    #[must_use]
    pub fn failed_precondition(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message)
    }

    /// Adds a `PreconditionFailure` violation.
    #[must_use]
    pub fn and_violation(
        mut self,
        kind: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let violation = (kind.into(), subject.into(), description.into());
        self.0.preconditions.push(violation);
        self
    }

    /// ABORTED: the caller saw an older state (a stale etag, a grant that has changed).
    #[must_use]
    pub fn aborted(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Aborted, reason, message)
    }

    /// PERMISSION_DENIED.
    #[must_use]
    pub fn permission_denied(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, reason, message)
    }

    /// UNAUTHENTICATED: no token, or one that nobody vouches for. Always the same bytes.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(
            Code::Unauthenticated,
            "UNAUTHENTICATED",
            "a valid bearer token is required",
        )
    }

    /// OUT_OF_RANGE: past the end, or a token too old to resume from.
    #[must_use]
    pub fn out_of_range(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::OutOfRange, reason, message)
    }

    /// RESOURCE_EXHAUSTED: come back after `retry`.
    #[must_use]
    pub fn resource_exhausted(
        reason: impl Into<String>,
        message: impl Into<String>,
        retry: Duration,
    ) -> Self {
        let mut error = Self::new(Code::ResourceExhausted, reason, message);
        error.0.retry = Some(retry);
        error
    }

    /// UNAVAILABLE: something this service needs does not answer; come back after `retry`.
    #[must_use]
    pub fn unavailable(
        reason: impl Into<String>,
        message: impl Into<String>,
        retry: Duration,
    ) -> Self {
        let mut error = Self::new(Code::Unavailable, reason, message);
        error.0.retry = Some(retry);
        error
    }

    /// DATA_LOSS: what should be there cannot be read back. `source` goes to the log only.
    #[must_use]
    pub fn data_loss(reason: impl Into<String>, source: impl Into<Source>) -> Self {
        let mut error = Self::new(Code::DataLoss, reason, "stored data is damaged");
        error.0.source = Some(source.into());
        error
    }

    /// INTERNAL: a defect of ours. The caller is told an id, the log is told `source` with the same id.
    #[must_use]
    pub fn internal(source: impl Into<Source>) -> Self {
        let mut error = Self::new(Code::Internal, "INTERNAL", "internal error");
        error.0.source = Some(source.into());
        error
    }

    /// Says something better than the usual message of this error.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Adds a pair to `ErrorInfo.metadata`.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// The code that the caller gets.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The reason that the caller gets.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Another service's failure, as this service answers it: what can be retried stays so, all else is our defect.
    #[must_use]
    pub fn from_peer(peer: &str, status: Status) -> Self {
        let retry = Duration::from_millis(500);
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
                Self::unavailable("PEER_UNAVAILABLE", format!("{peer} does not answer"), retry)
            }
            _ => Self::internal(format!("{peer} answered {status}")),
        }
    }

    fn details(&self) -> ErrorDetails {
        let inner = &self.0;
        let mut details =
            ErrorDetails::with_error_info(&inner.reason, DOMAIN, inner.metadata.clone());
        for (field, description) in &inner.fields {
            details.add_bad_request_violation(field, description);
        }
        for (kind, subject, description) in &inner.preconditions {
            details.add_precondition_failure_violation(kind, subject, description);
        }
        if let Some(retry) = inner.retry {
            details.set_retry_info(Some(retry));
        }
        details
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.0.code, self.0.reason, self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiError({self})")
    }
}

impl Error for ApiError {}

impl From<ApiError> for Status {
    fn from(mut error: ApiError) -> Self {
        if let Some(source) = error.0.source.take() {
            let request_id = telemetry::request_id();
            let code = error.0.code;
            tracing::error!(%request_id, ?code, reason = error.0.reason, error = %Causes(&*source), "call failed");
            error.0.metadata.insert("request_id".into(), request_id);
        }
        let details = error.details();
        Self::with_error_details(error.0.code, error.0.message, details)
    }
}

/// An error with everything that caused it, on one line.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if crate::db::is_transient(&error) {
            tracing::warn!(%error, "the database is busy");
            let retry = Duration::from_millis(200);
            return Self::unavailable("DATABASE_BUSY", "the database is busy", retry);
        }
        if crate::db::is_another_tenants(&error) {
            // The first wall has a hole: a handler wrote in the name of a tenant that is not its caller's.
            tracing::error!(alarm = "TENANT_CROSSED", %error, "the database refused a row of another tenant");
            return Self::not_found();
        }
        if crate::db::is_unstorable_text(&error) {
            return Self::invalid("request", "has a text with a NUL character");
        }
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_and_what_is_not_yours_are_the_same_bytes() {
        let missing = Status::from(ApiError::not_found());
        let foreign = Status::from(ApiError::not_found());
        assert_eq!(missing.details(), foreign.details());
        assert_eq!(missing.message(), foreign.message());
        assert_eq!(missing.code(), Code::NotFound);
    }

    #[test]
    fn an_internal_error_tells_the_caller_nothing_but_an_id() {
        let status = Status::from(ApiError::internal("column secret_plan does not exist"));
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("secret_plan"));
        let info = status.get_error_details();
        let info = info.error_info().unwrap();
        assert_eq!(info.reason, "INTERNAL");
        assert!(!info.metadata["request_id"].is_empty());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let error = ApiError::invalid("name", "is empty").and_invalid("page_size", "is negative");
        let details = Status::from(error).get_error_details();
        let fields: Vec<_> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["name", "page_size"]);
        assert_eq!(details.error_info().unwrap().domain, DOMAIN);
    }

    #[test]
    fn a_missing_requirement_is_a_violation() {
        let error = ApiError::failed_precondition("TENANT_INCOMPLETE", "requirements are missing")
            .and_violation("REQUIREMENT", "tenants/acme", "no escalation path");
        let details = Status::from(error).get_error_details();
        let violations = &details.precondition_failure().unwrap().violations;
        assert_eq!(violations[0].description, "no escalation path");
    }

    #[test]
    fn a_retry_hint_reaches_the_caller() {
        let wait = Duration::from_millis(250);
        let status = Status::from(ApiError::resource_exhausted("BUSY", "too much waits", wait));
        let details = status.get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(wait));
    }
}
