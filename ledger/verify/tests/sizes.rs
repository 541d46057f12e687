//! A checkpoint may say any size: what is judged is what is there, and nobody counts to the end of what is not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::hash::Hash;
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::testing::BundleFiles;
use counterfoil_verify::{Options, Status, Trust, Verdict, verify};

#[test]
fn a_tiny_bundle_of_a_log_that_says_to_be_huge_is_judged_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = support::cycle::build(20);
    let [golden, target] = ["golden", "bundle"].map(|name| dir.path().join(name));
    log.write(&golden);
    let files = BundleFiles::copy(&golden, &target).unwrap();
    let trust = Trust::parse(log.trust(&[]).as_bytes()).unwrap();
    for size in [log.size() + 1, 1 << 40, 1 << 62] {
        let said = Checkpoint {
            origin: log.origin.clone(),
            size,
            root: Hash([7; 32]),
        };
        let note = said.sign(&log.log).unwrap();
        files.write("log/checkpoint", note.as_bytes()).unwrap();
        files.seal().unwrap();
        let bundle = BundleReader::open(&target, &Limits::default()).unwrap();
        let found = verify(&bundle, &trust, &Options::default()).unwrap();
        assert_eq!(found.verdict, Verdict::Failed, "{size}");
        let status = |id: &str| {
            let mut checks = found.checks.iter();
            checks.find(|check| check.id == id).unwrap().status
        };
        assert_eq!(status("K1"), Status::Pass, "the log itself says so");
        assert_eq!(status("S7"), Status::Fail, "{size}");
        assert_ne!(status("S3"), Status::Pass, "{size}");
    }
}
