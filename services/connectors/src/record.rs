//! What a source says exists: accounts, entitlements, edges between entitlements, and grants.
//!
//! The records are the connector's own words, not the inventory's: native ids, no tenant, no ledger. They arrive in pages,
//! in this order: all accounts, all entitlements, then edges and grants. So whoever stores them can hold every reference.
//!
//! Invariant: a page never holds more than [`PAGE_RECORDS`] records, and no reader keeps more than a few pages in memory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most records that one page holds.
pub const PAGE_RECORDS: usize = 1_000;

/// The most row errors that a summary lists; the rest are only counted.
pub const ROW_ERRORS_LISTED: usize = 100;

/// What kind of holder an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityClass {
    /// A person who works for the organisation.
    Workforce,
    /// A person's separate administrative identity.
    Privileged,
    /// A customer of the organisation.
    Customer,
    /// A service account, a workload, an application.
    NonHuman,
    /// An AI agent.
    Agent,
    /// A person of a partner or a provider.
    Partner,
}

/// Whether an account can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// It can be used.
    Active,
    /// The target refuses to let it in.
    Disabled,
}

/// Where the identity that holds an account stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Being entered.
    Draft,
    /// Waiting for approval.
    Proposed,
    /// Working.
    Active,
    /// Away, expected back.
    Suspended,
    /// Leaver: still known, should have no access.
    Deprecated,
    /// Kept for the record only.
    Archived,
    /// Could not be set up.
    Failed,
}

/// How much harm an entitlement can do in the wrong hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// The source does not say.
    Unclassified,
    /// Little harm.
    Low,
    /// Some harm.
    Medium,
    /// Much harm.
    High,
    /// The worst there is.
    Critical,
}

/// Something that can sign in to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// The target's own, stable name of the account. Unique in the source.
    pub native_id: String,
    /// What people call it.
    pub display_name: String,
    /// Its e-mail address, if the target holds one.
    pub email: Option<String>,
    /// Correlation key of the identity it belongs to; `None` makes it an orphan.
    pub identity_key: Option<String>,
    /// What kind of holder it has.
    pub identity_class: IdentityClass,
    /// Whether it can be used.
    pub status: AccountStatus,
    /// Correlation key of the identity that answers for it.
    pub owner_key: Option<String>,
    /// When it was last used, in milliseconds since 1970.
    pub last_seen_ms: Option<i64>,
    /// When the target itself will end it, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// What it is for.
    pub purpose: Option<String>,
    /// Where the identity that holds it stands in its life, if the source knows.
    pub lifecycle: Option<Lifecycle>,
}

/// Something that can be held: a group, a role, a team, a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementRecord {
    /// The target's own, stable name. Unique in the source.
    pub native_id: String,
    /// What people call it.
    pub display_name: String,
    /// The target's word for what it is, for example `group` or `team`.
    pub kind: String,
    /// Whether it gives power over other people's access or over the system itself.
    pub privileged: bool,
    /// Correlation key of the identity that answers for it.
    pub owner_key: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
    /// How much harm it can do.
    pub sensitivity: Sensitivity,
}

/// Who holds the child holds the parent too: nested groups, a hierarchy of teams. A source may contain cycles.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntitlementEdge {
    /// The entitlement that is held.
    pub child_native_id: String,
    /// The entitlement that comes with it.
    pub parent_native_id: String,
}

/// An account holds an entitlement, directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// Who holds it.
    pub account_native_id: String,
    /// What is held.
    pub entitlement_native_id: String,
    /// Since when, in milliseconds since 1970.
    pub granted_ms: Option<i64>,
    /// When the target itself will end it, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// When it was last used, in milliseconds since 1970.
    pub last_used_ms: Option<i64>,
    /// What it is for.
    pub purpose: Option<String>,
}

/// One record of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceRecord {
    /// An account.
    Account(AccountRecord),
    /// An entitlement.
    Entitlement(EntitlementRecord),
    /// An edge between two entitlements.
    Edge(EntitlementEdge),
    /// A grant.
    Grant(GrantRecord),
}

/// A bounded number of records, in the source's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// 0, 1, 2 and so on, without a gap.
    pub number: u64,
    /// At most [`PAGE_RECORDS`] records.
    pub records: Vec<SourceRecord>,
}

/// How many records of each type: as streamed by a reader, or as the source itself counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlTotals {
    /// Accounts.
    pub accounts: u64,
    /// Entitlements.
    pub entitlements: u64,
    /// Edges between entitlements.
    pub edges: u64,
    /// Direct grants.
    pub grants: u64,
}

impl ControlTotals {
    /// Counts one more record.
    pub fn add(&mut self, record: &SourceRecord) {
        match record {
            SourceRecord::Account(_) => self.accounts += 1,
            SourceRecord::Entitlement(_) => self.entitlements += 1,
            SourceRecord::Edge(_) => self.edges += 1,
            SourceRecord::Grant(_) => self.grants += 1,
        }
    }

    /// All records together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.accounts + self.entitlements + self.edges + self.grants
    }
}

/// Something in the source that could not be taken as it is. One is enough to make a sync PARTIAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// The file's name, or the entry's distinguished name.
    pub place: String,
    /// The line in the file, counted from 1 with the header; `None` where there are no lines.
    pub row: Option<u64>,
    /// What is wrong, in words for the person who can put it right.
    pub reason: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(formatter, "{}, line {row}: {}", self.place, self.reason),
            None => write!(formatter, "{}: {}", self.place, self.reason),
        }
    }
}

/// Row errors: all counted, the first [`ROW_ERRORS_LISTED`] kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowErrors {
    listed: Vec<RowError>,
    total: u64,
}

impl RowErrors {
    /// Counts one more, and keeps it while there is room.
    pub fn push(&mut self, error: RowError) {
        self.total += 1;
        if self.listed.len() < ROW_ERRORS_LISTED {
            self.listed.push(error);
        }
    }

    /// The first ones, in the order they were met.
    #[must_use]
    pub fn listed(&self) -> &[RowError] {
        &self.listed
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// What a read brought, beside the pages themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSummary {
    /// How many pages were sent.
    pub pages: u64,
    /// How many records were sent, by type.
    pub counts: ControlTotals,
    /// What the source looked like when it was read: CSV `sha256:<hex>;mtime_ms:<n>`, LDAP the contextCSN values of the
    /// base, joined by `;`. `None` when the source does not tell.
    pub watermark: Option<String>,
    /// What could not be taken. Not empty means the sync is PARTIAL.
    pub errors: RowErrors,
}

impl ReadSummary {
    /// Whether everything in the source was taken as it is. The caller still compares `counts` with the control totals.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.total() == 0
    }
}
