//! The rule by which signatures of records are judged: one rule, whether they come singly or in batches.
//!
//! [RFC 8032 §5.1.7] with its own, cofactored equation `[8][s]B = [8]R + [8][k]A`, where
//! - `A`, `R` and `s` are in their canonical encodings ([RFC 8032 §5.1.3]), and
//! - `A` is not of small order, which [`PublicKey::parse`] checks once, when a key is registered.
//!
//! Why not `verify_strict`: batches are several times faster, but a batch cannot check the cofactorless equation, and then
//! two honest verifiers could disagree about a signature that its own signer has crafted. The cofactored equation is the one
//! for which the sum of good signatures is good, always. Nobody but the key's holder can make a signature that the
//! two rules judge differently. Notes and checkpoints are never batched and use `verify_strict` ([`crate::note`]).
//!
//! Invariant: `verify_batch` names exactly the positions for which `verify_record` fails, but for a chance of 2^-128 that the
//! holder of the keys cannot steer: coefficients come from a hash over everything in the batch. No random source is needed.
//!
//! [RFC 8032 §5.1.7]: https://www.rfc-editor.org/rfc/rfc8032#section-5.1.7
//! [RFC 8032 §5.1.3]: https://www.rfc-editor.org/rfc/rfc8032#section-5.1.3

mod batch;

use std::fmt;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha512};

pub use batch::{SignedMessage, verify_batch};

/// The length of a public key in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// The length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Why a key or a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not the canonical encoding of a point of the curve.
    #[error("the public key is not the canonical encoding of a point")]
    KeyEncoding,
    /// The key is one of the eight points for which signatures can be made without a secret.
    #[error("the public key is of small order")]
    KeySmallOrder,
    /// The signature is not 64 bytes, or its `R` or `s` is not in its canonical encoding.
    #[error("the signature is not in its canonical encoding")]
    SignatureEncoding,
    /// The signature is not of this message by this key.
    #[error("the signature does not verify")]
    Mismatch,
}

/// A public key that may be registered: canonical, and not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; PUBLIC_KEY_BYTES],
    point: EdwardsPoint,
}

impl PublicKey {
    /// Reads a public key and checks that it may be used.
    pub fn parse(bytes: &[u8; PUBLIC_KEY_BYTES]) -> Result<Self, SignatureError> {
        let point = decompress_canonical(bytes).ok_or(SignatureError::KeyEncoding)?;
        if point.is_small_order() {
            return Err(SignatureError::KeySmallOrder);
        }
        Ok(Self {
            bytes: *bytes,
            point,
        })
    }

    /// The encoding of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.bytes
    }

    /// Verifies one signature.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let parsed = ParsedSignature::parse(signature)?;
        let challenge = Scalar::from_bytes_mod_order_wide(&parsed.challenge(&self.bytes, message));
        // [s]B - [k]A - R, times eight.
        let difference =
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&-challenge, &self.point, &parsed.s)
                - parsed.point;
        if difference.mul_by_cofactor().is_identity() {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.bytes
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Verifies one signature by a key given as bytes.
pub fn verify_record(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    PublicKey::parse(public_key)?.verify(message, signature)
}

/// The key with which a producer signs its records. It shows its public key, never its seed, and wipes the seed when dropped.
pub struct RecordSigner {
    key: SigningKey,
}

impl RecordSigner {
    /// A signer from 32 bytes that the caller drew from a cryptographic random source.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(seed),
        }
    }

    /// The public key to register.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.key.verifying_key().to_bytes()
    }

    /// Signs a message as [RFC 8032](https://www.rfc-editor.org/rfc/rfc8032#section-5.1.6) says.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for RecordSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordSigner({})", crate::hash::Hash(self.public_key()))
    }
}

/// A signature in its canonical encoding.
struct ParsedSignature {
    encoded_point: [u8; 32],
    point: EdwardsPoint,
    s: Scalar,
}

impl ParsedSignature {
    fn parse(signature: &[u8]) -> Result<Self, SignatureError> {
        Self::parse_canonical(signature).ok_or(SignatureError::SignatureEncoding)
    }

    fn parse_canonical(signature: &[u8]) -> Option<Self> {
        let (encoded_point, s) = signature.split_first_chunk::<32>()?;
        let s: Option<Scalar> = Scalar::from_canonical_bytes(s.try_into().ok()?).into();
        let point = decompress_canonical(encoded_point)?;
        Some(Self {
            encoded_point: *encoded_point,
            point,
            s: s?,
        })
    }

    /// `SHA-512(R || A || message)`, which binds everything but `s`.
    fn challenge(&self, public_key: &[u8; 32], message: &[u8]) -> [u8; 64] {
        Sha512::new()
            .chain_update(self.encoded_point)
            .chain_update(public_key)
            .chain_update(message)
            .finalize()
            .into()
    }
}

/// Decodes a point as RFC 8032 §5.1.3 does: `y` must be below the field's prime, and `x = 0` has no negative.
fn decompress_canonical(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    if is_canonical(bytes) {
        CompressedEdwardsY(*bytes).decompress()
    } else {
        None
    }
}

/// Tells the one encoding of a point from the others without paying for a field inversion.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    // p = 2^255 - 19 is 0x7fff…ffed: y >= p only if all higher bytes are ones.
    let [low, middle @ .., high] = bytes;
    let (sign, y_high) = (high & 0x80 != 0, high & 0x7f);
    let high_ones = y_high == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    if high_ones && *low >= 0xed {
        return false;
    }
    // x = 0 only at y = 1 and y = p - 1.
    let one = *low == 1 && y_high == 0 && middle.iter().all(|byte| *byte == 0);
    let minus_one = high_ones && *low == 0xec;
    !(sign && (one || minus_one))
}
