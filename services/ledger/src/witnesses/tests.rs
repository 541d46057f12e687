//! Tests: whom a policy names, whom it has asked, and what is known of quorums; and a witness for the tests of the others.

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_engine::Cosignature;
use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::cosignature::Cosigner;

use super::*;
use crate::anchorer::tests::{NOW_MS, Opened, open};
use crate::copies::Copied;

fn cosigner() -> Cosigner {
    Cosigner::from_seed("witness.example/w", &[7; 32]).unwrap()
}

/// A policy of one witness, at an address where nobody listens; `logs`: further lines of it.
pub(super) fn out_of_reach(opened: &Opened, folder: &Path, logs: &str) -> Witnesses {
    let file = folder.join("policy");
    let vkey = cosigner().vkey();
    let text = format!("{logs}witness A {vkey} http://127.0.0.1:1/\nquorum A\n");
    std::fs::write(&file, text).unwrap();
    let settings = LedgerConfig {
        witness_policy_file: Some(file),
        ..LedgerConfig::default()
    };
    Witnesses::open(&settings, &opened.clock.clock())
        .unwrap()
        .unwrap()
}

/// What the witness would say of a log.
pub(super) async fn cosignature(log: &Log) -> Cosignature {
    let head = log.head().await.unwrap();
    let checkpoint = Checkpoint {
        origin: log.info().origin.clone(),
        size: head.size,
        root: head.root,
    };
    let cosigned_at_s = NOW_MS.unsigned_abs() / 1000;
    let line = cosigner().cosign(&checkpoint, cosigned_at_s).unwrap();
    Cosignature {
        size: head.size,
        witness: cosigner().verifier_key().clone(),
        cosigned_at_s,
        line: line.to_string(),
    }
}

fn vkey(seed: u8) -> String {
    let name = format!("witness.example/{seed}");
    Cosigner::from_seed(&name, &[seed; 32]).unwrap().vkey()
}

#[test]
fn witnesses_that_could_never_be_enough_are_refused() {
    let (one, two) = (vkey(1), vkey(2));
    let both = format!("witness A {one} http://127.0.0.1:1/\nwitness B {two}\n");
    let open = |lines: &str, monitoring: &[&str]| {
        let policy = Policy::parse(format!("{both}{lines}").as_bytes()).unwrap();
        let urls = monitoring
            .iter()
            .map(|name| ((*name).to_owned(), "http://h/".to_owned()));
        Witnesses::of(policy, &urls.collect(), &Clock::system())
    };
    let good = open("quorum A\n", &["A"]).unwrap();
    assert_eq!(good.asked().len(), 1);
    assert_eq!(
        open("group G any A B\nquorum G\n", &[])
            .unwrap()
            .asked()
            .len(),
        1
    );
    for (lines, monitoring, why) in [
        ("quorum none\n", &[][..], "asks for no witness"),
        ("quorum B\n", &[], "cannot be asked"),
        ("group G all A B\nquorum G\n", &[], "cannot be asked"),
        ("quorum A\n", &["C"], "no witness C"),
    ] {
        let refused = open(lines, monitoring).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    for url in ["ftp://h/", "h", "http://"] {
        let text = format!("witness A {one} {url}\nquorum A\n");
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let refused = Witnesses::of(policy, &BTreeMap::new(), &Clock::system());
        let refused = refused.unwrap_err();
        assert!(refused.starts_with("witness A: "), "{refused}");
    }
}

both_engines! {
    async fn that_nothing_has_a_quorum_is_looked_up_once_in_a_while(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        let log = opened.logs.create("acme").await.unwrap();
        let (witnesses, clock) = (out_of_reach(&opened, folder.path(), ""), opened.clock.clock());
        let witnessed = Witnessed::new(witnesses.clone(), clock.clone());
        let other = Witnessed::new(witnesses, clock);
        for one in [&witnessed, &other] {
            assert_eq!(one.head(&log).await.unwrap(), None);
        }
        // Another replica is answered; this one does not search whatever anybody has cosigned with each receipt.
        let cosigned = cosignature(&log).await;
        opened.logs.engine().keep_cosignatures(&[(&log, &cosigned)]).await.unwrap();
        assert_eq!(witnessed.head(&log).await.unwrap(), None);
        // Who hears of something looks again, even if what was heard of is thinned by now.
        let heard = Copied { size: cosigned.size - 1, at_ms: 0, stopped: false };
        other.reached.published("acme", heard);
        assert_eq!(other.head(&log).await.unwrap().unwrap().size, cosigned.size);
        opened.clock.advance_ms(10_000);
        assert_eq!(witnessed.head(&log).await.unwrap().unwrap().size, cosigned.size);
        opened.close().await;
    }

    async fn witnesses_are_asked_for_the_logs_of_their_policy_only(db: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&db, folder.path()).await;
        let acme = opened.logs.create("acme").await.unwrap();
        let beta = opened.logs.create("beta").await.unwrap();
        let policy = format!("log {}\n", acme.info().vkey);
        let witnesses = out_of_reach(&opened, folder.path(), &policy);
        for anchor in witnesses.anchors() {
            // That the log is there is told to nobody whom it does not concern.
            assert_eq!(anchor.newest(beta.info()).await, Ok(None));
            anchor.newest(acme.info()).await.unwrap_err();
        }
        opened.close().await;
    }
}
