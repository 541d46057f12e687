//! The gate in front of all routes: authenticates, authorises by method, bounds how much runs at once, names the request.
//!
//! Health is outside: whoever can connect may ask whether the server serves, and gets nothing but that.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    Authenticator, Caller, Credential, Identified, PermissionTable, Role, Standing,
    cut::{Admission, Cut, Way},
    scoped::Scoped,
};
use crate::{
    client::{REQUEST_ID_HEADER, TENANT_HEADER},
    db::scope,
    error::ApiError,
    names::check_tenant_id,
    operators::{self, Named, Operators},
    telemetry,
};

const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";

/// Routes of plain HTTP, such as the tiles of a log. The handler finds the [`super::Caller`] in the request's extensions and
/// must check the tenant itself.
#[derive(Debug, Clone)]
pub struct HttpRoute {
    /// Paths that start so, such as "/logs/".
    pub prefix: &'static str,
    /// Permission that the caller must hold.
    pub permission: &'static str,
    /// The routes.
    pub router: axum::Router,
}

/// What a handler may know of its request, in the extensions.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Id of the request, in all log lines and on all calls it makes.
    pub request_id: String,
}

/// Decides who comes in.
#[derive(Debug)]
pub struct Gate {
    authenticator: Authenticator,
    permissions: PermissionTable,
    http: Vec<(&'static str, &'static str)>,
    calls: Arc<Semaphore>,
    returns: Returns,
    operators: Option<Operators>,
}

/// When the callers that were refused because too many calls ran may come back: one after the other. Were all told the same time, they
/// would come back together, and refusing them again and again would cost what serving others needs.
#[derive(Debug, Default)]
struct Returns(AtomicI64);

impl Returns {
    /// After how long the first one comes back, milliseconds.
    const SOONEST_MS: i64 = 100;
    /// How far apart they come back, milliseconds.
    const APART_MS: i64 = 1;
    /// After how long the last one comes back, milliseconds: nobody is sent away for longer, however many there are.
    const LATEST_MS: i64 = 10_000;

    /// After how long the next one may come back.
    fn next(&self, now_ms: i64) -> Duration {
        let after = |last_ms: i64| {
            let soonest_ms = now_ms.saturating_add(Self::SOONEST_MS);
            let latest_ms = now_ms.saturating_add(Self::LATEST_MS);
            last_ms
                .saturating_add(Self::APART_MS)
                .clamp(soonest_ms, latest_ms)
        };
        let updated = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last_ms| {
                Some(after(last_ms))
            });
        // It never fails, because it is always updated.
        let wait_ms = after(updated.unwrap_or_default()) - now_ms;
        Duration::from_millis(wait_ms.unsigned_abs())
    }
}

/// What is asked for.
enum Asked<'a> {
    Permission(&'a str),
    Health,
    Unknown,
}

impl Gate {
    /// A gate for the whole API and these plain routes; at most `calls_max` calls run at once.
    #[must_use]
    pub fn new(
        authenticator: Authenticator,
        permissions: PermissionTable,
        http: &[HttpRoute],
        calls_max: usize,
    ) -> Self {
        Self {
            authenticator,
            permissions,
            http: http
                .iter()
                .map(|route| (route.prefix, route.permission))
                .collect(),
            calls: Arc::new(Semaphore::new(calls_max.min(Semaphore::MAX_PERMITS))),
            returns: Returns::default(),
            operators: None,
        }
    }

    /// The same gate, which lets people of providers in.
    #[must_use]
    pub fn with_operators(self, operators: Option<Operators>) -> Self {
        Self { operators, ..self }
    }

    fn asked(&self, path: &str) -> Asked<'_> {
        if path.starts_with(HEALTH_PREFIX) {
            return Asked::Health;
        }
        let plain = || {
            let route = self
                .http
                .iter()
                .find(|(prefix, _)| path.starts_with(prefix));
            route.map(|(_, permission)| *permission)
        };
        self.permissions
            .of_method(path)
            .or_else(plain)
            .map_or(Asked::Unknown, Asked::Permission)
    }

    pub(super) const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Who calls: whoever holds the credential, or as whom they act for the tenant that they name.
    pub(super) async fn identify(
        &self,
        credential: &Credential,
        named: &Named,
    ) -> Result<Identified, ApiError> {
        let found = self.authenticator.identify(credential).await?;
        let caller = operators::select(self.operators.as_ref(), found.caller, named).await?;
        let standing = match (found.standing, caller.operator()) {
            (standing, None) => standing,
            // Of two answers the older one counts, and of two ends the earlier.
            (Standing::Asked { at_ms, ends_ms }, Some(ground)) => Standing::Asked {
                at_ms: at_ms.min(ground.asked_at_ms),
                ends_ms: Some(ends_ms.map_or(ground.until_ms, |end| end.min(ground.until_ms))),
            },
            (Standing::Lasting, Some(ground)) => Standing::Asked {
                at_ms: ground.asked_at_ms,
                ends_ms: Some(ground.until_ms),
            },
        };
        Ok(Identified { caller, standing })
    }

    /// Whether the caller may do this.
    pub(super) fn authorise(&self, caller: &Caller, permission: &str) -> Result<(), Status> {
        if self.permissions.allows(caller, permission) {
            let now_ms = self.authenticator.clock().now_ms();
            return Ok(operators::require_qualified(caller, permission, now_ms)?);
        }
        let message = format!("the caller does not hold the permission {permission}");
        Err(ApiError::permission_denied("PERMISSION_MISSING", message).into())
    }

    /// Lets a request in, with its caller in the extensions, or says why not. `None`: everybody may come in.
    async fn admit(&self, request: &mut Request<Body>) -> Result<Option<Admission>, Status> {
        let asked = self.asked(request.uri().path());
        if matches!(asked, Asked::Health) {
            return Ok(None);
        }
        let credential = Credential::of(request.extensions(), request.headers());
        let named = Named::of(request.headers());
        let identified = self.identify(&credential, &named).await?;
        let Asked::Permission(permission) = asked else {
            return Err(Status::unimplemented("no such method"));
        };
        let caller = &identified.caller;
        self.authorise(caller, permission).inspect_err(|_| {
            let principal = caller.principal();
            tracing::info!(principal, permission, path = request.uri().path(), "denied");
        })?;
        let (method, headers) = (request.uri().path(), request.headers());
        operators::enter(self.operators.as_ref(), caller, method, permission, headers).await?;
        let admission = Admission {
            permission: permission.into(),
            credential,
            named,
            identified,
        };
        request
            .extensions_mut()
            .insert(admission.identified.caller.clone());
        Ok(Some(admission))
    }
}

/// Puts a [`Gate`] in front of routes.
#[derive(Debug, Clone)]
pub struct GateLayer(pub Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = GateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GateService {
            gate: Arc::clone(&self.0),
            inner,
        }
    }
}

/// Routes behind a [`Gate`].
#[derive(Clone)]
pub struct GateService<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> fmt::Debug for GateService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GateService")
    }
}

impl<S> Service<Request<Body>> for GateService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone takes the place of the one that is ready.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let gate = Arc::clone(&self.gate);
        let request_id = request_id(request.headers());
        let span = tracing::debug_span!("call", path = request.uri().path(), %request_id);
        let serve = serve(gate, inner, request, request_id.clone());
        Box::pin(telemetry::with_request_id(request_id, serve).instrument(span))
    }
}

async fn serve<S>(
    gate: Arc<Gate>,
    mut inner: S,
    mut request: Request<Body>,
    request_id: String,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let plain = !is_grpc(request.headers());
    let health = matches!(gate.asked(request.uri().path()), Asked::Health);
    let permit = if health {
        None
    } else {
        Some(gate.calls.try_acquire())
    };
    if let Some(Err(_)) = permit {
        let wait = gate.returns.next(gate.authenticator.clock().now_ms());
        let error = ApiError::resource_exhausted("TOO_MANY_CALLS", "too many calls at once", wait);
        return Ok(refusal(error.into(), plain));
    }
    let admission = match gate.admit(&mut request).await {
        Ok(admission) => admission,
        Err(status) => return Ok(refusal(status, plain)),
    };
    let cut = |body, way| match &admission {
        Some(admission) => Cut::wrap(body, way, &gate, admission),
        None => body,
    };
    let mut request = request.map(|body| cut(body, Way::In));
    request
        .extensions_mut()
        .insert(RequestContext { request_id });
    let out = if plain { Way::OutPlain } else { Way::OutGrpc };
    let tenant = match &admission {
        Some(admission) => bound_to(&admission.identified.caller, request.headers()),
        None => Ok(None),
    };
    let tenant = match tenant {
        Ok(tenant) => tenant,
        Err(error) => return Ok(refusal(error.into(), plain)),
    };
    // A handler that panics fails its call, not the connection with all others on it.
    match AssertUnwindSafe(scope::serve(tenant.clone(), inner.call(request)))
        .catch_unwind()
        .await
    {
        Ok(Ok(response)) if is_undecodable(response.headers()) => {
            let error = ApiError::invalid("request", "is no well-formed message of this method");
            Ok(refusal(error.into(), plain))
        }
        Ok(response) => Ok(response?.map(|body| cut(Scoped::wrap(body, tenant), out))),
        Err(_) => Ok(refusal(
            ApiError::internal("a handler panicked").into(),
            plain,
        )),
    }
}

/// The tenant that a call is bound to: the caller's own, or the one that a service says it acts for. What nobody but a
/// service says is not heard.
///
/// # Errors
/// INVALID_ARGUMENT when a service says several, or what is no tenant: unheard, it would act for all.
fn bound_to(caller: &Caller, headers: &HeaderMap) -> Result<Option<Arc<str>>, ApiError> {
    if let Some(own) = caller.tenant() {
        return Ok(Some(own.into()));
    }
    if !caller.has(Role::Service) {
        return Ok(None);
    }
    let mut said = headers.get_all(TENANT_HEADER).iter();
    let said = match (said.next(), said.next()) {
        (None, _) => return Ok(None),
        (Some(one), None) => one.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let tenant = said.filter(|tenant| check_tenant_id(tenant).is_ok());
    let tenant =
        tenant.ok_or_else(|| ApiError::invalid(TENANT_HEADER, "must be one tenant's id"))?;
    Ok(Some(tenant.into()))
}

/// Whether tonic could not read the request: a broken frame, none at all, no message of the method. It calls that INTERNAL,
/// but the fault is the caller's; an INTERNAL of ours has details.
fn is_undecodable(headers: &HeaderMap) -> bool {
    let internal = |code: &HeaderValue| code.as_bytes() == b"13";
    headers.get("grpc-status").is_some_and(internal)
        && !headers.contains_key("grpc-status-details-bin")
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The caller's id when it is short and harmless in a log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID_HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= 64)
        .filter(|id| {
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        })
        .map_or_else(telemetry::new_request_id, str::to_owned)
}

fn refusal(status: Status, plain: bool) -> Response<Body> {
    if !plain {
        return status.into_http();
    }
    let code = match status.code() {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unimplemented | Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_comes_back_after_who_was_refused_before() {
        let returns = Returns::default();
        let wait_ms = |now_ms| returns.next(now_ms).as_millis();
        let first: Vec<u128> = (0..5).map(|_| wait_ms(1_800_000)).collect();
        assert_eq!(first, [100, 101, 102, 103, 104]);
        assert_eq!(wait_ms(1_800_050), 100);
        for _ in 0..20_000 {
            wait_ms(1_800_050);
        }
        assert_eq!(wait_ms(1_800_050), 10_000);
        assert_eq!(wait_ms(1_805_050), 5_001);
        // An hour back.
        assert_eq!(wait_ms(-1_800_000), 10_000);
        assert_eq!(wait_ms(1_900_000), 100);
    }

    #[test]
    fn a_service_acts_for_one_tenant_by_its_id_or_not_at_all() {
        let said = |caller: &Caller, tenants: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for tenant in tenants {
                headers.append(TENANT_HEADER, HeaderValue::from_static(tenant));
            }
            bound_to(caller, &headers).map_err(|error| error.code())
        };
        let service = Caller::of_deployment("services/inventory", [Role::Service]);
        assert_eq!(said(&service, &[]), Ok(None));
        assert_eq!(said(&service, &["acme"]), Ok(Some("acme".into())));
        let wrong: [&[&'static str]; 5] = [
            &["*"],
            &[""],
            &["tenants/acme"],
            &["Acme"],
            &["acme", "acme"],
        ];
        for wrong in wrong {
            assert_eq!(
                said(&service, wrong),
                Err(Code::InvalidArgument),
                "{wrong:?}"
            );
        }
        // From others it is not read: it gives nothing and takes nothing away.
        let admin = Caller::of_deployment("operators/admin", [Role::Administrator]);
        let ada = Caller::of_tenant("acme", "ada", ["auditor"]);
        for tenants in [&["*"][..], &["beta"], &["beta", "acme"]] {
            assert_eq!(said(&admin, tenants), Ok(None));
            assert_eq!(said(&ada, tenants), Ok(Some("acme".into())));
        }
    }
}
