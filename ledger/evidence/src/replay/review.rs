//! Decisions: who took them on what they were shown, with what reasons, and before the review ended.

use super::absorb::Context;
use super::check::{Check, Tallies};
use super::state::{
    At, Campaign, Close, Decided, Item, Pos, ShownAgain, StageClose, Staged, State, Sym, Undecided,
};
use crate::catalogue::Payload;
use crate::leaf::{GrantFlags, GrantKey, GrantLeaf, media_type};
use crate::v1::{self, Decision, Disposition, LapseRule, RoutingCause};

/// Takes a record of the review in; gives back what is none.
pub(super) fn absorb(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    payload: Payload,
) -> Option<Payload> {
    let pos = context.pos;
    match payload {
        Payload::CampaignDefined(what) => {
            let campaign = campaign(state, &what.campaign);
            if campaign.defined.is_some() {
                tallies.fail(Check::I27, format!("entry {pos} defines a campaign again"));
            } else {
                campaign.defined = Some(At { pos, what });
            }
        }
        Payload::CampaignStaged(record) => {
            let what = Staged {
                population: context.blob(media_type::POPULATION),
                exclusions: context.blob(media_type::EXCLUSIONS),
                record,
            };
            let campaign = campaign(state, &what.record.campaign);
            if campaign.staged.is_some() {
                tallies.fail(
                    Check::I27,
                    format!("entry {pos} fixes a population again: it was fixed before"),
                );
            } else {
                campaign.staged = Some(At { pos, what });
            }
        }
        Payload::ReviewItemRouted(routed) => route(state, tallies, context, &routed),
        Payload::ReviewDecided(decided) => decide(state, tallies, context, &decided),
        Payload::ReviewItemLapsed(lapsed) => lapse(state, tallies, pos, &lapsed),
        Payload::ReviewItemVoided(voided) => void(state, tallies, pos, voided),
        Payload::StageClosed(record) => {
            let dispositions = context.blob(media_type::DISPOSITIONS);
            let campaign = campaign(state, &record.campaign);
            campaign.stages_closed.push(At {
                pos,
                what: StageClose {
                    record,
                    dispositions,
                },
            });
        }
        Payload::CampaignClosed(record) => {
            let what = Close {
                dispositions: context.blob(media_type::DISPOSITIONS),
                debt: context.blob(media_type::DEBT),
                record,
            };
            let campaign = campaign(state, &what.record.campaign);
            if campaign.closed.is_some() {
                tallies.fail(Check::I28, format!("entry {pos} closes a campaign again"));
            } else {
                campaign.closed = Some(At { pos, what });
            }
        }
        Payload::ExceptionGranted(what) => state.exceptions.push(At { pos, what }),
        other => return Some(other),
    }
    None
}

fn campaign<'s>(state: &'s mut State, name: &str) -> &'s mut Campaign {
    let name = state.names.intern(name);
    state.campaigns.entry(name).or_default()
}

fn route(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    routed: &v1::ReviewItemRouted,
) {
    let pos = context.pos;
    tallies.checked(Check::I27);
    let Ok(leaf) = GrantLeaf::try_from(routed.leaf.as_slice()) else {
        tallies.fail(Check::I27, format!("entry {pos} shows a malformed grant"));
        return;
    };
    let presentation = context
        .commitment("presentation")
        .and_then(|digest| digest.try_into().ok());
    let Some(presentation) = presentation else {
        tallies.fail(
            Check::I27,
            format!("entry {pos} does not commit to what is shown"),
        );
        return;
    };
    let represented = routed.cause() == RoutingCause::Represented;
    let item = Item {
        campaign: state.names.intern(&routed.campaign),
        name: state.names.intern(&routed.item),
        leaf,
        reviewer: state.names.intern(&routed.to),
        subject_tag: state.digests.intern(&routed.subject_identity_tag),
        presentation,
        represented,
        end: None,
    };
    // Inventory sets the flag exactly when the account names no identity.
    let nobodys = leaf.flags.contains(GrantFlags::ORPHANED);
    tallies.expect(
        Check::I26,
        nobodys || !routed.subject_identity_tag.is_empty(),
        || format!("entry {pos} does not say whose access an item is about"),
    );
    if represented {
        state.shown_again.push(ShownAgain {
            pos,
            campaign: item.campaign,
            leaf,
        });
    }
    if let Some(at) = state.item_at.get(&(item.campaign, item.name)).copied() {
        route_again(state, tallies, pos, at, item);
        return;
    }
    let at = u32::try_from(state.items.len()).unwrap_or(u32::MAX);
    let campaign = state.campaigns.entry(item.campaign).or_default();
    campaign.items.push(at);
    state.item_at.insert((item.campaign, item.name), at);
    state.items.push(item);
}

/// Gives an item that somebody had to somebody, maybe because it changed.
fn route_again(state: &mut State, tallies: &mut Tallies, pos: Pos, at: u32, shown: Item) {
    let Some(item) = state.items.get_mut(at as usize) else {
        return;
    };
    let same = item.leaf == shown.leaf;
    tallies.expect(
        Check::I27,
        item.leaf.key == shown.leaf.key && (shown.represented || same),
        || format!("entry {pos} shows another grant under an item than before"),
    );
    // A grant that changed may have come to belong to another identity.
    let may_change = shown.represented && !same;
    if item.subject_tag != shown.subject_tag {
        tallies.expect(Check::I26, may_change, || {
            format!("entry {pos} changes whose access an item is about")
        });
        let before = state.former_subjects.entry(at).or_default();
        before.push((pos, item.subject_tag));
    }
    *item = Item {
        represented: item.represented || shown.represented,
        end: item.end,
        ..shown
    };
}

/// The item that a record of the review is about.
fn item_of(state: &State, campaign: &str, item: &str) -> Option<u32> {
    let campaign = state.names.find(campaign)?;
    let item = state.names.find(item)?;
    state.item_at.get(&(campaign, item)).copied()
}

/// Notes a decision, lapse or void after the end of the review.
fn check_open(state: &State, tallies: &mut Tallies, pos: Pos, campaign: &str) {
    tallies.checked(Check::G10);
    let campaign = state
        .names
        .find(campaign)
        .and_then(|name| state.campaigns.get(&name));
    let closed = campaign.and_then(|campaign| {
        let stage = campaign.stages_closed.first().map(|stage| stage.pos);
        stage.or(campaign.closed.as_ref().map(|closed| closed.pos))
    });
    if let Some(closed) = closed {
        tallies.fail(
            Check::G10,
            format!(
                "{} comes after the review was closed by entry {closed}",
                state.entry(pos)
            ),
        );
    }
}

fn decide(
    state: &mut State,
    tallies: &mut Tallies,
    context: &Context<'_>,
    decided: &v1::ReviewDecided,
) {
    let pos = context.pos;
    check_open(state, tallies, pos, &decided.campaign);
    tallies.checked(Check::I26);
    tallies.checked(Check::I27);
    let Ok(key) = GrantKey::try_from(decided.grant_key.as_slice()) else {
        tallies.fail(Check::I27, format!("entry {pos} names no grant"));
        return;
    };
    let Some(at) = item_of(state, &decided.campaign, &decided.item) else {
        tallies.fail(
            Check::I26,
            format!("entry {pos} decides an item that was never routed to anyone"),
        );
        return;
    };
    let actor = state.names.intern(&context.record.actor);
    let exception_owner = state.names.intern(&decided.exception_owner);
    let accountability = context.record.accountability.as_ref();
    let outermost = accountability.and_then(|who| who.on_behalf_of.first());
    let delegator = outermost.map(|name| state.names.intern(name));
    let Some(item) = state.items.get_mut(at as usize) else {
        return;
    };
    // Who decides in the name of the one who had it (I-16 judges whether it may) has it too.
    let had = item.reviewer == actor || delegator == Some(item.reviewer);
    tallies.expect(Check::I26, had, || {
        format!("entry {pos}: the decider did not have the item at that time")
    });
    let shown = item.leaf.key == key
        && decided.observed_leaf == item.leaf.to_bytes()
        && decided.presentation_hash == item.presentation;
    tallies.expect(Check::I27, shown, || {
        format!("entry {pos} decides on something else than what was shown")
    });
    if let Some((
        end,
        Disposition::LapsedRevoke | Disposition::LapsedRetained | Disposition::Voided,
    )) = item.end
    {
        tallies.fail(
            Check::I28,
            format!("entry {pos} decides an item that entry {end} had ended"),
        );
    }
    let disposition = match decided.decision() {
        Decision::Accept => Disposition::Accepted,
        Decision::Revoke => Disposition::Revoked,
        Decision::Reduce => Disposition::Reduced,
        Decision::Exception => Disposition::Excepted,
        Decision::Unspecified => Disposition::Unspecified,
    };
    item.end = Some((pos, disposition));
    let subject_tag = item.subject_tag;
    state.decisions.push(Decided {
        pos,
        item: at,
        key,
        decision: decided.decision(),
        review_by_ms: decided.review_by_ms,
        expires_ms: decided.exception_expires_ms,
        exception_owner,
        evidence_count: evidence_count(decided),
        justified: context.commitment("justification").is_some(),
        based: context.commitment("exception_basis").is_some(),
        reduce_to: GrantKey::try_from(decided.reduce_to_grant_key.as_slice())
            .ok()
            .map(Box::new),
        subject_tag,
    });
}

/// Pieces of evidence that are there to be asked for: a kind and a hash.
fn evidence_count(decided: &v1::ReviewDecided) -> u32 {
    let cited = decided
        .evidence
        .iter()
        .filter(|evidence| !evidence.kind.is_empty() && evidence.sha256.len() == 32)
        .count();
    u32::try_from(cited).unwrap_or(u32::MAX)
}

fn lapse(state: &mut State, tallies: &mut Tallies, pos: Pos, lapsed: &v1::ReviewItemLapsed) {
    check_open(state, tallies, pos, &lapsed.campaign);
    let rule = state
        .names
        .find(&lapsed.campaign)
        .and_then(|name| state.campaigns.get(&name))
        .and_then(|campaign| campaign.defined.as_ref())
        .map(|defined| defined.what.lapse_rule());
    let follows = matches!(
        (lapsed.lapse_rule(), lapsed.disposition()),
        (LapseRule::Revoke, Disposition::LapsedRevoke)
            | (LapseRule::RetainAsDebt, Disposition::LapsedRetained)
    );
    tallies.expect(
        Check::I28,
        follows && rule == Some(lapsed.lapse_rule()),
        || format!("entry {pos} lapses otherwise than the campaign's rule says"),
    );
    end_undecided(
        state,
        tallies,
        pos,
        (&lapsed.campaign, &lapsed.item, &lapsed.grant_key),
        lapsed.disposition(),
    );
}

fn void(state: &mut State, tallies: &mut Tallies, pos: Pos, voided: v1::ReviewItemVoided) {
    check_open(state, tallies, pos, &voided.campaign);
    end_undecided(
        state,
        tallies,
        pos,
        (&voided.campaign, &voided.item, &voided.grant_key),
        Disposition::Voided,
    );
    state.voids.push(At { pos, what: voided });
}

fn end_undecided(
    state: &mut State,
    tallies: &mut Tallies,
    pos: Pos,
    (campaign, item, key): (&str, &str, &[u8]),
    disposition: Disposition,
) {
    tallies.checked(Check::I28);
    let found = item_of(state, campaign, item).and_then(|at| state.items.get_mut(at as usize));
    let (Ok(key), Some(found)) = (GrantKey::try_from(key), found) else {
        tallies.fail(
            Check::I28,
            format!("entry {pos} ends an item that was never routed"),
        );
        return;
    };
    tallies.expect(Check::I28, found.leaf.key == key, || {
        format!("entry {pos} names another grant than its item")
    });
    if let Some((end, _)) = found.end {
        tallies.fail(
            Check::I28,
            format!("entry {pos} ends an item that entry {end} had ended"),
        );
    }
    found.end = Some((pos, disposition));
    let campaign = found.campaign;
    state.undecided.push(Undecided {
        pos,
        campaign,
        key,
        disposition,
    });
}

/// Judges what needs principals and policies, which other streams hold.
pub(super) fn judge(state: &State, tallies: &mut Tallies) {
    for decided in &state.decisions {
        self_review(state, tallies, decided);
        reasons(state, tallies, decided);
    }
    for exception in &state.exceptions {
        exception_matches(state, tallies, exception);
    }
}

fn tag_of(state: &State, principal: Sym) -> &[u8] {
    state
        .principals
        .get(&principal)
        .map_or(&[], |principal| principal.identity_tag.as_slice())
}

/// Everybody whose access an item was said to be about by the time of a decision: changing the grant's identity makes it nobody's
/// own who had it.
fn subjects<'s>(state: &'s State, decided: &'s Decided) -> impl Iterator<Item = &'s [u8]> {
    let former = state.former_subjects.get(&decided.item);
    let former = former
        .into_iter()
        .flatten()
        .filter(|(until, _)| *until < decided.pos)
        .map(|(_, tag)| *tag);
    std::iter::once(decided.subject_tag)
        .chain(former)
        .filter_map(|tag| state.digests.get(tag))
}

fn self_review(state: &State, tallies: &mut Tallies, decided: &Decided) {
    let entry = || state.entry(decided.pos);
    let Some(meta) = state.meta(decided.pos) else {
        return;
    };
    let own = tag_of(state, meta.actor);
    // Those in whose name it was taken are bound as if they took it.
    let delegators: Vec<&[u8]> = state
        .names
        .text(meta.on_behalf_of)
        .split_whitespace()
        .filter_map(|name| Some(tag_of(state, state.names.find(name)?)))
        .collect();
    let mut of_somebody = false;
    let (mut decides, mut owns) = (false, false);
    for subject in subjects(state, decided) {
        of_somebody = true;
        decides |= own == subject || delegators.contains(&subject);
        owns |= tag_of(state, decided.exception_owner) == subject;
    }
    tallies.expect(Check::I26, !decides, || {
        format!("{}: the decider is the subject", entry())
    });
    let unknown = own.is_empty() || delegators.iter().any(|tag| tag.is_empty());
    tallies.expect(Check::I26, !(of_somebody && unknown), || {
        format!("{}: nobody can tell the decider from the subject", entry())
    });
    tallies.expect(Check::I25, !owns, || {
        format!("{}: the subject owns the exception", entry())
    });
}

fn reasons(state: &State, tallies: &mut Tallies, decided: &Decided) {
    tallies.checked(Check::I25);
    let entry = || state.entry(decided.pos);
    let mut expect = |holds: bool, what: &str| {
        tallies.expect(Check::I25, holds, || format!("{} {what}", entry()))
    };
    expect(decided.justified, "has no justification");
    let at_ms = state.occurred_ms(decided.pos);
    let rules = super::authority::rules_for(state, decided.pos);
    let within = |end_ms: i64, longest: fn(&v1::PolicyRules) -> i64| {
        let limit = rules.map_or(0, longest);
        end_ms > at_ms && end_ms <= at_ms.saturating_add(limit)
    };
    match decided.decision {
        Decision::Unspecified => {
            expect(false, "decides nothing");
        }
        Decision::Revoke => {}
        Decision::Reduce => {
            let narrower = decided.reduce_to.as_deref().is_some_and(|kept| {
                *kept != decided.key && kept.source_tag() == decided.key.source_tag()
            });
            expect(narrower, "does not name the narrower grant that stays");
        }
        Decision::Accept | Decision::Exception => {
            expect(decided.evidence_count > 0, "cites no evidence");
            expect(
                within(decided.review_by_ms, |rules| rules.review_interval_max_ms),
                "has no review-by date within the policy's limit",
            );
        }
    }
    if decided.decision == Decision::Exception {
        expect(decided.based, "is an exception without a basis");
        expect(
            within(decided.expires_ms, |rules| rules.exception_max_ms),
            "is an exception without an expiry within the policy's limit",
        );
        let owner =
            super::authority::human_of_customer(state, decided.exception_owner, at_ms).is_ok();
        expect(owner, "is an exception that no human of the customer owns");
    }
}

/// R51 repeats what the decision says; it may not say more.
fn exception_matches(state: &State, tallies: &mut Tallies, exception: &At<v1::ExceptionGranted>) {
    let granted = &exception.what;
    let decided = state
        .position(&granted.decision_record_hash)
        .and_then(|pos| state.decisions.binary_search_by_key(&pos, |d| d.pos).ok())
        .and_then(|at| state.decisions.get(at));
    let matches = decided.is_some_and(|decided| {
        let approver = state.meta(decided.pos).map(|meta| meta.actor);
        decided.decision == Decision::Exception
            && granted.grant_key == decided.key.0
            && granted.expires_ms == decided.expires_ms
            && state.names.find(&granted.owner) == Some(decided.exception_owner)
            && state.names.find(&granted.approver) == approver
    });
    tallies.expect(Check::I25, matches, || {
        format!(
            "{} does not say what its decision says",
            state.entry(exception.pos)
        )
    });
}
