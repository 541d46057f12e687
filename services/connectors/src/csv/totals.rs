//! The source's own count of itself: what control.csv says, or, without one, a separate count of the lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::csv::lines::{Fields, LINE_BYTES_MAX, Line, Lines, content};
use crate::csv::read::header;
use crate::csv::source::{SourceFile, file_error, has_control_file, is_there};
use crate::csv::table::{account, control, edge, entitlement, grant, shown};
use crate::error::{ConnectorError, Result};
use crate::record::ControlTotals;

/// Counts. Blocks.
pub(crate) fn control_totals(directory: &Path, principal: &str) -> Result<ControlTotals> {
    if has_control_file(directory) {
        return from_control_file(directory, principal);
    }
    let rows = |name| count_rows(directory, name, principal);
    let has_edges = is_there(&directory.join(edge::TABLE.file));
    Ok(ControlTotals {
        accounts: rows(account::TABLE.file)?,
        entitlements: rows(entitlement::TABLE.file)?,
        edges: if has_edges {
            rows(edge::TABLE.file)?
        } else {
            0
        },
        grants: rows(grant::TABLE.file)?,
    })
}

/// Lines without the header. Shares no code with the reader on purpose: it knows nothing of fields.
fn count_rows(directory: &Path, name: &str, principal: &str) -> Result<u64> {
    let failed = |error: io::Error| file_error(directory, name, principal, &error);
    let mut file = File::open(directory.join(name)).map_err(failed)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut line_ends = 0_u64;
    let mut last = b'\n';
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        line_ends += read
            .iter()
            .map(|&byte| u64::from(byte == b'\n'))
            .sum::<u64>();
        last = read.last().copied().unwrap_or(last);
    }
    let lines = line_ends + u64::from(last != b'\n');
    Ok(lines.saturating_sub(1))
}

fn from_control_file(directory: &Path, principal: &str) -> Result<ControlTotals> {
    let table = &control::TABLE;
    let mut file = SourceFile::open(directory, table.file, principal)?;
    let mut lines = Lines::new(file.take_reader()?);
    let layout = header(&mut lines, table)
        .map_err(|reason| ConnectorError::unreadable(table.file, reason))?;
    let mut fields = Fields::default();
    let mut found: [Option<u64>; 4] = [None; 4];
    loop {
        let number = lines.number() + 1;
        let wrong = |reason: String| {
            ConnectorError::unreadable(format!("{}, line {number}", table.file), reason)
        };
        let raw = match lines
            .next(&mut io::sink())
            .map_err(|error| wrong(error.to_string()))?
        {
            None => break,
            Some(Line::Whole(raw)) => raw,
            Some(Line::TooLong) => {
                return Err(wrong(format!("is longer than {LINE_BYTES_MAX} bytes")));
            }
        };
        let cells = table
            .cells(&layout, &mut fields, content(raw))
            .map_err(wrong)?;
        let kind = cells.required(control::TYPE).map_err(wrong)?;
        let count = cells.required(control::COUNT).map_err(wrong)?;
        let count = count
            .parse()
            .map_err(|_| wrong(format!("count {} is not a whole number", shown(count))))?;
        let slot = KINDS.iter().position(|&known| known == kind);
        match slot.and_then(|slot| found.get_mut(slot)) {
            None => {
                return Err(wrong(format!(
                    "type {} is none of {}",
                    shown(kind),
                    KINDS.join(", ")
                )));
            }
            Some(slot) if slot.is_some() => {
                return Err(wrong(format!("repeats the type {}", shown(kind))));
            }
            Some(slot) => *slot = Some(count),
        }
    }
    let [accounts, entitlements, edges, grants] = found;
    let missing =
        |kind: &str| ConnectorError::unreadable(table.file, format!("has no row for {kind}"));
    Ok(ControlTotals {
        accounts: accounts.ok_or_else(|| missing("accounts"))?,
        entitlements: entitlements.ok_or_else(|| missing("entitlements"))?,
        edges: edges.unwrap_or(0),
        grants: grants.ok_or_else(|| missing("grants"))?,
    })
}

const KINDS: [&str; 4] = ["accounts", "entitlements", "edges", "grants"];
