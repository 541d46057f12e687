//! Syncs over real CSV files, on both engines: what is sealed, what is PARTIAL, what survives a crash.

#![cfg(test)]

#[path = "support/observed.rs"]
mod observed;
#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeMap, fs, pin::pin, task::Poll};

use counterfoil_chassis::{both_engines, testing::TestDatabase};
use counterfoil_evidence::{
    leaf::{GrantFlags, GrantLeaf},
    record::decode_record,
    v1,
};
use counterfoil_inventory::{
    config::InventoryConfig,
    jobs::Progress,
    store::{changes, entities::Kind, listing, owners, syncs::State},
};
use observed::{assert_streams_again, explained, ids, listed, naive};
use prost::Message;
use sqlx::Row;
use support::{Estate, Lab, TENANT};

async fn records(lab: &Lab) -> Vec<(v1::Record, v1::SourceSyncSealed)> {
    let rows = sqlx::query("SELECT record FROM outbox_records ORDER BY seq")
        .fetch_all(lab.db.read(TENANT).await.unwrap().conn())
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let record = decode_record(&row.get::<Vec<u8>, _>(0)).unwrap();
            let sealed = v1::SourceSyncSealed::decode(record.payload.as_slice()).unwrap();
            (record, sealed)
        })
        .collect()
}

both_engines! {
    /// Counts, root and blob of the record are those of what was read.
    async fn a_complete_sync_is_sealed_with_its_counts_and_its_set(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let estate = Estate::small();
        lab.add_source("hr", &estate).await;
        let sync = lab.sync("hr").await;
        assert_eq!(sync.state, State::Complete);
        assert_eq!((sync.counts.read.grants, sync.counts.inherited, sync.set_count), (3, 3, 6));
        assert_eq!(sync.control_totals, Some(sync.counts.read));
        assert_streams_again(&lab, &sync).await;
        assert_eq!(explained(&lab, "hr").await, naive(&estate));
        let sealed = records(&lab).await;
        let [(record, payload)] = sealed.as_slice() else { panic!("one record") };
        assert_eq!(payload.state(), v1::SyncState::Complete);
        assert_eq!(payload.set_count, 6);
        assert_eq!(payload.reader_principal, "connectors/hr/reader");
        assert_eq!(payload.watermark_hash.len(), 32);
        assert_eq!(record.blob[0].size, 6 * 74);
        assert_eq!(Some(record.blob[0].sha256.clone()), sync.blob_sha256.map(Vec::from));
        let text = format!("{record:?} {payload:?}");
        assert!(!text.contains("example.org") && !text.contains("Name of"));
    }

    /// A9: outdated, inherited, overbroad: an item shows when it was observed, its path and its breadth.
    async fn a9_a_grant_shows_its_path_and_its_breadth(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::small()).await;
        lab.sync("hr").await;
        let grants = listed(&lab, "hr").await;
        let of = |account: &str, entitlement: &str| {
            grants
                .iter()
                .find(|grant| grant.account.native_id == account && grant.entitlement.native_id == entitlement)
                .unwrap()
        };
        assert_eq!(of("ada", "crew").facts.inherited_count, 2);
        assert_eq!(of("bob", "staff").facts.inherited_count, 1);
        let inherited = of("ada", "everyone");
        assert!(GrantFlags(inherited.grant.flags).contains(GrantFlags::INHERITED));
        assert_eq!(inherited.facts.path.len(), 32);
        // An edge more widens what ada has: her grant is another one than a reviewer was shown.
        let before = of("ada", "crew").grant.value;
        let mut wider = Estate::small();
        wider.edge("everyone", "root");
        wider.write(&lab.files("hr"));
        lab.sync("hr").await;
        let after = listed(&lab, "hr").await;
        let crew = after.iter().find(|grant| {
            grant.account.native_id == "ada" && grant.entitlement.native_id == "crew"
        }).unwrap();
        assert_eq!(crew.facts.inherited_count, 3);
        assert_ne!(crew.grant.value, before);
    }

    /// Ids are opaque and stay; what did not change keeps its leaf.
    async fn a_second_sync_without_changes_changes_nothing(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::small()).await;
        let first = lab.sync("hr").await;
        let ids_before = ids(&lab, "hr", Kind::Account).await;
        let second = lab.sync("hr").await;
        assert_eq!(first.set_root, second.set_root);
        assert_eq!(ids_before, ids(&lab, "hr", Kind::Account).await);
        let source = lab.source("hr").await;
        let changes = changes::of_sync(&lab.db, TENANT, source.source_no, second.seq.unwrap(), &[]).await.unwrap();
        assert_eq!(changes, []);
        assert_eq!((first.seal_no, second.seal_no), (Some(1), Some(2)));
    }

    /// Only the flag DORMANT depends on use: a use alone changes no leaf, and is shown.
    async fn last_use_is_noted_without_changing_the_leaf(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let mut estate = Estate::small();
        estate.grant("ada", "crew").last_used = "2026-09-01".into();
        lab.add_source("hr", &estate).await;
        let first = lab.sync("hr").await;
        estate.grant("ada", "crew").last_used = "2026-09-02".into();
        estate.write(&lab.files("hr"));
        let second = lab.sync("hr").await;
        assert_eq!(first.set_root, second.set_root);
        let used: Vec<i64> = listed(&lab, "hr").await.iter().filter_map(|grant| grant.grant.last_used_ms).collect();
        assert_eq!(used, [1_788_307_200_000]);
        estate.grant("ada", "crew").last_used = "2026-01-01".into();
        estate.write(&lab.files("hr"));
        let third = lab.sync("hr").await;
        assert_ne!(third.set_root, second.set_root);
        let dormant = lab.leaves("hr").await.iter().filter(|leaf| leaf.flags.contains(GrantFlags::DORMANT)).count();
        assert_eq!(dormant, 1);
        for sync in [first, second, third] {
            assert_streams_again(&lab, &sync).await;
        }
    }

    /// A5: orphan, leaver, ownerless privilege, service account without end: planted, and found exactly.
    async fn a5_planted_problems_are_flagged_and_nothing_else_is(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let mut estate = Estate::default();
        estate.person("ada");
        estate.person("eve").lifecycle = "deprecated";
        estate.accounts.entry("ghost".into()).or_default();
        estate.person("cron").class = "non_human";
        let owned = estate.person("backup");
        owned.class = "non_human";
        owned.owner_key = "ada@example.org".into();
        owned.expires = "2027-01-01".into();
        estate.team("crew");
        estate.team("root").privileged = true;
        let vault = estate.team("vault");
        vault.privileged = true;
        vault.owner_key = "ada@example.org".into();
        for (account, entitlement) in [
            ("ada", "crew"), ("ada", "root"), ("ada", "vault"), ("eve", "crew"), ("ghost", "crew"), ("cron", "crew"),
            ("backup", "crew"),
        ] {
            estate.grant(account, entitlement);
        }
        lab.add_source("hr", &estate).await;
        lab.sync("hr").await;
        let found: BTreeMap<(String, String), GrantFlags> = listed(&lab, "hr").await.into_iter().map(|grant| {
            ((grant.account.native_id, grant.entitlement.native_id), GrantFlags(grant.grant.flags))
        }).collect();
        let flags = |account: &str, entitlement: &str| found[&(account.to_owned(), entitlement.to_owned())];
        assert_eq!(flags("ada", "crew"), GrantFlags::default());
        assert_eq!(flags("ada", "root"), GrantFlags::PRIVILEGED.with(GrantFlags::OWNERLESS));
        assert_eq!(flags("ada", "vault"), GrantFlags::PRIVILEGED);
        assert_eq!(flags("eve", "crew"), GrantFlags::IDENTITY_ENDED);
        assert_eq!(flags("ghost", "crew"), GrantFlags::ORPHANED);
        assert_eq!(flags("cron", "crew"), GrantFlags::OWNERLESS.with(GrantFlags::NO_EXPIRY));
        assert_eq!(flags("backup", "crew"), GrantFlags::default());
    }

    /// D7: one identity across sources: who has left by one source has left in the other.
    async fn d7_a_leaver_of_one_source_is_a_leaver_in_all(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let mut staff = Estate::default();
        staff.person("ada").lifecycle = "deprecated";
        lab.add_source("hr", &staff).await;
        let mut application = Estate::default();
        application.accounts.entry("a.lovelace".into()).or_default().identity_key = "ada@example.org".into();
        application.team("crew");
        application.grant("a.lovelace", "crew");
        lab.add_source("wiki", &application).await;
        lab.sync("hr").await;
        lab.sync("wiki").await;
        let leaves = lab.leaves("wiki").await;
        assert!(leaves[0].flags.contains(GrantFlags::IDENTITY_ENDED));
        let identities = listing::list_identities(&lab.db, TENANT, &[], 10).await.unwrap();
        assert_eq!(identities.len(), 1);
        assert_eq!(identities[0].accounts.len(), 2);
    }

    /// Capitals make no other identity and no other owner: who has left by one source is the leaver of the other.
    async fn an_identity_is_one_however_its_sources_write_its_key(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let mut staff = Estate::default();
        let ada = staff.person("ada");
        ada.lifecycle = "deprecated";
        ada.identity_key = "ADA@Example.ORG".into();
        lab.add_source("hr", &staff).await;
        let mut application = Estate::default();
        application.person("ada");
        let backup = application.person("backup");
        backup.class = "non_human";
        backup.owner_key = "Ada@example.org".into();
        application.team("crew").owner_key = "aDA@example.org".into();
        application.grant("ada", "crew");
        lab.add_source("wiki", &application).await;
        lab.sync("hr").await;
        lab.sync("wiki").await;
        let grants = listed(&lab, "wiki").await;
        assert!(GrantFlags(grants[0].grant.flags).contains(GrantFlags::IDENTITY_ENDED));
        assert_eq!(grants[0].entitlement.owner_key.as_deref(), Some("ada@example.org"));
        let identities = listing::list_identities(&lab.db, TENANT, &[], 10).await.unwrap();
        let found: BTreeMap<&str, usize> = identities.iter().map(|one| (one.identity_key.as_str(), one.accounts.len())).collect();
        assert_eq!(found, [("ada@example.org", 2), ("backup@example.org", 1)].into());
        let owners: Vec<_> = identities.iter().flat_map(|one| &one.accounts).filter_map(|account| account.owner_key.as_deref()).collect();
        assert_eq!(owners, ["ada@example.org"]);
        // Another spelling is no other access: nothing that was decided about it goes stale.
        let before = lab.leaves("wiki").await;
        application.person("ada").identity_key = "ADA@EXAMPLE.org".into();
        application.write(&lab.files("wiki"));
        lab.sync("wiki").await;
        assert_eq!(lab.leaves("wiki").await, before);
    }

    /// An owner that was set counts from the next sync on, before the source's own.
    async fn an_owner_that_was_set_counts_from_the_next_sync_on(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::small()).await;
        lab.sync("hr").await;
        let root = ids(&lab, "hr", Kind::Entitlement).await["root"];
        let ownerless = || async {
            lab.leaves("hr").await.iter().filter(|leaf| leaf.flags.contains(GrantFlags::OWNERLESS)).count()
        };
        assert_eq!(ownerless().await, 1);
        let mut tx = lab.db.write_tx(TENANT).await.unwrap();
        let object = owners::entitlement_object(&root);
        owners::set(&mut tx, &object, "boss", "boss@example.org", 1).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(ownerless().await, 1);
        lab.sync("hr").await;
        assert_eq!(ownerless().await, 0);
        assert_eq!(ids(&lab, "hr", Kind::Entitlement).await["root"], root);
    }

    /// Every kind of bad input leaves the current inventory as it was, and says where it is.
    async fn bad_input_is_partial_and_changes_nothing(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let estate = Estate::small();
        lab.add_source("hr", &estate).await;
        lab.sync("hr").await;
        let good = lab.leaves("hr").await;
        let files = lab.files("hr");
        let bad: [(&str, &str, &str, &str); 7] = [
            ("grants.csv", "account_native_id,entitlement_native_id,last_used,purpose\nada\n", "row_error", "line 2"),
            ("grants.csv", "account,entitlement\n", "unreadable", "grants.csv"),
            ("grants.csv", "account_native_id,entitlement_native_id\nada,crew\nada,crew\n", "row_error", "line 3"),
            ("grants.csv", "account_native_id,entitlement_native_id\nada,nothing\n", "row_error", "nothing"),
            ("accounts.csv", "native_id,display_name,identity_key\nada,=cmd(),a\n", "row_error", "line 2"),
            ("control.csv", "type,count\naccounts,3\nentitlements,4\nedges,2\ngrants,4\n", "control_total_mismatch", "grants"),
            ("control.csv", "type,count\naccounts,three\n", "control_total_unavailable", "control.csv"),
        ];
        for (file, content, reason, names) in bad {
            estate.write(&files);
            fs::write(files.join(file), content).unwrap();
            let sync = lab.sync("hr").await;
            assert_eq!(sync.state, State::Partial, "{content}");
            assert!(sync.partial_reasons.iter().any(|code| code == reason), "{content}: {:?}", sync.partial_reasons);
            assert!(sync.errors > 0);
            let messages = sync.error_messages.join("; ");
            assert!(messages.contains(names), "{content}: {messages}");
            assert_eq!(sync.blob_sha256, None);
            assert_eq!(lab.leaves("hr").await, good, "{content}");
            fs::remove_file(files.join(file)).unwrap();
        }
        let sealed = records(&lab).await;
        assert_eq!(sealed.iter().filter(|(_, one)| one.state() == v1::SyncState::Partial).count(), bad.len());
        assert!(sealed.iter().all(|(record, one)| (one.state() == v1::SyncState::Partial) == record.blob.is_empty()));
        estate.write(&files);
        let healed = lab.sync("hr").await;
        assert_eq!(healed.state, State::Complete);
        assert_eq!(lab.leaves("hr").await, good);
    }

    /// A29: a source that cannot be read is PARTIAL as unreachable.
    async fn a29_a_source_that_went_away_is_unreachable(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::small()).await;
        fs::remove_dir_all(lab.files("hr")).unwrap();
        lab.clock.advance_ms(1);
        let id = lab.ask("hr").await;
        assert_eq!(lab.job.run_once().await.unwrap(), Progress::Sealed);
        let sync = lab.get(&id).await;
        assert_eq!((sync.state, sync.set_count), (State::Partial, 0));
        assert_eq!(sync.partial_reasons, ["unreachable"]);
        assert!(lab.leaves("hr").await.is_empty());
    }

    /// Too deep is a fault that names the entitlement.
    async fn inheritance_that_is_too_deep_is_partial(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        let mut estate = Estate::default();
        estate.person("ada");
        for at in 0..=18 {
            estate.team(&format!("t{at:02}"));
        }
        for at in 0..18 {
            estate.edge(&format!("t{at:02}"), &format!("t{:02}", at + 1));
        }
        estate.grant("ada", "t00");
        lab.add_source("hr", &estate).await;
        let sync = lab.sync("hr").await;
        assert_eq!(sync.partial_reasons, ["inheritance_limit"]);
        assert!(sync.error_messages[0].contains("t00"));
    }

    /// Many runs and chunks give the same set as one.
    async fn a_small_sort_buffer_gives_the_same_set(db: TestDatabase) {
        let config = InventoryConfig { sort_buffer_bytes: 300, ..InventoryConfig::default() };
        let lab = Lab::with(&db, config).await;
        let mut estate = Estate::small();
        for number in 0..60 {
            let name = format!("p{number}");
            estate.person(&name);
            estate.grant(&name, "crew").purpose = "x".repeat(number);
        }
        lab.add_source("hr", &estate).await;
        let sync = lab.sync("hr").await;
        assert_eq!(sync.state, State::Complete);
        assert_eq!(explained(&lab, "hr").await, naive(&estate));
        assert_streams_again(&lab, &sync).await;
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM staged_chunks").fetch_one(lab.db.read(TENANT).await.unwrap().conn()).await.unwrap();
        assert_eq!(left, 0);
    }

    /// Dropped at any point, a sync leaves the old inventory; begun again, it ends as if nothing had happened.
    async fn a_sync_that_is_killed_anywhere_is_begun_again_and_shows_nothing_before(db: TestDatabase) {
        let config = InventoryConfig { sort_buffer_bytes: 200, attempts_max: 1_000_000, ..InventoryConfig::default() };
        let lab = Lab::with(&db, config).await;
        lab.add_source("hr", &Estate::small()).await;
        lab.sync("hr").await;
        let mut finished = 0;
        for budget in 0_u64.. {
            let before = lab.leaves("hr").await;
            let mut estate = Estate::small();
            estate.person("new");
            estate.grant("new", "crew").purpose = format!("round {budget}");
            estate.grants.remove(&("bob".into(), "staff".into()));
            estate.write(&lab.files("hr"));
            lab.clock.advance_ms(1_000);
            let id = lab.ask("hr").await;
            let job = Lab::job_of(&lab.shop);
            let done = cut(job.run_once(), budget * 3).await;
            if done.is_none() {
                unchanged_or_sealed(&lab, &id, &before).await;
                let next = Lab::job_of(&lab.shop);
                next.recover(true).await.unwrap();
                unchanged_or_sealed(&lab, &id, &before).await;
                if lab.get(&id).await.state == State::Waiting {
                    assert_eq!(next.run_once().await.unwrap(), Progress::Sealed);
                }
            } else {
                finished += 1;
            }
            let sync = lab.get(&id).await;
            assert_eq!(sync.state, State::Complete, "after {budget} steps: {sync:?}");
            assert_streams_again(&lab, &sync).await;
            assert_eq!(explained(&lab, "hr").await, naive(&estate));
            if finished == 3 {
                return;
            }
        }
    }

    /// A sync that is interrupted again and again is sealed PARTIAL in the end.
    async fn a_sync_that_never_ends_is_sealed_as_interrupted(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::small()).await;
        let id = lab.ask("hr").await;
        for _ in 0..3 {
            let job = Lab::job_of(&lab.shop);
            // Enough to be claimed, and not to be sealed.
            let mut steps = 0;
            while lab.get(&id).await.state == State::Waiting {
                steps += 1;
                assert!(cut(job.run_once(), steps).await.is_none());
            }
            Lab::job_of(&lab.shop).recover(true).await.unwrap();
        }
        let sync = lab.get(&id).await;
        assert_eq!((sync.state, sync.partial_reasons), (State::Partial, vec!["interrupted".to_owned()]));
        assert_eq!(records(&lab).await.len(), 1);
    }

    /// Whoever lost the sync to somebody else cannot write any more.
    async fn whoever_lost_the_lease_writes_nothing(db: TestDatabase) {
        let lab = Lab::new(&db).await;
        lab.add_source("hr", &Estate::small()).await;
        let id = lab.ask("hr").await;
        let first = Lab::job_of(&lab.shop);
        let mut commits = lab.shop.bell.listen();
        let slow = tokio::spawn(async move { first.run_once().await });
        // It has begun, and is anywhere between its first commit and its seal.
        commits.heard().await;
        let second = Lab::job_of(&lab.shop);
        second.recover(true).await.unwrap();
        if lab.get(&id).await.state == State::Waiting {
            second.run_once().await.unwrap();
        }
        // Whoever of the two sealed it, it was one.
        let progress = slow.await.unwrap().unwrap();
        let sealed = lab.get(&id).await;
        assert_eq!(sealed.state, State::Complete, "{progress:?}");
        assert_streams_again(&lab, &sealed).await;
        assert_eq!(records(&lab).await.len(), 1);
        assert_eq!(explained(&lab, "hr").await, naive(&Estate::small()));
    }
}

/// A cut may come after the seal; before it, nothing is seen.
async fn unchanged_or_sealed(lab: &Lab, sync: &str, before: &[GrantLeaf]) {
    let leaves = lab.leaves("hr").await;
    if leaves != before {
        assert_eq!(lab.get(sync).await.state, State::Complete);
    }
}

/// Polls a future so often and drops it then, as a crash does. `Some`: it was done before.
async fn cut<T>(future: impl Future<Output = T>, polls: u64) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
