//! What a sealed read-back says of an action. Nothing is believed: every proof is verified against the set's root first.

use counterfoil_evidence::{
    leaf::GrantKey,
    v1::{EffectClaim, Operation},
};
use counterfoil_tlog::{
    Hash,
    sorted_set::{SetProof, verify_membership, verify_non_membership},
};

use super::{
    entities::Action,
    target::{Proof, Proofs},
};

/// What was read of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The grant is gone, with the proof; for REDUCE the narrower one is there, with its proof.
    Done {
        claim: EffectClaim,
        proof: Vec<u8>,
        kept_proof: Vec<u8>,
    },
    /// The grant is there, with the proof.
    Present { proof: Vec<u8> },
    /// The grant is gone, and so is the one that had to stay.
    KeptIsGone,
}

/// Why a read-back counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the source could not be read completely")]
    Partial,
    #[error("it was read by {0}, who also wrote")]
    SameReader(String),
    #[error("it was read before the action had ended")]
    TooEarly,
    #[error("the proof of a grant is missing")]
    Missing,
    #[error("the proof of a grant does not verify: {0}")]
    Proof(String),
}

/// The keys whose proofs an action needs.
pub(crate) fn keys_of(action: &Action) -> impl Iterator<Item = GrantKey> + use<> {
    let kept = match action.operation {
        Operation::Reduce => action.decision.kept,
        _ => None,
    };
    std::iter::once(action.key).chain(kept)
}

/// Judges what was read of an action.
pub(crate) fn judge(action: &Action, proofs: &Proofs) -> Result<Reading, Unusable> {
    if !proofs.complete {
        return Err(Unusable::Partial);
    }
    if proofs.reader == action.executor {
        return Err(Unusable::SameReader(proofs.reader.clone()));
    }
    if proofs.started_ms < action.ended_ms {
        return Err(Unusable::TooEarly);
    }
    let own = verified(action.key, proofs)?;
    if own.present {
        let proof = own.bytes.clone();
        return Ok(Reading::Present { proof });
    }
    let kept = match (action.operation, action.decision.kept) {
        (Operation::Reduce, Some(kept)) => kept,
        _ => {
            return Ok(Reading::Done {
                claim: EffectClaim::Absent,
                proof: own.bytes.clone(),
                kept_proof: Vec::new(),
            });
        }
    };
    let stays = verified(kept, proofs)?;
    if !stays.present {
        return Ok(Reading::KeptIsGone);
    }
    Ok(Reading::Done {
        claim: EffectClaim::Narrowed,
        proof: own.bytes.clone(),
        kept_proof: stays.bytes.clone(),
    })
}

fn verified(key: GrantKey, proofs: &Proofs) -> Result<&Proof, Unusable> {
    let proof = proofs.proofs.get(&key).ok_or(Unusable::Missing)?;
    let refused =
        |error: counterfoil_tlog::sorted_set::SetError| Unusable::Proof(error.to_string());
    let parsed = SetProof::from_bytes(&proof.bytes).map_err(refused)?;
    let root = Hash(proofs.set_root);
    if proof.present {
        verify_membership(&root, proofs.set_count, &key.0, &parsed).map_err(refused)?;
    } else {
        verify_non_membership(&root, proofs.set_count, &key.0, &parsed).map_err(refused)?;
    }
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use counterfoil_evidence::leaf::{
        GRANT_KEY_LEN, GRANT_LEAF_LEN, GrantFlags, GrantLeaf, SourceTag,
    };
    use counterfoil_tlog::sorted_set::SortedSet;

    use super::*;
    use crate::model::state::tests::action;

    fn key(number: u32) -> GrantKey {
        let account = format!("accounts/{number}");
        GrantKey::new(SourceTag::of("sources/a"), &account, "entitlements/e", &[])
    }

    /// Proofs of `asked` against a set that holds `held`.
    fn proofs(held: &[u32], asked: &[u32]) -> Proofs {
        let mut leaves: Vec<[u8; GRANT_LEAF_LEN]> = held
            .iter()
            .map(|number| GrantLeaf {
                key: key(*number),
                flags: GrantFlags::default(),
                value: [1; 32],
            })
            .map(|leaf| leaf.to_bytes())
            .collect();
        leaves.sort_unstable();
        let set = SortedSet::from_leaves(leaves.concat(), GRANT_KEY_LEN, GRANT_LEAF_LEN).unwrap();
        let proofs = asked.iter().map(|number| {
            let key = key(*number);
            let proof = Proof {
                present: held.contains(number),
                bytes: set.prove(&key.0).unwrap().to_bytes(),
            };
            (key, proof)
        });
        Proofs {
            record_hash: [3; 32],
            set_root: set.root().root.0,
            set_count: set.count(),
            started_ms: 100,
            ended_ms: 110,
            reader: "connectors/a/reader".to_owned(),
            complete: true,
            proofs: proofs.collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn c22_a_removal_counts_with_its_proof_only() {
        let mut removed = action(key(1));
        removed.ended_ms = 100;
        let read = proofs(&[2, 3], &[1]);
        let reading = judge(&removed, &read).unwrap();
        assert!(matches!(
            reading,
            Reading::Done {
                claim: EffectClaim::Absent,
                ..
            }
        ));

        let mut forged = read.clone();
        forged.set_root[0] ^= 1;
        assert!(matches!(judge(&removed, &forged), Err(Unusable::Proof(_))));
        let mut turned = read.clone();
        turned.proofs.get_mut(&key(1)).unwrap().present = true;
        assert!(matches!(judge(&removed, &turned), Err(Unusable::Proof(_))));
        let mut missing = read;
        missing.proofs.clear();
        assert_eq!(judge(&removed, &missing), Err(Unusable::Missing));
    }

    #[test]
    fn what_was_read_too_early_by_the_writer_or_in_part_counts_for_nothing() {
        let mut removed = action(key(1));
        removed.executor = "connectors/a/writer".to_owned();
        removed.ended_ms = 101;
        let mut read = proofs(&[2], &[1]);
        assert_eq!(judge(&removed, &read), Err(Unusable::TooEarly));
        removed.ended_ms = 100;
        read.reader = removed.executor.clone();
        assert!(matches!(
            judge(&removed, &read),
            Err(Unusable::SameReader(_))
        ));
        read.reader.clear();
        read.complete = false;
        assert_eq!(judge(&removed, &read), Err(Unusable::Partial));
    }

    #[test]
    fn c22_narrowing_needs_the_narrower_grant_to_be_there() {
        let mut narrowed = action(key(1));
        narrowed.operation = Operation::Reduce;
        narrowed.decision.kept = Some(key(2));
        let reading = judge(&narrowed, &proofs(&[2, 3], &[1, 2])).unwrap();
        assert!(matches!(
            reading,
            Reading::Done {
                claim: EffectClaim::Narrowed,
                ..
            }
        ));
        let reading = judge(&narrowed, &proofs(&[3], &[1, 2])).unwrap();
        assert_eq!(reading, Reading::KeptIsGone);
        let reading = judge(&narrowed, &proofs(&[1, 2], &[1, 2])).unwrap();
        assert!(matches!(reading, Reading::Present { .. }));
    }
}
