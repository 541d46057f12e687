//! Lines of a file and fields of a line, in bounded memory.
//!
//! RFC 4180 with one difference that makes everything simple: a line is a record. A quoted line break would be a control
//! character inside a value, and those are refused anyway; so a quote left open spoils its own line and no other.

use std::io::{self, BufRead, Read, Write};

/// The longest line that is looked at, its end included.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// One line as it stands in the file.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// With its line end, if it has one.
    Whole(&'a [u8]),
    /// Longer than [`LINE_BYTES_MAX`]; its bytes went to the spill.
    TooLong,
}

/// Walks over the lines of a file.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    inner: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            line: Vec::with_capacity(1024),
            number: 0,
        }
    }

    /// The number of the line returned last, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next line, or nothing at the end. The bytes of a line that is too long go to `spill`, piece by piece.
    pub(crate) fn next(&mut self, spill: &mut dyn Write) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64;
        let taken = (&mut self.inner)
            .take(limit)
            .read_until(b'\n', &mut self.line)?;
        if taken == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.last() == Some(&b'\n') || taken < LINE_BYTES_MAX {
            return Ok(Some(Line::Whole(&self.line)));
        }
        spill.write_all(&self.line)?;
        loop {
            let piece = self.inner.fill_buf()?;
            if piece.is_empty() {
                return Ok(Some(Line::TooLong));
            }
            let (length, ended) = match piece.iter().position(|&byte| byte == b'\n') {
                Some(index) => (index + 1, true),
                None => (piece.len(), false),
            };
            spill.write_all(&piece[..length])?;
            self.inner.consume(length);
            if ended {
                return Ok(Some(Line::TooLong));
            }
        }
    }
}

/// The text of a line without its end (`\n` or `\r\n`).
pub(crate) fn content(raw: &[u8]) -> &[u8] {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Splits lines into fields, reusing its memory.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    spans: Vec<(usize, usize)>,
    unquoted: String,
}

/// The fields of one line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    text: &'a str,
    spans: &'a [(usize, usize)],
}

impl<'a> Row<'a> {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&'a str> {
        let &(start, end) = self.spans.get(index)?;
        self.text.get(start..end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (text, spans) = (self.text, self.spans);
        spans
            .iter()
            .filter_map(move |&(start, end)| text.get(start..end))
    }
}

impl Fields {
    /// Splits one line, given without its end.
    pub(crate) fn split<'a>(&'a mut self, line: &'a str) -> Result<Row<'a>, &'static str> {
        self.spans.clear();
        if !line.as_bytes().contains(&b'"') {
            let mut start = 0;
            for (index, byte) in line.bytes().enumerate() {
                if byte == b',' {
                    self.spans.push((start, index));
                    start = index + 1;
                }
            }
            self.spans.push((start, line.len()));
            return Ok(Row {
                text: line,
                spans: &self.spans,
            });
        }
        self.unquote(line)?;
        Ok(Row {
            text: &self.unquoted,
            spans: &self.spans,
        })
    }

    fn unquote(&mut self, line: &str) -> Result<(), &'static str> {
        self.unquoted.clear();
        let mut rest = line;
        loop {
            let start = self.unquoted.len();
            let after = match rest.strip_prefix('"') {
                Some(quoted) => self.take_quoted(quoted)?,
                None => {
                    let end = rest.find(',').unwrap_or(rest.len());
                    let (value, after) = rest.split_at(end);
                    if value.contains('"') {
                        return Err("has a quote inside an unquoted field");
                    }
                    self.unquoted.push_str(value);
                    after
                }
            };
            self.spans.push((start, self.unquoted.len()));
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(()),
                None => return Err("has text after a closing quote"),
            }
        }
    }

    /// Copies a quoted field, given after its opening quote; what follows the closing quote comes back.
    fn take_quoted<'a>(&mut self, mut rest: &'a str) -> Result<&'a str, &'static str> {
        loop {
            let Some((value, after)) = rest.split_once('"') else {
                return Err("has a quote that is not closed on the same line");
            };
            self.unquoted.push_str(value);
            match after.strip_prefix('"') {
                Some(next) => {
                    self.unquoted.push('"');
                    rest = next;
                }
                None => return Ok(after),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(line: &str) -> Result<Vec<String>, &'static str> {
        let mut fields = Fields::default();
        Ok(fields.split(line)?.iter().map(str::to_owned).collect())
    }

    #[test]
    fn quoted_fields_keep_commas_and_quotes() {
        assert_eq!(
            split(r#"a,"b,c","d""e",,""f"#),
            Err("has text after a closing quote")
        );
        assert_eq!(
            split(r#"a,"b,c","d""e,"#),
            Err("has a quote that is not closed on the same line")
        );
        assert_eq!(
            split(r#"a,b"c,d"#),
            Err("has a quote inside an unquoted field")
        );
        assert_eq!(
            split(r#"a,"b,c","d""e","#).unwrap(),
            ["a", "b,c", "d\"e", ""]
        );
        assert_eq!(split("").unwrap(), [""]);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_byte_more_is_too_long() {
        let mut text = vec![b'x'; LINE_BYTES_MAX - 1];
        text.push(b'\n');
        text.extend(vec![b'y'; LINE_BYTES_MAX]);
        text.extend(b"\nlast");
        let mut lines = Lines::new(&text[..]);
        let mut spill = Vec::new();
        assert!(
            matches!(lines.next(&mut spill).unwrap(), Some(Line::Whole(line)) if line.len() == LINE_BYTES_MAX)
        );
        assert!(matches!(
            lines.next(&mut spill).unwrap(),
            Some(Line::TooLong)
        ));
        assert_eq!(spill.len(), LINE_BYTES_MAX + 1);
        assert!(matches!(
            lines.next(&mut spill).unwrap(),
            Some(Line::Whole(b"last"))
        ));
        assert_eq!(lines.number(), 3);
        assert!(lines.next(&mut spill).unwrap().is_none());
    }

    proptest! {
        /// The csv crate writes, we read.
        #[test]
        fn what_another_writer_wrote_is_read_back(values in prop::collection::vec("[a-c,\"é ]{0,6}", 1..6)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&values).unwrap();
            let bytes = writer.into_inner().unwrap();
            let line = std::str::from_utf8(content(&bytes)).unwrap();
            prop_assert_eq!(split(line).unwrap(), values);
        }

        /// However the bytes fall, every byte of the file is in a line or in the spill.
        #[test]
        fn no_byte_is_lost(text in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a')], 0..300)) {
            let mut lines = Lines::new(io::BufReader::with_capacity(7, &text[..]));
            let mut seen = Vec::new();
            let mut spill = Vec::new();
            while let Some(line) = lines.next(&mut spill).unwrap() {
                if let Line::Whole(raw) = line {
                    seen.extend_from_slice(raw);
                }
            }
            prop_assert_eq!(seen, text);
        }
    }
}
