//! What the service counts, as Prometheus reads it: `/metrics`, text format 0.0.4. Of all tenants together, and none by name; whoever
//! looks after single logs asks `counterfoil ledger status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::{Router, extract::State, response::Response, routing::get};
use counterfoil_engine::{COMMIT_MS_BOUNDS, EngineCounts};
use http::{StatusCode, header::CONTENT_TYPE};

use super::Api;
use crate::anchored;
use crate::copies::Lag;
use crate::error::LedgerError;
use crate::store::scrubs::{self, Scrubs};
use crate::witnesses::{Deeds, Failure};

/// Paths that start so are answered here.
pub(crate) const PREFIX: &str = "/metrics";

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router(api: Api) -> Router {
    Router::new().route(PREFIX, get(serve)).with_state(api)
}

/// All that is told.
struct Figures {
    counts: EngineCounts,
    logs: u64,
    entries: u64,
    stopped: u64,
    evicted: u64,
    troubles: u64,
    lag: Option<Lag>,
    witnessed: Option<(Lag, BTreeMap<String, Deeds>)>,
    anchor: Option<anchored::Lag>,
    scrubs: Scrubs,
    now_ms: i64,
}

async fn serve(State(api): State<Api>) -> Response {
    let (status, text) = match figures(&api).await {
        Ok(figures) => (StatusCode::OK, render(&figures)),
        // Nothing is told of why: the service's own log has it.
        Err(error) => {
            tracing::warn!(%error, "the metrics cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, String::new())
        }
    };
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(KIND);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn figures(api: &Api) -> Result<Figures, LedgerError> {
    let sizes = api.logs.sizes().await?;
    let stopped = api.logs.stopped().await?.len() as u64;
    let now_ms = api.clock.now_ms();
    let witnessed = api.waits.witnessed.as_ref();
    let anchor = match &api.waits.epochs {
        Some(epochs) => Some(epochs.lag(now_ms).await?),
        None => None,
    };
    Ok(Figures {
        anchor,
        counts: api.logs.counts(),
        logs: sizes.len() as u64 + stopped,
        entries: sizes.iter().map(|(_, size)| size).sum(),
        stopped,
        evicted: api.logs.evicted().await?,
        troubles: api.serving.troubles().len() as u64,
        lag: api.waits.copies.as_ref().map(|copies| copies.lag(now_ms)),
        witnessed: witnessed.map(|one| (one.reached.lag(now_ms), one.tally.read())),
        scrubs: scrubs::summary(api.logs.db()).await?,
        now_ms,
    })
}

/// Text in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP counterfoil_ledger_{name} {help}");
        let _ = writeln!(self.0, "# TYPE counterfoil_ledger_{name} {kind}");
    }

    fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "counterfoil_ledger_{name} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.value(name, value);
    }
}

/// Thousandths as a decimal.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn render(figures: &Figures) -> String {
    let mut text = Text::default();
    let serves = u64::from(figures.troubles == 0);
    for (name, help, value) in [
        (
            "append_serving",
            "1: records can be appended to every log.",
            serves,
        ),
        ("logs", "Logs.", figures.logs),
        (
            "logs_stopped",
            "Logs for which nothing is signed any more.",
            figures.stopped,
        ),
        (
            "entries",
            "Entries of all logs that are not stopped.",
            figures.entries,
        ),
        (
            "evicted_entries",
            "Entries that are in the published copies only.",
            figures.evicted,
        ),
        (
            "queue_bytes",
            "Bytes of records that wait to be appended.",
            figures.counts.queue_bytes,
        ),
    ] {
        text.one(name, "gauge", help, value);
    }
    if let Some(lag) = figures.lag {
        published(&mut text, lag);
    }
    if let Some((lag, deeds)) = &figures.witnessed {
        witnesses(&mut text, *lag, deeds);
    }
    if let Some(lag) = figures.anchor {
        anchored(&mut text, lag);
    }
    scrubbed(&mut text, figures);
    counters(&mut text, &figures.counts);
    commits(&mut text, &figures.counts);
    text.0
}

fn published(text: &mut Text, lag: Lag) {
    let oldest = seconds(u64::try_from(lag.oldest_ms).unwrap_or(0));
    let (logs, entries) = ("unpublished_logs", "unpublished_entries");
    text.one(
        logs,
        "gauge",
        "Logs that are not published in full.",
        lag.logs,
    );
    text.one(
        entries,
        "gauge",
        "Entries that are not published.",
        lag.entries,
    );
    let (name, help) = (
        "unpublished_oldest_seconds",
        "Age of the oldest entry that is not published.",
    );
    text.one(name, "gauge", help, oldest);
}

fn witnesses(text: &mut Text, lag: Lag, deeds: &BTreeMap<String, Deeds>) {
    let help = "Logs of which not all that is shown to the witnesses has enough cosignatures.";
    text.one("unwitnessed_logs", "gauge", help, lag.logs);
    let oldest = seconds(u64::try_from(lag.oldest_ms).unwrap_or(0));
    let help = "Age of the oldest state that was to be shown and has not enough cosignatures.";
    text.one("unwitnessed_oldest_seconds", "gauge", help, oldest);
    let help = "Cosignatures that were kept, by witness.";
    text.family("cosignatures_total", "counter", help);
    for (witness, deeds) in deeds {
        let name = format!("cosignatures_total{{witness=\"{}\"}}", label(witness));
        text.value(&name, deeds.cosignatures);
    }
    let help = "Requests to witnesses that gave no cosignature, by witness and reason.";
    text.family("witness_failures_total", "counter", help);
    for (witness, deeds) in deeds {
        for failure in Failure::ALL {
            let (witness, reason) = (label(witness), failure.label());
            let name =
                format!("witness_failures_total{{witness=\"{witness}\",reason=\"{reason}\"}}");
            text.value(&name, deeds.failures.get(&failure).unwrap_or(&0));
        }
    }
}

/// A label's value, in which backslashes and quotes are escaped; it has no line feeds.
fn label(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"")
}

fn anchored(text: &mut Text, lag: anchored::Lag) {
    for (name, help, value) in [
        ("anchor_epoch", "Newest epoch of the anchor log.", lag.epoch),
        (
            "unanchored_logs",
            "Logs that have a newer head than the anchor log.",
            lag.logs,
        ),
    ] {
        text.one(name, "gauge", help, value);
    }
    let (name, help) = (
        "unanchored_seconds",
        "Age of the newest epoch while a log has a newer head, else 0.",
    );
    let age = seconds(u64::try_from(lag.age_ms).unwrap_or(0));
    text.one(name, "gauge", help, age);
}

fn scrubbed(text: &mut Text, figures: &Figures) {
    let (name, help) = (
        "scrub_problems",
        "Logs of which the last round of hashing found something that does not fit.",
    );
    text.one(name, "gauge", help, figures.scrubs.problems);
    if let Some(oldest_ms) = figures.scrubs.oldest_whole_at_ms {
        let age_ms = u64::try_from(figures.now_ms - oldest_ms).unwrap_or(0);
        let (name, help) = (
            "scrub_oldest_seconds",
            "Since the log that waits longest was found whole, or first seen.",
        );
        text.one(name, "gauge", help, seconds(age_ms));
    }
}

fn counters(text: &mut Text, counts: &EngineCounts) {
    for (name, help, value) in [
        (
            "batches_total",
            "Batches that were answered.",
            counts.batches,
        ),
        (
            "batches_failed_total",
            "Batches that failed as a whole.",
            counts.batches_failed,
        ),
        (
            "receipts_total",
            "Records that got a receipt.",
            counts.receipts,
        ),
        (
            "overloaded_total",
            "Submissions refused because too much waited.",
            counts.overloaded,
        ),
        (
            "copy_files_mended_total",
            "Files that published copies had lost, and that were put back.",
            counts.copy_files_mended,
        ),
        (
            "miscalculations_total",
            "Batches that the second look before signing found wrong: memory that fails.",
            counts.miscalculations,
        ),
    ] {
        text.one(name, "counter", help, value);
    }
    text.family("refusals_total", "counter", "Records that were refused.");
    for (reason, count) in &counts.refusals {
        text.value(&format!("refusals_total{{reason=\"{reason}\"}}"), count);
    }
}

fn commits(text: &mut Text, counts: &EngineCounts) {
    text.family("commit_seconds", "histogram", "Time of the commits.");
    let mut sum = 0;
    let bounds = COMMIT_MS_BOUNDS.iter().map(|bound| seconds(*bound));
    let bounds = bounds.chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(counts.commits) {
        sum += count;
        text.value(&format!("commit_seconds_bucket{{le=\"{bound}\"}}"), sum);
    }
    let micros = counts.commit_micros;
    let total = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.value("commit_seconds_sum", total);
    text.value("commit_seconds_count", sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_the_form_that_prometheus_reads() {
        let counts = EngineCounts {
            batches: 3,
            refusals: [("bad_signature", 2)].into(),
            commits: [1, 0, 2, 0, 0, 0, 0, 0, 0, 4],
            commit_micros: 1_500_000,
            copy_files_mended: 2,
            miscalculations: 1,
            ..EngineCounts::default()
        };
        let deeds = Deeds {
            cosignatures: 4,
            failures: [(Failure::Refused, 2)].into(),
        };
        let deeds = [("of \"us\"".to_owned(), deeds)].into();
        let text = render(&Figures {
            counts,
            logs: 2,
            entries: 7,
            stopped: 1,
            evicted: 256,
            troubles: 1,
            lag: Some(Lag {
                logs: 1,
                entries: 5,
                oldest_ms: 61_005,
            }),
            witnessed: Some((Lag::default(), deeds)),
            anchor: Some(anchored::Lag {
                epoch: 9,
                logs: 1,
                age_ms: 12_500,
            }),
            scrubs: Scrubs {
                oldest_whole_at_ms: Some(2_000),
                problems: 1,
            },
            now_ms: 9_500,
        });
        for line in [
            "# TYPE counterfoil_ledger_commit_seconds histogram",
            "counterfoil_ledger_append_serving 0",
            "counterfoil_ledger_unpublished_entries 5",
            "counterfoil_ledger_unpublished_oldest_seconds 61.005",
            r#"counterfoil_ledger_cosignatures_total{witness="of \"us\""} 4"#,
            r#"counterfoil_ledger_witness_failures_total{witness="of \"us\"",reason="refused"} 2"#,
            "counterfoil_ledger_anchor_epoch 9",
            "counterfoil_ledger_unanchored_logs 1",
            "counterfoil_ledger_unanchored_seconds 12.500",
            "counterfoil_ledger_evicted_entries 256",
            "counterfoil_ledger_copy_files_mended_total 2",
            "counterfoil_ledger_miscalculations_total 1",
            "counterfoil_ledger_scrub_problems 1",
            "counterfoil_ledger_scrub_oldest_seconds 7.500",
            "counterfoil_ledger_refusals_total{reason=\"bad_signature\"} 2",
            "counterfoil_ledger_commit_seconds_bucket{le=\"0.001\"} 1",
            "counterfoil_ledger_commit_seconds_bucket{le=\"2.000\"} 3",
            "counterfoil_ledger_commit_seconds_bucket{le=\"+Inf\"} 7",
            "counterfoil_ledger_commit_seconds_sum 1.500000",
            "counterfoil_ledger_commit_seconds_count 7",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.ends_with('\n'));
    }
}
