//! The untouched control: every check of a good bundle passes, and the report counts what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::{Options, Status, Verdict, report, verify};
use support::anchor::Case;

#[test]
fn a_good_bundle_passes_every_check_and_its_report_adds_up() {
    let case = Case::of(support::cycle::build(60)).grown(&[100, 256]);
    let size = case.log.size();
    assert!(size > 256, "{size} entries: no full tile");
    let bundle = BundleReader::open(&case.bundle(|_| {}), &Limits::default()).unwrap();
    let trust = case.trust(&[1, 100, 256, size]);
    let found = verify(&bundle, &trust, &Options::default()).unwrap();
    for check in &found.checks {
        assert_eq!(check.status, Status::Pass, "{}", report::check_line(check));
    }
    assert_eq!(found.verdict, Verdict::Ok, "{}", report::text(&found));
}
