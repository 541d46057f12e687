//! The end of a campaign: everybody's item has one end, and what is not proved gone is debt.

use std::collections::HashMap;

use super::Blobs;
use super::CLOCK_SKEW_MS;
use super::check::{Check, Tallies};
use super::ending::closes;
use super::persistence;
use super::returned::Readings;
use super::sets;
use super::state::{At, Campaign, Close, Digest, Pos, State};
use crate::leaf::{
    DEBT_LEAF_LEN, DISPOSITION_LEAF_LEN, DebtLeaf, DispositionLeaf, GRANT_KEY_LEN, GRANT_LEAF_LEN,
    GrantKey,
};
use crate::v1::{CampaignOutcome, Disposition, DispositionCounts};

/// Judges the close of every stage and campaign.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    let gone = Gone::collect(state, blobs);
    for campaign in state.campaigns.values() {
        if let Some(closed) = campaign.closed.as_ref().filter(|closed| cancelled(closed)) {
            // Nothing was fixed and nothing was asked of anybody: there is nothing to count.
            if campaign.staged.is_none() && campaign.items.is_empty() {
                continue;
            }
            let decided = campaign
                .items
                .iter()
                .filter_map(|at| state.items.get(*at as usize))
                .any(|item| item.end.is_some());
            tallies.expect(Check::I32, !decided, || {
                format!(
                    "{} is Cancelled after items of it had ended",
                    state.entry(closed.pos)
                )
            });
        }
        for stage in &campaign.stages_closed {
            let close = Stated {
                pos: stage.pos,
                root: &stage.what.record.outcomes_root,
                counts: stage.what.record.counts.unwrap_or_default(),
                blob: stage.what.dispositions,
            };
            judge_close(state, tallies, campaign, &close, blobs);
        }
        if let Some(closed) = &campaign.closed {
            let record = &closed.what.record;
            let close = Stated {
                pos: closed.pos,
                root: &record.disposition_root,
                counts: record.counts.unwrap_or_default(),
                blob: closed.what.dispositions,
            };
            judge_close(state, tallies, campaign, &close, blobs);
            judge_population_count(state, tallies, campaign, closed);
            judge_debt(state, tallies, campaign, closed, &gone, blobs);
        }
    }
}

fn cancelled(close: &At<Close>) -> bool {
    close.what.record.outcome() == CampaignOutcome::Cancelled
}

/// What a close states of the items.
struct Stated<'s> {
    pos: Pos,
    root: &'s [u8],
    counts: DispositionCounts,
    blob: Option<Digest>,
}

fn judge_population_count(
    state: &State,
    tallies: &mut Tallies,
    campaign: &Campaign,
    closed: &At<Close>,
) {
    let staged = campaign
        .staged
        .as_ref()
        .map(|staged| staged.what.record.population_count);
    tallies.expect(
        Check::I28,
        staged == Some(closed.what.record.population_count),
        || {
            format!(
                "{} has another population than was staged",
                state.entry(closed.pos)
            )
        },
    );
}

fn judge_close(
    state: &State,
    tallies: &mut Tallies,
    campaign: &Campaign,
    close: &Stated<'_>,
    blobs: &dyn Blobs,
) {
    tallies.checked(Check::I28);
    let population = campaign
        .staged
        .as_ref()
        .and_then(|staged| blobs.load(&staged.what.population?));
    let dispositions = close.blob.and_then(|digest| blobs.load(&digest));
    let (Some(population), Some(dispositions)) = (population, dispositions) else {
        tallies.skip(
            Check::I28,
            format!(
                "population or dispositions of {} are not in the bundle",
                state.entry(close.pos)
            ),
        );
        return;
    };
    if let Err(why) = recount(state, campaign, close, &population, &dispositions) {
        tallies.fail(Check::I28, format!("{}: {why}", state.entry(close.pos)));
    }
}

fn recount(
    state: &State,
    campaign: &Campaign,
    close: &Stated<'_>,
    population: &[u8],
    dispositions: &[u8],
) -> Result<(), String> {
    let facts = sets::facts(dispositions, GRANT_KEY_LEN, DISPOSITION_LEAF_LEN)?;
    let population_count = sets::leaves(population, GRANT_LEAF_LEN)?.len() as u64;
    if !facts.matches(close.root, population_count) {
        return Err(format!(
            "its {} dispositions are not the {population_count} of the population, or have another root",
            facts.count
        ));
    }
    let ends: HashMap<GrantKey, (Pos, Disposition)> = campaign
        .items
        .iter()
        .filter_map(|at| state.items.get(*at as usize))
        .filter_map(|item| Some((item.leaf.key, item.end?)))
        .collect();
    let keys = sets::leaves(population, GRANT_LEAF_LEN)?;
    let mut counts = DispositionCounts::default();
    for (leaf, member) in sets::leaves(dispositions, DISPOSITION_LEAF_LEN)?.zip(keys) {
        let key = GrantKey::try_from(member.get(..GRANT_KEY_LEN).unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let (end, disposition) = ends.get(&key).ok_or("an item of it has no end")?;
        let expected = DispositionLeaf {
            key,
            disposition: *disposition,
            record_hash: state.meta(*end).map_or([0; 32], |meta| meta.hash),
        };
        if *end >= close.pos || leaf != expected.to_bytes() {
            return Err(format!(
                "it says otherwise than {} how an item ended",
                state.entry(*end)
            ));
        }
        count(&mut counts, *disposition);
    }
    if counts != close.counts {
        return Err("its counts do not recompute".to_owned());
    }
    Ok(())
}

fn count(counts: &mut DispositionCounts, disposition: Disposition) {
    let field = match disposition {
        Disposition::Accepted => &mut counts.accepted,
        Disposition::Revoked => &mut counts.revoked,
        Disposition::Reduced => &mut counts.reduced,
        Disposition::Excepted => &mut counts.excepted,
        Disposition::LapsedRevoke => &mut counts.lapsed_revoke,
        Disposition::LapsedRetained => &mut counts.lapsed_retained,
        Disposition::Voided => &mut counts.voided,
        Disposition::Unspecified => return,
    };
    *field += 1;
}

/// A reading that did not show a grant any more.
struct Read {
    observed_ms: i64,
    /// Where it is on record.
    sync: Pos,
    /// Where it is on record that access came back.
    back: Option<Pos>,
    /// Whether it is, or may still be, read again as its plan says.
    watched: bool,
}

/// Grants with a proved removal.
pub(super) struct Gone<'s> {
    state: &'s State,
    reads: HashMap<GrantKey, Vec<Read>>,
    readings: Readings<'s>,
}

impl<'s> Gone<'s> {
    pub(super) fn collect(state: &'s State, blobs: &'s dyn Blobs) -> Self {
        let mut reads: HashMap<GrantKey, Vec<Read>> = HashMap::new();
        for action in &state.actions {
            let Some(plan) = state.plans.get(&action.remediation) else {
                continue;
            };
            for effect in action.effects.iter().filter(|effect| closes(plan, effect)) {
                let Some((sync, _)) = state.sync(&effect.sync) else {
                    continue;
                };
                let hash = state.meta(effect.pos).map(|meta| meta.hash);
                let back = action
                    .regressions
                    .iter()
                    .find(|regression| Some(regression.closed) == hash)
                    .map(|regression| regression.pos);
                reads.entry(action.key).or_default().push(Read {
                    observed_ms: effect.observed_ms,
                    sync,
                    back,
                    watched: persistence::is_watched(state, plan, effect),
                });
            }
        }
        let readings = Readings::collect(state, blobs);
        Self {
            state,
            reads,
            readings,
        }
    }

    /// Whether a grant whose removal was decided is proved gone, and is not there again by the newest set of its source.
    pub(super) fn now(&self, key: &GrantKey, decided_ms: i64) -> bool {
        let read = self.reads.get(key).is_some_and(|reads| {
            reads.iter().any(|read| {
                read.observed_ms >= decided_ms
                    && read.back.is_none()
                    && !self.readings.there_again(key, read.sync)
            })
        });
        read || self.state.seen_gone.get(key).is_some_and(|seen| {
            seen.iter().any(|seen| {
                seen.began_ms >= decided_ms && !self.readings.there_again(key, seen.sync)
            })
        })
    }

    /// Whether a grant whose removal was decided was proved gone when something was closed, and had not come back.
    fn by(&self, key: &GrantKey, decided_ms: i64, close: Pos) -> bool {
        let read = self.read_by(key, decided_ms, close).next().is_some();
        read || self.state.seen_gone.get(key).is_some_and(|seen| {
            seen.iter().any(|seen| {
                seen.began_ms >= decided_ms
                    && seen.run < close
                    && !self.readings.known_again(key, seen.sync, close)
            })
        })
    }

    fn read_by(&self, key: &GrantKey, decided_ms: i64, close: Pos) -> impl Iterator<Item = &Read> {
        let until_ms = self.state.occurred_ms(close).saturating_add(CLOCK_SKEW_MS);
        let reads = self.reads.get(key).into_iter().flatten();
        reads.filter(move |read| {
            (decided_ms..=until_ms).contains(&read.observed_ms)
                && read.back.is_none_or(|back| back > close)
                && !self.readings.known_again(key, read.sync, close)
        })
    }

    /// Whether nobody looks again at what a close counts as gone.
    fn unwatched(&self, key: &GrantKey, decided_ms: i64, close: Pos) -> bool {
        let mut reads = self.read_by(key, decided_ms, close).peekable();
        reads.peek().is_some() && !reads.any(|read| read.watched)
    }
}

fn judge_debt(
    state: &State,
    tallies: &mut Tallies,
    campaign: &Campaign,
    closed: &At<Close>,
    gone: &Gone<'_>,
    blobs: &dyn Blobs,
) {
    tallies.checked(Check::I32);
    let record = &closed.what.record;
    let clean = record.outcome() == CampaignOutcome::Closed;
    tallies.expect(Check::I32, clean == (record.debt_count == 0), || {
        format!(
            "{} is {:?} with a debt of {}",
            state.entry(closed.pos),
            record.outcome(),
            record.debt_count
        )
    });
    let Some(debt) = closed.what.debt.and_then(|digest| blobs.load(&digest)) else {
        tallies.skip(
            Check::I32,
            format!(
                "the debt of {} is not in the bundle",
                state.entry(closed.pos)
            ),
        );
        return;
    };
    if let Err(why) = recount_debt(state, campaign, closed, gone, &debt) {
        tallies.fail(Check::I32, format!("{}: {why}", state.entry(closed.pos)));
        return;
    }
    for (end, key) in removals(state, campaign) {
        let listed = sets::find(&debt, DEBT_LEAF_LEN, &key.0).is_some();
        let unwatched = !listed && gone.unwatched(&key, state.occurred_ms(end), closed.pos);
        tallies.expect(Check::I37, !unwatched, || {
            format!(
                "{} counts the removal that {} decided, which nobody reads again",
                state.entry(closed.pos),
                state.entry(end)
            )
        });
    }
}

/// Items of which it was decided that the grant goes: by which record, and which grant.
fn removals<'s>(state: &'s State, campaign: &'s Campaign) -> impl Iterator<Item = (Pos, GrantKey)> {
    let items = campaign.items.iter();
    items
        .filter_map(|at| state.items.get(*at as usize))
        .filter_map(|item| {
            let (end, disposition) = item.end?;
            removes(disposition).then_some((end, item.leaf.key))
        })
}

fn removes(disposition: Disposition) -> bool {
    matches!(
        disposition,
        Disposition::Revoked | Disposition::Reduced | Disposition::LapsedRevoke
    )
}

fn recount_debt(
    state: &State,
    campaign: &Campaign,
    closed: &At<Close>,
    gone: &Gone<'_>,
    debt: &[u8],
) -> Result<(), String> {
    let record = &closed.what.record;
    let facts = sets::facts(debt, GRANT_KEY_LEN, DEBT_LEAF_LEN)?;
    if !facts.matches(&record.debt_root, record.debt_count) {
        return Err("its debt has another root or count".to_owned());
    }
    let mut listed = 0;
    for item in campaign
        .items
        .iter()
        .filter_map(|at| state.items.get(*at as usize))
    {
        let Some((end, disposition)) = item.end else {
            continue;
        };
        let key = item.leaf.key;
        let removal = removes(disposition);
        let retained = disposition == Disposition::LapsedRetained;
        let found = sets::find(debt, DEBT_LEAF_LEN, &key.0);
        let owed = DebtLeaf { key, disposition }.to_bytes();
        match found {
            Some(leaf) if leaf == owed && (removal || retained) => listed += 1,
            Some(_) => return Err("it lists a debt that is none".to_owned()),
            None if retained => return Err("it hides an item that nobody decided".to_owned()),
            None if removal => {
                let decided_ms = state.occurred_ms(end);
                if !gone.by(&key, decided_ms, closed.pos) {
                    return Err(format!(
                        "the removal that {} decided is neither verified nor listed as debt",
                        state.entry(end)
                    ));
                }
            }
            None => {}
        }
    }
    if listed != facts.count {
        return Err("it lists debt on grants that were not reviewed".to_owned());
    }
    Ok(())
}
