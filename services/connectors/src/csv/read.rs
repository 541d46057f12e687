//! Streams the files of a CSV source, row by row, and says what is wrong with the rows it cannot take.

use std::io;
use std::path::Path;

use tokio::sync::mpsc;

use crate::csv::lines::{Fields, LINE_BYTES_MAX, Line, Lines, content};
use crate::csv::source::{Source, SourceFile};
use crate::csv::table::{Cells, Table, account, edge, entitlement, grant, shown};
use crate::error::{ConnectorError, Result};
use crate::keys::{KeyMap, PairSet};
use crate::pager::Pager;
use crate::record::{
    AccountRecord, AccountStatus, EntitlementEdge, EntitlementRecord, GrantRecord, IdentityClass,
    Lifecycle, Page, ReadSummary, Sensitivity, SourceRecord,
};

const CLASSES: &[(&str, IdentityClass)] = &[
    ("workforce", IdentityClass::Workforce),
    ("privileged", IdentityClass::Privileged),
    ("customer", IdentityClass::Customer),
    ("non_human", IdentityClass::NonHuman),
    ("agent", IdentityClass::Agent),
    ("partner", IdentityClass::Partner),
];
const STATUSES: &[(&str, AccountStatus)] = &[
    ("active", AccountStatus::Active),
    ("disabled", AccountStatus::Disabled),
];
const LIFECYCLES: &[(&str, Option<Lifecycle>)] = &[
    ("draft", Some(Lifecycle::Draft)),
    ("proposed", Some(Lifecycle::Proposed)),
    ("active", Some(Lifecycle::Active)),
    ("suspended", Some(Lifecycle::Suspended)),
    ("deprecated", Some(Lifecycle::Deprecated)),
    ("archived", Some(Lifecycle::Archived)),
    ("failed", Some(Lifecycle::Failed)),
];
const SENSITIVITIES: &[(&str, Sensitivity)] = &[
    ("unclassified", Sensitivity::Unclassified),
    ("low", Sensitivity::Low),
    ("medium", Sensitivity::Medium),
    ("high", Sensitivity::High),
    ("critical", Sensitivity::Critical),
];
const BOOLEANS: &[(&str, bool)] = &[("true", true), ("false", false)];

/// Reads the whole source. Blocks.
pub(crate) fn read(
    directory: &Path,
    principal: &str,
    sink: mpsc::Sender<Page>,
) -> Result<ReadSummary> {
    let mut source = Source::open(directory, principal)?;
    let mut reading = Reading {
        pager: Pager::new(sink),
        accounts: KeyMap::default(),
        entitlements: KeyMap::default(),
    };
    reading.accounts(&mut source.accounts)?;
    reading.entitlements(&mut source.entitlements)?;
    if let Some(edges) = &mut source.edges {
        reading.edges(edges)?;
    }
    reading.grants(&mut source.grants)?;
    for (name, what) in source.differences() {
        reading
            .pager
            .error(name, None, format!("{what} while it was being read"));
    }
    let watermark = source.watermark();
    reading.pager.finish_blocking(watermark)
}

/// Checks that all files are there and their headers right. Blocks.
pub(crate) fn probe(directory: &Path, principal: &str) -> Result<()> {
    let mut source = Source::open(directory, principal)?;
    let files = [
        (Some(&mut source.accounts), &account::TABLE),
        (Some(&mut source.entitlements), &entitlement::TABLE),
        (source.edges.as_mut(), &edge::TABLE),
        (Some(&mut source.grants), &grant::TABLE),
    ];
    for (file, table) in files {
        if let Some(file) = file {
            let mut lines = Lines::new(file.take_reader()?);
            header(&mut lines, table)
                .map_err(|reason| ConnectorError::unreadable(table.file, reason))?;
        }
    }
    Ok(())
}

/// Reads the header, which must be the first line.
pub(crate) fn header<R: io::BufRead>(
    lines: &mut Lines<R>,
    table: &Table,
) -> std::result::Result<crate::csv::table::Layout, String> {
    match lines.next(&mut io::sink()) {
        Ok(Some(Line::Whole(raw))) => table.layout(content(raw)),
        Ok(Some(Line::TooLong)) => Err(format!("the header is longer than {LINE_BYTES_MAX} bytes")),
        Ok(None) => Err("is empty: it has no header".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Why a row was not taken: because of itself, or because the whole read has to stop.
enum Trouble {
    Row(String),
    Stop(ConnectorError),
}

impl From<String> for Trouble {
    fn from(reason: String) -> Self {
        Self::Row(reason)
    }
}

impl From<ConnectorError> for Trouble {
    fn from(error: ConnectorError) -> Self {
        Self::Stop(error)
    }
}

struct Reading {
    pager: Pager,
    accounts: KeyMap<u32>,
    entitlements: KeyMap<u32>,
}

impl Reading {
    fn accounts(&mut self, file: &mut SourceFile) -> Result<()> {
        let Self {
            pager, accounts, ..
        } = self;
        each_row(file, &account::TABLE, pager, |cells, pager| {
            let record = account_record(cells)?;
            take_key(accounts, &record.native_id, account::TABLE.file)?;
            Ok(pager.push_blocking(SourceRecord::Account(record))?)
        })
    }

    fn entitlements(&mut self, file: &mut SourceFile) -> Result<()> {
        let Self {
            pager,
            entitlements,
            ..
        } = self;
        each_row(file, &entitlement::TABLE, pager, |cells, pager| {
            let record = entitlement_record(cells)?;
            take_key(entitlements, &record.native_id, entitlement::TABLE.file)?;
            Ok(pager.push_blocking(SourceRecord::Entitlement(record))?)
        })
    }

    fn edges(&mut self, file: &mut SourceFile) -> Result<()> {
        let Self {
            pager,
            entitlements,
            ..
        } = self;
        let mut seen = PairSet::default();
        each_row(file, &edge::TABLE, pager, |cells, pager| {
            let child = cells.required(edge::CHILD)?;
            let parent = cells.required(edge::PARENT)?;
            let child_number = known(entitlements, child, "entitlement", entitlement::TABLE.file)?;
            let parent_number =
                known(entitlements, parent, "entitlement", entitlement::TABLE.file)?;
            if child_number == parent_number {
                return Err(format!("{} is its own parent", shown(child)).into());
            }
            if !seen.insert(child_number, parent_number) {
                return Err(format!(
                    "repeats the edge from {} to {}",
                    shown(child),
                    shown(parent)
                )
                .into());
            }
            let record = EntitlementEdge {
                child_native_id: child.to_owned(),
                parent_native_id: parent.to_owned(),
            };
            Ok(pager.push_blocking(SourceRecord::Edge(record))?)
        })
    }

    fn grants(&mut self, file: &mut SourceFile) -> Result<()> {
        let Self {
            pager,
            accounts,
            entitlements,
        } = self;
        let mut seen = PairSet::default();
        each_row(file, &grant::TABLE, pager, |cells, pager| {
            let record = grant_record(cells)?;
            let holder = known(
                accounts,
                &record.account_native_id,
                "account",
                account::TABLE.file,
            )?;
            let held = known(
                entitlements,
                &record.entitlement_native_id,
                "entitlement",
                entitlement::TABLE.file,
            )?;
            if !seen.insert(holder, held) {
                let (account, entitlement) =
                    (&record.account_native_id, &record.entitlement_native_id);
                return Err(format!(
                    "repeats the grant of {} to {}",
                    shown(entitlement),
                    shown(account)
                )
                .into());
            }
            Ok(pager.push_blocking(SourceRecord::Grant(record))?)
        })
    }
}

fn each_row(
    file: &mut SourceFile,
    table: &Table,
    pager: &mut Pager,
    mut take: impl FnMut(&Cells<'_>, &mut Pager) -> std::result::Result<(), Trouble>,
) -> Result<()> {
    let mut lines = Lines::new(file.take_reader()?);
    let mut fields = Fields::default();
    let layout = header(&mut lines, table)
        .map_err(|reason| ConnectorError::unreadable(table.file, reason))?;
    loop {
        let number = lines.number() + 1;
        let raw = match lines.next(&mut io::sink()) {
            Ok(None) => break,
            Ok(Some(Line::Whole(raw))) => raw,
            Ok(Some(Line::TooLong)) => {
                pager.error(
                    table.file,
                    Some(number),
                    format!("is longer than {LINE_BYTES_MAX} bytes"),
                );
                continue;
            }
            Err(error) => {
                return Err(ConnectorError::Interrupted {
                    pages: pager.pages(),
                    reason: format!("{}, line {number}: {error}", table.file),
                });
            }
        };
        let taken = table
            .cells(&layout, &mut fields, content(raw))
            .map_err(Trouble::Row)
            .and_then(|cells| take(&cells, pager));
        match taken {
            Ok(()) => {}
            Err(Trouble::Row(reason)) => pager.error(table.file, Some(number), reason),
            Err(Trouble::Stop(error)) => return Err(error),
        }
    }
    file.give_back(lines.into_inner());
    Ok(())
}

/// Numbers the keys in the order they come.
fn take_key(
    keys: &mut KeyMap<u32>,
    native_id: &str,
    file: &str,
) -> std::result::Result<(), Trouble> {
    let number = u32::try_from(keys.len())
        .map_err(|_| ConnectorError::unreadable(file, "has more rows than can be numbered"))?;
    match keys.insert(native_id, number) {
        Ok(()) => Ok(()),
        Err(_) => Err(format!("repeats the native_id {}", shown(native_id)).into()),
    }
}

fn known(
    keys: &KeyMap<u32>,
    native_id: &str,
    what: &str,
    file: &str,
) -> std::result::Result<u32, String> {
    keys.get(native_id).copied().ok_or_else(|| {
        format!(
            "names the {what} {}, of which no row of {file} was taken",
            shown(native_id)
        )
    })
}

fn account_record(cells: &Cells<'_>) -> std::result::Result<AccountRecord, String> {
    Ok(AccountRecord {
        native_id: cells.required(account::NATIVE_ID)?.to_owned(),
        display_name: cells.required(account::DISPLAY_NAME)?.to_owned(),
        email: cells.owned(account::EMAIL)?,
        identity_key: cells.owned(account::IDENTITY_KEY)?,
        identity_class: cells.word(account::IDENTITY_CLASS, CLASSES, IdentityClass::Workforce)?,
        status: cells.word(account::STATUS, STATUSES, AccountStatus::Active)?,
        owner_key: cells.owned(account::OWNER_KEY)?,
        last_seen_ms: cells.time(account::LAST_SEEN)?,
        expires_ms: cells.time(account::EXPIRES)?,
        purpose: cells.owned(account::PURPOSE)?,
        lifecycle: cells.word(account::LIFECYCLE, LIFECYCLES, None)?,
    })
}

fn entitlement_record(cells: &Cells<'_>) -> std::result::Result<EntitlementRecord, String> {
    Ok(EntitlementRecord {
        native_id: cells.required(entitlement::NATIVE_ID)?.to_owned(),
        display_name: cells.required(entitlement::DISPLAY_NAME)?.to_owned(),
        kind: cells
            .text(entitlement::KIND)?
            .unwrap_or("entitlement")
            .to_owned(),
        privileged: cells.word(entitlement::PRIVILEGED, BOOLEANS, false)?,
        owner_key: cells.owned(entitlement::OWNER_KEY)?,
        purpose: cells.owned(entitlement::PURPOSE)?,
        sensitivity: cells.word(
            entitlement::SENSITIVITY,
            SENSITIVITIES,
            Sensitivity::Unclassified,
        )?,
    })
}

fn grant_record(cells: &Cells<'_>) -> std::result::Result<GrantRecord, String> {
    Ok(GrantRecord {
        account_native_id: cells.required(grant::ACCOUNT)?.to_owned(),
        entitlement_native_id: cells.required(grant::ENTITLEMENT)?.to_owned(),
        granted_ms: cells.time(grant::GRANTED)?,
        expires_ms: cells.time(grant::EXPIRES)?,
        last_used_ms: cells.time(grant::LAST_USED)?,
        purpose: cells.owned(grant::PURPOSE)?,
    })
}
