//! Tampering by somebody who holds every key and rewrites history: only what the records say gives it away (T53 to T55).

use std::io;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::{
    DISPOSITION_LEAF_LEN, GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantKey, SourceTag, media_type,
};
use counterfoil_evidence::v1::{self, Decision, DispositionCounts};

use super::files::BundleFiles;
use super::forger::{Edit, Forger, Scene};
use super::keys::StolenKeys;
use super::mutators::Position;

/// The element of a list that a position means.
pub(super) fn pick<T: Clone>(list: &[T], position: Position) -> Option<T> {
    let at = match position {
        Position::First => 0,
        Position::Middle => list.len() / 2,
        Position::Last => list.len().checked_sub(1)?,
    };
    list.get(at).cloned()
}

/// What a look at the log finds, record by record.
pub(super) fn survey<T>(
    files: &BundleFiles,
    mut look: impl FnMut(&v1::Record, Payload) -> Option<T>,
) -> io::Result<Vec<T>> {
    survey_by_hash(files, |_, record, payload| look(record, payload))
}

/// The same, with the hash of each record.
pub(super) fn survey_by_hash<T>(
    files: &BundleFiles,
    mut look: impl FnMut([u8; 32], &v1::Record, Payload) -> Option<T>,
) -> io::Result<Vec<T>> {
    use prost::Message as _;
    let mut found = Vec::new();
    for bytes in files.entries()? {
        let entry = v1::Entry::decode(bytes.as_slice()).map_err(super::files::other)?;
        let hash = counterfoil_evidence::record::record_hash(&entry.record);
        let record = v1::Record::decode(entry.record.as_slice()).map_err(super::files::other)?;
        let payload =
            counterfoil_evidence::catalogue::decode_payload(&record.r#type, &record.payload);
        if let Some(Ok(payload)) = payload {
            found.extend(look(hash, &record, payload));
        }
    }
    Ok(found)
}

/// Rewrites history around one of the things that a look at the log finds. `false`: there is none.
fn about_one<T: Clone>(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
    look: impl FnMut(&v1::Record, Payload) -> Option<T>,
    mut edit: impl FnMut(&mut Scene<'_>, &T) -> Edit,
) -> io::Result<bool> {
    let Some(one) = pick(&survey(files, look)?, position) else {
        return Ok(false);
    };
    Forger::new(files, keys).rewrite(|scene| Ok(edit(scene, &one)))?;
    Ok(true)
}

/// The grant whose removal a record says was proved.
fn ended_grant(_: &v1::Record, payload: Payload) -> Option<Vec<u8>> {
    match payload {
        Payload::GrantEnded(ended) => Some(ended.grant_key),
        _ => None,
    }
}

/// Whose grant a record of a review is about.
fn grant_of(payload: &Payload) -> Option<&[u8]> {
    match payload {
        Payload::ReviewItemRouted(routed) => routed.leaf.get(..GRANT_KEY_LEN),
        Payload::ReviewDecided(decided) => Some(&decided.grant_key),
        Payload::ReviewItemLapsed(lapsed) => Some(&lapsed.grant_key),
        Payload::ReviewItemVoided(voided) => Some(&voided.grant_key),
        Payload::ExceptionGranted(granted) => Some(&granted.grant_key),
        _ => None,
    }
}

/// A blob of leaves without the one of a grant.
fn without(blob: &[u8], leaf_len: usize, key: &[u8]) -> Vec<u8> {
    blob.chunks_exact(leaf_len)
        .filter(|leaf| !leaf.starts_with(key))
        .flatten()
        .copied()
        .collect()
}

/// Somebody's accepted grant is never shown to anybody: neither item nor decision nor disposition is left.
pub(super) fn shrink_population(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let accepted = survey(files, |_, payload| match payload {
        Payload::ReviewDecided(d) if d.decision() == Decision::Accept => Some(d.grant_key),
        _ => None,
    })?;
    let Some(key) = pick(&accepted, position) else {
        return Ok(false);
    };
    Forger::new(files, keys).rewrite(|scene| {
        if grant_of(scene.payload) == Some(&key) {
            return Ok(Edit::Drop);
        }
        match scene.payload.clone() {
            Payload::CampaignStaged(mut staged) => {
                let blob = without(&scene.blob(media_type::POPULATION)?, GRANT_LEAF_LEN, &key);
                staged.population_root =
                    scene.set_blob(media_type::POPULATION, &blob, GRANT_LEAF_LEN)?;
                staged.population_count = (blob.len() / GRANT_LEAF_LEN) as u64;
                *scene.payload = Payload::CampaignStaged(staged);
            }
            Payload::StageClosed(mut closed) => {
                closed.outcomes_root = fewer_dispositions(scene, &key)?;
                one_accepted_less(&mut closed.counts);
                *scene.payload = Payload::StageClosed(closed);
            }
            Payload::CampaignClosed(mut closed) => {
                closed.disposition_root = fewer_dispositions(scene, &key)?;
                one_accepted_less(&mut closed.counts);
                closed.population_count -= 1;
                *scene.payload = Payload::CampaignClosed(closed);
            }
            _ => {}
        }
        Ok(Edit::Keep)
    })?;
    Ok(true)
}

fn fewer_dispositions(scene: &mut Scene<'_>, key: &[u8]) -> io::Result<Vec<u8>> {
    let blob = without(
        &scene.blob(media_type::DISPOSITIONS)?,
        DISPOSITION_LEAF_LEN,
        key,
    );
    scene.set_blob(media_type::DISPOSITIONS, &blob, DISPOSITION_LEAF_LEN)
}

fn one_accepted_less(counts: &mut Option<DispositionCounts>) {
    if let Some(counts) = counts {
        counts.accepted = counts.accepted.saturating_sub(1);
    }
}

pub(super) fn decide_after_close(
    files: &BundleFiles,
    keys: &StolenKeys,
    _: Position,
) -> io::Result<bool> {
    let mut last: Option<(v1::Record, Payload)> = None;
    let mut done = false;
    Forger::new(files, keys).rewrite(|scene| {
        match scene.payload {
            Payload::ReviewDecided(_) => {
                last = Some((scene.record.clone(), scene.payload.clone()));
            }
            Payload::StageClosed(_) => {
                if let Some(again) = last.take() {
                    done = true;
                    return Ok(Edit::Follow(vec![again]));
                }
            }
            _ => {}
        }
        Ok(Edit::Keep)
    })?;
    Ok(done)
}

pub(super) fn remove_decision(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let decided = |_: &v1::Record, payload| match payload {
        Payload::ReviewDecided(decided) => Some(decided.item),
        _ => None,
    };
    about_one(files, keys, position, decided, |scene, item| {
        match scene.payload {
            Payload::ReviewDecided(decided) if decided.item == *item => Edit::Drop,
            _ => Edit::Keep,
        }
    })
}

/// An item that was decided also lapses.
pub(super) fn end_twice(files: &BundleFiles, keys: &StolenKeys, _: Position) -> io::Result<bool> {
    let rules = survey(files, |_, payload| match payload {
        Payload::CampaignDefined(defined) => Some(defined.lapse_rule()),
        _ => None,
    })?;
    let Some(rule) = rules.first().copied() else {
        return Ok(false);
    };
    let mut done = false;
    Forger::new(files, keys).rewrite(|scene| {
        let Payload::ReviewDecided(decided) = &*scene.payload else {
            return Ok(Edit::Keep);
        };
        if done {
            return Ok(Edit::Keep);
        }
        done = true;
        let lapsed = v1::ReviewItemLapsed {
            campaign: decided.campaign.clone(),
            item: decided.item.clone(),
            grant_key: decided.grant_key.clone(),
            lapse_rule: rule.into(),
            disposition: match rule {
                v1::LapseRule::Revoke => v1::Disposition::LapsedRevoke.into(),
                _ => v1::Disposition::LapsedRetained.into(),
            },
        };
        let record = scene.record.clone();
        Ok(Edit::Follow(vec![(
            record,
            Payload::ReviewItemLapsed(lapsed),
        )]))
    })?;
    Ok(done)
}

/// The item had been given to somebody else.
pub(super) fn decide_unassigned(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let decided = |_: &v1::Record, payload| match payload {
        Payload::ReviewDecided(decided) => Some(decided.item),
        _ => None,
    };
    about_one(files, keys, position, decided, |scene, item| {
        if let Payload::ReviewItemRouted(routed) = scene.payload
            && routed.item == *item
        {
            routed.to.push_str("-other");
        }
        Edit::Keep
    })
}

/// The item is about the reviewer's own access.
pub(super) fn decide_on_oneself(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let tags = survey(files, |_, payload| match payload {
        Payload::PrincipalRegistered(p) if !p.identity_tag.is_empty() => {
            Some((p.principal, p.identity_tag))
        }
        _ => None,
    })?;
    let decided = |record: &v1::Record, payload| match payload {
        Payload::ReviewDecided(decided) => {
            let tag = tags.iter().find(|(who, _)| *who == record.actor)?.1.clone();
            Some((decided.item, tag))
        }
        _ => None,
    };
    about_one(files, keys, position, decided, |scene, (item, tag)| {
        if let Payload::ReviewItemRouted(routed) = scene.payload
            && routed.item == *item
        {
            routed.subject_identity_tag.clone_from(tag);
        }
        Edit::Keep
    })
}

pub(super) fn expire_rights(
    files: &BundleFiles,
    keys: &StolenKeys,
    _: Position,
) -> io::Result<bool> {
    let decided = |record: &v1::Record, payload| match payload {
        Payload::ReviewDecided(_) => Some(record.occurred_at_ms),
        _ => None,
    };
    about_one(files, keys, Position::First, decided, |scene, first_ms| {
        if let Payload::DecisionRightGranted(right) = scene.payload {
            right.valid_to_ms = right.valid_to_ms.min(*first_ms);
        }
        Edit::Keep
    })
}

pub(super) fn change_counts(
    files: &BundleFiles,
    keys: &StolenKeys,
    _: Position,
) -> io::Result<bool> {
    let mut done = false;
    Forger::new(files, keys).rewrite(|scene| {
        if let Payload::CampaignClosed(closed) = scene.payload
            && let Some(counts) = &mut closed.counts
        {
            // What lapsed is told as if a human had decided it.
            done |= counts.lapsed_retained > 0 || counts.lapsed_revoke > 0;
            counts.accepted += std::mem::take(&mut counts.lapsed_retained);
            counts.revoked += std::mem::take(&mut counts.lapsed_revoke);
        }
        Ok(Edit::Keep)
    })?;
    Ok(done)
}

pub(super) fn remove_read_back(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    about_one(
        files,
        keys,
        position,
        ended_grant,
        |scene, key| match scene.payload {
            Payload::EffectVerified(verified) if verified.grant_key == *key => Edit::Drop,
            _ => Edit::Keep,
        },
    )
}

/// The command went out an hour after the target had been read.
pub(super) fn early_read_back(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let intents = survey(files, |_, payload| match payload {
        Payload::ActionIntended(i) => Some((i.grant_key, i.remediation, i.action)),
        _ => None,
    })?;
    about_one(files, keys, position, ended_grant, |scene, key| {
        if let Payload::ActionAttempted(attempted) = scene.payload {
            let of_grant = intents.iter().any(|(of, remediation, action)| {
                of == key && *remediation == attempted.remediation && *action == attempted.action
            });
            if of_grant {
                attempted.ended_ms += 3_600_000;
            }
        }
        Edit::Keep
    })
}

/// Access that came back is in the set that was read again, and nobody says so. If it never came back, it does now.
pub(super) fn hide_regression(
    files: &BundleFiles,
    keys: &StolenKeys,
    _: Position,
) -> io::Result<bool> {
    let regressions = survey(files, |_, payload| match payload {
        Payload::RegressionDetected(detected) => Some(detected.grant_key),
        _ => None,
    })?;
    if !regressions.is_empty() {
        Forger::new(files, keys).rewrite(|scene| match scene.payload {
            Payload::RegressionDetected(_) => Ok(Edit::Drop),
            _ => Ok(Edit::Keep),
        })?;
        return Ok(true);
    }
    let ended = survey(files, |_, payload| match payload {
        Payload::GrantEnded(ended) => GrantKey::try_from(ended.grant_key.as_slice()).ok(),
        _ => None,
    })?;
    let discharges = survey(files, |_, payload| match payload {
        Payload::ObligationDischarged(discharged) => Some(discharged.evidence_record_hash),
        _ => None,
    })?;
    let mut done = false;
    Forger::new(files, keys).rewrite(|scene| {
        let Payload::SourceSyncSealed(sealed) = scene.payload.clone() else {
            return Ok(Edit::Keep);
        };
        let persistence = sealed.purpose() == v1::SyncPurpose::Persistence;
        let tag = SourceTag::of(&sealed.source);
        let back = ended.iter().find(|key| key.source_tag() == tag);
        if let Some(key) = back.filter(|_| persistence && !discharges.is_empty()) {
            bring_back(scene, sealed, *key)?;
            done = true;
        }
        Ok(Edit::Keep)
    })?;
    Ok(done)
}

fn bring_back(
    scene: &mut Scene<'_>,
    mut sealed: v1::SourceSyncSealed,
    key: GrantKey,
) -> io::Result<()> {
    let blob = scene.blob(media_type::GRANT_SET)?;
    let mut leaves: Vec<&[u8]> = blob.chunks_exact(GRANT_LEAF_LEN).collect();
    let mut leaf = key.0.to_vec();
    leaf.resize(GRANT_LEAF_LEN, 0);
    leaves.push(&leaf);
    leaves.sort_unstable();
    sealed.set_root = scene.set_blob(media_type::GRANT_SET, &leaves.concat(), GRANT_LEAF_LEN)?;
    sealed.set_count += 1;
    let stated = [&mut sealed.counts, &mut sealed.control_totals];
    for counts in stated.into_iter().flatten() {
        counts.grants_direct += 1;
    }
    *scene.payload = Payload::SourceSyncSealed(sealed);
    Ok(())
}

pub(super) fn faster_removal(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    about_one(files, keys, position, ended_grant, |scene, key| {
        if let Payload::GrantEnded(ended) = scene.payload
            && ended.grant_key == *key
        {
            ended.decided_to_attempted_ms /= 2;
            ended.attempted_to_verified_ms -= 1;
        }
        Edit::Keep
    })
}

pub(super) fn better_median(
    files: &BundleFiles,
    keys: &StolenKeys,
    _: Position,
) -> io::Result<bool> {
    let mut done = false;
    Forger::new(files, keys).rewrite(|scene| {
        if let Payload::RemediationClosed(closed) = scene.payload {
            done |= closed.decided_to_verified_p50_ms > 1;
            closed.decided_to_verified_p50_ms /= 2;
        }
        Ok(Edit::Keep)
    })?;
    Ok(done)
}
