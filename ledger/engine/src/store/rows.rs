//! Many rows of several tables, written in one step: a round trip to the database costs more than a row.
//!
//! SQLite takes the rows as they are, in statements of few sizes, so that each text comes again and stays prepared: to prepare a row's text
//! costs as much as to insert the row. PostgreSQL takes one array a column, so its text is the same for
//! any number of rows and stays prepared. A column of bytes goes as one long value with arrays of where each begins and how long it is: as text
//! every byte would take two, and be read letter by letter.

use std::fmt::Write as _;

use futures::TryStreamExt as _;
use sqlx::any::AnyArguments;
use sqlx::{Any, AnyConnection, Arguments as _, AssertSqlSafe, Executor as _, Transaction};

use super::Dialect;

/// Rows of one statement on SQLite, which has a limit of 32,766 values: as many as fit, then the rest in the same way. The prepared texts
/// of a connection are kept up to a hundred; there are some five statements.
const ROWS_PER_STATEMENT: [usize; 6] = [512, 128, 32, 8, 2, 1];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Bytes,
    Text,
}

/// One value of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// No number.
    Nothing,
}

/// A statement around rows.
#[derive(Debug)]
pub(super) struct Statement {
    /// Up to the rows.
    pub(super) before: &'static str,
    /// Their columns; in `after` they are `column1`, `column2` and so on.
    pub(super) columns: &'static [Kind],
    /// From the rows on.
    pub(super) after: &'static str,
}

/// Statements that are executed together, in the order they were added.
pub(super) struct Together {
    form: Form,
    texts: Vec<String>,
    /// One a text where they go one by one, else one for all.
    arguments: Vec<AnyArguments>,
}

/// How statements go to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// SQLite, all in one text: for few rows, in few forms.
    Text,
    /// SQLite, one by one.
    Texts,
    /// PostgreSQL, one by one.
    Arrays,
}

impl Together {
    /// `few`: there are so few rows, and in so few forms, that all statements in one text come again.
    pub(super) fn new(dialect: Dialect, few: bool) -> Self {
        Self {
            form: match (dialect, few) {
                (Dialect::Sqlite, true) => Form::Text,
                (Dialect::Sqlite, false) => Form::Texts,
                (Dialect::Postgres, _) => Form::Arrays,
            },
            texts: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Adds a statement with its rows; none where there are no rows.
    pub(super) fn add(
        &mut self,
        statement: &Statement,
        mut rows: &[Vec<Value<'_>>],
    ) -> Result<(), sqlx::Error> {
        while !rows.is_empty() {
            if self.form != Form::Text || self.arguments.is_empty() {
                self.arguments.push(AnyArguments::default());
            }
            let (these, rest) = rows.split_at(self.fitting(rows.len()));
            let given = match self.form {
                Form::Arrays => self.arrays(statement.columns, these)?,
                Form::Text | Form::Texts => self.values(statement.columns.len(), these)?,
            };
            let Statement { before, after, .. } = statement;
            self.texts.push(format!("{before}{given}{after}"));
            rows = rest;
        }
        Ok(())
    }

    /// How many rows the next statement takes.
    fn fitting(&self, rows: usize) -> usize {
        let fits = ROWS_PER_STATEMENT.into_iter().find(|size| *size <= rows);
        match self.form {
            Form::Arrays => rows,
            Form::Text | Form::Texts => fits.unwrap_or(rows),
        }
    }

    /// Whether they are one text, as few are on SQLite.
    pub(super) fn is_one_text(&self) -> bool {
        self.form == Form::Text
    }

    /// Executes one text as a transaction of its own. If this fails, the transaction may be open still.
    pub(super) async fn execute_alone(
        self,
        connection: &mut AnyConnection,
    ) -> Result<(), sqlx::Error> {
        let expected = self.texts.len() + 2;
        let text = format!("BEGIN IMMEDIATE; {}; COMMIT", self.texts.join("; "));
        let arguments = self.arguments.into_iter().next().unwrap_or_default();
        let query = sqlx::query_with(AssertSqlSafe(text), arguments);
        let done: Vec<_> = connection.execute_many(query).try_collect().await?;
        // Should SQLite's thread end in the middle, what it has done so far is all that is told; the commit is the last.
        if done.len() != expected {
            return Err(sqlx::Error::WorkerCrashed);
        }
        Ok(())
    }

    /// Executes them; the rows that they wrote.
    pub(super) async fn execute(
        self,
        transaction: &mut Transaction<'_, Any>,
    ) -> Result<u64, sqlx::Error> {
        let texts = match self.form {
            Form::Text => vec![self.texts.join("; ")],
            Form::Texts | Form::Arrays => self.texts,
        };
        let mut rows = 0;
        for (text, arguments) in texts.into_iter().zip(self.arguments) {
            let done = sqlx::query_with(AssertSqlSafe(text), arguments)
                .execute(&mut **transaction)
                .await?;
            rows += done.rows_affected();
        }
        Ok(rows)
    }

    /// `VALUES (?, ?), (?, ?)`: anonymous, because SQLite looks for numbered ones again and again.
    fn values(&mut self, columns: usize, rows: &[Vec<Value<'_>>]) -> Result<String, sqlx::Error> {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let text = format!("VALUES {}", vec![row.as_str(); rows.len()].join(", "));
        for value in rows.iter().flatten() {
            match *value {
                Value::Number(number) => self.give(number),
                Value::Bytes(bytes) => self.give(bytes),
                Value::Text(text) => self.give(text),
                Value::Nothing => self.give(None::<i64>),
            }?;
        }
        Ok(text)
    }

    /// `SELECT column1, substring($2::bytea FROM start2 FOR length2) FROM unnest($1::bigint[], $3::int[], $4::int[]) AS given (column1,
    /// start2, length2)`. The driver for both engines knows no arrays, so they are given in their text form.
    fn arrays(&mut self, columns: &[Kind], rows: &[Vec<Value<'_>>]) -> Result<String, sqlx::Error> {
        let (mut selected, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (number, kind) in (1..).zip(columns) {
            let of_column = rows.iter().filter_map(|row| row.get(number - 1));
            let kind = match kind {
                Kind::Number => "bigint",
                Kind::Text => "text",
                Kind::Bytes => {
                    let bytes = self.joined(of_column, &mut arrays)?;
                    names.extend([format!("start{number}"), format!("length{number}")]);
                    selected.push(format!(
                        "substring(${bytes}::bytea FROM start{number} FOR length{number}) AS column{number}"
                    ));
                    continue;
                }
            };
            let mark = self.bind(array(of_column.copied()))?;
            arrays.push(format!("${mark}::{kind}[]"));
            names.push(format!("column{number}"));
            selected.push(format!("column{number}"));
        }
        let (selected, arrays, names) = (selected.join(", "), arrays.join(", "), names.join(", "));
        Ok(format!(
            "SELECT {selected} FROM unnest({arrays}) AS given ({names})"
        ))
    }

    /// Binds a column of bytes as one value; the number of its placeholder. Where each begins, from 1, and how long it is, are two arrays.
    fn joined<'a>(
        &mut self,
        values: impl Iterator<Item = &'a Value<'a>>,
        arrays: &mut Vec<String>,
    ) -> Result<usize, sqlx::Error> {
        let parts = values.filter_map(|value| match value {
            Value::Bytes(bytes) => Some(*bytes),
            _ => None,
        });
        let parts: Vec<&[u8]> = parts.collect();
        let mark = self.bind(parts.concat())?;
        let (from, lengths) = places(parts.iter().map(|part| part.len()));
        for places in [from, lengths] {
            let places = self.bind(places)?;
            arrays.push(format!("${places}::int[]"));
        }
        Ok(mark)
    }

    /// Binds a value; the number of its placeholder.
    fn bind<'q, T>(&mut self, value: T) -> Result<usize, sqlx::Error>
    where
        T: sqlx::Encode<'q, Any> + sqlx::Type<Any>,
    {
        self.give(value)?;
        Ok(self.arguments.last().map_or(0, AnyArguments::len))
    }

    /// Adds a value to the arguments of the newest text.
    fn give<'q, T>(&mut self, value: T) -> Result<(), sqlx::Error>
    where
        T: sqlx::Encode<'q, Any> + sqlx::Type<Any>,
    {
        let newest = self.arguments.last_mut();
        newest
            .map_or(Ok(()), |newest| newest.add(value))
            .map_err(sqlx::Error::Encode)
    }
}

/// Where parts begin that stand one behind the other, from 1, and how long they are: two arrays.
pub(super) fn places(lengths: impl Iterator<Item = usize>) -> (String, String) {
    let (mut from, mut long) = (Vec::new(), Vec::new());
    let mut next = 1;
    for length in lengths {
        // A batch is some megabytes.
        let number = |length: usize| Value::Number(i64::try_from(length).unwrap_or(i64::MAX));
        from.push(number(next));
        long.push(number(length));
        next += length;
    }
    (array(from.into_iter()), array(long.into_iter()))
}

/// The text form of an array of PostgreSQL (documentation, 8.15.6).
pub(super) fn array<'a>(values: impl Iterator<Item = Value<'a>>) -> String {
    let mut text = String::from("{");
    for (number, value) in values.enumerate() {
        if number > 0 {
            text.push(',');
        }
        match value {
            Value::Number(number) => {
                let _ = write!(text, "{number}");
            }
            Value::Text(plain) => {
                text.push('"');
                for letter in plain.chars() {
                    if matches!(letter, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(letter);
                }
                text.push('"');
            }
            // Bytes are joined instead.
            Value::Nothing | Value::Bytes(_) => text.push_str("NULL"),
        }
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Statement = Statement {
        before: "UPDATE heads SET size = new.column2 FROM (",
        columns: &[Kind::Number, Kind::Bytes],
        after: ") AS new WHERE id = new.column1",
    };
    const NAMES: Statement = Statement {
        before: "INSERT INTO names (name) ",
        columns: &[Kind::Text],
        after: "",
    };

    fn both(dialect: Dialect) -> Vec<String> {
        let mut together = Together::new(dialect, true);
        let names = [vec![Value::Text("a")], vec![Value::Text("b")]];
        together.add(&NAMES, &names).unwrap();
        together.add(&NAMES, &[]).unwrap();
        let heads = [vec![Value::Number(1), Value::Bytes(&[1])]];
        together.add(&HEADS, &heads).unwrap();
        together.texts
    }

    #[test]
    fn sqlite_takes_rows_and_postgresql_one_array_a_column() {
        assert_eq!(
            both(Dialect::Sqlite),
            [
                "INSERT INTO names (name) VALUES (?), (?)",
                "UPDATE heads SET size = new.column2 FROM (VALUES (?, ?)) AS new WHERE id = new.column1",
            ]
        );
        assert_eq!(
            both(Dialect::Postgres),
            [
                "INSERT INTO names (name) SELECT column1 FROM unnest($1::text[]) AS given (column1)",
                "UPDATE heads SET size = new.column2 FROM (SELECT column1, substring($2::bytea FROM start2 FOR length2) AS column2 \
                 FROM unnest($1::bigint[], $3::int[], $4::int[]) AS given (column1, start2, length2)) AS new WHERE id = new.column1",
            ]
        );
    }

    #[test]
    fn many_rows_on_sqlite_go_in_texts_that_come_again() {
        let mut together = Together::new(Dialect::Sqlite, false);
        let names = vec![vec![Value::Text("a")]; 512 + 2 * 32 + 3];
        together.add(&NAMES, &names).unwrap();
        let rows = together.texts.iter().map(|text| text.matches('?').count());
        assert_eq!(rows.collect::<Vec<_>>(), [512, 32, 32, 2, 1]);
        let given = together.arguments.iter().map(|given| given.len());
        assert_eq!(given.collect::<Vec<_>>(), [512, 32, 32, 2, 1]);
    }

    #[test]
    fn parts_begin_where_the_ones_before_end() {
        let (from, lengths) = places([3, 0, 5].into_iter());
        assert_eq!((from.as_str(), lengths.as_str()), ("{1,4,4}", "{3,0,5}"));
    }

    #[test]
    fn an_array_says_what_its_values_are() {
        let values = [
            Value::Number(-7),
            Value::Nothing,
            Value::Text("a \"quoted\" \\ line\n, {NULL}"),
        ];
        assert_eq!(
            array(values.into_iter()),
            "{-7,NULL,\"a \\\"quoted\\\" \\\\ line\n, {NULL}\"}"
        );
    }
}
