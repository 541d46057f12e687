//! Syncs, snapshots and stagings, forged.

use crate::prelude::*;

pub(crate) const FORGERIES: &[(&str, &str, Forgery)] = &[
    (
        "I-19",
        "COMPLETE in spite of an error",
        on!(SourceSyncSealed, |_r, p| p.errors += 1),
    ),
    (
        "I-19",
        "the source says it has more",
        on!(
            SourceSyncSealed,
            |_r, p| if let Some(t) = &mut p.control_totals {
                t.accounts += 1
            }
        ),
    ),
    (
        "I-19",
        "no totals at all",
        on!(SourceSyncSealed, |_r, p| p.control_totals = None),
    ),
    (
        "I-19",
        "another count than the set",
        on!(SourceSyncSealed, |_r, p| p.set_count += 1),
    ),
    (
        "I-19",
        "another root than the set",
        on!(SourceSyncSealed, |_r, p| p.set_root = vec![7; 32]),
    ),
    (
        "I-19",
        "inherited grants counted as direct",
        on!(SourceSyncSealed, |_r, p| if let Some(c) = &mut p.counts {
            c.grants_inherited -= c.grants_inherited.min(1);
            c.grants_direct += 1;
        }),
    ),
    (
        "I-19",
        "another reader",
        on!(SourceSyncSealed, |_r, p| p.reader_principal = writer(HR)),
    ),
    (
        "I-19",
        "PARTIAL without a reason",
        on!(SourceSyncSealed, |_r, p| p.partial_reasons.clear()),
    ),
    (
        "I-19",
        "a source under another tag",
        on!(SourceRegistered, |_r, p| p.source_tag[0] ^= 1),
    ),
    (
        "I-20",
        "a source that nobody mentions",
        on!(SnapshotSealed, |_r, p| p.missing_sources.clear()),
    ),
    (
        "I-20",
        "a source that was not read to its end",
        on!(SourceSyncSealed, |_r, p| {
            p.state = v1::SyncState::Partial.into();
            p.partial_reasons = vec!["row_error".to_owned()];
        }),
    ),
    (
        "I-20",
        "another root",
        on!(SnapshotSealed, |_r, p| p.snapshot_root = vec![7; 32]),
    ),
    (
        "I-20",
        "another time of reading",
        on!(SnapshotSealed, |_r, p| p.sources[0].synced_ms += 1),
    ),
    (
        "I-20",
        "another count",
        on!(SnapshotSealed, |_r, p| p.grant_count += 1),
    ),
    (
        "I-20",
        "a source that was read in time is called unreachable",
        on!(SourceSyncSealed, |_r, p| if p.source == OLD {
            p.state = v1::SyncState::Complete.into();
            p.errors = 0;
            p.partial_reasons.clear();
            p.pages = 1;
            p.counts = Some(v1::TypeCounts::default());
            p.control_totals = p.counts;
        }),
    ),
    (
        "I-20",
        "an older sync than the newest",
        |scene| match &*scene.payload {
            Payload::SourceSyncSealed(p) if p.purpose() == v1::SyncPurpose::Inventory => {
                let again = v1::SourceSyncSealed {
                    sync: format!("{}-again", p.sync),
                    ..p.clone()
                };
                followed_by(scene, Payload::SourceSyncSealed(again))
            }
            _ => Edit::Keep,
        },
    ),
    (
        "I-20",
        "everything is reviewed but what is missing",
        on!(CampaignDefined, |_r, p| p.sources.clear()),
    ),
    (
        "I-20",
        "data younger than it was",
        on!(CampaignStaged, |_r, p| p.freshness[0].age_ms -= DAY_MS),
    ),
    (
        "I-20",
        "another limit of age",
        on!(CampaignStaged, |_r, p| p.freshness[0].age_max_ms *= 2),
    ),
    (
        "I-20",
        "the age of a source is not told",
        on!(CampaignStaged, |_r, p| {
            p.freshness.pop();
        }),
    ),
    (
        "I-20",
        "data older than allowed",
        on!(CampaignStaged, |r, p| {
            p.staged_ms += 3 * DAY_MS;
            r.occurred_at_ms += 3 * DAY_MS;
            for f in &mut p.freshness {
                f.age_ms += 3 * DAY_MS;
            }
        }),
    ),
];

#[test]
fn forged_syncs_snapshots_and_stagings_are_seen() {
    all_fail(FORGERIES);
}
