//! Verifying many signatures at once.

use std::collections::HashMap;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest, Sha256};

use super::{PUBLIC_KEY_BYTES, ParsedSignature, PublicKey};

/// A public key, a message, and the signature said to be the key's over the message.
pub type SignedMessage<'a> = (&'a [u8; PUBLIC_KEY_BYTES], &'a [u8], &'a [u8]);

const CONTEXT: &[u8] = b"counterfoil-batch/v1\0";

/// A signature whose encodings are right, reduced to its share in the sum.
struct Member {
    /// Its position in the caller's slice.
    position: usize,
    /// The position of its key among the distinct keys.
    key: usize,
    r: EdwardsPoint,
    /// The coefficient `z`.
    z: Scalar,
    /// `z * s`.
    zs: Scalar,
    /// `z * k`.
    zk: Scalar,
}

/// Verifies many signatures, several times faster than one by one; the error holds the ascending positions of the bad ones.
///
/// A single bad signature among many costs about twice the batch; a batch of bad ones about as much as judging each alone.
pub fn verify_batch(items: &[SignedMessage<'_>]) -> Result<(), Vec<usize>> {
    let mut bad = Vec::new();
    let (keys, members) = prepare(items, &mut bad);
    find_bad(&keys, &members, items, false, &mut bad);
    if bad.is_empty() {
        return Ok(());
    }
    bad.sort_unstable();
    Err(bad)
}

/// Parses everything, and draws the coefficients from a hash over all of it.
fn prepare(items: &[SignedMessage<'_>], bad: &mut Vec<usize>) -> (Vec<PublicKey>, Vec<Member>) {
    let mut keys = Vec::new();
    let mut key_positions: HashMap<&[u8; PUBLIC_KEY_BYTES], Option<usize>> = HashMap::new();
    let mut parsed = Vec::with_capacity(items.len());
    // The challenge binds key, message and R by SHA-512; with s this covers every input.
    let mut transcript = Sha256::new_with_prefix(CONTEXT);
    for (position, (key_bytes, message, signature)) in items.iter().enumerate() {
        let key = *key_positions.entry(*key_bytes).or_insert_with(|| {
            keys.push(PublicKey::parse(key_bytes).ok()?);
            Some(keys.len() - 1)
        });
        let (Some(key), Ok(signature)) = (key, ParsedSignature::parse(signature)) else {
            bad.push(position);
            continue;
        };
        let challenge = signature.challenge(key_bytes, message);
        transcript.update(challenge);
        transcript.update(signature.s.as_bytes());
        parsed.push((position, key, signature, challenge));
    }
    let seed: [u8; 32] = transcript.finalize().into();
    let members = parsed
        .into_iter()
        .zip(coefficients(&seed))
        .map(|((position, key, signature, challenge), z)| Member {
            position,
            key,
            r: signature.point,
            z,
            zs: z * signature.s,
            zk: z * Scalar::from_bytes_mod_order_wide(&challenge),
        })
        .collect();
    (keys, members)
}

/// An endless sequence of 128-bit coefficients, two from each hash of the seed and a counter.
fn coefficients(seed: &[u8; 32]) -> impl Iterator<Item = Scalar> {
    let seeded = Sha256::new_with_prefix(seed);
    (0_u64..).flat_map(move |counter| {
        let block: [u8; 32] = seeded
            .clone()
            .chain_update(counter.to_be_bytes())
            .finalize()
            .into();
        let (halves, _) = block.as_chunks::<16>();
        let pair: Vec<Scalar> = halves
            .iter()
            .map(|half| Scalar::from(u128::from_le_bytes(*half)))
            .collect();
        pair
    })
}

/// Splits until the bad members stand alone; below a few, judging each alone is cheaper than more sums.
fn find_bad(
    keys: &[PublicKey],
    members: &[Member],
    items: &[SignedMessage<'_>],
    known_to_fail: bool,
    bad: &mut Vec<usize>,
) {
    const ALONE: usize = 4;
    if members.len() <= ALONE {
        let refused = |member: &&Member| {
            let verdict = items.get(member.position).zip(keys.get(member.key));
            !verdict.is_some_and(|((_, message, signature), key)| {
                key.verify(message, signature).is_ok()
            })
        };
        bad.extend(members.iter().filter(refused).map(|member| member.position));
        return;
    }
    if !known_to_fail && sum_is_zero(keys, members) {
        return;
    }
    let (left, right) = members.split_at(members.len() / 2);
    let found_before = bad.len();
    find_bad(keys, left, items, false, bad);
    // The whole fails: if the left half is good, the right one cannot be, and its sum need not be made.
    find_bad(keys, right, items, bad.len() == found_before, bad);
}

/// Whether `[8](sum z s B - sum z R - sum z k A)` is zero, with the terms of equal keys added up first.
///
/// Adding up modulo the group order is sound for keys of mixed order too, because the factor 8 removes what it changes.
fn sum_is_zero(keys: &[PublicKey], members: &[Member]) -> bool {
    let base: Scalar = members.iter().map(|member| member.zs).sum();
    let mut by_key = vec![Scalar::ZERO; keys.len()];
    for member in members {
        if let Some(sum) = by_key.get_mut(member.key) {
            *sum += member.zk;
        }
    }
    let used = || {
        keys.iter()
            .zip(&by_key)
            .filter(|(_, sum)| **sum != Scalar::ZERO)
    };
    let scalars = std::iter::once(-base)
        .chain(members.iter().map(|member| member.z))
        .chain(used().map(|(_, sum)| *sum));
    let points = std::iter::once(ED25519_BASEPOINT_POINT)
        .chain(members.iter().map(|member| member.r))
        .chain(used().map(|(key, _)| key.point));
    // Iterators that filter have no exact length, which the multiplication asks for.
    let (scalars, points): (Vec<Scalar>, Vec<EdwardsPoint>) = scalars.zip(points).unzip();
    EdwardsPoint::vartime_multiscalar_mul(scalars, points)
        .mul_by_cofactor()
        .is_identity()
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::EdwardsPoint;
    use curve25519_dalek::scalar::Scalar;

    use super::super::{ParsedSignature, RecordSigner};
    use super::{SignedMessage, prepare, sum_is_zero, verify_batch};

    #[test]
    fn coefficients_known_from_one_batch_do_not_help_to_forge_another() {
        let signer = RecordSigner::from_seed(&[4; 32]);
        let key = signer.public_key();
        let messages: Vec<[u8; 1]> = (0..8).map(|at| [at]).collect();
        let mut signatures: Vec<[u8; 64]> = messages
            .iter()
            .map(|message| signer.sign(message))
            .collect();
        let items = |signatures: &[[u8; 64]]| {
            prepare(&batch(&key, &messages, signatures), &mut Vec::new()).1
        };
        // s + z' and s' - z leave the sum of z * s as it was, if the coefficients z and z' stay what they were.
        let members = items(&signatures);
        for (at, change) in [(2, members[5].z), (5, -members[2].z)] {
            let s: [u8; 32] = signatures[at][32..].try_into().unwrap();
            let s = Scalar::from_canonical_bytes(s).unwrap() + change;
            signatures[at][32..].copy_from_slice(s.as_bytes());
        }
        assert_ne!(items(&signatures)[2].z, members[2].z);
        assert_eq!(
            verify_batch(&batch(&key, &messages, &signatures)),
            Err(vec![2, 5])
        );
    }

    #[test]
    fn a_crafted_component_of_small_order_does_not_make_a_batch_slow() {
        // Were the sum judged without its cofactor, the fall-back would still give the right verdict, at single speed.
        let (secret, nonce, message) = (Scalar::from(5_u8), Scalar::from(6_u8), b"message");
        let key = EdwardsPoint::mul_base(&secret).compress().0;
        let mut signature = [0; 64];
        let point = EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[1];
        signature[..32].copy_from_slice(point.compress().as_bytes());
        signature[32..].copy_from_slice(Scalar::ZERO.as_bytes());
        let challenge = ParsedSignature::parse(&signature)
            .unwrap()
            .challenge(&key, message);
        let s = nonce + Scalar::from_bytes_mod_order_wide(&challenge) * secret;
        signature[32..].copy_from_slice(s.as_bytes());
        let (keys, members) = prepare(&[(&key, message, &signature)], &mut Vec::new());
        assert!(sum_is_zero(&keys, &members));
    }

    fn batch<'a>(
        key: &'a [u8; 32],
        messages: &'a [[u8; 1]],
        signatures: &'a [[u8; 64]],
    ) -> Vec<SignedMessage<'a>> {
        let pairs = messages.iter().zip(signatures);
        pairs
            .map(|(message, signature)| (key, message.as_slice(), signature.as_slice()))
            .collect()
    }
}
