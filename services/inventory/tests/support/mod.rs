//! A small estate in CSV files, and a store with the sync job over it, without the API around.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses its own part"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use counterfoil_chassis::{
    ApiError, Database, Outbox, TestClock, names::new_id, outbox::ProducerKey,
    tenants::record_log_origin, testing::TestDatabase,
};
use counterfoil_connectors::{
    ConnectorError, ControlTotals, Page, ProbeReport, ReadSummary, Reader, SourceConfig,
};
use counterfoil_evidence::leaf::{GrantLeaf, SourceTag};
use counterfoil_inventory::{
    bell::Bell,
    config::InventoryConfig,
    jobs::{
        Progress, SyncJob,
        ingest::{Connectors, Readers, Workshop},
        rules::RuleBook,
    },
    model::facts::Rules,
    store::{
        MIGRATIONS, grants,
        sources::{self, NewSource, SourceRow},
        syncs::{self, SyncRow},
    },
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};

pub const TENANT: &str = "acme";
pub const NOW_MS: i64 = 1_790_000_000_000;
pub const DAY_MS: i64 = 86_400_000;

/// Rules that a test decides; the authority service is asked in the tests of the API.
#[derive(Debug)]
pub struct TestRules(pub Rules);

#[async_trait]
impl RuleBook for TestRules {
    async fn rules(&self, _tenant: &str) -> Result<Rules, ApiError> {
        Ok(self.0.clone())
    }

    async fn snapshot_age_max_ms(&self, _tenant: &str) -> Result<i64, ApiError> {
        Ok(2 * DAY_MS)
    }
}

/// Holds readers when they have read everything and are asked for the source's own totals. Every permit lets one pass.
#[derive(Debug, Clone)]
pub struct Gate {
    pub arrived: Arc<Semaphore>,
    pub open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        let closed = || Arc::new(Semaphore::new(0));
        Self {
            arrived: closed(),
            open: closed(),
        }
    }
}

impl Gate {
    /// Waits until somebody stands at the gate.
    pub async fn arrival(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }
}

impl Readers for Gate {
    fn reader(&self, config: &SourceConfig) -> Result<Box<dyn Reader>, ConnectorError> {
        Ok(Box::new(GatedReader {
            inner: counterfoil_connectors::reader(config)?,
            gate: self.clone(),
        }))
    }
}

struct GatedReader {
    inner: Box<dyn Reader>,
    gate: Gate,
}

#[async_trait]
impl Reader for GatedReader {
    fn principal(&self) -> &str {
        self.inner.principal()
    }

    async fn probe(&mut self) -> Result<ProbeReport, ConnectorError> {
        self.inner.probe().await
    }

    async fn read(&mut self, sink: mpsc::Sender<Page>) -> Result<ReadSummary, ConnectorError> {
        self.inner.read(sink).await
    }

    async fn control_totals(&mut self) -> Result<ControlTotals, ConnectorError> {
        self.gate.arrived.add_permits(1);
        self.gate.open.acquire().await.unwrap().forget();
        self.inner.control_totals().await
    }
}

/// Files of a CSV source, row by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estate {
    /// native id -> the other columns, see [`Estate::write`].
    pub accounts: BTreeMap<String, Account>,
    pub entitlements: BTreeMap<String, Entitlement>,
    pub edges: BTreeSet<(String, String)>,
    pub grants: BTreeMap<(String, String), Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub identity_key: String,
    pub class: &'static str,
    pub owner_key: String,
    pub expires: String,
    pub lifecycle: &'static str,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            identity_key: String::new(),
            class: "workforce",
            owner_key: String::new(),
            expires: String::new(),
            lifecycle: "",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlement {
    pub privileged: bool,
    pub owner_key: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    pub purpose: String,
    pub last_used: String,
}

impl Estate {
    pub fn person(&mut self, native_id: &str) -> &mut Account {
        let account = self.accounts.entry(native_id.into()).or_default();
        account.identity_key = format!("{native_id}@example.org");
        account
    }

    pub fn team(&mut self, native_id: &str) -> &mut Entitlement {
        self.entitlements.entry(native_id.into()).or_default()
    }

    pub fn edge(&mut self, child: &str, parent: &str) {
        self.edges.insert((child.into(), parent.into()));
    }

    pub fn grant(&mut self, account: &str, entitlement: &str) -> &mut Grant {
        self.grants
            .entry((account.into(), entitlement.into()))
            .or_default()
    }

    /// Three people, three nested teams and a lonely administrator role.
    pub fn small() -> Self {
        let mut estate = Self::default();
        for name in ["ada", "bob", "cid"] {
            estate.person(name);
        }
        for name in ["crew", "staff", "everyone"] {
            estate.team(name);
        }
        estate.team("root").privileged = true;
        estate.edge("crew", "staff");
        estate.edge("staff", "everyone");
        estate.grant("ada", "crew");
        estate.grant("bob", "staff");
        estate.grant("cid", "root");
        estate
    }

    pub fn write(&self, folder: &Path) {
        let mut accounts = String::from(
            "native_id,display_name,identity_key,identity_class,owner_key,expires,lifecycle\n",
        );
        for (id, account) in &self.accounts {
            accounts += &format!(
                "{id},Name of {id},{},{},{},{},{}\n",
                account.identity_key,
                account.class,
                account.owner_key,
                account.expires,
                account.lifecycle
            );
        }
        let mut entitlements = String::from("native_id,display_name,kind,privileged,owner_key\n");
        for (id, entitlement) in &self.entitlements {
            let Entitlement {
                privileged,
                owner_key,
            } = entitlement;
            entitlements += &format!("{id},Team {id},team,{privileged},{owner_key}\n");
        }
        let mut edges = String::from("child_native_id,parent_native_id\n");
        for (child, parent) in &self.edges {
            edges += &format!("{child},{parent}\n");
        }
        let mut grants =
            String::from("account_native_id,entitlement_native_id,last_used,purpose\n");
        for ((account, entitlement), grant) in &self.grants {
            grants += &format!(
                "{account},{entitlement},{},{}\n",
                grant.last_used, grant.purpose
            );
        }
        for (name, text) in [
            ("accounts.csv", accounts),
            ("entitlements.csv", entitlements),
            ("edges.csv", edges),
            ("grants.csv", grants),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
    }
}

/// A store with sources in folders, and the job over it.
pub struct Lab {
    pub db: Database,
    pub folder: TempDir,
    pub clock: TestClock,
    pub shop: Workshop,
    pub job: SyncJob,
}

impl Lab {
    pub async fn new(db: &TestDatabase) -> Self {
        Self::with(db, InventoryConfig::default()).await
    }

    pub async fn with(db: &TestDatabase, config: InventoryConfig) -> Self {
        db.migrate(&[MIGRATIONS]).await;
        let db: Database = (**db).clone();
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new(NOW_MS);
        let key = ProducerKey::load_or_create(
            &folder.path().join("inventory.key"),
            "counterfoil.test/services/inventory",
        )
        .unwrap();
        let mut tx = db.write_tx(TENANT).await.unwrap();
        record_log_origin(&mut tx, "counterfoil.test/logs/acme")
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let outbox = Outbox::new(db.clone(), clock.clock(), "inventory", key);
        let shop = Workshop {
            db: db.clone(),
            outbox,
            clock: clock.clock(),
            config,
            bell: Bell::default(),
            readers: Arc::new(Connectors),
        };
        let job = Self::job_of(&shop);
        Self {
            db,
            folder,
            clock,
            shop,
            job,
        }
    }

    /// With a gate in front of what every source says of itself.
    pub async fn gated(db: &TestDatabase, config: InventoryConfig) -> (Self, Gate) {
        let mut lab = Self::with(db, config).await;
        let gate = Gate::default();
        lab.shop.readers = Arc::new(gate.clone());
        lab.job = Self::job_of(&lab.shop);
        (lab, gate)
    }

    /// A job as another start of the process has it.
    pub fn job_of(shop: &Workshop) -> SyncJob {
        let rules = Rules {
            salt: [7; 32],
            dormant_after_ms: 90 * DAY_MS,
        };
        SyncJob::new(shop.clone(), Arc::new(TestRules(rules)))
    }

    /// Folder of a source.
    pub fn files(&self, source: &str) -> PathBuf {
        let folder = self.folder.path().join(source);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub async fn add_source(&self, id: &str, estate: &Estate) -> SourceRow {
        let folder = self.files(id);
        estate.write(&folder);
        let config: SourceConfig =
            serde_json::from_value(serde_json::json!({"kind": "csv", "directory": folder}))
                .unwrap();
        self.add_configured(id, &config).await
    }

    pub async fn add_configured(&self, id: &str, config: &SourceConfig) -> SourceRow {
        let mut tx = self.db.write_tx(TENANT).await.unwrap();
        let new = NewSource {
            source: id.into(),
            tag: SourceTag::of(&format!("sources/{id}")),
            kind: config.kind().into(),
            config_json: serde_json::to_string(config).unwrap(),
            reader_principal: format!("connectors/{id}/reader"),
            writer_principal: format!("connectors/{id}/writer"),
            display_name: id.to_uppercase(),
            environment: String::new(),
            tier: String::new(),
        };
        sources::insert(&mut tx, &new, &[1; 16], NOW_MS)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        self.source(id).await
    }

    pub async fn source(&self, id: &str) -> SourceRow {
        sources::get(&self.db, TENANT, id).await.unwrap().unwrap()
    }

    /// Asks for a sync.
    pub async fn ask(&self, source: &str) -> String {
        let source_no = self.source(source).await.source_no;
        let id = new_id(self.clock.now_ms());
        let mut tx = self.db.write_tx(TENANT).await.unwrap();
        syncs::insert(&mut tx, &id, source_no, 1, 0, self.clock.now_ms())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub async fn get(&self, sync: &str) -> SyncRow {
        syncs::get(&self.db, TENANT, sync).await.unwrap().unwrap()
    }

    /// Runs a sync to its seal.
    pub async fn sync(&self, source: &str) -> SyncRow {
        self.clock.advance_ms(1_000);
        let id = self.ask(source).await;
        assert_eq!(self.job.run_once().await.unwrap(), Progress::Sealed);
        self.get(&id).await
    }

    /// The set of a source at a sync.
    pub async fn leaves_at(&self, source: &SourceRow, seq: i64) -> Vec<GrantLeaf> {
        let mut leaves = Vec::new();
        let mut after = Vec::new();
        loop {
            // A small page, so that there are several.
            let page = grants::at(&self.db, TENANT, source.source_no, seq, &after, 7)
                .await
                .unwrap();
            let Some(last) = page.last() else {
                return leaves;
            };
            after = last.key.to_vec();
            leaves.extend(page.iter().map(|grant| grants::leaf(source.tag, grant)));
        }
    }

    /// The current set of a source.
    pub async fn leaves(&self, source: &str) -> Vec<GrantLeaf> {
        let source = self.source(source).await;
        self.leaves_at(&source, source.current_seq).await
    }
}
