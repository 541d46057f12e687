//! JSON Web Tokens in the one form that is taken: three parts, an asymmetric signature by a key of the issuer, claims without
//! doubles. Verified with ring directly; docs/decisions says why.
//!
//! Invariants: the algorithm is one of the issuer's, and the key is of that algorithm's kind, whatever the header says; keys in
//! the header are never looked at; nothing of the claims counts before the signature does.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

use super::strict_json::{self, Object, Value};

/// Keys of one issuer at once.
const KEYS_MAX: usize = 64;

/// How tokens may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with SHA-256, 2048 bits at least; providers' default, and only ever verified here.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }
}

/// What a key is made of, which is also what it can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    id: String,
    material: Material,
}

/// The keys of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a JWK set. Keys for other uses, of other kinds or without an id are left out. `None`: it is no JWK set, names a key
    /// twice, or has too many.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let set = strict_json::object(json)?;
        let Value::Array(listed) = set.get("keys")? else {
            return None;
        };
        if listed.len() > KEYS_MAX {
            return None;
        }
        let mut keys: Vec<Key> = Vec::new();
        for one in listed {
            let Value::Object(one) = one else {
                return None;
            };
            if let Some(key) = Key::read(one) {
                if keys.iter().any(|known| known.id == key.id) {
                    return None;
                }
                keys.push(key);
            }
        }
        Some(Self(keys))
    }

    /// The same, without keys that are not pinned; with no pins, all.
    pub(crate) fn pinned(mut self, ids: &[String]) -> Self {
        if !ids.is_empty() {
            self.0.retain(|key| ids.contains(&key.id));
        }
        self
    }

    /// The key of an id.
    pub(crate) fn get(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl Key {
    fn read(jwk: &Object) -> Option<Self> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|used| used != "sig") {
            return None;
        }
        let bytes = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let (material, algorithm) = match (text("kty")?, text("crv")) {
            ("OKP", Some("Ed25519")) => {
                let x = bytes("x").filter(|x| x.len() == 32)?;
                (Material::Ed25519(x), Algorithm::EdDsa)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                (Material::P256(point), Algorithm::Es256)
            }
            ("RSA", None) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                (Material::Rsa { n, e }, Algorithm::Rs256)
            }
            _ => return None,
        };
        // A key that says for what it is, is for nothing else.
        if text("alg").is_some_and(|name| Algorithm::named(name) != Some(algorithm)) {
            return None;
        }
        Some(Self {
            id: text("kid").filter(|id| !id.is_empty())?.to_owned(),
            material,
        })
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (&self.material, algorithm) {
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            (Material::P256(key), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            (Material::Rsa { n, e }, Algorithm::Rs256) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

/// A token, taken apart. Nothing in it is true yet.
#[derive(Debug)]
pub(crate) struct Unverified<'t> {
    /// Which algorithm it says it is signed with.
    pub(crate) algorithm: Algorithm,
    /// Which key it says it is signed with.
    pub(crate) key_id: String,
    /// Who it says issued it.
    pub(crate) issuer: String,
    claims: Object,
    message: &'t [u8],
    signature: Vec<u8>,
}

impl<'t> Unverified<'t> {
    /// Takes a token apart. `None`: it is none that could be taken.
    pub(crate) fn read(text: &'t str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let part = |text| strict_json::object(&URL_SAFE_NO_PAD.decode(text).ok()?);
        let header = part(header)?;
        let name = |name| header.get(name).and_then(Value::as_str);
        let is_jwt = |typ: &str| {
            let typ = typ.to_ascii_lowercase();
            ["jwt", "at+jwt", "application/at+jwt"].contains(&typ.as_str())
        };
        // "crit" names what must be understood; none of it is.
        let odd_type = header.contains_key("typ") && !name("typ").is_some_and(is_jwt);
        if odd_type || header.contains_key("crit") {
            return None;
        }
        let claims = part(claims)?;
        Some(Self {
            algorithm: Algorithm::named(name("alg")?)?,
            key_id: name("kid")?.to_owned(),
            issuer: claims.get("iss")?.as_str()?.to_owned(),
            claims,
            message: message.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Verifies it with a key of its issuer. `None`: the key did not sign it.
    pub(crate) fn verify(self, key: &Key) -> Option<Claims> {
        let good =
            key.id == self.key_id && key.verifies(self.algorithm, self.message, &self.signature);
        good.then_some(Claims(self.claims))
    }
}

/// What an issuer's tokens must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) subject_claim: String,
    pub(crate) tenant_claim: Option<String>,
    pub(crate) tenants: Vec<String>,
    pub(crate) leeway_ms: i64,
    pub(crate) age_max_ms: i64,
}

/// Who signed in where, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedIn {
    pub(crate) tenant: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) expires_at_ms: i64,
    /// SHA-256 of the client certificate without which the token is nothing.
    pub(crate) bound_to: Option<[u8; 32]>,
}

/// Claims that the issuer has signed.
#[derive(Debug)]
pub(crate) struct Claims(Object);

impl Claims {
    /// Who has signed in. `None`: the token is not for here, not for now, or not for a tenant that the issuer speaks for.
    pub(crate) fn accept(&self, terms: &Terms, now_ms: i64) -> Option<SignedIn> {
        let text = |name: &str| self.0.get(name).and_then(Value::as_str);
        let time = |name: &str| {
            self.0
                .get(name)
                .map(|value| value.as_int()?.checked_mul(1000))
        };
        let for_us = match self.0.get("aud")? {
            Value::String(one) => *one == terms.audience,
            Value::Array(many) => many
                .iter()
                .any(|one| one.as_str() == Some(terms.audience.as_str())),
            _ => false,
        };
        let issued_at_ms = time("iat")??;
        let not_before_ms = match time("nbf") {
            None => issued_at_ms,
            Some(time) => time?,
        };
        // The leeway is for clocks that go apart, not for tokens that have ended.
        let oldest_end = issued_at_ms.saturating_add(terms.age_max_ms);
        let expires_at_ms = time("exp")??.min(oldest_end);
        let latest_begin = now_ms.saturating_add(terms.leeway_ms);
        let in_time =
            issued_at_ms <= latest_begin && not_before_ms <= latest_begin && now_ms < expires_at_ms;
        let tenant = match &terms.tenant_claim {
            // Without a claim there is one tenant, which the configuration says.
            None => terms.tenants.first().map(String::as_str)?,
            Some(claim) => text(claim)?,
        };
        let speaks_for = terms.tenants.iter().any(|known| known == tenant);
        let from_issuer = text("iss") == Some(terms.issuer.as_str());
        let subject = text(&terms.subject_claim)?;
        let bound_to = self.bound_to()?;
        let good = for_us
            && in_time
            && speaks_for
            && from_issuer
            && super::credential::is_subject(subject);
        good.then(|| SignedIn {
            tenant: tenant.to_owned(),
            issuer: terms.issuer.clone(),
            subject: subject.to_owned(),
            expires_at_ms,
            bound_to,
        })
    }

    /// The certificate that the token is bound to (RFC 8705), if to any. `None`: it is bound to what cannot be checked here; as a
    /// plain bearer's it would be worth more than its issuer said.
    fn bound_to(&self) -> Option<Option<[u8; 32]>> {
        let Some(confirmation) = self.0.get("cnf") else {
            return Some(None);
        };
        let Value::Object(confirmation) = confirmation else {
            return None;
        };
        let hash = confirmation.get("x5t#S256")?.as_str()?;
        let hash = URL_SAFE_NO_PAD.decode(hash).ok()?.try_into().ok()?;
        (confirmation.len() == 1).then_some(Some(hash))
    }
}

#[cfg(test)]
mod tests;
