//! What the gate adds to a call: telling who calls and whether the role allows it. With a token that is remembered, as in all but
//! one call a second; and with one that authority is asked about.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use counterfoil::quickstart;
use counterfoil_chassis::{
    Clock,
    auth::{
        Authenticator, Bearer, Credential, Gate, GateLayer, PermissionTable, RemoteTokens, Token,
    },
    client,
};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::{
    cycle,
    figures::{print, timed},
    synthetic::{self, TENANT},
};

/// Calls in one sample; short enough that most samples ask authority once at most.
const CALLS: u32 = 20_000;
/// A permission of every role.
const METHOD: &str = "/counterfoil.inventory.v1.SourceService/GetSource";

/// A handler that does nothing.
#[derive(Debug, Clone)]
struct Nothing;

impl Service<Request<Body>> for Nothing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

/// Calls the gate, and the handler without it, `samples` times each.
pub(crate) async fn run(samples: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let estate = folder.path().join("estate");
    std::fs::create_dir_all(&estate)?;
    synthetic::write(&estate, 10)?;
    let data_dir = folder.path().join("data");
    let suite = cycle::start(&data_dir).await?;
    let admin = counterfoil::client::Clients::open(&suite.endpoints, &suite.endpoints.token()?)?;
    quickstart::prepare(&admin, &estate, &data_dir).await?;
    let keys = data_dir.join("keys");
    let customer = Token::load(&keys.join(format!("tenant-{TENANT}.token")))?;
    let inventory = Token::load(&keys.join("inventory.token"))?;
    let authority = client::connect(suite.endpoints.of("authority")?, Some(&inventory))?;
    let authenticator = || {
        let tokens = Arc::new(RemoteTokens::new(authority.clone()));
        Authenticator::new(Clock::system(), [], Some(tokens))
    };
    let gate = Gate::new(authenticator(), PermissionTable::of_api()?, &[], 10);
    let gated = GateLayer(Arc::new(gate)).layer(Nothing);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        with.push(microseconds(gated.clone(), &customer).await?);
        without.push(microseconds(Nothing, &customer).await?);
    }
    let added: Vec<f64> = with
        .iter()
        .zip(&without)
        .map(|(with, without)| with - without)
        .collect();
    // The limit is 50 microseconds.
    let of_limit = added.iter().map(|added| added / 50.0).collect();
    print("authorize", "remembered_token", "us", added);
    print(
        "authorize",
        "remembered_token_over_limit",
        "ratio",
        of_limit,
    );
    let credential = Credential::bearer(Bearer::Token(customer));
    let mut asked = Vec::new();
    for _ in 0..samples * 10 {
        let fresh = authenticator();
        let (seconds, _) = timed(async { Ok(fresh.identify(&credential).await?) }).await?;
        asked.push(seconds * 1e6);
    }
    print("authorize", "token_asked_about", "us", asked);
    suite.stop().await
}

/// Microseconds a call.
async fn microseconds<S>(mut service: S, token: &Token) -> anyhow::Result<f64>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let bearer = format!("Bearer {}", token.expose());
    let (seconds, ()) = timed(async {
        for _ in 0..CALLS {
            let request = Request::post(METHOD)
                .header("content-type", "application/grpc")
                .header("authorization", bearer.as_str())
                .body(Body::empty())?;
            let answer = service.ready().await?.call(request).await?;
            anyhow::ensure!(
                !answer.headers().contains_key("grpc-status"),
                "the gate refuses: {:?}",
                answer.headers()
            );
        }
        Ok(())
    })
    .await?;
    Ok(seconds * 1e6 / f64::from(CALLS))
}
