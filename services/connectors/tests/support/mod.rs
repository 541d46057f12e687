//! What the tests of this crate share: reading a source to its end, and finding the shared data.
#![allow(dead_code, reason = "each test crate uses a part")]
#![allow(
    clippy::explicit_write,
    reason = "what eprintln! says is hidden when a test passes"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

pub(crate) mod ldif;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use counterfoil_connectors::{
    AccountRecord, CsvConfig, EntitlementEdge, EntitlementRecord, GrantRecord, Page, ReadSummary,
    Reader, Result, RevokeRequest, SourceConfig, SourceRecord,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Everything a source holds.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    pub(crate) accounts: Vec<AccountRecord>,
    pub(crate) entitlements: Vec<EntitlementRecord>,
    pub(crate) edges: Vec<EntitlementEdge>,
    pub(crate) grants: Vec<GrantRecord>,
    pub(crate) pages: Vec<u64>,
}

impl Everything {
    pub(crate) fn take(&mut self, page: Page) {
        self.pages.push(page.number);
        for record in page.records {
            match record {
                SourceRecord::Account(record) => self.accounts.push(record),
                SourceRecord::Entitlement(record) => self.entitlements.push(record),
                SourceRecord::Edge(record) => self.edges.push(record),
                SourceRecord::Grant(record) => self.grants.push(record),
            }
        }
    }

    pub(crate) fn account(&self, name: &str) -> &AccountRecord {
        self.accounts
            .iter()
            .find(|account| account.display_name == name)
            .unwrap()
    }

    pub(crate) fn entitlement(&self, name: &str) -> &EntitlementRecord {
        let found = self
            .entitlements
            .iter()
            .find(|entitlement| entitlement.display_name == name);
        found.unwrap()
    }

    /// Whether the account with this display name holds the entitlement with that one.
    pub(crate) fn holds(&self, account: &str, entitlement: &str) -> bool {
        let (account, entitlement) = (
            &self.account(account).native_id,
            &self.entitlement(entitlement).native_id,
        );
        self.grants.iter().any(|grant| {
            grant.account_native_id == *account && grant.entitlement_native_id == *entitlement
        })
    }
}

/// Reads a source to its end.
pub(crate) async fn read_all(reader: &mut dyn Reader) -> (Everything, Result<ReadSummary>) {
    let (sink, mut pages) = mpsc::channel(2);
    let collect = async {
        let mut everything = Everything::default();
        while let Some(page) = pages.recv().await {
            everything.take(page);
        }
        everything
    };
    let (summary, everything) = tokio::join!(reader.read(sink), collect);
    (everything, summary)
}

/// Reads a source that must be without fault.
pub(crate) async fn read_clean(config: &SourceConfig) -> Everything {
    let mut reader = counterfoil_connectors::reader(config).unwrap();
    let (everything, summary) = read_all(reader.as_mut()).await;
    let summary = summary.unwrap();
    assert!(summary.is_clean(), "{:#?}", summary.errors);
    let totals = reader.control_totals().await.unwrap();
    assert_eq!(summary.counts, totals);
    assert_eq!(everything.pages, (0..summary.pages).collect::<Vec<_>>());
    everything
}

/// The row errors of a source, one line each.
pub(crate) async fn row_errors(config: &SourceConfig) -> Vec<String> {
    let mut reader = counterfoil_connectors::reader(config).unwrap();
    let (_, summary) = read_all(reader.as_mut()).await;
    let summary = summary.unwrap();
    assert_eq!(summary.errors.total(), summary.errors.listed().len() as u64);
    summary
        .errors
        .listed()
        .iter()
        .map(ToString::to_string)
        .collect()
}

pub(crate) const ACCOUNTS: &str = "\
native_id,display_name,identity_key,email,identity_class,status,owner_key,last_seen,expires,purpose,lifecycle
amy,Amy Wong,amy@planetexpress.com,amy@planetexpress.com,workforce,active,,2026-01-31T12:00:00Z,,,active
fry,\"Fry, Philip J.\",fry@planetexpress.com,,,,,,,,
cron,Nightly backup,,,non_human,disabled,hermes@planetexpress.com,2025-06-01,2027-01-01,Copies \"\"x\"\",
";
pub(crate) const ENTITLEMENTS: &str = "\
native_id,display_name,kind,privileged,owner_key,purpose,sensitivity
crew,Ship crew,team,false,leela@planetexpress.com,Flies the ship,low
admin,Administrators,role,true,,,critical
";
pub(crate) const GRANTS: &str = "\
account_native_id,entitlement_native_id,granted,expires,last_used,purpose
amy,crew,2025-01-01,,,
fry,crew,,,,Delivery
cron,admin,,2026-12-31T00:00:00+01:00,,
";

/// A directory with a small, faultless source.
pub(crate) struct CsvSource {
    pub(crate) directory: TempDir,
}

impl CsvSource {
    pub(crate) fn new() -> Self {
        let source = Self {
            directory: TempDir::new().unwrap(),
        };
        source.write(
            "accounts.csv",
            ACCOUNTS.replace("Copies \"\"x\"\"", "\"Copies \"\"x\"\"\""),
        );
        source.write("entitlements.csv", ENTITLEMENTS);
        source.write(
            "edges.csv",
            "child_native_id,parent_native_id\nadmin,crew\n",
        );
        source.write("grants.csv", GRANTS);
        source
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), content).unwrap();
    }

    pub(crate) fn append(&self, file: &str, content: impl AsRef<[u8]>) {
        let mut bytes = std::fs::read(self.path(file)).unwrap();
        bytes.extend_from_slice(content.as_ref());
        self.write(file, bytes);
    }

    pub(crate) fn grants(&self) -> String {
        std::fs::read_to_string(self.path("grants.csv")).unwrap()
    }

    pub(crate) fn config(&self) -> SourceConfig {
        SourceConfig::Csv(CsvConfig::new(self.directory.path()))
    }
}

pub(crate) fn order(account: &str, entitlement: &str) -> RevokeRequest {
    RevokeRequest {
        account_native_id: account.to_owned(),
        entitlement_native_id: entitlement.to_owned(),
        idempotency_key: format!("test/{account}/{entitlement}"),
        expected_before: None,
    }
}

/// A file of the shared data, which is not part of the repository; says so when it is not there.
pub(crate) fn shared(test: &str, file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(file);
    if path.is_file() {
        return Some(path);
    }
    writeln!(
        std::io::stderr(),
        "SKIPPED {test}: ../shared/data/{file} is not there"
    )
    .unwrap();
    None
}

/// The content of a file that gzip made.
pub(crate) fn gunzip(path: &Path) -> String {
    let output = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "gzip -dc {}", path.display());
    String::from_utf8(output.stdout).unwrap()
}
