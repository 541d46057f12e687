//! Cosignatures on the anchor log's checkpoint: without them an operator with two anchor logs under one key shows each auditor another (T44).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use counterfoil_tlog::anchor_proof::{AnchorProof, LoggedEntry};
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::hash::Hash;
use counterfoil_verify::bundle::{BundleReader, Limits};
use counterfoil_verify::{Options, Trust, Verdict, Verification, verify};
use serde_json::{Value, json};
use support::anchor::{Anchor, Case};
use support::log::ORIGIN;

fn witness(seed: u8) -> Cosigner {
    Cosigner::from_seed(&format!("w{seed}.example"), &[seed; 32]).unwrap()
}

/// A log, and an anchor log that these witnesses have cosigned.
fn case(witnesses: &[u8]) -> Case {
    let mut case = Case::new().grown(&[100]);
    case.anchor.cosigners = witnesses.iter().copied().map(witness).collect();
    case
}

fn judged(case: &Case, trust: &Trust, change: impl FnOnce(&Path)) -> Verification {
    let bundle = BundleReader::open(&case.bundle(change), &Limits::default()).unwrap();
    verify(&bundle, trust, &Options::default()).unwrap()
}

fn failed(found: &Verification) -> Vec<&'static str> {
    found.failed().map(|check| check.id).collect()
}

fn listed() -> Value {
    let one = |seed| json!({"name": format!("w{seed}.example"), "vkey": witness(seed).vkey()});
    json!([one(1), one(2)])
}

/// Who asks for both witnesses on the anchor log's checkpoint, and for none on the log's own.
fn asking(case: &Case) -> Trust {
    let mut file = case.trust_file(&[]);
    file["anchor"]["witnesses"] = listed();
    file["anchor"]["quorum"] = json!(2);
    Trust::parse(file.to_string().as_bytes()).unwrap()
}

#[test]
fn t44_a_second_anchor_log_under_one_key_is_caught() {
    let honest = case(&[1, 2]);
    let trust = asking(&honest);
    let found = judged(&honest, &trust, |_| {});
    assert_eq!((found.verdict, failed(&found)), (Verdict::Ok, vec![]));
    assert_eq!(found.anchor_witnesses, ["w1.example", "w2.example"]);
    // The same key and origin, and another history in which this log was never longer: nothing but the witnesses tells them apart.
    let mut other = Case::new();
    let vkey = other.log.log.vkey();
    other.anchor = Anchor::new();
    other.anchor.bind(&vkey);
    let other = other.grown(&[]);
    assert_eq!(
        other.anchor.log.log.vkey(),
        honest.anchor.log.log.vkey(),
        "one key"
    );
    let without = judged(&other, &other.trust(&[]), |_| {});
    assert_eq!(without.verdict, Verdict::Ok);
    let found = judged(&other, &trust, |_| {});
    assert_eq!(
        (found.verdict, failed(&found)),
        (Verdict::PolicyNotMet, vec!["W11"])
    );
    // With the lines that the witnesses gave to the first one.
    let lines = honest.anchor.logged(0).proof.checkpoint;
    let found = judged(&other, &trust, |anchor| {
        let moved = |proof: &mut LoggedEntry| {
            for line in &lines.signatures()[1..] {
                proof.proof.checkpoint.add_signature(line.clone()).unwrap();
            }
        };
        let mut epoch = other.anchor.prove(1, ORIGIN);
        moved(&mut epoch.logged);
        std::fs::write(anchor.join("epochs/1"), epoch.to_string()).unwrap();
        let bound = std::fs::read_to_string(anchor.join("bound")).unwrap();
        let mut bound = LoggedEntry::parse(&bound).unwrap();
        moved(&mut bound);
        std::fs::write(anchor.join("bound"), bound.to_string()).unwrap();
    });
    assert_eq!(
        (found.verdict, failed(&found)),
        (Verdict::Failed, vec!["W9", "W10"])
    );
}

#[test]
fn every_proof_that_is_shown_must_be_cosigned() {
    let case = case(&[1, 2]);
    let stripped = |keep: usize| {
        let trust = asking(&case);
        judged(&case, &trust, |anchor| {
            let file = anchor.join("epochs/2");
            let mut proof = AnchorProof::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
            let note = &mut proof.logged.proof.checkpoint;
            let lines = note.signatures()[..keep].to_vec();
            *note = counterfoil_tlog::note::Note::new(note.text(), lines).unwrap();
            std::fs::write(&file, proof.to_string()).unwrap();
        })
    };
    assert_eq!(stripped(3).verdict, Verdict::Ok);
    for keep in [1, 2] {
        let found = stripped(keep);
        assert_eq!(
            (found.verdict, failed(&found)),
            (Verdict::PolicyNotMet, vec!["W11"])
        );
    }
    // Of a log that was anchored otherwise, what the witnesses say changes nothing.
    let mut forked = Case::new();
    forked.anchor.cosigners = [1, 2].map(witness).into();
    forked.anchor.anchor(&[(ORIGIN, 100, Hash([9; 32]))]);
    let found = judged(&forked, &asking(&forked), |_| {});
    assert_eq!(
        (found.verdict, failed(&found)),
        (Verdict::Failed, vec!["W9"])
    );
}

/// Where a trust file or a policy asks for witnesses, and which checks fail then with an anchor log that nobody has cosigned.
#[test]
fn what_is_asked_of_all_logs_is_asked_of_the_anchor_log_too() {
    let (cosigned, plain) = (case(&[1, 2]), case(&[]));
    let file = |change: &dyn Fn(&mut Value)| {
        let mut file = plain.trust_file(&[]);
        change(&mut file);
        Trust::parse(file.to_string().as_bytes())
    };
    let of_all = |quorum: u64| {
        move |file: &mut Value| {
            file["witnesses"] = listed();
            file["quorum"] = json!(quorum);
        }
    };
    let by_policy = |log: &str| {
        let lines = [1, 2].map(|seed| format!("witness w{seed} {}\n", witness(seed).vkey()));
        let text = format!("{log}{}group both all w1 w2\nquorum both\n", lines.concat());
        plain.trust(&[]).with_policy(text.as_bytes()).unwrap()
    };
    let line = |vkey: String| format!("log {vkey}\n");
    let (of_log, of_anchor) = (plain.log.log.vkey(), plain.anchor.log.log.vkey());
    let listed_once = file(&|file| {
        of_all(0)(file);
        file["anchor"]["quorum"] = json!(2);
    });
    let asked_of_none = file(&|file| {
        of_all(2)(file);
        file["anchor"]["quorum"] = json!(0);
    });
    let [of_anchor, of_log] = [by_policy(&line(of_anchor)), by_policy(&line(of_log))];
    // Beside each: whether it asks for witnesses on the log's own checkpoint, which has none, and on that of the anchor log.
    let cases = [
        ("nobody is asked", file(&|_| {}).unwrap(), false, false),
        ("of all logs", file(&of_all(2)).unwrap(), true, true),
        ("listed once", listed_once.unwrap(), false, true),
        (
            "none of the anchor log",
            asked_of_none.unwrap(),
            true,
            false,
        ),
        ("a policy of all logs", by_policy(""), true, true),
        ("a policy of the anchor log", of_anchor, false, true),
        ("a policy of this log", of_log, true, false),
    ];
    for (name, trust, of_log, of_anchor) in cases {
        let w6 = of_log.then_some("W6");
        let with: Vec<&str> = w6.into_iter().collect();
        let without: Vec<&str> = w6.into_iter().chain(of_anchor.then_some("W11")).collect();
        assert_eq!(failed(&judged(&cosigned, &trust, |_| {})), with, "{name}");
        let found = judged(&plain, &trust, |_| {});
        assert_eq!(failed(&found), without, "{name}");
    }
    let refused = file(&|file| file["anchor"]["witnesses"] = listed());
    assert!(refused.unwrap_err().to_string().contains("no quorum"));
}
