//! The same `request_id` gets the same answer, and the change happens once.
//!
//! Invariant: the answer is stored in the transaction of the change. Ids belong to a caller and a method of a tenant; an
//! empty id asks for nothing.

use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::{
    auth::Caller,
    db::{Database, WriteTx},
    error::ApiError,
};

/// Longest request id in characters.
pub const REQUEST_ID_CHARS_MAX: usize = 64;

/// What to do with a request.
#[derive(Debug)]
pub enum Begun<R> {
    /// It is new: do it, then [`Fresh::store`] the answer in the same transaction.
    Fresh(Fresh),
    /// It was done: this is its answer. Receipts in it may be PENDING: `Outbox::settle` them.
    Replay(R),
}

/// A request that is being done.
#[derive(Debug)]
pub struct Fresh {
    principal: String,
    method: &'static str,
    request_id: String,
    body_sha256: Vec<u8>,
}

/// Looks a request up. `method` is its short name, such as "DecideItem".
///
/// # Errors
/// INVALID_ARGUMENT when the id is too long or has a control character, or was used with another request.
pub async fn begin<R: Message + Default>(
    tx: &mut WriteTx,
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    request: &impl Message,
) -> Result<Begun<R>, ApiError> {
    if request_id.chars().count() > REQUEST_ID_CHARS_MAX {
        return Err(ApiError::invalid("request_id", "has at most 64 characters"));
    }
    if request_id.chars().any(char::is_control) {
        return Err(ApiError::invalid("request_id", "has a control character"));
    }
    let fresh = Fresh {
        principal: caller.principal().to_owned(),
        method,
        request_id: request_id.to_owned(),
        body_sha256: Sha256::digest(request.encode_to_vec()).to_vec(),
    };
    if request_id.is_empty() {
        return Ok(Begun::Fresh(fresh));
    }
    let tenant = tx.tenant().to_owned();
    let row = sqlx::query(
        "SELECT body_sha256, response FROM requests \
         WHERE tenant = $1 AND principal = $2 AND method = $3 AND request_id = $4",
    )
    .bind(tenant)
    .bind(&fresh.principal)
    .bind(method)
    .bind(request_id)
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else {
        return Ok(Begun::Fresh(fresh));
    };
    if row.try_get::<Vec<u8>, _>("body_sha256")? != fresh.body_sha256 {
        let description = "was used before with another request";
        return Err(ApiError::invalid("request_id", description));
    }
    let response: Vec<u8> = row.try_get("response")?;
    let response = R::decode(response.as_slice()).map_err(ApiError::internal)?;
    Ok(Begun::Replay(response))
}

/// The answer of a request that was done before; `None`: it is new, or has no id. For who must find it before anything is judged or
/// counted, because what it is about may have moved on since; whoever changes something asks [`begin`] in its own transaction all the same.
///
/// # Errors
/// As [`begin`], and when the database does not answer.
pub async fn answered<R: Message + Default>(
    db: &Database,
    (tenant, caller): (&str, &Caller),
    method: &'static str,
    request_id: &str,
    request: &impl Message,
) -> Result<Option<R>, ApiError> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let mut tx = db.write_tx(tenant).await?;
    let begun = begin(&mut tx, caller, method, request_id, request).await?;
    tx.rollback().await?;
    Ok(match begun {
        Begun::Replay(answer) => Some(answer),
        Begun::Fresh(_) => None,
    })
}

impl Fresh {
    /// Stores the answer in the transaction of the change.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn store(
        self,
        tx: &mut WriteTx,
        response: &impl Message,
        now_ms: i64,
    ) -> Result<(), ApiError> {
        if self.request_id.is_empty() {
            return Ok(());
        }
        let tenant = tx.tenant().to_owned();
        // If we crash before the commit: neither the change nor this answer has happened.
        sqlx::query(
            "INSERT INTO requests (tenant, principal, method, request_id, body_sha256, response, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(tenant)
        .bind(self.principal)
        .bind(self.method)
        .bind(self.request_id)
        .bind(self.body_sha256)
        .bind(response.encode_to_vec())
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
        Ok(())
    }
}
