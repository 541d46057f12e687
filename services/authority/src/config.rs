//! Configuration of the authority service.

use std::path::PathBuf;

use counterfoil_chassis::config::ServiceConfig;
use serde::Deserialize;

pub use crate::model::jwt::Algorithm;

/// Settings of the authority service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every service has. `peers.ledger` is required: a tenant's log is created there.
    pub service: ServiceConfig,
    /// Identity providers whose users and systems may sign in. Default none.
    #[serde(default)]
    pub issuers: Vec<IssuerConfig>,
}

/// An identity provider, and what it may say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// As its tokens name it ("iss"), compared as bytes.
    pub issuer: String,
    /// What its tokens for Counterfoil are for ("aud").
    pub audience: String,
    /// How its tokens may be signed: "EdDSA", "ES256", "RS256". At least one.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are: "https://...", or "http://" on loopback. Either this or `jwks_file`.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// File with its keys. Read again like an address.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// PEM: the roots that the server of `jwks_url` is verified with. Required for "https://".
    #[serde(default)]
    pub trust_bundle_file: Option<PathBuf>,
    /// Ids of the only keys that count. Default: all that it publishes.
    #[serde(default)]
    pub key_ids: Vec<String>,
    /// Ids of the tenants it may speak for. At least one.
    pub tenants: Vec<String>,
    /// Claim that says for which of them a token is. Required when there are several.
    #[serde(default)]
    pub tenant_claim: Option<String>,
    /// Claim that says who has signed in. Default "sub".
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// How far its clock may be ahead of ours, at most 60. Default 30. Tokens that have ended get none.
    #[serde(default = "default_leeway_seconds")]
    pub leeway_seconds: u32,
    /// How long after its issue a token counts at most, whatever it says itself. Default 3600.
    #[serde(default = "default_token_age_max_seconds")]
    pub token_age_max_seconds: u32,
}

impl Config {
    /// Says what is wrong with the issuers, without looking at anything else.
    ///
    /// # Errors
    /// Names the issuer and the setting.
    pub fn check(&self) -> Result<(), String> {
        for (at, one) in self.issuers.iter().enumerate() {
            one.check()
                .map_err(|what| format!("issuer {:?}: {what}", one.issuer))?;
            if self.issuers[..at]
                .iter()
                .any(|other| other.issuer == one.issuer)
            {
                return Err(format!("issuer {:?} stands twice", one.issuer));
            }
        }
        Ok(())
    }
}

impl IssuerConfig {
    fn check(&self) -> Result<(), &'static str> {
        let secure = self
            .jwks_url
            .as_deref()
            .is_some_and(|url| url.starts_with("https://"));
        let wrong = [
            (self.issuer.is_empty(), "issuer is empty"),
            (self.audience.is_empty(), "audience is empty"),
            (self.algorithms.is_empty(), "algorithms names none"),
            (
                self.jwks_url.is_some() == self.jwks_file.is_some(),
                "either jwks_url or jwks_file is needed",
            ),
            (
                self.jwks_url
                    .as_deref()
                    .is_some_and(|url| !secure && !is_loopback(url)),
                "jwks_url must be https://, or http:// on loopback",
            ),
            (
                secure && self.trust_bundle_file.is_none(),
                "an https:// jwks_url needs trust_bundle_file",
            ),
            (self.tenants.is_empty(), "tenants names none"),
            (
                self.tenants.len() > 1 && self.tenant_claim.is_none(),
                "tenant_claim is needed where there are several tenants",
            ),
            (self.leeway_seconds > 60, "leeway_seconds is at most 60"),
            (
                self.token_age_max_seconds == 0,
                "token_age_max_seconds is 0",
            ),
        ];
        match wrong.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }
}

/// Whether an address is plain HTTP on this machine.
fn is_loopback(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    uri.filter(|uri| uri.scheme_str() == Some("http"))
        .and_then(|uri| {
            let host = uri.host()?.trim_matches(['[', ']']);
            let address: std::net::IpAddr = host.parse().ok()?;
            Some(address.is_loopback())
        })
        .unwrap_or(false)
}

fn default_subject_claim() -> String {
    "sub".into()
}

const fn default_leeway_seconds() -> u32 {
    30
}

const fn default_token_age_max_seconds() -> u32 {
    3_600
}

impl From<ServiceConfig> for Config {
    fn from(service: ServiceConfig) -> Self {
        Self {
            service,
            issuers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> Result<(), String> {
        let base = "issuer = 'https://idp.example'\naudience = 'counterfoil'\n";
        let table: toml::Table = toml::from_str(&format!("{base}{text}")).unwrap();
        let config: IssuerConfig = table
            .try_into()
            .map_err(|error: toml::de::Error| error.to_string())?;
        config.check().map_err(str::to_owned)
    }

    #[test]
    fn an_issuer_that_could_say_too_much_is_refused() {
        let keys = "algorithms = ['ES256']\njwks_file = 'k'\n";
        assert_eq!(issuer(&format!("{keys}tenants = ['acme']")), Ok(()));
        for (text, what) in [
            (format!("{keys}tenants = []"), "tenants"),
            (format!("{keys}tenants = ['a', 'b']"), "tenant_claim"),
            (
                format!("{keys}tenants = ['a']\nleeway_seconds = 61"),
                "leeway",
            ),
            (
                "algorithms = []\njwks_file = 'k'\ntenants = ['a']".into(),
                "algorithms",
            ),
            (
                "algorithms = ['HS256']\njwks_file = 'k'\ntenants = ['a']".into(),
                "HS256",
            ),
            (
                "algorithms = ['none']\njwks_file = 'k'\ntenants = ['a']".into(),
                "none",
            ),
            ("algorithms = ['ES256']\ntenants = ['a']".into(), "jwks"),
            (
                "algorithms = ['ES256']\njwks_url = 'http://idp.example/k'\ntenants = ['a']".into(),
                "loopback",
            ),
            (
                "algorithms = ['ES256']\njwks_url = 'https://idp.example/k'\ntenants = ['a']"
                    .into(),
                "trust_bundle",
            ),
        ] {
            let refusal = issuer(&text).unwrap_err();
            assert!(refusal.contains(what), "{refusal}");
        }
        let local = "algorithms = ['ES256']\njwks_url = 'http://127.0.0.1:1/k'\ntenants = ['a']";
        assert_eq!(issuer(local), Ok(()));
    }
}
