//! The files of the repository as a reviewer sees them: what is built or downloaded is not among them.

use std::fs;
use std::path::Path;

use counterfoil_tests::repository::root;

/// Folders that hold nothing anybody wrote.
const NOT_OURS: [&str; 4] = ["target", ".git", "node_modules", "counterfoil-data"];

/// A text file of the repository.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl File {
    /// Whether it ends with `.extension`.
    pub fn is(&self, extension: &str) -> bool {
        self.path
            .rsplit_once('.')
            .is_some_and(|(_, found)| found == extension)
    }

    /// Whether all of it is test code.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// Rust without its test module, which stands at the end.
    pub fn without_tests(&self) -> &str {
        self.split_tests().0
    }

    /// The test module at the end, or the whole file when all of it is test code.
    pub fn tests(&self) -> &str {
        if self.is_test() {
            &self.text
        } else {
            self.split_tests().1
        }
    }

    fn split_tests(&self) -> (&str, &str) {
        let module = self
            .text
            .find("\n#[cfg(test)]\nmod tests {")
            .unwrap_or(self.text.len());
        self.text.split_at(module)
    }

    /// The lines of code: no comments, no test module.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.without_tests()
            .lines()
            .enumerate()
            .map(|(index, line)| {
                (
                    index + 1,
                    line.split_once("//").map_or(line, |(code, _)| code),
                )
            })
    }
}

/// All text files, sorted by path.
pub fn all() -> Vec<File> {
    let mut files = Vec::new();
    collect(root(), "", &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(
        files.len() > 100,
        "only {} files below {}",
        files.len(),
        root().display()
    );
    files
}

/// All Rust files.
pub fn rust() -> Vec<File> {
    all().into_iter().filter(|file| file.is("rs")).collect()
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // Files as well as folders: in a linked work tree `.git` is a file, and `target` may be a link.
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), files);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.push(File { path, text });
        }
    }
}

/// Fails with every finding at once.
pub fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}
