//! Two identity providers that the deployment knows by their keys: one speaks for both tenants, one for the attacker's alone.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};

/// Speaks for both tenants; its tokens say for which.
pub const SHARED: &str = "https://idp.example";
/// Speaks for the attacker's tenant.
pub const OWN: &str = "https://own.example";
const AUDIENCE: &str = "counterfoil";

/// A provider's key.
pub struct Provider {
    issuer: &'static str,
    key: Ed25519KeyPair,
}

/// What a token says, beside its issuer.
pub struct Says<'a> {
    pub tenant: &'a str,
    pub subject: &'a str,
    pub audience: &'a str,
    /// Seconds from now to its end.
    pub ttl: i64,
}

impl<'a> Says<'a> {
    pub fn well(tenant: &'a str, subject: &'a str) -> Self {
        Self {
            tenant,
            subject,
            audience: AUDIENCE,
            ttl: 3_000,
        }
    }
}

impl Provider {
    pub fn new(issuer: &'static str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            issuer,
            key: Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap(),
        }
    }

    /// Makes the deployment that starts in `data_dir` know these providers.
    pub fn announce(data_dir: &Path, providers: &[(&Self, &[&str])]) {
        fs::create_dir_all(data_dir).unwrap();
        let mut issuers = String::new();
        for (at, (provider, tenants)) in providers.iter().enumerate() {
            let file = data_dir.join(format!("provider-{at}.json"));
            let x = URL_SAFE_NO_PAD.encode(provider.key.public_key());
            let jwk = serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x });
            fs::write(&file, serde_json::json!({ "keys": [jwk] }).to_string()).unwrap();
            issuers.push_str(&format!(
                "[[issuers]]\nissuer = {:?}\naudience = {AUDIENCE:?}\nalgorithms = ['EdDSA']\njwks_file = {file:?}\n\
                 tenants = {tenants:?}\ntenant_claim = 'org'\n",
                provider.issuer,
            ));
        }
        fs::write(data_dir.join(counterfoil::up::ISSUERS_FILE), issuers).unwrap();
    }

    /// A token in the name of `issuer`, with this algorithm in its header, signed by this provider's key.
    pub fn signed(&self, issuer: &str, algorithm: &str, says: &Says<'_>, now: i64) -> String {
        let part =
            |value: serde_json::Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(&value).unwrap());
        let header = part(serde_json::json!({ "alg": algorithm, "kid": "k", "typ": "at+jwt" }));
        let claims = part(serde_json::json!({
            "iss": issuer, "aud": says.audience, "sub": says.subject, "org": says.tenant,
            "iat": now - 10, "exp": now + says.ttl,
        }));
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A token as it should be.
    pub fn token(&self, says: &Says<'_>, now: i64) -> String {
        self.signed(self.issuer, "EdDSA", says, now)
    }
}
