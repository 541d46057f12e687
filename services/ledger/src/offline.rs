//! What is done to the logs past the running service: how they stand, a full check, and bringing back what a database lost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use counterfoil_chassis::db::Database;
use counterfoil_chassis::outbox::KeptOutbox;
use counterfoil_chassis::{Clock, ProducerKey, StartError};
use counterfoil_engine::{
    DirectoryKeys, Engine, EngineError, FsckProblem, FsckReport, HighWater, KeptReceipt,
    KeptRecord, KeptRecords, LogStatus, Publication, RecordList, Recovered, ScrubPlace,
    SignedRecord,
};
use counterfoil_evidence::record::decode_record;
use counterfoil_tlog::{Hash, VerifierKey};

use crate::anchor_check;
use crate::journal::Journal;
use crate::model::anchoring::{ANCHOR, origin_of};
use crate::records_file::{self, Kept, RecordsFileError};
use crate::scrubber::Scrubber;
use crate::store::scrubs;
use crate::witnesses::Witnesses;
use crate::{Config, EngineClock, MIGRATIONS, SERVICE, anchors, engine_options, other, publisher};

/// Told how many entries are done, and of how many.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// The logs, opened by an operator.
///
/// On PostgreSQL the service may run meanwhile. SQLite is for one process that writes: stop the service before recovering.
#[derive(Debug)]
pub struct Offline {
    engine: Engine,
    copy: Option<Publication>,
    witnesses: Option<Witnesses>,
    deployment: String,
    registrar: VerifierKey,
    journal: Journal,
    high_water: HighWater,
    outboxes: Vec<KeptOutbox>,
    files: Vec<Kept>,
    config: Config,
}

/// Bundles between two moments at which a round of hashing can be cut off and gone on with: 4,096 entries.
const SCRUB_BUNDLES: u64 = 16;

impl Offline {
    /// Opens the logs that a configuration names.
    ///
    /// # Errors
    /// When keys, database or published copy cannot be opened.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let service = &config.service;
        let name = format!("{}/services/{SERVICE}", service.deployment);
        let key = ProducerKey::load_or_create(&service.producer_key_file, &name).map_err(other)?;
        let keys = DirectoryKeys::open(config.log_keys_dir()).map_err(other)?;
        let copy = config.ledger.publish_url.as_deref().map(publisher::open);
        let copy = copy.transpose().map_err(other)?;
        let clock = Clock::system();
        let witnesses = Witnesses::open(&config.ledger, &clock).map_err(other)?;
        let anchors = anchors(config, copy.as_ref(), witnesses.as_ref())?;
        let options = engine_options(config, anchors, copy.clone());
        let clock = Arc::new(EngineClock(clock));
        let engine = Engine::open(&service.database_url, Arc::new(keys), clock, options)
            .await
            .map_err(other)?;
        Ok(Self {
            engine,
            copy,
            witnesses,
            deployment: service.deployment.clone(),
            registrar: VerifierKey::parse(&key.vkey()).map_err(other)?,
            journal: Journal::new(&config.high_water_dir()),
            high_water: HighWater::open(config.high_water_dir()).map_err(other)?,
            outboxes: Vec::new(),
            files: Vec::new(),
            config: config.clone(),
        })
    }

    /// Recovers also from the outboxes of services, and from files of records that producers without one have kept
    /// (`services/ledger/README.md` says what is in them).
    ///
    /// # Errors
    /// When a file is not one of records.
    pub fn with_producers(
        mut self,
        outboxes: Vec<KeptOutbox>,
        files: &[PathBuf],
    ) -> Result<Self, RecordsFileError> {
        for file in files {
            self.files.extend(records_file::read(file)?);
        }
        self.outboxes.extend(outboxes);
        Ok(self)
    }

    /// The tenants that have a log in the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tenants(&self) -> Result<Vec<String>, EngineError> {
        self.engine.tenants().await
    }

    /// The tenants whose logs can be recovered, if anything of them is lost: those that the database knows, those that are published,
    /// and those that the producers wrote for. The anchor log is the last of them: replicas that run meanwhile must not anchor heads of logs
    /// that are not back yet.
    ///
    /// # Errors
    /// When database, object store or an outbox cannot be read.
    pub async fn recoverable(&self) -> Result<Vec<String>, EngineError> {
        let mut all: BTreeSet<String> = self.engine.tenants().await?.into_iter().collect();
        if let Some(copy) = &self.copy {
            all.extend(copy.tenants().await?);
        }
        for outbox in &self.outboxes {
            let tenants = outbox.tenants().await;
            all.extend(tenants.map_err(|error| unreadable(outbox, &error))?);
        }
        // No producer but this service writes to the anchor log: a key of it, and anything that was signed with it, is all that tells.
        let anchor = origin_of(&self.deployment, ANCHOR);
        let was_there = self.engine.has_key(&anchor)?
            && (self.high_water.has(&anchor) || self.journal.has(&anchor));
        let has_anchor = all.remove(ANCHOR) || was_there;
        let last = has_anchor.then(|| ANCHOR.to_owned());
        Ok(all.into_iter().chain(last).collect())
    }

    /// Entries of a tenant's log.
    ///
    /// # Errors
    /// When there is no such log, or the database cannot be read.
    pub async fn size(&self, tenant: &str) -> Result<u64, EngineError> {
        Ok(self.engine.log(tenant).await?.head().await?.size)
    }

    /// How a log stands beside its published copy and what witnesses have cosigned. The service may run meanwhile, on SQLite too.
    ///
    /// # Errors
    /// When there is no such log, the database or the object store cannot be read, or the copy is of another log.
    pub async fn status(&self, tenant: &str) -> Result<LogStatus, EngineError> {
        let log = self.engine.log(tenant).await?;
        let witnesses = self.witnesses.as_ref();
        let theirs = witnesses.filter(|witnesses| witnesses.are_of(&log.info().vkey));
        let policy = theirs.map(Witnesses::policy);
        log.status(self.copy.as_ref(), policy).await
    }

    /// What the database finds wrong with itself.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn check_database(&self) -> Result<Vec<String>, EngineError> {
        self.engine.check_database().await
    }

    /// Checks a log in full, with its published copy if there is one, and with the receipts in the files of
    /// [`Self::with_producers`].
    ///
    /// # Errors
    /// When the database or the object store cannot be read; what does not fit is in the report.
    pub async fn fsck(
        &self,
        tenant: &str,
        progress: Progress<'_>,
    ) -> Result<FsckReport, EngineError> {
        let log = self.engine.log(tenant).await?;
        let mut report = log.fsck_with(self.copy.as_ref(), progress).await?;
        if tenant == ANCHOR {
            let epochs = anchor_check::check(&self.engine, &log).await?;
            report.problems.extend(epochs);
        }
        for (kept, proof) in self
            .files
            .iter()
            .filter(|kept| is_of(kept, &log.info().origin))
        {
            let Some(receipt) = &kept.receipt else {
                continue;
            };
            if let Some(what) = log.check_receipt(receipt, proof.as_deref()).await? {
                let index = Some(receipt.index);
                report.problems.push(FsckProblem { index, what });
            }
        }
        Ok(report)
    }

    /// Opens the service's own tables, where the rounds of hashing the logs again are kept.
    ///
    /// # Errors
    /// When they cannot be opened or brought up to date.
    pub async fn rounds(&self) -> Result<Rounds, StartError> {
        let service = &self.config.service;
        let db = Database::connect(&service.database_url, SERVICE).await?;
        // Tables of another owner are brought up to date by the service's start.
        if service.migration_database_url.is_none() {
            db.migrate(&[MIGRATIONS], Clock::system().now_ms()).await?;
        }
        Ok(Rounds {
            db,
            copy: self.copy.clone(),
            interval_hours: self.config.ledger.scrub_interval_hours,
        })
    }

    /// Hashes a log again in full, as the service does by and by: goes on with the round that is under way, and ends it. Cut off, it is
    /// gone on with by whoever comes next. A round that found everything as it was signed is stated in the log when the service runs
    /// again. Entries of the round.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when something does not fit: the log is stopped then. Otherwise when a database or the object store
    /// cannot be read or written.
    pub async fn scrub(
        &self,
        rounds: &Rounds,
        tenant: &str,
        progress: Progress<'_>,
    ) -> Result<u64, StartError> {
        let log = self.engine.log(tenant).await.map_err(other)?;
        loop {
            let now_ms = Clock::system().now_ms();
            let due = scrubs::of(&rounds.db, tenant, now_ms)
                .await
                .map_err(other)?;
            let scrubber = rounds.scrubber();
            let step = scrubber.step(&log, &due, SCRUB_BUNDLES, now_ms).await;
            let next = step.map_err(other)?;
            // If we crash here: the step is taken again.
            scrubs::keep(&rounds.db, &next).await.map_err(other)?;
            // Also for something else than what was hashed.
            if let Some(why) = log.stopped().await.map_err(other)? {
                return Err(other(stopped(&log, &why)));
            }
            match next.place.as_deref().and_then(ScrubPlace::from_bytes) {
                Some(place) => {
                    let (done, of) = place.progress();
                    progress(done, of);
                }
                None => return self.size(tenant).await.map_err(other),
            }
        }
    }

    /// Brings a log to what its published copy has, and then to what was signed last, from the producers' records and this service's
    /// own journal.
    ///
    /// # Errors
    /// See [`counterfoil_engine::Log::recover_from`].
    pub async fn recover(
        &self,
        tenant: &str,
        progress: Progress<'_>,
    ) -> Result<Recovered, EngineError> {
        let origin = origin_of(&self.deployment, tenant);
        let kept = self.kept(tenant, &origin)?;
        let log = self
            .engine
            .lost_log(tenant, &origin, &self.registrar)
            .await?;
        log.recover_from(self.copy.as_ref(), &kept, progress).await
    }

    /// What is kept of the records of a log.
    fn kept(&self, tenant: &str, origin: &str) -> Result<Vec<Arc<dyn KeptRecords>>, EngineError> {
        let failed = |message: String| EngineError::Storage {
            step: "read kept records",
            message,
        };
        let mut records = self
            .journal
            .read(origin)
            .map_err(|error| failed(error.to_string()))?;
        records.extend(
            self.files
                .iter()
                .filter(|kept| is_of(kept, origin))
                .cloned(),
        );
        let lists = RecordList::sort(records).map_err(failed)?;
        let mut all: Vec<Arc<dyn KeptRecords>> = Vec::new();
        for list in lists {
            all.push(Arc::new(list));
        }
        for outbox in &self.outboxes {
            all.push(Arc::new(OfTenant {
                outbox: outbox.clone(),
                tenant: tenant.to_owned(),
            }));
        }
        Ok(all)
    }

    /// Closes the databases.
    pub async fn close(self) {
        self.engine.close().await;
        for outbox in &self.outboxes {
            outbox.close().await;
        }
    }
}

/// Where the rounds of hashing the logs again are kept.
#[derive(Debug)]
pub struct Rounds {
    db: Database,
    copy: Option<Publication>,
    interval_hours: Option<u32>,
}

impl Rounds {
    fn scrubber(&self) -> Scrubber {
        Scrubber::new(self.db.clone(), self.copy.clone(), self.interval_hours)
    }

    /// Closes the connections.
    pub async fn close(self) {
        self.db.close().await;
    }
}

fn stopped(log: &counterfoil_engine::Log, why: &str) -> EngineError {
    EngineError::Damaged {
        origin: log.info().origin.clone(),
        reason: why.to_owned(),
    }
}

/// Whether a record is of a log.
fn is_of((kept, _): &Kept, origin: &str) -> bool {
    let record = decode_record(&kept.signed.record);
    record.is_ok_and(|record| record.log_origin == origin)
}

/// A service's outbox, as the engine takes it.
#[derive(Debug)]
struct OfTenant {
    outbox: KeptOutbox,
    tenant: String,
}

fn unreadable(outbox: &KeptOutbox, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Storage {
        step: "read an outbox",
        message: format!("{}: {error}", outbox.stream()),
    }
}

#[async_trait]
impl KeptRecords for OfTenant {
    fn stream(&self) -> &str {
        self.outbox.stream()
    }

    async fn after(&self, seq: u64, limit: u32) -> Result<Vec<KeptRecord>, EngineError> {
        let read = self.outbox.after(&self.tenant, seq, limit).await;
        let read = read.map_err(|error| unreadable(&self.outbox, &error))?;
        let kept = read.into_iter().map(|kept| {
            let receipt = kept.place.map(|place| {
                let leaf_hash = place.leaf_hash.try_into();
                let leaf_hash = leaf_hash
                    .map_err(|_| unreadable(&self.outbox, &"a leaf hash has not 32 bytes"))?;
                Ok(KeptReceipt {
                    index: place.index,
                    leaf_hash: Hash(leaf_hash),
                    checkpoint_ms: place.checkpoint_ms,
                })
            });
            Ok(KeptRecord {
                signed: SignedRecord {
                    record: kept.record,
                    key_id: kept.key_id,
                    signature: kept.signature,
                },
                receipt: receipt.transpose()?,
            })
        });
        kept.collect()
    }

    async fn newest_proofs(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        let read = self.outbox.newest_proofs(&self.tenant).await;
        read.map_err(|error| unreadable(&self.outbox, &error))
    }
}
