//! `counterfoil quickstart` on the sample estate: what it does, what it tells, what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use counterfoil_evidence::v1;
use counterfoil_tests::cycle::Cycle;
use counterfoil_tests::decisions::Decision;
use counterfoil_tests::evidence::Evidence;
use counterfoil_tests::process::Suite;
use counterfoil_tests::repository::root;
use counterfoil_tests::source::{Contents, read_csv};

use crate::golden::{SOURCES, decisions, files, golden, removals};

async fn sources(folder: &Path) -> BTreeMap<&'static str, Contents> {
    let mut found = BTreeMap::new();
    for name in SOURCES {
        found.insert(name, read_csv(&folder.join(name)).await.unwrap());
    }
    found
}

#[test]
fn a_quickstart_ends_with_a_bundle_that_verifies() {
    let outcome = &golden().first.outcome;
    let report = &golden().first_report;
    assert!(report.is_ok(), "{report}");
    assert!(report.skipped().is_empty(), "{report}");
    assert_eq!(outcome.campaign_state, "CLOSED");
    assert_eq!(outcome.tenant, "tenants/bluebell");
    assert!(outcome.verify.contains("counterfoil-verify"));
    assert!(outcome.verify.contains(outcome.bundle.to_str().unwrap()));
}

#[test]
fn the_items_end_as_the_reviewers_decided() {
    let outcome = &golden().first.outcome;
    let decided = |kind| {
        decisions()
            .iter()
            .filter(|row| row.decision == kind)
            .count() as u64
    };
    assert_eq!(outcome.count("accepted"), decided(Decision::Accept));
    assert_eq!(outcome.count("revoked"), decided(Decision::Revoke));
    assert_eq!(outcome.count("reduced"), decided(Decision::Reduce));
    assert_eq!(outcome.count("excepted"), decided(Decision::Exception));
    assert_eq!(outcome.count("lapsed_revoke"), 3);
    assert_eq!(outcome.counts.values().sum::<u64>(), 59);
    assert_eq!(outcome.removals_verified, 15);
}

#[tokio::test]
async fn the_target_systems_lose_what_was_decided_and_nothing_else() {
    let before = sources(&root().join("deploy/sample-estate")).await;
    let after = sources(&golden().data_dir.join("estate")).await;
    let removals = removals(&before);
    assert_eq!(removals.values().map(BTreeSet::len).sum::<usize>(), 15);
    for source in SOURCES {
        let expected: BTreeSet<_> = &before[source].grants() - &removals[source];
        assert_eq!(after[source].grants(), expected, "{source}");
        for file in ["accounts.csv", "entitlements.csv"] {
            let read = |folder: &Path| fs::read(folder.join(source).join(file)).unwrap();
            assert_eq!(
                read(&root().join("deploy/sample-estate")),
                read(&golden().data_dir.join("estate"))
            );
        }
    }
}

#[test]
fn the_story_tells_every_planted_problem() {
    let story = &golden().first.story;
    for told in [
        "of accounts that belong to nobody, such as old_import",
        "of people who have left, such as greta_holm",
        "privileged and owned by nobody",
        "of service accounts without an expiry, such as svc_settlement",
        "unused for longer than the rules allow, such as hugo_marin",
    ] {
        assert!(story.contains(told), "{told:?} is not in\n{story}");
    }
}

#[test]
fn the_story_tells_the_gate_the_review_and_what_became_of_it() {
    let story = &golden().first.story;
    for told in [
        "Activation is refused while something is missing",
        "59 grants are to be reviewed",
        "The reviewers decided: 40 ACCEPT, 4 EXCEPTION, 2 REDUCE, 10 REVOKE.",
        "Nobody decided on 3 grants",
        "The plan is held",
        "15 of 15 removals are proved",
        "what was removed is still gone",
        "the campaign is CLOSED",
    ] {
        assert!(story.contains(told), "{told:?} is not in\n{story}");
    }
    assert!(!story.contains("Refused:"), "{story}");
}

#[test]
fn a_plan_too_large_waits_for_a_human_of_the_customer() {
    let evidence = &golden().evidence;
    let tripped = evidence.of::<v1::ThresholdTripped>().unwrap();
    let [(_, tripped)] = tripped.as_slice() else {
        panic!("{tripped:?}")
    };
    assert_eq!((tripped.metric.as_str(), tripped.limit), ("permille", 100));
    let resolved = evidence.of::<v1::ThresholdResolved>().unwrap();
    let [(logged, resolved)] = resolved.as_slice() else {
        panic!("{resolved:?}")
    };
    assert!(resolved.resume);
    assert_eq!(logged.record.actor, "principals/helena-vogt");
    let reason = evidence.opening(logged, "reason").unwrap();
    assert!(!reason.is_empty());
    let first_intent = evidence.of::<v1::ActionIntended>().unwrap()[0].0.index;
    assert!(
        logged.index < first_intent,
        "nothing goes out before it is resolved"
    );
}

#[test]
fn a_second_run_continues_and_does_not_start_over() {
    let golden = golden();
    let (first, second) = (&golden.first.outcome, &golden.second.outcome);
    assert!(golden.second.story.contains("is governed already"));
    assert_eq!(
        (&second.campaign, &second.counts, second.removals_verified),
        (&first.campaign, &first.counts, first.removals_verified)
    );
    assert_eq!(second.trust, first.trust);
    let later = Evidence::open(&second.bundle).unwrap();
    let (before, after) = (&golden.evidence.log, &later.log);
    assert!(after.len() > before.len(), "it seals another epoch");
    for (one, other) in before.iter().zip(after) {
        assert_eq!(one.hash, other.hash, "entry {}", one.index);
    }
    assert_eq!(later.of::<v1::CampaignDefined>().unwrap().len(), 1);
    assert_eq!(
        later.of::<v1::ReviewDecided>().unwrap().len(),
        golden.evidence.of::<v1::ReviewDecided>().unwrap().len()
    );
    let report = second.verify().unwrap();
    assert!(report.is_ok(), "{report}");
}

#[test]
fn the_trust_file_keeps_every_checkpoint_that_was_handed_out() {
    let golden = golden();
    let trust: serde_json::Value =
        serde_json::from_slice(&fs::read(&golden.first.outcome.trust).unwrap()).unwrap();
    let kept = trust["logs"][0]["checkpoints"].as_array().unwrap();
    for bundle in [&golden.first.outcome.bundle, &golden.second.outcome.bundle] {
        let checkpoint = fs::read_to_string(bundle.join("log/checkpoint")).unwrap();
        assert!(kept.iter().any(|kept| kept == &checkpoint));
    }
}

#[test]
fn keys_tokens_and_data_are_their_owners_alone() {
    let data_dir = &golden().data_dir;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data_dir), 0o700);
    let secrets = files(&data_dir.join("keys"));
    assert!(secrets.iter().any(|path| path.ends_with("admin.token")));
    assert!(secrets.iter().any(|path| path.ends_with("ledger.key")));
    for path in secrets {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn no_secret_is_in_the_bundle_or_in_what_was_told() {
    let golden = golden();
    let mut secrets = Vec::new();
    for path in files(&golden.data_dir.join("keys")) {
        let text = fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|kind| kind == "begun") {
            assert_eq!(text, "", "a note keeps no secret");
            continue;
        }
        // PRIVATE+KEY+name+id+base64, or cft_id_secret: what comes before the last part is no secret.
        let secret = match text.strip_prefix("PRIVATE+KEY+") {
            Some(key) => key.splitn(3, '+').nth(2),
            None => text.rsplit('_').next(),
        };
        let secret = secret.unwrap().trim();
        assert!(secret.len() > 20, "{}", path.display());
        secrets.push(secret.to_owned());
    }
    for path in files(&golden.first.outcome.bundle) {
        let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for secret in &secrets {
            assert!(!content.contains(secret.as_str()), "{}", path.display());
        }
    }
    for secret in &secrets {
        assert!(!golden.first.story.contains(secret.as_str()));
    }
}

#[test]
fn no_name_and_no_free_text_is_in_a_record() {
    let golden = golden();
    let mut words: BTreeSet<String> = decisions()
        .into_iter()
        .flat_map(|row| [row.justification, row.exception_basis])
        .filter(|text| !text.is_empty())
        .collect();
    for name in [
        "bluebell.example",
        "Mara Lind",
        "Greta Holm",
        "greta_holm",
        "pg_superuser",
        "Bluebell Foods",
    ] {
        words.insert(name.to_owned());
    }
    for path in files(&golden.first.outcome.bundle.join("log")) {
        let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for word in &words {
            assert!(
                !content.contains(word.as_str()),
                "{word:?} is in {}",
                path.display()
            );
        }
    }
}

#[test]
fn one_data_folder_serves_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::start(folder.path()).unwrap();
    let refused = Cycle::new(folder.path()).attempt().unwrap();
    assert!(!refused.status.success());
    assert!(
        refused.errors.contains("in use by another process"),
        "{}",
        refused.errors
    );
    suite.stop().unwrap().success().unwrap();
}

#[test]
fn a_broken_estate_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let estate = folder.path().join("estate");
    fs::create_dir(&estate).unwrap();
    let data_dir = folder.path().join("data");
    for (content, told) in [
        (None, "cannot be read"),
        (Some("[tenant]\nid = \"x\"\n"), "missing field"),
        (Some("nonsense"), "malformed"),
    ] {
        if let Some(content) = content {
            fs::write(estate.join("estate.toml"), content).unwrap();
        }
        let ended = Cycle::new(&data_dir).on(&estate).attempt().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.errors.contains("estate.toml"), "{}", ended.errors);
        assert!(ended.errors.contains(told), "{}", ended.errors);
    }
}
