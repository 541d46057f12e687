//! The way to a witness over HTTP: short, small, and not again at once after a failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use counterfoil_chassis::{Clock, tls};
use counterfoil_engine::{WitnessAnswer, WitnessCalls};
use reqwest::{Client, Url, header::CONTENT_TYPE, redirect};

use crate::model::rest::Rest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A witness looks one log up and writes one row.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer answers are cut off: a checkpoint with a hundred cosignatures is shorter.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const AGENT: &str = concat!("counterfoil-ledger/", env!("CARGO_PKG_VERSION"));

/// The way to one witness.
#[derive(Debug)]
pub(crate) struct HttpCalls {
    client: Client,
    submission: String,
    monitoring: String,
    clock: Clock,
    rest: Mutex<Rest>,
}

impl HttpCalls {
    /// To these prefixes; an error for people where they are none.
    pub(crate) fn new(submission: &str, monitoring: &str, clock: Clock) -> Result<Self, String> {
        // The HTTP client takes whatever the process has; the first one installed stays.
        let _ = Arc::unwrap_or_clone(tls::provider()).install_default();
        let client = Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A witness is where its operator says it is.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            submission: prefix(submission)?,
            monitoring: prefix(monitoring)?,
            clock,
            rest: Mutex::default(),
        })
    }

    /// Whether it is left alone for now, because it failed.
    pub(crate) fn rests(&self) -> bool {
        self.lock().is_on(self.clock.now_ms())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<WitnessAnswer, String> {
        if self.rests() {
            return Err("it failed a while ago, and is left alone for now".to_owned());
        }
        let answer = answer(request).await;
        let came = |answer: &WitnessAnswer| answer.status < 500 && answer.status != 429;
        if answer.as_ref().is_ok_and(came) {
            *self.lock() = Rest::default();
        } else {
            self.lock().failed(self.clock.now_ms());
        }
        answer
    }
}

/// A prefix without the slash at its end.
fn prefix(url: &str) -> Result<String, String> {
    let parsed = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
    let plain = parsed.query().is_none() && parsed.fragment().is_none();
    if !matches!(parsed.scheme(), "https" | "http") || !parsed.has_host() || !plain {
        return Err(format!("{url} is no prefix of http or https"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

async fn answer(request: reqwest::RequestBuilder) -> Result<WitnessAnswer, String> {
    let mut response = request.send().await.map_err(told)?;
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|kind| kind.to_str().ok());
    let mut answer = WitnessAnswer {
        status: response.status().as_u16(),
        content_type: content_type.map(str::to_owned),
        body: Vec::new(),
    };
    while let Some(part) = response.chunk().await.map_err(told)? {
        if answer.body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err("its answer is too long".to_owned());
        }
        answer.body.extend_from_slice(&part);
    }
    Ok(answer)
}

/// An error with what caused it.
fn told(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[async_trait]
impl WitnessCalls for HttpCalls {
    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, String> {
        let url = format!("{}/add-checkpoint", self.submission);
        self.call(self.client.post(url).body(body)).await
    }

    async fn monitor(&self, path: String) -> Result<WitnessAnswer, String> {
        let url = format!("{}/{path}", self.monitoring);
        self.call(self.client.get(url)).await
    }
}
