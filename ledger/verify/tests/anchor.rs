//! The rows of the tampering matrix that the anchor log catches: a log that forked or fell back (T39), a second log of the same name and
//! key (T41), one under another name (T42), one left out or taken back for some epochs (T43).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use counterfoil_evidence::catalogue::stream;
use counterfoil_tlog::hash::Hash;
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::{Check, Options, Status, Trust, Verdict, Verification, verify};
use support::anchor::{ANCHOR, Anchor, Case};
use support::log::ORIGIN;

fn check<'v>(found: &'v Verification, id: &str) -> &'v Check {
    found.checks.iter().find(|check| check.id == id).unwrap()
}

/// The one check that fails, and what it says.
fn fails(found: &Verification, id: &str, why: &str) {
    let failed: Vec<&str> = found.failed().map(|check| check.id).collect();
    let check = check(found, id);
    assert_eq!(failed, [id], "{}", check.detail);
    assert!(check.detail.contains(why), "{}", check.detail);
    assert_eq!(found.verdict, Verdict::Failed);
}

#[test]
fn a_log_that_was_bound_and_anchored_passes() {
    let case = Case::new().grown(&[100, 100, 200, 240]);
    let found = case.verify(|_| {});
    assert_eq!(
        found.verdict,
        Verdict::Ok,
        "{:?}",
        found.failed().collect::<Vec<_>>()
    );
    let w9 = check(&found, "W9");
    assert!(
        w9.status == Status::Pass && w9.detail.starts_with("5 of 5 epochs shown"),
        "{}",
        w9.detail
    );
    assert_eq!(check(&found, "W10").status, Status::Pass);
}

#[test]
fn what_is_not_shown_is_skipped_and_never_ok() {
    let case = Case::new().grown(&[100]);
    let found = case.verify(|anchor| std::fs::remove_dir_all(anchor).unwrap());
    for id in ["W9", "W10"] {
        let skipped = check(&found, id);
        assert_eq!(skipped.status, Status::Skip);
        assert!(
            skipped.detail.contains("nothing of the anchor log"),
            "{}",
            skipped.detail
        );
    }
    assert_eq!(found.verdict, Verdict::Incomplete);
    let found = Case::new().grown(&[100]).verify(|anchor| {
        std::fs::remove_dir_all(anchor.join("epochs")).unwrap();
    });
    assert_eq!(
        (check(&found, "W9").status, found.verdict),
        (Status::Skip, Verdict::Incomplete)
    );
    // Who trusts no anchor log is told that none was asked for.
    let case = Case::new().grown(&[100]);
    let bundle = BundleReader::open(&case.bundle(|_| {}), &Limits::default()).unwrap();
    let trust = Trust::parse(case.log.trust(&[]).as_bytes()).unwrap();
    let found = verify(&bundle, &trust, &Options::default()).unwrap();
    assert_eq!(
        (check(&found, "W9").status, found.verdict),
        (Status::Skip, Verdict::Ok)
    );
}

#[test]
fn epochs_that_have_no_head_of_the_log_show_nothing_of_it() {
    let mut case = Case {
        folder: tempfile::tempdir().unwrap(),
        log: support::cycle::build(20),
        anchor: Anchor::new(),
    };
    // Before the log was bound an epoch cannot have it, which is no fault, and proves nothing either.
    case.anchor.anchor(&[]);
    case.anchor.bind(&case.log.log.vkey());
    let found = case.verify(|_| {});
    let w9 = check(&found, "W9");
    assert_eq!(w9.status, Status::Skip, "{}", w9.detail);
    assert!(
        w9.detail.contains("no epoch shown has a head"),
        "{}",
        w9.detail
    );
    assert_eq!(check(&found, "W10").status, Status::Pass);
    assert_eq!(found.verdict, Verdict::Incomplete);
    // The next one has it.
    let found = case.grown(&[]).verify(|_| {});
    assert_eq!(check(&found, "W9").status, Status::Pass);
}

#[test]
fn t39_a_log_that_was_restored_and_went_on_otherwise_is_caught() {
    // The head that was anchored before is longer than the log is now.
    let mut case = Case::new();
    let size = case.log.size();
    case.anchor.anchor(&[(ORIGIN, size + 3, Hash([9; 32]))]);
    fails(&case.verify(|_| {}), "W9", "the log has");
    // It has caught up with it, with other entries.
    let mut case = Case::new();
    case.anchor.anchor(&[(ORIGIN, 200, Hash([9; 32]))]);
    let head = case.head(size);
    case.anchor.anchor(&[head]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "the first 200 entries are not those that epoch 1 has",
    );
}

#[test]
fn t41_a_second_log_of_the_same_name_and_key_is_caught() {
    // The auditor gets one log, the map has the other.
    let mut case = Case::new();
    let size = case.log.size();
    case.anchor.anchor(&[(ORIGIN, size, Hash([9; 32]))]);
    fails(&case.verify(|_| {}), "W9", "are not those that epoch 1 has");
    // A map has no place for both: a proof of the other head leads to no root that was stated.
    let case = Case::new().grown(&[]);
    let found = case.verify(|anchor| {
        let mut proof = case.anchor.prove(1, ORIGIN);
        let head = proof.head.as_mut().unwrap();
        head.root = Hash([9; 32]);
        std::fs::write(anchor.join("epochs/1"), proof.to_string()).unwrap();
    });
    fails(
        &found,
        "W9",
        "the map of epoch 1 does not have what it says",
    );
}

#[test]
fn t42_a_log_that_was_not_bound_or_under_another_key_is_caught() {
    let unbound = |binding: &str| {
        let log = support::cycle::build(20);
        let mut anchor = Anchor::new();
        anchor.bind(binding);
        Case {
            folder: tempfile::tempdir().unwrap(),
            log,
            anchor,
        }
        .grown(&[])
    };
    let case = unbound("another log's key");
    fails(&case.verify(|_| {}), "W10", "no TenantBound");
    let found = case.verify(|anchor| {
        let bound = case.anchor.logged(0);
        std::fs::write(anchor.join("bound"), bound.to_string()).unwrap();
    });
    fails(
        &found,
        "W10",
        "binds another log, or this one under another key",
    );
    // Bound only after it had a head.
    let mut case = unbound("another log's key");
    let vkey = case.log.log.vkey();
    case.anchor.bind(&vkey);
    fails(&case.verify(|_| {}), "W10", "only after epoch 1");
}

#[test]
fn t43_a_log_that_is_left_out_or_taken_back_is_caught() {
    let mut case = Case::new();
    let heads = [100, 200].map(|size| case.head(size));
    case.anchor.anchor(&[heads[0]]);
    case.anchor.anchor(&[]);
    case.anchor.anchor(&[heads[1]]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "epoch 2 has no head of this log, epoch 1 had",
    );
    let mut case = Case::new();
    case.anchor.anchor(&[]);
    case.anchor.anchor(&[heads[0]]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "epoch 1 has no head of this log, which was bound before",
    );
    let mut case = Case::new();
    case.anchor.anchor(&[heads[1]]);
    case.anchor.anchor(&[heads[0]]);
    fails(
        &case.verify(|_| {}),
        "W9",
        "epoch 2 has a head of 100 entries, epoch 1 had more",
    );
}

#[test]
fn proofs_of_another_anchor_log_or_producer_or_out_of_place_are_caught() {
    let case = Case::new().grown(&[100]);
    let forged = |change: &dyn Fn(&mut Anchor)| {
        let mut other = Anchor::new();
        change(&mut other);
        other.bind("another log's key");
        other.bind(&case.log.log.vkey());
        let head = case.head(100);
        other.anchor(&[head]);
        other.prove(1, ORIGIN)
    };
    let signed_by_another = forged(&|other| {
        let seed = support::log::seed("another");
        other.log.log = counterfoil_tlog::NoteSigner::from_seed(ANCHOR, &seed).unwrap();
    });
    let stated_by_another = forged(&|other| {
        let authority = other.log.producers.remove(stream::AUTHORITY).unwrap();
        other.log.producers.insert(stream::LEDGER, authority);
    });
    for (proof, why) in [
        (signed_by_another, "epochs/1: "),
        (stated_by_another, "is not signed by the ledger service"),
        (case.anchor.prove(2, ORIGIN), "it is of epoch 2"),
    ] {
        let found = case.verify(|anchor| {
            std::fs::write(anchor.join("epochs/1"), proof.to_string()).unwrap();
        });
        fails(&found, "W9", why);
    }
    for text in ["", "counterfoil-anchor-proof/v1\nhead none\n", "x\n\ny"] {
        let found = case.verify(|anchor| {
            std::fs::write(anchor.join("epochs/1"), text).unwrap();
        });
        fails(&found, "W9", "malformed");
    }
}
