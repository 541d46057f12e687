//! Witness policies: the specification's own example, and what is no policy.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::policy::PolicyError;
use counterfoil_tlog::{Policy, VerifierKey};

fn witness(name: &str) -> VerifierKey {
    let mut seed = [7; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    let cosigner = Cosigner::from_seed(&format!("witness.example/{name}"), &seed).unwrap();
    cosigner.verifier_key().clone()
}

fn log(name: &str) -> VerifierKey {
    let signer = NoteSigner::from_seed(name, &[9; 32]).unwrap();
    signer.verifier_key().clone()
}

/// The example of c2sp.org/tlog-policy, with keys, comments and white space of all kinds.
fn example() -> String {
    let [x1, x2, x3, y1, y2, y3] = ["x1", "x2", "x3", "y1", "y2", "y3"].map(witness);
    let log = log("ledger.example/t/acme");
    format!(
        "# a comment\n \t# another one\n\nlog {log} https://ledger.example/logs/acme#top\n\
         witness X1 {x1} https://x1.example/prefix\nwitness\tX2  {x2}\n  witness X3 {x3} \n\
         group X-witnesses 2 X1 X2 X3\n\
         witness Y1 {y1}\nwitness Y#2 {y2}\nwitness Y\u{212a} {y3}\n\
         group Y-witnesses any Y1 Y#2 Y\u{212a}\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    )
}

#[test]
fn two_of_one_group_and_one_of_the_other_meet_the_example_of_the_specification() {
    let policy = Policy::parse(example().as_bytes()).unwrap();
    assert!(policy.asks_for_witnesses());
    for (cosigners, met) in [
        ("", false),
        ("x1 x2", false),
        ("x1 y1", false),
        ("x1 x1 y1", false),
        ("y1 y2 y3", false),
        ("x1 x3 y2", true),
        ("x1 x2 x3 y1 y2 y3", true),
        ("x1 x2 z1", false),
    ] {
        let keys: Vec<VerifierKey> = cosigners.split_whitespace().map(witness).collect();
        assert_eq!(policy.is_met_by(&keys), met, "{cosigners}");
    }
    let first = &policy.witnesses()[0];
    assert_eq!((&first.name[..], &first.key), ("X1", &witness("x1")));
    assert_eq!(first.url.as_deref(), Some("https://x1.example/prefix"));
    let [named] = policy.logs() else {
        unreachable!("it has one log")
    };
    assert_eq!(named.key, log("ledger.example/t/acme"));
    // Where a comment may begin, a word does.
    let url = named.url.as_deref();
    assert_eq!(url, Some("https://ledger.example/logs/acme#top"));
}

#[test]
fn a_policy_may_ask_for_nobody_and_for_one() {
    let none = Policy::parse(b"quorum none\n").unwrap();
    assert!(!none.asks_for_witnesses() && none.is_met_by(&[]));
    let one = format!("witness W {}\nquorum W\n", witness("w"));
    let one = Policy::parse(one.as_bytes()).unwrap();
    assert!(!one.is_met_by(&[witness("v")]) && one.is_met_by(&[witness("w")]));
    let many: String = (0..40)
        .map(|n| format!("witness {n} {}\n", witness(&n.to_string())))
        .collect();
    let many = format!("{many}group all 40 {}\nquorum all\n", numbers(40));
    assert_eq!(
        Policy::parse(many.as_bytes()).unwrap().witnesses().len(),
        40
    );
}

fn numbers(count: u32) -> String {
    let numbers: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    numbers.join(" ")
}

/// Texts that are no policies, the line that is wrong and what is wrong with it.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn wrong() -> Vec<(String, usize, &'static str)> {
    let (a, b, log) = (witness("a"), witness("b"), log("ledger.example/t/acme"));
    let renamed = VerifierKey::new("witness.example/other", a.kind(), a.public_key()).unwrap();
    let both = format!("witness A {a}\nwitness B {b}\n");
    vec![
        (format!("witness A {log}\nquorum A\n"), 1, "cosignature key"),
        (format!("log {a}\nquorum none\n"), 1, "Ed25519"),
        (
            format!("log {log}\nlog {log}\nquorum none\n"),
            2,
            "of another",
        ),
        (
            format!("witness A {a}\nwitness B {renamed}\nquorum A\n"),
            2,
            "of another",
        ),
        (format!("{both}witness A {b}\nquorum A\n"), 3, "of another"),
        (
            format!("{both}group A any A B\nquorum A\n"),
            3,
            "defined twice",
        ),
        (
            format!("{both}group none any A B\nquorum none\n"),
            3,
            "defined twice",
        ),
        (
            format!("{both}group G any A C\nquorum G\n"),
            3,
            "not defined",
        ),
        (
            format!("{both}group G any none\nquorum G\n"),
            3,
            "not defined",
        ),
        (
            format!("{both}group G any A A\nquorum G\n"),
            3,
            "used twice",
        ),
        (
            format!("{both}group G any A\ngroup H any A\nquorum H\n"),
            4,
            "used twice",
        ),
        (
            format!("{both}group G 0 A B\nquorum G\n"),
            3,
            "number of members",
        ),
        (
            format!("{both}group G 3 A B\nquorum G\n"),
            3,
            "number of members",
        ),
        (
            format!("{both}group G 02 A B\nquorum G\n"),
            3,
            "number of members",
        ),
        (
            format!("{both}group G +1 A B\nquorum G\n"),
            3,
            "number of members",
        ),
        (format!("{both}group G any\nquorum A\n"), 3, "no line"),
        (format!("quorum A\n{both}"), 1, "not defined"),
        (format!("{both}quorum A\nquorum A\n"), 4, "no line"),
        (format!("{both}quorum A # both\n"), 3, "no line"),
        (format!("{both}quorum A\r\n"), 3, "control character"),
        (format!("{both}quorum\u{a0}A\n"), 3, "no line"),
        (format!("{both}Quorum A\n"), 3, "no line"),
        (format!("{both}quorum A"), 3, "line feed"),
    ]
}

#[test]
fn what_is_no_policy_is_refused_with_its_line() {
    for (lines, line, why) in wrong() {
        let error = Policy::parse(lines.as_bytes()).unwrap_err();
        let told = error.to_string();
        assert!(
            told.starts_with(&format!("policy line {line}: ")),
            "{told}\n{lines}"
        );
        assert!(told.contains(why), "{told}\n{lines}");
    }
    let (a, b) = (witness("a"), witness("b"));
    let renamed = VerifierKey::new("witness.example/other", a.kind(), a.public_key()).unwrap();
    let both = format!("witness A {a}\nwitness B {b}\n");
    let open = Policy::parse(both.as_bytes()).unwrap_err();
    assert_eq!(open, PolicyError::NoQuorum);
    assert_eq!(Policy::parse(b"").unwrap_err(), PolicyError::NoQuorum);
    let beyond = Policy::of(vec![a.clone(), b], 3).unwrap_err();
    assert!(matches!(beyond, PolicyError::Unreachable { quorum: 3, .. }));
    let twice = Policy::of(vec![a, renamed], 1).unwrap_err();
    assert!(matches!(twice, PolicyError::SameKey(_)));
}
