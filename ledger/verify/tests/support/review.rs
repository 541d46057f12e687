//! The campaign up to the end of its review: every kind of end that an item can have.

use std::collections::BTreeMap;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::{
    AuthorizedLeaf, AuthorizedStatus, DispositionLeaf, GrantFlags, GrantKey, GrantLeaf, media_type,
};
use counterfoil_evidence::v1::{
    self, Decision, Disposition, DispositionCounts, LapseRule, RoutingCause, SyncPurpose,
};
use counterfoil_tlog::commitment::commit;
use counterfoil_tlog::sorted_set::SortedSet;

use super::authority::{ALICE, BOB, CAROL, DAY_MS, PROVIDER};
use super::cycle::{Cycle, Sealed, Snapshot};
use super::estate::{HR, LDAP, blob};
use super::log::{Draft, seed};
use super::provider;

pub const CAMPAIGN: &str = "campaigns/q4";
/// Its grant changes under review and is shown again; decided before and after.
pub const CHANGED_ITEM: &str = "items/2";

/// How an item ended.
#[derive(Clone)]
pub struct End {
    pub leaf: GrantLeaf,
    pub disposition: Disposition,
    pub hash: [u8; 32],
    pub at_ms: i64,
    pub not_after_ms: i64,
}

pub struct Reviewed {
    pub ends: BTreeMap<GrantKey, End>,
    /// Taken after the review: what reconciliation compares with.
    pub snapshot: Snapshot,
}

pub fn root_of(blob: &[u8], leaf_len: usize) -> (Vec<u8>, u64) {
    let set = SortedSet::from_leaves(blob.to_vec(), 40, leaf_len).unwrap();
    (set.root().root.0.to_vec(), set.count())
}

pub fn run(cycle: &mut Cycle, snapshot: &Snapshot, ldap: &Sealed) -> Reviewed {
    if !cycle.of_all {
        let by = (cycle.by.certifies, cycle.rights.certify.clone());
        define(cycle, by, vec![HR.to_owned(), LDAP.to_owned()]);
    }
    let population = stage(cycle, snapshot);
    let routed: Vec<Routed> = population
        .iter()
        .enumerate()
        .map(|(number, leaf)| route(cycle, number, *leaf, RoutingCause::Assigned))
        .collect();
    let mut ends = BTreeMap::new();
    let mut undecided = Vec::new();
    for (number, item) in routed.iter().enumerate() {
        match number % 13 {
            _ if number == 5 => undecided.push(number),
            12 => undecided.push(number),
            n => {
                let decision = match n {
                    0 | 4 | 8 => Decision::Revoke,
                    6 => Decision::Exception,
                    9 => Decision::Reduce,
                    _ => Decision::Accept,
                };
                let end = decide(cycle, item, decision, number);
                ends.insert(item.leaf.key, end);
            }
        }
    }
    // One is decided anew, and the later decision counts; one changed, was shown again and then decided.
    let end = decide(cycle, &routed[1], Decision::Accept, 1);
    ends.insert(routed[1].leaf.key, end);
    let changed = GrantLeaf {
        value: seed("changed"),
        ..routed[2].leaf
    };
    change(cycle, changed);
    let again = route(cycle, 2, changed, RoutingCause::Represented);
    let end = decide(cycle, &again, Decision::Accept, 2);
    ends.insert(changed.key, end);
    // One is gone before anybody decides.
    let gone = &routed[5];
    if gone.leaf.key.source_tag() == cycle.hr.tag() {
        cycle.hr.remove(gone.leaf.key);
    } else {
        cycle.ldap.remove(gone.leaf.key);
    }
    let hr = cycle.sync(&cycle.hr.clone(), SyncPurpose::Inventory);
    let ldap_now = cycle.sync(&cycle.ldap.clone(), SyncPurpose::Inventory);
    assert_ne!(ldap_now.hash, ldap.hash);
    let end = void(cycle, gone, &hr, &ldap_now);
    ends.insert(gone.leaf.key, end);
    for number in undecided.into_iter().filter(|number| *number != 5) {
        let end = lapse(cycle, &routed[number]);
        ends.insert(routed[number].leaf.key, end);
    }
    close_stage(cycle, &ends);
    let snapshot = cycle.snapshot(&[&hr, &ldap_now]);
    Reviewed { ends, snapshot }
}

/// Inventory sees a grant changed.
fn change(cycle: &mut Cycle, leaf: GrantLeaf) {
    let of_hr = leaf.key.source_tag() == cycle.hr.tag();
    let source = if of_hr {
        &mut cycle.hr
    } else {
        &mut cycle.ldap
    };
    source.remove(leaf.key);
    source.restore(leaf);
    let source = source.clone();
    cycle.sync(&source, SyncPurpose::Inventory);
}

/// The campaign is defined by somebody under their right.
pub fn define(cycle: &mut Cycle, (actor, authority): (&str, Vec<u8>), sources: Vec<String>) {
    let defined = v1::CampaignDefined {
        campaign: CAMPAIGN.to_owned(),
        sources,
        privileged_only: false,
        include_inherited: false,
        lapse_rule: LapseRule::RetainAsDebt.into(),
        owner: CAROL.to_owned(),
        reviewer_rule: "entitlement_owner".to_owned(),
        fallback_reviewer: ALICE.to_owned(),
        due_ms: cycle.log.now_ms + DAY_MS,
    };
    cycle.log.append(
        &Payload::CampaignDefined(defined),
        Draft {
            actor,
            authority,
            commitments: vec![("display_name", b"Q4 review".to_vec())],
            ..Draft::default()
        },
    );
}

fn stage(cycle: &mut Cycle, snapshot: &Snapshot) -> Vec<GrantLeaf> {
    let mut sources = [cycle.hr.clone(), cycle.ldap.clone()];
    sources.sort_by_key(super::estate::Source::tag);
    let all: Vec<GrantLeaf> = sources.iter().flat_map(|s| s.leaves.clone()).collect();
    let (excluded, population): (Vec<GrantLeaf>, Vec<GrantLeaf>) = all
        .into_iter()
        .partition(|leaf| leaf.flags.contains(GrantFlags::INHERITED));
    let (population_root, population_count) = root_of(&blob(&population), 74);
    let (exclusions_root, exclusions_count) = root_of(&blob(&excluded), 74);
    let staged_ms = cycle.log.now_ms;
    let staged = v1::CampaignStaged {
        campaign: CAMPAIGN.to_owned(),
        snapshot_record_hash: snapshot.hash.to_vec(),
        snapshot_root: snapshot.record.snapshot_root.clone(),
        freshness: snapshot
            .record
            .sources
            .iter()
            .map(|source| v1::Freshness {
                source: source.source.clone(),
                sync_record_hash: source.sync_record_hash.clone(),
                age_ms: staged_ms - source.synced_ms,
                age_max_ms: 2 * DAY_MS,
            })
            .collect(),
        population_root,
        population_count,
        exclusions_root,
        exclusions_count,
        staged_ms,
    };
    let authority = cycle.rights.certify.clone();
    cycle.log.append(
        &Payload::CampaignStaged(staged),
        Draft {
            actor: cycle.by.certifies,
            authority,
            blobs: vec![
                (media_type::POPULATION, blob(&population)),
                (media_type::EXCLUSIONS, blob(&excluded)),
            ],
            ..Draft::default()
        },
    );
    population
}

struct Routed {
    name: String,
    leaf: GrantLeaf,
    reviewer: &'static str,
    presentation: Vec<u8>,
}

fn route(cycle: &mut Cycle, number: usize, leaf: GrantLeaf, cause: RoutingCause) -> Routed {
    let name = format!("items/{number}");
    let reviewer = match number {
        3 => PROVIDER,
        even if even.is_multiple_of(2) => ALICE,
        _ => BOB,
    };
    let routed = v1::ReviewItemRouted {
        campaign: CAMPAIGN.to_owned(),
        item: name.clone(),
        leaf: leaf.to_bytes().to_vec(),
        from: String::new(),
        to: reviewer.to_owned(),
        cause: cause.into(),
        level: 1,
        subject_identity_tag: seed(&format!("identity {number}")).to_vec(),
    };
    let shown = format!("{number} as shown").into_bytes();
    let salt = seed(&format!("salt {} presentation", cycle.log.size()));
    let presentation = commit("presentation", &salt, &shown).0.to_vec();
    cycle.log.append(
        &Payload::ReviewItemRouted(routed),
        Draft {
            commitments: vec![("presentation", shown)],
            ..Draft::default()
        },
    );
    Routed {
        name,
        leaf,
        reviewer,
        presentation,
    }
}

fn decide(cycle: &mut Cycle, item: &Routed, decision: Decision, number: usize) -> End {
    let stays = matches!(decision, Decision::Accept | Decision::Exception);
    let exception = decision == Decision::Exception;
    if item.reviewer == PROVIDER {
        provider::decide(&mut cycle.log, cycle.rights.assigned);
    }
    let now_ms = cycle.log.now_ms;
    let review_by_ms = now_ms + 180 * DAY_MS;
    let expires_ms = now_ms + 60 * DAY_MS;
    // Exceptions need another right than Bob has.
    let reviewer = item.reviewer;
    let (decision, exception) = if exception && reviewer == BOB {
        (Decision::Accept, false)
    } else {
        (decision, exception)
    };
    let narrower = GrantKey::new(
        item.leaf.key.source_tag(),
        "accounts/x",
        "entitlements/n",
        &[],
    );
    let decided = v1::ReviewDecided {
        campaign: CAMPAIGN.to_owned(),
        item: item.name.clone(),
        grant_key: item.leaf.key.0.to_vec(),
        decision: decision.into(),
        review_by_ms: if stays { review_by_ms } else { 0 },
        exception_owner: if exception {
            CAROL.to_owned()
        } else {
            String::new()
        },
        exception_expires_ms: if exception { expires_ms } else { 0 },
        reduce_to_grant_key: if decision == Decision::Reduce {
            narrower.0.to_vec()
        } else {
            Vec::new()
        },
        evidence: vec![v1::EvidenceRef {
            kind: "usage".to_owned(),
            sha256: seed("evidence").to_vec(),
        }],
        presentation_hash: item.presentation.clone(),
        observed_leaf: item.leaf.to_bytes().to_vec(),
        bulk: false,
        batch_id: String::new(),
        dwell_ms: 1,
    };
    let mut commitments = vec![("justification", format!("because {number}").into_bytes())];
    if exception {
        commitments.push(("exception_basis", b"contract".to_vec()));
    }
    let authority = match (reviewer, exception) {
        (_, true) => cycle.rights.alice_except.clone(),
        (ALICE, false) => cycle.rights.alice_review.clone(),
        (PROVIDER, false) => cycle.rights.provider_review.clone(),
        _ => cycle.rights.bob_review.clone(),
    };
    let hash = cycle.log.append(
        &Payload::ReviewDecided(decided),
        Draft {
            actor: reviewer,
            owner: CAROL,
            authority,
            commitments,
            ..Draft::default()
        },
    );
    let at_ms = cycle.log.now_ms;
    if exception {
        let granted = v1::ExceptionGranted {
            exception: format!("exceptions/{number}"),
            grant_key: item.leaf.key.0.to_vec(),
            decision_record_hash: hash.to_vec(),
            owner: CAROL.to_owned(),
            approver: reviewer.to_owned(),
            expires_ms,
        };
        cycle.log.append(
            &Payload::ExceptionGranted(granted),
            Draft {
                owner: CAROL,
                ..Draft::default()
            },
        );
    }
    End {
        leaf: item.leaf,
        disposition: match decision {
            Decision::Accept => Disposition::Accepted,
            Decision::Revoke => Disposition::Revoked,
            Decision::Reduce => Disposition::Reduced,
            _ => Disposition::Excepted,
        },
        hash,
        at_ms,
        not_after_ms: if exception { expires_ms } else { review_by_ms },
    }
}

fn void(cycle: &mut Cycle, item: &Routed, hr: &Sealed, ldap: &Sealed) -> End {
    let of_hr = item.leaf.key.source_tag() == cycle.hr.tag();
    let (source, sync) = if of_hr {
        (&cycle.hr, hr)
    } else {
        (&cycle.ldap, ldap)
    };
    let proof = source.set().prove(&item.leaf.key.0).unwrap().to_bytes();
    let voided = v1::ReviewItemVoided {
        campaign: CAMPAIGN.to_owned(),
        item: item.name.clone(),
        grant_key: item.leaf.key.0.to_vec(),
        sync_record_hash: sync.hash.to_vec(),
        absence_proof: proof,
    };
    let hash = cycle.log.append(
        &Payload::ReviewItemVoided(voided),
        Draft {
            owner: CAROL,
            ..Draft::default()
        },
    );
    End {
        leaf: item.leaf,
        disposition: Disposition::Voided,
        hash,
        at_ms: cycle.log.now_ms,
        not_after_ms: 0,
    }
}

fn lapse(cycle: &mut Cycle, item: &Routed) -> End {
    let lapsed = v1::ReviewItemLapsed {
        campaign: CAMPAIGN.to_owned(),
        item: item.name.clone(),
        grant_key: item.leaf.key.0.to_vec(),
        lapse_rule: LapseRule::RetainAsDebt.into(),
        disposition: Disposition::LapsedRetained.into(),
    };
    let hash = cycle.log.append(
        &Payload::ReviewItemLapsed(lapsed),
        Draft {
            owner: CAROL,
            ..Draft::default()
        },
    );
    End {
        leaf: item.leaf,
        disposition: Disposition::LapsedRetained,
        hash,
        at_ms: cycle.log.now_ms,
        not_after_ms: 0,
    }
}

pub fn dispositions(ends: &BTreeMap<GrantKey, End>) -> (Vec<u8>, DispositionCounts) {
    let mut bytes = Vec::new();
    let mut counts = DispositionCounts::default();
    for (key, end) in ends {
        let leaf = DispositionLeaf {
            key: *key,
            disposition: end.disposition,
            record_hash: end.hash,
        };
        bytes.extend(leaf.to_bytes());
        *match end.disposition {
            Disposition::Accepted => &mut counts.accepted,
            Disposition::Revoked => &mut counts.revoked,
            Disposition::Reduced => &mut counts.reduced,
            Disposition::Excepted => &mut counts.excepted,
            Disposition::LapsedRetained => &mut counts.lapsed_retained,
            Disposition::Voided => &mut counts.voided,
            other => panic!("{other:?}"),
        } += 1;
    }
    (bytes, counts)
}

fn close_stage(cycle: &mut Cycle, ends: &BTreeMap<GrantKey, End>) {
    let (leaves, counts) = dispositions(ends);
    let closed = v1::StageClosed {
        campaign: CAMPAIGN.to_owned(),
        stage: 1,
        outcomes_root: root_of(&leaves, 73).0,
        counts: Some(counts),
    };
    let authority = cycle.rights.certify.clone();
    cycle.log.append(
        &Payload::StageClosed(closed),
        Draft {
            actor: cycle.by.certifies,
            owner: CAROL,
            authority,
            blobs: vec![(media_type::DISPOSITIONS, leaves)],
            ..Draft::default()
        },
    );
}

/// The authorised set that follows from the ends.
pub fn authorized(ends: &BTreeMap<GrantKey, End>) -> BTreeMap<GrantKey, AuthorizedLeaf> {
    ends.iter()
        .filter_map(|(key, end)| {
            let status = match end.disposition {
                Disposition::Accepted | Disposition::Excepted => AuthorizedStatus::Authorized,
                Disposition::Revoked | Disposition::Reduced => AuthorizedStatus::Revoked,
                _ => return None,
            };
            let authorized = status == AuthorizedStatus::Authorized;
            let leaf = AuthorizedLeaf {
                key: *key,
                status,
                not_after_ms: if authorized {
                    u64::try_from(end.not_after_ms).unwrap()
                } else {
                    0
                },
                record_hash: end.hash,
            };
            Some((*key, leaf))
        })
        .collect()
}
