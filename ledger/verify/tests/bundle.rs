//! The container: what is written is read back, and nothing else is read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use counterfoil_verify::bundle::{
    BundleError, BundleInfo, BundleReader, BundleWriter, Limits, Opening, archive, path,
};
use sha2::{Digest, Sha256};

fn info() -> BundleInfo {
    BundleInfo::full(
        "ledger.example/t/acme",
        "tenants/acme",
        3,
        "2026-11-21T00:00:00Z",
        "test 1",
    )
}

fn write(target: &Path) {
    let mut writer = BundleWriter::create(target, info()).unwrap();
    writer
        .add_log_file("tile/entries/000.p/3", b"entries")
        .unwrap();
    writer.add_log_file("checkpoint", b"note").unwrap();
    writer.add_trust_hint(b"{}").unwrap();
    for number in 0..3 {
        let opening = Opening {
            record_id: vec![number; 16],
            label: "justification".to_owned(),
            salt: [9; 32],
            value: b"because".to_vec(),
        };
        writer.add_opening("recertification", &opening).unwrap();
    }
    let blob = vec![5; 100_000];
    let sha256: [u8; 32] = Sha256::digest(&blob).into();
    writer.add_blob(sha256, &mut blob.as_slice()).unwrap();
    // The same attachment may be named by several records.
    writer.add_blob(sha256, &mut blob.as_slice()).unwrap();
    let schema = Sha256::digest(b"descriptors").into();
    writer.add_schema(&schema, b"descriptors").unwrap();
    assert_eq!(writer.finish().unwrap(), target);
}

fn contents(bundle: &BundleReader) -> Vec<(String, Vec<u8>)> {
    bundle
        .files()
        .map(|(path, _)| (path.to_owned(), bundle.read(path, 1 << 20).unwrap()))
        .collect()
}

#[test]
fn what_the_writer_wrote_the_reader_reads_and_the_manifest_lists() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("bundle");
    write(&target);
    let bundle = BundleReader::open(&target, &Limits::default()).unwrap();
    assert_eq!(*bundle.info(), info());
    for (file, size) in bundle.files().filter(|(file, _)| *file != path::MANIFEST) {
        let line = bundle.manifest().get(file).unwrap();
        assert_eq!((line.sha256, line.size), bundle.hash(file).unwrap());
        assert_eq!(line.size, size);
    }
    assert_eq!(bundle.manifest().lines().len() + 1, bundle.files().count());
    assert_eq!(bundle.read(path::CHECKPOINT, 100).unwrap(), b"note");
    let lines = bundle
        .read("disclosures/recertification.jsonl", 1 << 20)
        .unwrap();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3);
    // Nothing else remains beside the bundle.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_bundle_and_its_archive_hold_the_same_and_the_archive_is_deterministic() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("bundle");
    write(&target);
    let bundle = BundleReader::open(&target, &Limits::default()).unwrap();
    let (first, second) = (dir.path().join("a.cfbundle"), dir.path().join("b.cfbundle"));
    archive::pack(&bundle, &first).unwrap();
    archive::pack(&bundle, &second).unwrap();
    let bytes = fs::read(&first).unwrap();
    assert_eq!(bytes, fs::read(&second).unwrap());
    let packed = BundleReader::open(&first, &Limits::default()).unwrap();
    assert_eq!(contents(&packed), contents(&bundle));
    for (name, broken) in [
        ("short", bytes[..bytes.len() - 1024].to_vec()),
        ("trailing", [bytes.clone(), vec![0; 512]].concat()),
        ("owner", {
            let mut other = bytes.clone();
            other[265] = b'r';
            other
        }),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, broken).unwrap();
        assert!(
            BundleReader::open(&file, &Limits::default()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing_and_never_replaces_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("bundle");
    let mut writer = BundleWriter::create(&target, info()).unwrap();
    writer.add_log_file("checkpoint", b"note").unwrap();
    assert!(matches!(
        writer.add_log_file("checkpoint", b"note"),
        Err(BundleError::Duplicate(_))
    ));
    assert!(writer.add_log_file("tile/0/../x", b"").is_err());
    assert!(writer.add_blob([0; 32], &mut b"other".as_slice()).is_err());
    assert!(writer.add_schema(&[0; 32], b"other").is_err());
    drop(writer);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    write(&target);
    assert!(matches!(
        BundleWriter::create(&target, info()),
        Err(BundleError::Exists(_))
    ));
}

#[test]
fn links_odd_names_unknown_formats_and_oversized_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, spoil: &dyn Fn(&Path)| {
        let target = dir.path().join(name);
        write(&target);
        spoil(&target);
        let limits = Limits {
            file_bytes: 1 << 20,
            ..Limits::default()
        };
        assert!(BundleReader::open(&target, &limits).is_err(), "{name}");
    };
    refused("link", &|root| {
        std::os::unix::fs::symlink("/etc/passwd", root.join("blobs/x")).unwrap();
    });
    refused("linked-directory", &|root| {
        std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
    });
    refused("space", &|root| fs::write(root.join("a b"), "").unwrap());
    refused("large", &|root| {
        fs::write(root.join("large"), vec![0; (1 << 20) + 1]).unwrap();
    });
    refused("no-info", &|root| {
        fs::remove_file(root.join(path::INFO)).unwrap()
    });
    refused("no-manifest", &|root| {
        fs::remove_file(root.join(path::MANIFEST)).unwrap();
    });
    refused("format", &|root| {
        let info = fs::read_to_string(root.join(path::INFO)).unwrap();
        fs::write(
            root.join(path::INFO),
            info.replace("bundle/v1", "bundle/v2"),
        )
        .unwrap();
    });
    refused("unknown-field", &|root| {
        let info = fs::read_to_string(root.join(path::INFO)).unwrap();
        fs::write(root.join(path::INFO), info.replace('{', "{\"ok\":true,")).unwrap();
    });
}
