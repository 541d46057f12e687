//! The record signature rule: one verdict whether a signature comes alone or in a batch, also for signatures that their own
//! signer has crafted to split verifiers.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their sizes are small"
)]

use counterfoil_tlog::signature::{
    PublicKey, RecordSigner, SignatureError, SignedMessage, verify_batch, verify_record,
};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signature, VerifyingKey};
use proptest::prelude::*;
use sha2::{Digest, Sha512};

/// A signed message that owns its bytes.
#[derive(Debug, Clone)]
struct Owned {
    key: [u8; 32],
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Owned {
    fn honest(key: u8, message: &[u8]) -> Self {
        let signer = RecordSigner::from_seed(&[key; 32]);
        let signature = signer.sign(message).to_vec();
        Self {
            key: signer.public_key(),
            message: message.to_vec(),
            signature,
        }
    }

    /// A signature whose key and `R` have these components of small order.
    fn crafted(secret: u64, key_torsion: usize, r_torsion: usize, message: &[u8]) -> Self {
        let (a, r) = (Scalar::from(secret + 2), Scalar::from(secret + 1_000_003));
        let key = (EdwardsPoint::mul_base(&a) + EIGHT_TORSION[key_torsion])
            .compress()
            .0;
        let point = (EdwardsPoint::mul_base(&r) + EIGHT_TORSION[r_torsion])
            .compress()
            .0;
        let k = challenge(&point, &key, message);
        let signature = [point, (r + k * a).to_bytes()].concat();
        Self {
            key,
            message: message.to_vec(),
            signature,
        }
    }

    fn verify(&self) -> Result<(), SignatureError> {
        verify_record(&self.key, &self.message, &self.signature)
    }
}

fn challenge(point: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new()
        .chain_update(point)
        .chain_update(key)
        .chain_update(message)
        .finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

fn batch(items: &[Owned]) -> Result<(), Vec<usize>> {
    let borrowed: Vec<SignedMessage<'_>> = items
        .iter()
        .map(|item| {
            (
                &item.key,
                item.message.as_slice(),
                item.signature.as_slice(),
            )
        })
        .collect();
    verify_batch(&borrowed)
}

fn one_by_one(items: &[Owned]) -> Result<(), Vec<usize>> {
    let bad: Vec<usize> = (0..items.len())
        .filter(|position| items[*position].verify().is_err())
        .collect();
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}

fn dalek_strict(item: &Owned) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&item.key) else {
        return false;
    };
    let Ok(signature) = Signature::from_slice(&item.signature) else {
        return false;
    };
    key.verify_strict(&item.message, &signature).is_ok()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn every_vector_of_the_c2sp_collection_gets_the_verdict_of_the_rule_alone_and_in_a_batch() {
    let lines = include_str!("vectors/cctv_ed25519.txt").lines();
    let mut all = Vec::new();
    let mut accepted = 0;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let item = Owned {
            key: unhex(fields[0]).try_into().unwrap(),
            message: fields[3].as_bytes().to_vec(),
            signature: unhex(fields[1]),
        };
        // Refused: keys of small order, and encodings that RFC 8032 does not allow. Residues of small order are not looked at.
        let refused = fields[2].contains(['A', 'a', 'r']);
        assert_eq!(item.verify().is_err(), refused, "{line}");
        assert_eq!(
            batch(std::slice::from_ref(&item)).is_err(),
            refused,
            "{line}"
        );
        accepted += usize::from(!refused);
        all.push(item);
    }
    assert_eq!(all.len(), 914);
    assert!(accepted > 100);
    assert_eq!(batch(&all), one_by_one(&all));
    let good: Vec<Owned> = all
        .into_iter()
        .filter(|item| item.verify().is_ok())
        .collect();
    assert_eq!(batch(&good), Ok(()));
}

#[test]
fn crafted_components_of_small_order_never_split_single_and_batch() {
    let mut all = Vec::new();
    for secret in 0..8 {
        for key_torsion in 0..8 {
            for r_torsion in 0..8 {
                all.push(Owned::crafted(
                    secret,
                    key_torsion,
                    r_torsion,
                    &secret.to_be_bytes(),
                ));
            }
        }
    }
    for item in &all {
        assert_eq!(item.verify(), Ok(()));
        assert_eq!(batch(std::slice::from_ref(item)), Ok(()));
    }
    assert_eq!(batch(&all), Ok(()));
    // They are crafted indeed: the cofactorless rule refuses most of them.
    assert!(all.iter().filter(|item| !dalek_strict(item)).count() > all.len() / 2);
}

#[test]
fn a_key_of_small_order_is_refused() {
    for point in EIGHT_TORSION {
        let refused = PublicKey::parse(&point.compress().0);
        assert_eq!(refused.unwrap_err(), SignatureError::KeySmallOrder);
    }
}

#[test]
fn encodings_that_are_not_canonical_are_refused() {
    let p_minus_one = {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xec, 0x7f);
        bytes
    };
    let mut keys: Vec<[u8; 32]> = (0xed..=0xff)
        .flat_map(|low| {
            let mut bytes = p_minus_one;
            bytes[0] = low;
            let mut negative = bytes;
            negative[31] |= 0x80;
            [bytes, negative]
        })
        .collect();
    let mut minus_zero = [0; 32];
    (minus_zero[0], minus_zero[31]) = (1, 0x80);
    keys.push(minus_zero);
    let mut minus_zero = p_minus_one;
    minus_zero[31] |= 0x80;
    keys.push(minus_zero);
    for key in keys {
        assert_eq!(
            PublicKey::parse(&key).unwrap_err(),
            SignatureError::KeyEncoding
        );
        let mut item = Owned::honest(1, b"message");
        item.signature[..32].copy_from_slice(&key);
        assert_eq!(item.verify(), Err(SignatureError::SignatureEncoding));
    }
    // s + L is the same scalar in another encoding.
    let order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut item = Owned::honest(1, b"message");
    let mut carry = 0;
    for (byte, add) in item.signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(item.verify(), Err(SignatureError::SignatureEncoding));
    assert_eq!(batch(&[item]), Err(vec![0]));
}

#[test]
fn signatures_of_another_length_are_refused() {
    let mut item = Owned::honest(1, b"message");
    item.signature.push(0);
    assert_eq!(item.verify(), Err(SignatureError::SignatureEncoding));
    item.signature.truncate(63);
    assert_eq!(item.verify(), Err(SignatureError::SignatureEncoding));
    item.signature.clear();
    assert_eq!(batch(&[item]), Err(vec![0]));
}

#[test]
fn an_empty_batch_is_good_and_a_wholly_bad_one_names_everybody() {
    assert_eq!(verify_batch(&[]), Ok(()));
    let mut all: Vec<Owned> = (0..40).map(|key| Owned::honest(key, &[key])).collect();
    assert_eq!(batch(&all), Ok(()));
    all.iter_mut().for_each(|item| item.message.push(0));
    assert_eq!(batch(&all), Err((0..40).collect()));
}

#[test]
fn two_bad_signatures_that_cancel_out_are_still_found() {
    // The same amount added to one s and taken from another leaves an unweighted sum as it was.
    let mut all: Vec<Owned> = (0..20).map(|at| Owned::honest(7, &[at])).collect();
    for (at, difference) in [(3, Scalar::ONE), (11, -Scalar::ONE)] {
        let s: [u8; 32] = all[at].signature[32..].try_into().unwrap();
        let s = Scalar::from_canonical_bytes(s).unwrap() + difference;
        all[at].signature[32..].copy_from_slice(&s.to_bytes());
    }
    assert_eq!(batch(&all), Err(vec![3, 11]));
}

/// An honest or crafted signature, perhaps damaged.
fn any_signed() -> impl Strategy<Value = Owned> {
    let message = prop::collection::vec(any::<u8>(), 0..80);
    let made = prop_oneof![
        (0..4_u8, message.clone()).prop_map(|(key, message)| Owned::honest(key, &message)),
        (0..4_u64, 0..8_usize, 0..8_usize, message)
            .prop_map(|(secret, a, r, message)| Owned::crafted(secret, a, r, &message)),
    ];
    (made, prop::option::weighted(0.2, 0..768_usize)).prop_map(|(mut item, damage)| {
        match damage {
            Some(bit @ ..256) => item.key[bit / 8] ^= 1 << (bit % 8),
            Some(bit) => item.signature[bit / 8 - 32] ^= 1 << (bit % 8),
            None => {}
        }
        item
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_names_exactly_what_fails_alone(all in prop::collection::vec(any_signed(), 0..60)) {
        prop_assert_eq!(batch(&all), one_by_one(&all));
    }

    #[test]
    fn honest_and_damaged_honest_signatures_get_the_verdict_of_ed25519_dalek(
        key in any::<u8>(), message in prop::collection::vec(any::<u8>(), 0..200),
        damage in prop::option::of(0..768_usize),
    ) {
        let mut item = Owned::honest(key, &message);
        match damage {
            Some(bit @ ..256) => item.key[bit / 8] ^= 1 << (bit % 8),
            Some(bit) => item.signature[bit / 8 - 32] ^= 1 << (bit % 8),
            None => {}
        }
        prop_assert_eq!(item.verify().is_ok(), dalek_strict(&item));
        prop_assert_eq!(item.verify().is_ok(), damage.is_none());
    }
}
