//! Properties that hold for every campaign, item and decision, whatever happens to them.

use counterfoil_evidence::leaf::GrantKey;
use counterfoil_tlog::sorted_set::SortedSet;
use proptest::prelude::*;

use super::{
    campaign::{CampaignEvent, CampaignState, LapseRule, Scope},
    decision::{self, Decision, EvidenceRef, Limits, Proposal},
    disposition::{Closing, Disposition, Ended},
    ids::Principal,
    item::{ItemEvent, ItemState},
};

const LIMITS: Limits = Limits {
    review_interval_max_ms: 1_000,
    exception_max_ms: 500,
};

fn campaign_event() -> impl Strategy<Value = CampaignEvent> {
    use CampaignEvent as E;
    prop_oneof![
        Just(E::StagingBegan),
        Just(E::StagingFailed),
        Just(E::PopulationSealed),
        Just(E::RoutingBegan),
        Just(E::AllRouted),
        Just(E::EndBegan),
        Just(E::StageSealed),
        (0_u64..3).prop_map(|debt_count| E::CloseSealed { debt_count }),
    ]
}

fn item_event() -> impl Strategy<Value = ItemEvent> {
    prop_oneof![
        Just(ItemEvent::Routed),
        Just(ItemEvent::Decided),
        Just(ItemEvent::Lapsed),
        Just(ItemEvent::Voided),
    ]
}

fn a_decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        Just(Decision::Accept),
        Just(Decision::Revoke),
        Just(Decision::Reduce),
        Just(Decision::Exception),
    ]
}

prop_compose! {
    fn proposal()(
        decision in a_decision(),
        justification in "[a ]{0,3}",
        evidence in 0_usize..3,
        review_by in proptest::option::of(0_i64..3_000),
        basis in "[b ]{0,2}",
        owner in any::<bool>(),
        expires in proptest::option::of(0_i64..3_000),
        reduce_to in proptest::option::of(0_u8..3),
        dwell_ms in -1_i64..3,
    ) -> Proposal {
        Proposal {
            key: GrantKey([0; 40]),
            decision,
            justification,
            evidence: vec![EvidenceRef { kind: "usage".into(), sha256: [1; 32] }; evidence],
            review_by_ms: review_by,
            exception_basis: basis,
            exception_owner: owner.then(|| Principal::of_id("ann")),
            exception_expires_ms: expires,
            reduce_to: reduce_to.map(|byte| GrantKey([byte; 40])),
            presentation_hash: [0; 32],
            dwell_ms,
        }
    }
}

proptest! {
    #[test]
    fn a_campaign_never_goes_back_but_to_be_staged_anew(events in proptest::collection::vec(campaign_event(), 0..40)) {
        let mut state = CampaignState::Draft;
        for event in events {
            if let Ok(next) = state.after(event) {
                let anew = (state, next) == (CampaignState::Staging, CampaignState::Draft);
                prop_assert!(anew || next.code() >= state.code(), "{state:?} went to {next:?}");
                state = next;
            }
        }
    }

    #[test]
    fn what_is_over_stays_so(event in campaign_event()) {
        use CampaignState as S;
        for state in [S::Closed, S::ClosedWithDebt, S::Cancelled] {
            prop_assert!(state.after(event).is_err());
        }
    }

    #[test]
    fn an_item_ends_once(events in proptest::collection::vec(item_event(), 0..30)) {
        let mut state = ItemState::Unrouted;
        let mut ends = 0;
        for event in events {
            let Some(next) = state.after(event) else { continue };
            if matches!(event, ItemEvent::Lapsed | ItemEvent::Voided) {
                ends += 1;
            }
            prop_assert!(!(state == ItemState::Voided || next.code() < state.code()));
            state = next;
        }
        prop_assert!(ends <= 1);
    }

    #[test]
    fn i25_what_is_kept_states_why_on_what_and_until_when(proposal in proposal()) {
        let now_ms = 1_000;
        if decision::check_form(&proposal, LIMITS, now_ms).is_err() {
            return Ok(());
        }
        prop_assert!(!proposal.justification.trim().is_empty());
        let exception = proposal.decision == Decision::Exception;
        if proposal.decision.keeps() {
            prop_assert!(!proposal.evidence.is_empty());
            let review_by = proposal.review_by_ms.unwrap_or(0);
            prop_assert!(review_by > now_ms && review_by <= now_ms + LIMITS.review_interval_max_ms);
            prop_assert!(proposal.not_after_ms() > now_ms);
        } else {
            prop_assert_eq!(proposal.not_after_ms(), 0);
        }
        prop_assert_eq!(exception, proposal.exception_owner.is_some());
        prop_assert_eq!(exception, !proposal.exception_basis.is_empty());
        if let Some(expires) = proposal.exception_expires_ms {
            prop_assert!(exception && expires <= now_ms + LIMITS.exception_max_ms);
        }
        prop_assert_eq!(proposal.decision == Decision::Reduce, proposal.reduce_to.is_some());
    }

    #[test]
    fn i28_the_counts_sum_to_the_items_and_the_roots_recompute(
        ends in proptest::collection::btree_map(any::<[u8; 8]>(), (0_usize..7, any::<bool>()), 0..60)
    ) {
        let mut closing = Closing::new().unwrap();
        let mut debts = 0_u64;
        for (seed, (at, verified)) in &ends {
            let mut key = [0; 40];
            key[..8].copy_from_slice(seed);
            let disposition = Disposition::ALL[*at];
            debts += u64::from(disposition.is_debt(*verified));
            let item = Ended { key: GrantKey(key), disposition, record_hash: [3; 32], verified: *verified };
            closing.push(&item).unwrap();
        }
        let sealed = closing.seal();
        prop_assert_eq!(sealed.counts.total(), ends.len() as u64);
        prop_assert_eq!(sealed.dispositions.count, ends.len() as u64);
        prop_assert_eq!(sealed.debt.count, debts);
        let again = SortedSet::from_leaves(sealed.dispositions_blob, 40, 73).unwrap();
        prop_assert_eq!(again.root(), sealed.dispositions);
        let again = SortedSet::from_leaves(sealed.debt_blob, 40, 41).unwrap();
        prop_assert_eq!(again.root(), sealed.debt);
    }

    #[test]
    fn i30_a_lapse_is_never_a_human_decision(revoke in any::<bool>()) {
        let rule = if revoke { LapseRule::Revoke } else { LapseRule::RetainAsDebt };
        let lapsed = Disposition::of_lapse(rule);
        prop_assert!(!matches!(lapsed, Disposition::Decided(_)));
        prop_assert_eq!(lapsed.removes(), revoke);
        prop_assert!(lapsed.is_debt(false));
        prop_assert_eq!(LapseRule::of_code(rule.code()), Some(rule));
    }

    #[test]
    fn a_wider_scope_never_loses_an_item(flags in 0_u16..128, privileged_only: bool, include_inherited: bool) {
        use counterfoil_evidence::leaf::GrantFlags;
        let scope = |privileged_only, include_inherited| Scope {
            sources: Vec::new(), privileged_only, include_inherited,
        };
        let flags = GrantFlags(flags);
        if scope(privileged_only, include_inherited).covers_flags(flags) {
            prop_assert!(scope(false, include_inherited).covers_flags(flags));
            prop_assert!(scope(privileged_only, true).covers_flags(flags));
        }
    }
}

#[test]
fn stored_codes_come_back_as_what_they_were() {
    for state in CampaignState::ALL {
        assert_eq!(CampaignState::of_code(state.code()), Some(state));
    }
    for state in ItemState::ALL {
        assert_eq!(ItemState::of_code(state.code()), Some(state));
    }
    for disposition in Disposition::ALL {
        assert_eq!(Disposition::of_code(disposition.code()), Some(disposition));
    }
    assert_eq!(Disposition::of_code(0), None);
}
