//! TLS between services, with their SPIFFE ids as identities.
//!
//! Invariants:
//! - TLS 1.3 only, with ring; no session is resumed, so that every connection shows its certificate.
//! - A certificate counts in its time, by the service's clock, while its chain ends in the trust bundle as it is now, and when
//!   it has exactly one URI name: a SPIFFE id of this deployment. All of it is looked at again on every call of a connection, and
//!   the chain whenever one of its certificates ends. A root counts as long as it is in the bundle, whatever its own end.
//! - A service that is called must be the one that was meant, whatever its address.
//! - The files are read again while the service runs ([`Tls::watch`]). Files that do not fit together leave what is in use.

mod certificate;
mod connect;
mod spiffe;
mod verify;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::TlsConfig,
    secrets::{self, SecretError},
};

pub use certificate::{Leaf, NoIdentity, PeerCertificate};
pub(crate) use connect::Connector;
pub use spiffe::{Holder, SpiffeId};

/// Protocols that are spoken: gRPC, and plain HTTP where a service has such routes.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Largest PEM file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key file.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Another file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is of somebody else.
    #[error("the certificate in {path} is for {found}, not for {expected}")]
    Identity {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The parts do not go together.
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// What is in use at a moment.
#[derive(Debug)]
pub struct Current {
    generation: u64,
    certificates: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    callers: Arc<dyn ClientCertVerifier>,
    server: Arc<ServerConfig>,
    provider: Arc<CryptoProvider>,
    clock: Clock,
    files: Files,
}

impl Current {
    /// Counts up with every change of the files.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// For those who connect.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For calling this service and no other.
    fn client_config(&self, expected: SpiffeId) -> Result<ClientConfig, rustls::Error> {
        let verifier = verify::Called {
            roots: Arc::clone(&self.roots),
            provider: Arc::clone(&self.provider),
            expected,
        };
        let time = Arc::new(verify::ServiceTime(self.clock.clone()));
        let resolver = SingleCertAndKey::from(Arc::clone(&self.certificates));
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![PROTOCOLS[0].to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// Whether a chain is good under the trust bundle as it is now.
    fn trusts(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        self.callers.verify_client_cert(leaf, others, now).is_ok()
    }
}

/// The bytes of the files.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: String,
    trust_bundle: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

/// A service's certificate, key and trust bundle, as the files have them.
#[derive(Debug)]
pub struct Tls {
    config: TlsConfig,
    own: SpiffeId,
    clock: Clock,
    current: RwLock<Arc<Current>>,
}

impl Tls {
    /// Reads the files of `service`.
    ///
    /// # Errors
    /// When one cannot be used, the key is readable by others, or the certificate is not this service's.
    pub fn load(
        config: &TlsConfig,
        deployment: &str,
        service: &str,
        clock: Clock,
    ) -> Result<Arc<Self>, TlsError> {
        let own = SpiffeId::new(deployment, Holder::Service, service);
        let own = own.ok_or_else(|| TlsError::Content {
            path: config.certificate_file.clone(),
            reason: format!("{deployment:?} cannot be the trust domain of a SPIFFE id"),
        })?;
        let current = build(config, read(config)?, &own, &clock, 1)?;
        Ok(Arc::new(Self {
            config: config.clone(),
            own,
            clock,
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// The deployment whose certificates count.
    #[must_use]
    pub fn deployment(&self) -> &str {
        self.own.trust_domain()
    }

    /// The time.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What is in use now.
    pub(crate) fn current(&self) -> Arc<Current> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Reads the files again. True: they have changed, and what they hold is in use.
    ///
    /// # Errors
    /// As for [`Self::load`]; then what was in use stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let current = self.current();
        let files = read(&self.config)?;
        if files == current.files {
            return Ok(false);
        }
        let next = build(
            &self.config,
            files,
            &self.own,
            &self.clock,
            current.generation + 1,
        )?;
        let mut slot = self
            .current
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = Arc::new(next);
        Ok(true)
    }

    /// Reads the files again and again until the service ends.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let interval = i64::try_from(self.config.reload_interval_ms).unwrap_or(i64::MAX);
        let watching = async {
            loop {
                let next = self.clock.now_ms().saturating_add(interval);
                self.clock.reached(next).await;
                match self.reload() {
                    Ok(false) => {}
                    Ok(true) => tracing::info!("the TLS files have changed and are in use"),
                    // Files are replaced one after the other: the next look may find them whole.
                    Err(error) => tracing::warn!(%error, "the TLS files were not taken"),
                }
            }
        };
        shutdown.run_until_cancelled(watching).await;
    }
}

fn read(config: &TlsConfig) -> Result<Files, TlsError> {
    Ok(Files {
        certificate: read_file(&config.certificate_file)?,
        key: secrets::read(&config.key_file)?,
        trust_bundle: read_file(&config.trust_bundle_file)?,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("is larger than 1 MiB")));
    }
    fs::read(path).map_err(failed)
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// When the file cannot be read, is no PEM or holds no certificate.
pub fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |reason: String| TlsError::Content {
        path: path.to_owned(),
        reason,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| content(error.to_string()))?;
    if found.is_empty() {
        return Err(content("holds no certificate".into()));
    }
    Ok(found)
}

/// The roots in a PEM file.
///
/// # Errors
/// When the file cannot be read, is no PEM, or one of its certificates cannot be a root.
pub fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    roots_of(path, &read_file(path)?)
}

fn roots_of(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The only provider of cryptography for TLS in this process.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn build(
    config: &TlsConfig,
    files: Files,
    own: &SpiffeId,
    clock: &Clock,
    generation: u64,
) -> Result<Current, TlsError> {
    let path = &config.certificate_file;
    let content = |path: &Path, reason: String| TlsError::Content {
        path: path.to_owned(),
        reason,
    };
    let provider = provider();
    let chain = certificates(path, &files.certificate)?;
    let leaf = chain.first().map(|der| Leaf::read(der, own.trust_domain()));
    let leaf = leaf
        .transpose()
        .map_err(|error| content(path, error.to_string()))?;
    if leaf.as_ref().map(|leaf| &leaf.id) != Some(own) {
        return Err(TlsError::Identity {
            path: path.clone(),
            found: leaf.map(|leaf| leaf.id.to_string()).unwrap_or_default(),
            expected: own.to_string(),
        });
    }
    let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes())
        .map_err(|_| content(&config.key_file, "holds no private key".into()))?;
    let certificates = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
    let roots = Arc::new(roots_of(&config.trust_bundle_file, &files.trust_bundle)?);
    let chains =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| content(&config.trust_bundle_file, error.to_string()))?;
    let callers: Arc<dyn ClientCertVerifier> = Arc::new(verify::Callers {
        chains,
        deployment: own.trust_domain().to_owned(),
    });
    let time = Arc::new(verify::ServiceTime(clock.clone()));
    let mut server = ServerConfig::builder_with_details(Arc::clone(&provider), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::clone(&callers))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&certificates))));
    server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Current {
        generation,
        certificates,
        roots,
        callers,
        server: Arc::new(server),
        provider,
        clock: clock.clone(),
        files,
    })
}
