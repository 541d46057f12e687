//! The files of a CSV source: their columns, and what a cell may hold.

use crate::csv::lines::{Fields, Row};
use crate::text;

/// A file and its columns, in the order of the constants of its module below.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) file: &'static str,
    columns: &'static [&'static str],
    /// How many of the columns, from the first one on, must be there.
    required: usize,
}

/// accounts.csv
pub(crate) mod account {
    use super::Table;
    pub(crate) static TABLE: Table = Table {
        file: "accounts.csv",
        columns: &[
            "native_id",
            "display_name",
            "identity_key",
            "email",
            "identity_class",
            "status",
            "owner_key",
            "last_seen",
            "expires",
            "purpose",
            "lifecycle",
        ],
        required: 3,
    };
    pub(crate) const NATIVE_ID: usize = 0;
    pub(crate) const DISPLAY_NAME: usize = 1;
    pub(crate) const IDENTITY_KEY: usize = 2;
    pub(crate) const EMAIL: usize = 3;
    pub(crate) const IDENTITY_CLASS: usize = 4;
    pub(crate) const STATUS: usize = 5;
    pub(crate) const OWNER_KEY: usize = 6;
    pub(crate) const LAST_SEEN: usize = 7;
    pub(crate) const EXPIRES: usize = 8;
    pub(crate) const PURPOSE: usize = 9;
    pub(crate) const LIFECYCLE: usize = 10;
}

/// entitlements.csv
pub(crate) mod entitlement {
    use super::Table;
    pub(crate) static TABLE: Table = Table {
        file: "entitlements.csv",
        columns: &[
            "native_id",
            "display_name",
            "kind",
            "privileged",
            "owner_key",
            "purpose",
            "sensitivity",
        ],
        required: 2,
    };
    pub(crate) const NATIVE_ID: usize = 0;
    pub(crate) const DISPLAY_NAME: usize = 1;
    pub(crate) const KIND: usize = 2;
    pub(crate) const PRIVILEGED: usize = 3;
    pub(crate) const OWNER_KEY: usize = 4;
    pub(crate) const PURPOSE: usize = 5;
    pub(crate) const SENSITIVITY: usize = 6;
}

/// edges.csv
pub(crate) mod edge {
    use super::Table;
    pub(crate) static TABLE: Table = Table {
        file: "edges.csv",
        columns: &["child_native_id", "parent_native_id"],
        required: 2,
    };
    pub(crate) const CHILD: usize = 0;
    pub(crate) const PARENT: usize = 1;
}

/// grants.csv
pub(crate) mod grant {
    use super::Table;
    pub(crate) static TABLE: Table = Table {
        file: "grants.csv",
        columns: &[
            "account_native_id",
            "entitlement_native_id",
            "granted",
            "expires",
            "last_used",
            "purpose",
        ],
        required: 2,
    };
    pub(crate) const ACCOUNT: usize = 0;
    pub(crate) const ENTITLEMENT: usize = 1;
    pub(crate) const GRANTED: usize = 2;
    pub(crate) const EXPIRES: usize = 3;
    pub(crate) const LAST_USED: usize = 4;
    pub(crate) const PURPOSE: usize = 5;
}

/// control.csv
pub(crate) mod control {
    use super::Table;
    pub(crate) static TABLE: Table = Table {
        file: "control.csv",
        columns: &["type", "count"],
        required: 2,
    };
    pub(crate) const TYPE: usize = 0;
    pub(crate) const COUNT: usize = 1;
}

/// Where the columns of a table stand in one particular file.
#[derive(Debug)]
pub(crate) struct Layout {
    positions: Vec<Option<usize>>,
    width: usize,
}

impl Table {
    /// Reads the header. A byte order mark is allowed, nothing else that is not a column's name.
    pub(crate) fn layout(&self, header: &[u8]) -> Result<Layout, String> {
        let header = header.strip_prefix(b"\xef\xbb\xbf").unwrap_or(header);
        let text = std::str::from_utf8(header).map_err(|_| "the header is not UTF-8".to_owned())?;
        let mut fields = Fields::default();
        let row = fields
            .split(text)
            .map_err(|reason| format!("the header {reason}"))?;
        let mut positions = vec![None; self.columns.len()];
        for (position, name) in row.iter().enumerate() {
            let known = self.columns.iter().position(|&column| column == name);
            match known.and_then(|column| positions.get_mut(column)) {
                Some(slot) if slot.is_none() => *slot = Some(position),
                Some(_) => return Err(self.wrong_header(&format!("{name:?} stands twice"))),
                // By its number: this may be a file of another kind, whose first line is nobody's business.
                None => {
                    let what = format!("column {} is none of this file", position + 1);
                    return Err(self.wrong_header(&what));
                }
            }
        }
        for (column, position) in self.columns.iter().zip(&positions).take(self.required) {
            if position.is_none() {
                return Err(self.wrong_header(&format!("{column:?} is missing")));
            }
        }
        Ok(Layout {
            positions,
            width: row.len(),
        })
    }

    fn wrong_header(&self, what: &str) -> String {
        let (required, optional) = self.columns.split_at(self.required);
        let mut expected = required.join(",");
        if !optional.is_empty() {
            expected = format!("{expected} and any of {}", optional.join(","));
        }
        format!("wrong header, {what}; expected {expected}")
    }

    /// Looks at one line, given without its end.
    pub(crate) fn cells<'a>(
        &self,
        layout: &'a Layout,
        fields: &'a mut Fields,
        line: &'a [u8],
    ) -> Result<Cells<'a>, String> {
        if line.is_empty() {
            return Err("is empty".to_owned());
        }
        let text = std::str::from_utf8(line).map_err(|error| {
            format!(
                "is not UTF-8 at byte {} of the line",
                error.valid_up_to() + 1
            )
        })?;
        let row = fields.split(text)?;
        if row.len() != layout.width {
            return Err(format!(
                "has {} fields, the header has {}",
                row.len(),
                layout.width
            ));
        }
        let plain = line.iter().all(|byte| (0x20..0x7f).contains(byte));
        Ok(Cells {
            row,
            layout,
            columns: self.columns,
            plain,
        })
    }
}

/// The cells of one line, by column.
#[derive(Debug)]
pub(crate) struct Cells<'a> {
    row: Row<'a>,
    layout: &'a Layout,
    columns: &'static [&'static str],
    /// Nothing but printable ASCII.
    plain: bool,
}

impl<'a> Cells<'a> {
    fn name(&self, column: usize) -> &'static str {
        self.columns.get(column).copied().unwrap_or("?")
    }

    /// The cell as it stands, for comparing only.
    pub(crate) fn raw(&self, column: usize) -> &'a str {
        let position = self.layout.positions.get(column).copied().flatten();
        position
            .and_then(|position| self.row.get(position))
            .unwrap_or("")
    }

    /// A text, `None` when the cell is empty or the file has no such column.
    pub(crate) fn text(&self, column: usize) -> Result<Option<&'a str>, String> {
        let value = self.raw(column);
        if value.is_empty() {
            return Ok(None);
        }
        let problem = text::formula_like(value).or_else(|| self.unseemly(value));
        match problem {
            None => Ok(Some(value)),
            Some(reason) => Err(format!("{} {}: {reason}", self.name(column), shown(value))),
        }
    }

    fn unseemly(&self, value: &str) -> Option<String> {
        if value.starts_with(' ') || value.ends_with(' ') {
            return Some("starts or ends with a space".to_owned());
        }
        if self.plain {
            None
        } else {
            text::misleading(value)
        }
    }

    pub(crate) fn required(&self, column: usize) -> Result<&'a str, String> {
        self.text(column)?
            .ok_or_else(|| format!("{} is empty", self.name(column)))
    }

    pub(crate) fn owned(&self, column: usize) -> Result<Option<String>, String> {
        Ok(self.text(column)?.map(str::to_owned))
    }

    /// One of a few words, `default` when empty.
    pub(crate) fn word<T: Copy>(
        &self,
        column: usize,
        words: &[(&str, T)],
        default: T,
    ) -> Result<T, String> {
        let value = self.raw(column);
        if value.is_empty() {
            return Ok(default);
        }
        words
            .iter()
            .find(|(word, _)| *word == value)
            .map(|&(_, meaning)| meaning)
            .ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
                format!(
                    "{} {} is none of {}",
                    self.name(column),
                    shown(value),
                    known.join(", ")
                )
            })
    }

    /// A moment in milliseconds since 1970: RFC 3339, or a date, which is its first moment in UTC.
    pub(crate) fn time(&self, column: usize) -> Result<Option<i64>, String> {
        let value = self.raw(column);
        if value.is_empty() {
            return Ok(None);
        }
        let moment = if value.len() == 10 {
            value
                .parse::<jiff::civil::Date>()
                .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
                .map(|zoned| zoned.timestamp())
        } else {
            value.parse::<jiff::Timestamp>()
        };
        match moment {
            Ok(moment) => Ok(Some(moment.as_millisecond())),
            Err(_) => Err(format!(
                "{} {} is neither a date (2026-01-31) nor a time (2026-01-31T12:00:00Z)",
                self.name(column),
                shown(value)
            )),
        }
    }
}

/// A value as an error message shows it: short, and without anything a terminal would act on.
pub(crate) fn shown(value: &str) -> String {
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    format!("{short:?}")
}
