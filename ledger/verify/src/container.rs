//! The container: every file is what the MANIFEST says, and nothing in the bundle tells whom to trust (B1, B3).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use counterfoil_tlog::Checkpoint;

use crate::bundle::{BundleError, BundleReader, path};
use crate::check::{Check, Finder, Weight};

/// SHA-256 of each attachment that is really in the bundle, and its size.
pub(crate) type BlobSizes = HashMap<[u8; 32], u64>;

/// What the container amounts to.
#[derive(Debug)]
pub(crate) struct Container {
    /// Attachments whose bytes are what their name says.
    pub(crate) blobs: BlobSizes,
    /// Attachments and schemas whose bytes are not what their name says.
    pub(crate) misnamed: Vec<String>,
    /// Files that no format of a bundle asks for.
    pub(crate) unknown: Vec<String>,
    b3: Finder,
}

impl Container {
    /// Hashes every file, on all cores, and compares with the MANIFEST.
    pub(crate) fn read(bundle: &BundleReader, threads: usize) -> Result<Self, BundleError> {
        let mut container = Self {
            blobs: BlobSizes::new(),
            misnamed: Vec::new(),
            unknown: Vec::new(),
            b3: Finder::new(
                "B3",
                &[],
                "every file is in the MANIFEST as it is, and none is missing",
            ),
        };
        let files: Vec<&str> = bundle
            .files()
            .map(|(file, _)| file)
            .filter(|file| *file != path::MANIFEST)
            .collect();
        let hashes = hash_all(bundle, &files, threads)?;
        for (file, (sha256, size)) in files.iter().zip(hashes) {
            container.file(bundle, file, sha256, size);
        }
        for line in bundle.manifest().lines() {
            container.b3.expect(bundle.size(&line.path).is_some(), || {
                format!("{} is missing", line.path)
            });
        }
        Ok(container)
    }

    fn file(&mut self, bundle: &BundleReader, file: &str, sha256: [u8; 32], size: u64) {
        match bundle.manifest().get(file) {
            None => self.b3.fail(format!("{file} is not in the MANIFEST")),
            Some(line) => self
                .b3
                .expect(line.sha256 == sha256 && line.size == size, || {
                    format!("{file} is not what the MANIFEST says")
                }),
        }
        let name = hex::encode(sha256);
        if let Some(found) = file.strip_prefix(path::BLOBS) {
            if found == name {
                self.blobs.insert(sha256, size);
            } else {
                self.misnamed.push(file.to_owned());
            }
        } else if let Some(found) = file.strip_prefix(path::SCHEMAS) {
            if found.strip_suffix(".binpb") == Some(&name) {
                // The record that registers a schema has it as its attachment; one copy is enough.
                self.blobs.insert(sha256, size);
            } else {
                self.misnamed.push(file.to_owned());
            }
        } else if !is_known(file) {
            self.unknown.push(file.to_owned());
        }
    }

    /// The checks of the container, once the checkpoint is known.
    pub(crate) fn judge(
        mut self,
        bundle: &BundleReader,
        said: Option<&Checkpoint>,
        trust_file: Option<&Path>,
    ) -> (Self, Vec<Check>) {
        let info = bundle.info();
        if let Some(said) = said {
            let agrees = said.origin == info.origin && said.size == info.size;
            self.b3.expect(
                agrees,
                || "bundle.json says otherwise of the log than its checkpoint",
            );
            self.b3.expect(is_log_of(&said.origin, &info.tenant), || {
                format!(
                    "bundle.json names {}, and the log is {}",
                    info.tenant, said.origin
                )
            });
        }
        let count = bundle.manifest().lines().len();
        self.b3.note(if self.unknown.is_empty() {
            format!("{count} files")
        } else {
            format!(
                "{count} files; of no use to a bundle: {}",
                self.unknown.join(", ")
            )
        });
        let b3 = std::mem::replace(&mut self.b3, Finder::new("B3", &[], ""));
        let checks = vec![pinned(bundle, trust_file), b3.finish()];
        (self, checks)
    }
}

/// Whoever takes the trust file out of the bundle believes the exporter's word for the exporter's keys.
fn pinned(bundle: &BundleReader, trust_file: Option<&Path>) -> Check {
    let mut b1 =
        Finder::new("B1", &[], "trust comes from outside of the bundle").weighing(Weight::Policy);
    let resolve = |path: &Path| path.canonicalize().ok();
    let inside = trust_file
        .and_then(resolve)
        .zip(resolve(bundle.root()))
        .is_some_and(|(file, root)| file.starts_with(root));
    b1.expect(!inside, || "the trust file was taken out of the bundle");
    let hinted = bundle.read(path::TRUST_HINT, 1 << 20).ok();
    let given = trust_file.and_then(|file| std::fs::read(file).ok());
    b1.note(match (hinted, given) {
        (Some(hinted), Some(given)) if hinted == given => {
            "the bundle's own hint says the same and was not used"
        }
        (Some(_), Some(_)) => "the bundle's own hint differs and was not used",
        _ => "the bundle's own hint was not used",
    });
    b1.finish()
}

/// Whether a log is the one of a tenant ("tenants/{tenant}"): its origin ends in "/t/{tenant}".
fn is_log_of(origin: &str, tenant: &str) -> bool {
    let named = tenant.strip_prefix("tenants/");
    named.is_some() && named == origin.rsplit_once("/t/").map(|(_, id)| id)
}

fn is_known(file: &str) -> bool {
    matches!(
        file,
        path::INFO | path::README | path::TRUST_HINT | path::ANCHOR_BOUND
    ) || file.starts_with(path::LOG)
        || file.starts_with(path::CHECKPOINTS)
        || file.starts_with(path::ANCHOR_EPOCHS)
        || (file.starts_with(path::DISCLOSURES) && file.ends_with(".jsonl"))
}

type Hashed = Result<([u8; 32], u64), BundleError>;

fn hash_all(
    bundle: &BundleReader,
    files: &[&str],
    threads: usize,
) -> Result<Vec<([u8; 32], u64)>, BundleError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<(usize, Hashed)> = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at) else {
                return done;
            };
            done.push((at, bundle.hash(file)));
        }
    };
    let mut all: Vec<(usize, Hashed)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for worker in workers {
            all.extend(worker.join().unwrap_or_default());
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, hashed)| hashed).collect()
}
