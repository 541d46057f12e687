//! A certificate authority for a start: one root on this machine, short certificates for services and clients, and a rotation
//! of the root without a moment in which nobody trusts anybody. Who has an authority of their own needs none of this.
//!
//! The folder: `root.pem` (0600), a certificate and its key, signs; `next.pem` is a root that is trusted and does not sign yet;
//! `old.crt` one that signs no more and is trusted still; `trust.crt` is all of them, the trust bundle of every service.

mod command;
mod files;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use counterfoil_chassis::{
    Clock,
    tls::{Holder, SpiffeId},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;

pub use command::{command, run};
use files::{replace, replace_private};

const DAY_SECONDS: i64 = 86_400;
/// Life of a root.
const ROOT_DAYS: i64 = 3_650;
/// Life of a certificate, unless another one is asked for.
pub const LEAF_DAYS: i64 = 30;
/// Longest life of a certificate.
pub const LEAF_DAYS_MAX: i64 = 90;
/// A certificate is good this long before it was made: clocks differ.
const SKEW_SECONDS: i64 = 300;

/// A certificate authority in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    deployment: String,
    clock: Clock,
}

/// What a certificate is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A service or a client.
    pub holder: Holder,
    /// Its bare name.
    pub name: String,
    /// Names under which others than services connect to it.
    pub dns: Vec<String>,
    /// Its life, 1 to 90.
    pub days: i64,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// A new root is trusted: take the trust bundle to every service, then rotate again.
    Prepared,
    /// The new root signs: issue every certificate again, then rotate again.
    Switched,
    /// The old root is gone: take the trust bundle to every service.
    Finished,
}

impl Authority {
    /// Makes an authority in a folder that has none.
    ///
    /// # Errors
    /// When there is one, or the name cannot be the trust domain of a SPIFFE id.
    pub fn init(folder: &Path, deployment: &str, clock: Clock) -> anyhow::Result<Self> {
        ensure!(
            SpiffeId::new(deployment, Holder::Service, "x").is_some(),
            "{deployment:?} cannot be a trust domain: a-z, 0-9, '-' and '.' only"
        );
        let authority = Self {
            folder: folder.to_owned(),
            deployment: deployment.to_owned(),
            clock,
        };
        ensure!(
            !authority.path("root.pem").exists(),
            "{} has a certificate authority already",
            folder.display()
        );
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        replace(&authority.path("deployment"), &format!("{deployment}\n"))?;
        authority.make_root("root.pem")?;
        authority.write_trust()?;
        Ok(authority)
    }

    /// Opens the authority of a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(folder: &Path, clock: Clock) -> anyhow::Result<Self> {
        let file = folder.join("deployment");
        let deployment = fs::read_to_string(&file).with_context(|| {
            let folder = folder.display();
            format!("{folder} has no certificate authority; make one with `counterfoil ca init`")
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            deployment: deployment.trim().to_owned(),
            clock,
        })
    }

    /// The trust bundle.
    #[must_use]
    pub fn trust_bundle(&self) -> PathBuf {
        self.path("trust.crt")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn now(&self) -> i64 {
        self.clock.now_ms() / 1_000
    }

    /// Writes a new root: its certificate and its key in one file, so that they always fit.
    fn make_root(&self, name: &str) -> anyhow::Result<()> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(
            DnType::CommonName,
            format!("{} {}", self.deployment, self.now()),
        );
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = moment(self.now() - SKEW_SECONDS)?;
        params.not_after = moment(self.now() + ROOT_DAYS * DAY_SECONDS)?;
        let certificate = params.self_signed(&key)?;
        // If we crash here: there is no root of this name, and the next run makes another one.
        let both = format!("{}{}", certificate.pem(), key.serialize_pem());
        replace_private(&self.path(name), &both)
    }

    /// The certificate of a root, and its key.
    fn read_root(&self, name: &str) -> anyhow::Result<(String, String)> {
        let path = self.path(name);
        let both = counterfoil_chassis::secrets::read(&path)?;
        let key = both.find("-----BEGIN PRIVATE KEY-----");
        let key = key.with_context(|| format!("{} holds no key", path.display()))?;
        let (certificate, key) = both.split_at(key);
        Ok((certificate.to_owned(), key.to_owned()))
    }

    /// Writes the trust bundle: every root that there is.
    fn write_trust(&self) -> anyhow::Result<()> {
        let mut bundle = String::new();
        for name in ["root.pem", "next.pem"] {
            if self.path(name).exists() {
                bundle.push_str(&self.read_root(name)?.0);
            }
        }
        let old = self.path("old.crt");
        if old.exists() {
            bundle.push_str(&fs::read_to_string(old)?);
        }
        replace(&self.trust_bundle(), &bundle)
    }

    /// Issues a certificate and writes `{name}.key`, `{name}.crt` and `trust.crt` into `out`: the layout of `[service.tls]`. What
    /// is there is replaced, and a running service takes the new files by itself.
    ///
    /// # Errors
    /// When a name or the life cannot be, or a file cannot be written.
    pub fn issue(&self, wanted: &Wanted, out: &Path) -> anyhow::Result<SpiffeId> {
        let id = SpiffeId::new(&self.deployment, wanted.holder, &wanted.name);
        let id = id.with_context(|| format!("{:?} is no name: a-z, 0-9 and '-'", wanted.name))?;
        ensure!(
            (1..=LEAF_DAYS_MAX).contains(&wanted.days),
            "a certificate lives 1 to {LEAF_DAYS_MAX} days"
        );
        let (root, key) = self.read_root("root.pem")?;
        let issuer = Issuer::from_ca_cert_pem(&root, KeyPair::from_pem(&key)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(wanted.dns.clone())?;
        let uri = SanType::URI(id.to_string().as_str().try_into()?);
        params.subject_alt_names.insert(0, uri);
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, id.principal());
        params.distinguished_name = subject;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match wanted.holder {
            Holder::Service => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Holder::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.not_before = moment(self.now() - SKEW_SECONDS)?;
        params.not_after = moment(self.now() + wanted.days * DAY_SECONDS)?;
        let certificate = params.signed_by(&key, &issuer)?;
        self.write_trust()?;
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        replace(
            &out.join("trust.crt"),
            &fs::read_to_string(self.trust_bundle())?,
        )?;
        // If we crash here, or between the two: key and certificate do not fit, so a running service keeps what it has, and a
        // second run mends it.
        replace_private(
            &out.join(format!("{}.key", wanted.name)),
            &key.serialize_pem(),
        )?;
        replace(
            &out.join(format!("{}.crt", wanted.name)),
            &certificate.pem(),
        )?;
        Ok(id)
    }

    /// The next step of replacing the root.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn rotate(&self) -> anyhow::Result<Rotated> {
        let (next, old) = (self.path("next.pem"), self.path("old.crt"));
        let step = if old.exists() && !next.exists() {
            fs::remove_file(&old)?;
            Rotated::Finished
        } else if next.exists() {
            replace(&old, &self.read_root("root.pem")?.0)?;
            // If we crash here: the old root still signs, and the next run switches again.
            fs::rename(&next, self.path("root.pem"))?;
            Rotated::Switched
        } else {
            self.make_root("next.pem")?;
            Rotated::Prepared
        };
        // If we crash here: the bundle lacks what this step added, or has what it dropped. Issuing writes it again.
        self.write_trust()?;
        Ok(step)
    }
}

fn moment(seconds: i64) -> anyhow::Result<OffsetDateTime> {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(moment) => Ok(moment),
        Err(error) => bail!("the clock shows {seconds}: {error}"),
    }
}

#[cfg(test)]
mod tests;
