//! Tampering with when things were said, by somebody who holds every key: proofs, rules and decisions that are older or younger than
//! what they are cited for (T54).

use std::io;

use counterfoil_evidence::catalogue::Payload;
use counterfoil_evidence::leaf::{SourceTag, media_type};
use counterfoil_evidence::v1::{self, SyncMode, SyncPurpose, SyncState, TypeCounts};
use counterfoil_tlog::hash::{empty_root, sha256};
use counterfoil_tlog::sorted_set::SortedSet;

use super::files::{BundleFiles, other};
use super::forger::{Edit, Forger};
use super::keys::StolenKeys;
use super::mutators::Position;
use super::stories::{pick, survey, survey_by_hash};
use crate::bundle::path;

const DAY_MS: i64 = 86_400_000;
const SYNC: &str = "syncs/before-anything-was-there";

/// The grant of an item that ended undecided: voided, or else lapsed.
fn undecided(files: &BundleFiles, position: Position) -> io::Result<Option<Vec<u8>>> {
    let voided = survey(files, |_, payload| match payload {
        Payload::ReviewItemVoided(voided) => Some(voided.grant_key),
        _ => None,
    })?;
    let lapsed = survey(files, |_, payload| match payload {
        Payload::ReviewItemLapsed(lapsed) => Some(lapsed.grant_key),
        _ => None,
    })?;
    Ok(pick(&voided, position).or_else(|| pick(&lapsed, position)))
}

/// An item is voided with a sync from before the population was taken, when nothing was there yet.
pub(super) fn void_with_an_older_sync(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let Some(key) = undecided(files, position)? else {
        return Ok(false);
    };
    let nothing = sha256(b"").0;
    files.write(&format!("{}{}", path::BLOBS, hex::encode(nothing)), b"")?;
    Forger::new(files, keys).rewrite(|scene| {
        let Payload::SourceRegistered(source) = &*scene.payload else {
            return Ok(Edit::Keep);
        };
        if !key.starts_with(&SourceTag::of(&source.source).0) {
            return Ok(Edit::Keep);
        }
        let sync = empty_sync(source, scene.record.occurred_at_ms);
        let mut record = scene.record.clone();
        record.blob = vec![v1::BlobRef {
            sha256: nothing.to_vec(),
            size: 0,
            media_type: media_type::GRANT_SET.to_owned(),
        }];
        let sync = Payload::SourceSyncSealed(sync);
        Ok(Edit::Follow(vec![(record, sync)]))
    })?;
    let absence_proof = SortedSet::from_leaves(Vec::new(), 40, 74)
        .and_then(|set| set.prove(&key))
        .map_err(other)?
        .to_bytes();
    let hashes = survey_by_hash(files, |hash, _, payload| match payload {
        Payload::SourceSyncSealed(sync) if sync.sync == SYNC => Some(hash.to_vec()),
        _ => None,
    })?;
    let Some(sync_record_hash) = hashes.into_iter().next() else {
        return Ok(false);
    };
    Forger::new(files, keys).rewrite(|scene| {
        let (campaign, item, grant_key) = match scene.payload.clone() {
            Payload::ReviewItemVoided(end) => (end.campaign, end.item, end.grant_key),
            Payload::ReviewItemLapsed(end) => (end.campaign, end.item, end.grant_key),
            _ => return Ok(Edit::Keep),
        };
        if grant_key == key {
            *scene.payload = Payload::ReviewItemVoided(v1::ReviewItemVoided {
                campaign,
                item,
                grant_key,
                sync_record_hash: sync_record_hash.clone(),
                absence_proof: absence_proof.clone(),
            });
        }
        Ok(Edit::Keep)
    })?;
    Ok(true)
}

fn empty_sync(source: &v1::SourceRegistered, at_ms: i64) -> v1::SourceSyncSealed {
    v1::SourceSyncSealed {
        sync: SYNC.to_owned(),
        source: source.source.clone(),
        mode: SyncMode::Full.into(),
        purpose: SyncPurpose::Inventory.into(),
        state: SyncState::Complete.into(),
        started_ms: at_ms,
        ended_ms: at_ms,
        watermark_hash: vec![0; 32],
        pages: 1,
        counts: Some(TypeCounts::default()),
        control_totals: Some(TypeCounts::default()),
        set_root: empty_root().0.to_vec(),
        reader_principal: source.reader_principal.clone(),
        ..v1::SourceSyncSealed::default()
    }
}

/// The rules are written when everything has been decided; they say that they were there before.
pub(super) fn publish_policy_last(
    files: &BundleFiles,
    keys: &StolenKeys,
    _: Position,
) -> io::Result<bool> {
    let cited = survey(files, |record, payload| match payload {
        Payload::ReviewDecided(_) => record.accountability.as_ref().map(|a| a.policy.clone()),
        _ => None,
    })?;
    let Some(cited) = pick(&cited, Position::First) else {
        return Ok(false);
    };
    let policy = |payload: &Payload| matches!(payload, Payload::PolicyBundlePublished(found) if found.bundle_hash == cited);
    tell_last(files, keys, policy)
}

/// A right is granted when everything has been decided; it says that it was there before.
pub(super) fn grant_right_last(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let cited = survey(files, |record, payload| match payload {
        Payload::ReviewDecided(_) => record.accountability.as_ref().map(|a| a.authority.clone()),
        _ => None,
    })?;
    let Some(before) = pick(&cited, position) else {
        return Ok(false);
    };
    let rights = || {
        survey_by_hash(files, |hash, _, payload| match payload {
            Payload::DecisionRightGranted(right) => Some((hash.to_vec(), right.right)),
            _ => None,
        })
    };
    let Some((_, right)) = rights()?.into_iter().find(|(hash, _)| *hash == before) else {
        return Ok(false);
    };
    let granted = |payload: &Payload| matches!(payload, Payload::DecisionRightGranted(found) if found.right == right);
    if !tell_last(files, keys, granted)? {
        return Ok(false);
    }
    let Some((after, _)) = rights()?.into_iter().find(|(_, found)| *found == right) else {
        return Ok(false);
    };
    Forger::new(files, keys).rewrite(|scene| {
        if let Some(accountability) = &mut scene.record.accountability
            && accountability.authority == before
        {
            accountability.authority.clone_from(&after);
        }
        Ok(Edit::Keep)
    })?;
    Ok(true)
}

/// Moves a record to where a campaign has been closed, and that to a day later.
fn tell_last(
    files: &BundleFiles,
    keys: &StolenKeys,
    moved: impl Fn(&Payload) -> bool,
) -> io::Result<bool> {
    let closes = survey(files, |_, payload| match payload {
        Payload::CampaignClosed(_) => Some(()),
        _ => None,
    })?;
    if closes.is_empty() {
        return Ok(false);
    }
    let mut kept = None;
    let mut later = false;
    Forger::new(files, keys).rewrite(|scene| {
        let closes = matches!(scene.payload, Payload::CampaignClosed(_)) && !later;
        later |= closes;
        if later {
            *scene.recorded_at_ms += DAY_MS;
        }
        if moved(scene.payload) {
            kept = Some((scene.record.clone(), scene.payload.clone()));
            return Ok(Edit::Drop);
        }
        if closes {
            return Ok(Edit::Follow(kept.take().into_iter().collect()));
        }
        Ok(Edit::Keep)
    })?;
    Ok(later)
}

/// Decisions that are dated to before their right was revoked, and came into the log a day after that.
pub(super) fn decide_after_the_end(
    files: &BundleFiles,
    keys: &StolenKeys,
    position: Position,
) -> io::Result<bool> {
    let decided = survey(files, |record, payload| match payload {
        Payload::ReviewDecided(_) => Some((record.actor.clone(), record.occurred_at_ms)),
        _ => None,
    })?;
    let Some((actor, _)) = pick(&decided, position) else {
        return Ok(false);
    };
    let last_ms = decided
        .iter()
        .filter(|(who, _)| *who == actor)
        .map(|(_, at_ms)| *at_ms)
        .max()
        .unwrap_or_default();
    let mut later = false;
    Forger::new(files, keys).rewrite(|scene| {
        later |= matches!(scene.payload, Payload::CampaignDefined(_));
        if later {
            *scene.recorded_at_ms += DAY_MS;
        }
        match &*scene.payload {
            Payload::DecisionRightGranted(right) if right.grantee == actor => {
                let revoked = v1::DecisionRightRevoked {
                    right: right.right.clone(),
                    effective_ms: last_ms + 1,
                };
                let revoked = Payload::DecisionRightRevoked(revoked);
                Ok(Edit::Follow(vec![(scene.record.clone(), revoked)]))
            }
            _ => Ok(Edit::Keep),
        }
    })?;
    Ok(later)
}
