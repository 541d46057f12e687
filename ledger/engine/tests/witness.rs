//! Witnesses: what they cosign is kept and shown, what is no good cosignature is not, and a log that is not the one they have seen stops.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use counterfoil_engine::{
    Cosignature, EngineError, Export, Publication, Witness, WitnessAnswer, WitnessCalls,
    WitnessError,
};
use counterfoil_tlog::note::NoteSigner;
use counterfoil_tlog::{Checkpoint, Policy, VerifierKey, checkpoint};
use object_store::local::LocalFileSystem;
use support::witness::{FileWitness, answer};
use support::{
    Database, Fixture, ORIGIN, REGISTRATIONS, TENANT, databases, fixture, ownership, receipts,
    sqlite,
};

const NOW_S: u64 = 1_800_000_000;

struct Scene {
    fixture: Fixture,
    witnesses: [Arc<FileWitness>; 2],
    folder: tempfile::TempDir,
}

impl Scene {
    /// A log and two witnesses that know it.
    fn new(fixture: Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vkey = &fixture.log.info().vkey;
        let witness = |name: &str| {
            let witness = FileWitness::new(name, folder.path().join(name));
            Arc::new(witness.knows(vkey))
        };
        Self {
            witnesses: [witness("w1"), witness("w2")],
            fixture,
            folder,
        }
    }

    async fn grow(&mut self, records: u64) -> u64 {
        let Fixture { log, inventory, .. } = &mut self.fixture;
        let records = (0..records).map(|n| inventory.next(&ownership(n), &[]));
        receipts(log.append(records.collect()).await.unwrap());
        log.head().await.unwrap().size
    }

    fn publication(&self) -> Publication {
        let copies = self.folder.path().join("copies");
        std::fs::create_dir_all(&copies).unwrap();
        let store = LocalFileSystem::new_with_prefix(copies).unwrap();
        Publication::new(Arc::new(store), "")
    }

    fn published(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("copies/acme/checkpoint")).unwrap()
    }

    fn policy(&self, quorum: usize) -> Policy {
        let keys = self.witnesses.iter().map(|witness| witness.key().clone());
        Policy::of(keys.collect(), quorum).unwrap()
    }
}

/// Names of the witnesses that have cosigned a note.
fn cosigners(note: &[u8], vkey: &VerifierKey, scene: &Scene) -> Vec<String> {
    let keys = scene
        .witnesses
        .each_ref()
        .map(|witness| witness.key().clone());
    let opened = checkpoint::open(note, vkey, &keys).unwrap();
    let names = opened.cosignatures.iter().map(|one| one.key.name());
    names
        .map(|name| name.replace("witness.example/", ""))
        .collect()
}

#[tokio::test]
async fn a_checkpoint_is_witnessed_when_enough_have_cosigned_it() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let [one, two] = scene.witnesses.each_ref().map(FileWitness::near);
        let first = scene.grow(5).await;
        let kept = log.cosign(&one, first).await.unwrap();
        assert_eq!((kept.size, kept.cosigned_at_s), (first, NOW_S));
        assert_eq!(log.witnessed(&scene.policy(1)).await.unwrap(), Some(first));
        assert_eq!(log.witnessed(&scene.policy(2)).await.unwrap(), None);
        // The second one comes when the log has grown: it cosigns the size of the first, and both the newest.
        let second = scene.grow(300).await;
        log.cosign(&two, first).await.unwrap();
        assert_eq!(log.witnessed(&scene.policy(2)).await.unwrap(), Some(first));
        log.cosign(&one, second).await.unwrap();
        assert_eq!(log.witnessed(&scene.policy(1)).await.unwrap(), Some(second));
        assert_eq!(log.witnessed(&scene.policy(2)).await.unwrap(), Some(first));
        log.cosign(&two, second).await.unwrap();
        assert_eq!(log.witnessed(&scene.policy(2)).await.unwrap(), Some(second));
        let note = log.cosigned_checkpoint(second).await.unwrap();
        let vkey = &log.info().vkey;
        assert_eq!(cosigners(note.as_bytes(), vkey, &scene), ["w1", "w2"]);
        // The receipts under it carry the cosignatures.
        let mut head = log.head_at(second).await.unwrap();
        head.checkpoint = note;
        let entry = log.entry(0).await.unwrap().unwrap();
        let proofs = log.receipts(&head, &[entry]).await.unwrap();
        let (_, under) = proofs[0].split_once("\n\n").unwrap();
        assert_eq!(cosigners(under.as_bytes(), vkey, &scene), ["w1", "w2"]);
    }
}

#[tokio::test]
async fn a_witness_that_is_further_than_is_known_here_is_asked_again_at_its_size() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let witness = scene.witnesses[0].near();
        let size = scene.grow(20).await;
        log.cosign(&witness, size).await.unwrap();
        database.tamper("DELETE FROM log_cosignatures").await;
        assert_eq!(log.cosignatures(size).await.unwrap(), []);
        // Of the same size it gives a fresh one, and of a smaller one none: the larger is cosigned then.
        scene.witnesses[0].now_s.fetch_add(7, Ordering::SeqCst);
        let again = log.cosign(&witness, 5).await.unwrap();
        assert_eq!((again.size, again.cosigned_at_s), (size, NOW_S + 7));
        assert_eq!(scene.witnesses[0].requests.load(Ordering::SeqCst), 3);
        assert_eq!(log.cosignatures(size).await.unwrap(), [again]);
    }
}

/// A witness that answers what it was told to.
#[derive(Debug)]
struct Says(WitnessAnswer, WitnessAnswer);

#[async_trait]
impl WitnessCalls for Says {
    async fn add_checkpoint(&self, _: String) -> Result<WitnessAnswer, String> {
        Ok(self.0.clone())
    }

    async fn monitor(&self, _: String) -> Result<WitnessAnswer, String> {
        Ok(self.1.clone())
    }
}

fn says(key: &VerifierKey, said: WitnessAnswer, shown: WitnessAnswer) -> Witness {
    Witness::new(key.clone(), Arc::new(Says(said, shown)))
}

#[tokio::test]
async fn what_is_no_good_cosignature_is_not_kept() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let [one, two] = scene.witnesses.clone();
        let key = one.key();
        let earlier = scene.grow(1).await;
        let of_earlier = log.cosign(&one.near(), earlier).await.unwrap().line;
        let size = scene.grow(5).await;
        let of_other = log.cosign(&two.near(), size).await.unwrap().line;
        let good = |now_s: i64| {
            let fresh = FileWitness::new("w1", scene.folder.path().join(now_s.to_string()));
            let fresh = fresh.knows(&log.info().vkey);
            fresh.now_s.store(now_s, Ordering::SeqCst);
            Arc::new(fresh)
        };
        let hour = 3600;
        let now = i64::try_from(NOW_S).unwrap();
        for beside in [now - hour, now + hour] {
            let refused = log.cosign(&good(beside).near(), size).await;
            assert!(
                matches!(refused, Err(WitnessError::BadCosignature(_))),
                "{refused:?}"
            );
        }
        let nothing = || answer(404, None, String::new());
        for lines in [
            String::new(),
            "\n".to_owned(),
            of_earlier.clone(),
            format!("{of_earlier}\n"),
            format!("{of_other}\n"),
            format!("{of_other}\n{of_earlier}\n"),
            format!("{of_earlier}\r\n"),
            "cosigned\n".to_owned(),
        ] {
            let witness = says(key, answer(200, None, lines.clone()), nothing());
            let refused = log.cosign(&witness, size).await;
            assert!(
                matches!(refused, Err(WitnessError::BadCosignature(_))),
                "{lines:?} {refused:?}"
            );
        }
        assert_eq!(log.cosigned_size(key).await.unwrap(), earlier);
        // One that the database garbled is left out, and spoils no note.
        database
            .tamper("UPDATE log_cosignatures SET line = replace(line, '/w2', '/w1')")
            .await;
        assert_eq!(log.cosignatures(size).await.unwrap(), []);
        assert_eq!(
            log.cosigned_checkpoint(size).await.unwrap(),
            log.checkpoint_at(size).await.unwrap()
        );
    }
}

#[tokio::test]
async fn a_cosignature_that_the_database_garbled_is_asked_for_again() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let [one, two] = scene.witnesses.clone();
        let size = scene.grow(5).await;
        log.cosign(&one.near(), size).await.unwrap();
        log.cosign(&two.near(), size).await.unwrap();
        database
            .tamper("UPDATE log_cosignatures SET line = replace(line, '/w2', '/w1')")
            .await;
        // It is told of, and asked for again.
        let found = log.fsck().await.unwrap().problems;
        assert!(
            found.len() == 1 && found[0].what.contains("cosignature of witness.example/w2"),
            "{found:?}"
        );
        assert_eq!(log.cosigned_size(two.key()).await.unwrap(), 0);
        log.cosign(&two.near(), size).await.unwrap();
        let again = log.cosignatures(size).await.unwrap();
        assert_eq!(again.len(), 2);
        assert_eq!(log.cosigned_size(two.key()).await.unwrap(), size);
        assert!(log.fsck().await.unwrap().is_clean());
        // What is good stays as it was first given.
        two.now_s.fetch_add(60, Ordering::SeqCst);
        log.cosign(&two.near(), size).await.unwrap();
        assert_eq!(log.cosignatures(size).await.unwrap(), again);
        // Of what cannot be read nothing stays, whatever it is.
        let odd: &[&'static str] = match database.name {
            "sqlite" => &[
                "cosigned_at_s = 'x'",
                "line = x'00'",
                "line = CAST(x'ff' AS TEXT)",
            ],
            _ => &["cosigned_at_s = -1"],
        };
        for change in odd {
            let change =
                format!("UPDATE log_cosignatures SET {change} WHERE witness LIKE '%/w2+%'");
            database.tamper(change).await;
            assert_eq!(log.cosignatures(size).await.unwrap().len(), 1);
            assert_eq!(log.cosigned_size(two.key()).await.unwrap(), 0);
            log.cosign(&two.near(), size).await.unwrap();
            assert_eq!(log.cosigned_size(two.key()).await.unwrap(), size);
        }
        // A row that names nobody is nobody's.
        database
            .tamper("UPDATE log_cosignatures SET witness = 'x' WHERE cosigned_at_s > 0 AND line LIKE '%/w2 %'")
            .await;
        assert_eq!(log.cosignatures(size).await.unwrap().len(), 1);
        let found = log.fsck().await.unwrap().problems;
        assert!(
            found.len() == 1 && found[0].what.contains("name no witness"),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_witness_that_refuses_is_told_from_one_that_is_away() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let size = scene.grow(1).await;
        let key = scene.witnesses[0].key();
        let nothing = || answer(404, None, String::new());
        for (status, is_away) in [
            (503, true),
            (429, true),
            (302, true),
            (404, false),
            (403, false),
            (400, false),
        ] {
            let witness = says(
                key,
                answer(status, None, "no\u{1b}[2J".to_owned()),
                nothing(),
            );
            let refused = log.cosign(&witness, size).await.unwrap_err();
            let away = matches!(refused, WitnessError::Unreachable(_));
            assert_eq!(away, is_away, "{refused}");
            assert!(!refused.to_string().contains('\u{1b}'), "{refused:?}");
        }
        assert_eq!(log.cosigned_size(key).await.unwrap(), 0);
    }
}

/// A witness that shows nothing.
#[derive(Debug)]
struct Silent(Arc<FileWitness>);

#[async_trait]
impl WitnessCalls for Silent {
    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, String> {
        Ok(self.0.take(body.as_bytes()))
    }

    async fn monitor(&self, _: String) -> Result<WitnessAnswer, String> {
        Err("nobody listens there".to_owned())
    }
}

async fn stops_a_log_that_is_another(database: &Database, is_behind: bool) {
    let mut scene = Scene::new(fixture(database).await);
    let witness = scene.witnesses[0].near();
    let size = scene.grow(3).await;
    scene.fixture.log.cosign(&witness, size).await.unwrap();
    scene.fixture.engine.close().await;
    // As if the database and all that remembers it had been lost, but for the keys: the log begins again with other records.
    let empty = database.emptied();
    scene.fixture = fixture(&empty).await;
    let now = if is_behind {
        REGISTRATIONS
    } else {
        scene.grow(9).await
    };
    let log = scene.fixture.log.clone();
    // A witness of which there is the word only is told of, and changes nothing.
    let silent = Arc::new(Silent(Arc::clone(&scene.witnesses[0])));
    let silent = Witness::new(witness.key().clone(), silent);
    let told = log.cosign(&silent, now).await;
    assert!(
        matches!(told, Err(WitnessError::Contradicts(_))),
        "{told:?}"
    );
    log.check_witness(&silent).await.unwrap();
    assert_eq!(log.stopped().await.unwrap(), None);
    // One that shows what the log has signed stops it.
    let stopped = log.cosign(&witness, now).await;
    let Err(WitnessError::Log(EngineError::Damaged { reason, .. })) = &stopped else {
        panic!("{is_behind}: {stopped:?}");
    };
    assert!(
        reason.contains("the witness witness.example/w1"),
        "{reason}"
    );
    log.check_witness(&witness).await.unwrap_err();
    let why = log.stopped().await.unwrap().unwrap();
    assert!(why.contains("witness.example/w1"), "{why}");
    let record = scene.fixture.inventory.next(&ownership(99), &[]);
    let refused = log.append(vec![record]).await;
    assert!(
        matches!(refused, Err(EngineError::Damaged { .. })),
        "{refused:?}"
    );
    // Nothing more is sent for it.
    let requests = || scene.witnesses[0].requests.load(Ordering::SeqCst);
    let before = requests();
    let refused = log.cosign(&witness, now).await;
    assert!(matches!(refused, Err(WitnessError::Log(_))), "{refused:?}");
    assert_eq!(requests(), before);
}

#[tokio::test]
async fn a_log_that_is_behind_what_a_witness_has_seen_is_stopped() {
    for database in databases() {
        stops_a_log_that_is_another(&database, true).await;
    }
}

#[tokio::test]
async fn a_log_that_is_beside_what_a_witness_has_seen_is_stopped() {
    for database in databases() {
        stops_a_log_that_is_another(&database, false).await;
    }
}

#[tokio::test]
async fn a_witness_that_lies_stops_nothing() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let size = scene.grow(3).await;
        let (ahead, key) = (size + 1000, scene.witnesses[0].key());
        let forger = NoteSigner::from_seed(ORIGIN, &[66; 32]).unwrap();
        let forged = Checkpoint {
            origin: ORIGIN.to_owned(),
            size: ahead,
            root: log.head().await.unwrap().root,
        };
        let forged = forged.sign(&forger).unwrap();
        let own = log.checkpoint_at(2).await.unwrap();
        let is_ahead = answer(409, Some("text/x.tlog.size"), format!("{ahead}\n"));
        let wrong = answer(422, None, "the proof does not verify\n".to_owned());
        for shown in [forged, own, "nonsense\n".to_owned(), String::new()] {
            for said in [&is_ahead, &wrong, &answer(409, None, String::new())] {
                let liar = says(key, said.clone(), answer(200, None, shown.clone()));
                let told = log.cosign(&liar, size).await;
                assert!(
                    matches!(told, Err(WitnessError::Contradicts(_))),
                    "{told:?}"
                );
                log.check_witness(&liar).await.unwrap();
            }
        }
        // Nor does one that says another size every time keep anybody busy.
        let other = answer(409, Some("text/x.tlog.size"), "1\n".to_owned());
        let liar = says(key, other, answer(404, None, String::new()));
        log.cosign(&liar, size).await.unwrap_err();
        assert_eq!(log.stopped().await.unwrap(), None);
        scene.grow(1).await;
    }
}

/// A witness that is at another size whenever it is asked.
#[derive(Debug)]
struct Elsewhere {
    sizes: &'static [u64],
    asked: AtomicUsize,
}

#[async_trait]
impl WitnessCalls for Elsewhere {
    async fn add_checkpoint(&self, _: String) -> Result<WitnessAnswer, String> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let size = self.sizes[asked % self.sizes.len()];
        Ok(answer(409, Some("text/x.tlog.size"), format!("{size}\n")))
    }

    async fn monitor(&self, _: String) -> Result<WitnessAnswer, String> {
        Ok(answer(404, None, String::new()))
    }
}

#[tokio::test]
async fn a_witness_that_is_at_another_size_each_time_is_asked_a_few_times_only() {
    let database = sqlite();
    let mut scene = Scene::new(fixture(&database).await);
    let log = scene.fixture.log.clone();
    let size = scene.grow(40).await;
    for (sizes, requests) in [
        // What it has seen only grows, or it does not say the truth.
        (&[7, 7][..], 2),
        (&[9, 8], 2),
        (&[9, 0], 2),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9], 4),
    ] {
        let elsewhere = Arc::new(Elsewhere {
            sizes,
            asked: AtomicUsize::new(0),
        });
        let key = scene.witnesses[0].key().clone();
        let witness = Witness::new(key, Arc::clone(&elsewhere) as _);
        let refused = log.cosign(&witness, size).await.unwrap_err();
        let rests = matches!(
            refused,
            WitnessError::Contradicts(_) | WitnessError::Refused(_)
        );
        assert!(rests, "{refused}");
        assert_eq!(
            elsewhere.asked.load(Ordering::SeqCst),
            requests,
            "{sizes:?}"
        );
    }
    assert_eq!(log.stopped().await.unwrap(), None);
    // One that says a size that nobody was shown is not shown it either.
    let elsewhere = Arc::new(Elsewhere {
        sizes: &[43],
        asked: AtomicUsize::new(0),
    });
    let key = scene.witnesses[0].key().clone();
    let witness = Witness::new(key, Arc::clone(&elsewhere) as _);
    let refused = log.ask_to_cosign(&witness, 9, 42).await.unwrap_err();
    assert!(matches!(refused, WitnessError::Refused(_)), "{refused}");
    assert_eq!((elsewhere.asked.load(Ordering::SeqCst), size), (1, 43));
}

#[tokio::test]
async fn what_several_logs_were_given_is_kept_together_or_not_at_all() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let engine = scene.fixture.engine.clone();
        let log = scene.fixture.log.clone();
        let registrar = scene.fixture.registrar.vkey.clone();
        let other = engine
            .create_log("other", "ledger.example/t/other", &registrar)
            .await
            .unwrap();
        let [one, two] = scene.witnesses.clone();
        let size = scene.grow(5).await;
        let kept = [
            log.ask_to_cosign(&one.near(), size, size).await.unwrap(),
            log.ask_to_cosign(&two.near(), size, size).await.unwrap(),
        ];
        assert_eq!(
            log.cosigned_size(one.key()).await.unwrap(),
            0,
            "nobody has kept it"
        );
        // The last row of them cannot be written.
        let endless = Cosignature {
            cosigned_at_s: u64::MAX,
            ..kept[0].clone()
        };
        let all = [(&other, &endless), (&log, &kept[0]), (&log, &kept[1])];
        engine.keep_cosignatures(&all).await.unwrap_err();
        assert_eq!(log.cosignatures(size).await.unwrap(), []);
        let all = [(&other, &kept[0]), (&log, &kept[0]), (&log, &kept[1])];
        engine.keep_cosignatures(&all).await.unwrap();
        assert_eq!(log.cosignatures(size).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn the_published_checkpoint_gains_lines_and_stays_the_same_checkpoint() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let vkey = log.info().vkey.clone();
        let to = scene.publication();
        assert!(!log.publish_cosignatures(&to).await.unwrap());
        let size = scene.grow(300).await;
        log.publish(&to).await.unwrap();
        assert!(!log.publish_cosignatures(&to).await.unwrap());
        let plain = scene.published();
        let [one, two] = scene.witnesses.each_ref().map(FileWitness::near);
        for (witness, names) in [(&one, &["w1"][..]), (&two, &["w1", "w2"])] {
            log.cosign(witness, size).await.unwrap();
            assert!(log.publish_cosignatures(&to).await.unwrap());
            assert!(!log.publish_cosignatures(&to).await.unwrap());
            assert_eq!(cosigners(&scene.published(), &vkey, &scene), names);
        }
        assert!(scene.published().starts_with(&plain));
        // Publishing again leaves the lines, and a checkpoint that has them is no other one.
        assert_eq!(log.publish(&to).await.unwrap().written, 0);
        assert_eq!(cosigners(&scene.published(), &vkey, &scene), ["w1", "w2"]);
        let found = log.fsck_with(Some(&to), &mut |_, _| {}).await.unwrap();
        assert!(found.is_clean(), "{:?}", found.problems);
        let export = log.export(size).await.unwrap();
        assert_eq!(last_file(export).await, scene.published());
        // What was cosigned before it is published is published with its lines.
        let size = scene.grow(1).await;
        log.cosign(&one, size).await.unwrap();
        log.publish(&to).await.unwrap();
        assert_eq!(cosigners(&scene.published(), &vkey, &scene), ["w1"]);
        // A lost database comes back to the very checkpoint that has the lines.
        let head = log.head().await.unwrap();
        scene.fixture.engine.close().await;
        let empty = database.emptied();
        let engine = empty.open().await;
        let registrar = &scene.fixture.registrar.vkey;
        let lost = engine.lost_log(TENANT, ORIGIN, registrar).await.unwrap();
        lost.recover(&to, &mut |_, _| {}).await.unwrap();
        assert_eq!(lost.head().await.unwrap(), head);
    }
}

async fn last_file(mut export: Export) -> Vec<u8> {
    let mut last = Vec::new();
    while let Some(file) = export.next().await.unwrap() {
        last = file.content;
    }
    last
}

#[tokio::test]
async fn of_old_cosignatures_the_first_of_a_day_and_those_that_are_enough_stay() {
    for database in databases() {
        let mut scene = Scene::new(fixture(&database).await);
        let log = scene.fixture.log.clone();
        let witness = Arc::clone(&scene.witnesses[0]);
        let near = witness.near();
        let mut sizes = Vec::new();
        for hours in [0, 10, 10, 10, 10] {
            witness.now_s.fetch_add(hours * 3600, Ordering::SeqCst);
            database
                .clock
                .0
                .fetch_add(hours * 3_600_000, Ordering::SeqCst);
            let size = scene.grow(1).await;
            log.cosign(&near, size).await.unwrap();
            sizes.push(size);
        }
        // It begins at 8 o'clock: two are of the first day, two of the second, and the last one begins the third.
        let enough = sizes[3];
        log.thin_cosignatures(sizes[4], enough).await.unwrap();
        let mut left = Vec::new();
        for size in &sizes {
            left.push(log.cosignatures(*size).await.unwrap().len());
        }
        assert_eq!(left, [1, 0, 1, 1, 1]);
    }
}
