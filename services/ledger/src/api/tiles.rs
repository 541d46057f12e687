//! The log over plain HTTP, in the layout of [c2sp.org/tlog-tiles]: `/logs/{tenant}/checkpoint` and `/logs/{tenant}/tile/...`.
//!
//! Any partial tile of any size that the log has had is served, so that every receipt's checkpoint can be checked. A log is its
//! tenant's: the same bearer token as for gRPC is asked for, caches in between must not share, and what is not there looks the same
//! as what is somebody else's.
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
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
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
) -> Response {
    match read(&api, &caller, &tenant, &path).await {
        Ok((content, kind, cache)) => {
            let mut response = Response::new(Body::from(content));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
            response
        }
        Err(error) => refusal(error),
    }
}

async fn read(
    api: &Api,
    caller: &Caller,
    tenant: &str,
    path: &str,
) -> Result<(Vec<u8>, &'static str, &'static str), ApiError> {
    let log = api.log_of(caller, tenant).await?;
    if path == "checkpoint" {
        let head = log.head().await.map_err(told)?;
        return Ok((head.checkpoint.into_bytes(), TEXT, SHORTLY));
    }
    // One path a tile: anything else is not there.
    let path = TilePath::parse(path).map_err(|_| ApiError::not_found())?;
    let tile = log.tile(&path).await.map_err(told)?;
    Ok((tile.ok_or_else(ApiError::not_found)?, BYTES, FOR_EVER))
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
