//! The untouched control: every check of a good bundle passes, and the report counts what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::{Options, Status, Trust, Verdict, report, verify};

#[test]
fn a_good_bundle_passes_every_check_and_its_report_adds_up() {
    let log = support::cycle::build(60);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("bundle");
    log.write(&target);
    assert!(log.size() > 256, "{} entries: no full tile", log.size());
    let bundle = BundleReader::open(&target, &Limits::default()).unwrap();
    let trust = Trust::parse(log.trust(&[1, 100, 256, log.size()]).as_bytes()).unwrap();
    let found = verify(&bundle, &trust, &Options::default()).unwrap();
    for check in &found.checks {
        assert_eq!(check.status, Status::Pass, "{}", report::check_line(check));
    }
    assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
}
