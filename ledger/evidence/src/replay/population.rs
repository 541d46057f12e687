//! What was to be reviewed: the snapshot, minus exactly what the scope excludes, plus nothing.

use super::Blobs;
use super::authority::campaign_sources;
use super::check::{Check, Tallies};
use super::sets;
use super::state::{At, Campaign, Item, Staged, State};
use crate::leaf::{GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantFlags, GrantLeaf};
use crate::v1;

/// Why a population is not as it should be.
enum Flaw {
    /// It is wrong.
    Wrong(String),
    /// An attachment is not in the bundle.
    Missing(&'static str),
}

impl From<String> for Flaw {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl From<&str> for Flaw {
    fn from(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

/// Judges the population of every campaign and that its items are of it.
pub(super) fn judge(state: &State, tallies: &mut Tallies, blobs: &dyn Blobs) {
    for campaign in state.campaigns.values() {
        let Some(staged) = &campaign.staged else {
            if let Some(item) = campaign.items.first().and_then(|at| item(state, *at)) {
                let name = state.names.text(item.campaign);
                tallies.fail(
                    Check::I27,
                    format!("{name} was reviewed and its population never fixed"),
                );
            }
            continue;
        };
        tallies.checked(Check::I27);
        match population(state, campaign, staged, blobs) {
            Ok(population) => items(state, tallies, campaign, &population),
            Err(Flaw::Wrong(why)) => {
                tallies.fail(Check::I27, format!("{}: {why}", state.entry(staged.pos)));
            }
            Err(Flaw::Missing(what)) => tallies.skip(
                Check::I27,
                format!("{what} of {} is not in the bundle", state.entry(staged.pos)),
            ),
        }
    }
}

fn item(state: &State, at: u32) -> Option<&Item> {
    state.items.get(at as usize)
}

fn population(
    state: &State,
    campaign: &Campaign,
    staged: &At<Staged>,
    blobs: &dyn Blobs,
) -> Result<Vec<u8>, Flaw> {
    let record = &staged.what.record;
    let defined = campaign
        .defined
        .as_ref()
        .filter(|defined| defined.pos < staged.pos)
        .ok_or("the campaign was not defined before")?;
    let (_, snapshot) = state
        .snapshot(&record.snapshot_record_hash)
        .ok_or("cites no sealed snapshot")?;
    if snapshot.snapshot_root != record.snapshot_root {
        return Err("states another root than its snapshot has".into());
    }
    let load = |digest: Option<[u8; 32]>, what| {
        digest
            .and_then(|digest| blobs.load(&digest))
            .ok_or(Flaw::Missing(what))
    };
    let population = load(staged.what.population, "the population")?;
    let exclusions = load(staged.what.exclusions, "what is excluded")?;
    let facts = |blob| sets::facts(blob, GRANT_KEY_LEN, GRANT_LEAF_LEN);
    if !facts(&population)?.matches(&record.population_root, record.population_count) {
        return Err("its population has another root or count".into());
    }
    if !facts(&exclusions)?.matches(&record.exclusions_root, record.exclusions_count) {
        return Err("what it excludes has another root or count".into());
    }
    let scope = campaign_sources(state, campaign);
    let mut included = sets::leaves(&population, GRANT_LEAF_LEN)?;
    let mut excluded = sets::leaves(&exclusions, GRANT_LEAF_LEN)?;
    for source in &snapshot.sources {
        if !scope.contains(&source.source.as_str()) {
            continue;
        }
        let digest = state
            .sync(&source.sync_record_hash)
            .and_then(|(_, sync)| sync.blob);
        let set = load(digest, "the set of a source")?;
        for leaf in sets::leaves(&set, GRANT_LEAF_LEN)? {
            let side = if excludes(&defined.what, leaf)? {
                &mut excluded
            } else {
                &mut included
            };
            if side.next() != Some(leaf) {
                return Err(Flaw::Wrong(format!(
                    "grant {} of the snapshot is not where the scope puts it",
                    hex(leaf)
                )));
            }
        }
    }
    if included.next().is_some() || excluded.next().is_some() {
        return Err("it has grants that the snapshot has not".into());
    }
    Ok(population)
}

/// Whether a campaign's scope leaves a grant out.
fn excludes(defined: &v1::CampaignDefined, leaf: &[u8]) -> Result<bool, String> {
    let flags = GrantLeaf::try_from(leaf)
        .map_err(|error| error.to_string())?
        .flags;
    let inherited = !defined.include_inherited && flags.contains(GrantFlags::INHERITED);
    let plain = defined.privileged_only && !flags.contains(GrantFlags::PRIVILEGED);
    Ok(inherited || plain)
}

fn items(state: &State, tallies: &mut Tallies, campaign: &Campaign, population: &[u8]) {
    let mut keys = Vec::with_capacity(campaign.items.len());
    for item in campaign.items.iter().filter_map(|at| item(state, *at)) {
        keys.push(item.leaf.key);
        let found = sets::find(population, GRANT_LEAF_LEN, &item.leaf.key.0);
        let shown = item.leaf.to_bytes();
        tallies.expect(
            Check::I27,
            found.is_some_and(|leaf| item.represented || leaf == shown),
            || {
                format!(
                    "{} is not in the population as it was shown",
                    state.names.text(item.name)
                )
            },
        );
    }
    keys.sort_unstable();
    let before = keys.len();
    keys.dedup();
    tallies.expect(
        Check::I28,
        keys.len() == before,
        || "a grant has more than one item in a campaign",
    );
}

/// The first bytes of a leaf's key, for people.
fn hex(leaf: &[u8]) -> String {
    leaf.iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
