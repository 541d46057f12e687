//! A customer's bundle and its provider's bundle: each verifies alone, and together they tell of the same accesses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::{BundleFiles, Edit, Forger, Scene};
use counterfoil_verify::{Options, Status, Trust, Verdict, Verification, cross, report, verify};
use support::log::LogBuilder;

struct Pair {
    dir: tempfile::TempDir,
    customer: LogBuilder,
    provider: LogBuilder,
}

impl Pair {
    fn new() -> Self {
        let customer = support::cycle::build(60);
        let provider = support::provider::own_log(&customer);
        let dir = tempfile::tempdir().unwrap();
        customer.write(&dir.path().join("customer"));
        provider.write(&dir.path().join("provider"));
        Self {
            dir,
            customer,
            provider,
        }
    }

    fn verify(&self, bundle: &Path) -> Verification {
        let mut trust: serde_json::Value = serde_json::from_str(&self.customer.trust(&[])).unwrap();
        let other: serde_json::Value = serde_json::from_str(&self.provider.trust(&[])).unwrap();
        let logs = trust["logs"].as_array_mut().unwrap();
        logs.extend(other["logs"].as_array().unwrap().clone());
        let trust = Trust::parse(trust.to_string().as_bytes()).unwrap();
        let bundle = BundleReader::open(bundle, &Limits::default()).unwrap();
        verify(&bundle, &trust, &Options::default()).unwrap()
    }

    /// Both bundles of which the provider's was rewritten, by somebody who holds every key.
    fn forged(&self, name: &str, forgery: impl Fn(&mut Scene<'_>) -> Edit) -> Verification {
        let target = self.dir.path().join(name);
        let files = BundleFiles::copy(&self.dir.path().join("provider"), &target).unwrap();
        Forger::new(&files, &self.provider.stolen())
            .rewrite(|scene| Ok(forgery(scene)))
            .unwrap();
        let provider = self.verify(&target);
        assert_eq!(provider.verdict, Verdict::Ok, "{}", report::text(&provider));
        let customer = self.verify(&self.dir.path().join("customer"));
        cross(customer, &provider)
    }
}

fn x1(found: &Verification) -> (Status, String) {
    let check = found.checks.iter().find(|check| check.is("X1")).unwrap();
    (check.status, check.detail.clone())
}

#[test]
fn i53_each_bundle_verifies_alone_and_both_tell_of_the_same_accesses() {
    let pair = Pair::new();
    let customer = pair.verify(&pair.dir.path().join("customer"));
    let provider = pair.verify(&pair.dir.path().join("provider"));
    assert_eq!(customer.verdict, Verdict::Ok, "{}", report::text(&customer));
    assert_eq!(provider.verdict, Verdict::Ok, "{}", report::text(&provider));
    let together = cross(customer, &provider);
    assert_eq!(
        x1(&together),
        (Status::Pass, "5 accesses stand in both".to_owned())
    );
    assert_eq!(together.verdict, Verdict::Ok);
    // From the other side it is the same; and a bundle is not its own other side.
    let customer = pair.verify(&pair.dir.path().join("customer"));
    let from_there = cross(pair.verify(&pair.dir.path().join("provider")), &customer);
    assert_eq!(x1(&from_there).0, Status::Pass);
    assert_eq!(
        x1(&cross(
            customer,
            &pair.verify(&pair.dir.path().join("customer"))
        ))
        .0,
        Status::Fail
    );
}

#[test]
fn i53_an_access_that_the_provider_hides_or_tells_otherwise_is_seen() {
    let pair = Pair::new();
    let hidden = pair.forged("hidden", |scene| match &*scene.payload {
        Payload::OperatorLogCrossLinked(_) => Edit::Drop,
        _ => Edit::Keep,
    });
    assert_eq!(
        (x1(&hidden).0, hidden.verdict),
        (Status::Fail, Verdict::Failed),
        "{:?}",
        x1(&hidden)
    );
    for change in ["hash", "method", "operator", "id"] {
        let forged = pair.forged(change, |scene| {
            if let Payload::OperatorLogCrossLinked(link) = &mut *scene.payload {
                match change {
                    "hash" => link.access_hash = vec![7; 32],
                    "method" => link.method = "/other".to_owned(),
                    "operator" => link.operator = "principals/petra".to_owned(),
                    _ => scene.record.record_id[0] ^= 1,
                }
            }
            Edit::Keep
        });
        assert_eq!(
            (x1(&forged).0, forged.verdict),
            (Status::Fail, Verdict::Failed),
            "{change}"
        );
    }
}
