//! The log over plain HTTP, in the layout of [c2sp.org/tlog-tiles]: `/logs/{tenant}/checkpoint` and `/logs/{tenant}/tile/...`.
//!
//! Any partial tile of any size that the log has had is served, so that every receipt's checkpoint can be checked. A log is its
//! tenant's: the same bearer token as for gRPC is asked for, caches in between must not share, and what is not there looks the same
//! as what is somebody else's. Every answer has a strong ETag, a hash of its bytes, and is left out (304) where the caller has it
//! (RFC 9110, 8.8.3 and 13.1.2).
//!
//! [c2sp.org/tlog-tiles]: https://c2sp.org/tlog-tiles

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use counterfoil_chassis::{ApiError, Caller};
use counterfoil_tlog::tile::TilePath;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use super::{Api, told};

/// Paths that start so are answered here.
pub(crate) const PREFIX: &str = "/logs/";

/// A checkpoint is old after a moment.
const SHORTLY: &str = "private, max-age=1";
/// A tile never changes.
const FOR_EVER: &str = "private, max-age=31536000, immutable";

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/logs/{tenant}/{*path}", get(serve))
        .with_state(api)
}

async fn serve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((tenant, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match read(&api, &caller, &tenant, &path).await {
        Ok(answer) => answer.respond(&headers),
        Err(error) => refusal(error),
    }
}

/// A file of the log.
struct Answer {
    content: Vec<u8>,
    kind: &'static str,
    cache: &'static str,
}

impl Answer {
    fn respond(self, asked: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&self.content)[..16]));
        let mut response = if has(asked, &tag) {
            let mut unchanged = Response::new(Body::empty());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            Response::new(Body::from(self.content))
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.cache));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}

/// Whether the caller says that it has what this tag stands for.
fn has(asked: &HeaderMap, tag: &str) -> bool {
    asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

async fn read(api: &Api, caller: &Caller, tenant: &str, path: &str) -> Result<Answer, ApiError> {
    let log = api.log_of(caller, tenant).await?;
    if path == "checkpoint" {
        return Ok(Answer {
            content: log.cosigned_head().await.map_err(told)?,
            kind: TEXT,
            cache: SHORTLY,
        });
    }
    // One path a tile: anything else is not there.
    let path = TilePath::parse(path).map_err(|_| ApiError::not_found())?;
    let tile = log.tile(&path).await.map_err(told)?;
    Ok(Answer {
        content: tile.ok_or_else(ApiError::not_found)?,
        kind: BYTES,
        cache: FOR_EVER,
    })
}

/// Logs what has to be logged, and tells no more than the code.
fn refusal(error: ApiError) -> Response {
    let code = match Status::from(error).code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Unavailable | Code::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
