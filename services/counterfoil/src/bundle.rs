//! `counterfoil bundle export`: evidence to take away, in the format that `counterfoil-verify` reads.
//!
//! The log comes from the ledger service, the openings and attachments from each service that wrote records. Only what the
//! exported records refer to goes in. The bundle ends with a sealed epoch, so that a shortened one is seen to be short.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Arg, ArgMatches, Command};
use counterfoil_evidence::{
    record::{decode_canonical, decode_entry, decode_record},
    v1::EpochSealed,
};
use counterfoil_proto::{
    authority::GetTenantRequest,
    common::{EvidenceState, StreamDisclosuresRequest, stream_disclosures_response::Disclosure},
    ledger::{
        ExportLogRequest, GetEntryRequest, GetReceiptRequest, ProveAnchoredRequest,
        SealEpochRequest, get_entry_request::Selector, get_receipt_request,
    },
};
use counterfoil_tlog::{
    Checkpoint, TlogProof,
    note::Note,
    tile::{TileKind, TilePath, decode_entries},
};
use counterfoil_verify::bundle::{BundleInfo, BundleWriter, Opening};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Output, Session, explain},
    client::{Clients, SERVICES},
};

/// How long an export waits until all that it takes along is anchored; a bundle is good without, and proves less.
const ANCHOR_WAIT_SECONDS: u32 = 10;
/// How often an epoch is sealed again because something was logged meanwhile.
const SEAL_TRIES: usize = 10;

/// How long an export waits for the witnesses of the deployment, if it has any.
const WITNESS_WAIT_SECONDS: u32 = 30;

/// Where an export is.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The bundle.
    pub bundle: PathBuf,
    /// The trust file to verify it with.
    pub trust: PathBuf,
    /// Entries in it.
    pub size: u64,
}

impl Exported {
    /// The command that verifies it.
    #[must_use]
    pub fn verify_command(&self) -> String {
        format!(
            "cargo run --release -p counterfoil-verify -- {} --trust {}",
            self.bundle.display(),
            self.trust.display()
        )
    }
}

/// The subcommand.
#[must_use]
pub fn command() -> Command {
    Command::new("export")
        .about("Export a tenant's evidence as a bundle, and keep its checkpoint in the trust file")
        .arg(Arg::new("tenant").help("tenants/{tenant}; the id alone will do"))
        .arg(
            Arg::new("directory")
                .long("directory")
                .value_name("DIR")
                .help("Folder to put the bundle into; default bundles/ in the data folder"),
        )
}

/// Runs the subcommand.
///
/// # Errors
/// When a service refuses or the folder cannot be written.
pub async fn run(session: &Session, arguments: &ArgMatches) -> anyhow::Result<()> {
    let tenant = arguments
        .get_one::<String>("tenant")
        .or(session.tenant.as_ref())
        .context("say which tenant")?;
    let tenant = tenant.trim_start_matches("tenants/");
    let data_dir: &String = arguments.get_one("data-dir").context("data-dir")?;
    let data_dir = PathBuf::from(data_dir);
    let directory = arguments
        .get_one::<String>("directory")
        .map_or_else(|| data_dir.join("bundles"), PathBuf::from);
    let clients = Clients::open(&session.endpoints, &session.endpoints.token()?)?;
    let exported = export(
        &clients,
        &format!("tenants/{tenant}"),
        &directory,
        &data_dir,
    )
    .await?;
    match session.output {
        Output::Json => crate::say(&serde_json::to_string_pretty(&exported)?),
        Output::Table => {
            crate::say(&format!(
                "{} entries in {}",
                exported.size,
                exported.bundle.display()
            ));
            crate::say(&format!("verify with: {}", exported.verify_command()));
        }
    }
    Ok(())
}

/// Exports a tenant's evidence into a new bundle in `directory` and pins its checkpoint in the trust file in `data_dir`.
///
/// # Errors
/// When a service refuses, or a folder cannot be written.
pub async fn export(
    clients: &Clients,
    tenant: &str,
    directory: &Path,
    data_dir: &Path,
) -> anyhow::Result<Exported> {
    let size = seal(clients, tenant).await?;
    let request = GetTenantRequest {
        name: tenant.to_owned(),
    };
    let answer = clients
        .tenants()?
        .get_tenant(request)
        .await
        .map_err(explain)?
        .into_inner();
    let known = answer.tenant.context("no tenant in the answer")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    let id = tenant.trim_start_matches("tenants/");
    let target = free_path(directory, &format!("{id}-{size}"));
    let tool = concat!("counterfoil ", env!("CARGO_PKG_VERSION"));
    let created = jiff::Timestamp::now().to_string();
    let info = BundleInfo::full(&known.log_origin, tenant, size, &created, tool);
    let mut writer = BundleWriter::create(&target, info)?;
    let (referred, checkpoint) = copy_log(clients, tenant, size, &mut writer).await?;
    for service in SERVICES {
        // Who wrote nothing into the log discloses nothing, and may never have heard of the tenant: a provider's own, say.
        if !referred.records.values().any(|stream| stream == service) {
            continue;
        }
        copy_disclosures(clients, service, tenant, &referred, &mut writer)
            .await
            .with_context(|| format!("what the {service} service discloses"))?;
    }
    writer.add_schema(
        &counterfoil_evidence::schema_hash(),
        counterfoil_evidence::DESCRIPTOR_SET,
    )?;
    let anchor = copy_anchor(clients, tenant, size, &mut writer).await?;
    let trust = data_dir.join(format!("trust-{id}.json"));
    let mut pinned = TrustFile::pin(
        &trust,
        &known.log_origin,
        &known.log_vkey,
        &known.registrar_vkey,
        &checkpoint,
    )?;
    pinned.pin_anchor(&trust, anchor)?;
    writer.add_trust_hint(&serde_json::to_vec_pretty(&pinned)?)?;
    let bundle = writer.finish()?;
    // If we crash here: the bundle is whole, and the trust file lacks its checkpoint until the next export.
    pinned.write(&trust)?;
    Ok(Exported {
        bundle: bundle.canonicalize()?,
        trust: trust.canonicalize()?,
        size,
    })
}

/// Seals epochs until one stands directly behind what it counts; answers the size that ends with it.
async fn seal(clients: &Clients, tenant: &str) -> anyhow::Result<u64> {
    let mut ledger = clients.ledger()?;
    for _ in 0..SEAL_TRIES {
        let request = SealEpochRequest {
            tenant: tenant.to_owned(),
        };
        let sealed = ledger
            .seal_epoch(request)
            .await
            .map_err(explain)?
            .into_inner();
        let index = sealed
            .receipt
            .context("an epoch was sealed without a receipt")?
            .index;
        let request = GetEntryRequest {
            tenant: tenant.to_owned(),
            selector: Some(Selector::Index(index)),
        };
        let entry = ledger
            .get_entry(request)
            .await
            .map_err(explain)?
            .into_inner();
        let entry = decode_entry(&entry.entry.unwrap_or_default().entry)?;
        let record = decode_record(&entry.record)?;
        let epoch: EpochSealed = decode_canonical(&record.payload, "EpochSealed")?;
        if epoch.to_index == index && !is_passed(clients, tenant, index).await? {
            return Ok(index + 1);
        }
    }
    bail!("the log grows faster than it can be sealed; export when less is going on")
}

/// Has the checkpoint that ends with an entry cosigned, where there are witnesses; whether they have cosigned a larger one instead.
async fn is_passed(clients: &Clients, tenant: &str, index: u64) -> anyhow::Result<bool> {
    let request = GetReceiptRequest {
        tenant: tenant.to_owned(),
        selector: Some(get_receipt_request::Selector::Index(index)),
        state: EvidenceState::Witnessed.into(),
        wait_seconds: WITNESS_WAIT_SECONDS,
    };
    let answer = clients.ledger()?.get_receipt(request).await;
    let receipt = answer.map_err(explain)?.into_inner().receipt;
    let receipt = receipt.context("no receipt in the answer")?;
    // Whoever is away is not waited for again: the bundle says by itself who has cosigned it.
    if receipt.state() != EvidenceState::Witnessed {
        return Ok(false);
    }
    let proof = TlogProof::parse(std::str::from_utf8(&receipt.tlog_proof)?)?;
    let size = Checkpoint::parse(proof.checkpoint.text())?.size;
    Ok(size != index + 1)
}

/// What the exported records refer to.
#[derive(Debug, Default)]
struct Referred {
    /// Record id -> stream.
    records: HashMap<Vec<u8>, String>,
    blobs: HashSet<Vec<u8>>,
}

async fn copy_log(
    clients: &Clients,
    tenant: &str,
    size: u64,
    writer: &mut BundleWriter,
) -> anyhow::Result<(Referred, String)> {
    let request = ExportLogRequest {
        tenant: tenant.to_owned(),
        size,
        with_cosigned: true,
    };
    let mut parts = clients
        .ledger()?
        .export_log(request)
        .await
        .map_err(explain)?
        .into_inner();
    let mut referred = Referred::default();
    let mut checkpoint = None;
    let mut content = Vec::new();
    while let Some(part) = parts.message().await.map_err(explain)? {
        content.extend_from_slice(&part.content);
        if !part.last {
            continue;
        }
        if part.path == "checkpoint" {
            checkpoint = Some(String::from_utf8(content.clone())?);
        } else if let Some(size) = part.path.strip_prefix("checkpoints/") {
            writer.add_checkpoint(size.parse()?, &content)?;
            content.clear();
            continue;
        } else {
            let path = TilePath::parse(&part.path)?;
            if matches!(path.kind(), TileKind::Entries) {
                for entry in decode_entries(&content, path.width())? {
                    let record = decode_record(&decode_entry(entry)?.record)?;
                    referred
                        .blobs
                        .extend(record.blob.into_iter().map(|blob| blob.sha256));
                    referred.records.insert(record.record_id, record.stream);
                }
            }
        }
        writer.add_log_file(&part.path, &content)?;
        content.clear();
    }
    let checkpoint = checkpoint.context("the ledger exported no checkpoint")?;
    let exported = Checkpoint::parse(Note::parse(checkpoint.as_bytes())?.text())?;
    ensure!(
        exported.size == size,
        "the ledger exported {} entries, {size} were asked for",
        exported.size
    );
    Ok((referred, checkpoint))
}

/// Takes along what the anchor log proves of the log; its keys. `None`: nothing of the log is anchored.
async fn copy_anchor(
    clients: &Clients,
    tenant: &str,
    size: u64,
    writer: &mut BundleWriter,
) -> anyhow::Result<Option<TrustedAnchor>> {
    let request = ProveAnchoredRequest {
        tenant: tenant.to_owned(),
        size,
        wait_seconds: ANCHOR_WAIT_SECONDS,
        ..Default::default()
    };
    let anchored = clients
        .ledger()?
        .prove_anchored(request)
        .await
        .map_err(explain)?
        .into_inner();
    if anchored.binding.is_empty() || anchored.epochs.is_empty() {
        return Ok(None);
    }
    writer.add_anchor_binding(&anchored.binding)?;
    for one in &anchored.epochs {
        writer.add_anchor_epoch(one.epoch, &one.proof)?;
    }
    Ok(Some(TrustedAnchor {
        vkey: anchored.vkey,
        registrar: anchored.registrar_vkey,
    }))
}

async fn copy_disclosures(
    clients: &Clients,
    service: &str,
    tenant: &str,
    referred: &Referred,
    writer: &mut BundleWriter,
) -> anyhow::Result<()> {
    let request = StreamDisclosuresRequest {
        tenant: tenant.to_owned(),
    };
    let mut stream = clients
        .disclosures(service)?
        .stream_disclosures(request)
        .await
        .map_err(explain)?
        .into_inner();
    let mut written: HashSet<Vec<u8>> = HashSet::new();
    let mut next = stream.message().await.map_err(explain)?;
    while let Some(message) = next {
        match message.disclosure {
            Some(Disclosure::Opening(opening)) => {
                // A record that is not in the exported log yet is not disclosed with it.
                if let Some(stream) = referred.records.get(&opening.record_id) {
                    let opening = Opening {
                        record_id: opening.record_id,
                        label: opening.label,
                        salt: opening
                            .salt
                            .try_into()
                            .ok()
                            .context("a salt has 32 bytes")?,
                        value: opening.value,
                    };
                    writer.add_opening(stream, &opening)?;
                }
            }
            Some(Disclosure::Blob(first)) => {
                let wanted =
                    referred.blobs.contains(&first.sha256) && written.insert(first.sha256.clone());
                let sha256: [u8; 32] = first
                    .sha256
                    .clone()
                    .try_into()
                    .ok()
                    .context("a hash has 32 bytes")?;
                let mut sink = if wanted {
                    Some(writer.blob(sha256)?)
                } else {
                    None
                };
                let mut part = first;
                loop {
                    if let Some(sink) = &mut sink {
                        sink.write(&part.content)?;
                    }
                    if part.last {
                        break;
                    }
                    let message = stream.message().await.map_err(explain)?;
                    match message.and_then(|message| message.disclosure) {
                        Some(Disclosure::Blob(more)) => part = more,
                        _ => bail!("an attachment ended in its middle"),
                    }
                }
                if let Some(sink) = sink {
                    sink.finish()?;
                }
            }
            None => {}
        }
        next = stream.message().await.map_err(explain)?;
    }
    Ok(())
}

fn free_path(directory: &Path, name: &str) -> PathBuf {
    let mut path = directory.join(format!("{name}.cfbundle"));
    let mut number = 1;
    while path.exists() {
        number += 1;
        path = directory.join(format!("{name}-{number}.cfbundle"));
    }
    path
}

/// The trust file: what an auditor pins. The checkpoints kept in it make every later bundle prove that it continues this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    format: String,
    logs: Vec<TrustedLog>,
    #[serde(default)]
    witnesses: Vec<serde_json::Value>,
    #[serde(default)]
    quorum: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<TrustedAnchor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustedAnchor {
    vkey: String,
    registrar: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustedLog {
    origin: String,
    vkey: String,
    registrar: String,
    checkpoints: Vec<String>,
}

impl TrustFile {
    /// The file at `path` with one more checkpoint; refuses to replace a key that is pinned there.
    fn pin(
        path: &Path,
        origin: &str,
        vkey: &str,
        registrar: &str,
        checkpoint: &str,
    ) -> anyhow::Result<Self> {
        let mut file = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is malformed", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self {
                format: "counterfoil-trust/v1".to_owned(),
                logs: Vec::new(),
                witnesses: Vec::new(),
                quorum: 0,
                anchor: None,
            },
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if let Some(log) = file.logs.iter_mut().find(|log| log.origin == origin) {
            ensure!(
                log.vkey == vkey && log.registrar == registrar,
                "{} pins other keys for {origin} than the services use now",
                path.display()
            );
            if !log.checkpoints.iter().any(|kept| kept == checkpoint) {
                log.checkpoints.push(checkpoint.to_owned());
            }
        } else {
            file.logs.push(TrustedLog {
                origin: origin.to_owned(),
                vkey: vkey.to_owned(),
                registrar: registrar.to_owned(),
                checkpoints: vec![checkpoint.to_owned()],
            });
        }
        Ok(file)
    }

    /// Pins the anchor log; refuses to replace the one that is pinned.
    fn pin_anchor(&mut self, path: &Path, anchor: Option<TrustedAnchor>) -> anyhow::Result<()> {
        let Some(anchor) = anchor else { return Ok(()) };
        ensure!(
            self.anchor.as_ref().is_none_or(|pinned| *pinned == anchor),
            "{} pins other keys for the anchor log than the services use now",
            path.display()
        );
        self.anchor = Some(anchor);
        Ok(())
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let partial = path.with_extension("json.partial");
        std::fs::write(&partial, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("{} cannot be written", partial.display()))?;
        // If we crash here: the old file stands, and pins one checkpoint less.
        std::fs::rename(&partial, path)
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}
