//! The MANIFEST: integrity of transport. It says nothing of who made the bundle.

use std::fmt::Write as _;

use super::{BundleError, check_path, path};

/// Hash and size of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLine {
    /// Path in the bundle.
    pub path: String,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Length in bytes.
    pub size: u64,
}

/// Every file of a bundle but the MANIFEST itself, ascending by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    lines: Vec<ManifestLine>,
}

impl Manifest {
    /// A manifest over these files, in any order.
    ///
    /// # Errors
    /// When a path occurs twice or may not be in a bundle.
    pub fn new(mut lines: Vec<ManifestLine>) -> Result<Self, BundleError> {
        lines.sort_by(|a, b| a.path.cmp(&b.path));
        for line in &lines {
            check_path(&line.path)?;
        }
        for pair in lines.windows(2) {
            if let [first, second] = pair
                && first.path == second.path
            {
                return Err(BundleError::Duplicate(first.path.clone()));
            }
        }
        Ok(Self { lines })
    }

    /// Reads the text of a manifest strictly: its lines are in their only order and form.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let refuse = |number: usize, why: &str| {
            BundleError::malformed(path::MANIFEST, format!("line {number}: {why}"))
        };
        let mut lines: Vec<ManifestLine> = Vec::new();
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(refuse(text.lines().count(), "has no line feed"));
        }
        for (number, line) in (1..).zip(text.split_terminator('\n')) {
            let line = parse_line(line).map_err(|why| refuse(number, why))?;
            check_path(&line.path)?;
            if line.path == path::MANIFEST {
                return Err(refuse(number, "lists itself"));
            }
            if lines.last().is_some_and(|last| last.path >= line.path) {
                return Err(refuse(number, "is not above the path before it"));
            }
            lines.push(line);
        }
        Ok(Self { lines })
    }

    /// The text of the manifest.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{}  {}  {}",
                hex::encode(line.sha256),
                line.size,
                line.path
            );
        }
        text
    }

    /// The files, ascending by path.
    #[must_use]
    pub fn lines(&self) -> &[ManifestLine] {
        &self.lines
    }

    /// One file's line.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&ManifestLine> {
        let at = self
            .lines
            .binary_search_by(|line| line.path.as_str().cmp(path))
            .ok()?;
        self.lines.get(at)
    }
}

fn parse_line(line: &str) -> Result<ManifestLine, &'static str> {
    let (digest, rest) = line.split_once("  ").ok_or("has no two spaces")?;
    let (size, path) = rest.split_once("  ").ok_or("has no second two spaces")?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digest.len() != 64 || !digest.bytes().all(lower_hex) {
        return Err("has no SHA-256 in lower-case hex");
    }
    let mut sha256 = [0; 32];
    hex::decode_to_slice(digest, &mut sha256).map_err(|_| "has no SHA-256 in hex")?;
    let canonical = size == "0" || (!size.starts_with('0') && !size.is_empty());
    if !canonical || !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has no canonical size");
    }
    Ok(ManifestLine {
        path: path.to_owned(),
        sha256,
        size: size.parse().map_err(|_| "has no size")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Manifest, ManifestLine};

    fn line(path: &str) -> ManifestLine {
        ManifestLine {
            path: path.to_owned(),
            sha256: [7; 32],
            size: 12,
        }
    }

    #[test]
    fn a_manifest_reads_back_what_it_wrote_and_nothing_else() {
        let manifest = Manifest::new(vec![line("log/checkpoint"), line("bundle.json")]).unwrap();
        let text = manifest.to_text();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest);
        assert_eq!(
            manifest.get("log/checkpoint"),
            Some(&line("log/checkpoint"))
        );
        let (first, second) = text.split_once('\n').unwrap();
        for bad in [
            text.trim_end().to_owned(),
            text.replace("  12  ", "  012  "),
            text.replace("  12  ", " 12  "),
            text.replace("07", "0G"),
            format!("{second}{first}\n"),
            format!("{first}\n{first}\n"),
            text.replace("bundle.json", "../bundle.json"),
            text.replace("bundle.json", "MANIFEST"),
        ] {
            assert!(Manifest::parse(&bad).is_err(), "{bad:?}");
        }
        assert!(Manifest::new(vec![line("a"), line("a")]).is_err());
    }
}
