//! Verdicts and exit codes: what fails, what is malformed, what does not meet the policy, what is incomplete, and what wins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use counterfoil_evidence::catalogue::Payload;
use counterfoil_tlog::Checkpoint;
use counterfoil_tlog::cosignature::Cosigner;
use counterfoil_tlog::note::{Note, NoteSigner, SignatureLine};
use counterfoil_verify::bundle::{BundleReader, Limits, archive};
use counterfoil_verify::testing::{BundleFiles, Edit, Forger};
use counterfoil_verify::time::format_rfc3339;
use serde_json::{Value, json};
use support::authority::DAY_MS;
use support::log::{LogBuilder, ORIGIN};

struct Case {
    dir: tempfile::TempDir,
    log: LogBuilder,
}

impl Case {
    fn new() -> Self {
        let log = support::cycle::build(60);
        let dir = tempfile::tempdir().unwrap();
        log.write(&dir.path().join("golden"));
        Self { dir, log }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn trust(&self) -> PathBuf {
        self.file("trust.json", self.log.trust(&[]))
    }

    /// A copy of the bundle, spoiled, with a MANIFEST that fits again.
    fn spoiled(&self, name: &str, spoil: impl FnOnce(&BundleFiles)) -> PathBuf {
        let target = self.dir.path().join(name);
        let files = BundleFiles::copy(&self.dir.path().join("golden"), &target).unwrap();
        spoil(&files);
        files.seal().unwrap();
        target
    }

    fn golden(&self) -> PathBuf {
        self.dir.path().join("golden")
    }
}

fn run(bundle: &Path, trust: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_counterfoil-verify"))
        .arg(bundle)
        .arg("--trust")
        .arg(trust)
        .args(more)
        .output()
        .unwrap()
}

/// Runs with `--json`; answers exit code and object.
fn judged(bundle: &Path, trust: &Path, more: &[&str]) -> (i32, Value) {
    let output = run(bundle, trust, &[more, &["--json"]].concat());
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let exit = output.status.code().unwrap();
    assert_eq!(object["exit"], exit);
    (exit, object)
}

fn status<'v>(object: &'v Value, id: &str) -> &'v str {
    object["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["id"] == id)
        .and_then(|check| check["status"].as_str())
        .unwrap_or("none")
}

#[test]
fn a_good_bundle_exits_0_and_tells_what_it_does_not_prove() {
    let case = Case::new();
    let output = run(&case.golden(), &case.trust(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for expected in [
        "PASS S1 ",
        "PASS I-28 [G2, G3] ",
        "PASS G10 [I-31] ",
        "NOT OBSERVABLE: sources/old (partial)",
        "decided by principals/alice (human of the customer): ",
        "granted by principals/carol",
        "  reviewed: sources/",
        "  MISSING from its snapshot: sources/old (partial)",
        "came back 1",
        "What this does not prove",
        "No trusted witness has cosigned",
        "OK (exit 0)",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let (_, object) = judged(&case.golden(), &case.trust(), &[]);
    assert_eq!(object["verdict"], "OK");
    assert_eq!(object["log"]["origin"], ORIGIN);
    assert_eq!(object["log"]["size"], case.log.size());
    let campaign = &object["report"]["campaigns"][0];
    let ended: u64 = campaign["dispositions"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(campaign["population"], ended);
    assert_eq!(campaign["outcome"], "CLOSED_WITH_DEBT");
    assert_eq!(campaign["reviewed"].as_array().unwrap().len(), 2);
    assert_eq!(
        campaign["missing"],
        json!([{"source": "sources/old", "reason": "partial"}])
    );
    assert!(campaign["verified_gone"].as_u64() < campaign["removals_decided"].as_u64());
    assert!(object["report"]["removals"]["decided_to_verified_max_ms"].as_i64() > Some(0));
    assert_eq!(
        object["report"]["open_obligations"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn an_archive_is_judged_like_its_directory() {
    let case = Case::new();
    let packed = case.dir.path().join("golden.cfbundle");
    let bundle = BundleReader::open(&case.golden(), &Limits::default()).unwrap();
    archive::pack(&bundle, &packed).unwrap();
    let (exit, object) = judged(&packed, &case.trust(), &[]);
    assert_eq!((exit, object), judged(&case.golden(), &case.trust(), &[]));
}

#[test]
fn what_is_no_bundle_or_no_trust_file_exits_2() {
    let case = Case::new();
    let trust = case.trust();
    let malformed = |bundle: &Path, trust: &Path, more: &[&str]| {
        let (exit, object) = judged(bundle, trust, more);
        assert_eq!((exit, &object["verdict"]), (2, &json!("MALFORMED")));
        assert!(!object["error"].as_str().unwrap().is_empty());
    };
    malformed(&case.dir.path().join("nothing"), &trust, &[]);
    let bundle = case.spoiled("info", |_| {});
    std::fs::write(bundle.join("bundle.json"), "{}").unwrap();
    malformed(&bundle, &trust, &[]);
    let bundle = case.spoiled("manifest", |_| {});
    std::fs::write(bundle.join("MANIFEST"), "x\n").unwrap();
    malformed(&bundle, &trust, &[]);
    let log = serde_json::from_str::<Value>(&case.log.trust(&[])).unwrap();
    let key = Cosigner::from_seed("w1", &[1; 32]).unwrap().vkey();
    for (name, spoil) in [
        ("format", json!({"format": "counterfoil-trust/v2"})),
        ("unknown", json!({"more": 1})),
        ("quorum", json!({"quorum": 1})),
        ("twice", json!({"logs": [log["logs"][0], log["logs"][0]]})),
        (
            "kept",
            json!({"logs": [{"origin": ORIGIN, "vkey": log["logs"][0]["vkey"], "registrar": log["logs"][0]["registrar"], "checkpoints": ["x"]}]}),
        ),
        (
            "same-key",
            json!({"witnesses": [{"name": "w1", "vkey": key}, {"name": "w1", "vkey": key}]}),
        ),
        (
            "other-name",
            json!({"witnesses": [{"name": "w2", "vkey": key}]}),
        ),
    ] {
        let mut file = log.clone();
        let fields = file.as_object_mut().unwrap();
        fields.extend(spoil.as_object().unwrap().clone());
        let bad = case.file(&format!("{name}.json"), file.to_string());
        malformed(&case.golden(), &bad, &[]);
    }
    let policy = case.file("policy", "witness w1\n");
    malformed(
        &case.golden(),
        &trust,
        &["--policy", policy.to_str().unwrap()],
    );
}

#[test]
fn a_quorum_of_witnesses_is_met_or_exits_3() {
    let case = Case::new();
    let witness = Cosigner::from_seed("w1.example", &[1; 32]).unwrap();
    let absent = Cosigner::from_seed("w2.example", &[2; 32]).unwrap();
    let cosigned = case.spoiled("cosigned", |files| {
        let mut note = files.note().unwrap();
        let checkpoint = files.checkpoint().unwrap();
        let seen_s = u64::try_from(case.log.now_ms / 1000).unwrap() + 1;
        note.add_signature(witness.cosign(&checkpoint, seen_s).unwrap())
            .unwrap();
        files.write("log/checkpoint", &note.to_bytes()).unwrap();
    });
    let trust = |quorum: u32| {
        let mut file: Value = serde_json::from_str(&case.log.trust(&[])).unwrap();
        file["witnesses"] = json!([
            {"name": "w1.example", "vkey": witness.vkey()},
            {"name": "w2.example", "vkey": absent.vkey()},
        ]);
        file["quorum"] = json!(quorum);
        case.file(&format!("quorum{quorum}.json"), file.to_string())
    };
    assert_eq!(judged(&cosigned, &trust(1), &[]).0, 0);
    let (exit, object) = judged(&cosigned, &trust(2), &[]);
    assert_eq!((exit, status(&object, "W6")), (3, "FAIL"));
    assert_eq!(object["verdict"], "POLICY_NOT_MET");
    let policy = |text: String| case.file("policy", text).to_str().unwrap().to_owned();
    let both = format!(
        "# ours\nwitness a {}\nwitness b {}\ngroup g all a b\nquorum g\n",
        witness.vkey(),
        absent.vkey()
    );
    let any = both.replace(" all ", " any ");
    assert_eq!(
        judged(&cosigned, &trust(1), &["--policy", &policy(both)]).0,
        3
    );
    assert_eq!(
        judged(&cosigned, &trust(2), &["--policy", &policy(any)]).0,
        0
    );
    let none = policy("quorum none\n".to_owned());
    assert_eq!(judged(&case.golden(), &trust(2), &["--policy", &none]).0, 0);
}

#[test]
fn a_trust_file_out_of_the_bundle_exits_3() {
    let case = Case::new();
    let hint = case.golden().join("trust/trust.json");
    let (exit, object) = judged(&case.golden(), &hint, &[]);
    assert_eq!((exit, status(&object, "B1")), (3, "FAIL"));
}

#[test]
fn missing_attachments_and_schemas_exit_4_and_withheld_values_do_not() {
    let case = Case::new();
    let incomplete = case.spoiled("incomplete", |files| {
        std::fs::remove_dir_all(files.path("blobs")).unwrap();
    });
    let (exit, object) = judged(&incomplete, &case.trust(), &[]);
    assert_eq!((exit, &object["verdict"]), (4, &json!("INCOMPLETE")));
    for id in [
        "P5", "I-19", "I-27", "I-28", "I-32", "I-37", "I-39", "I-40", "I-58",
    ] {
        assert_eq!(status(&object, id), "SKIP", "{id}");
    }
    let withheld = case.spoiled("withheld", |files| {
        std::fs::remove_dir_all(files.path("disclosures")).unwrap();
    });
    let (exit, object) = judged(&withheld, &case.trust(), &[]);
    assert_eq!((exit, status(&object, "D3")), (0, "SKIP"));
    assert!(object["report"]["withheld"]["justification"].as_u64() > Some(0));
}

#[test]
fn failing_wins_over_policy_and_policy_over_incompleteness() {
    let case = Case::new();
    let incomplete = case.spoiled("incomplete", |files| {
        std::fs::remove_dir_all(files.path("blobs")).unwrap();
    });
    let hint = incomplete.join("trust/trust.json");
    assert_eq!(judged(&incomplete, &hint, &[]).0, 3);
    let failed = case.spoiled("failed", |files| {
        std::fs::remove_dir_all(files.path("blobs")).unwrap();
        files.edit("log/tile/0/000", |bytes| bytes[0] ^= 1).unwrap();
    });
    assert_eq!(judged(&failed, &failed.join("trust/trust.json"), &[]).0, 1);
}

fn fails(case: &Case, bundle: &Path, trust: &Path, more: &[&str], id: &str) {
    let (exit, object) = judged(bundle, trust, more);
    assert_eq!((exit, status(&object, id)), (1, "FAIL"), "{id}: {object:#}");
    assert!(case.dir.path().exists());
}

#[test]
fn openings_that_are_false_stray_or_repeated_fail() {
    let case = Case::new();
    let file = "disclosures/recertification.jsonl";
    let edit = |name: &str, change: &dyn Fn(&str) -> String| {
        case.spoiled(name, |files| {
            let text = String::from_utf8(files.read(file).unwrap()).unwrap();
            files.write(file, change(&text).as_bytes()).unwrap();
        })
    };
    let first = |text: &str| text.lines().next().unwrap().to_owned();
    let value = edit("value", &|text| {
        let line = first(text);
        let start = line.find("\"value\":\"").unwrap() + 9;
        let other = format!("{}AAAA\"}}", &line[..start]);
        text.replacen(&line, &other, 1)
    });
    fails(&case, &value, &case.trust(), &[], "D1");
    let repeated = edit("repeated", &|text| format!("{}\n{text}", first(text)));
    fails(&case, &repeated, &case.trust(), &[], "D2");
    let stray = edit("stray", &|text| {
        text.replacen("\"record_id\":\"", "\"record_id\":\"00", 1)
    });
    fails(&case, &stray, &case.trust(), &[], "D2");
    let label = edit("label", &|text| {
        text.replacen("\"label\":\"", "\"label\":\"x", 1)
    });
    fails(&case, &label, &case.trust(), &[], "D2");
    let cut = edit("cut", &|text| text.trim_end().to_owned());
    fails(&case, &cut, &case.trust(), &[], "D2");
}

#[test]
fn the_log_is_held_against_what_was_kept_and_against_a_moment() {
    let case = Case::new();
    let size = case.log.size();
    let kept = case.file("kept.json", case.log.trust(&[1, 64, 255, 256, 257, size]));
    assert_eq!(judged(&case.golden(), &kept, &[]).0, 0);
    // Another log of the same origin and key: as long, and longer.
    let other = support::cycle::build(61);
    let forked = case.file("forked.json", other.trust(&[300]));
    fails(&case, &case.golden(), &forked, &[], "W1");
    let ahead = case.file("ahead.json", other.trust(&[other.size()]));
    assert!(other.size() > size);
    fails(&case, &case.golden(), &ahead, &[], "W2");
    let same = case.file("same.json", other.trust(&[size]));
    fails(&case, &case.golden(), &same, &[], "W4");
    let last = case.log.now_ms;
    assert_eq!(
        judged(
            &case.golden(),
            &case.trust(),
            &["--as-of", &format_rfc3339(last)]
        )
        .0,
        0
    );
    let later = format_rfc3339(last + 60_000);
    fails(
        &case,
        &case.golden(),
        &case.trust(),
        &["--as-of", &later],
        "W2",
    );
}

#[test]
fn how_long_a_fact_may_be_kept_back_is_for_the_auditor_to_say() {
    let case = Case::new();
    let late = case.spoiled("late", |files| {
        Forger::new(files, &case.log.stolen())
            .rewrite(|scene| {
                if let Payload::SourceRegistered(_) = scene.payload {
                    scene.record.occurred_at_ms -= 8 * DAY_MS;
                }
                Ok(Edit::Keep)
            })
            .unwrap();
    });
    let judge = |more: &[&str]| {
        let (_, object) = judged(&late, &case.trust(), more);
        status(&object, "I-04").to_owned()
    };
    assert_eq!(judge(&[]), "FAIL");
    assert_eq!(judge(&["--delay-days", "8"]), "FAIL");
    assert_eq!(judge(&["--delay-days", "9"]), "PASS");
}

#[test]
fn other_keys_bad_lines_and_other_forms_of_a_checkpoint_fail() {
    let case = Case::new();
    let with_note = |name: &str, change: &dyn Fn(&Note) -> Vec<u8>| {
        case.spoiled(name, |files| {
            let note = files.note().unwrap();
            files.write("log/checkpoint", &change(&note)).unwrap();
        })
    };
    let thief = NoteSigner::from_seed(ORIGIN, &[5; 32]).unwrap();
    let other_key = with_note("other-key", &|note| {
        thief.sign_note(note.text()).unwrap().to_bytes()
    });
    fails(&case, &other_key, &case.trust(), &[], "K3");
    // A crafted collision of the key id: the right name and id over another key's signature.
    let collision = with_note("collision", &|note| {
        let line = thief.sign_text(note.text());
        let crafted = SignatureLine::new(
            ORIGIN,
            case.log.log.verifier_key().key_id(),
            line.signature().to_vec(),
        );
        Note::new(note.text(), vec![crafted.unwrap()])
            .unwrap()
            .to_bytes()
    });
    fails(&case, &collision, &case.trust(), &[], "K3");
    let mixed = with_note("mixed", &|note| {
        let bad = thief.sign_text(note.text());
        let id = case.log.log.verifier_key().key_id();
        let bad = SignatureLine::new(ORIGIN, id, bad.signature().to_vec()).unwrap();
        let lines = vec![bad, note.signatures()[0].clone()];
        Note::new(note.text(), lines).unwrap().to_bytes()
    });
    fails(&case, &mixed, &case.trust(), &[], "K5");
    let size = case.log.size().to_string();
    for (name, from, to) in [
        ("zeros", size.clone(), format!("000{size}")),
        ("plus", size.clone(), format!("+{size}")),
        ("space", size.clone(), format!(" {size}")),
        (
            "carriage-return",
            format!("{size}\n"),
            format!("{size}\r\n"),
        ),
        ("extension", format!("{size}\n"), format!("{size}\nextra\n")),
        ("padding", "=\n\n".to_owned(), "\n\n".to_owned()),
    ] {
        let other_form = with_note(name, &|note| {
            note.to_string().replacen(&from, &to, 1).into()
        });
        fails(&case, &other_form, &case.trust(), &[], "K4");
    }
    let pinned = case
        .log
        .trust(&[])
        .replace(ORIGIN, "ledger.example/t/other");
    // Another origin in the trust file: the key's name is part of its id, so it is refused as malformed.
    assert_eq!(
        judged(&case.golden(), &case.file("o.json", pinned), &[]).0,
        2
    );
}

#[test]
fn files_that_differ_are_added_missing_or_swapped_fail() {
    let case = Case::new();
    let trust = case.trust();
    let unsealed = |name: &str, spoil: &dyn Fn(&BundleFiles)| {
        let target = case.spoiled(name, |_| {});
        spoil(&BundleFiles::new(&target));
        target
    };
    let changed = unsealed("changed", &|files| {
        files.write("README.txt", b"OK").unwrap()
    });
    fails(&case, &changed, &trust, &[], "B3");
    let added = unsealed("added", &|files| {
        files.write("report/ok.txt", b"OK").unwrap()
    });
    fails(&case, &added, &trust, &[], "B3");
    let missing = unsealed("missing", &|files| files.remove("README.txt").unwrap());
    fails(&case, &missing, &trust, &[], "B3");
    let renamed = case.spoiled("renamed", |files| {
        let info = String::from_utf8(files.read("bundle.json").unwrap()).unwrap();
        assert!(info.contains("tenants/acme"), "{info}");
        let another = info.replace("tenants/acme", "tenants/another");
        files.write("bundle.json", another.as_bytes()).unwrap();
    });
    fails(&case, &renamed, &trust, &[], "B3");
    let schema = case.spoiled("schema", |files| {
        let folder = files.path("schemas");
        let file = std::fs::read_dir(folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        std::fs::write(file, b"other").unwrap();
    });
    fails(&case, &schema, &trust, &[], "P6");
    let blob = case.spoiled("blob", |files| {
        let folder = files.path("blobs/sha256");
        let file = std::fs::read_dir(folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        std::fs::write(file, b"other").unwrap();
    });
    fails(&case, &blob, &trust, &[], "P5");
}

#[test]
fn narrower_tiles_must_begin_the_wider_ones() {
    let case = Case::new();
    let narrow = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        case.spoiled(name, |files| {
            let mut bytes = files.read("log/tile/0/000").unwrap();
            bytes.truncate(7 * 32);
            change(&mut bytes);
            files.write("log/tile/0/000.p/7", &bytes).unwrap();
        })
    };
    assert_eq!(judged(&narrow("same", &|_| {}), &case.trust(), &[]).0, 0);
    let other = narrow("other", &|bytes| bytes[100] ^= 1);
    fails(&case, &other, &case.trust(), &[], "S8");
    let short = narrow("short", &|bytes| bytes.truncate(32));
    fails(&case, &short, &case.trust(), &[], "S8");
    let beyond = case.spoiled("beyond", |files| {
        files.write("log/tile/0/009", &[0; 8192]).unwrap();
    });
    fails(&case, &beyond, &case.trust(), &[], "S7");
}

#[test]
fn a_log_that_claims_more_than_there_is_or_speaks_to_the_terminal_does_no_harm() {
    let case = Case::new();
    let endless = case.spoiled("endless", |files| {
        let checkpoint = Checkpoint {
            size: u64::MAX,
            ..files.checkpoint().unwrap()
        };
        let note = checkpoint.sign(&case.log.log).unwrap();
        files.write("log/checkpoint", note.as_bytes()).unwrap();
    });
    fails(&case, &endless, &case.trust(), &[], "S7");
    let rude = case.spoiled("rude", |files| {
        Forger::new(files, &case.log.stolen())
            .rewrite(|scene| {
                if let Payload::SnapshotSealed(sealed) = scene.payload {
                    for missing in &mut sealed.missing_sources {
                        missing.reason = "\u{1b}[2J\nOK (exit 0)".to_owned();
                    }
                }
                Ok(Edit::Keep)
            })
            .unwrap();
    });
    let output = run(&rude, &case.trust(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("[2J"), "the reason is told");
    assert!(!text.contains('\u{1b}'));
    let verdicts = text.lines().filter(|line| line.starts_with("OK (exit"));
    assert_eq!(verdicts.count(), 1);
}
