//! Where the services are: written by `up`, read by the client.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Name of the file in the data folder.
pub const FILE_NAME: &str = "endpoints.json";

/// Addresses of the services and the file with the caller's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Service -> address, such as "ledger" -> "http://127.0.0.1:7405", or "https://ledger.example:7405".
    pub services: BTreeMap<String, String>,
    /// PEM: the roots that services at "https://" addresses are verified with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_bundle_file: Option<PathBuf>,
    /// File that holds the token.
    pub token_file: PathBuf,
}

impl Endpoints {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is missing or is no such file; says how to get one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "{} cannot be read; start the services with `counterfoil up`, or name their file with --endpoints",
                path.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is malformed", path.display()))
    }

    /// Writes the file, readers see the old or the new one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let partial = path.with_extension("json.partial");
        fs::write(&partial, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("{} cannot be written", partial.display()))?;
        // If we crash here: the old file stands; the next start writes it again.
        fs::rename(&partial, path).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Address of a service.
    ///
    /// # Errors
    /// When the file does not name it.
    pub fn of(&self, service: &str) -> anyhow::Result<&str> {
        self.services
            .get(service)
            .map(String::as_str)
            .with_context(|| format!("no address of the {service} service is known"))
    }

    /// How to connect to a service: over TLS where its address says so.
    ///
    /// # Errors
    /// When no address is known, it is malformed, or it needs a trust bundle that is not there.
    pub fn connection(&self, service: &str) -> anyhow::Result<Endpoint> {
        let address = self.of(service)?;
        let endpoint = Channel::from_shared(address.to_owned())
            .with_context(|| format!("{address:?} is no address"))?;
        if !address.starts_with("https://") {
            return Ok(endpoint);
        }
        let file = self.trust_bundle_file.as_ref();
        let file = file.with_context(|| format!("{address} needs trust_bundle_file"))?;
        let pem = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        Ok(endpoint.tls_config(tls)?)
    }

    /// The caller's token.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn token(&self) -> anyhow::Result<String> {
        let text = fs::read_to_string(&self.token_file)
            .with_context(|| format!("{} cannot be read", self.token_file.display()))?;
        Ok(text.trim().to_owned())
    }
}
